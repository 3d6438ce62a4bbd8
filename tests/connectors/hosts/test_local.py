"""The local host: atomic files, bounded commands."""

# ruff: noqa: ASYNC220, ASYNC221 (the loop has nothing else to do in these tests)

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from connectors.errors import Permanent, Retryable
from connectors.hosts.contract import Host, SendsSignals
from connectors.hosts.local import CONNECTOR
from tests.support.disks import small_disk
from tests.support.installing import hidden_files, local_host, trace

LONG = timedelta(seconds=30)
is_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def test_it_is_a_host() -> None:
    assert isinstance(local_host(), Host)
    assert isinstance(local_host(), SendsSignals)
    with pytest.raises(Permanent, match="extra"):
        CONNECTOR.configure({"extra": 1})


async def test_replace_follows_links_and_keeps_the_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    target, link = tmp_path / "real" / "key.pem", tmp_path / "link.pem"
    target.write_bytes(b"old")
    link.symlink_to("real/key.pem")
    await local_host().replace(str(link), b"new", owner=None, group=None, mode=0o640)
    assert link.is_symlink()
    assert target.read_bytes() == b"new"
    assert target.stat().st_mode & 0o7777 == 0o640
    assert hidden_files(tmp_path) == []


@is_root
async def test_replace_gives_the_owner(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    await local_host().replace(str(path), b"new", owner=65534, group=65534, mode=0o400)
    state = await local_host().state(str(path))
    assert state is not None
    assert (state.owner, state.group, state.mode, state.size) == (65534, 65534, 0o400, 3)


async def test_nobody_may_read_a_key_while_it_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    write = os.write

    def spy(descriptor: int, content: bytes) -> int:
        seen.append(os.fstat(descriptor).st_mode & 0o7777)
        return write(descriptor, content)

    monkeypatch.setattr("connectors.hosts.local.os.write", spy)
    for mode in (0o644, 0o600, 0o400):
        await local_host().replace(str(tmp_path / "key.pem"), b"secret", owner=None, group=None, mode=mode)
    assert seen == [0o600, 0o600, 0o400]


async def test_a_leftover_is_replaced_and_never_written_into(tmp_path: Path) -> None:
    path, leftover = tmp_path / "key.pem", tmp_path / ".key.pem.certgate-new"
    leftover.write_bytes(b"half of a key")
    leftover.chmod(0o644)
    with leftover.open("rb") as reader:
        await local_host().replace(str(path), b"new", owner=None, group=None, mode=0o600)
        assert reader.read() == b"half of a key"
    assert path.read_bytes() == b"new"
    assert hidden_files(tmp_path) == []


async def test_what_is_not_a_leftover_is_left(tmp_path: Path) -> None:
    path, other = tmp_path / "key.pem", tmp_path / "other"
    other.write_bytes(b"precious")
    (tmp_path / ".key.pem.certgate-new").symlink_to(other)
    with pytest.raises(Permanent, match="in the way"):
        await local_host().replace(str(path), b"new", owner=None, group=None, mode=0o600)
    assert other.read_bytes() == b"precious"
    assert not path.exists()


async def test_a_file_that_another_process_writes_is_left_alone(tmp_path: Path) -> None:
    import fcntl

    leftover = tmp_path / ".key.pem.certgate-new"
    with leftover.open("wb") as writer:
        fcntl.flock(writer, fcntl.LOCK_EX)
        with pytest.raises(Retryable, match="Another process"):
            await local_host().replace(str(tmp_path / "key.pem"), b"new", owner=None, group=None, mode=0o600)
    assert leftover.exists()


FILL = """
import asyncio, resource, signal, sys
from tests.support.installing import local_host
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (10, 10))
asyncio.run(local_host().replace(sys.argv[1], b"x" * 100, owner=None, group=None, mode=0o600))
"""


async def test_no_room_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    path.write_bytes(b"old")
    before = trace(path)
    result = subprocess.run([sys.executable, "-c", FILL, str(path)], capture_output=True, text=True, check=False)
    assert f"Permanent: Can't write {path} on this host" in result.stderr
    assert trace(path) == before
    assert hidden_files(tmp_path) == []


async def test_a_full_disk_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with small_disk(tmp_path, "16k", monkeypatch) as fill:
        path = tmp_path / "key.pem"
        path.write_bytes(b"old")
        fill()
        with pytest.raises(Permanent, match=f"{path}.*the disk is full"):
            await local_host().replace(str(path), b"x" * 65536, owner=None, group=None, mode=0o600)
        assert path.read_bytes() == b"old"
        assert hidden_files(tmp_path) == []


async def test_missing_folder_is_told(tmp_path: Path) -> None:
    path = tmp_path / "none" / "key.pem"
    with pytest.raises(Permanent, match=f"{path}.*does not exist"):
        await local_host().replace(str(path), b"new", owner=None, group=None, mode=0o600)


async def test_keep_and_put_back_restore_the_very_file(tmp_path: Path) -> None:
    host, path, backup = local_host(), tmp_path / "key.pem", tmp_path / ".kept"
    path.write_bytes(b"old")
    path.chmod(0o640)
    before = trace(path)
    await host.keep(str(path), str(backup))
    await host.keep(str(path), str(backup))
    await host.replace(str(path), b"new", owner=None, group=None, mode=0o600)
    await host.put_back(str(backup), str(path))
    await host.put_back(str(backup), str(path))
    assert trace(path) == before
    assert not backup.exists()


async def test_put_back_of_an_unchanged_file_leaves_no_second_name(tmp_path: Path) -> None:
    host, path, backup = local_host(), tmp_path / "key.pem", tmp_path / ".kept"
    path.write_bytes(b"old")
    await host.keep(str(path), str(backup))
    await host.put_back(str(backup), str(path))
    assert path.stat().st_nlink == 1
    assert not backup.exists()


async def test_keep_refuses_another_file_in_its_way(tmp_path: Path) -> None:
    path, backup = tmp_path / "key.pem", tmp_path / ".kept"
    path.write_bytes(b"old")
    backup.write_bytes(b"other")
    with pytest.raises(Permanent, match="in the way"):
        await local_host().keep(str(path), str(backup))


async def test_reading(tmp_path: Path) -> None:
    host, path, fifo = local_host(), tmp_path / "key.pem", tmp_path / "fifo"
    path.write_bytes(b"content")
    os.mkfifo(fifo)
    assert await host.read(str(path)) == b"content"
    with pytest.raises(Permanent, match="not a regular file"):
        await host.read(str(fifo))
    with pytest.raises(Permanent, match="does not exist"):
        await host.read(str(tmp_path / "none"))
    assert await host.state(str(path / "below")) is None
    (tmp_path / ".hidden.pem").touch()
    assert await host.glob(f"{tmp_path}/*.pem") == [str(path)]
    await host.delete(str(path))
    await host.delete(str(path))
    assert not path.exists()


async def test_a_command_runs_without_our_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "x")
    result = await local_host().run(["env"], timeout=LONG)
    assert "SECRET" not in result.output
    result = await local_host().run(["sh", "-c", "echo out; echo err >&2; exit 3"], timeout=LONG)
    assert (result.status, result.output, result.errors) == (3, "out\n", "err\n")


async def test_output_is_bounded() -> None:
    result = await local_host().run(["head", "-c", "300000", "/dev/zero"], timeout=LONG)
    assert (result.status, len(result.output)) == (0, 65536)


async def test_a_command_that_is_not_there() -> None:
    with pytest.raises(Permanent, match="no-such-command"):
        await local_host().run(["no-such-command"], timeout=LONG)


async def gone(pid_file: Path) -> None:
    """Wait until the process that wrote its number there has ended."""
    pid = int(pid_file.read_text())
    async with asyncio.timeout(10):
        while Path(f"/proc/{pid}").exists() and "Z" not in Path(f"/proc/{pid}/stat").read_text():
            await asyncio.sleep(0.01)


async def test_a_command_that_hangs_is_ended_with_its_children(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    script = f"sleep 600 & echo $! > {pid_file}.new; mv {pid_file}.new {pid_file}; wait"
    with pytest.raises(Permanent, match=r"did not end within 0\.5 s"):
        await local_host().run(["sh", "-c", script], timeout=timedelta(seconds=0.5))
    await gone(pid_file)


async def test_cancellation_ends_the_command(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    script = f"sleep 600 & echo $! > {pid_file}.new; mv {pid_file}.new {pid_file}; wait"
    task = asyncio.create_task(local_host().run(["sh", "-c", script], timeout=LONG))
    async with asyncio.timeout(10):
        while not pid_file.exists():
            await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await gone(pid_file)


async def test_hang_up_of_a_process_that_ended() -> None:
    process = subprocess.Popen(["sleep", "600"])
    assert await local_host().hang_up(process.pid)
    assert process.wait() == -signal.SIGHUP
    with pytest.raises(Permanent, match="has ended"):
        await local_host().hang_up(process.pid)
