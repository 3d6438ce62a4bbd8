"""How workflows call steps: on the manager's records, on a gateway that may be away, at a CA.

A step that fails for good raises `StepFailed` with the connector error's class name (`kind`) and its sentence.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar

from temporalio import workflow
from temporalio.exceptions import (
    ActivityError,
    ApplicationError,
    CancelledError,
    TimeoutError,  # noqa: A004  (Temporal's own, told apart by its type)
    TimeoutType,
)

from workflows import options

with workflow.unsafe.imports_passed_through():
    from model.messages import AuthorityAccess, InstallStep, InstallTrouble
    from model.naming import MANAGER_QUEUE, gateway_queue

ResultT = TypeVar("ResultT")


class StepFailed(Exception):
    """A step failed and will not be tried again by itself."""

    def __init__(self, kind: str, message: str, trouble: InstallTrouble | None = None) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message
        self.trouble = trouble


class StepCanceled(Exception):
    """A step was canceled before it was done."""


class NotPickedUp(Exception):
    """Nobody took the step from the queue in time."""


async def records(step: Callable[[Any, Any], ResultT], arg: object) -> ResultT:
    """A step on the manager's own records: a local activity, one marker in the history."""
    return await workflow.execute_local_activity_method(
        step,
        arg,
        start_to_close_timeout=options.RECORDS_TIMEOUT,
        retry_policy=options.RECORDS_RETRY,
    )


async def at_queue(
    step: Callable[..., Any],
    arg: object,
    *,
    queue: str,
    how: options.StepOptions,
    canceled: Callable[[], bool],
    pick_up: timedelta | None = None,
) -> Any:
    """Run a step on a task queue and wait for it, or until `canceled` becomes true.

    Raises `StepFailed`, `StepCanceled`, `NotPickedUp` (only with `pick_up`). A step that finishes while it is being
    canceled gives its result: what was done is done.
    """
    handle = workflow.start_activity_method(
        step,
        arg,
        task_queue=queue,
        start_to_close_timeout=how.start_to_close,
        schedule_to_start_timeout=pick_up,
        heartbeat_timeout=options.HEARTBEAT,
        retry_policy=how.retry,
        cancellation_type=workflow.ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
    )
    await workflow.wait_condition(lambda: handle.done() or canceled())
    if not handle.done():
        handle.cancel()
    try:
        return await handle
    except asyncio.CancelledError:
        raise StepCanceled from None
    except ActivityError as error:
        cause = error.cause
        if isinstance(cause, CancelledError):
            raise StepCanceled from None
        if isinstance(cause, TimeoutError):
            if cause.type == TimeoutType.SCHEDULE_TO_START:
                raise NotPickedUp from None
            raise StepFailed(
                "Timeout", "The step took too long and was given up; look at the process that ran it."
            ) from None
        if isinstance(cause, ApplicationError):
            trouble = None
            if cause.details and cause.type in ("RolledBack", "RestoreFailed"):
                trouble = InstallTrouble(**_fields(cause.details[0]))
            raise StepFailed(cause.type or "Unexpected", cause.message, trouble) from None
        raise StepFailed("Unexpected", str(cause or error)) from None


def _fields(details: Any) -> dict[str, Any]:
    steps = [InstallStep(**step) if isinstance(step, dict) else step for step in details["steps"]]
    return {"served": details["served"], "steps": steps}


def queue_for(authority: AuthorityAccess, gateway_id: int, channel: int) -> str:
    """Where a CA is reached from."""
    return gateway_queue(gateway_id, channel) if authority.reached_from == "gateway" else MANAGER_QUEUE
