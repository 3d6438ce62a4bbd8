"""Keys, certificates and requests as the device describes them. Fingerprints are told as ``SHA256/AA:BB:…``, checksums
as ``SHA1:SIZE:HEX``; a key's public half is not told at all."""

from __future__ import annotations

import datetime as dt
import hashlib
import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID

from tests.simulators.f5.problems import Problem, bad_file

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
_DAY = dt.timedelta(days=1)
_CURVES: Mapping[str, ec.EllipticCurve] = {"prime256v1": ec.SECP256R1(), "secp384r1": ec.SECP384R1()}


@dataclass(frozen=True)
class File:
    """A file object: content and when it was made."""

    content: bytes
    created: dt.datetime


# Files never change: each is read once, however often it is looked at.
_MOST = 4096


@lru_cache(_MOST)
def _key(content: bytes) -> Key | None:
    try:
        key = load_pem_private_key(content, None)
    except (ValueError, TypeError):
        return None
    return key if isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) else None


@lru_cache(_MOST)
def _certificates(content: bytes) -> tuple[x509.Certificate, ...]:
    try:
        return tuple(x509.load_pem_x509_certificates(content))
    except ValueError:
        return ()


def key_of(path: str, content: bytes) -> Key:
    """Raises `Problem`."""
    key = _key(content)
    if key is None:
        raise bad_file(path, "it is no private key, or none of a type that is supported")
    return key


def certificates_of(path: str, content: bytes) -> Sequence[x509.Certificate]:
    """Raises `Problem`."""
    found = _certificates(content)
    if not found:
        raise bad_file(path, "it is no x509 certificate")
    return found


@lru_cache(_MOST)
def public(of: Key | x509.Certificate) -> bytes:
    """SubjectPublicKeyInfo."""
    return of.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def make_key(kind: str, curve: str, size: int) -> bytes:
    """A new key, PEM. Raises `Problem`."""
    key: Key
    if kind == "rsa-private" and size in (2048, 3072, 4096):
        key = rsa.generate_private_key(65537, size)
    elif kind == "ec-private" and curve in _CURVES:
        key = ec.generate_private_key(_CURVES[curve])
    else:
        raise Problem(f'"{kind}" "{curve}" {size}: no such kind of key')
    return pem_of(key)


def pem_of(key: Key) -> bytes:
    """As openssl writes it."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())


def make_request(key: Key, common_name: str, alternatives: str) -> bytes:
    """A CSR, PEM; `alternatives` is ``DNS:a,IP:b``."""
    names: list[x509.GeneralName] = []
    for one in filter(None, alternatives.split(",")):
        kind, _, value = one.strip().partition(":")
        names.append(x509.IPAddress(ipaddress.ip_address(value)) if kind == "IP" else x509.DNSName(value))
    subject = [x509.NameAttribute(NameOID.COMMON_NAME, common_name)] if common_name else []
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name(subject))
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(key, SHA256()).public_bytes(Encoding.PEM)


def self_signed(key: Key, names: Sequence[str], now: dt.datetime) -> bytes:
    """A certificate for the device's first state, PEM."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number()).not_valid_before(now - _DAY)
    alternatives = x509.SubjectAlternativeName([x509.DNSName(one) for one in names])
    builder = builder.not_valid_after(now + 30 * _DAY).add_extension(alternatives, critical=False)
    return builder.sign(key, SHA256()).public_bytes(Encoding.PEM)


@lru_cache(_MOST)
def describe_certificate(found: x509.Certificate) -> Mapping[str, Any]:
    """What the device says of one certificate."""
    key = found.public_key()
    curve = key.curve.name if isinstance(key, ec.EllipticCurvePublicKey) else "none"
    told = {
        "certificateKeyCurveName": "prime256v1" if curve == "secp256r1" else curve,
        "certificateKeySize": getattr(key, "key_size", 0),
        "expirationDate": int(found.not_valid_after_utc.timestamp()),
        "expirationString": found.not_valid_after_utc.strftime("%b %d %H:%M:%S %Y GMT"),
        "fingerprint": "SHA256/" + found.fingerprint(SHA256()).hex(":").upper(),
        "issuer": found.issuer.rfc4514_string(),
        "keyType": "ec-public" if isinstance(key, ec.EllipticCurvePublicKey) else "rsa-public",
        "serialNumber": str(found.serial_number),
        "subject": found.subject.rfc4514_string(),
        "version": 3,
    }
    try:
        names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return told
    parts = [f"DNS:{one}" for one in names.get_values_for_type(x509.DNSName)]
    parts += [f"IP Address:{one}" for one in names.get_values_for_type(x509.IPAddress)]
    return {**told, "subjectAlternativeName": ", ".join(parts)}


def describe_key(path: str, content: bytes) -> dict[str, Any]:
    """What the device says of a key."""
    key = key_of(path, content)
    elliptic = isinstance(key, ec.EllipticCurvePrivateKey)
    curve = key.curve.name if isinstance(key, ec.EllipticCurvePrivateKey) else "none"
    return {
        "curveName": "prime256v1" if curve == "secp256r1" else curve,
        "keySize": key.key_size,
        "keyType": "ec-private" if elliptic else "rsa-private",
        "securityType": "normal",
    }


def described(path: str, file: File, kind: str) -> dict[str, Any]:
    """What all file objects have in common."""
    partition, _, name = path[1:].partition("/")
    moment = file.created.strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "kind": f"tm:sys:file:{kind}:{kind}state",
        "name": name,
        "partition": partition,
        "fullPath": path,
        "generation": 1,
        "selfLink": f"https://localhost/mgmt/tm/sys/file/{kind}/{path.replace('/', '~')}?ver=17.1.1",
        "checksum": f"SHA1:{len(file.content)}:{hashlib.sha1(file.content).hexdigest()}",
        "createTime": moment,
        "lastUpdateTime": moment,
        "createdBy": "certgate",
        "updatedBy": "certgate",
        "mode": 33188,
        "revision": 1,
        "size": len(file.content),
        "systemPath": f"/config/ssl/{kind.replace('-', '.')}/{name}",
    }
