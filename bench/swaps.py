"""Certificates exchanged under load: a hundred times each on nginx, HAProxy (by reload and at runtime) and Apache, by
our own install procedure, while clients ask on new TLS connections all the time. No request may fail.

Each server is a real one in a folder of its own. The clients are a process of their own (`bench/load.py`); what a
request takes while certificates are exchanged stands beside what it takes when nothing is.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.load import Answers, Load
from tests.support.apache import DisposableApache
from tests.support.haproxy import DisposableHAProxy
from tests.support.installing import ThrowawayAuthority
from tests.support.nginx import NginxProduct
from tests.support.products import Installation, Product

SWAPS = 100
_THREADS = 4
_QUIET_SECONDS = 3.0


@dataclass(frozen=True)
class Swapped:
    """One server: the seconds of each install, and what the clients got meanwhile and before."""

    title: str
    installs: Sequence[float]
    seconds: float
    under_swaps: Answers
    quiet: Answers


@dataclass(frozen=True)
class Report:
    """All servers."""

    servers: Sequence[Swapped]

    @property
    def failed(self) -> int:
        """Requests that failed, at any of them."""
        return sum(one.under_swaps.failed for one in self.servers)

    def as_json(self) -> Mapping[str, Any]:
        """As one JSON object."""
        return {
            "swaps": {
                one.title: {
                    "swaps": len(one.installs),
                    "install_median_ms": round(1000 * statistics.median(one.installs), 1),
                    "install_slowest_ms": round(1000 * max(one.installs), 1),
                    "requests": len(one.under_swaps.seconds),
                    "failed": one.under_swaps.failed,
                    "failures": one.under_swaps.failures,
                    "requests_per_second": round(len(one.under_swaps.seconds) / one.seconds, 1),
                    "request_median_ms": round(1000 * one.under_swaps.quantile(0.5), 2),
                    "request_p99_ms": round(1000 * one.under_swaps.quantile(0.99), 2),
                    "request_slowest_ms": round(1000 * one.under_swaps.quantile(1), 2),
                    "quiet_request_median_ms": round(1000 * one.quiet.quantile(0.5), 2),
                    "quiet_request_p99_ms": round(1000 * one.quiet.quantile(0.99), 2),
                }
                for one in self.servers
            }
        }

    def print(self, console: Console) -> None:
        """As a table."""
        table = Table(
            title=f"Certificates exchanged under load ({_THREADS} clients, new connections)", title_justify="left"
        )
        for column in ("", "swaps", "install", "slowest", "requests", "failed", "request p50 / p99", "without swaps"):
            table.add_column(column, justify="left" if not column else "right")
        for one in self.servers:
            table.add_row(
                one.title,
                str(len(one.installs)),
                f"{1000 * statistics.median(one.installs):.0f} ms",
                f"{1000 * max(one.installs):.0f} ms",
                f"{len(one.under_swaps.seconds):,}",
                str(one.under_swaps.failed),
                _quantiles(one.under_swaps),
                _quantiles(one.quiet),
            )
        console.print(table)
        for one in self.servers:
            for words, count in one.under_swaps.failures.items():
                console.print(f"{one.title}: {count} × {words}")


def _quantiles(answers: Answers) -> str:
    return f"{1000 * answers.quantile(0.5):.1f} / {1000 * answers.quantile(0.99):.1f} ms"


async def measure(swaps: int, say: Callable[[str], None]) -> Report:
    """Exchange `swaps` certificates on each server."""
    servers: Sequence[tuple[str, Callable[[Path], AbstractContextManager[Product]]]] = (
        ("nginx, reload", NginxProduct),
        ("HAProxy, reload", DisposableHAProxy),
        ("HAProxy, at runtime", lambda folder: DisposableHAProxy(folder, update="runtime")),
        ("Apache, graceful", DisposableApache),
    )
    found = []
    for title, make in servers:
        with tempfile.TemporaryDirectory(prefix="certgate-bench-") as folder, make(Path(folder) / "server") as product:
            found.append(await swap(title, product, Path(folder), swaps, _QUIET_SECONDS))
        last = found[-1]
        say(
            f"{title}: {swaps} swaps in {last.seconds:.0f} s, {len(last.under_swaps.seconds):,} requests, "
            f"{last.under_swaps.failed} failed."
        )
    return Report(found)


async def swap(title: str, product: Product, folder: Path, swaps: int, quiet_seconds: float) -> Swapped:
    """Exchange `swaps` certificates of a product that runs; `folder` is for the journal."""
    place, authority = Installation(product, folder / "home"), ThrowawayAuthority()
    (probe, *_) = (await place.binding()).probes
    with Load(probe.listener.port, product.names[0], _THREADS) as quiet:
        await asyncio.sleep(quiet_seconds)
    installs = []
    begin = time.perf_counter()
    with Load(probe.listener.port, product.names[0], _THREADS) as load:
        for _ in range(swaps):
            material = authority.issue(*product.names)
            started = time.perf_counter()
            report = await place.install(material)
            installs.append(time.perf_counter() - started)
            assert not report.already
    return Swapped(title, installs, time.perf_counter() - begin, load.answers, quiet.answers)
