"""Lengths of time, typed as a number and a unit."""

from __future__ import annotations

import streamlit as st

_UNITS = {"seconds": 1, "minutes": 60, "hours": 3600, "days": 86_400, "weeks": 7 * 86_400}


def draw(label: str, key: str, seconds: int | None, note: str | None = None) -> None:
    """The two fields; `seconds` is what they begin with."""
    unit, count = _split(seconds or 0)
    left, right = st.columns([3, 2], vertical_alignment="bottom")
    left.number_input(
        label, value=count if seconds else None, min_value=1, max_value=1_000_000, step=1, key=key, help=note
    )
    right.selectbox(
        f"Unit of: {label}",
        list(_UNITS),
        index=list(_UNITS).index(unit),
        key=f"{key}-unit",
        label_visibility="collapsed",
    )


def typed(key: str) -> int | None:
    """What was typed, in seconds; None when nothing was."""
    count = st.session_state.get(key)
    return None if count is None else int(count) * _UNITS[str(st.session_state[f"{key}-unit"])]


def words(seconds: int) -> str:
    """A length for people: ``30 days``, ``1 hour``, ``90 seconds``."""
    unit, count = _split(seconds)
    return f"{count:,} {unit.removesuffix('s') if count == 1 else unit}"


def _split(seconds: int) -> tuple[str, int]:
    """The largest unit that it is a whole number of; never weeks, since people say 30 days."""
    for unit in ("days", "hours", "minutes"):
        if seconds % _UNITS[unit] == 0:
            return unit, seconds // _UNITS[unit]
    return "seconds", seconds
