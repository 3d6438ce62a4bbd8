"""certgate as it really runs: `certgate up --headless` as a process with its children, on a home of its own."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from sqlmodel import select
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter

from connectors.registry import Surroundings
from connectors.secrets import resolve
from model.database import Database
from model.tables import Gateway
from operations.context import now
from operations.lookup import identity
from tests.support.world import World
from worker import embedded_state, processes, readiness, tether
from worker.processes import ProcessIdentity

POLL = 0.02
STOP_SECONDS = 90
TEMPORAL = "temporal"
PARTS = ("manager", "gateway", TEMPORAL)


def environment_without_ours(**more: str) -> dict[str, str]:
    """Our environment without what it says of another certgate or Temporal."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("CERTGATE_", "TEMPORAL_"))}
    return {**kept, **more}


def certgate(home: Path, *words: str) -> list[str]:
    """A command line of ours."""
    return [sys.executable, "-m", "cli.main", "--home", str(home), *words]


def start(command: list[str], log: Path, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """A process that ends when this one does, in a session of its own, with its output in a file."""
    with log.open("ab") as output:
        return subprocess.Popen(
            [sys.executable, tether.__file__, str(os.getpid()), "--", *command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=dict(environment),
            start_new_session=True,
        )


def stop(process: subprocess.Popen[bytes], seconds: float = STOP_SECONDS) -> int:
    """SIGTERM, and SIGKILL for who does not listen; gives the exit code. A process that has ended is fine."""
    if process.poll() is None:
        process.terminate()
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


@dataclass
class Running:
    """One `certgate up` and all that belongs to it."""

    home: Path
    temporary: Path
    log: Path
    environment: Mapping[str, str]
    process: subprocess.Popen[bytes]
    world: World = field(init=False)

    def pid(self, part: str) -> int | None:
        """The process id of a part that is at work now."""
        found = embedded_state.find(self.home) if part == TEMPORAL else readiness.ready(self.home, part)
        return found.pid if found else None

    def signal(self, part: str, number: signal.Signals) -> int:
        """Send a signal to a part; gives its process id."""
        pid = self.pid(part)
        assert pid is not None, f"{part} does not run: {self.words()}"
        os.kill(pid, number)
        return pid

    async def freeze(self, part: str) -> int:
        """Stop a part where it is, until SIGCONT or SIGKILL; gives its process id when all its threads stand still."""
        pid = self.signal(part, signal.SIGSTOP)
        threads = Path(f"/proc/{pid}/task")
        # On a busy machine a thread may run on for a while after the signal was sent.
        await until(lambda: all(_state(thread) == "T" for thread in threads.iterdir()))
        return pid

    async def kill(self, part: str) -> None:
        """kill -9, and wait until its successor is at work."""
        await self.successor(part, self.signal(part, signal.SIGKILL))

    async def successor(self, part: str, before: int) -> int:
        """Wait until another process than `before` is at work; the test's own time limit is the bound."""
        while (pid := self.pid(part)) is None or pid == before or not await self._answers(part):
            assert self.process.poll() is None, f"`certgate up` ended: {self.words()}"
            await asyncio.sleep(POLL)
        return pid

    async def _answers(self, part: str) -> bool:
        if part != TEMPORAL:
            return True
        record = embedded_state.find(self.home)
        if record is None:
            return False
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", record.port)
        except OSError:
            return False
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()
        return True

    def words(self) -> str:
        """What all of them said last, for the message of a test that fails."""
        found = [self.log, *sorted((self.home / "logs").glob("*.log"))]
        return "\n".join(
            f"--- {path.name}\n{path.read_text(errors='replace')[-3000:]}" for path in found if path.exists()
        )

    def command(self, *words: str) -> list[str]:
        """A command line of ours on this home."""
        return certgate(self.home, *words)

    async def certgate(self, *words: str) -> str:
        """Run one command to its end and give its stdout; it has to succeed."""
        done = await asyncio.to_thread(
            subprocess.run,
            self.command(*words),
            env=dict(self.environment),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, (words, done.stdout, done.stderr)
        return done.stdout

    async def _connect(self) -> None:
        while not self.log.exists() or "Ready; Ctrl-C" not in self.log.read_text():
            assert self.process.poll() is None, f"`certgate up` ended: {self.words()}"
            await asyncio.sleep(POLL)
        record = embedded_state.find(self.home)
        assert record is not None
        client = await Client.connect(record.address, data_converter=pydantic_data_converter)
        database = Database(f"sqlite:///{self.home}/certgate.db")
        with database.read() as session:
            gateway_id = identity(session.exec(select(Gateway)).one())
        self.world = World(
            home=self.home,
            database=database,
            client=client,
            surroundings=Surroundings(self.home, resolve),
            gateway_id=gateway_id,
            gateway_surroundings=Surroundings(self.home / "gateway", resolve),
            clock=now,
        )
        for login in ("alice", "bob"):
            self.world.administrator(login)


@asynccontextmanager
async def running(folder: Path) -> AsyncIterator[Running]:
    """Start everything in `folder` and end it, by process id, whatever the test does."""
    home, temporary = folder / "home", folder / "tmp"
    home.mkdir(mode=0o700, parents=True)
    temporary.mkdir(mode=0o700)
    (home / "certgate.toml").write_text("[temporal]\nport = 0\nui_port = 0\n")
    environment = environment_without_ours(TMPDIR=str(temporary))
    log = folder / "up.log"
    made = Running(home, temporary, log, environment, start(certgate(home, "up", "--headless"), log, environment))
    try:
        await made._connect()
        yield made
    finally:
        if hasattr(made, "world"):
            made.world.database.close()
        await asyncio.to_thread(stop, made.process)
        end_what_is_left(home)


def _state(thread: Path) -> str:
    """A thread's state, as the kernel tells it; one that has ended stands still."""
    with suppress(FileNotFoundError, ProcessLookupError):
        return (thread / "stat").read_text().rpartition(")")[2].split()[0]
    return "T"


def end_what_is_left(home: Path) -> None:
    """Kill what a killed `up` could not end."""
    record = embedded_state.find(home)
    named = [processes.read_identity(path) for path in (home / "run").glob("*.json")]
    left = [*named, ProcessIdentity(record.pid, record.created) if record else None]
    for one in left:
        process = one.find() if one else None
        if process is not None and process.pid != os.getpid():
            with suppress(psutil.NoSuchProcess):
                process.kill()


async def until(condition: Callable[[], object] | Callable[[], Awaitable[object]], *, every: float = POLL) -> None:
    """Wait until a condition, plain or asynchronous, holds; the test's own time limit is the bound."""
    while True:
        answer = condition()
        if isinstance(answer, Awaitable):
            answer = await answer
        if answer:
            return
        await asyncio.sleep(every)
