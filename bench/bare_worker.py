"""The bare workflow's two worker processes: `python -m bench.bare_worker manager|gateway HOME`.

They run under the settings of certgate's own (`worker.workers`), on the same server, and their activities do nothing.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from temporalio import activity

from bench.bare import GATEWAY_ID, MANAGER_QUEUE, STEPS, BareRenewalWorkflow, BareRequestWorkflow, Parcel, filler
from worker import connection, readiness, settings, workers
from worker.converter import DATA_CONVERTER

# A datagram goes to this loopback port when a request awaits its approver. certgate's are seen in its database.
READY_PORT = "BENCH_READY_PORT"


def manager_activities(ready: Callable[[str], object]) -> Sequence[Callable[..., Any]]:
    """The manager's steps: those on the records are synchronous and run in threads, as certgate's do."""
    steps = [_records(name) for name in STEPS if name.startswith("records.") and name != "records.accept_csr"]

    @activity.defn(name="records.accept_csr")
    def accept_csr(_: Parcel) -> Parcel:
        ready(activity.info().workflow_id or "")
        return filler(STEPS["records.accept_csr"].gives)

    return [*steps, accept_csr, *(_step(name) for name in STEPS if name.startswith("orders."))]


def gateway_activities() -> Sequence[Callable[..., Any]]:
    """The gateway's steps."""
    return [_step("keys.prepare"), _step("installation.install")]


def _records(name: str) -> Callable[..., Any]:
    @activity.defn(name=name)
    def step(_: Parcel) -> Parcel:
        return filler(STEPS[name].gives)

    return step


def _step(name: str) -> Callable[..., Any]:
    @activity.defn(name=name)
    async def step(parcel: Parcel) -> Parcel:
        if parcel.wait:
            await asyncio.sleep(parcel.wait)
        return filler(STEPS[name].gives)

    return step


async def run(role: str, home: Path) -> None:
    """Work until SIGTERM."""
    client = await connection.connect(
        settings.load(home),
        runtime=connection.worker_runtime(),
        data_converter=DATA_CONVERTER,
        identity=f"bare-{role}",
    )
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    with ThreadPoolExecutor(workers.THREADS) as executor, socket.socket(type=socket.SOCK_DGRAM) as sender:
        if role == "manager":
            port = int(os.environ[READY_PORT])
            activities = manager_activities(lambda number: sender.sendto(number.encode(), ("127.0.0.1", port)))
            kinds = (BareRequestWorkflow, BareRenewalWorkflow)
            worker = workers.manager_worker(client, activities, executor, queue=MANAGER_QUEUE, workflows=kinds)
        else:
            worker = workers.gateway_worker(client, GATEWAY_ID, gateway_activities())
        async with worker:
            readiness.announce(home, f"bare-{role}")
            await stopping.wait()
            readiness.withdraw(home, f"bare-{role}")


if __name__ == "__main__":
    asyncio.run(run(sys.argv[1], Path(sys.argv[2])))
