"""A keystore file as an endpoint: PKCS#12 or JKS, of a program that certgate knows nothing else of."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from connectors.archives import formats
from connectors.archives.contract import Passphrases, kind_of
from connectors.endpoints.contract import Activated, Activation, Binding, Place
from connectors.endpoints.files import Archive, FileEndpoint
from connectors.endpoints.hook import HookSettings, run_hook
from connectors.endpoints.keystores import KeystoreEntry, Survey
from connectors.endpoints.listeners import ListenerSettings, anybody_answers
from connectors.errors import Permanent
from connectors.registry import ConnectorType, Surroundings
from connectors.secrets import Reference

Form = Literal["pkcs12", "jks"]


class KeystoreFileSettings(ListenerSettings, HookSettings):
    """Where the file is, what opens it, which entry is exchanged, and what happens then."""

    path: str = Field(pattern="^/[^\0]*[^/\0]$", description="The keystore file, absolute path on the endpoint's host.")
    alias: str | None = Field(
        default=None,
        min_length=1,
        max_length=500,
        description="The entry that is exchanged. Without it every key in the file is a binding of its own.",
    )
    store_password: Reference = Field(description="Reference of the file's passphrase.")
    key_password: Reference | None = Field(
        default=None, description="Reference of the key's own passphrase, where it is another than the file's."
    )
    create: bool = Field(
        default=False, description="Make the file, or the entry in it, where there is none of that name yet."
    )


class KeystoreFileEndpoint(FileEndpoint):
    """`connectors.endpoints.contract.Endpoint` for one file. Its bindings are called by their aliases."""

    def __init__(self, settings: KeystoreFileSettings, surroundings: Surroundings, form: Form) -> None:
        self._kind = formats.of(form).title
        super().__init__(surroundings.require_host(self._kind))
        self._settings = settings
        self._surroundings = surroundings
        self._form = form

    @property
    def identity(self) -> str:
        """Host and path: the file is exchanged as a whole."""
        return f"keystore {self._host.address} {self._settings.path}"

    @property
    def title(self) -> str:
        """Its kind and path."""
        return f"the {self._kind} file {self._settings.path}"

    async def discover(self) -> Sequence[Binding]:
        """The entry that is set, or all keys of the file, in its order."""
        path = await self.resolve(self._settings.path)
        content = await self.read(path)
        if content is None:
            return [await self._alone(self._wanted(), path, None)]
        if (found := kind_of(content)) not in (None, self._kind):
            raise Permanent(f"{path} is a {found} file, and the endpoint is set as {self._kind}.")
        if self._settings.alias is not None:
            return [await self._alone(self._settings.alias, path, content)]
        survey = await self._look(content, self._place(path, ""))
        if not survey.aliases:
            raise Permanent(
                f"Can't find a key in {self.title}: {survey.obstacle}"
                if survey.obstacle
                else f"{path} has no key in it: set the alias of the entry that is to be made, and create."
            )
        if len(survey.aliases) == 1:
            return [await self._alone(survey.aliases[0], path, content)]
        # Which of them is served where, nobody has said.
        bindings = []
        for alias in survey.aliases:
            place = self._place(path, alias)
            obstacle = self._unsaid() or (await self._look(content, place)).obstacle
            bindings.append(Binding(alias, tuple(self._settings.names), (), places=(place,), obstacle=obstacle))
        return bindings

    async def check(self, place: Place | None = None, /) -> None:
        """Whether the file can be opened; with a place, that its key belongs to its certificate."""
        if place is not None:
            await self.require_match(place)
            return
        obstacles = [binding.obstacle for binding in await self.discover()]
        if obstacles[0] is not None and None not in obstacles:
            raise Permanent(f"{self.title[0].upper()}{self.title[1:]} can't be installed on: {obstacles[0]}")

    async def running(self) -> bool:
        """Whether anything takes connections where the settings say that the certificate is served; without listeners
        there is nothing that would have to run."""
        listeners, _ = self._settings.found_at(self._host.address)
        return not listeners or await anybody_answers(listeners)

    async def activate(self, place: Place, /) -> Activated:
        """Run the hook. What it does, and whoever reads the file without one, nobody tells."""
        told = await run_hook(
            self._host, self._settings, certificate=place.certificate, key=place.key, chain=place.chain
        )
        return Activated(Activation.REQUESTED, told)

    async def archive(self, _place: Place, /) -> Archive | None:
        """The file, with its passphrases."""
        return await self._entry()

    def _wanted(self) -> str:
        """The alias of an entry that has to be made."""
        if not self._settings.create or self._settings.alias is None:
            raise Permanent(
                f"There is no file {self._settings.path} on this host: correct the path, or set an alias and create, "
                "so that it is made."
            )
        return self._settings.alias

    async def _alone(self, alias: str, path: str, content: bytes | None) -> Binding:
        place = self._place(path, alias)
        survey = await self._look(content, place)
        obstacle = survey.obstacle
        if not self._settings.create and alias.lower() not in (one.lower() for one in survey.aliases):
            there = ", ".join(survey.aliases[:5]) or "none"
            obstacle = obstacle or (
                f"{path} has no key under {alias} (there is: {there}): correct the alias, or set create."
            )
        listeners, probes = self._settings.found_at(self._host.address)
        return Binding(alias, tuple(self._settings.names), listeners, probes, (place,), obstacle=obstacle)

    async def _look(self, content: bytes | None, place: Place) -> Survey:
        return await asyncio.to_thread((await self._entry()).look, content, place)

    def _unsaid(self) -> str | None:
        if not self._settings.listeners:
            return None
        return "the endpoint has listeners, and the file several keys: set the alias of the one that is served there."

    def _place(self, path: str, alias: str) -> Place:
        return Place(path, path, form=self._form, alias=alias)

    async def _entry(self) -> KeystoreEntry:
        store = await self._word(self._settings.store_password)
        key = await self._word(self._settings.key_password) if self._settings.key_password is not None else store
        return KeystoreEntry(Passphrases(store, key), self._surroundings.clock)

    async def _word(self, reference: str) -> str:
        try:
            return (await asyncio.to_thread(self._surroundings.secret, reference)).decode()
        except UnicodeDecodeError:
            raise Permanent(f"The passphrase {reference} is not text in UTF-8, as Java's keystores need it.") from None


def _open_pkcs12(settings: KeystoreFileSettings, surroundings: Surroundings) -> KeystoreFileEndpoint:
    return KeystoreFileEndpoint(settings, surroundings, "pkcs12")


def _open_jks(settings: KeystoreFileSettings, surroundings: Surroundings) -> KeystoreFileEndpoint:
    return KeystoreFileEndpoint(settings, surroundings, "jks")


PKCS12: ConnectorType[KeystoreFileSettings, KeystoreFileEndpoint] = ConnectorType(
    name="pkcs12", title="PKCS#12 file", settings=KeystoreFileSettings, open=_open_pkcs12
)
JKS: ConnectorType[KeystoreFileSettings, KeystoreFileEndpoint] = ConnectorType(
    name="jks", title="Java keystore (JKS)", settings=KeystoreFileSettings, open=_open_jks
)
