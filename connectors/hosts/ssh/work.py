"""What all work on a host over SSH shares: a connection, scripts on it, and the sentences for what goes wrong."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import NoReturn

import asyncssh

from connectors.errors import Permanent, Retryable
from connectors.hosts.limits import LARGEST_OUTPUT
from connectors.hosts.ssh import scripts
from connectors.hosts.ssh import sudo as root
from connectors.hosts.ssh.commands import NoShell, Outcome
from connectors.hosts.ssh.connections import Connection, pool
from connectors.hosts.ssh.opening import Secret
from connectors.hosts.ssh.settings import SshSettings

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


class Work:
    """Scripts on one host, and what is told of them. Making one connects to nothing."""

    def __init__(self, settings: SshSettings, secret: Secret) -> None:
        self._settings = settings
        self._secret = secret

    @property
    def address(self) -> str:
        """Where the host's services are reached."""
        return self._settings.service_address or self._settings.address

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

    def _in_the_way(self, path: str, backup: str) -> NoReturn:
        raise Permanent(f"Can't keep {path} on {self._where}: {backup} is in the way; look at it and remove it.")
