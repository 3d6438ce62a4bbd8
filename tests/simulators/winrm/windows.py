"""The state of the Windows server, and what each of certgate's scripts does to it."""

from __future__ import annotations

import base64
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from asn1crypto import x509 as asn1
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import SHA1, SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.hazmat.primitives.serialization.pkcs12 import load_key_and_certificates

from model.x509 import general_names
from tests.simulators.winrm.faults import Fault, Faults
from tests.simulators.winrm.schannel import Identity, Schannel

SNI, CENTRAL_STORE = 1, 2


class ScriptError(Exception):
    """A script ends with an error; the text is what Windows says."""


@dataclass
class Stored:
    """A certificate in a store; `key` names the key in the machine's key storage."""

    certificate: x509.Certificate
    key: str | None = None
    friendly_name: str = ""

    @property
    def thumbprint(self) -> str:
        """SHA-1, upper case."""
        return thumbprint(self.certificate)


@dataclass
class SiteBinding:
    """One https binding of a site."""

    site: str
    information: str
    flags: int = 0

    @property
    def host(self) -> str:
        """The host header."""
        return self.information.rpartition(":")[2]

    @property
    def where(self) -> tuple[str, int]:
        """Address (``*`` for all) and port."""
        address, port, _ = self.information.rsplit(":", 2)
        return address, int(port)

    @property
    def record(self) -> str:
        """Which of http.sys's records is its."""
        address, port = self.where
        if self.flags & SNI:
            return f"{self.host.lower()}:{port}"
        return f"{'0.0.0.0' if address == '*' else address}:{port}"


@dataclass(frozen=True)
class Call:
    """One script that was run: its name, and the names of its parameters."""

    script: str
    parameters: Mapping[str, Any]


def thumbprint(certificate: x509.Certificate) -> str:
    """SHA-1, upper case."""
    return certificate.fingerprint(SHA1()).hex().upper()


@dataclass
class Windows:
    """Stores, keys, sites and http.sys of one machine; `build` is that of Windows Server 2022 unless told otherwise."""

    faults: Faults
    build: int = 20348
    running: bool = True
    stores: dict[str, dict[str, Stored]] = field(
        default_factory=lambda: {"My": {}, "WebHosting": {}, "CA": {}, "Root": {}}
    )
    keys: dict[str, Any] = field(default_factory=dict)
    sites: dict[str, list[SiteBinding]] = field(default_factory=dict)
    stopped: set[str] = field(default_factory=set)
    records: dict[str, tuple[str, str]] = field(default_factory=dict)
    calls: list[Call] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.lock = threading.RLock()
        self.schannel = Schannel(self._identity)
        self._containers = 0
        self._frozen: dict[str, tuple[str, str]] = {}
        self._scripts: dict[str, Callable[..., Sequence[Mapping[str, Any]]]] = {
            "Get-CertgateServer": self._get_server,
            "Get-CertgateBinding": self._get_bindings,
            "Get-CertgateCertificate": self._get_certificate,
            "Import-CertgateCertificate": self._import,
            "Add-CertgateCertificate": self._add,
            "Set-CertgateBinding": self._set_binding,
            "Remove-CertgateCertificate": self._remove,
            "New-CertgateRequest": self._new_request,
            "Remove-CertgateKey": self._remove_key,
        }

    # What an administrator there does.

    def add_site(self, site: str, information: str, flags: int = 0) -> SiteBinding:
        """One more https binding, of a new site or of one that is there."""
        with self.lock:
            binding = SiteBinding(site, information, flags)
            self.sites.setdefault(site, []).append(binding)
            self._listen()
            return binding

    def remove_site(self, site: str) -> None:
        """With its bindings; http.sys keeps its records."""
        with self.lock:
            del self.sites[site]

    def store(self, certificate: x509.Certificate, key: Any = None, store: str = "My", friendly_name: str = "") -> str:
        """Put a certificate, with its key, into a store; gives the thumbprint."""
        with self.lock:
            stored = Stored(certificate, None if key is None else self._keep(key), friendly_name)
            self.stores[store][stored.thumbprint] = stored
            return stored.thumbprint

    def start(self) -> None:
        """Start W3SVC."""
        with self.lock:
            self.running = True
            self._listen()

    def stop(self) -> None:
        """Stop it: no site is served."""
        with self.lock:
            self.running = False
            self.schannel.close()

    # What http.sys does.

    def _listen(self) -> None:
        for binding in (one for bindings in self.sites.values() for one in bindings):
            address, port = binding.where
            if self.running:
                self.schannel.listen("127.0.0.1" if address == "*" else address, port)

    def _identity(self, address: str, port: int, name: str | None) -> Identity | None:
        """The record of the very address, else of the host name (or its wildcard), else of all addresses."""
        with self.lock:
            wanted = [f"{address}:{port}"]
            if name is not None:
                wanted += [f"{name.lower()}:{port}", f"*.{name.lower().partition('.')[2]}:{port}"]
            for record in [*wanted, f"0.0.0.0:{port}"]:
                bound = self._frozen.get(record) or self.records.get(record)
                if bound is not None:
                    stored = self.stores[bound[1]].get(bound[0])
                    if stored is None or stored.key not in self.keys:
                        return None
                    return Identity(stored.certificate, self._chain(stored.certificate), self.keys[stored.key])
            return None

    def _chain(self, leaf: x509.Certificate) -> list[x509.Certificate]:
        """Intermediates that the store has, up to one that is self-issued, which is not sent."""
        chain: list[x509.Certificate] = []
        at = leaf
        while at.subject != at.issuer:
            parent = next(
                (one.certificate for one in self.stores["CA"].values() if one.certificate.subject == at.issuer), None
            )
            if parent is None or parent in chain or parent.subject == parent.issuer:
                break
            chain.append(parent)
            at = parent
        return chain

    # Scripts.

    def run(self, script: str, parameters: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
        """What the script puts out; raises `ScriptError`."""
        with self.lock:
            self.calls.append(Call(script, dict(parameters)))
            return self._scripts[script](**parameters)

    def _get_server(self) -> Sequence[Mapping[str, Any]]:
        return [{"Build": self.build, "Running": self.running}]

    def _get_bindings(self) -> Sequence[Mapping[str, Any]]:
        rows = []
        for site, bindings in self.sites.items():
            for binding in bindings:
                bound = self.records.get(binding.record, ("", ""))
                rows.append(
                    {
                        "Site": site,
                        "Stopped": self.running and site in self.stopped,
                        "Information": binding.information,
                        "SslFlags": binding.flags,
                        "Thumbprint": bound[0],
                        "Store": bound[1],
                    }
                )
        return rows

    def _get_certificate(self, Site: str, Information: str) -> Sequence[Mapping[str, Any]]:
        bound = self.records.get(self._binding(Site, Information).record)
        if bound is None:
            return []
        stored = self.stores[bound[1]].get(bound[0])
        chain = [] if stored is None else [stored.certificate, *self._chain(stored.certificate)]
        return [
            {
                "Thumbprint": bound[0],
                "Store": bound[1],
                "HasPrivateKey": stored is not None and stored.key in self.keys,
                "Chain": [base64.b64encode(one.public_bytes(Encoding.DER)).decode() for one in chain],
            }
        ]

    def _import(
        self,
        Pfx: bytes,
        Password: str,
        Thumbprint: str,
        FriendlyName: str,
        Store: str,
        Intermediate: Sequence[str] = (),
    ) -> Sequence[Mapping[str, Any]]:
        self._open(Store, "Import-CertgateCertificate")
        self._add_authorities(Intermediate)
        there = self.stores[Store].get(Thumbprint)
        if there is not None and there.key is not None:
            return []
        try:
            key, certificate, _ = load_key_and_certificates(Pfx, Password.encode())
        except ValueError:
            raise ScriptError("The specified network password is not correct.") from None
        if certificate is None or key is None or thumbprint(certificate) != Thumbprint:
            raise ScriptError("The archive does not hold the certificate with its key.")
        if self.faults.take("Import-CertgateCertificate", Fault.STORE_FULL):
            raise ScriptError("There is not enough space on the disk.")
        self.store(certificate, key, Store, FriendlyName)
        return []

    def _add(
        self,
        Certificate: str,
        KeyName: str,
        FriendlyName: str,
        Store: str,
        Intermediate: Sequence[str] = (),
    ) -> Sequence[Mapping[str, Any]]:
        leaf = x509.load_der_x509_certificate(base64.b64decode(Certificate))
        if KeyName not in self.keys:
            raise ScriptError("Keyset does not exist")
        if _public(self.keys[KeyName].public_key()) != _public(leaf.public_key()):
            raise ScriptError("The provided key does not match the public key for this certificate.")
        self._open(Store, "Add-CertgateCertificate")
        self._add_authorities(Intermediate)
        self.stores[Store][thumbprint(leaf)] = Stored(leaf, KeyName, FriendlyName)
        return []

    def _set_binding(
        self,
        Site: str,
        Information: str,
        Thumbprint: str,
        Store: str,
    ) -> Sequence[Mapping[str, Any]]:
        record = self._binding(Site, Information).record
        if Thumbprint == "":
            self.records.pop(record, None)
            self._frozen.pop(record, None)
            return []
        stored = self.stores[Store].get(Thumbprint.upper())
        refused = self.faults.take("Set-CertgateBinding", Fault.NO_LOGON_SESSION)
        if stored is None or stored.key not in self.keys or refused:
            raise ScriptError(
                "A specified logon session does not exist. It may already have been terminated. "
                "(Exception from HRESULT: 0x80070520)"
            )
        if self.faults.take("Set-CertgateBinding", Fault.NO_EFFECT) and record in self.records:
            self._frozen[record] = self.records[record]
        elif self._frozen.get(record) == (stored.thumbprint, Store):
            del self._frozen[record]
        self.records[record] = (stored.thumbprint, Store)
        return []

    def _remove(
        self,
        Prefix: str,
        Store: str,
        Keep: int,
        Except: Sequence[str] = (),
    ) -> Sequence[Mapping[str, Any]]:
        used = {bound for bound, _ in self.records.values()}
        ours = [one for one in self.stores[Store].values() if one.friendly_name.startswith(Prefix)]
        old = sorted(ours, key=lambda one: one.friendly_name, reverse=True)[Keep:]
        gone = []
        for stored in old:
            if stored.thumbprint in {*used, *Except}:
                continue
            self._open(Store, "Remove-CertgateCertificate")
            del self.stores[Store][stored.thumbprint]
            public = _public(stored.certificate.public_key())
            if all(_public(one.certificate.public_key()) != public for one in self.stores[Store].values()):
                self.keys.pop(stored.key or "", None)
            gone.append({"Thumbprint": stored.thumbprint})
        return gone

    def _new_request(
        self,
        KeyName: str,
        Algorithm: str,
        Length: int,
        Subject: str,
        DnsName: Sequence[str] = (),
        IpAddress: Sequence[str] = (),
    ) -> Sequence[Mapping[str, Any]]:
        if KeyName not in self.keys:
            curves = {"ECDSA_P256": ec.SECP256R1(), "ECDSA_P384": ec.SECP384R1()}
            self.keys[KeyName] = (
                rsa.generate_private_key(65537, Length)
                if Algorithm == "RSA"
                else ec.generate_private_key(curves[Algorithm])
            )
        subject = _name(base64.b64decode(Subject))
        names = x509.SubjectAlternativeName(general_names([*DnsName, *IpAddress]))
        builder = x509.CertificateSigningRequestBuilder().subject_name(subject).add_extension(names, not subject)
        request = builder.sign(self.keys[KeyName], SHA256())
        return [{"Request": base64.b64encode(request.public_bytes(Encoding.DER)).decode()}]

    def _remove_key(self, KeyName: str) -> Sequence[Mapping[str, Any]]:
        if any(one.key == KeyName for store in ("My", "WebHosting") for one in self.stores[store].values()):
            raise ScriptError("A certificate uses this key.")
        self.keys.pop(KeyName, None)
        return []

    # What they share.

    def _binding(self, site: str, information: str) -> SiteBinding:
        found = [one for one in self.sites.get(site, []) if one.information == information]
        if len(found) != 1:
            raise ScriptError("The site has no such https binding any more, or several.")
        return found[0]

    def _open(self, store: str, script: str) -> None:
        if self.faults.take(script, Fault.STORE_DENIED):
            raise ScriptError("Access is denied.")
        assert store in self.stores

    def _add_authorities(self, encoded: Sequence[str]) -> None:
        for one in encoded:
            self.store(x509.load_der_x509_certificate(base64.b64decode(one)), None, "CA")

    def _keep(self, key: Any) -> str:
        self._containers += 1
        name = f"container-{self._containers}"
        self.keys[name] = key
        return name


def _public(key: Any) -> bytes:
    encoded: bytes = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return encoded


def _name(encoded: bytes) -> x509.Name:
    """A distinguished name from DER, by a certificate around it: the library reads none alone."""
    attributes = []
    for relative in asn1.Name.load(encoded).chosen:
        for one in relative:
            attributes.append(x509.NameAttribute(x509.ObjectIdentifier(one["type"].dotted), one["value"].native))
    return x509.Name(attributes)
