"""What a crash left between the database and the engine is brought together again, by the manager, while it runs."""

from __future__ import annotations

import asyncio

import structlog
from sqlmodel import col, select
from temporalio.client import Client

from model.database import Database
from model.errors import CertgateError
from model.tables import CertificateRequest
from operations.context import now
from operations.modules_upkeep import keep_going
from operations.submission import start

log = structlog.get_logger(__name__)

_EVERY_SECONDS = 10.0
_AT_ONCE = 200


async def start_forgotten(database: Database, client: Client) -> int:
    """Start requests that were kept but never started: their process died between the two. Gives how many."""
    with database.read() as session:
        statement = (
            select(CertificateRequest.id)
            .where(CertificateRequest.started == False, CertificateRequest.closed == False)  # noqa: E712
            .order_by(col(CertificateRequest.id))
            .limit(_AT_ONCE)
        )
        forgotten = [number for number in session.exec(statement).all() if number is not None]
    for number in forgotten:
        await start(client, database, number)
    return len(forgotten)


async def keep_started(database: Database, client: Client) -> None:
    """Look for forgotten requests at once and then every few seconds, for ever."""
    while True:
        try:
            found = await start_forgotten(database, client)
            if found:
                log.info("started requests that were kept but not started", count=found)
            if moved := await keep_going(database, client, now()):
                log.info("syncs of modules were set going again", count=moved)
        except CertgateError as error:
            log.warning("forgotten requests could not be started", reason=error.message)
        await asyncio.sleep(_EVERY_SECONDS)
