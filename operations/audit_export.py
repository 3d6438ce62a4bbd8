"""The audit trail as a file, written piece by piece: memory stays flat, however many entries there are.

JSON Lines is the exact form: one object a line, its fields as they were hashed, with both hashes, so that anybody can
calculate the chain anew (docs/audit.md). CSV (RFC 4180) is for reading in a spreadsheet.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from model import audit
from model.rules import permissions
from operations import audit_search, cells
from operations.audit_search import ALL, Filter
from operations.context import Context

COLUMNS = (*audit.FIELDS, "previous_hash", "hash")
_PIECE = 2000
_to_json = json.JSONEncoder(ensure_ascii=False).encode

Told = Callable[[int], None]


def export_csv(context: Context, wanted: Filter = ALL, told: Told | None = None) -> Iterator[str]:
    """All entries of a filter up to now, the oldest first, with a header row. Cells that a spreadsheet would take for a
    formula begin with an apostrophe. `told` hears after each piece how many entries were given. The export is audited.
    Raises at once `NotPermitted` (audited), `NotFound` (gateway), `InvalidInput`."""
    return _written(_begin(context, wanted, "CSV"), _as_csv, _as_csv([COLUMNS]), told)


def export_jsonl(context: Context, wanted: Filter = ALL, told: Told | None = None) -> Iterator[str]:
    """As `export_csv`, in JSON Lines."""
    return _written(_begin(context, wanted, "JSON Lines"), _as_jsonl, "", told)


def _begin(context: Context, wanted: Filter, form: str) -> Iterator[Sequence[Sequence[Any]]]:
    """Authorize, tell, and give the pieces: raised here is what must be known before the first byte."""
    reader = audit_search.reader_of(context)
    sight = permissions.visible(reader.grants)
    own = sight.organizations[0] if not sight.everything and len(sight.organizations) == 1 else None
    scope = permissions.Scope(own if not sight.departments else None)
    with context.database.read() as session:
        asked = audit_search.question(context, session, wanted)
        newest = asked.numbers(session, limit=1)
    with context.acting("audit.exported", "audit", scope=scope) as session:
        words = f"Exported the audit trail as {form}: {wanted.described()}."
        context.tell(session, "audit.exported", "audit", words, scope=scope)
    return _pieces(context, asked, newest[0] if newest else 0)


def _pieces(context: Context, asked: audit_search.Question, newest: int) -> Iterator[Sequence[Sequence[Any]]]:
    """A short reading each: a download that takes an hour holds nothing in the database."""
    last = -1
    while last < newest:
        with context.database.read() as session:
            rows = asked.plain(session, above=last, below=newest + 1, limit=_PIECE)
        if not rows:
            return
        yield rows
        last = rows[-1][1]


def _written(
    pieces: Iterator[Sequence[Sequence[Any]]],
    form: Callable[[Sequence[Sequence[Any]]], str],
    header: str,
    told: Told | None,
) -> Iterator[str]:
    if header:
        yield header
    given = 0
    for piece in pieces:
        yield form([(*row[1:-1], row[0], row[-1]) for row in piece])
        given += len(piece)
        if told is not None:
            told(given)


def _as_csv(rows: Sequence[Sequence[Any]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\r\n").writerows([cells.cell(value) for value in row] for row in rows)
    return text.getvalue()


def _as_jsonl(rows: Sequence[Sequence[Any]]) -> str:
    return "".join(_line(dict(zip(COLUMNS, row, strict=True))) + "\n" for row in rows)


def _line(entry: dict[str, Any]) -> str:
    text = _to_json(entry)
    # Nothing in it commands the terminal that it may be printed on; read as JSON it is the same.
    return text if text.isprintable() else json.dumps(entry)
