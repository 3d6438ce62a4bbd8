"""A keystore that is a token. A key pair has its alias as label (CKA_LABEL) and a random CKA_ID, which its certificate
has too; both stand beside each other as PKCS #11 has it. The chain is not kept in the token.

Keys are made non-exportable, so this keystore is no `ExportsKeys`: a server uses such a key in its place, by a PKCS#11
URI (RFC 7512), and an install exchanges only the certificate.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, Self, TypeVar

from asn1crypto import core
from cryptography import x509 as crypto
from cryptography.hazmat.primitives.serialization import Encoding
from pkcs11 import Attribute, CertificateType, ObjectClass
from pydantic import BaseModel, ConfigDict, Field, model_validator

from connectors.errors import KeyMissing, Permanent, Retryable
from connectors.folders import PrivateFolder
from connectors.keystores import keys
from connectors.keystores.contract import Entry, EntryKind, SigningRequest
from connectors.keystores.keys import PrivateKey
from connectors.keystores.pkcs11 import keys as token_keys
from connectors.keystores.pkcs11.token import TokenAddress, session
from connectors.registry import ConnectorType, Surroundings
from connectors.secrets import Reference

ResultT = TypeVar("ResultT")

# A library that hangs can't be stopped; but it is told, and the worker goes on.
LONGEST_CALL = timedelta(minutes=5)


class Settings(BaseModel):
    """Which token it is, and what opens it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    module: str = Field(
        pattern="^/",
        max_length=1024,
        description="The token's PKCS#11 library on the gateway's host, absolute path, such as "
        "/usr/lib/softhsm/libsofthsm2.so.",
    )
    token: str | None = Field(default=None, min_length=1, max_length=32, description="The token's label.")
    serial: str | None = Field(
        default=None, min_length=1, max_length=16, description="The token's serial number, where labels are not enough."
    )
    pin: Reference = Field(description="Reference of the user's PIN, file:/…, env:… or vault:….")

    @model_validator(mode="after")
    def _one_is_named(self) -> Self:
        if self.token is None and self.serial is None:
            raise ValueError("token or serial must say which token is meant")
        return self


class Pkcs11Keystore:
    """See `Keystore`. Every call is made in a thread: a token takes its time."""

    def __init__(self, settings: Settings, surroundings: Surroundings) -> None:
        self._address = TokenAddress(settings.module, settings.token, settings.serial)
        self._reference = settings.pin
        self._secret = surroundings.secret
        # A token does not keep two processes from making one alias twice; a lock in the gateway's home does.
        self._folder = PrivateFolder(surroundings.home / "keystores" / "pkcs11", "keystore")

    async def sign_request(self, request: SigningRequest) -> str:
        """See `Keystore.sign_request`."""
        return await self._in_thread(lambda: self._sign_request(request))

    async def store_certificate(self, alias: str, certificate_pem: str, chain_pem: Sequence[str]) -> None:
        """See `Keystore.store_certificate`; the chain is looked at and not kept."""
        await self._in_thread(lambda: self._store_certificate(alias, certificate_pem, chain_pem))

    async def entries(self) -> Sequence[Entry]:
        """See `Keystore.entries`."""
        return await self._in_thread(self._entries)

    async def remove(self, alias: str) -> None:
        """See `Keystore.remove`."""
        await self._in_thread(lambda: self._remove(alias))

    async def _in_thread(self, work: Callable[[], ResultT]) -> ResultT:
        try:
            async with asyncio.timeout(LONGEST_CALL.total_seconds()):
                return await asyncio.to_thread(work)
        except TimeoutError:
            minutes = LONGEST_CALL.total_seconds() / 60
            raise Retryable(f"The token {self._address} did not answer within {minutes:g} minutes.") from None

    def _sign_request(self, request: SigningRequest) -> str:
        alias = keys.checked_alias(request.alias)
        with self._alone() as opened:
            pair = _Pair.of(opened, alias)
            if pair is None:
                token_keys.generate(opened, request.algorithm, alias, os.urandom(20))
                pair = _Pair.of(opened, alias)
            if pair is None or pair.key is None:
                raise Permanent(f"The token {self._address} has a key under {alias} that certgate can't use.")
            keys.require_algorithm(alias, pair.key, request.algorithm)
            return keys.signing_request(pair.key, request)

    def _store_certificate(self, alias: str, certificate_pem: str, chain_pem: Sequence[str]) -> None:
        keys.checked_alias(alias)
        with self._alone() as opened:
            pair = _Pair.of(opened, alias)
            if pair is None or pair.key is None:
                raise KeyMissing(f"The token {self._address} has no key under {alias}.")
            leaf = keys.certificates_for(alias, pair.key, certificate_pem, chain_pem)[0]
            encoded = leaf.public_bytes(Encoding.DER)
            there = pair.certificates()
            if not any(bytes(one[Attribute.VALUE]) == encoded for one in there):
                opened.create_object(
                    {
                        Attribute.CLASS: ObjectClass.CERTIFICATE,
                        Attribute.CERTIFICATE_TYPE: CertificateType.X_509,
                        Attribute.TOKEN: True,
                        Attribute.LABEL: alias,
                        Attribute.ID: pair.identifier,
                        Attribute.SUBJECT: leaf.subject.public_bytes(),
                        Attribute.ISSUER: leaf.issuer.public_bytes(),
                        Attribute.SERIAL_NUMBER: core.Integer(leaf.serial_number).dump(),
                        Attribute.VALUE: encoded,
                    }
                )
            # The new one first: killed in between there are two, and the next call takes the old one away.
            for one in there:
                if bytes(one[Attribute.VALUE]) != encoded:
                    one.destroy()

    def _entries(self) -> list[Entry]:
        with session(self._address, self._pin()) as opened:
            certificates = [
                (bytes(one[Attribute.ID]), str(one[Attribute.LABEL]), keys.certificate_of(bytes(one[Attribute.VALUE])))
                for one in opened.get_objects({Attribute.CLASS: ObjectClass.CERTIFICATE})
            ]
            pairs = [_Pair(opened, one) for one in opened.get_objects({Attribute.CLASS: ObjectClass.PRIVATE_KEY})]
            found = [
                keys.described(
                    EntryKind.KEY_PAIR,
                    pair.alias,
                    key=pair.key,
                    certificate=_latest([it for identifier, _, it in certificates if identifier == pair.identifier]),
                    problem=None if pair.key else "Its key is of a kind that certgate does not use.",
                )
                for pair in pairs
            ]
            owned = {pair.identifier for pair in pairs}
            found += [
                keys.described(EntryKind.TRUSTED_CERTIFICATE, label or identifier.hex(), certificate=certificate)
                for identifier, label, certificate in certificates
                if identifier not in owned and certificate is not None
            ]
        return sorted(found, key=lambda entry: entry.alias)

    def _remove(self, alias: str) -> None:
        keys.checked_alias(alias)
        with self._alone() as opened:
            while (pair := _Pair.of(opened, alias)) is not None:
                # The private key last: killed in between, the alias is still seen and can be removed again.
                for one in (*pair.certificates(), *pair.public_keys(), pair.private):
                    one.destroy()

    @contextmanager
    def _alone(self) -> Iterator[Any]:
        """A session for changing something."""
        pin = self._pin()
        self._folder.prepare()
        with self._folder.lock(), session(self._address, pin) as opened:
            yield opened

    def _pin(self) -> str:
        """Asked for at each use and not kept, so that a changed one counts at once."""
        try:
            return self._secret(self._reference).decode("utf-8")
        except UnicodeDecodeError:
            raise Permanent(f"The PIN {self._reference} is not text in UTF-8.") from None


class _Pair:
    """A private key of the token, and what stands beside it under the same CKA_ID."""

    def __init__(self, opened: Any, private: Any) -> None:
        self._opened = opened
        self.private = private
        self.identifier = bytes(private[Attribute.ID])
        self.alias = str(private[Attribute.LABEL]) or self.identifier.hex()

    @classmethod
    def of(cls, opened: Any, alias: str) -> _Pair | None:
        """The key under an alias. Of several, which other programs may have made, always the same one."""
        wanted = {Attribute.CLASS: ObjectClass.PRIVATE_KEY, Attribute.LABEL: alias}
        found = [cls(opened, one) for one in opened.get_objects(wanted)]
        return min(found, key=lambda pair: pair.identifier, default=None)

    @property
    def key(self) -> PrivateKey | None:
        """For signing with; None for a kind that certgate does not use, or one without its public key."""
        for public in self.public_keys():
            if public.key_type == self.private.key_type:
                return token_keys.in_token(self.private, public)
        return None

    def public_keys(self) -> list[Any]:
        return self._beside(ObjectClass.PUBLIC_KEY)

    def certificates(self) -> list[Any]:
        return self._beside(ObjectClass.CERTIFICATE)

    def _beside(self, kind: ObjectClass) -> list[Any]:
        return list(self._opened.get_objects({Attribute.CLASS: kind, Attribute.ID: self.identifier}))


def _latest(certificates: Sequence[crypto.Certificate | None]) -> crypto.Certificate | None:
    """The one that was issued last: a killed process may have left the one before it beside it."""
    return max((one for one in certificates if one is not None), key=lambda one: one.not_valid_before_utc, default=None)


CONNECTOR = ConnectorType(name="pkcs11", title="PKCS#11 token (HSM)", settings=Settings, open=Pkcs11Keystore)
