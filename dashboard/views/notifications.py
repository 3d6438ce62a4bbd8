"""What one should hear of without looking: the list behind the bell."""

from __future__ import annotations

from dataclasses import replace

import streamlit as st

from dashboard import actions, components, filters, guard, places, session, tables, words
from dashboard.components import zone
from operations import notifications
from operations.context import Context, now
from operations.notifications import Filter, NotificationRow, Sent

_TABLE = "notifications"
_NOTHING: dict[str, object] = {"n-q": "", "new": False}
_BY_EMAIL = "notifications-by-email"

SENT: dict[Sent, words.Look] = {
    Sent.NOWHERE: words.Look("Here only", "gray", "web", "It is shown here only."),
    Sent.WAITING: words.Look("On its way", "blue", "outgoing_mail", "A receiver does not have it yet."),
    Sent.DELIVERED: words.Look("Delivered", "green", "mark_email_read", "All receivers have it."),
    Sent.FAILED: words.Look("Not delivered", "red", "error", "A receiver did not take it, and it was given up."),
}
NEW: dict[bool, words.Look] = {
    True: words.Look("New", "red", "notifications_active", "You have not seen it."),
    False: words.Look("Seen", "gray", "done", "You have seen it."),
}


def show() -> None:
    """Draw the page."""
    context = session.context()
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        st.title("Notifications", anchor=False, width="content")
        with st.container(horizontal=True, width="content", gap="small"):
            _by_email(context)
            st.button("Refresh", icon=":material/refresh:", key="refresh", on_click=actions.forget_told)
            st.button("Mark all as seen", icon=":material/done_all:", key="all-seen", on_click=_mark_all)
    actions.show_told()
    wanted = _filters()
    size, page = filters.PAGE_SIZE, filters.page()
    # What is being read stays where it was until something else is.
    shown = replace(wanted, reading=tables.chosen(_TABLE))
    found = notifications.listing(context, shown, (page - 1) * size, size)
    if not found.total:
        _empty(wanted)
        return
    if not found.rows:
        filters.turn_to(-(-found.total // size))
        st.rerun()
    bar = st.container(key="selection", border=True)
    chosen = _table(found.rows)
    with bar:
        _selection(next((row for row in found.rows if row.id == chosen), None))
    turned = components.pager(found.total, page, size, "notifications")
    if turned != page:
        tables.unchoose(_TABLE)
        filters.turn_to(turned)
        st.rerun()


def _filters() -> Filter:
    search, only = st.columns([4, 1], vertical_alignment="center")
    with search:
        text = filters.search("n-q", "Search in subject and text")
    with only:
        new = st.toggle("Only new", key="new", bind="query-params", on_change=filters.first_page)
    return Filter(unseen=new, search=text)


def _table(rows: list[NotificationRow]) -> int | None:
    return tables.table(
        _TABLE,
        [row.id for row in rows],
        {
            "No.": [row.id for row in rows],
            "Time": [row.created_at for row in rows],
            "": [[NEW[not row.seen].words] for row in rows],
            "Subject": [row.subject for row in rows],
            "Text": [row.text for row in rows],
            "Organization": [_served(row) for row in rows],
            "Sent": tables.cells((row.sent for row in rows), SENT),
        },
        {
            "No.": st.column_config.NumberColumn(width=60, format="%d"),
            "Time": st.column_config.DatetimeColumn(width=140, format="YYYY-MM-DD HH:mm", timezone=str(zone())),
            "": tables.states("", NEW, 80),
            "Subject": st.column_config.TextColumn(width=200),
            "Text": st.column_config.TextColumn(width=300),
            "Organization": st.column_config.TextColumn(width=120),
            "Sent": tables.states("Sent", SENT, 120),
        },
        alt="Notifications",
        on_choose=_read,
    )


def _selection(row: NotificationRow | None) -> None:
    if row is None:
        st.caption(":material/arrow_selector_tool: Select a notification to read it; it counts as seen then.")
        return
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        with st.container(gap=None):
            components.strong(f"{row.subject} · {words.ago(row.created_at, now())}")
            components.quiet(row.text)
            if row.sent != Sent.NOWHERE:
                tried = "1 attempt" if row.attempts == 1 else f"{row.attempts} attempts"
                components.quiet(f"{SENT[row.sent].words}, after {tried}. {row.last_error or ''}".strip())
        if row.gateway_id is not None and places.known(places.GATEWAY):
            label = "Open the gateway"
            if st.button(label, icon=":material/open_in_full:", key="open-gateway", type="primary"):
                places.go(places.GATEWAY, id=str(row.gateway_id))


def _by_email(context: Context) -> None:
    """Whether one's own mailbox gets them."""
    st.toggle(
        "By e-mail",
        value=notifications.by_email(context),
        key=_BY_EMAIL,
        on_change=_choose_email,
        help="Where e-mail is set up, you get notifications about gateways that you manage, at the address of your "
        "account.",
    )


def _choose_email() -> None:
    with guard.guarded(lambda text: actions.tell("error", text)):
        wanted = bool(st.session_state[_BY_EMAIL])
        notifications.choose_email(session.context(), wanted)
        told = "You get notifications by e-mail, where that is set up." if wanted else "Your mailbox is spared."
        actions.tell("success", told)


def _read(number: int) -> None:
    with guard.guarded(lambda text: actions.tell("error", text)):
        notifications.mark_seen(session.context(), [number])


def _mark_all() -> None:
    with guard.guarded(lambda text: actions.tell("error", text)):
        count = notifications.mark_seen(session.context())
        actions.tell("success", f"{count:,} marked as seen." if count else "There was nothing new.")


def _served(row: NotificationRow) -> str | None:
    return f"{row.organization} / {row.department}" if row.department else row.organization


def _empty(wanted: Filter) -> None:
    with st.container(border=True, horizontal_alignment="center", key="empty"):
        if wanted == Filter(unseen=True):
            st.subheader(":material/task_alt: Nothing new", anchor=False)
            st.caption("You have seen everything.")
        elif wanted != Filter():
            st.subheader(":material/search_off: No notification matches", anchor=False)
            st.button(
                "Clear filters", icon=":material/filter_alt_off:", on_click=filters.clear, args=(_NOTHING,), key="clear"
            )
        else:
            st.subheader(":material/notifications: No notifications yet", anchor=False)
            st.caption(
                "You are told here when a gateway with open work goes away, and when it is back. `certgate.toml` may "
                "name a webhook and a mail server, too."
            )
