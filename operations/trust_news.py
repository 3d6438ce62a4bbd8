"""Requests hear when what is trusted changes, if their chain waits for it; people hear before CA certificates end.

Nothing has to be marked by who adds a certificate: what is trusted of the CAs that a request waits for is put into one
word (`model/rules/trust.py`), kept when its chain was looked at, and compared while the manager runs. So a certificate
counts also if it was added while the engine or every manager was away.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta

import structlog
from sqlalchemy import select, update
from sqlmodel import col
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from connectors.notices.settings import NotificationSettings
from model import naming
from model.database import Database
from model.errors import CertgateError, Unavailable
from model.rules import trust
from model.tables import CertificateRequest, TrustedCertificate
from operations.context import now
from operations.trust_expiry import tell_ending

log = structlog.get_logger(__name__)

SIGNAL = "trust_changed"
_EVERY_SECONDS = 2.0
_ENDS_EVERY = timedelta(hours=1)
_AT_ONCE = 50


async def tell_requests(database: Database, client: Client) -> int:
    """Tell those that wait for an issuer of whom more, or less, is trusted than they know; gives how many were told.
    Raises `Unavailable`; what was not told then is told the next time."""
    news = _news(database)
    for start in range(0, len(news), _AT_ONCE):
        some = news[start : start + _AT_ONCE]
        await asyncio.gather(*(_tell(client, number) for number, _, _ in some))
        with database.write() as session:
            for number, told, standing in some:
                # The request may have looked again meanwhile, and then it knows better.
                same = col(CertificateRequest.trust_told).is_not_distinct_from(told)
                session.execute(
                    update(CertificateRequest)
                    .where(col(CertificateRequest.id) == number, same)
                    .values(trust_told=standing)
                )
    return len(news)


async def keep_telling_trust(database: Database, client: Client, settings: NotificationSettings) -> None:
    """Look every other second for requests to tell, and every hour for certificates that end, for ever."""
    looked = None
    while True:
        try:
            told = await tell_requests(database, client)
            if told:
                log.info("told requests that the trusted CA certificates changed", count=told)
            if looked is None or not timedelta() <= now() - looked < _ENDS_EVERY:
                await asyncio.to_thread(tell_ending, database, settings, now())
                looked = now()
        except CertgateError as error:
            log.warning("what is trusted could not be told", reason=error.message)
        await asyncio.sleep(_EVERY_SECONDS)


def _news(database: Database) -> list[tuple[int, str | None, str]]:
    """Whom to tell: number, the word that the request was told last, and today's."""
    with database.read() as session:
        waiting = session.execute(
            select(
                col(CertificateRequest.id), col(CertificateRequest.awaited_issuers), col(CertificateRequest.trust_told)
            )
            .where(col(CertificateRequest.missing_issuer).is_not(None), ~col(CertificateRequest.closed))
            .order_by(col(CertificateRequest.id))
        ).all()
        if not waiting:
            return []
        columns = select(col(TrustedCertificate.subject), col(TrustedCertificate.fingerprint))
        trusted = [(subject, fingerprint) for subject, fingerprint in session.execute(columns).all()]
    standings = [(number, told, trust.standing(awaited, trusted)) for number, awaited, told in waiting]
    return [(number, told, standing) for number, told, standing in standings if standing != told]


async def _tell(client: Client, request_id: int) -> None:
    try:
        await client.get_workflow_handle(naming.request_workflow(request_id)).signal(SIGNAL)
    except RPCError as error:
        # It has ended meanwhile: then it waits for nothing.
        if error.status is not RPCStatusCode.NOT_FOUND:
            raise Unavailable(f"Temporal does not answer ({error.message}).") from error
