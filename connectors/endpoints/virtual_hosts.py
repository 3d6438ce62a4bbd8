"""From virtual hosts to bindings, the same for every product that serves files by address, port and name: which
handshakes reach a host, which hosts share a file, what stands in the way, what a binding is called.

A product's own part says which hosts there are, by its own rules. No input or output here, but for paths that `resolve`
follows.
"""

from __future__ import annotations

import ipaddress
import re
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace

from connectors.endpoints.contract import Binding, Listener, Place, Probe

# The label that is put for ``*`` when a wildcard host is looked at.
PROBE_LABEL = "certgate-probe"
HOST_NAME = re.compile(r"(\*\.)?([a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z0-9]([a-z0-9_-]{0,61}[a-z0-9])?\.?")


@dataclass(frozen=True)
class Socket:
    """One ``listen``: `address` is empty for all IPv4 addresses, ``::`` for all IPv6 ones."""

    address: str
    port: int


@dataclass
class Server:
    """One virtual host with TLS. `owned` is the names by which it is reached on each of its sockets, `default_on` those
    on which it answers where no name fits. `label` is what its binding is called in place of its first name."""

    sockets: list[Socket]
    names: list[str]
    places: list[Place]
    obstacle: str | None
    proxied: set[Socket] = field(default_factory=set)
    owned: dict[Socket, list[str]] = field(default_factory=dict)
    default_on: set[Socket] = field(default_factory=set)
    label: str | None = None


def is_address(value: str) -> bool:
    """Whether it is an IP address."""
    try:
        ipaddress.ip_address(value)
    except ValueError:
        return False
    return True


async def bindings_of(
    servers: Sequence[Server], address: str | None, host_address: str, resolve: Callable[[str], Awaitable[str]]
) -> list[Binding]:
    """Servers as bindings. `resolve` follows symbolic links, so that one file under two names is known to be shared."""
    resolved = {
        path: await resolve(path)
        for path in dict.fromkeys(
            path for one in servers for place in one.places for path in (place.certificate, place.key)
        )
    }
    places = [
        [replace(place, certificate=resolved[place.certificate], key=resolved[place.key]) for place in server.places]
        for server in servers
    ]
    users: dict[str, list[tuple[int, Place]]] = defaultdict(list)
    for index, own in enumerate(places):
        for place in own:
            for path in {place.certificate, place.key}:
                users[path].append((index, place))
    bindings: list[Binding] = []
    identifiers = _identifiers(servers)
    for index, (identifier, server) in enumerate(zip(identifiers, servers, strict=True)):
        own = places[index]
        # Every use of one of its files, by whatever server; looked up, because there may be a thousand of them.
        uses = {(at, place): None for one in own for path in (one.certificate, one.key) for at, place in users[path]}
        listener = {socket: _listener(socket, server, address, host_address) for socket in server.sockets}
        probes = _probes(server, listener)
        obstacle = server.obstacle or _entangled(own, [(identifiers[at], place) for at, place in uses])
        if obstacle is None and not probes:
            obstacle = (
                "no handshake reaches it: it has no plain name of its own on its port (another server has it, or there "
                "are only regular expressions) and it is not the default server there."
            )
        bindings.append(
            Binding(
                id=identifier,
                names=tuple(server.names),
                listeners=tuple(dict.fromkeys(listener.values())),
                probes=tuple(probes),
                places=tuple(server.places),
                shared_with=tuple(dict.fromkeys(identifiers[at] for at, place in uses if at != index and place in own)),
                obstacle=obstacle,
            )
        )
    return bindings


def _probes(server: Server, listener: dict[Socket, Listener]) -> list[Probe]:
    """One handshake for each name on each socket; without SNI where the server has no name but is the default."""
    probes: list[Probe] = []
    for socket in server.sockets:
        by_name = [
            Probe(listener[socket], name.replace("*", PROBE_LABEL, 1).rstrip("."))
            for name in server.owned[socket]
            if not is_address(name)
        ]
        if not by_name and socket in server.default_on:
            by_name = [Probe(listener[socket], None)]
        probes += by_name
    return list(dict.fromkeys(probes))


def _listener(socket: Socket, server: Server, override: str | None, host_address: str) -> Listener:
    """Where to connect: an address that a listen names, else the host's own."""
    address = socket.address or host_address
    if socket.address == "::":
        # The host's address may be IPv4; on this machine the IPv6 one is known.
        address = "::1" if host_address in ("127.0.0.1", "localhost") else host_address
    return Listener(override or address, socket.port, socket in server.proxied)


def _entangled(own: Sequence[Place], uses: Sequence[tuple[str, Place]]) -> str | None:
    """A file that stands in another pair too: exchanging ours would leave theirs with a key that does not fit."""
    for identifier, place in uses:
        if place not in own:
            files = {place.certificate, place.key} & {path for one in own for path in (one.certificate, one.key)}
            return f"{min(files)} is also used by {identifier}, in another pair; give each a key of its own."
    return None


def _identifiers(servers: Sequence[Server]) -> list[str]:
    """``name:port``; where several servers would be called the same, all of them get their address, so that adding one
    never makes an old name mean another server."""

    def plain(server: Server) -> str:
        port = str(server.sockets[0].port) if server.sockets else "-"
        return f"{server.label or (server.names[0] if server.names else '_')}:{port}"

    def addressed(server: Server) -> str:
        address = server.sockets[0].address if server.sockets else ""
        return f"{plain(server)}@{f'[{address}]' if ':' in address else address or '*'}"

    identifiers = [plain(server) for server in servers]
    counts = Counter(identifiers)
    identifiers = [
        addressed(server) if counts[identifier] > 1 else identifier
        for identifier, server in zip(identifiers, servers, strict=True)
    ]
    # Still the same: the product itself reaches only the first of them by that name.
    seen: Counter[str] = Counter()
    for index, identifier in enumerate(identifiers):
        seen[identifier] += 1
        if seen[identifier] > 1:
            identifiers[index] = f"{identifier}#{seen[identifier]}"
    return identifiers
