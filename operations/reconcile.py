"""What a crash left between the database and the engine is brought together again, by the manager, while it runs."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import datetime, timedelta

import structlog
from sqlmodel import col, select
from temporalio.client import Client
from temporalio.common import WorkflowIDConflictPolicy
from temporalio.service import RPCError

from model.database import Database
from model.errors import CertgateError, Unavailable
from model.messages import AuthorityWatchStart
from model.naming import MANAGER_QUEUE, authority_workflow
from model.tables import CertificateAuthority, CertificateRequest
from operations.context import now
from operations.modules_upkeep import keep_going
from operations.submission import start
from workflows.authority_watch import AuthorityWatchWorkflow

log = structlog.get_logger(__name__)

_EVERY_SECONDS = 10.0
_AT_ONCE = 200
_ALL_WATCHES_EVERY = timedelta(minutes=10)


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


class AuthorityWatches:
    """Every CA has its watch (`workflows/authority_watch.py`): one that was added, and now and then all, since a watch
    may have been ended from outside. The watch of a CA that was removed is told, and ends by itself."""

    def __init__(self) -> None:
        self._watched: set[int] = set()
        self._asked: datetime | None = None

    async def keep(self, database: Database, client: Client, moment: datetime) -> None:
        """Start what lacks. Raises `Unavailable`."""
        with database.read() as session:
            there = {number for number in session.exec(select(CertificateAuthority.id)).all() if number is not None}
        if self._asked is None or not timedelta() <= moment - self._asked < _ALL_WATCHES_EVERY:
            self._watched, self._asked = self._watched - there, moment
        for number in sorted(there - self._watched):
            await _watch(client, number)
            self._watched.add(number)
        for number in sorted(self._watched - there):
            with suppress(RPCError):
                await client.get_workflow_handle(authority_workflow(number)).signal("look_again")
            self._watched.discard(number)


async def _watch(client: Client, authority_id: int) -> None:
    try:
        await client.start_workflow(
            AuthorityWatchWorkflow.run,
            AuthorityWatchStart(authority_id),
            id=authority_workflow(authority_id),
            task_queue=MANAGER_QUEUE,
            id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
            static_summary=f"Watch over the certificates of CA {authority_id}",
        )
    except RPCError as error:
        raise Unavailable(f"Temporal does not answer ({error.message}).") from error


async def keep_started(database: Database, client: Client) -> None:
    """Look for forgotten requests at once and then every few seconds, for ever."""
    watches = AuthorityWatches()
    while True:
        try:
            found = await start_forgotten(database, client)
            if found:
                log.info("started requests that were kept but not started", count=found)
            if moved := await keep_going(database, client, now()):
                log.info("syncs of modules were set going again", count=moved)
            await watches.keep(database, client, now())
        except CertgateError as error:
            log.warning("forgotten requests could not be started", reason=error.message)
        await asyncio.sleep(_EVERY_SECONDS)
