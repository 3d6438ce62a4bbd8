"""The channel between a gateway and its manager: what both know and nobody else does, the engine's owner included.

The manager has one long-lived X25519 key, a gateway makes one for each channel (RFC 7748 section 6.1). Each side puts
its own private key and the other's public key together and derives the same *channel key* from it (HKDF with SHA-256,
RFC 5869); the derivation binds everything that says whose channel it is. So the database holds public keys only, and
what passes through the engine derives nothing.

The channel key itself seals nothing: each purpose has a key of its own, derived from it (RFC 5869 section 3.2). Sealing
is AES-256-GCM with a random nonce of 96 bits (NIST SP 800-38D section 8.2.2), a proof is HMAC-SHA-256 (RFC 2104).
Keys, proofs and sealed texts are Base64 (RFC 4648 section 4) where they are text.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import os
from dataclasses import dataclass
from enum import StrEnum

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand

from model.errors import InvalidInput

_BYTES = 32
_NONCE = 12
_LABEL = b"certgate channel v1"


class Purpose(StrEnum):
    """What a key derived from the channel key is for; one that is for one thing opens nothing of another."""

    JOIN = "join"
    CONFIRMATION = "confirmation"
    CHECK_IN = "check-in"
    PAYLOADS = "payloads"


@dataclass(frozen=True)
class Parties:
    """Whose channel it is: this certgate, the gateway, the channel's number, and both public keys."""

    installation: str
    gateway_id: int
    number: int
    manager_key: str
    gateway_key: str

    def bound(self, *more: str) -> bytes:
        """All of it as bytes that no other parties have."""
        values = [self.installation, str(self.gateway_id), str(self.number), self.manager_key, self.gateway_key, *more]
        return json.dumps(values, separators=(",", ":")).encode()


def new_key() -> X25519PrivateKey:
    """A key pair."""
    return X25519PrivateKey.generate()


def private_pem(key: X25519PrivateKey) -> bytes:
    """A private key as PKCS#8 in PEM (RFC 8410 section 7), for a file that only its owner may read."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def read_private(content: bytes) -> X25519PrivateKey:
    """A private key from PEM, or from 64 hexadecimal digits: any 32 random bytes are one (RFC 7748 section 5).

    Raises `InvalidInput`, which never quotes the content.
    """
    wrong = InvalidInput("It holds no X25519 private key: PKCS#8 in PEM or 64 hexadecimal digits are expected.")
    try:
        if b"-----BEGIN" not in content:
            digits = bytes.fromhex(content.decode("ascii").strip())
            return X25519PrivateKey.from_private_bytes(digits)
        key = serialization.load_pem_private_key(content, None)
    except (ValueError, TypeError):
        raise wrong from None
    if not isinstance(key, X25519PrivateKey):
        raise wrong
    return key


def public_text(key: X25519PrivateKey | X25519PublicKey) -> str:
    """The public half."""
    public = key.public_key() if isinstance(key, X25519PrivateKey) else key
    return base64.b64encode(public.public_bytes_raw()).decode()


def read_public(text: str) -> X25519PublicKey:
    """A public key. Raises `InvalidInput`."""
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    if len(raw) != _BYTES:
        raise InvalidInput("An X25519 public key is 32 bytes in Base64.")
    return X25519PublicKey.from_public_bytes(raw)


def channel_key(own: X25519PrivateKey, parties: Parties) -> bytes:
    """The channel key, 32 bytes; `own` is the private key of either party.

    Raises `InvalidInput` where `own` belongs to neither, or the other's public key is one of the few that give the same
    secret with every key (RFC 7748 section 6.1).
    """
    mine = public_text(own)
    if mine not in (parties.manager_key, parties.gateway_key):
        raise InvalidInput("This private key belongs to neither side of the channel.")
    other = parties.gateway_key if mine == parties.manager_key else parties.manager_key
    try:
        secret = own.exchange(read_public(other))
    except ValueError:
        raise InvalidInput("This X25519 public key is one that protects nothing.") from None
    return HKDF(SHA256(), _BYTES, salt=None, info=_LABEL + b"\0" + parties.bound()).derive(secret)


def purpose_key(key: bytes, purpose: Purpose) -> bytes:
    """The channel's key for one purpose, 32 bytes."""
    return HKDFExpand(SHA256(), _BYTES, info=_LABEL + b"\0" + purpose.encode()).derive(key)


def seal(key: bytes, purpose: Purpose, parties: Parties, content: bytes) -> str:
    """Content that only the other side of the channel can read, and that nobody can change or move elsewhere."""
    nonce = os.urandom(_NONCE)
    sealed = AESGCM(purpose_key(key, purpose)).encrypt(nonce, content, parties.bound(purpose))
    return base64.b64encode(nonce + sealed).decode()


def unseal(key: bytes, purpose: Purpose, parties: Parties, sealed: str) -> bytes:
    """What the other side sealed. Raises `InvalidInput` for everything else."""
    wrong = InvalidInput("It was not sealed with the key of this channel, or was changed on its way.")
    try:
        raw = base64.b64decode(sealed, validate=True)
        return AESGCM(purpose_key(key, purpose)).decrypt(raw[:_NONCE], raw[_NONCE:], parties.bound(purpose))
    except (binascii.Error, ValueError, InvalidTag):
        raise wrong from None


def proof(key: bytes, purpose: Purpose, parties: Parties, *content: str) -> str:
    """A word that proves that who says `content` holds the channel key."""
    word = hmac.digest(purpose_key(key, purpose), parties.bound(purpose, *content), hashlib.sha256)
    return base64.b64encode(word).decode()


def proves(said: str, key: bytes, purpose: Purpose, parties: Parties, *content: str) -> bool:
    """Whether `said` is that proof; the time that this takes tells nothing."""
    return hmac.compare_digest(said.encode(), proof(key, purpose, parties, *content).encode())
