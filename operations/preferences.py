"""What an administrator chose for himself. Nobody else sees it, so the audit doesn't tell of it."""

from __future__ import annotations

from collections.abc import Sequence

from sqlmodel import Session, col, select

from model.errors import InvalidInput
from model.tables import Administrator, Preference
from operations.context import Context

_LONGEST_NAME, _LONGEST_WORD, _MOST_WORDS = 48, 64, 64


def columns(context: Context, table: str) -> list[str] | None:
    """The columns of a table that the actor chose, in his order; None if he never chose."""
    with context.database.read() as session:
        row = _row(session, context, table)
    if row is None or not isinstance(row.value, list):
        return None
    return [word for word in row.value if isinstance(word, str)]


def choose_columns(context: Context, table: str, chosen: Sequence[str]) -> None:
    """Keep the columns of a table, in this order. Raises `InvalidInput`."""
    words = list(dict.fromkeys(chosen))
    if not words or len(words) > _MOST_WORDS or any(not 1 <= len(word) <= _LONGEST_WORD for word in words):
        raise InvalidInput(f"A table shows 1 to {_MOST_WORDS} columns: choose at least one.")
    with context.database.write() as session:
        # Whoever chooses twice at once waits for himself here, on PostgreSQL as well.
        session.exec(select(Administrator.id).where(Administrator.id == context.actor.id).with_for_update()).one()
        row = _row(session, context, table)
        if row is None:
            row = Preference(administrator_id=context.actor.id, name=_name(table))
        row.value = words
        session.add(row)


def forget_columns(context: Context, table: str) -> None:
    """Show the table's usual columns again."""
    with context.database.write() as session:
        row = _row(session, context, table)
        if row is not None:
            session.delete(row)


def _row(session: Session, context: Context, table: str) -> Preference | None:
    statement = select(Preference).where(
        Preference.administrator_id == context.actor.id, col(Preference.name) == _name(table)
    )
    return session.exec(statement).one_or_none()


def _name(table: str) -> str:
    if not 1 <= len(table) <= _LONGEST_NAME:
        raise InvalidInput(f"A table's name has 1 to {_LONGEST_NAME} characters.")
    return f"columns {table}"
