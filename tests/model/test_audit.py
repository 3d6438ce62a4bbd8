"""The audit trail: gapless, chained, and guarded by the database itself."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DatabaseError
from sqlmodel import select

from bench import trail
from model import audit
from model.database import Database
from model.states import AccessMethod
from model.tables import AuditEntry
from tests.support import databases

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)


REST = (
    "time, actor, access_method, action, object_type, object_id, gateway_id, organization_id, department_id, "
    "description, outcome, once, previous_hash, hash"
)
COLUMNS = f"sequence, {REST}"
COLUMNS_AS_FOUR = f"4, {REST}"
# The next entry as it must be, but with the `once` of an entry that is there: a replacement would delete that one.
NEXT_WITH_ONCE = (
    "sequence + 1, '2026-01-01 00:00:00.000000', 'bob', 'api', 'a', 'b', 1, 1, 1, 1, '', 'done', 'once-2', hash, 'x'"
)


def act(number: int, once: str | None = None) -> audit.Act:
    """An act to tell."""
    return audit.Act("alice", AccessMethod.API, "test.done", "test", f"act {number} – «ü»", object_id=number, once=once)


def fill(database: Database, count: int) -> None:
    """Tell so many acts."""
    for number in range(count):
        with database.write() as session:
            audit.append(session, act(number), NOW)


def unguarded(database: Database, *statements: str) -> None:
    """What somebody does who owns the database file."""
    with database.engine.connect() as connection:
        found = "SELECT name FROM sqlite_schema WHERE type = 'trigger' AND tbl_name LIKE 'audit_%'"
        for trigger in connection.execute(text(found)).scalars().all():
            connection.execute(text(f"DROP TRIGGER {trigger}"))
        for statement in statements:
            connection.execute(text(statement))
        connection.commit()


def check(database: Database, known: audit.Known | None = None) -> audit.Check:
    """Verify, some entries at a time."""
    with database.snapshot() as session:
        return audit.verify(session, batch=4, known=known)


def stored(database: Database) -> dict[int, AuditEntry]:
    """All entries by number."""
    with database.read() as session:
        return {entry.sequence: entry for entry in session.exec(select(AuditEntry)).all()}


def test_entries_are_numbered_and_chained(database: Database) -> None:
    fill(database, 12)
    assert (check(database).entries, check(database).finding) == (12, None)


def test_an_act_told_twice_stands_once(database: Database) -> None:
    with database.write() as session:
        assert audit.append(session, act(1, once="step-1"), NOW)
        assert not audit.append(session, act(1, once="step-1"), NOW)
    with database.write() as session:
        assert not audit.append(session, act(1, once="step-1"), NOW)
        assert audit.append(session, act(2, once="step-2"), NOW)
    assert check(database).entries == 2


def test_what_rolls_back_leaves_no_gap(database: Database) -> None:
    fill(database, 1)
    with pytest.raises(RuntimeError), database.write() as session:  # noqa: PT012
        audit.append(session, act(2), NOW)
        raise RuntimeError
    fill(database, 1)
    assert check(database).finding is None


def test_two_writers_never_take_one_number(tmp_path: Path, database: Database) -> None:
    def work() -> None:
        own = Database(f"sqlite:///{tmp_path}/certgate.db")
        fill(own, 25)
        own.close()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (check(database).entries, check(database).finding) == (100, None)


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """Three entries, of which nothing can be taken."""
    made = databases.empty(tmp_path_factory.mktemp("three"))
    fill(made, 1)
    with made.write() as session:
        audit.append(session, act(2, once="once-2"), NOW)
    fill(made, 1)
    yield made
    made.close()


@pytest.mark.parametrize("recursive", ["ON", "OFF"])
@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit_entry SET actor = 'bob' WHERE sequence = 2",
        "UPDATE OR REPLACE audit_entry SET sequence = 1 WHERE sequence = 2",
        "UPDATE OR IGNORE audit_entry SET actor = 'bob'",
        "UPDATE audit_entry SET rowid = 9 WHERE sequence = 3",
        "DELETE FROM audit_entry WHERE sequence = 3",
        "DELETE FROM audit_entry",
        f"REPLACE INTO audit_entry ({COLUMNS}) SELECT {COLUMNS} FROM audit_entry WHERE sequence = 2",
        f"INSERT OR REPLACE INTO audit_entry ({COLUMNS}) SELECT {COLUMNS_AS_FOUR} FROM audit_entry WHERE sequence = 2",
        f"INSERT OR REPLACE INTO audit_entry ({COLUMNS}) SELECT {NEXT_WITH_ONCE} FROM audit_head",
        f"INSERT OR IGNORE INTO audit_entry ({COLUMNS}) SELECT {COLUMNS_AS_FOUR} FROM audit_entry WHERE sequence = 2",
        f"INSERT OR REPLACE INTO audit_entry (rowid, {REST}) SELECT 2, {REST} FROM audit_entry WHERE sequence = 2",
        f"INSERT INTO audit_entry ({COLUMNS}) SELECT {COLUMNS} FROM audit_entry WHERE sequence = 2 "
        "ON CONFLICT (sequence) DO UPDATE SET actor = 'bob'",
        f"INSERT INTO audit_entry ({COLUMNS}) SELECT {COLUMNS_AS_FOUR} FROM audit_entry WHERE sequence = 3",
        f"INSERT INTO audit_entry ({REST}) SELECT {REST} FROM audit_entry WHERE sequence = 3",
        f"INSERT INTO audit_entry ({COLUMNS}) SELECT -1, {REST} FROM audit_entry WHERE sequence = 3",
        f"INSERT INTO audit_entry ({COLUMNS}) SELECT 3.5, {REST} FROM audit_entry WHERE sequence = 3",
        "UPDATE audit_head SET sequence = 2",
        "UPDATE audit_head SET sequence = 4",
        "UPDATE audit_head SET hash = 'x'",
        "UPDATE audit_head SET id = 2",
        "UPDATE OR REPLACE audit_head SET sequence = 1",
        "DELETE FROM audit_head",
        "INSERT OR REPLACE INTO audit_head VALUES (1, 0, 'x')",
        "INSERT INTO audit_head VALUES (2, 0, 'x')",
        "INSERT INTO audit_head VALUES (1, 0, 'x') ON CONFLICT DO UPDATE SET sequence = 0",
    ],
)
def test_the_database_refuses(three: Database, statement: str, recursive: str) -> None:
    said = "audit entries are (never changed|added one)|the head of the audit trail only goes|datatype mismatch"
    with pytest.raises(DatabaseError, match=said), three.engine.connect() as connection:  # noqa: PT012
        connection.rollback()
        connection.exec_driver_sql(f"PRAGMA recursive_triggers = {recursive}")
        connection.execute(text(statement))
        connection.commit()
    assert (check(three).entries, check(three).finding) == (3, None)


@pytest.mark.parametrize(
    ("statements", "sequence", "problem"),
    [
        (["UPDATE audit_entry SET actor = 'bob' WHERE sequence = 4"], 4, "changed"),
        (["UPDATE audit_entry SET description = 'x' WHERE sequence = 1"], 1, "changed"),
        (["UPDATE audit_entry SET description = CAST(description AS BLOB) WHERE sequence = 9"], 9, "changed"),
        (["UPDATE audit_entry SET description = CAST(x'ff' AS TEXT) WHERE sequence = 8"], 8, "changed"),
        (["UPDATE audit_entry SET outcome = 'nonsense' WHERE sequence = 2"], 2, "changed"),
        (["UPDATE audit_entry SET organization_id = 2 WHERE sequence = 6"], 6, "changed"),
        (["UPDATE audit_entry SET once = 'again' WHERE sequence = 6"], 6, "changed"),
        (["UPDATE audit_entry SET time = '2020-01-01 00:00:00.000000' WHERE sequence = 5"], 5, "changed"),
        (["UPDATE audit_entry SET time = replace(time, ' ', 'T') WHERE sequence = 5"], 5, "changed"),
        (["UPDATE audit_entry SET time = 1.5 WHERE sequence = 5"], 5, "changed"),
        (["UPDATE audit_entry SET hash = 'x' WHERE sequence = 3"], 3, "changed"),
        (["UPDATE audit_entry SET hash = CAST(hash AS BLOB) WHERE sequence = 3"], 3, "changed"),
        (["UPDATE audit_entry SET previous_hash = 'x' WHERE sequence = 3"], 3, "does not follow"),
        (["DELETE FROM audit_entry WHERE sequence = 1"], 1, "entry 1 is missing"),
        (["DELETE FROM audit_entry WHERE sequence = 3"], 3, "entry 3 is missing"),
        (["DELETE FROM audit_entry WHERE sequence = 9"], 9, "entry 9 is missing"),
        (["DELETE FROM audit_entry WHERE sequence > 4"], 5, "entry 5 is missing"),
        (["DELETE FROM audit_entry"], 1, "entry 1 is missing"),
        (["DELETE FROM audit_entry WHERE sequence = 6", "UPDATE audit_entry SET sequence = 6 WHERE sequence = 7"], 6,
         "does not follow"),
        (["DELETE FROM audit_head"], 9, "head of the trail is missing"),
        (["UPDATE audit_head SET sequence = 7"], 8, "ends at 7"),
        (["UPDATE audit_head SET hash = 'x'"], 9, "the trail's head names"),
        ([f"INSERT INTO audit_entry SELECT -1e12, {REST} FROM audit_entry WHERE sequence = 3"], -(10**12), "inserted"),
        ([f"INSERT INTO audit_entry SELECT 0, {REST} FROM audit_entry WHERE sequence = 3"], 0, "inserted"),
        ([f"INSERT INTO audit_entry SELECT 10, {REST} FROM audit_entry WHERE sequence = 9"], 10, "ends at 9"),
        ([f"INSERT INTO audit_entry SELECT 99, {REST} FROM audit_entry WHERE sequence = 9"], 10, "entry 10 is missing"),
    ],
)  # fmt: skip
def test_what_was_changed_in_spite_of_that_is_found(
    database: Database, statements: list[str], sequence: int, problem: str
) -> None:
    fill(database, 9)
    unguarded(database, *statements)
    finding = check(database).finding
    assert finding is not None
    assert finding.sequence == sequence
    assert problem in finding.problem


def test_numbers_that_the_table_itself_would_refuse_are_found(database: Database) -> None:
    fill(database, 9)
    make_anew = [
        f"CREATE TABLE copy AS SELECT sequence + 0 AS sequence, {REST} FROM audit_entry",
        "DROP TABLE audit_entry",
        "ALTER TABLE copy RENAME TO audit_entry",
    ]
    unguarded(database, *make_anew)
    assert check(database).finding is None
    for number, finding, words in (
        ("8", 8, "entry 8 was inserted"),
        ("4.5", 5, "before entry 5 one was inserted whose number is 4.5"),
        ("NULL", 1, "before entry 1 one was inserted whose number is None"),
        ("'x'", 10, "before entry 10 one was inserted whose number is 'x'"),
    ):
        unguarded(database, f"INSERT INTO audit_entry SELECT {number}, {REST} FROM audit_entry WHERE sequence = 8")
        found = check(database).finding
        assert found is not None
        assert found.sequence == finding
        assert words in found.problem
        unguarded(database, "DELETE FROM audit_entry WHERE rowid = 10")
    assert check(database).finding is None


def rechained(database: Database, begin: int) -> None:
    """Change an entry and calculate the hashes anew from there on, as somebody does who knows how."""
    entries = stored(database)
    previous = entries[begin].previous_hash
    statements = [f"UPDATE audit_entry SET actor = 'bob' WHERE sequence = {begin}"]
    entries[begin].actor = "bob"
    for number in range(begin, max(entries) + 1):
        entries[number].previous_hash = previous
        previous = audit.digest(entries[number])
        statements.append(
            f"UPDATE audit_entry SET previous_hash = '{entries[number].previous_hash}', hash = '{previous}' "
            f"WHERE sequence = {number}"
        )
    unguarded(database, *statements)


def test_a_trail_calculated_anew_is_found_by_its_head(database: Database) -> None:
    fill(database, 9)
    rechained(database, 5)
    finding = check(database).finding
    assert finding is not None
    assert finding.sequence == 9
    assert "head names" in finding.problem


def test_a_trail_calculated_anew_with_its_head_is_found_by_what_was_known(database: Database) -> None:
    fill(database, 9)
    noted = [audit.Known(number, stored(database)[number].hash) for number in (4, 7)]
    assert [check(database, known).finding for known in noted] == [None, None]
    rechained(database, 5)
    unguarded(database, "UPDATE audit_head SET hash = (SELECT hash FROM audit_entry WHERE sequence = 9)")
    assert check(database).finding is None
    assert check(database, noted[0]).finding is None
    finding = check(database, noted[1]).finding
    assert finding is not None
    assert finding.sequence == 7
    unguarded(
        database,
        "DELETE FROM audit_entry WHERE sequence > 6",
        "UPDATE audit_head SET sequence = 6, hash = (SELECT hash FROM audit_entry WHERE sequence = 6)",
    )
    assert check(database).finding is None
    finding = check(database, noted[1]).finding
    assert finding is not None
    assert finding.problem == "entry 7 is missing: entry 7 was known"


def test_an_empty_trail_is_whole_but_not_without_its_head(database: Database) -> None:
    assert check(database) == audit.Check(0, audit.ORIGIN, None)
    unguarded(database, "DELETE FROM audit_head")
    assert check(database).finding is not None


def test_a_check_tells_how_far_it_is_and_is_not_disturbed_by_new_entries(database: Database) -> None:
    trail.fill(database, 50)
    told: list[tuple[int, int]] = []

    def progress(done: int, of: int) -> None:
        told.append((done, of))
        fill(database, 1)

    with database.snapshot() as session:
        found = audit.verify(session, batch=20, progress=progress)
    assert (found.entries, found.finding) == (50, None)
    assert told == [(20, 50), (40, 50), (50, 50)]
    assert check(database).entries == 53


def test_what_a_check_reads_of_an_entry_is_what_was_hashed(database: Database) -> None:
    """The quick way over plain rows and the way over objects are one."""
    trail.fill(database, 20)
    fill(database, 2)
    assert check(database).finding is None
    assert all(audit.digest(entry) == entry.hash for entry in stored(database).values())
