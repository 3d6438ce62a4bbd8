"""Cells of CSV files, for spreadsheets."""

from __future__ import annotations

_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def cell(value: object) -> str:
    """A value as a cell. What a spreadsheet would take for a formula begins with an apostrophe (OWASP, "CSV
    Injection"); control characters become U+FFFD. None is an empty cell."""
    if value is None or isinstance(value, int):
        return "" if value is None else str(value)
    text = str(value)
    formula = "'" if text.startswith(_FORMULA) else ""
    if not text.isprintable():
        text = "".join(one if one.isprintable() or one == "\n" else "\N{REPLACEMENT CHARACTER}" for one in text)
    return formula + text
