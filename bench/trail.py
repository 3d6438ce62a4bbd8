"""A long audit trail, made in seconds: the entries that a year of work would tell, chained as `model/audit.py` says."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, insert, text

from model import audit
from model.database import Database
from model.tables import AuditEntry

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
STEP = timedelta(seconds=30)
ORGANIZATIONS = 10
_BATCH = 10_000
_ACTIONS = (
    ("request.submitted", "request", "Requested a certificate for host-{n}.example.com."),
    ("key.ready", "request", "Key request-{n} is made and its CSR checked."),
    ("request.approved", "request", "Approved request {n}: as agreed on Monday."),
    ("order.placed", "request", "Order {n} was placed with private."),
    ("certificate.issued", "request", "The certificate for host-{n}.example.com was issued and checked."),
    ("certificate.installed", "request", "web-{n} now serves the certificate, fürs Büro – «gut»."),
    ("gateway.edited", "gateway", "Gateway {n} was edited."),
    ("session.started", "administrator", "Signed in."),
)
_WAYS = ("dashboard", "command line", "workflow", "api")


def fill(database: Database, count: int) -> None:
    """Append `count` entries, quicker than one by one: the triggers are away meanwhile."""
    with database.engine.connect() as connection, _unguarded(connection):
        head = connection.execute(text("SELECT sequence, hash FROM audit_head WHERE id = 1")).one()
        sequence, previous = head[0], head[1]
        for start in range(0, count, _BATCH):
            rows = []
            for number in range(sequence + 1, sequence + 1 + min(_BATCH, count - start)):
                row = entry(number, previous)
                previous = row["hash"]
                rows.append(row)
            connection.execute(insert(AuditEntry), rows)
            sequence += len(rows)
        connection.execute(
            text("UPDATE audit_head SET sequence = :sequence, hash = :hash WHERE id = 1"),
            {"sequence": sequence, "hash": previous},
        )


def entry(number: int, previous: str) -> dict[str, Any]:
    """The entry of that number. Every 1,000th was refused, every 250th failed; every 5,000th tells of a needle."""
    action, object_type, told = _ACTIONS[number % len(_ACTIONS)]
    thing = number // len(_ACTIONS)
    outcome = "refused" if number % 1000 == 0 else "failed" if number % 250 == 0 else "done"
    fields: dict[str, Any] = {
        "sequence": number,
        "time": BEGIN + number * STEP,
        "actor": "certgate" if number % 2 else f"admin-{number % 97}",
        "access_method": _WAYS[number % len(_WAYS)] if number % 2 == 0 else "workflow",
        "action": action,
        "object_type": object_type,
        "object_id": thing,
        "gateway_id": number % 997 + 1,
        "organization_id": number % ORGANIZATIONS + 1,
        "department_id": None,
        "description": told.format(n=thing) + (" A Nädel in the haystack, 100 %." if number % 5000 == 0 else ""),
        "outcome": outcome,
        "once": f"{action}:{number}" if number % 2 else None,
    }
    hashed = [audit.stamp(value) if name == "time" else value for name, value in fields.items()]
    return {**fields, "previous_hash": previous, "hash": audit.chained(previous, hashed)}


@contextmanager
def _unguarded(connection: Connection) -> Iterator[None]:
    """Without the database's own guards; they are back when all is committed."""
    if connection.dialect.name == "sqlite":
        found = "SELECT name, sql FROM sqlite_schema WHERE type = 'trigger' AND tbl_name LIKE 'audit_%'"
        guards = connection.execute(text(found)).all()
        for name, _ in guards:
            connection.execute(text(f"DROP TRIGGER {name}"))
        yield
        for _, definition in guards:
            connection.exec_driver_sql(definition)
    else:
        found = "SELECT tgname, tgrelid::regclass FROM pg_trigger WHERE tgname LIKE 'audit_%'"
        guards = connection.execute(text(found)).all()
        for name, table in guards:
            connection.execute(text(f"ALTER TABLE {table} DISABLE TRIGGER {name}"))
        yield
        for name, table in guards:
            connection.execute(text(f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER {name}"))
    connection.commit()
