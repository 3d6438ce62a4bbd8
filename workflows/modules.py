"""A gateway's modules are brought together with the manager's records, however long the gateway is away."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

from temporalio import workflow

from workflows import attributes, options
from workflows.steps import NotPickedUp, StepCanceled, StepFailed, at_queue, records

with workflow.unsafe.imports_passed_through():
    from activities.modules import Modules
    from activities.modules_records import ModuleRecords
    from model import messages as m

# After the first the faces say that the gateway is away. Each time it is asked anew where the gateway is, and whether
# the order still holds: a restored gateway has another queue.
_PICK_UP = (timedelta(seconds=3), timedelta(minutes=1), timedelta(minutes=5), timedelta(minutes=15))


class _Ended(Exception):
    """The order does not go on."""


@workflow.defn(name="GatewaySync")
class GatewaySyncWorkflow:
    """One order to compare a gateway's modules with the manager's records, or to bring both together.

    Workflow id ``sync-<gateway id>``, on the manager's task queue. What was ordered, and by whom, stands in the
    manager's records. Killed at any point it goes on; ended by force at any point, the next order does what is left.
    """

    @workflow.init
    def __init__(self, start: m.SyncStart) -> None:
        self._start = start
        self._gateway = ""
        self._waiting_for = "the manager"
        self._nudged = False

    @workflow.run
    async def run(self, start: m.SyncStart) -> m.SyncResult:
        """Read at the gateway, judge at the manager, write at the gateway, settle at the manager."""
        try:
            return await self._bring_together(start)
        except _Ended as ended:
            return m.SyncResult("ended", str(ended))
        except StepFailed as error:
            return await records(ModuleRecords.fail, m.FailSync(start.gateway_id, start.number, error.message))

    @workflow.signal
    def nudge(self) -> None:
        """Look at the order again: it was canceled, or the gateway's channel was changed."""
        self._nudged = True

    @workflow.query
    def view(self) -> m.SyncView:
        """Where it stands."""
        return m.SyncView(self._start.gateway_id, self._start.number, self._gateway, self._waiting_for)

    async def _bring_together(self, start: m.SyncStart) -> m.SyncResult:
        write = start.resume
        if write is None:
            read: m.ModulesRead = await self._at_gateway(Modules.read, m.ReadModules(start.gateway_id))
            self._waiting_for = "the manager"
            judged = await records(ModuleRecords.judge, m.JudgeModules(start.gateway_id, start.number, read))
            if judged.write is None:
                return m.SyncResult(judged.state, judged.message)
            write = judged.write
        written: m.ModulesWritten = await self._at_gateway(Modules.write, write)
        self._waiting_for = "the manager"
        return await records(ModuleRecords.settle, m.SettleModules(start.gateway_id, start.number, written))

    async def _at_gateway(self, step: Any, arg: Any) -> Any:
        """Have the gateway do a step, whenever it is there. Raises `_Ended`, `StepFailed`."""
        writing = arg if isinstance(arg, m.WriteModules) else None
        tried = 0
        while True:
            self._nudged = False
            admission = await records(
                ModuleRecords.admit,
                m.AdmitSync(self._start.gateway_id, self._start.number, waiting=tried > 0, writing=writing is not None),
            )
            if admission.ended is not None:
                raise _Ended(admission.ended)
            if not self._gateway:
                workflow.upsert_search_attributes([attributes.GATEWAY.value_set(admission.gateway)])
                self._gateway = admission.gateway
            self._waiting_for = f"gateway {admission.gateway}"
            try:
                return await at_queue(
                    step,
                    arg,
                    queue=admission.queue,
                    how=options.LOOK,
                    canceled=lambda: self._nudged,
                    pick_up=_PICK_UP[min(tried, len(_PICK_UP) - 1)],
                )
            except NotPickedUp:
                tried += 1
            except StepCanceled:
                pass
            if workflow.info().is_continue_as_new_suggested():
                await workflow.wait_condition(workflow.all_handlers_finished)
                workflow.continue_as_new(replace(self._start, resume=writing))
