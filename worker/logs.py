"""Log files of other processes.

They write to the file themselves, not through a pipe to us: their last words are then kept when we are the one who was
killed, and a server that outlives us does not die of a broken pipe.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path
from typing import BinaryIO

LIMIT = 8 * 1024 * 1024  # bytes; twice that is kept, the former half as NAME.log.1


def open_log(path: Path) -> BinaryIO:
    """Opens a log for a process to append to (mode 0600; its folder is made).

    Raises:
        OSError: the folder cannot be written.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    return open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab", buffering=0)  # noqa: PTH123


def bound(path: Path, limit: int = LIMIT) -> None:
    """Keeps a log that a process has open within its limit: it is copied to `NAME.1` and cut to nothing.

    Lines written between the copy and the cut are lost; that is the price for a writer that need not take part. Never
    fails: a full disk must not stop whoever supervises.
    """
    with contextlib.suppress(OSError):
        if path.stat().st_size <= limit:
            return
        with contextlib.suppress(OSError):
            shutil.copyfile(path, path.with_name(path.name + ".1"))
        os.truncate(path, 0)


def tail(path: Path, start: int = 0, limit: int = 16 * 1024) -> str:
    """The end of a log, at most `limit` bytes, and nothing that was written before position `start`."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            # A log that was cut meanwhile is shorter than where we began.
            file.seek(max(size - limit, start if start <= size else 0))
            return file.read(limit).decode("utf-8", errors="replace")
    except OSError:
        return ""


def size(path: Path) -> int:
    """The length of a log in bytes, 0 if there is none."""
    try:
        return path.stat().st_size
    except OSError:
        return 0
