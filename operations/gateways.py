"""Orchestration gateways, read: list, filter, order, group, show; who is connected; who has custody.

What changes them stands in `gateway_changes` and `gateway_delegation`. Everything is filtered, ordered and paged by the
database (`gateway_queries`), because there may be thousands.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

import sqlalchemy
from sqlalchemy import ColumnElement, func
from sqlmodel import Session, col, select

from model import access
from model.errors import Conflict, NotFound
from model.rules.permissions import Scope
from model.states import ConnectionStatus, DelegationMode, Outcome, Privilege
from model.tables import AuditEntry, Delegation, Department, Gateway, Organization
from operations import gateway_queries, lookup, presence
from operations.context import Context
from operations.gateway_queries import ALL, UNKNOWN, Filter, Order, Statuses
from operations.lookup import identity

By = Literal["delegation_mode", "status", "organization", "version", "os"]
Act = Literal["edit", "delete", "delegate", "sync", "restore", "keystores", "audit"]

# Acts that make `Gateway.revision` grow.
EDITED, DELEGATED = "gateway.edited", "gateway.delegated"


@dataclass(frozen=True)
class GatewayRow:
    """A line of the list of gateways. `status` is None while the engine does not say; `since` is when it began, as far
    as that is known. `organizations` (``ORGANIZATION`` or ``ORGANIZATION/DEPARTMENT``) and `open_requests` are only
    what the asker may see. `modules` are the connectors that the gateway said it has, with their versions."""

    id: int
    name: str
    delegation_mode: DelegationMode
    comments: str
    active: bool
    created_at: datetime
    joined_at: datetime | None
    version: str | None
    os: str | None
    host: str | None
    endpoints: int
    revision: int
    status: ConnectionStatus | None = None
    since: datetime | None = None
    last_activity: datetime | None = None
    open_requests: int = 0
    modules: list[str] = field(default_factory=list)
    organizations: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Page:
    """Some rows and how many there are in all."""

    rows: list[GatewayRow]
    total: int


@dataclass(frozen=True)
class Group:
    """How many gateways have something in common. `key` is the value to filter by: a delegation mode, a status (None:
    unknown), an organization's name (None: General, so every organization), a version or operating system (empty: not
    known)."""

    key: str | None
    count: int


def listing(
    context: Context,
    wanted: Filter = ALL,
    statuses: Statuses | None = None,
    *,
    order: Order = "name",
    descending: bool = False,
    offset: int = 0,
    limit: int | None = None,
) -> Page:
    """The gateways that the actor may see. Without `statuses` none has one, and a filter by status keeps all."""
    conditions = gateway_queries.conditions(context.actor, wanted, statuses)
    with context.database.read() as session:
        total = session.exec(select(func.count()).select_from(Gateway).where(*conditions)).one()
        statement = (
            sqlalchemy.select(Gateway, gateway_queries.endpoints(), gateway_queries.open_requests(context.actor))
            .where(*conditions)
            .order_by(*gateway_queries.ordering(context.actor, statuses, order, descending))
            .offset(offset)
            .limit(limit)
        )
        found = session.execute(statement).all()
        serving = served(context, session, [identity(gateway) for gateway, _, _ in found])
        rows = [
            _row(gateway, endpoints, requests, serving.get(identity(gateway), []), statuses)
            for gateway, endpoints, requests in found
        ]
    return Page(rows, total)


def groups(context: Context, by: By, wanted: Filter = ALL, statuses: Statuses | None = None) -> list[Group]:
    """How many of the gateways that the actor may see there are of each kind. One that is delegated to several
    organizations counts in each of them."""
    conditions = gateway_queries.conditions(context.actor, wanted, statuses)
    with context.database.read() as session:
        if by == "organization":
            return _by_organization(context, session, conditions)
        keys: dict[str, Any] = {
            "delegation_mode": sqlalchemy.cast(col(Gateway.delegation_mode), sqlalchemy.String),
            "status": gateway_queries.status(statuses),
            "version": func.coalesce(col(Gateway.version), ""),
            "os": func.coalesce(col(Gateway.os), ""),
        }
        key = keys[by].label("key")
        statement = sqlalchemy.select(key, func.count()).select_from(Gateway).where(*conditions).group_by("key")
        counted = {str(name): int(count) for name, count in session.execute(statement).all()}
    if by == "status":
        found = [Group(str(state), counted[state]) for state in ConnectionStatus if state in counted]
        return found + ([Group(None, counted[UNKNOWN])] if UNKNOWN in counted else [])
    return [Group(name, counted[name]) for name in sorted(counted, key=lambda name: (not name, name))]


def names(context: Context) -> dict[int, str]:
    """The names of the gateways that the actor may see by their ids, in the names' order."""
    with context.database.read() as session:
        statement = select(Gateway.id, Gateway.name).where(*gateway_queries.conditions(context.actor, ALL, None))
        return {number: name for number, name in session.exec(statement.order_by(col(Gateway.name_key))) if number}


def kinds(context: Context) -> tuple[list[str], list[str]]:
    """The versions and the operating systems that there are among the gateways that the actor may see."""
    with context.database.read() as session:
        statement = (
            select(Gateway.version, Gateway.os).where(*gateway_queries.conditions(context.actor, ALL, None)).distinct()
        )
        found = session.exec(statement).all()
    return (
        sorted({version for version, _ in found if version}),
        sorted({system for _, system in found if system}),
    )


def show(context: Context, which: str | int, statuses: Statuses | None = None) -> GatewayRow:
    """One gateway. Raises `NotFound`."""
    with context.database.read() as session:
        gateway = lookup.gateway(session, context.actor, which)
        return seen(context, session, gateway, statuses)


def find(context: Context, word: str) -> int:
    """The id of the gateway that somebody named by its name, in any case, or by its id. Raises `NotFound`."""
    with context.database.read() as session:
        try:
            return identity(lookup.gateway(session, context.actor, word))
        except NotFound:
            if not (word.isascii() and word.isdigit() and len(word) < 10):
                raise
            return identity(lookup.gateway(session, context.actor, int(word)))


def seen(context: Context, session: Session, gateway: Gateway, statuses: Statuses | None = None) -> GatewayRow:
    """A gateway as the actor sees it, inside somebody's transaction."""
    number = identity(gateway)
    statement = sqlalchemy.select(
        gateway_queries.endpoints(), gateway_queries.open_requests(context.actor)
    ).select_from(Gateway)
    endpoints, requests = session.execute(statement.where(col(Gateway.id) == number)).one()
    return _row(gateway, endpoints, requests, served(context, session, [number]).get(number, []), statuses)


async def statuses(context: Context) -> dict[int, ConnectionStatus]:
    """Which gateways are connected, asked of the engine in one query. Raises `Unavailable`."""
    return await presence.statuses(context)


def allowed(context: Context, numbers: Iterable[int]) -> dict[int, frozenset[Act]]:
    """What the actor may do with gateways, for those that he may see; a face offers that and no more. The operations
    judge again."""
    manages: tuple[Act, ...] = ("edit", "delete", "sync", "restore", "keystores")
    delegates = any(grant.allows(Privilege.MANAGE_DELEGATION) for grant in context.actor.grants)
    audits = any(grant.allows(Privilege.VIEW_AUDIT) for grant in context.actor.grants)
    found: dict[int, frozenset[Act]] = {}
    with context.database.read() as session:
        conditions = [*gateway_queries.conditions(context.actor, ALL, None), col(Gateway.id).in_(list(numbers))]
        gateways = session.exec(select(Gateway).where(*conditions)).all()
        scopes = custodies(session, gateways)
    for gateway in gateways:
        number = identity(gateway)
        acts: set[Act] = set()
        if all(context.actor.may(Privilege.MANAGE_GATEWAYS, scope) for scope in scopes[number]):
            acts.update(manages)
        if context.actor.may(Privilege.MANAGE_DELEGATION, Scope()) or (
            delegates and gateway.delegation_mode == DelegationMode.CUSTOMIZED
        ):
            acts.add("delegate")
        if audits:
            acts.add("audit")
        found[number] = frozenset(acts)
    return found


def custody(session: Session, gateway: Gateway) -> list[Scope]:
    """Where one must hold a privilege to act on a gateway: wherever it serves; for a General one everywhere."""
    return custodies(session, [gateway])[identity(gateway)]


def custodies(session: Session, gateways: Iterable[Gateway]) -> dict[int, list[Scope]]:
    """The custody of each of these gateways."""
    general = {identity(gateway): gateway.delegation_mode == DelegationMode.GENERAL for gateway in gateways}
    scopes: dict[int, list[Scope]] = {number: [] for number in general}
    customized = [number for number, everywhere in general.items() if not everywhere]
    if customized:
        for row in session.exec(select(Delegation).where(col(Delegation.gateway_id).in_(customized))).all():
            scopes[row.gateway_id].append(Scope(row.organization_id, row.department_id))
    return {number: found or [Scope()] for number, found in scopes.items()}


def require_custody(context: Context, session: Session, gateway: Gateway, doing: str) -> None:
    """Raise `NotPermitted` unless the actor holds `manage_gateways` wherever the gateway serves."""
    for scope in custody(session, gateway):
        context.require(Privilege.MANAGE_GATEWAYS, scope, doing)


def tell(context: Context, session: Session, action: str, gateway: Gateway, told: str) -> None:
    """Tell an act on a gateway itself in the audit, to those whom the gateway alone serves."""
    number, scope = identity(gateway), access.scope_of_gateway(session, gateway)
    context.tell(session, action, "gateway", told, object_id=number, gateway_id=number, scope=scope)


def refuse_late(session: Session, gateway: Gateway, seen_revision: int | None) -> None:
    """Raise `Conflict` that tells who changed what, if somebody has since the editor began."""
    if seen_revision is None or seen_revision >= gateway.revision:
        return
    statement = (
        select(AuditEntry.actor, AuditEntry.action, AuditEntry.description)
        .where(
            AuditEntry.gateway_id == gateway.id,
            col(AuditEntry.action).in_((EDITED, DELEGATED)),
            AuditEntry.outcome == Outcome.DONE,
        )
        .order_by(col(AuditEntry.sequence).desc())
        .limit(min(gateway.revision - seen_revision, 3))
    )
    told = []
    for actor, action, description in reversed(session.exec(statement).all()):
        # Whom it serves now may be more than the reader may see.
        changed = "changed whom it serves" if action == DELEGATED else f"said: {description.rstrip('.')}"
        told.append(f"{actor} {changed}")
    who = "; ".join(told) or "somebody changed it"
    raise Conflict(
        f"Gateway {gateway.name} was changed while you were editing, and nothing of yours was saved: {who}. "
        "Look at it as it is now, then save again."
    )


def _by_organization(context: Context, session: Session, conditions: Sequence[ColumnElement[bool]]) -> list[Group]:
    general = col(Gateway.delegation_mode) == DelegationMode.GENERAL
    everywhere = session.exec(select(func.count()).select_from(Gateway).where(*conditions, general)).one()
    statement = (
        select(Organization.name, func.count(func.distinct(col(Delegation.gateway_id))))
        .join(Delegation, col(Delegation.organization_id) == col(Organization.id))
        .join(Gateway, col(Gateway.id) == col(Delegation.gateway_id))
        .where(*conditions, ~general, gateway_queries.sight(context.actor))
        .group_by(col(Organization.name))
        .order_by(col(Organization.name))
    )
    named = [Group(name, count) for name, count in session.exec(statement).all()]
    return ([Group(None, everywhere)] if everywhere else []) + named


def served(context: Context, session: Session, numbers: Sequence[int]) -> dict[int, list[str]]:
    """Whom each of these gateways serves by a delegation, as far as the actor may see: ``Alpha``, ``Alpha/Web``."""
    statement = (
        select(Delegation.gateway_id, Organization.name, Department.name)
        .join(Organization, col(Organization.id) == col(Delegation.organization_id))
        .outerjoin(Department, col(Department.id) == col(Delegation.department_id))
        .where(gateway_queries.sight(context.actor), gateway_queries.one_of(col(Delegation.gateway_id), numbers))
        .order_by(col(Organization.name), col(Department.name))
    )
    found: dict[int, list[str]] = {}
    for gateway_id, organization, department in session.exec(statement).all():
        found.setdefault(gateway_id, []).append(f"{organization}/{department}" if department else organization)
    return found


def _row(gateway: Gateway, endpoints: int, requests: int, served: list[str], statuses: Statuses | None) -> GatewayRow:
    number = identity(gateway)
    status = None if statuses is None else statuses.get(number, ConnectionStatus.PENDING)
    since = {
        ConnectionStatus.CONNECTED: gateway.status_since if gateway.told_status == status else None,
        ConnectionStatus.PENDING: gateway.created_at,
        ConnectionStatus.DISCONNECTED: gateway.last_activity or gateway.joined_at,
    }
    return GatewayRow(
        id=number,
        name=gateway.name,
        delegation_mode=gateway.delegation_mode,
        comments=gateway.comments,
        active=gateway.active,
        created_at=gateway.created_at,
        joined_at=gateway.joined_at,
        version=gateway.version,
        os=gateway.os,
        host=gateway.host,
        endpoints=endpoints,
        revision=gateway.revision,
        status=status,
        since=since.get(status) if status is not None else None,
        last_activity=gateway.last_activity,
        open_requests=requests,
        modules=[_module(module) for module in gateway.modules],
        organizations=served,
    )


def _module(said: Mapping[str, Any]) -> str:
    name, version = str(said.get("name") or "?"), said.get("version")
    return f"{name} {version}" if version else name
