"""The command line with a real engine: submit, wait, approve, join, replay; and `up` with all its processes."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from model.states import InstallState
from operations import administrators
from tests.cli.conftest import Certgate, Said
from tests.support.world import World


@pytest.fixture
def engine(shared_world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """The commands reach the shared world's engine."""
    monkeypatch.setenv("TEMPORAL_ADDRESS", shared_world.client.service_client.config.target_host)
    return shared_world


def token_of(world: World, login: str) -> str:
    from datetime import timedelta

    return administrators.token(world.context("admin"), login, timedelta(hours=1))


async def test_submit_approve_and_wait(
    engine: World, certgate: Certgate, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async def call(*words: str) -> Said:
        return await asyncio.to_thread(certgate, *words, on=engine.home)

    names = ("--common-name", "cli.example", "--san", "www.cli.example")
    monkeypatch.setenv("CERTGATE_TOKEN", token_of(engine, "alice"))
    submitted = await call(
        "request", "submit", *names, "--organization", "Default", "--gateway", "local", "--wait", "--json"
    )
    # It needs a person: that is not done.
    assert submitted.code == 1
    assert "awaits approval (0 of 1)" in submitted.err
    number = submitted.value["id"]
    assert submitted.value["install_state"] == InstallState.KEY_READY
    assert (await call("request", "approve", str(number))).code == 3
    monkeypatch.setenv("CERTGATE_TOKEN", token_of(engine, "bob"))
    approved = await call("request", "approve", str(number), "--comment", "fine", "--wait", "--json")
    assert approved.code == 0, approved
    keys = {"workflow_id", "status", "order_number", "issued_fingerprint", "served_fingerprint", "reason"}
    assert keys < set(approved.value)
    assert approved.value["status"] == "ISSUED"
    assert (await call("request", "approve", str(number))).code == 1
    assert (await call("request", "cancel", str(number))).code == 1

    second = await call("request", "submit", *names[:2], "--organization", "Default", "--gateway", "local", "--json")
    declined = await call("request", "decline", str(second.value["id"]), "--comment", "twice", "--wait", "--json")
    assert (declined.code, declined.value["status"], declined.value["reason"]) == (0, "DECLINED", "twice")

    history = await engine.workflow(number).fetch_history()
    good, bad = tmp_path / "good.json", tmp_path / "bad.json"
    good.write_text(history.to_json())
    content = json.loads(history.to_json())
    for event in content["events"]:
        if event["eventType"] == "EVENT_TYPE_ACTIVITY_TASK_SCHEDULED":
            event["activityTaskScheduledEventAttributes"]["activityType"]["name"] = "another.step"
    bad.write_text(json.dumps(content))
    assert (await call("replay", str(good))).code == 0
    both = await call("replay", str(good), str(bad), "--json")
    assert both.code == 1
    assert [one["ok"] for one in both.value] == [True, False]
    assert both.value[0]["workflow_id"] == f"request-{number}"


async def test_add_and_join_a_gateway(engine: World, certgate: Certgate, tmp_path: Path) -> None:
    async def call(*words: str) -> Said:
        return await asyncio.to_thread(certgate, *words, on=engine.home)

    token, home = tmp_path / "token", tmp_path / "gateway"
    added = await call("gateway", "add", "--name", "by hand", "--token-file", str(token), "--json")
    assert "cgj_" not in added.out + added.err
    joined = await call("gateway", "join", "--token-file", str(token), "--gateway-home", str(home), "--json")
    assert joined.value["name"] == "by hand"
    assert sorted(path.name for path in home.iterdir()) == ["channel-1.key", "gateway.toml"]
    assert {path.stat().st_mode & 0o777 for path in home.iterdir()} == {0o600}
    again = await call("gateway", "join", "--token-file", str(token), "--gateway-home", str(tmp_path / "other"))
    assert (again.code, again.err.count("\n")) == (3, 1)
    assert not (tmp_path / "other").exists()
    assert "was used before" in again.err
    # The same host may ask again: its answer may have been lost.
    assert (await call("gateway", "join", "--token-file", str(token), "--gateway-home", str(home))).code == 0
    assert (await call("gateway", "token", "by hand")).code == 1
    newer = tmp_path / "newer"
    assert (await call("gateway", "restore", "by hand", "--token-file", str(newer))).code == 2  # nobody can be asked
    restored = await call("gateway", "restore", "by hand", "--token-file", str(newer), "--yes", "--json")
    assert (restored.code, restored.value["channel"]) == (0, 2)
    assert "cgj_" not in restored.out + restored.err
    run = [sys.executable, "-m", "cli.main", "gateway", "run", "--gateway-home", str(home)]
    dead = await asyncio.to_thread(subprocess.run, run, capture_output=True, text=True, check=False)
    assert (dead.returncode, dead.stderr.splitlines()[-1].count("was closed on")) == (3, 1), dead.stderr
    assert "Traceback" not in dead.stderr
    assert (await call("gateway", "join", "--token-file", str(newer), "--gateway-home", str(home))).code == 0
    assert sorted(path.name for path in home.iterdir() if path.is_file()) == ["channel-2.key", "gateway.toml"]
    assert "channel = 2" in (home / "gateway.toml").read_text()
    shown = await call("gateway", "show", "By Hand", "--json")
    assert (shown.value["id"], shown.value["status"]) == (added.value["id"], "Disconnected")
    # The home of one gateway never becomes another's, and the other's token is not spent by trying.
    await call("gateway", "add", "--name", "another", "--token-file", str(tmp_path / "second"))
    assert (
        await call("gateway", "join", "--token-file", str(tmp_path / "second"), "--gateway-home", str(home))
    ).code == 2
    new = str(tmp_path / "third")
    assert (await call("gateway", "join", "--token-file", str(tmp_path / "second"), "--gateway-home", new)).code == 0


def test_up_runs_everything_and_stops(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    (home / "certgate.toml").write_text("[temporal]\nport = 0\nui_port = 0\n")
    command = [sys.executable, "-m", "cli.main", "--home", str(home)]
    with (tmp_path / "err").open("w") as errors:
        up = subprocess.Popen([*command, "up", "--headless"], stdout=subprocess.PIPE, stderr=errors, text=True)
    assert up.stdout is not None
    try:
        lines = []
        for line in up.stdout:
            lines.append(line)
            if line.startswith("Ready"):
                break
        assert lines, (tmp_path / "err").read_text()
        assert lines[0].startswith("First login: admin")
        findings = json.loads(subprocess.run([*command, "doctor", "--json"], capture_output=True, check=False).stdout)
        assert [one for one in findings if one["ok"] is False] == []
        second = subprocess.run([*command, "up", "--headless"], capture_output=True, text=True, check=False)
        assert (second.returncode, "Traceback" in second.stderr) == (1, False)
    finally:
        up.send_signal(signal.SIGINT)
        rest, _ = up.communicate()
    assert (up.returncode, "login" in rest) == (0, False)
    assert not list((home / "run").glob("*.ready"))
