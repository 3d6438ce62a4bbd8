"""A certificate that was issued elsewhere is taken into the inventory: checked as far as that goes without its CSR."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlmodel import Session, select

from model import access, paths, x509
from model.errors import CertgateError
from model.rules import certificates, names, permissions, renewal
from model.states import CertificateStatus, InstallMode, InstallState, RequestOrigin
from model.tables import (
    Administrator,
    Certificate,
    CertificateAuthority,
    CertificateImport,
    CertificateProfile,
    CertificateRequest,
    Endpoint,
    EndpointBinding,
    Gateway,
    Organization,
    TrustedCertificate,
)


@dataclass(frozen=True)
class Given:
    """What is to be taken: the leaf, what came with it, and the CA's number for its order ("": not known)."""

    certificate_pem: str
    chain_pem: Sequence[str]
    order_number: str


@dataclass(frozen=True)
class Verdict:
    """`state` is ``imported``, ``known`` or ``refused``; `note` says why, or what is to be known of it."""

    state: str
    note: str | None
    certificate_id: int | None = None


@dataclass(frozen=True)
class _Checked:
    leaf: str
    chain: list[str]
    names: list[str]
    note: str | None


def refusal(session: Session, row: CertificateImport) -> str | None:
    """Why nothing may be imported this way now; None when it may."""
    administrator = session.get(Administrator, row.administrator_id)
    grants = access.grants_of(session, row.administrator_id)
    if administrator is None or not administrator.active or not permissions.visible(grants).everything:
        login = administrator.login if administrator else "The administrator who asked"
        return f"{login} may not import certificates: that is for administrators with the role MRAO."
    gateway = session.get(Gateway, row.gateway_id)
    if gateway is None or session.get(CertificateAuthority, row.authority_id) is None:
        return "The CA or the gateway of the import was removed: import again with another one."
    if not access.gateway_serves(session, gateway, row.organization_id, row.department_id):
        organization = session.get_one(Organization, row.organization_id).name
        return f"Gateway {gateway.name} does not serve {organization}: delegate it, or choose another gateway."
    return None


def take(session: Session, row: CertificateImport, given: Given, now: datetime) -> Verdict:
    """Take one certificate, with a closed request of its own that says where it came from."""
    profile = session.get_one(CertificateProfile, row.profile_id)
    try:
        leaf = x509.load_certificate(given.certificate_pem)
        known = session.exec(select(Certificate.id).where(Certificate.fingerprint == x509.fingerprint(leaf))).first()
        if known is not None:
            return Verdict("known", f"It is certificate {known} already.", known)
        checked = _check(session, given, profile, now)
    except CertgateError as error:
        return Verdict("refused", error.message)
    certificate = _keep(session, row, given, checked, profile, now)
    return Verdict("imported", checked.note, certificate.id)


def _check(session: Session, given: Given, profile: CertificateProfile, now: datetime) -> _Checked:
    leaf = x509.load_certificate(given.certificate_pem)
    if leaf.not_valid_after_utc <= now:
        raise certificates.Expired(f"It expired on {leaf.not_valid_after_utc:%Y-%m-%d %H:%M} UTC.")
    certificates.check_key_strength(leaf.public_key())
    present = x509.subject_names(leaf)
    if not present:
        raise certificates.WrongNames("It has no subject alternative name.")
    common = x509.common_name(leaf)
    wanted = names.normalize_names(common if common and common.lower() in present else present[0], present)
    names.check_allowed(wanted, profile.allowed_names)
    trusted = session.exec(select(TrustedCertificate)).all()
    anchors = [one for row in trusted if row.is_root for one in x509.load_certificates(row.pem)]
    pool = [one for pem in given.chain_pem for one in x509.load_certificates(pem)]
    pool += [one for row in trusted if not row.is_root for one in x509.load_certificates(row.pem)]
    note = None
    at = max(now, leaf.not_valid_before_utc)
    try:
        path = paths.verify_chain(leaf, pool, anchors, wanted, at)
        chain = path[1:-1] if x509.is_self_signed(path[-1]) else path[1:]
    except x509.ChainIncomplete as error:
        # Of what is in use elsewhere more can't be asked; it is said.
        chain, note = x509.order_chain(leaf, pool), error.message
    return _Checked(x509.to_pem(leaf), [x509.to_pem(one) for one in chain], wanted, note)


def _keep(
    session: Session,
    row: CertificateImport,
    given: Given,
    checked: _Checked,
    profile: CertificateProfile,
    now: datetime,
) -> Certificate:
    leaf = x509.load_certificate(checked.leaf)
    fingerprint = x509.fingerprint(leaf)
    endpoint, binding = _served_on(session, row.gateway_id, fingerprint)
    request = CertificateRequest(
        organization_id=row.organization_id,
        department_id=row.department_id,
        requester_id=row.administrator_id,
        common_name=checked.names[0],
        names=checked.names,
        profile_id=row.profile_id,
        authority_id=row.authority_id,
        gateway_id=row.gateway_id,
        endpoint_id=endpoint.id if endpoint else None,
        binding=binding,
        key_algorithm=x509.key_algorithm(leaf.public_key()) or profile.key_algorithm,
        install_mode=endpoint.install_mode if endpoint else InstallMode.AUTO,
        comments=f"Imported from CA {session.get_one(CertificateAuthority, row.authority_id).name} (import {row.id}).",
        origin=RequestOrigin.IMPORTED,
        status=CertificateStatus.ISSUED,
        install_state=InstallState.NOT_CONFIGURED,
        order_number=given.order_number[:128] or None,
        issued_fingerprint=fingerprint,
        served_fingerprint=fingerprint if endpoint else None,
        started=True,
        closed=True,
        created_at=now,
        updated_at=now,
    )
    session.add(request)
    session.flush()
    assert request.id is not None
    certificate = Certificate(
        request_id=request.id,
        organization_id=row.organization_id,
        department_id=row.department_id,
        common_name=request.common_name,
        pem=checked.leaf,
        chain_pem=checked.chain,
        serial_number=x509.serial_hex(leaf),
        issuer=x509.distinguished_name(leaf.issuer),
        fingerprint=fingerprint,
        not_before=leaf.not_valid_before_utc,
        not_after=leaf.not_valid_after_utc,
        active=True,
        auto_renew=row.auto_renew,
        ask_at=now,
    )
    if row.auto_renew:
        life = renewal.Life(
            fingerprint, certificate.not_before, certificate.not_after, CertificateStatus.ISSUED, auto_renew=True
        )
        certificate.renew_at = renewal.due_at(life)
    session.add(certificate)
    session.flush()
    return certificate


def _served_on(session: Session, gateway_id: int, fingerprint: str) -> tuple[Endpoint | None, str | None]:
    """Where the gateway saw it served: its renewal is installed there."""
    statement = (
        select(Endpoint, EndpointBinding.binding)
        .join(EndpointBinding, EndpointBinding.endpoint_id == Endpoint.id)  # type: ignore[arg-type]
        .where(Endpoint.gateway_id == gateway_id, EndpointBinding.served_fingerprint == fingerprint)
        .order_by(EndpointBinding.id)  # type: ignore[arg-type]
    )
    found = session.exec(statement).first()
    return (found[0], found[1]) if found else (None, None)
