"""Whom a gateway serves: everybody (General), or exactly these organizations and departments (Customized).

An administrator of a part changes that part: what he doesn't see is kept as it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sqlmodel import Session, col, select

from model.errors import InvalidInput
from model.rules.permissions import Scope
from model.states import DelegationMode, Privilege
from model.tables import Delegation, Department, Gateway, Organization
from operations import gateways, lookup
from operations.context import Context
from operations.gateways import GatewayRow
from operations.lookup import identity
from operations.organizations import scopes_named


def delegate(
    context: Context,
    which: str | int,
    *,
    general: bool = False,
    organizations: Sequence[str] = (),
    departments: Sequence[str] = (),
    seen_revision: int | None = None,
) -> GatewayRow:
    """Let a gateway serve everybody (`general`), or, of those that the actor may see, exactly these organizations and
    departments (``ORGANIZATION/NAME``); others that it serves stay.

    Raises `NotFound`, `InvalidInput`, `Conflict` (somebody has changed it since `seen_revision`), `NotPermitted` (the
    actor must hold `manage_delegation` in every scope that is added or taken away, and everywhere to change between
    General and Customized).
    """
    with context.acting(gateways.DELEGATED, "gateway") as session:
        row = lookup.gateway(session, context.actor, which)
        if general and (organizations or departments):
            raise InvalidInput("A gateway is either General or delegated to organizations and departments, not both.")
        mode = DelegationMode.GENERAL if general else DelegationMode.CUSTOMIZED
        before = gateways.custody(session, row)
        kept = [scope for scope in before if scope != Scope() and not context.actor.sees(scope)]
        after = wanted(session, context, mode, organizations, departments, kept=[] if general else kept)
        changed = sorted(set(before) ^ set(after), key=str)
        if mode != row.delegation_mode or changed:
            for scope in changed or after:
                context.require(Privilege.MANAGE_DELEGATION, scope, f"delegate the gateway {row.name} so")
            gateways.refuse_late(session, row, seen_revision)
            row.delegation_mode = mode
            row.revision += 1
            session.add(row)
            number = identity(row)
            put(session, number, [] if general else after)
            told = f"Gateway {row.name} is now {described(session, row)}."
            gateways.tell(context, session, gateways.DELEGATED, row, told)
        # Its new scope may be one that the actor doesn't see.
        return gateways.seen(context, session, row)


def wanted(
    session: Session,
    context: Context,
    mode: DelegationMode,
    organizations: Sequence[str],
    departments: Sequence[str],
    kept: Sequence[Scope] = (),
) -> list[Scope]:
    """The scopes that are asked for, with those that are kept. Raises `InvalidInput`, `NotFound`."""
    if mode == DelegationMode.GENERAL:
        if organizations or departments:
            raise InvalidInput("A General gateway serves everybody: delegate it to somebody by making it Customized.")
        return [Scope()]
    scopes = [*kept, *scopes_named(session, context, organizations, departments)]
    if not scopes:
        raise InvalidInput("A Customized gateway needs at least one organization or department that it serves.")
    return list(dict.fromkeys(scopes))


def put(session: Session, number: int, scopes: Iterable[Scope]) -> None:
    """Delegate a gateway to exactly these."""
    for row in session.exec(select(Delegation).where(Delegation.gateway_id == number)).all():
        session.delete(row)
    session.flush()
    for scope in scopes:
        assert scope.organization_id is not None
        session.add(
            Delegation(gateway_id=number, organization_id=scope.organization_id, department_id=scope.department_id)
        )
    session.flush()


def described(session: Session, gateway: Gateway) -> str:
    """Whom a gateway serves, for the audit."""
    if gateway.delegation_mode == DelegationMode.GENERAL:
        return "General"
    statement = (
        select(Organization.name, Department.name)
        .join(Delegation, col(Delegation.organization_id) == col(Organization.id))
        .outerjoin(Department, col(Department.id) == col(Delegation.department_id))
        .where(Delegation.gateway_id == gateway.id)
        .order_by(col(Organization.name), col(Department.name))
    )
    served = [f"{owner}/{department}" if department else owner for owner, department in session.exec(statement).all()]
    return f"Customized for {', '.join(served)}"
