"""Very many bindings of one gateway, all installed on at once: on one nginx, on ten of them, on one HAProxy at runtime.

Installs on one server go one after the other, and each is proved on its own; so what nginx itself takes for a reload
with as many virtual hosts stands beside it (SIGHUP until every new connection is served the new certificate, nothing of
certgate around it). The ratio is to as many bare reloads, one after the other on each server.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table

from bench import nginx_alone
from connectors.endpoints.contract import Endpoint
from connectors.endpoints.journal import Journal
from connectors.endpoints.procedure import install
from connectors.registry import Surroundings, find
from tests.support.haproxy import DisposableHAProxy
from tests.support.installing import ThrowawayAuthority, local_host, no_secrets
from worker.playground import DisposableNginx

BINDINGS = 200
_RELOADS = 5


@dataclass(frozen=True)
class Target:
    """One server: its connector, settings, and the bindings with the name of each."""

    type: str
    settings: Mapping[str, Any]
    names: Mapping[str, str]


@dataclass(frozen=True)
class Installed:
    """All installs of one arrangement. `each` is how long every one took from its own begin, without waiting for its
    turn; `processor` is of this process, in seconds an install; `reload` is a bare one of one of the `servers`."""

    title: str
    seconds: float
    each: Sequence[float]
    processor: float
    servers: int
    reload: float | None

    @property
    def ratio(self) -> float | None:
        """All installs, to as many bare reloads."""
        return None if self.reload is None else self.seconds / (self.reload * len(self.each) / self.servers)


@dataclass(frozen=True)
class Report:
    """All arrangements."""

    bindings: int
    arrangements: Sequence[Installed]

    def as_json(self) -> Mapping[str, Any]:
        """As one JSON object."""
        return {
            "bindings": {
                "count": self.bindings,
                **{
                    one.title: {
                        "seconds": round(one.seconds, 2),
                        "installs_per_second": round(len(one.each) / one.seconds, 2),
                        "install_median_ms": round(1000 * statistics.median(one.each), 1),
                        "install_slowest_ms": round(1000 * max(one.each), 1),
                        "own_processor_ms": round(1000 * one.processor, 1),
                        "servers_own_reload_ms": None if one.reload is None else round(1000 * one.reload, 1),
                        "ratio": None if one.ratio is None else round(one.ratio, 2),
                    }
                    for one in self.arrangements
                },
            }
        }

    def print(self, console: Console) -> None:
        """As a table."""
        table = Table(title=f"{self.bindings} bindings of one gateway, installed on at once", title_justify="left")
        for title in (
            "",
            "all",
            "installs/s",
            "an install",
            "slowest",
            "own processor",
            "server's own reload",
            "ratio",
        ):
            table.add_column(title, justify="left" if not title else "right")
        for one in self.arrangements:
            median = statistics.median(one.each)
            table.add_row(
                one.title,
                f"{one.seconds:.1f} s",
                f"{len(one.each) / one.seconds:.1f}",
                f"{1000 * median:.0f} ms",
                f"{1000 * max(one.each):.0f} ms",
                f"{1000 * one.processor:.0f} ms",
                "–" if one.reload is None else f"{1000 * one.reload:.0f} ms",
                "–" if one.ratio is None else f"{one.ratio:.2f}",
            )
        console.print(table)


async def measure(bindings: int, say: Callable[[str], None]) -> Report:
    """Install on `bindings` bindings in each arrangement."""
    found = []
    for title, make in (
        ("one nginx", lambda folder: _nginx(folder, 1, bindings)),
        ("ten nginx", lambda folder: _nginx(folder, 10, bindings)),
        ("one HAProxy, at runtime", lambda folder: _haproxy(folder, bindings)),
    ):
        with tempfile.TemporaryDirectory(prefix="certgate-bench-") as name, make(Path(name)) as (targets, reload):
            own = await reload() if reload is not None else None
            found.append(await _install(title, targets, Path(name) / "home", own))
        say(f"{title}: {bindings} installs in {found[-1].seconds:.1f} s.")
    return Report(bindings, found)


async def _install(title: str, targets: Sequence[Target], home: Path, reload: float | None) -> Installed:
    """All at once, as requests do that are approved together."""
    authority, journal, each = ThrowawayAuthority(), Journal(home / "journal"), list[float]()

    async def one(target: Target, binding: str, name: str) -> None:
        material, begin = authority.issue(name), 0.0

        def progress(step: str) -> None:
            nonlocal begin
            if not step.startswith("waiting for"):
                begin = begin or time.perf_counter()

        report = await install(_endpoint(target, home), binding, material, journal=journal, progress=progress)
        assert not report.already
        each.append(time.perf_counter() - begin)

    process, begin = psutil.Process(), time.perf_counter()
    before = process.cpu_times()
    await asyncio.gather(*(one(target, binding, name) for target in targets for binding, name in target.names.items()))
    seconds, after = time.perf_counter() - begin, process.cpu_times()
    processor = (after.user + after.system - before.user - before.system) / len(each)
    return Installed(title, seconds, each, processor, len(targets), reload)


def _endpoint(target: Target, home: Path) -> Endpoint:
    kind = find("endpoints", target.type)
    surroundings = Surroundings(home=home, secret=no_secrets, host=local_host())
    endpoint: Endpoint = kind.open(kind.configure(target.settings), surroundings)
    return endpoint


@contextmanager
def _nginx(folder: Path, servers: int, bindings: int) -> Iterator[tuple[list[Target], Callable[[], Any]]]:
    with ExitStack() as stack:
        made = []
        for number in range(servers):
            names = [f"h{index}.bench.example" for index in range(number, bindings, servers)]
            made.append(stack.enter_context(DisposableNginx(folder / f"nginx-{number}", names)))
        targets = [
            Target("nginx", server.settings, {site.binding_id: site.name for site in server.sites}) for server in made
        ]

        async def reload() -> float:
            return statistics.median([await nginx_alone.reload_seconds(made[0]) for _ in range(_RELOADS)])

        yield targets, reload


@contextmanager
def _haproxy(folder: Path, bindings: int) -> Iterator[tuple[list[Target], None]]:
    names = [f"h{index}.bench.example" for index in range(bindings)]
    with DisposableHAProxy(folder / "haproxy", names, update="runtime") as server:
        found = {f"{site.certificate.name}:{site.port}": site.name for site in server.sites}
        yield [Target("haproxy", server.settings, found)], None
