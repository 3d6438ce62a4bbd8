"""The journal of installs: what a killed process would have to put back, and the lock that keeps installs apart.

One folder (mode 0700) for a gateway. For each endpoint there is one lock file, which stays, and while an install is
under way one JSON file with names, paths and fingerprints. There are never secrets in it.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from connectors.endpoints.contract import InPlace, Probe, Snapshot
from connectors.errors import Permanent

# How often another process's lock is asked for. Inside the process nobody polls.
LOCK_POLL_SECONDS = 0.02


@dataclass(frozen=True)
class Entry:
    """An install that has begun to change something: what it wants, and all that putting back needs.

    `served_before` has one fingerprint (or None) a probe. `authentication` goes with the handshakes, see
    `handshake.shake_hands`.
    """

    binding_id: str
    wanted: InPlace
    before: InPlace
    probes: Sequence[Probe]
    served_before: Sequence[str | None]
    authentication: str | None
    running: bool
    snapshot: Snapshot


_ENTRY = TypeAdapter(Entry)


class Journal:
    """The journal in one folder. One object a process: waiting inside it is first come, first served."""

    def __init__(self, folder: Path) -> None:
        """Makes the folder if need be; raises `Permanent` where that can't be."""
        self._folder = folder
        self._locks: dict[str, asyncio.Lock] = {}
        try:
            folder.mkdir(parents=True, exist_ok=True)
            folder.chmod(0o700)
        except OSError as error:
            raise Permanent(f"The journal of installs can't be kept in {folder}: {error.strerror}.") from error

    @asynccontextmanager
    async def exclusive(self, identity: str, title: str, progress: Callable[[str], None]) -> AsyncIterator[None]:
        """Hold the endpoint `identity` alone, in this process and against others on this machine. Waiting is told."""
        lock = self._locks.setdefault(identity, asyncio.Lock())
        if lock.locked():
            progress(f"waiting for another install on {title}")
        async with lock:
            descriptor = self._open_lock(identity)
            try:
                await _flock(descriptor, lambda: progress(f"waiting for an install on {title} by another process"))
                yield
            finally:
                # Closing gives the lock back; so does the kernel when this process is killed.
                os.close(descriptor)

    def leftover(self, identity: str) -> Entry | None:
        """What an install that did not come to its end left; raises `Permanent` where it can't be understood."""
        path = self._path(identity, "json")
        try:
            return _ENTRY.validate_json(path.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValidationError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is damaged"
            raise Permanent(
                f"The journal of an earlier install, {path}, can't be read ({reason}): "
                "look whether the endpoint's files are as they should be, then delete it."
            ) from error

    def record(self, identity: str, entry: Entry) -> None:
        """Write the entry so that it outlives a power cut. Raises `Permanent` and leaves nothing when it can't."""
        path = self._path(identity, "json")
        temporary = path.with_suffix(".new")
        try:
            with open(temporary, "wb", opener=_private) as file:
                file.write(_ENTRY.dump_json(entry, indent=1))
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
            self._sync()
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise Permanent(
                f"The journal of installs in {self._folder} can't be written: {error.strerror}; nothing was changed."
            ) from error

    def forget(self, identity: str) -> None:
        """The install came to its end, good or put back."""
        path = self._path(identity, "json")
        try:
            path.unlink(missing_ok=True)
            self._sync()
        except OSError as error:
            raise Permanent(f"The journal {path} can't be deleted: {error.strerror}.") from error

    def _path(self, identity: str, ending: str) -> Path:
        return self._folder / f"{hashlib.sha256(identity.encode()).hexdigest()[:32]}.{ending}"

    def _open_lock(self, identity: str) -> int:
        path = self._path(identity, "lock")
        try:
            return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise Permanent(f"The lock {path} can't be opened: {error.strerror}.") from error

    def _sync(self) -> None:
        descriptor = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


async def _flock(descriptor: int, waiting: Callable[[], None]) -> None:
    """Ask again and again: a thread that blocks in flock(2) could not be cancelled."""
    told = False
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not told:
                waiting()
                told = True
            await asyncio.sleep(LOCK_POLL_SECONDS)
        else:
            return
