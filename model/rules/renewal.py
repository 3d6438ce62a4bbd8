"""When is a certificate renewed? An ordered list of pure functions; the first that speaks decides.

Remaining life is signed: an expired certificate has a negative one and never looks valid.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from model.states import CertificateStatus

# A thousand certificates issued together wake over this part of their life, ending at the latest sensible moment.
SPREAD = 1 / 12
# However late the CA's own time is: past this share of its life a certificate is renewed.
LATEST_SHARE = 11 / 12
# Past this share of its life a certificate is due, whatever its length (six days: after four; 398 days: after 265).
DUE_SHARE = 2 / 3


class Step(StrEnum):
    """What the renewal does now."""

    WAIT = "wait"
    RENEW = "renew"
    STOP = "stop"


@dataclass(frozen=True)
class Life:
    """What the rules look at. `suggested` is the CA's own time (RFC 9773), if it gave one; `not_before_retry` is the
    earliest next attempt after a failed one. `disowned`: the CA revoked it while it was in use, and nothing has taken
    its place. `replacing`: it is a replacement that was asked for, which a revoked certificate may need too."""

    fingerprint: str
    not_before: datetime
    not_after: datetime
    status: CertificateStatus
    auto_renew: bool
    asked: bool = False
    suggested: datetime | None = None
    not_before_retry: datetime | None = None
    disowned: bool = False
    replacing: bool = False
    replaced: bool = False


@dataclass(frozen=True)
class Plan:
    """What follows: the step, when to look again, a word for programs and a sentence for people."""

    step: Step
    at: datetime
    reason: str
    message: str


def remaining(life: Life, now: datetime) -> timedelta:
    """How long it is still valid; negative once it has expired."""
    return life.not_after - now


def due_at(life: Life) -> datetime:
    """The CA's suggestion, else two thirds of the lifetime less a spread that depends on the fingerprint alone."""
    whole = life.not_after - life.not_before
    if life.suggested is not None:
        return min(life.suggested, life.not_before + whole * LATEST_SHARE)
    share = int(life.fingerprint[:8], 16) / 0xFFFFFFFF
    return life.not_before + whole * (DUE_SHARE - SPREAD * share)


def moment_in(start: datetime, end: datetime, fingerprint: str) -> datetime:
    """A moment in the CA's window that looks random and stays the same (RFC 9773 section 4.2): it depends on the
    fingerprint alone, and on other digits of it than `due_at`."""
    return start + (end - start) * (int(fingerprint[8:16], 16) / 0xFFFFFFFF)


def _ended(life: Life, now: datetime) -> Plan | None:
    over = life.replaced or not (life.disowned or (life.asked and life.replacing))
    if life.status == CertificateStatus.REPLACED or (life.status == CertificateStatus.REVOKED and over):
        return Plan(
            Step.STOP, now, str(life.status), f"The certificate is {life.status.lower()}; nothing is to be renewed."
        )
    return None


def _asked(life: Life, now: datetime) -> Plan | None:
    if life.asked:
        what = "replacement" if life.replacing else "renewal"
        return Plan(Step.RENEW, now, "ASKED", f"An administrator asked for the {what}.")
    return None


def _disowned(life: Life, now: datetime) -> Plan | None:
    if not life.disowned or (life.not_before_retry is not None and now < life.not_before_retry):
        return None
    if life.auto_renew:
        return Plan(Step.RENEW, now, "DISOWNED", "Its CA has revoked the certificate: another one takes its place.")
    if remaining(life, now) <= timedelta(0):
        return None
    told = "Its CA has revoked the certificate, and renewal by itself is off: replace it."
    return Plan(Step.WAIT, life.not_after, "DISOWNED", told)


def _not_automatic(life: Life, now: datetime) -> Plan | None:
    if life.auto_renew:
        return None
    if remaining(life, now) <= timedelta(0):
        return Plan(Step.STOP, now, "EXPIRED", "The certificate has expired and is not renewed by itself.")
    return Plan(
        Step.WAIT,
        life.not_after,
        "NOT_AUTOMATIC",
        "Renewal by itself is off; it is renewed on an administrator's word.",
    )


def _resting(life: Life, now: datetime) -> Plan | None:
    if life.not_before_retry is not None and now < life.not_before_retry:
        return Plan(Step.WAIT, life.not_before_retry, "RESTING", "The last attempt failed; the next one is later.")
    return None


def _due(life: Life, now: datetime) -> Plan | None:
    if now >= due_at(life):
        left = remaining(life, now)
        state = "has expired" if left <= timedelta(0) else f"ends in {left.days} days"
        return Plan(Step.RENEW, now, "DUE", f"The renewal is due: the certificate {state}.")
    return None


def _wait(life: Life, _now: datetime) -> Plan | None:
    at = due_at(life)
    wish = ", as its CA asks" if life.suggested is not None else ""
    return Plan(Step.WAIT, at, "NOT_DUE", f"It will be renewed on {at:%Y-%m-%d %H:%M} UTC{wish}.")


RULES: Sequence[Callable[[Life, datetime], Plan | None]] = (
    _ended,
    _asked,
    _disowned,
    _not_automatic,
    _resting,
    _due,
    _wait,
)


def plan(life: Life, now: datetime) -> Plan:
    """What to do now and when to look again."""
    for rule in RULES:
        decided = rule(life, now)
        if decided is not None:
            return decided
    raise AssertionError("the last rule always speaks")


def rest_after(attempt: int, left: timedelta) -> timedelta:
    """How long to rest after the `attempt`-th failure (from 1): 1 h, 2 h, 4 h … a day, never more than a quarter of the
    remaining life, at least ten minutes."""
    wanted = min(timedelta(hours=2 ** min(max(attempt, 1) - 1, 5)), timedelta(days=1))
    return max(timedelta(minutes=10), min(wanted, left / 4))
