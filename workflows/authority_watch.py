"""What a CA says of its certificates that are in use: asked in batches, as long as there is the CA.

It moves the renewals that the CA wants earlier, and sees to certificates that the CA has revoked. It keeps no list: the
records say who is due. A CA that does not answer is asked less and less often.
"""

from __future__ import annotations

from datetime import timedelta

from temporalio import workflow
from temporalio.exceptions import ApplicationError, WorkflowAlreadyStartedError

from workflows import options
from workflows.steps import NotPickedUp, StepCanceled, StepFailed, at_queue, records

with workflow.unsafe.imports_passed_through():
    from activities.standings import Standings
    from activities.watching import WatchedHere, Watching
    from model import messages as m
    from model.naming import MANAGER_QUEUE, gateway_queue, renewal_workflow

# Certificates that came into use meanwhile are found after this.
_LONGEST_SLEEP = timedelta(hours=1)
_SHORTEST_SLEEP = timedelta(seconds=30)
_LONGEST_AWAY = timedelta(hours=2)
# A gateway that is away is asked in the next round; the questions are not worth waiting for it.
_PICK_UP = timedelta(minutes=2)
_LONGEST_HISTORY = 1000


@workflow.defn(name="AuthorityWatch")
class AuthorityWatchWorkflow:
    """Watches over one CA's certificates. Workflow id ``authority-<CA id>``, on the manager's task queue."""

    @workflow.init
    def __init__(self, start: m.AuthorityWatchStart) -> None:
        self._id = start.authority_id
        self._away = start.away
        self._asked = 0
        self._woken = False
        self._hint = timedelta(0)
        self._plan: m.WatchPlan | None = None
        self._message = "The watch begins."

    @workflow.run
    async def run(self, _start: m.AuthorityWatchStart) -> m.AuthorityWatchView:
        """Ask, sleep, and ask again, until the CA is removed."""
        while True:
            self._woken = False
            plan = await records(Watching.plan_watch, m.PlanWatch(self._id))
            self._plan = plan
            if plan.ended:
                self._message = "The CA was removed."
                return self.view()
            answered = await self._round(plan)
            if workflow.info().get_current_history_length() > _LONGEST_HISTORY:
                workflow.continue_as_new(m.AuthorityWatchStart(self._id, self._away))
            if not answered or not plan.batches:
                await self._sleep(plan)

    async def _round(self, plan: m.WatchPlan) -> bool:
        """Ask about all that are due; False when the CA is away, and then the others are not asked about."""
        self._hint = timedelta(0)
        for batch in plan.batches:
            try:
                kept = await self._ask(batch)
            except NotPickedUp:
                kept = await self._put_off(batch, "The gateway that reaches the CA is away.")
            except (StepFailed, StepCanceled) as error:
                kept = await self._put_off(batch, str(error) or "The step was canceled.")
            self._asked += len(batch.certificate_ids)
            for certificate_id in (*kept.revoked, *kept.sooner):
                await self._wake(certificate_id)
            if kept.away:
                self._away += 1
                self._hint = timedelta(seconds=kept.after_seconds or 0.0)
                self._show(f"CA {plan.name} does not answer; asked {self._away} times.")
                return False
            self._away = 0
        self._show(f"{plan.watched} certificates of CA {plan.name} are watched over.")
        return True

    async def _ask(self, batch: m.WatchBatch) -> m.Kept:
        asked = m.AskHere(self._id, batch.certificate_ids)
        if batch.gateway_id is None:
            kept: m.Kept = await at_queue(
                WatchedHere.ask_here, asked, queue=MANAGER_QUEUE, how=options.ASK, canceled=lambda: False
            )
            return kept
        wanted = await records(Watching.load_asked, asked)
        findings: list[m.Finding] = await at_queue(
            Standings.ask,
            wanted,
            queue=gateway_queue(batch.gateway_id, batch.channel),
            how=options.ASK,
            canceled=lambda: False,
            pick_up=_PICK_UP,
        )
        return await records(Watching.keep_findings, m.KeepFindings(self._id, findings))

    async def _put_off(self, batch: m.WatchBatch, why: str) -> m.Kept:
        findings = [m.Finding(number, asked=False, problem=why, passing=True) for number in batch.certificate_ids]
        return await records(Watching.keep_findings, m.KeepFindings(self._id, findings))

    async def _wake(self, certificate_id: int) -> None:
        """Have the renewal plan anew; one that does not run is started."""
        name = renewal_workflow(certificate_id)
        try:
            await workflow.get_external_workflow_handle(name).signal("look_again")
        except ApplicationError:
            try:
                await workflow.start_child_workflow(
                    "CertificateRenewal",
                    m.RenewalStart(certificate_id),
                    id=name,
                    parent_close_policy=workflow.ParentClosePolicy.ABANDON,
                )
            except WorkflowAlreadyStartedError:
                workflow.logger.info("the renewal of certificate %s was started meanwhile", certificate_id)

    async def _sleep(self, plan: m.WatchPlan) -> None:
        if self._away:
            pause = max(min(timedelta(minutes=1) * 2 ** min(self._away - 1, 10), _LONGEST_AWAY), self._hint)
        else:
            until = plan.next_at - workflow.now() if plan.next_at is not None else _LONGEST_SLEEP
            pause = min(max(until, _SHORTEST_SLEEP), _LONGEST_SLEEP)
        try:
            await workflow.wait_condition(lambda: self._woken, timeout=pause)
        except TimeoutError:
            return

    def _show(self, message: str) -> None:
        self._message = message
        workflow.set_current_details(message)

    @workflow.query
    def view(self) -> m.AuthorityWatchView:
        """What it did in this run, and when it acts next."""
        plan = self._plan
        return m.AuthorityWatchView(
            authority_id=self._id,
            name=plan.name if plan else "",
            watched=plan.watched if plan else 0,
            asked=self._asked,
            next_at=plan.next_at if plan else None,
            away=self._away,
            message=self._message,
        )

    @workflow.signal
    def look_again(self) -> None:
        """Something changed (a certificate came into use, the CA was edited or removed): look at once."""
        self._woken = True
