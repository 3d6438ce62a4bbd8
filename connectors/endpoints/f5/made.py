"""Keys that are made on the device ("tmsh Reference", sys crypto key and sys crypto csr) and never leave it."""

from __future__ import annotations

import ipaddress
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from connectors.endpoints.f5 import names, uploads
from connectors.endpoints.f5.names import segment
from connectors.endpoints.f5.objects import KEYS
from connectors.endpoints.f5.session import Refused, Session
from connectors.errors import Permanent
from connectors.keystores.contract import SigningRequest
from model.keys import KeyAlgorithm

CRYPTO_KEYS = "/mgmt/tm/sys/crypto/key"
REQUESTS = "/mgmt/tm/sys/crypto/csr"
# Where the device keeps requests, and where files can be fetched from.
REQUEST_FILES = "/config/ssl/ssl.csr"
BULK = "/var/config/rest/bulk"
LONGEST_COMMON_NAME = 64
_KINDS: dict[KeyAlgorithm, dict[str, str]] = {
    KeyAlgorithm.EC_P256: {"keyType": "ec-private", "curveName": "prime256v1"},
    KeyAlgorithm.EC_P384: {"keyType": "ec-private", "curveName": "secp384r1"},
    KeyAlgorithm.RSA_2048: {"keyType": "rsa-private", "keySize": "2048"},
    KeyAlgorithm.RSA_3072: {"keyType": "rsa-private", "keySize": "3072"},
    KeyAlgorithm.RSA_4096: {"keyType": "rsa-private", "keySize": "4096"},
}


async def make(session: Session, path: str, request: SigningRequest) -> bool:
    """Make the key at `path` unless it is there; whether it was made. Raises `Permanent` for one of another kind."""
    kind = _KINDS.get(request.algorithm)
    if kind is None:
        raise Permanent(f"A BIG-IP makes no {request.algorithm} keys: choose {', '.join(_KINDS)}.")
    found = await session.look(f"{KEYS}/{segment(path)}")
    if found is None:
        folder, _, name = path.rpartition("/")
        body = {"name": name, "partition": folder.strip("/"), "securityType": "normal", **kind}
        try:
            await session.again("POST", CRYPTO_KEYS, body)
        except Refused as refused:
            if not refused.exists:
                raise
        return True
    wrong = [name for name, value in kind.items() if str(found.get(name)) != value]
    if wrong:
        raise Permanent(
            f"The key {path} on the device is there and is no {request.algorithm} key ({wrong[0]} is "
            f"{found.get(wrong[0])}): delete it there, or ask for its algorithm."
        )
    return False


async def sign(session: Session, path: str, request: SigningRequest) -> str:
    """A CSR of the key at `path`, PEM."""
    folder, _, key = path.rpartition("/")
    name = f"{key.removesuffix('.key')}.csr"
    alternatives = ",".join(f"{_kind(one)}:{one}" for one in request.names)
    body: dict[str, Any] = {"name": name, "partition": folder.strip("/"), "key": path}
    body["subjectAlternativeName"] = alternatives
    if len(request.common_name) <= LONGEST_COMMON_NAME:
        body["commonName"] = request.common_name
    if request.organization:
        body["organization"] = request.organization
    await forget(session, path)
    try:
        await session.again("POST", REQUESTS, body)
    except Refused as refused:
        if not refused.exists:
            raise
    pem = await _fetch(session, name)
    await forget(session, path)
    return _checked(pem, request)


async def forget(session: Session, path: str) -> None:
    """Delete the CSR of a key; the key stays."""
    await session.delete(f"{REQUESTS}/{segment(path.removesuffix('.key') + '.csr')}")


async def _fetch(session: Session, name: str) -> bytes:
    """As the vendor's own Ansible module (bigip_ssl_csr) does it: there is no way to read it where it is."""
    moved = f"{REQUEST_FILES}/{name} {BULK}/{name}"
    told = await session.send("POST", "/mgmt/tm/util/unix-mv", {"command": "run", "utilCmdArgs": moved})
    words = str(told.get("commandResult") or "").strip()
    if words:
        raise Permanent(f"The device did not give its request {name} out: {' '.join(words.split())[:200]}.")
    try:
        return await session.fetch(f"/mgmt/shared/file-transfer/bulk/{name}")
    finally:
        await uploads.remove(session, [f"{BULK}/{name}"])


def _kind(name: str) -> str:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return "DNS"
    return "IP"


def _checked(pem: bytes, request: SigningRequest) -> str:
    try:
        found = x509.load_pem_x509_csr(pem)
        alternatives = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (ValueError, x509.ExtensionNotFound):
        raise Permanent("The device's certificate signing request can't be read, or names nobody.") from None
    told = [str(one.value).lower() for one in alternatives]
    if not found.is_signature_valid or sorted(told) != sorted(one.lower() for one in request.names):
        raise Permanent(f"The device's certificate signing request is not for {', '.join(request.names)}.")
    return found.public_bytes(Encoding.PEM).decode()


def made_key(partition: str, profile: str, alias: str) -> str:
    """Where the key of an alias is. Raises `Permanent` for an alias that certgate never makes."""
    try:
        return names.made_key(partition, profile, alias)
    except ValueError:
        raise Permanent("A key on the device is called by lower-case letters, digits and - only.") from None
