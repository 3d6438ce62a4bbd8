"""The list of replacement campaigns, with how far each has come."""

from __future__ import annotations

import streamlit as st

from dashboard import actions, components, filters, places, session, shelf, tables, words
from dashboard.components import zone
from model.states import ItemState
from operations import campaigns
from operations.campaigns import CampaignRow

_TABLE = "campaigns"
_NOTHING: dict[str, object] = {"k-q": "", "k-state": []}


def show() -> None:
    """Draw the page."""
    context = session.context()
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        st.title("Replacement campaigns", anchor=False, width="content")
        with st.container(horizontal=True, width="content", gap="small"):
            st.button("Refresh", icon=":material/refresh:", key="refresh", on_click=actions.forget_told)
            _new("new")
    actions.show_told()
    search, state = st.columns([3, 2], vertical_alignment="center")
    with search:
        text = filters.search("k-q", "Search by name")
    with state:
        states = filters.states("State", "k-state", words.CAMPAIGN)
    size, page = filters.PAGE_SIZE, filters.page()
    found = campaigns.listing(context, states, text, (page - 1) * size, size)
    if not found.total:
        _empty(filtered=bool(text or states))
        return
    if not found.rows:
        filters.turn_to(-(-found.total // size))
        st.rerun()
    bar = shelf.bar()
    chosen = _table(found.rows)
    hint = ":material/arrow_selector_tool: Select a campaign to open it."
    shelf.selection(bar, found.rows, chosen, hint, _selected)
    turned = components.pager(found.total, page, size, "campaigns")
    if turned != page:
        tables.unchoose(_TABLE)
        filters.turn_to(turned)
        st.rerun()


def _new(key: str) -> None:
    if places.known(places.NEW_CAMPAIGN) and st.button("New campaign", icon=":material/add:", type="primary", key=key):
        places.go(places.NEW_CAMPAIGN)


def _selected(row: CampaignRow) -> None:
    with st.container(gap=None):
        components.strong(f"{row.id} · {row.name}")
        components.quiet(row.why or words.CAMPAIGN[row.state].meaning)
    if st.button("Open", icon=":material/open_in_full:", key="open", type="primary"):
        places.go(places.CAMPAIGN, id=str(row.id))


def _table(rows: list[CampaignRow]) -> int | None:
    return tables.table(
        _TABLE,
        [row.id for row in rows],
        {
            "No.": [row.id for row in rows],
            "Name": [row.name for row in rows],
            "State": tables.cells((row.state for row in rows), words.CAMPAIGN),
            "Progress": [row.ended / row.total if row.total else 1.0 for row in rows],
            "Certificates": [row.total for row in rows],
            "Replaced": [row.counts[ItemState.DONE] for row in rows],
            "Failed": [row.counts[ItemState.FAILED] for row in rows],
            "An hour": [row.rate_per_hour for row in rows],
            "Expected end": [row.expected_at or row.ended_at for row in rows],
            "Deadline": [row.deadline_at for row in rows],
            "Created by": [row.created_by for row in rows],
        },
        {
            "No.": st.column_config.NumberColumn(width=60, format="%d"),
            "Name": st.column_config.TextColumn(width=240),
            "State": tables.states("State", words.CAMPAIGN, 110),
            "Progress": st.column_config.ProgressColumn(width=130, format="percent", min_value=0.0, max_value=1.0),
            "Certificates": st.column_config.NumberColumn(width=95, format="%d"),
            "Replaced": st.column_config.NumberColumn(width=85, format="%d"),
            "Failed": st.column_config.NumberColumn(width=70, format="%d"),
            "An hour": st.column_config.NumberColumn(width=80, format="%d"),
            "Expected end": _when("Expected end"),
            "Deadline": _when("Deadline"),
            "Created by": st.column_config.TextColumn(width=120),
        },
        alt="Replacement campaigns",
    )


def _when(label: str) -> object:
    return st.column_config.DatetimeColumn(label, width=140, format="YYYY-MM-DD HH:mm", timezone=str(zone()))


def _empty(*, filtered: bool) -> None:
    with st.container(border=True, horizontal_alignment="center", key="empty"):
        if filtered:
            st.subheader(":material/search_off: No campaign matches these filters", anchor=False)
            st.button(
                "Clear filters", icon=":material/filter_alt_off:", on_click=filters.clear, args=(_NOTHING,), key="clear"
            )
            return
        st.subheader(":material/published_with_changes: No campaigns yet", anchor=False)
        st.caption(
            "A campaign replaces many certificates: canaries first, the rest under a rate, and it stops when too much "
            "fails. Try one before the day on which a CA must revoke everything."
        )
        _new("first")
