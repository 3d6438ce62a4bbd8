"""``certgate gateway sync`` with a real engine and gateway; ``gateway modules`` on the gateway's host."""

from __future__ import annotations

import asyncio
import json
import tomllib
from pathlib import Path

import pytest
from sqlmodel import Session, select

from activities import modules_file
from model.tables import Endpoint, Gateway
from tests.cli.conftest import Certgate, Said
from tests.support.world import World


@pytest.fixture
def engine(shared_world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """The commands reach the shared world's engine."""
    monkeypatch.setenv("TEMPORAL_ADDRESS", shared_world.client.service_client.config.target_host)
    return shared_world


async def test_look_decide_and_sync(engine: World, certgate: Certgate) -> None:
    async def call(*words: str) -> Said:
        return await asyncio.to_thread(certgate, "gateway", *words, on=engine.home)

    file = engine.gateway_surroundings.home / modules_file.FILE_NAME
    file.write_text('[endpoints."by hand"]\ntype = "nginx"\n')
    with engine.database.write() as session:
        settings = {"address": "192.0.2.5", "username": "certgate", "password": "file:/etc/certgate/f5"}
        session.add(
            Endpoint(
                gateway_id=engine.gateway_id,
                name="by its own interface",
                type="f5-big-ip",
                connection="rest",
                settings=settings,
                key_at_endpoint=True,
            )
        )
    looked = await call("sync", "local", "--dry-run", "--json")
    assert looked.code == 0, looked.err
    assert looked.value["state"] == "compared"
    lines = {line["key"]: line for line in looked.value["difference"]}
    assert lines["endpoint:by hand"]["standing"] == "changed at the gateway"
    # Nobody is there to be asked.
    assert (await call("sync", "local")).code == 2
    done = await call("sync", "local", "--yes", "--json")
    assert done.code == 0, done
    assert done.value["state"] == "done"
    kept = tomllib.loads(file.read_text())["endpoints"]["by its own interface"]
    assert kept == {"type": "f5-big-ip", "connection": "rest", "key_at_endpoint": True, "settings": settings}

    with engine.database.write() as session:
        row = session.exec(select(Endpoint).where(Endpoint.name == "by hand")).one()
        row.settings = {"address": "10.0.0.1"}
        session.add(row)
    file.write_text(file.read_text().replace('type = "nginx"', 'type = "nginx"\ninstall = "manual"'))
    left = await call("sync", "local", "--yes")
    assert left.code == 1
    assert "decide" in left.out
    assert (await call("sync", "local", "--yes", "--decide", "endpoint:by hand=nobody")).code == 2
    decided = await call("sync", "local", "--yes", "--decide", "endpoint:by hand=gateway")
    assert decided.code == 0, decided
    with Session(engine.database.engine) as session:
        row = session.exec(select(Endpoint).where(Endpoint.name == "by hand")).one()
        assert (row.settings, row.install_mode) == ({}, "manual")


async def test_one_that_is_away_and_all_at_once(engine: World, certgate: Certgate) -> None:
    async def call(*words: str) -> Said:
        return await asyncio.to_thread(certgate, "gateway", *words, on=engine.home)

    with engine.database.write() as session:
        session.add(Gateway(name="far away", name_key="far away", created_at=engine.clock()))
    rows = json.loads((await call("sync", "local", "far away", "--dry-run", "--json")).out)
    assert {row["gateway"]: row["state"] for row in rows} == {"local": "compared", "far away": "waiting"}
    status = (await call("sync-status", "far away", "--json")).value
    assert status[0]["state"] == "waiting"
    canceled = await call("sync-cancel", "FAR AWAY", "--json")
    assert (canceled.code, canceled.value["state"]) == (0, "canceled")
    assert (await call("sync-cancel", "far away")).code == 1
    for words in (["sync"], ["sync", "local", "--all"], ["sync", "nowhere", "--yes"]):
        assert (await call(*words)).code == 2


def test_an_operator_checks_his_file_before_a_sync(certgate: Certgate, tmp_path: Path) -> None:
    folder = tmp_path / "gateway"
    words = ("gateway", "modules", "--gateway-home", str(folder))
    assert certgate(*words).code == 2
    folder.mkdir()
    assert certgate(*words).code == 0
    (folder / modules_file.FILE_NAME).write_text('[endpoints.web]\ntype = "nginx"\n')
    fine = certgate(*words, "--json")
    assert (fine.code, fine.value["modules"]) == (0, {"endpoint:web": {"type": "nginx"}})
    (folder / modules_file.FILE_NAME).write_text('[endpoints.web]\ntype = "nginx"\ncredential = "hunter2"\n')
    wrong = certgate(*words)
    assert wrong.code == 1
    assert "line 3, endpoints.web.credential" in wrong.err
    assert "hunter2" not in wrong.err + wrong.out
    (folder / modules_file.FILE_NAME).write_text("[endpoints.web\n")
    assert certgate(*words).code == 1
