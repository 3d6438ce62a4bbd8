"""Groups get their certificate, and what is served is looked at again."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from model.messages.places import GatewayPlace
from model.messages.requests import EndpointAccess, Installed, InstallStep
from model.states import InstallState


@dataclass(frozen=True)
class PlanGroup:
    """Which bindings of the group of a request come next? `at_once`: an administrator said now, whatever the windows
    say."""

    request_id: int
    certificate_id: int
    at_once: bool = False


@dataclass(frozen=True)
class GroupTarget:
    """A binding of a group."""

    endpoint: EndpointAccess
    binding: str

    def __str__(self) -> str:
        return f"{self.binding} of {self.endpoint.name}"


@dataclass(frozen=True)
class GroupPlan:
    """`targets` may be installed on now; where there are none, `wait_until` says when to ask again, and if that is None
    too all are done. `look_at` are canaries that must be looked at once more first. `message` is where it stands."""

    place: GatewayPlace
    targets: list[GroupTarget]
    done: int
    total: int
    message: str
    wait_until: datetime | None = None
    look_at: list[GroupTarget] = field(default_factory=list)
    problem: str | None = None


@dataclass(frozen=True)
class RecordTarget:
    """How an install on one binding of a group ended (`installed`), or how not (`message`, `steps`)."""

    request_id: int
    certificate_id: int
    endpoint_id: int
    binding: str
    state: InstallState
    message: str
    installed: Installed | None = None
    served: str | None = None
    steps: list[InstallStep] = field(default_factory=list)


@dataclass(frozen=True)
class ProbePlace:
    """Where and how a handshake looks (`Probe` of `connectors/endpoints/contract.py`)."""

    address: str
    port: int
    server_name: str | None
    proxy_protocol: bool = False
    starttls: str | None = None


@dataclass(frozen=True)
class Sighting:
    """What one handshake showed, and who looked (``gateway`` or ``manager``). `verification` is a word of
    `connectors.endpoints.contract.Verification`, `fingerprint` SHA-256 in lower-case hex."""

    seen_from: str
    where: str
    verification: str
    fingerprint: str | None
    message: str


@dataclass(frozen=True)
class VerifyTarget:
    """Look whether a binding serves this certificate; `previous` are fingerprints of those that it served before."""

    installation_id: int
    endpoint: EndpointAccess
    binding: str
    certificate_pem: str
    chain_pem: list[str]
    previous: list[str]
    from_manager: bool = False


@dataclass(frozen=True)
class CanaryLook:
    """Canaries of a group (endpoint and binding) that are to be looked at once more."""

    certificate_id: int
    places: list[tuple[int, str]]


@dataclass(frozen=True)
class VerifyTargets:
    """Some of one gateway's."""

    targets: list[VerifyTarget]


@dataclass(frozen=True)
class TargetSeen:
    """What was seen at one of them; `problem` is why nothing could be looked at. `probes` are for whoever looks too."""

    installation_id: int
    sightings: list[Sighting]
    probes: list[ProbePlace]
    problem: str | None = None


@dataclass(frozen=True)
class TargetsSeen:
    """In the order of the targets."""

    seen: list[TargetSeen]


@dataclass(frozen=True)
class LookFrom:
    """The manager looks for itself: the targets, and the probes that the gateway named for each."""

    targets: list[VerifyTarget]
    seen: list[TargetSeen]


@dataclass(frozen=True)
class VerificationStart:
    """Look at these installations, or, where none are named, at all active ones that the administrator may have looked
    at (of one gateway: `gateway_id`). `after` is where a run that continues goes on, `results` what was seen so far."""

    asked_by: str
    installations: list[int] = field(default_factory=list)
    gateway_id: int | None = None
    after: int = 0
    looked: int = 0
    failed: int = 0


@dataclass(frozen=True)
class VerificationBatch:
    """The next ones, all of one gateway, and where it takes its work; `last` is the highest number. Empty: the end."""

    place: GatewayPlace | None
    targets: list[VerifyTarget]
    last: int = 0


@dataclass(frozen=True)
class RecordVerification:
    """What was seen, to be kept."""

    asked_by: str
    seen: list[TargetSeen]


@dataclass(frozen=True)
class VerificationCount:
    """How many were looked at, and how many of them don't serve what they should."""

    looked: int
    failed: int
