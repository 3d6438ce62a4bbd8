"""A certificate is revoked: judged, done at the CA, and only then told as done."""

from __future__ import annotations

from datetime import timedelta

from temporalio import workflow
from temporalio.exceptions import ApplicationError

from workflows import attributes, options
from workflows.steps import NotPickedUp, StepFailed, at_queue, queue_for, records

with workflow.unsafe.imports_passed_through():
    from activities.gateways import Gateways
    from activities.orders import Orders
    from activities.renewals import Renewals
    from model import messages as m
    from model.naming import renewal_workflow
    from model.states import CertificateStatus

# Whoever takes revocations may be away; then it is looked for anew.
_LOOK_AGAIN = timedelta(minutes=30)


@workflow.defn(name="CertificateRevocation")
class CertificateRevocationWorkflow:
    """One revocation. Workflow id ``revocation-<certificate id>``, on the manager's task queue."""

    @workflow.run
    async def run(self, start: m.RevocationStart) -> m.RevocationResult:
        """Revoke at the CA, trying until it answers; then stop the renewal."""
        admission = await records(Renewals.admit_revocation, start)
        if admission.refused is not None:
            raise ApplicationError(admission.refused, type="Refused", non_retryable=True)
        assert admission.authority is not None
        workflow.upsert_search_attributes(
            [
                attributes.GATEWAY.value_set(admission.gateway),
                attributes.ORGANIZATION.value_set(admission.organization),
                attributes.COMMON_NAME.value_set(admission.common_name),
                attributes.STATUS.value_set(str(CertificateStatus.REVOKED)),
            ]
        )
        workflow.set_current_details(f"Revoking **{admission.common_name}** ({start.reason}).")
        try:
            await self._revoke(admission, admission.authority, start.reason)
        except StepFailed as error:
            raise ApplicationError(error.message, type=error.kind, non_retryable=True) from None
        result = await records(Renewals.record_revocation, start)
        renewal = workflow.get_external_workflow_handle(renewal_workflow(start.certificate_id))
        try:
            await renewal.signal("look_again")
        except ApplicationError:
            workflow.logger.info("no renewal watches over certificate %s", start.certificate_id)
        return result

    async def _revoke(self, admission: m.RevocationAdmission, authority: m.AuthorityAccess, reason: str) -> None:
        wanted = m.RevokeCertificate(
            authority=authority,
            order_number=admission.order_number,
            certificate_pem=admission.certificate_pem,
            serial_number=admission.serial_number,
            reason=reason,
        )
        channel = admission.channel
        while True:
            try:
                await at_queue(
                    Orders.revoke,
                    wanted,
                    queue=queue_for(authority, admission.gateway_id, channel),
                    how=options.ORDER,
                    canceled=lambda: False,
                    pick_up=_LOOK_AGAIN,
                )
                return
            except NotPickedUp:
                # A CA that only the gateway reaches: it may be away, or on another channel since a restore.
                place = await records(Gateways.place, m.GatewayAsked(admission.gateway_id))
                channel = place.channel
