"""Who is connected: asked of the engine, by the age of the workers' heartbeats."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from temporalio.api.workflowservice.v1 import ListWorkersRequest
from temporalio.service import RPCError

from model.errors import Unavailable
from model.states import ConnectionStatus
from operations.context import Context

# Workers beat every five seconds; three beats without one are a lost connection.
CONNECTED_WITHIN = timedelta(seconds=15)


def connection_status(seen: datetime | None, joined_at: datetime | None, now: datetime) -> ConnectionStatus:
    """What the age of a gateway's youngest heartbeat means."""
    if seen is not None and now - seen < CONNECTED_WITHIN:
        return ConnectionStatus.CONNECTED
    return ConnectionStatus.PENDING if seen is None and joined_at is None else ConnectionStatus.DISCONNECTED


async def heartbeats(context: Context) -> dict[str, datetime]:
    """The youngest heartbeat on each task queue that the engine knows of. Raises `Unavailable`."""
    client = await context.temporal()
    youngest: dict[str, datetime] = {}
    token = b""
    try:
        while True:
            answer = await client.workflow_service.list_workers(
                ListWorkersRequest(namespace=client.namespace, page_size=1000, next_page_token=token)
            )
            for info in answer.workers_info:
                beat = info.worker_heartbeat
                at = beat.heartbeat_time.ToDatetime(tzinfo=UTC)
                if at > youngest.get(beat.task_queue, datetime.min.replace(tzinfo=UTC)):
                    youngest[beat.task_queue] = at
            token = answer.next_page_token
            if not token:
                return youngest
    except RPCError as error:
        raise Unavailable(f"Temporal does not say which gateways are connected ({error.message}).") from error
