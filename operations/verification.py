"""What is served is looked at again, for one installation, one gateway, or all that the actor may install."""

from __future__ import annotations

from sqlmodel import Session, col, select
from temporalio.common import WorkflowIDConflictPolicy
from temporalio.service import RPCError

from model import messages, naming
from model.errors import Conflict, NotFound, NotPermitted, Unavailable
from model.messages import VerificationCount
from model.states import InstallState, Privilege
from model.tables import Certificate, Installation
from operations import asking, lookup
from operations.certificates import scope_of, visible
from operations.context import Context
from operations.lookup import identity
from workflows.verification import VerificationWorkflow


async def certificate(context: Context, certificate_id: int) -> VerificationCount:
    """Look at every binding that uses the certificate, and wait for what is seen; that stands on the certificate then.

    Raises `NotFound`, `NotPermitted`, `Conflict` where it is installed nowhere, `Unavailable`.
    """
    with context.database.read() as session:
        scope = scope_of(visible(context, session, certificate_id))
    with context.acting("installation.verify", "certificate", certificate_id, scope) as session:
        row = visible(context, session, certificate_id)
        context.require(Privilege.INSTALL, scope, f"verify certificate {certificate_id}")
        numbers = _installations(session, row)
        told = f"Asked to verify certificate {certificate_id}."
        context.tell(session, "installation.verify", "certificate", told, object_id=certificate_id, scope=scope)
    return await asking.ask(
        context,
        VerificationWorkflow.run,
        messages.VerificationStart(context.actor.login, numbers),
        workflow_id=naming.verification_workflow(str(certificate_id)),
        summary=f"Verification of certificate {certificate_id}",
    )


async def everything(context: Context, gateway: str | int | None = None) -> str:
    """Begin to look at all active installations that the actor may install, or at those of one gateway; gives the
    workflow's id, which is asked how far it is with `progress`. Raises `NotFound`, `NotPermitted`, `Unavailable`."""
    number = None
    with context.acting("installation.verify", "certificate") as session:
        if not any(grant.allows(Privilege.INSTALL) for grant in context.actor.grants):
            raise NotPermitted("You may not verify what is installed: the privilege 'install' is missing everywhere.")
        if gateway is not None:
            owner = lookup.gateway(session, context.actor, gateway)
            number = identity(owner)
        told = "Asked to verify everything that is installed" + (f" by gateway {owner.name}." if number else ".")
        context.tell(session, "installation.verify", "certificate", told, gateway_id=number)
    what = f"gateway-{number}-{context.actor.login}" if number else f"all-{context.actor.login}"
    workflow_id = naming.verification_workflow(what)
    client = await context.temporal()
    try:
        await client.start_workflow(
            VerificationWorkflow.run,
            messages.VerificationStart(context.actor.login, [], number),
            id=workflow_id,
            task_queue=naming.MANAGER_QUEUE,
            id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
            static_summary="Verification of everything that is installed",
        )
    except RPCError as error:
        raise Unavailable(f"Temporal does not answer ({error.message}).") from error
    return workflow_id


async def progress(context: Context, workflow_id: str) -> tuple[VerificationCount, bool]:
    """How far a verification of everything is that the actor began, and whether it has ended. Raises `NotFound`,
    `Unavailable`."""
    if not workflow_id.endswith(f"-{context.actor.login}"):
        raise NotFound("There is no such verification of yours.")
    client = await context.temporal()
    handle = client.get_workflow_handle_for(VerificationWorkflow.run, workflow_id)
    try:
        count = await handle.query(VerificationWorkflow.view)
        described = await handle.describe()
    except RPCError as error:
        raise Unavailable(f"Temporal does not answer ({error.message}).") from error
    return count, described.close_time is not None


def _installations(session: Session, row: Certificate) -> list[int]:
    statement = select(Installation.id).where(
        Installation.certificate_id == row.id, Installation.state == InstallState.COMPLETED
    )
    numbers = [number for number in session.exec(statement.order_by(col(Installation.id))).all() if number is not None]
    if not numbers or not row.active:
        raise Conflict(f"Certificate {row.id} is not in use on any endpoint: there is nothing to verify.")
    return numbers
