"""The types that exchange files: `pem` for any server, and what its presets have in common.

Neither a hook's exit status nor a server's own check says that a key belongs to its certificate, so that is looked at
here; and that the new certificate is served, handshakes say.
"""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from datetime import timedelta

from connectors.endpoints.contract import (
    Activated,
    Activation,
    Binding,
    Listener,
    Material,
    Place,
    Probe,
)
from connectors.endpoints.files import FileEndpoint, Ownership
from connectors.endpoints.hook import complaint, run_hook
from connectors.endpoints.listeners import PROBE_LABEL, anybody_answers
from connectors.endpoints.pem.settings import PemSettings, ServedSettings
from connectors.errors import Permanent
from connectors.hosts.contract import CommandResult, Host
from connectors.registry import ConnectorType, Surroundings

COMMAND_TIMEOUT = timedelta(seconds=60)


class CertificateFiles(FileEndpoint):
    """What `pem` and its presets share."""

    def __init__(self, settings: ServedSettings, host: Host) -> None:
        super().__init__(host)
        self._served = settings

    def probes_at(self, listeners: Sequence[Listener], names: Sequence[str]) -> tuple[Probe, ...]:
        """A handshake for each name at each listener; without SNI where there are no names."""
        asked: list[str | None] = [name.replace("*", PROBE_LABEL, 1).lower() for name in names] or [None]
        return tuple(dict.fromkeys(Probe(one, name) for one in listeners for name in asked))

    async def run(self, words: Sequence[str]) -> CommandResult:
        """Run a command and take whatever status it gives."""
        return await self._host.run(words, timeout=COMMAND_TIMEOUT)

    async def command(
        self, words: Sequence[str], failed: str, *, timeout: timedelta = COMMAND_TIMEOUT
    ) -> CommandResult:
        """Run a command of the product; raises `Permanent`: the title, `failed`, and the command's words."""
        result = await self._host.run(words, timeout=timeout)
        if result.status != 0:
            raise Permanent(f"{self.title} {failed}: {complaint(result)}.")
        return result

    async def hook(self, place: Place) -> str:
        """Run the hook of the settings, if there is one; gives what is to be told of it."""
        return await run_hook(self._host, self._served, certificate=place.certificate, key=place.key, chain=place.chain)


class PemEndpoint(CertificateFiles):
    """`connectors.endpoints.contract.Endpoint` for the files of one certificate."""

    def __init__(self, settings: PemSettings, host: Host) -> None:
        super().__init__(settings, host)
        self._settings = settings
        self._made = Ownership(0o600)

    @property
    def identity(self) -> str:
        """Host and the certificate's file."""
        return f"pem {self._host.address} {self._settings.certificate}"

    @property
    def title(self) -> str:
        """The certificate's file."""
        return f"the files of {self._settings.certificate}"

    @property
    def _place(self) -> Place:
        settings = self._settings
        key = settings.key or settings.certificate
        form = "der" if settings.format == "der" else "pem-key-first" if settings.key_first else "pem"
        return Place(settings.certificate, key, settings.chain, form)

    async def discover(self) -> Sequence[Binding]:
        """One binding, which is called as its certificate's file."""
        listeners, probes = self._settings.found_at(self._host.address)
        return [
            Binding(
                id=self._settings.certificate,
                names=tuple(self._settings.names),
                listeners=listeners,
                probes=probes,
                places=(self._place,),
                obstacle=await self._obstacle(),
            )
        ]

    async def _obstacle(self) -> str | None:
        place = self._place
        for path in dict.fromkeys(one for one in (place.certificate, place.key, place.chain) if one is not None):
            if await self._host.state(path) is not None:
                continue
            if await self._host.state(posixpath.dirname(path)) is None:
                return f"the folder {posixpath.dirname(path)} does not exist on this host; make it or correct the path."
            if self._settings.owner is None or self._settings.mode is None:
                return f"{path} does not exist; put it there, or set owner and mode, so that it can be made."
        return None

    async def check(self, place: Place | None = None, /) -> None:
        """The check command, if one is set; with `place` also whether key and certificate belong together."""
        if place is not None:
            await self.require_match(place)
        if self._settings.check_command is not None:
            await self.command(self._settings.check_command, "are refused by the check command")

    async def running(self) -> bool:
        """Whether anything takes connections where the settings say that the certificate is served; without listeners
        there is nothing that would have to run."""
        listeners, _ = self._settings.found_at(self._host.address)
        return not listeners or await anybody_answers(listeners)

    async def write(self, place: Place, material: Material) -> None:
        """See `FileEndpoint.write`; files that are made get the owner and mode of the settings."""
        if self._settings.owner is not None and self._settings.mode is not None:
            self._made = await self._ownership(self._settings.owner, int(self._settings.mode, 8))
        await super().write(place, material)

    def ownership(self, _path: str, /, *, private: bool) -> Ownership:
        """As the settings have it."""
        mode = self._made.mode if private else int(self._settings.certificate_mode, 8)
        return Ownership(mode, self._made.owner, self._made.group)

    async def _ownership(self, owner: str, mode: int) -> Ownership:
        """Names become numbers on the host itself: it may know users that the gateway's machine does not."""
        user, _, group = owner.partition(":")
        number, own_group = await self._account("passwd", user, "user")
        return Ownership(mode, number, (await self._account("group", group, "group"))[0] if group else own_group)

    async def _account(self, database: str, name: str, what: str) -> tuple[int, int | None]:
        """The number of a user or group, and a user's own group (passwd(5), group(5))."""
        result = await self._host.run(["getent", database, name], timeout=COMMAND_TIMEOUT)
        fields = result.output.split("\n")[0].split(":")
        if result.status == 0 and len(fields) > 3 and fields[2].isdigit():
            return int(fields[2]), int(fields[3]) if database == "passwd" and fields[3].isdigit() else None
        if name.isdigit():
            return int(name), None
        raise Permanent(f"The {what} {name} that new files shall belong to is not known on this host.")

    async def activate(self, place: Place, /) -> Activated:
        """The hook."""
        return Activated(Activation.REQUESTED, await self.hook(place))


def _open(settings: PemSettings, surroundings: Surroundings) -> PemEndpoint:
    return PemEndpoint(settings, surroundings.require_host("PEM files"))


CONNECTOR: ConnectorType[PemSettings, PemEndpoint] = ConnectorType(
    name="pem", title="PEM or DER files", settings=PemSettings, open=_open
)
