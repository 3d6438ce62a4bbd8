"""Keeps child processes running: starts them, logs what they say, restarts them when they die, and ends them in order.

Nothing here knows what the children do. A child is ready when it has announced itself (`worker.readiness`) or, where
the program is not ours to change, when its port accepts connections.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from pathlib import Path

import psutil

from model.errors import Conflict, Unavailable
from worker import logs, processes, readiness, tether
from worker.processes import ProcessIdentity

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0  # seconds before a restart; doubled each time
STABLE = 60.0  # seconds after which a child counts as healthy again and the pause begins anew
FINAL = 3  # the exit status of a process that somebody who may say so has refused (the command line's "not permitted")
LOOK = 5.0  # seconds between two looks at the size of the logs


@dataclass(frozen=True)
class ChildSpec:
    """A process to keep running.

    `name` is also that of its log and readiness file. `environment` is put over our own. `grace` is what it may take to
    drain after SIGTERM. With `port`, it is ready as soon as it accepts connections on that loopback port.
    """

    name: str
    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    grace: timedelta = timedelta(seconds=30)
    port: int | None = None


class Lock:
    """At most one of a kind for a home: `<home>/run/NAME.lock`, and `NAME.json` to say who.

    Raises (on entering):
        Conflict: another living process has it; the sentence has its process id.
        Unavailable: the home cannot be written.
    """

    def __init__(self, home: Path, name: str) -> None:
        self._folder, self._name = home / "run", name
        self._descriptor: int | None = None

    def __enter__(self) -> Lock:
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(self._folder / f"{self._name}.lock", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise Unavailable(f"{self._folder} cannot be written: {error.strerror}.") from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            holder = processes.read_identity(self._folder / f"{self._name}.json")
            raise Conflict(
                f"'certgate {self._name}' already runs on {self._folder.parent}"
                f"{f' as process {holder.pid}' if holder else ''}; end it first, or name another home with --home."
            ) from None
        self._descriptor = descriptor
        try:
            processes.write_json(self._folder / f"{self._name}.json", asdict(ProcessIdentity.of(os.getpid())))
        except OSError as error:
            self.__exit__()
            raise Unavailable(f"{self._folder} cannot be written: {error.strerror}.") from None
        return self

    def __exit__(self, *_: object) -> None:
        if self._descriptor is not None:
            (self._folder / f"{self._name}.json").unlink(missing_ok=True)
            os.close(self._descriptor)
            self._descriptor = None


class Supervisor:
    """The children of one home. Must be used from the process's main thread, see `worker.tether`.

    `notify` gets one sentence whenever a child died and is started again. Leaving the context stops all children, the
    one started last first.
    """

    def __init__(self, home: Path, *, notify: Callable[[str], None] = lambda _: None) -> None:
        self._home = home
        self._notify = notify
        self._children: dict[str, _Child] = {}

    async def __aenter__(self) -> Supervisor:
        return self

    async def __aexit__(self, *_: object) -> None:
        for name in reversed(list(self._children)):
            await self.stop(name)

    async def start(self, spec: ChildSpec) -> None:
        """Starts a child and keeps it running until `stop`. What is left of an earlier one of that name is ended first.

        Raises:
            Conflict: there is a child of that name already.
            Unavailable: it cannot be started at all.
        """
        if spec.name in self._children:
            raise Conflict(f"The process '{spec.name}' was already started.")
        child = _Child(self._home, spec, self._notify)
        await child.end_predecessor()
        await child.spawn()
        self._children[spec.name] = child

    async def wait_ready(self, name: str, timeout: timedelta = timedelta(seconds=60)) -> None:
        """Waits until a child is ready.

        Raises:
            Unavailable: it is not within `timeout`; the sentence has the last line of its log.
        """
        child = self._children[name]
        deadline = time.monotonic() + timeout.total_seconds()
        while not await child.ready():
            if time.monotonic() > deadline or child.hopeless:
                raise Unavailable(child.complaint())
            await asyncio.sleep(processes.POLL)

    def pid(self, name: str) -> int | None:
        """The process id of a child; nothing while it is down. Another one after each restart."""
        return self._children[name].pid

    def restarts(self, name: str) -> int:
        """How often a child had to be started again."""
        return self._children[name].restarts

    async def stop(self, name: str) -> None:
        """Ends a child: SIGTERM, its grace period, SIGKILL for what is left of its group. Unknown names are fine."""
        child = self._children.pop(name, None)
        if child is not None:
            await child.stop()


class _Child:
    def __init__(self, home: Path, spec: ChildSpec, notify: Callable[[str], None]) -> None:
        self._home, self._spec, self._notify = home, spec, notify
        self._log = home / "logs" / f"{spec.name}.log"
        self._record = home / "run" / f"{spec.name}.json"
        # What the log held before is somebody else's; the last words of any attempt of this one count.
        self._log_start = logs.size(self._log)
        self._process: asyncio.subprocess.Process | None = None
        self._watch: asyncio.Task[None] | None = None
        self._started = 0.0
        self._was_ready = False
        self._gave_up = False
        self.restarts = 0

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None and self._process.returncode is None else None

    @property
    def hopeless(self) -> bool:
        """It was refused, or died three times before it was ready: more attempts would only hide the reason."""
        return self._gave_up or (not self._was_ready and self.restarts >= 2 and self.pid is None)

    async def end_predecessor(self) -> None:
        """A child of a supervisor that was killed may still be draining; two at once would be one too many."""
        identity = processes.read_identity(self._record)
        process = identity.find() if identity else None
        if process is not None:
            await processes.end(process, self._spec.grace)

    async def spawn(self) -> None:
        readiness.withdraw(self._home, self._spec.name)
        try:
            self._record.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with logs.open_log(self._log) as log:
                # A session of its own: Ctrl-C in the terminal reaches only us, and we end the children in order.
                self._process = await asyncio.create_subprocess_exec(
                    *(sys.executable, tether.__file__, str(os.getpid()), "--", *self._spec.command),
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env={**os.environ, **self._spec.environment},
                    start_new_session=True,
                )
        except OSError as error:
            raise Unavailable(f"The process '{self._spec.name}' cannot be started: {error.strerror}.") from None
        with contextlib.suppress(OSError, psutil.Error):
            processes.write_json(self._record, asdict(ProcessIdentity.of(self._process.pid)))
        self._started = time.monotonic()
        if self._watch is None:
            self._watch = asyncio.create_task(self._keep(), name=f"supervise-{self._spec.name}")

    async def ready(self) -> bool:
        pid = self.pid
        if pid is None:
            return False
        if self._spec.port is not None:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", self._spec.port)
            except OSError:
                return False
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
        else:
            announced = readiness.ready(self._home, self._spec.name)
            # The announcer may be a child of the child (a launcher script).
            if announced is None or (announced.pid != pid and not _descends(announced.pid, pid)):
                return False
        self._was_ready = True
        return True

    def complaint(self) -> str:
        last = self._last_words()
        return f"The process '{self._spec.name}' did not get ready{f': {last}' if last else ''} (log: {self._log})"

    def _last_words(self) -> str:
        lines = [line.strip() for line in logs.tail(self._log, self._log_start).splitlines() if line.strip()]
        return lines[-1][:300] if lines else ""

    async def stop(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watch
            self._watch = None
        process = self._process
        if process is None:
            return
        if process.returncode is None:
            # Only the leader: what it runs at this moment (a configuration check, say) belongs to the work it drains.
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            try:
                await asyncio.wait_for(process.wait(), self._spec.grace.total_seconds())
            except TimeoutError:
                self._notify(
                    f"The process '{self._spec.name}' did not end within {self._spec.grace.total_seconds():.0f} s."
                )
        self._kill_group(process.pid)
        await process.wait()
        readiness.withdraw(self._home, self._spec.name)
        self._record.unlink(missing_ok=True)

    async def _keep(self) -> None:
        pause = FIRST_PAUSE
        while self._process is not None:
            code = await self._wait(self._process)
            if time.monotonic() - self._started > STABLE:
                pause = FIRST_PAUSE
            self._kill_group(self._process.pid)
            if code == FINAL:
                # It was told that it is not wanted: started again, it would only be told so again.
                self._gave_up = True
                self._notify(
                    f"The process '{self._spec.name}' has ended and is not started again: {self._last_words()}"
                )
                return
            how = f"with status {code}" if code >= 0 else f"by signal {-code}"
            self._notify(f"The process '{self._spec.name}' ended {how}; it is started again (log: {self._log}).")
            while True:
                await asyncio.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE)
                self.restarts += 1
                try:
                    await self.spawn()
                    break
                except Unavailable as error:
                    self._notify(error.message)

    async def _wait(self, process: asyncio.subprocess.Process) -> int:
        while True:
            try:
                return await asyncio.wait_for(process.wait(), LOOK)
            except TimeoutError:
                logs.bound(self._log)

    @staticmethod
    def _kill_group(leader: int) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(leader, signal.SIGKILL)


def _descends(pid: int, ancestor: int) -> bool:
    try:
        return any(parent.pid == ancestor for parent in psutil.Process(pid).parents())
    except psutil.Error:
        return False
