"""Connections to SSH servers: made when they are needed, shared by all who talk to the same server with the same
settings, closed when nobody has needed them for a while, and at the latest when the event loop ends.

An install makes dozens of calls, and a connection costs more than all of them. The server's own limit on sessions of a
connection (MaxSessions, 10 as a rule) is kept. Jump hosts are shared in the same way.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from weakref import WeakKeyDictionary

import asyncssh

from connectors.errors import Permanent, Retryable
from connectors.hosts.ssh.commands import Shell
from connectors.hosts.ssh.opening import Key, Secret, connect
from connectors.hosts.ssh.settings import Login, SshSettings

IDLE_SECONDS = 30.0
# Together with one for SFTP no more than sshd's MaxSessions, 10 as a rule.
MOST_SESSIONS, MOST_IDLE_SHELLS = 5, 4


class Connection:
    """One connection that is open, with its SFTP channel and its shells."""

    def __init__(self, ssh: asyncssh.SSHClientConnection, through: Connection | None, search_path: str) -> None:
        self.ssh = ssh
        self.through = through
        self.users = 0
        self._search_path = search_path
        self._sessions = asyncio.Semaphore(MOST_SESSIONS)
        self._shells: list[tuple[str, Shell]] = []
        self._sftp: asyncio.Task[asyncssh.SFTPClient] | None = None
        self._closing: asyncio.TimerHandle | None = None

    @property
    def usable(self) -> bool:
        """Whether it is still open, as far as can be known here."""
        return not self.ssh.is_closed() and (self.through is None or self.through.usable)

    async def sftp(self) -> asyncssh.SFTPClient:
        """Its SFTP channel, opened once."""
        if self._sftp is None:
            self._sftp = asyncio.ensure_future(self.ssh.start_sftp_client(path_encoding=None))
        return await asyncio.shield(self._sftp)

    @asynccontextmanager
    async def shell(self, use: str) -> AsyncIterator[Shell]:
        """A shell for one script, of those that were used for the same before. One that is left with an exception may
        still be at work and is closed."""
        async with self._sessions:
            shell = await self._take_shell(use)
            try:
                yield shell
            except BaseException:
                shell.close()
                raise
            self._shells.append((use, shell))

    async def _take_shell(self, use: str) -> Shell:
        while found := next((one for one in self._shells if one[0] == use), None):
            self._shells.remove(found)
            if found[1].usable:
                return found[1]
        # Those that wait count among the server's sessions too.
        while len(self._shells) >= MOST_IDLE_SHELLS:
            self._shells.pop(0)[1].close()
        return await Shell.open(self.ssh, self._search_path)

    def take(self) -> None:
        """One more who uses it."""
        self.users += 1
        if self._closing is not None:
            self._closing.cancel()
            self._closing = None

    def leave(self) -> None:
        """One less; after the last one it stays open for a while."""
        self.users -= 1
        if self.users == 0:
            self._closing = asyncio.get_running_loop().call_later(IDLE_SECONDS, self.close)

    def close(self) -> None:
        """Close it, now."""
        if self._closing is not None:
            self._closing.cancel()
            self._closing = None
        if self._sftp is not None:
            if self._sftp.done():
                if not self._sftp.cancelled() and self._sftp.exception() is None:
                    self._sftp.result().exit()
            else:
                self._sftp.cancel()
            self._sftp = None
        if not self.ssh.is_closed():
            self.ssh.close()
        if self.through is not None:
            self.through.leave()
            self.through = None

    async def closed(self) -> None:
        """Wait until nothing of it is left, but not for long for a server that does not answer."""
        self.close()
        try:
            async with asyncio.timeout(2):
                await self.ssh.wait_closed()
        except (TimeoutError, OSError, asyncssh.Error):
            self.ssh.abort()
            with suppress(OSError, asyncssh.Error):
                await self.ssh.wait_closed()


class Pool:
    """The connections of one event loop."""

    def __init__(self) -> None:
        self._open: dict[Key, asyncio.Task[Connection]] = {}
        self._at_the_end: AsyncGenerator[None, None] | None = None

    @asynccontextmanager
    async def lease(self, settings: SshSettings, secret: Secret) -> AsyncIterator[Connection]:
        """A connection that stays open as long as it is used. Raises `Retryable` where the host can't be reached,
        `Permanent` where it is not who it should be or does not let us in."""
        timeouts = (settings.connect_timeout_seconds, settings.keepalive_seconds)
        hops = settings.hops
        key = Key(tuple(hop.model_dump_json() for hop in hops), timeouts, settings.search_path, secret)
        connection = await self._get(key, hops)
        try:
            yield connection
        finally:
            connection.leave()

    async def _get(self, key: Key, hops: Sequence[Login]) -> Connection:
        while True:
            task = self._open.get(key)
            if task is None:
                await self._close_at_the_end()
                task = self._open[key] = asyncio.ensure_future(self._connect(key, hops))
                task.add_done_callback(lambda done: self._forget_failed(key, done))
            # Others may wait for the same connection: whoever gives up does not end it.
            connection = await asyncio.shield(task)
            if connection.usable:
                connection.take()
                return connection
            self.drop(connection)

    def _forget_failed(self, key: Key, done: asyncio.Task[Connection]) -> None:
        if (done.cancelled() or done.exception() is not None) and self._open.get(key) is done:
            del self._open[key]
        elif not done.cancelled() and done.exception() is None and done.result().users == 0:
            # Nobody may be left who waits for it.
            done.result().take()
            done.result().leave()

    async def _connect(self, key: Key, hops: Sequence[Login]) -> Connection:
        through = None
        if len(hops) > 1:
            through = await self._get(Key(key.hops[:-1], key.timeouts, "", key.secret, False), hops[:-1])
        try:
            ssh = await connect(hops[-1], through.ssh if through else None, key)
        except BaseException:
            if through is not None:
                through.leave()
            raise
        return Connection(ssh, through, key.search_path)

    def drop(self, connection: Connection) -> None:
        """Close a connection that is of no use any more; who comes next gets a new one."""
        for key, task in list(self._open.items()):
            if task.done() and not task.cancelled() and task.exception() is None and task.result() is connection:
                del self._open[key]
        connection.close()

    async def close(self) -> None:
        """Close all; those that go through others first."""
        tasks, self._open = list(self._open.values()), {}
        for task in reversed(tasks):
            if not task.done():
                task.cancel()
            with suppress(asyncio.CancelledError, Permanent, Retryable):
                await (await task).closed()

    async def _close_at_the_end(self) -> None:
        """Have the event loop close everything when it ends: it finishes asynchronous generators that still wait
        (`loop.shutdown_asyncgens`), whatever else was done or forgotten."""
        if self._at_the_end is None:
            self._at_the_end = self._wait_for_the_end()
            await anext(self._at_the_end)

    async def _wait_for_the_end(self) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            await self.close()


_POOLS: WeakKeyDictionary[asyncio.AbstractEventLoop, Pool] = WeakKeyDictionary()


def pool() -> Pool:
    """The connections of the running event loop."""
    loop = asyncio.get_running_loop()
    if loop not in _POOLS:
        _POOLS[loop] = Pool()
    return _POOLS[loop]
