"""The bare workflow is a fair measure only as long as its history has the shape of a request's."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import WorkflowHandle

from bench import bare, bare_worker
from model import naming
from model.states import InstallState
from tests.support.world import World
from worker import workers
from worker.playground import DisposableNginx

Pair = tuple[list[HistoryEvent], list[HistoryEvent]]


async def timer_started(handle: WorkflowHandle[Any, Any]) -> None:
    """Wait until it waits for the approval."""
    while not any(
        event.event_type == EventType.EVENT_TYPE_TIMER_STARTED for event in (await handle.fetch_history()).events
    ):
        await asyncio.sleep(0.02)


async def histories(world: World, folder: Path) -> tuple[Pair, Pair]:
    """A request and its renewal, the bare workflow and its child: the events of all four."""
    with DisposableNginx(folder, ["shape.example"]) as nginx:
        name = f"nginx {nginx.port}"
        await world.endpoint(nginx, name)
        number = await world.submit("shape.example", endpoint=name)
        request = world.workflow(number)
        await timer_started(request)
        await world.say(number, "approve", "fine")
        done = await world.until(number, state=InstallState.COMPLETED)
        certificate = (await request.result()).certificate_id
    assert done.install_state == InstallState.COMPLETED
    renewal = world.client.get_workflow_handle(naming.renewal_workflow(certificate))
    async with AsyncExitStack() as stack:
        executor = stack.enter_context(ThreadPoolExecutor(workers.THREADS))
        kinds = (bare.BareRequestWorkflow, bare.BareRenewalWorkflow)
        activities = bare_worker.manager_activities(lambda _: None)
        await stack.enter_async_context(
            workers.manager_worker(world.client, activities, executor, queue=bare.MANAGER_QUEUE, workflows=kinds)
        )
        await stack.enter_async_context(
            workers.gateway_worker(world.client, bare.GATEWAY_ID, bare_worker.gateway_activities())
        )
        plain = await bare.start(world.client, 1, 0.01)
        await timer_started(plain)
        await bare.approve(plain)
        await plain.result()
        child = world.client.get_workflow_handle(bare.child_id(1))
        await timer_started(child)
        await timer_started(renewal)
        pairs = []
        for ours, theirs in ((request, plain), (renewal, child)):
            pairs.append((list((await ours.fetch_history()).events), list((await theirs.fetch_history()).events)))
        await child.terminate("the test is over")
    return pairs[0], pairs[1]


def types(events: list[HistoryEvent]) -> list[str]:
    """The kinds of a history's events, in order."""
    return [EventType.Name(event.event_type) for event in events]


def size(events: list[HistoryEvent]) -> int:
    """The bytes of a history."""
    return sum(event.ByteSize() for event in events)


async def test_the_bare_workflow_has_the_shape_of_a_request(shared_world: World, tmp_path: Path) -> None:
    request, renewal = await histories(shared_world, tmp_path)
    for ours, theirs in (request, renewal):
        assert types(theirs) == types(ours)
        assert size(theirs) == pytest.approx(size(ours), rel=0.1)
        for mine, other in zip(ours, theirs, strict=True):
            assert other.ByteSize() == pytest.approx(mine.ByteSize(), abs=150), EventType.Name(mine.event_type)
