"""Postfix: the certificates of its SMTP services, found by ``postconf``, taken over by a reload.

Three ways to name them count, as in postconf(5): ``smtpd_tls_chain_files``, in which the key comes *before* its
certificates, wins over the older pairs ``smtpd_tls_cert_file``/``key_file`` and ``eccert_file``/``eckey_file``; and a
service of master.cf may have its own with ``-o``.

A reload succeeds whatever the files hold: an smtpd that can't use them offers no TLS. So the match of key and
certificate is looked at before, and the processes that had the old certificate are waited for after.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pydantic import Field, field_validator

from connectors.endpoints import processes
from connectors.endpoints.contract import Activated, Activation, Binding, Listener, Place
from connectors.endpoints.files import certificates_in
from connectors.endpoints.pem.endpoint import CertificateFiles
from connectors.endpoints.pem.services import Use, bindings_of
from connectors.endpoints.pem.settings import ServedSettings, plain_path
from connectors.endpoints.starttls import StartTls
from connectors.errors import Permanent
from connectors.hosts.contract import Host
from connectors.registry import ConnectorType, Surroundings

PAIRS = (
    ("smtpd_tls_cert_file", "smtpd_tls_key_file"),
    ("smtpd_tls_eccert_file", "smtpd_tls_eckey_file"),
)
PARAMETERS = (
    "smtpd_tls_chain_files",
    *(name for pair in PAIRS for name in pair),
    *("smtpd_tls_security_level", "smtpd_tls_wrappermode", "smtpd_use_tls", "smtpd_enforce_tls"),
    *("smtpd_upstream_proxy_protocol", "postscreen_upstream_proxy_protocol"),
    "inet_interfaces",
)
# services(5) of any system has these; others are asked for there.
PORTS = {"smtp": 25, "smtps": 465, "submissions": 465, "submission": 587, "urd": 465}
# What holds certificates: the server itself, and what stands before it.
HOLDERS = ("smtpd", "postscreen", "tlsproxy")
# How long idle processes are given to end after a reload; busy ones finish with their client first, however long it is.
RETIREMENT_SECONDS = 1.0
POLL_SECONDS = 0.005
# No process has this number.
_UNSEEN = -1


class PostfixSettings(ServedSettings):
    """How to find and command one Postfix on its host."""

    configuration: str = Field(
        default="/etc/postfix", pattern="^/", max_length=4096, description="Configuration directory, absolute path."
    )
    postconf_command: list[str] = Field(
        default=["postconf"],
        min_length=1,
        max_length=100,
        description="The program that tells the configuration, with what must stand before it.",
    )
    postfix_command: list[str] = Field(
        default=["postfix"],
        min_length=1,
        max_length=100,
        description="The program that commands Postfix, which takes root's rights, with what must stand before it, "
        'such as ["sudo", "-n", "/usr/sbin/postfix"].',
    )
    address: str | None = Field(
        default=None,
        min_length=1,
        max_length=253,
        description="Address or name at which handshakes look, in place of those that Postfix listens on.",
    )

    @field_validator("configuration")
    @classmethod
    def _a_path(cls, value: str) -> str | None:
        return plain_path(value)


@dataclass(frozen=True)
class _Service:
    """An SMTP service of master.cf, with the parameters that count for it."""

    name: str
    listeners: Sequence[Listener]
    values: Mapping[str, str]

    @property
    def speaks_tls(self) -> bool:
        level = self.values.get("smtpd_tls_security_level", "")
        if level:
            return level in ("may", "encrypt")
        names = ("smtpd_tls_wrappermode", "smtpd_use_tls", "smtpd_enforce_tls")
        return any(self.values.get(name) == "yes" for name in names)


class PostfixEndpoint(CertificateFiles):
    """`connectors.endpoints.contract.Endpoint` for one Postfix."""

    def __init__(self, settings: PostfixSettings, host: Host) -> None:
        super().__init__(settings, host)
        self._settings = settings

    @property
    def identity(self) -> str:
        """Host and configuration directory."""
        return f"postfix {self._host.address} {self._settings.configuration}"

    @property
    def title(self) -> str:
        """``Postfix``, with its configuration where that is not the usual one."""
        usual = PostfixSettings.model_fields["configuration"].default
        return "Postfix" if self._settings.configuration == usual else f"Postfix ({self._settings.configuration})"

    # Looking.

    async def discover(self) -> Sequence[Binding]:
        """A binding ``smtpd`` for what main.cf names, and one more, called as its service, for each other certificate
        that a service of master.cf has."""
        values = await self._parameters()
        general, obstacle = await self._places(values)
        found: dict[tuple[Place, ...], list[_Service]] = {general: []} if general else {}
        obstacles = {general: obstacle}
        for service in await self._services(values):
            if service.speaks_tls:
                places, obstacle = await self._places(service.values)
                found.setdefault(places, []).append(service)
                obstacles.setdefault(places, obstacle)
        return await bindings_of(
            [self._use(places, services, places == general, obstacles[places]) for places, services in found.items()],
            self.resolve,
        )

    def _use(self, places: tuple[Place, ...], services: Sequence[_Service], general: bool, obstacle: str | None) -> Use:
        set_ones, set_probes = self._settings.found_at(self._host.address)
        listeners = [one for service in services for one in service.listeners]
        if general and set_ones:
            listeners = list(set_ones)
        if not services and obstacle is None:
            obstacle = "no service uses it; set smtpd_tls_security_level = may in main.cf."
        return Use(
            id="smtpd" if general else services[0].name,
            names=self._settings.names,
            places=places,
            listeners=listeners,
            probes=set_probes if general and set_ones else self.probes_at(listeners, self._settings.names),
            obstacle=obstacle,
        )

    async def check(self, place: Place | None = None, /) -> None:
        """``postconf`` reads main.cf and master.cf. (``postfix check`` looks at the queue's folders instead, mends them
        by itself, and says nothing where no terminal is.) Neither looks into certificates: with `place`, for which only
        those were exchanged, certgate does."""
        if place is None:
            await self._services(await self._parameters())
        else:
            await self.require_match(place)

    async def running(self) -> bool:
        """Whether the process of master.pid is there; by ``postfix status`` where that file is closed to certgate."""
        master = await self._master()
        if master != _UNSEEN:
            return master is not None
        command = [*self._settings.postfix_command, "-c", self._settings.configuration, "status"]
        return (await self.run(command)).status == 0

    # Changing.

    async def activate(self, place: Place, /) -> Activated:
        """Reload, and wait for the processes that had the old certificate."""
        old = await self._holders()
        command = [*self._settings.postfix_command, "-c", self._settings.configuration, "reload"]
        await self.command(command, "did not take the order to reload")
        proof = Activation.REQUESTED if old is None else await self._await_retirement(old)
        return Activated(proof, await self.hook(place))

    async def _master(self) -> int | None:
        """The master's process, None where there is none, `_UNSEEN` where its pid file can't be read."""
        found = await self.command(self._postconf("-hx", "queue_directory"), "refuses its configuration")
        try:
            master = await processes.pid_in(self._host, f"{found.output.strip()}/pid/master.pid")
        except Permanent:
            return _UNSEEN
        title = await processes.title_of(self._host, master) if master is not None else None
        return master if title is not None and "master" in title else None

    async def _holders(self) -> list[int] | None:
        """Processes that may have the old certificate; None where the system does not tell."""
        master = await self._master()
        if master is None or master == _UNSEEN or await self._host.state("/proc/self/stat") is None:
            return None
        children = await processes.children_of(self._host, master)
        titles = {child: await processes.title_of(self._host, child) or "" for child in children}
        return [child for child, title in titles.items() if title.split(" ")[0].rpartition("/")[2] in HOLDERS]

    async def _await_retirement(self, old: Sequence[int]) -> Activation:
        """An idle process ends as soon as the master has reloaded, and one that is busy takes no new client after that.
        One that is busy for long can't be told from one that the master has not reached yet."""
        waiting = list(old)
        try:
            async with asyncio.timeout(RETIREMENT_SECONDS):
                while waiting:
                    waiting = [one for one in waiting if await processes.title_of(self._host, one)]
                    await asyncio.sleep(POLL_SECONDS)
        except TimeoutError:
            return Activation.REQUESTED
        return Activation.IN_EFFECT

    # The configuration.

    async def _parameters(self) -> dict[str, str]:
        result = await self.command(self._postconf("-x", *PARAMETERS), "refuses its configuration")
        return dict(_assignment(line) for line in result.output.splitlines() if "=" in line)

    async def _services(self, values: Mapping[str, str]) -> list[_Service]:
        """All services that take SMTP from the network, in the order of master.cf."""
        overrides = await self.command(self._postconf("-Px"), "refuses its configuration")
        own: dict[str, dict[str, str]] = {}
        for line in overrides.output.splitlines():
            where, value = _assignment(line)
            service, _, parameter = where.rpartition("/")
            own.setdefault(service, {})[parameter] = value
        entries = await self.command(self._postconf("-M"), "refuses its configuration")
        found = []
        for line in entries.output.splitlines():
            fields = line.split()
            if len(fields) < 8 or fields[1] != "inet" or fields[7] not in ("smtpd", "postscreen"):
                continue
            effective = {**values, **own.get(f"{fields[0]}/inet", {})}
            found.append(_Service(fields[0], await self._listeners(fields[0], effective), effective))
        return found

    async def _listeners(self, name: str, values: Mapping[str, str]) -> list[Listener]:
        """Where a service is reached: ``smtp``, ``127.0.0.1:10025``, ``[::1]:587``."""
        address, _, service = name.rpartition(":")
        port = await self._port(service)
        if port is None:
            return []
        addresses = [address.strip("[]")] if address else _interfaces(values.get("inet_interfaces", "all"))
        wrapped = values.get("smtpd_tls_wrappermode") == "yes"
        proxied = any(values.get(f"{one}_upstream_proxy_protocol") for one in ("smtpd", "postscreen"))
        return [
            Listener(
                self._settings.address or one or self._host.address, port, proxied, None if wrapped else StartTls.SMTP
            )
            for one in addresses
        ]

    async def _port(self, service: str) -> int | None:
        if service.isdigit():
            return int(service)
        if service in PORTS:
            return PORTS[service]
        found = re.search(r"\s(\d+)/tcp", (await self.run(["getent", "services", f"{service}/tcp"])).output)
        return int(found[1]) if found else None

    async def _places(self, values: Mapping[str, str]) -> tuple[tuple[Place, ...], str | None]:
        """Where certificates and keys are, and what stands in the way of exchanging them."""
        chain_files = [word for word in re.split(r"[\s,]+", values.get("smtpd_tls_chain_files", "")) if word]
        if chain_files:
            return await self._chained(chain_files)
        places = []
        for certificate_name, key_name in PAIRS:
            certificate = values.get(certificate_name, "")
            if certificate in ("", "none"):
                continue
            key = values.get(key_name, "")
            places.append(Place(certificate, key if key and key != f"${certificate_name}" else certificate))
        if not places:
            return (), "no certificate is configured for it; set smtpd_tls_chain_files in main.cf."
        return tuple(places), _unusable(places)

    async def _chained(self, files: Sequence[str]) -> tuple[tuple[Place, ...], str | None]:
        """Files with keys, each followed by its certificates, in the same file or in the next (postconf(5),
        smtpd_tls_chain_files). Files that do not exist yet are a key and a certificate where there are two."""
        places: list[Place] = []
        pending: str | None = None
        for at, file in enumerate(files):
            key, chain = await self._public_key(file) is not None, bool(certificates_in(await self._public(file)))
            if not key and not chain:
                # Nothing is there yet, or it can't be seen.
                key = pending is None
                chain = not (key and at + 1 < len(files) and len(files) % 2 == 0)
            if key and chain:
                places.append(Place(file, file, form="pem-key-first"))
                pending = None
            elif key:
                pending = file
            elif pending is not None:
                places.append(Place(file, pending))
                pending = None
            else:
                return tuple(
                    places
                ), f"in smtpd_tls_chain_files {file} comes without a key before it; the key is first."
        if pending is not None:
            return tuple(places), f"in smtpd_tls_chain_files the key {pending} has no certificate after it."
        return tuple(places), _unusable(places)

    def _postconf(self, *arguments: str) -> list[str]:
        return [*self._settings.postconf_command, "-c", self._settings.configuration, *arguments]


def _assignment(line: str) -> tuple[str, str]:
    name, _, value = line.partition("=")
    return name.strip(), value.strip()


def _interfaces(value: str) -> list[str]:
    """The addresses of inet_interfaces; empty for the host's own."""
    words = [word for word in re.split(r"[\s,]+", value) if word]
    if "all" in words:
        return [""]
    return [("127.0.0.1" if word == "loopback-only" else word.strip("[]")) for word in words]


def _unusable(places: Sequence[Place]) -> str | None:
    for place in places:
        for path in (place.certificate, place.key):
            if not path.startswith("/"):
                return f"{path} is not an absolute path; name it with one."
    return None


def _open(settings: PostfixSettings, surroundings: Surroundings) -> PostfixEndpoint:
    return PostfixEndpoint(settings, surroundings.require_host("Postfix"))


CONNECTOR: ConnectorType[PostfixSettings, PostfixEndpoint] = ConnectorType(
    name="postfix", title="Postfix", settings=PostfixSettings, open=_open
)
