"""Endpoints whose certificates are files: everything between `discover` and `activate` is the same for all of them.

A product's own class says where things are and how they come into effect; this base looks into the files, keeps what
was there under a second name (a hard link: no copy, same owner, mode and times), and writes what is new.

Where the host keeps keys (`connectors.hosts.contract.KeepsKeys`), a private key is never read over the connection: what
is needed of it is asked of the host.
"""

from __future__ import annotations

import asyncio
import hashlib
import posixpath
import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from connectors.endpoints import certificates
from connectors.endpoints.contract import Activated, Binding, InPlace, Material, Place, Snapshot
from connectors.endpoints.handshake import fingerprint
from connectors.errors import KeyMissing, Permanent
from connectors.hosts.contract import Host, KeepsKeys
from connectors.keystores.contract import SigningRequest

KEY_MODE, CERTIFICATE_MODE = 0o600, 0o644
# Of the keys that were made at the endpoint, those of the certificate in use and of the one before it.
KEPT_KEYS = 2
_PRIVATE_KEY = re.compile(
    rb"-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----.*?-----END [A-Z0-9 ]*PRIVATE KEY-----[ \t]*\r?\n?", re.DOTALL
)


@dataclass(frozen=True)
class Ownership:
    """Whose a file is that is made anew: numbers; None: whoever certgate acts as there."""

    mode: int
    owner: int | None = None
    group: int | None = None


class Archive(Protocol):
    """A file that holds keys and certificates together in a format of its own (PKCS#12, JKS). `content` is the file as
    it is, None where there is none. All raise `Permanent`, for a wrong passphrase say, and are called in a thread:
    deriving keys from passphrases takes its time."""

    def read(self, content: bytes | None, place: Place) -> InPlace:
        """What the entry of the place holds."""
        ...

    def leaf(self, content: bytes | None, place: Place) -> x509.Certificate | None:
        """The certificate itself; None where there is none."""
        ...

    def write(self, content: bytes | None, place: Place, material: Material) -> bytes:
        """The file with the material in the entry of the place; every other entry is as it was."""
        ...


class FileEndpoint(ABC):
    """The part of `connectors.endpoints.contract.Endpoint` (and of `MakesKeys`) that is the same for all files."""

    def __init__(self, host: Host) -> None:
        self._host = host

    # What a product says of itself.

    @property
    @abstractmethod
    def identity(self) -> str:
        """See `Endpoint.identity`."""

    @property
    @abstractmethod
    def title(self) -> str:
        """See `Endpoint.title`."""

    @abstractmethod
    async def discover(self) -> Sequence[Binding]:
        """See `Endpoint.discover`."""

    @abstractmethod
    async def check(self, place: Place | None = None, /) -> None:
        """See `Endpoint.check`."""

    @abstractmethod
    async def running(self) -> bool:
        """See `Endpoint.running`."""

    @abstractmethod
    async def activate(self, place: Place, /) -> Activated:
        """See `Endpoint.activate`."""

    async def archive(self, place: Place, /) -> Archive | None:
        """How the file of a place is read and written that is neither PEM nor DER."""
        if place.form in ("pem", "pem-key-first", "der"):
            return None
        raise Permanent(f"{self.title} has no way to write {place.form} into {place.certificate}.")

    def ownership(self, _path: str, /, *, private: bool) -> Ownership:
        """Whose a file at that path shall be if there is none yet; one that is there keeps what it has."""
        return Ownership(KEY_MODE if private else CERTIFICATE_MODE)

    # Looking.

    async def choose(self, binding: Binding, material: Material) -> Place:
        """The only place, or of several the one that has a certificate with the same type of key."""
        if len(binding.places) == 1:
            return binding.places[0]
        wanted = certificates.authentication_of(certificates.read(material).leaf)
        fitting = []
        for place in binding.places:
            leaf = await self._leaf(place)
            if leaf is not None and certificates.authentication_of(leaf) == wanted:
                fitting.append(place)
        if len(fitting) != 1:
            raise Permanent(
                f"{binding.id} has {len(binding.places)} certificates, and {len(fitting)} of them have a key of the "
                f"type {wanted} that the new one has: there must be exactly one; request another key type or add the "
                "pair to the configuration first."
            )
        return fitting[0]

    async def in_place(self, place: Place) -> InPlace:
        """What the files hold; a file that is missing or can't be understood counts as empty."""
        archive = await self.archive(place)
        if archive is not None:
            return await asyncio.to_thread(archive.read, await self.read(place.certificate), place)
        found = certificates_in(await self._public(place.certificate))
        if place.chain is not None:
            found = [*found[:1], *certificates_in(await self._public(place.chain))]
        return InPlace(
            certificate=fingerprint(found[0]) if found else None,
            chain=tuple(fingerprint(certificate) for certificate in found[1:]),
            public_key=await self._public_key(place.key),
        )

    async def require_match(self, place: Place) -> None:
        """Raise `Permanent` unless the place has a certificate and the key that belongs to it: for products that take
        any pair and then serve nothing."""
        leaf, found = await self._leaf(place), await self.in_place(place)
        if leaf is None:
            raise Permanent(f"{place.certificate} holds no certificate that can be read.")
        if found.public_key is None:
            raise Permanent(f"{place.key} holds no private key that can be read.")
        if found.public_key != certificates.public_key_of(leaf):
            raise Permanent(
                f"The private key in {place.key} does not belong to the certificate in {place.certificate}."
            )

    async def _leaf(self, place: Place) -> x509.Certificate | None:
        """The certificate of a place; None where there is none."""
        archive = await self.archive(place)
        if archive is not None:
            return await asyncio.to_thread(archive.leaf, await self.read(place.certificate), place)
        found = certificates_in(await self._public(place.certificate))
        return found[0] if found else None

    async def _public(self, path: str) -> bytes | None:
        """A file without what is secret in it."""
        if await self._host.state(path) is None:
            return None
        if isinstance(self._host, KeepsKeys):
            return await self._host.without_keys(path)
        return _PRIVATE_KEY.sub(b"", await self._host.read(path))

    async def _public_key(self, path: str) -> str | None:
        if not is_file(path) or await self._host.state(path) is None:
            return None
        if isinstance(self._host, KeepsKeys):
            encoded = await self._host.public_key(path)
            return hashlib.sha256(encoded).hexdigest() if encoded is not None else None
        return public_key_in(await self._host.read(path))

    # Changing.

    async def plan(self, place: Place, name: str) -> Snapshot:
        """A second name for each file that is there, in the same folder and hidden."""
        kept: dict[str, str] = {}
        absent: list[str] = []
        for path in _paths(place):
            state = await self._host.state(path)
            if state is None:
                absent.append(await self.resolve(path))
            else:
                folder, file = posixpath.split(state.path)
                kept[state.path] = posixpath.join(folder, f".{file}.certgate-{name}")
        return Snapshot(name, place, kept, tuple(absent))

    async def snapshot(self, snapshot: Snapshot) -> None:
        """Make the second names."""
        for path, backup in snapshot.kept.items():
            await self._host.keep(path, backup)

    async def write(self, place: Place, material: Material) -> None:
        """Key first: it is what a full disk or a missing permission should stop before the certificate is touched."""
        contents = certificates.read(material)
        archive = await self.archive(place)
        if archive is not None:
            if material.private_key_pem is None:
                raise Permanent(f"{place.certificate} needs the private key itself, and its keystore does not give it.")
            content = await asyncio.to_thread(archive.write, await self.read(place.certificate), place, material)
            await self._put(place.certificate, [content], private=True)
            return
        if not is_file(place.key) and (material.private_key_pem is not None or material.key_alias is not None):
            raise Permanent(
                f"The key of {place.certificate} is in a token ({place.key}): install a certificate that was requested "
                "with that key, from a keystore of the type pkcs11."
            )
        public = self._encoded_certificates(contents, place)
        key = await self._key_parts(place, material, contents)
        if place.certificate == place.key:
            parts = [*key, public] if place.form == "pem-key-first" else [public, *key]
            await self._put(place.key, parts, private=True)
        else:
            if key:
                await self._put(place.key, key, private=True)
            await self._put(place.certificate, [public], private=False)
        if place.chain is not None:
            chain = b"".join(certificate.public_bytes(Encoding.PEM) for certificate in contents.chain)
            await self._put(place.chain, [chain], private=False)

    def _encoded_certificates(self, contents: certificates.Contents, place: Place) -> bytes:
        if place.form == "der":
            if contents.chain and place.chain is None:
                raise Permanent(
                    f"{place.certificate} is DER and holds one certificate, while this one comes with a chain of "
                    f"{len(contents.chain)}: name a file for the chain too."
                )
            return contents.leaf.public_bytes(Encoding.DER)
        if place.chain is not None:
            return contents.leaf.public_bytes(Encoding.PEM)
        return contents.pem()

    async def _key_parts(self, place: Place, material: Material, contents: certificates.Contents) -> list[bytes | str]:
        """What the key's file is made of; nothing where it stays as it is."""
        if material.private_key_pem is not None:
            key = load_pem_private_key(material.private_key_pem, password=None)
            encoding = Encoding.DER if place.form == "der" else Encoding.PEM
            return [key.private_bytes(encoding, PrivateFormat.PKCS8, NoEncryption())]
        if material.key_alias is not None:
            pending = await self._pending(place, material.key_alias)
            if await self._host.state(pending) is not None:
                return [pending]
            if await self._public_key(place.key) != contents.wanted().public_key:
                raise KeyMissing(
                    f"The key {material.key_alias} that was made at {self.title} is not there any more ({pending})."
                )
        if place.certificate != place.key:
            return []
        found = _PRIVATE_KEY.search(await self.read(place.key) or b"")
        return [found[0]] if found else []

    async def restore(self, snapshot: Snapshot) -> None:
        """Put the kept files back under their names and delete those that were not there."""
        for path, backup in snapshot.kept.items():
            await self._host.put_back(backup, path)
        for path in snapshot.absent:
            await self._host.delete(path)

    async def discard(self, snapshot: Snapshot) -> None:
        """Delete the second names, and keys made here that are older than the one before the last."""
        for backup in snapshot.kept.values():
            await self._host.delete(backup)
        if isinstance(self._host, KeepsKeys) and is_file(snapshot.place.key):
            kept = await self._host.glob(escaped(await self._pending(snapshot.place, "")) + "*")
            for path in sorted(kept, key=_number_in)[:-KEPT_KEYS]:
                await self._host.delete(path)

    # Keys made where they are used.

    async def make_key(self, binding_id: str, request: SigningRequest) -> str:
        """The key is a hidden file beside the one that it will become; see `MakesKeys.make_key`."""
        host = self._keeper()
        return await host.make_key(await self._pending(await self._place_of(binding_id), request.alias), request)

    async def discard_key(self, binding_id: str, alias: str) -> None:
        """See `MakesKeys.discard_key`. A binding that is gone has nothing that could be found."""
        for binding in await self.discover():
            if binding.id == binding_id and binding.places:
                await self._host.delete(await self._pending(binding.places[0], alias))

    async def _place_of(self, binding_id: str) -> Place:
        binding = next((one for one in await self.discover() if one.id == binding_id), None)
        if binding is None:
            raise Permanent(f"{self.title} has no binding {binding_id!r}: discover it again.")
        if binding.obstacle is not None:
            raise Permanent(f"No key can be made for {binding.id} of {self.title}: {binding.obstacle}")
        places = binding.places
        if len(places) != 1 or places[0].form not in ("pem", "pem-key-first") or not is_file(places[0].key):
            raise Permanent(
                f"For {binding.id} of {self.title} no key can be made there: that takes one certificate in PEM files."
            )
        return binding.places[0]

    def _keeper(self) -> KeepsKeys:
        if not isinstance(self._host, KeepsKeys):
            raise Permanent(f"On the host {self._host.address} no keys can be made: let the gateway make them.")
        return self._host

    async def _pending(self, place: Place, alias: str) -> str:
        folder, file = posixpath.split(await self.resolve(place.key))
        return posixpath.join(folder, f".{file}.certgate-key-{alias}")

    # Files.

    async def resolve(self, path: str) -> str:
        """The file that a path leads to; where it leads to nothing yet, its folder with links followed."""
        if not is_file(path):
            return path
        state = await self._host.state(path)
        if state is not None:
            return state.path
        folder = await self._host.state(posixpath.dirname(path))
        return posixpath.join(folder.path, posixpath.basename(path)) if folder else path

    async def read(self, path: str) -> bytes | None:
        """A file's content; None where there is none."""
        return None if await self._host.state(path) is None else await self._host.read(path)

    async def _put(self, path: str, parts: Sequence[bytes | str], *, private: bool) -> None:
        """Replace a file with its owner and mode, or make it."""
        state = await self._host.state(path)
        if state is None:
            made = self.ownership(path, private=private)
            owner, group, mode = made.owner, made.group, made.mode
        else:
            owner, group, mode = state.owner, state.group, state.mode
        content = [part for part in parts if isinstance(part, bytes)]
        if len(content) == len(parts):
            await self._host.replace(path, b"".join(content), owner=owner, group=group, mode=mode)
        else:
            await self._keeper().assemble(path, parts, owner=owner, group=group, mode=mode)


def certificates_in(content: bytes | None) -> list[x509.Certificate]:
    """The certificates of a PEM or DER file; none where it is empty or can't be understood."""
    try:
        return x509.load_pem_x509_certificates(content or b"")
    except ValueError:
        pass
    try:
        return [x509.load_der_x509_certificate(content or b"")]
    except ValueError:
        return []


def public_key_in(content: bytes | None) -> str | None:
    """SHA-256 of the SubjectPublicKeyInfo of the private key in a PEM or DER file; None where there is none that can be
    seen: an encrypted one, say."""
    found = _PRIVATE_KEY.search(content or b"")
    try:
        return certificates.public_key_of_private(found[0] if found else content or b"")
    except Permanent:
        return None


def escaped(path: str) -> str:
    """A path as a shell pattern that stands for itself only."""
    return re.sub(r"([*?\[])", r"[\1]", path)


def is_file(path: str) -> bool:
    """Whether a place names a file; the other is a key in a token, which has a URI (RFC 7512) and can't be seen."""
    return path.startswith("/")


def without_pin(text: str) -> str:
    """A text of a product without the PINs of PKCS#11 URIs in it."""
    return re.sub(r"(pin-value=)[^;&?\s\"')]*", r"\1…", text)


def _paths(place: Place) -> list[str]:
    paths = dict.fromkeys(path for path in (place.certificate, place.key, place.chain) if path is not None)
    return [path for path in paths if is_file(path)]


def _number_in(path: str) -> tuple[int, str]:
    """Aliases are numbered (``request-42``): the order in which the keys were made."""
    found = re.search(r"(\d+)$", path)
    return (int(found[1]) if found else 0, path)
