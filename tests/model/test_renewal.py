"""When is a certificate renewed?"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from model.rules.renewal import Life, Step, due_at, plan, remaining, rest_after
from model.states import CertificateStatus

START = datetime(2026, 11, 1, tzinfo=UTC)


def life(days: float, seed: int = 0) -> Life:
    """A certificate of so many days."""
    fingerprint = hashlib.sha256(str(seed).encode()).hexdigest()
    end = START + timedelta(days=days)
    return Life(fingerprint, START, end, CertificateStatus.ISSUED, auto_renew=True)


@pytest.mark.parametrize("days", [6, 47, 90, 398])
def test_it_is_due_at_two_thirds_of_any_lifetime_less_the_spread(days: float) -> None:
    for seed in range(200):
        share = (due_at(life(days, seed)) - START) / timedelta(days=days)
        assert 2 / 3 - 1 / 12 <= share <= 2 / 3


def test_a_thousand_issued_together_do_not_wake_together() -> None:
    hours = {due_at(life(47, seed)).replace(minute=0, second=0, microsecond=0) for seed in range(1000)}
    assert len(hours) > 80  # 47 days / 12 is 94 hours


def test_it_waits_then_renews_and_says_when() -> None:
    one = life(47)
    due = due_at(one)
    before = plan(one, due - timedelta(seconds=1))
    assert (before.step, before.at, before.reason) == (Step.WAIT, due, "NOT_DUE")
    assert f"{due:%Y-%m-%d}" in before.message
    assert plan(one, due).step == Step.RENEW


def test_remaining_life_is_signed_and_an_expired_certificate_is_due() -> None:
    one = life(6)
    late = one.not_after + timedelta(days=30)
    assert remaining(one, late) == -timedelta(days=30)
    assert plan(one, late).step == Step.RENEW
    assert "expired" in plan(one, late).message


def test_the_cas_own_time_comes_first() -> None:
    early = START + timedelta(days=1)
    assert due_at(replace(life(398), suggested=early)) == early
    assert plan(replace(life(398), suggested=early), early).step == Step.RENEW


@pytest.mark.parametrize("status", [CertificateStatus.REVOKED, CertificateStatus.REPLACED])
def test_what_is_over_is_not_renewed_even_when_asked(status: CertificateStatus) -> None:
    assert plan(replace(life(6), status=status, asked=True), START + timedelta(days=5)).step == Step.STOP


def test_an_administrators_word_comes_before_rest_and_switch() -> None:
    resting = replace(life(47), auto_renew=False, asked=True, not_before_retry=START + timedelta(days=40))
    assert plan(resting, START).step == Step.RENEW


def test_without_automatic_renewal_it_waits_for_its_end_and_stops() -> None:
    one = replace(life(6), auto_renew=False)
    assert (plan(one, START).step, plan(one, START).at) == (Step.WAIT, one.not_after)
    assert plan(one, one.not_after).step == Step.STOP


def test_after_a_failure_it_rests_first() -> None:
    now = START + timedelta(days=5)
    one = replace(life(6), not_before_retry=now + timedelta(hours=1))
    assert (plan(one, now).step, plan(one, now).at) == (Step.WAIT, now + timedelta(hours=1))
    assert plan(one, now + timedelta(hours=1)).step == Step.RENEW


def test_rests_grow_but_never_eat_the_remaining_life() -> None:
    assert rest_after(1, timedelta(days=15)) == timedelta(hours=1)
    assert rest_after(3, timedelta(days=15)) == timedelta(hours=4)
    assert rest_after(50, timedelta(days=15)) == timedelta(days=1)
    assert rest_after(50, timedelta(hours=8)) == timedelta(hours=2)
    assert rest_after(1, timedelta(hours=-5)) == timedelta(minutes=10)
