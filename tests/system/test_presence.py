"""Real gateways that are killed and started, under a real manager and engine that are killed, too."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest
from sqlmodel import col, select

from model.errors import Unavailable
from model.states import ConnectionStatus
from model.tables import AuditEntry
from operations import gateways, presence
from tests.support.running import TEMPORAL, Running, running, start, stop, until

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
