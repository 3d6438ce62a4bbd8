"""Which columns a table shows, and in what order: each administrator's own choice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import streamlit as st

from dashboard import actions, guard, session
from operations import preferences
from operations.context import Context


@dataclass(frozen=True)
class Column:
    """A column that a table can show: its title, how it is drawn, and whether it is shown to whoever never chose."""

    title: str
    config: Any
    usual: bool = True


def chosen(context: Context, table: str, known: Mapping[str, Column]) -> list[str]:
    """The keys of the columns to show, in order."""
    kept = [key for key in preferences.columns(context, table) or () if key in known]
    return kept or _usual(known)


def manage(table: str, known: Mapping[str, Column], shown: Sequence[str]) -> None:
    """The button under which columns are chosen. `shown` are the ones that are on the screen."""
    with st.popover("Manage Columns", icon=":material/view_column:", key=f"{table}-columns"):
        st.caption("What is ticked is shown, in this order. The choice is yours alone and is kept.")
        hidden = [key for key in known if key not in shown]
        with st.container(key=f"{table}-column-list", gap=None):
            for position, key in enumerate([*shown, *hidden]):
                _line(table, known, list(shown), key, position)
        st.button(
            "Usual columns",
            icon=":material/restart_alt:",
            key=f"{table}-columns-usual",
            on_click=_keep,
            args=(table, None),
            disabled=list(shown) == _usual(known),
            width="stretch",
        )


def _line(table: str, known: Mapping[str, Column], shown: list[str], key: str, position: int) -> None:
    ticked = key in shown
    # What the records say is what is drawn, whatever a widget remembers.
    tick = f"{table}-column-{key}"
    st.session_state[tick] = ticked
    with st.container(horizontal=True, vertical_alignment="center", gap=None, wrap=False):
        st.checkbox(
            known[key].title,
            key=tick,
            on_change=_tick,
            args=(table, shown, key, tick),
            disabled=ticked and len(shown) == 1,
            width="stretch",
        )
        if ticked:
            for sign, label, to in (("arrow_upward", "up", position - 1), ("arrow_downward", "down", position + 1)):
                moved = [one for one in shown if one != key]
                moved.insert(to, key)
                st.button(
                    "",
                    icon=f":material/{sign}:",
                    type="tertiary",
                    help=f"Move {known[key].title} {label}",
                    key=f"{table}-column-{key}-{label}",
                    on_click=_keep,
                    args=(table, moved),
                    disabled=not 0 <= to < len(shown),
                )


def _usual(known: Mapping[str, Column]) -> list[str]:
    return [key for key, column in known.items() if column.usual]


def _tick(table: str, shown: list[str], key: str, tick: str) -> None:
    rest = [one for one in shown if one != key]
    _keep(table, [*rest, key] if st.session_state[tick] else rest)


def _keep(table: str, keys: Sequence[str] | None) -> None:
    with guard.guarded(lambda sentence: actions.tell("error", sentence)):
        if keys is None:
            preferences.forget_columns(session.context(), table)
        else:
            preferences.choose_columns(session.context(), table, keys)
