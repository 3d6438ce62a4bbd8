"""When a CA certificate's end is to be told, and what of the trust store a request waits for."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable
from datetime import datetime, timedelta

# People are told so many days before a CA certificate ends. A certificate that lives for less than a year has the same
# share of its life left then.
STEPS = (90, 30, 7)
_YEAR = timedelta(days=365)
ENDED = 0


def step(not_before: datetime, not_after: datetime, now: datetime) -> int | None:
    """The last of `STEPS` (days, as for a life of a year or more) that a certificate has come to, `ENDED` when its life
    is over, None when there is nothing to tell yet."""
    if now > not_after:
        return ENDED
    share = min(1.0, (not_after - not_before) / _YEAR)
    reached = [days for days in STEPS if now >= not_after - timedelta(days=days) * share]
    return min(reached, default=None)


def standing(awaited: Collection[str], trusted: Iterable[tuple[str, str]]) -> str:
    """One word for what is trusted (subject and fingerprint) of the CAs that somebody waits for: another one when a
    certificate of theirs was added or removed."""
    relevant = sorted(fingerprint for subject, fingerprint in trusted if subject in awaited)
    return hashlib.sha256("\n".join(relevant).encode()).hexdigest()
