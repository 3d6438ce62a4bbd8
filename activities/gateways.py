"""Where gateways are, and what is discovered on their endpoints: the manager's part of it."""

from __future__ import annotations

from sqlmodel import Session, select
from temporalio import activity
from temporalio.exceptions import ApplicationError

from activities.inventory_seen import keep_served, known_at
from activities.records import Records, endpoint_access, gateway_place, step_key
from model import access, audit
from model.messages import DiscoveryAdmission, DiscoveryStart, GatewayAsked, GatewayPlace, RecordDiscovery
from model.states import AccessMethod, EndpointStatus, Outcome
from model.tables import Endpoint, EndpointBinding, Gateway, Sighting


class Gateways(Records):
    """Steps on the manager about gateways and their endpoints."""

    @activity.defn(name="records.gateway_place")
    def place(self, asked: GatewayAsked) -> GatewayPlace:
        """Where a gateway takes its work now: on the queue of its live channel."""
        with self.reading() as session:
            gateway = session.get(Gateway, asked.gateway_id)
            if gateway is None:
                told = f"There is no gateway {asked.gateway_id} any more."
                raise ApplicationError(told, type="NotFound", non_retryable=True)
            return gateway_place(session, gateway)

    @activity.defn(name="records.admit_discovery")
    def admit_discovery(self, start: DiscoveryStart) -> DiscoveryAdmission:
        """Which gateway has to look, and at what."""
        with self.reading() as session:
            endpoint = _endpoint(session, start.endpoint_id)
            gateway = session.get_one(Gateway, endpoint.gateway_id)
            return DiscoveryAdmission(
                endpoint.gateway_id,
                gateway.name,
                endpoint_access(endpoint),
                channel=gateway.channel,
                known=known_at(session, Sighting.endpoint_id == endpoint.id),
            )

    @activity.defn(name="records.record_discovery")
    def record_discovery(self, found: RecordDiscovery) -> None:
        """Keep what was found: bindings that are gone go, others are brought up to date."""
        with self.writing() as session:
            endpoint = _endpoint(session, found.endpoint_id)
            discovery = found.discovery
            endpoint.status = EndpointStatus.INACTIVE if discovery.problem else EndpointStatus.ACTIVE
            endpoint.last_error, endpoint.last_cure = discovery.problem, discovery.cure
            session.add(endpoint)
            if discovery.problem is None:
                endpoint.discovered_at = self._clock()
                rows = session.exec(select(EndpointBinding).where(EndpointBinding.endpoint_id == endpoint.id)).all()
                known = {row.binding: row for row in rows}
                for binding in discovery.bindings:
                    row = known.pop(binding.binding, None)
                    row = row or EndpointBinding(endpoint_id=found.endpoint_id, binding=binding.binding)
                    row.names, row.listeners = list(binding.names), list(binding.listeners)
                    row.certificate_path, row.shared_with = binding.certificate_path, list(binding.shared_with)
                    row.obstacle, row.served_fingerprint = binding.obstacle, binding.served_fingerprint
                    session.add(row)
                for gone in known.values():
                    session.delete(gone)
                keep_served(session, endpoint, discovery.bindings, self._clock())
            scope = access.scope_of_gateway(session, session.get_one(Gateway, endpoint.gateway_id))
            told = discovery.problem or f"{len(discovery.bindings)} bindings were found on {endpoint.name}."
            audit.append(
                session,
                audit.Act(
                    actor=found.asked_by,
                    access_method=AccessMethod.WORKFLOW,
                    action="endpoint.discovered",
                    object_type="endpoint",
                    object_id=endpoint.id,
                    gateway_id=endpoint.gateway_id,
                    organization_id=scope.organization_id,
                    department_id=scope.department_id,
                    description=told,
                    outcome=Outcome.FAILED if discovery.problem else Outcome.DONE,
                    once=step_key("endpoint.discovered"),
                ),
                self._clock(),
            )


def _endpoint(session: Session, endpoint_id: int) -> Endpoint:
    endpoint = session.get(Endpoint, endpoint_id)
    if endpoint is None:
        raise ApplicationError(f"There is no endpoint {endpoint_id} any more.", type="NotFound", non_retryable=True)
    return endpoint
