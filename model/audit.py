"""The audit trail: entries numbered without gaps, each holding the hash of the one before, appended in the same
transaction as what they tell of.

An entry's hash is SHA-256 over the JSON array of its fields in `_FIELDS` order (no spaces, keys never appear, times as
``YYYY-MM-DDTHH:MM:SS.ffffffZ``), preceded by the previous hash. The row of `AuditHead` is locked while an entry is
appended, so two writers never take one number, and is compared at the end of a check, so a cut tail shows.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlmodel import Session, col, select

from model.states import AccessMethod, Outcome
from model.tables import AuditEntry, AuditHead

ORIGIN = "0" * 64
_FIELDS = (
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
class Finding:
    """What is wrong with the trail and at which number it first shows."""

    sequence: int
    problem: str


@dataclass(frozen=True)
class Check:
    """The result of a check: how many entries were read, the last hash, and the first thing that is wrong, if any."""

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
    head.sequence, head.hash = entry.sequence, entry.hash
    session.add(entry)
    # Flushed here, so that several acts of one transaction see each other's `once`.
    session.flush()
    return True


def digest(entry: AuditEntry) -> str:
    """The hash that `entry` must carry."""
    values: list[object] = [entry.previous_hash]
    for name in _FIELDS:
        value = getattr(entry, name)
        values.append(_stamp(value) if isinstance(value, datetime) else value)
    text = json.dumps(values, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def verify(session: Session, *, batch: int = 5000) -> Check:
    """Read the whole trail and find the first entry that was changed, inserted or deleted, also at the end."""
    expected, previous, count = 1, ORIGIN, 0
    for entry in _entries(session, batch):
        count += 1
        if entry.sequence != expected:
            return Check(count, previous, Finding(expected, f"entry {expected} is missing"))
        if entry.previous_hash != previous:
            return Check(
                count, previous, Finding(entry.sequence, f"entry {entry.sequence} does not follow the one before")
            )
        if entry.hash != digest(entry):
            return Check(count, previous, Finding(entry.sequence, f"entry {entry.sequence} was changed"))
        expected, previous = expected + 1, entry.hash
    head = session.get(AuditHead, 1)
    if head is not None and (head.sequence, head.hash) != (expected - 1, previous):
        return Check(
            count, previous, Finding(expected, f"the trail ends at {expected - 1}, the head says {head.sequence}")
        )
    return Check(count, previous, None)


def _entries(session: Session, batch: int) -> Iterator[AuditEntry]:
    last = -(2**31)
    while True:
        statement = select(AuditEntry).where(col(AuditEntry.sequence) > last).order_by(col(AuditEntry.sequence))
        rows = session.exec(statement.limit(batch)).all()
        if not rows:
            return
        yield from rows
        last = rows[-1].sequence
        session.expunge_all()


def _stamp(value: datetime) -> str:
    return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
