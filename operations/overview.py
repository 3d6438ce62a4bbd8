"""What the first page tells: how the gateways are, what waits for whom, what fails, which certificates end when.

A handful of statements however many rows there are: each count is read from an index that covers it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy
from sqlalchemy import ColumnElement, func
from sqlmodel import Session, col, select

from model.states import CertificateStatus, ConnectionStatus, InstallState, Privilege
from model.tables import Certificate, CertificateRequest, Endpoint, Gateway
from operations import audit_trail, gateways, lookup, requests
from operations.audit_trail import AuditRow
from operations.context import Context

# The steps of "ends within", in days, and how far the weeks are counted.
WITHIN = (7, 30, 60, 90)
WEEKS = 26
# A request in one of these states needs a person.
TROUBLE = (InstallState.FAILED, InstallState.ROLLED_BACK, InstallState.ACTION_REQUIRED)
_SHOWN = 5
_CHANGES = 8
_NO_CHANGES = ("administrator.sign_in", "administrator.sign_out")


@dataclass(frozen=True)
class Expiry:
    """When certificates end that no other has replaced. `within` counts by days from now, each step with those before
    it; `weeks` counts the weeks from now one by one; `valid` are all that have not ended."""

    expired: int
    within: dict[int, int]
    weeks: list[int]
    valid: int


@dataclass(frozen=True)
class FirstSteps:
    """What an empty installation has already of what a first certificate needs."""

    gateway: bool
    endpoint: bool
    request: bool

    @property
    def done(self) -> bool:
        """Whether nothing is left to do first."""
        return self.gateway and self.endpoint and self.request


@dataclass(frozen=True)
class Overview:
    """What the actor's organizations and departments look like now. `changes` None: he may read no audit."""

    open_requests: dict[CertificateStatus, int]
    awaiting_me: requests.Page
    failing: requests.Page
    expiry: Expiry
    first_steps: FirstSteps
    changes: list[AuditRow] | None


@dataclass(frozen=True)
class Away:
    """A gateway that is not connected while requests of the actor's organizations wait for it."""

    id: int
    name: str
    open_requests: int
    last_activity: datetime | None


@dataclass(frozen=True)
class Gateways:
    """How many gateways are connected, and which of the others have open work (those with most, at first)."""

    by_status: dict[ConnectionStatus, int]
    away: list[Away] = field(default_factory=list)


def show(context: Context) -> Overview:
    """Everything that the records tell."""
    awaiting = requests.listing(context, requests.Filter(awaiting_me=True), limit=_SHOWN)
    failing = requests.listing(context, requests.Filter(unfinished=True, install_states=TROUBLE), limit=_SHOWN)
    changes = None
    if any(grant.allows(Privilege.VIEW_AUDIT) for grant in context.actor.grants):
        # Who signed in is no change, and would crowd out what is one.
        entries = audit_trail.listing(context, limit=5 * _CHANGES).rows
        changes = [entry for entry in entries if entry.action not in _NO_CHANGES][:_CHANGES]
    with context.database.read() as session:
        return Overview(
            open_requests=_open_requests(context, session),
            awaiting_me=awaiting,
            failing=failing,
            expiry=_expiry(context, session),
            first_steps=_first_steps(context, session),
            changes=changes,
        )


async def gateways_now(context: Context) -> Gateways:
    """What the engine tells of the gateways that the actor may see. Raises `Unavailable`."""
    statuses = await gateways.statuses(context)
    counted = dict.fromkeys(ConnectionStatus, 0)
    for status in statuses.values():
        counted[status] += 1
    away = [number for number, status in statuses.items() if status == ConnectionStatus.DISCONNECTED]
    with context.database.read() as session:
        return Gateways(counted, _away(context, session, away))


def _open_requests(context: Context, session: Session) -> dict[CertificateStatus, int]:
    statement = (
        sqlalchemy.select(col(CertificateRequest.status), func.count())
        .where(col(CertificateRequest.closed).is_(False), _seen(context, CertificateRequest))
        .group_by(col(CertificateRequest.status))
    )
    found = {CertificateStatus(status): count for status, count in session.execute(statement).all()}
    return {status: found[status] for status in CertificateStatus if status in found}


def _expiry(context: Context, session: Session) -> Expiry:
    now = context.clock()
    issued = col(Certificate.status) == CertificateStatus.ISSUED

    def count(*conditions: ColumnElement[bool]) -> Any:
        return sqlalchemy.select(func.count()).select_from(Certificate).where(*conditions, _seen(context, Certificate))

    ended = col(Certificate.status).in_((CertificateStatus.ISSUED, CertificateStatus.EXPIRED))
    weeks = [
        count(
            issued,
            col(Certificate.not_after) > now + timedelta(weeks=week),
            col(Certificate.not_after) <= now + timedelta(weeks=week + 1),
        )
        for week in range(WEEKS)
    ]
    within = [
        count(issued, col(Certificate.not_after) > now, col(Certificate.not_after) <= now + timedelta(days=days))
        for days in WITHIN
    ]
    counts = [
        count(ended, col(Certificate.not_after) <= now),
        count(issued, col(Certificate.not_after) > now),
        *within,
        *weeks,
    ]
    # One statement; each count reads its own range of the index.
    expired, valid, *rest = session.execute(sqlalchemy.select(*(one.scalar_subquery() for one in counts))).one()
    return Expiry(expired, dict(zip(WITHIN, rest, strict=False)), list(rest[len(WITHIN) :]), valid)


def _first_steps(context: Context, session: Session) -> FirstSteps:
    living = (lookup.gateways_seen_by(context.actor), ~col(Gateway.name_key).startswith(lookup.GONE))
    there = (
        select(Gateway.id).where(*living),
        select(Endpoint.id).join(Gateway, col(Gateway.id) == col(Endpoint.gateway_id)).where(*living),
        select(CertificateRequest.id).where(_seen(context, CertificateRequest)),
    )
    return FirstSteps(*session.execute(sqlalchemy.select(*(one.exists() for one in there))).one())


def _away(context: Context, session: Session, numbers: list[int]) -> list[Away]:
    if not numbers:
        return []
    waiting = func.count()
    statement = (
        sqlalchemy.select(col(Gateway.id), col(Gateway.name), waiting, col(Gateway.last_activity))
        .join(CertificateRequest, col(CertificateRequest.gateway_id) == col(Gateway.id))
        .where(
            col(Gateway.id).in_(numbers), col(CertificateRequest.closed).is_(False), _seen(context, CertificateRequest)
        )
        .group_by(col(Gateway.id), col(Gateway.name), col(Gateway.last_activity))
        .order_by(waiting.desc(), col(Gateway.name))
        .limit(_SHOWN)
    )
    return [Away(*line) for line in session.execute(statement).all()]


def _seen(context: Context, table: Any) -> ColumnElement[bool]:
    return lookup.seen_by(context.actor, table.organization_id, table.department_id)
