"""The gateway of one machine gets its channel by whoever prepares the home, however the home was left."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlmodel import col, select

from model import channel
from model.database import Database
from model.errors import InvalidInput, Unavailable
from model.states import AccessMethod
from model.tables import Fact, Gateway, GatewayChannel
from operations import enrollment, gateway_changes, identity
from operations.context import Context, now
from worker import gateway_home, local, settings
from worker.settings import Settings
from worker.up import gateway_home as folder_of


@pytest.fixture
def home(tmp_path: Path) -> Settings:
    """A home that nothing was done in yet."""
    return settings.load(tmp_path / "home", {})


@pytest.fixture
def database(home: Settings) -> Iterator[Database]:
    """Its database."""
    made = Database(home.database_url.get_secret_value())
    yield made
    made.close()


def channels(database: Database) -> list[tuple[int, int, bool]]:
    """Gateway, number, and whether it is alive, of every channel."""
    with database.read() as session:
        rows = session.exec(select(GatewayChannel).order_by(col(GatewayChannel.id))).all()
    return [(row.gateway_id, row.number, row.closed_at is None) for row in rows]


def owner(database: Database) -> Context:
    """Who owns the home."""

    async def nowhere() -> None:
        raise Unavailable("There is no engine here.")

    return Context(database, identity.owner(database), AccessMethod.COMMAND_LINE, nowhere, now)  # type: ignore[arg-type]


async def agreed(home: Settings, database: Database) -> int:
    """Prepare; the number of the channel on which both sides derive one key."""
    await local.prepare(home)
    there = gateway_home.read(folder_of(home))
    held = there.key()
    assert held is not None
    key, parties = held
    manager = channel.read_private((home.home / "manager.key").read_bytes())
    assert channel.channel_key(key, parties) == channel.channel_key(manager, parties)
    with database.read() as session:
        row = session.get_one(Gateway, there.gateway_id)
        live = select(GatewayChannel).where(GatewayChannel.gateway_id == row.id, GatewayChannel.number == there.channel)
        assert (row.channel, session.exec(live).one().public_key) == (there.channel, parties.gateway_key)
    assert [path.name for path in folder_of(home).glob("channel-*")] == [f"channel-{there.channel}.key"]
    return there.channel


async def test_the_local_gateway_has_a_channel_whatever_becomes_of_its_home(home: Settings, database: Database) -> None:
    assert [await agreed(home, database) for _ in range(2)] == [1, 1]
    # As 0.1 left it.
    folder = folder_of(home)
    (folder / "channel-1.key").unlink()
    (folder / "gateway.toml").write_text(f'id = 1\nname = "local"\nmanager_home = "{home.home}"\n')
    with database.write() as session:
        session.delete(session.exec(select(GatewayChannel)).one())
        session.delete(session.get_one(Fact, "local_gateway"))
    assert gateway_home.read(folder).key() is None
    assert await agreed(home, database) == 1
    assert channels(database) == [(1, 1, True)]
    # Wiped: the one before is dead.
    shutil.rmtree(folder)
    assert await agreed(home, database) == 2
    # Restored by an administrator.
    enrollment.restore(owner(database), "local")
    assert await agreed(home, database) == 3
    assert channels(database) == [(1, 1, False), (1, 2, False), (1, 3, True)]
    # Deleted: this machine gets another one.
    gateway_changes.delete(owner(database), "local", force=True)
    assert await agreed(home, database) == 1
    assert gateway_home.read(folder).gateway_id == 2
    assert channels(database)[-2:] == [(1, 3, False), (2, 1, True)]


async def test_a_manager_without_its_key_does_not_start(home: Settings) -> None:
    await local.prepare(home)
    (home.home / "manager.key").unlink()
    with pytest.raises(Unavailable, match=r"manager\.key is missing"):
        await local.prepare(home)
    assert not (home.home / "manager.key").exists()


def test_a_gateways_home_that_is_wrong_is_a_sentence(tmp_path: Path) -> None:
    enrolled = gateway_home.Enrolled(1, "0123456789ab", channel.public_text(channel.new_key()))
    there = gateway_home.write(tmp_path, 7, "x", temporal={"address": "a:1", "proxy": "b:2"}, enrolled=enrolled)
    with pytest.raises(InvalidInput, match=r"channel-1\.key is missing"):
        there.key()
    made = gateway_home.hold_key(tmp_path, 1)
    assert channel.public_text(gateway_home.hold_key(tmp_path, 1)) == channel.public_text(made)
    path = tmp_path / "channel-1.key"
    assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o640)
    with pytest.raises(InvalidInput, match="chmod 600"):
        there.key()
    path.chmod(0o600)
    path.write_text("nothing of a key")
    with pytest.raises(InvalidInput) as caught:
        there.key()
    assert "nothing of a key" not in caught.value.message
    with pytest.raises(InvalidInput, match="home of gateway x"):
        gateway_home.write(tmp_path, 8, "y")
    # What an operator wrote of the way to Temporal outlives a restore.
    newer = gateway_home.Enrolled(2, "0123456789ab", enrolled.manager_key)
    gateway_home.hold_key(tmp_path, 2)
    again = gateway_home.write(tmp_path, 7, "x", temporal={"address": "c:3"}, enrolled=newer)
    assert (again.channel, again.temporal.address, again.temporal.proxy) == (2, "c:3", "http://b:2")
    assert not path.exists()
    (tmp_path / "gateway.toml").write_text('id = 7\nname = "x"\n[temporal]\nproxy = "ftp://x"\n')
    with pytest.raises(InvalidInput, match=r"'temporal\.proxy'"):
        gateway_home.read(tmp_path)
