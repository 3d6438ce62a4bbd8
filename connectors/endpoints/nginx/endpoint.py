"""nginx as an endpoint: its files, its ``-t``, its reload."""

from __future__ import annotations

import asyncio
import posixpath
import re
from collections.abc import Sequence
from datetime import timedelta

from connectors.endpoints.contract import Activated, Activation, Binding, Place
from connectors.endpoints.files import FileEndpoint, without_pin
from connectors.endpoints.nginx.bindings import servers_of
from connectors.endpoints.nginx.configuration import Directive, load, value_of
from connectors.endpoints.nginx.settings import NginxSettings
from connectors.endpoints.processes import children_of, logged_since, pid_in, title_of
from connectors.endpoints.virtual_hosts import bindings_of
from connectors.errors import Permanent
from connectors.hosts.contract import CommandResult, FileState, Host, SendsSignals
from connectors.registry import ConnectorType, Surroundings

# ``nginx -t`` loads every certificate of the configuration; thousands of them take seconds.
COMMAND_TIMEOUT = timedelta(seconds=60)
# A reload takes nginx at least 0.1 s: it sleeps that long between starting new workers and retiring old ones.
POLL_SECONDS = 0.002
# After this long the error log is looked into as well: something may be wrong.
USUAL_RELOAD_SECONDS = 0.2


class NginxEndpoint(FileEndpoint):
    """`connectors.endpoints.contract.Endpoint` for one nginx on one host."""

    def __init__(self, settings: NginxSettings, host: Host) -> None:
        super().__init__(host)
        self._settings = settings

    @property
    def identity(self) -> str:
        """Host and main configuration file."""
        return f"nginx {self._host.address} {self._settings.configuration}"

    @property
    def title(self) -> str:
        """``nginx``, with its configuration where that is not the usual one."""
        usual = NginxSettings.model_fields["configuration"].default
        return "nginx" if self._settings.configuration == usual else f"nginx ({self._settings.configuration})"

    # Looking.

    async def discover(self) -> Sequence[Binding]:
        """All servers with TLS, in the order of the configuration."""
        servers = servers_of(await self._tree(), posixpath.dirname(self._settings.configuration))
        return await bindings_of(servers, self._settings.address, self._host.address, self.resolve)

    async def check(self, _place: Place | None = None, /) -> None:
        """``nginx -t``, which finds a key that does not belong to its certificate too."""
        result = await self._host.run(self._command("-t", "-q"), timeout=COMMAND_TIMEOUT)
        if result.status != 0:
            raise Permanent(f"{self.title} refuses its configuration: {_complaint(result)}.")

    async def running(self) -> bool:
        """Whether the process of the pid file is there and is an nginx master."""
        return await self._master(await self._pid_file(await self._tree())) is not None

    # Changing.

    async def activate(self, _place: Place, /) -> Activated:
        """Reload, and wait until every worker that was there before is gone or takes no new connections.

        nginx takes the order before the new configuration is even read, and the old workers answer until the master has
        started new ones and told them to quit. When the master finds the configuration unusable it logs that and keeps
        the old workers; that is told with the words of its error log.
        """
        tree = await self._tree()
        pid_file, log = await self._pid_file(tree), await self._error_log(tree)
        master = await self._master(pid_file)
        if master is None:
            raise Permanent(f"{self.title} is not running.")
        old = await children_of(self._host, master)
        await self._reload(master)
        if not old:
            return Activated(Activation.REQUESTED)
        await self._await_retirement(master, old, log)
        if await self._master(pid_file) != master:
            words = await logged_since(self._host, [log])
            raise Permanent(f"{self.title} ended during the reload: {_told_by(words) or 'its error log says nothing'}.")
        return Activated(Activation.IN_EFFECT)

    # The process.

    async def _reload(self, master: int) -> None:
        """SIGHUP, which is all that ``-s reload`` sends after reading the whole configuration again; by command where a
        command is set or more rights are needed (nginx documentation, "Controlling nginx")."""
        plain = self._settings.reload_command is None and len(self._settings.command) == 1
        if plain and isinstance(self._host, SendsSignals) and await self._host.hang_up(master):
            return
        command = self._settings.reload_command or self._command("-s", "reload")
        result = await self._host.run(command, timeout=COMMAND_TIMEOUT)
        if result.status != 0:
            raise Permanent(f"{self.title} did not take the order to reload: {_complaint(result)}.")

    async def _await_retirement(self, master: int, workers: Sequence[int], log: FileState | None) -> None:
        """Wait until none of the old workers takes new connections: it is gone, or its title says that it shuts down.
        The title comes a moment before the sockets are closed, so it must be seen twice. An emergency that the master
        itself logs ends the wait: it has given the new configuration up."""
        said: set[int] = set()
        waiting = list(workers)
        usual = asyncio.get_running_loop().time() + USUAL_RELOAD_SECONDS
        read = log
        try:
            async with asyncio.timeout(self._settings.reload_timeout_seconds):
                while waiting:
                    await asyncio.sleep(POLL_SECONDS)
                    for worker in list(waiting):
                        title = await title_of(self._host, worker)
                        if title is None or worker in said:
                            waiting.remove(worker)
                        elif "shutting down" in title:
                            said.add(worker)
                    if read is None or asyncio.get_running_loop().time() < usual:
                        continue
                    now = await self._host.state(read.path)
                    if now is not None and now.size != read.size:
                        if words := await self._emergency(master, log):
                            raise Permanent(f"{self.title} did not take the new configuration: {words}.")
                        read = now
        except TimeoutError:
            words = await logged_since(self._host, [log])
            raise Permanent(
                f"{self.title} did not change over to the new configuration within "
                f"{self._settings.reload_timeout_seconds:g} s: {_told_by(words) or 'its error log says nothing'}."
            ) from None

    async def _emergency(self, master: int, log: FileState | None) -> str:
        """What the master logged as an emergency since `log` was looked at. Others write there too (``nginx -t``)."""
        lines = (await logged_since(self._host, [log])).splitlines()
        return _told_by("\n".join(line for line in lines if f"[emerg] {master}#" in line))

    async def _master(self, pid_file: str) -> int | None:
        pid = await pid_in(self._host, pid_file)
        title = await title_of(self._host, pid) if pid is not None else None
        # A pid file may be older than the last start of the machine, and the number somebody else's by now.
        return pid if title and ("master process" in title or "nginx" in title.split()[0]) else None

    # Where things are.

    async def _tree(self) -> tuple[Directive, ...]:
        return await load(self._host, self._settings.configuration)

    async def _pid_file(self, tree: Sequence[Directive]) -> str:
        configured = value_of(tree, "pid")
        return await self._under_prefix(configured or await self._built_with("pid-path") or "logs/nginx.pid")

    async def _error_log(self, tree: Sequence[Directive]) -> FileState | None:
        configured = value_of(tree, "error_log") or await self._built_with("error-log-path")
        if configured is None or configured == "stderr" or ":" in configured:
            return None
        return await self._host.state(await self._under_prefix(configured))

    async def _under_prefix(self, path: str) -> str:
        if posixpath.isabs(path):
            return path
        prefix = self._settings.prefix or await self._built_with("prefix") or "/usr/local/nginx"
        return posixpath.join(prefix, path)

    async def _built_with(self, option: str) -> str | None:
        """A path that was fixed when nginx was built, from ``nginx -V``."""
        result = await self._host.run([*self._settings.command, "-V"], timeout=COMMAND_TIMEOUT)
        found = re.search(rf"--{option}=('[^']*'|\S+)", result.errors)
        return found[1].strip("'") if found else None

    def _command(self, *arguments: str) -> list[str]:
        prefix = ["-p", self._settings.prefix] if self._settings.prefix else []
        return [*self._settings.command, *prefix, "-c", self._settings.configuration, *arguments]


def _told_by(text: str) -> str:
    """nginx's own words of what is wrong, without time stamps and process numbers; at most three lines."""
    found = re.findall(r"\[(?:emerg|alert|crit|error)\] (?:\d+#\d+: )?(.*)", without_pin(text))
    return "; ".join(line.strip().rstrip(".") for line in list(dict.fromkeys(found))[:3])


def _complaint(result: CommandResult) -> str:
    """Why a command failed: nginx's words, or (where sudo stands before it, say) whatever was written."""
    lines = without_pin(result.errors).splitlines()
    other = "; ".join(line.strip().rstrip(".") for line in lines[:3] if line.strip())
    return _told_by(result.errors) or other or f"it gives no reason (exit status {result.status})"


def _open(settings: NginxSettings, surroundings: Surroundings) -> NginxEndpoint:
    return NginxEndpoint(settings, surroundings.require_host("nginx"))


CONNECTOR: ConnectorType[NginxSettings, NginxEndpoint] = ConnectorType(
    name="nginx", title="nginx", settings=NginxSettings, open=_open
)
