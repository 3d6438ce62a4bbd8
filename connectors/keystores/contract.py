"""What certgate asks of a keystore: make a key under an alias, sign a CSR with it, keep the certificate beside it.

Aliases are made by certgate (``request-42``): lower-case letters, digits and ``-``. Every verb may be called twice.
Errors: `Permanent` for a wrong passphrase, a damaged file or a full disk; `Retryable` for a token that is away.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol, runtime_checkable

from model.keys import KeyAlgorithm


@dataclass(frozen=True)
class SigningRequest:
    """What a CSR shall say. `names` are DNS names (A-labels, wildcards allowed) or IP addresses; they become the SAN
    extension in this order. `common_name` is left out of the subject when it is longer than 64 characters (RFC 5280
    appendix A.1, ub-common-name)."""

    alias: str
    algorithm: KeyAlgorithm
    common_name: str
    names: Sequence[str]
    organization: str | None = None


class EntryKind(StrEnum):
    """What an entry is: a key with or without its certificate, somebody else's certificate, or what certgate does not
    use and leaves as it is."""

    KEY_PAIR = "key pair"
    TRUSTED_CERTIFICATE = "trusted certificate"
    OTHER = "other"


@dataclass(frozen=True)
class Entry:
    """What a keystore holds under an alias; never the key itself.

    `algorithm` is None for a key that certgate would not make; `public_key_sha256` is empty where nothing is known of
    the key. What is said of the certificate is None, and `names` empty, where there is none yet. `problem` is one
    sentence about an entry that could not be read while the rest of the keystore could. `certificate_pem` is the public
    certificate itself.
    """

    alias: str
    algorithm: KeyAlgorithm | None
    public_key_sha256: str
    certificate_sha256: str | None
    not_after: datetime | None
    kind: EntryKind = EntryKind.KEY_PAIR
    subject: str | None = None
    names: Sequence[str] = ()
    issuer: str | None = None
    serial_number: str | None = None
    problem: str | None = None
    certificate_pem: str | None = None


@runtime_checkable
class Keystore(Protocol):
    """One place for keys."""

    async def sign_request(self, request: SigningRequest) -> str:
        """The CSR, PEM. Makes the key if the alias has none; a key that is there is used again, and one of another
        algorithm is `Permanent`."""
        ...

    async def store_certificate(self, alias: str, certificate_pem: str, chain_pem: Sequence[str]) -> None:
        """Keep the certificate beside its key; one that does not match the key is `Permanent`."""
        ...

    async def entries(self) -> Sequence[Entry]:
        """Everything in the keystore, by alias."""
        ...

    async def remove(self, alias: str) -> None:
        """Delete key and certificate; an alias that is not there is success."""
        ...


@runtime_checkable
class ExportsKeys(Protocol):
    """A keystore whose keys may be copied to an endpoint of the same gateway. An HSM is not one."""

    async def private_key(self, alias: str) -> bytes:
        """The key as unencrypted PKCS#8 PEM. It goes from here to the endpoint's file and nowhere else."""
        ...
