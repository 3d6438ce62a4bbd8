"""The connection to an endpoint is tested: on the gateway that reaches it, and the manager keeps the outcome."""

from __future__ import annotations

from dataclasses import replace

from sqlmodel import Session
from temporalio import activity
from temporalio.exceptions import ApplicationError

from activities.failures import as_failures, heartbeating
from activities.installation import look
from activities.inventory_seen import keep_served
from activities.keys import open_endpoint
from activities.records import Records, endpoint_access, step_key
from connectors.cures import cure
from connectors.errors import ConnectorError, Permanent
from connectors.hosts.contract import Host
from connectors.registry import OWN_INTERFACE, WITHOUT_FILES, Surroundings, find
from model import access, audit
from model.messages import (
    DiscoveredBinding,
    EndpointAccess,
    EndpointReport,
    LookStart,
    RecordTest,
    TestAdmission,
    TestEndpoint,
    TestStep,
)
from model.naming import gateway_queue
from model.states import AccessMethod, EndpointStatus, Outcome
from model.tables import Endpoint, Gateway


class EndpointTests:
    """Runs on a gateway."""

    def __init__(self, surroundings: Surroundings) -> None:
        self._surroundings = surroundings

    @activity.defn(name="endpoints.test")
    async def test(self, wanted: TestEndpoint) -> EndpointReport:
        """Reach the host, find the product, read its configuration, look at what each binding serves. Only looks."""
        steps: list[TestStep] = []
        doing = ["testing"]
        with as_failures():
            async with heartbeating(lambda: doing[0]):
                try:
                    bindings = await self._tried(wanted.endpoint, steps, doing)
                except ConnectorError as error:
                    steps.append(TestStep(doing[0], False, error.message))
                    return EndpointReport(steps, [], error.message, cure(error.message, type(error)))
                return EndpointReport(steps, bindings)

    async def _tried(self, access: EndpointAccess, steps: list[TestStep], doing: list[str]) -> list[DiscoveredBinding]:
        def passed(told: str) -> None:
            steps.append(TestStep(doing[0], True, told))

        doing[0] = "Settings"
        endpoint = open_endpoint(access, self._surroundings)
        kind = find("endpoints", access.type)
        if access.connection == OWN_INTERFACE:
            passed(f"{kind.title} by its own interface.")
        else:
            passed(f"{kind.title} over {find('hosts', access.connection).title}.")

        if access.connection not in {OWN_INTERFACE, *WITHOUT_FILES}:
            doing[0] = "Host"
            host_kind = find("hosts", access.connection)
            host: Host = host_kind.open(host_kind.configure(access.connection_settings), self._surroundings)
            if await host.state("/") is None:
                raise Permanent(f"The host {host.address} has no file system that certgate can look at.")
            passed(f"{host.address} answers.")

        doing[0] = "Configuration"
        found = await endpoint.discover()
        await endpoint.check()
        passed(f"It reads and is sound; {len(found)} binding{'s' if len(found) != 1 else ''} with TLS.")

        doing[0] = "Product"
        if not await endpoint.running():
            raise Permanent(f"{endpoint.title} is not running.")
        passed(f"{endpoint.title} runs.")

        doing[0] = "Bindings"
        # Certificates stay here: what a test sees for the first time comes into the inventory by the next discovery.
        seen = [replace(await look(binding), certificate_pem=None) for binding in found]
        serving = sum(binding.served_fingerprint is not None for binding in seen)
        blocked = [binding for binding in seen if binding.obstacle]
        told = f"{serving} of {len(seen)} serve a certificate"
        told += f"; on {len(blocked)} nothing can be installed: {blocked[0].obstacle}" if blocked else "."
        passed(told)
        return seen


class EndpointTestRecords(Records):
    """Runs on the manager."""

    @activity.defn(name="records.admit_endpoint_test")
    def admit_endpoint_test(self, start: LookStart) -> TestAdmission:
        """Which endpoint, and where its gateway listens."""
        with self.reading() as session:
            endpoint = _endpoint(session, start.id)
            gateway = session.get_one(Gateway, endpoint.gateway_id)
            return TestAdmission(
                gateway.name, gateway_queue(endpoint.gateway_id, gateway.channel), endpoint_access(endpoint)
            )

    @activity.defn(name="records.record_endpoint_test")
    def record_endpoint_test(self, tested: RecordTest) -> None:
        """Keep the outcome; bindings stay as they were discovered."""
        with self.writing() as session:
            endpoint = _endpoint(session, tested.id)
            gateway = session.get_one(Gateway, endpoint.gateway_id)
            report = tested.report
            endpoint.last_error, endpoint.last_cure, endpoint.tested_at = report.problem, report.cure, self._clock()
            if report.problem is not None:
                endpoint.status = EndpointStatus.INACTIVE
            elif endpoint.status in (EndpointStatus.INIT, EndpointStatus.INACTIVE):
                # One that waits for a restart goes on waiting: a test does not see that it is done.
                endpoint.status = EndpointStatus.ACTIVE
            session.add(endpoint)
            if report.problem is None:
                keep_served(session, endpoint, report.bindings, self._clock())
            scope = access.scope_of_gateway(session, gateway)
            audit.append(
                session,
                audit.Act(
                    actor=tested.asked_by,
                    access_method=AccessMethod.WORKFLOW,
                    action="endpoint.tested",
                    object_type="endpoint",
                    object_id=endpoint.id,
                    gateway_id=endpoint.gateway_id,
                    organization_id=scope.organization_id,
                    department_id=scope.department_id,
                    description=report.problem or f"Endpoint {endpoint.name} passed the test of its connection.",
                    outcome=Outcome.FAILED if report.problem else Outcome.DONE,
                    once=step_key("endpoint.tested"),
                ),
                self._clock(),
            )


def _endpoint(session: Session, number: int) -> Endpoint:
    endpoint = session.get(Endpoint, number)
    if endpoint is None:
        raise ApplicationError(f"There is no endpoint {number} any more.", type="NotFound", non_retryable=True)
    return endpoint
