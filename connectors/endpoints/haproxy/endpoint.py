"""HAProxy as an endpoint: its files, its ``-c``, its reload or its Runtime API."""

from __future__ import annotations

import asyncio
import posixpath
import re
from collections.abc import Sequence
from datetime import timedelta
from itertools import pairwise

from connectors.endpoints.contract import Activated, Activation, Binding, Place
from connectors.endpoints.files import FileEndpoint
from connectors.endpoints.haproxy.certificates import Discovery
from connectors.endpoints.haproxy.configuration import Section, load, value_in
from connectors.endpoints.haproxy.runtime import Runtime
from connectors.endpoints.haproxy.settings import HAProxySettings
from connectors.endpoints.hook import bounded
from connectors.endpoints.processes import children_of, pid_in, signal, title_of
from connectors.endpoints.virtual_hosts import bindings_of
from connectors.errors import Permanent
from connectors.hosts.contract import CommandResult, Host
from connectors.registry import ConnectorType, Surroundings

# ``-c`` reads every certificate of the configuration; thousands of them take seconds.
COMMAND_TIMEOUT = timedelta(seconds=60)
POLL_SECONDS = 0.005
# An old worker that still has connections after this long has let its sockets go long before, and may stay for hours.
LINGER_SECONDS = 2.0
# A reload takes half a second, and longer with very many certificates. One too many changes nothing.
AGAIN_SECONDS = 3.0
USUAL_PID_FILE = "/run/haproxy.pid"


class HAProxyEndpoint(FileEndpoint):
    """`connectors.endpoints.contract.Endpoint` for one HAProxy on one host."""

    def __init__(self, settings: HAProxySettings, host: Host) -> None:
        super().__init__(host)
        self._settings = settings

    @property
    def identity(self) -> str:
        """Host and configuration files."""
        return f"haproxy {self._host.address} {' '.join(self._settings.configuration)}"

    @property
    def title(self) -> str:
        """``HAProxy``, with its configuration where that is not the usual one."""
        usual = HAProxySettings.model_fields["configuration"].default
        named = ", ".join(self._settings.configuration)
        return "HAProxy" if self._settings.configuration == usual else f"HAProxy ({named})"

    # Looking.

    async def discover(self) -> Sequence[Binding]:
        """One binding a certificate and frontend, in the order of the configuration."""

        async def has_key(path: str) -> bool:
            return await self._public_key(path) is not None

        discovery = Discovery(self._host, await self._sections(), lambda path: self._leaf(Place(path, path)), has_key)
        return await bindings_of(await discovery.servers(), self._settings.address, self._host.address, self.resolve)

    async def check(self, _place: Place | None = None, /) -> None:
        """``haproxy -c``, which finds a key that does not belong to its certificate too."""
        files = [word for path in self._settings.configuration for word in ("-f", path)]
        result = await self._host.run([*self._settings.command, "-c", *files], timeout=COMMAND_TIMEOUT)
        if result.status != 0:
            raise Permanent(f"{self.title} refuses its configuration: {_complaint(result)}.")

    async def running(self) -> bool:
        """Whether the process of the pid file is there and is an haproxy."""
        return await self._master(await self._sections()) is not None

    # Changing.

    async def activate(self, place: Place, /) -> Activated:
        """A reload or, where it is set so, an exchange in the running process. Files that are put back where there were
        none before have nothing to exchange; a reload would find them missing and leave all as it is."""
        sections = await self._sections()
        master = await self._master(sections)
        if master is None:
            raise Permanent(f"{self.title} is not running.")
        if self._settings.update == "reload":
            return await self._reload(sections, master)
        runtime = Runtime(self._host, self._socket(sections), self.resolve)
        told = await runtime.exchange(place.certificate, list(dict.fromkeys((place.certificate, place.key))))
        # Its answer comes when all frontends have it.
        return Activated(Activation.IN_EFFECT, told)

    async def _reload(self, sections: Sequence[Section], master: int) -> Activated:
        """A new worker, which takes the sockets over, and the end of the old one.

        The master takes the order before the configuration is read again; when it finds it unusable it goes on with the
        old worker and says so only in its own output. So no new worker is what tells it.
        """
        before = await self._workers(master)
        if self._settings.reload_command is None and before == {master}:
            raise Permanent(
                f"{self.title} runs without a master (-W), so that no signal makes it reload: set reload_command, or "
                "update to runtime."
            )
        told = await self._order(master)
        return Activated(await self._await_workers(sections, before), told)

    async def _order(self, master: int) -> str:
        """Give the order to reload; what the command says to it."""
        if self._settings.reload_command is None:
            await signal(self._host, master, "USR2")
            return ""
        result = await self._host.run(self._settings.reload_command, timeout=COMMAND_TIMEOUT)
        if result.status != 0:
            raise Permanent(f"{self.title} did not take the order to reload: {_complaint(result)}.")
        return bounded(result)

    async def _await_workers(self, sections: Sequence[Section], before: set[int]) -> Activation:
        """Wait until there is a new worker and the old ones are gone; those that stay have let their sockets go.

        An order that comes right after another reload is lost: the master executes itself once more after each. It is
        given again then.
        """
        loop = asyncio.get_running_loop()
        begin = ordered = loop.time()
        renewed: float | None = None
        while True:
            master = await self._master(sections)
            now = await self._workers(master) if master is not None else set()
            if now - before:
                renewed = renewed or loop.time()
                if not [one for one in before if await title_of(self._host, one) is not None]:
                    return Activation.IN_EFFECT
                if loop.time() >= renewed + LINGER_SECONDS:
                    return Activation.REQUESTED
            if loop.time() >= begin + self._settings.reload_timeout_seconds:
                if master is None:
                    raise Permanent(f"{self.title} ended during the reload: its log says why.")
                raise Permanent(
                    f"{self.title} did not start a new worker within {self._settings.reload_timeout_seconds:g} s: it "
                    "goes on with the old one, and its log says why."
                )
            if master is not None and renewed is None and loop.time() >= ordered + AGAIN_SECONDS:
                ordered = loop.time()
                await self._order(master)
            await asyncio.sleep(POLL_SECONDS)

    # Where things are.

    async def _sections(self) -> list[Section]:
        return await load(self._host, self._settings.configuration)

    async def _master(self, sections: Sequence[Section]) -> int | None:
        pid = await pid_in(self._host, self._settings.pid_file or value_in(sections, "pidfile") or USUAL_PID_FILE)
        title = await title_of(self._host, pid) if pid is not None else None
        # A pid file may be older than the last start of the machine, and the number somebody else's by now.
        return pid if title and posixpath.basename(title.split()[0]).startswith("haproxy") else None

    async def _workers(self, master: int) -> set[int]:
        """Those who serve: the master's children, or the one process itself."""
        return set(await children_of(self._host, master)) or {master}

    def _socket(self, sections: Sequence[Section]) -> str:
        if self._settings.runtime_socket is not None:
            return self._settings.runtime_socket
        for section in sections:
            for line in section.named("stats", "socket"):
                words = line.words
                if len(words) > 2 and words[2].startswith("/") and ("level", "admin") in pairwise(words):
                    return words[2]
        raise Permanent(
            f"{self.title} has no stats socket with level admin in its configuration: add one, name it as "
            "runtime_socket, or set update to reload."
        )


def _complaint(result: CommandResult) -> str:
    """HAProxy's own words of what is wrong, without process numbers; at most three lines."""
    found = re.findall(r"^\[ALERT\]\s+\(\d+\) : (?:config : )?(.*)", result.errors, re.MULTILINE)
    reasons = [line for line in found if "Fatal errors found" not in line and "Error(s) found" not in line]
    other = [line for line in f"{result.errors}\n{result.output}".splitlines() if line.strip()]
    words = "; ".join(line.strip().rstrip(".") for line in list(dict.fromkeys(reasons or other[-3:]))[:3])
    return words or f"it gives no reason (exit status {result.status})"


def _open(settings: HAProxySettings, surroundings: Surroundings) -> HAProxyEndpoint:
    return HAProxyEndpoint(settings, surroundings.require_host("HAProxy"))


CONNECTOR: ConnectorType[HAProxySettings, HAProxyEndpoint] = ConnectorType(
    name="haproxy", title="HAProxy", settings=HAProxySettings, open=_open
)
