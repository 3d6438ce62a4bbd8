"""Drives requests and bare workflows in the same way, and keeps the times.

A *client* submits one, waits until it awaits its approver, takes a moment as an approver would, approves, waits for its
end, and begins again. All clients live in this process; the workers are processes of their own.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Protocol

import psutil

from bench import bare
from bench.stage import Stage, name_of
from model import naming
from model.messages import RequestResult
from model.states import CertificateStatus, InstallState
from operations import bootstrap, decisions, submission

# How often it is looked whether one awaits its approver, and how long the approver takes: the same for both kinds. By
# then the workflow has come to rest, so that no side's approval has to wait for what was before it.
_LOOK = 0.02
_APPROVER = 0.05


class Subject(Protocol):
    """What can be driven."""

    async def submit(self, client: int) -> int:
        """Start one for the client with that number; gives its own number."""

    async def approve(self, number: int) -> None:
        """Approve it."""

    async def finish(self, number: int) -> None:
        """Wait for its end; raises if it is not a good one."""

    def ready(self) -> set[int]:
        """Those that await their approver."""


class Requests:
    """certgate's requests, through the operations that command line and dashboard use."""

    def __init__(self, stage: Stage, server: Callable[[int], int]) -> None:
        self._stage = stage
        self._server = server
        self.last = 0

    async def submit(self, client: int) -> int:
        """Submit for the virtual host of that client's nginx."""
        name = name_of(self._server(client))
        new = submission.NewRequest(
            common_name=name,
            organization=bootstrap.FIRST_ORGANIZATION,
            gateway=bootstrap.LOCAL_GATEWAY,
            endpoint=name,
        )
        self.last = (await submission.submit(self._stage.requester, new)).id
        return self.last

    async def approve(self, number: int) -> None:
        """Approve as somebody else."""
        await decisions.say(self._stage.approver, number, "approve", "fine")

    async def finish(self, number: int) -> None:
        """The workflow ends after handshakes have shown that nginx serves the certificate."""
        handle = self._stage.client.get_workflow_handle(naming.request_workflow(number), result_type=RequestResult)
        # A request that failed waits for a person; in a bench nobody comes.
        result = await asyncio.wait_for(handle.result(), 120)
        served = result.served_fingerprint is not None and result.served_fingerprint == result.issued_fingerprint
        if (result.status, result.install_state) != (CertificateStatus.ISSUED, InstallState.COMPLETED) or not served:
            raise RuntimeError(f"request {number} ended as {result}")

    def ready(self) -> set[int]:
        """As the database shows."""
        return self._stage.keys_ready()


class BareWorkflows:
    """The bare workflow, straight through Temporal's client. Its install waits `install_wait` seconds."""

    _numbers = itertools.count(1)

    def __init__(self, stage: Stage, install_wait: float) -> None:
        self._stage = stage
        self._wait = install_wait
        self.last = 0

    async def submit(self, client: int) -> int:  # noqa: ARG002  (no client has a server of its own here)
        """Start one."""
        number = self.last = next(self._numbers)
        await bare.start(self._stage.client, number, self._wait)
        return number

    async def approve(self, number: int) -> None:
        """By the update."""
        await bare.approve(self._handle(number))

    async def finish(self, number: int) -> None:
        """The result."""
        await self._handle(number).result()

    def ready(self) -> set[int]:
        """As its worker tells."""
        return self._stage.bare_ready()

    def _handle(self, number: int) -> bare.Handle:
        return self._stage.client.get_workflow_handle_for(bare.BareRequestWorkflow.run, bare.workflow_id(number))


@dataclass
class Times:
    """Seconds. `approved_to_served` one by one; `busy` is the wall time, without what approvers took where there was
    one client only; `processor` is the processor time of all our processes together."""

    approved_to_served: list[float] = field(default_factory=list)
    busy: float = 0.0
    processor: float = 0.0

    @property
    def per_second(self) -> float:
        """Requests per second, from submission to end."""
        return len(self.approved_to_served) / self.busy

    @property
    def processor_each(self) -> float:
        """Processor time a request."""
        return self.processor / len(self.approved_to_served)

    def quantile(self, share: float) -> float:
        """By the nearest rank."""
        ordered = sorted(self.approved_to_served)
        return ordered[math.ceil(share * len(ordered)) - 1]

    def __add__(self, other: Times) -> Times:
        return Times(
            [*self.approved_to_served, *other.approved_to_served],
            self.busy + other.busy,
            self.processor + other.processor,
        )


async def drive(subject: Subject, clients: int, count: int) -> Times:
    """Drive `count` of them, `clients` at a time."""
    times = Times()
    waiting: dict[int, asyncio.Event] = {}
    left = iter(range(count))

    async def look() -> None:
        known: set[int] = set()
        while True:
            await asyncio.sleep(_LOOK)
            if waiting or known:
                known |= subject.ready()
                for number in known & waiting.keys():
                    waiting.pop(number).set()
                    known.discard(number)

    async def client(number: int) -> None:
        for _ in left:
            one = await subject.submit(number)
            arrived = waiting[one] = asyncio.Event()
            await arrived.wait()
            await asyncio.sleep(_APPROVER)
            begin = time.perf_counter()
            await subject.approve(one)
            await subject.finish(one)
            times.approved_to_served.append(time.perf_counter() - begin)

    looking = asyncio.create_task(look())
    begin, processor = time.perf_counter(), _processor_seconds()
    try:
        async with asyncio.TaskGroup() as group:
            for number in range(clients):
                group.create_task(client(number))
    finally:
        looking.cancel()
        with suppress(asyncio.CancelledError):
            await looking
    times.busy = time.perf_counter() - begin - (count * _APPROVER if clients == 1 else 0.0)
    times.processor = _processor_seconds() - processor
    return times


def _processor_seconds() -> float:
    """Of this process and everything below it: Temporal, workers, nginx."""
    total, own = 0.0, psutil.Process()
    for process in [own, *own.children(recursive=True)]:
        with suppress(psutil.Error):
            used = process.cpu_times()
            # What its ended children took, such as `nginx -t`; this process's own live on and are counted themselves.
            ended = 0.0 if process == own else used.children_user + used.children_system
            total += used.user + used.system + ended
    return total
