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

LOCK_NAME = ".lock"
_UNFINISHED = ".unfinished-"


class PrivateFolder:
    """The folder `path` (mode 0700, files 0600); `what` is what messages call it, such as ``keystore``.

    Every method blocks (locks, fsync): call from a thread. Raises `Permanent` with the path where the system refuses.
    """

    def __init__(self, path: Path, what: str) -> None:
        self.path = path
        self._what = what

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
        if found.st_mode & 0o077:
            mode = stat.S_IMODE(found.st_mode)
            raise Permanent(f"The {self._what} {self.path} is open to others (mode {mode:04o}); run chmod 700 on it.")
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

    def read(self, name: str) -> bytes | None:
        """The content of `name`, or None; a file that others may read is refused like an open folder."""
        path = self.path / name
        try:
            with path.open("rb") as file:
                mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
                if mode & 0o077:
                    raise Permanent(f"The file {path} is open to others (mode {mode:04o}); run chmod 600 on it.")
                return file.read()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._refused("read", path, error) from None

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
