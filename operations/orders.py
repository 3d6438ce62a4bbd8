"""Orders that a CA has and has not yet answered: the oldest first, and somebody is told of one that hangs.

What the CA says of an order at this moment is asked of the engine: `operations/requests.py`, `waiting`.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy
import structlog
from sqlalchemy import ColumnElement, func
from sqlmodel import Session, col, select

from connectors.notices.settings import NotificationSettings
from model import access, audit
from model.database import Database
from model.errors import CertgateError
from model.states import AccessMethod, CertificateStatus, Outcome
from model.tables import CertificateAuthority, CertificateRequest, Department, Gateway, Organization
from operations import lookup, telling
from operations.context import Context
from operations.context import now as system_clock
from operations.lookup import identity

log = structlog.get_logger(__name__)

OVERDUE = "order.overdue"
_EVERY_SECONDS = 30.0
_AT_ONCE = 500
# It is told again each time the order has become twice as old.
_MOST_DOUBLINGS = 8


@dataclass(frozen=True)
class OrderRow:
    """An order that its CA has. `number` is what one quotes to the CA's support; `ordered_at` is None for orders that
    were placed before it was noted."""

    request_id: int
    number: str
    ca: str
    common_name: str
    organization: str
    department: str | None
    gateway: str
    ordered_at: datetime | None
    reason: str | None


@dataclass(frozen=True)
class Page:
    """Some rows and how many there are in all."""

    rows: list[OrderRow]
    total: int


@dataclass(frozen=True)
class Count:
    """How many orders a CA has open, and since when the oldest."""

    count: int
    oldest: datetime | None


def listing(context: Context, ca: str | int | None = None, offset: int = 0, limit: int = 100) -> Page:
    """Open orders that the actor may see, the oldest first, of one CA or of all. Raises `NotFound` (no such CA)."""
    with context.database.read() as session:
        conditions = _open(context)
        if ca is not None:
            authority = lookup.authority(session, ca)
            conditions.append(col(CertificateRequest.authority_id) == authority.id)
        total = session.exec(select(func.count()).select_from(CertificateRequest).where(*conditions)).one()
        found = session.execute(
            sqlalchemy.select(
                CertificateRequest,
                col(CertificateAuthority.name),
                col(Organization.name),
                col(Department.name),
                col(Gateway.name),
            )
            .join(CertificateAuthority, col(CertificateAuthority.id) == col(CertificateRequest.authority_id))
            .join(Organization, col(Organization.id) == col(CertificateRequest.organization_id))
            .outerjoin(Department, col(Department.id) == col(CertificateRequest.department_id))
            .join(Gateway, col(Gateway.id) == col(CertificateRequest.gateway_id))
            .where(*conditions)
            .order_by(col(CertificateRequest.ordered_at), col(CertificateRequest.id))
            .offset(offset)
            .limit(limit)
        ).all()
        return Page([_row(*line) for line in found], total)


def counts(context: Context) -> dict[int, Count]:
    """Open orders that the actor may see, by the number of their CA; CAs without any are left out."""
    by = col(CertificateRequest.authority_id)
    statement = sqlalchemy.select(by, func.count(), func.min(col(CertificateRequest.ordered_at)))
    with context.database.read() as session:
        found = session.execute(statement.where(*_open(context)).group_by(by)).all()
        return {number: Count(count, oldest) for number, count, oldest in found}


def tell_overdue(database: Database, settings: NotificationSettings, now: datetime) -> int:
    """Tell of orders that a CA has had for longer than `settings.order_hours`, and again whenever one has become twice
    as old: in the audit, and as a notification. Gives how many were told."""
    least = timedelta(hours=settings.order_hours)
    if not least:
        return 0
    overdue = (
        col(CertificateRequest.status) == CertificateStatus.APPLIED,
        ~col(CertificateRequest.closed),
        col(CertificateRequest.ordered_at) <= now - least,
    )
    with database.read() as session:
        found = session.execute(
            sqlalchemy.select(col(CertificateRequest.id), col(CertificateRequest.ordered_at)).where(*overdue)
        ).all()
        events = {_event(number, since, least, now): number for number, since in found}
        wanted = sorted({events[once] for once in events.keys() - telling.told(session, events)})
    if not wanted:
        return 0
    told = 0
    with database.write() as session:
        statement = sqlalchemy.select(CertificateRequest).where(
            *overdue, col(CertificateRequest.id).in_(wanted[:_AT_ONCE])
        )
        for request in session.scalars(statement.order_by(col(CertificateRequest.id)).with_for_update()).all():
            told += _tell(session, settings, request, least, now)
    return told


async def keep_telling(database: Database, settings: NotificationSettings) -> None:
    """Look twice a minute, for ever."""
    while True:
        try:
            await asyncio.to_thread(tell_overdue, database, settings, system_clock())
        except CertgateError as error:
            log.warning("it is not known which orders hang", reason=error.message)
        await asyncio.sleep(_EVERY_SECONDS)


def _tell(
    session: Session, settings: NotificationSettings, request: CertificateRequest, least: timedelta, now: datetime
) -> bool:
    assert request.ordered_at is not None
    once = _event(identity(request), request.ordered_at, least, now)
    ca = session.get_one(CertificateAuthority, request.authority_id).name
    hours = int((now - request.ordered_at).total_seconds() // 3600)
    text = (
        f"Order {request.order_number} at {ca} for {request.common_name} (request {request.id}) was placed on "
        f"{request.ordered_at:%Y-%m-%d %H:%M} UTC and is not issued after {hours} hours. The page of the request shows "
        f"what the CA says of it; if it says nothing, ask the CA's support and name the order number."
    )
    scope = access.scope_of(request)
    told = telling.tell(
        session,
        settings,
        kind=OVERDUE,
        once=once,
        gateway_id=request.gateway_id,
        scope=scope,
        subject=f"Order {request.order_number} at {ca} hangs",
        text=text,
        now=now,
    )
    if told:
        act = audit.Act(
            actor="certgate",
            access_method=AccessMethod.WORKFLOW,
            action=OVERDUE,
            object_type="request",
            object_id=request.id,
            gateway_id=request.gateway_id,
            organization_id=scope.organization_id,
            department_id=scope.department_id,
            description=f"Order {request.order_number} at {ca} is not issued after {hours} hours.",
            outcome=Outcome.FAILED,
            once=once,
        )
        audit.append(session, act, now)
    return told


def _event(request_id: int, since: datetime, least: timedelta, now: datetime) -> str:
    doublings = 0
    while doublings < _MOST_DOUBLINGS and now - since >= least * 2 ** (doublings + 1):
        doublings += 1
    return f"{OVERDUE}/{request_id}/{doublings}"


def _open(context: Context) -> list[ColumnElement[bool]]:
    return [
        col(CertificateRequest.status) == CertificateStatus.APPLIED,
        ~col(CertificateRequest.closed),
        lookup.seen_by(context.actor, CertificateRequest.organization_id, CertificateRequest.department_id),
    ]


def _row(request: CertificateRequest, ca: str, organization: str, department: str | None, gateway: str) -> OrderRow:
    return OrderRow(
        request_id=identity(request),
        number=request.order_number or "",
        ca=ca,
        common_name=request.common_name,
        organization=organization,
        department=department,
        gateway=gateway,
        ordered_at=request.ordered_at,
        reason=request.reason,
    )
