"""Certificate requests: submit, list, show, decide, cancel, install, retry."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

import sqlalchemy
from pydantic import TypeAdapter, ValidationError
from sqlalchemy import ColumnElement, func
from sqlmodel import Session, col, select
from temporalio.api.failure.v1 import Failure
from temporalio.client import Client
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError, RPCStatusCode

from model import access, naming, x509
from model.errors import Unavailable
from model.keys import KeyAlgorithm
from model.messages import OrderValidation
from model.states import (
    CertificateStatus,
    InstallMode,
    InstallState,
    KeyPlace,
    OrderWay,
    Privilege,
    RequestOrigin,
    Verdict,
)
from model.tables import (
    Administrator,
    Certificate,
    CertificateAuthority,
    CertificateProfile,
    CertificateRequest,
    Decision,
    Department,
    Endpoint,
    EndpointGroup,
    Gateway,
    Keystore,
    Organization,
)
from operations import decisions, lookup
from operations.context import Context
from operations.decisions import Word
from operations.lookup import identity


@dataclass(frozen=True)
class RequestRow:
    """A line of the inbox."""

    id: int
    common_name: str
    organization: str
    department: str | None
    requester: str
    gateway: str
    endpoint: str | None
    binding: str | None
    status: CertificateStatus
    install_state: InstallState
    order_number: str | None
    reason: str | None
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True)
class DecisionView:
    """A decision that counts."""

    administrator: str
    verdict: Verdict
    comment: str
    decided_at: datetime


@dataclass(frozen=True)
class CertificateView:
    """A certificate of a chain, for people."""

    subject: str
    issuer: str
    names: list[str]
    key: str
    serial_number: str
    fingerprint: str
    not_before: datetime
    not_after: datetime
    pem: str


@dataclass(frozen=True)
class SigningRequestView:
    """A certificate signing request, for people."""

    subject: str
    names: list[str]
    key: str
    public_key_sha256: str


@dataclass(frozen=True)
class RequestDetail:
    """Everything about a request. `puts_back_id` is the certificate that it puts back into use (origin ROLLBACK)."""

    id: int
    workflow_id: str
    common_name: str
    names: list[str]
    organization: str
    department: str | None
    requester: str
    gateway: str
    endpoint: str | None
    binding: str | None
    ca: str
    profile: str
    key_algorithm: KeyAlgorithm
    install_mode: InstallMode
    comments: str
    status: CertificateStatus
    install_state: InstallState
    install_after: datetime | None
    order_number: str | None
    issued_fingerprint: str | None
    served_fingerprint: str | None
    reason: str | None
    closed: bool
    renews_certificate_id: int | None
    certificate_id: int | None
    csr_pem: str | None
    approvals_required: int
    decisions: list[DecisionView] = field(default_factory=list)
    chain: list[CertificateView] = field(default_factory=list)
    may: list[Word] = field(default_factory=list)
    created_at: datetime | None = None
    updated_at: datetime | None = None
    keystore: str = "default"
    order_way: OrderWay = OrderWay.NEW
    order_reason: str = ""
    ordered_at: datetime | None = None
    origin: RequestOrigin = RequestOrigin.SUBMITTED
    key_place: KeyPlace = KeyPlace.GATEWAY
    group: str | None = None
    puts_back_id: int | None = None


@dataclass(frozen=True)
class Waiting:
    """What a running request waits for, asked of the engine: a step, how often it was tried and what it said last.
    `validations` is what the CA last said of the proof that each name is ours, where it wants one."""

    step: str
    attempt: int
    last_failure: str | None
    next_attempt: datetime | None
    validations: list[OrderValidation] = field(default_factory=list)


@dataclass(frozen=True)
class Filter:
    """Which requests; empty fields keep all. `search` looks into common name and order number; `unfinished` keeps those
    that have not ended."""

    search: str = ""
    statuses: Sequence[CertificateStatus] = ()
    install_states: Sequence[InstallState] = ()
    gateway: str | None = None
    organization: str | None = None
    awaiting_me: bool = False
    unfinished: bool = False


@dataclass(frozen=True)
class Page:
    """Some rows and how many there are in all."""

    rows: list[RequestRow]
    total: int


def listing(
    context: Context, wanted: Filter = Filter(), *, offset: int = 0, limit: int = 100, newest_first: bool = True
) -> Page:
    """Requests that the actor may see, filtered and paged by the database."""
    conditions = _conditions(context, wanted)
    joined = (
        sqlalchemy.select(
            CertificateRequest,
            col(Organization.name),
            col(Department.name),
            col(Administrator.login),
            col(Gateway.name),
            col(Endpoint.name),
        )
        .join(Organization, col(CertificateRequest.organization_id) == col(Organization.id))
        .outerjoin(Department, col(CertificateRequest.department_id) == col(Department.id))
        .join(Administrator, col(CertificateRequest.requester_id) == col(Administrator.id))
        .join(Gateway, col(CertificateRequest.gateway_id) == col(Gateway.id))
        .outerjoin(Endpoint, col(CertificateRequest.endpoint_id) == col(Endpoint.id))
        .where(*conditions)
    )
    order = col(CertificateRequest.id).desc() if newest_first else col(CertificateRequest.id)
    with context.database.read() as session:
        # Counted without the joins that only give names: of 100,000 requests that is ten times as quick.
        total = session.exec(select(func.count()).select_from(CertificateRequest).where(*conditions)).one()
        found = session.execute(joined.order_by(order).offset(offset).limit(limit)).all()
        return Page([_row(*line) for line in found], total)


def counts(
    context: Context, by: Literal["status", "install_state", "gateway", "organization"], wanted: Filter = Filter()
) -> dict[str, int]:
    """How many of the requests that `wanted` keeps there are in each group, for the Group control."""
    column: Any = {
        "status": col(CertificateRequest.status),
        "install_state": col(CertificateRequest.install_state),
        "gateway": col(CertificateRequest.gateway_id),
        "organization": col(CertificateRequest.organization_id),
    }[by]
    counted = sqlalchemy.select(column.label("key"), func.count().label("count"))
    counted = counted.select_from(CertificateRequest).where(*_conditions(context, wanted)).group_by(column)
    if by in ("gateway", "organization"):
        # Named after counting: one name a group, not one a request.
        groups = counted.subquery()
        owner: Any = {"gateway": Gateway, "organization": Organization}[by]
        named = sqlalchemy.select(owner.name, func.sum(groups.c.count)).join(groups, groups.c.key == owner.id)
        counted = named.group_by(owner.name).order_by(owner.name)
    else:
        counted = counted.order_by(column)
    with context.database.read() as session:
        return {str(key): int(count) for key, count in session.execute(counted).all()}


def show(context: Context, request_id: int) -> RequestDetail:
    """One request, with what the actor may do to it now. Raises `NotFound`."""
    with context.database.read() as session:
        request = decisions.visible(context, session, request_id)
        certificate = session.exec(select(Certificate).where(Certificate.request_id == request_id)).one_or_none()
        if request.reinstalls_certificate_id is not None:
            certificate = session.get(Certificate, request.reinstalls_certificate_id)
        group = session.get(EndpointGroup, request.group_id) if request.group_id is not None else None
        organization = session.get_one(Organization, request.organization_id)
        department = session.get(Department, request.department_id) if request.department_id else None
        endpoint = session.get(Endpoint, request.endpoint_id) if request.endpoint_id else None
        keystore = session.get(Keystore, request.keystore_id) if request.keystore_id else None
        given = [
            DecisionView(login, decision.verdict, decision.comment, decision.decided_at)
            for decision, login in _decisions(session, request_id)
        ]
        policy = access.policy_for(session, request.organization_id)
        return RequestDetail(
            id=request_id,
            workflow_id=naming.request_workflow(request_id),
            common_name=request.common_name,
            names=list(request.names),
            organization=organization.name,
            department=department.name if department else None,
            requester=session.get_one(Administrator, request.requester_id).login,
            gateway=session.get_one(Gateway, request.gateway_id).name,
            endpoint=endpoint.name if endpoint else None,
            binding=request.binding,
            keystore=keystore.name if keystore else "default",
            ca=session.get_one(CertificateAuthority, request.authority_id).name,
            profile=session.get_one(CertificateProfile, request.profile_id).name,
            key_algorithm=request.key_algorithm,
            install_mode=request.install_mode,
            comments=request.comments,
            status=request.status,
            install_state=request.install_state,
            install_after=request.install_after,
            order_number=request.order_number,
            order_way=request.order_way,
            order_reason=request.order_reason,
            origin=request.origin,
            key_place=request.key_place,
            group=group.name if group else None,
            puts_back_id=request.reinstalls_certificate_id,
            ordered_at=request.ordered_at,
            issued_fingerprint=request.issued_fingerprint,
            served_fingerprint=request.served_fingerprint,
            reason=request.reason,
            closed=request.closed,
            renews_certificate_id=request.renews_certificate_id,
            certificate_id=certificate.id if certificate else None,
            csr_pem=request.csr_pem,
            approvals_required=policy.approvals_required,
            decisions=given,
            chain=[describe_certificate(pem) for pem in [certificate.pem, *certificate.chain_pem]]
            if certificate
            else [],
            may=decisions.words(context, session, request),
            created_at=request.created_at,
            updated_at=request.updated_at,
        )


async def waiting(context: Context, request_id: int) -> list[Waiting]:
    """What the engine is doing about a request right now; empty when it waits for a person or has ended."""
    with context.database.read() as session:
        decisions.visible(context, session, request_id)
    client = await context.temporal()
    try:
        description = await client.get_workflow_handle(naming.request_workflow(request_id)).describe()
    except RPCError as error:
        if error.status == RPCStatusCode.NOT_FOUND:
            return []
        raise Unavailable(f"Temporal does not answer ({error.message}).") from error
    found = []
    for pending in description.raw_description.pending_activities:
        failure = pending.last_failure.message if pending.HasField("last_failure") else None
        scheduled = pending.scheduled_time.ToDatetime(tzinfo=context.clock().tzinfo)
        validations = await _validations(client, pending.last_failure) if failure else []
        found.append(Waiting(pending.activity_type.name, pending.attempt, failure, scheduled, validations))
    return found


async def _validations(client: Client, failure: Failure) -> list[OrderValidation]:
    """What an `orders.collect` that ended as ``Pending`` has in its details (`activities/failures.py`)."""
    told = await client.data_converter.decode_failure(failure)
    if not isinstance(told, ApplicationError) or told.type != "Pending" or not told.details:
        return []
    try:
        return TypeAdapter(list[OrderValidation]).validate_python(told.details[0])
    except ValidationError:
        # A connector of another release said it in other words.
        return []


async def watch(context: Context, request_id: int, *, every: float = 0.25) -> AsyncIterator[RequestDetail]:
    """The request each time it has changed, until it is closed."""
    seen: RequestDetail | None = None
    while True:
        detail = show(context, request_id)
        if detail != seen:
            seen = detail
            yield detail
        if detail.closed:
            return
        await asyncio.sleep(every)


def describe_certificate(pem: str) -> CertificateView:
    """A certificate for people."""
    certificate = x509.load_certificate(pem)
    algorithm = x509.key_algorithm(certificate.public_key())
    return CertificateView(
        subject=x509.distinguished_name(certificate.subject),
        issuer=x509.distinguished_name(certificate.issuer),
        names=x509.subject_names(certificate),
        key=str(algorithm) if algorithm else "other",
        serial_number=x509.serial_hex(certificate),
        fingerprint=x509.fingerprint(certificate),
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
        pem=pem,
    )


def describe_signing_request(pem: str) -> SigningRequestView:
    """A certificate signing request for people. Raises `InvalidInput` when it can't be read."""
    request = x509.load_csr(pem)
    algorithm = x509.key_algorithm(request.public_key())
    return SigningRequestView(
        subject=x509.distinguished_name(request.subject),
        names=x509.subject_names(request),
        key=str(algorithm) if algorithm else "other",
        public_key_sha256=x509.public_key_sha256(request),
    )


def _conditions(context: Context, wanted: Filter) -> list[ColumnElement[bool]]:
    """What keeps the rows that the actor may see and that `wanted` asks for."""
    conditions = [lookup.seen_by(context.actor, CertificateRequest.organization_id, CertificateRequest.department_id)]
    if wanted.search:
        words = wanted.search.lower()
        conditions.append(
            func.lower(CertificateRequest.common_name).contains(words, autoescape=True)
            | func.lower(func.coalesce(CertificateRequest.order_number, "")).contains(words, autoescape=True)
        )
    if wanted.statuses:
        conditions.append(col(CertificateRequest.status).in_(wanted.statuses))
    if wanted.install_states:
        conditions.append(col(CertificateRequest.install_state).in_(wanted.install_states))
    if wanted.gateway:
        conditions.append(lookup.of_gateway(CertificateRequest.gateway_id, wanted.gateway))
    if wanted.organization:
        conditions.append(lookup.of_organization(CertificateRequest.organization_id, wanted.organization))
    if wanted.unfinished:
        conditions.append(col(CertificateRequest.closed).is_(False))
    if wanted.awaiting_me:
        decided = select(Decision.request_id).where(Decision.administrator_id == context.actor.id)
        conditions += [
            col(CertificateRequest.status) == CertificateStatus.REQUESTED,
            col(CertificateRequest.install_state) == InstallState.KEY_READY,
            col(CertificateRequest.requester_id) != context.actor.id,
            col(CertificateRequest.id).not_in(decided),
            lookup.allowed_by(
                context.actor, Privilege.APPROVE, CertificateRequest.organization_id, CertificateRequest.department_id
            ),
        ]
    return conditions


def _decisions(session: Session, request_id: int) -> list[tuple[Decision, str]]:
    statement = (
        select(Decision, Administrator.login)
        .join(Administrator, col(Decision.administrator_id) == col(Administrator.id))
        .where(Decision.request_id == request_id)
        .order_by(col(Decision.id))
    )
    return list(session.exec(statement).all())


def _row(
    request: CertificateRequest,
    organization: str,
    department: str | None,
    requester: str,
    gateway: str,
    endpoint: str | None,
) -> RequestRow:
    return RequestRow(
        id=identity(request),
        common_name=request.common_name,
        organization=organization,
        department=department,
        requester=requester,
        gateway=gateway,
        endpoint=endpoint,
        binding=request.binding,
        status=request.status,
        install_state=request.install_state,
        order_number=request.order_number,
        reason=request.reason,
        created_at=request.created_at,
        updated_at=request.updated_at,
    )
