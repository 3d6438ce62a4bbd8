"""A CA is asked whether it can be used, on the gateway that reaches it."""

from __future__ import annotations

from temporalio import activity

from activities.failures import as_failures, heartbeating
from activities.records import Records, authority_access
from connectors.errors import ConnectorError
from connectors.registry import Surroundings, find
from model.messages import (
    AuthorityCheckAdmission,
    AuthorityCheckStart,
    AuthorityDetail,
    AuthorityHealth,
    CheckAuthority,
)
from model.naming import gateway_queue
from model.tables import CertificateAuthority, Gateway


class AuthorityChecks:
    """Runs on a gateway."""

    def __init__(self, surroundings: Surroundings) -> None:
        self._surroundings = surroundings

    @activity.defn(name="authorities.check")
    async def check(self, wanted: CheckAuthority) -> AuthorityHealth:
        """Ask the CA; nothing is ordered."""
        with as_failures():
            async with heartbeating(lambda: f"checking {wanted.authority.name}"):
                try:
                    kind = find("cas", wanted.authority.type)
                    opened = kind.open(kind.configure(wanted.authority.settings), self._surroundings)
                    health = await opened.check()
                except ConnectorError as error:
                    return AuthorityHealth(False, error.message)
                details = [AuthorityDetail(one.label, one.text) for one in health.details]
                return AuthorityHealth(health.usable, health.message, details)


class AuthorityCheckRecords(Records):
    """Runs on the manager."""

    @activity.defn(name="records.admit_authority_check")
    def admit_authority_check(self, start: AuthorityCheckStart) -> AuthorityCheckAdmission:
        """Which CA, and where the gateway listens."""
        with self.reading() as session:
            gateway = session.get_one(Gateway, start.gateway_id)
            authority = session.get_one(CertificateAuthority, start.authority_id)
            return AuthorityCheckAdmission(
                gateway.name, gateway_queue(start.gateway_id, gateway.channel), authority_access(authority)
            )
