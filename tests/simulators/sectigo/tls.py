"""TLS on loopback: a CA of its own, the server's certificate, and a client certificate for ``/private/api``."""

from __future__ import annotations

import datetime as dt
import ipaddress
import ssl
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

_DAY = dt.timedelta(days=1)


@dataclass(frozen=True)
class Files:
    """Where it was written. Keys are readable by their owner only."""

    ca: Path
    server: Path
    """Certificate and key."""
    client_certificate: Path
    client_key: Path
    foreign_certificate: Path
    """A client certificate of another CA: the TLS handshake with it fails."""


def write(folder: Path) -> Files:
    """Make and write everything; good for thirty days."""
    ca_key, ca = _authority("Simulator TLS CA")
    server_key, server = _leaf("127.0.0.1", ca, ca_key, ExtendedKeyUsageOID.SERVER_AUTH)
    client_key, client = _leaf("certgate-api", ca, ca_key, ExtendedKeyUsageOID.CLIENT_AUTH)
    other_key, other = _authority("Some other CA")
    foreign_key, foreign = _leaf("certgate-api", other, other_key, ExtendedKeyUsageOID.CLIENT_AUTH)
    return Files(
        _write(folder / "ca.pem", _pem(ca)),
        _write(folder / "server.pem", _pem(server) + _key(server_key)),
        _write(folder / "client.pem", _pem(client)),
        _write(folder / "client.key", _key(client_key)),
        _write(folder / "foreign.pem", _pem(foreign) + _key(foreign_key)),
    )


def context(files: Files) -> ssl.SSLContext:
    """The server's side: it asks for a client certificate and takes a connection without one, too."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(files.server)
    made.load_verify_locations(files.ca)
    made.verify_mode = ssl.CERT_OPTIONAL
    return made


def _write(path: Path, content: bytes) -> Path:
    path.touch(mode=0o600)
    path.write_bytes(content)
    return path


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key(key: ec.EllipticCurvePrivateKey) -> bytes:
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    return key.private_bytes(encoding, form, serialization.NoEncryption())


def _authority(name: str) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = _builder(subject, subject, key.public_key(), key.public_key())
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
    return key, builder.add_extension(usage, critical=True).sign(key, hashes.SHA256())


def _leaf(
    name: str, ca: x509.Certificate, ca_key: ec.EllipticCurvePrivateKey, purpose: ObjectIdentifier
) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = _builder(subject, ca.subject, key.public_key(), ca_key.public_key())
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    builder = builder.add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    return key, builder.sign(ca_key, hashes.SHA256())


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, above: ec.EllipticCurvePublicKey
) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key)
    builder = builder.serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(now - _DAY).not_valid_after(now + 30 * _DAY)
    builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    return builder.add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(above), critical=False)
