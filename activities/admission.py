"""A request comes in, its CSR comes back: both are checked again here, where nobody can go around it."""

from __future__ import annotations

from sqlmodel import Session, select
from temporalio import activity
from temporalio.exceptions import ApplicationError

from activities.installing import unfit_to_return
from activities.records import Records, authority_access, endpoint_access, gateway_place, keystore_access, load
from model import access, naming, x509
from model.errors import CertgateError
from model.messages import (
    AcceptCsr,
    Admission,
    CsrOutcome,
    Earlier,
    GatewayPlace,
    Progress,
    Reinstall,
    RequestAccess,
    RequestStart,
)
from model.rules import approval, certificates, names
from model.states import CertificateStatus, InstallState, KeyPlace, OrderWay, Outcome, Privilege, RequestOrigin
from model.tables import (
    Administrator,
    Certificate,
    CertificateAuthority,
    CertificateProfile,
    CertificateRequest,
    Decision,
    Endpoint,
    EndpointGroup,
    Gateway,
    Keystore,
    Organization,
)

_MADE = {KeyPlace.GATEWAY: "", KeyPlace.HSM: " in its HSM", KeyPlace.ENDPOINT: " at the endpoint"}


class Admissions(Records):
    """Steps on the manager up to the approval, and the plain progress of a request."""

    @activity.defn(name="records.admit")
    def admit(self, start: RequestStart) -> Admission:
        """Load the request and check delegation, names and the requester's right once more."""
        with self.writing() as session:
            request = load(session, start.request_id)
            self._guard(request)
            refused = self._refusal(session, request)
            if refused is not None:
                self.tell(session, request, "request.refused", refused, outcome=Outcome.REFUSED)
                return Admission(start.request_id, refused)
            request.started = True
            if request.install_state == InstallState.NOT_STARTED:
                request.install_state = InstallState.KEY_PROCESSING
            session.add(request)
            return self._admission(session, request)

    @activity.defn(name="records.request_place")
    def place(self, start: RequestStart) -> GatewayPlace:
        """Where the gateway of a request takes its work now, and whether it may still work for it."""
        with self.reading() as session:
            request = load(session, start.request_id)
            return gateway_place(session, session.get_one(Gateway, request.gateway_id), request)

    @activity.defn(name="records.request_access")
    def access(self, start: RequestStart) -> RequestAccess:
        """How CA, endpoint and keystore of a request are reached now: somebody may have mended their settings."""
        with self.reading() as session:
            request = load(session, start.request_id)
            endpoint = session.get(Endpoint, request.endpoint_id) if request.endpoint_id else None
            return RequestAccess(
                authority=authority_access(session.get_one(CertificateAuthority, request.authority_id)),
                keystore=keystore_access(session, request),
                endpoint=endpoint_access(endpoint) if endpoint else None,
            )

    @activity.defn(name="records.accept_csr")
    def accept_csr(self, came: AcceptCsr) -> CsrOutcome:
        """Check the CSR against what was asked; decide whether the policy needs a person.

        A host that was restored without its keystore makes another key: approvals bind to the CSR that they were given
        for, so they are void then, and the request is to be decided anew.
        """
        with self.writing() as session:
            request = load(session, came.request_id)
            try:
                certificates.check_signing_request(came.csr_pem, request.names, request.key_algorithm)
            except CertgateError as error:
                self.tell(session, request, "csr.refused", error.message, outcome=Outcome.REFUSED)
                return CsrOutcome(error.message, None)
            earlier = request.csr_pem
            if earlier is not None and _same_key(earlier, came.csr_pem):
                stays = None if earlier == came.csr_pem else earlier
                return CsrOutcome(None, self._automatic(session, request), stays)
            if earlier is None:
                told = f"Key {request.key_alias} is made{_MADE[came.key_place]} and its CSR checked."
                if request.reinstalls_certificate_id is not None:
                    told = f"Certificate {request.reinstalls_certificate_id} is to be put back into use."
                self.tell(session, request, "key.ready", told)
            else:
                self._void(session, request)
            request.csr_pem, request.key_place = came.csr_pem, came.key_place
            request.install_state = InstallState.KEY_READY
            request.updated_at = self._clock()
            session.add(request)
            approved = self._automatic(session, request)
            if approved is not None:
                request.status = CertificateStatus.APPROVED
                self.tell(session, request, "request.approved", f"Approved by policy: {approved}.")
            return CsrOutcome(None, approved)

    def _void(self, session: Session, request: CertificateRequest) -> None:
        """The key of the CSR before was lost: what was decided on it is decided no more."""
        void = session.exec(select(Decision).where(Decision.request_id == request.id)).all()
        for decision in void:
            session.delete(decision)
        session.flush()
        request.status = CertificateStatus.REQUESTED
        told = f"Key {request.key_alias} was lost with its host: another one is made and its CSR checked"
        told += f"; what was decided on the CSR before is void ({len(void)})." if void else "."
        self.tell(session, request, "key.replaced", told)

    @activity.defn(name="records.progress")
    def progress(self, made: Progress) -> None:
        """Show where the request stands, and tell it in the audit."""
        with self.writing() as session:
            request = load(session, made.request_id)
            request.status = made.status
            request.install_state = made.install_state
            request.reason = made.reason
            request.order_number = made.order_number or request.order_number
            if made.step == "order.placed":
                request.ordered_at = request.ordered_at or self._clock()
            request.closed = made.closed
            request.updated_at = self._clock()
            session.add(request)
            if made.audited:
                outcome = Outcome.FAILED if made.failed else Outcome.DONE
                self.tell(session, request, made.step, made.description, outcome=outcome)

    @staticmethod
    def _guard(request: CertificateRequest) -> None:
        """A request is carried out once, by its own workflow: nobody starts it again with the engine's tools."""
        assert request.id is not None
        own = naming.request_workflow(request.id)
        if activity.info().workflow_id != own:
            told = f"Request {request.id} is carried out by {own} and by no other workflow."
        elif request.closed:
            told = f"Request {request.id} has ended ({request.status}): submit a new one."
        else:
            return
        raise ApplicationError(told, type="Conflict", non_retryable=True)

    def _refusal(self, session: Session, request: CertificateRequest) -> str | None:
        gateway = session.get(Gateway, request.gateway_id)
        profile = session.get(CertificateProfile, request.profile_id)
        authority = session.get(CertificateAuthority, request.authority_id)
        requester = session.get(Administrator, request.requester_id)
        if gateway is None or profile is None or authority is None or requester is None:
            return "A record that this request needs was deleted: submit it again."
        if not access.gateway_serves(session, gateway, request.organization_id, request.department_id):
            return f"Gateway {gateway.name} is not delegated to this organization or department, or not active."
        if request.keystore_id is not None and session.get(Keystore, request.keystore_id) is None:
            return f"The keystore that this request chose was removed from gateway {gateway.name}: submit it again."
        if not authority.active and request.reinstalls_certificate_id is None:
            return f"CA {authority.name} is switched off."
        if request.group_id is not None and session.get(EndpointGroup, request.group_id) is None:
            return "The group that the certificate is for was removed: submit the request again."
        if request.reinstalls_certificate_id is not None:
            unfit = unfit_to_return(session.get(Certificate, request.reinstalls_certificate_id), self._clock())
            if unfit is not None:
                return unfit
        privilege = _privilege(request)
        # A renewal that the clock asked for runs under the right of whoever requested the first certificate.
        if not access.permitted(session, requester, privilege, access.scope_of(request)):
            return f"{requester.login} may no longer {privilege} certificates for this organization."
        try:
            names.normalize_names(request.common_name, request.names)
            names.check_allowed(request.names, profile.allowed_names)
        except CertgateError as error:
            return error.message
        return None

    def _admission(self, session: Session, request: CertificateRequest) -> Admission:
        gateway = session.get_one(Gateway, request.gateway_id)
        profile = session.get_one(CertificateProfile, request.profile_id)
        authority = session.get_one(CertificateAuthority, request.authority_id)
        requester = session.get_one(Administrator, request.requester_id)
        policy = access.policy_for(session, request.organization_id)
        endpoint = session.get(Endpoint, request.endpoint_id) if request.endpoint_id else None
        assert request.id is not None
        return Admission(
            request_id=request.id,
            refused=None,
            requester=requester.login,
            organization=session.get_one(Organization, request.organization_id).name,
            gateway_id=request.gateway_id,
            gateway=gateway.name,
            common_name=request.common_name,
            names=list(request.names),
            key_algorithm=request.key_algorithm,
            key_alias=request.key_alias,
            key_is_shared=request.key_alias != naming.key_alias(request.id),
            keystore=keystore_access(session, request),
            authority=authority_access(authority),
            # The profile's name for it means nothing to another CA.
            authority_profile=profile.authority_profile if request.authority_id == profile.authority_id else None,
            validity_seconds=profile.validity_seconds,
            custom_fields=dict(request.custom_fields),
            reference=naming.order_reference(access.installation(session), request.id),
            endpoint=endpoint_access(endpoint) if endpoint else None,
            binding=request.binding,
            install_mode=request.install_mode,
            four_eyes=policy.four_eyes,
            reminder_seconds=policy.reminder_seconds,
            expiry_seconds=policy.expiry_seconds,
            place=gateway_place(session, gateway, request),
            way=request.order_way,
            earlier=_earlier(session, request),
            order_reason=request.order_reason,
            key_place=request.key_place,
            group=session.get_one(EndpointGroup, request.group_id).name if request.group_id else None,
            reinstall=_reinstall(session, request),
        )

    def _automatic(self, session: Session, request: CertificateRequest) -> str | None:
        earlier = session.get(Certificate, request.renews_certificate_id) if request.renews_certificate_id else None
        same_names = False
        if earlier is not None:
            before = session.get_one(CertificateRequest, earlier.request_id)
            # What was imported was never approved here.
            same_names = before.origin != RequestOrigin.IMPORTED and set(before.names) == set(request.names)
        return approval.automatic(
            access.rules_of(access.policy_for(session, request.organization_id)),
            renewal=earlier is not None,
            same_names=same_names,
            requester=access.grants_of(session, request.requester_id),
            scope=access.scope_of(request),
        )


def _reinstall(session: Session, request: CertificateRequest) -> Reinstall | None:
    """The certificate that is put back into use; None where one is ordered."""
    number = request.reinstalls_certificate_id
    certificate = session.get(Certificate, number) if number is not None else None
    if certificate is None or certificate.id is None:
        return None
    csr_pem = session.get_one(CertificateRequest, certificate.request_id).csr_pem or ""
    return Reinstall(certificate.id, certificate.pem, list(certificate.chain_pem), certificate.fingerprint, csr_pem)


def _privilege(request: CertificateRequest) -> Privilege:
    """What the requester must be allowed to do."""
    if request.origin == RequestOrigin.ROLLBACK:
        return Privilege.INSTALL
    if request.order_way == OrderWay.REPLACE:
        return Privilege.REPLACE
    return Privilege.RENEW if request.renews_certificate_id is not None else Privilege.REQUEST


def _earlier(session: Session, request: CertificateRequest) -> Earlier | None:
    """What the request renews or replaces at its CA; None where that is of another CA, or is not to be built upon."""
    certificate = session.get(Certificate, request.renews_certificate_id) if request.renews_certificate_id else None
    if certificate is None or request.order_way == OrderWay.NEW:
        return None
    before = session.get_one(CertificateRequest, certificate.request_id)
    if before.authority_id != request.authority_id or before.order_number is None:
        return None
    ari_identifier = x509.ari_identifier(x509.load_certificate(certificate.pem))
    return Earlier(before.order_number, certificate.serial_number, ari_identifier)


def _same_key(one_csr: str, another_csr: str) -> bool:
    """Whether two CSRs are of one key."""
    one, another = x509.load_csr(one_csr), x509.load_csr(another_csr)
    return x509.public_key_sha256(one) == x509.public_key_sha256(another)
