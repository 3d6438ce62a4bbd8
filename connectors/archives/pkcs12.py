"""The PKCS#12 format (RFC 7292) with as many keys as one likes, as Java keeps them in one file.

`cryptography` reads and writes files with one key. More of them are possible by Java's conventions
(``sun.security.pkcs12.PKCS12KeyStore``): each key has a friendly name, the alias, and a local key id; its certificate
has the same id; the other certificates of a chain stand beside it and are found by their subjects; a certificate that
is trusted by itself has an attribute that says so. Whatever else is in a file is taken over as the bytes that it is,
and so are the encrypted keys of others.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from asn1crypto.cms import ContentInfo
from asn1crypto.keys import EncryptedPrivateKeyInfo
from asn1crypto.pkcs12 import AuthenticatedSafe, Pfx, SafeBag, SafeContents
from asn1crypto.x509 import Certificate as Asn1Certificate
from cryptography import x509 as crypto
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization

from connectors.archives import protection
from connectors.archives.contract import (
    DAMAGED,
    OTHER_PASSPHRASE,
    WRONG,
    Archive,
    Passphrases,
    Unreadable,
    as_shown,
)
from connectors.keystores import keys
from connectors.keystores.contract import Entry, EntryKind
from connectors.keystores.keys import PrivateKey

_KEYS = ("pkcs8_shrouded_key_bag", "key_bag")
_MOST_BAGS = 20_000


@dataclass(eq=False)
class _Bag:
    """A bag as it stands in the file, and what its attributes say. `hidden` is where the whole bag is encrypted."""

    bag: SafeBag
    hidden: bool
    kind: str
    name: str | None = None
    key_id: bytes | None = None
    trusted: bool = False
    certificate: crypto.Certificate | None = None
    der: bytes | None = field(default=None, repr=False)

    @classmethod
    def of(cls, bag: SafeBag, hidden: bool) -> _Bag:
        """Read the attributes."""
        made = cls(bag, hidden, str(bag["bag_id"].native))
        for attribute in bag["bag_attributes"] or ():
            kind, values = attribute["type"].native, attribute["values"]
            if kind == "trusted_key_usage":
                made.trusted = True
            elif kind == "friendly_name" and len(values):
                made.name = str(values[0].native)
            elif kind == "local_key_id" and len(values):
                made.key_id = bytes(values[0])
        if made.kind == "cert_bag" and bag["bag_value"]["cert_id"].native == "x509":
            made.der = bytes(bag["bag_value"]["cert_value"])
            made.certificate = keys.certificate_of(made.der)
        return made


class Pkcs12Archive:
    """See `Archive`."""

    def __init__(
        self, bags: list[_Bag], passphrases: Passphrases, work: protection.Work, *, pbmac1: bool = False
    ) -> None:
        self._bags = bags
        self._passphrases = passphrases
        self._work = work
        self._pbmac1 = pbmac1

    @classmethod
    def new(cls, passphrases: Passphrases) -> Archive:
        """An empty one."""
        return cls([], passphrases, protection.Work())

    @classmethod
    def read(cls, content: bytes, passphrases: Passphrases) -> Archive:
        """Check and take apart a file; raises `Unreadable`."""
        work = protection.Work()
        try:
            pfx = Pfx.load(content, strict=True)
            pbmac1 = bool(pfx["mac_data"]) and protection.is_pbmac1(pfx["mac_data"])
            return cls(list(_opened(pfx, passphrases.store, work)), passphrases, work, pbmac1=pbmac1)
        except (ValueError, TypeError, KeyError, AttributeError, IndexError, OverflowError, RecursionError):
            # asn1crypto's own words quote the content.
            raise Unreadable(f"{DAMAGED}, cut off, or no PKCS#12 at all") from None

    def entries(self) -> list[Entry]:
        """See `Archive.entries`. A certificate that belongs to a key's chain is no entry of its own."""
        shown: list[Entry] = []
        used: set[bytes | None] = set()
        for alias, bag in self._named():
            if bag.kind in _KEYS:
                chain = self._chain_of(bag)
                used.update(one.der for one in chain)
                shown.append(self._shown(alias, bag, chain))
        for alias, bag in self._named():
            if bag.kind in _KEYS or (bag.certificate is not None and bag.der in used and not bag.trusted):
                continue
            kind = EntryKind.TRUSTED_CERTIFICATE if bag.trusted else EntryKind.OTHER
            shown.append(as_shown(kind, alias, None, bag.der))
        return shown

    def aliases(self) -> list[str]:
        """See `Archive.aliases`."""
        return [alias for alias, bag in self._named() if bag.kind in _KEYS]

    def key(self, alias: str) -> PrivateKey | None:
        """See `Archive.key`."""
        bag = self._find(alias)
        if bag is None:
            return None
        key = self._unlocked(bag)
        if key is None:
            raise Unreadable(f"the key under {alias} has another passphrase than the one that is set, or is damaged")
        if not isinstance(key, PrivateKey):
            raise Unreadable(f"the key under {alias} is of a type that certgate does not use")
        return key

    def chain(self, alias: str) -> list[crypto.Certificate]:
        """See `Archive.chain`."""
        bag = self._find(alias)
        return [one.certificate for one in self._chain_of(bag) if one.certificate] if bag else []

    def put(self, alias: str, key: PrivateKey, chain: Sequence[crypto.Certificate], now: int) -> None:
        """See `Archive.put`."""
        there = self._find(alias)
        if there is None and any(bag.trusted and name.lower() == alias.lower() for name, bag in self._named()):
            raise Unreadable(f"it has something else under {alias}, which is no key")
        plain = key.private_bytes(
            serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        algorithm, sealed = protection.encrypt(plain, self._passphrases.key)
        value = EncryptedPrivateKeyInfo({"encryption_algorithm": algorithm, "encrypted_data": sealed})
        # Java reads an entry's time out of its key id.
        key_id = f"Time {now}".encode()
        while any(bag.key_id == key_id for bag in self._bags):
            now += 1
            key_id = f"Time {now}".encode()
        name = next((name for name, bag in self._named() if bag is there), alias)
        made = _Bag.of(_bag("pkcs8_shrouded_key_bag", value, name, key_id), hidden=False)
        if there is None:
            self._bags.append(made)
        else:
            self._forget(self._chain_of(there), there)
            self._bags[self._bags.index(there)] = made
        self.certify(alias, chain)

    def certify(self, alias: str, chain: Sequence[crypto.Certificate]) -> None:
        """See `Archive.certify`."""
        spelled, bag = next((name, bag) for name, bag in self._named() if bag is self._find(alias))
        self._forget(self._chain_of(bag), bag)
        present = {one.der for one in self._bags if one.key_id is None}
        for number, certificate in enumerate(chain):
            der = certificate.public_bytes(serialization.Encoding.DER)
            if number and der in present:
                continue
            name, key_id = (spelled, bag.key_id) if number == 0 else (None, None)
            value = {"cert_id": "x509", "cert_value": Asn1Certificate.load(der)}
            self._insert(_Bag.of(_bag("cert_bag", value, name, key_id), hidden=True))

    def _insert(self, made: _Bag) -> None:
        """Java takes the first certificate that has an issuer's name. Of two with the same name (a CA that changed its
        key) the newer one is meant."""
        assert made.certificate is not None
        subject = made.certificate.subject
        same = (at for at, one in enumerate(self._bags) if one.certificate and one.certificate.subject == subject)
        self._bags.insert(next(same, len(self._bags)), made)

    def remove(self, alias: str) -> None:
        """See `Archive.remove`."""
        bag = self._find(alias)
        if bag is not None:
            self._forget(self._chain_of(bag), bag)
            self._bags.remove(bag)

    def content(self) -> bytes:
        """See `Archive.content`. Java wants the keys before the certificates."""
        safes = []
        plain = [bag.bag for bag in self._bags if not bag.hidden]
        hidden = [bag.bag for bag in self._bags if bag.hidden]
        if plain or not hidden:
            safes.append(ContentInfo({"content_type": "data", "content": SafeContents(plain).dump()}))
        if hidden:
            algorithm, sealed = protection.encrypt(SafeContents(hidden).dump(), self._passphrases.store)
            info = {
                "content_type": "data",
                "content_encryption_algorithm": algorithm,
                "encrypted_content": sealed,
            }
            content = {"version": "v0", "encrypted_content_info": info}
            safes.append(ContentInfo({"content_type": "encrypted_data", "content": content}))
        whole = AuthenticatedSafe(safes).dump()
        pfx = Pfx(
            {
                "version": "v3",
                "auth_safe": ContentInfo({"content_type": "data", "content": whole}),
                "mac_data": protection.mac(whole, self._passphrases.store, pbmac1=self._pbmac1),
            }
        )
        return bytes(pfx.dump())

    def _named(self) -> Iterator[tuple[str, _Bag]]:
        """Every bag with its alias; one without a name is numbered, as Java does it."""
        number = 0
        for bag in self._bags:
            if bag.name is None and (bag.kind in _KEYS or bag.trusted):
                number += 1
            yield bag.name if bag.name is not None else str(number), bag

    def _find(self, alias: str) -> _Bag | None:
        return next((bag for name, bag in self._named() if bag.kind in _KEYS and name.lower() == alias.lower()), None)

    def _chain_of(self, key: _Bag) -> list[_Bag]:
        """The bag of a key's certificate and those of its issuers, as far as they are there."""
        certificates = [bag for bag in self._bags if bag.certificate is not None]
        own = (bag for bag in certificates if key.key_id is not None and bag.key_id == key.key_id)
        leaf = next(own, None)
        chain = [leaf] if leaf is not None else []
        issuers = {bag.certificate.subject.public_bytes(): bag for bag in reversed(certificates) if bag.certificate}
        while chain:
            last = chain[-1].certificate
            assert last is not None
            issuer = issuers.get(last.issuer.public_bytes())
            if last.issuer == last.subject or issuer is None or issuer in chain:
                break
            chain.append(issuer)
        return chain

    def _forget(self, chain: list[_Bag], key: _Bag) -> None:
        """Take a key's certificates out, but for those that are trusted or that another key's chain needs."""
        needed = {id(one) for bag in self._bags if bag.kind in _KEYS and bag is not key for one in self._chain_of(bag)}
        gone = {id(one) for one in chain if not one.trusted} - needed
        self._bags = [bag for bag in self._bags if id(bag) not in gone]

    def _shown(self, alias: str, bag: _Bag, chain: list[_Bag]) -> Entry:
        key = self._unlocked(bag, listed=True)
        problem = OTHER_PASSPHRASE if key is None else None
        return as_shown(EntryKind.KEY_PAIR, alias, key, chain[0].der if chain else None, problem)

    def _unlocked(self, bag: _Bag, *, listed: bool = False) -> Any:
        try:
            value = bag.bag["bag_value"]
            if bag.kind == "key_bag":
                plain = bytes(value.dump())
            else:
                sealed = bytes(value["encrypted_data"])
                plain = protection.decrypt(value["encryption_algorithm"], sealed, self._passphrases.key, self._work)
            # An RSA key's numbers are checked where it is used; that takes too long for a list of many.
            return serialization.load_der_private_key(plain, None, unsafe_skip_rsa_key_validation=listed)
        except Unreadable as error:
            if error.why != WRONG:
                raise
            return None
        except (ValueError, TypeError, KeyError, UnsupportedAlgorithm):
            return None


def _opened(pfx: Pfx, passphrase: str, work: protection.Work) -> Iterator[_Bag]:
    outer = pfx["auth_safe"]
    if outer["content_type"].native != "data":
        raise Unreadable("it is signed and not protected by a passphrase, which certgate does not read")
    whole = bytes(outer["content"])
    if pfx["mac_data"]:
        protection.check(pfx["mac_data"], whole, passphrase, work)
    count = 0
    for safe in AuthenticatedSafe.load(whole, strict=True):
        kind = safe["content_type"].native
        if kind == "data":
            bags, hidden = bytes(safe["content"]), False
        elif kind == "encrypted_data":
            info = safe["content"]["encrypted_content_info"]
            sealed = bytes(info["encrypted_content"])
            bags = protection.decrypt(info["content_encryption_algorithm"], sealed, passphrase, work)
            hidden = True
        else:
            raise Unreadable(f"a part of it is {kind}, which certgate does not read")
        for bag in SafeContents.load(bags, strict=True):
            count += 1
            if count > _MOST_BAGS:
                raise Unreadable(f"it has more than {_MOST_BAGS:,} entries")
            yield _Bag.of(bag, hidden)


def _bag(kind: str, value: Any, name: str | None, key_id: bytes | None) -> SafeBag:
    attributes: list[dict[str, Any]] = []
    if name is not None:
        attributes.append({"type": "friendly_name", "values": [name]})
    if key_id is not None:
        attributes.append({"type": "local_key_id", "values": [key_id]})
    fields: dict[str, Any] = {"bag_id": kind, "bag_value": value}
    if attributes:
        fields["bag_attributes"] = attributes
    return SafeBag(fields)
