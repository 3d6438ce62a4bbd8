"""Gateways with open work that are away for long, and that come back: one notification each.

Open work is an open request, or a certificate that the gateway serves and that must be renewed soon. It is for those
who read of the gateway in the audit; counts, and no names of what others have.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import func, or_, select
from sqlmodel import Session, col

from connectors.notices.settings import NotificationSettings
from model import access
from model.database import Database
from model.rules.permissions import Scope
from model.states import CertificateStatus, ConnectionStatus, InstallState
from model.tables import Certificate, CertificateRequest, Endpoint, Gateway, Installation
from operations import lookup, telling

AWAY, BACK = "gateway.away", "gateway.back"
_AT_ONCE = 500


@dataclass(frozen=True)
class Work:
    """What waits for a gateway."""

    requests: int = 0
    renewals: int = 0

    def __bool__(self) -> bool:
        return bool(self.requests or self.renewals)

    def said(self, days: int) -> str:
        """As the subject of a sentence that goes on with *wait for it*."""
        parts = []
        if self.requests:
            parts.append("1 open request" if self.requests == 1 else f"{self.requests} open requests")
        if self.renewals:
            what = "1 certificate" if self.renewals == 1 else f"{self.renewals} certificates"
            parts.append(f"{what} to be renewed within {days} days")
        verb = "waits" if self.requests + self.renewals == 1 else "wait"
        return f"{' and '.join(parts)} {verb} for it"


@dataclass(frozen=True)
class Return:
    """A gateway came back at `now`; it had been away since `since`."""

    gateway_id: int
    name: str
    scope: Scope
    since: datetime


def tell_away(database: Database, settings: NotificationSettings, now: datetime) -> int:
    """Tell of gateways that have been away for long enough and have open work. Gives how many were told."""
    longest = now - timedelta(seconds=settings.away_seconds)
    away = (
        col(Gateway.told_status) == ConnectionStatus.DISCONNECTED,
        col(Gateway.status_since) <= longest,
        col(Gateway.active),
        ~col(Gateway.name_key).startswith(lookup.GONE),
    )
    with database.read() as session:
        rows = session.execute(select(col(Gateway.id), col(Gateway.status_since)).where(*away)).all()
        events = {_event(AWAY, number, since): number for number, since in rows}
        untold = [events[once] for once in events.keys() - telling.told(session, events)]
        work = _work(session, untold, settings, now)
    wanted = sorted(number for number in untold if work.get(number))
    if not wanted:
        return 0
    told = 0
    with database.write() as session:
        statement = select(Gateway).where(*away, col(Gateway.id).in_(wanted[:_AT_ONCE])).order_by(col(Gateway.id))
        for gateway in session.scalars(statement.with_for_update()).all():
            assert gateway.id is not None
            assert gateway.status_since is not None
            last = gateway.last_activity or gateway.status_since
            told += telling.tell(
                session,
                settings,
                kind=AWAY,
                once=_event(AWAY, gateway.id, gateway.status_since),
                gateway_id=gateway.id,
                scope=access.scope_of_gateway(session, gateway),
                subject=f"Gateway {gateway.name} is away",
                text=f"Gateway {gateway.name} has been disconnected since {last:%Y-%m-%d %H:%M:%S} UTC, and "
                f"{work[gateway.id].said(settings.renewal_days)}. See on its host whether `certgate gateway run` runs "
                "and reaches Temporal; what waits goes on by itself when the gateway is back.",
                now=now,
            )
    return told


def tell_back(session: Session, settings: NotificationSettings, returns: Iterable[Return], now: datetime) -> None:
    """Tell of those whose absence was told, in the transaction that tells of their return in the audit."""
    by_event = {_event(AWAY, one.gateway_id, one.since): one for one in returns}
    for once in sorted(telling.told(session, by_event)):
        one = by_event[once]
        telling.tell(
            session,
            settings,
            kind=BACK,
            once=_event(BACK, one.gateway_id, one.since),
            gateway_id=one.gateway_id,
            scope=one.scope,
            subject=f"Gateway {one.name} is back",
            text=f"Gateway {one.name} is connected again, after {_length(now - one.since)}. What waited for it "
            "goes on.",
            now=now,
        )


def _event(kind: str, gateway_id: int, since: datetime) -> str:
    return f"{kind}/{gateway_id}/{since:%Y%m%dT%H%M%S.%f}"


def _work(session: Session, gateways: list[int], settings: NotificationSettings, now: datetime) -> dict[int, Work]:
    """What waits for each of them."""
    found: dict[int, Work] = {}
    soon = now + timedelta(days=settings.renewal_days)
    for start in range(0, len(gateways), _AT_ONCE):
        some = gateways[start : start + _AT_ONCE]
        of = col(CertificateRequest.gateway_id)
        statement = select(of, func.count()).where(of.in_(some), ~col(CertificateRequest.closed)).group_by(of)
        for number, count in session.execute(statement).all():
            found[number] = Work(requests=count)
        at = col(Endpoint.gateway_id)
        due = (
            select(at, func.count(col(Certificate.id).distinct()))
            .join(Installation, col(Installation.endpoint_id) == col(Endpoint.id))
            .join(Certificate, col(Certificate.id) == col(Installation.certificate_id))
            .where(
                at.in_(some),
                col(Installation.state) == InstallState.COMPLETED,
                col(Certificate.status) == CertificateStatus.ISSUED,
                col(Certificate.active),
                col(Certificate.auto_renew),
                or_(col(Certificate.renew_at) <= soon, col(Certificate.not_after) <= soon),
            )
            .group_by(at)
        )
        for number, count in session.execute(due).all():
            found[number] = Work(found.get(number, Work()).requests, count)
    return found


def _length(time: timedelta) -> str:
    """How long, roughly."""
    seconds = max(0, round(time.total_seconds()))
    for unit, size in (("day", 86_400), ("hour", 3600), ("minute", 60)):
        if seconds >= size:
            count = round(seconds / size)
            return f"{count} {unit}" + ("" if count == 1 else "s")
    return f"{seconds} s"
