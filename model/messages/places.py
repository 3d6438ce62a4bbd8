"""Where a gateway is to be found."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class GatewayAsked:
    """Ask where a gateway is to be found."""

    gateway_id: int


@dataclass(frozen=True)
class GatewayPlace:
    """Where a gateway takes its work now: on the queue of this channel. `joined`: a host is (or was) there. `unserved`
    says why it may not work for a request any more, or is None."""

    gateway_id: int
    gateway: str
    channel: int = 1
    joined: bool = True
    unserved: str | None = None
