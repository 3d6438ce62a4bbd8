"""The inbox of requests: search, filter, group, page, decide in place."""

from __future__ import annotations

from datetime import timedelta
from typing import Literal, cast

import streamlit as st

from dashboard import actions, components, filters, guard, places, session, tables, words
from dashboard.components import zone
from model.states import CertificateStatus, InstallState, Privilege
from operations import requests
from operations.context import Context
from operations.requests import Filter, Page

_TABLE = "requests"
_SEEN = "requests-seen"
_FRESH = "requests-fresh"
_LOOK_AGAIN = timedelta(seconds=10)

Group = Literal["status", "install_state", "gateway", "organization"]

_GROUPS: dict[str, Group] = {
    "Status": "status",
    "Installation": "install_state",
    "Gateway": "gateway",
    "Organization": "organization",
}
_FILTER_OF: dict[Group, str] = {
    "status": "status",
    "install_state": "install",
    "gateway": "gateway",
    "organization": "organization",
}
_NOTHING: dict[str, object] = {
    "q": "",
    "status": [],
    "install": [],
    "gateway": None,
    "organization": None,
    "mine": False,
    "unfinished": False,
}


def show() -> None:
    """Draw the page."""
    context = session.context()
    _head(context)
    actions.show_told()
    wanted = _filters(context)
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        with st.container(horizontal=True, vertical_alignment="center", width="content", gap="small"):
            st.caption("Group by", width="content")
            grouped = st.segmented_control(
                "Group by", list(_GROUPS), key="group", bind="query-params", label_visibility="collapsed"
            )
        if wanted != Filter():
            st.button(
                "Clear filters", icon=":material/filter_alt_off:", on_click=filters.clear, args=(_NOTHING,), key="clear"
            )
    if grouped:
        _groups(context, wanted, _GROUPS[grouped])
    else:
        _rows(context, wanted)
    actions.show_asked()


def _head(context: Context) -> None:
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        st.title("Requests", anchor=False, width="content")
        with st.container(horizontal=True, width="content", gap="small"):
            # A press on any button runs the page, which reads everything anew.
            st.button("Refresh", icon=":material/refresh:", key="refresh", on_click=actions.forget_told)
            if session.holds(context, Privilege.REQUEST) and st.button(
                "New request", icon=":material/add:", type="primary", key="new"
            ):
                places.go(places.NEW_REQUEST)


def _filters(context: Context) -> Filter:
    search, mine, unfinished = st.columns([4, 1.3, 0.8], vertical_alignment="center")
    with search:
        text = filters.search("q", "Search by common name or order number")
    with mine:
        awaiting = st.toggle("Awaiting my decision", key="mine", bind="query-params", on_change=filters.first_page)
    with unfinished:
        still_open = st.toggle("Open only", key="unfinished", bind="query-params", on_change=filters.first_page)
    status, install, gateway, organization = st.columns(4)
    with status:
        statuses = filters.states("Status", "status", words.STATUS)
    with install:
        install_states = filters.states("Installation", "install", words.INSTALL)
    with gateway:
        at_gateway = filters.one("Gateway", "gateway", filters.gateway_names(context))
    with organization:
        of_organization = filters.one("Organization", "organization", filters.organization_names(context))
    return Filter(
        search=text,
        statuses=tuple(statuses),
        install_states=tuple(install_states),
        gateway=at_gateway,
        organization=of_organization,
        awaiting_me=awaiting,
        unfinished=still_open,
    )


def _rows(context: Context, wanted: Filter) -> None:
    size = filters.PAGE_SIZE
    page = filters.page()
    found = requests.listing(context, wanted, offset=(page - 1) * size, limit=size)
    if not found.total:
        _empty(context, wanted)
        _keep_watching(found, wanted, page)
        return
    if not found.rows:
        filters.turn_to(-(-found.total // size))
        st.rerun()
    bar = st.container(key="selection", border=True)
    rows = found.rows
    chosen = tables.table(
        _TABLE,
        [row.id for row in rows],
        {
            "No.": [row.id for row in rows],
            "Common name": [row.common_name for row in rows],
            "Status": tables.cells((row.status for row in rows), words.STATUS),
            "Installation": tables.cells((row.install_state for row in rows), words.INSTALL),
            "Organization": [
                f"{row.organization} / {row.department}" if row.department else row.organization for row in rows
            ],
            "Gateway": [row.gateway for row in rows],
            "Endpoint": [row.endpoint for row in rows],
            "Requested by": [row.requester for row in rows],
            "Requested": [row.created_at for row in rows],
            "Order": [row.order_number for row in rows],
        },
        {
            "No.": st.column_config.NumberColumn(width=55, format="%d"),
            "Common name": st.column_config.TextColumn(width=190),
            "Status": tables.states("Status", words.STATUS, 100),
            "Installation": tables.states("Installation", words.INSTALL, 150),
            "Organization": st.column_config.TextColumn(width=105),
            "Gateway": st.column_config.TextColumn(width=85),
            "Endpoint": st.column_config.TextColumn(width=85),
            "Requested by": st.column_config.TextColumn(width=95),
            "Order": st.column_config.TextColumn(width=110),
            "Requested": st.column_config.DatetimeColumn(width=130, format="YYYY-MM-DD HH:mm", timezone=str(zone())),
        },
        alt="Certificate requests",
    )
    _selection(context, bar, chosen)
    turned = components.pager(found.total, page, size, "requests")
    if turned != page:
        tables.unchoose(_TABLE)
        filters.turn_to(turned)
        st.rerun()
    _keep_watching(found, wanted, page)


def _selection(context: Context, bar: st.delta_generator.DeltaGenerator, chosen: int | None) -> None:
    with bar, st.container(horizontal=True, vertical_alignment="center"):
        if chosen is None:
            st.caption(":material/arrow_selector_tool: Select a request to open it or to decide on it here.")
            return
        with guard.guarded():
            detail = requests.show(context, chosen)
            with st.container(gap=None):
                components.strong(f"{detail.id} · {detail.common_name}")
                components.quiet(
                    f"requested by {detail.requester} for {detail.organization}"
                    + (f" · {detail.comments}" if detail.comments else "")
                )
            with st.container(horizontal=True, width="content", gap="small"):
                if st.button("Open", icon=":material/open_in_full:", key="open"):
                    places.go(places.REQUEST, id=str(detail.id))
                for word in detail.may:
                    if word in ("approve", "decline"):
                        act = actions.ACTS[word]
                        st.button(
                            act.button,
                            icon=f":material/{act.icon}:",
                            type=act.type,
                            key=f"inbox-{word}",
                            on_click=actions.ask,
                            args=(word, detail.id),
                        )


def _groups(context: Context, wanted: Filter, by: Group) -> None:
    counted = requests.counts(context, by, wanted)
    if not counted:
        _empty(context, wanted)
        return
    names = [_group_name(by, key) for key in counted]
    total = sum(counted.values())
    tables.table(
        f"groups-{by}",
        list(range(len(names))),
        {"Group": names, "Requests": list(counted.values()), "Share": [count / total for count in counted.values()]},
        {
            "Group": st.column_config.TextColumn(next(label for label, group in _GROUPS.items() if group == by)),
            "Requests": st.column_config.NumberColumn(width=110, format="localized"),
            "Share": st.column_config.ProgressColumn("Share", format="percent", min_value=0, max_value=1),
        },
        alt="Requests by group",
        on_choose=lambda position: _drill(by, names[position]),
    )
    st.caption(f":material/arrow_selector_tool: Select a group to see its requests; {total:,} in all.")


def _drill(by: Group, name: str) -> None:
    """Show a group's requests: the group becomes a filter."""
    st.session_state[_FILTER_OF[by]] = [name] if by in ("status", "install_state") else name
    st.session_state["group"] = None
    tables.unchoose(f"groups-{by}")
    filters.first_page()


def _group_name(by: Group, key: str) -> str:
    if by == "status":
        return words.STATUS[CertificateStatus(key)].words
    if by == "install_state":
        return words.INSTALL[InstallState(key)].words
    return key


def _empty(context: Context, wanted: Filter) -> None:
    with st.container(border=True, horizontal_alignment="center", key="empty"):
        if wanted.awaiting_me:
            st.subheader(":material/task_alt: Nothing awaits your decision", anchor=False)
            st.caption("Requests that you may approve show up here as soon as their key and CSR are made.")
        elif wanted != Filter():
            st.subheader(":material/search_off: No request matches these filters", anchor=False)
            st.caption("Take a filter away, or clear them all.")
        else:
            st.subheader(":material/inbox: No requests yet", anchor=False)
            if session.holds(context, Privilege.REQUEST):
                st.caption("Request a certificate for something that an endpoint serves; it shows up here at once.")
                if st.button("Request the first certificate", type="primary", key="first"):
                    places.go(places.NEW_REQUEST)
            else:
                st.caption("Requests of your organizations show up here.")


def _keep_watching(found: Page, wanted: Filter, page: int) -> None:
    st.session_state[_SEEN], st.session_state[_FRESH] = found, True
    _watch(wanted, page)


@st.fragment(run_every=_LOOK_AGAIN)
def _watch(wanted: Filter, page: int) -> None:
    """Look for changes now and then; draw the page again only if there are any and nothing is selected or asked."""
    # The first time is the run that has just drawn the page.
    if st.session_state.pop(_FRESH, False) or tables.chosen(_TABLE) is not None or actions.dialog_is_open():
        return
    with guard.guarded(lambda _: None):
        size = filters.PAGE_SIZE
        found = requests.listing(session.context(), wanted, offset=(page - 1) * size, limit=size)
        if found != cast("Page | None", st.session_state.get(_SEEN)):
            st.rerun()
