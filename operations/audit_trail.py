"""The audit trail, for those who may read it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy import ColumnElement, func
from sqlmodel import col, select

from model import audit
from model.audit import Check
from model.errors import NotPermitted
from model.states import AccessMethod, Outcome, Privilege
from model.tables import AuditEntry
from operations import decisions, lookup
from operations.context import Actor, Context

_BATCH = 1000


@dataclass(frozen=True)
class AuditRow:
    """An entry of the trail."""

    sequence: int
    time: datetime
    actor: str
    access_method: AccessMethod
    action: str
    object_type: str
    object_id: int | None
    gateway_id: int | None
    description: str
    outcome: Outcome


@dataclass(frozen=True)
class Filter:
    """Which entries; empty fields keep all. `search` looks into the description; `since` is included, `until` not."""

    search: str = ""
    actor: str | None = None
    action: str | None = None
    outcome: Outcome | None = None
    object_type: str | None = None
    object_id: int | None = None
    gateway: str | None = None
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True)
class Page:
    """Some rows and how many there are in all."""

    rows: list[AuditRow]
    total: int


def listing(context: Context, wanted: Filter = Filter(), offset: int = 0, limit: int = 100) -> Page:
    """Entries, the newest first. An MRAO reads all, others those of the organizations and departments where they hold
    `view_audit`. Raises `NotPermitted`, `NotFound` (gateway)."""
    conditions = _conditions(context, wanted)
    statement = select(AuditEntry).where(*conditions).order_by(col(AuditEntry.sequence).desc())
    with context.database.read() as session:
        total = session.exec(select(func.count()).select_from(AuditEntry).where(*conditions)).one()
        return Page([_row(entry) for entry in session.exec(statement.offset(offset).limit(limit)).all()], total)


def for_request(context: Context, request_id: int) -> list[AuditRow]:
    """The timeline of a request, the oldest first, for everybody who may see the request. Raises `NotFound`."""
    with context.database.read() as session:
        decisions.visible(context, session, request_id)
        statement = (
            select(AuditEntry)
            .where(AuditEntry.object_type == "request", AuditEntry.object_id == request_id)
            .order_by(col(AuditEntry.sequence))
        )
        return [_row(entry) for entry in session.exec(statement).all()]


def export(context: Context, wanted: Filter = Filter()) -> Iterator[AuditRow]:
    """All entries of a filter, the oldest first, read piece by piece. Raises as `listing`, at once."""
    return _exported(context, _conditions(context, wanted))


def verify(context: Context) -> Check:
    """Recalculate the whole chain. For an MRAO: what it says concerns everybody's entries. Raises `NotPermitted`."""
    if not context.actor.owns_everything:
        with context.acting("audit.verify", "audit"):
            context.require_owner("verify the audit trail")
    with context.database.snapshot() as session:
        return audit.verify(session)


def _exported(context: Context, conditions: list[ColumnElement[bool]]) -> Iterator[AuditRow]:
    last = 0
    while True:
        statement = select(AuditEntry).where(*conditions, col(AuditEntry.sequence) > last)
        with context.database.read() as session:
            entries = session.exec(statement.order_by(col(AuditEntry.sequence)).limit(_BATCH)).all()
        if not entries:
            return
        yield from map(_row, entries)
        last = entries[-1].sequence


def _conditions(context: Context, wanted: Filter) -> list[ColumnElement[bool]]:
    reader = _reader(context)
    conditions = [lookup.seen_by(reader, AuditEntry.organization_id, AuditEntry.department_id)]
    if wanted.search:
        conditions.append(func.lower(AuditEntry.description).like(f"%{wanted.search.lower()}%"))
    if wanted.actor:
        # `alice (owner of the home)` is alice.
        conditions.append((col(AuditEntry.actor) == wanted.actor) | col(AuditEntry.actor).like(f"{wanted.actor} (%"))
    if wanted.action:
        conditions.append(col(AuditEntry.action) == wanted.action)
    if wanted.outcome:
        conditions.append(col(AuditEntry.outcome) == wanted.outcome)
    if wanted.object_type:
        conditions.append(col(AuditEntry.object_type) == wanted.object_type)
    if wanted.object_id is not None:
        conditions.append(col(AuditEntry.object_id) == wanted.object_id)
    if wanted.gateway:
        with context.database.read() as session:
            gateway = lookup.gateway(session, context.actor, wanted.gateway)
        conditions.append(col(AuditEntry.gateway_id) == gateway.id)
    if wanted.since is not None:
        conditions.append(col(AuditEntry.time) >= wanted.since)
    if wanted.until is not None:
        conditions.append(col(AuditEntry.time) < wanted.until)
    return conditions


def _reader(context: Context) -> Actor:
    """The actor with only those grants that let him read. The refusal is audited."""
    grants = tuple(grant for grant in context.actor.grants if grant.allows(Privilege.VIEW_AUDIT))
    if not grants:
        with context.acting("audit.view", "audit"):
            raise NotPermitted(
                f"{context.actor.login} may not read the audit trail: the privilege 'view_audit' is missing."
            )
    return replace(context.actor, grants=grants)


def _row(entry: AuditEntry) -> AuditRow:
    return AuditRow(
        sequence=entry.sequence,
        time=entry.time,
        actor=entry.actor,
        access_method=entry.access_method,
        action=entry.action,
        object_type=entry.object_type,
        object_id=entry.object_id,
        gateway_id=entry.gateway_id,
        description=entry.description,
        outcome=entry.outcome,
    )
