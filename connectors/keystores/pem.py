"""A keystore that is a folder of PEM files: ``<alias>.key`` (PKCS#8, RFC 5958) and ``<alias>.pem`` (leaf, then chain).

Two processes that make a key for one alias at once both go on with the one that came first; a process killed in between
leaves no file that counts as a key. With a passphrase the keys are encrypted (PBES2 with AES-256-CBC and PBKDF2);
without one the folder's and the files' modes are all that protects them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509 as crypto
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from pydantic import BaseModel, ConfigDict, Field

from connectors.errors import KeyMissing, Permanent
from connectors.folders import PrivateFolder
from connectors.keystores import keys
from connectors.keystores.contract import Entry, EntryKind, SigningRequest
from connectors.keystores.keys import PrivateKey
from connectors.registry import ConnectorType, Surroundings
from connectors.secrets import Reference
from model import x509
from model.errors import InvalidInput
from model.keys import KeyAlgorithm


class Settings(BaseModel):
    """Where the keys are and how they are protected."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    folder: Path | None = Field(default=None, description="Folder of the keys (mode 0700); default: keys in the home.")
    passphrase: Reference | None = Field(
        default=None, description="Reference of a passphrase, file:/…, env:… or vault:…; optional."
    )


class PemKeystore:
    """See `Keystore` and `ExportsKeys`. Everything that may take long runs in a thread: an RSA key of 4096 bits can
    take many seconds, in which the worker has to go on sending heartbeats."""

    def __init__(self, settings: Settings, surroundings: Surroundings) -> None:
        self._folder = PrivateFolder(settings.folder or surroundings.home / "keys", "keystore")
        self._reference = settings.passphrase
        self._secret = surroundings.secret

    async def sign_request(self, request: SigningRequest) -> str:
        """See `Keystore.sign_request`."""
        return await asyncio.to_thread(self._sign_request, request)

    async def store_certificate(self, alias: str, certificate_pem: str, chain_pem: Sequence[str]) -> None:
        """See `Keystore.store_certificate`."""
        await asyncio.to_thread(self._store_certificate, alias, certificate_pem, chain_pem)

    async def entries(self) -> Sequence[Entry]:
        """See `Keystore.entries`; one damaged file is told rather than left out."""
        return await asyncio.to_thread(self._entries)

    async def remove(self, alias: str) -> None:
        """See `Keystore.remove`."""
        await asyncio.to_thread(self._remove, alias)

    async def private_key(self, alias: str) -> bytes:
        """See `ExportsKeys.private_key`."""
        return await asyncio.to_thread(self._private_key, alias)

    def _sign_request(self, request: SigningRequest) -> str:
        alias = keys.checked_alias(request.alias)
        self._folder.prepare()
        key = self._load(alias) or self._make(alias, request.algorithm)
        keys.require_algorithm(alias, key, request.algorithm)
        return keys.signing_request(key, request)

    def _make(self, alias: str, algorithm: KeyAlgorithm) -> PrivateKey:
        # Outside the lock: nobody shall wait for somebody else's RSA key. A key that comes second is thrown away.
        key = keys.generate(algorithm)
        content = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, self._encryption(self._passphrase())
        )
        with self._folder.lock():
            earlier = self._load(alias)
            if earlier is not None:
                return earlier
            self._folder.write(f"{alias}.key", content)
        return key

    def _load(self, alias: str) -> PrivateKey | None:
        content = self._folder.read(f"{alias}.key")
        if content is None:
            return None
        path = self._folder.path / f"{alias}.key"
        encrypted = b"ENCRYPTED PRIVATE KEY" in content
        passphrase = self._passphrase()
        if encrypted and passphrase is None:
            raise Permanent(f"The key {path} is encrypted, and the keystore has no passphrase configured.")
        try:
            key = serialization.load_pem_private_key(content, passphrase if encrypted else None)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            # The library's own message is kept out: it knows the content.
            why = "the passphrase is wrong or the file is damaged" if encrypted else "the file is damaged"
            raise Permanent(f"The key {path} can't be read: {why}.") from None
        if not isinstance(key, PrivateKey):
            raise Permanent(f"The key {path} is of a type that certgate does not use.")
        return key

    def _existing(self, alias: str) -> PrivateKey:
        self._folder.prepare()
        key = self._load(keys.checked_alias(alias))
        if key is None:
            raise KeyMissing(f"The keystore {self._folder.path} has no key under {alias}.")
        return key

    def _store_certificate(self, alias: str, certificate_pem: str, chain_pem: Sequence[str]) -> None:
        key = self._existing(alias)
        certificates = keys.certificates_for(alias, key, certificate_pem, chain_pem)
        content = "".join(x509.to_pem(one) for one in certificates).encode("ascii")
        with self._folder.lock():
            if self._folder.read(f"{alias}.pem") != content:
                self._folder.write(f"{alias}.pem", content)

    def _entries(self) -> list[Entry]:
        self._folder.prepare()
        found = []
        for name in self._folder.names(".key"):
            alias = name.removesuffix(".key")
            key = self._load(alias) if keys.ALIAS.fullmatch(alias) else None
            if key is None:  # not ours, or removed in the meantime
                continue
            found.append(keys.described(EntryKind.KEY_PAIR, alias, key=key, certificate=self._leaf(alias)))
        return found

    def _leaf(self, alias: str) -> crypto.Certificate | None:
        content = self._folder.read(f"{alias}.pem")
        if content is None:
            return None
        try:
            return x509.load_certificates(content.decode("ascii", "replace"))[0]
        except InvalidInput:
            raise Permanent(f"The certificate file {self._folder.path / alias}.pem is damaged.") from None

    def _remove(self, alias: str) -> None:
        keys.checked_alias(alias)
        self._folder.prepare()
        with self._folder.lock():
            # The key last: killed in between, the alias is still seen and can be removed again.
            self._folder.delete(f"{alias}.pem")
            self._folder.delete(f"{alias}.key")

    def _private_key(self, alias: str) -> bytes:
        return keys.pkcs8_pem(self._existing(alias))

    def _passphrase(self) -> bytes | None:
        """Asked for at each use and not kept, so that a changed one counts at once."""
        return self._secret(self._reference) if self._reference else None

    @staticmethod
    def _encryption(passphrase: bytes | None) -> serialization.KeySerializationEncryption:
        return serialization.BestAvailableEncryption(passphrase) if passphrase else serialization.NoEncryption()


CONNECTOR = ConnectorType(name="pem", title="PEM directory", settings=Settings, open=PemKeystore)
