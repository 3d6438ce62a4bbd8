"""Unmanaged certificates that end: nobody renews them here, so people are told in time."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, func, select, update
from sqlmodel import Session, col

from connectors.notices.settings import NotificationSettings
from model import access
from model.database import Database
from model.rules import trust
from model.tables import Certificate, Fact, Gateway, SeenCertificate, Sighting
from operations import lookup, telling
from operations.context import Context
from operations.inventory import sight

ENDING = "inventory.ending"
_WITHIN = timedelta(days=max(trust.STEPS))
_NAMED = 10
_AT_ONCE = 500


@dataclass(frozen=True)
class Endings:
    """How many unmanaged certificates that are seen somewhere end within 90 days or (`ended`) have ended, and the first
    of them to end: common name and when."""

    total: int
    ended: int
    first: list[tuple[str, datetime]]


def ending(context: Context) -> Endings:
    """Those that the actor may see; ignored ones and CA certificates are left out."""
    now = context.clock()
    seen = select(col(Sighting.id)).join(Gateway, col(Gateway.id) == col(Sighting.gateway_id))
    here = col(Sighting.certificate_id) == col(SeenCertificate.id), col(Sighting.gone_at).is_(None), sight(context)
    conditions = (*_unmanaged(now), seen.where(*here).correlate(SeenCertificate).exists())
    ended = func.count().filter(col(SeenCertificate.not_after) <= now)
    with context.database.read() as session:
        counted = select(func.count(), ended).select_from(SeenCertificate).where(*conditions)
        total, over = session.execute(counted).one()
        order = (col(SeenCertificate.not_after), col(SeenCertificate.id))
        named = select(col(SeenCertificate.common_name), col(SeenCertificate.not_after)).where(*conditions)
        first = session.execute(named.order_by(*order).limit(_NAMED)).all()
    return Endings(total, over, [(name, end) for name, end in first])


def told_of(found: Endings) -> str:
    """What it means and what to do."""
    some = ", ".join(f"{name} ({end:%Y-%m-%d})" for name, end in found.first[:3])
    more = f" and {found.total - 3} more" if found.total > 3 else ""
    ended = f", {found.ended} of them have ended" if found.ended else ""
    return (
        f"{found.total} end within 90 days{ended}: {some}{more}. `certgate inventory list --state unmanaged --expiring "
        "90` shows them; take them under management, or say that they are ignored."
    )


def tell_ending(database: Database, settings: NotificationSettings, now: datetime) -> int:
    """Tell those who manage a gateway of what ends there, each certificate once at each step (`model/rules/trust.py`),
    all that are new in one notification. Gives how many gateways were told of."""
    with database.read() as session:
        if not _news(session, now):
            return 0
    with database.write() as session:
        # Two managers don't tell it both.
        session.get(Fact, access.INSTALLATION, with_for_update=True)
        news = _news(session, now)
        for gateway_id, lines in news.items():
            _tell(session, settings, session.get_one(Gateway, gateway_id), lines, now)
    return len(news)


@dataclass(frozen=True)
class _Line:
    sighting_id: int
    fingerprint: str
    common_name: str
    not_after: datetime
    step: int


def _news(session: Session, now: datetime) -> dict[int, list[_Line]]:
    """By gateway, what came to a step of which nobody was told."""
    statement = (
        select(
            col(Sighting.gateway_id),
            col(Sighting.id),
            col(Sighting.told_step),
            col(SeenCertificate.fingerprint),
            col(SeenCertificate.common_name),
            col(SeenCertificate.not_before),
            col(SeenCertificate.not_after),
        )
        .join(SeenCertificate, col(SeenCertificate.id) == col(Sighting.certificate_id))
        .join(Gateway, col(Gateway.id) == col(Sighting.gateway_id))
        .where(col(Sighting.gone_at).is_(None), ~col(Gateway.name_key).startswith(lookup.GONE), *_unmanaged(now))
        .order_by(col(SeenCertificate.not_after), col(Sighting.id))
    )
    found: dict[int, list[_Line]] = defaultdict(list)
    for gateway, number, told, fingerprint, name, begin, end in session.execute(statement).all():
        step = trust.step(begin, end, now)
        if step is not None and (told is None or step < told):
            found[gateway].append(_Line(number, fingerprint, name, end, step))
    return found


def _tell(
    session: Session, settings: NotificationSettings, gateway: Gateway, lines: list[_Line], now: datetime
) -> None:
    certificates = {line.fingerprint: line for line in lines}
    words = "\n".join(sorted(f"{line.fingerprint}/{line.step}" for line in certificates.values()))
    count = len(certificates)
    what = "1 certificate that is" if count == 1 else f"{count} certificates that are"
    named = [f"{line.common_name}, {line.not_after:%Y-%m-%d %H:%M} UTC" for line in certificates.values()][:_NAMED]
    more = f"\nand {count - _NAMED} more." if count > _NAMED else ""
    telling.tell(
        session,
        settings,
        kind=ENDING,
        once=f"{ENDING}/{gateway.id}/{hashlib.sha256(words.encode()).hexdigest()}",
        gateway_id=gateway.id,
        scope=access.scope_of_gateway(session, gateway),
        subject=f"{what} not managed {'ends' if count == 1 else 'end'} at gateway {gateway.name}",
        text=(
            f"Nobody renews them here; take them under management, or say that they are ignored:\n"
            f"{chr(10).join(named)}{more}"
        ),
        now=now,
    )
    steps: dict[int, list[int]] = defaultdict(list)
    for line in lines:
        steps[line.step].append(line.sighting_id)
    for step, numbers in steps.items():
        for start in range(0, len(numbers), _AT_ONCE):
            some = numbers[start : start + _AT_ONCE]
            session.execute(update(Sighting).where(col(Sighting.id).in_(some)).values(told_step=step))


def _unmanaged(now: datetime) -> tuple[ColumnElement[bool], ...]:
    """Not ours, not ignored, no CA's, and near its end."""
    ours = select(col(Certificate.id)).where(col(Certificate.fingerprint) == col(SeenCertificate.fingerprint))
    return (
        col(SeenCertificate.not_after) <= now + _WITHIN,
        col(SeenCertificate.ignored_by).is_(None),
        ~col(SeenCertificate.authority),
        ~ours.correlate(SeenCertificate).exists(),
    )
