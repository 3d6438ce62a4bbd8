"""Network discovery: which certificates are served in networks, on some ports, with some names in SNI.

Nothing is allowed unless the gateway's own settings name it (`Rules`), whatever it is asked for. It goes no faster than
it was told, has a bounded number of connections open, and gives each a bounded time. Ports are gone through one after
the other, each on all addresses, so that no host sees all connections at once. Nothing is sent but what begins TLS.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
from collections import deque
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from types import MappingProxyType
from typing import Any, TypeAlias

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from connectors.endpoints import handshake
from connectors.endpoints.contract import Listener, Probe, Verification
from connectors.endpoints.starttls import StartTls
from connectors.errors import Permanent

Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

# What speaks first on these ports; on all others TLS begins at once.
SPOKEN_FIRST: Mapping[int, StartTls] = MappingProxyType(
    {
        21: StartTls.FTP,
        24: StartTls.LMTP,
        25: StartTls.SMTP,
        110: StartTls.POP3,
        143: StartTls.IMAP,
        389: StartTls.LDAP,
        587: StartTls.SMTP,
        3306: StartTls.MYSQL,
        4190: StartTls.SIEVE,
        5222: StartTls.XMPP,
        5269: StartTls.XMPP_SERVER,
        5432: StartTls.POSTGRESQL,
    }
)
# Where certificates usually are: web, directory, mail, databases, consoles.
USUAL_PORTS = (443, 8443, 636, 389, 25, 465, 587, 143, 993, 110, 995, 5432, 3306, 990, 853, 5986, 6443, 9443, 10443)
MOST_TARGETS = 1_048_576
MOST_NAMES = 20
RATE, AT_ONCE = 50, 32
MOST_RATE, MOST_AT_ONCE = 1000, 256
_PORTS = re.compile(r"(\d{1,5})(?:-(\d{1,5}))?")


@dataclass(frozen=True)
class Service:
    """A port and the protocol that is spoken there before TLS (None: none)."""

    port: int
    starttls: StartTls | None = None

    def __str__(self) -> str:
        return f"{self.port}:{self.starttls}" if self.starttls else str(self.port)


def service(word: str) -> Service:
    """``443``, ``25`` (with what is usual there), ``8025:smtp``, ``25:tls``. Raises `Permanent`."""
    port, colon, spoken = word.strip().partition(":")
    if not (port.isascii() and port.isdigit() and 0 < int(port[:6]) <= 65535):
        raise Permanent(f"{word[:64]!r} is no port from 1 to 65535, such as 443, 25 or 8025:smtp.")
    number = int(port)
    if not colon:
        return Service(number, SPOKEN_FIRST.get(number))
    if spoken.lower() == "tls":
        return Service(number)
    try:
        return Service(number, StartTls(spoken.lower()))
    except ValueError:
        known = ", ".join(StartTls)
        raise Permanent(f"{spoken[:64]!r} is not spoken before TLS on port {number}; known are tls, {known}.") from None


def network(word: str) -> Network:
    """A network in CIDR notation or one address. Raises `Permanent`."""
    try:
        return ipaddress.ip_network(word.strip())
    except ValueError as error:
        told = "it has host bits set" if "host bits" in str(error) else "it is none"
        raise Permanent(f"{word[:64]!r} can't be taken for a network such as 10.0.0.0/24: {told}.") from None


def ports(words: Iterable[int | str]) -> tuple[tuple[int, int], ...]:
    """Ports and ranges of ports (``8000-8999``), as first and last. Raises `ValueError`."""
    found = []
    for word in words:
        match = _PORTS.fullmatch(str(word).strip())
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
        if not 0 < first <= last <= 65535:
            raise ValueError(f"{word!r} is no port or range of ports, such as 443 or 8000-8999")
        found.append((first, last))
    return tuple(found)


@dataclass(frozen=True)
class Rules:
    """What a gateway's own settings allow: networks (none: nothing is), ports as first and last, and the most
    connections a second and at once, for all scans together."""

    networks: Sequence[Network] = ()
    ports: Sequence[tuple[int, int]] = field(default_factory=lambda: ports(USUAL_PORTS))
    rate: int = RATE
    at_once: int = AT_ONCE

    def refusal(self, wanted: Iterable[Network], services: Iterable[Service]) -> str | None:
        """Why this may not be looked through; None if it may."""
        for one in wanted:
            if not any(_within(one, allowed) for allowed in self.networks):
                allowed = ", ".join(str(known) for known in self.networks) or "none"
                return (
                    f"The settings of the gateway do not allow the network {one} (allowed: {allowed}): its operator "
                    "names networks under [discovery] in its gateway.toml, and starts it again."
                )
        for asked in services:
            if not any(first <= asked.port <= last for first, last in self.ports):
                return (
                    f"The settings of the gateway do not allow port {asked.port}: its operator names ports under "
                    "[discovery] in its gateway.toml, and starts it again."
                )
        return None

    def told(self) -> dict[str, Any]:
        """As JSON, for the manager."""
        spans = [str(first) if first == last else f"{first}-{last}" for first, last in self.ports]
        networks = [str(one) for one in self.networks]
        return {"networks": networks, "ports": spans, "rate": self.rate, "at_once": self.at_once}

    @classmethod
    def read(cls, told: Mapping[str, Any]) -> Rules:
        """What `told` gave. Raises `ValueError`."""
        networks = tuple(ipaddress.ip_network(str(one)) for one in told.get("networks", ()))
        return cls(networks, ports(told.get("ports", ())), int(told.get("rate", 1)), int(told.get("at_once", 1)))


def _within(one: Network, other: Network) -> bool:
    if isinstance(one, ipaddress.IPv4Network) and isinstance(other, ipaddress.IPv4Network):
        return one.subnet_of(other)
    if isinstance(one, ipaddress.IPv6Network) and isinstance(other, ipaddress.IPv6Network):
        return one.subnet_of(other)
    return False


class Targets(Sequence[tuple[str, Service]]):
    """Addresses and ports, numbered: port by port. Overlapping networks count once; the network's own address and the
    broadcast address of an IPv4 network are no hosts. Raises `Permanent` where there are more than `MOST_TARGETS`."""

    def __init__(self, networks: Iterable[Network], services: Sequence[Service]) -> None:
        given = list(networks)
        four = ipaddress.collapse_addresses(one for one in given if isinstance(one, ipaddress.IPv4Network))
        six = ipaddress.collapse_addresses(one for one in given if isinstance(one, ipaddress.IPv6Network))
        spans: list[Network] = [*four, *six]
        self._spans = [_hosts(one) for one in spans]
        self._services = list(dict.fromkeys(services))
        self._hosts = sum(count for _, _, count in self._spans)
        if len(self) > MOST_TARGETS:
            raise Permanent(
                f"{self._hosts} addresses with {len(self._services)} ports are more than the {MOST_TARGETS} that one "
                "scan looks at: name smaller networks or fewer ports."
            )

    def __len__(self) -> int:
        # `len` may not pass the machine's own limit, and an IPv6 network does.
        return min(self._hosts * len(self._services), MOST_TARGETS + 1)

    def __getitem__(self, index: Any) -> Any:
        if not 0 <= index < len(self):
            raise IndexError(index)
        port, host = divmod(index, self._hosts)
        for network_, skipped, count in self._spans:
            if host < count:
                return str(network_[host + skipped]), self._services[port]
            host -= count
        raise IndexError(index)


def _hosts(one: Network) -> tuple[Network, int, int]:
    """A network, how many of its first addresses are no hosts, and how many hosts it has."""
    if isinstance(one, ipaddress.IPv4Network) and one.prefixlen < 31:
        return one, 1, one.num_addresses - 2
    return one, 0, one.num_addresses


@dataclass(frozen=True)
class Sighted:
    """A certificate that was served: the leaf, and with which name in SNI (None: none)."""

    server_name: str | None
    certificate: x509.Certificate

    @property
    def fingerprint(self) -> str:
        """SHA-256, lower-case hex."""
        return handshake.fingerprint(self.certificate)

    @property
    def pem(self) -> str:
        """The certificate as text."""
        return self.certificate.public_bytes(Encoding.PEM).decode("ascii")


@dataclass(frozen=True)
class Looked:
    """What came of one address and port. `answered`: it took the connection; `unread`: it spoke of TLS, and no
    certificate could be had."""

    index: int
    address: str
    service: Service
    answered: bool = False
    unread: int = 0
    sighted: Sequence[Sighted] = ()


class Pace:
    """So many turns a second, one after the other, for all who share it."""

    def __init__(self, rate: int) -> None:
        self._between = 1 / rate
        self._next = 0.0

    async def turn(self) -> None:
        """Wait for one's turn."""
        now = asyncio.get_running_loop().time()
        mine = max(now, self._next)
        self._next = mine + self._between
        if mine > now:
            await asyncio.sleep(mine - now)


async def sweep(
    targets: Targets,
    first: int,
    server_names: Sequence[str],
    *,
    paces: Sequence[Pace],
    at_once: int,
    gate: asyncio.Semaphore,
    timeout: timedelta,
) -> AsyncGenerator[Looked, None]:
    """Look at all from number `first` on, and give what came of each in their order. `gate` is what several sweeps
    share. Close it (`aclosing`) to end early: what is under way is given up."""
    under_way: deque[asyncio.Task[Looked]] = deque()
    index = first
    try:
        while under_way or index < len(targets):
            while index < len(targets) and len(under_way) < at_once:
                looking = _look(targets, index, server_names, paces, gate, timeout)
                under_way.append(asyncio.create_task(looking))
                index += 1
            yield await under_way[0]
            under_way.popleft()
    finally:
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)


async def _look(
    targets: Targets,
    index: int,
    server_names: Sequence[str],
    paces: Sequence[Pace],
    gate: asyncio.Semaphore,
    timeout: timedelta,
) -> Looked:
    address, asked = targets[index]
    answered, unread, sighted = False, 0, []
    for name in (None, *server_names):
        for pace in paces:
            await pace.turn()
        async with gate:
            probe = Probe(Listener(address, asked.port, starttls=asked.starttls), name)
            seen = await handshake.shake_hands(probe, timeout=timeout)
        if seen.failure in (Verification.CONNECTION_FAILED, Verification.RESOLUTION_FAILED):
            break
        answered = True
        if seen.certificates:
            sighted.append(Sighted(name, seen.certificates[0]))
        elif seen.failure == Verification.HANDSHAKE_FAILED and "can't be read" in seen.reason:
            unread += 1
    return Looked(index, address, asked, answered, unread, sighted)


__all__ = [
    "AT_ONCE",
    "MOST_NAMES",
    "MOST_TARGETS",
    "RATE",
    "SPOKEN_FIRST",
    "USUAL_PORTS",
    "Looked",
    "Pace",
    "Rules",
    "Service",
    "Sighted",
    "Targets",
    "network",
    "ports",
    "service",
    "sweep",
]
