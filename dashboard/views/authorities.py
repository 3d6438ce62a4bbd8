"""Certificate authorities: which there are, whether they answer, and how many orders each of them has."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from dashboard import actions, components, guard, places, session, shelf, tables, words
from dashboard.dialogs import show as show_dialogs
from dashboard.views import authority_forms
from dashboard.words import Look
from operations import authorities, orders
from operations.authorities import AuthorityRow
from operations.context import now
from operations.orders import Count

_TABLE = "authorities"
STATES = {
    True: Look("In use", "green", "check_circle", "Profiles may name it."),
    False: Look("Switched off", "gray", "block", "Nothing is ordered from it."),
}


def show() -> None:
    """Draw the page."""
    context = session.context()
    owner = context.actor.owns_everything
    shelf.head("Certificate authorities", "Add CA" if owner else None, "ca-add")
    rows = authorities.listing(context)
    found = shelf.searched("ca-q", "Search by name or type", rows, lambda row: f"{row.name}\n{row.type}")
    if found:
        bar = shelf.bar()
        chosen = _table(found, orders.counts(context))
        hint = ":material/arrow_selector_tool: Select a CA to open, check or change it."
        shelf.selection(bar, found, chosen, hint, lambda row: _selected(row, owner))
    elif rows:
        shelf.empty("search_off", "No CA matches", "Type less, or something else.")
    else:
        shelf.empty("account_balance", "No certificate authorities", "Somebody has to issue: add one.")
    show_dialogs({**authority_forms.additions(), **authority_forms.changes()})


def _table(rows: Sequence[AuthorityRow], counted: dict[int, Count]) -> int | None:
    titles, moment = authorities.types(), now()
    found = [counted.get(row.id, Count(0, None)) for row in rows]
    return tables.table(
        _TABLE,
        [row.id for row in rows],
        {
            "No.": [row.id for row in rows],
            "Name": [row.name for row in rows],
            "Type": [titles.get(row.type, row.type) for row in rows],
            "State": [[STATES[row.active].words] for row in rows],
            "Open orders": [one.count for one in found],
            "Oldest": [words.ago(one.oldest, moment) if one.oldest else None for one in found],
            "Private": [row.is_private for row in rows],
            "Reached": [authority_forms.REACHED.get(row.reached_from, row.reached_from) for row in rows],
        },
        {
            "No.": st.column_config.NumberColumn(width=60, format="%d"),
            "Name": st.column_config.TextColumn(width=200),
            "Type": st.column_config.TextColumn(width=220),
            "State": tables.states("State", STATES, 105),
            "Open orders": st.column_config.NumberColumn(width=95, format="%d"),
            "Oldest": st.column_config.TextColumn(width=105),
            "Private": st.column_config.CheckboxColumn(width=70),
            "Reached": st.column_config.TextColumn(width=130),
        },
        alt="Certificate authorities",
    )


def _selected(row: AuthorityRow, owner: bool) -> None:
    components.strong(row.name)
    with st.container(horizontal=True, width="content", gap="small"):
        if st.button("Open", icon=":material/open_in_full:", key="open", type="primary"):
            places.go(places.AUTHORITY, id=str(row.id))
        if not owner:
            return
        if st.button("Check", icon=":material/network_check:", key="check"):
            with guard.guarded(lambda text: actions.tell("error", text)):
                health = authority_forms.check(row)
                actions.tell("success" if health.usable else "error", f"{row.name}: {health.message}")
            st.rerun()
        shelf.offer("Edit", "edit", "ca-edit", row)
        shelf.offer("Remove", "delete", "ca-remove", row)
