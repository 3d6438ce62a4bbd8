"""Many certificates are replaced: canaries first, the rest under a rate, and everybody stops when too much fails.

Each certificate is replaced by its own renewal workflow, which is told to order and tells when the request has ended.
Which certificates come next, and what became of the others, stands in the manager's records: this workflow keeps the
time, so its history is short, and whatever happens to it, it goes on where the records are.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from datetime import timedelta
from typing import Any

from temporalio import workflow
from temporalio.exceptions import ApplicationError

from workflows import attributes, options
from workflows.steps import records

with workflow.unsafe.imports_passed_through():
    from activities.campaigns import Campaigns
    from model import messages as m
    from model.states import CampaignState

# Signals beyond this number a run are dropped unheard: nobody makes the history grow by sending signals in a loop.
_HEARD_SIGNALS = 1000


@workflow.defn(name="ReplacementCampaign")
class ReplacementCampaignWorkflow:
    """One replacement campaign. Workflow id ``campaign-<id>``, on the manager's task queue."""

    @workflow.init
    def __init__(self, start: m.CampaignStart) -> None:
        self._id = start.campaign_id
        self._ended = list(start.ended)
        self._heard = 0
        self._standing: m.CampaignStanding | None = None
        self._woken = False
        self._stopped = False
        self._over = False

    @workflow.run
    async def run(self, _start: m.CampaignStart) -> m.CampaignView:
        """Carry the campaign through. Its life is a task of its own, so that a cancel of the workflow itself (Temporal
        CLI) is the same orderly cancel as an administrator's."""
        life = asyncio.create_task(self._live())
        while not life.done():
            try:
                await workflow.wait_condition(life.done)
            except asyncio.CancelledError:
                self._stopped = self._woken = True
        again = life.result()
        await workflow.wait_condition(workflow.all_handlers_finished)
        if self._stopped:
            raise asyncio.CancelledError
        if again:
            workflow.continue_as_new(m.CampaignStart(self._id, self._ended))
        return self.view()

    async def _live(self) -> bool:
        """Look, order, wait, until nothing is left to do; True when the history has become long."""
        while True:
            self._woken = False
            if self._stopped:
                await records(Campaigns.stop, m.CampaignStart(self._id))
            ended, self._ended = self._ended, []
            standing = await records(Campaigns.advance, m.AdvanceCampaign(self._id, ended))
            self._show(standing)
            if standing.hand_over:
                await self._hand_over(standing)
            if standing.over or self._stopped:
                self._over = True
                return False
            if workflow.info().is_continue_as_new_suggested():
                return True
            await self._rest(standing)

    async def _hand_over(self, standing: m.CampaignStanding) -> None:
        await workflow.execute_activity_method(
            Campaigns.hand_over,
            m.HandOver(self._id, standing.hand_over),
            start_to_close_timeout=options.ORDER.start_to_close,
            heartbeat_timeout=options.HEARTBEAT,
            retry_policy=options.ORDER.retry,
        )

    async def _rest(self, standing: m.CampaignStanding) -> None:
        try:
            await workflow.wait_condition(
                lambda: self._woken or len(self._ended) >= standing.wake_after,
                timeout=timedelta(seconds=standing.wait_seconds),
            )
        except TimeoutError:
            return

    def _show(self, standing: m.CampaignStanding) -> None:
        """Show where it stands to the Temporal CLI and UI; search attributes are written only when one changes."""
        self._standing = standing
        gone = standing.done + standing.failed + standing.skipped
        lines = [f"**Campaign {self._id}**: {standing.state}, {gone} of {standing.total}, {standing.failed} failed"]
        lines.append(
            f"{standing.rate_per_hour} an hour, {standing.at_once} at the same time; {standing.running} under way, "
            f"{standing.awaiting_approval} await approval, {standing.waiting} wait."
        )
        if standing.expected_at is not None:
            lines.append(f"Expected to end at {standing.expected_at:%Y-%m-%d %H:%M} UTC.")
        if standing.why:
            lines.append(standing.why)
        workflow.set_current_details("\n\n".join(lines))
        shown = workflow.info().typed_search_attributes
        wanted = [(attributes.STATUS, str(standing.state))]
        if standing.organization:
            wanted.append((attributes.ORGANIZATION, standing.organization))
        changes = [key.value_set(value) for key, value in wanted if shown.get(key) != value]
        if changes:
            workflow.upsert_search_attributes(changes)

    # --- what people and workflows say and ask ------------------------------------------------------------------------

    @workflow.query
    def view(self) -> m.CampaignView:
        """Where the campaign stands."""
        standing = self._standing
        if standing is None:
            return m.CampaignView(self._id, "", CampaignState.RUNNING, None)
        return m.CampaignView(
            campaign_id=self._id,
            name=standing.name,
            state=standing.state,
            why=standing.why,
            total=standing.total,
            waiting=standing.waiting,
            running=standing.running,
            awaiting_approval=standing.awaiting_approval,
            done=standing.done,
            failed=standing.failed,
            skipped=standing.skipped,
            rate_per_hour=standing.rate_per_hour,
            at_once=standing.at_once,
            expected_at=standing.expected_at,
            deadline_at=standing.deadline_at,
        )

    @workflow.signal
    def item_ended(self, ended: m.CampaignItemEnded | None = None) -> None:
        """The request of one certificate has ended. What counts is what the records say; this is when to look."""
        if ended is not None:
            self._ended.append(ended)

    @workflow.signal
    def look_again(self) -> None:
        """Something about the campaign was changed in the records: failed certificates are to be tried again."""
        self._woken = True

    @workflow.update
    async def pause(self, word: m.AdministratorWord) -> m.CampaignSaid:
        """Order nothing more; what was ordered comes to its end."""
        return await self._say("pause", word)

    @workflow.update
    async def resume(self, word: m.AdministratorWord) -> m.CampaignSaid:
        """Go on. Failures until now no longer count for a pause."""
        return await self._say("resume", word)

    @workflow.update
    async def cancel(self, word: m.AdministratorWord) -> m.CampaignSaid:
        """Order nothing more, for good; what was ordered comes to its end."""
        return await self._say("cancel", word)

    @workflow.update
    async def change_rate(self, rate: m.CampaignRate) -> m.CampaignSaid:
        """Go faster or slower from now on."""
        return await self._change_rate(rate)

    @pause.validator
    def _check_pause(self, word: m.AdministratorWord) -> None:
        self._check(word.administrator)
        if self._standing is not None and self._standing.state == CampaignState.PAUSED:
            raise _refusal(f"Campaign {self._id} is paused already.")

    @resume.validator
    def _check_resume(self, word: m.AdministratorWord) -> None:
        self._check(word.administrator)
        if self._standing is not None and self._standing.state == CampaignState.RUNNING:
            raise _refusal(f"Campaign {self._id} is running already.")

    @cancel.validator
    def _check_cancel(self, word: m.AdministratorWord) -> None:
        self._check(word.administrator)

    @change_rate.validator
    def _check_change_rate(self, rate: m.CampaignRate) -> None:
        self._check(rate.administrator)
        if rate.rate_per_hour is None and rate.at_once is None:
            raise _refusal(f"Say how many an hour, or how many at the same time, campaign {self._id} replaces.")

    # Signals take their word as optional: one that comes with nothing must not stop the workflow.

    @workflow.signal(name="pause")
    async def pause_signal(self, word: m.AdministratorWord | None = None) -> None:
        """As the update; the audit tells whether it counted."""
        if word is not None:
            await self._hear(self._say("pause", word))

    @workflow.signal(name="resume")
    async def resume_signal(self, word: m.AdministratorWord | None = None) -> None:
        """As the update; the audit tells whether it counted."""
        if word is not None:
            await self._hear(self._say("resume", word))

    @workflow.signal(name="cancel")
    async def cancel_signal(self, word: m.AdministratorWord | None = None) -> None:
        """As the update; the audit tells whether it counted."""
        if word is not None:
            await self._hear(self._say("cancel", word))

    @workflow.signal(name="change_rate")
    async def change_rate_signal(self, rate: m.CampaignRate | None = None) -> None:
        """As the update; the audit tells whether it counted."""
        if rate is not None:
            await self._hear(self._change_rate(rate))

    async def _hear(self, saying: Coroutine[Any, Any, m.CampaignSaid]) -> None:
        """A signal has no answer: a word that does not count is in the audit, and the workflow goes on."""
        self._heard += 1
        if self._heard > _HEARD_SIGNALS or self._over:
            saying.close()
            return
        try:
            await saying
        except ApplicationError as error:
            workflow.logger.info("a word that does not count: %s", error.message)

    async def _change_rate(self, rate: m.CampaignRate) -> m.CampaignSaid:
        said = m.SayCampaign(
            self._id, "change_rate", rate.administrator, rate.comment, rate.rate_per_hour, rate.at_once
        )
        return await self._judged(said)

    async def _say(self, what: str, word: m.AdministratorWord) -> m.CampaignSaid:
        return await self._judged(m.SayCampaign(self._id, what, word.administrator, word.comment))

    async def _judged(self, said: m.SayCampaign) -> m.CampaignSaid:
        outcome = await records(Campaigns.say, said)
        if outcome.refused is not None:
            raise _refusal(outcome.refused)
        self._woken = True
        return outcome

    def _check(self, administrator: str) -> None:
        if self._over:
            raise _refusal(f"Campaign {self._id} has ended.")
        if not administrator.strip():
            raise _refusal("The administrator's login is missing.")


def _refusal(message: str) -> ApplicationError:
    return ApplicationError(message, type="Refused", non_retryable=True)
