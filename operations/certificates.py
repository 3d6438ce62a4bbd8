"""Issued certificates: list, show, download, renew, revoke."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy
from sqlalchemy import func
from sqlmodel import Session, col, select
from temporalio.client import Client, WithStartWorkflowOperation, WorkflowFailureError, WorkflowUpdateFailedError
from temporalio.client import WorkflowUpdateRPCTimeoutOrCancelledError as NoAnswer
from temporalio.common import WorkflowIDConflictPolicy
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError

from connectors.ca.contract import RevocationReason
from model import messages, naming
from model.errors import Conflict, InvalidInput, NotFound, Unavailable
from model.messages import RevocationResult
from model.rules.permissions import Scope
from model.states import CertificateStatus, InstallState, OrderWay, Privilege, RequestOrigin
from model.tables import (
    Certificate,
    CertificateAuthority,
    CertificateRequest,
    Department,
    Endpoint,
    Gateway,
    Installation,
    Organization,
)
from operations import lookup
from operations.context import Context
from operations.lookup import identity
from operations.requests import CertificateView, describe_certificate
from workflows.renewal import CertificateRenewalWorkflow
from workflows.revocation import CertificateRevocationWorkflow

_LONGEST_COMMENT = 1024
# A manager that runs answers an update at once, and a CA that is up revokes within seconds.
_ANSWER_WITHIN = timedelta(seconds=10)
_CA_ANSWERS_WITHIN = timedelta(seconds=20)


@dataclass(frozen=True)
class CertificateRow:
    """A line of the list of certificates. Fingerprint: SHA-256, lower-case hex; `renew_at`: when it will act next."""

    id: int
    common_name: str
    organization: str
    department: str | None
    gateway: str
    endpoint: str | None
    binding: str | None
    status: CertificateStatus
    active: bool
    fingerprint: str
    serial_number: str
    not_before: datetime
    not_after: datetime
    renew_at: datetime | None
    renewal_note: str | None
    auto_renew: bool
    request_id: int
    imported: bool = False


@dataclass(frozen=True)
class RenewalWindow:
    """When the CA wants it renewed (RFC 9773): our moment `at` in its window; `explanation_url` tells why."""

    start: datetime
    end: datetime
    at: datetime
    explanation_url: str | None


@dataclass(frozen=True)
class StandingView:
    """Who said last, and when, that the CA stands by the certificate, or since when it was known that it does not;
    `note` is why the last question had no answer that counts."""

    source: str | None
    asked_at: datetime | None
    found_revoked_at: datetime | None
    note: str | None


@dataclass(frozen=True)
class OrderView:
    """How it was ordered: at which CA, under which number, as what and why."""

    ca: str
    number: str | None
    way: OrderWay
    reason: str


@dataclass(frozen=True)
class InstallationView:
    """What was tried on a binding, and what handshakes showed before and after (fingerprints). `sightings` are those of
    the last verification: who looked where, and what was seen."""

    endpoint: str
    binding: str
    state: InstallState
    attempts: int
    verification: str | None
    served_before: str | None
    served_after: str | None
    message: str | None
    updated_at: datetime
    steps: list[dict[str, str]] = field(default_factory=list)
    sightings: list[dict[str, Any]] = field(default_factory=list)
    verified_at: datetime | None = None
    installed_at: datetime | None = None
    endpoint_id: int | None = None


@dataclass(frozen=True)
class CertificateDetail:
    """Everything about a certificate. `chain` begins with the leaf. `replaces_id` is the certificate whose place it
    took, `successor_request_id` the open request that is to take its own. The flags say what the asker may do now."""

    row: CertificateRow
    chain: list[CertificateView]
    installations: list[InstallationView]
    replaced_by_id: int | None
    revoked_at: datetime | None
    revocation_reason: str | None
    may_renew: bool
    may_revoke: bool
    order: OrderView
    window: RenewalWindow | None
    standing: StandingView
    replaces_id: int | None
    successor_request_id: int | None
    may_replace: bool
    may_ask: bool
    may_verify: bool = False


@dataclass(frozen=True)
class Filter:
    """Which certificates; empty fields keep all. `search` looks into common name, serial number and fingerprint.
    `expiring_within_days` keeps those that end so soon, `expired` those that have ended; neither keeps what was
    replaced or revoked."""

    search: str = ""
    statuses: Sequence[CertificateStatus] = ()
    expiring_within_days: int | None = None
    gateway: str | None = None
    organization: str | None = None
    expired: bool = False


@dataclass(frozen=True)
class Page:
    """Some rows and how many there are in all."""

    rows: list[CertificateRow]
    total: int


def listing(context: Context, wanted: Filter = Filter(), offset: int = 0, limit: int = 100) -> Page:
    """Certificates that the actor may see; the newest first, or by expiry when that is asked for."""
    conditions = _conditions(context, wanted)
    by_expiry = wanted.expiring_within_days is not None or wanted.expired
    order = col(Certificate.not_after) if by_expiry else col(Certificate.id).desc()
    with context.database.read() as session:
        # Counted without the joins that only give names: of 100,000 certificates that is many times as quick.
        total = session.exec(select(func.count()).select_from(Certificate).where(*conditions)).one()
        found = session.execute(
            _joined(sqlalchemy.select(*_COLUMNS))
            .where(*conditions)
            .order_by(order, col(Certificate.id))
            .offset(offset)
            .limit(limit)
        ).all()
        return Page([_row(*line) for line in found], total)


def show(context: Context, certificate_id: int) -> CertificateDetail:
    """One certificate with its chain and where it was installed. Raises `NotFound`."""
    with context.database.read() as session:
        certificate = visible(context, session, certificate_id)
        line = session.execute(_joined(sqlalchemy.select(*_COLUMNS)).where(col(Certificate.id) == certificate_id)).one()
        scope = scope_of(certificate)
        installations = session.exec(
            select(Installation, Endpoint.name)
            .join(Endpoint, col(Endpoint.id) == col(Installation.endpoint_id))
            .where(Installation.certificate_id == certificate_id)
            .order_by(col(Installation.id))
        ).all()
        request = session.get_one(CertificateRequest, certificate.request_id)
        open_request = successor_of(session, certificate_id)
        return CertificateDetail(
            row=_row(*line),
            chain=[describe_certificate(pem) for pem in [certificate.pem, *certificate.chain_pem]],
            installations=[_installation(row, endpoint) for row, endpoint in installations],
            replaced_by_id=certificate.replaced_by_id,
            revoked_at=certificate.revoked_at,
            revocation_reason=certificate.revocation_reason,
            may_renew=_unrenewable(certificate) is None and context.actor.may(Privilege.RENEW, scope),
            may_revoke=certificate.status != CertificateStatus.REVOKED and context.actor.may(Privilege.REVOKE, scope),
            order=OrderView(
                ca=session.get_one(CertificateAuthority, request.authority_id).name,
                number=request.order_number,
                way=request.order_way,
                reason=request.order_reason,
            ),
            window=_window(certificate),
            standing=StandingView(
                source=certificate.standing_source,
                asked_at=certificate.standing_at,
                found_revoked_at=certificate.found_revoked_at,
                note=certificate.standing_note,
            ),
            replaces_id=request.renews_certificate_id,
            successor_request_id=open_request,
            may_replace=unreplaceable(certificate, open_request) is None
            and context.actor.may(Privilege.REPLACE, scope),
            may_ask=certificate.status == CertificateStatus.ISSUED
            and certificate.active
            and context.actor.may(Privilege.RENEW, scope),
            may_verify=context.actor.may(Privilege.INSTALL, scope),
        )


def download(context: Context, certificate_id: int) -> str:
    """Leaf and chain as PEM, the leaf first; never a key. Raises `NotFound`."""
    with context.database.read() as session:
        certificate = visible(context, session, certificate_id)
        return "".join(pem.strip() + "\n" for pem in [certificate.pem, *certificate.chain_pem])


async def renew(context: Context, certificate_id: int) -> int:
    """Renew now; gives the number of the request that does it, also when it was open already.

    Raises `NotFound`, `NotPermitted`, `Conflict` (revoked or replaced), `Unavailable`.
    """
    with context.database.read() as session:
        scope = scope_of(visible(context, session, certificate_id))
    with context.acting("certificate.renew", "certificate", certificate_id, scope) as session:
        certificate = visible(context, session, certificate_id)
        context.require(Privilege.RENEW, scope, f"renew certificate {certificate_id}")
        open_request = successor_of(session, certificate_id)
        if open_request is not None:
            return open_request
        refused = _unrenewable(certificate)
        if refused is not None:
            raise Conflict(refused)
    return await order_now(context, certificate_id, messages.OrderWord(context.actor.login))


async def order_now(context: Context, certificate_id: int, word: messages.OrderWord) -> int:
    """Have the certificate's renewal order now; gives the number of the request. Who asks was judged by the caller.

    Raises `Conflict`, `Unavailable`.
    """
    client = await context.temporal()
    start = WithStartWorkflowOperation(
        CertificateRenewalWorkflow.run,
        messages.RenewalStart(certificate_id),
        id=naming.renewal_workflow(certificate_id),
        task_queue=naming.MANAGER_QUEUE,
        id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
        static_summary=f"Renewal of certificate {certificate_id}",
    )
    try:
        view = await client.execute_update_with_start_workflow(
            CertificateRenewalWorkflow.replace,
            word,
            start_workflow_operation=start,
            id=f"{word.way}-{uuid.uuid4()}",
            rpc_timeout=_ANSWER_WITHIN,
        )
    except WorkflowUpdateFailedError as error:
        raise Conflict(_told(error)) from error
    except NoAnswer as error:
        raise Unavailable(
            f"The manager does not answer: look for the renewal of certificate {certificate_id} when it runs again."
        ) from error
    except RPCError as error:
        raise Unavailable(f"Temporal does not answer ({error.message}).") from error
    if view.request_id is None:
        raise Conflict(view.message)
    return view.request_id


async def revoke(context: Context, certificate_id: int, reason: str, comment: str = "") -> RevocationResult:
    """Revoke at the CA and wait a little for its answer; `revoked` False means that it has not answered yet.

    Raises `InvalidInput` (reason: RFC 5280 section 5.3.1), `NotFound`, `NotPermitted`, `Conflict`, `Unavailable`.
    """
    known = [str(word) for word in RevocationReason]
    if reason not in known:
        raise InvalidInput(f"{reason!r} is no reason for a revocation: use one of {', '.join(known)}.")
    if len(comment) > _LONGEST_COMMENT:
        raise InvalidInput(f"A comment has at most {_LONGEST_COMMENT} characters, not {len(comment)}.")
    with context.database.read() as session:
        scope = scope_of(visible(context, session, certificate_id))
    with context.acting("certificate.revoke", "certificate", certificate_id, scope) as session:
        context.require(Privilege.REVOKE, scope, f"revoke certificate {certificate_id}")
        if visible(context, session, certificate_id).status == CertificateStatus.REVOKED:
            return RevocationResult(certificate_id, True, f"Certificate {certificate_id} was revoked before.")
    client = await context.temporal()
    try:
        handle = await client.start_workflow(
            CertificateRevocationWorkflow.run,
            messages.RevocationStart(certificate_id, context.actor.login, reason, comment),
            id=naming.revocation_workflow(certificate_id),
            task_queue=naming.MANAGER_QUEUE,
            id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
            static_summary=f"Revocation of certificate {certificate_id}",
        )
        return await asyncio.wait_for(handle.result(), _CA_ANSWERS_WITHIN.total_seconds())
    except TimeoutError:
        return RevocationResult(
            certificate_id,
            False,
            f"Certificate {certificate_id} is not revoked yet: the CA or the manager has not answered; it is tried on.",
        )
    except WorkflowFailureError as error:
        raise Conflict(_told(error)) from error
    except RPCError as error:
        raise Unavailable(f"Temporal does not answer ({error.message}).") from error


async def set_auto_renew(context: Context, certificate_id: int, on: bool) -> None:
    """Switch automatic renewal on or off. Raises `NotFound`, `NotPermitted`, `Unavailable` (kept, but the renewal was
    not told: it looks again by itself within a month)."""
    with context.database.read() as session:
        scope = scope_of(visible(context, session, certificate_id))
    with context.acting("certificate.auto_renew", "certificate", certificate_id, scope) as session:
        certificate = visible(context, session, certificate_id)
        context.require(Privilege.RENEW, scope, f"change the renewal of certificate {certificate_id}")
        if certificate.auto_renew == on:
            return
        certificate.auto_renew = on
        session.add(certificate)
        told = f"Automatic renewal of certificate {certificate_id} was switched {'on' if on else 'off'}."
        context.tell(session, "certificate.auto_renew", "certificate", told, object_id=certificate_id, scope=scope)
        watched = certificate.status == CertificateStatus.ISSUED and certificate.active
    if watched:
        await look_again(await context.temporal(), certificate_id)


async def look_again(client: Client, certificate_id: int) -> None:
    """Have the certificate's renewal plan anew, or begin. Raises `Unavailable`."""
    try:
        await client.start_workflow(
            CertificateRenewalWorkflow.run,
            messages.RenewalStart(certificate_id),
            id=naming.renewal_workflow(certificate_id),
            task_queue=naming.MANAGER_QUEUE,
            id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
            start_signal="look_again",
            static_summary=f"Renewal of certificate {certificate_id}",
        )
    except RPCError as error:
        raise Unavailable(
            f"The change is kept, but the renewal of certificate {certificate_id} was not told ({error.message})."
        ) from error


def _told(error: WorkflowUpdateFailedError | WorkflowFailureError) -> str:
    cause = error.cause
    return cause.message if isinstance(cause, ApplicationError) else str(cause or error)


def _unrenewable(certificate: Certificate) -> str | None:
    if certificate.status in (CertificateStatus.ISSUED, CertificateStatus.EXPIRED):
        return None
    return f"Certificate {certificate.id} can't be renewed: it is {certificate.status}."


def successor_of(session: Session, certificate_id: int) -> int | None:
    """The open request that is to take the certificate's place."""
    statement = select(CertificateRequest.id).where(
        CertificateRequest.renews_certificate_id == certificate_id, ~col(CertificateRequest.closed)
    )
    return session.exec(statement).first()


def visible(context: Context, session: Session, certificate_id: int) -> Certificate:
    """The certificate's row, for who may see it. Raises `NotFound`."""
    certificate = session.get(Certificate, certificate_id)
    if certificate is None or not context.actor.sees(scope_of(certificate)):
        raise NotFound(f"There is no certificate {certificate_id}: `certgate certificate list` shows what there is.")
    return certificate


def scope_of(certificate: Certificate) -> Scope:
    """Whose it is."""
    return Scope(certificate.organization_id, certificate.department_id)


def unreplaceable(certificate: Certificate, open_request: int | None) -> str | None:
    """Why it can't be replaced now; None where it can. One that is revoked can: it may still be in use."""
    if certificate.status == CertificateStatus.REPLACED or certificate.replaced_by_id is not None:
        return f"Certificate {certificate.id} can't be replaced: it was replaced by {certificate.replaced_by_id}."
    if open_request is not None:
        return f"Request {open_request} takes the place of certificate {certificate.id} already: see to that one."
    return None


def _window(certificate: Certificate) -> RenewalWindow | None:
    start, end, at = certificate.suggested_start, certificate.suggested_end, certificate.suggested_at
    if start is None or end is None or at is None:
        return None
    return RenewalWindow(start, end, at, certificate.suggestion_url)


def _conditions(context: Context, wanted: Filter) -> list[sqlalchemy.ColumnElement[bool]]:
    conditions = [lookup.seen_by(context.actor, Certificate.organization_id, Certificate.department_id)]
    if wanted.search:
        like = f"%{wanted.search.strip().lower()}%"
        conditions.append(
            func.lower(Certificate.common_name).like(like)
            | col(Certificate.serial_number).like(like)
            | col(Certificate.fingerprint).like(like.replace(":", ""))
        )
    if wanted.statuses:
        conditions.append(col(Certificate.status).in_(wanted.statuses))
    if wanted.expiring_within_days is not None:
        now = context.clock()
        conditions.append(col(Certificate.not_after) > now)
        conditions.append(col(Certificate.not_after) <= now + timedelta(days=wanted.expiring_within_days))
        if not wanted.statuses:
            conditions.append(col(Certificate.status) == CertificateStatus.ISSUED)
    if wanted.expired:
        conditions.append(col(Certificate.not_after) <= context.clock())
        if not wanted.statuses:
            conditions.append(col(Certificate.status).in_((CertificateStatus.ISSUED, CertificateStatus.EXPIRED)))
    if wanted.gateway:
        theirs = select(CertificateRequest.id).where(lookup.of_gateway(CertificateRequest.gateway_id, wanted.gateway))
        conditions.append(col(Certificate.request_id).in_(theirs))
    if wanted.organization:
        conditions.append(lookup.of_organization(Certificate.organization_id, wanted.organization))
    return conditions


_COLUMNS: tuple[Any, ...] = (
    Certificate,
    CertificateRequest,
    Organization.name,
    Department.name,
    Gateway.name,
    Endpoint.name,
)


def _joined(statement: Any) -> Any:
    return (
        statement.select_from(Certificate)
        .join(CertificateRequest, col(CertificateRequest.id) == col(Certificate.request_id))
        .join(Organization, col(Organization.id) == col(Certificate.organization_id))
        .outerjoin(Department, col(Department.id) == col(Certificate.department_id))
        .join(Gateway, col(Gateway.id) == col(CertificateRequest.gateway_id))
        .outerjoin(Endpoint, col(Endpoint.id) == col(CertificateRequest.endpoint_id))
    )


def _row(
    certificate: Certificate,
    request: CertificateRequest,
    organization: str,
    department: str | None,
    gateway: str,
    endpoint: str | None,
) -> CertificateRow:
    return CertificateRow(
        id=identity(certificate),
        common_name=certificate.common_name,
        organization=organization,
        department=department,
        gateway=gateway,
        endpoint=endpoint,
        binding=request.binding,
        status=certificate.status,
        active=certificate.active,
        fingerprint=certificate.fingerprint,
        serial_number=certificate.serial_number,
        not_before=certificate.not_before,
        not_after=certificate.not_after,
        renew_at=certificate.renew_at,
        renewal_note=certificate.renewal_note,
        auto_renew=certificate.auto_renew,
        request_id=certificate.request_id,
        imported=request.origin == RequestOrigin.IMPORTED,
    )


def _installation(row: Installation, endpoint: str) -> InstallationView:
    return InstallationView(
        endpoint=endpoint,
        binding=row.binding,
        state=row.state,
        attempts=row.attempts,
        verification=row.verification,
        served_before=row.served_before,
        served_after=row.served_after,
        message=row.message,
        updated_at=row.updated_at,
        steps=list(row.steps),
        sightings=list(row.sightings),
        verified_at=row.verified_at,
        installed_at=row.installed_at,
        endpoint_id=row.endpoint_id,
    )
