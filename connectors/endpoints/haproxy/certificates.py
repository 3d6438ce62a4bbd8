"""Which certificates HAProxy serves where: from sections to virtual hosts, one a certificate and frontend.

HAProxy's own rules that matter here (Configuration Manual, ``crt``, ``crt-list``, ``strict-sni``,
``ssl-load-extra-files``):

- a certificate answers to the names that a crt-list gives it, else to those that it has itself;
- the first certificate of a bind line answers where no name fits and where none is said, unless ``strict-sni``;
- of two certificates with the same name the first answers, but for those with another type of key;
- ``crt`` with a folder takes its files in alphabetical order, without hidden ones;
- the key is in the certificate's file, or in a file beside it whose name ends in ``.key``; where the file itself is not
  there, those that end in ``.rsa``, ``.dsa`` and ``.ecdsa`` are one certificate with several keys.
"""

from __future__ import annotations

import posixpath
import re
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.x509.oid import NameOID

from connectors.endpoints import certificates
from connectors.endpoints.contract import Place
from connectors.endpoints.files import escaped
from connectors.endpoints.haproxy.configuration import Line, Section, under, value_in
from connectors.endpoints.virtual_hosts import HOST_NAME, Server, Socket
from connectors.hosts.contract import Host

_BUNDLE = (".rsa", ".dsa", ".ecdsa")
_BESIDE = (".key", ".ocsp", ".issuer", ".sctl")
_EVERYWHERE = ("", "*", "0.0.0.0")  # noqa: S104 (read, not bound)
# Words of a bind line that are followed by a value; the rest stand alone.
_WITH_VALUE = frozenset(
    """
    alpn backlog ca-file ca-ignore-err ca-sign-file ca-sign-pass ca-verify-file cc ciphers ciphersuites client-sigalgs
    crl-file crt crt-ignore-err crt-list curves default-crt ecdhe expose-fd gid group guid-prefix id idle-ping
    interface level maxconn mode mss name namespace nbconn nice npn ocsp-update proto quic-cc-algo quic-socket
    severity-output shards sigalgs ssl-max-ver ssl-min-ver tcp-md5sig tcp-ss tcp-ut thread tls-ticket-keys uid user
    verify
    """.split()  # noqa: SIM905 (a list of a word a line would be four times as long as the module's sense)
)


@dataclass(frozen=True)
class _Named:
    """A certificate as a bind line has it. `names` is None where it answers to its own."""

    path: str
    names: Sequence[str] | None = None


@dataclass
class _Bind:
    """A bind line with TLS."""

    sockets: list[Socket]
    certificates: list[_Named] = field(default_factory=list)
    strict: bool = False
    proxied: bool = False


@dataclass(frozen=True)
class _Files:
    """Where a certificate is kept, and what is in it now."""

    places: Sequence[Place]
    leaves: Sequence[x509.Certificate | None]
    obstacle: str | None = None


class Discovery:
    """Reads what the sections name. `leaf` gives the certificate of a file, `has_key` whether it has a key."""

    def __init__(
        self,
        host: Host,
        sections: Sequence[Section],
        leaf: Callable[[str], Awaitable[x509.Certificate | None]],
        has_key: Callable[[str], Awaitable[bool]],
    ) -> None:
        self._host = host
        self._sections = sections
        self._leaf = leaf
        self._has_key = has_key
        self._base = value_in(sections, "crt-base")
        extras = [
            line.words[1:] for one in sections if one.kind == "global" for line in one.named("ssl-load-extra-files")
        ]
        self._extras = set(extras[-1]) if extras else {"all"}
        self._without_extension = any(one.named("ssl-load-extra-del-ext") for one in sections if one.kind == "global")

    async def servers(self) -> list[Server]:
        """One a certificate of a frontend (or listen section), in the order of the configuration."""
        found: list[Server] = []
        for section in self._sections:
            if section.kind in ("frontend", "listen"):
                binds = [bind for line in section.named("bind") if (bind := await self._bind(line)) is not None]
                found += await self._servers_of(binds)
        counts = Counter(posixpath.basename(one.label or "") for one in found if one.label)
        paths = {one.label for one in found}
        ambiguous = {
            name for name in counts if len({path for path in paths if posixpath.basename(path or "") == name}) > 1
        }
        for one in found:
            name = posixpath.basename(one.label or "")
            one.label = one.label if name in ambiguous else name
        return found

    async def _servers_of(self, binds: Sequence[_Bind]) -> list[Server]:
        servers: dict[str, Server] = {}
        for bind in binds:
            taken: dict[tuple[str, str], str] = {}
            same: dict[tuple[str, ...], str] = {}
            for position, named in enumerate(bind.certificates):
                files = await self._files(named.path)
                default = position == 0 and not bind.strict
                names = _names(named, files, default=default)
                kinds = {certificates.authentication_of(leaf) for leaf in files.leaves if leaf is not None} or {""}
                own = [name for name in names if all((name, kind) not in taken for kind in kinds)]
                keys = [(name, kind) for name in own for kind in ("RSA", "ECDSA")]
                first = next((taken[key] for key in keys if key in taken), None)
                taken |= {(name, kind): named.path for name in own for kind in kinds}
                if first is not None and same.get(tuple(names)) == first:
                    # The same names with another type of key: one binding with two certificates.
                    servers[first].places += files.places
                    continue
                same.setdefault(tuple(names), named.path)
                server = servers.setdefault(
                    named.path, Server([], [], list(files.places), files.obstacle, label=named.path)
                )
                _extend(server, bind, own, names, default=default)
        return list(servers.values())

    async def _bind(self, line: Line) -> _Bind | None:
        """A bind line with TLS; None for others."""
        if len(line.words) < 2:
            return None
        bind = _Bind(_sockets(line.words[1]))
        speaks_tls, words = False, iter(line.words[2:])
        for word in words:
            value = next(words, "") if word in _WITH_VALUE else ""
            if word == "ssl":
                speaks_tls = True
            elif word in ("crt", "default-crt"):
                bind.certificates += [_Named(path) for path in await self._in_folder(under(self._base, value))]
            elif word == "crt-list":
                bind.certificates += await self._listed(value)
            elif word == "strict-sni":
                bind.strict = True
            elif word == "accept-proxy":
                bind.proxied = True
        return bind if speaks_tls else None

    async def _in_folder(self, path: str) -> list[str]:
        """The certificates of a folder; a file is itself."""
        inside = [one for one in await self._host.glob(f"{escaped(path.rstrip('/'))}/*") if not one.endswith(_BESIDE)]
        if not inside:
            return [path]
        folder = path.rstrip("/")
        names = [posixpath.basename(one) for one in inside]
        if self._loads("bundle"):
            names = [name.removesuffix(next((end for end in _BUNDLE if name.endswith(end)), "")) for name in names]
        return [f"{folder}/{name}" for name in dict.fromkeys(sorted(names))]

    async def _listed(self, path: str) -> list[_Named]:
        """The lines of a crt-list: ``FILE [options] name !name …``."""
        found: list[_Named] = []
        content = (await self._host.read(path)).decode("utf-8", "surrogateescape")
        for line in content.splitlines():
            # Nothing can be quoted there.
            words = [] if line.strip().startswith("#") else re.sub(r"\[[^\]]*\]", " ", line).split()
            if words:
                names = [word.lower() for word in words[1:] if not word.startswith("!")]
                found.append(_Named(under(self._base, words[0]), names or None))
        return found

    async def _files(self, path: str) -> _Files:
        if path.startswith("@"):
            return _Files((), (), f"its certificate is in a crt-store ({path}); name the file in the bind line.")
        if "${" in path:
            return _Files((), (), f"its path has a variable that is not known here ({path}); write it out.")
        if not path.startswith("/"):
            return _Files((), (), f"its path is relative ({path}): set crt-base, or write the absolute path.")
        candidates = [path]
        if self._loads("bundle") and await self._host.state(path) is None:
            candidates = [f"{path}{end}" for end in _BUNDLE if await self._host.state(f"{path}{end}")] or [path]
        places = [Place(one, await self._key_of(one)) for one in candidates]
        return _Files(places, [await self._leaf(one) for one in candidates])

    async def _key_of(self, path: str) -> str:
        if not self._loads("key") or await self._has_key(path):
            return path
        beside = f"{posixpath.splitext(path)[0] if self._without_extension else path}.key"
        return beside if await self._host.state(beside) is not None else path

    def _loads(self, kind: str) -> bool:
        return not self._extras.isdisjoint({"all", kind})


def _extend(server: Server, bind: _Bind, own: Sequence[str], names: Sequence[str], *, default: bool) -> None:
    """Take up where else a certificate is served."""
    server.names = list(dict.fromkeys([*server.names, *names]))
    for socket in bind.sockets:
        if socket not in server.sockets:
            server.sockets.append(socket)
        server.owned[socket] = list(dict.fromkeys([*server.owned.get(socket, ()), *own]))
        if default:
            server.default_on.add(socket)
        if bind.proxied:
            server.proxied.add(socket)
    if not bind.sockets and not server.sockets:
        server.obstacle = server.obstacle or "it listens only on Unix sockets or QUIC, where no TLS handshake can look."
    elif bind.sockets and server.obstacle and server.obstacle.startswith("it listens only on"):
        server.obstacle = None


def _names(named: _Named, files: _Files, *, default: bool) -> list[str]:
    """What it answers to. A self-signed certificate that answers anyway is a placeholder: its names are no promise."""
    if named.names is not None:
        return [name for name in named.names if HOST_NAME.fullmatch(name)]
    found: list[str] = []
    for leaf in files.leaves:
        if leaf is not None and not (default and leaf.subject == leaf.issuer):
            found += _names_in(leaf)
    return list(dict.fromkeys(found))


def _names_in(leaf: x509.Certificate) -> list[str]:
    """Its DNS names; the common name only where it has none of them."""
    try:
        alternatives = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        names = alternatives.get_values_for_type(x509.DNSName)
    except (x509.ExtensionNotFound, ValueError):
        names = [str(one.value) for one in leaf.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    return [name.lower() for name in names if HOST_NAME.fullmatch(name.lower())]


def _sockets(value: str) -> list[Socket]:
    """``:443``, ``*:443``, ``192.0.2.1:443``, ``[::]:443``, ``ipv6@:::443``, or several; nothing for others."""
    found: list[Socket] = []
    for one in value.split(","):
        kind, at, rest = one.rpartition("@")
        if (at and kind not in ("ipv4", "ipv6")) or rest.startswith("/"):
            continue
        address, _, ports = rest.rpartition(":")
        first, _, last = ports.partition("-")
        if not first.isdigit() or not (last or first).isdigit():
            continue
        address = address.strip("[]").lower()
        address = ("::" if kind == "ipv6" else "") if address in _EVERYWHERE else address
        found += [Socket(address, port) for port in range(int(first), int(last or first) + 1)]
    return found
