"""The JKS format, as ``sun.security.provider.JavaKeyStore`` and ``KeyProtector`` of OpenJDK define it.

All numbers are big-endian::

    magic 0xFEEDFEED, version (1 or 2), count, entries, SHA-1 over passphrase, "Mighty Aphrodite" and all before
    key entry      tag 1, alias, time (ms since 1970), length, EncryptedPrivateKeyInfo, count, certificates
    trusted entry  tag 2, alias, time, certificate
    certificate    type (only in version 2), length, DER

Java's protection of keys is weak (an exclusive-or with a chain of SHA-1): a passphrase must be long and random. Other
programs' entries are kept as the bytes that they are.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from asn1crypto.keys import EncryptedPrivateKeyInfo
from cryptography import x509 as crypto
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization

from connectors.archives.contract import DAMAGED, OTHER_PASSPHRASE, WRONG, Archive, Passphrases, Unreadable, as_shown
from connectors.keystores import keys
from connectors.keystores.contract import Entry, EntryKind
from connectors.keystores.keys import PrivateKey

_MAGIC, _VERSION = 0xFEEDFEED, 2
_KEY, _TRUSTED = 1, 2
_WHITENER = b"Mighty Aphrodite"
_PROTECTOR = "1.3.6.1.4.1.42.2.17.1.1"
_DIGEST = 20
_MOST_CERTIFICATES = 100
_ENDS_EARLY = "the file is damaged: it ends too early"


@dataclass
class _Entry:
    """One entry as bytes. `key` is None for a trusted certificate; `types` say what each certificate is."""

    alias: bytes
    time: int
    key: bytes | None
    certificates: list[bytes]
    types: list[bytes]

    @property
    def name(self) -> str:
        """The alias, from Java's modified UTF-8 (``java.io.DataInput``)."""
        text = self.alias.replace(b"\xc0\x80", b"\0").decode("utf-8", "surrogatepass")
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


class JksArchive:
    """See `Archive`."""

    def __init__(self, entries: list[_Entry], passphrases: Passphrases) -> None:
        self._entries = entries
        self._passphrases = passphrases

    @classmethod
    def new(cls, passphrases: Passphrases) -> Archive:
        """An empty one."""
        return cls([], passphrases)

    @classmethod
    def read(cls, content: bytes, passphrases: Passphrases) -> Archive:
        """Check and take apart a file; raises `Unreadable`."""
        body, digest = content[:-_DIGEST], content[-_DIGEST:]
        if len(content) < 12 + _DIGEST:
            raise Unreadable(_ENDS_EARLY)
        magic, version, count = struct.unpack(">III", body[:12])
        if magic != _MAGIC or version not in (1, 2):
            raise Unreadable("it is no JKS file, or one of a version that nobody knows")
        entries = list(_entries(body, version, count))
        expected = hashlib.sha1(_java(passphrases.store) + _WHITENER + body).digest()  # noqa: S324  (the format's own)
        if not hmac.compare_digest(expected, digest):
            raise Unreadable(WRONG)
        return cls(entries, passphrases)

    def entries(self) -> list[Entry]:
        """See `Archive.entries`."""
        return [self._shown(entry) for entry in self._entries]

    def aliases(self) -> list[str]:
        """See `Archive.aliases`."""
        return [entry.name for entry in self._entries if entry.key is not None]

    def key(self, alias: str) -> PrivateKey | None:
        """See `Archive.key`."""
        entry = self._find(alias)
        if entry is None:
            return None
        key = self._unlocked(entry)
        if key is None:
            raise Unreadable(f"the key under {alias} has another passphrase than the one that is set, or is damaged")
        if not isinstance(key, PrivateKey):
            raise Unreadable(f"the key under {alias} is of a type that certgate does not use")
        return key

    def chain(self, alias: str) -> list[crypto.Certificate]:
        """See `Archive.chain`."""
        entry = self._find(alias)
        read = [keys.certificate_of(one) for one in entry.certificates] if entry else []
        # With one that is damaged the chain is none that could be kept as it is.
        return [one for one in read if one is not None]

    def put(self, alias: str, key: PrivateKey, chain: Sequence[crypto.Certificate], now: int) -> None:
        """See `Archive.put`."""
        entry = self._find(alias)
        if entry is None and any(one.name.lower() == alias.lower() for one in self._entries):
            raise Unreadable(f"it has something else under {alias}, which is no key")
        if entry is None:
            entry = _Entry(_spelled(alias), now, None, [], [])
            self._entries.append(entry)
        plain = key.private_bytes(
            serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        entry.time, entry.key = now, _locked(plain, self._passphrases.key)
        self.certify(alias, chain)

    def certify(self, alias: str, chain: Sequence[crypto.Certificate]) -> None:
        """See `Archive.certify`."""
        entry = self._find(alias)
        assert entry is not None
        entry.certificates = [one.public_bytes(serialization.Encoding.DER) for one in chain]
        entry.types = [b"X.509"] * len(chain)

    def remove(self, alias: str) -> None:
        """See `Archive.remove`."""
        self._entries = [entry for entry in self._entries if entry.key is None or entry.name.lower() != alias.lower()]

    def content(self) -> bytes:
        """See `Archive.content`."""
        parts = [struct.pack(">III", _MAGIC, _VERSION, len(self._entries))]
        for entry in self._entries:
            parts.append(struct.pack(">I", _TRUSTED if entry.key is None else _KEY))
            parts.append(struct.pack(">H", len(entry.alias)) + entry.alias + struct.pack(">Q", entry.time))
            if entry.key is not None:
                parts.append(struct.pack(">I", len(entry.key)) + entry.key)
                parts.append(struct.pack(">I", len(entry.certificates)))
            for kind, one in zip(entry.types, entry.certificates, strict=True):
                parts.append(struct.pack(">H", len(kind)) + kind + struct.pack(">I", len(one)) + one)
        body = b"".join(parts)
        return body + hashlib.sha1(_java(self._passphrases.store) + _WHITENER + body).digest()  # noqa: S324

    def _find(self, alias: str) -> _Entry | None:
        return next((one for one in self._entries if one.key is not None and one.name.lower() == alias.lower()), None)

    def _shown(self, entry: _Entry) -> Entry:
        kind = EntryKind.TRUSTED_CERTIFICATE if entry.key is None else EntryKind.KEY_PAIR
        key = self._unlocked(entry, listed=True) if entry.key is not None else None
        problem = OTHER_PASSPHRASE if entry.key is not None and key is None else None
        return as_shown(kind, entry.name, key, entry.certificates[0] if entry.certificates else None, problem)

    def _unlocked(self, entry: _Entry, *, listed: bool = False) -> Any:
        assert entry.key is not None
        plain = _opened(entry.key, self._passphrases.key)
        if plain is None:
            return None
        try:
            # An RSA key's numbers are checked where it is used; that takes too long for a list of many.
            return serialization.load_der_private_key(plain, None, unsafe_skip_rsa_key_validation=listed)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            return None


def _entries(body: bytes, version: int, count: int) -> Iterator[_Entry]:
    place = 12

    def take(length: int) -> bytes:
        nonlocal place
        part = body[place : place + length]
        if len(part) != length:
            raise Unreadable(_ENDS_EARLY)
        place += length
        return part

    def number(form: str) -> int:
        return int(struct.unpack(form, take(struct.calcsize(form)))[0])

    for _ in range(count):
        tag, alias, time = number(">I"), take(number(">H")), number(">Q")
        if tag not in (_KEY, _TRUSTED):
            raise Unreadable(f"{DAMAGED}: it has an entry of the unknown kind {tag}")
        key = take(number(">I")) if tag == _KEY else None
        certificates = number(">I") if tag == _KEY else 1
        if certificates > _MOST_CERTIFICATES:
            raise Unreadable(f"{DAMAGED}: it has an entry with {certificates} certificates")
        entry = _Entry(alias, time, key, [], [])
        for _ in range(certificates):
            entry.types.append(take(number(">H")) if version == 2 else b"X.509")
            entry.certificates.append(take(number(">I")))
        try:
            _ = entry.name
        except UnicodeDecodeError:
            raise Unreadable(f"{DAMAGED}: it has an alias that is no text") from None
        yield entry
    if place != len(body):
        raise Unreadable(f"{DAMAGED}: there is more in it than it says")


def _spelled(alias: str) -> bytes:
    """An alias in Java's modified UTF-8; Java itself keeps aliases of a JKS in lower case."""
    units = alias.lower().encode("utf-16-be", "surrogatepass")
    characters = (chr(int.from_bytes(units[at : at + 2], "big")) for at in range(0, len(units), 2))
    return "".join(characters).encode("utf-8", "surrogatepass").replace(b"\0", b"\xc0\x80")


def _java(passphrase: str) -> bytes:
    return passphrase.encode("utf-16-be", "surrogatepass")


def _stream(passphrase: str, salt: bytes, length: int) -> bytes:
    word, block, stream = _java(passphrase), salt, b""
    while len(stream) < length:
        block = hashlib.sha1(word + block).digest()  # noqa: S324  (the format's own)
        stream += block
    return stream[:length]


def _combined(one: bytes, other: bytes) -> bytes:
    return (int.from_bytes(one, "big") ^ int.from_bytes(other, "big")).to_bytes(len(one), "big")


def _locked(plain: bytes, passphrase: str) -> bytes:
    salt = os.urandom(_DIGEST)
    check = hashlib.sha1(_java(passphrase) + plain).digest()  # noqa: S324  (the format's own)
    sealed = salt + _combined(plain, _stream(passphrase, salt, len(plain))) + check
    info = EncryptedPrivateKeyInfo({"encryption_algorithm": {"algorithm": _PROTECTOR}, "encrypted_data": sealed})
    return bytes(info.dump())


def _opened(info: bytes, passphrase: str) -> bytes | None:
    """The PKCS#8 key; None where the passphrase is another or the protection is none that Java writes into a JKS."""
    try:
        parsed = EncryptedPrivateKeyInfo.load(info, strict=True)
        algorithm = parsed["encryption_algorithm"]["algorithm"].dotted
        sealed = bytes(parsed["encrypted_data"].native)
    except (ValueError, TypeError, KeyError):
        return None
    if algorithm != _PROTECTOR or len(sealed) <= 2 * _DIGEST:
        return None
    salt, hidden, check = sealed[:_DIGEST], sealed[_DIGEST:-_DIGEST], sealed[-_DIGEST:]
    plain = _combined(hidden, _stream(passphrase, salt, len(hidden)))
    expected = hashlib.sha1(_java(passphrase) + plain).digest()  # noqa: S324  (the format's own)
    return plain if hmac.compare_digest(expected, check) else None
