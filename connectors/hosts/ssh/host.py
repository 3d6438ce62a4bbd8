"""A host over SSH, with everything that the local host can do.

Files are looked at through SFTP and changed by small scripts, one call each, that the host carries out as a whole: they
lock, write beside, sync, rename, and clean up even when the connection is cut meanwhile. Files that only root may touch
(`sudo_files` of the settings) are handled by the short list of commands in `sudo.py`, and only those.
"""

from __future__ import annotations

import asyncio
import posixpath
import re
import stat
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, NoReturn

import asyncssh

from connectors.errors import Permanent, Retryable
from connectors.hosts.contract import CommandResult, FileState
from connectors.hosts.limits import LARGEST_FILE, LARGEST_OUTPUT
from connectors.hosts.ssh import looking, scripts
from connectors.hosts.ssh import sudo as root
from connectors.hosts.ssh.commands import NoShell, Outcome, decoded, encoded, line_of
from connectors.hosts.ssh.connections import Connection, Secret, pool
from connectors.hosts.ssh.looking import NotAllowed
from connectors.hosts.ssh.settings import SshSettings
from connectors.keystores.contract import SigningRequest
from connectors.keystores.signing import Unsigned
from model.keys import KeyAlgorithm

# timeout(1) on the host ends a command only where we can't: a little later than we would.
GRACE_SECONDS = 10.0
KEY_SECONDS = 120.0
LARGEST_LIST = 4 * 1024 * 1024
NO_PERMISSION = "certgate has no permission there"
_REASONS = (
    (r"no such file|not a directory|nonexistent", "it does not exist"),
    (r"no space left", "the disk is full"),
    (r"quota exceeded", "the disk quota is used up"),
    (r"read-only file system", "the file system is read-only"),
    (r"permission denied", NO_PERMISSION),
    (
        r"operation not permitted",
        "certgate has no permission to give it that owner, or the system protects it",
    ),
    (r"invalid cross-device link", "both names have to be in one file system"),
)
_SUDO_REFUSES = re.compile(
    r"^sudo: (a password is required|a terminal is required|.*no tty present|.*must have a tty|.*not allowed|"
    r"account validation failure)|^Sorry, user .* is not allowed|is not in the sudoers file",
    re.MULTILINE,
)


class SshHost:
    """`connectors.hosts.contract.Host`, `SendsSignals` and `KeepsKeys` over SSH. Opening one connects to nothing."""

    def __init__(self, settings: SshSettings, secret: Secret) -> None:
        self._settings = settings
        self._secret = secret

    @property
    def address(self) -> str:
        """Where the host's services are reached."""
        return self._settings.service_address or self._settings.address

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

    async def _state_as_root(self, connection: Connection, deed: str, path: str) -> tuple[FileState, int] | None:
        """The state of one of `sudo_files` and its kind (as in st_mode); the account itself may not look."""
        file = self._root_file(deed, path)
        done = await self._script(connection, line_of(root.AS_ROOT.state(path)), [])
        if done.status != 0:
            self._sudo_refused(done, " ".join(root.AS_ROOT.state(path)))
            if re.search("no such file|not a directory", done.words, re.IGNORECASE):
                return None
            self._fail(deed, path, done.words)
        owner, group, mode, size, _, _ = done.output.decode().strip().split("_")
        resolved = path
        if path == file:
            real = await self._script(connection, line_of(root.AS_ROOT.real(path)), [])
            self._succeeded(real, deed, path)
            resolved = decoded(real.output.rstrip(b"\0"))
        return (
            FileState(resolved, int(owner), int(group), stat.S_IMODE(int(mode, 16)), int(size)),
            stat.S_IFMT(int(mode, 16)),
        )

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

    async def _read_as_root(self, connection: Connection, path: str) -> bytes | None:
        found = await self._state_as_root(connection, "read", path)
        if found is None:
            return None
        if found[1] != stat.S_IFREG:
            self._fail("read", path, "it is not a regular file")
        done = await self._script(connection, line_of(root.AS_ROOT.content(path)), [], most=LARGEST_FILE + 1)
        self._succeeded(done, "read", path)
        return done.output

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

    async def _pending_as_root(self, connection: Connection, pattern: str) -> Outcome | None:
        for file in self._settings.sudo_files:
            folder, name = posixpath.split(file)
            if pattern == re.sub(r"([*?\[])", r"[\1]", f"{folder}/.{name}.certgate-key-") + "*":
                return await self._script(
                    connection, line_of(root.AS_ROOT.pending(folder, name)), [], most=LARGEST_LIST
                )
        return None

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

    async def _write_as_root(
        self,
        connection: Connection,
        path: str,
        parts: Sequence[bytes | str],
        owner: int | None,
        group: int | None,
        mode: int,
    ) -> None:
        before = await self._state_as_root(connection, "write", path)
        target = before[0].path if before else path
        self._root_file("write", target)
        # What root owns and nobody asked for otherwise stays root's.
        wanted = (owner or 0, group or 0, mode)
        like = before is not None and (before[0].owner, before[0].group, before[0].mode) == wanted
        give = None if like or wanted[:2] == (0, 0) else (f"{wanted[0]:010d}", f"{wanted[1]:010d}")
        source, size = [], 0
        for part in parts:
            if isinstance(part, bytes):
                source.append(f"head -c {len(part)}")
                size += len(part)
            else:
                source.append(line_of(root.AS_ROOT.content(part)))
                size += await self._size_as_root(connection, part)
        content = b"".join(part for part in parts if isinstance(part, bytes))
        script = scripts.write_as_root(
            root.AS_ROOT,
            target,
            root.temporary_of(target),
            mode=f"{mode:04o}",
            like=like,
            owner=give,
            source="; ".join(source) or ":",
            size=size,
        )
        done = await self._script(connection, script, [], content)
        self._sudo_refused(done, f"what writes {target}")
        self._written(done, target)

    async def _size_as_root(self, connection: Connection, path: str) -> int:
        found = await self._state_as_root(connection, "read", path)
        if found is None:
            self._fail("read", path, "it does not exist")
        return found[0].size

    def _written(self, done: Outcome, path: str) -> None:
        if done.status == scripts.IN_THE_WAY:
            temporary = done.output.decode("utf-8", "replace")
            raise Permanent(
                f"Can't write there: {temporary} is in the way on {self._where} and is not a regular file; remove it."
            )
        if done.status == scripts.BUSY:
            raise Retryable(f"Another process is writing {path} on {self._where} at this moment.")
        if done.status == scripts.CUT_OFF:
            raise Retryable(f"The content for {path} did not get to {self._where} as a whole; nothing was changed.")
        self._succeeded(done, "write", path)

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

    async def _resolved_as_root(self, connection: Connection, deed: str, path: str) -> str:
        """The file that one of `sudo_files` leads to, which has to be one of them too."""
        found = await self._state_as_root(connection, deed, path)
        target = found[0].path if found else path
        self._root_file(deed, target)
        return target

    async def _keep_as_root(self, connection: Connection, path: str, backup: str) -> None:
        path = await self._resolved_as_root(connection, "keep a second name of", path)
        state, link, sync = (
            line_of(command)
            for command in (
                root.AS_ROOT.state(backup),
                root.AS_ROOT.link(path, backup),
                root.AS_ROOT.sync(posixpath.dirname(path)),
            )
        )
        original = line_of(root.AS_ROOT.state(path))
        done = await self._script(
            connection,
            f"there=$({original}) || exit 1\n"
            f'if found=$({state} 2>/dev/null); then [ "$found" = "$there" ] || exit 3; else {link} || exit 1; fi\n'
            f"{sync}",
            [],
        )
        if done.status == scripts.IN_THE_WAY:
            self._in_the_way(path, backup)
        self._sudo_refused(done, f"what keeps {path}")
        self._succeeded(done, "keep a second name of", path)

    def _in_the_way(self, path: str, backup: str) -> NoReturn:
        raise Permanent(f"Can't keep {path} on {self._where}: {backup} is in the way; look at it and remove it.")

    async def put_back(self, backup: str, path: str) -> None:
        """Rename `backup` over `path`; a backup that is gone is success."""
        self._checked("put back", path)
        async with self._connection() as connection:
            if not self._by_root(path):
                self._succeeded(await self._script(connection, scripts.PUT_BACK, [path, backup]), "put back", path)
                return
            path = await self._resolved_as_root(connection, "put back", path)
            state, same, move, remove, sync = (
                line_of(command)
                for command in (
                    root.AS_ROOT.state(backup),
                    root.AS_ROOT.state(path),
                    root.AS_ROOT.move(backup, path),
                    root.AS_ROOT.remove(backup),
                    root.AS_ROOT.sync(posixpath.dirname(path)),
                )
            )
            done = await self._script(
                connection,
                f"there=$({state} 2>&1) || "
                'case $there in *"No such file"*) exit 0;; *) echo "$there" >&2; exit 1;; esac\n'
                f'if [ "$there" = "$({same} 2>/dev/null)" ]; then {remove} || exit 1; else {move} || exit 1; fi\n'
                f"{sync}",
                [],
            )
            self._sudo_refused(done, f"what puts {path} back")
            self._succeeded(done, "put back", path)

    async def delete(self, path: str) -> None:
        """Delete a file; one that is not there is success."""
        self._checked("delete", path)
        async with self._connection() as connection:
            if self._by_root(path):
                remove, sync = root.AS_ROOT.remove(path), root.AS_ROOT.sync(posixpath.dirname(path))
                script = f"{line_of(remove)} || exit 1\n{line_of(sync)}"
                done = await self._script(connection, script, [])
                self._sudo_refused(done, " ".join(root.AS_ROOT.remove(path)))
            else:
                done = await self._script(connection, scripts.DELETE, [path])
            self._succeeded(done, "delete", path)

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

    # Keys.

    async def without_keys(self, path: str) -> bytes:
        """The content of a PEM file without the private keys in it."""
        self._checked("read", path)
        async with self._connection() as connection:
            done = await self._script(connection, scripts.WITHOUT_KEYS, [path], most=LARGEST_FILE + 1)
            if done.status != 0 and self._covered(path) and "ermission denied" in done.words:
                await self._state_as_root(connection, "read", path)
                script = f"{line_of(root.AS_ROOT.content(path))} | {scripts.STRIP_KEYS}"
                done = await self._script(connection, script, [], most=LARGEST_FILE + 1)
                if done.errors:
                    self._sudo_refused(done, " ".join(root.AS_ROOT.content(path)))
                    self._fail("read", path, done.words)
            if done.status == scripts.IN_THE_WAY:
                self._fail("read", path, "it is not a regular file")
            self._succeeded(done, "read", path)
        if len(done.output) > LARGEST_FILE:
            self._fail("read", path, f"it is larger than {LARGEST_FILE} bytes")
        return done.output

    async def public_key(self, path: str) -> bytes | None:
        """SubjectPublicKeyInfo (DER) of the private key in the file, made by openssl there."""
        self._checked("read", path)
        async with self._connection() as connection:
            return await self._public_key(connection, path)

    async def _public_key(self, connection: Connection, path: str) -> bytes | None:
        done = await self._script(connection, line_of(root.AS_USER.public_key(path)), [])
        if done.status != 0 and self._covered(path) and re.search("permission denied", done.words, re.IGNORECASE):
            done = await self._script(connection, line_of(root.AS_ROOT.public_key(path)), [])
            self._sudo_refused(done, " ".join(root.AS_ROOT.public_key(path)))
        if done.status == 127:
            self._no_openssl()
        if done.status != 0 and re.search("permission denied", done.words, re.IGNORECASE):
            self._fail("read", path, NO_PERMISSION)
        return done.output if done.status == 0 and done.output else None

    async def make_key(self, path: str, request: SigningRequest) -> str:
        """The CSR of the key at `path`, which is made by openssl there if there is none; the key stays there."""
        self._checked("make a key at", path)
        async with self._connection() as connection:
            file = self._settings.sudo_makes_keys and self._covered(path)
            who = root.AS_ROOT if file else root.AS_USER
            new = root.temporary_of(file or path)
            script = scripts.make_key(who.generate(new, request.algorithm), who, path, new)
            done = await self._script(connection, script, [], seconds=KEY_SECONDS)
            if file:
                self._sudo_refused(done, f"what makes a key at {path}")
            if done.status == 127:
                self._no_openssl()
            self._written(done, path)
            public = await self._public_key(connection, path)
            if public is None:
                self._fail("use the key at", path, "openssl finds no private key in it that it can read")
            unsigned = Unsigned(public, request)
            return unsigned.signed(
                await self._signature(connection, who, path, request.algorithm, new, unsigned.message)
            )

    async def _signature(
        self, connection: Connection, who: root.Root, path: str, algorithm: KeyAlgorithm, scratch: str, message: bytes
    ) -> bytes:
        sign = who.sign(path, algorithm, scratch)
        if algorithm is KeyAlgorithm.ED25519:
            script = scripts.sign_from_file(who, sign, scratch, len(message))
        else:
            script = line_of(sign)
        done = await self._script(connection, script, [], message)
        if who.prefix:
            self._sudo_refused(done, f"what signs with {path}")
        self._succeeded(done, "sign with", path)
        return done.output

    def _no_openssl(self) -> NoReturn:
        raise Permanent(f"Can't run openssl on {self._where}: no such command; keys that stay there need it.")

    # What all share.

    @property
    def _where(self) -> str:
        return f"{self._settings.address}"

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[Connection]:
        """A connection, and what goes wrong with it in our words."""
        async with pool().lease(self._settings, self._secret) as connection:
            try:
                yield connection
            except (asyncssh.ConnectionLost, asyncssh.SFTPConnectionLost, asyncssh.SFTPNoConnection, OSError) as error:
                pool().drop(connection)
                self._cut("ask again", error)
            except NoShell as error:
                raise Permanent(f"The account {self._settings.username} at {self._where} runs no commands.") from error
            except asyncssh.ChannelOpenError as error:
                pool().drop(connection)
                raise Retryable(f"{self._where} opens no session any more: {error.reason.rstrip('.')}.") from error
            except asyncssh.Error as error:
                pool().drop(connection)
                raise Retryable(f"SSH with {self._where} failed: {str(error).rstrip('.')}.") from error

    async def _script(
        self,
        connection: Connection,
        script: str,
        arguments: Sequence[str],
        content: bytes = b"",
        *,
        most: int = LARGEST_OUTPUT,
        seconds: float | None = None,
    ) -> Outcome:
        """Run a script on the host; one that does not come to its end is given up with the connection."""
        limit = seconds or self._settings.answer_timeout_seconds
        try:
            async with connection.shell("files") as shell, asyncio.timeout(limit):
                done = await shell.run(script, arguments, content, most=most)
                if done.status is None:
                    shell.close()
        except TimeoutError:
            pool().drop(connection)
            raise Retryable(f"{self._where} did not answer within {limit:g} s and the connection was cut.") from None
        if done.status is None:
            pool().drop(connection)
            self._cut("ask again")
        return done

    def _cut(self, consequence: str, error: BaseException | None = None) -> NoReturn:
        raise Retryable(f"The connection to {self._where} was cut; {consequence}.") from error

    def _succeeded(self, done: Outcome, deed: str, path: str) -> None:
        if done.status != 0:
            self._fail(deed, path, done.words or f"a script ended with status {done.status}")

    def _fail(self, deed: str, path: str, words: str) -> NoReturn:
        """One sentence that names the path, in the words that the local host uses."""
        for pattern, reason in _REASONS:
            if re.search(pattern, words, re.IGNORECASE):
                words = reason
                break
        else:
            words = " ".join(words.split())[:300].rstrip(".")
        if words == NO_PERMISSION and not self._covered(path):
            words = f"{NO_PERMISSION}; let the account {self._settings.username} in, or list it in sudo_files"
        raise Permanent(f"Can't {deed} {path} on {self._where}: {words}.")

    def _checked(self, deed: str, path: str) -> None:
        if "\0" in path or not path:
            raise Permanent(f"Can't {deed} {path!a} on {self._where}: no file has such a name.")

    # Root.

    def _covered(self, path: str) -> str | None:
        return root.covers(self._settings.sudo_files, path)

    def _by_root(self, path: str) -> bool:
        return self._covered(path) is not None

    def _root_file(self, deed: str, path: str) -> str:
        file = self._covered(path)
        if file is None:
            self._fail(deed, path, NO_PERMISSION)
        return file

    def _sudo_refused(self, done: Outcome, what: str) -> None:
        if done.status != 0 and (found := _SUDO_REFUSES.search(done.words)):
            raise Permanent(
                f"sudo on {self._where} does not let {self._settings.username} run {what} without a password "
                f"({found[0].strip()}): install the sudoers lines that `certgate endpoint sudoers` prints."
            )
