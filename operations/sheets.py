"""CSV files that people make with a spreadsheet, read and written (RFC 4180).

Written cells that a spreadsheet would take for a formula begin with an apostrophe (OWASP, "CSV injection"); reading
takes it away again, so that what was written is read as it was.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from model.errors import InvalidInput

LARGEST = 8 * 1024 * 1024
MOST_ROWS = 10_000
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


@dataclass(frozen=True)
class Column:
    """A column that is understood. `prefix`: all columns whose name begins so, such as ``settings.``."""

    name: str
    required: bool = False
    prefix: bool = False


@dataclass(frozen=True)
class Record:
    """A row: the line in which it begins (from 1), its cells by column, and what is wrong with its form."""

    line: int
    cells: Mapping[str, str]
    problem: str | None = None


@dataclass(frozen=True)
class Sheet:
    """A file that was read."""

    columns: Sequence[str] = field(default_factory=tuple)
    records: Sequence[Record] = field(default_factory=tuple)


def read(content: bytes, columns: Sequence[Column]) -> Sheet:
    """Read a file: UTF-8 with or without a byte order mark, commas or semicolons, line ends within quotes, columns in
    any order named by the first row. Empty rows are left out. Raises `InvalidInput` where the file as a whole is wrong.
    """
    if len(content) > LARGEST:
        raise InvalidInput(f"The file is larger than {LARGEST // 2**20} MiB: cut it into several.")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise InvalidInput(f'Line {line}: the file is not UTF-8 text; save it as "CSV UTF-8".') from None
    if "\0" in text:
        raise InvalidInput(f"Line {text[: text.index(chr(0))].count(chr(10)) + 1}: the file holds a NUL character.")
    rows = _rows(text, _separator(text, columns))
    if not rows:
        raise InvalidInput(f"The file is empty: its first row names the columns: {_listed(columns)}.")
    names = _header(rows[0][1], columns)
    if len(rows) - 1 > MOST_ROWS:
        raise InvalidInput(f"The file has {len(rows) - 1:,} rows; at most {MOST_ROWS:,} are read: cut it into several.")
    return Sheet(names, [_record(line, cells, names) for line, cells in rows[1:]])


def write(columns: Sequence[str], rows: Iterable[Mapping[str, str]]) -> str:
    """Rows as a file that `read` gives back as they are."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(columns)
    for row in rows:
        writer.writerow([_neutral(row.get(name, "")) for name in columns])
    return out.getvalue()


def _neutral(text: str) -> str:
    quoted = text.startswith("'") and text[1:].startswith((*_FORMULA, "'"))
    return f"'{text}" if quoted or text.startswith(_FORMULA) else text


def _plain(text: str) -> str:
    return text[1:] if text.startswith("'") and text[1:].startswith((*_FORMULA, "'")) else text


def _separator(text: str, columns: Sequence[Column]) -> str:
    """Comma or semicolon: the one with which the first row names more columns that are known."""
    known = {column.name for column in columns}

    def understood(separator: str) -> int:
        first = next(csv.reader(io.StringIO(text, newline=""), delimiter=separator), [])
        return sum(_named(cell) in known for cell in first)

    try:
        return max(",;", key=understood)
    except csv.Error:
        return ","


def _rows(text: str, separator: str) -> list[tuple[int, list[str]]]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    found = []
    line = 1
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                found.append((line, cells))
            line = reader.line_num + 1
    except csv.Error as error:
        raise InvalidInput(f"Line {line}: this is not CSV: {error}.") from None
    return found


def _header(cells: Sequence[str], columns: Sequence[Column]) -> list[str]:
    names = [_named(cell) for cell in cells]
    while names and not names[-1]:
        names.pop()
    plain = {column.name for column in columns if not column.prefix}
    prefixes = tuple(column.name for column in columns if column.prefix)
    for position, name in enumerate(names):
        if name not in plain and not (prefixes and name.startswith(prefixes) and name not in prefixes):
            shown = repr(cells[position].strip()[:60]) if name else f"number {position + 1} without a name"
            raise InvalidInput(f"Line 1: there is no column {shown}; known are {_listed(columns)}.")
        if name in names[:position]:
            raise InvalidInput(f"Line 1: the column {name} stands there twice.")
    for column in columns:
        if column.required and column.name not in names:
            raise InvalidInput(f"Line 1: the column {column.name} is missing; the columns are {_listed(columns)}.")
    return names


def _named(cell: str) -> str:
    """A column's name as it is known: ``Delegation Mode`` is ``delegation_mode``; what follows a dot stays."""
    head, dot, rest = cell.strip().partition(".")
    return re.sub(r"[\s\-]+", "_", head.strip().casefold()) + dot + rest


def _record(line: int, cells: Sequence[str], names: Sequence[str]) -> Record:
    over = [cell for cell in cells[len(names) :] if cell.strip()]
    problem = f"The row has more cells than there are columns ({len(cells)}, not {len(names)})." if over else None
    return Record(line, {name: _plain(cell) for name, cell in zip(names, cells, strict=False)}, problem)


def _listed(columns: Sequence[Column]) -> str:
    return ", ".join(f"{column.name}NAME" if column.prefix else column.name for column in columns)
