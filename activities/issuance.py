"""A certificate comes from the CA: checked before it is kept, completed to a trust anchor, then planned for install."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from sqlmodel import Session, col, select
from temporalio import activity

from activities.installing import keep_installation, serves
from activities.records import Clock, Records, gateway_place, load
from connectors import public_roots
from model import x509
from model.database import Database
from model.errors import CertgateError
from model.messages import (
    AcceptCertificate,
    CertificateOutcome,
    FetchIssuers,
    InstallPlan,
    PlanInstall,
    Recorded,
    RecordInstall,
)
from model.rules import certificates, renewal, trust, windows
from model.states import CertificateStatus, InstallState, Outcome, RequestOrigin
from model.tables import (
    Certificate,
    CertificateAuthority,
    CertificateProfile,
    CertificateRequest,
    Endpoint,
    EndpointGroupMember,
    Gateway,
    TrustedCertificate,
)

# A CA's clock may be ahead of ours by this much.
_SKEW = timedelta(minutes=5)
_CURE = "add it to the trusted CA certificates (`certgate trust add`), and the request goes on by itself."


@dataclass(frozen=True)
class Fetching:
    """Whether issuers that are missing are fetched from where certificates say (caIssuers), and in which networks
    (CIDR) besides public addresses."""

    wanted: bool = True
    networks: Sequence[str] = ()


FETCHING = Fetching()


class Issuance(Records):
    """Steps on the manager from the CA's answer to the end of the request."""

    def __init__(self, database: Database, clock: Clock, fetching: Fetching = FETCHING) -> None:
        super().__init__(database, clock)
        self._fetching = fetching

    @activity.defn(name="records.accept_certificate")
    def accept_certificate(self, came: AcceptCertificate) -> CertificateOutcome:
        """Check it against the CSR, the names, the time and the trust anchors; keep it only if all of it holds.

        Its chain is completed from the CA's answer, the trusted CA certificates and what was fetched for it. It ends at
        a trusted root, or for a CA that is not private at a public one; what was fetched is no anchor, ever.
        """
        with self.writing() as session:
            request = load(session, came.request_id)
            kept = session.exec(select(Certificate).where(Certificate.request_id == came.request_id)).one_or_none()
            if kept is not None:
                return CertificateOutcome(None, None, kept.id, kept.fingerprint, list(kept.chain_pem))
            trusted = session.exec(select(TrustedCertificate)).all()
            profile = session.get_one(CertificateProfile, request.profile_id)
            anchors = [row.pem for row in trusted if row.is_root]
            if not session.get_one(CertificateAuthority, request.authority_id).is_private:
                anchors.append(public_roots.pem())
            request.missing_issuer, request.awaited_issuers, request.trust_told = None, [], None
            try:
                assert request.csr_pem is not None
                checked = certificates.check_issued(
                    came.certificate_pem,
                    came.chain_pem,
                    public_key_sha256=x509.public_key_sha256(x509.load_csr(request.csr_pem)),
                    names=request.names,
                    anchors=anchors,
                    intermediates=[*(row.pem for row in trusted if not row.is_root), *came.fetched_pem],
                    now=self._clock(),
                    clock_skew=_SKEW,
                    with_root=profile.include_root,
                )
            except x509.ChainIncomplete as error:
                return self._incomplete(session, request, came, error, trusted)
            except CertgateError as error:
                session.add(request)
                self.tell(session, request, "certificate.refused", error.message, outcome=Outcome.FAILED)
                return CertificateOutcome(error.message, None)
            leaf = x509.load_certificate(checked.certificate_pem)
            certificate = Certificate(
                request_id=came.request_id,
                organization_id=request.organization_id,
                department_id=request.department_id,
                common_name=request.common_name,
                pem=checked.certificate_pem,
                chain_pem=list(checked.chain_pem),
                serial_number=checked.serial_number,
                issuer=x509.distinguished_name(leaf.issuer),
                fingerprint=checked.fingerprint,
                not_before=leaf.not_valid_before_utc,
                not_after=leaf.not_valid_after_utc,
            )
            session.add(certificate)
            request.status = CertificateStatus.ISSUED
            request.issued_fingerprint = checked.fingerprint
            request.reason = None
            request.updated_at = self._clock()
            session.add(request)
            session.flush()
            self.tell(
                session,
                request,
                "certificate.issued",
                f"Certificate {checked.fingerprint} (serial {checked.serial_number}) was issued "
                f"until {leaf.not_valid_after_utc:%Y-%m-%d %H:%M} UTC.{_fetched(checked, came.fetched_pem)}",
            )
            return CertificateOutcome(None, None, certificate.id, checked.fingerprint, list(checked.chain_pem))

    def _incomplete(
        self,
        session: Session,
        request: CertificateRequest,
        came: AcceptCertificate,
        error: x509.ChainIncomplete,
        trusted: Sequence[TrustedCertificate],
    ) -> CertificateOutcome:
        """Say where the issuer may be had, if that was not tried; else keep whom the request waits for."""
        ends = [one for one in error.ends if x509.issuer_urls(one)]
        if ends and self._fetching.wanted and not came.looked:
            networks = [*self._fetching.networks, *session.get_one(CertificateAuthority, request.authority_id).networks]
            fetch = FetchIssuers([x509.to_pem(one) for one in ends], networks)
            return CertificateOutcome(None, error.message, missing_issuer=error.missing_issuer, fetch=fetch)
        told = " ".join([f"{error.message.rstrip('.')}: {_CURE}", *came.notes])
        if request.reason != told:
            self.tell(session, request, "chain.incomplete", told, outcome=Outcome.FAILED)
        request.missing_issuer, request.awaited_issuers = error.missing_issuer, list(error.awaited)
        request.trust_told = trust.standing(error.awaited, [(row.subject, row.fingerprint) for row in trusted])
        session.add(request)
        return CertificateOutcome(None, told, missing_issuer=error.missing_issuer)

    @activity.defn(name="records.plan_install")
    def plan_install(self, asked: PlanInstall) -> InstallPlan:
        """When may it start: at once, or when the endpoint's maintenance window opens."""
        with self.writing() as session:
            request = load(session, asked.request_id)
            now = self._clock()
            endpoint = session.get(Endpoint, request.endpoint_id) if request.endpoint_id else None
            window = None
            if endpoint is not None and endpoint.window_cron and not asked.at_once:
                window = windows.Window(endpoint.window_cron, endpoint.window_zone, endpoint.window_minutes)
            start = windows.earliest_start(window, now)
            waits = start > now
            request.install_state = InstallState.SCHEDULED if waits else InstallState.INSTALLING
            request.install_after = start if waits else None
            request.updated_at = now
            session.add(request)
            assert endpoint is not None
            message = f"The maintenance window of {endpoint.name} opens on {start:%Y-%m-%d %H:%M} UTC." if waits else ""
            place = gateway_place(session, session.get_one(Gateway, request.gateway_id), request)
            return InstallPlan(start if waits else None, message, place)

    @activity.defn(name="records.record_install")
    def record_install(self, done: RecordInstall) -> Recorded:
        """Keep what the install showed; when it is served, make the certificate active and say who watches over it."""
        with self.writing() as session:
            request = load(session, done.request_id)
            certificate = session.get_one(Certificate, done.certificate_id)
            now = self._clock()
            served = done.state == InstallState.COMPLETED
            request.status, request.install_state = done.status, done.state
            request.reason = None if served or done.state == InstallState.NOT_CONFIGURED else done.message
            request.served_fingerprint = done.served_after
            request.updated_at = now
            # Of a group each binding was recorded when its install ended.
            if request.endpoint_id is not None and request.binding is not None and request.group_id is None:
                self._record(session, request, done)
            ended = done.state in (InstallState.COMPLETED, InstallState.NOT_CONFIGURED)
            request.closed = ended
            session.add(request)
            action = {
                InstallState.COMPLETED: "certificate.installed",
                InstallState.NOT_CONFIGURED: "request.completed",
                InstallState.ROLLED_BACK: "install.rolled_back",
            }.get(done.state, "install.failed")
            self.tell(session, request, action, done.message, outcome=Outcome.DONE if ended else Outcome.FAILED)
            if not ended:
                return Recorded(None)
            certificate.active = True
            if request.origin == RequestOrigin.ROLLBACK:
                self._back_in_use(session, request, certificate)
            life = renewal.Life(
                fingerprint=certificate.fingerprint,
                not_before=certificate.not_before,
                not_after=certificate.not_after,
                status=certificate.status,
                auto_renew=certificate.auto_renew,
            )
            certificate.renew_at = renewal.due_at(life) if life.auto_renew else None
            certificate.ask_at = now
            session.add(certificate)
            self._replace(session, request, certificate)
            return Recorded(certificate.id)

    @staticmethod
    def _back_in_use(session: Session, request: CertificateRequest, certificate: Certificate) -> None:
        """A certificate that was replaced is in use again. It is not renewed by itself: somebody preferred it to its
        successor, and would get another successor at once."""
        certificate.status, certificate.replaced_by_id = CertificateStatus.ISSUED, None
        certificate.auto_renew = False
        certificate.renewal_note = f"Put back into use by request {request.id}; it is renewed when somebody says so."
        before = session.get_one(CertificateRequest, certificate.request_id)
        if before.status == CertificateStatus.REPLACED:
            before.status = CertificateStatus.ISSUED
            session.add(before)

    def _record(self, session: Session, request: CertificateRequest, done: RecordInstall) -> None:
        assert request.endpoint_id is not None
        assert request.binding is not None
        now = self._clock()
        row = keep_installation(session, done.certificate_id, request.endpoint_id, request.binding, done.state, now)
        row.attempts, row.verification = done.attempt, done.verification
        row.served_before = done.served_before or row.served_before
        row.served_after = done.served_after
        row.steps = [{"name": step.name, "outcome": step.outcome} for step in done.steps]
        row.message = done.message
        good = done.state == InstallState.COMPLETED
        row.installed_at = now if good else row.installed_at
        session.add(row)
        serves(session, request.endpoint_id, request.binding, done.served_after if good else None, done.message, now)

    def _replace(self, session: Session, request: CertificateRequest, new: Certificate) -> None:
        """The certificate that this one renews, and any other active one on the same binding or group, is replaced now.
        One that a group has is not replaced by what is installed on one of its bindings alone."""
        old = {request.renews_certificate_id} - {None}
        for endpoint_id, binding in self._places(session, request):
            if endpoint_id is None:
                continue
            on_binding = (
                select(Certificate.id)
                .join(CertificateRequest, col(Certificate.request_id) == col(CertificateRequest.id))
                .where(
                    CertificateRequest.endpoint_id == endpoint_id,
                    CertificateRequest.binding == binding,
                    col(CertificateRequest.group_id).is_(None) | (col(CertificateRequest.group_id) == request.group_id),
                    col(Certificate.active),
                    Certificate.id != new.id,
                )
            )
            old |= set(session.exec(on_binding).all())
        for certificate_id in old:
            certificate = session.get(Certificate, certificate_id)
            if certificate is None or certificate.id == new.id:
                continue
            certificate.active, certificate.replaced_by_id, certificate.renew_at = False, new.id, None
            if certificate.status in (CertificateStatus.ISSUED, CertificateStatus.EXPIRED):
                certificate.status = CertificateStatus.REPLACED
            session.add(certificate)
            before = session.get(CertificateRequest, certificate.request_id)
            if before is not None and before.status == CertificateStatus.ISSUED:
                before.status = CertificateStatus.REPLACED
                session.add(before)

    @staticmethod
    def _places(session: Session, request: CertificateRequest) -> list[tuple[int | None, str | None]]:
        if request.group_id is None:
            return [(request.endpoint_id, request.binding)]
        members = select(EndpointGroupMember).where(EndpointGroupMember.group_id == request.group_id)
        return [(member.endpoint_id, member.binding) for member in session.exec(members).all()]


def _fetched(checked: certificates.CheckedCertificate, fetched_pem: Sequence[str]) -> str:
    """Which part of its chain came neither from the CA nor from the trusted certificates."""
    used = [x509.load_certificate(pem) for pem in checked.chain_pem if pem in fetched_pem]
    names = ", ".join(x509.distinguished_name(one.subject) for one in used)
    return f" {names} of its chain was fetched from where its certificates say." if used else ""
