"""What the request workflow and its steps say to each other."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from model.keys import KeyAlgorithm
from model.messages.places import GatewayPlace
from model.states import CertificateStatus, InstallMode, InstallState, KeyPlace, OrderWay, Verdict


@dataclass(frozen=True)
class RequestStart:
    """A request is started with its number only: everything else is read, and checked again, inside."""

    request_id: int


@dataclass(frozen=True)
class RequestResult:
    """How a request ended."""

    request_id: int
    status: CertificateStatus
    install_state: InstallState
    order_number: str | None
    certificate_id: int | None
    issued_fingerprint: str | None
    served_fingerprint: str | None
    reason: str | None


@dataclass(frozen=True)
class RequestView:
    """The answer to the query `view`: the truth about a running request."""

    request_id: int
    status: CertificateStatus
    install_state: InstallState
    waiting_for: str
    order_number: str | None
    issued_fingerprint: str | None
    served_fingerprint: str | None
    reason: str | None
    approvals: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class KeystoreAccess:
    """A keystore as its gateway opens it."""

    type: str
    settings: dict[str, Any]


@dataclass(frozen=True)
class AuthorityAccess:
    """A CA as the process that talks to it opens it."""

    name: str
    type: str
    settings: dict[str, Any]
    reached_from: str
    is_private: bool


@dataclass(frozen=True)
class Earlier:
    """The order and certificate at the same CA that a request renews or replaces (`EarlierOrder` of
    `connectors/ca/contract.py`)."""

    number: str
    serial_number: str
    ari_identifier: str | None = None


@dataclass(frozen=True)
class EndpointAccess:
    """An endpoint as its gateway opens it. `id` keys the lock and the journal."""

    id: int
    name: str
    type: str
    settings: dict[str, Any]
    connection: str
    connection_settings: dict[str, Any]


@dataclass(frozen=True)
class Reinstall:
    """A certificate that is put back into use: nothing is ordered for it."""

    certificate_id: int
    certificate_pem: str
    chain_pem: list[str]
    fingerprint: str
    csr_pem: str


@dataclass(frozen=True)
class Admission:
    """A request as the workflow carries it out; `refused` says why it can't be, and then nothing else holds."""

    request_id: int
    refused: str | None
    requester: str = ""
    organization: str = ""
    gateway_id: int = 0
    gateway: str = ""
    common_name: str = ""
    names: list[str] = field(default_factory=list)
    key_algorithm: KeyAlgorithm = KeyAlgorithm.EC_P256
    key_alias: str = ""
    key_is_shared: bool = False
    keystore: KeystoreAccess | None = None
    authority: AuthorityAccess | None = None
    authority_profile: str | None = None
    validity_seconds: int | None = None
    custom_fields: dict[str, str] = field(default_factory=dict)
    reference: str = ""
    endpoint: EndpointAccess | None = None
    binding: str | None = None
    install_mode: InstallMode = InstallMode.AUTO
    four_eyes: bool = True
    reminder_seconds: int = 86_400
    expiry_seconds: int = 30 * 86_400
    # None where the request was admitted under 0.1, which knew no channels.
    place: GatewayPlace | None = None
    way: OrderWay = OrderWay.NEW
    earlier: Earlier | None = None
    order_reason: str = ""
    key_place: KeyPlace = KeyPlace.GATEWAY
    group: str | None = None
    reinstall: Reinstall | None = None


@dataclass(frozen=True)
class RequestAccess:
    """How what a request works with is reached now: CA, endpoint and keystore with their settings of this moment."""

    authority: AuthorityAccess
    keystore: KeystoreAccess
    endpoint: EndpointAccess | None


@dataclass(frozen=True)
class PrepareKey:
    """Make the key if it is not there, and a CSR with it: in the keystore or, with `endpoint` and `binding`, there."""

    keystore: KeystoreAccess
    alias: str
    algorithm: KeyAlgorithm
    common_name: str
    names: list[str]
    endpoint: EndpointAccess | None = None
    binding: str | None = None


@dataclass(frozen=True)
class PreparedKey:
    """The CSR; the key stays where it was made."""

    csr_pem: str
    key_place: KeyPlace = KeyPlace.GATEWAY


@dataclass(frozen=True)
class DiscardKey:
    """Delete a key that nothing will use, in the keystore or at the endpoint."""

    keystore: KeystoreAccess
    alias: str
    endpoint: EndpointAccess | None = None
    binding: str | None = None


@dataclass(frozen=True)
class AcceptCsr:
    """The CSR that came back, to be checked and kept, and where its key is."""

    request_id: int
    csr_pem: str
    key_place: KeyPlace = KeyPlace.GATEWAY


@dataclass(frozen=True)
class CsrOutcome:
    """`problem`: it is not what was asked. `approved`: why no person needs to approve, or None. `csr_pem` is an
    earlier CSR of the same key that stays in its place; one of another key makes approvals of the one before void."""

    problem: str | None
    approved: str | None
    csr_pem: str | None = None


@dataclass(frozen=True)
class Decide:
    """A decision to be judged and, if it counts, kept."""

    request_id: int
    administrator: str
    verdict: Verdict
    comment: str


@dataclass(frozen=True)
class DecideOutcome:
    """`refused` says why it does not count; else where the decision stands."""

    refused: str | None
    standing: str


@dataclass(frozen=True)
class Permit:
    """May this administrator cancel, install or retry this request?"""

    request_id: int
    administrator: str
    action: str
    comment: str


@dataclass(frozen=True)
class PermitOutcome:
    """None: he may, and it is in the audit. Else why not; that is in the audit too."""

    refused: str | None


@dataclass(frozen=True)
class Progress:
    """A step of the request to be shown in lists and told in the audit. `step` makes it count once."""

    request_id: int
    step: str
    status: CertificateStatus
    install_state: InstallState
    description: str
    reason: str | None = None
    order_number: str | None = None
    failed: bool = False
    closed: bool = False
    audited: bool = True


@dataclass(frozen=True)
class SubmitOrder:
    """An order; `reference` makes it one however often this runs."""

    authority: AuthorityAccess
    reference: str
    csr_pem: str
    common_name: str
    names: list[str]
    profile: str | None
    validity_seconds: int | None
    custom_fields: dict[str, str]
    way: OrderWay = OrderWay.NEW
    earlier: Earlier | None = None
    reason: str = ""


@dataclass(frozen=True)
class OrderPlaced:
    """The CA's number; `found` when the order was there before."""

    order_number: str
    found: bool


@dataclass(frozen=True)
class CollectOrder:
    """Fetch what was ordered; `order` is None where 0.2 asks."""

    authority: AuthorityAccess
    order_number: str
    order: SubmitOrder | None = None


@dataclass(frozen=True)
class OrderValidation:
    """Where the CA stands with the proof that a name is ours (`NameValidation` of `connectors/errors.py`): details of
    the failure with which an `orders.collect` that is not yet over ended last."""

    name: str
    state: str
    method: str = ""
    missing: str = ""
    error: str = ""
    until: datetime | None = None


@dataclass(frozen=True)
class Collected:
    """Leaf and chain, PEM, issuer of the leaf first."""

    certificate_pem: str
    chain_pem: list[str]


@dataclass(frozen=True)
class WithdrawOrder:
    """A canceled request's order: withdraw it if the CA can."""

    authority: AuthorityAccess
    reference: str
    order_number: str | None
    order: SubmitOrder | None = None


@dataclass(frozen=True)
class Withdrawn:
    """What became of the order, in one sentence."""

    order_number: str | None
    message: str


@dataclass(frozen=True)
class AcceptCertificate:
    """What the CA gave, to be checked against the request, completed and kept."""

    request_id: int
    certificate_pem: str
    chain_pem: list[str]
    # What was fetched by the URLs in the certificates, and what came of it; `looked` when that was tried just now.
    fetched_pem: list[str] = field(default_factory=list)
    looked: bool = False
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class FetchIssuers:
    """Fetch the issuers of these certificates (PEM) from where they say (caIssuers). `networks` may be asked besides
    public addresses."""

    certificates: list[str]
    networks: list[str]


@dataclass(frozen=True)
class FetchedIssuers:
    """The issuers that were found (PEM; never trusted for that), a sentence for each place that gave none, and whether
    it may go better later."""

    certificates: list[str]
    notes: list[str]
    again: bool = False


@dataclass(frozen=True)
class CertificateOutcome:
    """`fault`: the certificate is wrong and was not kept. `incomplete`: it is right, but its chain lacks an issuer,
    named by `missing_issuer`; `fetch` says where that one may be had."""

    fault: str | None
    incomplete: str | None
    certificate_id: int | None = None
    fingerprint: str | None = None
    chain_pem: list[str] = field(default_factory=list)
    missing_issuer: str | None = None
    fetch: FetchIssuers | None = None


@dataclass(frozen=True)
class PlanInstall:
    """When may the install of this request start? `at_once`: an administrator said now, whatever the window says."""

    request_id: int
    at_once: bool = False


@dataclass(frozen=True)
class InstallPlan:
    """`wait_until` is None when it may start now by the manager's clock; else `message` says why it waits."""

    wait_until: datetime | None
    message: str
    place: GatewayPlace | None = None


@dataclass(frozen=True)
class InstallCertificate:
    """Install on one binding. The gateway takes the key from its own keystore, unless it was made at the endpoint."""

    request_id: int
    endpoint: EndpointAccess
    binding: str
    keystore: KeystoreAccess
    alias: str
    certificate_pem: str
    chain_pem: list[str]
    key_place: KeyPlace = KeyPlace.GATEWAY


@dataclass(frozen=True)
class InstallStep:
    """One step of an install and what the endpoint said."""

    name: str
    outcome: str


@dataclass(frozen=True)
class Installed:
    """The end of a good install; fingerprints are what handshakes showed."""

    already: bool
    served_before: str | None
    served_after: str
    verification: str
    steps: list[InstallStep]


@dataclass(frozen=True)
class InstallTrouble:
    """The details that a failed install carries with its error."""

    served: str | None
    steps: list[InstallStep]


@dataclass(frozen=True)
class RecordInstall:
    """The outcome of an install attempt for the record: done (`state` COMPLETED) or not."""

    request_id: int
    certificate_id: int
    attempt: int
    status: CertificateStatus
    state: InstallState
    message: str
    verification: str | None
    served_before: str | None
    served_after: str | None
    steps: list[InstallStep]


@dataclass(frozen=True)
class Recorded:
    """The renewal that shall watch over the certificate; None where it is renewed by nobody."""

    watch_certificate_id: int | None
