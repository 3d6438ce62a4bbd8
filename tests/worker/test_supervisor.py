"""Supervision with real processes: ready, restarted, drained, tethered, one `up` for a home."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path

import pytest

from model.errors import Conflict, Unavailable
from worker import embedded_state, processes, readiness
from worker.processes import ProcessIdentity
from worker.settings import Settings, load
from worker.supervisor import ChildSpec, Lock, Supervisor
from worker.up import Addresses, up

ROOT = Path(__file__).parents[2]

# Announces itself, then waits. On SIGTERM it writes down that it drained, unless it is told to be stubborn.
CHILD = """
import signal, sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[4])
from worker import readiness

home, name, manner = Path(sys.argv[1]), sys.argv[2], sys.argv[3]

def drain(*_):
    if manner != "stubborn":
        with (home / "drained").open("a") as file:
            file.write(name + "\\n")
        sys.exit(0)

signal.signal(signal.SIGTERM, drain)
print(name, "speaks", flush=True)
if manner == "dies":
    sys.exit("no licence for this planet")
if manner == "refused":
    print("This host is not wanted.", flush=True)
    sys.exit(3)
readiness.announce(home, name)
while True:
    time.sleep(60)
"""


def spec(home: Path, name: str = "worker", manner: str = "good", grace: float = 20) -> ChildSpec:
    command = [sys.executable, "-c", CHILD, str(home), name, manner, str(ROOT)]
    return ChildSpec(name, command, grace=timedelta(seconds=grace))


async def until(condition: Callable[[], bool]) -> None:
    """Polls until something is true; the bound only ends a test that fails."""
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.05)


async def test_a_child_that_was_refused_is_not_started_again(tmp_path: Path) -> None:
    told: list[str] = []
    async with Supervisor(tmp_path, notify=told.append) as supervisor:
        await supervisor.start(spec(tmp_path, manner="refused"))
        with pytest.raises(Unavailable, match="not wanted"):
            await supervisor.wait_ready("worker")
        assert supervisor.restarts("worker") == 0
    assert told == ["The process 'worker' has ended and is not started again: This host is not wanted."]


async def test_a_child_becomes_ready_is_logged_and_drains(tmp_path: Path) -> None:
    async with Supervisor(tmp_path) as supervisor:
        await supervisor.start(spec(tmp_path))
        await supervisor.wait_ready("worker")
        pid = supervisor.pid("worker")
        announced = readiness.ready(tmp_path, "worker")
        assert announced is not None
        assert announced.pid == pid
        assert (tmp_path / "logs" / "worker.log").read_text() == "worker speaks\n"
        with pytest.raises(Conflict):
            await supervisor.start(spec(tmp_path))
    assert (tmp_path / "drained").read_text() == "worker\n"
    assert readiness.ready(tmp_path, "worker") is None
    assert announced.find() is None


async def test_a_child_that_is_killed_is_started_again(tmp_path: Path) -> None:
    notices: list[str] = []
    async with Supervisor(tmp_path, notify=notices.append) as supervisor:
        await supervisor.start(spec(tmp_path))
        await supervisor.wait_ready("worker")
        first = supervisor.pid("worker")
        assert first is not None
        os.kill(first, signal.SIGKILL)
        await until(lambda: supervisor.restarts("worker") == 1)
        await supervisor.wait_ready("worker")
        assert supervisor.pid("worker") not in (None, first)
    assert "ended by signal 9; it is started again" in notices[0]


async def test_a_child_that_will_not_end_is_killed(tmp_path: Path) -> None:
    notices: list[str] = []
    async with Supervisor(tmp_path, notify=notices.append) as supervisor:
        await supervisor.start(spec(tmp_path, manner="stubborn", grace=0.2))
        await supervisor.wait_ready("worker")
        identity = readiness.ready(tmp_path, "worker")
        await supervisor.stop("worker")
        assert identity is not None
        assert identity.find() is None
        await supervisor.stop("worker")  # once more is fine
    assert "did not end within" in notices[0]


async def test_a_child_that_never_gets_ready_is_told_with_its_last_words(tmp_path: Path) -> None:
    async with Supervisor(tmp_path) as supervisor:
        await supervisor.start(spec(tmp_path, manner="dies"))
        with pytest.raises(Unavailable, match=r"'worker' did not get ready: no licence for this planet \(log: .*\)"):
            await supervisor.wait_ready("worker")


async def test_a_program_that_is_not_there_is_told(tmp_path: Path) -> None:
    async with Supervisor(tmp_path) as supervisor:
        await supervisor.start(ChildSpec("x", [str(tmp_path / "absent")]))
        with pytest.raises(Unavailable, match=r"absent: No such file or directory"):
            await supervisor.wait_ready("x")


async def test_a_foreign_program_is_ready_when_its_port_answers(tmp_path: Path) -> None:
    port = processes.free_port()
    command = [sys.executable, "-m", "http.server", "--bind", "127.0.0.1", str(port)]
    async with Supervisor(tmp_path) as supervisor:
        await supervisor.start(ChildSpec("page", command, port=port))
        await supervisor.wait_ready("page")


SUPERVISOR = """
import asyncio, sys
from datetime import timedelta
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from tests.worker.test_supervisor import spec
from worker.supervisor import Supervisor

async def main():
    home = Path(sys.argv[1])
    supervisor = Supervisor(home)
    await supervisor.start(spec(home))
    await supervisor.wait_ready("worker")
    print("ready", flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


async def test_children_drain_when_their_supervisor_is_killed(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", SUPERVISOR, str(tmp_path), str(ROOT)), stdout=subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        assert await process.stdout.readline() == b"ready\n"
        child = readiness.ready(tmp_path, "worker")
        assert child is not None
    finally:
        process.kill()
        await process.wait()
    await until(lambda: child.find() is None)
    assert (tmp_path / "drained").read_text() == "worker\n"


async def test_what_is_left_of_an_earlier_child_is_ended_first(tmp_path: Path) -> None:
    left = spec(tmp_path, manner="good")
    process = await asyncio.create_subprocess_exec(*left.command, stdout=subprocess.DEVNULL)
    try:
        await until(lambda: readiness.ready(tmp_path, "worker") is not None)
        identity = ProcessIdentity.of(process.pid)
        processes.write_json(tmp_path / "run" / "worker.json", {"pid": identity.pid, "created": identity.created})
        async with Supervisor(tmp_path) as supervisor:
            await supervisor.start(left)
            assert identity.find() is None
            await supervisor.wait_ready("worker")
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def test_one_of_a_kind_for_a_home(tmp_path: Path) -> None:
    with Lock(tmp_path, "up"):
        with pytest.raises(Conflict, match=rf"'certgate up' already runs on .* as process {os.getpid()}"):
            Lock(tmp_path, "up").__enter__()
        with Lock(tmp_path, "other"):
            pass
    with Lock(tmp_path, "up"):
        pass


async def test_up_starts_everything_and_stops_it_in_order(tmp_path: Path) -> None:
    loaded = load(tmp_path / "home", {})
    settings = loaded.model_copy(update={"temporal": loaded.temporal.model_copy(update={"port": 0, "ui_port": 0})})
    home = settings.home
    events: list[str] = []
    stop = asyncio.Event()
    addresses: list[Addresses] = []

    async def prepare(prepared: Settings) -> None:
        assert prepared is settings
        events.append("prepared")

    def on_ready(found: Addresses) -> None:
        assert all(readiness.ready(home, name) for name in ("manager", "gateway", "dashboard"))
        events.append("ready")
        addresses.append(found)

    def children(_: Settings, port: int | None) -> Sequence[ChildSpec]:
        assert port is not None
        return [spec(home, name) for name in ("manager", "gateway", "dashboard")]

    running = asyncio.create_task(
        up(settings, headless=False, on_ready=on_ready, prepare=prepare, stop=stop, processes_of=children)
    )
    await until(lambda: bool(addresses) or running.done())
    if running.done():
        running.result()
    assert events == ["prepared", "ready"]
    record = embedded_state.find(home)
    assert record is not None
    assert (addresses[0].temporal, addresses[0].temporal_ui) == (record.address, record.ui)
    with pytest.raises(Conflict, match="already runs"):
        await up(settings, headless=False, on_ready=on_ready, prepare=prepare, processes_of=children)

    # A signal, as a person's Ctrl-C or a service manager's stop gives it.
    os.kill(os.getpid(), signal.SIGTERM)
    await running
    assert (home / "drained").read_text().split() == ["gateway", "manager", "dashboard"]
    assert embedded_state.find(home) is None


async def test_up_that_fails_leaves_nothing_running(tmp_path: Path) -> None:
    loaded = load(tmp_path / "home", {})
    settings = loaded.model_copy(update={"temporal": loaded.temporal.model_copy(update={"port": 0, "ui_port": 0})})

    async def prepare(_: Settings) -> None:
        return None

    with pytest.raises(Unavailable, match="'gateway' did not get ready: no licence"):
        await up(
            settings,
            headless=True,
            on_ready=lambda _: pytest.fail("it was not ready"),
            prepare=prepare,
            processes_of=lambda s, _: [spec(s.home, "manager"), spec(s.home, "gateway", "dies")],
        )
    assert embedded_state.find(settings.home) is None
    assert readiness.ready(settings.home, "manager") is None
    assert (settings.home / "drained").read_text() == "manager\n"
