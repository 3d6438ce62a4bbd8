"""A host over SSH, with everything that the local host can do.

Files are looked at through SFTP and changed by small scripts, one call each, that the host carries out as a whole: they
lock, write beside, sync, rename, and clean up even when the connection is cut meanwhile. Files that only root may touch
(`sudo_files` of the settings) are handled by the short list of commands in `sudo.py`, and only those.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import asyncssh

from connectors.errors import Permanent, Retryable
from connectors.hosts.contract import CommandResult, FileState
from connectors.hosts.limits import LARGEST_FILE, LARGEST_OUTPUT
from connectors.hosts.ssh import looking, scripts
from connectors.hosts.ssh import sudo as root
from connectors.hosts.ssh.commands import Outcome, decoded, encoded
from connectors.hosts.ssh.connections import Connection, pool
from connectors.hosts.ssh.keys import Keys
from connectors.hosts.ssh.looking import NotAllowed
from connectors.hosts.ssh.root_files import LARGEST_LIST

# timeout(1) on the host ends a command only where we can't: a little later than we would.
GRACE_SECONDS = 10.0


class SshHost(Keys):
    """`connectors.hosts.contract.Host`, `SendsSignals` and `KeepsKeys` over SSH. Opening one connects to nothing."""

    # Looking.

    async def state(self, path: str) -> FileState | None:
        """What is at `path`, links followed; None if nothing is."""
        self._checked("look at", path)
        async with self._connection() as connection:
            try:
                return await looking.state(await connection.sftp(), path)
            except NotAllowed:
                pass
            except asyncssh.SFTPError as error:
                self._fail("look at", path, error.reason)
            found = await self._state_as_root(connection, "look at", path)
            return None if found is None else found[0]

    async def read(self, path: str) -> bytes:
        """The content of a regular file of at most 16 MiB."""
        self._checked("read", path)
        async with self._connection() as connection:
            try:
                content = await looking.read(await connection.sftp(), path, LARGEST_FILE)
            except NotAllowed:
                content = await self._read_as_root(connection, path)
            except Permanent as error:
                self._fail("read", path, error.message)
            except asyncssh.SFTPError as error:
                self._fail("read", path, error.reason)
        if content is None:
            self._fail("read", path, "it does not exist")
        if len(content) > LARGEST_FILE:
            self._fail("read", path, f"it is larger than {LARGEST_FILE} bytes")
        return content

    async def glob(self, pattern: str) -> Sequence[str]:
        """The paths that an absolute shell pattern stands for, in byte order."""
        self._checked("look for", pattern)
        async with self._connection() as connection:
            # A backslash is a character like any other to the other hosts, and takes away a meaning in the shell.
            given = pattern.replace("\\", "\\\\")
            done = await self._script(connection, scripts.GLOB, [given], most=LARGEST_LIST)
            if not done.output and self._settings.sudo_makes_keys:
                done = await self._pending_as_root(connection, pattern) or done
        self._succeeded(done, "look for", pattern)
        return sorted((decoded(path) for path in done.output.split(b"\0") if path), key=encoded)

    # Changing.

    async def replace(self, path: str, content: bytes, *, owner: int | None, group: int | None, mode: int) -> None:
        """Put `content` at `path` (links followed) in one rename; see the contract."""
        await self.assemble(path, [content], owner=owner, group=group, mode=mode)

    async def assemble(
        self, path: str, parts: Sequence[bytes | str], *, owner: int | None, group: int | None, mode: int
    ) -> None:
        """`replace` with a content that is put together of bytes and of files of this host."""
        self._checked("write", path)
        content = b"".join(part for part in parts if isinstance(part, bytes))
        async with self._connection() as connection:
            if self._by_root(path):
                await self._write_as_root(connection, path, parts, owner, group, mode)
                return
            arguments = [
                path,
                f"{0o777 & ~(0o600 & mode):04o}",
                "-" if owner is None else str(owner),
                "-" if group is None else str(group),
                f"{mode:04o}",
                *(f"b:{len(part)}" if isinstance(part, bytes) else f"f:{part}" for part in parts),
            ]
            self._written(await self._script(connection, scripts.WRITE, arguments, content), path)

    async def keep(self, path: str, backup: str) -> None:
        """Make `backup` a second name of the file at `path`."""
        self._checked("keep a second name of", path)
        async with self._connection() as connection:
            if self._by_root(path):
                await self._keep_as_root(connection, path, backup)
                return
            done = await self._script(connection, scripts.KEEP, [path, backup])
            if done.status == scripts.IN_THE_WAY:
                self._in_the_way(path, backup)
            self._succeeded(done, "keep a second name of", path)

    async def put_back(self, backup: str, path: str) -> None:
        """Rename `backup` over `path`; a backup that is gone is success."""
        self._checked("put back", path)
        async with self._connection() as connection:
            if self._by_root(path):
                await self._put_back_as_root(connection, backup, path)
            else:
                self._succeeded(await self._script(connection, scripts.PUT_BACK, [path, backup]), "put back", path)

    async def delete(self, path: str) -> None:
        """Delete a file; one that is not there is success."""
        self._checked("delete", path)
        async with self._connection() as connection:
            if self._by_root(path):
                await self._delete_as_root(connection, path)
            else:
                self._succeeded(await self._script(connection, scripts.DELETE, [path]), "delete", path)

    # Commands.

    async def run(self, command: Sequence[str], *, timeout: timedelta) -> CommandResult:
        """Run a command to its end; the whole process group is ended on timeout and on cancellation. One that is in
        `sudo_commands` is run by root."""
        shown = " ".join(command)
        if any("\0" in word for word in command) or not command or not command[0]:
            raise Permanent(f"Can't run {shown!a} on {self._where}: it is not a command.")
        listed = root.as_listed(self._settings.sudo_commands, command)
        given = list(command) if listed is None else ["sudo", "-n", "--", *listed]
        seconds = timeout.total_seconds()
        async with self._connection() as connection:
            started: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
            arguments = [f"{seconds + GRACE_SECONDS:.3f}", *given]
            async with connection.shell("commands") as shell:
                task = asyncio.create_task(shell.run(scripts.RUN, arguments, most=LARGEST_OUTPUT, started=started))
                try:
                    async with asyncio.timeout(seconds):
                        done = await asyncio.shield(task)
                except TimeoutError:
                    await self._end(connection, task, started)
                    words = f"{shown} did not end within {seconds:g} s on {self._where}"
                    if given[0].rpartition("/")[2] == "sudo":
                        raise Permanent(f"{words}; root runs it, and only root can stop it there.") from None
                    raise Permanent(f"{words} and was stopped.") from None
                except asyncio.CancelledError:
                    await asyncio.shield(self._end(connection, task, started))
                    raise
        first = started.result() if started.done() else b""
        if first in (b"missing", b"denied"):
            reason = "No such file or directory" if first == b"missing" else "Permission denied"
            raise Permanent(f"Can't run {given[0]} on {self._where}: {reason}.")
        if done.status is None or not started.done():
            self._cut(f"{shown} may or may not have been carried out")
        result = CommandResult(
            done.status, done.output.decode("utf-8", "replace"), done.errors.decode("utf-8", "replace")
        )
        if given[0].rpartition("/")[2] == "sudo":
            self._sudo_refused(done, shown)
        return result

    async def _end(self, connection: Connection, task: asyncio.Task[Outcome], started: asyncio.Future[bytes]) -> None:
        """End a command's process group. Where the connection does not even carry that, it is of no use any more, and
        timeout(1) ends the command on the host."""
        try:
            either: set[asyncio.Future[Any]] = {task, started}
            await asyncio.wait(either, timeout=GRACE_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            if started.done() and started.result().isdigit():
                async with asyncio.timeout(GRACE_SECONDS):
                    await self._script(connection, scripts.END, [started.result().decode()])
                    await asyncio.wait({task})
        except (TimeoutError, OSError, asyncssh.Error, Retryable):
            pass
        if not task.done():
            pool().drop(connection)
            task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    async def hang_up(self, process: int) -> bool:
        """Send SIGHUP; False where that is not permitted."""
        async with self._connection() as connection:
            done = await self._script(connection, scripts.HANG_UP, [str(process)])
        if done.status == scripts.FORBIDDEN:
            return False
        if done.status == scripts.GONE:
            raise Permanent(f"Process {process} on {self._where} has ended.")
        self._succeeded(done, "send a signal to process", str(process))
        return True
