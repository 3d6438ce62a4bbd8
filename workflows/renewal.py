"""A certificate in use: sleeps until its renewal is due, renews, and sleeps again if that failed.

A renewal or a replacement is also done at once on an administrator's word, or on a replacement campaign's, which is
answered when the request has ended. Its own end comes when the new certificate is served (that one has its own watch
then), when the certificate is revoked or replaced, or when it has expired and is not renewed by itself.
"""

from __future__ import annotations

from datetime import timedelta

from temporalio import workflow
from temporalio.exceptions import ApplicationError, ChildWorkflowError, WorkflowAlreadyStartedError

from workflows import attributes
from workflows.steps import records

with workflow.unsafe.imports_passed_through():
    from activities.renewals import Renewals
    from model import messages as m
    from model.naming import campaign_workflow, request_workflow, revocation_workflow
    from model.states import CertificateStatus, InstallState, OrderWay

# A wait is cut into pieces of this length, so that a rule that changes with a release is looked at within the month.
_LONGEST_SLEEP = timedelta(days=30)
# The request that renews is looked at this often if it runs under somebody else's hand.
_LOOK_AGAIN = timedelta(hours=1)
_STILL_OPEN = "is still open"


class _RunsElsewhere(Exception):
    """The request that renews runs under somebody else's hand, and something has changed."""


@workflow.defn(name="CertificateRenewal")
class CertificateRenewalWorkflow:
    """Watches over one certificate. Workflow id ``renewal-<certificate id>``, on the manager's task queue."""

    @workflow.init
    def __init__(self, start: m.RenewalStart) -> None:
        self._start = start
        self._failures = start.failures
        self._rest_until = start.rest_until
        self._word: m.OrderWord | None = None
        # Campaigns that ordered and are not yet answered.
        self._campaigns = list(start.campaigns)
        self._woken = False
        self._plan: m.RenewalPlan | None = None
        self._request_id: int | None = None
        self._ended = False

    @workflow.run
    async def run(self, start: m.RenewalStart) -> m.RenewalView:
        """Plan, wait, renew, until there is nothing left to watch."""
        while True:
            self._woken = False
            word = self._word
            plan = await records(
                Renewals.plan_renewal,
                m.PlanRenewal(
                    start.certificate_id,
                    word.administrator if word else None,
                    self._rest_until,
                    word.way if word else OrderWay.RENEW,
                ),
            )
            self._show(plan)
            if plan.step == "stop" and word is None and self._replaces():
                # The word came while the plan was made: what is revoked is over, but for a replacement.
                continue
            if plan.step == "stop":
                self._ended = True
                await self._answer(self._request_id, _problem(plan))
                await workflow.wait_condition(workflow.all_handlers_finished)
                return self.view()
            if plan.step == "wait":
                await self._sleep(plan)
            else:
                await self._renew(start.certificate_id, plan)
            if workflow.info().is_continue_as_new_suggested() and self._word is None:
                await workflow.wait_condition(workflow.all_handlers_finished)
                workflow.continue_as_new(
                    m.RenewalStart(start.certificate_id, self._failures, self._rest_until, self._campaigns)
                )

    async def _sleep(self, plan: m.RenewalPlan) -> None:
        pause = min(max(plan.at - workflow.now(), timedelta(seconds=1)), _LONGEST_SLEEP)
        try:
            await workflow.wait_condition(lambda: self._woken, timeout=pause)
        except TimeoutError:
            return

    async def _renew(self, certificate_id: int, plan: m.RenewalPlan) -> None:
        word, self._word = self._word, None
        opened = await records(Renewals.open_renewal, _wanted(certificate_id, plan, word))
        self._request_id = opened.request_id
        workflow.set_current_details(f"Being renewed by request {opened.request_id}.")
        try:
            reason = await self._run_request(opened.request_id)
        except _RunsElsewhere:
            # Whoever waits for its end is answered when that is known.
            return
        if reason is None:
            await self._answer(opened.request_id, None)
            if word is not None and word.revocation_reason is not None:
                await self._revoke(certificate_id, word, word.revocation_reason)
            return
        self._failures += 1
        rest = await records(
            Renewals.rest_renewal, m.RestRenewal(certificate_id, opened.request_id, self._failures, reason)
        )
        self._rest_until = rest.at
        self._request_id = None
        if not reason.endswith(_STILL_OPEN):
            await self._answer(opened.request_id, reason)

    async def _answer(self, request_id: int | None, problem: str | None) -> None:
        """Tell the campaigns that ordered how it ended."""
        waiting, self._campaigns = self._campaigns, []
        ended = m.CampaignItemEnded(self._start.certificate_id, request_id, problem)
        for campaign_id in waiting:
            campaign = workflow.get_external_workflow_handle(campaign_workflow(campaign_id))
            try:
                await campaign.signal("item_ended", ended)
            except ApplicationError:
                workflow.logger.info("campaign %s has ended and hears no answer", campaign_id)

    async def _revoke(self, certificate_id: int, word: m.OrderWord, reason: str) -> None:
        """Have the certificate revoked that has just been replaced."""
        comment = f"replaced: {word.reason}" if word.reason else "replaced"
        try:
            await workflow.start_child_workflow(
                "CertificateRevocation",
                m.RevocationStart(certificate_id, word.administrator, reason, comment),
                id=revocation_workflow(certificate_id),
                parent_close_policy=workflow.ParentClosePolicy.ABANDON,
            )
        except WorkflowAlreadyStartedError:
            workflow.logger.info("certificate %s is being revoked already", certificate_id)

    async def _run_request(self, request_id: int) -> str | None:
        """Run the request that renews; None when the new certificate is in use, else why it is not."""
        try:
            # By name: the request workflow starts renewals, so its module can't be imported here.
            result: m.RequestResult = await workflow.execute_child_workflow(
                "CertificateRequest",
                m.RequestStart(request_id),
                result_type=m.RequestResult,
                id=request_workflow(request_id),
                parent_close_policy=workflow.ParentClosePolicy.ABANDON,
            )
        except WorkflowAlreadyStartedError:
            # It runs since before this run of ours began; the plan changes as soon as it has replaced the certificate.
            try:
                await workflow.wait_condition(lambda: self._woken, timeout=_LOOK_AGAIN)
            except TimeoutError:
                return f"request {request_id} {_STILL_OPEN}"
            raise _RunsElsewhere from None
        except ChildWorkflowError:
            return f"request {request_id} was ended from outside"
        if result.status == CertificateStatus.ISSUED and result.install_state in (
            InstallState.COMPLETED,
            InstallState.NOT_CONFIGURED,
        ):
            return None
        return result.reason or f"request {request_id} ended as {result.status}"

    def _show(self, plan: m.RenewalPlan) -> None:
        first = self._plan is None
        self._plan = plan
        workflow.set_current_details(f"**{plan.common_name}**\n\n{plan.message}")
        if first and plan.gateway:
            workflow.upsert_search_attributes(
                [
                    attributes.GATEWAY.value_set(plan.gateway),
                    attributes.ORGANIZATION.value_set(plan.organization),
                    attributes.COMMON_NAME.value_set(plan.common_name),
                    attributes.STATUS.value_set(str(plan.status)),
                ]
            )

    @workflow.query
    def view(self) -> m.RenewalView:
        """When it will act and why."""
        plan = self._plan
        return m.RenewalView(
            certificate_id=self._start.certificate_id,
            step=plan.step if plan else "wait",
            at=plan.at if plan else None,
            message=plan.message if plan else "The plan is being made.",
            request_id=self._request_id,
        )

    @workflow.update
    async def renew(self, word: m.AdministratorWord) -> m.RenewalView:
        """Renew now. The door that sends this judged who asks; the request is judged again when it is admitted."""
        return await self._order(m.OrderWord(word.administrator))

    @renew.validator
    def _check_renew(self, word: m.AdministratorWord) -> None:
        self._refuse(word.administrator)

    @workflow.update
    async def replace(self, word: m.OrderWord) -> m.RenewalView:
        """Replace (or, by its `way`, renew) now; judged as `renew` is."""
        return await self._order(word)

    @replace.validator
    def _check_replace(self, word: m.OrderWord) -> None:
        self._refuse(word.administrator)

    async def _order(self, word: m.OrderWord) -> m.RenewalView:
        self._word, self._woken = word, True
        await workflow.wait_condition(lambda: self._request_id is not None or self._ended)
        return self.view()

    def _replaces(self) -> bool:
        return self._word is not None and self._word.way == OrderWay.REPLACE

    def _refuse(self, administrator: str) -> None:
        if self._ended:
            raise ApplicationError("Nothing watches over this certificate now.", type="Refused", non_retryable=True)
        if self._request_id is not None:
            raise ApplicationError(
                f"Request {self._request_id} renews this certificate already.", type="Refused", non_retryable=True
            )
        if not administrator.strip():
            raise ApplicationError("The administrator's login is missing.", type="Refused", non_retryable=True)

    @workflow.signal
    async def order(self, word: m.OrderWord) -> None:
        """Renew or replace now, without waiting for an answer. Where a request is open already it is not ordered
        anew, and a campaign is answered with the end of that one; where the watch has ended, at once."""
        if word.campaign_id is not None:
            self._campaigns.append(word.campaign_id)
        if self._ended:
            workflow.logger.info("an order for certificate %s came too late", self._start.certificate_id)
            assert self._plan is not None
            await self._answer(self._request_id, _problem(self._plan))
        elif self._request_id is not None or self._word is not None:
            workflow.logger.info("certificate %s is being renewed or replaced already", self._start.certificate_id)
        else:
            self._word, self._woken = word, True

    @workflow.signal
    def look_again(self) -> None:
        """Something about the certificate changed (revoked, replaced, automatic renewal on or off): plan anew."""
        self._woken = True


def _problem(plan: m.RenewalPlan) -> str | None:
    """What a campaign is told of a certificate that is watched no more: one that is replaced is what it wanted."""
    return None if plan.replaced else plan.message


def _wanted(certificate_id: int, plan: m.RenewalPlan, word: m.OrderWord | None) -> m.OpenRenewal:
    """As somebody asked, else as the plan says."""
    if word is None:
        return m.OpenRenewal(certificate_id, None, plan.way, plan.why)
    return m.OpenRenewal(
        certificate_id, word.administrator or None, word.way, word.reason, word.new_key, word.profile_id
    )
