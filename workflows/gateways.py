"""Gateways join and check in; their endpoints are discovered."""

from __future__ import annotations

from datetime import timedelta

from temporalio import workflow
from temporalio.exceptions import ApplicationError

from workflows import attributes, options
from workflows.steps import NotPickedUp, StepFailed, at_queue, records

with workflow.unsafe.imports_passed_through():
    from activities.enrollment import Enrollments
    from activities.gateways import Gateways
    from activities.installation import Installations
    from model import messages as m
    from model.naming import gateway_queue

_PICK_UP = timedelta(seconds=30)
_MOST_TOLD = 500


@workflow.defn(name="GatewayJoin")
class GatewayJoinWorkflow:
    """A gateway spends its enrollment token. Workflow id ``join-<gateway id>-…``, on the manager's task queue."""

    @workflow.run
    async def run(self, start: m.JoinStart) -> m.JoinResult:
        """Judge the token and agree on the channel."""
        return await records(Enrollments.join, start)


@workflow.defn(name="GatewayCheckIn")
class GatewayCheckInWorkflow:
    """A gateway that starts tells what it is. Workflow id ``check-in-<gateway>-<channel>``, on the manager's queue."""

    @workflow.run
    async def run(self, start: m.CheckInStart) -> m.CheckInResult:
        """Hear it, or tell the gateway that its channel is dead."""
        return await records(Enrollments.check_in, start)


@workflow.defn(name="EndpointDiscovery")
class EndpointDiscoveryWorkflow:
    """Look at one endpoint now. A gateway that is away fails it: whoever asks is waiting for the answer."""

    @workflow.run
    async def run(self, start: m.DiscoveryStart) -> m.Discovery:
        """Have the gateway read the endpoint's configuration, and keep what it found."""
        admission = await records(Gateways.admit_discovery, start)
        workflow.upsert_search_attributes([attributes.GATEWAY.value_set(admission.gateway)])
        try:
            found = await self._look(admission)
        except NotPickedUp:
            raise ApplicationError(
                f"Gateway {admission.gateway} did not answer in {_PICK_UP.seconds} seconds: start it and ask again.",
                type="GatewayAway",
                non_retryable=True,
            ) from None
        except StepFailed as error:
            found = m.Discovery([], problem=error.message)
        await records(Gateways.record_discovery, m.RecordDiscovery(start.endpoint_id, start.asked_by, found))
        if len(found.bindings) > _MOST_TOLD:
            # It is in the records; an answer of any size would be more than the engine takes.
            return m.Discovery([], found.problem, found.cure)
        return found

    async def _look(self, admission: m.DiscoveryAdmission) -> m.Discovery:
        """All bindings, in as many answers as that takes."""
        known, first, bindings = list(admission.known), 0, list[m.DiscoveredBinding]()
        while True:
            found: m.Discovery = await at_queue(
                Installations.discover,
                m.DiscoverEndpoint(admission.endpoint, known, first),
                queue=gateway_queue(admission.gateway_id, admission.channel),
                how=options.LOOK,
                canceled=lambda: False,
                pick_up=_PICK_UP,
            )
            bindings += found.bindings
            if found.problem is not None or found.next is None or found.next <= first:
                return m.Discovery(bindings, found.problem, found.cure)
            first = found.next
            known += [
                one.served_fingerprint for one in found.bindings if one.certificate_pem and one.served_fingerprint
            ]
