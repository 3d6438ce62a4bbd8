"""Tomcat's TLS hosts as bindings: names, handshakes, and who else uses the same key."""

from __future__ import annotations

import ipaddress
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from connectors.endpoints.contract import Binding, Listener, Place, Probe
from connectors.endpoints.listeners import PROBE_LABEL
from connectors.endpoints.tomcat.configuration import DEFAULT_HOST, TlsConnector, TlsHost


@dataclass(frozen=True)
class Found:
    """A host of a connector with the places of its certificates as they really are: links followed, aliases spelled
    out. `obstacle` is what was found in the way when they were looked at."""

    connector: TlsConnector
    host: TlsHost
    places: Sequence[Place]
    obstacle: str | None

    @property
    def default(self) -> bool:
        """Whether it is served where no name fits."""
        return self.host.name == self.connector.default

    def listener(self, host_address: str, translated: str | None) -> Listener:
        """Where it is reached; an address of the gateway's own machine stands for all."""
        return Listener(translated or self.connector.address or host_address, self.connector.port)


def bindings_of(found: Sequence[Found], host_address: str, translated: str | None) -> list[Binding]:
    """Hosts as bindings, in their order."""
    identifiers = _identifiers(found)
    users: dict[str, list[int]] = defaultdict(list)
    for index, one in enumerate(found):
        for place in one.places:
            for path in _files(place):
                users[path].append(index)
    bindings = []
    for index, (identifier, one) in enumerate(zip(identifiers, found, strict=True)):
        listener = one.listener(host_address, translated)
        others = list(dict.fromkeys(at for place in one.places for path in _files(place) for at in users[path]))
        shared = [at for at in others if at != index and any(_same(a, b) for a in one.places for b in found[at].places)]
        bindings.append(
            Binding(
                id=identifier,
                names=() if one.host.name == DEFAULT_HOST else (one.host.name,),
                listeners=(listener,),
                probes=_probes(one, listener),
                places=tuple(one.places),
                shared_with=tuple(identifiers[at] for at in shared),
                obstacle=one.obstacle or _entangled(one.places, [(identifiers[at], found[at].places) for at in others]),
            )
        )
    return bindings


def _probes(one: Found, listener: Listener) -> tuple[Probe, ...]:
    """One handshake with its name, and one without SNI for the host that is served then."""
    probes = []
    if one.host.name != DEFAULT_HOST and not _is_address(one.host.name):
        probes.append(Probe(listener, one.host.name.replace("*", PROBE_LABEL, 1)))
    if one.default:
        probes.append(Probe(listener, None))
    return tuple(probes)


def _entangled(own: Sequence[Place], others: Sequence[tuple[str, Sequence[Place]]]) -> str | None:
    """A PEM file that stands in another pair too: exchanging ours would leave theirs with a key that does not fit.
    Entries of one keystore don't get into each other's way."""
    for identifier, places in others:
        for place in places:
            for mine in own:
                both = set(_files(mine)) & set(_files(place))
                if both and not _same(mine, place) and not (mine.alias and place.alias):
                    return f"{min(both)} is also used by {identifier}, in another pair; give each a key of its own."
    return None


def _same(one: Place, other: Place) -> bool:
    return (one.certificate, one.key, one.alias.lower()) == (other.certificate, other.key, other.alias.lower())


def _files(place: Place) -> list[str]:
    return list(dict.fromkeys((place.certificate, place.key)))


def _is_address(value: str) -> bool:
    try:
        ipaddress.ip_address(value)
    except ValueError:
        return False
    return True


def _identifiers(found: Sequence[Found]) -> list[str]:
    """``name:port``, with the connector's address where that would name several, so that adding one never makes an old
    name mean another host."""
    plain = [f"{one.host.name}:{one.connector.port}" for one in found]
    counts = Counter(plain)
    identifiers = [
        name if counts[name] == 1 else f"{name}@{_bracketed(one.connector.address)}"
        for name, one in zip(plain, found, strict=True)
    ]
    seen: Counter[str] = Counter()
    for index, identifier in enumerate(identifiers):
        seen[identifier] += 1
        if seen[identifier] > 1:
            identifiers[index] = f"{identifier}#{seen[identifier]}"
    return identifiers


def _bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address or "*"
