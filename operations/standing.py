"""Whether the CA stands by a certificate is asked at once, in place of when it is due."""

from __future__ import annotations

import asyncio

from temporalio.client import Client
from temporalio.common import WorkflowIDConflictPolicy
from temporalio.service import RPCError

from model import naming
from model.errors import Conflict, Unavailable
from model.messages import AuthorityWatchStart
from model.states import CertificateStatus, Privilege
from model.tables import Certificate, CertificateRequest
from operations.certificates import scope_of, visible
from operations.context import Context
from workflows.authority_watch import AuthorityWatchWorkflow

_LOOK = 0.2


async def ask(context: Context, certificate_id: int, patience: float = 10.0) -> bool:
    """Have the watch over the CA ask about it now, and wait a little, in seconds; what it hears shows on the
    certificate. False: there is no answer yet.

    Raises `NotFound`, `NotPermitted`, `Conflict` (not in use, so that nothing hangs on it), `Unavailable`.
    """
    with context.database.read() as session:
        scope = scope_of(visible(context, session, certificate_id))
    with context.acting("certificate.ask", "certificate", certificate_id, scope) as session:
        certificate = visible(context, session, certificate_id)
        context.require(Privilege.RENEW, scope, f"have the CA asked about certificate {certificate_id}")
        if certificate.status != CertificateStatus.ISSUED or not certificate.active:
            raise Conflict(f"Certificate {certificate_id} is {certificate.status} or not in use: nothing is asked.")
        asked_at = context.clock()
        certificate.ask_at = certificate.ask_window_at = asked_at
        certificate.standing_at = None
        session.add(certificate)
        authority_id = session.get_one(CertificateRequest, certificate.request_id).authority_id
    await _wake(await context.temporal(), authority_id)
    for _ in range(int(patience / _LOOK) + 1):
        with context.database.read() as session:
            seen = session.get_one(Certificate, certificate_id)
            if seen.standing_at is not None or seen.ask_at is None or seen.ask_at > asked_at:
                return True
        await asyncio.sleep(_LOOK)
    return False


async def _wake(client: Client, authority_id: int) -> None:
    try:
        await client.start_workflow(
            AuthorityWatchWorkflow.run,
            AuthorityWatchStart(authority_id),
            id=naming.authority_workflow(authority_id),
            task_queue=naming.MANAGER_QUEUE,
            id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
            start_signal="look_again",
            static_summary=f"Watch over the certificates of CA {authority_id}",
        )
    except RPCError as error:
        raise Unavailable(f"Temporal does not answer ({error.message}): it is asked when it is back.") from error
