"""What mail servers have in common: certificates used by services, a binding each, and who shares files with whom."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace

from connectors.endpoints.contract import Binding, Listener, Place, Probe


@dataclass(frozen=True)
class Use:
    """A part of a configuration that uses certificates of its own: `places` one a certificate, `probes` the handshakes
    that show it."""

    id: str
    names: Sequence[str]
    places: Sequence[Place]
    listeners: Sequence[Listener]
    probes: Sequence[Probe]
    obstacle: str | None = None


async def bindings_of(uses: Sequence[Use], resolve: Callable[[str], Awaitable[str]]) -> list[Binding]:
    """A binding for each use. `resolve` follows symbolic links, so that one file under two names is known to be
    shared."""
    paths = dict.fromkeys(path for use in uses for place in use.places for path in (place.certificate, place.key))
    resolved = {path: await resolve(path) for path in paths}
    real = [
        [replace(place, certificate=resolved[place.certificate], key=resolved[place.key]) for place in use.places]
        for use in uses
    ]
    bindings = []
    for use, own in zip(uses, real, strict=True):
        others = [(other.id, theirs) for other, theirs in zip(uses, real, strict=True) if other is not use]
        bindings.append(
            Binding(
                id=use.id,
                names=tuple(use.names),
                listeners=tuple(dict.fromkeys(use.listeners)),
                probes=tuple(dict.fromkeys(use.probes)),
                places=tuple(use.places),
                shared_with=tuple(name for name, theirs in others if any(place in own for place in theirs)),
                obstacle=use.obstacle or _entangled(own, [*others, (use.id, own)]),
            )
        )
    return bindings


def _entangled(own: Sequence[Place], users: Sequence[tuple[str, Sequence[Place]]]) -> str | None:
    """A file that stands in another pair too: exchanging ours would leave theirs with a key that does not fit."""
    for mine in own:
        for identifier, theirs in users:
            for place in theirs:
                files = {mine.certificate, mine.key} & {place.certificate, place.key}
                if files and place != mine:
                    return f"{min(files)} is also used by {identifier}, in another pair; give each a key of its own."
    return None
