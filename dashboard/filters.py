"""The controls above a list. Each is bound to the address, so that what is shown can be shared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import TypeVar

import streamlit as st

from dashboard.words import Look
from operations import gateways, organizations
from operations.context import Context

StateT = TypeVar("StateT", bound=StrEnum)

PAGE = "page"
# Pages of a list that is read from where the last one ended.
BEFORE, AFTER = "before", "after"
PAGE_SIZE = 50
# The step after the last of "ends within".
EXPIRED = "Expired"


def search(key: str, placeholder: str) -> str:
    """A search that filters while one types."""
    found = st.text_input(
        "Quick search",
        key=key,
        placeholder=placeholder,
        icon=":material/search:",
        type="search",
        live="300ms",
        max_chars=253,
        bind="query-params",
        on_change=first_page,
        label_visibility="collapsed",
    )
    return (found or "").strip()


def states(label: str, key: str, looks: Mapping[StateT, Look]) -> list[StateT]:
    """Any number of states, by their readable words."""
    names = {look.words: state for state, look in looks.items()}
    chosen = st.multiselect(
        label,
        list(names),
        key=key,
        placeholder=label,
        bind="query-params",
        on_change=first_page,
        label_visibility="collapsed",
    )
    return [names[name] for name in chosen]


def one(label: str, key: str, options: Sequence[str]) -> str | None:
    """One of some names, or none."""
    return st.selectbox(
        label,
        options,
        index=None,
        key=key,
        placeholder=label,
        bind="query-params",
        on_change=first_page,
        label_visibility="collapsed",
    )


def gateway_names(context: Context) -> list[str]:
    """The gateways that the actor may see."""
    return list(gateways.names(context).values())


def organization_names(context: Context) -> list[str]:
    """The organizations that the actor may see."""
    return [row.name for row in organizations.listing(context)]


def page() -> int:
    """The page that the address names, from 1."""
    given = st.query_params.get(PAGE, "1")
    return max(1, int(given)) if given.isascii() and given.isdigit() and len(given) < 7 else 1


def turn_to(wanted: int) -> None:
    """Show another page."""
    if wanted == 1:
        first_page()
    else:
        st.query_params[PAGE] = str(wanted)


def first_page() -> None:
    """A filter was changed: begin at the first page again."""
    for name in (PAGE, BEFORE, AFTER):
        st.query_params.pop(name, None)


def clear(nothing: Mapping[str, object]) -> None:
    """Take filters away; `nothing` is the empty value of each. The address follows its widgets."""
    for key, value in nothing.items():
        st.session_state[key] = value
    first_page()
