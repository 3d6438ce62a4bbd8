"""Notifications, for those whom they concern: list, mark as seen, count, and try the ways out of the house."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import uuid4

import sqlalchemy
from sqlalchemy import ColumnElement, and_, exists, func, or_
from sqlmodel import Session, col, insert, select

from connectors.errors import ConnectorError
from connectors.notices.contract import Notice, Way
from connectors.notices.settings import NotificationSettings, usable_address
from connectors.registry import Surroundings
from model.errors import InvalidInput, NotFound
from model.tables import (
    Administrator,
    Department,
    Gateway,
    Notification,
    NotificationDelivery,
    NotificationSeen,
    Organization,
    Preference,
)
from operations import delivery, lookup
from operations.context import Context
from operations.lookup import identity
from operations.telling import EMAIL, EMAIL_PREFERENCE, WEBHOOK

MOST_COUNTED = 100
_AT_ONCE = 500


class Sent(StrEnum):
    """How far a notification came outside of the dashboard."""

    NOWHERE = "nowhere"
    WAITING = "waiting"
    DELIVERED = "delivered"
    FAILED = "failed"


@dataclass(frozen=True)
class NotificationRow:
    """A line of the list. `gateway_id` and `gateway` are None once the gateway is gone. `last_error`, which names
    servers, is told to MRAOs only."""

    id: int
    kind: str
    subject: str
    text: str
    created_at: datetime
    gateway_id: int | None
    gateway: str | None
    organization: str | None
    department: str | None
    seen: bool
    sent: Sent
    attempts: int
    last_error: str | None


@dataclass(frozen=True)
class Filter:
    """Which notifications; empty fields keep all. `search` looks into subject and text, in any case. `reading` is one
    that stays among the unseen although it was seen just now."""

    unseen: bool = False
    reading: int | None = None
    search: str = ""


@dataclass(frozen=True)
class Page:
    """Some rows and how many there are in all."""

    rows: list[NotificationRow]
    total: int


@dataclass(frozen=True)
class Tried:
    """What came of a test message."""

    way: str
    address: str
    ok: bool
    message: str


def listing(context: Context, wanted: Filter = Filter(), offset: int = 0, limit: int = 50) -> Page:
    """What concerns the organizations and departments that the actor may see, the newest first; an MRAO sees all."""
    conditions = [_visible(context)]
    if wanted.unseen:
        conditions.append(or_(~_seen(context), col(Notification.id) == wanted.reading))
    if wanted.search:
        text = func.lower(Notification.subject + "\n" + Notification.text)
        conditions.append(text.contains(wanted.search.lower(), autoescape=True))
    with context.database.read() as session:
        total = session.exec(select(func.count()).select_from(Notification).where(*conditions)).one()
        statement = (
            sqlalchemy.select(
                Notification, _seen(context), col(Gateway.name), col(Organization.name), col(Department.name)
            )
            .outerjoin(Gateway, and_(col(Gateway.id) == col(Notification.gateway_id), _living()))
            .outerjoin(Organization, col(Organization.id) == col(Notification.organization_id))
            .outerjoin(Department, col(Department.id) == col(Notification.department_id))
            .where(*conditions)
            .order_by(col(Notification.created_at).desc(), col(Notification.id).desc())
        )
        found = session.execute(statement.offset(offset).limit(limit)).all()
        sent = _sent(session, [identity(row) for row, *_ in found])
        owner = context.actor.owns_everything
        rows = [
            NotificationRow(
                id=identity(row),
                kind=row.kind,
                subject=row.subject,
                text=row.text,
                created_at=row.created_at,
                gateway_id=row.gateway_id if gateway is not None else None,
                gateway=gateway,
                organization=organization,
                department=department,
                seen=bool(seen),
                sent=sent.get(identity(row), Sent.NOWHERE),
                attempts=row.attempts,
                last_error=row.last_error if owner else None,
            )
            for row, seen, gateway, organization, department in found
        ]
    return Page(rows, total)


def unseen(context: Context) -> int:
    """How many the actor has not seen, for a bell; counted up to `MOST_COUNTED`."""
    some = select(Notification.id).where(_visible(context), ~_seen(context)).limit(MOST_COUNTED)
    with context.database.read() as session:
        return session.exec(select(func.count()).select_from(some.subquery())).one()


def mark_seen(context: Context, numbers: Sequence[int] | None = None) -> int:
    """The actor has seen these, or (None) all. Gives how many were new to him. Raises `NotFound` for one that does not
    concern him; nothing is marked then. Nobody else sees it, so the audit doesn't tell of it."""
    with context.database.write() as session:
        # Whoever marks twice at once waits for himself here, on PostgreSQL as well.
        session.exec(select(Administrator.id).where(Administrator.id == context.actor.id).with_for_update()).one()
        conditions = [_visible(context), ~_seen(context)]
        if numbers is not None:
            wanted = sorted(set(numbers))
            if len(wanted) > _AT_ONCE:
                raise InvalidInput(f"At most {_AT_ONCE} notifications are marked at once: mark all, or fewer.")
            _find(context, session, wanted)
            conditions.append(col(Notification.id).in_(wanted))
        new = session.exec(select(Notification.id).where(*conditions)).all()
        if new:
            rows = [{"administrator_id": context.actor.id, "notification_id": number} for number in new]
            session.execute(insert(NotificationSeen), rows)
        return len(new)


def by_email(context: Context) -> bool:
    """Whether the actor wants those about the gateways that he manages by e-mail, where that is set up."""
    with context.database.read() as session:
        row = _preference(context, session)
    return row is None or row.value is not False


def choose_email(context: Context, wanted: bool) -> None:
    """Get notifications by e-mail, or don't."""
    with context.database.write() as session:
        session.exec(select(Administrator.id).where(Administrator.id == context.actor.id).with_for_update()).one()
        row = _preference(context, session)
        if row is None:
            row = Preference(administrator_id=context.actor.id, name=EMAIL_PREFERENCE)
        row.value = wanted
        session.add(row)


async def test(context: Context, settings: NotificationSettings, surroundings: Surroundings) -> list[Tried]:
    """Send one message by each way that is set up: to the webhook, the addresses of the settings, and the actor's own.

    For MRAOs: the settings are the whole installation's. Raises `NotPermitted`, `InvalidInput` (nothing is set up).
    """
    with context.acting("notification.tested", "installation") as session:
        context.require_owner("send test notifications")
        own = session.get_one(Administrator, context.actor.id).email
        ways = delivery.ways_of(settings, surroundings.secret, context.clock)
        if not ways:
            raise InvalidInput(
                "No way is set up: write [notifications.webhook] or [notifications.email] into certgate.toml."
            )
        told = f"A test notification was sent by {' and '.join(sorted(ways))}."
        context.tell(session, "notification.tested", "installation", told)
    now = context.clock()
    notice = Notice(
        key=delivery.event_key(str(uuid4())),
        number=0,
        kind="test",
        subject="Test",
        text=f"{context.actor.login} tries whether notifications of certgate come here.",
        created_at=now,
    )
    receivers = [(WEBHOOK, "")] if WEBHOOK in ways else []
    if settings.email is not None:
        wanted = [*settings.email.to, *([own] if usable_address(own) else [])]
        receivers += [(EMAIL, address) for address in {one.casefold(): one for one in wanted}.values()]
    return list(await asyncio.gather(*(_try(ways[way], notice, way, address) for way, address in receivers)))


def late(context: Context) -> int:
    """How many deliveries failed once or more and are not done, given up or not. For MRAOs who ask the doctor."""
    waiting = and_(col(NotificationDelivery.delivered_at).is_(None), col(NotificationDelivery.last_error).is_not(None))
    with context.database.read() as session:
        return session.exec(select(func.count()).select_from(NotificationDelivery).where(waiting)).one()


async def _try(way: Way, notice: Notice, name: str, address: str) -> Tried:
    try:
        await way.send(notice, address)
    except ConnectorError as error:
        return Tried(name, address, False, error.message)
    return Tried(name, address, True, "It was taken.")


def _visible(context: Context) -> ColumnElement[bool]:
    return lookup.seen_by(context.actor, Notification.organization_id, Notification.department_id)


def _seen(context: Context) -> ColumnElement[bool]:
    """What was told before an administrator was there is no news to him."""
    marked = exists().where(
        col(NotificationSeen.notification_id) == col(Notification.id),
        col(NotificationSeen.administrator_id) == context.actor.id,
    )
    came = select(Administrator.created_at).where(Administrator.id == context.actor.id).scalar_subquery()
    return or_(marked, col(Notification.created_at) < came)


def _living() -> ColumnElement[bool]:
    return ~col(Gateway.name_key).startswith(lookup.GONE)


def _find(context: Context, session: Session, numbers: Sequence[int]) -> None:
    possible = [number for number in numbers if 0 < number < 2**31]
    known = select(Notification.id).where(col(Notification.id).in_(possible), _visible(context))
    found = set(session.exec(known).all())
    missing = [number for number in numbers if number not in found]
    if missing:
        raise NotFound(f"There is no notification {missing[0]}: `certgate notification list` shows what there is.")


def _sent(session: Session, numbers: Sequence[int]) -> dict[int, Sent]:
    rows = session.exec(
        select(NotificationDelivery).where(col(NotificationDelivery.notification_id).in_(numbers))
    ).all()
    found: dict[int, Sent] = {}
    for row in rows:
        one = Sent.DELIVERED if row.delivered_at else Sent.WAITING if row.due_at else Sent.FAILED
        # The worst that happened to one of its receivers.
        order = (Sent.DELIVERED, Sent.WAITING, Sent.FAILED)
        before = found.get(row.notification_id, Sent.DELIVERED)
        found[row.notification_id] = max(before, one, key=order.index)
    return found


def _preference(context: Context, session: Session) -> Preference | None:
    statement = select(Preference).where(
        Preference.administrator_id == context.actor.id, Preference.name == EMAIL_PREFERENCE
    )
    return session.exec(statement).one_or_none()
