"""What certgate asks of a host: files, written so that a reader sees the old or the new content and nothing between,
and commands, always as a list of arguments. An endpoint type works over every host unchanged.

Errors: `Retryable` where the host can't be reached, `Permanent` where it refuses (no permission, no space, no such
command); the message names the path or command and the host.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Protocol, runtime_checkable

from connectors.keystores.contract import SigningRequest


@dataclass(frozen=True)
class FileState:
    """What is at a path. `path` has symbolic links resolved. `owner` and `group` are numbers, `mode` is the permission
    bits only, `size` is in bytes."""

    path: str
    owner: int
    group: int
    mode: int
    size: int


@dataclass(frozen=True)
class CommandResult:
    """What a command left: exit status and output (text, at most 64 KiB each, undecodable bytes replaced)."""

    status: int
    output: str
    errors: str


@runtime_checkable
class Host(Protocol):
    """One machine."""

    @property
    def address(self) -> str:
        """Name or address under which services of this host are reached from here."""
        ...

    async def state(self, path: str) -> FileState | None:
        """What is at `path`, links followed; None if nothing is."""
        ...

    async def read(self, path: str) -> bytes:
        """The content of a regular file of at most 16 MiB; a file that is not there is `Permanent`."""
        ...

    async def glob(self, pattern: str) -> Sequence[str]:
        """The paths that an absolute shell pattern stands for, in byte order; names with a leading dot only where the
        pattern spells the dot, as in glob(7)."""
        ...

    async def replace(self, path: str, content: bytes, *, owner: int | None, group: int | None, mode: int) -> None:
        """Put `content` at `path` (links followed) in one rename. Never is more than `mode` allowed to anyone, not for
        an instant. `owner` and `group` None: whoever certgate acts as there. When it fails nothing is changed and no
        temporary file stays."""
        ...

    async def keep(self, path: str, backup: str) -> None:
        """Make `backup` a second name of the file at `path` (links followed): same inode, owner, mode and times.
        Succeeds when `backup` already is that."""
        ...

    async def put_back(self, backup: str, path: str) -> None:
        """Rename `backup` over `path` (links followed). Succeeds when it was done before (backup gone)."""
        ...

    async def delete(self, path: str) -> None:
        """Delete a file (a link itself, not what it leads to); one that is not there is success."""
        ...

    async def run(self, command: Sequence[str], *, timeout: timedelta) -> CommandResult:
        """Run a command to its end, without a shell and without our environment. A non-zero status is a result, not an
        error; a command that can't be started or outlives `timeout` (it is ended) raises."""
        ...


@runtime_checkable
class SendsSignals(Protocol):
    """A host that can signal a process without starting a command for it."""

    async def hang_up(self, process: int) -> bool:
        """Send SIGHUP to a process; False where that is not permitted (a command with more rights may do it). A process
        that is gone is `Permanent`."""
        ...


@runtime_checkable
class ReachesSockets(Protocol):
    """This machine: Unix sockets are reached without a command, and what is said to them crosses no network."""

    async def exchange(self, path: str, request: bytes, *, timeout: timedelta) -> bytes:
        """Connect to the Unix stream socket at `path`, send `request` and the end of it, and read until the other side
        ends (at most 1 MiB). Nobody there, or no answer in time, is `Retryable`; not allowed is `Permanent`."""
        ...


@runtime_checkable
class KeepsKeys(Protocol):
    """A host on which a private key can be made, used and put into another file without leaving it. Keys are PEM files,
    unencrypted."""

    async def without_keys(self, path: str) -> bytes:
        """The content of a PEM file without the private keys in it; a file that is not there is `Permanent`."""
        ...

    async def public_key(self, path: str) -> bytes | None:
        """SubjectPublicKeyInfo (DER) of the private key in the file at `path`, which may hold certificates too; None
        where there is none or it can't be read without a passphrase."""
        ...

    async def make_key(self, path: str, request: SigningRequest) -> str:
        """The CSR (PEM) of the key at `path`, which is made (mode 0600) if there is none. `request.alias` is not
        looked at; a key of another algorithm is `Permanent`."""
        ...

    async def assemble(
        self, path: str, parts: Sequence[bytes | str], *, owner: int | None, group: int | None, mode: int
    ) -> None:
        """Like `Host.replace`, with a content that is put together of bytes and of the files of this host (paths)."""
        ...


@dataclass(frozen=True)
class Script:
    """A PowerShell script with ``param(…)``. `name` (Verb-Noun) is what the same text is called as a function, for
    hosts that run only functions that somebody has put there (JEA)."""

    name: str
    text: str


@dataclass(frozen=True)
class SecretText:
    """A parameter that travels encrypted also inside the connection, as a SecureString. `repr` never shows it."""

    text: str = field(repr=False)


ScriptValue = str | int | bool | bytes | SecretText | Sequence[str]


@runtime_checkable
class RunsScripts(Protocol):
    """A machine without files and commands in the sense of `Host`: it runs scripts, such as Windows by WinRM."""

    @property
    def address(self) -> str:
        """Name or address under which services of this host are reached from here."""
        ...

    async def run_script(
        self, script: Script, parameters: Mapping[str, ScriptValue], *, timeout: timedelta
    ) -> Sequence[Mapping[str, Any]]:
        """Run a script to its end and give the objects that it puts out, each by its properties. Values get there as
        parameters only, never as a part of the text. A script that writes an error or outlives `timeout` (it is
        stopped) raises, with its own words; what it did until then stands. When this is cancelled the script has ended
        before it comes back, unless the host does not answer."""
        ...
