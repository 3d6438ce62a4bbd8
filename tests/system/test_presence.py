"""Real gateways that are killed and started, under a real manager and engine that are killed, too."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlmodel import col, select

from connectors.notices.settings import NotificationSettings, WebhookSettings
from connectors.secrets import resolve
from model.database import Database
from model.errors import Unavailable
from model.states import ConnectionStatus
from model.tables import AuditEntry, Gateway
from operations import delivery, gateways, notifications, presence, watch
from operations.context import now
from operations.watch import Watch
from tests.operations.conftest import Records, fill
from tests.operations.test_presence import Stage
from tests.support.postgres import postgres
from tests.support.receivers import web_receiver
from tests.support.running import TEMPORAL, Running, running, start, stop, until
from tests.support.world import World

pytestmark = pytest.mark.timeout(300)


def told(up: Running) -> Counter[tuple[str, int | None]]:
    """How often the audit tells that a gateway came or went."""
    with up.world.database.read() as session:
        wanted = col(AuditEntry.action).in_(["gateway.connected", "gateway.disconnected"])
        entries = session.exec(select(AuditEntry).where(wanted)).all()
        return Counter((entry.action.removeprefix("gateway."), entry.gateway_id) for entry in entries)


async def status(up: Running, gateway_id: int) -> ConnectionStatus:
    """As somebody sees it who looks now."""
    presence._shared.clear()
    return (await gateways.statuses(up.world.context("admin")))[gateway_id]


async def seen(up: Running, wanted: ConnectionStatus, *gateway_ids: int) -> bool:
    """Whether all of these are seen so; not while the engine does not answer."""
    with suppress(Unavailable):
        return all([await status(up, number) == wanted for number in gateway_ids])
    return False


async def test_killed_and_started_it_shows_and_is_told(tmp_path: Path) -> None:
    async with running(tmp_path) as up:
        token, home = tmp_path / "token", tmp_path / "second"
        await up.certgate("gateway", "add", "--name", "second", "--token-file", str(token))
        second = gateways.show(up.world.context("admin"), "second").id
        assert await status(up, second) == ConnectionStatus.PENDING
        await up.certgate("gateway", "join", "--token-file", str(token), "--gateway-home", str(home))
        assert await status(up, second) == ConnectionStatus.DISCONNECTED
        command = up.command("gateway", "run", "--gateway-home", str(home))
        local = up.world.gateway_id
        gateway = start(command, tmp_path / "second.log", up.environment)
        try:
            await until(lambda: told(up) == {("connected", local): 1, ("connected", second): 1})
            assert await status(up, second) == ConnectionStatus.CONNECTED

            gateway.kill()
            gateway.wait()
            await until(lambda: told(up)["disconnected", second])
            assert await status(up, second) == ConnectionStatus.DISCONNECTED
            assert await status(up, local) == ConnectionStatus.CONNECTED

            # The new engine knows of nobody, and the new manager sees that: it tells only who comes.
            await asyncio.gather(up.kill("manager"), up.kill(TEMPORAL))
            gateway = start(command, tmp_path / "second.log", up.environment)
            await until(lambda: told(up)["connected", second] == 2)
            await until(lambda: seen(up, ConnectionStatus.CONNECTED, second, local))
            assert told(up) == {("connected", local): 1, ("connected", second): 2, ("disconnected", second): 1}
        finally:
            await asyncio.to_thread(stop, gateway)


async def test_two_managers_on_postgresql_tell_and_deliver_once(
    tmp_path: Path, shared_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The engine says of each gateway that it goes, so that nobody has to wait for its silence.
    monkeypatch.setattr(watch, "GRACE", timedelta())
    receiver = web_receiver()
    settings = NotificationSettings(away_seconds=0, webhook=WebhookSettings(url=receiver.url))
    with postgres() as server:
        databases = [Database(server.create("presence"))]
        try:
            databases[0].upgrade()
            databases.append(Database(server.url("presence")))
            fill(databases[0])
            stage = Stage(Records(databases[0], tmp_path), shared_world.client, 77_000, settings)
            with databases[0].write() as session:
                for row in session.exec(select(Gateway)).all():
                    row.channel = stage.channel
                    session.add(row)
            # Neither manager's own clock counts.
            managers = [Watch(one, settings, lambda: datetime(2001, 1, 1, tzinfo=UTC)) for one in databases]

            async def look(*, stopping: bool) -> None:
                stage.now = now()
                for name in ("alpha", "web", "beta"):
                    await stage.beat(name, stopping=stopping)
                await asyncio.gather(*(manager.look(stage.client) for manager in managers))

            await look(stopping=False)
            assert await stage.seen() == {
                "general": ConnectionStatus.DISCONNECTED,
                **dict.fromkeys(("alpha", "web", "beta"), ConnectionStatus.CONNECTED),
            }
            await look(stopping=True)
            # Whoever told the absence first, it is one notification, and its return another.
            await look(stopping=True)
            await look(stopping=False)
            assert Counter(stage.told()) == {
                (action, name): times
                for name in ("alpha", "web", "beta")
                for action, times in (("connected", 2), ("disconnected", 1))
            }
            ways = delivery.ways_of(settings, resolve)
            with receiver.up():
                await asyncio.gather(*(delivery.deliver_due(one, ways) for one in databases))
            assert sorted(json.loads(got.body)["type"] for got in receiver.got) == ["gateway.away", "gateway.back"]
            mrao = stage.records.acting("mrao")
            assert await asyncio.gather(*(asyncio.to_thread(notifications.mark_seen, mrao) for _ in range(2))) in (
                [5, 0],
                [0, 5],
            )
            assert delivery.forget_old(databases[1], settings, now() + timedelta(days=91)) == 5
        finally:
            for database in databases:
                database.close()
