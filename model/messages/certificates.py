"""Renewal and revocation."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from model.messages.requests import AuthorityAccess
from model.states import CertificateStatus


@dataclass(frozen=True)
class RenewalStart:
    """Watch over one certificate until it is replaced, revoked or expired. `failures` survives continue-as-new."""

    certificate_id: int
    failures: int = 0
    rest_until: datetime | None = None


@dataclass(frozen=True)
class PlanRenewal:
    """What is to be done about this certificate?"""

    certificate_id: int
    asked_by: str | None
    rest_until: datetime | None


@dataclass(frozen=True)
class RenewalPlan:
    """`step` is wait, renew or stop; `at` when to look again; `message` is for people."""

    step: str
    at: datetime
    message: str
    gateway: str = ""
    organization: str = ""
    common_name: str = ""
    status: CertificateStatus = CertificateStatus.ISSUED


@dataclass(frozen=True)
class OpenRenewal:
    """Make the request that renews this certificate, or find the one that is open."""

    certificate_id: int
    asked_by: str | None


@dataclass(frozen=True)
class RenewalOpened:
    """The request that renews."""

    request_id: int


@dataclass(frozen=True)
class RestRenewal:
    """A renewal did not succeed; when is the next attempt?"""

    certificate_id: int
    request_id: int
    attempt: int
    reason: str


@dataclass(frozen=True)
class RenewalView:
    """The answer to the renewal's query `view`."""

    certificate_id: int
    step: str
    at: datetime | None
    message: str
    request_id: int | None


@dataclass(frozen=True)
class RevocationStart:
    """Revoke one certificate on an administrator's word. `reason` is one of RFC 5280 section 5.3.1."""

    certificate_id: int
    administrator: str
    reason: str
    comment: str = ""


@dataclass(frozen=True)
class RevocationAdmission:
    """What the CA needs; `refused` says why it is not done."""

    refused: str | None
    gateway_id: int = 0
    gateway: str = ""
    organization: str = ""
    common_name: str = ""
    authority: AuthorityAccess | None = None
    order_number: str = ""
    certificate_pem: str = ""
    serial_number: str = ""
    channel: int = 1


@dataclass(frozen=True)
class RevokeCertificate:
    """Ask the CA."""

    authority: AuthorityAccess
    order_number: str
    certificate_pem: str
    serial_number: str
    reason: str


@dataclass(frozen=True)
class RevocationResult:
    """How it ended."""

    certificate_id: int
    revoked: bool
    message: str
