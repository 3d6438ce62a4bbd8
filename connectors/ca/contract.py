"""What certgate asks of a certificate authority: four verbs. What only some can do are separate protocols below.

Every verb may be called twice with the same request (a process may die between the CA's answer and our note of it), so
an authority that can find an order by our reference should implement `FindsOrders`: it is asked before each submit.
Errors: the tree of `connectors/errors.py`; `Pending` only from `collect`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
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
class OrderRequest:
    """An order for one certificate. `reference` is ours, unique per request, and makes a second submit harmless."""

    reference: str
    csr_pem: str
    common_name: str
    names: Sequence[str]
    profile: str | None = None
    validity_seconds: int | None = None
    custom_fields: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Order:
    """What the CA calls the order. `number` is what a person quotes to the CA's support."""

    number: str


@dataclass(frozen=True)
class IssuedCertificate:
    """The leaf and what the CA gave with it, PEM, issuer of the leaf first, the root only if the CA sends it."""

    certificate_pem: str
    chain_pem: Sequence[str]


@dataclass(frozen=True)
class RevokeRequest:
    """Revoke one certificate. `serial_number` is lower-case hex without leading zeros or colons."""

    order_number: str
    certificate_pem: str
    serial_number: str
    reason: RevocationReason


@dataclass(frozen=True)
class Health:
    """The answer to `check`: usable now, and one sentence about it."""

    usable: bool
    message: str


@runtime_checkable
class CertificateAuthority(Protocol):
    """The required verbs."""

    async def check(self) -> Health:
        """Ask the CA, without buying anything, whether these settings and credentials work."""
        ...

    async def submit(self, request: OrderRequest) -> Order:
        """Place the order. Returns as soon as the CA has a number for it."""
        ...

    async def collect(self, order_number: str) -> IssuedCertificate:
        """Fetch the certificate of an order; raises `Pending` while the CA works, `Permanent` when it rejected it."""
        ...

    async def revoke(self, request: RevokeRequest) -> None:
        """Revoke; a certificate that is revoked already is success."""
        ...


@runtime_checkable
class FindsOrders(Protocol):
    """Can say whether an order with our reference was placed before."""

    async def find(self, reference: str) -> Order | None:
        """The order that carries `reference`, or None."""
        ...


@runtime_checkable
class CancelsOrders(Protocol):
    """Can withdraw an order that is not yet issued."""

    async def withdraw(self, order_number: str) -> bool:
        """True: the order will never be issued; False: it is too late for that."""
        ...


@runtime_checkable
class ShowsTrustAnchors(Protocol):
    """A private CA that can hand out its own root certificates."""

    async def trust_anchors(self) -> Sequence[str]:
        """Root certificates, PEM."""
        ...
