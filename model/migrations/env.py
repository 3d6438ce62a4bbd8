"""Alembic's environment: runs migrations on the connection that `model.database.Database.upgrade` hands over."""

from __future__ import annotations

from typing import Any, Literal

from alembic import context
from alembic.autogenerate.api import AutogenContext
from sqlalchemy import Connection, DateTime, String
from sqlmodel import SQLModel
from sqlmodel.sql.sqltypes import AutoString

from model.tables import UtcDateTime, Words


def _plain_types(kind: str, item: Any, _context: AutogenContext) -> str | Literal[False]:
    """Migrations name the database's own types only, so that an old one never depends on today's code."""
    if kind == "type" and isinstance(item, UtcDateTime):
        return "sa.DateTime(timezone=True)"
    if kind == "type" and isinstance(item, Words):
        return "sa.String(32)"
    if kind == "type" and isinstance(item, AutoString):
        return f"sa.String({item.length})"
    return False


def _same_type(_context: Any, _inspected: Any, _metadata: Any, found: Any, wanted: Any) -> bool | None:
    if isinstance(wanted, (UtcDateTime, Words)):
        return not isinstance(found, (DateTime, String))
    return None


connection: Connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=SQLModel.metadata,
    render_as_batch=connection.dialect.name == "sqlite",
    render_item=_plain_types,
    compare_type=_same_type,
)
with context.begin_transaction():
    context.run_migrations()
