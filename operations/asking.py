"""Having a gateway look at something now, and waiting for what it says."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from temporalio.client import WorkflowFailureError
from temporalio.common import WorkflowIDConflictPolicy
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError

from model.errors import Unavailable
from model.naming import MANAGER_QUEUE
from operations.context import Context

StartT = TypeVar("StartT")
ResultT = TypeVar("ResultT")


async def ask(
    context: Context,
    workflow: Callable[[Any, StartT], Awaitable[ResultT]],
    start: StartT,
    *,
    workflow_id: str,
    summary: str,
) -> ResultT:
    """Run a workflow to its end; who asks while it runs waits for the same answer. Raises `Unavailable`."""
    client = await context.temporal()
    try:
        return await client.execute_workflow(
            workflow,
            start,
            id=workflow_id,
            task_queue=MANAGER_QUEUE,
            id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
            static_summary=summary,
        )
    except WorkflowFailureError as error:
        cause = error.cause
        raise Unavailable(cause.message if isinstance(cause, ApplicationError) else str(cause)) from error
    except RPCError as error:
        raise Unavailable(f"Temporal does not answer ({error.message}).") from error
