"""What certgate asks of a certificate authority: four verbs. What only some can do are separate protocols below.

Every verb may be called twice with the same request (a process may die between the CA's answer and our note of it), so
an authority that can find an order of ours should implement `FindsOrders`: it is asked before each order.
`docs/write-a-ca.md` leads through writing one.

Errors: the tree of `connectors/errors.py`. `Retryable` for what passes by itself, `Pending` (only from `collect`) while
the CA works, `Permanent` and `Rejected` for what a person must mend, `AuthorityFault` for an answer that no CA should
give.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Protocol, runtime_checkable


class RevocationReason(StrEnum):
    """Reasons of RFC 5280 section 5.3.1 that an administrator may give."""

    UNSPECIFIED = "unspecified"
    KEY_COMPROMISE = "keyCompromise"
    AFFILIATION_CHANGED = "affiliationChanged"
    SUPERSEDED = "superseded"
    CESSATION_OF_OPERATION = "cessationOfOperation"


@dataclass(frozen=True)
class EarlierOrder:
    """The order and certificate of this CA that a new order renews or replaces. `ari_identifier` is the certificate's
    identifier of RFC 9773 section 4.1, None where it has no authority key identifier."""

    number: str
    serial_number: str
    ari_identifier: str | None = None


@dataclass(frozen=True)
class OrderRequest:
    """An order for one certificate. `reference` is ours, unique per request, and makes a second submit harmless.

    `names` are normalized DNS names and IP addresses, the common name among them. `earlier` is set where the order
    renews or replaces one of this CA; `reason` says why it is replaced.
    """

    reference: str
    csr_pem: str
    common_name: str
    names: Sequence[str]
    profile: str | None = None
    validity_seconds: int | None = None
    custom_fields: Mapping[str, str] = field(default_factory=dict)
    earlier: EarlierOrder | None = None
    reason: str = ""


@dataclass(frozen=True)
class Order:
    """What the CA calls the order. `number` is what a person quotes to the CA's support."""

    number: str


@dataclass(frozen=True)
class CollectRequest:
    """Collect the certificate of order `number`. `request` is what was ordered; the CA's answer must fit its CSR."""

    number: str
    request: OrderRequest


@dataclass(frozen=True)
class IssuedCertificate:
    """The leaf and what the CA gave with it, PEM, issuer of the leaf first, the root only if the CA sends it."""

    certificate_pem: str
    chain_pem: Sequence[str]


@dataclass(frozen=True)
class HeldCertificate:
    """A certificate of this CA that we hold. `serial_number` is lower-case hex without leading zeros or colons;
    `chain_pem` begins with the issuer of the leaf."""

    order_number: str
    certificate_pem: str
    serial_number: str
    chain_pem: Sequence[str] = ()


@dataclass(frozen=True)
class RevokeRequest:
    """Revoke one certificate. `serial_number` is lower-case hex without leading zeros or colons."""

    order_number: str
    certificate_pem: str
    serial_number: str
    reason: RevocationReason


@dataclass(frozen=True)
class Detail:
    """One line about a CA for people, such as its limits, its profiles or the end of a credential."""

    label: str
    text: str


@dataclass(frozen=True)
class Health:
    """The answer to `check`: usable now, one sentence about it, and what else the CA told of itself (no secrets)."""

    usable: bool
    message: str
    details: Sequence[Detail] = ()


@runtime_checkable
class CertificateAuthority(Protocol):
    """The required verbs."""

    async def check(self) -> Health:
        """Ask the CA, without buying anything, whether these settings and credentials work."""
        ...

    async def submit(self, request: OrderRequest) -> Order:
        """Place the order. Returns as soon as the CA has a number for it."""
        ...

    async def collect(self, request: CollectRequest) -> IssuedCertificate:
        """Fetch the certificate of an order; raises `Pending` while the CA works, `Rejected` when it will never be
        issued. Also moves the order on, where the CA waits for us (ACME challenges)."""
        ...

    async def revoke(self, request: RevokeRequest) -> None:
        """Revoke; a certificate that is revoked already is success."""
        ...


# --- what some CAs can do besides -------------------------------------------------------------------------------------


@runtime_checkable
class FindsOrders(Protocol):
    """Can say whether an order of ours was placed before: by our reference, or by its key and names."""

    async def find(self, request: OrderRequest) -> Order | None:
        """The order that was placed for `request` (also a renewal or replacement), or None."""
        ...


@runtime_checkable
class CancelsOrders(Protocol):
    """Can withdraw an order that is not yet issued."""

    async def withdraw(self, order_number: str) -> bool:
        """True: the order will never be issued; False: it is too late for that."""
        ...


@runtime_checkable
class RenewsCertificates(Protocol):
    """Has an order of its own for the renewal of a certificate; others are asked to `submit`."""

    async def renew(self, request: OrderRequest) -> Order:
        """Order the renewal of `request.earlier`. The number may be a new one."""
        ...


@runtime_checkable
class ReplacesCertificates(Protocol):
    """Can reissue a certificate within its order, with another key; others are asked to `submit`."""

    async def replace(self, request: OrderRequest) -> Order:
        """Order the replacement of `request.earlier`. The number may stay the same."""
        ...


@runtime_checkable
class ShowsTrustAnchors(Protocol):
    """A private CA that can hand out its own root certificates."""

    async def trust_anchors(self) -> Sequence[str]:
        """Root certificates, PEM."""
        ...


@dataclass(frozen=True)
class RenewalInformation:
    """When the CA wants a certificate to be renewed (RFC 9773 section 4.2): within `start` to `end`. `explanation_url`
    tells people why; `ask_again` is the CA's Retry-After."""

    start: datetime
    end: datetime
    explanation_url: str | None = None
    ask_again: timedelta | None = None


@runtime_checkable
class GivesRenewalInformation(Protocol):
    """Tells when it wants its certificates renewed."""

    async def renewal_information(self, certificate: HeldCertificate) -> RenewalInformation | None:
        """The window; None where the CA has none for this certificate."""
        ...


@dataclass(frozen=True)
class Standing:
    """Whether the CA stands by a certificate. `source` says who told it (``CA``, ``OCSP``, ``CRL``)."""

    revoked: bool
    source: str
    revoked_at: datetime | None = None
    reason: str | None = None


@runtime_checkable
class KnowsStanding(Protocol):
    """Can be asked whether a certificate is revoked, by its own interface; others publish CRL or OCSP."""

    async def standing(self, certificate: HeldCertificate) -> Standing | None:
        """What the CA says; None where it doesn't know the certificate."""
        ...


@dataclass(frozen=True)
class ProfileOffer:
    """A kind of certificate that the CA offers. `name` is what a profile names; `validities` in seconds, empty: any."""

    name: str
    title: str
    validities: Sequence[int] = ()
    description: str = ""


@runtime_checkable
class OffersProfiles(Protocol):
    """Tells which kinds of certificates it offers."""

    async def profiles(self) -> Sequence[ProfileOffer]:
        """All of them."""
        ...


@dataclass(frozen=True)
class ListedCertificate:
    """A certificate in the CA's own list. What the list doesn't tell is empty or None; `status` is the CA's word."""

    order_number: str
    common_name: str
    serial_number: str = ""
    names: Sequence[str] = ()
    status: str = ""
    profile: str = ""
    not_after: datetime | None = None


@dataclass(frozen=True)
class CertificatePage:
    """Some certificates. `next` is handed to the next call, None after the last page; `total` if the CA tells it."""

    certificates: Sequence[ListedCertificate]
    next: str | None = None
    total: int | None = None


@runtime_checkable
class ListsCertificates(Protocol):
    """Can list what it has issued, so that it can be imported."""

    async def certificates(self, page: str | None = None) -> CertificatePage:
        """One page of its list, in a stable order."""
        ...

    async def certificate(self, order_number: str) -> IssuedCertificate:
        """The certificate of one line of the list."""
        ...


@dataclass(frozen=True)
class OpenOrder:
    """An order as the CA's owner sees it. `state` is the CA's word, ``pending`` where a decision is awaited; `ready` is
    when it will be issued by itself, None where it waits for a person or is over."""

    number: str
    state: str
    common_name: str
    names: Sequence[str] = ()
    created: datetime | None = None
    ready: datetime | None = None
    serial_number: str | None = None
    reason: str | None = None


@runtime_checkable
class DecidesOrders(Protocol):
    """Orders wait for a decision at the CA's side, and we may give it."""

    async def orders(self) -> Sequence[OpenOrder]:
        """The orders, by number; those that await a decision have the state ``pending``."""
        ...

    async def release(self, order_number: str) -> None:
        """Let a pending order be issued. Raises `Permanent` if it is not pending."""
        ...

    async def reject(self, order_number: str, reason: str) -> None:
        """Refuse a pending order. Raises `Permanent` if it is not pending."""
        ...
