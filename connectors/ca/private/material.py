"""The CA's own keys and certificates: made once, however many processes start at once, and loaded after that.

Files in the folder: ``root.key``, ``root.pem``, ``intermediate.key``, ``intermediate.pem``. The root's key is needed
only to make the intermediate and may then be moved off this machine.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from cryptography import x509 as crypto
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from connectors.ca.private.settings import Settings
from connectors.errors import Permanent
from connectors.folders import PrivateFolder
from model import x509
from model.errors import InvalidInput

ROOT_LIFE = timedelta(days=3652)
INTERMEDIATE_LIFE = timedelta(days=1826)
# No leaf may begin before its issuer does, and leafs are backdated by an hour at most (`Settings.backdate_seconds`).
BACKDATED = timedelta(hours=1)


@dataclass(frozen=True)
class Material:
    """What signing needs. The key stays out of `repr`."""

    root: crypto.Certificate
    intermediate: crypto.Certificate
    key: ec.EllipticCurvePrivateKey = field(repr=False)
    constraints: crypto.NameConstraints | None = None


def new_serial() -> int:
    """127 random bits, never zero: as an INTEGER of at most 16 octets it is positive (RFC 5280 section 4.1.2.2)."""
    return secrets.randbits(127) or new_serial()


def load_or_create(folder: PrivateFolder, settings: Settings, now: datetime) -> Material:
    """The CA in `folder`, made at the first call; a process killed while making it is carried on from where it stood.

    Raises `Permanent` for damaged or unfitting files. They are never replaced: that would be another CA.
    """
    folder.prepare()
    with folder.lock():
        intermediate = _certificate(folder, "intermediate.pem")
        root = _certificate(folder, "root.pem")
        if intermediate is None or root is None:
            if intermediate is not None:
                raise Permanent(
                    f"The CA in {folder.path} has an intermediate and no root.pem; restore it from a backup."
                )
            root = root or _make_root(folder, settings, now)
            intermediate = _make_intermediate(folder, settings, root, now)
    key = _key(folder, "intermediate.key")
    if key is None:
        raise Permanent(f"The CA in {folder.path} has lost intermediate.key; restore it from a backup.")
    if x509.public_key_sha256(key.public_key()) != x509.public_key_sha256(intermediate):
        raise Permanent(f"In the CA's folder {folder.path} intermediate.key does not belong to intermediate.pem.")
    if x509.order_chain(intermediate, [root], with_root=True) != [root]:
        raise Permanent(f"In the CA's folder {folder.path} intermediate.pem was not issued by root.pem.")
    try:
        limits = intermediate.extensions.get_extension_for_class(crypto.NameConstraints).value
    except crypto.ExtensionNotFound:
        limits = None
    return Material(root, intermediate, key, limits)


def _make_root(folder: PrivateFolder, settings: Settings, now: datetime) -> crypto.Certificate:
    key = _key(folder, "root.key") or _new_key(folder, "root.key", ec.SECP384R1())
    builder = _builder(settings, "Root CA", key.public_key(), now, ROOT_LIFE)
    builder = builder.issuer_name(_name(settings, "Root CA", key.public_key())).add_extension(
        crypto.BasicConstraints(ca=True, path_length=None), critical=True
    )
    builder = builder.add_extension(_usage(signs_answers=False), critical=True)
    identifier = crypto.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key())
    root = builder.add_extension(identifier, critical=False).sign(key, hashes.SHA384())
    folder.write("root.pem", x509.to_pem(root).encode("ascii"))
    return root


def _make_intermediate(
    folder: PrivateFolder, settings: Settings, root: crypto.Certificate, now: datetime
) -> crypto.Certificate:
    root_key = _key(folder, "root.key")
    if root_key is None or x509.public_key_sha256(root_key.public_key()) != x509.public_key_sha256(root):
        raise Permanent(f"The CA in {folder.path} needs the root.key of root.pem to make its intermediate.")
    key = _key(folder, "intermediate.key") or _new_key(folder, "intermediate.key", ec.SECP256R1())
    builder = _builder(settings, "Issuing CA", key.public_key(), now, INTERMEDIATE_LIFE).issuer_name(root.subject)
    builder = builder.add_extension(crypto.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(_usage(signs_answers=True), critical=True)
    purposes = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    builder = builder.add_extension(crypto.ExtendedKeyUsage(purposes), critical=False)
    builder = builder.add_extension(authority_key_identifier(root), critical=False)
    if settings.constraints is not None:
        builder = builder.add_extension(settings.constraints, critical=True)
    intermediate = builder.sign(root_key, hashes.SHA384())
    folder.write("intermediate.pem", x509.to_pem(intermediate).encode("ascii"))
    return intermediate


def authority_key_identifier(issuer: crypto.Certificate) -> crypto.AuthorityKeyIdentifier:
    """RFC 5280 section 4.2.1.1, taken from the issuer's own subject key identifier."""
    identifier = issuer.extensions.get_extension_for_class(crypto.SubjectKeyIdentifier).value
    return crypto.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier)


def _builder(
    settings: Settings, role: str, key: ec.EllipticCurvePublicKey, now: datetime, life: timedelta
) -> crypto.CertificateBuilder:
    start = now.replace(microsecond=0) - BACKDATED
    return (
        crypto.CertificateBuilder()
        .subject_name(_name(settings, role, key))
        .public_key(key)
        .serial_number(new_serial())
        .not_valid_before(start)
        .not_valid_after(start + life - timedelta(seconds=1))
        .add_extension(crypto.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _name(settings: Settings, role: str, key: ec.EllipticCurvePublicKey) -> crypto.Name:
    """Unique by a piece of the key's fingerprint: two CAs of the same name would confuse clients that trust both."""
    return crypto.Name(
        [
            crypto.NameAttribute(NameOID.ORGANIZATION_NAME, settings.name),
            crypto.NameAttribute(NameOID.COMMON_NAME, f"{settings.name} {role} {x509.public_key_sha256(key)[:8]}"),
        ]
    )


def _usage(*, signs_answers: bool) -> crypto.KeyUsage:
    """`signs_answers`: OCSP responses are signed with this key itself (RFC 6960 section 4.2.2.2)."""
    return crypto.KeyUsage(
        digital_signature=signs_answers,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )


def _new_key(folder: PrivateFolder, name: str, curve: ec.EllipticCurve) -> ec.EllipticCurvePrivateKey:
    key = ec.generate_private_key(curve)
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    folder.write(name, pem)
    return key


def _key(folder: PrivateFolder, name: str) -> ec.EllipticCurvePrivateKey | None:
    content = folder.read(name)
    if content is None:
        return None
    try:
        key = serialization.load_pem_private_key(content, None)
    except (ValueError, TypeError):
        key = None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise Permanent(f"The CA's key {folder.path / name} is damaged; restore it from a backup.")
    return key


def _certificate(folder: PrivateFolder, name: str) -> crypto.Certificate | None:
    content = folder.read(name)
    if content is None:
        return None
    try:
        return x509.load_certificate(content.decode("ascii", "replace"))
    except InvalidInput:
        raise Permanent(f"The CA's certificate {folder.path / name} is damaged; restore it from a backup.") from None
