"""Processes, known by more than their number.

A process id alone proves nothing: the kernel hands it out again. Whoever needs to find a process later writes down when
it was created, too, and looks at both.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import resource
import socket
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil

# psutil derives the time of creation from the time of boot, which moves a little when the clock is set.
CREATED_TOLERANCE = 2.0  # seconds
POLL = 0.05  # seconds between two looks at something that cannot tell us by itself


@dataclass(frozen=True)
class ProcessIdentity:
    """A process id, and when that process was created (seconds since 1970, by the system's clock)."""

    pid: int
    created: float

    @classmethod
    def of(cls, pid: int) -> ProcessIdentity:
        """The identity of a running process.

        Raises:
            psutil.NoSuchProcess: it has ended already.
        """
        return cls(pid, psutil.Process(pid).create_time())

    def find(self) -> psutil.Process | None:
        """The process, if it is still this one and still runs."""
        try:
            process = psutil.Process(self.pid)
            if process.status() == psutil.STATUS_ZOMBIE:
                return None
            if abs(process.create_time() - self.created) > CREATED_TOLERANCE:
                return None
        except psutil.Error:
            return None
        return process


def forbid_core_dumps() -> None:
    """A crash of this process, or of one it starts from now on, leaves no core dump: private keys would be in it."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Writes a record that a reader sees either whole or not at all.

    Raises:
        OSError: the folder cannot be written.
    """
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(content, file)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def read_json(path: Path) -> dict[str, Any] | None:
    """A record that `write_json` wrote; nothing if it is not there, or no JSON object (as good as not there)."""
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def read_identity(path: Path) -> ProcessIdentity | None:
    """The process that a record names by its keys `pid` and `created`."""
    content = read_json(path)
    if content is None:
        return None
    pid, created = content.get("pid"), content.get("created")
    if not isinstance(pid, int) or not isinstance(created, int | float):
        return None
    return ProcessIdentity(pid, created)


async def end(process: psutil.Process, grace: timedelta) -> bool:
    """Ends a process that need not be a child of ours: SIGTERM, `grace` to finish, then SIGKILL.

    Returns:
        True if it ended by itself within the grace period.
    """
    identity = ProcessIdentity(process.pid, process.create_time())
    with contextlib.suppress(psutil.NoSuchProcess):
        process.terminate()
    if await ended(identity, grace):
        return True
    with contextlib.suppress(psutil.NoSuchProcess):
        process.kill()
    await ended(identity, timedelta(seconds=10))
    return False


async def ended(identity: ProcessIdentity, timeout: timedelta) -> bool:
    """Waits until a process is gone; False if it is still there after `timeout`."""
    deadline = asyncio.get_running_loop().time() + timeout.total_seconds()
    while identity.find() is not None:
        if asyncio.get_running_loop().time() >= deadline:
            return False
        await asyncio.sleep(POLL)
    return True


def port_is_free(port: int, host: str = "127.0.0.1") -> bool:
    """Whether a server could listen there now. Connections of an earlier one that still linger do not count."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen(1)
        except OSError:
            return False
    return True


def free_port(host: str = "127.0.0.1") -> int:
    """A port that nobody listens on. Somebody else may take it before it is used: be ready to try another."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
    return port


def listener(port: int) -> str:
    """Who listens on a TCP port, for an error message; empty if that cannot be seen (another user's process)."""
    try:
        for connection in psutil.net_connections("tcp"):
            if (
                connection.status == psutil.CONN_LISTEN
                and connection.laddr
                and connection.laddr.port == port
                and connection.pid
            ):
                return f"{psutil.Process(connection.pid).name()}, process {connection.pid}"
    except psutil.Error:
        pass
    return ""
