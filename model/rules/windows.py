"""Maintenance windows: a cron expression in a time zone says when one opens, minutes how long it stays open."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from model.errors import InvalidInput


@dataclass(frozen=True)
class Window:
    """`cron` has five fields (minute hour day month weekday); `zone` is an IANA name; `minutes` is 1 to 10,080."""

    cron: str
    zone: str
    minutes: int


def check(window: Window) -> Window:
    """The window itself, or `InvalidInput` with one sentence."""
    if not 1 <= window.minutes <= 7 * 24 * 60:
        raise InvalidInput(f"A maintenance window lasts 1 to 10080 minutes, not {window.minutes}.")
    try:
        zone = ZoneInfo(window.zone)
    except (KeyError, ValueError, OSError):
        raise InvalidInput(f"There is no time zone {window.zone!r}: use an IANA name such as Europe/Berlin.") from None
    try:
        next(CronSim(window.cron, datetime(2026, 1, 1, tzinfo=zone)))
    except (CronSimError, StopIteration):
        raise InvalidInput(
            f"{window.cron!r} is no cron expression that ever comes: use five fields such as '0 2 * * 6'."
        ) from None
    return window


def earliest_start(window: Window | None, now: datetime) -> datetime:
    """When an install may start: now while a window is open (or there is none), else at the next opening. UTC."""
    if window is None:
        return now
    zone = ZoneInfo(window.zone)
    length = timedelta(minutes=window.minutes)
    # CronSim gives times strictly after its start; one minute earlier lets an opening at this very minute count.
    opening = next(CronSim(window.cron, (now - length - timedelta(minutes=1)).astimezone(zone))).astimezone(UTC)
    while opening + length <= now:
        opening = next(CronSim(window.cron, opening.astimezone(zone))).astimezone(UTC)
    return max(opening, now)
