"""What PKCS#12 and JKS have in common once they are in memory: entries by alias, each with a passphrase.

Java compares aliases without regard to case, and so does every method here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from cryptography import x509 as crypto
from cryptography.x509.oid import NameOID

from connectors.keystores import keys
from connectors.keystores.contract import Entry, EntryKind
from connectors.keystores.keys import PrivateKey

LARGEST_FILE = 16 * 1024 * 1024
WRONG = "the passphrase is wrong or the file is damaged"
DAMAGED = "the file is damaged"
OTHER_PASSPHRASE = "Its key has another passphrase than the one that is set, or is damaged."  # noqa: S105  (a sentence)
STANDS_IN = "Stands in until the certificate comes"
"""The organizational unit of a certificate that does."""


class Unreadable(Exception):
    """A file is not what it should be; `why` completes the sentence "The keystore … can't be read: …"."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


@dataclass(frozen=True)
class Passphrases:
    """What opens a file, and what opens the keys in it."""

    store: str = field(repr=False)
    key: str = field(repr=False)


class Archive(Protocol):
    """A keystore file in memory. Methods raise `Unreadable`."""

    def entries(self) -> list[Entry]:
        """Everything in it, as it stands in the file."""
        ...

    def aliases(self) -> list[str]:
        """The aliases of its key entries as they are spelled, in the file's order. No key is opened for it."""
        ...

    def key(self, alias: str) -> PrivateKey | None:
        """The key under an alias; None where there is no key entry of that name."""
        ...

    def chain(self, alias: str) -> list[crypto.Certificate]:
        """Leaf and chain that stand beside a key."""
        ...

    def put(self, alias: str, key: PrivateKey, chain: Sequence[crypto.Certificate], now: int) -> None:
        """Put a key with its certificates under an alias: in the place of the key that is there, or as a new entry;
        `now` is in milliseconds since 1970. An alias that something else has is `Unreadable`."""
        ...

    def certify(self, alias: str, chain: Sequence[crypto.Certificate]) -> None:
        """Put other certificates beside a key."""
        ...

    def remove(self, alias: str) -> None:
        """Take a key and its certificates out; an alias that is not there is success."""
        ...

    def content(self) -> bytes:
        """The file."""
        ...


@dataclass(frozen=True)
class Format:
    """A kind of file: its title, how one is read, and how a new one is begun."""

    title: str
    read: Callable[[bytes, Passphrases], Archive]
    new: Callable[[Passphrases], Archive]


def kind_of(content: bytes) -> str | None:
    """What a file is by its first bytes; None for what is no keystore that we know."""
    for start, title in (
        (b"\xfe\xed\xfe\xed", "JKS"),
        (b"\xce\xce\xce\xce", "JCEKS"),
        (b"\x30", "PKCS#12"),
        (b"-----BEGIN", "PEM"),
    ):
        if content.startswith(start):
            return title
    return None


def stands_in(certificate: crypto.Certificate) -> bool:
    """Whether a certificate only stands in until the real one comes."""
    units = certificate.subject.get_attributes_for_oid(NameOID.ORGANIZATIONAL_UNIT_NAME)
    return certificate.subject == certificate.issuer and [unit.value for unit in units] == [STANDS_IN]


def as_shown(kind: EntryKind, alias: str, key: object, der: bytes | None, problem: str | None = None) -> Entry:
    """An entry for people, from what a file holds. A certificate that only stands in is none yet."""
    certificate = keys.certificate_of(der) if der is not None else None
    if der is not None and certificate is None:
        problem = problem or "Its certificate is damaged."
    if certificate is not None and stands_in(certificate):
        certificate = None
    return keys.described(kind, alias, key=key, certificate=certificate, problem=problem)
