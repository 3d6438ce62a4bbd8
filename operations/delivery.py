"""Notifications go their ways: at least once to each receiver, tried again with longer and longer pauses.

Any manager delivers. Who takes a delivery puts it off for as long as an attempt may take, so that nobody else takes it,
and so that it is taken again when this manager dies over it.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog
from sqlalchemy import delete, func
from sqlmodel import Session, col, select

from connectors.errors import ConnectorError, Permanent, Retryable
from connectors.notices.contract import Notice, Way
from connectors.notices.mail import Mail
from connectors.notices.settings import NotificationSettings
from connectors.notices.webhook import Webhook
from model.database import Database
from model.errors import CertgateError
from model.tables import Department, Gateway, Notification, NotificationDelivery, NotificationSeen, Organization
from operations.context import now as system_clock
from operations.lookup import identity
from operations.telling import EMAIL, WEBHOOK

log = structlog.get_logger(__name__)

EVERY_SECONDS = 2.0
FIRST_PAUSE, LONGEST_PAUSE = timedelta(seconds=10), timedelta(hours=1)
# News of yesterday helps nobody.
GIVEN_UP_AFTER = timedelta(hours=24)
# Longer than any attempt takes.
_LEASE = timedelta(minutes=3)
_AT_ONCE = 10
_CLEANED_EVERY = timedelta(hours=1)


@dataclass(frozen=True)
class Taken:
    """A delivery that is ours now."""

    id: int
    way: str
    address: str
    attempts: int
    notice: Notice


def ways_of(
    settings: NotificationSettings, secret: Callable[[str], bytes], clock: Callable[[], datetime] = system_clock
) -> dict[str, Way]:
    """The ways that are set up, by name."""
    found: dict[str, Way] = {}
    if settings.webhook is not None:
        found[WEBHOOK] = Webhook(settings.webhook, secret, settings.ca_file, clock)
    if settings.email is not None:
        found[EMAIL] = Mail(settings.email, secret, settings.ca_file)
    return found


def event_key(once: str) -> str:
    """What a receiver knows an event by."""
    return "certgate-" + hashlib.sha256(once.encode()).hexdigest()[:32]


async def deliver_due(
    database: Database,
    ways: Mapping[str, Way],
    clock: Callable[[], datetime] = system_clock,
    *,
    dashboard: str | None = None,
) -> int:
    """Try what is due, some at once; messages link to the dashboard where its address is given. Gives how many attempts
    were made."""
    taken = await asyncio.to_thread(_take, database, dashboard, clock())
    await asyncio.gather(*(_attempt(database, ways, one, clock) for one in taken))
    return len(taken)


async def keep_delivering(
    database: Database,
    settings: NotificationSettings,
    secret: Callable[[str], bytes],
    dashboard: str | None = None,
) -> None:
    """Deliver what is due, and clean up what is old, for ever."""
    ways = ways_of(settings, secret)
    cleaned = datetime.min.replace(tzinfo=system_clock().tzinfo)
    while True:
        made = 0
        try:
            made = await deliver_due(database, ways, dashboard=dashboard)
            if system_clock() - cleaned >= _CLEANED_EVERY:
                cleaned = system_clock()
                await asyncio.to_thread(forget_old, database, settings, cleaned)
        except CertgateError as error:
            log.warning("notifications are not delivered now", reason=error.message)
        except Exception:
            # What nobody thought of must not end the deliveries, and not be quiet either.
            log.exception("delivering notifications failed, and goes on")
        if made < _AT_ONCE:
            await asyncio.sleep(EVERY_SECONDS)


def forget_old(database: Database, settings: NotificationSettings, now: datetime) -> int:
    """Delete notifications that are older than the settings keep them. Gives how many."""
    old = select(Notification.id).where(Notification.created_at < now - timedelta(days=settings.keep_days))
    with database.write() as session:
        count = session.exec(select(func.count()).select_from(old.subquery())).one()
        if count:
            for table in (NotificationSeen, NotificationDelivery):
                session.execute(delete(table).where(col(table.notification_id).in_(old)))
            session.execute(delete(Notification).where(col(Notification.id).in_(old)))
    return count


def pause(attempts: int) -> timedelta:
    """How long to wait after so many attempts: twice as long each time, and never just as long as others."""
    doubled: int = 2 ** min(attempts - 1, 20)
    return min(FIRST_PAUSE * doubled, LONGEST_PAUSE) * random.uniform(0.9, 1.1)  # noqa: S311  (no secret)


def _take(database: Database, dashboard: str | None, now: datetime) -> list[Taken]:
    due = col(NotificationDelivery.due_at) <= now
    with database.read() as session:
        if session.exec(select(NotificationDelivery.id).where(due).limit(1)).first() is None:
            return []
    with database.write() as session:
        statement = select(NotificationDelivery).where(due).order_by(col(NotificationDelivery.due_at)).limit(_AT_ONCE)
        taken = []
        for row in session.exec(statement.with_for_update(skip_locked=True)).all():
            row.due_at, row.attempts = now + _LEASE, row.attempts + 1
            session.add(row)
            notification = session.get_one(Notification, row.notification_id)
            notice = _notice(session, notification, dashboard)
            taken.append(Taken(identity(row), row.way, row.address, row.attempts, notice))
        return taken


def _notice(session: Session, row: Notification, dashboard: str | None) -> Notice:
    gateway = session.get(Gateway, row.gateway_id) if row.gateway_id is not None else None
    organization = session.get(Organization, row.organization_id) if row.organization_id is not None else None
    department = session.get(Department, row.department_id) if row.department_id is not None else None
    return Notice(
        key=event_key(row.once),
        number=identity(row),
        kind=row.kind,
        subject=row.subject,
        text=row.text,
        created_at=row.created_at,
        gateway_id=row.gateway_id,
        gateway=gateway.name if gateway else None,
        organization=organization.name if organization else None,
        department=department.name if department else None,
        link=f"{dashboard.rstrip('/')}/notifications" if dashboard else None,
    )


async def _attempt(database: Database, ways: Mapping[str, Way], taken: Taken, clock: Callable[[], datetime]) -> None:
    error: ConnectorError | None = None
    way = ways.get(taken.way)
    if way is None:
        error = Permanent(f"There is no {taken.way} in the settings any more.")
    else:
        try:
            await way.send(taken.notice, taken.address)
        except ConnectorError as refused:
            error = refused
    await asyncio.to_thread(_record, database, taken, error, clock())
    if error is not None:
        log.warning("a notification was not delivered", way=taken.way, attempt=taken.attempts, reason=error.message)


def _record(database: Database, taken: Taken, error: ConnectorError | None, now: datetime) -> None:
    with database.write() as session:
        row = session.get(NotificationDelivery, taken.id)
        if row is None or row.attempts != taken.attempts:
            # Cleaned up, or another manager took it after us.
            return
        if error is None:
            row.due_at, row.delivered_at, row.last_error = None, now, None
        else:
            row.last_error, row.due_at = error.message, None
            hint = error.after if isinstance(error, Retryable) else None
            later = now + max(pause(taken.attempts), hint or timedelta())
            if not isinstance(error, Permanent) and later < taken.notice.created_at + GIVEN_UP_AFTER:
                row.due_at = later
        session.add(row)
        session.flush()
        _sum_up(session, row.notification_id, now)


def _sum_up(session: Session, number: int, now: datetime) -> None:
    """On the notification itself: delivered when all receivers have it."""
    notification = session.exec(select(Notification).where(Notification.id == number).with_for_update()).one()
    rows = session.exec(select(NotificationDelivery).where(NotificationDelivery.notification_id == number)).all()
    notification.attempts = sum(row.attempts for row in rows)
    notification.last_error = next((row.last_error for row in rows if row.last_error), None)
    if notification.delivered_at is None and all(row.delivered_at for row in rows):
        notification.delivered_at = now
    session.add(notification)
