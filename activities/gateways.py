"""Gateways join, and endpoints are discovered: the manager's part of it."""

from __future__ import annotations

import hmac

from sqlmodel import Session, select
from temporalio import activity
from temporalio.exceptions import ApplicationError

from activities.records import Records, endpoint_access, step_key
from model import audit
from model.messages import DiscoveryAdmission, DiscoveryStart, JoinResult, JoinStart, RecordDiscovery
from model.states import AccessMethod, EndpointStatus, Outcome
from model.tables import Endpoint, EndpointBinding, Gateway


class Gateways(Records):
    """Steps on the manager about gateways and their endpoints."""

    @activity.defn(name="records.join")
    def join(self, asked: JoinStart) -> JoinResult:
        """Spend an enrollment token. A token used twice, expired or for a deleted gateway is refused, and audited."""
        with self.writing() as session:
            gateway = session.get(Gateway, asked.gateway_id)
            once = step_key("gateway.joined")
            if gateway is None:
                return JoinResult(f"There is no gateway {asked.gateway_id} any more: ask for a new token.")
            if self.told(session, "gateway.joined"):
                return JoinResult(None, gateway.name)
            refused = None
            if gateway.token_digest is None:
                refused = f"The token of gateway {gateway.name} was used before: restore the gateway to get a new one."
            elif not hmac.compare_digest(gateway.token_digest, asked.token_digest):
                refused = f"This is not the token that gateway {gateway.name} was given last."
            elif gateway.token_expires_at is None or gateway.token_expires_at <= self._clock():
                refused = f"The token of gateway {gateway.name} has expired: ask for a new one."
            if refused is None:
                gateway.token_digest = gateway.token_expires_at = None
                gateway.joined_at, gateway.version, gateway.os = self._clock(), asked.version[:64], asked.os[:128]
                session.add(gateway)
            audit.append(
                session,
                audit.Act(
                    actor=f"gateway {gateway.name}",
                    access_method=AccessMethod.GATEWAY,
                    action="gateway.joined",
                    object_type="gateway",
                    object_id=gateway.id,
                    gateway_id=gateway.id,
                    description=refused or f"Gateway {gateway.name} joined from {asked.os[:128]}.",
                    outcome=Outcome.REFUSED if refused else Outcome.DONE,
                    once=once,
                ),
                self._clock(),
            )
            return JoinResult(refused, gateway.name if refused is None else "")

    @activity.defn(name="records.admit_discovery")
    def admit_discovery(self, start: DiscoveryStart) -> DiscoveryAdmission:
        """Which gateway has to look, and at what."""
        with self.reading() as session:
            endpoint = _endpoint(session, start.endpoint_id)
            gateway = session.get_one(Gateway, endpoint.gateway_id)
            return DiscoveryAdmission(endpoint.gateway_id, gateway.name, endpoint_access(endpoint))

    @activity.defn(name="records.record_discovery")
    def record_discovery(self, found: RecordDiscovery) -> None:
        """Keep what was found: bindings that are gone go, others are brought up to date."""
        with self.writing() as session:
            endpoint = _endpoint(session, found.endpoint_id)
            discovery = found.discovery
            endpoint.status = EndpointStatus.INACTIVE if discovery.problem else EndpointStatus.ACTIVE
            endpoint.last_error = discovery.problem
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
