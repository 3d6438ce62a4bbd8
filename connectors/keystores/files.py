"""What PKCS#12 and JKS have in common: one file with many entries, opened with a passphrase, replaced as a whole.

The file is read, changed in memory and renamed into place under a lock, so that a reader sees the file before or after
and a killed process leaves it as it was. Entries that are not certgate's own are taken over as they are. Other
programs, such as keytool, do not know the lock: they must not write to the file while the gateway runs.

A key has no certificate yet when it is made, but Java wants one beside every key. So a self-signed one stands in, as
``keytool -genkeypair`` does it, until `store_certificate` puts the real chain in its place.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

from cryptography import x509 as crypto
from cryptography.x509.oid import NameOID
from pydantic import BaseModel, ConfigDict, Field, field_validator

from connectors.archives.contract import LARGEST_FILE, STANDS_IN, Archive, Format, Passphrases, Unreadable, kind_of
from connectors.errors import KeyMissing, Permanent
from connectors.folders import PrivateFolder
from connectors.keystores import keys
from connectors.keystores.contract import Entry, SigningRequest
from connectors.keystores.keys import PrivateKey
from connectors.registry import Surroundings
from connectors.secrets import Reference

ResultT = TypeVar("ResultT")

# keytool's own: a certificate of this length stands in until the real one comes.
_STAND_IN = timedelta(days=90)


class FileSettings(BaseModel):
    """Where the file is and what opens it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    file: Path = Field(
        description="The file: its absolute path on the gateway's host, or a name in the gateway's home. "
        "It is made with the first key. Its folder must be the gateway's own, closed to the writing of others."
    )
    passphrase: Reference = Field(description="Reference of the file's passphrase, file:/…, env:… or vault:….")

    @field_validator("file")
    @classmethod
    def _plain(cls, value: Path) -> Path:
        if not value.name or ".." in value.parts or "\0" in str(value) or len(str(value)) > 1024:
            raise ValueError("must be a path of a file, without '..'")
        return value


class FileKeystore:
    """See `Keystore` and `ExportsKeys`. Everything runs in a thread: deriving keys from passphrases takes its time."""

    def __init__(
        self,
        settings: FileSettings,
        surroundings: Surroundings,
        kind: Format,
        key_passphrase: str | None = None,
    ) -> None:
        # A link is followed once, here: renaming onto it would replace the link.
        path = Path(os.path.realpath(surroundings.home / "keystores" / settings.file))
        self._path = path
        self._folder = PrivateFolder(path.parent, "keystore", visible=settings.file.is_absolute())
        self._kind = kind
        self._references = (settings.passphrase, key_passphrase or settings.passphrase)
        self._secret = surroundings.secret
        self._clock = surroundings.clock

    async def sign_request(self, request: SigningRequest) -> str:
        """See `Keystore.sign_request`."""
        return await asyncio.to_thread(self._sign_request, request)

    async def store_certificate(self, alias: str, certificate_pem: str, chain_pem: Sequence[str]) -> None:
        """See `Keystore.store_certificate`."""
        await asyncio.to_thread(self._store_certificate, alias, certificate_pem, chain_pem)

    async def entries(self) -> Sequence[Entry]:
        """See `Keystore.entries`; empty as long as the file is not made."""
        return await asyncio.to_thread(self._entries)

    async def remove(self, alias: str) -> None:
        """See `Keystore.remove`."""
        await asyncio.to_thread(self._remove, alias)

    async def private_key(self, alias: str) -> bytes:
        """See `ExportsKeys.private_key`."""
        return await asyncio.to_thread(self._private_key, alias)

    def _sign_request(self, request: SigningRequest) -> str:
        alias = keys.checked_alias(request.alias)
        archive = self._read()
        key = (self._key(archive, alias) if archive else None) or self._make(alias, request)
        keys.require_algorithm(alias, key, request.algorithm)
        return keys.signing_request(key, request)

    def _make(self, alias: str, request: SigningRequest) -> PrivateKey:
        # Outside the lock: nobody shall wait for somebody else's RSA key. A key that comes second is thrown away.
        key = keys.generate(request.algorithm)
        now = self._clock()
        subject = crypto.Name(
            [
                crypto.NameAttribute(NameOID.COMMON_NAME, alias[:64]),
                crypto.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, STANDS_IN),
            ]
        )
        builder = crypto.CertificateBuilder(subject, subject, key.public_key(), crypto.random_serial_number())
        stand_in = builder.not_valid_before(now).not_valid_after(now + _STAND_IN).sign(key, keys.signature_hash(key))
        with self._folder.lock():
            archive = self._read() or self._kind.new(self._passphrases())
            earlier = self._key(archive, alias)
            if earlier is not None:
                return earlier
            if alias in self._said(lambda: {entry.alias.lower() for entry in archive.entries()}):
                raise Permanent(f"The keystore {self._path} has something else under {alias}, which is no key.")
            self._said(lambda: archive.put(alias, key, [stand_in], int(now.timestamp() * 1000)))
            self._write(archive)
        return key

    def _store_certificate(self, alias: str, certificate_pem: str, chain_pem: Sequence[str]) -> None:
        with self._locked():
            archive, key = self._existing(alias)
            chain = keys.certificates_for(alias, key, certificate_pem, chain_pem)
            if self._said(lambda: archive.chain(alias)) != chain:
                self._said(lambda: archive.certify(alias, chain))
                self._write(archive)

    def _entries(self) -> list[Entry]:
        archive = self._read()
        return sorted(self._said(archive.entries), key=lambda entry: entry.alias) if archive else []

    def _remove(self, alias: str) -> None:
        keys.checked_alias(alias)
        with self._locked():
            archive = self._read()
            if archive is not None and self._said(lambda: alias in {one.alias for one in archive.entries()}):
                self._said(lambda: archive.remove(alias))
                self._write(archive)

    def _private_key(self, alias: str) -> bytes:
        _, key = self._existing(alias)
        return keys.pkcs8_pem(key)

    def _existing(self, alias: str) -> tuple[Archive, PrivateKey]:
        archive = self._read()
        key = self._key(archive, keys.checked_alias(alias)) if archive else None
        if archive is None or key is None:
            raise KeyMissing(f"The keystore {self._path} has no key under {alias}.")
        return archive, key

    def _locked(self) -> AbstractContextManager[None]:
        self._folder.prepare()
        return self._folder.lock()

    def _read(self) -> Archive | None:
        """The file, opened; None where there is none yet."""
        self._folder.prepare()
        content = self._folder.read(self._path.name, LARGEST_FILE)
        if content is None:
            return None
        return self._said(lambda: self._opened(content))

    def _opened(self, content: bytes) -> Archive:
        if not content:
            raise Unreadable("it is empty (0 bytes); remove it, and it is made with the next key")
        found = kind_of(content)
        if found is not None and found != self._kind.title:
            raise Unreadable(f"it is a {found} file, and the keystore is set as {self._kind.title}")
        return self._kind.read(content, self._passphrases())

    def _write(self, archive: Archive) -> None:
        content = self._said(archive.content)
        if len(content) > LARGEST_FILE:
            raise Permanent(f"The keystore {self._path} would become larger than {LARGEST_FILE} bytes; use another.")
        self._folder.write(self._path.name, content)

    def _key(self, archive: Archive, alias: str) -> PrivateKey | None:
        return self._said(lambda: archive.key(alias))

    def _said(self, act: Callable[[], ResultT]) -> ResultT:
        try:
            return act()
        except Unreadable as error:
            raise Permanent(f"The keystore {self._path} can't be read: {error.why}.") from None

    def _passphrases(self) -> Passphrases:
        """Asked for at each use and not kept, so that a changed one counts at once."""
        store, key = (self._word(reference) for reference in self._references)
        return Passphrases(store, key)

    def _word(self, reference: str) -> str:
        try:
            return self._secret(reference).decode("utf-8")
        except UnicodeDecodeError:
            raise Permanent(f"The passphrase {reference} is not text in UTF-8, as Java's keystores need it.") from None
