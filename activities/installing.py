"""What the records keep of installs, shared by the steps that write it."""

from __future__ import annotations

from datetime import datetime

from sqlmodel import Session, select

from activities.inventory_seen import note_installed
from model.states import CertificateStatus, InstallState
from model.tables import Certificate, Endpoint, EndpointBinding, Installation


def keep_installation(
    session: Session, certificate_id: int, endpoint_id: int, binding: str, state: InstallState, now: datetime
) -> Installation:
    """The row of a certificate on a binding, made if there is none, with its new state."""
    statement = select(Installation).where(
        Installation.certificate_id == certificate_id,
        Installation.endpoint_id == endpoint_id,
        Installation.binding == binding,
    )
    row = session.exec(statement).one_or_none() or Installation(
        certificate_id=certificate_id, endpoint_id=endpoint_id, binding=binding, state=state, updated_at=now
    )
    row.state, row.updated_at = state, now
    if state == InstallState.COMPLETED:
        row.unserved_since = None
    session.add(row)
    return row


def serves(
    session: Session, endpoint_id: int, binding: str, fingerprint: str | None, message: str, now: datetime
) -> None:
    """An install ended: the binding serves this fingerprint, or (None) it failed and the endpoint has that as its last
    error."""
    endpoint = session.get_one(Endpoint, endpoint_id)
    endpoint.last_error = None if fingerprint is not None else message
    session.add(endpoint)
    if fingerprint is None:
        return
    at = select(EndpointBinding).where(EndpointBinding.endpoint_id == endpoint_id, EndpointBinding.binding == binding)
    row = session.exec(at).one_or_none()
    if row is not None:
        row.served_fingerprint = fingerprint
        session.add(row)
        note_installed(session, endpoint, row, now)


def unfit_to_return(certificate: Certificate | None, now: datetime) -> str | None:
    """Why a certificate must not be put back into use, or None."""
    if certificate is None:
        return "The certificate that was in use before is not in the records any more."
    label = f"Certificate {certificate.id}, which was in use before,"
    if certificate.status == CertificateStatus.REVOKED or certificate.found_revoked_at is not None:
        return f"{label} is revoked: it can't be put back into use."
    if certificate.not_after <= now:
        return f"{label} expired on {certificate.not_after:%Y-%m-%d %H:%M} UTC: it can't be put back into use."
    return None
