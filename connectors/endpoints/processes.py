"""Processes of a product on its host, looked at through files and commands: who runs, whose children, what was logged.

Products take an order to reload and say nothing more; that the processes which had the old certificate are gone is seen
here.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from connectors.errors import Permanent
from connectors.hosts.contract import FileState, Host

_TIMEOUT = timedelta(seconds=30)
LOG_EXCERPT_BYTES = 4096


async def pid_in(host: Host, pid_file: str) -> int | None:
    """The number in a pid file; None where there is no such file or no number in it."""
    if await host.state(pid_file) is None:
        return None
    content = (await host.read(pid_file)).strip()
    return int(content) if content.isdigit() else None


async def title_of(host: Host, process: int) -> str | None:
    """A process's command line with blanks between the words; None where it has ended."""
    if await host.state("/proc/self/stat") is None:
        # Not Linux.
        result = await host.run(["ps", "-o", "args=", "-p", str(process)], timeout=_TIMEOUT)
        return result.output.strip() or None
    try:
        content = await host.read(f"/proc/{process}/cmdline")
    except Permanent:
        return None  # it ended
    return content.replace(b"\0", b" ").decode("utf-8", "replace").strip() or None


async def children_of(host: Host, process: int) -> list[int]:
    """Its children; empty where it has none, has ended, or the system does not tell."""
    path = f"/proc/{process}/task/{process}/children"
    try:
        return [int(word) for word in (await host.read(path)).split()]
    except Permanent:
        return []


async def signal(host: Host, process: int, name: str) -> None:
    """Send a signal (``USR1``) by command; raises `Permanent` with the system's words where that fails."""
    # The shell has kill built in; a program of that name is not everywhere. The number is its parameter, not its text.
    result = await host.run(["sh", "-c", f'kill -{name} "$1"', "sh", str(process)], timeout=_TIMEOUT)
    if result.status != 0:
        raise Permanent(f"Process {process} can't be signaled: {result.errors.strip().rpartition(': ')[2]}.")


async def logged_since(host: Host, logs: Sequence[FileState | None]) -> str:
    """What was appended to log files since they were looked at; at most 4 KiB of each."""
    found = []
    for log in logs:
        if log is not None:
            result = await host.run(["tail", "-c", f"+{log.size + 1}", log.path], timeout=_TIMEOUT)
            found.append(result.output[-LOG_EXCERPT_BYTES:])
    return "\n".join(found)
