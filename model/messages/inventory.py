"""Networks are looked through for certificates: what gateway and manager say to each other of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True)
class ScanStart:
    """Carry out a scan, as its record says."""

    scan_id: int


@dataclass(frozen=True)
class ScanService:
    """A port, and the protocol that is spoken there before TLS (`StartTls`; None: none)."""

    port: int
    starttls: str | None = None


@dataclass(frozen=True)
class ScanPart:
    """Look at addresses and ports from number `first` on, as far as it goes in one step. `rate` is connections a
    second, `at_once` how many are open; the gateway's own settings may be stricter, and it refuses what they don't
    allow."""

    networks: list[str]
    services: list[ScanService]
    server_names: list[str]
    first: int
    rate: int
    at_once: int
    timeout_seconds: float


@dataclass(frozen=True)
class ScanFinding:
    """A certificate at an address and port, with a name in SNI (None: none)."""

    address: str
    port: int
    starttls: str | None
    server_name: str | None
    fingerprint: str


@dataclass(frozen=True)
class ScanFound:
    """What one step found. `next` is the number to go on with, `total` how many addresses and ports there are.
    `answered` took a connection; `unread` served something that can't be kept. `certificates` are PEM, each once."""

    next: int
    total: int
    answered: int = 0
    unread: int = 0
    findings: list[ScanFinding] = field(default_factory=list)
    certificates: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class ScanPlan:
    """What the record says is to be done: nothing any more (`ended`), nothing before `due_at`, or `part` at the gateway
    until `deadline`. `round` tells this time from others."""

    ended: bool
    gateway: str = ""
    queue: str = ""
    round: int = 0
    due_at: datetime | None = None
    deadline: datetime | None = None
    part: ScanPart | None = None


@dataclass(frozen=True)
class KeepScan:
    """Keep what a step found."""

    scan_id: int
    round: int
    found: ScanFound


@dataclass(frozen=True)
class ScanNote:
    """Why a scan does not go on just now; None: it does."""

    scan_id: int
    message: str | None


@dataclass(frozen=True)
class ScanKept:
    """`over`: nothing more is to be looked at in this round; else `next` is where to go on."""

    over: bool
    next: int = 0


@dataclass(frozen=True)
class EndScan:
    """A round is over: all of it was looked at, or it was `canceled`, or there is a `problem`."""

    scan_id: int
    round: int
    problem: str | None = None
    canceled: bool = False


@dataclass(frozen=True)
class ScanView:
    """The answer to the query `view`, and what a scan that is over gives."""

    scan_id: int
    gateway: str
    position: int
    total: int
    message: str
