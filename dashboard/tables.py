"""Tables with a selection by id. Streamlit selects by position, so the ids of what was drawn are kept."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Any, Literal

import streamlit as st

from dashboard.words import Colour, Look

# The palette that badges have, as cells need it.
_HUES: dict[Colour, str] = {
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
    return coloured(label, {look.words: look.colour for look in looks.values()}, width)


def coloured(label: str, colours: Mapping[str, Colour], width: int) -> Any:
    """A column of several words a cell, each with its colour."""
    return st.column_config.MultiselectColumn(
        label, options=list(colours), color=[_HUES[colour] for colour in colours.values()], width=width
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
    """Draw rows, one of which may be selected; the selected row's id, None for none. `on_choose` is called with the id
    at the moment of selection, before anything is drawn."""
    found = _draw(name, ids, columns, config, alt, "single-row", on_choose)
    return found[0] if found else None


def table_of_many(
    name: str, ids: Sequence[int], columns: Mapping[str, Sequence[object]], config: Mapping[str, Any], alt: str
) -> tuple[int, ...]:
    """Draw rows, any of which may be selected; the ids of the selected rows, in the order of the rows."""
    return _draw(name, ids, columns, config, alt, "multi-row", None)


def _draw(
    name: str,
    ids: Sequence[int],
    columns: Mapping[str, Sequence[object]],
    config: Mapping[str, Any],
    alt: str,
    mode: Literal["single-row", "multi-row"],
    on_choose: Callable[[int], None] | None,
) -> tuple[int, ...]:
    """A selection is turned into ids with the ids that were on the screen when it was made. When other rows are drawn
    than before, the table is a new one, in which the selected ids are selected again as far as they are still there."""
    ids_key, chosen_key, turn_key = f"{name}-ids", f"{name}-chosen", f"{name}-turn"
    if st.session_state.get(ids_key) != list(ids):
        st.session_state[ids_key] = list(ids)
        st.session_state[turn_key] = int(st.session_state.get(turn_key, 0)) + 1
        st.session_state[chosen_key] = tuple(one for one in all_chosen(name) if one in ids)
    key = f"{name}-{st.session_state[turn_key]}"
    shown = list(ids)

    def choose() -> None:
        rows = st.session_state[key]["selection"]["rows"]
        found = tuple(shown[row] for row in sorted(rows) if row < len(shown))
        st.session_state[chosen_key] = found
        if found and on_choose is not None:
            on_choose(found[0])

    st.dataframe(
        columns,
        key=key,
        hide_index=True,
        column_config=dict(config),
        on_select=choose,
        selection_mode=mode,
        selection_default={"selection": {"rows": [shown.index(one) for one in all_chosen(name)]}},
        height="auto" if len(shown) <= _MOST_ROWS else 36 * (_MOST_ROWS + 1),
        row_height=36,
        placeholder="–",
        alt=alt,
    )
    return all_chosen(name)


def plain(name: str, columns: Mapping[str, Sequence[object]], config: Mapping[str, Any], alt: str) -> None:
    """Draw rows of which none is selected."""
    count = len(next(iter(columns.values()), ()))
    st.dataframe(
        columns,
        key=name,
        hide_index=True,
        column_config=dict(config),
        height="auto" if count <= _MOST_ROWS else 36 * (_MOST_ROWS + 1),
        row_height=36,
        placeholder="–",
        alt=alt,
    )


def chosen(name: str) -> int | None:
    """The id that is selected in a table."""
    found = all_chosen(name)
    return found[0] if found else None


def all_chosen(name: str) -> tuple[int, ...]:
    """The ids that are selected in a table."""
    return tuple(st.session_state.get(f"{name}-chosen") or ())


def unchoose(name: str) -> None:
    """Take the selection away; the table is drawn anew."""
    st.session_state.pop(f"{name}-chosen", None)
    st.session_state.pop(f"{name}-ids", None)
