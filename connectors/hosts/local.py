"""The machine that the gateway itself runs on.

Files are handled directly in the event loop: they are small (a certificate, a key, a configuration), and a thread would
cost more than the call.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import glob
import os
import re
import secrets
import signal
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_private_key,
    load_pem_private_key,
)
from pydantic import BaseModel, ConfigDict, Field

from connectors.errors import Permanent, Retryable
from connectors.hosts.contract import CommandResult, FileState
from connectors.hosts.limits import LARGEST_FILE, LARGEST_OUTPUT, SEARCH_PATH
from connectors.keystores import keys
from connectors.keystores.contract import SigningRequest
from connectors.registry import ConnectorType, Surroundings

LARGEST_ANSWER = 1024 * 1024
_PRIVATE_KEY = re.compile(
    rb"-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----.*?(?:-----END [A-Z0-9 ]*PRIVATE KEY-----[ \t]*\r?\n?|\Z)", re.DOTALL
)
# What a new file must take over from the old one beside owner and mode: access lists and security labels.
KEPT_ATTRIBUTES = ("system.posix_acl_access", "security.selinux")


class LocalSettings(BaseModel):
    """Settings of the local host."""

    model_config = ConfigDict(extra="forbid")

    address: str = Field(
        default="127.0.0.1", description="Where this machine's services are reached, for listeners on every address."
    )
    search_path: str = Field(
        default=SEARCH_PATH,
        description="PATH of the commands that are run; the gateway's own PATH is not used.",
    )


class LocalHost:
    """`connectors.hosts.contract.Host` for this machine."""

    def __init__(self, settings: LocalSettings) -> None:
        self._settings = settings

    @property
    def address(self) -> str:
        """Address under which this machine's services are reached."""
        return self._settings.address

    async def state(self, path: str) -> FileState | None:
        """What is at `path`, links followed; None if nothing is."""
        with _told("look at", path):
            try:
                found = os.stat(path)  # noqa: PTH116
            except (FileNotFoundError, NotADirectoryError):
                return None
            return FileState(
                path=os.path.realpath(path),
                owner=found.st_uid,
                group=found.st_gid,
                mode=stat.S_IMODE(found.st_mode),
                size=found.st_size,
            )

    async def read(self, path: str) -> bytes:
        """The content of a regular file of at most 16 MiB."""
        with _told("read", path):
            # Non-blocking, so that a FIFO that somebody put there can't stop the gateway.
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            with os.fdopen(descriptor, "rb") as file:
                if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                    raise Permanent(f"Can't read {path} on this host: it is not a regular file.")
                content = file.read(LARGEST_FILE + 1)
        if len(content) > LARGEST_FILE:
            raise Permanent(f"Can't read {path} on this host: it is larger than {LARGEST_FILE} bytes.")
        return content

    async def glob(self, pattern: str) -> Sequence[str]:
        """The paths that an absolute shell pattern stands for, in byte order."""
        return sorted(glob.glob(pattern), key=os.fsencode)  # noqa: PTH207

    async def replace(self, path: str, content: bytes, *, owner: int | None, group: int | None, mode: int) -> None:
        """Put `content` at `path` (links followed) in one rename; see the contract."""
        target = Path(os.path.realpath(path))
        temporary = target.with_name(f".{target.name}.certgate-new")
        with _told("write", str(target)):
            descriptor = _fresh(temporary, 0o600 & mode)
            try:
                _write_all(descriptor, content)
                _take_over_attributes(target, descriptor)
                _give(descriptor, owner, group)
                os.fchmod(descriptor, mode)
                os.fsync(descriptor)
                temporary.replace(target)
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise
            finally:
                os.close(descriptor)
            _sync_folder(target)

    async def assemble(
        self, path: str, parts: Sequence[bytes | str], *, owner: int | None, group: int | None, mode: int
    ) -> None:
        """`replace` with a content that is put together of bytes and of files of this host."""
        content = [part if isinstance(part, bytes) else await self.read(part) for part in parts]
        await self.replace(path, b"".join(content), owner=owner, group=group, mode=mode)

    async def keep(self, path: str, backup: str) -> None:
        """Make `backup` a second name of the file at `path`."""
        target = os.path.realpath(path)
        with _told("keep a second name of", target):
            try:
                Path(backup).hardlink_to(target)
            except FileExistsError:
                if not os.path.samestat(os.lstat(backup), os.lstat(target)):
                    raise Permanent(f"Can't keep {target}: {backup} is in the way; look at it and remove it.") from None
            _sync_folder(Path(backup))

    async def put_back(self, backup: str, path: str) -> None:
        """Rename `backup` over `path`; a backup that is gone is success."""
        target = os.path.realpath(path)
        with _told("put back", target), suppress(FileNotFoundError):
            Path(backup).replace(target)
            # rename(2) leaves both names where they are the same file already.
            Path(backup).unlink(missing_ok=True)
            _sync_folder(Path(target))

    async def delete(self, path: str) -> None:
        """Delete a file; one that is not there is success."""
        with _told("delete", path), suppress(FileNotFoundError, NotADirectoryError):
            Path(path).unlink()
            _sync_folder(Path(path))

    async def without_keys(self, path: str) -> bytes:
        """The content of a PEM file without the private keys in it."""
        return _PRIVATE_KEY.sub(b"", await self.read(path))

    async def public_key(self, path: str) -> bytes | None:
        """SubjectPublicKeyInfo (DER) of the private key in the file; None where none can be read."""
        key = _key_in(await self.read(path))
        return None if key is None else key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)

    async def make_key(self, path: str, request: SigningRequest) -> str:
        """The CSR of the key at `path`, which is made (mode 0600) if there is none."""
        if await self.state(path) is None:
            key = await asyncio.to_thread(keys.generate, request.algorithm)
            await self._create(path, keys.pkcs8_pem(key))
        found = _key_in(await self.read(path))
        if found is None:
            raise Permanent(f"Can't use the key at {path} on this host: it holds no private key that can be read.")
        keys.require_algorithm(request.alias, found, request.algorithm)
        return keys.signing_request(found, request)

    async def _create(self, path: str, content: bytes) -> None:
        """A new file with mode 0600, whole from its first moment; one that came meanwhile is left."""
        new = f"{path}.{secrets.token_hex(6)}"
        await self.replace(new, content, owner=None, group=None, mode=0o600)
        with _told("make a key at", path):
            try:
                with suppress(FileExistsError):
                    Path(path).hardlink_to(new)
            finally:
                Path(new).unlink()
            _sync_folder(Path(path))

    async def hang_up(self, process: int) -> bool:
        """Send SIGHUP; False where that is not permitted."""
        try:
            os.kill(process, signal.SIGHUP)
        except PermissionError:
            return False
        except ProcessLookupError:
            raise Permanent(f"Process {process} on this host has ended.") from None
        return True

    async def exchange(self, path: str, request: bytes, *, timeout: timedelta) -> bytes:
        """Say something to a Unix socket and read what it answers; see `ReachesSockets`."""
        try:
            async with asyncio.timeout(timeout.total_seconds()):
                reader, writer = await asyncio.open_unix_connection(path)
                try:
                    writer.write(request)
                    writer.write_eof()
                    return await _whole(reader)
                finally:
                    writer.close()
        except TimeoutError:
            raise Retryable(f"The socket {path} did not answer within {timeout.total_seconds():g} s.") from None
        except PermissionError:
            raise Permanent(f"The socket {path} can't be reached: certgate has no permission there.") from None
        except OSError as error:
            raise Retryable(f"The socket {path} can't be reached: {os.strerror(error.errno or 0)}.") from error

    async def run(self, command: Sequence[str], *, timeout: timedelta) -> CommandResult:
        """Run a command to its end in a process group of its own, which is killed on timeout and on cancellation."""
        starting = asyncio.ensure_future(
            asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env={"PATH": self._settings.search_path, "LC_ALL": "C"},
                cwd="/",
                start_new_session=True,
            )
        )
        try:
            # A start that is canceled half-way would end the command and leave its children running.
            process = await asyncio.shield(starting)
        except asyncio.CancelledError:
            with suppress(OSError):
                await _end(await starting)
            raise
        except OSError as error:
            raise Permanent(f"Can't run {command[0]} on this host: {error.strerror}.") from error
        try:
            async with asyncio.timeout(timeout.total_seconds()):
                output, errors, status = await asyncio.gather(
                    _bounded(process.stdout), _bounded(process.stderr), process.wait()
                )
        except TimeoutError:
            raise Permanent(
                f"{' '.join(command)} did not end within {timeout.total_seconds():g} s on this host and was stopped."
            ) from None
        finally:
            if process.returncode is None:
                await _end(process)
        return CommandResult(status=status, output=output, errors=errors)


async def _end(process: asyncio.subprocess.Process) -> None:
    """End a command with its whole group: one started through sudo has children of its own."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    await process.wait()


async def _whole(stream: asyncio.StreamReader) -> bytes:
    """All that comes until the end, at most 1 MiB."""
    kept = bytearray()
    while (chunk := await stream.read(LARGEST_OUTPUT)) and len(kept) < LARGEST_ANSWER:
        kept += chunk
    return bytes(kept)


async def _bounded(stream: asyncio.StreamReader | None) -> str:
    """The first 64 KiB as text; the rest is read and dropped, so that the command does not block on a full pipe."""
    assert stream is not None
    kept = bytearray()
    while chunk := await stream.read(LARGEST_OUTPUT):
        kept += chunk[: LARGEST_OUTPUT - len(kept)]
    return kept.decode("utf-8", "replace")


def _key_in(content: bytes) -> keys.PrivateKey | None:
    """The private key of a PEM or DER file that may hold certificates too; None where there is none that can be read
    without a passphrase."""
    found = _PRIVATE_KEY.search(content)
    try:
        if found is not None:
            key = load_pem_private_key(found[0], password=None)
        else:
            key = load_der_private_key(content, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return None
    return key if isinstance(key, keys.PrivateKey) else None


@contextmanager
def _told(deed: str, path: str) -> Iterator[None]:
    """Turn the system's errors into one sentence that names the path."""
    try:
        yield
    except OSError as error:
        reasons = {
            errno.ENOENT: "it does not exist",
            errno.ENOSPC: "the disk is full",
            errno.EDQUOT: "the disk quota is used up",
            errno.EROFS: "the file system is read-only",
            errno.EACCES: "certgate has no permission there",
            errno.EPERM: "certgate has no permission to give it that owner, or the system protects it",
        }
        reason = reasons.get(error.errno or 0, error.strerror or str(error))
        raise Permanent(f"Can't {deed} {path} on this host: {reason}.") from error


def _fresh(temporary: Path, mode: int) -> int:
    """A new empty file that nobody else has open, locked as long as it is open.

    What a killed attempt left under the name is removed, never written into: it may have another owner by now. The lock
    tells a leftover from another process that is at work.
    """
    with suppress(FileNotFoundError):
        if not stat.S_ISREG(temporary.lstat().st_mode):
            raise Permanent(f"Can't write there: {temporary} is in the way and is not a regular file; remove it.")
        leftover = os.open(temporary, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            _lock(leftover, temporary)
            temporary.unlink(missing_ok=True)
        finally:
            os.close(leftover)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    try:
        _lock(descriptor, temporary)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _lock(descriptor: int, path: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise Retryable(f"Another process is writing {path} at this moment.") from None


def _write_all(descriptor: int, content: bytes) -> None:
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _give(descriptor: int, owner: int | None, group: int | None) -> None:
    """Change the owner only where it differs: an unprivileged gateway may then still write its own files."""
    found = os.fstat(descriptor)
    wanted_owner = found.st_uid if owner is None else owner
    wanted_group = found.st_gid if group is None else group
    if (wanted_owner, wanted_group) != (found.st_uid, found.st_gid):
        os.fchown(descriptor, wanted_owner, wanted_group)


def _take_over_attributes(old: Path, descriptor: int) -> None:
    """Copy access lists and labels; a file system that has none is fine, one that refuses is an error."""
    if not hasattr(os, "listxattr"):  # Linux only
        return
    try:
        names = os.listxattr(old)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTSUP):
            return
        raise
    for name in KEPT_ATTRIBUTES:
        if name in names:
            value = os.getxattr(old, name)
            if name not in os.listxattr(descriptor) or os.getxattr(descriptor, name) != value:
                os.setxattr(descriptor, name, value)


def _sync_folder(path: Path) -> None:
    """Make a rename, link or deletion in the folder of `path` outlive a power cut."""
    descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _open(settings: LocalSettings, _: Surroundings) -> LocalHost:
    return LocalHost(settings)


CONNECTOR: ConnectorType[LocalSettings, LocalHost] = ConnectorType(
    name="local", title="This machine", settings=LocalSettings, open=_open
)
