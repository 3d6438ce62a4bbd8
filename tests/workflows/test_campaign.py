"""Replacement campaigns, with a real engine, a real CA and gateway: canaries, pauses, words, and what survives what."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from sqlalchemy import update
from sqlmodel import col, select
from temporalio.client import WorkflowFailureError, WorkflowUpdateFailedError
from temporalio.testing import WorkflowEnvironment

from connectors.notices.settings import NotificationSettings
from model.errors import Conflict
from model.messages import AdministratorWord, CampaignRate, CampaignSaid, CampaignView
from model.naming import campaign_workflow
from model.states import (
    CampaignState,
    CampaignWay,
    CertificateStatus,
    ConnectionStatus,
    InstallState,
    ItemState,
    Role,
)
from model.tables import (
    ApprovalPolicy,
    AuditEntry,
    Certificate,
    CertificateProfile,
    CertificateRequest,
    Gateway,
)
from operations import authorities, campaign_upkeep, campaign_words, campaigns, certificates, profiles
from operations.campaign_selection import Plan, Selection, preview
from operations.campaigns import CampaignDetail, ItemRow
from tests.support.world import World, wait_until, world
from worker import embedded_state
from worker.connection import worker_runtime
from worker.converter import DATA_CONVERTER
from workflows import attributes

# After so many events the server suggests to continue as new: each of these campaigns does, some of them often.
EVENTS = 40
FAST = Plan(rate_per_hour=36_000, at_once=10, canaries=0, pause_after=0, pause_share=0)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def made(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    """A certgate of these tests' own: campaigns look at everything that is there."""
    suggest = f"limit.historyCount.suggestContinueAsNew={EVENTS}"
    async with (
        await WorkflowEnvironment.start_local(
            data_converter=DATA_CONVERTER,
            dev_server_existing_path=str(embedded_state.binary()),
            search_attributes=list(attributes.ALL),
            runtime=worker_runtime(),
            dev_server_extra_args=["--headless", "--dynamic-config-value", suggest],
        ) as environment,
        world(tmp_path_factory.mktemp("campaigns"), environment=environment) as one,
    ):
        yield one


async def in_use(made: World, *names: str) -> list[int]:
    """Certificates that are issued and in use; their numbers."""

    async def one(name: str) -> int:
        number = await made.submit(name)
        await made.until(number, state=InstallState.KEY_READY)
        await made.say(number, "approve")
        await made.workflow(number).result()
        return number

    requests = await asyncio.gather(*(one(name) for name in names))
    by_request = {row.request_id: row.id for row in made.rows(Certificate)}
    return [by_request[number] for number in requests]


async def started(made: World, search: str, plan: Plan = FAST, by: str = "bob") -> int:
    """A campaign over the certificates of some name, begun."""
    context = made.context(by)
    number = campaigns.create(context, search, Selection(search=search), plan).row.id
    await campaign_words.start(context, number)
    return number


def shown(made: World, number: int) -> CampaignDetail:
    return campaigns.show(made.context("admin"), number)


def items(made: World, number: int) -> list[ItemRow]:
    return campaigns.items(made.context("admin"), number).rows


def states(made: World, number: int) -> dict[str, ItemState]:
    return {item.common_name: item.state for item in items(made, number)}


async def reached(made: World, number: int, state: CampaignState) -> CampaignDetail:
    await wait_until(lambda: shown(made, number).row.state == state)
    return shown(made, number)


def told(made: World, number: int) -> list[str]:
    """The acts on a campaign."""
    with made.database.read() as session:
        of = select(AuditEntry.action).where(AuditEntry.object_type == "campaign", AuditEntry.object_id == number)
        return list(session.exec(of.order_by(col(AuditEntry.sequence))).all())


def chain(made: World, certificate_id: int) -> list[Certificate]:
    """A certificate and what replaced it, and what replaced that."""
    rows = {row.id: row for row in made.rows(Certificate)}
    found = [rows[certificate_id]]
    while found[-1].replaced_by_id is not None:
        found.append(rows[found[-1].replaced_by_id])
    return found


async def test_the_canary_first_then_all_others_each_once(made: World) -> None:
    numbers = await in_use(made, *(f"w{one}.wave.example.org" for one in range(5)))
    number = await started(made, "wave.example.org", Plan(rate_per_hour=36_000, at_once=4, canaries=1))
    detail = await reached(made, number, CampaignState.COMPLETED)
    assert detail.row.counts[ItemState.DONE] == 5
    for certificate_id in numbers:
        old, new = chain(made, certificate_id)
        assert old.status == CertificateStatus.REPLACED
        assert new.active
    rows = items(made, number)
    canary = next(row for row in rows if row.canary)
    assert canary.ended_at is not None
    assert all(row.picked_at is not None and row.picked_at >= canary.ended_at for row in rows if not row.canary)
    requests = {row.id: row for row in made.rows(CertificateRequest)}
    assert {(str(requests[row.request_id].order_way), requests[row.request_id].order_reason) for row in rows} == {
        ("replace", f"campaign {number}: wave.example.org")
    }
    assert told(made, number) == ["campaign.created", "campaign.started", "campaign.completed"]
    view = await made.client.get_workflow_handle(campaign_workflow(number), result_type=CampaignView).result()
    assert (view.state, view.done, view.total) == (CampaignState.COMPLETED, 5, 5)


async def test_a_canary_that_fails_pauses_before_anything_else_is_ordered(made: World) -> None:
    names = {f"c{one}.canary.example.org" for one in range(3)}
    await in_use(made, *names)
    with names_refused(made):
        number = await started(made, "canary.example.org", Plan(rate_per_hour=36_000, canaries=1))
        detail = await reached(made, number, CampaignState.PAUSED)
    canary = detail.canaries[0]
    assert detail.row.why is not None
    assert detail.row.why.startswith(f"The canary {canary.common_name} could not be replaced: The profile does not")
    assert counts(detail) == {ItemState.FAILED: 1, ItemState.WAITING: 2}
    assert detail.may == ["resume", "change_rate", "cancel", "retry"]
    assert told(made, number)[-1] == "campaign.paused"
    # People are told once, and whoever resumes has seen it.
    notified = campaign_upkeep.tell_news(made.database, NotificationSettings())
    assert notified >= 1
    assert campaign_upkeep.tell_news(made.database, NotificationSettings()) == 0
    await campaign_words.say(made.context("alice"), number, "resume", "the profile is mended")
    detail = await reached(made, number, CampaignState.COMPLETED)
    assert counts(detail) == {ItemState.FAILED: 1, ItemState.DONE: 2}
    tried = await campaign_words.retry(made.context("alice"), number)
    assert (tried.ordered, tried.requests) == (1, 0)
    await reached(made, number, CampaignState.COMPLETED)
    assert set(states(made, number).items()) == {(name, ItemState.DONE) for name in names}


async def test_failures_pause_a_campaign_and_what_was_ordered_comes_to_its_end(made: World) -> None:
    await in_use(made, *(f"f{one}.fail.example.org" for one in range(4)))
    with names_refused(made):
        plan = Plan(rate_per_hour=36_000, at_once=1, canaries=0, pause_after=2, pause_share=0)
        number = await started(made, "fail.example.org", plan)
        detail = await reached(made, number, CampaignState.PAUSED)
    assert detail.row.why == "2 certificates could not be replaced."
    assert detail.row.counts[ItemState.FAILED] == 2
    assert sum(share.count for share in detail.failures) == 2
    said = await campaign_words.say(made.context("bob"), number, "cancel", "enough")
    assert said.state == CampaignState.CANCELED
    await made.client.get_workflow_handle(campaign_workflow(number)).result()
    assert counts(shown(made, number)) == {ItemState.FAILED: 2, ItemState.SKIPPED: 2}
    with pytest.raises(Conflict):
        await campaign_words.retry(made.context("bob"), number)


async def test_signals_of_the_temporal_cli_are_judged(made: World) -> None:
    await in_use(made, "s0.signal.example.org")
    made.administrator("nobody", Role.RAO, (), organization_id=1)
    # So slow that nothing is ordered while the test talks: its gateway is away.
    with gateway_away(made):
        number = await started(made, "signal.example.org")
        handle = made.client.get_workflow_handle(campaign_workflow(number), result_type=CampaignView)
        await handle.signal("pause", AdministratorWord("nobody", "because"))
        await handle.signal("pause")
        await wait_until(lambda: "campaign.pause" in told(made, number))
        assert shown(made, number).row.state == CampaignState.RUNNING
        await handle.signal("change_rate", {"administrator": "alice", "rate_per_hour": 77})
        await handle.signal("pause", {"administrator": "alice", "comment": "lunch"})
        detail = await reached(made, number, CampaignState.PAUSED)
        assert (detail.row.why, detail.row.rate_per_hour) == ("Paused by alice: lunch", 77)
        refused = WorkflowUpdateFailedError
        with pytest.raises(refused):
            await handle.execute_update("pause", AdministratorWord("alice"), result_type=CampaignSaid)
        with pytest.raises(refused):
            await handle.execute_update("change_rate", CampaignRate("alice"), result_type=CampaignSaid)
        with pytest.raises(refused):
            await handle.execute_update("change_rate", CampaignRate("alice", 10**9), result_type=CampaignSaid)
        with pytest.raises(refused):
            await handle.execute_update("resume", AdministratorWord("nobody"), result_type=CampaignSaid)
        view = await handle.query("view", result_type=CampaignView)
        assert (view.state, view.waiting, view.rate_per_hour) == (CampaignState.PAUSED, 1, 77)
    # Temporal's own cancel is an orderly one.
    await handle.cancel()
    with pytest.raises(WorkflowFailureError):
        await handle.result()
    assert shown(made, number).row.why == "Canceled by temporal: canceled with Temporal's own cancel"
    assert states(made, number) == {"s0.signal.example.org": ItemState.SKIPPED}


async def test_what_needs_approval_waits_for_people(made: World) -> None:
    await in_use(made, "a0.approve.example.org", "a1.approve.example.org")
    with asking_people(made):
        seen = preview(made.context("bob"), Selection(search="approve.example.org"), FAST)
        assert [(one.certificates, one.approvals_each) for one in seen.approvals] == [(2, 1)]
        number = await started(made, "approve.example.org", dataclasses.replace(FAST, at_once=1))
        requests = await opened(made, number, 2)
        for request_id in requests:
            await made.until(request_id, state=InstallState.KEY_READY)
        await campaign_words.wake(made.client, number)
        await wait_until(lambda: counts(shown(made, number)) == {ItemState.AWAITING_APPROVAL: 2})
        for request_id in requests:
            await made.say(request_id, "approve", by="alice")
    await reached(made, number, CampaignState.COMPLETED)
    assert set(states(made, number).values()) == {ItemState.DONE}


async def test_ended_by_force_it_goes_on_and_orders_nothing_twice(made: World) -> None:
    numbers = await in_use(made, *(f"k{one}.kill.example.org" for one in range(3)))
    with asking_people(made):
        number = await started(made, "kill.example.org")
        requests = await opened(made, number, 3)
        handle = made.client.get_workflow_handle(campaign_workflow(number))
        await handle.terminate("by force")
        assert await campaign_upkeep.start_lost(made.database, made.client) == 1
        assert await campaign_upkeep.start_lost(made.database, made.client) == 0
        for request_id in requests:
            await made.until(request_id, state=InstallState.KEY_READY)
            await made.say(request_id, "approve", by="alice")
    await reached(made, number, CampaignState.COMPLETED)
    for certificate_id in numbers:
        assert len(chain(made, certificate_id)) == 2
    replacing = [row for row in made.rows(CertificateRequest) if row.renews_certificate_id in numbers]
    assert sorted(row.id for row in replacing) == sorted(requests)


async def test_a_renewal_that_is_open_is_followed_and_nothing_ordered_beside_it(made: World) -> None:
    certificate_id, _ = await in_use(made, "o0.open.example.org", "o1.open.example.org")
    context = made.context("bob")
    with gateway_away(made):
        number = await started(made, "open.example.org")
        await wait_until(lambda: counts(shown(made, number)) == {ItemState.WAITING: 2})
        with asking_people(made):
            request_id = await certificates.renew(context, certificate_id)
            await made.until(request_id, state=InstallState.KEY_READY)
    await campaign_words.wake(made.client, number)
    await wait_until(lambda: states(made, number)["o1.open.example.org"] == ItemState.DONE)
    followed = next(item for item in items(made, number) if item.certificate_id == certificate_id)
    assert followed.request_id == request_id
    await made.say(request_id, "approve", by="alice")
    await reached(made, number, CampaignState.COMPLETED)
    assert len(chain(made, certificate_id)) == 2


async def test_certificates_move_to_another_ca(made: World, tmp_path: Path) -> None:
    certificate_id, odd = await in_use(made, "m0.move.example.org", "m1.move.example.org")
    context, owner = made.context("bob"), made.context("admin")
    second = authorities.NewAuthority("second", "private", {"folder": str(tmp_path / "second"), "name": "Second"})
    await authorities.add(owner, second, made.surroundings)
    profiles.add(owner, "second server", "second", profiles.ProfileChange(allowed_names=["m0.move.example.org"]))
    selection = Selection(search="move.example.org")
    moving = dataclasses.replace(FAST, way=CampaignWay.MOVE, ca="second")
    seen = preview(context, selection, moving)
    assert (seen.replaceable, [(one.kind, one.count) for one in seen.hindered]) == (1, [("names not allowed", 1)])
    number = campaigns.create(context, "away", selection, moving, expected=1).row.id
    await campaign_words.start(context, number)
    detail = await reached(made, number, CampaignState.COMPLETED)
    assert counts(detail) == {ItemState.DONE: 1, ItemState.SKIPPED: 1}
    assert [row.issuer for row in chain(made, certificate_id)] != [chain(made, odd)[0].issuer] * 2
    assert "Second" in chain(made, certificate_id)[1].issuer
    assert {share.name for share in campaigns.issuers(context)} >= {
        row.issuer for row in chain(made, certificate_id)[1:]
    }


# --- helpers ----------------------------------------------------------------------------------------------------------


def counts(detail: CampaignDetail) -> dict[ItemState, int]:
    """How many certificates are in which state; empty ones are left out."""
    return {state: count for state, count in detail.row.counts.items() if count}


async def opened(made: World, campaign_id: int, count: int) -> list[int]:
    """The requests of a campaign, once there are so many."""

    def found() -> list[int]:
        reason = f"campaign {campaign_id}: "
        return [row.id for row in made.rows(CertificateRequest) if row.order_reason.startswith(reason)]

    await wait_until(lambda: len(found()) == count)
    return found()


@contextmanager
def names_refused(made: World) -> Iterator[None]:
    """The profile allows the names of the certificates no more."""
    with _changed(made, CertificateProfile, {"allowed_names": ["elsewhere.example"]}, {"allowed_names": []}):
        yield


@contextmanager
def asking_people(made: World) -> Iterator[None]:
    """Somebody has to approve renewals, too."""
    with _changed(made, ApprovalPolicy, {"auto_approve_renewals": False}, {"auto_approve_renewals": True}):
        yield


@contextmanager
def gateway_away(made: World) -> Iterator[None]:
    """The watch has told that the gateway is away."""
    with _changed(made, Gateway, {"told_status": ConnectionStatus.DISCONNECTED}, {"told_status": None}):
        yield


@contextmanager
def _changed(made: World, table: type[Any], values: dict[str, Any], before: dict[str, Any]) -> Iterator[None]:
    with made.database.write() as session:
        session.execute(update(table).values(**values))
    try:
        yield
    finally:
        with made.database.write() as session:
            session.execute(update(table).values(**before))
