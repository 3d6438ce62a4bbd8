"""Maintenance windows."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from model.errors import InvalidInput
from model.rules.windows import Window, check, earliest_start

SATURDAY = Window("0 2 * * 6", "Europe/Berlin", 120)


def at(text: str) -> datetime:
    """A UTC time."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("now", "start"),
    [
        ("2026-11-23 12:00", "2026-11-28 01:00"),
        ("2026-11-28 00:59", "2026-11-28 01:00"),
        ("2026-11-28 01:00", "2026-11-28 01:00"),
        ("2026-11-28 02:30", "2026-11-28 02:30"),
        ("2026-11-28 02:59", "2026-11-28 02:59"),
        ("2026-11-28 03:00", "2026-12-05 01:00"),
        # Summer time: two o'clock in Berlin is midnight UTC.
        ("2026-07-01 00:00", "2026-07-04 00:00"),
    ],
)
def test_an_install_starts_in_the_window(now: str, start: str) -> None:
    assert earliest_start(SATURDAY, at(now)) == at(start)


def test_without_a_window_it_starts_at_once() -> None:
    now = at("2026-11-23 12:00")
    assert earliest_start(None, now) == now


def test_a_window_longer_than_its_period_is_always_open() -> None:
    now = at("2026-11-23 12:34")
    assert earliest_start(Window("0 * * * *", "UTC", 90), now) == now


def test_a_start_with_seconds_counts() -> None:
    now = at("2026-11-28 01:00") + timedelta(seconds=30)
    assert earliest_start(SATURDAY, now) == now


@pytest.mark.parametrize(
    ("window", "words"),
    [
        (Window("0 2 * *", "UTC", 60), "cron"),
        (Window("61 2 * * 6", "UTC", 60), "cron"),
        (Window("0 0 31 2 *", "UTC", 60), "cron"),
        (Window("0 2 * * 6", "Mars/Olympus", 60), "time zone"),
        (Window("0 2 * * 6", "../../etc/passwd", 60), "time zone"),
        (Window("0 2 * * 6", "UTC", 0), "1 to 10080"),
        (Window("0 2 * * 6", "UTC", 10081), "1 to 10080"),
    ],
)
def test_a_wrong_window_is_refused_in_one_sentence(window: Window, words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        check(window)
