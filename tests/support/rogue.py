"""Connectors that do what they must not: a CA with wrong certificates or in trouble, a keystore with a wrong CSR."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from pydantic import BaseModel, ConfigDict

from connectors import registry
from connectors.ca.contract import CollectRequest, Health, IssuedCertificate, Order, OrderRequest, RevokeRequest
from connectors.errors import AuthorityFault, NameValidation, Pending, Permanent, Retryable
from connectors.keystores.contract import Entry, SigningRequest
from connectors.registry import ConnectorType, Surroundings


class RogueSettings(BaseModel):
    """`fault` names what goes wrong; it can be changed while requests run, since each step reads it anew."""

    model_config = ConfigDict(extra="forbid")
    fault: str = "none"


class RogueAuthority:
    """A CA with a root of its own. What it did is counted for the test."""

    orders: dict[str, OrderRequest] = {}  # noqa: RUF012  (shared on purpose: the CA outlives its connections)
    submits = 0
    fault = "none"
    key = ec.generate_private_key(ec.SECP256R1())

    def __init__(self, _settings: RogueSettings, surroundings: Surroundings) -> None:
        self._now = surroundings.clock

    async def check(self) -> Health:
        """Always fine."""
        return Health(True, "The rogue CA answers.")

    async def submit(self, request: OrderRequest) -> Order:
        """Count the order; break after it was taken if told to."""
        if self.fault == "refuses":
            raise Permanent("The rogue CA does not know this account: correct its credentials.")
        type(self).submits += 1
        number = f"R-{len(self.orders) + 1}"
        self.orders[request.reference] = request
        return Order(number)

    async def find(self, request: OrderRequest) -> Order | None:
        """By reference, so that nothing is ordered twice."""
        numbers = {name: f"R-{index + 1}" for index, name in enumerate(self.orders)}
        return Order(numbers[request.reference]) if request.reference in numbers else None

    async def collect(self, request: CollectRequest) -> IssuedCertificate:
        """A certificate with today's fault."""
        if self.fault == "garbage":
            raise AuthorityFault("The rogue CA sent something that is no certificate.")
        if self.fault == "busy":
            raise Retryable("The rogue CA is busy.", dt.timedelta(milliseconds=300))
        order = list(self.orders.values())[int(request.number[2:]) - 1]
        if self.fault == "unproved":
            proofs = [NameValidation(name, "pending", "dns-01", f"Put a TXT record at {name}.") for name in order.names]
            proofs[0] = NameValidation(order.names[0], "failed", "http-01", error="The file was not there.")
            raise Pending("The rogue CA waits for the proof of the names.", dt.timedelta(milliseconds=300), proofs)
        return IssuedCertificate(self._issue(order), [])

    async def revoke(self, request: RevokeRequest) -> None:
        """Nothing to do."""

    @classmethod
    def root(cls) -> str:
        """Its root certificate, PEM."""
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Rogue Root")])
        start = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
        builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(cls.key.public_key())
        builder = builder.serial_number(1).not_valid_before(start).not_valid_after(start + dt.timedelta(days=3650))
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(cls.key.public_key()), critical=False)
        usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
        certificate = builder.add_extension(usage, critical=True).sign(cls.key, hashes.SHA256())
        return certificate.public_bytes(serialization.Encoding.PEM).decode()

    def _issue(self, order: OrderRequest) -> str:
        csr = x509.load_pem_x509_csr(order.csr_pem.encode())
        now = self._now()
        public = csr.public_key()
        names = list(order.names)
        start, end = now - dt.timedelta(minutes=5), now + dt.timedelta(days=30)
        signer = self.key
        if self.fault == "other key":
            public = ec.generate_private_key(ec.SECP256R1()).public_key()
        elif self.fault == "other names":
            names = ["evil.example.org"]
        elif self.fault == "expired":
            start, end = now - dt.timedelta(days=30), now - dt.timedelta(days=1)
        elif self.fault == "future":
            start, end = now + dt.timedelta(days=1), now + dt.timedelta(days=30)
        elif self.fault == "stranger":
            signer = ec.generate_private_key(ec.SECP256R1())
        issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Rogue Root")])
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, order.common_name)])
        builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(public)
        builder = builder.serial_number(x509.random_serial_number()).not_valid_before(start).not_valid_after(end)
        san = x509.SubjectAlternativeName([x509.DNSName(name) for name in names])
        builder = builder.add_extension(san, critical=False)
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        server = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
        builder = builder.add_extension(server, critical=False)
        certificate = builder.add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False
        ).sign(signer, hashes.SHA256())
        return certificate.public_bytes(serialization.Encoding.PEM).decode()


class RogueKeystore:
    """A keystore whose CSR is for other names than were asked."""

    def __init__(self, _settings: RogueSettings, _surroundings: Surroundings) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())

    async def sign_request(self, request: SigningRequest) -> str:
        """A CSR with one name too many."""
        names = [x509.DNSName(name) for name in [*request.names, "evil.example.org"]]
        builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
        signed = builder.add_extension(x509.SubjectAlternativeName(names), critical=False).sign(
            self._key, hashes.SHA256()
        )
        return signed.public_bytes(serialization.Encoding.PEM).decode()

    async def store_certificate(self, alias: str, certificate_pem: str, chain_pem: Sequence[str]) -> None:
        """Never reached."""

    async def entries(self) -> Sequence[Entry]:
        """Nothing."""
        return []

    async def remove(self, alias: str) -> None:
        """Nothing to remove."""


def install_rogues(monkeypatch: pytest.MonkeyPatch) -> None:
    """Register them beside the real connectors for one test."""
    real = registry.installed
    rogues: Mapping[str, ConnectorType[Any, Any]] = {
        "cas": ConnectorType("rogue", "Rogue CA", RogueSettings, RogueAuthority),
        "keystores": ConnectorType("rogue", "Rogue keystore", RogueSettings, RogueKeystore),
    }

    def with_rogues(kind: registry.Kind) -> Mapping[str, ConnectorType[Any, Any]]:
        return {**real(kind), **({"rogue": rogues[kind]} if kind in rogues else {})}

    monkeypatch.setattr(registry, "installed", with_rogues)
