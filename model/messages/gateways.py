"""Endpoints are discovered, gateways join."""

from __future__ import annotations

from dataclasses import dataclass, field

from model.messages.requests import EndpointAccess


@dataclass(frozen=True)
class DiscoverEndpoint:
    """Read the endpoint's configuration and look at what its bindings serve, from number `first` on, as far as the
    answer goes. Certificates with the fingerprints `known` need not come along."""

    endpoint: EndpointAccess
    known: list[str] = field(default_factory=list)
    first: int = 0


@dataclass(frozen=True)
class DiscoveredBinding:
    """A binding and the fingerprint it serves now. `certificate_pem` is that certificate, the leaf only, where it may
    not be known yet; one that several bindings serve comes once."""

    binding: str
    names: list[str]
    listeners: list[str]
    certificate_path: str | None
    shared_with: list[str]
    obstacle: str | None
    served_fingerprint: str | None
    message: str
    certificate_pem: str | None = None


@dataclass(frozen=True)
class Discovery:
    """Everything found, or as much as one answer may hold: then `next` is the number of the binding to go on with.
    `problem` is the sentence where reading failed, `cure` what to do about it."""

    bindings: list[DiscoveredBinding]
    problem: str | None = None
    cure: str | None = None
    next: int | None = None


@dataclass(frozen=True)
class DiscoveryStart:
    """Discover one endpoint."""

    endpoint_id: int
    asked_by: str


@dataclass(frozen=True)
class DiscoveryAdmission:
    """The endpoint to look at and whose gateway does it."""

    gateway_id: int
    gateway: str
    endpoint: EndpointAccess
    channel: int = 1
    known: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class RecordDiscovery:
    """What was found, to be kept."""

    endpoint_id: int
    asked_by: str
    discovery: Discovery


@dataclass(frozen=True)
class JoinStart:
    """A gateway asks to join. `sealed` is a `JoinWord` that only the manager can open (`model/channel.py`); what stands
    beside it is public and bound into the seal. `token_digest`, `version` and `os` were all that 0.1 sent."""

    gateway_id: int
    token_digest: str = ""
    version: str = ""
    os: str = ""
    channel: int = 1
    installation: str = ""
    public_key: str = ""
    sealed: str = ""


@dataclass(frozen=True)
class JoinResult:
    """`refused` says why; else the gateway's own name, and the manager's proof that it holds the channel key."""

    refused: str | None
    gateway: str = ""
    confirmation: str = ""


@dataclass(frozen=True)
class CheckInStart:
    """A gateway tells what it is; `sealed` opens with the channel's key only."""

    gateway_id: int
    channel: int
    installation: str
    public_key: str
    sealed: str


@dataclass(frozen=True)
class CheckInResult:
    """`refused`: this gateway is not to work any more. `note`: it is, but somebody should hear of something."""

    refused: str | None
    note: str | None = None
