"""Certificates for tests, made by hand so that each can be wrong in exactly one way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

from model.keys import KeyAlgorithm
from model.x509 import general_names

NOW = datetime(2027, 3, 1, 12, 0, tzinfo=UTC)
DAY = timedelta(days=1)
PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey


def new_key(algorithm: KeyAlgorithm = KeyAlgorithm.EC_P256) -> PrivateKey:
    """A fresh key."""
    match algorithm:
        case KeyAlgorithm.EC_P256:
            return ec.generate_private_key(ec.SECP256R1())
        case KeyAlgorithm.EC_P384:
            return ec.generate_private_key(ec.SECP384R1())
        case KeyAlgorithm.ED25519:
            return ed25519.Ed25519PrivateKey.generate()
        case _:
            return rsa.generate_private_key(65537, int(algorithm.removeprefix("rsa-")))


@cache
def shared_key(algorithm: KeyAlgorithm) -> PrivateKey:
    """A key that tests may share: RSA keys are slow to make."""
    return new_key(algorithm)


def _hash(key: PrivateKey) -> hashes.SHA256 | None:
    return None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()


def _name(text: str | None) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)] if text else [])


def pem(thing: x509.Certificate | x509.CertificateSigningRequest) -> str:
    """PEM text."""
    return thing.public_bytes(serialization.Encoding.PEM).decode()


@dataclass(frozen=True)
class Issuer:
    """A CA certificate and its key."""

    certificate: x509.Certificate
    key: PrivateKey


def make_ca(
    name: str,
    parent: Issuer | None = None,
    *,
    key: PrivateKey | None = None,
    path_length: int | None = None,
    not_before: datetime = NOW - 100 * DAY,
    not_after: datetime = NOW + 1000 * DAY,
    is_ca: bool = True,
    constraints: x509.NameConstraints | None = None,
) -> Issuer:
    """A root (no parent) or an intermediate."""
    key = key or new_key()
    signer = parent.key if parent else key
    builder = (
        x509.CertificateBuilder()
        .subject_name(_name(name))
        .issuer_name(parent.certificate.subject if parent else _name(name))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(not_before)
        .not_valid_after(not_after)
        .add_extension(x509.BasicConstraints(is_ca, path_length if is_ca else None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
    )
    if constraints:
        builder = builder.add_extension(constraints, critical=True)
    return Issuer(builder.sign(signer, _hash(signer)), key)


def make_leaf(
    issuer: Issuer,
    key: PrivateKey,
    names: Sequence[str],
    *,
    common_name: str | None = None,
    not_before: datetime = NOW - DAY,
    not_after: datetime = NOW + 47 * DAY,
    usage: ObjectIdentifier = ExtendedKeyUsageOID.SERVER_AUTH,
    critical_stranger: bool = False,
) -> x509.Certificate:
    """A TLS server certificate."""
    builder = (
        x509.CertificateBuilder()
        .subject_name(_name(common_name))
        .issuer_name(issuer.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(not_before)
        .not_valid_after(not_after)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.key.public_key()), critical=False)
        .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(general_names(names)), critical=not common_name)
    if critical_stranger:
        strange = x509.UnrecognizedExtension(ObjectIdentifier("1.3.6.1.4.1.99999.1"), b"\x05\x00")
        builder = builder.add_extension(strange, critical=True)
    return builder.sign(issuer.key, _hash(issuer.key))


def make_csr(key: PrivateKey, names: Sequence[str], common_name: str | None = None) -> str:
    """A signing request, PEM."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(_name(common_name))
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(general_names(names)), critical=False)
    return pem(builder.sign(key, _hash(key)))
