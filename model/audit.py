"""The audit trail: entries numbered without gaps, each holding the hash of the one before, appended in the same
transaction as what they tell of.

An entry's hash is SHA-256 over the JSON array (RFC 8259, UTF-8, no spaces) of the previous hash and its fields in
`FIELDS` order, times as ``YYYY-MM-DDTHH:MM:SS.ffffffZ``. The row of `AuditHead` is locked while an entry is appended,
so two writers never take one number, and is compared at the end of a check, so a cut tail shows. The database itself
takes new entries at the end only, and refuses to change or delete any (`migrations/`).
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import sqlalchemy
from sqlalchemy import ColumnElement, literal_column
from sqlalchemy.orm.attributes import set_committed_value
from sqlmodel import Session, col, select

from model.states import AccessMethod, Outcome
from model.tables import AuditEntry, AuditHead

ORIGIN = "0" * 64
FIELDS = (
    "sequence",
    "time",
    "actor",
    "access_method",
    "action",
    "object_type",
    "object_id",
    "gateway_id",
    "organization_id",
    "department_id",
    "description",
    "outcome",
    "once",
)
# The time as it is hashed. SQLite keeps a text: any other form than the one we write is no time of ours.
_SQLITE_TIME = (
    "CASE WHEN typeof(time) = 'text' AND substr(time, 11, 1) = ' ' "
    "THEN substr(time, 1, 10) || 'T' || substr(time, 12) || 'Z' END"
)
_POSTGRESQL_TIME = """to_char(time AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')"""
_to_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Act:
    """What is to be told. `once` names the act uniquely where a step may run twice: the second telling is dropped."""

    actor: str
    access_method: AccessMethod
    action: str
    object_type: str
    description: str
    outcome: Outcome = Outcome.DONE
    object_id: int | None = None
    gateway_id: int | None = None
    organization_id: int | None = None
    department_id: int | None = None
    once: str | None = None


@dataclass(frozen=True)
class Known:
    """An entry that somebody noted elsewhere: its number and its hash."""

    sequence: int
    hash: str


@dataclass(frozen=True)
class Finding:
    """What is wrong with the trail and at which number it first shows."""

    sequence: int
    problem: str


@dataclass(frozen=True)
class Check:
    """The result of a check: how many entries were found right, the last right hash, and the first thing that is wrong,
    if any."""

    entries: int
    head: str
    finding: Finding | None


def append(session: Session, act: Act, now: datetime) -> bool:
    """Append `act` in the session's transaction. False when an act of that `once` was told before."""
    head = session.exec(select(AuditHead).where(AuditHead.id == 1).with_for_update()).one()
    if act.once is not None and session.exec(select(AuditEntry.sequence).where(AuditEntry.once == act.once)).first():
        return False
    entry = AuditEntry(
        sequence=head.sequence + 1,
        time=now,
        actor=act.actor,
        access_method=act.access_method,
        action=act.action,
        object_type=act.object_type,
        object_id=act.object_id,
        gateway_id=act.gateway_id,
        organization_id=act.organization_id,
        department_id=act.department_id,
        description=act.description,
        outcome=act.outcome,
        once=act.once,
        previous_hash=head.hash,
        hash="",
    )
    entry.hash = digest(entry)
    session.add(entry)
    # In this order: the database wants each entry to follow the head, and the head to go to an entry that is there.
    session.flush()
    head.sequence, head.hash = entry.sequence, entry.hash
    session.flush()
    return True


def append_all(session: Session, acts: Iterable[Act], now: datetime) -> None:
    """Append many acts in the session's transaction, about three times as fast as one by one. Acts that may be told
    twice (`once`) are for `append`."""
    session.flush()
    head = session.exec(select(AuditHead).where(AuditHead.id == 1).with_for_update()).one()
    entries, heads = sqlalchemy.insert(AuditEntry), sqlalchemy.update(AuditHead).where(col(AuditHead.id) == 1)
    connection = session.connection()
    for act in acts:
        if act.once is not None:
            raise ValueError("an act that may be told twice was about to be appended unasked")
        values = {name: getattr(act, name) for name in FIELDS if name not in ("sequence", "time")}
        values = {**values, "sequence": head.sequence + 1, "time": now}
        hashed = chained(head.hash, [stamp(now) if name == "time" else values[name] for name in FIELDS])
        connection.execute(entries, {**values, "previous_hash": head.hash, "hash": hashed})
        connection.execute(heads, {"sequence": head.sequence + 1, "hash": hashed})
        set_committed_value(head, "sequence", head.sequence + 1)
        set_committed_value(head, "hash", hashed)


def digest(entry: AuditEntry) -> str:
    """The hash that `entry` must carry."""
    values = (getattr(entry, name) for name in FIELDS)
    return chained(entry.previous_hash, [stamp(one) if isinstance(one, datetime) else one for one in values])


def chained(previous: str, fields: Sequence[object]) -> str:
    """The hash of an entry: of the one before it and its own fields in `FIELDS` order, the time as `stamp` gives it."""
    return hashlib.sha256(_to_json((previous, *fields)).encode()).hexdigest()


def stamp(time: datetime) -> str:
    """A time as it is hashed."""
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def verify(
    session: Session, *, batch: int = 5000, known: Known | None = None, progress: Progress | None = None
) -> Check:
    """Read the whole trail and find the first entry that was changed, inserted or deleted, also at the end.

    Whoever writes to the database without its guards could calculate everything anew, with the head: that shows against
    a `known` entry only. `progress` is called once a batch, with the entries read and those expected. The session must
    be one of `Database.snapshot`: the head is of the same moment as the entries.
    """
    head = session.exec(select(AuditHead.sequence, AuditHead.hash).where(AuditHead.id == 1)).first()
    last = head[0] if head else None
    expected, previous = 1, ORIGIN
    for rows in _stored(session, batch):
        for row in rows:
            problem = _wrong(row, expected, previous, last)
            if problem is None and known is not None and known.sequence == expected and known.hash != row[-1]:
                problem = Finding(expected, f"entry {expected} is not the one that was known, or one before it is not")
            if problem is not None:
                return Check(expected - 1, previous, problem)
            expected, previous = expected + 1, row[-1]
        if progress is not None:
            progress(expected - 1, max(last or 0, expected - 1))
    return Check(expected - 1, previous, _wrong_at_the_end(expected - 1, previous, head, known))


def _wrong(row: Any, expected: int, previous: str, last: int | None) -> Finding | None:
    sequence = row[1]
    if not isinstance(sequence, int):  # the table itself was made anew
        return Finding(expected, f"before entry {expected} one was inserted whose number is {sequence!r}")
    if sequence != expected:
        if sequence > expected:
            return Finding(expected, f"entry {expected} is missing")
        return Finding(sequence, f"entry {sequence} was inserted: it is not in the order of the trail")
    if last is not None and sequence > last:
        return Finding(sequence, f"entry {sequence} was inserted: the trail's head says that it ends at {last}")
    if row[0] != previous:
        return Finding(sequence, f"entry {sequence} does not follow the one before")
    try:
        right = hashlib.sha256(_to_json(row[:-1]).encode()).hexdigest() == row[-1]
    except (TypeError, ValueError):  # bytes, or a text that is no Unicode: nothing that we write
        right = False
    return None if right else Finding(sequence, f"entry {sequence} was changed")


def _wrong_at_the_end(count: int, last_hash: str, head: tuple[int, str] | None, known: Known | None) -> Finding | None:
    if head is None:
        return Finding(count, f"the head of the trail is missing; entries are there up to {count}")
    if head[0] > count:
        return Finding(count + 1, f"entry {count + 1} is missing: the trail's head says that it ends at {head[0]}")
    if head[1] != last_hash:
        return Finding(count, f"entry {count} is not the one that the trail's head names, or one before it is not")
    if known is not None and known.sequence > count:
        return Finding(count + 1, f"entry {count + 1} is missing: entry {known.sequence} was known")
    return None


def plain_columns(session: Session) -> list[ColumnElement[Any]]:
    """An entry as it was hashed and as the database holds it: previous hash, `FIELDS`, hash. Nothing that is found
    there is taken for one of our words."""
    time = _SQLITE_TIME if session.get_bind().dialect.name == "sqlite" else _POSTGRESQL_TIME
    names = ("previous_hash", *(time if name == "time" else name for name in FIELDS), "hash")
    return [literal_column(name) for name in names]


def _stored(session: Session, batch: int) -> Iterator[Sequence[Any]]:
    """All entries in order as plain columns. One pass, so that two of the same number are both seen; some thousand at a
    time, so that memory stays flat."""
    statement = sqlalchemy.select(*plain_columns(session)).select_from(AuditEntry).order_by(literal_column("sequence"))
    with _any_text(session.connection().connection.dbapi_connection):
        yield from session.execute(statement, execution_options={"yield_per": batch}).partitions()


@contextmanager
def _any_text(connection: Any) -> Iterator[None]:
    """SQLite keeps any bytes as a text. Such an entry is to be found, not to end the reading."""
    if not isinstance(connection, sqlite3.Connection):
        yield
        return
    usual = connection.text_factory
    connection.text_factory = lambda stored: stored.decode("utf-8", "surrogateescape")
    try:
        yield
    finally:
        connection.text_factory = usual
