"""A BIG-IP as an endpoint: the certificate of a client-ssl profile is exchanged, whatever virtual servers use it.

A device knows no difference between writing and serving. `write` uploads key, certificate and chain, makes new objects
of them under names of their own and binds them in the profile, all in one transaction; the objects that were bound
before stay for `restore`, and the device goes on with them if the transaction fails. `activate` saves the configuration
and synchronizes the device group. What a `Snapshot` keeps are names of objects.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from connectors.endpoints import certificates
from connectors.endpoints.contract import Activated, Activation, Binding, InPlace, Material, Place, Snapshot
from connectors.endpoints.f5 import group, made, names, objects, uploads
from connectors.endpoints.f5.bindings import (
    COME_WITH_IT,
    NEW_CLIENT_SSL,
    Entry,
    Profile,
    Virtual,
    bindings_of,
)
from connectors.endpoints.f5.chain import require_complete
from connectors.endpoints.f5.names import Generation, segment
from connectors.endpoints.f5.objects import CERTIFICATES, KEYS, PROFILES, VIRTUALS
from connectors.endpoints.f5.session import TITLE, Refused, Session
from connectors.endpoints.f5.settings import Settings
from connectors.endpoints.f5.transaction import Command, begin, carry_out, drop
from connectors.errors import ConnectorError, KeyMissing, Permanent, Retryable
from connectors.keystores.contract import SigningRequest
from connectors.registry import ConnectorType, Surroundings

ADDRESSES = "/mgmt/tm/ltm/virtual-address"
# A transaction is done anew where it got lost; what it would do is looked at first each time.
ATTEMPTS = 4
_GENERATION = "generation "


class F5Endpoint:
    """One device, or the unit of a device group that certgate talks to."""

    def __init__(self, settings: Settings, surroundings: Surroundings) -> None:
        self._settings = settings
        self._session = Session(settings, surroundings.secret)

    @property
    def identity(self) -> str:
        """Address and port."""
        return f"f5-big-ip:{self._settings.address}:{self._settings.port}"

    @property
    def title(self) -> str:
        """How people know it."""
        return f"{TITLE} {self._settings.address}"

    async def sign_out(self) -> None:
        """At once; otherwise that is done a few seconds after the last use."""
        await self._session.sign_out()

    # Looking.

    async def discover(self) -> Sequence[Binding]:
        """The client-ssl profiles of the partition, and the virtual servers that use them."""
        s = self._settings
        async with self._session as session:
            profiles = await objects.profiles(session)
            addresses = {
                str(one.get("fullPath")): str(one.get("address", "")) for one in await session.items(ADDRESSES)
            }
            told = await session.items(VIRTUALS, {"expandSubcollections": "true"})
            known = await session.items(CERTIFICATES)
        return bindings_of(
            profiles,
            [Virtual.of(one, addresses) for one in told],
            partition=s.partition,
            certificate_names={str(one.get("fullPath")): objects.dns_names(one) for one in known},
            networks=s.networks,
            new_profiles=s.new_profiles,
        )

    async def check(self, place: Place | None = None, /) -> None:
        """Before there is a place: whether certgate may do here what it will have to. A device checks its configuration
        by itself, at each change."""
        async with self._session as session:
            if place is None:
                await self._rehearse(session)
            elif place.form != NEW_CLIENT_SSL:
                await self._profile(session, place)

    async def running(self) -> bool:
        """True: a device that does not answer, or still starts, is no matter of starting a product."""
        async with self._session as session:
            await self._require_ready(session)
        return True

    async def choose(self, binding: Binding, material: Material) -> Place:
        """The profile's only entry, or the one of the same key type. A chain that is not complete is refused, and a
        device group in which changes of another unit are pending: nothing could be synchronized."""
        contents = certificates.read(material)
        require_complete(contents, material)
        if not isinstance(contents.leaf.public_key(), rsa.RSAPublicKey | ec.EllipticCurvePublicKey):
            raise Permanent("A BIG-IP serves RSA and ECDSA certificates; request one of those key algorithms.")
        if self._settings.device_group is not None:
            async with self._session as session:
                await group.require_unchanged_elsewhere(session, self._settings.device_group)
        if len(binding.places) == 1:
            return binding.places[0]
        fitting = []
        async with self._session as session:
            profile = await self._profile(session, binding.places[0])
            for place in binding.places:
                entry = _entry_of(profile, place)
                told = await objects.certificate(session, entry.certificate) if entry else None
                if told is not None and objects.authentication(told) == contents.authentication:
                    fitting.append(place)
        if len(fitting) != 1:
            raise Permanent(
                f"{binding.id} has {len(binding.places)} certificates, and {len(fitting) or 'none'} of them "
                f"{'are' if len(fitting) > 1 else 'is'} {contents.authentication}: request the other key type, or make "
                "an entry for this one first."
            )
        return fitting[0]

    async def in_place(self, place: Place) -> InPlace:
        """What the profile names. The device tells no key's public half; that a key fits it sees to itself."""
        async with self._session as session:
            profile = await objects.profile(session, place.certificate)
            entry = _entry_of(profile, place) if profile else None
            told = await objects.certificate(session, entry.certificate) if entry else None
            if entry is None or told is None:
                return InPlace(None)
            chain = await objects.fingerprints(session, entry.chain) if entry.chain else ()
            return InPlace(objects.fingerprint(told), chain)

    # Changing.

    async def plan(self, place: Place, name: str) -> Snapshot:
        """The names of what the profile is bound to, and of all that certgate made for it so far."""
        async with self._session as session:
            there = await objects.ours(session, place.certificate)
            kept = {f"{_GENERATION}{number}": str(one["fullPath"]) for number, one in enumerate(there, 1)}
            if place.form == NEW_CLIENT_SSL:
                virtual = await self._virtual(session, place.alias)
                replaced = [path for path, _ in virtual.profiles if path in COME_WITH_IT]
                kept["replaced"] = " ".join(replaced)
                return Snapshot(name, place, kept, absent=(place.certificate,))
            profile = await self._profile(session, place)
        kept["inherits"] = "true" if profile.inherits else "false"
        entry = _entry_of(profile, place)
        if entry is None:
            return Snapshot(name, place, kept, absent=(place.alias,))
        kept |= {"certificate": entry.certificate, "key": entry.key, "chain": entry.chain}
        return Snapshot(name, place, kept)

    async def snapshot(self, snapshot: Snapshot) -> None:
        """Nothing has to be kept that is not there. What is older than can be gone back to is deleted now, so that the
        one synchronization at the end tells the other units of it, too."""
        async with self._session as session:
            await objects.prune(session, snapshot.place.certificate)

    async def write(self, place: Place, material: Material) -> None:
        """New objects, and the profile bound to them, in one transaction. It serves the new certificate then."""
        contents = certificates.read(material)
        require_complete(contents, material)
        s = self._settings
        if material.private_key_pem is None and material.key_alias is not None:
            made.made_key(s.partition, place.certificate, material.key_alias)
        wanted = names.generation(s.partition, place.certificate, contents.fingerprint, material.key_alias)
        async with self._session as session:
            for attempt in range(1, ATTEMPTS + 1):
                try:
                    await self._bind(session, place, material, contents, wanted)
                    return
                except Refused as refused:
                    # Somebody made the same objects in the same moment; they are looked at again.
                    if not refused.exists or attempt == ATTEMPTS:
                        raise
                except Retryable:
                    if attempt == ATTEMPTS:
                        raise

    async def activate(self, _place: Place, /) -> Activated:
        """Save the configuration and synchronize the device group. The device does not say when all of its processors
        have it: only handshakes in a row are proof."""
        async with self._session as session:
            return Activated(Activation.REQUESTED, await self._settle(session))

    async def restore(self, snapshot: Snapshot) -> None:
        """Bind the profile to what it was bound to, then delete what was made since."""
        place = snapshot.place
        async with self._session as session:
            await uploads.remove_uploads(session, names.uploads(place.certificate))
            if place.form == NEW_CLIENT_SSL:
                await self._take_away(session, snapshot)
            else:
                await self._bind_again(session, snapshot)
            before = {path for what, path in snapshot.kept.items() if what.startswith(_GENERATION)}
            used = objects.in_use(await objects.profiles(session))
            since = [str(one["fullPath"]) for one in await objects.ours(session, place.certificate)]
            unwanted = [path for path in since if path not in before and path not in used]
            await objects.delete(session, place.certificate, unwanted)

    async def discard(self, snapshot: Snapshot) -> None:
        """The objects from before stay on the device, for going back to; files on their way there don't."""
        async with self._session as session:
            await uploads.remove_uploads(session, names.uploads(snapshot.place.certificate))

    # Keys made on the device.

    async def make_key(self, binding_id: str, request: SigningRequest) -> str:
        """A key on the device, in a file object of its own until `write` binds it, and its CSR."""
        path = made.made_key(self._settings.partition, binding_id, request.alias)
        async with self._session as session:
            if await made.make(session, path, request):
                # The other units need it before they can be given a profile that names it.
                await self._settle(session)
            return await made.sign(session, path, request)

    async def discard_key(self, binding_id: str, alias: str) -> None:
        """Delete such a key and its CSR. One that a profile uses the device keeps."""
        path = made.made_key(self._settings.partition, binding_id, alias)
        async with self._session as session:
            await made.forget(session, path)
            await session.delete(f"{KEYS}/{segment(path)}")

    # How.

    async def _bind(
        self,
        session: Session,
        place: Place,
        material: Material,
        contents: certificates.Contents,
        wanted: Generation,
    ) -> None:
        """One attempt; nothing where it is done already."""
        profile = await objects.profile(session, place.certificate)
        entry = await self._entry_wanted(session, place, profile, material, contents, wanted)
        if profile is not None and not profile.inherits and _holds(profile, entry):
            return
        files = names.uploads(place.certificate)
        try:
            made_first = await self._uploaded(session, files, material, contents, wanted)
            bound = await self._bound(session, place, profile, entry)
            await carry_out(session, [*made_first, *bound])
        except BaseException:
            # Whoever puts back deletes them again, and tells where that fails.
            with suppress(ConnectorError):
                await uploads.remove_uploads(session, files)
            raise
        await uploads.remove_uploads(session, files)

    async def _entry_wanted(
        self,
        session: Session,
        place: Place,
        profile: Profile | None,
        material: Material,
        contents: certificates.Contents,
        wanted: Generation,
    ) -> Entry:
        key = wanted.key
        present = _entry_of(profile, place) if profile else None
        if material.private_key_pem is None and material.key_alias is None:
            if present is None or not present.key:
                raise KeyMissing(f"{place.certificate} has no private key that the certificate could be put beside.")
            key = present.key
        elif material.private_key_pem is None and await session.look(f"{KEYS}/{segment(key)}") is None:
            raise KeyMissing(f"The key {key} that was made on the device is not there any more.")
        name = present.name if present else names.PREFIX if place.form == NEW_CLIENT_SSL else place.alias
        more = {what: value for what, value in (present.more if present else {}).items() if what != "passphrase"}
        return Entry(name, wanted.certificate, key, wanted.chain if contents.chain else "", more)

    async def _uploaded(
        self,
        session: Session,
        files: tuple[str, str, str],
        material: Material,
        contents: certificates.Contents,
        wanted: Generation,
    ) -> list[Command]:
        """Upload what is not on the device yet; gives the commands that make objects of it."""
        commands: list[Command] = []

        async def make(collection: str, path: str, file: str, content: bytes) -> None:
            source = await uploads.upload(session, file, content)
            folder, _, name = path.rpartition("/")
            commands.append(
                Command("POST", collection, {"name": name, "partition": folder.strip("/"), "sourcePath": source})
            )

        if material.private_key_pem is not None and await session.look(f"{KEYS}/{segment(wanted.key)}") is None:
            await make(KEYS, wanted.key, files[0], _encoded(material.private_key_pem))
        if await self._is_missing(session, wanted.certificate, contents.fingerprint):
            await make(CERTIFICATES, wanted.certificate, files[1], _pem([contents.leaf]))
        if contents.chain and await objects.certificate(session, wanted.chain) is None:
            await make(CERTIFICATES, wanted.chain, files[2], _pem(contents.chain))
        return commands

    async def _is_missing(self, session: Session, path: str, fingerprint: str) -> bool:
        told = await objects.certificate(session, path)
        if told is not None and objects.fingerprint(told) not in (None, fingerprint):
            raise Permanent(f"{path} on the device holds another certificate than its name says: delete it there.")
        return told is None

    async def _bound(self, session: Session, place: Place, profile: Profile | None, entry: Entry) -> list[Command]:
        """The commands that make the profile use it."""
        if profile is not None:
            body: dict[str, Any] = {"certKeyChain": [one.body() for one in _with(profile, entry)]}
            if profile.inherits:
                body["inheritCertkeychain"] = "false"
            commands = [Command("PATCH", f"{PROFILES}/{segment(place.certificate)}", body)]
        elif place.form == NEW_CLIENT_SSL:
            folder, _, name = place.certificate.rpartition("/")
            body = {"name": name, "partition": folder.strip("/"), "defaultsFrom": self._settings.parent_profile}
            body |= {"inheritCertkeychain": "false", "certKeyChain": [entry.body()]}
            commands = [Command("POST", PROFILES, body)]
        else:
            raise Permanent(f"The client-ssl profile {place.certificate} is not on the device any more.")
        if place.form == NEW_CLIENT_SSL:
            virtual = await self._virtual(session, place.alias)
            if place.certificate not in (path for path, _ in virtual.profiles):
                kept = [one for one in virtual.profiles if one[0] not in COME_WITH_IT]
                commands.append(_profiles_of(virtual, [*kept, (place.certificate, "clientside")]))
        return commands

    async def _bind_again(self, session: Session, snapshot: Snapshot) -> None:
        place, kept = snapshot.place, snapshot.kept
        profile = await self._profile(session, place)
        if kept.get("inherits") == "true":
            if not profile.inherits:
                await self._patch(session, place, {"inheritCertkeychain": "true"})
            return
        present = _entry_of(profile, place)
        others = [one for one in profile.entries if one is not present]
        if "certificate" not in kept:
            if present is not None:
                await self._patch(session, place, {"certKeyChain": [one.body() for one in others]})
            return
        more = present.more if present else {}
        entry = Entry(place.alias, kept["certificate"], kept["key"], kept["chain"], more)
        if not _holds(profile, entry) or profile.inherits:
            body: dict[str, Any] = {"certKeyChain": [one.body() for one in _with(profile, entry)]}
            await self._patch(session, place, body | ({"inheritCertkeychain": "false"} if profile.inherits else {}))

    async def _take_away(self, session: Session, snapshot: Snapshot) -> None:
        place = snapshot.place
        commands = []
        virtual = await self._virtual(session, place.alias)
        if place.certificate in (path for path, _ in virtual.profiles):
            back = [(path, "clientside") for path in snapshot.kept.get("replaced", "").split()]
            others = [one for one in virtual.profiles if one[0] != place.certificate]
            commands.append(_profiles_of(virtual, [*others, *back]))
        if await objects.profile(session, place.certificate) is not None:
            commands.append(Command("DELETE", f"{PROFILES}/{segment(place.certificate)}"))
        if commands:
            await carry_out(session, commands)

    async def _patch(self, session: Session, place: Place, body: dict[str, Any]) -> None:
        await session.again("PATCH", f"{PROFILES}/{segment(place.certificate)}", body)

    async def _settle(self, session: Session) -> str:
        told = []
        if self._settings.save:
            await session.again("POST", "/mgmt/tm/sys/config", {"command": "save"})
            told.append("configuration saved")
        if self._settings.device_group is not None:
            synchronized = await group.synchronize(
                session, self._settings.device_group, self._settings.sync_timeout_seconds
            )
            told.append(f"{synchronized} from unit {await group.this_unit(session)} ({await group.role(session)})")
        return "; ".join(told)

    async def _require_ready(self, session: Session) -> None:
        """``show sys ready``: nothing is asked of a device that still loads its configuration."""
        words = await group.readiness(session)
        if words:
            raise Retryable(f"{self.title} is still starting: {words}.")

    async def _rehearse(self, session: Session) -> None:
        """Upload a file, delete it, begin a transaction and drop it: a user who may not is told before there is
        something to put back."""
        file = f"{names.PREFIX}-check"
        await uploads.upload(session, file, b"\n")
        await uploads.remove_uploads(session, [file])
        await drop(session, await begin(session))

    async def _profile(self, session: Session, place: Place) -> Profile:
        profile = await objects.profile(session, place.certificate)
        if profile is None:
            raise Permanent(f"The client-ssl profile {place.certificate} is not on the device any more.")
        return profile

    async def _virtual(self, session: Session, path: str) -> Virtual:
        told = await session.get(f"{VIRTUALS}/{segment(path)}", {"expandSubcollections": "true"})
        return Virtual.of(told, {})


def _entry_of(profile: Profile, place: Place) -> Entry | None:
    if place.form == NEW_CLIENT_SSL:
        return profile.entries[0] if profile.entries else None
    return next((one for one in profile.entries if one.name == place.alias), None)


def _holds(profile: Profile, entry: Entry) -> bool:
    return any(
        (one.name, one.certificate, one.key, one.chain) == (entry.name, entry.certificate, entry.key, entry.chain)
        for one in profile.entries
    )


def _with(profile: Profile, entry: Entry) -> list[Entry]:
    """The profile's entries with this one in the place of the one of its name, or behind them."""
    if all(one.name != entry.name for one in profile.entries):
        return [*profile.entries, entry]
    return [entry if one.name == entry.name else one for one in profile.entries]


def _profiles_of(virtual: Virtual, profiles: Sequence[tuple[str, str]]) -> Command:
    """Make these the virtual server's profiles."""
    body = {"profiles": [{"name": path, "context": context} for path, context in profiles]}
    return Command("PATCH", f"{VIRTUALS}/{segment(virtual.path)}", body)


def _pem(found: Sequence[x509.Certificate]) -> bytes:
    return b"".join(one.public_bytes(Encoding.PEM) for one in found)


def _encoded(private_key_pem: bytes) -> bytes:
    """``BEGIN RSA PRIVATE KEY`` or ``BEGIN EC PRIVATE KEY``, which every TMOS reads."""
    key = load_pem_private_key(private_key_pem, password=None)
    return key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())


def _open(settings: Settings, surroundings: Surroundings) -> F5Endpoint:
    return F5Endpoint(settings, surroundings)


CONNECTOR: ConnectorType[Settings, F5Endpoint] = ConnectorType(
    name="f5-big-ip", title="F5 BIG-IP", settings=Settings, open=_open, over=frozenset()
)
