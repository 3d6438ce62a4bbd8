"""Renewal and revocation: what the records say, and what they are made to say."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from sqlmodel import Session, select
from temporalio import activity

from activities.records import Records, authority_access, step_key
from model import access, audit, naming
from model.messages import (
    OpenRenewal,
    PlanRenewal,
    RenewalOpened,
    RenewalPlan,
    RestRenewal,
    RevocationAdmission,
    RevocationResult,
    RevocationStart,
)
from model.rules import renewal
from model.rules.permissions import Scope
from model.states import AccessMethod, CertificateStatus, InstallState, KeyPlace, OrderWay, Outcome, Privilege
from model.tables import (
    Certificate,
    CertificateAuthority,
    CertificateProfile,
    CertificateRequest,
    Endpoint,
    Gateway,
    Organization,
)

_LONGEST_REASON = 256
_DOES: Mapping[OrderWay, str] = MappingProxyType(
    {OrderWay.RENEW: "Renews", OrderWay.REPLACE: "Replaces", OrderWay.NEW: "Takes the place of"}
)


class Renewals(Records):
    """Steps on the manager for certificates that are in use."""

    @activity.defn(name="records.plan_renewal")
    def plan_renewal(self, asked: PlanRenewal) -> RenewalPlan:
        """What is to be done about this certificate now; the plan is shown on its row."""
        with self.writing() as session:
            certificate = session.get(Certificate, asked.certificate_id)
            now = self._clock()
            if certificate is None:
                return RenewalPlan(renewal.Step.STOP, now, "The certificate's record was deleted.")
            life = renewal.Life(
                fingerprint=certificate.fingerprint,
                not_before=certificate.not_before,
                not_after=certificate.not_after,
                status=certificate.status,
                auto_renew=certificate.auto_renew,
                asked=asked.asked_by is not None,
                suggested=certificate.suggested_at,
                not_before_retry=asked.rest_until,
                disowned=certificate.found_revoked_at is not None and certificate.active,
                replacing=asked.way == OrderWay.REPLACE,
                replaced=certificate.replaced_by_id is not None,
            )
            plan = renewal.plan(life, now)
            if renewal.remaining(life, now).total_seconds() <= 0 and certificate.status == CertificateStatus.ISSUED:
                certificate.status = CertificateStatus.EXPIRED
                self._tell(session, certificate, "certificate.expired", "The certificate has expired.", Outcome.FAILED)
            certificate.renew_at = plan.at if plan.step == renewal.Step.WAIT else None
            certificate.renewal_note = plan.message
            session.add(certificate)
            request = session.get_one(CertificateRequest, certificate.request_id)
            return RenewalPlan(
                step=plan.step,
                at=plan.at,
                message=plan.message,
                gateway=session.get_one(Gateway, request.gateway_id).name,
                organization=session.get_one(Organization, certificate.organization_id).name,
                common_name=certificate.common_name,
                status=certificate.status,
                way=OrderWay.NEW if plan.reason == "DISOWNED" else OrderWay.RENEW,
                why="revoked by its CA" if plan.reason == "DISOWNED" else "",
                replaced=certificate.replaced_by_id is not None,
            )

    @activity.defn(name="records.open_renewal")
    def open_renewal(self, wanted: OpenRenewal) -> RenewalOpened:
        """The open request that renews this certificate, or a new one: same names and binding, new key by default."""
        with self.writing() as session:
            certificate = session.get_one(Certificate, wanted.certificate_id)
            statement = select(CertificateRequest).where(
                CertificateRequest.renews_certificate_id == wanted.certificate_id,
                CertificateRequest.closed == False,  # noqa: E712
            )
            open_request = session.exec(statement).first()
            if open_request is not None:
                assert open_request.id is not None
                return RenewalOpened(open_request.id)
            before = session.get_one(CertificateRequest, certificate.request_id)
            other = session.get(CertificateProfile, wanted.profile_id) if wanted.profile_id else None
            profile = other or session.get_one(CertificateProfile, before.profile_id)
            # A CA that was chosen stays chosen; else the profile decides, also when its CA was changed meanwhile.
            chosen = before.authority_chosen and other is None
            # The order of a certificate that is revoked is at its end.
            way = OrderWay.NEW if certificate.status == CertificateStatus.REVOKED else wanted.way
            asker = access.administrator_of(session, wanted.asked_by) if wanted.asked_by else None
            now = self._clock()
            request = CertificateRequest(
                organization_id=before.organization_id,
                department_id=before.department_id,
                requester_id=asker.id if asker and asker.id else before.requester_id,
                common_name=before.common_name,
                names=list(before.names),
                profile_id=profile.id or before.profile_id,
                authority_id=before.authority_id if chosen else profile.authority_id,
                authority_chosen=chosen,
                gateway_id=before.gateway_id,
                endpoint_id=before.endpoint_id,
                binding=before.binding,
                group_id=before.group_id,
                key_place=_key_place(session, before),
                keystore_id=before.keystore_id,
                key_algorithm=other.key_algorithm if other else before.key_algorithm,
                install_mode=before.install_mode,
                comments=f"{_DOES[way]} certificate {certificate.id}.",
                custom_fields=dict(before.custom_fields),
                renews_certificate_id=certificate.id,
                order_way=way,
                order_reason=wanted.reason[:_LONGEST_REASON],
                install_state=InstallState.NOT_STARTED,
                started=True,
                created_at=now,
                updated_at=now,
            )
            session.add(request)
            session.flush()
            assert request.id is not None
            new_key = not profile.reuse_key if wanted.new_key is None else wanted.new_key
            # The key of what was imported is not with us.
            new_key = new_key or request.key_algorithm != before.key_algorithm or not before.key_alias
            # At an endpoint each certificate has a key of its own; nor does a key move there.
            new_key = new_key or KeyPlace.ENDPOINT in (request.key_place, before.key_place)
            request.key_alias = naming.key_alias(request.id) if new_key else before.key_alias
            session.add(request)
            what = "Replacement" if wanted.way == OrderWay.REPLACE else "Renewal"
            why = f"asked by {wanted.asked_by}" if wanted.asked_by else "its time has come"
            why += f" ({wanted.reason})" if wanted.reason else ""
            self.tell(session, request, "request.submitted", f"{what} of certificate {certificate.id}: {why}.")
            return RenewalOpened(request.id)

    @activity.defn(name="records.rest_renewal")
    def rest_renewal(self, failed: RestRenewal) -> RenewalPlan:
        """A renewal did not succeed: tell it, and say when the next attempt is."""
        with self.writing() as session:
            certificate = session.get_one(Certificate, failed.certificate_id)
            now = self._clock()
            at = now + renewal.rest_after(failed.attempt, certificate.not_after - now)
            message = f"Renewal by request {failed.request_id} failed ({failed.reason}); "
            message += f"the next attempt is on {at:%Y-%m-%d %H:%M} UTC."
            certificate.renew_at, certificate.renewal_note = at, message
            session.add(certificate)
            self._tell(session, certificate, "renewal.failed", message, Outcome.FAILED)
            return RenewalPlan(renewal.Step.WAIT, at, message)

    @activity.defn(name="records.admit_revocation")
    def admit_revocation(self, start: RevocationStart) -> RevocationAdmission:
        """May this administrator revoke this certificate? What the CA then needs."""
        with self.writing() as session:
            certificate = session.get(Certificate, start.certificate_id)
            if certificate is None:
                return RevocationAdmission(f"There is no certificate {start.certificate_id}.")
            administrator = access.administrator_of(session, start.administrator)
            scope = Scope(certificate.organization_id, certificate.department_id)
            refused = None
            if administrator is None or not access.permitted(session, administrator, Privilege.REVOKE, scope):
                refused = (
                    f"{start.administrator} may not revoke certificate {start.certificate_id}: "
                    "the privilege 'revoke' for its organization is missing."
                )
            elif certificate.status == CertificateStatus.REVOKED:
                refused = f"Certificate {start.certificate_id} is revoked already."
            if refused is not None:
                self._tell(
                    session, certificate, "certificate.revoke", refused, Outcome.REFUSED, start.administrator[:128]
                )
                return RevocationAdmission(refused)
            request = session.get_one(CertificateRequest, certificate.request_id)
            authority = session.get_one(CertificateAuthority, request.authority_id)
            gateway = session.get_one(Gateway, request.gateway_id)
            return RevocationAdmission(
                refused=None,
                gateway_id=request.gateway_id,
                gateway=gateway.name,
                channel=gateway.channel,
                organization=session.get_one(Organization, certificate.organization_id).name,
                common_name=certificate.common_name,
                authority=authority_access(authority),
                order_number=request.order_number or "",
                certificate_pem=certificate.pem,
                serial_number=certificate.serial_number,
            )

    @activity.defn(name="records.record_revocation")
    def record_revocation(self, start: RevocationStart) -> RevocationResult:
        """The CA has revoked it: so say the records."""
        with self.writing() as session:
            certificate = session.get_one(Certificate, start.certificate_id)
            certificate.status = CertificateStatus.REVOKED
            certificate.active, certificate.renew_at = False, None
            certificate.revoked_at = certificate.revoked_at or self._clock()
            certificate.revocation_reason = start.reason
            certificate.renewal_note = "The certificate is revoked; nothing is to be renewed."
            session.add(certificate)
            request = session.get_one(CertificateRequest, certificate.request_id)
            request.status, request.updated_at = CertificateStatus.REVOKED, self._clock()
            session.add(request)
            message = f"Certificate {certificate.id} ({certificate.common_name}) was revoked, reason {start.reason}"
            message += f": {start.comment}" if start.comment else "."
            self._tell(session, certificate, "certificate.revoked", message, Outcome.DONE, start.administrator)
            assert certificate.id is not None
            return RevocationResult(certificate.id, True, message)

    def _tell(
        self,
        session: Session,
        certificate: Certificate,
        action: str,
        description: str,
        outcome: Outcome,
        actor: str = "certgate",
    ) -> None:
        request = session.get_one(CertificateRequest, certificate.request_id)
        act = audit.Act(
            actor=actor,
            access_method=AccessMethod.WORKFLOW,
            action=action,
            object_type="certificate",
            object_id=certificate.id,
            gateway_id=request.gateway_id,
            organization_id=certificate.organization_id,
            department_id=certificate.department_id,
            description=description,
            outcome=outcome,
            once=step_key(action),
        )
        audit.append(session, act, self._clock())


def _key_place(session: Session, before: CertificateRequest) -> KeyPlace:
    """Where the key of a renewal is to be made: at the endpoint if that is set there now."""
    endpoint = session.get(Endpoint, before.endpoint_id) if before.endpoint_id is not None else None
    wanted = endpoint is not None and endpoint.key_at_endpoint and before.group_id is None
    return KeyPlace.ENDPOINT if wanted else KeyPlace.GATEWAY
