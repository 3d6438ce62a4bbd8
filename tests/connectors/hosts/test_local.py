"""The local host: atomic files, bounded commands."""

# ruff: noqa: ASYNC221 (the loop has nothing else to do in these tests)

from __future__ import annotations

import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from connectors.errors import Permanent
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
