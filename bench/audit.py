"""`python -m bench.audit`: the audit trail with a million entries, against the same with a thousand.

On a new SQLite file, or with `--database URL` on an empty PostgreSQL database. Part of `python -m bench`, on SQLite.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, NoReturn

from rich.console import Console
from rich.table import Table

from bench import trail
from model import audit
from model.database import Database
from model.errors import CertgateError, Unavailable
from model.rules.permissions import Grant
from model.states import AccessMethod, Outcome, Privilege, Role
from operations import audit_export, audit_trail
from operations.audit_trail import Filter
from operations.context import Actor, Context

FEW, MANY = 1_000, 1_000_000
_ROUNDS = 7
_PAGE = 50

Say = Callable[[str], None]


@dataclass(frozen=True)
class Took:
    """How long something took, and how much of it this process worked, in seconds."""

    wall: float
    processor: float


@dataclass(frozen=True)
class Figure:
    """How long something takes with few entries and with many, in seconds. What reads all of them is compared by the
    entry; `processor` is this process's own time for many."""

    key: str
    title: str
    few: float
    many: float
    processor: float
    reads: tuple[int, int] | None = None

    @property
    def ratio(self) -> float:
        """With many to with few."""
        few, many = self.reads or (1, 1)
        return (self.many / many) / (self.few / few)


@dataclass(frozen=True)
class Trail:
    """What was measured."""

    system: str
    entries: int
    figures: Sequence[Figure]

    def as_json(self) -> Mapping[str, Mapping[str, Any]]:
        """A key a figure; `ratio` compares with a trail of `FEW` entries."""
        return {
            f"audit_{one.key}": {
                "value": round(one.many * 1000, 2),
                "unit": "ms",
                "processor_ms": round(one.processor * 1000, 2),
                "ratio": round(one.ratio, 2),
            }
            for one in self.figures
        }

    def print(self, console: Console) -> None:
        """As a table."""
        table = Table(title=f"The audit trail with {self.entries:,} entries on {self.system}")
        for heading in ("", f"{FEW:,} entries", f"{self.entries:,} entries", "processor", "ratio"):
            table.add_column(heading, justify="left" if not heading else "right")
        for one in self.figures:
            each, own = (" by the entry", _shown(one.processor)) if one.reads else ("", "")
            table.add_row(one.title, _shown(one.few), _shown(one.many), own, f"{one.ratio:.2f}{each}")
        console.print(table)


def measure(entries: int, say: Say, url: str | None = None) -> Trail:
    """Fill a trail and measure it, with few entries first."""
    with tempfile.TemporaryDirectory(prefix="certgate-bench-audit-") as folder:
        database = Database(url or f"sqlite:///{Path(folder) / 'certgate.db'}")
        try:
            database.upgrade()
            with database.read() as session:
                if audit.verify(session).entries:
                    raise Unavailable(f"The database {database.describe()} is not empty: name a new one.")
            times = []
            for count in (FEW, entries):
                say(f"Filling the audit trail up to {count:,} entries …")
                with database.read() as session:
                    there = audit.verify(session).entries
                trail.fill(database, count - there)
                if not database.is_sqlite:
                    # As the server does by itself after a while.
                    with database.engine.connect() as connection:
                        connection.execution_options(isolation_level="AUTOCOMMIT")
                        connection.exec_driver_sql("VACUUM ANALYZE audit_entry")
                say(f"Reading a trail of {count:,} entries …")
                times.append((count, _read(database, count)))
        finally:
            database.close()
    (few, at_few), (many, at_many) = times
    figures = [
        Figure(key, title, at_few[key][0].wall, took.wall, took.processor, (few, many) if whole else None)
        for key, (took, title, whole) in at_many.items()
    ]
    return Trail("SQLite" if url is None else "PostgreSQL", entries, figures)


def _read(database: Database, count: int) -> dict[str, tuple[Took, str, bool]]:
    """How long, title, and whether all entries are read, by the key of each figure."""
    owner, of_one = _reader(database), _reader(database, 3)
    far = max(1, min(10_000, count // _PAGE // 2))
    half = trail.BEGIN + count // 2 * trail.STEP
    newest = trail.BEGIN + count * trail.STEP - timedelta(days=1)
    pages: dict[str, tuple[str, Callable[[], object]]] = {
        "page_1": ("page 1", lambda: _page(owner)),
        "page_far": (f"page {far:,} (of few: {FEW // _PAGE // 2})", lambda: _page(owner, page=far)),
        "page_before": ("the page before an old entry", lambda: _page(owner, before=count // 10)),
        "administrator": ("page 1 of one administrator", lambda: _page(owner, Filter(actor="admin-4"))),
        "actions": (
            "page 1 of three actions",
            lambda: _page(owner, Filter(actions=["key.ready", "order.placed", "gateway.edited"])),
        ),
        "gateway": ("page 1 of one gateway", lambda: _page(owner, Filter(gateway=8))),
        "refused": ("page 1 of what was refused", lambda: _page(owner, Filter(outcome=Outcome.REFUSED))),
        "two_filters": (
            "administrator and outcome, nothing fits",
            lambda: _page(owner, Filter(actor="certgate", outcome=Outcome.REFUSED)),
        ),
        "recent": ("page 1 of the newest day", lambda: _page(owner, Filter(since=newest))),
        "old_day": ("page 1 of an old day", lambda: _page(owner, Filter(since=half, until=half + timedelta(days=1)))),
        "organization": ("page 1 for an administrator of one organization", lambda: _page(of_one)),
        "choices": ("administrators and actions for the filters", lambda: audit_trail.choices(owner)),
        "search": ("search, found at once", lambda: _page(owner, Filter(search="Certificate"))),
    }
    found = {key: (_best(act), title, False) for key, (title, act) in pages.items()}
    found["search_nothing"] = (_once(lambda: _page(owner, Filter(search="nothing"))), "search, found nowhere", True)
    found["verify"] = (_once(lambda: _verified(owner)), "verify", True)
    found["export_csv"] = (_once(lambda: _exported(audit_export.export_csv(owner))), "export as CSV", True)
    found["export_jsonl"] = (_once(lambda: _exported(audit_export.export_jsonl(owner))), "export as JSON Lines", True)
    return found


def _page(context: Context, wanted: Filter | None = None, **turned: int) -> object:
    return audit_trail.listing(context, wanted or Filter(), limit=_PAGE, **turned)


def _verified(context: Context) -> None:
    finding = audit_trail.verify(context).finding
    assert finding is None, finding


def _exported(pieces: Iterator[str]) -> int:
    return sum(len(piece) for piece in pieces)


def _best(act: Callable[[], object]) -> Took:
    """The quickest of some: what else the machine does is not the trail's affair."""
    return min((_once(act) for _ in range(_ROUNDS)), key=lambda took: took.wall)


def _once(act: Callable[[], object]) -> Took:
    begin, own = time.perf_counter(), time.process_time()
    act()
    return Took(time.perf_counter() - begin, time.process_time() - own)


def _reader(database: Database, organization: int | None = None) -> Context:
    """An MRAO, or an administrator of one organization."""

    async def away() -> NoReturn:
        raise Unavailable("There is no engine here.")

    role = Role.MRAO if organization is None else Role.RAO
    grant = Grant(role, organization, None, frozenset({str(Privilege.VIEW_AUDIT)}))
    return Context(database, Actor(1, "bench", "", (grant,), "bench"), AccessMethod.API, away)


def _shown(seconds: float) -> str:
    return f"{seconds * 1000:,.1f} ms" if seconds < 1 else f"{seconds:,.1f} s"


def main() -> None:
    """Measure and tell."""
    parser = argparse.ArgumentParser(prog="bench.audit", description=__doc__)
    parser.add_argument("--entries", type=int, default=MANY, help="more than 1000 (default: %(default)s)")
    parser.add_argument("--database", help="URL of an empty PostgreSQL database (default: a new SQLite file)")
    wanted = parser.parse_args()
    progress = Console(stderr=True, soft_wrap=True)
    try:
        entries = max(wanted.entries, FEW + 1)
        measured = measure(entries, lambda words: progress.print(words, style="dim"), wanted.database)
    except CertgateError as error:
        sys.exit(error.message)
    measured.print(Console(width=max(120, Console().width)))


if __name__ == "__main__":
    main()
