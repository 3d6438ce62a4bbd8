"""Tables with a selection by id. Streamlit selects by position, so the ids of what was drawn are kept."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Any

import streamlit as st

from dashboard.words import Look

# The palette that badges have, as cells need it.
_HUES = {
    "red": "#f4b8b8",
    "orange": "#f8d49b",
    "blue": "#b5d5f2",
    "green": "#a9dfc3",
    "violet": "#d6c6f2",
    "gray": "#d5dbde",
}


_MOST_ROWS = 14


def states(label: str, looks: Mapping[Any, Look], width: int) -> Any:
    """A column of states as coloured words."""
    return st.column_config.MultiselectColumn(
        label,
        options=[look.words for look in looks.values()],
        color=[_HUES[look.colour] for look in looks.values()],
        width=width,
    )


def cells(values: Iterable[StrEnum], looks: Mapping[Any, Look]) -> list[list[str]]:
    """States as such a column takes them."""
    return [[looks[value].words] for value in values]


def table(
    name: str,
    ids: Sequence[int],
    columns: Mapping[str, Sequence[object]],
    config: Mapping[str, Any],
    alt: str,
    on_choose: Callable[[int], None] | None = None,
) -> int | None:
    """Draw rows, one of which may be selected; the selected row's id, None for none.

    A selection is turned into an id with the ids that were on the screen when it was made. When other rows are drawn
    than before, the table is a new one, in which the selected id is selected again if it is still there. `on_choose` is
    called with the id at the moment of selection, before anything is drawn.
    """
    ids_key, chosen_key, turn_key = f"{name}-ids", f"{name}-chosen", f"{name}-turn"
    if st.session_state.get(ids_key) != list(ids):
        st.session_state[ids_key] = list(ids)
        st.session_state[turn_key] = int(st.session_state.get(turn_key, 0)) + 1
        if st.session_state.get(chosen_key) not in ids:
            st.session_state.pop(chosen_key, None)
    key = f"{name}-{st.session_state[turn_key]}"
    shown = list(ids)

    def choose() -> None:
        rows = st.session_state[key]["selection"]["rows"]
        if rows and rows[0] < len(shown):
            st.session_state[chosen_key] = shown[rows[0]]
            if on_choose is not None:
                on_choose(shown[rows[0]])
        else:
            st.session_state.pop(chosen_key, None)

    chosen = st.session_state.get(chosen_key)
    st.dataframe(
        columns,
        key=key,
        hide_index=True,
        column_config=dict(config),
        on_select=choose,
        selection_mode="single-row",
        selection_default={"selection": {"rows": [shown.index(chosen)] if chosen in shown else []}},
        height="auto" if len(shown) <= _MOST_ROWS else 36 * (_MOST_ROWS + 1),
        row_height=36,
        placeholder="–",
        alt=alt,
    )
    return chosen if isinstance(chosen, int) else None


def chosen(name: str) -> int | None:
    """The id that is selected in a table."""
    found = st.session_state.get(f"{name}-chosen")
    return found if isinstance(found, int) else None


def unchoose(name: str) -> None:
    """Take the selection away; the table is drawn anew."""
    st.session_state.pop(f"{name}-chosen", None)
    st.session_state.pop(f"{name}-ids", None)
