"""Opening one connection: reach the server, recognize it, sign in, and see that commands can be run there.

No configuration file of OpenSSH is read, no agent is asked and no environment is sent unless the settings say so, and
no host key is believed that the settings or their known_hosts file do not have.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncssh
from asyncssh.known_hosts import SSHKnownHosts, import_known_hosts

from connectors.errors import Permanent, Retryable
from connectors.hosts.ssh import scripts
from connectors.hosts.ssh.commands import NoShell, Shell
from connectors.hosts.ssh.settings import Login

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
