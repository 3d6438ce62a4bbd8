"""The manager sees to it that scans that were asked for are carried out, and that people hear of unmanaged certificates
before they end."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta

import structlog
from sqlalchemy import or_
from sqlmodel import col, select
from temporalio.client import Client

from connectors.notices.settings import NotificationSettings
from model.database import Database
from model.errors import CertgateError
from model.states import ScanState
from model.tables import NetworkScan
from operations.context import now
from operations.inventory_expiry import tell_ending
from operations.inventory_scans import start

log = structlog.get_logger(__name__)

_EVERY_SECONDS = 10.0
_ALL_EVERY = timedelta(minutes=10)
_ENDS_EVERY = timedelta(hours=1)


class ScanWatch:
    """Every scan that is not over has its workflow: one that was kept while the engine was away, and now and then all,
    since a workflow may have been ended from outside."""

    def __init__(self) -> None:
        self._started: set[int] = set()
        self._asked: datetime | None = None

    async def keep(self, database: Database, client: Client, moment: datetime) -> int:
        """Start what lacks; gives how many were asked for. Raises `Unavailable`."""
        open_ = or_(
            col(NetworkScan.state).in_((ScanState.WAITING, ScanState.RUNNING)), col(NetworkScan.next_at).is_not(None)
        )
        with database.read() as session:
            there = {number for number in session.exec(select(NetworkScan.id).where(open_)).all() if number is not None}
        if self._asked is None or not timedelta() <= moment - self._asked < _ALL_EVERY:
            self._started, self._asked = set(), moment
        wanted = sorted(there - self._started)
        for number in wanted:
            await start(client, number)
            self._started.add(number)
        self._started &= there
        return len(wanted)


async def keep_inventory(database: Database, client: Client, settings: NotificationSettings) -> None:
    """Look for scans every few seconds, and for what ends every hour, for ever."""
    watch, looked = ScanWatch(), None
    while True:
        try:
            await watch.keep(database, client, now())
            if looked is None or not timedelta() <= now() - looked < _ENDS_EVERY:
                await asyncio.to_thread(tell_ending, database, settings, now())
                looked = now()
        except CertgateError as error:
            log.warning("the inventory could not be looked after", reason=error.message)
        await asyncio.sleep(_EVERY_SECONDS)
