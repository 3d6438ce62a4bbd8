"""Back to the certificate that a binding served before, under the rules of approval of any install.

A rollback is a request of its own: nothing is made and nothing is ordered for it, and everything else (approval, word
to install, maintenance window, retry, audit) is as it is for others.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlmodel import Session, col, select

from activities.installing import unfit_to_return
from model import access
from model.errors import Conflict, InvalidInput, Unavailable
from model.rules.permissions import Scope
from model.states import CertificateStatus, InstallState, Privilege, RequestOrigin
from model.tables import Certificate, CertificateRequest, Endpoint, EndpointBinding, Gateway, Installation
from operations import lookup
from operations.context import Context
from operations.lookup import identity
from operations.requests import RequestDetail, show
from operations.submission import start

_LONGEST_COMMENT = 1024


@dataclass(frozen=True)
class Return:
    """What a rollback would do: which certificate goes and which one comes back. `refused` says why it can't be."""

    binding: str
    current_id: int | None
    current: str | None
    previous_id: int | None
    previous: str | None
    previous_not_after: datetime | None
    refused: str | None


def preview(context: Context, gateway: str | int, endpoint: str | int, binding: str) -> Return:
    """What `roll_back` would do. Raises `NotFound`."""
    with context.database.read() as session:
        owner = lookup.gateway(session, context.actor, gateway)
        row = lookup.endpoint(session, owner, endpoint)
        current, previous, refused = _found(context, session, row, binding)
        return Return(
            binding=binding,
            current_id=current.id if current else None,
            current=current.fingerprint if current else None,
            previous_id=previous.id if previous else None,
            previous=previous.fingerprint if previous else None,
            previous_not_after=previous.not_after if previous else None,
            refused=refused,
        )


async def roll_back(
    context: Context, gateway: str | int, endpoint: str | int, binding: str | None, comment: str = ""
) -> RequestDetail:
    """Request that the previous certificate of a binding (of a group: of all its bindings) is put back.

    `binding` None: the only one that has a certificate of ours. Raises `InvalidInput`, `NotFound`, `NotPermitted`,
    `Conflict` where there is none to go back to, `Unavailable`.
    """
    if len(comment) > _LONGEST_COMMENT:
        raise InvalidInput(f"Comments have at most {_LONGEST_COMMENT} characters, not {len(comment)}.")
    with context.acting("endpoint.rollback", "endpoint") as session:
        owner = lookup.gateway(session, context.actor, gateway)
        row = lookup.endpoint(session, owner, endpoint)
        place = binding if binding is not None else _only(session, row)
        current, previous, refused = _found(context, session, row, place)
        for one in (current, previous):
            if one is not None:
                scope = Scope(one.organization_id, one.department_id)
                context.require(Privilege.INSTALL, scope, f"roll back {place} of {row.name}")
        if refused is not None or current is None or previous is None:
            raise Conflict(refused or f"Nothing was served on {place} of {row.name} before.")
        request = _request(context, session, owner, current, previous, comment)
        session.add(request)
        session.flush()
        told = (
            f"Requested that certificate {previous.id} is put back on {place} of {row.name} "
            f"in place of certificate {current.id}" + (f": {comment}" if comment else ".")
        )
        context.tell(
            session, "request.submitted", "request", told, object_id=request.id, gateway_id=owner.id, scope=scope
        )
        number = identity(request)
    try:
        await start(await context.temporal(), context.database, number)
    except Unavailable as error:
        raise Unavailable(
            f"Request {number} is kept, but could not be started ({error.message}) "
            "The manager starts it as soon as Temporal is back; don't ask again."
        ) from error
    return show(context, number)


def _only(session: Session, endpoint: Endpoint) -> str:
    statement = (
        select(Installation.binding)
        .join(Certificate, col(Certificate.id) == col(Installation.certificate_id))
        .where(
            Installation.endpoint_id == endpoint.id,
            Installation.state == InstallState.COMPLETED,
            col(Certificate.active),
        )
        .distinct()
    )
    found = session.exec(statement.order_by(col(Installation.binding))).all()
    if len(found) == 1:
        return found[0]
    if not found:
        raise Conflict(f"certgate has no certificate in use on {endpoint.name}: there is nothing to roll back.")
    raise InvalidInput(f"{endpoint.name} has certificates on several bindings: name one of {', '.join(found[:20])}.")


def _found(
    context: Context, session: Session, endpoint: Endpoint, binding: str
) -> tuple[Certificate | None, Certificate | None, str | None]:
    """The certificate in use, the one before it, and why it can't be put back."""
    statement = (
        select(Certificate)
        .join(Installation, col(Installation.certificate_id) == col(Certificate.id))
        .where(
            Installation.endpoint_id == endpoint.id,
            Installation.binding == binding,
            Installation.state == InstallState.COMPLETED,
            lookup.seen_by(context.actor, Certificate.organization_id, Certificate.department_id),
        )
        .order_by(col(Installation.installed_at).desc(), col(Installation.id).desc())
    )
    rows = session.exec(statement).all()
    current = next((row for row in rows if row.active), None)
    if current is None:
        return None, None, f"certgate has no certificate in use on {binding} of {endpoint.name}."
    previous = next((row for row in rows if row.id != current.id), None)
    if previous is None:
        told = f"Certificate {current.id} is the first that certgate installed on {binding} of {endpoint.name}: "
        return current, None, told + "what was served before it is not with certgate."
    statement_open = select(CertificateRequest).where(
        CertificateRequest.closed == False,  # noqa: E712
        CertificateRequest.endpoint_id == endpoint.id,
        CertificateRequest.binding == binding,
    )
    open_request = session.exec(statement_open).first()
    if open_request is not None:
        told = f"Request {open_request.id} is open for {binding} of {endpoint.name}: cancel it, or wait for its end."
        return current, previous, told
    return current, previous, unfit_to_return(previous, context.clock()) or _uncovered(session, endpoint, previous)


def _uncovered(session: Session, endpoint: Endpoint, previous: Certificate) -> str | None:
    before = session.get_one(CertificateRequest, previous.request_id)
    if before.origin == RequestOrigin.IMPORTED or not before.key_alias:
        return f"The key of certificate {previous.id} is in no keystore of ours: it can't be put back."
    if session.get(Gateway, before.gateway_id) is None or before.gateway_id != endpoint.gateway_id:
        return f"The key of certificate {previous.id} is at another gateway: it can't be put back."
    return None


def _request(
    context: Context, session: Session, owner: Gateway, current: Certificate, previous: Certificate, comment: str
) -> CertificateRequest:
    first = session.get_one(CertificateRequest, previous.request_id)
    now_used = session.get_one(CertificateRequest, current.request_id)
    if not access.gateway_serves(session, owner, previous.organization_id, previous.department_id):
        raise Conflict(f"Gateway {owner.name} does not serve the organization of certificate {previous.id} any more.")
    now = context.clock()
    return CertificateRequest(
        organization_id=previous.organization_id,
        department_id=previous.department_id,
        requester_id=context.actor.id,
        common_name=first.common_name,
        names=list(first.names),
        profile_id=first.profile_id,
        authority_id=first.authority_id,
        authority_chosen=first.authority_chosen,
        gateway_id=identity(owner),
        endpoint_id=now_used.endpoint_id,
        binding=now_used.binding,
        group_id=now_used.group_id,
        keystore_id=first.keystore_id,
        key_algorithm=first.key_algorithm,
        key_alias=first.key_alias,
        key_place=first.key_place,
        install_mode=now_used.install_mode,
        comments=comment or f"Puts certificate {previous.id} back in place of certificate {current.id}.",
        origin=RequestOrigin.ROLLBACK,
        reinstalls_certificate_id=previous.id,
        status=CertificateStatus.REQUESTED,
        install_state=InstallState.NOT_STARTED,
        issued_fingerprint=previous.fingerprint,
        created_at=now,
        updated_at=now,
    )


def bindings_with_previous(context: Context, gateway: str | int, endpoint: str | int) -> list[Return]:
    """For each binding of an endpoint what a rollback would do. Raises `NotFound`."""
    with context.database.read() as session:
        owner = lookup.gateway(session, context.actor, gateway)
        row = lookup.endpoint(session, owner, endpoint)
        names = session.exec(
            select(EndpointBinding.binding)
            .where(EndpointBinding.endpoint_id == row.id)
            .order_by(col(EndpointBinding.binding))
        ).all()
        number = identity(row)
    return [preview(context, gateway, number, name) for name in names]
