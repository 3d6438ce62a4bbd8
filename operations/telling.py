"""Notifications are made: once for each event, in the transaction that sees it, with a delivery for each receiver."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime

from sqlmodel import Session, col, select

from connectors.notices.settings import NotificationSettings, usable_address
from model import access
from model.rules import permissions
from model.rules.permissions import Scope
from model.states import Privilege
from model.tables import Administrator, Notification, NotificationDelivery, Preference
from operations.lookup import identity

WEBHOOK, EMAIL = "webhook", "email"
# An administrator's own word on whether notifications come by e-mail; without one they do.
EMAIL_PREFERENCE = "notifications email"
_LONGEST_SUBJECT = 256
_AT_ONCE = 500


def tell(
    session: Session,
    settings: NotificationSettings,
    *,
    kind: str,
    once: str,
    gateway_id: int | None,
    scope: Scope,
    subject: str,
    text: str,
    now: datetime,
    holders: Privilege = Privilege.MANAGE_GATEWAYS,
) -> bool:
    """Make a notification for those who see things in `scope`; those who hold the privilege `holders` there get it by
    e-mail, where that is set up. False when the event `once` was told before; the caller holds the lock on what the
    event is about, so that two managers don't tell it both."""
    if session.exec(select(Notification.id).where(Notification.once == once)).first() is not None:
        return False
    row = Notification(
        kind=kind,
        once=once,
        gateway_id=gateway_id,
        organization_id=scope.organization_id,
        department_id=scope.department_id,
        subject=subject[:_LONGEST_SUBJECT],
        text=text,
        created_at=now,
    )
    session.add(row)
    session.flush()
    number = identity(row)
    if settings.webhook is not None:
        session.add(NotificationDelivery(notification_id=number, way=WEBHOOK, due_at=now))
    if settings.email is not None:
        managers = _holders(session, holders, scope) if settings.email.administrators else ()
        for address in _distinct([*settings.email.to, *managers]):
            session.add(NotificationDelivery(notification_id=number, way=EMAIL, address=address, due_at=now))
    return True


def told(session: Session, events: Iterable[str]) -> set[str]:
    """Those of the events that were told before."""
    wanted = sorted(events)
    found: set[str] = set()
    for start in range(0, len(wanted), _AT_ONCE):
        some = wanted[start : start + _AT_ONCE]
        found.update(session.exec(select(Notification.once).where(col(Notification.once).in_(some))))
    return found


def _holders(session: Session, privilege: Privilege, scope: Scope) -> Iterator[str]:
    """The addresses of those who hold the privilege there, and want to be told."""
    words = session.exec(select(Preference).where(Preference.name == EMAIL_PREFERENCE)).all()
    silent = {word.administrator_id for word in words if word.value is False}
    statement = select(Administrator).where(col(Administrator.active), Administrator.email != "")
    for administrator in session.exec(statement.order_by(col(Administrator.id))).all():
        number = identity(administrator)
        wanted = number not in silent and usable_address(administrator.email)
        if wanted and permissions.may(access.grants_of(session, number), privilege, scope):
            yield administrator.email


def _distinct(addresses: Iterable[str]) -> list[str]:
    return list({address.casefold(): address for address in addresses}.values())
