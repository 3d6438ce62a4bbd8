"""The audit trail as it is read: filters, pages, exports, for those who may, at the price of a page."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from bench import trail
from model import audit
from model.database import Database
from model.errors import InvalidInput, NotFound, NotPermitted, Unavailable
from model.rules.permissions import Grant
from model.states import AccessMethod, Outcome, Privilege, Role
from operations import administrators, audit_export, audit_trail, gateway_changes
from operations.audit_trail import AuditRow, Filter
from operations.context import Actor, Context
from tests.operations.conftest import NOW, Records
from tests.support import databases
from tests.support.postgres import Postgres, postgres

Keeps = Callable[[dict[str, Any]], bool]

ENTRIES = 5_000
ON = ("sqlite", "postgresql")
TOLD = [trail.entry(number, "") for number in range(1, ENTRIES + 1)]


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    """One PostgreSQL for this file."""
    with postgres() as running:
        yield running


@contextmanager
def filled(request: pytest.FixtureRequest, name: str) -> Iterator[Database]:
    """A trail of `ENTRIES` entries."""
    if request.param == "sqlite":
        database = databases.empty(request.getfixturevalue("tmp_path_factory").mktemp(name))
    else:
        server: Postgres = request.getfixturevalue("server")
        database = Database(server.create(name))
        database.upgrade()
    trail.fill(database, ENTRIES)
    if not database.is_sqlite:
        with database.engine.begin() as connection:
            connection.exec_driver_sql("ANALYZE audit_entry")
    yield database
    database.close()


@pytest.fixture(scope="module", params=ON)
def long(request: pytest.FixtureRequest) -> Iterator[Database]:
    """A trail to which no test adds."""
    with filled(request, "long") as database:
        yield database


@pytest.fixture(scope="module", params=ON)
def growing(request: pytest.FixtureRequest) -> Iterator[Database]:
    """A trail to which exports add themselves."""
    with filled(request, "growing") as database:
        yield database


def reading(database: Database, *grants: Grant) -> Context:
    """Somebody who reads; without a grant an MRAO."""

    async def away() -> Any:
        raise Unavailable("There is no engine here.")

    held = grants or (Grant(Role.MRAO, None, None, frozenset()),)
    return Context(database, Actor(1, "reader", "", held, "reader"), AccessMethod.API, away, lambda: NOW)


def of(*organizations: int, departments: tuple[int, ...] = ()) -> tuple[Grant, ...]:
    """Grants to read there."""
    may = frozenset({str(Privilege.VIEW_AUDIT)})
    return (
        *(Grant(Role.RAO, number, None, may) for number in organizations),
        *(Grant(Role.DRAO, 1, number, may) for number in departments),
    )


def numbers(rows: list[AuditRow]) -> list[int]:
    return [row.sequence for row in rows]


def fits(*conditions: Keeps) -> list[int]:
    """The numbers of the entries that fit, by looking at each, the newest first."""
    return [entry["sequence"] for entry in reversed(TOLD) if all(keeps(entry) for keeps in conditions)]


FILTERS: dict[str, tuple[Filter, Keeps]] = {
    "nothing": (Filter(), lambda e: True),
    "blank search": (Filter(search="  "), lambda e: True),
    "administrator": (Filter(actor="admin-4"), lambda e: e["actor"] == "admin-4"),
    "action": (Filter(actions=["key.ready"]), lambda e: e["action"] == "key.ready"),
    "some actions": (
        Filter(actions=["key.ready", "gateway.edited", "key.ready"]),
        lambda e: e["action"] in ("key.ready", "gateway.edited"),
    ),
    "outcome": (Filter(outcome=Outcome.REFUSED), lambda e: e["outcome"] == "refused"),
    "way": (Filter(access_method=AccessMethod.API), lambda e: e["access_method"] == "api"),
    "kind of object": (Filter(object_type="gateway"), lambda e: e["object_type"] == "gateway"),
    "object": (
        Filter(object_type="request", object_id=300),
        lambda e: e["object_type"] == "request" and e["object_id"] == 300,
    ),
    "gateway": (Filter(gateway=8), lambda e: e["gateway_id"] == 8),
    "gateway and actions": (
        Filter(gateway=8, actions=["key.ready", "order.placed"]),
        lambda e: e["gateway_id"] == 8 and e["action"] in ("key.ready", "order.placed"),
    ),
    "since": (Filter(since=trail.BEGIN + 4000 * trail.STEP), lambda e: e["sequence"] >= 4000),
    "range": (
        Filter(since=trail.BEGIN + 1000 * trail.STEP, until=trail.BEGIN + 2000 * trail.STEP),
        lambda e: 1000 <= e["sequence"] < 2000,
    ),
    "range with nothing in it": (Filter(until=trail.BEGIN), lambda e: False),
    "common and rare": (
        Filter(actor="certgate", outcome=Outcome.FAILED, access_method=AccessMethod.WORKFLOW),
        lambda e: e["actor"] == "certgate" and e["outcome"] == "failed",
    ),
    "search": (Filter(search="HOST-30"), lambda e: "host-30" in e["description"]),
    "search of other letters": (Filter(search="FÜRS BÜRO – «GUT»"), lambda e: "fürs Büro" in e["description"]),
    "search for signs": (Filter(search="100 %"), lambda e: "100 %" in e["description"]),
    "search for wildcards": (Filter(search="host_3%"), lambda e: False),
    "search and administrator": (
        Filter(search="issued", actor="admin-20"),
        lambda e: e["actor"] == "admin-20" and "issued" in e["description"],
    ),
}

READERS: dict[str, tuple[tuple[Grant, ...], Keeps]] = {
    "everything": ((), lambda e: True),
    "one organization": (of(3), lambda e: e["organization_id"] == 3),
    "two organizations and a department": (of(3, 8, departments=(1,)), lambda e: e["organization_id"] in (3, 8)),
    "many organizations": (of(*range(2, 60)), lambda e: e["organization_id"] >= 2),
}


@pytest.mark.parametrize("reader", READERS)
def test_a_filter_keeps_what_fits_and_all_ways_lead_to_it(long: Database, reader: str) -> None:
    grants, may_read = READERS[reader]
    context = reading(long, *grants)
    for name, (wanted, keeps) in list(FILTERS.items())[:: 1 if long.is_sqlite or not grants else 3]:
        expected = fits(may_read, keeps)
        page = audit_trail.listing(context, wanted, limit=37)
        assert numbers(page.rows) == expected[:37], name
        if not wanted.search.strip():
            assert (page.total, page.counted) == (len(expected), True), name
        walked, before = numbers(page.rows), page.older
        while before is not None and len(walked) < 80:
            page = audit_trail.listing(context, wanted, before=before, limit=37)
            walked += numbers(page.rows)
            before = page.older
        assert walked == expected[: len(walked)], name
        assert len(walked) >= min(len(expected), 80), name
        second = audit_trail.listing(context, wanted, page=2, limit=37)
        assert numbers(second.rows) == (expected[37:74] or expected[:37]), name


def test_pages_are_turned_in_both_directions_and_know_where_they_are(long: Database) -> None:
    for context, wanted in (
        (reading(long), Filter()),
        (reading(long, *of(3)), Filter()),
        (reading(long), Filter(outcome=Outcome.DONE)),
    ):
        every = numbers(audit_trail.listing(context, wanted, limit=ENTRIES).rows)
        first = audit_trail.listing(context, wanted, limit=10)
        assert (first.first, first.newer, first.total) == (1, None, len(every))
        second = audit_trail.listing(context, wanted, before=first.older, limit=10)
        assert (second.first, second.newer) == (11, every[10])
        back = audit_trail.listing(context, wanted, after=second.newer, limit=10)
        assert numbers(back.rows) == every[:10]
        oldest = audit_trail.listing(context, wanted, after=0, limit=10)
        assert numbers(oldest.rows) == every[-10:]
        assert (oldest.older, oldest.first) == (None, len(every) - 9)
        last = audit_trail.listing(context, wanted, page=10_000_000, limit=10)
        assert numbers(last.rows) == every[-(len(every) % 10 or 10) :]
        for beyond in ({"before": 1}, {"before": -(10**30)}, {"after": 10**30}, {"after": every[0]}):
            nothing = audit_trail.listing(context, wanted, limit=10, **beyond)
            assert (nothing.rows, nothing.first, nothing.newer, nothing.older) == ([], None, None, None)
        assert numbers(audit_trail.listing(context, wanted, page=-3, limit=10).rows) == every[:10]


def test_what_is_too_much_is_not_counted(long: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit_trail, "MOST_COUNTED", 100)
    context, wanted = reading(long), Filter(outcome=Outcome.DONE)
    page = audit_trail.listing(context, wanted, limit=10)
    assert (page.total, page.counted, page.first) == (100, False, 1)
    assert audit_trail.listing(context, wanted, page=99, limit=10).first == 91
    far = audit_trail.listing(context, wanted, before=1000, limit=10)
    assert (far.total, far.counted, far.first, len(far.rows)) == (100, False, None, 10)
    few = audit_trail.listing(context, Filter(outcome=Outcome.REFUSED), limit=3)
    assert (few.total, few.counted) == (5, True)
    sought = audit_trail.listing(context, Filter(search="approved"), limit=10)
    assert (sought.total, sought.counted, sought.first) == (10, False, 1)


INDEXES = {
    "administrator": "ix_audit_entry_actor",
    "some actions": "ix_audit_entry_action",
    "outcome": "ix_audit_entry_outcome",
    "way": "ix_audit_entry_access_method",
    "object": "ix_audit_entry_object",
    "gateway": "ix_audit_entry_gateway_id",
    "range": "ix_audit_entry_time",
}


def test_a_page_is_read_in_the_order_of_an_index(long: Database) -> None:
    """Neither sorted nor looked through: what the database itself says of how it reads."""
    seen: list[tuple[str, Any]] = []

    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_rest: Any) -> None:
        if statement.lstrip().startswith("SELECT"):
            seen.append((statement, parameters))

    event.listen(long.engine, "before_cursor_execute", note)
    try:
        for grants in ((), of(3), of(3, 8)):
            for name, index in INDEXES.items():
                seen.clear()
                for turned in ({"page": 1}, {"before": 4000}):
                    audit_trail.listing(reading(long, *grants), FILTERS[name][0], limit=10, **turned)
                asked = {
                    text: values
                    for text, values in seen
                    if "audit_entry" in text and ("ORDER BY" in text or "min(" in text)
                }
                plans = [_plan(long, text, values) for text, values in asked.items()]
                for plan in plans:
                    assert not any(word in plan for word in ("TEMP B-TREE", "MULTI-INDEX OR", "Sort", "Seq Scan")), plan
                if long.is_sqlite or name in ("administrator", "object", "gateway", "range"):
                    led = "\n".join(plans)
                    assert index in led or (grants and "ix_audit_entry_organization_id" in led), name
    finally:
        event.remove(long.engine, "before_cursor_execute", note)


def _plan(database: Database, statement: str, parameters: Any) -> str:
    with database.engine.connect() as connection:
        if database.is_sqlite:
            rows = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters).all()
            return "\n".join(str(row[3]) for row in rows)
        # On so few entries reading all of them may be the quickest: asked for what it could do with many.
        connection.exec_driver_sql("SET LOCAL enable_seqscan = off")
        connection.exec_driver_sql("SET LOCAL enable_bitmapscan = off")
        connection.exec_driver_sql("SET LOCAL enable_sort = off")
        return "\n".join(row[0] for row in connection.exec_driver_sql(f"EXPLAIN {statement}", parameters).all())


def test_the_names_of_an_administrator_are_one(records: Records) -> None:
    context = records.acting("mrao")
    owner = replace(context, actor=replace(context.actor, described="mrao (owner of the home)"))
    for acting in (context, owner, owner):
        administrators.token(acting, "rao", timedelta(hours=1))
    assert audit_trail.listing(context, Filter(actor="mrao")).total == 3
    assert audit_trail.listing(context, Filter(actor="mra")).total == 0
    actors = audit_trail.choices(context).actors
    assert "mrao" in actors
    assert not [name for name in actors if "(" in name]


def test_choices_tell_nothing_of_others(long: Database) -> None:
    everything = audit_trail.choices(reading(long))
    assert {"admin-4", "certgate"} <= set(everything.actors)
    assert {"key.ready", "session.started"} <= set(everything.actions)
    own = audit_trail.choices(reading(long, *of(3)))
    assert set(own.actors) == {entry["actor"] for entry in TOLD if entry["organization_id"] == 3}
    assert set(own.actions) == {entry["action"] for entry in TOLD if entry["organization_id"] == 3}
    assert audit_trail.choices(reading(long, *of(99))) == audit_trail.Choices([], [])


def test_the_audit_of_a_gateway(records: Records) -> None:
    """By name or number; one that is not his does not exist for him, one that was deleted is found by its number."""
    with records.database.write() as session:
        for gateway, organization, told in ((2, 1, "Alpha's"), (4, 2, "Beta's"), (99, 1, "gone")):
            act = audit.Act(
                "mrao", AccessMethod.API, "gateway.edited", "gateway", f"{told} gateway was edited.",
                object_id=gateway, gateway_id=gateway, organization_id=organization,
            )  # fmt: skip
            audit.append(session, act, NOW)
    for login in ("mrao", "rao"):
        context = records.acting(login)
        for which in ("ALPHA", 2):
            (row,) = audit_trail.listing(context, Filter(gateway=which)).rows
            assert (row.gateway_id, row.gateway, row.description) == (2, "alpha", "Alpha's gateway was edited.")
        (row,) = audit_trail.listing(context, Filter(gateway=99)).rows
        assert (row.gateway_id, row.gateway) == (99, None)
    for login, which in (("stranger", "alpha"), ("stranger", 2), ("stranger", 99), ("rao", "beta"), ("rao", 4),
                         ("mrao", 98), ("mrao", 0), ("mrao", -1), ("mrao", 10**30), ("mrao", "nowhere")):  # fmt: skip
        with pytest.raises(NotFound):
            audit_trail.listing(records.acting(login), Filter(gateway=which))


def test_what_was_refused_at_a_gateway_stands_in_its_audit(records: Records) -> None:
    for which, reader, others in (("web", "drao", "stranger"), ("alpha", "rao", "drao"), ("general", "mrao", "rao")):
        with pytest.raises(NotPermitted):
            gateway_changes.delete(records.acting("bare"), which)
        (row,) = audit_trail.listing(records.acting(reader), Filter(gateway=which, outcome=Outcome.REFUSED)).rows
        assert (row.action, row.actor, row.object_id, row.gateway) == ("gateway.deleted", "bare", row.gateway_id, which)
        refused = audit_trail.listing(records.acting(others), Filter(outcome=Outcome.REFUSED)).rows
        assert row.sequence not in numbers(refused)


@pytest.mark.parametrize(
    "wanted",
    [
        Filter(search="x" * 257),
        Filter(search="a\0b"),
        Filter(actor="a\0b"),
        Filter(actions=["x" * 257]),
        Filter(object_id=1),
        Filter(since=NOW, until=NOW),
    ],
)
def test_what_makes_no_sense_is_a_sentence(long: Database, wanted: Filter) -> None:
    for ask in (audit_trail.listing, audit_export.export_csv, audit_export.export_jsonl):
        with pytest.raises(InvalidInput):
            ask(reading(long), wanted)


def test_numbers_beyond_all_find_nothing(long: Database) -> None:
    for number in (-1, 2**31, 10**30):
        assert audit_trail.listing(reading(long), Filter(object_type="request", object_id=number)).rows == []
        with pytest.raises(NotFound):
            audit_trail.show(reading(long), number)


def test_json_lines_prove_themselves(growing: Database) -> None:
    """Whoever has the file alone can calculate the chain anew (docs/audit.md)."""
    told: list[int] = []
    pieces = list(audit_export.export_jsonl(reading(growing), Filter(until=NOW), told.append))
    assert len(pieces) == -(-ENTRIES // 2000)
    assert told == [2000, 4000, 5000]
    entries = [json.loads(line) for line in "".join(pieces).splitlines()]
    assert [entry["sequence"] for entry in entries] == list(range(1, ENTRIES + 1))
    previous = audit.ORIGIN
    for entry in entries:
        assert entry["previous_hash"] == previous
        previous = audit.chained(previous, [entry[name] for name in audit.FIELDS])
        assert entry["hash"] == previous


def test_the_program_in_the_documents_checks_an_export(growing: Database, tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "audit.md").read_text(encoding="utf-8")
    program, file = page.partition("```python\n")[2].partition("```")[0], tmp_path / "audit.jsonl"
    lines = "".join(audit_export.export_jsonl(reading(growing))).splitlines(keepends=True)
    for changed, code, said in (
        (lines, 0, f"{len(lines)} entries, the last hash is {json.loads(lines[-1])['hash']}"),
        ([*lines[:7], lines[7].replace('"actor": "', '"actor": "x'), *lines[8:]], 1, "entry 8 is not what it was"),
        ([*lines[:7], *lines[8:]], 1, "entry 8 is not what it was"),
    ):
        file.write_text("".join(changed), encoding="utf-8")
        done = subprocess.run([sys.executable, "-c", program, file], capture_output=True, text=True, check=False)
        assert (done.returncode, (done.stdout + done.stderr).strip()) == (code, said)


def test_an_export_keeps_what_its_filter_keeps(growing: Database) -> None:
    for grants, may_read in READERS.values():
        context = reading(growing, *grants)
        for name in ("some actions", "search", "range", "range with nothing in it", "common and rare"):
            wanted, keeps = FILTERS[name]
            found = "".join(audit_export.export_jsonl(context, wanted)).splitlines()
            expected = fits(may_read, keeps)
            exported = [json.loads(line)["sequence"] for line in found]
            # The exports themselves are told in the trail, with the words that were searched for.
            assert [number for number in exported if number <= ENTRIES] == expected[::-1], name


def test_an_export_is_told_and_does_not_hold_itself(records: Records) -> None:
    context = records.acting("rao")
    wanted = Filter(search="something", actions=["request.done"], since=NOW - timedelta(days=1))
    pieces = audit_export.export_csv(context, wanted)
    # Told before the first byte leaves, and what comes later is not in it.
    newest = audit_trail.listing(context).rows[0]
    assert (newest.action, newest.actor, newest.organization_id) == ("audit.exported", "rao", 1)
    assert "as CSV: search something, action request.done, since 2026-11-22T12:00:00+00:00." in newest.description
    rows = list(csv.DictReader(io.StringIO("".join(pieces), newline="")))
    assert [row["action"] for row in rows] == ["request.done"]
    assert audit_trail.listing(records.acting("stranger"), Filter(actions=["audit.exported"])).rows == []


def test_csv_is_no_program_and_json_commands_no_terminal(records: Records) -> None:
    hostile = [
        "=1+1",
        "+1",
        "-1",
        "@SUM(A1)",
        "\tx",
        "\rx",
        '=LINK("http://x")',
        "a\x1b[2Jb",
        "two\nlines",
        'a","b',
    ]
    with records.database.write() as session:
        for text in hostile:
            audit.append(session, audit.Act("=evil", AccessMethod.API, "test", "test", text), NOW)
    context = records.acting("mrao")
    text = "".join(audit_export.export_csv(context, Filter(actions=["test"])))
    assert text.startswith(",".join(audit_export.COLUMNS) + "\r\n")
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    assert [row["description"] for row in rows] == [
        "'=1+1", "'+1", "'-1", "'@SUM(A1)", "'\N{REPLACEMENT CHARACTER}x", "'\N{REPLACEMENT CHARACTER}x",
        "'=LINK(\"http://x\")", "a\N{REPLACEMENT CHARACTER}[2Jb", "two\nlines", 'a","b',
    ]  # fmt: skip
    assert {row["actor"] for row in rows} == {"'=evil"}
    assert {row["gateway_id"] for row in rows} == {""}
    lines = "".join(audit_export.export_jsonl(context, Filter(actions=["test"])))
    assert lines.replace("\n", "").isprintable()
    assert [json.loads(line)["description"] for line in lines.splitlines()] == hostile


def test_a_trail_that_was_changed_is_found(records: Records) -> None:
    context = records.acting("mrao")
    told: list[tuple[int, int]] = []
    assert audit_trail.verify(context, progress=lambda done, of: told.append((done, of))).finding is None
    assert told == [(3, 3)]
    with records.database.engine.begin() as connection:
        for trigger in connection.exec_driver_sql("SELECT name FROM sqlite_master WHERE type = 'trigger'").all():
            connection.exec_driver_sql(f"DROP TRIGGER {trigger[0]}")
        connection.exec_driver_sql("UPDATE audit_entry SET description = 'nothing' WHERE sequence = 2")
    finding = audit_trail.verify(context).finding
    assert finding is not None
    assert finding.sequence == 2


def test_a_detail_names_what_its_reader_may_know(records: Records) -> None:
    detail = audit_trail.show(records.acting("drao"), 1)
    assert (detail.organization, detail.department, detail.once) == ("Alpha", "Web", None)
    assert (detail.row.sequence, detail.previous_hash) == (1, audit.ORIGIN)
