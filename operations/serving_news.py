"""People are told when a verification sees that an endpoint does not serve what was installed there."""

from __future__ import annotations

import asyncio
from datetime import datetime

import structlog
from sqlmodel import col, select

from connectors.notices.settings import NotificationSettings
from model.database import Database
from model.errors import CertgateError
from model.rules.permissions import Scope
from model.states import Privilege
from model.tables import Certificate, Endpoint, Installation
from operations import telling
from operations.context import now as system_clock

log = structlog.get_logger(__name__)

UNSERVED = "certificate.not_served"
_EVERY_SECONDS = 30.0
_AT_ONCE = 500


def tell_unserved(database: Database, settings: NotificationSettings, now: datetime) -> int:
    """Tell of each certificate in use that is not served, once until it is served again. Gives how many were told."""
    statement = (
        select(Installation, Certificate, Endpoint)
        .join(Certificate, col(Certificate.id) == col(Installation.certificate_id))
        .join(Endpoint, col(Endpoint.id) == col(Installation.endpoint_id))
        .where(col(Installation.unserved_since).is_not(None), col(Certificate.active))
        .order_by(col(Installation.unserved_since).desc())
        .limit(_AT_ONCE)
    )
    with database.read() as session:
        events = {_event(row): (row, one, endpoint) for row, one, endpoint in session.exec(statement).all()}
        known = telling.told(session, events)
    untold = [event for event in events if event not in known]
    if not untold:
        return 0
    with database.write() as session:
        for event in untold:
            row, certificate, endpoint = events[event]
            # The lock on what the event is about: two managers don't tell it both.
            session.exec(select(Installation.id).where(Installation.id == row.id).with_for_update()).one()
            seen = next((one["message"] for one in row.sightings if one.get("message")), row.verification or "")
            text = f"Certificate {certificate.id} for {certificate.common_name} was installed on {row.binding} of "
            text += f"{endpoint.name}, and a verification saw something else there: {seen} "
            text += "Look who changed it; a retry, a renewal or a rollback of the endpoint puts a certificate back."
            telling.tell(
                session,
                settings,
                kind=UNSERVED,
                once=event,
                gateway_id=endpoint.gateway_id,
                scope=Scope(certificate.organization_id, certificate.department_id),
                subject=f"{endpoint.name} does not serve the certificate for {certificate.common_name}",
                text=text,
                now=now,
                holders=Privilege.INSTALL,
            )
    return len(untold)


async def keep_telling(database: Database, settings: NotificationSettings) -> None:
    """Look twice a minute, for ever."""
    while True:
        try:
            await asyncio.to_thread(tell_unserved, database, settings, system_clock())
        except CertgateError as error:
            log.warning("it is not known what endpoints serve", reason=error.message)
        await asyncio.sleep(_EVERY_SECONDS)


def _event(row: Installation) -> str:
    since = row.unserved_since or row.updated_at
    return f"{UNSERVED}/{row.id}/{since:%Y%m%dT%H%M%S}"
