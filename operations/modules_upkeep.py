"""Syncs of modules that a crash or a restore left behind are set going again, by the manager, while it runs."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlmodel import col, select
from temporalio.client import Client
from temporalio.service import RPCError

from model.database import Database
from model.errors import Unavailable
from model.rules.modules import RUNNING, SyncState
from model.tables import Gateway, GatewaySync
from operations import modules

# An order is kept first and begun then; one that is older than this was left by a process that died in between.
_FORGOTTEN = timedelta(seconds=10)
_AT_ONCE = 200


async def keep_going(database: Database, client: Client, now: datetime) -> int:
    """Begin forgotten orders, and have syncs look again whose gateway has another channel since. Gives how many.

    Raises `Unavailable`.
    """
    with database.read() as session:
        statement = (
            select(GatewaySync, Gateway.channel)
            .join(Gateway, col(Gateway.id) == col(GatewaySync.gateway_id))
            .where(col(GatewaySync.state).in_(RUNNING))
            .order_by(col(GatewaySync.updated_at))
            .limit(_AT_ONCE)
        )
        rows = session.exec(statement).all()
    done = 0
    for sync, channel in rows:
        if sync.state == SyncState.ASKED:
            if sync.updated_at < now - _FORGOTTEN:
                try:
                    await modules.start_workflow(client, sync.gateway_id, int(sync.asked["number"]))
                except RPCError as error:
                    raise Unavailable(f"Temporal does not answer ({error.message}).") from error
                done += 1
        elif sync.seen.get("channel", channel) != channel:
            await modules.nudge(client, sync.gateway_id)
            done += 1
    return done
