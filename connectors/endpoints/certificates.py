"""What an install must know of the material itself: does the key belong to the certificate, which names does it cover.

Pure functions over PEM; they raise `Permanent` with one sentence and never show a key.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_private_key,
    load_pem_private_key,
)

from connectors.endpoints.contract import Binding, InPlace, Material, Place
from connectors.endpoints.handshake import fingerprint
from connectors.errors import Permanent


@dataclass(frozen=True)
class Contents:
    """Material, read: `chain` is the intermediates in the order given, without self-issued roots, which a server need
    not send (RFC 8446 section 4.4.2)."""

    leaf: x509.Certificate
    chain: Sequence[x509.Certificate]

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the leaf."""
        return fingerprint(self.leaf)

    @property
    def authentication(self) -> str:
        """``RSA`` or ``ECDSA``, see `authentication_of`."""
        return authentication_of(self.leaf)

    def wanted(self) -> InPlace:
        """What a place holds when this is installed there."""
        return InPlace(
            certificate=self.fingerprint,
            chain=tuple(fingerprint(certificate) for certificate in self.chain),
            public_key=public_key_of(self.leaf),
        )

    def pem(self) -> bytes:
        """Leaf and chain as a server's certificate file wants them."""
        return b"".join(certificate.public_bytes(Encoding.PEM) for certificate in (self.leaf, *self.chain))


def read(material: Material) -> Contents:
    """Parse the material and check that its key, if it has one, belongs to its leaf."""
    try:
        leaf = x509.load_pem_x509_certificate(material.certificate_pem.encode())
        given = [x509.load_pem_x509_certificate(pem.encode()) for pem in material.chain_pem]
    except ValueError as error:
        raise Permanent(f"The certificate to install can't be read: {error}.") from None
    chain = [certificate for certificate in given if certificate.subject != certificate.issuer]
    if material.private_key_pem is not None and public_key_of_private(material.private_key_pem) != public_key_of(leaf):
        raise Permanent("The private key does not belong to the certificate to install; nothing was changed.")
    return Contents(leaf, chain)


def require_validity(contents: Contents, now: datetime) -> None:
    """The leaf must be valid now, by the clock of whoever installs it; raises `Permanent` that names both times."""
    first, last = contents.leaf.not_valid_before_utc, contents.leaf.not_valid_after_utc
    if now < first:
        raise Permanent(
            f"The certificate is valid from {first:%Y-%m-%d %H:%M} UTC on, and the clock of this gateway says "
            f"{now:%Y-%m-%d %H:%M} UTC: set the clock and retry; nothing was changed."
        )
    if now > last:
        raise Permanent(
            f"The certificate expired on {last:%Y-%m-%d %H:%M} UTC, and the clock of this gateway says "
            f"{now:%Y-%m-%d %H:%M} UTC: set the clock or request another certificate; nothing was changed."
        )


def public_key_of(certificate: x509.Certificate) -> str:
    """SHA-256 of the SubjectPublicKeyInfo, lower-case hex."""
    encoded = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(encoded).hexdigest()


def public_key_of_private(private_key_pem: bytes) -> str:
    """The same for the public half of an unencrypted private key, PEM or DER (PKCS#8)."""
    try:
        try:
            key = load_pem_private_key(private_key_pem, password=None)
        except ValueError:
            key = load_der_private_key(private_key_pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise Permanent("The private key to install can't be read as unencrypted PEM.") from None
    return public_key_of_key(key)


def public_key_of_key(key: PrivateKeyTypes) -> str:
    """The same for the public half of a private key."""
    encoded = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(encoded).hexdigest()


def authentication_of(certificate: x509.Certificate) -> str:
    """How TLS 1.2 calls this key type: ``RSA`` or ``ECDSA`` (Ed25519 goes with ECDSA, RFC 8422 section 5.1.1)."""
    return "RSA" if isinstance(certificate.public_key(), rsa.RSAPublicKey) else "ECDSA"


def require_coverage(contents: Contents, affected: Sequence[Binding], place: Place) -> None:
    """The certificate must be good for every host that will serve it: the binding itself, which is the first, and all
    that share its place. Raises `Permanent` that names the host that would be broken."""
    binding, *_ = affected
    for one in affected:
        names = ", ".join(uncovered(contents.leaf, one.names))
        if names and one is binding:
            raise Permanent(
                f"The certificate does not cover {names}, which {one.id} answers to: request one that names it too, or "
                "take the name out of the configuration; nothing was changed."
            )
        if names:
            raise Permanent(
                f"{one.id} uses the same certificate {place.certificate} and would be broken, because the new one does "
                f"not cover {names}: request one that names it too, or give {one.id} files of its own; nothing was "
                "changed."
            )


def uncovered(certificate: x509.Certificate, names: Iterable[str]) -> list[str]:
    """Those of `names` that the certificate is not good for. Only the subject alternative names count (RFC 9525
    section 2: the common name does not)."""
    try:
        alternatives = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return list(names)
    presented = [name.lower() for name in alternatives.get_values_for_type(x509.DNSName)]
    addresses = alternatives.get_values_for_type(x509.IPAddress)
    return [name for name in names if not _covered(name, presented, addresses)]


def _covered(name: str, presented: Sequence[str], addresses: Sequence[object]) -> bool:
    try:
        return ipaddress.ip_address(name) in addresses
    except ValueError:
        return any(matches(pattern, name) for pattern in presented)


def matches(presented: str, name: str) -> bool:
    """Whether a presented DNS identifier is good for `name` (RFC 9525 section 6.3): labels are compared without regard
    to case, and ``*`` stands for exactly one label, only as the whole leftmost one. A `name` that is itself a wildcard
    is covered by the same wildcard only."""
    pattern, wanted = presented.lower().rstrip("."), name.lower().rstrip(".")
    if pattern == wanted:
        return True
    label, _, parent = pattern.partition(".")
    first, _, rest = wanted.partition(".")
    return label == "*" and first not in ("", "*") and parent == rest != ""
