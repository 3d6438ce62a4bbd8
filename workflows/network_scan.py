"""A gateway looks through networks for certificates, once or again and again.

The record says how far it is, so that it goes on where it was, whatever process dies; each step is bounded in time and
in what it answers. It can be canceled at any time, and ends by itself when it has taken too long.
"""

from __future__ import annotations

from datetime import timedelta

from temporalio import workflow

from workflows import attributes, options
from workflows.steps import NotPickedUp, StepCanceled, StepFailed, at_queue, records

with workflow.unsafe.imports_passed_through():
    from activities.inventory_scans import Scanning, Scans
    from model import messages as m

_PICK_UP = timedelta(minutes=2)
_LONGEST_HISTORY = 1000
_LONGEST_SLEEP = timedelta(days=1)
_LONGEST_NAP = timedelta(minutes=30)


@workflow.defn(name="NetworkScan")
class NetworkScanWorkflow:
    """One scan with all its rounds. Workflow id ``network-scan-<scan id>``, on the manager's task queue."""

    @workflow.init
    def __init__(self, start: m.ScanStart) -> None:
        self._id = start.scan_id
        self._canceled = False
        self._woken = False
        self._away = 0
        self._gateway = ""
        self._position = 0
        self._total = 0
        self._message = "The scan begins."

    @workflow.run
    async def run(self, start: m.ScanStart) -> m.ScanView:
        """Do what the record says is to be done, until it says nothing more."""
        while True:
            self._woken = False
            plan = await records(Scans.plan_scan, start)
            if plan.ended and not self._woken:
                return self.view()
            if plan.ended:
                continue
            if plan.gateway != self._gateway:
                self._gateway = plan.gateway
                workflow.upsert_search_attributes([attributes.GATEWAY.value_set(plan.gateway)])
            if plan.part is None:
                assert plan.due_at is not None
                self._show(f"The next round begins at {plan.due_at:%Y-%m-%d %H:%M} UTC.")
                await self._sleep(min(plan.due_at - workflow.now(), _LONGEST_SLEEP))
            else:
                await self._round(plan, plan.part)
            if workflow.info().get_current_history_length() > _LONGEST_HISTORY and not self._canceled:
                workflow.continue_as_new(start)

    async def _round(self, plan: m.ScanPlan, part: m.ScanPart) -> None:
        """Look on until all was looked at, or the plan has to be made anew."""
        problem = None
        while not self._canceled:
            assert plan.deadline is not None
            if workflow.now() >= plan.deadline:
                problem = "It took longer than it may: look through less, faster, or with more time."
                break
            self._position = part.first
            try:
                found: m.ScanFound = await at_queue(
                    Scanning.scan,
                    part,
                    queue=plan.queue,
                    how=options.SCAN,
                    canceled=lambda: self._canceled,
                    pick_up=_PICK_UP,
                )
            except NotPickedUp:
                await self._nap(f"Gateway {plan.gateway} is away; the scan goes on when it is back.")
                return
            except StepCanceled:
                break
            except StepFailed as error:
                problem = error.message
                break
            self._away, self._total = 0, found.total
            kept = await records(Scans.keep_scan, m.KeepScan(self._id, plan.round, found))
            self._show(f"{found.next} of {found.total} addresses and ports were looked at.")
            if kept.over:
                break
            part = m.ScanPart(
                part.networks,
                part.services,
                part.server_names,
                kept.next,
                part.rate,
                part.at_once,
                part.timeout_seconds,
            )
            if workflow.info().get_current_history_length() > _LONGEST_HISTORY:
                return
        canceled = self._canceled
        await records(Scans.end_scan, m.EndScan(self._id, plan.round, problem, canceled))
        self._canceled = self._canceled and not canceled

    async def _nap(self, why: str) -> None:
        self._away += 1
        self._show(why)
        await records(Scans.note_scan, m.ScanNote(self._id, why))
        await self._sleep(min(timedelta(minutes=1) * 2 ** min(self._away - 1, 5), _LONGEST_NAP))

    async def _sleep(self, pause: timedelta) -> None:
        try:
            await workflow.wait_condition(
                lambda: self._woken or self._canceled, timeout=max(pause, timedelta(seconds=1))
            )
        except TimeoutError:
            return

    def _show(self, message: str) -> None:
        self._message = message
        workflow.set_current_details(message)

    @workflow.query
    def view(self) -> m.ScanView:
        """How far it is, and what it does or waits for."""
        return m.ScanView(self._id, self._gateway, self._position, self._total, self._message)

    @workflow.signal
    def look_again(self) -> None:
        """The record says something new: it is to begin at once, or was removed."""
        self._woken = True

    @workflow.signal
    def cancel(self) -> None:
        """End this round at once, and begin no other."""
        self._canceled = True
