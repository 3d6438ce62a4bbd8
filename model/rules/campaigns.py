"""How a replacement campaign decides: what can be replaced, in which order, how fast, and when it must stop."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TypeVar

from model.errors import InvalidInput
from model.states import CampaignWay, CertificateStatus, InstallState, ItemState, Privilege

ThingT = TypeVar("ThingT")

HOUR = timedelta(hours=1)
# With few ends a share says nothing: one of two is half.
SHARE_COUNTS_FROM = 10
# About so many orders are handed over at a time, so that a fast campaign does not wake up for each of them; a slow one
# wakes up as often as it orders, but not more often than this.
_ORDERS_A_TICK = 10
_SHORTEST_TICK, _LONGEST_TICK = timedelta(seconds=1), timedelta(seconds=15)
# How long a certificate takes where none has told yet: key, order, install and a handshake.
USUAL = timedelta(seconds=60)


class Kind(StrEnum):
    """Why a certificate can't be replaced."""

    REVOKED = "revoked"
    REPLACED = "replaced"
    EXPIRED = "expired"
    NOT_IN_USE = "not in use"
    PRIVILEGE = "privilege"
    OPEN_REQUEST = "open request"
    IN_CAMPAIGN = "in a campaign"
    GATEWAY_GONE = "gateway gone"
    GATEWAY_INACTIVE = "gateway not active"
    NOT_DELEGATED = "not delegated"
    AUTHORITY_OFF = "CA switched off"
    PROFILE_GONE = "profile gone"
    NAMES = "names not allowed"


@dataclass(frozen=True)
class Obstacle:
    """Why a certificate can't be replaced: for programs and, as a sentence, for people."""

    kind: Kind
    message: str


@dataclass(frozen=True)
class Facts:
    """What the rules look at. `permitted`: the asker holds the privileges. `authority` is the CA that would issue,
    `refused_names` what the profile that is moved to says about the names; both None where nothing is to be said."""

    way: CampaignWay
    status: CertificateStatus
    active: bool
    replaced_by_id: int | None
    permitted: bool
    needed: str
    gateway: str
    gateway_gone: bool
    gateway_active: bool
    gateway_serves: bool
    authority: str | None
    authority_active: bool
    refused_names: str | None = None
    open_request_id: int | None = None
    campaign_id: int | None = None


def needed(way: CampaignWay, *, revokes: bool) -> tuple[Privilege, ...]:
    """The privileges that a campaign needs wherever one of its certificates is."""
    more = [(Privilege.RENEW, way == CampaignWay.RENEW), (Privilege.REVOKE, revokes)]
    return (Privilege.REPLACE, *(privilege for privilege, wanted in more if wanted))


def obstacle(facts: Facts) -> Obstacle | None:
    """Why this certificate can't be replaced now; None when it can. The first that speaks decides."""
    if facts.status == CertificateStatus.REPLACED:
        by = f" by certificate {facts.replaced_by_id}" if facts.replaced_by_id else ""
        return Obstacle(Kind.REPLACED, f"It was replaced{by} already.")
    if facts.status == CertificateStatus.REVOKED and (facts.way == CampaignWay.RENEW or not facts.active):
        told = "It is revoked: replace it, a renewal is too late." if facts.active else "It is revoked."
        return Obstacle(Kind.REVOKED, told)
    if facts.status == CertificateStatus.EXPIRED:
        return Obstacle(Kind.EXPIRED, "It has expired: request a new certificate, or renew it by itself.")
    if not facts.active:
        return Obstacle(Kind.NOT_IN_USE, "It was issued and never came into use: look at its request.")
    if not facts.permitted:
        return Obstacle(Kind.PRIVILEGE, f"The privilege {facts.needed} for its organization is missing.")
    if facts.gateway_gone:
        return Obstacle(Kind.GATEWAY_GONE, f"Its gateway {facts.gateway} was deleted: request a new certificate.")
    if not facts.gateway_active:
        return Obstacle(Kind.GATEWAY_INACTIVE, f"Gateway {facts.gateway} is not active: set it active again.")
    if not facts.gateway_serves:
        return Obstacle(
            Kind.NOT_DELEGATED, f"Gateway {facts.gateway} no longer serves its organization: delegate it again."
        )
    if facts.authority is None:
        return Obstacle(Kind.PROFILE_GONE, "The certificate profile that it needs was removed: choose another one.")
    if not facts.authority_active:
        return Obstacle(Kind.AUTHORITY_OFF, f"CA {facts.authority} is switched off: switch it on, or choose another.")
    if facts.refused_names is not None:
        return Obstacle(Kind.NAMES, facts.refused_names)
    if facts.campaign_id is not None:
        return Obstacle(Kind.IN_CAMPAIGN, f"Campaign {facts.campaign_id} replaces it already.")
    if facts.open_request_id is not None:
        return Obstacle(
            Kind.OPEN_REQUEST, f"Request {facts.open_request_id} renews it already: let it end, or cancel it."
        )
    return None


def spread(things: Iterable[tuple[Hashable, ThingT]]) -> list[ThingT]:
    """Things with the group each belongs to, one of each group in turn, so that the first of them, the canaries, tell
    of as many groups as there can be and no gateway gets all the work at once. Groups come in the order they are met.
    """
    groups: dict[Hashable, list[ThingT]] = defaultdict(list)
    for group, thing in things:
        groups[group].append(thing)
    turns = [list(reversed(members)) for members in groups.values()]
    found: list[ThingT] = []
    while turns:
        for members in turns:
            found.append(members.pop())
        turns = [members for members in turns if members]
    return found


@dataclass(frozen=True)
class Pace:
    """How many may be ordered now, and when the next one may."""

    count: int
    next_at: datetime


def interval(rate_per_hour: int) -> timedelta:
    """The time between two orders."""
    return HOUR / max(1, rate_per_hour)


def tick(rate_per_hour: int) -> timedelta:
    """How long a campaign sleeps between two looks while the rate holds it."""
    return min(max(_ORDERS_A_TICK * interval(rate_per_hour), _SHORTEST_TICK), _LONGEST_TICK)


def pace(next_at: datetime | None, now: datetime, rate_per_hour: int, free: int) -> Pace:
    """What the rate allows, up to `free`. What was not used is not saved up, but for the time between two looks."""
    step = interval(rate_per_hour)
    due = now if next_at is None else max(next_at, now - tick(rate_per_hour))
    count = max(0, min(free, math.floor((now - due) / step) + 1)) if due <= now else 0
    return Pace(count, due + count * step)


def must_pause(*, failures: int, ends: int, pause_after: int, pause_share: int) -> str | None:
    """Why a campaign stops by itself, after so many failures among so many ends since a person last looked; else None.
    `pause_after` failures are too many, or `pause_share` per cent of the ends, each 0 for never."""
    if pause_after and failures >= pause_after:
        return f"{failures} {'certificate' if failures == 1 else 'certificates'} could not be replaced."
    if pause_share and ends >= SHARE_COUNTS_FROM and failures * 100 >= ends * pause_share:
        return f"{failures} of the last {ends} certificates could not be replaced ({failures * 100 // ends} %)."
    return None


@dataclass(frozen=True)
class Forecast:
    """When a campaign ends if all goes well, and what the deadline says to it. `needed_rate` is the slowest rate that
    meets the deadline; None where there is none, or no rate can."""

    ends_at: datetime
    deadline_at: datetime | None
    meets_deadline: bool
    needed_rate: int | None


def forecast(
    *,
    now: datetime,
    remaining: int,
    rate_per_hour: int,
    at_once: int,
    each: timedelta,
    canaries: bool,
    deadline_at: datetime | None,
) -> Forecast:
    """`remaining` certificates at that rate, `at_once` at the same time, `each` of which takes so long. While there are
    `canaries`, the rest waits for them. What waits for people, windows and gateways that are away is not foreseen."""
    each = max(each, timedelta(seconds=1))
    lead = each if canaries else timedelta(0)
    step = max(interval(rate_per_hour), each / max(1, at_once))
    ends_at = now + (lead + step * max(0, remaining - 1) + each if remaining else timedelta(0))
    needed = None
    if deadline_at is not None and remaining > 1:
        left = deadline_at - now - lead - each
        needed = math.ceil((remaining - 1) * HOUR / left) if left > timedelta(0) else None
        if needed is not None and each / max(1, at_once) > left / (remaining - 1):
            needed = None
    return Forecast(ends_at, deadline_at, deadline_at is None or ends_at <= deadline_at, needed)


@dataclass(frozen=True)
class Replacing:
    """The request that replaces a certificate, as a rule reads it."""

    request_id: int
    status: CertificateStatus
    install_state: InstallState
    closed: bool
    reason: str | None


# What waits in these for a window or a word keeps nobody busy.
PARKED = (InstallState.READY_FOR_INSTALL, InstallState.SCHEDULED)
_STUCK = (InstallState.FAILED, InstallState.ROLLED_BACK, InstallState.ACTION_REQUIRED)
ISSUED = (CertificateStatus.ISSUED, CertificateStatus.REPLACED)
IN_USE = (InstallState.COMPLETED, InstallState.NOT_CONFIGURED)


def standing(
    replaced_by_id: int | None, request: Replacing | None, problem: str | None
) -> tuple[ItemState, str | None]:
    """Where an ordered certificate stands, and a sentence about it. `problem` is why the order made no request."""
    if request is None:
        if replaced_by_id is not None:
            return ItemState.DONE, f"Certificate {replaced_by_id} replaced it."
        return (ItemState.RUNNING, None) if problem is None else (ItemState.FAILED, problem)
    number = request.request_id
    if request.closed:
        if request.status in ISSUED and request.install_state in IN_USE:
            return ItemState.DONE, None
        return ItemState.FAILED, request.reason or f"Request {number} ended as {request.status}."
    if request.install_state in _STUCK:
        return ItemState.FAILED, request.reason or f"Request {number} is {request.install_state}."
    if request.status == CertificateStatus.REQUESTED and request.install_state == InstallState.KEY_READY:
        return ItemState.AWAITING_APPROVAL, f"Request {number} awaits approval."
    if request.install_state == InstallState.READY_FOR_INSTALL:
        return ItemState.RUNNING, f"Request {number} awaits the word to install."
    if request.install_state == InstallState.SCHEDULED:
        return ItemState.RUNNING, f"Request {number} awaits its maintenance window."
    return ItemState.RUNNING, None


def mean(spans: Sequence[timedelta]) -> timedelta:
    """How long certificates took; what is usual where none has told yet."""
    return sum(spans, timedelta(0)) / len(spans) if spans else USUAL


MOST_AN_HOUR, MOST_AT_ONCE, MOST_CANARIES = 100_000, 500, 100


def check_pace(rate_per_hour: int, at_once: int) -> None:
    """Raises `InvalidInput` for a rate or a concurrency that is no use."""
    if not 1 <= rate_per_hour <= MOST_AN_HOUR:
        raise InvalidInput(f"A campaign orders 1 to {MOST_AN_HOUR:,} certificates an hour, not {rate_per_hour:,}.")
    if not 1 <= at_once <= MOST_AT_ONCE:
        raise InvalidInput(f"A campaign replaces 1 to {MOST_AT_ONCE} certificates at the same time, not {at_once:,}.")
