"""kill -9 for manager, gateway and Temporal at every step of a request: it goes on by itself, and all is there once.

No step is hit by luck: the test holds each request at its step with a lock that the step needs (the keystore's, the
CA's ledger) or at nginx itself, and looks into the engine whether a process is at it.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections.abc import AsyncIterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from sqlmodel import col, func, select
from temporalio.api.enums.v1 import EventType
from temporalio.exceptions import TemporalError

from model.errors import Conflict, Unavailable
from model.states import CampaignState, CertificateStatus, InstallMode, InstallState, ItemState
from model.tables import AuditEntry, CertificateRequest, Endpoint
from operations import campaign_words, campaigns
from operations.campaign_selection import Plan, Selection
from tests.connectors.ca.exactly_once import DRILL
from tests.support.holding import (
    Held,
    HeldNginx,
    acts,
    assert_exactly_one_of_everything,
    assert_nothing_left,
    at_work,
    hold_keystore,
    hold_ledger,
    orders,
    pending,
    private_authority,
    reference,
    served,
)
from tests.support.running import PARTS, TEMPORAL, Running, running, start, until
from tests.support.world import World
from worker.playground import DisposableNginx

pytestmark = pytest.mark.timeout(3600 if DRILL in os.environ else 300)
# Each part once; more of both with `CERTGATE_DRILL` in the environment.
KILLS_BY_LOT, REQUESTS_BY_LOT = (24, 16) if DRILL in os.environ else (3, 6)
SEED = 20261123


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def up(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Running]:
    """A whole certgate in processes."""
    async with running(tmp_path_factory.mktemp("kill")) as made:
        yield made


async def approved(world: World, number: int) -> None:
    """Bob approves as soon as the CSR is there, however often he has to say it."""
    await world.until(number, state=InstallState.KEY_READY)
    while world.show(number).status == CertificateStatus.REQUESTED:
        with suppress(Unavailable, Conflict, TemporalError):
            await world.say(number, "approve")


async def test_killed_at_every_step(up: Running, tmp_path: Path) -> None:
    world = up.world
    plain = ["key", "approval", "ordering", "ordering-there", "pending", "collecting", "word", "done"]
    names = {step: f"{step}.example.org" for step in [*plain, "checking", "reloading"]}
    folders = {name: tmp_path / f"ca-{name}" for name in ("busy", "there", "slow", "signing")}
    with ExitStack() as stack:
        shared = stack.enter_context(DisposableNginx(tmp_path / "shared", [names[step] for step in plain]))
        checking = stack.enter_context(HeldNginx(tmp_path / "checking", [names["checking"]]))
        reloading = stack.enter_context(HeldNginx(tmp_path / "reloading", [names["reloading"]]))
        stack.callback(checking.release)
        stack.callback(reloading.release)
        for name, nginx in (("shared", shared), ("checking", checking), ("reloading", reloading)):
            await world.endpoint(nginx, name)
        await private_authority(world, "busy", folders["busy"])
        await private_authority(world, "there", folders["there"], reached_from="gateway")
        slow = await private_authority(world, "slow", folders["slow"], manual=True)
        signing = await private_authority(world, "signing", folders["signing"], manual=True)

        async def submit(step: str, endpoint: str = "shared", **fields: Any) -> int:
            return await world.submit(names[step], endpoint=endpoint, **fields)

        numbers = {
            "approval": await submit("approval"),
            "ordering": await submit("ordering", ca="busy"),
            "ordering-there": await submit("ordering-there", ca="there"),
            "pending": await submit("pending", ca="slow"),
            "collecting": await submit("collecting", ca="signing"),
            "word": await submit("word", install=InstallMode.MANUAL),
            "done": await submit("done"),
            "checking": await submit("checking", "checking"),
            "reloading": await submit("reloading", "reloading"),
        }
        await asyncio.gather(*(world.until(number, state=InstallState.KEY_READY) for number in numbers.values()))

        # Each request goes to its step, and is held there.
        ledgers = {name: hold_ledger(folders[name]) for name in ("busy", "there")}
        checking.hold("check")
        reloading.hold("reload")
        for held in ledgers.values():
            stack.callback(held.release)
        await asyncio.gather(*(approved(world, number) for step, number in numbers.items() if step != "approval"))
        for number in (numbers["pending"], numbers["collecting"]):
            await world.until(number, status=CertificateStatus.APPLIED)
        # Nothing of the manager's comes between the release and the lock.
        manager = await up.freeze("manager")
        coming, _ = await pending(world, numbers["collecting"], "orders.collect")
        try:
            order = world.show(numbers["collecting"]).order_number
            assert order is not None
            await signing.release(order)
            ledgers["signing"] = hold_ledger(folders["signing"])
            stack.callback(ledgers["signing"].release)
        finally:
            assert up.signal("manager", signal.SIGCONT) == manager
        await world.until(numbers["word"], state=InstallState.READY_FOR_INSTALL)
        await world.until(numbers["done"], state=InstallState.COMPLETED)
        await until(lambda: checking.reached("check") and reloading.reached("reload"))
        keystore = hold_keystore(world)
        stack.callback(keystore.release)
        numbers["key"] = await submit("key")
        of_manager = {"ordering": "orders.submit", "collecting": "orders.collect"}
        of_gateway = {"key": "keys.prepare", "ordering-there": "orders.submit"}
        of_gateway |= {"checking": "installation.install", "reloading": "installation.install"}
        attempts = {step: await at_work(world, numbers[step], name) for step, name in of_gateway.items()}
        attempts["ordering"] = await at_work(world, numbers["ordering"], "orders.submit")
        attempts["collecting"] = await at_work(world, numbers["collecting"], "orders.collect", after=coming - 1)

        await up.kill(TEMPORAL)
        attempts |= {step: await at_work(world, numbers[step], name) for step, name in of_gateway.items()}
        await up.kill("gateway")
        for step, name in of_gateway.items():
            attempts[step] = await at_work(world, numbers[step], name, after=attempts[step])
        attempts |= {step: await at_work(world, numbers[step], name) for step, name in of_manager.items()}
        await up.kill("manager")
        for step, name in of_manager.items():
            await at_work(world, numbers[step], name, after=attempts[step])

        # Now all that was held is done, and all die before anybody has heard of it: what was sent to an engine that is
        # stopped goes with it.
        doomed = {TEMPORAL: await up.freeze(TEMPORAL)}
        try:
            for held in [*ledgers.values(), keystore]:
                held.release()
            checking.release()
            reloading.release()
            await until(lambda: (world.gateway_surroundings.home / "keys" / f"request-{numbers['key']}.key").exists())
            for name in ("busy", "there", "signing"):
                await until(lambda name=name: [one for one in orders(folders[name]) if one[2] == "issued"])
            for nginx in (checking, reloading):
                before = world.bindings(endpoint_of(world, nginx.folder.name))[0].served_fingerprint
                await until(lambda nginx=nginx, before=before: is_other(nginx, before))
            doomed |= {part: up.signal(part, signal.SIGKILL) for part in ("manager", "gateway")}
        finally:
            up.signal(TEMPORAL, signal.SIGKILL)
        for part, pid in doomed.items():
            await up.successor(part, pid)

        # Those that wait for a person go on when he speaks.
        order = world.show(numbers["pending"]).order_number
        assert order is not None
        await slow.release(order)
        await asyncio.gather(approved(world, numbers["approval"]), approved(world, numbers["key"]))
        while world.show(numbers["word"]).install_state == InstallState.READY_FOR_INSTALL:
            with suppress(Unavailable, Conflict, TemporalError):
                await world.say(numbers["word"], "install")
        for number in numbers.values():
            await world.until(number, state=InstallState.COMPLETED)

        # And once more when there is nothing left to do.
        await asyncio.gather(*(up.kill(part) for part in PARTS))
        places = {"ordering": "busy", "ordering-there": "there", "pending": "slow", "collecting": "signing"}
        for step, number in numbers.items():
            nginx = {"checking": checking, "reloading": reloading}.get(step, shared)
            ca = folders[places[step]] if step in places else up.home / "ca"
            await assert_exactly_one_of_everything(world, number, nginx, ca)
        for step in ("ordering", "ordering-there"):
            (placed,) = [entry for entry in acts(world, numbers[step]) if entry.action == "order.placed"]
            assert "it was there before" in placed.description
        assert_nothing_left(world, shared, checking, reloading)


def endpoint_of(world: World, name: str) -> int:
    """The id of an endpoint."""
    with world.database.read() as session:
        found = session.exec(select(Endpoint.id).where(Endpoint.name == name)).one()
    assert found is not None
    return found


async def is_other(nginx: DisposableNginx, before: str | None) -> bool:
    """Whether another certificate than `before` is served."""
    now = await served(nginx.sites[0])
    return now is not None and now != before


async def test_a_submission_killed_before_its_workflow_starts_is_started_exactly_once(up: Running) -> None:
    world = up.world
    # One whose process was killed a moment later: its workflow runs, and nobody has noted it.
    running_already = await world.submit("noted.example.org")
    await world.until(running_already, state=InstallState.KEY_READY)
    before = running_already
    words = ("request", "submit", "--common-name", "forgotten.example.org", "--organization", "Default")
    # The command line keeps the request, and then waits for an engine that does not answer.
    frozen = await up.freeze(TEMPORAL)
    try:
        command = start(up.command(*words, "--gateway", "local"), up.home.parent / "submit.log", up.environment)
        try:
            await until(lambda: row_after(world, before) is not None or command.poll() is not None)
            assert command.poll() is None
        finally:
            command.kill()
            command.wait()
        with world.database.write() as session:
            row = session.get_one(CertificateRequest, running_already)
            row.started = False
            session.add(row)
    finally:
        assert up.signal(TEMPORAL, signal.SIGCONT) == frozen
    numbers = (running_already, before + 1)
    for number in numbers:
        await until(lambda number=number: world_row(world, number).started)
        await approved(world, number)
    for number in numbers:
        await world.until(number, state=InstallState.NOT_CONFIGURED)
        handle = world.workflow(number)
        await handle.result()
        assert len([one async for one in world.client.list_workflows(f'WorkflowId = "{handle.id}"')]) == 1
        assert [entry.action for entry in acts(world, number)].count("request.submitted") == 1
        assert len([one for one in orders(up.home / "ca") if one[0] == reference(world, number)]) == 1


def world_row(world: World, number: int) -> CertificateRequest:
    """A request's row."""
    with world.database.read() as session:
        return session.get_one(CertificateRequest, number)


def row_after(world: World, before: int) -> CertificateRequest | None:
    """The row of the request that came after."""
    with world.database.read() as session:
        return session.get(CertificateRequest, before + 1)


async def test_sigterm_lets_what_has_begun_come_to_its_end(up: Running, tmp_path: Path) -> None:
    world = up.world
    folder = tmp_path / "ca-drain"
    await private_authority(world, "drain", folder)
    with HeldNginx(tmp_path / "drain", ["drain.example.org"]) as nginx, ExitStack() as stack:
        stack.callback(nginx.release)
        await world.endpoint(nginx, "drain")
        number = await world.submit("drain.example.org", endpoint="drain", ca="drain")
        await world.until(number, state=InstallState.KEY_READY)
        ledger: Held = hold_ledger(folder)
        stack.callback(ledger.release)
        nginx.hold("reload")
        await approved(world, number)
        await at_work(world, number, "orders.submit")
        manager = up.signal("manager", signal.SIGTERM)
        await until(lambda: up.pid("manager") != manager)  # it has begun to drain
        ledger.release()
        await up.successor("manager", manager)
        await until(lambda: nginx.reached("reload"))
        gateway = up.signal("gateway", signal.SIGTERM)
        await until(lambda: up.pid("gateway") != gateway)
        nginx.release()
        await up.successor("gateway", gateway)
        await world.until(number, state=InstallState.COMPLETED)
        await assert_exactly_one_of_everything(world, number, nginx, folder)
        assert_nothing_left(world, nginx)
        # Nothing was done a second time, and nothing was put back.
        history = await world.workflow(number).fetch_history()
        started = [
            event.activity_task_started_event_attributes.attempt
            for event in history.events
            if event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_STARTED
        ]
        assert started == [1, 1, 1, 1]  # key, order, collecting, install


async def test_a_campaign_goes_on_when_its_processes_are_killed_and_orders_nothing_twice(up: Running) -> None:
    world = up.world
    requests = [await world.submit(f"c{number}.campaign.example.org") for number in range(5)]
    await asyncio.gather(*(approved(world, number) for number in requests))
    for number in requests:
        await world.until(number, state=InstallState.NOT_CONFIGURED)
    context = world.context("bob")
    plan = Plan(rate_per_hour=36_000, at_once=1, canaries=1)
    draft = campaigns.create(context, "killed", Selection(search="campaign.example.org"), plan, len(requests))
    await campaign_words.start(context, draft.row.id)
    for done, parts in ((1, [TEMPORAL]), (3, ["manager", "gateway"])):
        await until(lambda done=done: campaigns.show(context, draft.row.id).row.counts[ItemState.DONE] >= done)
        assert campaigns.show(context, draft.row.id).row.state == CampaignState.RUNNING
        await asyncio.gather(*(up.kill(part) for part in parts))
    await until(lambda: campaigns.show(context, draft.row.id).row.state == CampaignState.COMPLETED)
    items = campaigns.items(context, draft.row.id).rows
    assert [item.state for item in items] == [ItemState.DONE] * len(requests)
    with world.database.read() as session:
        replacing = session.exec(
            select(CertificateRequest.id).where(
                col(CertificateRequest.renews_certificate_id).in_([item.certificate_id for item in items])
            )
        ).all()
    assert sorted(item.request_id or 0 for item in items) == sorted(number or 0 for number in replacing)
    for replaced in replacing:
        assert len([one for one in orders(up.home / "ca") if one[0] == reference(world, replaced or 0)]) == 1


async def test_killed_at_random_while_requests_flow(tmp_path: Path) -> None:
    lot = random.Random(SEED)
    names = [f"n{number}.example.org" for number in range(REQUESTS_BY_LOT)]
    async with running(tmp_path / "lot") as up:
        world = up.world
        with DisposableNginx(tmp_path / "nginx", names) as nginx:
            await world.endpoint(nginx, "nginx")
            await private_authority(world, "delayed", tmp_path / "ca", issuance_delay_seconds=1)
            numbers = [await world.submit(name, endpoint="nginx", ca="delayed") for name in names]
            flowing = asyncio.gather(*(approved(world, number) for number in numbers))
            doomed = [PARTS[kill % len(PARTS)] for kill in range(KILLS_BY_LOT)]
            lot.shuffle(doomed)
            told = entries(world)
            for part in doomed:
                # A moment is so many acts after the last kill: the request is somewhere else each time.
                told += lot.randint(1, 6)
                await until(lambda told=told: entries(world) >= told or all_done(world, numbers))
                await up.kill(part)
                told = entries(world)
            await flowing
            for number in numbers:
                await world.until(number, state=InstallState.COMPLETED)
            for number in numbers:
                await assert_exactly_one_of_everything(world, number, nginx, tmp_path / "ca")
            assert len(orders(tmp_path / "ca")) == len(numbers)
            assert len(list((world.gateway_surroundings.home / "keys").glob("*.key"))) == len(numbers)
            assert_nothing_left(world, nginx)


def entries(world: World) -> int:
    """How many acts the audit tells."""
    with world.database.read() as session:
        return session.exec(select(func.max(AuditEntry.sequence))).one() or 0


def all_done(world: World, numbers: list[int]) -> bool:
    """Whether nothing flows any more."""
    return all(world.show(number).closed for number in numbers)
