"""A gateway joins and checks in: on its own host, without the manager's database."""

from __future__ import annotations

import asyncio
import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from importlib import metadata
from typing import Any

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from temporalio.client import Client, WorkflowFailureError
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError

from connectors.registry import Module
from model import channel, messages, naming
from model.channel import Parties, Purpose
from model.errors import NotPermitted, Unavailable
from operations.tokens import Token
from workflows.gateways import GatewayCheckInWorkflow, GatewayJoinWorkflow

# The manager answers within a second; who waits longer is told why, and may ask again with the same words.
PATIENCE_SECONDS = 60.0


@dataclass(frozen=True)
class Itself:
    """What a gateway's host says of itself."""

    host: str = field(default_factory=platform.node)
    os: str = field(default_factory=lambda: own_system())
    version: str = field(default_factory=lambda: own_version())


async def join(
    client: Client,
    token: Token,
    key: X25519PrivateKey,
    *,
    itself: Itself | None = None,
    patience: float = PATIENCE_SECONDS,
) -> str:
    """Spend the token for the channel whose private key is `key`; gives the gateway's own name.

    The caller keeps the key in the gateway's home before he asks: asked again with the same key (the answer was lost,
    the process killed), a join that succeeded succeeds again. The secret goes through the engine sealed for the manager
    that made the token, and what answers has to prove that it is this manager.

    Raises `NotPermitted` (used, expired, replaced, deleted, closed, another manager), `Unavailable`.
    """
    parties = parties_of(token, key)
    secret_key = channel.channel_key(key, parties)
    itself = itself or Itself()
    word = {"secret": token.secret, "host": itself.host, "os": itself.os, "version": itself.version}
    start = messages.JoinStart(
        gateway_id=token.gateway_id,
        channel=token.channel,
        installation=token.installation,
        public_key=parties.gateway_key,
        sealed=channel.seal(secret_key, Purpose.JOIN, parties, json.dumps(word).encode()),
    )
    try:
        handle = await client.start_workflow(
            GatewayJoinWorkflow.run,
            start,
            id=naming.join_workflow(token.gateway_id, parties.gateway_key),
            task_queue=naming.MANAGER_QUEUE,
            id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
            # What this host asked before and gave up; a join that was judged already is judged the same again.
            id_conflict_policy=WorkflowIDConflictPolicy.TERMINATE_EXISTING,
            static_summary=f"Gateway {token.gateway_id} joins",
        )
        result = await asyncio.wait_for(handle.result(), patience)
    except TimeoutError:
        raise Unavailable(
            f"The manager did not judge the token within {patience:.0f} seconds: see that it runs, then join again."
        ) from None
    except WorkflowFailureError as error:
        cause = error.cause
        told = cause.message if isinstance(cause, ApplicationError) else str(cause)
        raise Unavailable(f"The manager could not judge the token ({told}): try again.") from error
    except RPCError as error:
        raise Unavailable(f"Temporal does not answer ({error.message}): try again.") from error
    if result.refused is not None:
        raise NotPermitted(result.refused)
    if not channel.proves(result.confirmation, secret_key, Purpose.CONFIRMATION, parties, result.gateway):
        raise NotPermitted(
            "What answered is not the manager that made this token: nothing was joined. See who runs this Temporal, "
            "and ask for a new token."
        )
    return result.gateway


async def check_in(
    client: Client,
    key: X25519PrivateKey,
    parties: Parties,
    modules: Sequence[Module],
    now: datetime,
    *,
    itself: Itself | None = None,
    discovery: Mapping[str, Any] | None = None,
) -> messages.CheckInResult:
    """Tell the manager what this gateway is, and what its settings allow network discovery, and wait for its word
    however long it is away.

    Raises `NotPermitted` (the channel is dead, the gateway deleted), `Unavailable`.
    """
    itself = itself or Itself()
    word: dict[str, Any] = {"host": itself.host, "os": itself.os, "version": itself.version, "time": now.isoformat()}
    word["modules"] = [
        {"kind": one.kind, "name": one.name, "title": one.title, "version": one.version} for one in modules
    ]
    if discovery is not None:
        word["discovery"] = dict(discovery)
    sealed = channel.seal(channel.channel_key(key, parties), Purpose.CHECK_IN, parties, json.dumps(word).encode())
    start = messages.CheckInStart(
        gateway_id=parties.gateway_id,
        channel=parties.number,
        installation=parties.installation,
        public_key=parties.gateway_key,
        sealed=sealed,
    )
    try:
        handle = await client.start_workflow(
            GatewayCheckInWorkflow.run,
            start,
            id=naming.check_in_workflow(parties.gateway_id, parties.number),
            task_queue=naming.MANAGER_QUEUE,
            id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
            id_conflict_policy=WorkflowIDConflictPolicy.TERMINATE_EXISTING,
            static_summary=f"Gateway {parties.gateway_id} checks in",
        )
        result = await handle.result()
    except WorkflowFailureError as error:
        raise Unavailable(f"The manager could not hear this gateway ({error.cause}).") from error
    except RPCError as error:
        raise Unavailable(f"Temporal does not answer ({error.message}).") from error
    if result.refused is not None:
        raise NotPermitted(result.refused)
    return result


def parties_of(token: Token, key: X25519PrivateKey) -> Parties:
    """Whose channel a token is for, with that key on the gateway's side."""
    return Parties(token.installation, token.gateway_id, token.channel, token.manager_key, channel.public_text(key))


def own_version() -> str:
    """The version of this certgate."""
    try:
        return metadata.version("certgate")
    except metadata.PackageNotFoundError:
        return "unknown"


def own_system() -> str:
    """The operating system of this host, for people."""
    return f"{platform.system()} {platform.release()} {platform.machine()}".strip()
