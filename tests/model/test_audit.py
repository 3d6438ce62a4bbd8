"""The audit trail: gapless, chained, and guarded by the database itself."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DatabaseError

from model import audit
from model.database import Database
from model.states import AccessMethod

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)


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
        for trigger in ("audit_entry_no_update", "audit_entry_no_delete"):
            connection.execute(text(f"DROP TRIGGER {trigger}"))
        for statement in statements:
            connection.execute(text(statement))
        connection.commit()


def test_entries_are_numbered_and_chained(database: Database) -> None:
    fill(database, 12)
    with database.read() as session:
        check = audit.verify(session, batch=5)
    assert check.finding is None
    assert check.entries == 12


def test_an_act_told_twice_stands_once(database: Database) -> None:
    with database.write() as session:
        assert audit.append(session, act(1, once="step-1"), NOW)
        assert not audit.append(session, act(1, once="step-1"), NOW)
    with database.write() as session:
        assert not audit.append(session, act(1, once="step-1"), NOW)
        assert audit.append(session, act(2, once="step-2"), NOW)
    with database.read() as session:
        assert audit.verify(session).entries == 2


def test_what_rolls_back_leaves_no_gap(database: Database) -> None:
    fill(database, 1)
    with pytest.raises(RuntimeError), database.write() as session:  # noqa: PT012
        audit.append(session, act(2), NOW)
        raise RuntimeError
    fill(database, 1)
    with database.read() as session:
        assert audit.verify(session).finding is None


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
    with database.read() as session:
        check = audit.verify(session)
    assert (check.entries, check.finding) == (100, None)


@pytest.mark.parametrize(
    "statement",
    ["UPDATE audit_entry SET actor = 'bob' WHERE sequence = 2", "DELETE FROM audit_entry WHERE sequence = 3"],
)
def test_the_database_refuses_change_and_deletion(database: Database, statement: str) -> None:
    fill(database, 3)
    with pytest.raises(DatabaseError, match="never changed"), database.engine.begin() as connection:
        connection.execute(text(statement))


@pytest.mark.parametrize(
    ("statements", "sequence"),
    [
        (["UPDATE audit_entry SET actor = 'bob' WHERE sequence = 4"], 4),
        (["UPDATE audit_entry SET description = 'x', hash = hash WHERE sequence = 1"], 1),
        (["DELETE FROM audit_entry WHERE sequence = 3"], 3),
        (["DELETE FROM audit_entry WHERE sequence > 7"], 8),
        (["DELETE FROM audit_entry"], 1),
        (["UPDATE audit_entry SET time = '2020-01-01 00:00:00.000000' WHERE sequence = 5"], 5),
        (["DELETE FROM audit_entry WHERE sequence = 6", "UPDATE audit_entry SET sequence = 6 WHERE sequence = 7"], 6),
    ],
)
def test_what_was_changed_in_spite_of_that_is_found(database: Database, statements: list[str], sequence: int) -> None:
    fill(database, 9)
    unguarded(database, *statements)
    with database.read() as session:
        finding = audit.verify(session, batch=4).finding
    assert finding is not None
    assert finding.sequence == sequence


def test_an_inserted_entry_is_found(database: Database) -> None:
    fill(database, 3)
    columns = "time, actor, access_method, action, object_type, description, outcome, previous_hash, hash"
    unguarded(
        database,
        f"INSERT INTO audit_entry (sequence, {columns}) SELECT 4, {columns} FROM audit_entry WHERE sequence = 3",
    )
    with database.read() as session:
        finding = audit.verify(session).finding
    assert finding is not None
    assert finding.sequence == 4
