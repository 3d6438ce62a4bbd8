"""How long the server works on a page of the dashboard: with few gateways and requests, and with very many.

Two homes, each with a Temporal server of its own that has heard of all its gateways' workers. The page's own script is
run by Streamlit's test driver in this process; the homes take turns, so that a busy machine slows both. The first run
of a page is not counted: it opens the database and connects.
"""

from __future__ import annotations

import logging
import os
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import streamlit as st
from rich.console import Console
from rich.table import Table
from streamlit.testing.v1 import AppTest
from temporalio.api.enums.v1 import WorkerStatus
from temporalio.api.worker.v1 import WorkerHeartbeat
from temporalio.api.workflowservice.v1 import RecordWorkerHeartbeatRequest
from temporalio.client import Client

from bench import crowd
from dashboard import session
from model.naming import gateway_queue
from operations import sessions
from operations.sessions import Beginning, Lifetimes
from worker import connection, settings
from worker.embedded import EmbeddedTemporal

FEW, MANY = (10, 100), (1_000, 100_000)
MOST_RATIO = 3.0
SCRIPT = Path(__file__).parent.parent / "dashboard" / "app.py"
# Where the driver keeps what a cookie would hold.
_TOKEN = "bench-token"
_HEARTBEATS_AT_ONCE = 500

# What is opened, in the words of the address.
VISITS: Sequence[tuple[str, str, dict[str, str]]] = (
    ("gateways", "gateways", {}),
    ("gateways, searched", "gateways", {"g-q": "0003"}),
    ("gateways, connected", "gateways", {"g-status": "Connected"}),
    ("gateways, last page", "gateways", {"page": "last"}),
    ("gateways, by status", "gateways", {"g-group": "Status"}),
    ("gateways, by organization", "gateways", {"g-group": "Organization"}),
    ("overview", "overview", {}),
    ("requests", "requests", {}),
    ("requests, by status", "requests", {"group": "Status"}),
    ("certificates", "certificates", {}),
    ("new request", "new-request", {}),
    ("organizations", "organizations", {}),
    ("audit", "audit", {}),
)


@dataclass
class Timed:
    """The seconds of each run of a page in both homes."""

    title: str
    few: list[float] = field(default_factory=list)
    many: list[float] = field(default_factory=list)

    @property
    def ratio(self) -> float:
        """Median against median."""
        return statistics.median(self.many) / statistics.median(self.few)


@dataclass(frozen=True)
class Report:
    """All pages."""

    pages: Sequence[Timed]

    def as_json(self) -> dict[str, Any]:
        """Milliseconds (medians) and ratios, a key a page."""
        return {
            "pages": {
                one.title: {
                    "few_ms": 1000 * statistics.median(one.few),
                    "many_ms": 1000 * statistics.median(one.many),
                    "ratio": one.ratio,
                }
                for one in self.pages
            }
        }

    def print(self, console: Console) -> None:
        """The table."""
        drawn = Table(title="The server's time for a page, median", title_justify="left")
        drawn.add_column("page")
        for gateways, requests in (FEW, MANY):
            drawn.add_column(f"{gateways:,} gateways, {requests:,} requests", justify="right")
        drawn.add_column("ratio", justify="right")
        drawn.add_column("target", justify="right")
        for one in self.pages:
            few, many = (1000 * statistics.median(times) for times in (one.few, one.many))
            drawn.add_row(one.title, f"{few:.0f} ms", f"{many:.0f} ms", f"{one.ratio:.2f}", f"≤ {MOST_RATIO:.0f}")
        console.print(drawn)


@dataclass(frozen=True)
class _Place:
    home: Path
    client: Client
    gateways: int
    token: str

    async def beat(self) -> None:
        """The engine hears a heartbeat of nine of ten gateways' workers, now."""
        now = datetime.now(UTC)
        beats = []
        for number in range(1, self.gateways + 1):
            if number % 10:
                beat = WorkerHeartbeat(
                    worker_instance_key=f"worker-{number}",
                    worker_identity=f"gateway-{number}",
                    task_queue=gateway_queue(number),
                    status=WorkerStatus.WORKER_STATUS_RUNNING,
                )
                beat.heartbeat_time.FromDatetime(now)
                beats.append(beat)
        for start in range(0, len(beats), _HEARTBEATS_AT_ONCE):
            request = RecordWorkerHeartbeatRequest(
                namespace=self.client.namespace,
                identity="bench",
                worker_heartbeat=beats[start : start + _HEARTBEATS_AT_ONCE],
            )
            await self.client.workflow_service.record_worker_heartbeat(request)


async def measure(runs: int, say: Callable[[str], None]) -> Report:
    """Each page `runs` times in each home, in turns."""
    # Run by the test driver, there is no browser's context; Streamlit warns of that each time.
    logging.getLogger("streamlit.runtime.scriptrunner_utils.script_run_context").disabled = True
    presented = session.presented
    session.presented = lambda: st.session_state.get(_TOKEN)
    environment = os.environ.get("CERTGATE_HOME")
    try:
        async with AsyncExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="certgate-bench-pages-")))
            places = []
            for gateways, requests in (FEW, MANY):
                say(f"Filling a home with {gateways:,} gateways and {requests:,} requests …")
                places.append(await stack.enter_async_context(_place(folder, gateways, requests)))
            found = []
            for title, path, query in VISITS:
                timed = Timed(title)
                apps = [await _opened(place, path, _resolved(query, place)) for place in places]
                for _ in range(runs):
                    for place, app, kept in zip(places, apps, (timed.few, timed.many), strict=True):
                        await place.beat()
                        kept.append(_run(place, app))
                found.append(timed)
                say(f"{title}: {_shown(timed)}")
            return Report(found)
    finally:
        session.presented = presented
        st.cache_resource.clear()
        if environment is None:
            os.environ.pop("CERTGATE_HOME", None)
        else:
            os.environ["CERTGATE_HOME"] = environment


@asynccontextmanager
async def _place(folder: Path, gateways: int, requests: int) -> AsyncIterator[_Place]:
    home = folder / f"home-{gateways}"
    home.mkdir(mode=0o700)
    (home / settings.FILE_NAME).write_text("[temporal]\nport = 0\nui_port = 0\n")
    database = crowd.fill(home, gateways, requests)
    try:
        lifetimes = Lifetimes(timedelta(hours=2), timedelta(hours=12))
        token = sessions.begin(database, Beginning(1, "password"), lifetimes, datetime.now(UTC))
    finally:
        database.close()
    loaded = settings.load(home)
    async with EmbeddedTemporal(loaded, headless=True):
        yield _Place(home, await connection.connect(loaded), gateways, token)


def _resolved(query: dict[str, str], place: _Place) -> dict[str, str]:
    return {key: str(max(1, place.gateways // 50)) if word == "last" else word for key, word in query.items()}


async def _opened(place: _Place, path: str, query: dict[str, str]) -> AppTest:
    os.environ["CERTGATE_HOME"] = str(place.home)
    await place.beat()
    app = AppTest.from_file(str(SCRIPT), default_timeout=120)
    app.query_params.update(query)
    # Not signed in yet: the first page would lead elsewhere, and the address with it.
    app.run()
    pages = app._registered_pages  # AppTest has no public way to a page that is a function
    app._page_hash = next(hashed for hashed, page in pages.items() if page.get("url_pathname") == path)
    app.session_state[_TOKEN] = place.token
    for _ in range(2):
        _run(place, app)
    shown = {key: word[0] if isinstance(word, list) else word for key, word in dict(app.query_params).items()}
    if shown != query:
        raise RuntimeError(f"{path} was not opened with {query}, but with {shown}")
    return app


def _run(place: _Place, app: AppTest) -> float:
    os.environ["CERTGATE_HOME"] = str(place.home)
    begin = time.perf_counter()
    app.run()
    taken = time.perf_counter() - begin
    if app.exception:
        raise RuntimeError(f"{place.home.name}: {app.exception[0].message}")
    return taken


def _shown(timed: Timed) -> str:
    few, many = (1000 * statistics.median(times) for times in (timed.few, timed.many))
    return f"{few:.0f} ms and {many:.0f} ms, {timed.ratio:.2f} times"
