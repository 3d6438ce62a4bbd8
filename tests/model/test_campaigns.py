"""What a campaign may replace, in which order, how fast, and when it must stop."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.errors import InvalidInput
from model.rules import campaigns
from model.rules.campaigns import Facts, Kind, Replacing
from model.states import CampaignWay, CertificateStatus, InstallState, ItemState, Privilege

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
FREE = Facts(
    way=CampaignWay.REPLACE,
    status=CertificateStatus.ISSUED,
    active=True,
    replaced_by_id=None,
    permitted=True,
    needed="'replace'",
    gateway="local",
    gateway_gone=False,
    gateway_active=True,
    gateway_serves=True,
    authority="private",
    authority_active=True,
)


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({}, None),
        ({"status": CertificateStatus.REPLACED, "active": False}, Kind.REPLACED),
        ({"status": CertificateStatus.REVOKED, "active": False}, Kind.REVOKED),
        # What its CA has revoked and is still served needs a replacement more than anything else, and no renewal.
        ({"status": CertificateStatus.REVOKED}, None),
        ({"status": CertificateStatus.REVOKED, "way": CampaignWay.RENEW}, Kind.REVOKED),
        ({"status": CertificateStatus.EXPIRED}, Kind.EXPIRED),
        ({"active": False}, Kind.NOT_IN_USE),
        ({"permitted": False, "gateway_gone": True}, Kind.PRIVILEGE),
        ({"gateway_gone": True, "gateway_active": False}, Kind.GATEWAY_GONE),
        ({"gateway_active": False, "gateway_serves": False}, Kind.GATEWAY_INACTIVE),
        ({"gateway_serves": False}, Kind.NOT_DELEGATED),
        ({"authority": None}, Kind.PROFILE_GONE),
        ({"authority_active": False}, Kind.AUTHORITY_OFF),
        ({"refused_names": "The profile does not allow a.example."}, Kind.NAMES),
        ({"campaign_id": 7, "open_request_id": 8}, Kind.IN_CAMPAIGN),
        ({"open_request_id": 8}, Kind.OPEN_REQUEST),
    ],
)
def test_why_a_certificate_can_not_be_replaced(change: dict[str, object], kind: Kind | None) -> None:
    found = campaigns.obstacle(replace(FREE, **change))  # type: ignore[arg-type]
    assert (found and found.kind) == kind
    assert found is None or found.message.endswith(".")


def test_what_one_must_be_allowed() -> None:
    assert campaigns.needed(CampaignWay.MOVE, revokes=False) == (Privilege.REPLACE,)
    assert campaigns.needed(CampaignWay.RENEW, revokes=True) == (
        Privilege.REPLACE,
        Privilege.RENEW,
        Privilege.REVOKE,
    )


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.integers())))
def test_spreading_keeps_everything_and_shows_each_group_early(things: list[tuple[str, int]]) -> None:
    found = campaigns.spread((group, (group, thing)) for group, thing in things)
    assert Counter(found) == Counter(things)
    groups = {group for group, _ in things}
    assert {group for group, _ in found[: len(groups)]} == groups
    for group in groups:
        assert [one for one in found if one[0] == group] == [one for one in things if one[0] == group]


@given(
    rate=st.integers(1, 100_000),
    free=st.integers(0, 50),
    gaps=st.lists(st.floats(0, 600), min_size=1, max_size=60),
)
def test_no_hour_has_more_orders_than_the_rate_and_one_tick(rate: int, free: int, gaps: list[float]) -> None:
    now, next_at, times = NOW, None, []
    for gap in gaps:
        now += timedelta(seconds=gap)
        pace = campaigns.pace(next_at, now, rate, free)
        assert 0 <= pace.count <= free
        times += [now] * pace.count
        if pace.count:
            next_at = pace.next_at
    burst = campaigns.tick(rate) / campaigns.interval(rate) + 2
    for begin in times:
        assert sum(1 for time in times if begin <= time < begin + campaigns.HOUR) <= rate + burst


def test_a_rate_that_is_not_held_up_is_reached() -> None:
    now, next_at, count = NOW, None, 0
    while now < NOW + campaigns.HOUR:
        pace = campaigns.pace(next_at, now, 600, 50)
        next_at, count = pace.next_at, count + pace.count
        now += campaigns.tick(600)
    assert 595 <= count <= 602


@pytest.mark.parametrize(
    ("failures", "ends", "after", "share", "told"),
    [
        (0, 100, 5, 20, None),
        (4, 100, 5, 20, None),
        (5, 100, 5, 20, "5 certificates could not be replaced."),
        (1, 1, 1, 0, "1 certificate could not be replaced."),
        (3, 9, 0, 20, None),
        (2, 10, 0, 20, "2 of the last 10 certificates could not be replaced (20 %)."),
        (100, 100, 0, 0, None),
    ],
)
def test_too_much_has_failed(failures: int, ends: int, after: int, share: int, told: str | None) -> None:
    assert campaigns.must_pause(failures=failures, ends=ends, pause_after=after, pause_share=share) == told


def foreseen(remaining: int, rate: int, hours: int = 24, at_once: int = 20) -> campaigns.Forecast:
    return campaigns.forecast(
        now=NOW,
        remaining=remaining,
        rate_per_hour=rate,
        at_once=at_once,
        each=MINUTE,
        canaries=True,
        deadline_at=NOW + timedelta(hours=hours),
    )


def test_whether_the_rate_meets_the_deadline() -> None:
    slow = foreseen(10_001, 400)
    assert not slow.meets_deadline
    assert slow.needed_rate == 418
    assert slow.ends_at == NOW + timedelta(hours=25) + 2 * MINUTE
    assert foreseen(10_001, 418).meets_deadline
    # Where so few may be under way at the same time, no rate helps.
    assert foreseen(10_001, 100_000, at_once=2).needed_rate is None
    assert not foreseen(10_001, 100_000, at_once=2).meets_deadline
    assert foreseen(0, 1).ends_at == NOW


@pytest.mark.parametrize(
    ("status", "state", "closed", "found"),
    [
        (CertificateStatus.REQUESTED, InstallState.KEY_PROCESSING, False, ItemState.RUNNING),
        (CertificateStatus.REQUESTED, InstallState.KEY_READY, False, ItemState.AWAITING_APPROVAL),
        (CertificateStatus.APPLIED, InstallState.CERT_PROCESSING, False, ItemState.RUNNING),
        (CertificateStatus.ISSUED, InstallState.SCHEDULED, False, ItemState.RUNNING),
        (CertificateStatus.ISSUED, InstallState.ROLLED_BACK, False, ItemState.FAILED),
        (CertificateStatus.APPLIED, InstallState.ACTION_REQUIRED, False, ItemState.FAILED),
        (CertificateStatus.ISSUED, InstallState.COMPLETED, True, ItemState.DONE),
        (CertificateStatus.REPLACED, InstallState.NOT_CONFIGURED, True, ItemState.DONE),
        (CertificateStatus.DECLINED, InstallState.KEY_READY, True, ItemState.FAILED),
        (CertificateStatus.INVALID, InstallState.NOT_STARTED, True, ItemState.FAILED),
    ],
)
def test_where_a_certificate_stands(
    status: CertificateStatus, state: InstallState, closed: bool, found: ItemState
) -> None:
    standing, message = campaigns.standing(None, Replacing(7, status, state, closed, None), None)
    assert standing == found
    assert standing != ItemState.FAILED or message


def test_without_a_request_it_is_under_way_until_somebody_says_otherwise() -> None:
    assert campaigns.standing(None, None, None) == (ItemState.RUNNING, None)
    assert campaigns.standing(None, None, "It is revoked.") == (ItemState.FAILED, "It is revoked.")
    assert campaigns.standing(9, None, "It is replaced.")[0] == ItemState.DONE


@pytest.mark.parametrize(("rate", "at_once"), [(0, 1), (100_001, 1), (1, 0), (1, 501)])
def test_a_pace_that_is_no_use(rate: int, at_once: int) -> None:
    with pytest.raises(InvalidInput):
        campaigns.check_pace(rate, at_once)
