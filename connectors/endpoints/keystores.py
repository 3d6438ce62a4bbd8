"""One entry of a PKCS#12 or JKS file as a place for a certificate: looked at, and exchanged while every other entry
stays as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from connectors.archives import formats
from connectors.archives.contract import LARGEST_FILE, Archive, Passphrases, Unreadable
from connectors.endpoints import certificates
from connectors.endpoints.contract import InPlace, Material, Place
from connectors.endpoints.handshake import fingerprint
from connectors.errors import Permanent
from connectors.keystores.keys import PrivateKey
from connectors.registry import utc_now

NEW_ALIAS = "tomcat"
"""The alias of a new entry where none is named: keytool's users know it from Tomcat's own documentation."""


@dataclass(frozen=True)
class Survey:
    """What a look into a keystore file gave: its keys' aliases as they are spelled, and an obstacle as `Binding` has
    it."""

    aliases: Sequence[str]
    obstacle: str | None = None


@dataclass(frozen=True)
class KeystoreEntry:
    """See `connectors.endpoints.files.Archive`. A place without an alias means the only key of the file."""

    passphrases: Passphrases = field(repr=False)
    clock: Callable[[], datetime] = utc_now

    def read(self, content: bytes | None, place: Place) -> InPlace:
        """What is under the alias. A key that can't be opened is one that can't be looked at."""
        archive = self._opened(content, place)
        alias = _alias(archive, place) if archive else None
        if archive is None or alias is None:
            return InPlace(certificate=None)
        chain = archive.chain(alias)
        # A root that stands in the file for itself is found at the end of every chain; a server need not send it.
        issuers = [one for one in chain[1:] if one.subject != one.issuer]
        return InPlace(
            certificate=fingerprint(chain[0]) if chain else None,
            chain=tuple(fingerprint(one) for one in issuers),
            public_key=_public_key(archive, alias),
        )

    def leaf(self, content: bytes | None, place: Place) -> x509.Certificate | None:
        """The certificate under the alias."""
        archive = self._opened(content, place)
        alias = _alias(archive, place) if archive else None
        return next(iter(archive.chain(alias)), None) if archive and alias is not None else None

    def write(self, content: bytes | None, place: Place, material: Material) -> bytes:
        """The file with the material under the alias; one is made where there is none."""
        contents = certificates.read(material)
        assert material.private_key_pem is not None
        key = load_pem_private_key(material.private_key_pem, password=None)
        if not isinstance(key, PrivateKey):
            raise Permanent(f"The private key for {place.certificate} is of a type that certgate does not use.")
        try:
            archive = self._opened(content, place) or formats.of(place.form).new(self.passphrases)
            alias = _alias(archive, place) or place.alias or NEW_ALIAS
            archive.key(alias)  # whose passphrase is another than ours would be lost to whoever uses it
            others = {one: archive.chain(one) for one in archive.aliases() if one.lower() != alias.lower()}
            archive.put(alias, key, [contents.leaf, *contents.chain], int(self.clock().timestamp() * 1000))
            _require_chains(place, archive, {alias: [contents.leaf, *contents.chain], **others})
            made = archive.content()
        except Unreadable as error:
            raise _told(place, error) from None
        if len(made) > LARGEST_FILE:
            raise Permanent(f"The keystore {place.certificate} would become larger than {LARGEST_FILE} bytes.")
        return made

    def look(self, content: bytes | None, place: Place) -> Survey:
        """The keys of the file, and what stands in the way of writing to the place. Raises nothing."""
        try:
            archive = self._opened(content, place)
            aliases = archive.aliases() if archive else []
            alias = _alias(archive, place) if archive else None
            if archive is not None and alias is not None:
                archive.key(alias)
        except Unreadable as error:
            return Survey(tuple(aliases), f"the keystore {place.certificate} can't be used: {error.why}.")
        except Permanent as error:
            return Survey((), f"{error.message[0].lower()}{error.message[1:]}")
        if alias is None and not place.alias and aliases:
            return Survey(
                tuple(aliases),
                f"the keystore {place.certificate} has several keys ({_listed(aliases)}), and nothing says which of "
                "them is used: name its alias in the configuration.",
            )
        return Survey(tuple(aliases))

    def _opened(self, content: bytes | None, place: Place) -> Archive | None:
        if content is None:
            return None
        try:
            return formats.opened(content, self.passphrases)
        except Unreadable as error:
            raise _told(place, error) from None


def form_of(content: bytes | None, configured: str) -> str:
    """Java reads both kinds of file under either name (since 8): what a file is counts, and what is configured only
    where there is none yet."""
    found = formats.form_of(content) if content is not None else None
    return found or configured


def _alias(archive: Archive, place: Place) -> str | None:
    """The alias as the file spells it; None where it has no such key, or several and nothing says which."""
    aliases = archive.aliases()
    if not place.alias:
        return aliases[0] if len(aliases) == 1 else None
    return next((one for one in aliases if one.lower() == place.alias.lower()), None)


def _require_chains(place: Place, archive: Archive, wanted: Mapping[str, Sequence[x509.Certificate]]) -> None:
    """Java finds issuers in a PKCS#12 file by their names only. Where a CA has changed its key and kept its name, one
    of two chains would be the wrong one."""
    for alias, chain in wanted.items():
        found = archive.chain(alias)
        if found[: len(chain)] != list(chain):
            differs = next((one for one, other in zip(chain, found, strict=False) if one != other), chain[-1])
            name = differs.subject.rfc4514_string()
            raise Permanent(
                f"The keystore {place.certificate} would have two different certificates of {name}, and Java tells "
                f"issuers by their names only, so that {alias} would be served with the wrong one: give the key a "
                "keystore of its own, or make it a JKS."
            )


def _public_key(archive: Archive, alias: str) -> str | None:
    try:
        key = archive.key(alias)
    except Unreadable:
        return None
    return certificates.public_key_of_key(key) if key is not None else None


def _listed(aliases: list[str]) -> str:
    shown = ", ".join(aliases[:5])
    return f"{shown}, …" if len(aliases) > 5 else shown


def _told(place: Place, error: Unreadable) -> Permanent:
    return Permanent(f"The keystore {place.certificate} can't be used: {error.why}.")
