"""Gateways as processes: joined through a kill -9, restored while the old host lives on; and what all that leaves."""

from __future__ import annotations

import asyncio
import signal
import subprocess
from pathlib import Path

import pytest
from sqlmodel import select

from model import channel, naming
from model.channel import Parties, Purpose
from model.states import CertificateStatus, InstallState, Outcome
from model.tables import AuditEntry, Gateway, GatewayChannel
from operations import tokens
from tests.support.running import Running, certgate, running, start, stop, until
from tests.system.test_key_nowhere import encoded, of_number, search, search_histories, search_processes
from worker import gateway_home, readiness

pytestmark = pytest.mark.timeout(300)


def joined_at(up: Running, name: str) -> str | None:
    """The public key of a gateway's live channel, once it has joined."""
    with up.world.database.read() as session:
        row = session.exec(select(Gateway).where(Gateway.name == name)).one()
        statement = select(GatewayChannel).where(
            GatewayChannel.gateway_id == row.id, GatewayChannel.number == row.channel
        )
        live = session.exec(statement).one()
        return live.public_key if live.joined_at else None


def needles_of(name: str, home: Path, manager: bytes) -> dict[str, frozenset[bytes]]:
    """A channel's private key and the keys that both sides derive from it."""
    there = gateway_home.read(home).key()
    assert there is not None
    key, parties = there
    assert isinstance(parties, Parties)
    shared = channel.channel_key(channel.read_private(manager), parties)
    derived = [shared, *(channel.purpose_key(shared, purpose) for purpose in Purpose)]
    return {
        f"the private key of {name}": frozenset(
            [*of_number(int.from_bytes(key.private_bytes_raw(), "big")), *channel.private_pem(key).splitlines()[1:-1]]
        ),
        f"the channel key of {name}": frozenset(piece for one in derived for piece in encoded(one)),
    }


async def test_a_gateway_joins_is_lost_and_is_restored(tmp_path: Path) -> None:
    async with running(tmp_path / "run") as up:
        world, environment = up.world, dict(up.environment)
        manager = (up.home / "manager.key").read_bytes()
        first, second = tmp_path / "first-token", tmp_path / "second-token"
        old, new = tmp_path / "old", tmp_path / "new"
        await up.certgate("gateway", "add", "--name", "branch", "--token-file", str(first))

        # Killed between asking and the answer: what it asked is judged all the same, and it asks again.
        await up.freeze("manager")
        join = ("gateway", "join", "--token-file", str(first), "--gateway-home", str(old))
        process = start(up.command(*join), tmp_path / "join.log", environment)
        running_now = f"WorkflowId STARTS_WITH 'join-{tokens.read(first.read_text()).gateway_id}-'"
        await until(lambda: _count(up, running_now))
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert [path.name for path in old.iterdir()] == ["channel-1.key"]
        key = (old / "channel-1.key").read_bytes()
        up.signal("manager", signal.SIGCONT)
        await until(lambda: joined_at(up, "branch"))
        await up.certgate(*join)
        assert (old / "channel-1.key").read_bytes() == key

        def run(home: Path) -> subprocess.Popen[bytes]:
            command = certgate(tmp_path / "unused", "gateway", "run", "--gateway-home", str(home))
            return start(command, tmp_path / f"{home.name}.log", environment)

        old_host = run(old)
        try:
            await until(lambda: readiness.ready(old, "gateway") is not None)
            number = await world.submit("open.example.org", gateway="branch")
            await world.until(number, state=InstallState.KEY_READY)
            needles = {
                "the first token": frozenset(encoded(tokens.read(first.read_text()).secret.encode())),
                "the manager's key": of_number(
                    int.from_bytes(channel.read_private(manager).private_bytes_raw(), "big")
                ),
                **needles_of("the old host", old, manager),
            }
            before = world.show(number).csr_pem
            await up.certgate("gateway", "restore", "branch", "--token-file", str(second), "--yes")
            await up.certgate("gateway", "join", "--token-file", str(second), "--gateway-home", str(new))
            needles["the second token"] = frozenset(encoded(tokens.read(second.read_text()).secret.encode()))
            needles.update(needles_of("the new host", new, manager))
            new_host = run(new)
            try:
                # The old host still lives, and gets nothing: the open request goes on with the new one.
                await until(lambda: world.show(number).csr_pem != before)
                await world.say(number, "approve")
                done = await world.until(number, state=InstallState.NOT_CONFIGURED)
                assert done.status == CertificateStatus.ISSUED
                assert (new / "keys" / f"{naming.key_alias(number)}.key").exists()
                assert old_host.poll() is None
            finally:
                assert stop(new_host) == 0
        finally:
            assert stop(old_host) == 0

        # It comes back later, and is told that it is not wanted.
        back = run(old)
        assert await asyncio.to_thread(back.wait) == 3
        last = (tmp_path / "old.log").read_text().splitlines()[-1]
        assert last.startswith("Channel 1 of gateway branch was closed on")
        # So is the gateway of this machine when it is restored; its supervisor does not start it over and over.
        await up.certgate("gateway", "restore", "local", "--token-file", str(tmp_path / "third"), "--yes")
        up.signal("gateway", signal.SIGKILL)
        await until(lambda: "'gateway' has ended and is not started again: Channel 1 of" in up.log.read_text())
        with world.database.read() as session:
            entries = session.exec(select(AuditEntry).where(AuditEntry.action == "gateway.refused")).all()
        assert [row.outcome for row in entries] == [Outcome.REFUSED] * 2

        everywhere = [tmp_path / "run", old, new, *tmp_path.glob("*.log")]
        allowed = {
            str(up.home / "manager.key"): {"the manager's key"},
            str(old / "channel-1.key"): {"the private key of the old host"},
            str(new / "channel-2.key"): {"the private key of the new host"},
        }
        assert len(needles) == 7
        assert search(everywhere, needles) == allowed
        assert search_processes(up, needles, but={"gateway"}) == {}
        assert await search_histories(up, needles) == {}
    assert search(everywhere, needles) == allowed


async def _count(up: Running, query: str) -> int:
    return (await up.world.client.count_workflows(query)).count
