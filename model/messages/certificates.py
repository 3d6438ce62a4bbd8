"""Renewal and revocation."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from model.messages.requests import AuthorityAccess
from model.states import CertificateStatus, OrderWay


@dataclass(frozen=True)
class RenewalStart:
    """Watch over one certificate until it is replaced, revoked or expired. The rest survives continue-as-new:
    `campaigns` ordered its replacement and await the answer."""

    certificate_id: int
    failures: int = 0
    rest_until: datetime | None = None
    campaigns: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class PlanRenewal:
    """What is to be done about this certificate?"""

    certificate_id: int
    asked_by: str | None
    rest_until: datetime | None
    way: OrderWay = OrderWay.RENEW


@dataclass(frozen=True)
class OrderWord:
    """An administrator's word that a certificate is to be renewed or replaced now; empty `administrator`: the clock's.

    `reason` is for the CA and the record. `campaign_id` is the replacement campaign that asks and is answered
    (`CampaignItemEnded`). `new_key`: whether another key is made, None as the profile says. `revocation_reason` (RFC
    5280 section 5.3.1): the certificate is revoked with it once the new one is in use. `profile_id`: the profile (and
    with it the CA and the key algorithm) of the new one, None for that of the certificate.
    """

    administrator: str
    way: OrderWay = OrderWay.RENEW
    reason: str = ""
    campaign_id: int | None = None
    new_key: bool | None = None
    revocation_reason: str | None = None
    profile_id: int | None = None


@dataclass(frozen=True)
class CampaignItemEnded:
    """A renewal workflow's answer to the campaign that ordered: the signal `item_ended`. `problem` None: the new
    certificate is in use. `request_id` None: no request was made."""

    certificate_id: int
    request_id: int | None
    problem: str | None


@dataclass(frozen=True)
class RenewalPlan:
    """`step` is wait, renew or stop; `at` when to look again; `message` is for people. `way` is how it is to be
    ordered when nobody asked for a way, `why` a few words for that order."""

    step: str
    at: datetime
    message: str
    gateway: str = ""
    organization: str = ""
    common_name: str = ""
    status: CertificateStatus = CertificateStatus.ISSUED
    way: OrderWay = OrderWay.RENEW
    why: str = ""
    replaced: bool = False


@dataclass(frozen=True)
class OpenRenewal:
    """Make the request that renews or replaces this certificate, or find the one that is open."""

    certificate_id: int
    asked_by: str | None
    way: OrderWay = OrderWay.RENEW
    reason: str = ""
    new_key: bool | None = None
    profile_id: int | None = None


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
