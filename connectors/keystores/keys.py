"""What all keystores of our own processes share: aliases, making keys, signing requests, matching certificates."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from cryptography import x509 as crypto
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import NameOID

from connectors.errors import Permanent
from connectors.keystores.contract import Entry, EntryKind, SigningRequest
from model import x509
from model.errors import InvalidInput
from model.keys import KeyAlgorithm

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey
MAX_COMMON_NAME = 64  # RFC 5280 appendix A.1, ub-common-name
ALIAS = re.compile(r"[a-z0-9][a-z0-9-]{0,127}")


def checked_alias(alias: str) -> str:
    """An alias as certgate makes them; raises `Permanent`."""
    if not ALIAS.fullmatch(alias):
        raise Permanent(f"The alias {alias[:80]!a} is not made of lower-case letters, digits and hyphens.")
    return alias


def generate(algorithm: KeyAlgorithm) -> PrivateKey:
    """A new key. RSA of 4096 bits can take many seconds: call from a thread."""
    match algorithm:
        case KeyAlgorithm.EC_P256:
            return ec.generate_private_key(ec.SECP256R1())
        case KeyAlgorithm.EC_P384:
            return ec.generate_private_key(ec.SECP384R1())
        case KeyAlgorithm.ED25519:
            return ed25519.Ed25519PrivateKey.generate()
        case KeyAlgorithm.RSA_2048 | KeyAlgorithm.RSA_3072 | KeyAlgorithm.RSA_4096:
            return rsa.generate_private_key(65537, int(algorithm.removeprefix("rsa-")))


def require_algorithm(alias: str, key: PrivateKey, wanted: KeyAlgorithm) -> None:
    """Raise `Permanent` when the key under an alias is not of the algorithm that is asked for."""
    found = x509.key_algorithm(key.public_key())
    if found is not wanted:
        raise Permanent(f"The keystore has a key of another algorithm under {alias}: {found}, not {wanted}.")


def signing_request(key: PrivateKey, request: SigningRequest) -> str:
    """The CSR, PEM; see `SigningRequest`. Raises `Permanent` where the names can't be encoded."""
    attributes = []
    if request.organization:
        attributes.append(crypto.NameAttribute(NameOID.ORGANIZATION_NAME, request.organization))
    if request.common_name and len(request.common_name) <= MAX_COMMON_NAME:
        attributes.append(crypto.NameAttribute(NameOID.COMMON_NAME, request.common_name))
    try:
        names = crypto.SubjectAlternativeName(x509.general_names(request.names))
        builder = crypto.CertificateSigningRequestBuilder().subject_name(crypto.Name(attributes))
        builder = builder.add_extension(names, critical=not attributes)  # RFC 5280 section 4.2.1.6
        return x509.to_pem(builder.sign(key, signature_hash(key)))
    except (ValueError, TypeError) as error:
        raise Permanent(f"No signing request can be made for {request.alias}: {str(error)[:200]!a}.") from None


def signature_hash(key: PrivateKey) -> hashes.SHA256 | hashes.SHA384 | None:
    """The hash that fits a key; None for a key that brings its own."""
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return None
    if isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.name == "secp384r1":
        return hashes.SHA384()
    return hashes.SHA256()


def certificates_for(
    alias: str, key: PrivateKey, certificate_pem: str, chain_pem: Sequence[str]
) -> list[crypto.Certificate]:
    """Leaf and chain, read; raises `Permanent` unless the leaf is the key's own."""
    try:
        leaf = x509.load_certificate(certificate_pem)
        chain = [one for pem in chain_pem for one in x509.load_certificates(pem)]
    except InvalidInput as error:
        raise Permanent(error.message) from None
    if x509.public_key_sha256(leaf) != x509.public_key_sha256(key.public_key()):
        raise Permanent(f"The certificate does not match the key under {alias}; nothing was stored.")
    return [leaf, *chain]


def certificate_of(der: bytes) -> crypto.Certificate | None:
    """A certificate out of somebody's file; None where it is damaged. The library reads subject, issuer and times only
    when they are asked for, so they are asked for here."""
    try:
        certificate = crypto.load_der_x509_certificate(der)
        _ = certificate.subject, certificate.issuer, certificate.not_valid_after_utc, certificate.serial_number
    except (ValueError, crypto.InvalidVersion):
        return None
    return certificate


def pkcs8_pem(key: PrivateKey) -> bytes:
    """The key as unencrypted PKCS#8 PEM (RFC 5958)."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def described(
    kind: EntryKind,
    alias: str,
    *,
    key: object = None,
    certificate: crypto.Certificate | None = None,
    problem: str | None = None,
) -> Entry:
    """An entry for people. The key is described by its certificate where it could not be read itself, and a foreign
    certificate that says what certgate does not know is described as far as it goes."""
    public: Any = key.public_key() if isinstance(key, PrivateKey) else _told(lambda c: c.public_key(), certificate)
    return Entry(
        alias=alias,
        algorithm=x509.key_algorithm(public) if public is not None else None,
        public_key_sha256=x509.public_key_sha256(public) if public is not None else "",
        certificate_sha256=x509.fingerprint(certificate) if certificate else None,
        not_after=certificate.not_valid_after_utc if certificate else None,
        kind=kind,
        subject=_told(lambda c: x509.distinguished_name(c.subject), certificate),
        names=tuple(_told(_names, certificate) or ()),
        issuer=_told(lambda c: x509.distinguished_name(c.issuer), certificate),
        serial_number=x509.serial_hex(certificate) if certificate else None,
        problem=problem,
        certificate_pem=x509.to_pem(certificate) if certificate else None,
    )


def _told(what: Callable[[crypto.Certificate], Any], certificate: crypto.Certificate | None) -> Any:
    """What the library reads of a certificate; None where it can't: others' certificates break rules."""
    try:
        return what(certificate) if certificate is not None else None
    except (ValueError, UnsupportedAlgorithm, crypto.UnsupportedGeneralNameType, crypto.DuplicateExtension):
        return None


def _names(certificate: crypto.Certificate) -> list[str]:
    try:
        names = certificate.extensions.get_extension_for_class(crypto.SubjectAlternativeName).value
    except crypto.ExtensionNotFound:
        return []
    return [str(name.value) for name in names if isinstance(name, crypto.DNSName | crypto.IPAddress)]
