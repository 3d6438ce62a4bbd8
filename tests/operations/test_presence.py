"""Who is connected, as a real engine tells it: workers are played by their heartbeats, and time by a clock of the test.

What real gateways do when they are killed is in `tests/system/test_presence.py`.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import count

import pytest
from sqlmodel import col, select
from temporalio.api.enums.v1 import WorkerStatus
from temporalio.api.worker.v1 import WorkerHeartbeat
from temporalio.api.workflowservice.v1 import RecordWorkerHeartbeatRequest
from temporalio.client import Client

from connectors.notices.settings import NotificationSettings
from model.errors import Unavailable
from model.naming import gateway_queue
from model.states import AccessMethod, ConnectionStatus
from model.tables import AuditEntry, Gateway
from operations import presence
from operations.context import Context
from operations.presence import Beat, connection_status
from operations.watch import Watch
from tests.operations.conftest import NOW, Records
from tests.support.world import World

CONNECTED, DISCONNECTED, PENDING = ConnectionStatus.CONNECTED, ConnectionStatus.DISCONNECTED, ConnectionStatus.PENDING
SECOND = timedelta(seconds=1)
# The engine is shared: each test has queues of its own.
_CHANNELS = count(1000)


@dataclass
class Stage:
    """The gateways of the records, of which alpha, web and beta serve somebody; what is heard of them, and the time."""

    records: Records
    client: Client
    channel: int
    settings: NotificationSettings = field(default_factory=NotificationSettings)
    now: datetime = NOW

    def gateway(self, name: str) -> Gateway:
        with self.records.database.read() as session:
            return session.exec(select(Gateway).where(Gateway.name == name)).one()

    def manager(self) -> Watch:
        """A manager that starts now."""
        return Watch(self.records.database, self.settings, lambda: self.now, lambda: self.now.timestamp())

    async def beat(
        self, name: str, *, worker: str = "1", fast: float = 0, channel: int | None = None, stopping: bool = False
    ) -> None:
        """A gateway's worker says that it lives, with a clock that is so many seconds fast."""
        row = self.gateway(name)
        queue = gateway_queue(row.id or 0, channel or row.channel)
        status = WorkerStatus.WORKER_STATUS_SHUTTING_DOWN if stopping else WorkerStatus.WORKER_STATUS_RUNNING
        said = WorkerHeartbeat(worker_instance_key=f"{queue}/{worker}", task_queue=queue, status=status)
        said.heartbeat_time.FromDatetime(self.now + fast * SECOND)
        request = RecordWorkerHeartbeatRequest(namespace=self.client.namespace, worker_heartbeat=[said])
        await self.client.workflow_service.record_worker_heartbeat(request)

    async def pass_(self, seconds: int, watch: Watch, beating: dict[str, float] | None = None) -> None:
        """Time passes, in which gateways beat every five seconds (with clocks so wrong), and the manager looks."""
        for _ in range(seconds // 5):
            self.now += 4 * SECOND
            for name, fast in (beating or {}).items():
                await self.beat(name, fast=fast)
            self.now += SECOND
            await watch.look(self.client)

    async def seen(self, login: str = "mrao") -> dict[str, ConnectionStatus]:
        """What an administrator is shown, by somebody who looks for the first time."""
        acting = self.records.acting(login)

        async def temporal() -> Client:
            return self.client

        presence._shared.clear()
        found = await presence.statuses(
            Context(acting.database, acting.actor, AccessMethod.API, temporal, lambda: self.now)
        )
        with self.records.database.read() as session:
            names = {row.id: row.name for row in session.exec(select(Gateway)).all()}
        return {names[number]: status for number, status in found.items()}

    def told(self) -> list[tuple[str, str]]:
        """Action and gateway, in order."""
        with self.records.database.read() as session:
            statement = (
                select(AuditEntry, Gateway.name)
                .join(Gateway, col(Gateway.id) == col(AuditEntry.gateway_id))
                .where(AuditEntry.access_method == AccessMethod.GATEWAY)
            )
            entries = session.exec(statement.order_by(col(AuditEntry.sequence))).all()
            return [(entry.action.removeprefix("gateway."), name) for entry, name in entries]


@pytest.fixture
def stage(records: Records, shared_world: World) -> Stage:
    channel = next(_CHANNELS)
    with records.database.write() as session:
        for row in session.exec(select(Gateway)).all():
            row.channel = channel
            session.add(row)
    return Stage(records, shared_world.client, channel)


def test_what_a_heartbeat_means() -> None:
    def status(age: float | None, joined: bool, offset: float | None = None) -> ConnectionStatus:
        beats = [] if age is None else [Beat("w", NOW - age * SECOND)]
        return connection_status(beats, joined, offset, NOW)

    assert status(14.9, True) == CONNECTED
    assert status(15, True) == DISCONNECTED
    assert status(14.9, False) == CONNECTED
    assert status(60, False) == DISCONNECTED
    assert status(None, True) == DISCONNECTED
    assert status(None, False) == PENDING
    assert status(-600, True, 600) == CONNECTED
    assert status(600, True, -600) == CONNECTED
    assert status(-580, True, 600) == DISCONNECTED
    # One whose clock was put right: the worker before had the wrong one, and died.
    both = [Beat("before", NOW + 600 * SECOND), Beat("now", NOW)]
    assert connection_status(both, True, 0.5, NOW) == CONNECTED


async def test_coming_and_going_is_told_once_and_by_one_manager(stage: Stage) -> None:
    first, second = stage.manager(), stage.manager()
    await stage.beat("alpha")
    await stage.beat("web")
    await asyncio.gather(first.look(stage.client), second.look(stage.client))
    assert sorted(stage.told()) == [("connected", "alpha"), ("connected", "web")]
    for _ in range(8):
        stage.now += 5 * SECOND
        await stage.beat("alpha")
        await asyncio.gather(first.look(stage.client), second.look(stage.client))
    assert stage.told()[2:] == [("disconnected", "web")]
    assert await stage.seen() == {
        "general": DISCONNECTED,
        "alpha": CONNECTED,
        "web": DISCONNECTED,
        "beta": DISCONNECTED,
    }
    row = stage.gateway("web")
    assert (row.told_status, row.last_activity) == (DISCONNECTED, NOW)
    assert row.status_since is not None
    assert NOW + 15 * SECOND <= row.status_since <= NOW + 30 * SECOND
    await stage.beat("web", worker="2")
    assert (await stage.seen())["web"] == CONNECTED
    await asyncio.gather(first.look(stage.client), second.look(stage.client))
    assert stage.told()[3:] == [("connected", "web")]
    # Of its department, and told as the gateway's own word.
    with stage.records.database.read() as session:
        last = session.exec(select(AuditEntry).order_by(col(AuditEntry.sequence).desc())).first()
    assert last is not None
    assert (last.actor, last.organization_id, last.department_id) == ("gateway web", 1, 1)


async def test_one_that_says_it_goes_is_gone_at_once(stage: Stage) -> None:
    watch = stage.manager()
    await stage.pass_(30, watch, {"alpha": 0})
    await stage.beat("alpha", stopping=True)
    assert (await stage.seen())["alpha"] == DISCONNECTED
    await watch.look(stage.client)
    assert stage.told() == [("connected", "alpha"), ("disconnected", "alpha")]


async def test_the_host_of_a_closed_channel_connects_nothing(stage: Stage) -> None:
    watch = stage.manager()
    await stage.pass_(30, watch, {"alpha": 0})
    with stage.records.database.write() as session:
        row = session.get_one(Gateway, 2)
        row.channel += 10_000
        session.add(row)
    await stage.beat("alpha", channel=stage.channel)
    assert (await stage.seen())["alpha"] == DISCONNECTED
    await watch.look(stage.client)
    assert stage.told() == [("connected", "alpha"), ("disconnected", "alpha")]


@pytest.mark.parametrize("fast", [600, -600, 30, -30])
async def test_a_wrong_clock_shows_nothing_wrong(stage: Stage, fast: float) -> None:
    watch = stage.manager()
    await stage.pass_(5, watch)
    await stage.pass_(5, watch, {"alpha": fast})
    assert stage.told() == [("connected", "alpha")]
    assert (await stage.seen())["alpha"] == CONNECTED
    offset = stage.gateway("alpha").clock_offset
    assert offset is not None
    assert fast - 5 <= offset <= fast
    # It is killed: no longer than another one is it shown to be there, though its last word is of the future.
    await stage.pass_(20, watch)
    assert (await stage.seen())["alpha"] == DISCONNECTED
    assert stage.told() == [("connected", "alpha"), ("disconnected", "alpha")]
    # Somebody sets its clock right and starts it.
    stage.now += SECOND
    await stage.beat("alpha", worker="2")
    stage.now += SECOND
    await watch.look(stage.client)
    assert (await stage.seen())["alpha"] == CONNECTED
    assert stage.told()[2:] == [("connected", "alpha")]


async def test_a_start_of_the_manager_and_an_outage_of_the_engine_tell_nothing_false(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch = stage.manager()
    await stage.pass_(30, watch, {"alpha": 0, "beta": 0})
    before = stage.told()
    # The manager is away for an hour, and so is the engine, which knows of nobody when it comes back.
    stage.now += timedelta(hours=1)
    watch = stage.manager()
    await watch.look(stage.client)
    stage.now += 4 * SECOND
    await watch.look(stage.client)
    assert stage.told() == before
    await stage.pass_(30, watch, {"alpha": 0})
    assert stage.told()[2:] == [("disconnected", "beta")]

    # The engine is not reached; the next look begins anew.
    async def away(_client: Client) -> presence.Beats:
        raise Unavailable("There is no engine here.")

    with monkeypatch.context() as patch:
        patch.setattr(presence, "beats", away)
        for _ in range(10):
            stage.now += 5 * SECOND
            with pytest.raises(Unavailable):
                await watch.look(stage.client)
    await stage.pass_(15, watch)
    assert stage.told()[3:] == []
    await stage.pass_(5, watch, {"alpha": 0})
    # The machine slept: the engine did, too, and nobody could beat.
    stage.now += timedelta(hours=8)
    await watch.look(stage.client)
    stage.now += 4 * SECOND
    await watch.look(stage.client)
    assert stage.told()[3:] == []
    assert stage.gateway("alpha").told_status == CONNECTED


async def test_nobody_is_told_to_be_away_who_never_came(stage: Stage) -> None:
    with stage.records.database.write() as session:
        session.get_one(Gateway, 4).joined_at = None
    watch = stage.manager()
    await stage.pass_(40, watch)
    assert stage.told() == []
    assert (await stage.seen()) == {
        "general": DISCONNECTED,
        "alpha": DISCONNECTED,
        "web": DISCONNECTED,
        "beta": PENDING,
    }
    assert stage.gateway("beta").told_status is None
    assert await stage.seen("stranger") == {"general": DISCONNECTED, "beta": PENDING}
    # One that came without having joined is not forgotten when the engine forgets it.
    await stage.beat("beta")
    await watch.look(stage.client)
    with stage.records.database.write() as session:
        session.get_one(Gateway, 4).channel += 10_000
    assert (await stage.seen())["beta"] == DISCONNECTED
    await stage.pass_(20, watch)
    assert stage.told() == [("connected", "beta"), ("disconnected", "beta")]


async def test_the_last_activity_is_written_once_a_minute(stage: Stage) -> None:
    watch = stage.manager()
    written = set()
    for _ in range(24):
        await stage.pass_(5, watch, {"alpha": 0, "beta": 0})
        written.add((stage.gateway("alpha").last_activity, stage.gateway("beta").last_activity))
    assert len(written) == 2
    assert all(one == other for one, other in written)


async def test_many_who_ask_share_one_query(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    ask = presence.beats

    async def counting(client: Client) -> presence.Beats:
        asked.append(client)
        return await ask(client)

    monkeypatch.setattr(presence, "beats", counting)
    presence._shared.clear()

    async def temporal() -> Client:
        return stage.client

    acting = stage.records.acting("mrao")
    context = Context(acting.database, acting.actor, AccessMethod.API, temporal)
    answers = await asyncio.gather(*(presence.statuses(context) for _ in range(20)))
    assert len(asked) == 1
    assert all(answer == answers[0] for answer in answers)
