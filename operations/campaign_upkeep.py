"""Campaigns that lost their workflow are set going again, and what campaigns have to tell is told, by the manager."""

from __future__ import annotations

import asyncio

import structlog
from sqlmodel import col, select
from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.service import RPCError, RPCStatusCode

from connectors.notices.settings import NotificationSettings
from model import campaigns as facts
from model import naming
from model.database import Database
from model.errors import CertgateError, Unavailable
from model.states import CampaignState, Privilege
from model.tables import Campaign, CampaignItem
from operations import telling
from operations.campaign_words import scope_of, wake
from operations.context import now

log = structlog.get_logger(__name__)

_EVERY_SECONDS = 10.0


async def keep_campaigns(database: Database, client: Client, settings: NotificationSettings) -> None:
    """Look every few seconds, for ever."""
    while True:
        try:
            await asyncio.to_thread(tell_news, database, settings)
            if started := await start_lost(database, client):
                log.info("campaigns were set going again", count=started)
        except CertgateError as error:
            log.warning("it is not known how the campaigns are", reason=error.message)
        await asyncio.sleep(_EVERY_SECONDS)


async def start_lost(database: Database, client: Client) -> int:
    """Start the workflows of campaigns that have something to do and none that does it: the process that wanted to
    start one died, or somebody ended it by force. Gives how many. Raises `Unavailable`."""
    with database.read() as session:
        flying = (
            select(CampaignItem.id)
            .where(CampaignItem.campaign_id == Campaign.id, col(CampaignItem.state).in_(facts.IN_FLIGHT))
            .exists()
        )
        live = col(Campaign.state).in_((CampaignState.RUNNING, CampaignState.PAUSED))
        canceled = (col(Campaign.state) == CampaignState.CANCELED) & flying
        numbers = session.exec(select(Campaign.id).where(live | canceled)).all()
    lost = [number for number in numbers if number is not None and not await _runs(client, number)]
    for number in lost:
        await wake(client, number)
    return len(lost)


def tell_news(database: Database, settings: NotificationSettings) -> int:
    """Make notifications of what campaigns have to tell. Gives how many. Raises `Unavailable`."""
    with database.read() as session:
        numbers = [number for number, news in session.exec(select(Campaign.id, Campaign.news)).all() if news]
    if not numbers:
        return 0
    told = 0
    with database.write() as session:
        for row in session.exec(select(Campaign).where(col(Campaign.id).in_(numbers)).with_for_update()).all():
            for one in row.news:
                told += telling.tell(
                    session,
                    settings,
                    kind=one["kind"],
                    once=one["once"],
                    gateway_id=None,
                    scope=scope_of(row),
                    subject=one["subject"],
                    text=one["text"],
                    now=now(),
                    holders=Privilege.REPLACE,
                )
            row.news = []
            session.add(row)
    return told


async def _runs(client: Client, campaign_id: int) -> bool:
    try:
        described = await client.get_workflow_handle(naming.campaign_workflow(campaign_id)).describe()
    except RPCError as error:
        if error.status == RPCStatusCode.NOT_FOUND:
            return False
        raise Unavailable(f"Temporal does not answer ({error.message}).") from error
    return described.status == WorkflowExecutionStatus.RUNNING
