"""What tests of installs share: a throw-away CA, a real nginx with an endpoint over it, a host that fails."""

from __future__ import annotations

import datetime
import os
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.hashes import SHA1, SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509 import ocsp
from cryptography.x509.oid import NameOID

from connectors.endpoints.contract import Endpoint, InstallReport, Material, Probe
from connectors.endpoints.handshake import fingerprint, shake_hands
from connectors.endpoints.journal import Journal
from connectors.endpoints.nginx import CONNECTOR as NGINX
from connectors.endpoints.procedure import install
from connectors.errors import Permanent
from connectors.hosts.contract import CommandResult, FileState, Host
from connectors.hosts.local import CONNECTOR as LOCAL
from connectors.hosts.local import LocalHost
from connectors.registry import Surroundings
from worker.playground import DisposableNginx

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey


def no_secrets(reference: str) -> bytes:
    """For connectors that need none."""
    raise Permanent(f"No secret {reference}.")


def pem(certificate: x509.Certificate) -> str:
    """PEM text."""
    return certificate.public_bytes(Encoding.PEM).decode()


def pkcs8(key: PrivateKey) -> bytes:
    """PEM, unencrypted."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _certificate(
    subject: str,
    key: PrivateKey,
    issuer: str,
    issuer_key: ec.EllipticCurvePrivateKey,
    extension: x509.ExtensionType,
) -> x509.Certificate:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(extension, critical=False)
        .sign(issuer_key, SHA256())
    )


class ThrowawayAuthority:
    """Root, intermediate, and leaves for whatever names."""

    def __init__(self) -> None:
        root_key, self._key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
        ca = x509.BasicConstraints(ca=True, path_length=None)
        self.root = _certificate("Root", root_key, "Root", root_key, ca)
        self.intermediate = _certificate("Intermediate", self._key, "Root", root_key, ca)

    def issue(self, *names: str, key: PrivateKey | None = None) -> Material:
        """A leaf with its chain (root included, as some CAs send it) and its key."""
        key = key or ec.generate_private_key(ec.SECP256R1())
        alternatives: list[x509.GeneralName] = []
        for name in names:
            try:
                alternatives.append(x509.IPAddress(ip_address(name)))
            except ValueError:
                alternatives.append(x509.DNSName(name))
        leaf = _certificate("leaf", key, "Intermediate", self._key, x509.SubjectAlternativeName(alternatives))
        return Material(pem(leaf), [pem(self.intermediate), pem(self.root)], pkcs8(key))

    def vouch(self, material: Material) -> bytes:
        """An OCSP response (DER) that says that the leaf is good, for a day."""
        now = datetime.datetime.now(datetime.UTC)
        leaf = x509.load_pem_x509_certificate(material.certificate_pem.encode())
        made = ocsp.OCSPResponseBuilder().add_response(
            cert=leaf,
            issuer=self.intermediate,
            algorithm=SHA1(),
            cert_status=ocsp.OCSPCertStatus.GOOD,
            this_update=now,
            next_update=now + timedelta(days=1),
            revocation_time=None,
            revocation_reason=None,
        )
        responder = made.responder_id(ocsp.OCSPResponderEncoding.HASH, self.intermediate)
        return responder.sign(self._key, SHA256()).public_bytes(Encoding.DER)


def fingerprint_of(material: Material) -> str:
    """SHA-256 of the leaf."""
    return fingerprint(x509.load_pem_x509_certificate(material.certificate_pem.encode()))


def fingerprint_of_file(path: Path) -> str:
    """SHA-256 of the first certificate in a file."""
    return fingerprint(x509.load_pem_x509_certificate(path.read_bytes()))


@dataclass(frozen=True)
class Trace:
    """All that must come back when a file is put back."""

    content: bytes
    owner: int
    group: int
    mode: int
    modified: int
    inode: int


def trace(path: Path) -> Trace:
    """What is at `path` (links followed)."""
    found = path.stat()
    return Trace(path.read_bytes(), found.st_uid, found.st_gid, found.st_mode, found.st_mtime_ns, found.st_ino)


def hidden_files(folder: Path) -> list[str]:
    """Temporary files and backups that stayed."""
    return sorted(path.name for path in folder.rglob(".*"))


@dataclass
class Rig:
    """One nginx, its endpoint over a host, and a journal."""

    nginx: DisposableNginx
    home: Path
    host: Host
    progress: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.journal = Journal(self.home / "journal")

    @property
    def endpoint(self) -> Endpoint:
        """A new endpoint object each time: nothing may be kept on it."""
        return self.endpoint_with()

    def endpoint_with(self, **settings: Any) -> Endpoint:
        """The endpoint with some settings changed."""
        surroundings = Surroundings(home=self.home, secret=no_secrets, host=self.host)
        return NGINX.open(NGINX.configure({**self.nginx.settings, **settings}), surroundings)

    async def install(
        self, material: Material, binding: str | None = None, *, endpoint: Endpoint | None = None, seconds: float = 15
    ) -> InstallReport:
        """Install at the first site, or at `binding`."""
        return await install(
            endpoint or self.endpoint,
            binding or self.nginx.sites[0].binding_id,
            material,
            journal=self.journal,
            progress=self.progress.append,
            verify_timeout=timedelta(seconds=seconds),
        )

    async def served(self, name: str | None = None) -> str | None:
        """Fingerprint of what nginx serves for a name (default: the first site), None if nothing."""
        bindings = await self.endpoint.discover()
        probe = Probe(bindings[0].listeners[0], name or self.nginx.sites[0].name)
        seen = await shake_hands(probe)
        return fingerprint(seen.certificates[0]) if seen.certificates else None

    def leftovers(self) -> list[str]:
        """Hidden files beside the certificates, and journal entries."""
        return hidden_files(self.nginx.folder) + [path.name for path in self.journal_folder.glob("*.json")]

    @property
    def journal_folder(self) -> Path:
        """Where the journal is."""
        return self.home / "journal"


def local_host() -> LocalHost:
    """The local host with its defaults."""
    return LOCAL.open(LOCAL.configure({}), Surroundings(home=Path("/"), secret=no_secrets))


class FaultyHost:
    """A local host in which one of the calls that change something goes wrong. Calls are counted from 1.

    `before` is done before the call of that number (raise, kill, wait); `count` tells afterwards how many there were.
    """

    def __init__(self, at: int, before: Callable[[str], None]) -> None:
        self._host = local_host()
        self._at = at
        self._before = before
        self.count = 0
        self.calls: list[str] = []

    def _call(self, name: str) -> None:
        self.count += 1
        self.calls.append(name)
        if self.count == self._at:
            self._before(name)

    @property
    def address(self) -> str:
        return self._host.address

    async def state(self, path: str) -> FileState | None:
        return await self._host.state(path)

    async def read(self, path: str) -> bytes:
        return await self._host.read(path)

    async def glob(self, pattern: str) -> Sequence[str]:
        return await self._host.glob(pattern)

    async def replace(self, path: str, content: bytes, *, owner: int | None, group: int | None, mode: int) -> None:
        self._call("replace")
        await self._host.replace(path, content, owner=owner, group=group, mode=mode)

    async def keep(self, path: str, backup: str) -> None:
        self._call("keep")
        await self._host.keep(path, backup)

    async def put_back(self, backup: str, path: str) -> None:
        self._call("put_back")
        await self._host.put_back(backup, path)

    async def delete(self, path: str) -> None:
        self._call("delete")
        await self._host.delete(path)

    async def run(self, command: Sequence[str], *, timeout: timedelta) -> CommandResult:
        self._call(f"run {command[-1]}")
        return await self._host.run(command, timeout=timeout)


def kill_this_process(_: str) -> None:
    """As a power cut would, without any clean-up."""
    os.kill(os.getpid(), signal.SIGKILL)
