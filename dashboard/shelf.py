"""What the pages of settings have in common: a short list of which one thing is selected and changed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from dashboard import actions, components, dialogs, filters


class Row(Protocol):
    """Whatever has an id."""

    @property
    def id(self) -> int:
        """Its number."""
        ...


RowT = TypeVar("RowT", bound=Row)


def head(title: str, add: str | None, dialog: str) -> None:
    """The title with its buttons; `add` None: nothing may be added."""
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        st.title(title, anchor=False, width="content")
        with st.container(horizontal=True, width="content", gap="small"):
            st.button("Refresh", icon=":material/refresh:", key="refresh", on_click=actions.forget_told)
            if add is not None:
                st.button(add, icon=":material/add:", type="primary", key="add", on_click=dialogs.ask, args=(dialog,))
    actions.show_told()


def searched(key: str, placeholder: str, rows: Sequence[RowT], text: Callable[[RowT], str]) -> list[RowT]:
    """A search that filters while one types; the rows that it keeps."""
    wanted = filters.search(key, placeholder).casefold()
    return [row for row in rows if wanted in text(row).casefold()]


def selection(
    bar: DeltaGenerator, rows: Sequence[RowT], chosen: int | None, hint: str, draw: Callable[[RowT], None]
) -> RowT | None:
    """The bar above a list: what is selected with what can be done, else a hint. Gives what is selected."""
    row = next((row for row in rows if row.id == chosen), None)
    with bar, st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        if row is None:
            st.caption(hint)
        else:
            draw(row)
    return row


def bar(key: str = "selection") -> DeltaGenerator:
    """Where the selection stands."""
    return st.container(key=key, border=True)


def offer(label: str, icon: str, dialog: str, about: Any, *, primary: bool = False) -> None:
    """A button that opens a dialog about something."""
    st.button(
        label,
        icon=f":material/{icon}:",
        type="primary" if primary else "secondary",
        key=f"offer-{dialog}",
        on_click=dialogs.ask,
        args=(dialog, about),
    )


def empty(icon: str, title: str, text: str) -> None:
    """Nothing is there; all three are our own words."""
    with st.container(border=True, horizontal_alignment="center", key="empty"):
        st.subheader(f":material/{icon}: {title}", anchor=False)
        st.caption(text)


def lines(key: str) -> list[str]:
    """What was typed into an area, one thing a line."""
    return [line.strip() for line in dialogs.value(key).splitlines() if line.strip()]


def facts_below(row: RowT | None, facts: Callable[[RowT], Sequence[tuple[str, str | None]]]) -> None:
    """What there is to know of the selected thing, below the list."""
    if row is not None:
        with st.container(border=True, key="details"):
            components.facts(facts(row))
