"""The watch over what a CA says of its certificates, and the import of certificates from its list."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from model.messages.requests import AuthorityAccess


@dataclass(frozen=True)
class AuthorityWatchStart:
    """Watch over a CA's certificates until the CA is removed. `away` counts the rounds in which it did not answer."""

    authority_id: int
    away: int = 0


@dataclass(frozen=True)
class PlanWatch:
    """Which certificates of this CA are due to be asked about?"""

    authority_id: int


@dataclass(frozen=True)
class WatchBatch:
    """Some certificates, and where the CA is asked about them: at the manager (`gateway_id` None) or at a gateway."""

    certificate_ids: list[int]
    gateway_id: int | None = None
    channel: int = 1


@dataclass(frozen=True)
class WatchPlan:
    """`ended`: the CA is gone. `batches` are due, and others besides if there are `more`; `next_at` is when the first
    certificate is due, None where none is watched."""

    ended: bool
    name: str = ""
    batches: list[WatchBatch] = field(default_factory=list)
    next_at: datetime | None = None
    more: bool = False
    watched: int = 0


@dataclass(frozen=True)
class AskHere:
    """Ask about these certificates from the manager, and keep what was found."""

    authority_id: int
    certificate_ids: list[int]


@dataclass(frozen=True)
class AskedCertificate:
    """A certificate as the CA is asked about it; `chain` are places in `AskAuthority.issuers`. `window`: its renewal
    information is due; `standing`: whether it is revoked is."""

    certificate_id: int
    order_number: str
    serial_number: str
    pem: str
    chain: list[int]
    window: bool
    standing: bool


@dataclass(frozen=True)
class AskAuthority:
    """Ask about these certificates. `networks` (CIDR) are those in which responders may be besides public addresses."""

    authority: AuthorityAccess
    networks: list[str]
    certificates: list[AskedCertificate]
    issuers: list[str]


@dataclass(frozen=True)
class SeenWindow:
    """The CA's renewal information (RFC 9773 section 4.2); `ask_again_seconds` is its Retry-After."""

    start: datetime
    end: datetime
    explanation_url: str | None = None
    ask_again_seconds: float | None = None


@dataclass(frozen=True)
class SeenStanding:
    """Who said whether the CA stands by the certificate."""

    revoked: bool
    source: str
    revoked_at: datetime | None = None
    reason: str | None = None


@dataclass(frozen=True)
class Finding:
    """What was found about one certificate. `asked` False: the round was over before its turn. `problem` is why
    something is not known: `passing` where it may pass by itself, `faulty` where the answer was wrong or a person must
    mend something, else the CA just tells nothing."""

    certificate_id: int
    asked: bool = True
    window: SeenWindow | None = None
    window_asked: bool = False
    standing_asked: bool = True
    standing: SeenStanding | None = None
    problem: str | None = None
    passing: bool = False
    faulty: bool = False
    after_seconds: float | None = None


@dataclass(frozen=True)
class KeepFindings:
    """Keep what was found at a gateway."""

    authority_id: int
    findings: list[Finding]


@dataclass(frozen=True)
class Kept:
    """What follows: certificates that are found revoked, those whose renewal is due earlier now, and `away`: the CA did
    not answer (`after_seconds`: its hint)."""

    revoked: list[int] = field(default_factory=list)
    sooner: list[int] = field(default_factory=list)
    away: bool = False
    after_seconds: float | None = None


@dataclass(frozen=True)
class AuthorityWatchView:
    """The answer to the watch's query `view`. `asked` counts the certificates of this run, `away` the
    rounds without an answer."""

    authority_id: int
    name: str
    watched: int
    asked: int
    next_at: datetime | None
    away: int
    message: str
