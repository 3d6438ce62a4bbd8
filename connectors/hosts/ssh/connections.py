"""Connections to SSH servers: made when they are needed, shared by all who talk to the same server with the same
settings, closed when nobody has needed them for a while, and at the latest when the event loop ends.

An install makes dozens of calls, and a connection costs more than all of them. The server's own limit on sessions of a
connection (MaxSessions, 10 as a rule) is kept. No configuration file of OpenSSH is read, no agent is asked and no
environment is sent unless the settings say so. Jump hosts are shared in the same way.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import asyncssh
from asyncssh.known_hosts import SSHKnownHosts, import_known_hosts

from connectors.errors import Permanent, Retryable
from connectors.hosts.ssh import scripts
from connectors.hosts.ssh.commands import NoShell, Shell
from connectors.hosts.ssh.settings import Login, SshSettings

IDLE_SECONDS = 30.0
# Together with one for SFTP no more than sshd's MaxSessions, 10 as a rule.
MOST_SESSIONS, MOST_IDLE_SHELLS = 5, 4
KEEPALIVES = 3
MOST_WORDS = 4096
_HOW = "compare it with what `ssh-keygen -lf /etc/ssh/ssh_host_…_key.pub` shows on the host itself"

Secret = Callable[[str], bytes]


@dataclass(frozen=True)
class Key:
    """Who shares a connection: the same servers on the way, with the same settings, and the same resolver of secrets. A
    jump host (`commands` False) need not run commands."""

    hops: tuple[str, ...]
    timeouts: tuple[float, float]
    search_path: str
    secret: Secret
    commands: bool = True


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


class _Recognizer(asyncssh.SSHClient):
    """Says which host key is ours, and remembers the one that is not."""

    # ruff: noqa: ARG002 (asyncssh's signatures)

    def __init__(self, trusted: Trusted) -> None:
        self._trusted = trusted

    def validate_host_public_key(self, host: str, addr: str, port: int, key: asyncssh.SSHKey) -> bool:
        return self._trusted.recognizes(key)

    def validate_host_ca_key(self, host: str, addr: str, port: int, key: asyncssh.SSHKey) -> bool:
        self._trusted.seen = key
        return False


class Trusted:
    """What is known of one server's host key."""

    def __init__(self, login: Login, known: SSHKnownHosts | None) -> None:
        self._login = login
        self._known = known
        self._fingerprints = [line for line in login.host_keys if line.startswith("SHA256:")]
        lines = [line for line in login.host_keys if not line.startswith("SHA256:")]
        try:
            self._keys = [asyncssh.import_public_key(line) for line in lines]
        except (asyncssh.KeyImportError, ValueError):
            raise Permanent(
                f"A host key in the settings of {login.address} is not a public key: paste it anew."
            ) from None
        self._matched: list[asyncssh.SSHKey] = []
        self.seen: asyncssh.SSHKey | None = None

    def __call__(self, host: str, addr: str, port: int | None) -> tuple[list[Any], list[Any], list[Any]]:
        """What asyncssh asks for: trusted keys, trusted authorities, revoked keys."""
        keys, authorities, revoked = list(self._keys), [], []
        if self._known is not None:
            found = self._known.match(host, addr, port)
            keys, authorities, revoked = [*keys, *found[0]], list(found[1]), list(found[2])
        self._matched = keys
        return keys, authorities, revoked

    def recognizes(self, key: asyncssh.SSHKey) -> bool:
        """Whether the fingerprint of a key is in the settings."""
        self.seen = key
        return key.get_fingerprint() in self._fingerprints

    def refusal(self, words: str) -> str:
        """The sentence for a host key that is not the right one."""
        where = f"{self._login.address}:{self._login.port}"
        shown = f"{self.seen.get_algorithm()} {self.seen.get_fingerprint()}" if self.seen else ""
        source = self._login.known_hosts or "its settings"
        if "revoked" in words:
            return f"The host key of {where} is marked as revoked in {source}; certgate does not connect to it."
        known = [*self._fingerprints, *(key.get_fingerprint() for key in self._matched)]
        if not known:
            return (
                f"The host key of {where} is not known: it shows {shown}. If that is right ({_HOW}), put it into "
                "host_keys of the connection or into its known_hosts file; certgate trusts no key unseen."
            )
        return (
            f"The host key of {where} has changed: it shows {shown}, and known is {', '.join(known)} ({source}). "
            f"Somebody may stand in between; only if the host was set up anew ({_HOW}) replace the known key."
        )


async def connect(login: Login, through: asyncssh.SSHClientConnection | None, key: Key) -> asyncssh.SSHClientConnection:
    """Connect, recognize the host, sign in, and see that commands can be run."""
    where = f"{login.address}:{login.port}"
    trusted = Trusted(login, await asyncio.to_thread(_known_hosts, login))
    agent: asyncssh.SSHAgentClient | None = None
    timeout, keepalive = key.timeouts
    try:
        async with asyncio.timeout(timeout):
            keys: list[Any] = await _own_keys(login, key.secret)
            if login.agent_socket is not None:
                agent = await _agent(login.agent_socket)
                keys += list(await agent.get_keys())
            password = await _secret(login.password, key.secret)
            ssh = await asyncssh.connect(
                login.address,
                login.port,
                tunnel=through,
                config=None,
                client_factory=lambda: _Recognizer(trusted),
                known_hosts=trusted,
                x509_trusted_certs=None,
                username=login.username,
                client_keys=keys or None,
                agent_path=None,
                password=password.decode("utf-8", "surrogateescape") if password is not None else None,
                gss_host=None,
                keepalive_interval=keepalive,
                keepalive_count_max=KEEPALIVES,
                connect_timeout=None,
                login_timeout=None,
            )
            if not key.commands:
                return ssh
            try:
                await _probe(ssh, login, key.search_path)
            except BaseException:
                ssh.abort()
                await ssh.wait_closed()
                raise
            return ssh
    except TimeoutError:
        raise Retryable(f"{where} did not answer over SSH within {timeout:g} s.") from None
    except asyncssh.HostKeyNotVerifiable as error:
        raise Permanent(trusted.refusal(str(error))) from None
    except (asyncssh.KeyExchangeFailed, asyncssh.ProtocolNotSupported, asyncssh.ProtocolError) as error:
        if "authentication" in error.reason.lower():
            raise Permanent(_refused(login, where)) from None
        raise Permanent(
            f"{where} and certgate have no common way to talk ({error.reason}); if host keys are meant, the host has "
            "none of the kind that is known of it."
        ) from None
    except (asyncssh.PermissionDenied, asyncssh.IllegalUserName):
        raise Permanent(_refused(login, where)) from None
    except asyncssh.ChannelOpenError as error:
        before = "The jump host" if through is not None else where
        raise Retryable(f"{before} opens no connection to {where}: {error.reason.rstrip('.')}.") from None
    except socket.gaierror as error:
        raise Retryable(f"The name {login.address} can't be resolved: {error.strerror}.") from None
    except (OSError, asyncssh.Error) as error:
        number = getattr(error, "errno", None)
        words = os.strerror(number) if number else getattr(error, "reason", None) or str(error) or type(error).__name__
        raise Retryable(f"{where} could not be reached over SSH: {str(words).rstrip('.')}.") from None
    finally:
        if agent is not None:
            agent.close()


def _refused(login: Login, where: str) -> str:
    offered = [
        name
        for name, given in (
            ("private key with its certificate" if login.certificate else "private key", login.private_key),
            ("keys of the agent", login.agent_socket),
            ("password", login.password),
        )
        if given is not None
    ]
    tried = " and ".join(offered) or "nothing, as the settings name neither key nor agent nor password"
    return (
        f"The login of {login.username} at {where} was refused; offered was: {tried}. Look into authorized_keys or the "
        "user CA there, and whether a certificate has ended."
    )


async def _own_keys(login: Login, secret: Secret) -> list[Any]:
    """The private key of the settings, with its certificate; nothing where none is set."""
    if login.private_key is None:
        return []
    content = await _secret(login.private_key, secret)
    assert content is not None
    passphrase = await _secret(login.passphrase, secret)
    try:
        key = await asyncio.to_thread(
            asyncssh.import_private_key, content + b"\n", passphrase.decode() if passphrase is not None else None
        )
    except asyncssh.KeyEncryptionError:
        raise Permanent(f"The passphrase of the SSH key {login.private_key} is wrong.") from None
    except (asyncssh.KeyImportError, ValueError) as error:
        if passphrase is None and "passphrase" in str(error).lower():
            raise Permanent(f"The SSH key {login.private_key} has a passphrase: name a reference to it.") from None
        raise Permanent(f"The SSH key {login.private_key} can't be read: it is not a private key.") from None
    if login.certificate is None:
        return [key]
    try:
        line = await asyncio.to_thread(_certificate, login.certificate)
        return [(key, asyncssh.import_certificate(line)), key]
    except OSError as error:
        raise Permanent(f"The SSH certificate {login.certificate} can't be read: {error.strerror}.") from None
    except (asyncssh.KeyImportError, ValueError):
        raise Permanent(
            "The SSH certificate of the settings can't be read: it is not an OpenSSH certificate."
        ) from None


def _certificate(given: str) -> bytes:
    return Path(given).read_bytes() if given.startswith("/") else given.encode()


def _known_hosts(login: Login) -> SSHKnownHosts | None:
    if login.known_hosts is None:
        return None
    try:
        return import_known_hosts(Path(login.known_hosts).read_text(errors="replace"))
    except OSError as error:
        raise Permanent(f"The file {login.known_hosts} of known hosts can't be read: {error.strerror}.") from None
    except ValueError as error:
        raise Permanent(
            f"The file {login.known_hosts} of known hosts has a line that can't be read: {error}."
        ) from None


async def _agent(path: str) -> asyncssh.SSHAgentClient:
    try:
        return await asyncssh.connect_agent(path)
    except (OSError, asyncssh.Error):
        raise Permanent(f"No SSH agent answers at {path}: start it, or correct agent_socket.") from None


async def _secret(reference: str | None, secret: Secret) -> bytes | None:
    return None if reference is None else await asyncio.to_thread(secret, reference)


async def _probe(ssh: asyncssh.SSHClientConnection, login: Login, search_path: str) -> None:
    """See that the account runs commands, and that the tools are there."""
    try:
        shell = await Shell.open(ssh, search_path)
    except NoShell as error:
        who = f"{login.username} at {login.address}:{login.port}"
        said = f"it says {str(error)!a}" if str(error) else "it says nothing"
        raise Permanent(f"The account {who} runs no commands; {said}: give it a POSIX shell.") from None
    done = await shell.run(scripts.MISSING, scripts.NEEDED, most=MOST_WORDS)
    shell.close()
    if missing := done.output.decode("utf-8", "replace").split():
        raise Permanent(f"The host {login.address} has no {', '.join(missing)} in {search_path}, which certgate needs.")
