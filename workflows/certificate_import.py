"""Certificates that a CA issued elsewhere are taken over: its list is read, and later what was chosen is fetched.

The records say how far it is, so that it goes on where it was, whatever process dies.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from temporalio import workflow
from temporalio.exceptions import WorkflowAlreadyStartedError

from workflows import options
from workflows.steps import NotPickedUp, StepCanceled, StepFailed, at_queue, records

with workflow.unsafe.imports_passed_through():
    from activities.importing import Imports, ImportsHere, Lists
    from model import messages as m
    from model.naming import MANAGER_QUEUE, renewal_workflow

_PICK_UP = timedelta(minutes=2)
_LONGEST_HISTORY = 1000


@workflow.defn(name="CertificateImport")
class CertificateImportWorkflow:
    """One import. Workflow id ``import-<import id>``, on the manager's task queue; it runs once to read the list and
    again to take what was chosen."""

    @workflow.init
    def __init__(self, start: m.ImportStart) -> None:
        self._id = start.import_id
        self._again = False

    @workflow.run
    async def run(self, start: m.ImportStart) -> m.ImportResult:
        """Do what the record says is to be done, until it says nothing more."""
        while True:
            self._again = False
            result = await self._carry_out(start)
            if not self._again:
                return result

    @workflow.signal
    def carry_on(self) -> None:
        """The record says something new: it may have been written after this run had done its part."""
        self._again = True

    async def _carry_out(self, start: m.ImportStart) -> m.ImportResult:
        admission = await records(Imports.admit_import, start)
        problem = admission.refused
        if problem is not None and not admission.step:
            return m.ImportResult(self._id, "", problem)
        if problem is None:
            workflow.set_current_details(f"Import from CA {admission.ca}: {admission.step}.")
            try:
                if admission.step == "listing":
                    await self._list(admission)
                else:
                    await self._take(admission)
            except (StepFailed, StepCanceled) as error:
                problem = str(error) or "It was canceled."
            except NotPickedUp:
                problem = f"Gateway {admission.gateway}, which reaches the CA, is away: go on when it is back."
        return await records(Imports.end_import, m.EndImport(self._id, admission.step, problem))

    async def _list(self, admission: m.ImportAdmission) -> None:
        page, offset, over = None, 0, False
        while not over:
            if admission.queue is None:
                kept: m.PageKept = await self._here(ImportsHere.list_here, m.ListPageHere(self._id, page, offset))
            else:
                assert admission.authority is not None
                wanted = m.ListPage(admission.authority, page, offset)
                listed: m.ListedPage = await self._there(Lists.list_page, wanted, admission.queue)
                kept = await records(Imports.keep_page, m.KeepPage(self._id, listed))
            page, offset, over = kept.page, kept.offset, kept.over

    async def _take(self, admission: m.ImportAdmission) -> None:
        while (chosen := await records(Imports.next_chosen, m.ImportStart(self._id))).lines:
            if admission.queue is None:
                taken: m.Taken = await self._here(ImportsHere.take_here, m.FetchHere(self._id, chosen.lines))
            else:
                assert admission.authority is not None
                wanted = m.FetchChosen(admission.authority, chosen.lines)
                fetched: list[m.FetchedCertificate] = await self._there(Lists.fetch, wanted, admission.queue)
                taken = await records(Imports.keep_fetched, m.KeepFetched(self._id, fetched))
            for certificate_id in taken.watch:
                await self._watch(certificate_id)
            if workflow.info().get_current_history_length() > _LONGEST_HISTORY:
                workflow.continue_as_new(m.ImportStart(self._id))

    async def _here(self, step: Any, wanted: object) -> Any:
        return await at_queue(step, wanted, queue=MANAGER_QUEUE, how=options.ASK, canceled=lambda: False)

    async def _there(self, step: Any, wanted: object, queue: str) -> Any:
        return await at_queue(step, wanted, queue=queue, how=options.ASK, canceled=lambda: False, pick_up=_PICK_UP)

    async def _watch(self, certificate_id: int) -> None:
        try:
            await workflow.start_child_workflow(
                "CertificateRenewal",
                m.RenewalStart(certificate_id),
                id=renewal_workflow(certificate_id),
                parent_close_policy=workflow.ParentClosePolicy.ABANDON,
            )
        except WorkflowAlreadyStartedError:
            return
