"""What administrators say to a running request: approve, decline, cancel, install, retry.

A word is judged here, so that a refusal is told and audited at once, and again inside the workflow.
"""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Any, Literal

from sqlmodel import Session
from temporalio.client import WorkflowHandle, WorkflowUpdateFailedError, WorkflowUpdateRPCTimeoutOrCancelledError
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError, RPCStatusCode

from model import access, messages, naming
from model.errors import Conflict, InvalidInput, NotFound, NotPermitted, Unavailable
from model.rules import approval
from model.states import CertificateStatus, InstallState, Verdict
from model.tables import Administrator, CertificateRequest
from operations.context import Context
from operations.lookup import identity

Word = Literal["approve", "decline", "cancel", "install", "retry"]

# An update is answered at once by a manager that runs; after this the word is handed over as a signal instead.
_ANSWER_WITHIN = timedelta(seconds=10)
_LONGEST_COMMENT = 1024


async def say(context: Context, request_id: int, word: Word, comment: str = "") -> messages.Receipt:
    """Approve, decline, cancel, install or retry. Raises `NotFound`, `NotPermitted`, `Conflict`, `InvalidInput`.

    The word is judged here, so that a refusal is told and audited at once, and again inside the workflow.
    """
    if len(comment) > _LONGEST_COMMENT:
        raise InvalidInput(f"A comment has at most {_LONGEST_COMMENT} characters, not {len(comment)}.")
    if word == "decline" and not comment.strip():
        raise InvalidInput(f"A decline of request {request_id} needs a reason: give it as the comment.")
    action = {"approve": "decision.refused", "decline": "decision.refused"}.get(word, f"request.{word}")
    with context.database.read() as session:
        request = visible(context, session, request_id)
        try:
            # Only looked at: nothing is written unless it is refused, and the workflow judges under the write lock.
            _judge(context, session, request, word)
            refused = None
        except NotPermitted as error:
            refused = error
    if refused is not None:
        with context.acting(action, "request", request_id, access.scope_of(request)):
            raise refused
    client = await context.temporal()
    handle: WorkflowHandle[Any, Any] = client.get_workflow_handle(naming.request_workflow(request_id))
    said = messages.AdministratorWord(context.actor.login, comment)
    try:
        receipt: messages.Receipt = await handle.execute_update(
            word, said, id=f"{word}-{uuid.uuid4()}", result_type=messages.Receipt, rpc_timeout=_ANSWER_WITHIN
        )
        return receipt
    except WorkflowUpdateFailedError as error:
        cause = error.cause
        told = cause.message if isinstance(cause, ApplicationError) else str(cause or error)
        raise Conflict(told) from error
    except WorkflowUpdateRPCTimeoutOrCancelledError:
        try:
            await handle.signal(word, said)
        except RPCError as error:
            raise _unheard(request_id, error) from error
        with context.database.read() as session:
            now = visible(context, session, request_id)
        return messages.Receipt(
            now.status,
            now.install_state,
            f"The manager does not answer at once; your word on request {request_id} counts as soon as it does.",
        )
    except RPCError as error:
        raise _unheard(request_id, error) from error


def _unheard(request_id: int, error: RPCError) -> Conflict | Unavailable:
    """What it means that the engine did not take a word."""
    if error.status == RPCStatusCode.NOT_FOUND:
        return Conflict(f"Request {request_id} has ended or was not started yet; look at it again.")
    return Unavailable(f"Temporal does not answer ({error.message}): nothing was changed, try again.")


def _refusal(context: Context, session: Session, request: CertificateRequest, verdict: Verdict) -> str | None:
    actor = context.actor
    return approval.refusal(
        access.rules_of(access.policy_for(session, request.organization_id)),
        administrator=actor.login,
        active=True,
        grants=actor.grants,
        requester=session.get_one(Administrator, request.requester_id).login,
        verdict=verdict,
        scope=access.scope_of(request),
        status=request.status,
        given=access.given_for(session, identity(request)),
        label=f"request {request.id}",
    )


def _judge(context: Context, session: Session, request: CertificateRequest, word: Word) -> None:
    if word in ("approve", "decline"):
        refused = _refusal(context, session, request, Verdict(word))
        if refused is not None:
            decided = any(
                given.administrator == context.actor.login for given in access.given_for(session, identity(request))
            )
            over = request.status != CertificateStatus.REQUESTED
            raise (Conflict if decided or over else NotPermitted)(refused)
        return
    if request.closed:
        raise Conflict(f"Request {request.id} has ended: it is {request.status} / {request.install_state}.")
    if not _holds(context, request, word):
        raise NotPermitted(
            f"{context.actor.login} may not {word} request {request.id}: the privilege for its organization is missing."
        )


def _holds(context: Context, request: CertificateRequest, word: Word) -> bool:
    scope = access.scope_of(request)
    if word == "cancel" and request.requester_id == context.actor.id:
        return True
    return any(context.actor.may(privilege, scope) for privilege in approval.NEEDED[word])


def words(context: Context, session: Session, request: CertificateRequest) -> list[Word]:
    if request.closed:
        return []
    allowed: list[Word] = []
    for verdict in Verdict:
        if _refusal(context, session, request, verdict) is None:
            allowed.append("approve" if verdict == Verdict.APPROVE else "decline")
    state = request.install_state
    if state in (InstallState.READY_FOR_INSTALL, InstallState.SCHEDULED) and _holds(context, request, "install"):
        allowed.append("install")
    stuck = state in (InstallState.FAILED, InstallState.ROLLED_BACK, InstallState.ACTION_REQUIRED)
    if stuck and _holds(context, request, "retry"):
        allowed.append("retry")
    if _holds(context, request, "cancel"):
        allowed.append("cancel")
    return allowed


def visible(context: Context, session: Session, request_id: int) -> CertificateRequest:
    """The request's row. What the actor may not see does not exist for him: raises `NotFound`."""
    request = session.get(CertificateRequest, request_id)
    if request is None or not context.actor.sees(access.scope_of(request)):
        raise NotFound(f"There is no request {request_id}: `certgate request list` shows what there is.")
    return request
