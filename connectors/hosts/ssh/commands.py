"""Commands on a host over SSH: shells that stay open and carry out one script after the other.

A channel for each command would cost round trips, a process of sshd and, with it, whatever the account's start-up
files do: a second with some. So the login shell is started once a channel, and is replaced at once by ``/bin/sh`` with
an empty environment (PATH, HOME and the locale apart) that reads requests::

    MARK SCRIPT-BYTES CONTENT-BYTES <line end> SCRIPT CONTENT

and answers each on standard output and standard error, between lines with the mark, which is random and new each time.
The script runs in a subshell with the content as standard input, so that keys are never in arguments; its own arguments
are quoted, never read as code. A connection that is cut shows in the script as an early end of its input.
"""

from __future__ import annotations

import asyncio
import secrets
import shlex
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import asyncssh

_LOOP = """
for tool in head cat; do command -v "$tool" >/dev/null || { echo "there is no $tool in $PATH"; exit 1; }; done
printf '%s\\n' "$1"
while read -r mark size content; do
    text=$(head -c "$size"; echo .)
    printf '%s\\n' "$mark"
    printf '%s\\n' "$mark" >&2
    head -c "$content" | { (eval "${text%.}"); status=$?; cat >/dev/null; exit "$status"; }
    printf '\\n%s %s\\n' "$mark" "$?"
    printf '\\n%s\\n' "$mark" >&2
done
"""
READ_BYTES = 65536
LONGEST_GREETING = 65536


@dataclass(frozen=True)
class Outcome:
    """What a script left. `status` is None when the connection was cut before it was told."""

    status: int | None
    output: bytes
    errors: bytes

    @property
    def words(self) -> str:
        """What it said of errors, as text."""
        return self.errors.decode("utf-8", "replace").strip()


class NoShell(Exception):
    """The account runs no commands; the words are what it says instead."""


def encoded(path: str) -> bytes:
    """A path as the host has it: bytes that are not UTF-8 are kept, as `os.fsencode` keeps them."""
    return path.encode("utf-8", "surrogateescape")


def decoded(path: bytes) -> str:
    """The reverse of `encoded`."""
    return path.decode("utf-8", "surrogateescape")


def line_of(command: Sequence[str]) -> str:
    """A command inside a script: no word of it is more to the shell than itself (POSIX, "Single-Quotes")."""
    return " ".join(shlex.quote(word) for word in command)


class Shell:
    """One channel with a shell that waits for scripts, one at a time."""

    def __init__(self, process: asyncssh.SSHClientProcess[bytes]) -> None:
        self._process = process

    @classmethod
    async def open(cls, ssh: asyncssh.SSHClientConnection, search_path: str) -> Shell:
        """Start it. What start-up files print before is skipped. Raises `NoShell`, and what asyncssh raises."""
        greeting = secrets.token_hex(16)
        command = f'exec env -i {line_of([f"PATH={search_path}"])} LC_ALL=C HOME="$HOME" /bin/sh -c '
        process: asyncssh.SSHClientProcess[bytes] = await ssh.create_process(
            command + line_of([_LOOP, "sh", greeting]), encoding=None
        )
        said = b""
        while f"{greeting}\n".encode() not in said:
            part = await process.stdout.read(READ_BYTES)
            said += part
            if not part or len(said) > LONGEST_GREETING:
                said += b"" if part else await process.stderr.read(READ_BYTES)
                process.close()
                if ssh.is_closed():
                    raise asyncssh.ConnectionLost("Connection lost")
                raise NoShell(" ".join(said.decode("utf-8", "replace").split())[:200])
        return cls(process)

    async def run(
        self,
        script: str,
        arguments: Sequence[str] = (),
        content: bytes = b"",
        *,
        most: int,
        started: asyncio.Future[bytes] | None = None,
    ) -> Outcome:
        """Run one script to its end; keeps `most` bytes of each output. With `started` the first line of the output is
        not part of it but is set there as soon as it comes. Given up half-way, the shell is of no use any more."""
        mark = secrets.token_hex(16)
        text = encoded(f"set -- {line_of(arguments)}\n{script}" if arguments else script)
        request = f"{mark} {len(text)} {len(content)}\n".encode() + text + content
        output, errors, _ = await asyncio.gather(
            _Answer(mark, most, started).read(self._process.stdout),
            _Answer(mark, most).read(self._process.stderr),
            self._send(request),
        )
        return Outcome(output.status, output.kept, errors.kept)

    async def _send(self, request: bytes) -> None:
        # A channel that was closed shows in its output.
        with suppress(OSError, asyncssh.Error):
            self._process.stdin.write(request)
            await self._process.stdin.drain()

    @property
    def usable(self) -> bool:
        """Whether its channel is open."""
        return not self._process.is_closing()

    def close(self) -> None:
        """Close the channel; a script that runs comes to its end by itself."""
        self._process.close()


class _Answer:
    """One stream of an answer: what comes between the lines with the mark, and the status in the last one. What comes
    before the first one was written by something that an earlier command left running."""

    def __init__(self, mark: str, most: int, started: asyncio.Future[bytes] | None = None) -> None:
        self.status: int | None = None
        self.kept = b""
        self._begin, self._end = f"{mark}\n".encode(), f"\n{mark}".encode()
        self._most = most
        self._started = started
        self._begun = False
        self._rest = bytearray()

    async def read(self, reader: asyncssh.SSHReader[bytes]) -> _Answer:
        """Read to the last mark, or to the end of a channel that was cut."""
        while part := await reader.read(READ_BYTES):
            self._rest += part
            if not self._begun:
                at = self._rest.find(self._begin)
                del self._rest[: at + len(self._begin) if at >= 0 else max(0, len(self._rest) - len(self._begin))]
                self._begun = at >= 0
            if not self._begun:
                continue
            self._tell_start()
            at = self._rest.find(self._end)
            if at < 0:
                self._keep(len(self._rest) - len(self._end))
            elif (end := self._rest.find(b"\n", at + 1)) >= 0:
                words = bytes(self._rest[at + len(self._end) : end]).split()
                self.status = int(words[0]) if words else 0
                self._keep(at)
                return self
        return self

    def _tell_start(self) -> None:
        """Take the first line out, as soon as it is there: it is never an empty one."""
        if self._started is not None and not self._started.done() and not self._rest.startswith(b"\n"):
            first, found, rest = bytes(self._rest).partition(b"\n")
            if found:
                self._started.set_result(first)
                self._rest = bytearray(rest)

    def _keep(self, size: int) -> None:
        """Move the first bytes of the rest over to what is kept, or drop them where enough is."""
        if size <= 0:
            return
        self.kept += bytes(self._rest[: min(size, self._most - len(self.kept))])
        del self._rest[:size]
