"""A gateway looks at something now, because somebody asked and is waiting: into a keystore, at an endpoint, at a CA."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from temporalio import workflow
from temporalio.exceptions import ApplicationError

from workflows import attributes, options
from workflows.steps import NotPickedUp, StepFailed, at_queue, records

with workflow.unsafe.imports_passed_through():
    from activities.authorities import AuthorityCheckRecords, AuthorityChecks
    from activities.endpoint_tests import EndpointTestRecords, EndpointTests
    from activities.keystores import KeystoreLooks, KeystoreRecords
    from connectors.cures import cure
    from model import messages as m

_PICK_UP = timedelta(seconds=30)


@workflow.defn(name="KeystoreLook")
class KeystoreLookWorkflow:
    """See what is in one keystore. Workflow id ``keystore-<keystore id>``, on the manager's task queue."""

    @workflow.run
    async def run(self, start: m.LookStart) -> m.KeystoreContents:
        """Have the gateway look, and keep what it saw."""
        admission = await records(KeystoreRecords.admit_look, start)
        workflow.upsert_search_attributes([attributes.GATEWAY.value_set(admission.gateway)])
        try:
            seen: m.KeystoreContents = await _asked(
                KeystoreLooks.look,
                m.LookIntoKeystore(admission.keystore, known=admission.known),
                admission.queue,
                admission.gateway,
            )
        except StepFailed as error:
            seen = m.KeystoreContents([], problem=error.message)
        await records(KeystoreRecords.record_look, m.RecordLook(start.id, start.asked_by, seen))
        return seen


@workflow.defn(name="EndpointTest")
class EndpointTestWorkflow:
    """Test the connection to one endpoint. Workflow id ``endpoint-test-<endpoint id>``, on the manager's task queue."""

    @workflow.run
    async def run(self, start: m.LookStart) -> m.EndpointReport:
        """Have the gateway test, and keep the outcome."""
        admission = await records(EndpointTestRecords.admit_endpoint_test, start)
        workflow.upsert_search_attributes([attributes.GATEWAY.value_set(admission.gateway)])
        try:
            report: m.EndpointReport = await _asked(
                EndpointTests.test, m.TestEndpoint(admission.endpoint), admission.queue, admission.gateway
            )
        except StepFailed as error:
            report = m.EndpointReport([], [], problem=error.message, cure=cure(error.message))
        await records(EndpointTestRecords.record_endpoint_test, m.RecordTest(start.id, start.asked_by, report))
        return report


@workflow.defn(name="AuthorityCheck")
class AuthorityCheckWorkflow:
    """Have one gateway ask one CA. Workflow id ``authority-check-<CA id>-<gateway id>``, on the manager's queue."""

    @workflow.run
    async def run(self, start: m.AuthorityCheckStart) -> m.AuthorityHealth:
        """What the CA says there."""
        admission = await records(AuthorityCheckRecords.admit_authority_check, start)
        workflow.upsert_search_attributes([attributes.GATEWAY.value_set(admission.gateway)])
        try:
            health: m.AuthorityHealth = await _asked(
                AuthorityChecks.check, m.CheckAuthority(admission.authority), admission.queue, admission.gateway
            )
        except StepFailed as error:
            return m.AuthorityHealth(False, error.message)
        return health


async def _asked(step: Callable[..., Any], wanted: object, queue: str, gateway: str) -> Any:
    """The gateway's answer. One that is away fails the workflow: whoever asks is waiting for the answer."""
    try:
        return await at_queue(step, wanted, queue=queue, how=options.LOOK, canceled=lambda: False, pick_up=_PICK_UP)
    except NotPickedUp:
        raise ApplicationError(
            f"Gateway {gateway} did not answer in {_PICK_UP.seconds} seconds: start it and ask again.",
            type="GatewayAway",
            non_retryable=True,
        ) from None
