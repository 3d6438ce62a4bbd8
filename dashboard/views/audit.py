"""The audit trail: who did what and what was refused, of everything or of one gateway; filters, pages, downloads, and
the proof that nothing was changed."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import streamlit as st

from dashboard import audit_filters, components, filters, guard, places, session, tables, words
from dashboard.components import zone
from dashboard.views import audit_proof
from model.errors import CertgateError
from model.states import Privilege
from operations import audit_trail, gateways
from operations.audit_trail import AuditRow, Detail, Filter, Page
from operations.context import Context, now

_TABLE = "audit"
_GATEWAY = "gateway"
_GATEWAY_BOX = "audit-gateway"
_RECENT = 15
_CUSTOM = "Between"
_SPANS: dict[str, timedelta | None] = {
    "Last hour": timedelta(hours=1),
    "Last 24 hours": timedelta(days=1),
    "Last 7 days": timedelta(days=7),
    "Last 30 days": timedelta(days=30),
    "Last 365 days": timedelta(days=365),
    _CUSTOM: None,
}
_NOTHING: dict[str, object] = {
    "a-q": "",
    "a-when": None,
    "a-from": None,
    "a-to": None,
    "a-who": None,
    "a-action": [],
    "a-outcome": None,
    "a-way": None,
}
_LINKS = {"request": places.REQUEST, "certificate": places.CERTIFICATE, "gateway": places.GATEWAY}


def show() -> None:
    """Draw the page; ``?gateway=`` keeps the entries of one gateway."""
    context = session.context()
    head = st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute")
    wanted = _filters(context)
    _head(context, head, wanted)
    with guard.guarded():
        page = _listing(context, wanted)
        if page.rows:
            _rows(context, page)
        else:
            _empty(wanted)
    audit_proof.show()


def show_for_gateway(context: Context, gateway_id: int) -> None:
    """The newest entries of one gateway, small enough for a dialog or a part of its page."""
    if not session.holds(context, Privilege.VIEW_AUDIT):
        st.caption("You may not read the audit trail: the privilege view_audit is missing.")
        return
    with guard.guarded():
        page = audit_trail.listing(context, Filter(gateway=gateway_id), limit=_RECENT)
        if not page.rows:
            st.caption("The audit trail tells nothing of this gateway that you may read.")
            return
        st.dataframe(
            {
                "Time": [row.time for row in page.rows],
                "Who": [row.actor for row in page.rows],
                "Action": [row.action for row in page.rows],
                "Outcome": tables.cells((row.outcome for row in page.rows), words.OUTCOME),
                "Description": [row.description for row in page.rows],
            },
            key=f"audit-of-{gateway_id}",
            hide_index=True,
            column_config={
                "Time": _time_column(),
                "Who": st.column_config.TextColumn(width=110),
                "Action": st.column_config.TextColumn(width=150),
                "Outcome": tables.states("Outcome", words.OUTCOME, 90),
                "Description": st.column_config.TextColumn(width=420),
            },
            height="auto",
            alt="The newest audit entries of this gateway",
        )
        with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
            if places.known(places.AUDIT):
                more = f"All {page.total:,} entries" if page.counted else f"All entries, more than {page.total:,}"
                places.link(places.AUDIT, f"{more} of this gateway", "history", {_GATEWAY: str(gateway_id)})
            with st.container(horizontal=True, width="content", gap="small"):
                _downloads(Filter(gateway=gateway_id), f"of-{gateway_id}-")


# --- above the list ---------------------------------------------------------------------------------------------------


def _head(context: Context, place: st.delta_generator.DeltaGenerator, wanted: Filter | None) -> None:
    with place:
        st.title("Audit trail", anchor=False, width="content")
        with st.container(horizontal=True, width="content", gap="small"):
            st.button("Refresh", icon=":material/refresh:", key="refresh")
            if wanted is not None:
                _downloads(wanted)
            if context.actor.owns_everything:
                st.button("Verify", icon=":material/verified_user:", key="verify", on_click=audit_proof.ask)


def _downloads(wanted: Filter, which: str = "") -> None:
    forms: tuple[tuple[audit_filters.Form, str], ...] = (("csv", "CSV"), ("jsonl", "JSON Lines"))
    for form, label in forms:
        st.link_button(
            label,
            audit_filters.address(wanted, form),
            icon=":material/download:",
            key=f"download-{which}{form}",
            help="Download all entries that these filters keep, the oldest first. The download is audited.",
        )


def _filters(context: Context) -> Filter | None:
    """What is wanted; None where that makes no sense, which is said."""
    search, when = st.columns([3, 1.3], vertical_alignment="center")
    with search:
        text = filters.search("a-q", "Search in the descriptions")
    with when:
        span = filters.one("Time", "a-when", list(_SPANS))
    since, until = _times(span)
    choices = _choices(context)
    who, action, outcome, way, gateway = st.columns([1.2, 1.8, 0.9, 0.9, 1.3])
    with who:
        actor = st.selectbox(
            "Administrator", choices.actors, index=None, key="a-who", placeholder="Administrator",
            accept_new_options=True, bind="query-params", on_change=filters.first_page, label_visibility="collapsed",
        )  # fmt: skip
    with action:
        actions = st.multiselect(
            "Action", choices.actions, key="a-action", placeholder="Action", bind="query-params",
            on_change=filters.first_page, label_visibility="collapsed",
        )  # fmt: skip
    outcomes = {look.words: state for state, look in words.OUTCOME.items()}
    with outcome:
        ended = filters.one("Outcome", "a-outcome", list(outcomes))
    ways = {name: state for state, name in words.WAY.items()}
    with way:
        came = filters.one("Access method", "a-way", list(ways))
    with gateway:
        at = _gateway(context)
    wanted = Filter(
        search=text,
        actor=(actor or "").strip() or None,
        actions=tuple(actions),
        outcome=outcomes[ended] if ended else None,
        access_method=ways[came] if came else None,
        gateway=at,
        since=since,
        until=until,
    )
    if wanted != Filter():
        st.button("Clear filters", icon=":material/filter_alt_off:", on_click=_clear, key="clear")
    if since is not None and until is not None and since >= until:
        components.error("The time range is empty: it ends before it begins.")
        return None
    return wanted


def _times(span: str | None) -> tuple[datetime | None, datetime | None]:
    length = _SPANS[span] if span else None
    if length is not None:
        return now() - length, None
    if span != _CUSTOM:
        return None, None
    begin, end, _ = st.columns([1, 1, 2])
    found: list[datetime | None] = []
    for place, label, key in ((begin, "From", "a-from"), (end, "To", "a-to")):
        with place:
            moment = st.datetime_input(
                label, value=None, key=key, format="YYYY-MM-DD", bind="query-params", on_change=filters.first_page
            )
            found.append(moment.replace(tzinfo=zone()) if moment else None)
    return found[0], found[1]


def _gateway(context: Context) -> int | None:
    """The gateway that the address names by its number, also one that was deleted."""
    names = gateways.names(context)
    wanted = places.number(_GATEWAY)
    options = [*names] if wanted is None or wanted in names else [*names, wanted]
    st.session_state[_GATEWAY_BOX] = wanted
    st.selectbox(
        "Gateway", options, index=None, format_func=lambda number: names.get(number, f"Gateway {number}"),
        key=_GATEWAY_BOX, placeholder="Gateway", on_change=_choose_gateway, label_visibility="collapsed",
    )  # fmt: skip
    return wanted


def _choose_gateway() -> None:
    chosen = st.session_state[_GATEWAY_BOX]
    if chosen is None:
        st.query_params.pop(_GATEWAY, None)
    else:
        st.query_params[_GATEWAY] = str(chosen)
    filters.first_page()


def _clear() -> None:
    filters.clear(_NOTHING)
    st.query_params.pop(_GATEWAY, None)


def _choices(context: Context) -> audit_trail.Choices:
    try:
        return _looked_up(context.database.describe(), repr(context.actor), context)
    except CertgateError:
        # The list itself says what is wrong.
        return audit_trail.Choices([], [])


@st.cache_data(ttl=timedelta(minutes=1), max_entries=500, show_spinner=False)
def _looked_up(database: str, reader: str, _context: Context) -> audit_trail.Choices:  # noqa: ARG001 (the cache's key)
    return audit_trail.choices(_context)


# --- the list ---------------------------------------------------------------------------------------------------------


def _listing(context: Context, wanted: Filter | None) -> Page:
    if wanted is None:
        return Page([], 0)
    size = filters.PAGE_SIZE
    before, after = places.number(filters.BEFORE), places.number(filters.AFTER)
    if after is not None:
        page = audit_trail.listing(context, wanted, after=after, limit=size)
        if page.newer is not None:
            return page
        # The newest ones: a whole page of them.
        before = None
    if before is not None:
        return audit_trail.listing(context, wanted, before=before, limit=size)
    return audit_trail.listing(context, wanted, page=filters.page(), limit=size)


def _rows(context: Context, page: Page) -> None:
    rows = page.rows
    bar = st.container(key="selection", border=True)
    chosen = tables.table(
        _TABLE,
        [row.sequence for row in rows],
        {
            "No.": [row.sequence for row in rows],
            "Time": [row.time for row in rows],
            "Who": [row.actor for row in rows],
            "Action": [row.action for row in rows],
            "Outcome": tables.cells((row.outcome for row in rows), words.OUTCOME),
            "Description": [row.description for row in rows],
            "Object": [_object(row) for row in rows],
            "Gateway": [_of_gateway(row) for row in rows],
            "Access method": [words.WAY[row.access_method] for row in rows],
        },
        {
            "No.": st.column_config.NumberColumn(width=75, format="%d"),
            "Time": _time_column(),
            "Who": st.column_config.TextColumn(width=110),
            "Action": st.column_config.TextColumn(width=160),
            "Outcome": tables.states("Outcome", words.OUTCOME, 95),
            "Description": st.column_config.TextColumn(width=430),
            "Object": st.column_config.TextColumn(width=120),
            "Gateway": st.column_config.TextColumn(width=110),
            "Access method": st.column_config.TextColumn(width=110),
        },
        alt="Audit entries",
    )
    _pager(page)
    with bar:
        if chosen is None:
            st.caption(":material/arrow_selector_tool: Select an entry to see all of it.")
        else:
            with guard.guarded():
                _detail(audit_trail.show(context, chosen))


def _detail(detail: Detail) -> None:
    row = detail.row
    components.strong(f"{row.sequence} · {row.action}")
    st.text(row.description)
    components.facts(
        [
            ("Time", f"{row.time.astimezone(zone()):%Y-%m-%d %H:%M:%S.%f %Z}"),
            ("Who", row.actor),
            ("Outcome", words.OUTCOME[row.outcome].words),
            ("Access method", words.WAY[row.access_method]),
            ("Object", _object(row)),
            ("Gateway", _of_gateway(row)),
            ("Organization", detail.organization or _number(row.organization_id)),
            ("Department", detail.department or _number(row.department_id)),
        ]
    )
    with st.expander("Hashes", icon=":material/link:"):
        components.facts(
            [("Previous hash", detail.previous_hash), ("Hash", detail.hash), ("Told once as", detail.once)]
        )
    place = _LINKS.get(row.object_type)
    if place is not None and row.object_id is not None and places.known(place):
        places.link(place, f"Open the {row.object_type}", "open_in_full", {"id": str(row.object_id)})


def _pager(page: Page) -> None:
    count = f"{page.total:,}" if page.counted else f"more than {page.total:,}"
    size = filters.PAGE_SIZE
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        if page.first is None:
            components.quiet(f"{len(page.rows):,} of {count}")
        else:
            st.caption(f"{page.first:,}–{page.first + len(page.rows) - 1:,} of {count}")
        if page.newer is None and page.older is None:
            return
        with st.container(horizontal=True, vertical_alignment="center", width="content", gap="small"):
            for key, label, icon, place, entry, able in (
                ("newest", "Newest", "first_page", "", 0, page.newer is not None),
                ("newer", "Newer", "chevron_left", filters.AFTER, page.newer, page.newer is not None),
                ("older", "Older", "chevron_right", filters.BEFORE, page.older, page.older is not None),
                ("oldest", "Oldest", "last_page", filters.AFTER, 0, page.older is not None),
            ):
                st.button(
                    label, icon=f":material/{icon}:", key=f"audit-{key}", disabled=not able, on_click=_turn,
                    args=(place, entry or 0),
                )  # fmt: skip
            if page.counted and page.first is not None:
                here = (page.first - 1) // size + 1
                pages = -(-page.total // size)
                key = f"audit-page-{here}-{pages}"
                st.caption("Page", width="content")
                st.number_input(
                    "Page", min_value=1, max_value=pages, value=here, key=key, width=130, label_visibility="collapsed",
                    on_change=_jump, args=(key,),
                )  # fmt: skip
                st.caption(f"of {pages:,}", width="content")


def _turn(place: str, entry: int) -> None:
    filters.first_page()
    tables.unchoose(_TABLE)
    if place:
        st.query_params[place] = str(entry)


def _jump(key: str) -> None:
    filters.first_page()
    tables.unchoose(_TABLE)
    filters.turn_to(int(st.session_state[key]))


def _empty(wanted: Filter | None) -> None:
    with st.container(border=True, horizontal_alignment="center", key="empty"):
        if wanted != Filter():
            st.subheader(":material/search_off: No entry matches these filters", anchor=False)
            st.caption("Take a filter away, or clear them all. You find what your organizations and departments did.")
        else:
            st.subheader(":material/history: Nothing was done yet", anchor=False)
            st.caption("Everything that is done or refused in your organizations and departments shows up here.")


def _time_column() -> Any:
    return st.column_config.DatetimeColumn(width=150, format="YYYY-MM-DD HH:mm:ss", timezone=str(zone()))


def _object(row: AuditRow) -> str:
    return row.object_type if row.object_id is None else f"{row.object_type} {row.object_id}"


def _of_gateway(row: AuditRow) -> str | None:
    return row.gateway or _number(row.gateway_id)


def _number(given: int | None) -> str | None:
    return None if given is None else f"No. {given}"
