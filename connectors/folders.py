"""A folder of files that only their owner may see, shared by several processes that may die at any moment.

Writers hold the folder's lock, write a temporary file beside the target, flush it to the disk and rename it: a reader
sees a whole file or none. What a killed writer left is removed by the next one that holds the lock.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from connectors.errors import Permanent

LARGEST_FILE = 64 * 1024 * 1024
LOCK_NAME = ".lock"
_UNFINISHED = ".unfinished-"


class PrivateFolder:
    """The folder `path` (mode 0700, files 0600); `what` is what messages call it, such as ``keystore``.

    In a `visible` one others may see the names of files, such as in a product's folder of certificates: the files have
    mode 0600 all the same, and nobody else may write to the folder.

    Every method blocks (locks, fsync): call from a thread. Raises `Permanent` with the path where the system refuses.
    """

    def __init__(self, path: Path, what: str, *, visible: bool = False) -> None:
        self.path = path
        self._what = what
        self._forbidden, self._wanted = (0o022, "go-w") if visible else (0o077, "700")

    def prepare(self) -> None:
        """Make the folder if it is not there; refuse one that others may enter: its keys may be copied already."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.mkdir(mode=0o700, exist_ok=True)
            found = self.path.stat()
        except OSError as error:
            raise self._refused("made", self.path, error) from None
        if not stat.S_ISDIR(found.st_mode):
            raise Permanent(f"The {self._what} {self.path} is not a folder.")
        if found.st_mode & self._forbidden:
            mode = stat.S_IMODE(found.st_mode)
            told = f"is open to others (mode {mode:04o}); run chmod {self._wanted} on it"
            raise Permanent(f"The {self._what} {self.path} {told}.")
        if found.st_uid != os.geteuid():
            raise Permanent(f"The {self._what} {self.path} belongs to user {found.st_uid} and not to us.")

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Be the only writer, among threads and processes. The kernel gives the lock back when a process dies."""
        path = self.path / LOCK_NAME
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise self._refused("locked", path, error) from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            for left_over in self.path.glob(f"{_UNFINISHED}*"):
                left_over.unlink(missing_ok=True)
            yield
        finally:
            os.close(descriptor)

    def write(self, name: str, content: bytes) -> None:
        """Put `content` at `name` for good, or leave everything as it was. The lock must be held."""
        path = self.path / name
        unfinished = self.path / f"{_UNFINISHED}{secrets.token_hex(8)}"
        try:
            descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                with os.fdopen(descriptor, "wb") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
                unfinished.rename(path)
            except BaseException:
                unfinished.unlink(missing_ok=True)
                raise
            self._flush_names()
        except OSError as error:
            raise self._refused("written", path, error) from None

    def read(self, name: str, largest: int = LARGEST_FILE) -> bytes | None:
        """The content of `name`, or None; a file that others may read is refused like an open folder, and so is one
        of more than `largest` bytes."""
        path = self.path / name
        try:
            # Non-blocking, so that a FIFO that somebody put there can't stop us.
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            with os.fdopen(descriptor, "rb") as file:
                found = os.fstat(descriptor)
                mode = stat.S_IMODE(found.st_mode)
                if not stat.S_ISREG(found.st_mode):
                    raise Permanent(f"The {self._what} file {path} is not a regular file.")
                if mode & 0o077:
                    raise Permanent(f"The file {path} is open to others (mode {mode:04o}); run chmod 600 on it.")
                content = file.read(largest + 1)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._refused("read", path, error) from None
        if len(content) > largest:
            raise Permanent(f"The {self._what} file {path} is larger than {largest} bytes and was not read.")
        return content

    def names(self, suffix: str) -> list[str]:
        """The names of all finished files that end with `suffix`, sorted."""
        try:
            return sorted(p.name for p in self.path.iterdir() if p.name.endswith(suffix) and p.name[0] != ".")
        except OSError as error:
            raise self._refused("read", self.path, error) from None

    def delete(self, name: str) -> None:
        """Delete `name`; one that is not there is success. The lock must be held."""
        path = self.path / name
        try:
            path.unlink(missing_ok=True)
            self._flush_names()
        except OSError as error:
            raise self._refused("deleted", path, error) from None

    def _flush_names(self) -> None:
        descriptor = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _refused(self, act: str, path: Path, error: OSError) -> Permanent:
        return Permanent(f"The {self._what} file {path} can't be {act}: {error.strerror or type(error).__name__}.")
