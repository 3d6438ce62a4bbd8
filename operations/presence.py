"""Who is connected: asked of the engine, by the age of the workers' heartbeats.

A heartbeat carries the time of the gateway's own clock, which may be wrong. The manager's watch measures by how much,
from when heartbeats arrive (`operations/watch.py`), and keeps it as `Gateway.clock_offset`; with it one look is enough
for anybody. Ages are taken against one clock that all who look share: the database's on PostgreSQL, this machine's on
SQLite.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from uuid import uuid4
from weakref import WeakKeyDictionary

import sqlalchemy
from sqlalchemy import or_, text
from sqlmodel import Session, col
from temporalio.api.enums.v1 import WorkerStatus
from temporalio.api.worker.v1 import WorkerHeartbeat
from temporalio.api.workflowservice.v1 import ListWorkersRequest, RecordWorkerHeartbeatRequest
from temporalio.client import Client
from temporalio.service import RPCError

from model.errors import Unavailable
from model.naming import gateway_queue
from model.states import ConnectionStatus
from model.tables import Gateway
from operations import lookup
from operations.context import Context

# Workers beat every five seconds; three beats without one are a lost connection.
CONNECTED_WITHIN = timedelta(seconds=15)
# Many open pages ask the engine together, not each for itself.
_SHARED_SECONDS = 2.0
_PATIENCE = timedelta(seconds=8)
# Killed workers stay listed for minutes: 1,000 gateways that are restarted again and again have some thousand rows.
_PAGE_SIZE = 100_000
_QUERY = 'TaskQueue STARTS_WITH "gateway-"'


@dataclass(frozen=True)
class Beat:
    """The last heartbeat of one worker, `at` by its own host's clock."""

    worker: str
    at: datetime


Beats = dict[str, list[Beat]]
"""By task queue, of the workers that do not say that they are going away."""


@dataclass
class _Shared:
    """What the engine said to one client, and the lock behind which others wait for the same answer."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    asked: float = float("-inf")
    beats: Beats = field(default_factory=dict)


_shared: WeakKeyDictionary[Client, _Shared] = WeakKeyDictionary()


def alive(beat: Beat, offset: float | None, now: datetime) -> bool:
    """Whether a worker lives, by its last heartbeat; `offset` is by how many seconds its host's clock is fast."""
    return abs(now - beat.at + timedelta(seconds=offset or 0.0)) < CONNECTED_WITHIN


def connection_status(
    beats: Iterable[Beat], known_before: bool, offset: float | None, now: datetime
) -> ConnectionStatus:
    """What the heartbeats on a gateway's queue mean. `known_before`: it has joined, or was seen at any time."""
    heard = list(beats)
    if any(alive(beat, offset, now) for beat in heard):
        return ConnectionStatus.CONNECTED
    return ConnectionStatus.DISCONNECTED if known_before or heard else ConnectionStatus.PENDING


async def statuses(context: Context) -> dict[int, ConnectionStatus]:
    """Which of the gateways that the actor may see are connected, in one query to the engine, which all who ask within
    two seconds share. Raises `Unavailable`."""
    return statuses_of(context, await _shared_beats(await context.temporal()))


def statuses_of(context: Context, heard: Beats) -> dict[int, ConnectionStatus]:
    """What heartbeats say of the gateways that the actor may see."""
    with context.database.read() as session:
        statement = sqlalchemy.select(
            col(Gateway.id),
            col(Gateway.channel),
            or_(col(Gateway.joined_at).is_not(None), col(Gateway.told_status).is_not(None)),
            col(Gateway.clock_offset),
        ).where(lookup.gateways_seen_by(context.actor), ~col(Gateway.name_key).startswith(lookup.GONE))
        rows = session.execute(statement).all()
        now = reference_time(session, context.clock)
    return {
        number: connection_status(heard.get(gateway_queue(number, channel), ()), known, offset, now)
        for number, channel, known, offset in rows
    }


def reference_time(session: Session, clock: Callable[[], datetime]) -> datetime:
    """The time that ages of heartbeats are taken against: the same for everybody who looks at one database."""
    connection = session.connection()
    if connection.dialect.name != "postgresql":
        return clock()
    told = connection.execute(text("SELECT clock_timestamp()")).scalar_one()
    assert isinstance(told, datetime)
    return told.astimezone(UTC)


async def beats(client: Client) -> Beats:
    """What the engine knows now of the gateways' workers. Raises `Unavailable`."""
    found: Beats = {}
    token = b""
    try:
        while True:
            request = ListWorkersRequest(
                namespace=client.namespace, page_size=_PAGE_SIZE, query=_QUERY, next_page_token=token
            )
            answer = await client.workflow_service.list_workers(request, timeout=_PATIENCE)
            if answer.workers and not answer.workers_info:
                raise Unavailable("This Temporal server does not tell the heartbeats of workers: use release 1.32.")
            for info in answer.workers_info:
                beat = info.worker_heartbeat
                # A worker that is told to stop says so at once and beats on until it has drained: it takes no work.
                if beat.status not in (
                    WorkerStatus.WORKER_STATUS_SHUTTING_DOWN,
                    WorkerStatus.WORKER_STATUS_SHUTDOWN,
                ):
                    at = beat.heartbeat_time.ToDatetime(tzinfo=UTC)
                    found.setdefault(beat.task_queue, []).append(Beat(beat.worker_instance_key, at))
            token = answer.next_page_token
            if not token:
                return found
    except RPCError as error:
        raise Unavailable(f"Temporal does not say which gateways are connected ({error.message}).") from error


@asynccontextmanager
async def announced(client: Client, queue: str) -> AsyncIterator[None]:
    """Around a gateway's worker: say at once that it is there. The SDK's first heartbeat comes with its first interval,
    and that may be five seconds later."""
    said = WorkerHeartbeat(worker_instance_key=f"start-{uuid4()}", task_queue=queue)
    await _record(client, said, WorkerStatus.WORKER_STATUS_RUNNING)
    try:
        yield
    finally:
        await _record(client, said, WorkerStatus.WORKER_STATUS_SHUTDOWN)


async def _record(client: Client, said: WorkerHeartbeat, status: WorkerStatus.ValueType) -> None:
    said.status = status
    said.heartbeat_time.GetCurrentTime()
    request = RecordWorkerHeartbeatRequest(namespace=client.namespace, worker_heartbeat=[said])
    # The SDK's own heartbeats say the same a little later.
    with suppress(RPCError):
        await client.workflow_service.record_worker_heartbeat(request, timeout=_PATIENCE)


async def _shared_beats(client: Client) -> Beats:
    shared = _shared.setdefault(client, _Shared())
    async with shared.lock:
        if time.monotonic() - shared.asked >= _SHARED_SECONDS:
            shared.beats = await beats(client)
            shared.asked = time.monotonic()
        return shared.beats
