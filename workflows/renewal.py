"""A certificate in use: sleeps until its renewal is due, renews, and sleeps again if that failed.

Its own end comes when the new certificate is served (that one has its own watch then), when the certificate is revoked
or replaced, or when it has expired and is not renewed by itself.
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
    from model.naming import request_workflow
    from model.states import CertificateStatus, InstallState

# A wait is cut into pieces of this length, so that a rule that changes with a release is looked at within the month.
_LONGEST_SLEEP = timedelta(days=30)
# The request that renews is looked at this often if it runs under somebody else's hand.
_LOOK_AGAIN = timedelta(hours=1)


@workflow.defn(name="CertificateRenewal")
class CertificateRenewalWorkflow:
    """Watches over one certificate. Workflow id ``renewal-<certificate id>``, on the manager's task queue."""

    @workflow.init
    def __init__(self, start: m.RenewalStart) -> None:
        self._start = start
        self._failures = start.failures
        self._rest_until = start.rest_until
        self._asked_by: str | None = None
        self._woken = False
        self._plan: m.RenewalPlan | None = None
        self._request_id: int | None = None
        self._ended = False

    @workflow.run
    async def run(self, start: m.RenewalStart) -> m.RenewalView:
        """Plan, wait, renew, until there is nothing left to watch."""
        while True:
            self._woken = False
            plan = await records(
                Renewals.plan_renewal, m.PlanRenewal(start.certificate_id, self._asked_by, self._rest_until)
            )
            self._show(plan)
            if plan.step == "stop":
                self._ended = True
                await workflow.wait_condition(workflow.all_handlers_finished)
                return self.view()
            if plan.step == "wait":
                await self._sleep(plan)
            else:
                await self._renew(start.certificate_id)
            if workflow.info().is_continue_as_new_suggested() and self._asked_by is None:
                await workflow.wait_condition(workflow.all_handlers_finished)
                workflow.continue_as_new(m.RenewalStart(start.certificate_id, self._failures, self._rest_until))

    async def _sleep(self, plan: m.RenewalPlan) -> None:
        pause = min(max(plan.at - workflow.now(), timedelta(seconds=1)), _LONGEST_SLEEP)
        try:
            await workflow.wait_condition(lambda: self._woken, timeout=pause)
        except TimeoutError:
            return

    async def _renew(self, certificate_id: int) -> None:
        asked_by, self._asked_by = self._asked_by, None
        opened = await records(Renewals.open_renewal, m.OpenRenewal(certificate_id, asked_by))
        self._request_id = opened.request_id
        workflow.set_current_details(f"Being renewed by request {opened.request_id}.")
        reason = await self._run_request(opened.request_id)
        if reason is None:
            return
        self._failures += 1
        rest = await records(
            Renewals.rest_renewal, m.RestRenewal(certificate_id, opened.request_id, self._failures, reason)
        )
        self._rest_until = rest.at
        self._request_id = None

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
                return f"request {request_id} is still open"
            return None
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
        self._asked_by, self._woken = word.administrator, True
        await workflow.wait_condition(lambda: self._request_id is not None or self._ended)
        return self.view()

    @renew.validator
    def _check_renew(self, word: m.AdministratorWord) -> None:
        if self._ended:
            raise ApplicationError("Nothing watches over this certificate now.", type="Refused", non_retryable=True)
        if self._request_id is not None:
            raise ApplicationError(
                f"Request {self._request_id} renews this certificate already.", type="Refused", non_retryable=True
            )
        if not word.administrator.strip():
            raise ApplicationError("The administrator's login is missing.", type="Refused", non_retryable=True)

    @workflow.signal
    def look_again(self) -> None:
        """Something about the certificate changed (revoked, replaced, automatic renewal on or off): plan anew."""
        self._woken = True
