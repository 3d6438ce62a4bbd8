"""Buys certificates while processes and connections are cut at seeded points, until each is there.

`buy` does what the request workflow does with a CA: the real steps `orders.submit` and `orders.collect`, again and
again until they succeed, each certificate on its own. In between, from one seed:

- *the process is killed* (SIGKILL) at the N-th line of code of `connectors/` that it runs: the step runs in a process
  forked for it, so that nothing is tidied up; N is drawn from as many lines as an undisturbed step has;
- *the connection is cut* after the N-th byte that goes through it, in whichever direction that is: `CuttingProxy`
  stands before the CA (TLS passes through it as it is).

What the CA then has is the test's to compare: as many orders as were asked for. What came back is checked here: each
certificate is for the key of its own order.

    async with CuttingProxy(port_of_the_server) as proxy:
        access = AuthorityAccess("ca", "sectigo", {"address": f"https://127.0.0.1:{proxy.port}", ...}, "manager", False)
        bought = await buy(access, orders(access, 200), home, seed=1, proxy=proxy)
    assert bought.kills > 20 and bought.cuts > 20
    assert simulator.orders == 200
"""

from __future__ import annotations

import asyncio
import os
import pickle
import random
import signal
import struct
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FrameType, TracebackType
from typing import IO, Any, Literal

from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

from activities.orders import Orders
from connectors.registry import Surroundings, installed
from connectors.secrets import resolve
from connectors.web import trusting
from model import x509
from model.keys import KeyAlgorithm
from model.messages import AuthorityAccess, Collected, CollectOrder, OrderPlaced, SubmitOrder
from tests.pki import make_csr, shared_key

ROOT = Path(__file__).resolve().parents[3]
MOST_ATTEMPTS = 80
# `make drill` buys that many from each CA.
DRILL = "CERTGATE_DRILL"
# Among so many orders some are placed and their answer is lost; among few it may be none.
ENOUGH = 60
Step = Literal["submit", "collect"]


# --- the connection ---------------------------------------------------------------------------------------------------


class CuttingProxy:
    """Stands before a server on 127.0.0.1 and cuts all connections after the byte that it is armed for."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._left: int | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.forwarded = 0
        self.cuts = 0

    async def __aenter__(self) -> CuttingProxy:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        self._abort()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    def arm(self, after: int) -> None:
        """Cut once, after so many more bytes."""
        self._left = after

    def disarm(self) -> bool:
        """Take it back; True if it has cut."""
        cut, self._left = self._left is None, None
        return cut

    def _abort(self) -> None:
        for writer in list(self._writers):
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        there: asyncio.StreamWriter | None = None
        try:
            back, there = await asyncio.open_connection("127.0.0.1", self._target)
            self._writers.add(there)
            await asyncio.gather(self._pass(reader, there), self._pass(back, writer))
        except OSError:
            pass
        finally:
            for one in (writer, there):
                if one is not None:
                    self._writers.discard(one)
                    one.transport.abort()
            self._tasks.discard(task)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while part := await reader.read(65_536):
            cut = self._left is not None and len(part) >= self._left
            if self._left is not None:
                part = part[: self._left]
                self._left = None if cut else self._left - len(part)
            self.forwarded += len(part)
            writer.write(part)
            with suppress(OSError):
                await writer.drain()
            if cut:
                self.cuts += 1
                # What was let through is to arrive: a reset would take it back out of the receiver's hands.
                with suppress(OSError):
                    writer.write_eof() if writer.can_write_eof() else writer.close()
                await asyncio.sleep(0)
                self._abort()
                return
        with suppress(OSError):
            if writer.can_write_eof():
                writer.write_eof()


# --- the process ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Job:
    """A step for a process of its own. `kill_at`: the line at which it dies; None lets it live and counts."""

    step: Step
    order: SubmitOrder
    number: str
    home: Path
    kill_at: int | None
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Done:
    """How a step ended: with a result, or with a failure (its type and sentence). `lines` were run of `connectors/`."""

    result: OrderPlaced | Collected | None
    kind: str = ""
    message: str = ""
    final: bool = False
    wait: float = 0.0
    lines: int = 0


class Zygote:
    """A process with everything loaded, that forks one for each job. It has no threads, so that forking is safe."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(  # with our own python, and nothing of the test's own state
            [sys.executable, "-m", "tests.connectors.ca.exactly_once"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )

    async def run(self, job: Job) -> Done | None:
        """The end of the job; None: it was killed."""
        return await asyncio.to_thread(self._run, job)

    def _run(self, job: Job) -> Done | None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        _send(self._process.stdin, job)
        done: Done | None = _receive(self._process.stdout)
        return done

    def close(self) -> None:
        """End it."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=30)
        assert self._process.stdout is not None
        self._process.stdout.close()


def _send(stream: IO[bytes], value: object) -> None:
    data = pickle.dumps(value)
    stream.write(struct.pack(">I", len(data)) + data)
    stream.flush()


def _receive(stream: IO[bytes]) -> Any:
    head = stream.read(4)
    if len(head) < 4:
        raise EOFError
    return pickle.loads(stream.read(struct.unpack(">I", head)[0]))


def serve() -> None:
    """The zygote's life. What a forked process needs is loaded here, once: it is to die at lines that do something."""
    installed("cas")
    while True:
        try:
            job: Job = _receive(sys.stdin.buffer)
        except EOFError:
            return
        ca_file = job.order.authority.settings.get("ca_file")
        trusting(Path(ca_file) if ca_file else None)
        ours, theirs = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(ours)
            os.dup2(2, 1)
            with os.fdopen(theirs, "wb") as stream:
                _send(stream, _work(job))
            os._exit(0)
        os.close(theirs)
        with os.fdopen(ours, "rb") as stream:
            try:
                done = _receive(stream)
            except EOFError:
                done = None
        _, status = os.waitpid(child, 0)
        if done is None and not (os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL):
            done = Done(None, "Broken", f"the forked process ended with status {status}", final=True)
        _send(sys.stdout.buffer, done)


def _work(job: Job) -> Done:
    os.environ.update(job.environment)
    lines = 0
    folder = str(ROOT / "connectors") + os.sep

    def line(_frame: FrameType, event: str, _argument: object) -> Any:
        nonlocal lines
        if event == "line":
            lines += 1
            if lines == job.kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
        return line

    def call(frame: FrameType, _event: str, _argument: object) -> Any:
        return line if frame.f_code.co_filename.startswith(folder) else None

    threading.settrace(call)
    sys.settrace(call)
    done = asyncio.run(attempt(Orders(Surroundings(job.home, resolve)), job.step, job.order, job.number))
    sys.settrace(None)
    return replace(done, lines=lines)


async def attempt(orders: Orders, step: Step, order: SubmitOrder, number: str) -> Done:
    """Run one step once, as a worker would, and say how it ended."""
    environment = ActivityEnvironment()
    result: OrderPlaced | Collected
    try:
        if step == "submit":
            result = await environment.run(orders.submit, order)
        else:
            result = await environment.run(orders.collect, CollectOrder(order.authority, number, order))
    except ApplicationError as error:
        wait = error.next_retry_delay.total_seconds() if error.next_retry_delay else 0.0
        return Done(None, error.type or "", error.message, error.non_retryable, wait)
    return Done(result)


# --- buying -----------------------------------------------------------------------------------------------------------


@dataclass
class Bought:
    """What came of it. `kills` and `cuts` are those that happened; `failures` counts how steps ended otherwise."""

    certificates: dict[str, Collected] = field(default_factory=dict)
    numbers: dict[str, str] = field(default_factory=dict)
    attempts: int = 0
    kills: int = 0
    cuts: int = 0
    found: int = 0
    failures: dict[str, int] = field(default_factory=dict)


def many(usual: int) -> int:
    """How many orders a test places: as many as the drill asks for, else the usual ones."""
    return int(os.environ.get(DRILL, usual))


def orders(access: AuthorityAccess, count: int, *, first: int = 1, **more: Any) -> list[SubmitOrder]:
    """Orders for ``www-N.example.com``, each with a key of its own among a few."""
    made = []
    for number in range(first, first + count):
        name = f"www-{number}.example.com"
        key = shared_key(KeyAlgorithm.EC_P256) if number % 8 else shared_key(KeyAlgorithm.RSA_2048)
        fields: dict[str, Any] = {"profile": None, "validity_seconds": None, "custom_fields": {}, **more}
        made.append(
            SubmitOrder(
                authority=access,
                reference=f"certgate-once-{number}",
                csr_pem=make_csr(key, [name]),
                common_name=name,
                names=[name],
                **fields,
            )
        )
    return made


async def buy(
    access: AuthorityAccess,
    wanted: Sequence[SubmitOrder],
    home: Path,
    *,
    seed: int,
    proxy: CuttingProxy | None = None,
    kill_share: float = 0.3,
    cut_share: float = 0.3,
    longest_wait: float = 0.02,
    environment: Mapping[str, str] | None = None,
) -> Bought:
    """Buy them all, one after the other. A step that fails for good fails the test.

    `longest_wait` cuts short what the CA asks us to wait for (seconds); `environment` is for processes of their own.
    """
    buyer = _Buyer(access, home, random.Random(seed), proxy, (kill_share, cut_share), longest_wait, environment or {})
    try:
        for order in wanted:
            await buyer.buy(order)
    finally:
        buyer.zygote.close()
        await buyer.opened.close()
    assert set(buyer.bought.certificates) == {one.reference for one in wanted}
    return buyer.bought


class _Buyer:
    def __init__(
        self,
        access: AuthorityAccess,
        home: Path,
        dice: random.Random,
        proxy: CuttingProxy | None,
        shares: tuple[float, float],
        longest_wait: float,
        environment: Mapping[str, str],
    ) -> None:
        self.access, self.home, self.dice, self.proxy = access, home, dice, proxy
        self.shares, self.longest_wait, self.environment = shares, longest_wait, environment
        self.zygote = Zygote()
        self.bought = Bought()
        self.opened = self._fresh()
        # As long as an undisturbed step was, in lines and in bytes.
        self._lines: dict[Step, int] = {}
        self._bytes: dict[Step, int] = {}

    def _fresh(self) -> Orders:
        return Orders(Surroundings(self.home, resolve))

    async def buy(self, order: SubmitOrder) -> None:
        placed = await self._step("submit", order, "")
        assert isinstance(placed, OrderPlaced)
        self.bought.found += placed.found
        self.bought.numbers[order.reference] = placed.order_number
        came = await self._step("collect", order, placed.order_number)
        assert isinstance(came, Collected)
        leaf = x509.load_certificate(came.certificate_pem)
        assert x509.public_key_sha256(leaf) == x509.public_key_sha256(x509.load_csr(order.csr_pem))
        assert sorted(x509.subject_names(leaf)) == sorted(order.names)
        self.bought.certificates[order.reference] = came

    async def _step(self, step: Step, order: SubmitOrder, number: str) -> OrderPlaced | Collected:
        told = ""
        for _ in range(MOST_ATTEMPTS):
            self.bought.attempts += 1
            done = await self._attempt(step, order, number)
            if done is None:
                self.bought.kills += 1
                continue
            if done.result is not None:
                return done.result
            told = f"{done.kind}: {done.message}"
            assert not done.final, f"{step} of {order.reference} failed for good: {told}"
            self.bought.failures[done.kind] = self.bought.failures.get(done.kind, 0) + 1
            await asyncio.sleep(min(done.wait, self.longest_wait))
        raise AssertionError(f"{step} of {order.reference} did not come to its end ({told})")

    async def _attempt(self, step: Step, order: SubmitOrder, number: str) -> Done | None:
        if step not in self._lines:
            return await self._measure(step, order, number)
        kill_share, cut_share = self.shares
        drawn = self.dice.random()
        if drawn < kill_share:
            # The worst moment is after the work was done and before anybody knows: drawn more often.
            lines = self._lines[step]
            at = (
                self.dice.randint(max(1, lines - 3), lines) if self.dice.random() < 0.4 else self.dice.randint(1, lines)
            )
            survived = await self.zygote.run(Job(step, order, number, self.home, at, self.environment))
            if survived is not None and survived.result is not None:
                # The first step was longer than those after it: it also opens accounts and makes files.
                self._lines[step] = max(survived.lines, 2)
            return survived
        if self.dice.random() < 0.3:
            await self.opened.close()
            self.opened = self._fresh()
        if self.proxy is None or drawn > kill_share + cut_share:
            return await attempt(self.opened, step, order, number)
        self.proxy.arm(self.dice.randint(1, self._bytes[step]))
        done = await attempt(self.opened, step, order, number)
        self.bought.cuts += self.proxy.disarm()
        return done

    async def _measure(self, step: Step, order: SubmitOrder, number: str) -> Done | None:
        before = self.proxy.forwarded if self.proxy else 0
        done = await self.zygote.run(Job(step, order, number, self.home, None, self.environment))
        assert done is not None
        if done.result is not None:
            self._lines[step] = max(done.lines, 2)
            self._bytes[step] = max((self.proxy.forwarded if self.proxy else 0) - before, 2)
        return done


if __name__ == "__main__":
    # Under its own name: what is pickled here has to be found there.
    from tests.connectors.ca import exactly_once

    exactly_once.serve()
