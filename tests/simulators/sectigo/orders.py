"""Orders and what becomes of them.

Requested ─ approve ─> Approved ─> Applied ─> Issued ─> Revoked
    └─ decline ─> Declined   └─ reject ─> Rejected  └─ replace ─> Applied (the id stays) … Issued

An order moves only when somebody looks at it (`Order.look`): no thread, no timer, no sleep.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes

from tests.simulators.sectigo.authority import Issued
from tests.simulators.sectigo.faults import Plan


class Status(StrEnum):
    """The words of the interface."""

    INIT = "Init"
    INVALID = "Invalid"
    REQUESTED = "Requested"
    SA_APPROVED = "SA Approved"
    APPROVED = "Approved"
    DECLINED = "Declined"
    APPLIED = "Applied"
    ISSUED = "Issued"
    REVOKED = "Revoked"
    EXPIRED = "Expired"
    REPLACED = "Replaced"
    REJECTED = "Rejected"


@dataclass
class Validation:
    """Domain control validation of one name within one order. `rechecks_left`: how many rechecks still find it open;
    None: only `Simulator.validate` ends it."""

    name: str
    mode: str
    done: bool
    last_check: datetime
    rechecks_left: int | None = None


@dataclass
class Order:
    """One order; mutable, and touched only under the simulator's lock."""

    id: int
    order_number: int
    renew_id: str
    kind: str
    """``enroll``, ``renew`` or ``import``."""
    org_id: int
    type_id: int
    term: int
    key: CertificatePublicKeyTypes
    common_name: str
    names: list[str]
    """What the certificate is for, the common name first."""
    requested: datetime
    requester: str
    plan: Plan
    comments: str = ""
    external_requester: str = ""
    custom_fields: dict[str, str] = field(default_factory=dict)
    status: Status = Status.REQUESTED
    polls: int = 0
    applied: datetime | None = None
    approved: datetime | None = None
    declined: datetime | None = None
    issued_at: datetime | None = None
    revoked: datetime | None = None
    reason_code: str | None = None
    replaced: datetime | None = None
    renewed: datetime | None = None
    earlier: int | None = None
    issued: Issued | None = None
    reissues: int = 0
    auto_installed: bool = False
    suspend_notifications: bool = False
    validations: dict[str, Validation] = field(default_factory=dict)

    @property
    def serial_number(self) -> str:
        """As the interface writes it: upper-case hex in pairs with colons; empty before it is issued."""
        if self.issued is None:
            return ""
        digits = format(self.issued.leaf.serial_number, "X")
        digits = digits.zfill(len(digits) + len(digits) % 2)
        return ":".join(digits[at : at + 2] for at in range(0, len(digits), 2))

    def status_at(self, now: datetime) -> Status:
        """The status; an issued certificate whose time is over has expired."""
        over = self.issued is not None and self.issued.leaf.not_valid_after_utc < now
        return Status.EXPIRED if self.status is Status.ISSUED and over else self.status

    @property
    def unvalidated(self) -> list[str]:
        """Names whose validation is open."""
        return [one.name for one in self.validations.values() if not one.done]

    def approve(self, now: datetime) -> None:
        """It may be applied for."""
        self.status, self.approved, self.polls = Status.APPROVED, now, 0

    def apply(self, now: datetime) -> None:
        """It is at the CA; polls are counted from here on."""
        self.status, self.applied, self.polls = Status.APPLIED, now, 0

    def look(self, now: datetime) -> bool:
        """Somebody polls. Moves the order on as far as its plan lets it; True: it is to be issued now."""
        if self.status is Status.REQUESTED:
            if self.plan.approval_polls is None or self.polls < self.plan.approval_polls:
                self.polls += 1
                return False
            self.approve(now)
        if self.status is Status.APPROVED:
            if self.polls == 0 and self.plan.issue_polls > 0:
                self.polls = 1
                return False
            self.apply(now)
        if self.status is not Status.APPLIED or self.applied is None:
            return False
        if self.polls < self.plan.issue_polls:
            self.polls += 1
            return False
        if self.plan.rejects:
            self.status, self.declined = Status.REJECTED, now
            return False
        if self.plan.hangs or self.unvalidated:
            return False
        return now >= self.applied + timedelta(seconds=self.plan.issue_seconds)


@dataclass(frozen=True)
class OrderView:
    """An order as tests see it: a copy."""

    id: int
    order_number: int
    renew_id: str
    kind: str
    status: str
    common_name: str
    names: list[str]
    comments: str
    external_requester: str
    type_id: int
    term: int
    earlier: int | None
    reissues: int
    serial_number: str
    certificate_pem: str | None
    reason_code: str | None
    unvalidated: list[str]
