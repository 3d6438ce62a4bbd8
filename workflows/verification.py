"""What is served is looked at again: for one installation, for all of a gateway, or for all."""

from __future__ import annotations

import dataclasses
import itertools
from datetime import timedelta

from temporalio import workflow

from workflows import attributes, options
from workflows.steps import NotPickedUp, StepFailed, at_queue, records

with workflow.unsafe.imports_passed_through():
    from activities.installation import Installations
    from activities.verification import Handshakes, Verifications
    from model import messages as m
    from model.naming import MANAGER_QUEUE, gateway_queue

_PICK_UP = timedelta(seconds=30)
_BATCHES_A_RUN = 100


@workflow.defn(name="Verification")
class VerificationWorkflow:
    """See `model.naming.verification_workflow` for its ids; on the manager's task queue."""

    @workflow.init
    def __init__(self, start: m.VerificationStart) -> None:
        self._looked, self._failed = start.looked, start.failed

    @workflow.run
    async def run(self, start: m.VerificationStart) -> m.VerificationCount:
        """Batch after batch, each of one gateway. One that is away is passed over, and that is told."""
        after = start.after
        for number in itertools.count(1):
            batch = await records(Verifications.plan_verification, dataclasses.replace(start, after=after))
            if batch.place is None:
                return self.view()
            after = batch.last
            workflow.upsert_search_attributes([attributes.GATEWAY.value_set(batch.place.gateway)])
            seen = await self._look(batch, batch.place)
            count = await records(Verifications.record_verification, m.RecordVerification(start.asked_by, seen))
            self._looked += count.looked
            self._failed += count.failed
            workflow.set_current_details(f"{self._looked} looked at, {self._failed} of them not as they should be.")
            if number == _BATCHES_A_RUN:
                workflow.continue_as_new(
                    dataclasses.replace(start, after=after, looked=self._looked, failed=self._failed)
                )
        raise AssertionError("counting has no end")

    async def _look(self, batch: m.VerificationBatch, place: m.GatewayPlace) -> list[m.TargetSeen]:
        try:
            found: m.TargetsSeen = await at_queue(
                Installations.verify,
                m.VerifyTargets(batch.targets),
                queue=gateway_queue(place.gateway_id, place.channel),
                how=options.LOOK,
                canceled=lambda: False,
                pick_up=_PICK_UP,
            )
            if any(target.from_manager for target in batch.targets):
                found = await at_queue(
                    Handshakes.look,
                    m.LookFrom(batch.targets, found.seen),
                    queue=MANAGER_QUEUE,
                    how=options.LOOK,
                    canceled=lambda: False,
                )
        except NotPickedUp:
            told = f"Gateway {place.gateway} did not answer in {_PICK_UP.seconds} seconds: start it and verify again."
            return [m.TargetSeen(target.installation_id, [], [], told) for target in batch.targets]
        except StepFailed as error:
            return [m.TargetSeen(target.installation_id, [], [], error.message) for target in batch.targets]
        return found.seen

    @workflow.query
    def view(self) -> m.VerificationCount:
        """How far it is."""
        return m.VerificationCount(self._looked, self._failed)
