"""How connectors are found: by entry point, ours and a stranger's alike.

Groups: ``certgate.cas``, ``certgate.endpoints``, ``certgate.keystores``, ``certgate.hosts``. Each entry point names a
`ConnectorType`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from connectors.errors import Permanent
from connectors.hosts.contract import Host, RunsScripts

Kind = Literal["cas", "endpoints", "keystores", "hosts"]
SettingsT = TypeVar("SettingsT", bound=BaseModel)
ConnectorT = TypeVar("ConnectorT")


def utc_now() -> datetime:
    """The clock."""
    return datetime.now(UTC)


@dataclass(frozen=True)
class Surroundings:
    """What a connector may know about the process it runs in. It never reads the environment or a global itself.

    `home` is a folder (mode 0700) where this process keeps its own files. `secret` resolves a credential *reference*
    such as ``file:/etc/certgate/pass``, ``env:NAME`` or ``vault:secret/ca#password``; it raises `Permanent` where it
    can't, `Retryable` where the server that holds the secret is away. It may block: call it in a thread. `host` is the
    machine that the product runs on, opened by its own connector; None for a product reached by its own interface.
    """

    home: Path
    secret: Callable[[str], bytes]
    host: Host | RunsScripts | None = None
    clock: Callable[[], datetime] = utc_now

    def require_host(self, title: str) -> Host:
        """The host, for a connector (`title`) that can't do without files and commands; raises `Permanent`."""
        if self.host is None:
            raise Permanent(f"{title} needs a connection to the host that it runs on (local or ssh); none is set.")
        if not isinstance(self.host, Host):
            raise Permanent(
                f"{title} needs files and commands on {self.host.address}, and its connection only runs scripts there: "
                "choose another connection (local or ssh)."
            )
        return self.host

    def require_scripts(self, title: str) -> RunsScripts:
        """The host, for a connector (`title`) that works by scripts; raises `Permanent`."""
        if not isinstance(self.host, RunsScripts):
            raise Permanent(f"{title} works by PowerShell scripts on its host: its connection must be winrm.")
        return self.host


@dataclass(frozen=True)
class ConnectorType(Generic[SettingsT, ConnectorT]):
    """One kind of connector: its registered name, a title for people, its settings and how to open one.

    `over` is for endpoints: the registered names of the hosts over which it works. None: every host with files and
    commands; empty: it is reached by its own interface and needs none.
    """

    name: str
    title: str
    settings: type[SettingsT]
    open: Callable[[SettingsT, Surroundings], ConnectorT]
    over: frozenset[str] | None = None

    def configure(self, values: Mapping[str, Any]) -> SettingsT:
        """Validate `values`; raises `Permanent` with one sentence that names the field that is wrong."""
        try:
            return self.settings.model_validate(dict(values))
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            field = ".".join(str(part) for part in first["loc"])
            told = first["msg"].removeprefix("Value error, ")
            if not field:
                raise Permanent(f"{self.title}: {told}.") from None
            known = ", ".join(sorted(self.settings.model_fields))
            raise Permanent(f"{self.title}: setting {field}: {told} (known settings: {known}).") from None


@cache
def installed(kind: Kind) -> Mapping[str, ConnectorType[Any, Any]]:
    """All connector types of a kind, by name, sorted. Loading one that is broken raises its own error here."""
    found = {point.name: point.load() for point in entry_points(group=f"certgate.{kind}")}
    return dict(sorted(found.items()))


# What stands for the connection of an endpoint that needs no host; there is no connector of that name.
OWN_INTERFACE = "rest"
# Hosts that run scripts and have no files and commands in certgate's sense.
WITHOUT_FILES = frozenset({"winrm"})


def connections(endpoint: ConnectorType[Any, Any]) -> list[str]:
    """How endpoints of a type can be connected: names of installed hosts, or `OWN_INTERFACE` alone."""
    if endpoint.over is not None and not endpoint.over:
        return [OWN_INTERFACE]
    return [
        name for name in installed("hosts") if (name in endpoint.over if endpoint.over else name not in WITHOUT_FILES)
    ]


def open_endpoint(
    type_name: str,
    settings: Mapping[str, Any],
    connection: str,
    connection_settings: Mapping[str, Any],
    surroundings: Surroundings,
) -> Any:
    """Open an endpoint over its host, if it needs one; raises `Permanent` for settings that are wrong."""
    kind = find("endpoints", type_name)
    possible = connections(kind)
    if connection not in possible:
        raise Permanent(f"{kind.title} can't be connected by {connection}; choose {' or '.join(possible)}.")
    configured = kind.configure(settings)
    if connection == OWN_INTERFACE:
        return kind.open(configured, replace(surroundings, host=None))
    host_kind = find("hosts", connection)
    host = host_kind.open(host_kind.configure(connection_settings), surroundings)
    return kind.open(configured, replace(surroundings, host=host))


@dataclass(frozen=True)
class Module:
    """A connector that is installed here, for people: its kind, registered name, title, and its package's version."""

    kind: str
    name: str
    title: str
    version: str


def modules() -> list[Module]:
    """Every connector that is installed, also one that does not load: its title says so."""
    found = []
    for kind in get_args(Kind):
        for point in entry_points(group=f"certgate.{kind}"):
            try:
                title = str(point.load().title)
            except Exception as error:
                title = f"{point.name} (does not load: {type(error).__name__})"
            found.append(Module(kind, point.name, title, point.dist.version if point.dist else "unknown"))
    return sorted(found, key=lambda one: (one.kind, one.name))


def find(kind: Kind, name: str) -> ConnectorType[Any, Any]:
    """The connector type `name`; raises `Permanent` and lists what there is."""
    types = installed(kind)
    if name not in types:
        raise Permanent(f"No connector named {name!r} is installed for {kind}; there is: {', '.join(types) or 'none'}.")
    return types[name]
