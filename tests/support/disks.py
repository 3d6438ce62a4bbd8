"""A disk that is full: a real small one where we may mount it, else the answer that a full one gives."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def small_disk(folder: Path, size: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], None]]:
    """Put a file system of `size` (as mount takes it) on `folder`; gives a function that fills it up.

    Where mounting is not allowed, filling makes the local host's writes fail as they do on a full disk.
    """
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=755", "tmpfs", str(folder)]
    mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0

    def full(_descriptor: int, _content: bytes) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def fill() -> None:
        if not mounted:
            monkeypatch.setattr("connectors.hosts.local._write_all", full)
            return
        with (folder / "filler").open("ab", buffering=0) as filler:
            try:
                while True:
                    filler.write(b"x" * 4096)
            except OSError:
                pass

    try:
        yield fill
    finally:
        if mounted:
            subprocess.run(["umount", str(folder)], check=True)
