"""PostgreSQL: the one certificate of a cluster, found in its own configuration, taken over by a reload.

A reload always succeeds: whether the postmaster took the new certificate stands in its log, and the old one stays in
use where it did not (PostgreSQL documentation, "Secure TCP/IP Connections with SSL"). So it is asked by handshake,
which begins with an SSLRequest, and its log is read for its words. Its connections are forked from the postmaster, so
that one that shows the new certificate is proof for all that come after it.
"""

from __future__ import annotations

import asyncio
import posixpath
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pydantic import Field, field_validator

from connectors.endpoints import processes
from connectors.endpoints.contract import Activated, Activation, Binding, Listener, Material, Place
from connectors.endpoints.files import Ownership, escaped
from connectors.endpoints.handshake import fingerprint, shake_hands
from connectors.endpoints.pem.endpoint import CertificateFiles
from connectors.endpoints.pem.settings import ServedSettings, plain_path
from connectors.endpoints.starttls import StartTls
from connectors.errors import Permanent
from connectors.hosts.contract import FileState, Host, SendsSignals
from connectors.registry import ConnectorType, Surroundings

# Where distributions, the official container and PostgreSQL itself keep it.
USUAL_PLACES = (
    "/etc/postgresql/*/*/postgresql.conf",
    "/var/lib/pgsql/data/postgresql.conf",
    "/var/lib/pgsql/*/data/postgresql.conf",
    "/var/lib/postgresql/data/postgresql.conf",
    "/var/lib/postgresql/*/docker/postgresql.conf",
    "/var/lib/postgres/data/postgresql.conf",
    "/usr/local/pgsql/data/postgresql.conf",
)
# CONF_FILE_MAX_DEPTH of PostgreSQL itself.
DEEPEST_INCLUDE = 10
FIRST_POLL_SECONDS, LONGEST_POLL_SECONDS = 0.005, 0.1
_LINE = re.compile(
    r"\s*(?:(?P<name>[A-Za-z_][\w$.]*)\s*(?:=\s*)?(?P<value>'(?:[^'\\]|\\.|'')*'|[^\s#'=][^\s#']*)?\s*)?(?:#.*)?"
)
_ESCAPES = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_GIVEN_UP = ("SSL configuration was not reloaded", "contains errors")
_TELLING = re.compile(
    r"(?:LOG|WARNING|ERROR|FATAL|DETAIL):\s+(.*(?:could not|must |has group|not reloaded|errors|invalid).*)"
)


class PostgresqlSettings(ServedSettings):
    """How to find one cluster on its host."""

    configuration: str | None = Field(
        default=None,
        pattern="^/",
        max_length=4096,
        description="postgresql.conf, absolute path. Default: the only one where distributions have it.",
    )
    data_directory: str | None = Field(
        default=None,
        pattern="^/",
        max_length=4096,
        description="The data directory, absolute path. Default: what the configuration says, else its folder.",
    )
    log: str | None = Field(
        default=None,
        pattern="^/",
        max_length=4096,
        description="File that the server logs to; what it says of a certificate is told from there. Default: what its "
        "logging collector writes.",
    )
    reload_command: list[str] | None = Field(
        default=None,
        min_length=1,
        max_length=100,
        description='What makes it reload, such as ["sudo", "-n", "systemctl", "reload", "postgresql"]. '
        "Default: SIGHUP to its process.",
    )
    reload_timeout_seconds: float = Field(
        default=10.0, gt=0, le=600, description="How long it may take from the reload until it serves the certificate."
    )

    @field_validator("configuration", "data_directory", "log")
    @classmethod
    def _a_path(cls, value: str | None) -> str | None:
        return plain_path(value)


@dataclass(frozen=True)
class _Cluster:
    """What the configuration says: `values` by parameter name in lower case."""

    data: str
    values: Mapping[str, str] = field(repr=False)

    def path(self, name: str, default: str) -> str:
        return posixpath.normpath(posixpath.join(self.data, self.values.get(name) or default))

    @property
    def port(self) -> int:
        found = self.values.get("port", "5432")
        return int(found) if found.isdigit() else 5432

    @property
    def speaks_tls(self) -> bool:
        # A boolean may be cut short as long as it is clear ("Parameter Names and Values").
        word = self.values.get("ssl", "off").lower()
        return word in ("on", "1") or (word != "" and any(whole.startswith(word) for whole in ("true", "yes")))


class PostgresqlEndpoint(CertificateFiles):
    """`connectors.endpoints.contract.Endpoint` for one PostgreSQL cluster."""

    def __init__(self, settings: PostgresqlSettings, host: Host) -> None:
        super().__init__(settings, host)
        self._settings = settings
        self._made = Ownership(0o600)

    @property
    def identity(self) -> str:
        """Host and configuration."""
        return f"postgresql {self._host.address} {self._settings.configuration or self._settings.data_directory}"

    @property
    def title(self) -> str:
        """``PostgreSQL``, with its configuration where that is set."""
        named = self._settings.configuration or self._settings.data_directory
        return f"PostgreSQL ({named})" if named else "PostgreSQL"

    # Looking.

    async def discover(self) -> Sequence[Binding]:
        """One binding, ``postgresql:PORT``: a cluster has one certificate."""
        cluster = await self._cluster()
        place = Place(cluster.path("ssl_cert_file", "server.crt"), cluster.path("ssl_key_file", "server.key"))
        listeners = self._listeners(cluster)
        return [
            Binding(
                id=f"postgresql:{cluster.port}",
                names=tuple(self._settings.names),
                listeners=listeners,
                probes=self.probes_at(listeners, self._settings.names),
                places=(place,),
                obstacle=None if cluster.speaks_tls else "ssl is off in its configuration; set ssl = on there.",
            )
        ]

    def _listeners(self, cluster: _Cluster) -> tuple[Listener, ...]:
        set_ones, _ = self._settings.found_at(self._host.address)
        if set_ones:
            return tuple(set_ones)
        found: list[Listener] = []
        for word in cluster.values.get("listen_addresses", "localhost").split(","):
            address = word.strip()
            if address in ("*", "0.0.0.0", "::"):  # noqa: S104 (read, not bound)
                address = self._host.address
            if address:
                found.append(Listener(address, cluster.port, starttls=StartTls.POSTGRESQL))
        return tuple(dict.fromkeys(found))

    async def check(self, place: Place | None = None, /) -> None:
        """Its configuration reads, and, with `place`, it would take key and certificate: they belong together, and
        nobody else may read the key (the rules of its ``check_ssl_key_file_permissions``)."""
        cluster = await self._cluster()
        if place is None:
            return
        await self.require_match(place)
        key, data = await self._host.state(place.key), await self._host.state(cluster.data)
        if key is None or data is None:
            return
        allowed = 0o640 if key.owner == 0 and data.owner != 0 else 0o600
        if key.owner not in (0, data.owner) or key.mode & 0o777 & ~allowed:
            raise Permanent(
                f"{self.title} would refuse the private key {place.key}: it must belong to the server's own user (mode "
                f"0600) or to root (0640), and belongs to user {key.owner} (mode {key.mode:04o})."
            )

    async def running(self) -> bool:
        """Whether the process of postmaster.pid is there and is a PostgreSQL server."""
        return await self._postmaster(await self._cluster()) is not None

    # Changing.

    async def write(self, place: Place, material: Material) -> None:
        """See `FileEndpoint.write`; files that are made belong to whom the data directory belongs to."""
        data = await self._host.state((await self._cluster()).data)
        if data is not None:
            self._made = Ownership(0o600, data.owner, data.group)
        await super().write(place, material)

    def ownership(self, _path: str, /, *, private: bool) -> Ownership:
        """The server's user; see `write`."""
        return self._made if private else Ownership(0o644, self._made.owner, self._made.group)

    async def activate(self, place: Place, /) -> Activated:
        """Reload, and wait until a connection shows what is in place; the hook comes after that."""
        cluster = await self._cluster()
        postmaster = await self._postmaster(cluster)
        if postmaster is None:
            raise Permanent(f"{self.title} is not running.")
        log = await self._log(cluster)
        await self._reload(postmaster)
        proof = await self._await_effect(place, self._listeners(cluster), log)
        return Activated(proof, await self.hook(place))

    async def _reload(self, postmaster: int) -> None:
        """SIGHUP, which is all that ``pg_ctl reload`` sends."""
        if self._settings.reload_command is not None:
            await self.command(self._settings.reload_command, "did not take the order to reload")
        elif not (isinstance(self._host, SendsSignals) and await self._host.hang_up(postmaster)):
            await processes.signal(self._host, postmaster, "HUP")

    async def _await_effect(self, place: Place, listeners: Sequence[Listener], log: FileState | None) -> Activation:
        wanted = (await self.in_place(place)).certificate
        probes = self.probes_at(listeners[:1], ())
        if not probes or wanted is None:
            return Activation.REQUESTED
        pause = FIRST_POLL_SECONDS
        try:
            async with asyncio.timeout(self._settings.reload_timeout_seconds):
                while True:
                    seen = await shake_hands(probes[0])
                    if seen.certificates and fingerprint(seen.certificates[0]) == wanted:
                        return Activation.IN_EFFECT
                    text = await processes.logged_since(self._host, [log])
                    if any(sign in text for sign in _GIVEN_UP):
                        raise Permanent(f"{self.title} did not take the certificate: {_told_by(text)}.")
                    await asyncio.sleep(pause)
                    pause = min(pause * 2, LONGEST_POLL_SECONDS)
        except TimeoutError:
            words = _told_by(await processes.logged_since(self._host, [log]))
            raise Permanent(
                f"{self.title} did not serve the certificate in {place.certificate} within "
                f"{self._settings.reload_timeout_seconds:g} s: {words or 'its log says nothing, or is not known'}."
            ) from None

    # Where things are.

    async def _cluster(self) -> _Cluster:
        settings = self._settings
        configuration = settings.configuration or await self._only_configuration()
        values = await _read_configuration(self._host, configuration, self.title)
        data = settings.data_directory or values.get("data_directory") or posixpath.dirname(configuration)
        # What ALTER SYSTEM wrote comes after all, and what stood on the command line before all others.
        automatic = posixpath.join(data, "postgresql.auto.conf")
        if await self._host.state(automatic) is not None:
            values |= await _read_configuration(self._host, automatic, self.title)
        if await self._host.state(posixpath.join(data, "postmaster.pid")) is not None:
            values |= _from_command_line(await self.read(posixpath.join(data, "postmaster.opts")) or b"")
        return _Cluster(data, values)

    async def _only_configuration(self) -> str:
        if self._settings.data_directory is not None:
            return posixpath.join(self._settings.data_directory, "postgresql.conf")
        found = [path for pattern in USUAL_PLACES for path in await self._host.glob(pattern)]
        if len(found) != 1:
            there = f"there are several: {', '.join(found)}" if found else "there is none in the usual places"
            raise Permanent(
                f"Which PostgreSQL is meant is not clear, {there}; set configuration to its postgresql.conf."
            )
        return found[0]

    async def _postmaster(self, cluster: _Cluster) -> int | None:
        content = await self.read(posixpath.join(cluster.data, "postmaster.pid")) or b""
        first = content.split(b"\n", 1)[0].strip()
        if not first.isdigit():
            return None
        title = await processes.title_of(self._host, int(first))
        return int(first) if title and ("postgres" in title or "postmaster" in title) else None

    async def _log(self, cluster: _Cluster) -> FileState | None:
        """The file that is logged to, as it is now."""
        path = self._settings.log
        if path is None:
            # One line a format: "stderr log/postgresql.log" ("Error Reporting and Logging", current_logfiles).
            current = (await self.read(posixpath.join(cluster.data, "current_logfiles")) or b"").decode(
                "utf-8", "replace"
            )
            named = dict(line.split(" ", 1) for line in current.splitlines() if " " in line)
            path = next(
                (posixpath.join(cluster.data, named[kind]) for kind in ("stderr", "csvlog") if kind in named), None
            )
        return await self._host.state(path) if path is not None else None


async def _read_configuration(host: Host, path: str, title: str, depth: int = 0) -> dict[str, str]:
    """Parameters of a file and of what it includes; the last one of a name counts."""
    if depth > DEEPEST_INCLUDE:
        raise Permanent(f"The configuration of {title} includes {path} again and again; take one of the includes out.")
    values: dict[str, str] = {}
    text = (await host.read(path)).decode("utf-8", "replace")
    for number, line in enumerate(text.split("\n"), 1):
        found = _LINE.fullmatch(line.rstrip("\r"))
        if found is None or (found["name"] is not None and found["value"] is None):
            raise Permanent(f"The configuration of {title} can't be read: syntax error in {path}:{number}.")
        if found["name"] is None:
            continue
        name, value = found["name"].lower(), _unquoted(found["value"])
        there = posixpath.join(posixpath.dirname(path), value)
        if name == "include" or (name == "include_if_exists" and await host.state(there) is not None):
            values |= await _read_configuration(host, there, title, depth + 1)
        elif name == "include_dir":
            if await host.state(there) is None:
                raise Permanent(
                    f"The configuration of {title} can't be read: {there} in {path}:{number} does not exist."
                )
            for one in await host.glob(posixpath.join(escaped(there), "*.conf")):
                values |= await _read_configuration(host, one, title, depth + 1)
        elif name != "include_if_exists":
            values[name] = value
    return values


def _unquoted(value: str) -> str:
    """As in "Parameter Interaction via the Configuration File": ``''`` and backslashes within quotes."""
    if not value.startswith("'"):
        return value

    def plain(found: re.Match[str]) -> str:
        if found[0] == "''":
            return "'"
        if found[1].isdigit():
            return chr(int(found[1], 8) & 0xFF)
        return _ESCAPES.get(found[1], found[1])

    return re.sub(r"''|\\([0-7]{1,3}|.)", plain, value[1:-1])


def _from_command_line(content: bytes) -> dict[str, str]:
    """Parameters that the server was started with, from postmaster.opts: each argument in quotes, which are not escaped
    in it."""
    arguments = re.findall(r'"(.*?)"(?= "|\s*\Z)', content.decode("utf-8", "replace"), re.DOTALL)
    values: dict[str, str] = {}
    for at, argument in enumerate(arguments):
        following = arguments[at + 1] if at + 1 < len(arguments) else ""
        given = following if argument == "-c" else argument[2:] if argument.startswith("--") else ""
        if "=" in given:
            name, _, value = given.partition("=")
            values[name.replace("-", "_").lower()] = value
        elif argument == "-p":
            values["port"] = following
        elif argument == "-h":
            values["listen_addresses"] = following
    return values


def _told_by(text: str) -> str:
    """What the server says of a certificate that it did not take, without time stamps; at most three lines."""
    found = [line.strip().rstrip(".") for line in _TELLING.findall(text)]
    return "; ".join(list(dict.fromkeys(found))[:3])


def _open(settings: PostgresqlSettings, surroundings: Surroundings) -> PostgresqlEndpoint:
    return PostgresqlEndpoint(settings, surroundings.require_host("PostgreSQL"))


CONNECTOR: ConnectorType[PostgresqlSettings, PostgresqlEndpoint] = ConnectorType(
    name="postgresql", title="PostgreSQL", settings=PostgresqlSettings, open=_open
)
