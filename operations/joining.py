"""A gateway joins: on its own host, with its enrollment token and without the manager's database."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import platform
from dataclasses import dataclass, field
from importlib import metadata
from typing import Any

from temporalio.client import Client, WorkflowExecutionStatus, WorkflowFailureError, WorkflowHandle
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.exceptions import ApplicationError, WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from model import messages, naming
from model.errors import Conflict, InvalidInput, NotPermitted, Unavailable
from operations.gateway_changes import TOKEN_PREFIX
from workflows.gateways import GatewayJoinWorkflow

_ATTEMPT = "attempt"


@dataclass(frozen=True)
class Token:
    """An enrollment token, read. `address` is None where the token doesn't say where Temporal is."""

    gateway_id: int
    name: str
    secret: str = field(repr=False)
    address: str | None = None
    namespace: str = "default"


def read_token(text: str) -> Token:
    """Read an enrollment token. Raises `InvalidInput`; its message never holds a part of the token."""
    wrong = InvalidInput("This is not an enrollment token of `certgate gateway add`: it begins with cgj_ and is whole.")
    text = text.strip()
    if not text.startswith(TOKEN_PREFIX):
        raise wrong
    encoded = text.removeprefix(TOKEN_PREFIX)
    try:
        values = json.loads(base64.b64decode(encoded + "=" * (-len(encoded) % 4), altchars=b"-_", validate=True))
    except (binascii.Error, ValueError, RecursionError):
        raise wrong from None
    match values:
        case {"gateway_id": int(number), "name": str(name), "secret": str(secret)}:
            address, namespace = values.get("address"), values.get("namespace", "default")
            if isinstance(namespace, str) and (address is None or isinstance(address, str)):
                return Token(number, name, secret, address or None, namespace)
    raise wrong


async def join(
    client: Client, token: Token, *, attempt: str, version: str | None = None, os: str | None = None
) -> messages.JoinResult:
    """Spend the token. Raises `NotPermitted` (used, expired, replaced), `Conflict` (another join runs), `Unavailable`.

    `attempt` is a random word that the caller keeps in the gateway's home before he asks: a join whose answer was lost
    can be asked again with it. With another one, a token that was used is refused.
    """
    workflow_id = naming.join_workflow(token.gateway_id)
    start = messages.JoinStart(
        gateway_id=token.gateway_id,
        token_digest=hashlib.sha256(token.secret.encode()).hexdigest(),
        version=version or own_version(),
        os=os or own_system(),
    )
    try:
        earlier = await _earlier(client, workflow_id, attempt)
        if earlier is not None:
            result = await earlier.result()
            if result.refused is None:
                return result
        handle = await client.start_workflow(
            GatewayJoinWorkflow.run,
            start,
            id=workflow_id,
            task_queue=naming.MANAGER_QUEUE,
            id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
            id_conflict_policy=WorkflowIDConflictPolicy.FAIL,
            memo={_ATTEMPT: attempt},
            static_summary=f"Gateway {token.gateway_id} joins",
        )
        result = await handle.result()
    except WorkflowAlreadyStartedError:
        raise Conflict(f"Another join of gateway {token.name} is under way: wait for its end.") from None
    except WorkflowFailureError as error:
        cause = error.cause
        told = cause.message if isinstance(cause, ApplicationError) else str(cause)
        raise Unavailable(f"The manager could not judge the token ({told}): try again.") from error
    except RPCError as error:
        raise Unavailable(f"Temporal does not answer ({error.message}): try again.") from error
    if result.refused is not None:
        raise NotPermitted(result.refused)
    return result


def own_version() -> str:
    """The version of this certgate."""
    try:
        return metadata.version("certgate")
    except metadata.PackageNotFoundError:
        return "unknown"


def own_system() -> str:
    """The operating system of this host, for people."""
    return f"{platform.system()} {platform.release()} {platform.machine()}".strip()


async def _earlier(client: Client, workflow_id: str, attempt: str) -> WorkflowHandle[Any, messages.JoinResult] | None:
    """The latest join, if it was this very attempt and has not failed."""
    handle: WorkflowHandle[Any, messages.JoinResult] = client.get_workflow_handle(
        workflow_id, result_type=messages.JoinResult
    )
    try:
        description = await handle.describe()
    except RPCError as error:
        if error.status == RPCStatusCode.NOT_FOUND:
            return None
        raise
    if description.status not in (WorkflowExecutionStatus.RUNNING, WorkflowExecutionStatus.COMPLETED):
        return None
    if await description.memo_value(_ATTEMPT, default=None) != attempt:
        return None
    return handle
