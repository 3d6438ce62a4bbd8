"""One certificate authority: whether it answers, what it offers, its orders, and those that it lets us decide."""

from __future__ import annotations

import streamlit as st

from connectors.ca.contract import Health, OpenOrder
from dashboard import actions, components, dialogs, filters, forms, guard, places, session, shelf, tables, words
from dashboard.bridge import bridge
from dashboard.components import zone
from dashboard.dialogs import Dialog
from dashboard.views import authority_forms
from dashboard.views.authorities import STATES
from model.errors import CertgateError, InvalidInput, NotFound
from operations import authorities, orders
from operations.authorities import AuthorityRow
from operations.context import now
from operations.orders import OrderRow

_OPEN, _PENDING = "open-orders", "pending-orders"
_HEALTH = "ca-health"
_REASON = "ca-reason"


def show() -> None:
    """Draw the page of the CA that ``?id=`` names."""
    context = session.context()
    places.link(places.AUTHORITIES, "All certificate authorities", "arrow_back")
    number = places.number("id")
    if number is None:
        components.error("The address names no certificate authority: choose one from the list.")
        return
    try:
        row = authorities.show(context, number)
    except NotFound as error:
        actions.show_told()
        components.error(error.message)
        return
    owner = context.actor.owns_everything
    can = authorities.abilities(context, row.id, bridge().surroundings) if owner else []
    _head(row, owner)
    actions.show_told()
    _health(row)
    _facts(row, can)
    st.space("small")
    titles = ["Open orders"]
    if authorities.DECIDES in can:
        titles.append("Awaiting a decision at the CA")
    if authorities.OFFERS in can:
        titles.append("What it offers")
    tabs = dict(zip(titles, st.tabs(titles, on_change="rerun", key="ca-tabs"), strict=True))
    for title, tab in tabs.items():
        if tab.open:
            with tab:
                _DRAWN[title](row)
    dialogs.show(
        {
            **authority_forms.changes(),
            "order-release": Dialog("Release this order?", "Release", _release, _released, "check"),
            "order-reject": Dialog("Reject this order?", "Reject", _reject, _rejected, "block"),
        }
    )


def _head(row: AuthorityRow, owner: bool) -> None:
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        with st.container(width="content", gap="xsmall"):
            components.heading(row.name)
            look = STATES[row.active]
            st.badge(look.words, icon=f":material/{look.icon}:", color=look.colour, help=look.meaning)
        if owner:
            with st.container(horizontal=True, width="content", gap="small"):
                # One that only gateways reach is asked by the gateway that is chosen.
                names = filters.gateway_names(session.context()) if row.reached_from == "gateway" else []
                gateway = None
                if names:
                    gateway = st.selectbox("Asked by", names, key="check-by", label_visibility="collapsed", width=200)
                if st.button("Check", icon=":material/network_check:", key="check", type="primary"):
                    _check(row, gateway)
                shelf.offer("Edit", "edit", "ca-edit", row)
                shelf.offer("Remove", "delete", "ca-remove", row)


def _check(row: AuthorityRow, gateway: str | None) -> None:
    actions.forget_told()
    try:
        health = authority_forms.check(row, gateway)
    except CertgateError as error:
        health = Health(False, error.message)
    st.session_state[_HEALTH] = (row.id, health)


def _health(row: AuthorityRow) -> None:
    """What the last check of this session found."""
    kept = st.session_state.get(_HEALTH)
    if kept is None or kept[0] != row.id:
        return
    health: Health = kept[1]
    components.notice("success" if health.usable else "error", health.message)
    if health.details:
        with st.container(border=True, key="health"):
            components.facts([(one.label, one.text) for one in health.details])


def _facts(row: AuthorityRow, can: list[str]) -> None:
    pairs: list[tuple[str, str | None]] = [
        ("Type", authorities.types().get(row.type, row.type)),
        ("Reached", authority_forms.REACHED.get(row.reached_from, row.reached_from)),
        ("Kind", "Private: its chain must end at a root that is trusted here" if row.is_private else "Public"),
    ]
    with guard.guarded(lambda _: None):
        pairs += [
            (field.label, forms.shown(row.settings[field.name]))
            for field in forms.fields(authority_forms.settings(row.type))
            if field.name in row.settings
        ]
    if can:
        pairs.append(("It also", ", ".join(can)))
    components.facts(pairs)


def _open_orders(row: AuthorityRow) -> None:
    size, page = filters.PAGE_SIZE, filters.page()
    found = orders.listing(session.context(), row.id, (page - 1) * size, size)
    if found.total and not found.rows:
        filters.turn_to(-(-found.total // size))
        st.rerun()
    if not found.rows:
        shelf.empty("task_alt", "No open orders", "What is ordered here stands in this list until it is issued.")
        return
    bar = shelf.bar("order-selection")
    chosen = _order_table(found.rows)
    order = next((one for one in found.rows if one.request_id == chosen), None)
    with bar, st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        if order is None:
            st.caption(":material/arrow_selector_tool: Select an order to open its request. The oldest stand first.")
        else:
            with st.container(gap=None):
                components.strong(order.common_name)
                components.quiet(f"Order {order.number}: this number is what the CA's support asks for")
            if st.button("Open its request", icon=":material/article:", key="open-request", type="primary"):
                places.go(places.REQUEST, id=str(order.request_id))
    turned = components.pager(found.total, page, size, "orders")
    if turned != page:
        tables.unchoose(_OPEN)
        filters.turn_to(turned)
        st.rerun()


def _order_table(rows: list[OrderRow]) -> int | None:
    moment = now()
    return tables.table(
        _OPEN,
        [row.request_id for row in rows],
        {
            "Order": [row.number for row in rows],
            "Age": [words.ago(row.ordered_at, moment) if row.ordered_at else None for row in rows],
            "Since": [row.ordered_at for row in rows],
            "Common name": [row.common_name for row in rows],
            "Organization": [
                f"{row.organization} / {row.department}" if row.department else row.organization for row in rows
            ],
            "Gateway": [row.gateway for row in rows],
            "Request": [row.request_id for row in rows],
        },
        {
            "Order": st.column_config.TextColumn(width=150),
            "Age": st.column_config.TextColumn(width=110),
            "Since": st.column_config.DatetimeColumn(width=140, format="YYYY-MM-DD HH:mm", timezone=str(zone())),
            "Common name": st.column_config.TextColumn(width=230),
            "Organization": st.column_config.TextColumn(width=150),
            "Gateway": st.column_config.TextColumn(width=110),
            "Request": st.column_config.NumberColumn(width=80, format="%d"),
        },
        alt="Open orders",
    )


def _decisions(row: AuthorityRow) -> None:
    try:
        with st.spinner("Asking the CA …"):
            found = bridge().run(authorities.orders(session.context(), row.name, bridge().surroundings))
    except CertgateError as error:
        components.error(error.message)
        return
    pending = [one for one in found if one.state == "pending"]
    if not pending:
        shelf.empty("task_alt", "Nothing awaits a decision", "Orders that the CA's owner has to decide stand here.")
        return
    bar = shelf.bar("pending-selection")
    chosen = tables.table(
        _PENDING,
        list(range(len(pending))),
        {
            "Order": [one.number for one in pending],
            "Common name": [one.common_name for one in pending],
            "Names": [", ".join(one.names) for one in pending],
            "Since": [one.created for one in pending],
            "Issued by itself": [one.ready for one in pending],
        },
        {
            "Order": st.column_config.TextColumn(width=140),
            "Common name": st.column_config.TextColumn(width=240),
            "Names": st.column_config.TextColumn(width=360),
            "Since": st.column_config.DatetimeColumn(width=150, format="YYYY-MM-DD HH:mm", timezone=str(zone())),
            "Issued by itself": st.column_config.DatetimeColumn(
                width=150, format="YYYY-MM-DD HH:mm", timezone=str(zone())
            ),
        },
        alt="Orders that await a decision at the CA",
    )
    order = pending[chosen] if chosen is not None and chosen < len(pending) else None
    with bar, st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        if order is None:
            st.caption(":material/arrow_selector_tool: Select an order to release or reject it.")
            return
        components.strong(f"{order.number} · {order.common_name}")
        with st.container(horizontal=True, width="content", gap="small"):
            shelf.offer("Release", "check", "order-release", (row, order), primary=True)
            shelf.offer("Reject", "block", "order-reject", (row, order))


def _offers(row: AuthorityRow) -> None:
    try:
        with st.spinner("Asking the CA …"):
            found = bridge().run(authorities.profiles(session.context(), row.id, bridge().surroundings))
    except CertgateError as error:
        components.error(error.message)
        return
    if not found:
        shelf.empty("sell", "It tells no profiles", "What may be ordered stands in the CA's own documents.")
        return
    st.caption("A certificate profile names one of these as the profile at its CA.")
    tables.plain(
        "offers",
        {
            "Name": [one.name for one in found],
            "Title": [one.title for one in found],
            "Validity (days)": [
                ", ".join(f"{seconds / 86_400:g}" for seconds in one.validities) or "any" for one in found
            ],
            "Description": [one.description for one in found],
        },
        {
            "Name": st.column_config.TextColumn(width=180),
            "Title": st.column_config.TextColumn(width=280),
            "Validity (days)": st.column_config.TextColumn(width=140),
            "Description": st.column_config.TextColumn(width=420),
        },
        alt="What it offers",
    )


_DRAWN = {"Open orders": _open_orders, "Awaiting a decision at the CA": _decisions, "What it offers": _offers}


def _release(about: tuple[AuthorityRow, OpenOrder]) -> None:
    _named(about)
    st.caption("The CA issues it now; the request that waits for it collects the certificate by itself.")


def _released(about: tuple[AuthorityRow, OpenOrder]) -> str:
    row, order = about
    bridge().run(authorities.release(session.context(), row.name, order.number, bridge().surroundings))
    tables.unchoose(_PENDING)
    return f"Order {order.number} was released."


def _reject(about: tuple[AuthorityRow, OpenOrder]) -> None:
    _named(about)
    st.text_input("Reason, for the requester", key=_REASON, max_chars=500, autocomplete="off")
    st.caption("The request that waits for it ends as rejected, with this reason.")


def _rejected(about: tuple[AuthorityRow, OpenOrder]) -> str:
    row, order = about
    reason = dialogs.value(_REASON)
    if not reason:
        raise InvalidInput("Say why: the requester reads it.")
    bridge().run(authorities.reject(session.context(), row.name, order.number, reason, bridge().surroundings))
    tables.unchoose(_PENDING)
    return f"Order {order.number} was rejected."


def _named(about: tuple[AuthorityRow, OpenOrder]) -> None:
    row, order = about
    components.strong(f"{order.number} at {row.name}")
    components.quiet(", ".join(order.names) or order.common_name)
