"""When is a CA asked again what it says of a certificate? Pure functions of what it answered."""

from __future__ import annotations

from datetime import datetime, timedelta

from model.messages.watching import Finding

# A revocation is noticed within this time; ten thousand certificates are then one question in two seconds.
STANDING_EVERY = timedelta(hours=6)
# Where nobody answered.
PASSING_AGAIN = timedelta(minutes=30)
# A certificate of which nothing is published is looked at again now and then: the CA may learn it.
NOTHING_PUBLISHED = timedelta(days=1)
# Renewal information without a Retry-After (RFC 9773 section 4.3.2 has six hours for it), and the sane bounds of one.
WINDOW_EVERY = timedelta(hours=6)
SHORTEST_WINDOW = timedelta(minutes=5)
LONGEST_WINDOW = timedelta(days=1)


def window_again(now: datetime, hint_seconds: float | None) -> datetime:
    """When the renewal information is asked for again."""
    wanted = WINDOW_EVERY if hint_seconds is None else timedelta(seconds=min(max(hint_seconds, 0.0), 1e6))
    return now + min(max(wanted, SHORTEST_WINDOW), LONGEST_WINDOW)


def standing_again(now: datetime, finding: Finding) -> datetime:
    """When it is asked again whether the CA stands by the certificate."""
    if finding.standing is not None or finding.faulty:
        return now + STANDING_EVERY
    if finding.passing or not finding.asked:
        hint = timedelta(seconds=min(finding.after_seconds or 0.0, 1e6))
        return now + max(PASSING_AGAIN, min(hint, LONGEST_WINDOW))
    return now + NOTHING_PUBLISHED


def standing_due(asked_at: datetime | None, now: datetime) -> datetime:
    """When it is to be asked whether the CA stands by a certificate of which that was known last at `asked_at`."""
    return now if asked_at is None else asked_at + STANDING_EVERY
