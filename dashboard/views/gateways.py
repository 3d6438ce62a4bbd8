"""The orchestration gateways: search, filter, group, order, page; add, and act on those that are selected."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import streamlit as st

from dashboard import actions, columns, components, connections, dialogs, filters, guard, session, tables, words
from dashboard.columns import Column
from dashboard.components import zone
from dashboard.views import gateway_actions, gateway_forms
from dashboard.views.gateway_actions import TABLE
from dashboard.words import Look
from model.states import ConnectionStatus, DelegationMode, Privilege
from operations import gateways
from operations.context import Context, now
from operations.gateway_queries import Filter, Order, Statuses
from operations.gateways import By, GatewayRow, Group, Page

_SEEN = "gateways-seen"
_FRESH = "gateways-fresh"
_LOOK_AGAIN = timedelta(seconds=10)
_NOT_KNOWN = "Not known yet"

_UNKNOWN = Look("Unknown", "gray", "help", "Temporal does not answer, so nobody knows.")
_INACTIVE = Look("Switched off", "gray", "block", "It is not given any work.")

_GROUPS: dict[str, By] = {
    "Delegation mode": "delegation_mode",
    "Status": "status",
    "Organization": "organization",
    "Version": "version",
    "Operating system": "os",
}
_NOTHING: dict[str, object] = {
    "g-q": "",
    "g-status": [],
    "g-mode": None,
    "g-organization": None,
    "g-version": None,
    "g-os": None,
    "g-active": None,
}
_ACTIVE = {"In use": True, "Switched off": False}
_EVERY_ORGANIZATION = "Every organization (General)"


def _text(title: str, width: int, usual: bool = True) -> Column:
    return Column(title, st.column_config.TextColumn(title, width=width), usual)


def _number(title: str, width: int, usual: bool = True) -> Column:
    return Column(title, st.column_config.NumberColumn(title, width=width, format="%d"), usual)


# The vendor's console shows the first five.
_COLUMNS: dict[str, Column] = {
    "id": _number("ID", 60),
    "name": _text("Name", 220),
    "delegation_mode": _text("Delegation Mode", 130),
    "status": Column("Status", None),
    "comments": _text("Comments", 380),
    "version": _text("Version", 90, False),
    "os": _text("Operating System", 160, False),
    "modules": _text("Modules", 220, False),
    "endpoints": _number("Endpoints", 90, False),
    "open_requests": _number("Open Requests", 110, False),
    "last_activity": Column("Last Activity", None, False),
    "organizations": _text("Organizations", 220, False),
}


def show() -> None:
    """Draw the page."""
    context = session.context()
    _head(context)
    actions.show_told()
    with guard.guarded():
        statuses, trouble = connections.statuses(context)
        if trouble is not None:
            components.warning(f"Which gateways are connected is not known now. {trouble}")
        shown = columns.chosen(context, TABLE, _COLUMNS)
        wanted = _filters(context)
        wanted, order, descending, grouped = _arrangement(context, wanted, shown)
        if grouped is not None:
            _groups(context, wanted, statuses, grouped)
        else:
            _rows(context, wanted, statuses, shown, order, descending)
    dialogs.show(gateway_forms.DIALOGS)


def _head(context: Context) -> None:
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        st.title("Orchestration gateways", anchor=False, width="content")
        if session.holds(context, Privilege.MANAGE_GATEWAYS):
            st.button(
                "Add",
                icon=":material/add:",
                type="primary",
                key="gateway-add",
                on_click=gateway_actions.ask,
                args=("add",),
            )


def _filters(context: Context) -> Filter:
    search, status, mode, organization = st.columns([2.2, 1.5, 1.2, 1.4], vertical_alignment="center")
    with search:
        text = filters.search("g-q", "Quick search by name")
    with status:
        statuses = filters.states("Status", "g-status", words.CONNECTION)
    modes = {look.words: state for state, look in words.DELEGATION.items()}
    with mode:
        delegation_mode = filters.one("Delegation mode", "g-mode", list(modes))
    with organization:
        delegated = filters.one("Organization", "g-organization", filters.organization_names(context))
    return Filter(
        search=text,
        statuses=tuple(statuses),
        delegation_mode=modes[delegation_mode] if delegation_mode else None,
        organization=delegated,
    )


def _further_filters(context: Context, wanted: Filter) -> Filter:
    """What is asked for less often, under a button that says how much of it is set."""
    keys = ("g-version", "g-os", "g-active")
    count = sum(st.session_state.get(key) is not None for key in keys)
    with st.popover(f"More filters ({count})" if count else "More filters", icon=":material/tune:", key="g-more"):
        versions, systems = gateways.kinds(context)
        of_version = filters.one("Version", "g-version", [*versions, _NOT_KNOWN])
        of_system = filters.one("Operating system", "g-os", [*systems, _NOT_KNOWN])
        in_use = filters.one("In use or not", "g-active", list(_ACTIVE))
    return replace(
        wanted,
        version="" if of_version == _NOT_KNOWN else of_version,
        os="" if of_system == _NOT_KNOWN else of_system,
        active=_ACTIVE[in_use] if in_use else None,
    )


def _arrangement(context: Context, wanted: Filter, shown: Sequence[str]) -> tuple[Filter, Order, bool, By | None]:
    """Group, order, further filters, and the table's other controls."""
    titles: dict[str, Order] = {_COLUMNS[key].title: key for key in _COLUMNS}  # type: ignore[misc]
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        with st.container(horizontal=True, vertical_alignment="center", width="content", gap="small"):
            group = st.selectbox(
                "Group", list(_GROUPS), index=None, key="g-group", placeholder="Group", icon=":material/category:",
                bind="query-params", label_visibility="collapsed", width=165, on_change=filters.first_page,
            )  # fmt: skip
            sort = st.selectbox(
                "Sort by", [_COLUMNS[key].title for key in shown], index=None, key="g-sort",
                placeholder="Sort by: Name",
                icon=":material/sort:", bind="query-params", label_visibility="collapsed", width=185,
                on_change=filters.first_page, disabled=group is not None,
            )  # fmt: skip
            descending = st.toggle(
                "Descending", key="g-descending", bind="query-params", on_change=filters.first_page,
                disabled=group is not None,
            )  # fmt: skip
        with st.container(horizontal=True, vertical_alignment="center", width="content", gap="small"):
            wanted = _further_filters(context, wanted)
            if wanted != Filter():
                st.button(
                    "Clear", icon=":material/filter_alt_off:", key="gateways-clear", on_click=filters.clear,
                    args=(_NOTHING,),
                )  # fmt: skip
            st.button("Refresh", icon=":material/refresh:", key="gateways-refresh", on_click=_refresh)
            columns.manage(TABLE, _COLUMNS, shown)
    return wanted, titles.get(sort or "", "name"), descending, _GROUPS[group] if group else None


def _refresh() -> None:
    connections.ask_anew()
    actions.forget_told()


# --- rows -------------------------------------------------------------------------------------------------------------


def _rows(
    context: Context, wanted: Filter, statuses: Statuses | None, shown: Sequence[str], order: Order, descending: bool
) -> None:
    size = filters.PAGE_SIZE
    page = filters.page()

    def look(context: Context, statuses: Statuses | None) -> Page:
        first = (page - 1) * size
        return gateways.listing(context, wanted, statuses, order=order, descending=descending, offset=first, limit=size)

    found = look(context, statuses)
    if not found.total:
        _empty(context, wanted)
        _keep_watching(look, found)
        return
    if not found.rows:
        filters.turn_to(-(-found.total // size))
        st.rerun()
    bar = st.container(key="selection", border=True)
    values, config = _cells(found.rows, shown)
    chosen = tables.table_of_many(TABLE, [row.id for row in found.rows], values, config, alt="Orchestration gateways")
    with bar:
        gateway_actions.selection(context, [row for row in found.rows if row.id in chosen])
    turned = components.pager(found.total, page, size, TABLE)
    if turned != page:
        tables.unchoose(TABLE)
        filters.turn_to(turned)
        st.rerun()
    _keep_watching(look, found)


def _cells(rows: Sequence[GatewayRow], shown: Sequence[str]) -> tuple[dict[str, list[Any]], dict[str, Any]]:
    """The cells of the columns that are shown, and how the columns are drawn."""
    moment = now()
    states = [_state(row, moment) for row in rows]
    values: dict[str, list[Any]] = {
        "id": [row.id for row in rows],
        "name": [row.name for row in rows],
        "delegation_mode": [words.DELEGATION[row.delegation_mode].words for row in rows],
        "status": states,
        "comments": [" ".join(row.comments.split()) for row in rows],
        "version": [row.version for row in rows],
        "os": [row.os for row in rows],
        "modules": [_modules(row) for row in rows],
        "endpoints": [row.endpoints for row in rows],
        "open_requests": [row.open_requests for row in rows],
        "last_activity": [row.last_activity for row in rows],
        "organizations": [gateway_actions.served(row) for row in rows],
    }
    made = {
        "status": _status_column(states),
        "last_activity": st.column_config.DatetimeColumn(
            "Last Activity", width=140, format="YYYY-MM-DD HH:mm", timezone=str(zone())
        ),
    }
    return {key: values[key] for key in shown}, {key: made.get(key) or _COLUMNS[key].config for key in shown}


def _state(row: GatewayRow, moment: datetime) -> list[str]:
    """The status in coloured words, and since when it isn't as it should be."""
    told = [status_look(row.status).words]
    if not row.active:
        told.append(_INACTIVE.words)
    if row.since is not None:
        told.append(words.ago(row.since, moment))
    return told


def _status_column(states: Sequence[Sequence[str]]) -> Any:
    looks = {look.words: look.colour for look in (*words.CONNECTION.values(), _UNKNOWN, _INACTIVE)}
    further = sorted({word for told in states for word in told} - set(looks))
    return tables.coloured("Status", {**looks, **dict.fromkeys(further, "gray")}, 210)


def status_look(status: ConnectionStatus | None) -> Look:
    """How a status is shown."""
    return _UNKNOWN if status is None else words.CONNECTION[status]


def _modules(row: GatewayRow) -> str | None:
    return f"{len(row.modules)}: {', '.join(row.modules)}" if row.modules else None


# --- groups -----------------------------------------------------------------------------------------------------------


def _groups(context: Context, wanted: Filter, statuses: Statuses | None, by: By) -> None:
    def look(context: Context, statuses: Statuses | None) -> list[Group]:
        return gateways.groups(context, by, wanted, statuses)

    found = look(context, statuses)
    _keep_watching(look, found)
    if not found:
        _empty(context, wanted)
        return
    names = [_group_name(by, group.key) for group in found]
    total = gateways.listing(context, wanted, statuses, limit=1).total
    tables.table(
        f"gateway-groups-{by}",
        list(range(len(names))),
        {
            "Group": names,
            "Gateways": [group.count for group in found],
            "Share": [group.count / total for group in found],
        },
        {
            "Group": st.column_config.TextColumn(next(label for label, one in _GROUPS.items() if one == by)),
            "Gateways": st.column_config.NumberColumn(width=110, format="localized"),
            "Share": st.column_config.ProgressColumn("Share", format="percent", min_value=0, max_value=1),
        },
        alt="Gateways by group",
        on_choose=lambda position: _drill(by, found[position].key, names[position]),
    )
    st.caption(f":material/arrow_selector_tool: Select a group to see its gateways; {total:,} in all.")
    if by == "organization":
        st.caption("A gateway that is delegated to several organizations counts in each of them.")


def _group_name(by: By, key: str | None) -> str:
    if by == "delegation_mode":
        return words.DELEGATION[DelegationMode(str(key))].words
    if by == "status":
        return status_look(ConnectionStatus(key) if key else None).words
    if by == "organization":
        return key or _EVERY_ORGANIZATION
    return key or _NOT_KNOWN


def _drill(by: By, key: str | None, name: str) -> None:
    """Show a group's gateways: the group becomes a filter."""
    if by == "status":
        st.session_state["g-status"] = [name] if key else []
    elif by == "delegation_mode" or (by == "organization" and key is None):
        st.session_state["g-mode"] = words.DELEGATION[DelegationMode(key or DelegationMode.GENERAL)].words
    else:
        st.session_state[{"organization": "g-organization", "version": "g-version", "os": "g-os"}[by]] = name
    st.session_state["g-group"] = None
    tables.unchoose(f"gateway-groups-{by}")
    filters.first_page()


def _empty(context: Context, wanted: Filter) -> None:
    with st.container(border=True, horizontal_alignment="center", key="empty"):
        if wanted != Filter():
            st.subheader(":material/search_off: No gateway matches", anchor=False)
            st.caption("Take a filter away, or clear them all.")
        elif session.holds(context, Privilege.MANAGE_GATEWAYS):
            st.subheader(":material/hub: No gateway yet", anchor=False)
            st.caption(
                "A gateway is a worker in somebody's network: it makes keys there, and installs certificates there."
            )
            st.markdown(
                "1. **Add** one here; you get an enrollment token.\n"
                "2. On its host, run `certgate gateway join` with the token.\n"
                "3. Run it: `certgate gateway run`. It shows up as Connected within seconds."
            )
            st.button(
                "Add the first gateway",
                type="primary",
                key="gateway-first",
                on_click=gateway_actions.ask,
                args=("add",),
            )
        else:
            st.subheader(":material/hub: No gateway that you may see", anchor=False)
            st.caption("Gateways show up here as soon as they serve one of your organizations or departments.")


# --- by itself --------------------------------------------------------------------------------------------------------


def _keep_watching(look: Callable[[Context, Statuses | None], object], found: object) -> None:
    st.session_state[_SEEN], st.session_state[_FRESH] = found, True
    _watch(look)


@st.fragment(run_every=_LOOK_AGAIN)
def _watch(look: Callable[[Context, Statuses | None], object]) -> None:
    """Look for changes now and then; draw the page again only if there are any and nothing is being asked. Selected
    rows stay selected: they are known by their ids."""
    # The first time is the run that has just drawn the page.
    if st.session_state.pop(_FRESH, False) or dialogs.is_open():
        return
    with guard.guarded(lambda _: None):
        context = session.context()
        if look(context, connections.statuses(context)[0]) != st.session_state.get(_SEEN):
            st.rerun()
