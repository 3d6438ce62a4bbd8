"""Dovecot: its certificates for IMAP, POP3, submission, ManageSieve and LMTP, found by ``doveconf``, taken over by a
reload.

A certificate may be set for the whole server and again in ``local_name`` (by SNI), ``local`` (by own address) and
``protocol`` blocks; which one counts for a connection, doveconf says itself. Values are ``<`` and a path; from 2.4 on,
where the settings are called ``ssl_server_cert_file`` and ``ssl_server_key_file``, the path alone.

``ssl_key`` is asked for on its own, so that no password of the configuration is read beside it.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pydantic import Field, field_validator

from connectors.endpoints import processes
from connectors.endpoints.contract import Activated, Activation, Binding, Listener, Place, Probe
from connectors.endpoints.hook import complaint
from connectors.endpoints.listeners import PROBE_LABEL
from connectors.endpoints.pem.endpoint import CertificateFiles
from connectors.endpoints.pem.services import Use, bindings_of
from connectors.endpoints.pem.settings import ServedSettings, plain_path
from connectors.endpoints.starttls import StartTls
from connectors.errors import Permanent
from connectors.hosts.contract import CommandResult, Host
from connectors.registry import ConnectorType, Surroundings

Pairs = Sequence[tuple[str, str]]
# Certificate and key; the second one of RSA and ECDSA is "alternative".
PAIRS: Pairs = (("ssl_cert", "ssl_key"), ("ssl_alt_cert", "ssl_alt_key"))
PAIRS_SINCE_2_4: Pairs = (
    ("ssl_server_cert_file", "ssl_server_key_file"),
    ("ssl_server_alt_cert_file", "ssl_server_alt_key_file"),
)
# What begins TLS on the plain port of a service's protocol.
STARTTLS = {
    "imap": StartTls.IMAP,
    "pop3": StartTls.POP3,
    "submission": StartTls.SMTP,
    "sieve": StartTls.SIEVE,
    "lmtp": StartTls.LMTP,
}
SERVICES = {"imap-login": "imap", "pop3-login": "pop3", "submission-login": "submission", "managesieve-login": "sieve"}
SERVICES |= {"lmtp": "lmtp"}
FILTERS = {"local": "local", "local_name": "lname", "protocol": "protocol"}
# Processes that hold certificates: login processes have them from the one that reads the configuration, which a reload
# replaces. And how long they are given to end after it.
HOLDERS = ("dovecot/config", "imap-login", "pop3-login", "submission-login", "managesieve-login", "dovecot/lmtp")
RETIREMENT_SECONDS = 1.0
POLL_SECONDS = 0.005
_UNSEEN = -1
_BLOCK = re.compile(r"\s*(?P<kind>\w+)(?: (?P<value>.+))? \{")


class DovecotSettings(ServedSettings):
    """How to find and command one Dovecot on its host."""

    configuration: str = Field(
        default="/etc/dovecot/dovecot.conf", pattern="^/", max_length=4096, description="Main file, absolute path."
    )
    doveconf_command: list[str] = Field(
        default=["doveconf"],
        min_length=1,
        max_length=100,
        description="The program that tells the configuration, with what must stand before it.",
    )
    doveadm_command: list[str] = Field(
        default=["doveadm"],
        min_length=1,
        max_length=100,
        description='The program that commands Dovecot, such as ["sudo", "-n", "/usr/bin/doveadm"].',
    )
    address: str | None = Field(
        default=None,
        min_length=1,
        max_length=253,
        description="Address or name at which handshakes look, in place of those that Dovecot listens on.",
    )

    @field_validator("configuration")
    @classmethod
    def _a_path(cls, value: str) -> str | None:
        return plain_path(value)


@dataclass(frozen=True)
class _Block:
    """A part of the configuration that names a certificate: the blocks that it stands in, outermost first."""

    filters: tuple[tuple[str, str], ...]

    @property
    def id(self) -> str:
        return " ".join(f"{kind} {value}" for kind, value in self.filters) or "default"

    @property
    def names(self) -> list[str]:
        """``local_name`` takes several, with ``*.`` in front if need be."""
        return [name for kind, value in self.filters if kind == "local_name" for name in value.split()]

    def arguments(self) -> list[str]:
        return [
            word
            for kind, value in self.filters
            for word in ("-f", f"{FILTERS[kind]}={value.split()[0].replace('*', PROBE_LABEL, 1)}")
        ]


@dataclass(frozen=True)
class _Door:
    """Where a protocol is reached. `own` is the address that Dovecot listens on, empty for every one."""

    protocol: str
    own: str
    listener: Listener = field(compare=False)


class _Refused(Permanent):
    """doveconf can't or does not want to tell."""


class DovecotEndpoint(CertificateFiles):
    """`connectors.endpoints.contract.Endpoint` for one Dovecot."""

    def __init__(self, settings: DovecotSettings, host: Host) -> None:
        super().__init__(settings, host)
        self._settings = settings

    @property
    def identity(self) -> str:
        """Host and main file."""
        return f"dovecot {self._host.address} {self._settings.configuration}"

    @property
    def title(self) -> str:
        """``Dovecot``, with its configuration where that is not the usual one."""
        usual = DovecotSettings.model_fields["configuration"].default
        return "Dovecot" if self._settings.configuration == usual else f"Dovecot ({self._settings.configuration})"

    # Looking.

    async def discover(self) -> Sequence[Binding]:
        """A binding ``default``, and one for each block that names another certificate, such as
        ``local_name imap.example.org``."""
        shown = (await self._doveconf("-n")).output
        pairs = _pairs_of(shown)
        values = await self._values("ssl", "listen", "protocols", *(name for pair in pairs for name in pair))
        blocks = [_Block(()), *_blocks_in(shown, pairs[0][0])]
        doors = await self._doors(values)
        places = {blocks[0]: _places_in(values, pairs)}
        places |= {block: await self._places(block, pairs) for block in blocks[1:]}
        served = await self._served_where(blocks, doors, {block: found[0] for block, found in places.items()}, pairs)
        off = "ssl is off in its configuration; set ssl = yes." if values.get("ssl") == "no" else None
        uses = []
        for block in blocks:
            found, obstacle = places[block]
            if not found and block.filters:
                continue
            probes = served[block]
            names = block.names or self._settings.names
            if not block.filters:
                listeners, set_probes = self._settings.found_at(self._host.address)
                probes = list(set_probes) if listeners else probes
            if not probes and doors and obstacle is None:
                obstacle = "no connection gets it: another part of the configuration comes first everywhere."
            uses.append(Use(block.id, names, found, [one.listener for one in probes], probes, off or obstacle))
        return await bindings_of(uses, self.resolve)

    async def _served_where(
        self, blocks: Sequence[_Block], doors: Sequence[_Door], places: dict[_Block, tuple[Place, ...]], pairs: Pairs
    ) -> dict[_Block, list[Probe]]:
        """The handshakes that show each block's certificate. Where only ``local_name`` decides that is plain; else
        doveconf is asked which certificate counts."""
        served: dict[_Block, list[Probe]] = {block: [] for block in blocks}
        plain = all(
            len(block.filters) < 2 and all(kind == "local_name" for kind, _ in block.filters) for block in blocks
        )
        for block in blocks:
            names: list[str | None] = [
                name.replace("*", PROBE_LABEL, 1) for name in block.names or self._settings.names
            ]
            for door in doors:
                if any(kind == "protocol" and value != door.protocol for kind, value in block.filters):
                    continue
                for name in names or [None]:
                    if plain or await self._counts(door, name, pairs) == places[block]:
                        served[block].append(Probe(door.listener, name))
        return served

    async def _counts(self, door: _Door, name: str | None, pairs: Pairs) -> tuple[Place, ...]:
        """The certificate that a connection gets; nothing where blocks contradict each other, as doveconf says then."""
        filters = [("protocol", door.protocol), ("local", door.own or door.listener.address)]
        given = _Block((*filters, *([("local_name", name)] if name else [])))
        try:
            return (await self._places(given, pairs))[0]
        except _Refused:
            return ()

    async def check(self, place: Place | None = None, /) -> None:
        """``doveconf`` reads the configuration. It does not look into certificates: with `place`, for which only those
        were exchanged, certgate does."""
        if place is None:
            await self._doveconf("-n")
        else:
            await self.require_match(place)

    async def running(self) -> bool:
        """Whether the process of master.pid is there; by ``doveadm service status`` where that file is closed."""
        master = await self._master()
        if master != _UNSEEN:
            return master is not None
        return (await self.run(self._doveadm("service", "status"))).status == 0

    # Changing.

    async def activate(self, place: Place, /) -> Activated:
        """Reload, and wait for the login processes that had the old certificate."""
        old = await self._holders()
        await self.command(self._doveadm("reload"), "did not take the order to reload")
        proof = Activation.REQUESTED if old is None else await self._await_retirement(old)
        return Activated(proof, await self.hook(place))

    async def _master(self) -> int | None:
        """The master's process, None where there is none, `_UNSEEN` where its pid file can't be read."""
        folder = (await self._values("base_dir"))["base_dir"]
        try:
            master = await processes.pid_in(self._host, f"{folder}/master.pid")
        except Permanent:
            return _UNSEEN
        title = await processes.title_of(self._host, master) if master is not None else None
        return master if title is not None and "dovecot" in title else None

    async def _holders(self) -> list[int] | None:
        """Processes that may have the old certificate; None where the system does not tell."""
        master = await self._master()
        if master is None or master == _UNSEEN or await self._host.state("/proc/self/stat") is None:
            return None
        children = await processes.children_of(self._host, master)
        titles = {child: await processes.title_of(self._host, child) or "" for child in children}
        return [child for child, title in titles.items() if any(holder in title for holder in HOLDERS)]

    async def _await_retirement(self, old: Sequence[int]) -> Activation:
        """An idle process ends with the reload; one that has a client stays with it, and takes no new one. Where none
        was there, nothing shows that the master has followed the order already."""
        waiting = list(old)
        try:
            async with asyncio.timeout(RETIREMENT_SECONDS):
                while waiting:
                    waiting = [one for one in waiting if await processes.title_of(self._host, one)]
                    await asyncio.sleep(POLL_SECONDS)
        except TimeoutError:
            pass
        return Activation.REQUESTED if waiting or not old else Activation.IN_EFFECT

    # The configuration.

    async def _values(self, *names: str, filters: Sequence[str] = ()) -> dict[str, str]:
        """Settings as they count, in a block if need be; those that this version does not have are missing."""
        result = await self._doveconf("-P", *filters, *names)
        return dict(_assignment(line) for line in result.output.splitlines() if "=" in line)

    async def _places(self, block: _Block, pairs: Pairs) -> tuple[tuple[Place, ...], str | None]:
        """See `_places_in`; of a block."""
        names = [name for pair in pairs for name in pair]
        return _places_in(await self._values(*names, filters=block.arguments()), pairs)

    async def _doors(self, values: dict[str, str]) -> list[_Door]:
        """All listeners of protocols that are on."""
        protocols = set(values.get("protocols", "").split())
        addresses = [word for word in re.split(r"[\s,]+", values.get("listen", "")) if word] or ["*"]
        doors = []
        for service, protocol in SERVICES.items():
            if protocol not in protocols:
                continue
            for listener in _listeners_in((await self._doveconf(f"service/{service}")).output):
                port = int(listener.get("port", "0") or 0)
                if port == 0:
                    continue
                starttls = None if listener.get("ssl") == "yes" else STARTTLS[protocol]
                own = listener.get("address", "").split() or addresses
                for address in dict.fromkeys("" if one in ("*", "::") else one for one in own):
                    reached = self._settings.address or address or self._host.address
                    proxied = listener.get("haproxy") == "yes"
                    doors.append(_Door(protocol, address, Listener(reached, port, proxied, starttls)))
        return doors

    async def _doveconf(self, *arguments: str) -> CommandResult:
        command = [*self._settings.doveconf_command, "-c", self._settings.configuration, *arguments]
        result = await self.run(command)
        if result.status != 0:
            raise _Refused(f"{self.title} refuses its configuration: {complaint(result)}.")
        return result

    def _doveadm(self, *arguments: str) -> list[str]:
        return [*self._settings.doveadm_command, "-c", self._settings.configuration, *arguments]


def _pairs_of(shown: str) -> Pairs:
    """What the settings are called in the version that doveconf names in its first line."""
    found = re.match(r"# (\d+)\.(\d+)", shown)
    return PAIRS_SINCE_2_4 if found and (int(found[1]), int(found[2])) >= (2, 4) else PAIRS


def _places_in(values: Mapping[str, str], pairs: Pairs) -> tuple[tuple[Place, ...], str | None]:
    """Where certificates and keys are, and what stands in the way of exchanging them."""
    places = []
    for certificate_name, key_name in pairs:
        certificate, key = (_path(values.get(name, "")) for name in (certificate_name, key_name))
        if values.get(certificate_name, "") in ("", "<"):
            continue
        if certificate is None or key is None:
            return (), f"its {certificate_name} or {key_name} is not a file; put it into one and name it with <."
        places.append(Place(certificate, key))
    if not places:
        return (), f"no certificate is configured for it; set {pairs[0][0]} and {pairs[0][1]}."
    return tuple(places), None


def _blocks_in(shown: str, setting: str) -> list[_Block]:
    """The blocks in which `setting` stands, outermost first, in the order of ``doveconf -n``."""
    found: list[_Block] = []
    within: list[tuple[str, str]] = []
    for line in shown.splitlines():
        opened = _BLOCK.fullmatch(line)
        if opened:
            within.append((opened["kind"], (opened["value"] or "").strip('"')))
        elif line.strip() == "}":
            within = within[:-1]
        elif _assignment(line)[0] == setting and within and all(kind in FILTERS for kind, _ in within):
            found.append(_Block(tuple(within)))
    return list(dict.fromkeys(found))


def _listeners_in(shown: str) -> list[dict[str, str]]:
    """The settings of each ``inet_listener`` of a service."""
    found: list[dict[str, str]] = []
    inside = False
    for line in shown.splitlines():
        if line.strip().startswith("inet_listener"):
            found.append({})
            inside = True
        elif line.strip() == "}":
            inside = False
        elif inside:
            name, value = _assignment(line)
            found[-1][name] = value
    return found


def _assignment(line: str) -> tuple[str, str]:
    name, _, value = line.partition("=")
    return name.strip(), value.strip()


def _path(value: str) -> str | None:
    """The file that a setting names; None for what stands in the configuration itself."""
    path = value.removeprefix("<").strip().strip('"')
    return path if path.startswith("/") else None


def _open(settings: DovecotSettings, surroundings: Surroundings) -> DovecotEndpoint:
    return DovecotEndpoint(settings, surroundings.require_host("Dovecot"))


CONNECTOR: ConnectorType[DovecotSettings, DovecotEndpoint] = ConnectorType(
    name="dovecot", title="Dovecot", settings=DovecotSettings, open=_open
)
