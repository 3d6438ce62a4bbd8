"""Everything on one machine: the embedded Temporal server, the manager, the local gateway, the dashboard."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from worker import connection, processes
from worker.embedded import EmbeddedTemporal
from worker.settings import Settings
from worker.supervisor import ChildSpec, Lock, Supervisor

READY_TIMEOUT = timedelta(seconds=90)


@dataclass(frozen=True)
class Addresses:
    """Where everything is: `temporal` as `host:port`, the pages as URLs; nothing where that part does not run here."""

    home: Path
    temporal: str
    namespace: str
    temporal_ui: str | None
    dashboard: str | None


def certgate(settings: Settings, *words: str) -> Sequence[str]:
    """The command line of one of our own processes on the same home."""
    return [sys.executable, "-m", "cli.main", "--home", str(settings.home), *words]


def gateway_home(settings: Settings) -> Path:
    """The home of the gateway that runs on this machine."""
    return settings.home / "gateway"


def children(settings: Settings, dashboard_port: int | None) -> Sequence[ChildSpec]:
    """The processes of `up`, in the order of starting. Without a port there is no dashboard."""
    specs = [
        ChildSpec("manager", certgate(settings, "manager")),
        ChildSpec("gateway", certgate(settings, "gateway", "run", "--gateway-home", str(gateway_home(settings)))),
    ]
    if dashboard_port is not None:
        environment = {"CERTGATE_DASHBOARD_PORT": str(dashboard_port)}
        grace = timedelta(seconds=10)
        specs.append(ChildSpec("dashboard", certgate(settings, "dashboard"), environment, grace, dashboard_port))
    return specs


async def up(
    settings: Settings,
    *,
    headless: bool,
    on_ready: Callable[[Addresses], None],
    prepare: Callable[[Settings], Awaitable[None]],
    notify: Callable[[str], None] = lambda _: None,
    stop: asyncio.Event | None = None,
    processes_of: Callable[[Settings, int | None], Sequence[ChildSpec]] = children,
) -> None:
    """Starts everything, calls `on_ready` once all of it is, and runs until SIGINT, SIGTERM or `stop`.

    `prepare` makes database and local gateway ready; it runs when Temporal answers, before any of our processes start.
    `headless` leaves dashboard and Temporal's web page out. The gateway announces its readiness in the manager's home.
    The order of stopping is gateway, manager, dashboard, Temporal: who starts work ends before who records it.

    Raises:
        Conflict: `up` already runs on this home.
        Unavailable: a part cannot be started; everything that was started is stopped again.
    """
    # `prepare` makes the built-in CA's key in this process.
    processes.forbid_core_dumps()
    stopping = stop or asyncio.Event()
    with Lock(settings.home, "up"), _signals(stopping):
        async with contextlib.AsyncExitStack() as stack:
            ui: str | None = None
            if not settings.temporal.outside:
                server = await stack.enter_async_context(EmbeddedTemporal(settings, headless=headless, notify=notify))
                ui = server.server.ui
            client = await connection.connect(settings)
            await connection.register_search_attributes(client)
            await prepare(settings)
            supervisor = await stack.enter_async_context(Supervisor(settings.home, notify=notify))
            port = None if headless else _dashboard_port(settings)
            specs = processes_of(settings, port)
            for spec in specs:
                await supervisor.start(spec)
            # Ctrl-C while the others are still starting must not have to wait for them.
            waiting = asyncio.gather(*(supervisor.wait_ready(spec.name, READY_TIMEOUT) for spec in specs))
            if await _first(waiting, stopping):
                on_ready(
                    Addresses(
                        home=settings.home,
                        temporal=client.service_client.config.target_host,
                        namespace=client.namespace,
                        temporal_ui=ui,
                        dashboard=None if port is None else f"http://{settings.dashboard.host}:{port}",
                    )
                )
                await stopping.wait()
            for name in ("gateway", "manager", "dashboard"):
                await supervisor.stop(name)


def _dashboard_port(settings: Settings) -> int:
    return settings.dashboard.port or processes.free_port()


async def _first(work: asyncio.Future[list[None]], stopping: asyncio.Event) -> bool:
    """Waits for the work or the wish to stop; True if the work was done. Errors of the work are raised."""
    wish: asyncio.Future[bool] = asyncio.ensure_future(stopping.wait())
    both: list[asyncio.Future[Any]] = [work, wish]
    try:
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            return False
        work.result()
        return True
    finally:
        for task in both:
            task.cancel()
        await asyncio.gather(*both, return_exceptions=True)


@contextlib.contextmanager
def _signals(stopping: asyncio.Event) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopping.set)
    try:
        yield
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
