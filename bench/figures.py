"""What was measured, as figures with units and ratios: for a table and for JSON."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.driving import Times

LEAST_THROUGHPUT, MOST_LATENCY = 0.75, 1.3


@dataclass(frozen=True)
class Ratio:
    """certgate's figure divided by the bare workflow's: over all rounds, and the least and most of single rounds."""

    all: float
    least: float
    most: float

    def __str__(self) -> str:
        return f"{self.all:.2f} ({self.least:.2f}–{self.most:.2f})"


@dataclass(frozen=True)
class Comparison:
    """One figure of certgate's and of the two bare workflows'."""

    key: str
    title: str
    unit: str
    target: str
    certgate: float
    waiting: float
    plain: float
    ratio: Ratio
    ratio_without_wait: Ratio


@dataclass
class Rounds:
    """The rounds at one number at a time: certgate, the bare workflow whose install waits as nginx makes everybody
    wait, and the one that does not wait."""

    clients: int
    certgate: list[Times] = field(default_factory=list)
    waiting: list[Times] = field(default_factory=list)
    plain: list[Times] = field(default_factory=list)

    def comparisons(self) -> list[Comparison]:
        """Throughput, median, 99th percentile."""
        at = f"{self.clients} at a time"
        throughput = f"≥ {LEAST_THROUGHPUT}"
        latency = f"≤ {MOST_LATENCY}"
        count = sum(len(times.approved_to_served) for times in self.certgate)
        return [
            self._compare(
                f"throughput_{self.clients}", f"{at}: requests", "1/s", throughput, lambda times: times.per_second
            ),
            self._compare(
                f"approved_to_served_median_{self.clients}",
                f"{at}: approved to served, median of {count}",
                "ms",
                latency,
                lambda times: 1000 * times.quantile(0.5),
            ),
            self._compare(
                f"approved_to_served_p99_{self.clients}",
                f"{at}: approved to served, 99th percentile",
                "ms",
                latency,
                lambda times: 1000 * times.quantile(0.99),
            ),
            self._compare(
                f"processor_time_{self.clients}",
                f"{at}: processor time a request, all processes",
                "ms",
                "",
                lambda times: 1000 * times.processor_each,
            ),
        ]

    def _compare(self, key: str, title: str, unit: str, target: str, figure: Callable[[Times], float]) -> Comparison:
        return Comparison(
            key,
            title,
            unit,
            target,
            figure(_pooled(self.certgate)),
            figure(_pooled(self.waiting)),
            figure(_pooled(self.plain)),
            _ratio(self.certgate, self.waiting, figure),
            _ratio(self.certgate, self.plain, figure),
        )


@dataclass(frozen=True)
class Size:
    """A history's size."""

    events: int
    size: int


@dataclass
class Report:
    """Everything."""

    rounds: Sequence[Rounds]
    one_nginx: Times
    reloads: Sequence[float]
    certgate: Size
    bare: Size
    cores: int
    load_before: float

    @property
    def reload(self) -> float:
        """nginx's own reload, the quickest, seconds."""
        return min(self.reloads)

    def as_json(self) -> Mapping[str, Mapping[str, Any]]:
        """A key a figure. `ratio` compares with the bare workflow whose install waits as nginx makes everybody wait,
        `ratio_without_nginx_wait` with the one that does not."""
        figures: dict[str, Mapping[str, Any]] = {}
        for one in [one for rounds in self.rounds for one in rounds.comparisons()]:
            figures[one.key] = {
                "value": _round(one.certgate),
                "unit": one.unit,
                "ratio": _round(one.ratio.all),
                "ratio_without_nginx_wait": _round(one.ratio_without_wait.all),
            } | ({"target_of_ratio": one.target} if one.target else {})
            figures[f"bare_with_nginx_wait_{one.key}"] = {"value": _round(one.waiting), "unit": one.unit}
            figures[f"bare_without_nginx_wait_{one.key}"] = {"value": _round(one.plain), "unit": one.unit}
        one_nginx = self.one_nginx
        clients = self.rounds[-1].clients
        figures |= {
            f"one_nginx_throughput_{clients}": {
                "value": _round(one_nginx.per_second),
                "unit": "1/s",
                "ratio_to_reloads_of_nginx_alone": _round(one_nginx.per_second * self.reload),
            },
            f"one_nginx_approved_to_served_median_{clients}": {
                "value": _round(1000 * one_nginx.quantile(0.5)),
                "unit": "ms",
            },
            f"one_nginx_approved_to_served_p99_{clients}": {
                "value": _round(1000 * one_nginx.quantile(0.99)),
                "unit": "ms",
            },
            "nginx_reload_alone": {"value": _round(1000 * self.reload), "unit": "ms"},
            "history_events": {
                "value": self.certgate.events,
                "unit": "events",
                "ratio": _round(self.certgate.events / self.bare.events),
            },
            "history_bytes": {
                "value": self.certgate.size,
                "unit": "bytes",
                "ratio": _round(self.certgate.size / self.bare.size),
            },
            "nginx_reload_alone_median": {"value": _round(1000 * statistics.median(self.reloads)), "unit": "ms"},
            "load_average_before": {"value": _round(self.load_before), "unit": "processes"},
            "cores": {"value": self.cores, "unit": "cores"},
        }
        return figures

    def print(self, console: Console) -> None:
        """As tables."""
        table = Table(title="certgate against a bare workflow of the same shape, same server, same run")
        for heading in ("", "certgate", "bare + nginx's wait", "ratio", "bare, no wait", "ratio", "target"):
            table.add_column(heading, justify="left" if not heading else "right")
        for one in [one for rounds in self.rounds for one in rounds.comparisons()]:
            figures = [f"{value:,.1f} {one.unit}" for value in (one.certgate, one.waiting, one.plain)]
            ratios = (str(one.ratio), str(one.ratio_without_wait))
            table.add_row(one.title, figures[0], figures[1], ratios[0], figures[2], ratios[1], one.target)
        console.print(table)
        clients, one_nginx = self.rounds[-1].clients, self.one_nginx
        console.print(
            f"{clients} at a time on ONE nginx, whose installs go one after the other: {one_nginx.per_second:.1f} "
            f"requests/s, approved to served {1000 * one_nginx.quantile(0.5):,.0f} ms (median), "
            f"{1000 * one_nginx.quantile(0.99):,.0f} ms (99th percentile of {len(one_nginx.approved_to_served)})."
        )
        median = 1000 * statistics.median(self.reloads)
        console.print(
            f"nginx alone, SIGHUP until only the new certificate is served: {1000 * self.reload:.0f} ms at best, "
            f"{median:.0f} ms in the median of {len(self.reloads)}; at most {1 / self.reload:.1f} reloads/s "
            "of one nginx."
        )
        console.print(
            f"History of a request: {self.certgate.events} events, {self.certgate.size:,} bytes "
            f"(bare: {self.bare.events} events, {self.bare.size:,} bytes). {self.cores} cores, load "
            f"average before the start {self.load_before:.1f}."
        )


def _pooled(rounds: Sequence[Times]) -> Times:
    return sum(rounds, Times())


def _ratio(ours: Sequence[Times], theirs: Sequence[Times], figure: Callable[[Times], float]) -> Ratio:
    singles = [figure(one) / figure(other) for one, other in zip(ours, theirs, strict=True)]
    return Ratio(figure(_pooled(ours)) / figure(_pooled(theirs)), min(singles), max(singles))


def _round(value: float) -> float:
    return round(value, 3 if value < 10 else 1)
