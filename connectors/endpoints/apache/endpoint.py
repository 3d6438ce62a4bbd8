"""Apache as an endpoint: its files, its ``-t``, its graceful restart."""

from __future__ import annotations

import asyncio
import posixpath
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from connectors.endpoints import certificates
from connectors.endpoints.apache.configuration import Configuration, environment_in, load, value_of
from connectors.endpoints.apache.hosts import error_logs, servers_of
from connectors.endpoints.apache.settings import ApacheSettings
from connectors.endpoints.contract import Activated, Activation, Binding, Material, Place
from connectors.endpoints.files import FileEndpoint, certificates_in
from connectors.endpoints.hook import bounded
from connectors.endpoints.processes import children_of, logged_since, pid_in, title_of
from connectors.endpoints.virtual_hosts import bindings_of
from connectors.errors import Permanent
from connectors.hosts.contract import CommandResult, FileState, Host
from connectors.registry import ConnectorType, Surroundings

# ``-t`` reads every certificate of the configuration; thousands of them take seconds.
COMMAND_TIMEOUT = timedelta(seconds=60)
POLL_SECONDS = 0.01
# Old processes that still answer requests after this long have let their sockets go before, and may stay for hours.
LINGER_SECONDS = 3.0
FILES_AT_ONCE = 16
_ROOTS = ("/etc/apache2", "/etc/httpd")


@dataclass(frozen=True)
class _Look:
    """What a restart is compared with: the parent process, its children, and the logs as they were."""

    parent: int
    children: frozenset[int]
    logs: Sequence[FileState | None]


class ApacheEndpoint(FileEndpoint):
    """`connectors.endpoints.contract.Endpoint` for one Apache on one host."""

    def __init__(self, settings: ApacheSettings, host: Host) -> None:
        super().__init__(host)
        self._settings = settings

    @property
    def identity(self) -> str:
        """Host and main configuration file."""
        return f"apache {self._host.address} {self._settings.configuration}"

    @property
    def title(self) -> str:
        """``Apache``, with its configuration where that is not the usual one."""
        usual = ApacheSettings.model_fields["configuration"].default
        return "Apache" if self._settings.configuration == usual else f"Apache ({self._settings.configuration})"

    # Looking.

    async def discover(self) -> Sequence[Binding]:
        """All virtual hosts with TLS, in the order of the configuration."""
        servers = servers_of(await self._configuration(), self._host.address)
        return await bindings_of(servers, self._settings.address, self._host.address, self.resolve)

    async def check(self, _place: Place | None = None, /) -> None:
        """``-t``, and that each key belongs to its certificate.

        The latter is what ``-t`` does not look at, and what ends the whole server in a graceful restart (AH02565): so
        all virtual hosts are looked at, whichever one is installed on.
        """
        result = await self._run("-t")
        if result.status != 0:
            raise Permanent(f"{self.title} refuses its configuration: {_complaint(result)}.")
        gate = asyncio.Semaphore(FILES_AT_ONCE)

        async def matched(binding: Binding, place: Place) -> None:
            async with gate:
                await self._require_match(binding.id, place)

        pairs = {place: binding for binding in await self.discover() for place in binding.places}
        await asyncio.gather(*(matched(binding, place) for place, binding in pairs.items()))

    async def _require_match(self, binding_id: str, place: Place) -> None:
        found = certificates_in(await self._public(place.certificate))
        if not found:
            raise Permanent(
                f"{self.title} would end at its next restart: there is no certificate in {place.certificate}, which "
                f"{binding_id} uses, and its own check does not see that."
            )
        key = await self._public_key(place.key)
        if key not in (None, certificates.public_key_of(found[0])):
            raise Permanent(
                f"{self.title} would end at its next restart: the private key in {place.key} does not belong to the "
                f"certificate in {place.certificate}, which {binding_id} uses, and its own check does not see that "
                "(AH02565)."
            )

    async def running(self) -> bool:
        """Whether the process of the pid file is there and is an Apache."""
        return await self._parent(await self._configuration()) is not None

    async def choose(self, binding: Binding, material: Material) -> Place:
        """As for all files; a chain file that other certificates use too must stay as it is."""
        place = await super().choose(binding, material)
        if place.chain is None:
            return place
        chain = await self.resolve(place.chain)
        wanted = certificates.read(material).wanted().chain
        for other in await self.discover():
            for used in other.places:
                shared = used.chain is not None and await self.resolve(used.chain) == chain
                if not shared or await self.resolve(used.certificate) == await self.resolve(place.certificate):
                    continue
                if (await self.in_place(place)).chain != tuple(wanted):
                    raise Permanent(
                        f"The chain of the new certificate is another one than {place.chain} holds, and {other.id} "
                        "uses that file with a certificate of its own: name a chain file for each, or put the chains "
                        "into the certificates' files; nothing was changed."
                    )
        return place

    # Changing.

    async def activate(self, _place: Place, /) -> Activated:
        """A graceful restart, and wait until the processes from before are gone.

        The command comes back when the signal is sent; the parent acts on it up to a second later. It then reads
        everything anew and, if that fails, ends with all its children: this is told with the words of its logs.
        """
        configuration = await self._configuration()
        parent = await self._parent(configuration)
        if parent is None:
            raise Permanent(f"{self.title} is not running.")
        logs = [await self._host.state(path) for path in await self._logs(configuration)]
        before = _Look(parent, frozenset(await children_of(self._host, parent)), logs)
        if self._settings.reload_command is None:
            result = await self._run("-k", "graceful")
        else:
            result = await self._host.run(self._settings.reload_command, timeout=COMMAND_TIMEOUT)
        if result.status != 0:
            raise Permanent(f"{self.title} did not take the order to restart gracefully: {_complaint(result)}.")
        proof = await self._await_restart(configuration, before)
        return Activated(proof, bounded(result))

    async def _await_restart(self, configuration: Configuration, before: _Look) -> Activation:
        """Wait until only new processes are there."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._settings.reload_timeout_seconds
        renewed: float | None = None
        while True:
            if await self._parent(configuration) != before.parent:
                words = _told_by(await logged_since(self._host, before.logs))
                raise Permanent(f"{self.title} ended in the graceful restart: {words or 'its logs say nothing'}.")
            if not before.children:
                return Activation.REQUESTED  # the system does not tell
            now = frozenset(await children_of(self._host, before.parent))
            if now and not now & before.children:
                return Activation.IN_EFFECT
            if now - before.children:
                renewed = renewed or loop.time()
                if loop.time() >= renewed + LINGER_SECONDS:
                    return Activation.REQUESTED
            if loop.time() >= deadline:
                words = _told_by(await logged_since(self._host, before.logs))
                raise Permanent(
                    f"{self.title} did not change over to new processes within "
                    f"{self._settings.reload_timeout_seconds:g} s: {words or 'its logs say nothing'}."
                )
            await asyncio.sleep(POLL_SECONDS)

    # Where things are.

    async def _configuration(self) -> Configuration:
        main = self._settings.configuration
        variables = {}
        environment = self._settings.environment or posixpath.join(posixpath.dirname(main), "envvars")
        content = await self.read(environment)
        if content is not None:
            variables = environment_in(content.decode("utf-8", "replace"))
        elif self._settings.environment is not None:
            raise Permanent(f"{self.title}: the file of its environment, {environment}, does not exist.")
        return await load(
            self._host,
            main,
            server_root=await self._server_root(),
            variables=variables,
            defines=self._settings.defines,
        )

    async def _server_root(self) -> str:
        usual = next((root for root in _ROOTS if self._settings.configuration.startswith(f"{root}/")), None)
        return self._settings.server_root or usual or await self._built_with("HTTPD_ROOT") or "/"

    async def _parent(self, configuration: Configuration) -> int | None:
        configured = value_of(configuration.directives, "pidfile") or await self._built_with("DEFAULT_PIDLOG")
        folder = value_of(configuration.directives, "defaultruntimedir") or ""
        pid_file = configuration.path(posixpath.join(folder, configured or "logs/httpd.pid"))
        pid = await pid_in(self._host, pid_file)
        title = await title_of(self._host, pid) if pid is not None else None
        # A pid file may be older than the last start of the machine, and the number somebody else's by now.
        program = posixpath.basename(title.split()[0]) if title else ""
        return pid if program.startswith(("apache", "httpd")) else None

    async def _logs(self, configuration: Configuration) -> list[str]:
        found = error_logs(configuration)
        if value_of(configuration.directives, "errorlog") is None:
            found.append(configuration.path(await self._built_with("DEFAULT_ERRORLOG") or "logs/error_log"))
        return found

    async def _built_with(self, name: str) -> str | None:
        """A path that was fixed when Apache was built, from ``-V``."""
        result = await self._host.run([*self._settings.program, "-V"], timeout=COMMAND_TIMEOUT)
        found = re.search(rf'-D {name}="([^"]*)"', result.output)
        return found[1] if found else None

    async def _run(self, *arguments: str) -> CommandResult:
        root = ["-d", self._settings.server_root] if self._settings.server_root else []
        defines = [word for name in self._settings.defines for word in ("-D", name)]
        command = [*self._settings.program, *root, "-f", self._settings.configuration, *defines, *arguments]
        return await self._host.run(command, timeout=COMMAND_TIMEOUT)


def _told_by(text: str) -> str:
    """Apache's own words of what is wrong, without time stamps and process numbers; at most three lines."""
    found = re.findall(r"\[\w*:(?:emerg|alert|crit|error)\] (?:\[pid [^\]]*\] )?(.*)", text)
    return "; ".join(line.strip().rstrip(".") for line in list(dict.fromkeys(found))[:3])


def _complaint(result: CommandResult) -> str:
    """Why a command failed. Warnings come first, the reason last; that there is no ServerName is no reason."""
    lines = [line.strip().rstrip(".") for line in f"{result.errors}\n{result.output}".splitlines() if line.strip()]
    reasons = [line for line in lines if "AH00558" not in line and ":warn]" not in line and "Action '" not in line]
    return "; ".join((reasons or lines)[-3:]) or f"it gives no reason (exit status {result.status})"


def _open(settings: ApacheSettings, surroundings: Surroundings) -> ApacheEndpoint:
    return ApacheEndpoint(settings, surroundings.require_host("Apache"))


CONNECTOR: ConnectorType[ApacheSettings, ApacheEndpoint] = ConnectorType(
    name="apache", title="Apache", settings=ApacheSettings, open=_open
)
