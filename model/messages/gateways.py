"""Endpoints are discovered, gateways join."""

from __future__ import annotations

from dataclasses import dataclass

from model.messages.requests import EndpointAccess


@dataclass(frozen=True)
class DiscoverEndpoint:
    """Read the endpoint's configuration and look at what it serves."""

    endpoint: EndpointAccess


@dataclass(frozen=True)
class DiscoveredBinding:
    """A binding and the fingerprint it serves now."""

    binding: str
    names: list[str]
    listeners: list[str]
    certificate_path: str | None
    shared_with: list[str]
    obstacle: str | None
    served_fingerprint: str | None
    message: str


@dataclass(frozen=True)
class Discovery:
    """Everything found. `problem` is the sentence where reading failed."""

    bindings: list[DiscoveredBinding]
    problem: str | None = None


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


@dataclass(frozen=True)
class RecordDiscovery:
    """What was found, to be kept."""

    endpoint_id: int
    asked_by: str
    discovery: Discovery


@dataclass(frozen=True)
class JoinStart:
    """A gateway shows that it holds its enrollment token: `token_digest` is the SHA-256 of the token's secret."""

    gateway_id: int
    token_digest: str
    version: str
    os: str


@dataclass(frozen=True)
class JoinResult:
    """`refused` says why; else the gateway's own name."""

    refused: str | None
    gateway: str = ""
