"""Sync Modules of several gateways: where each stands, and one order for all of them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import streamlit as st

from dashboard import components, filters, guard, places, session, tables, words
from dashboard.bridge import bridge
from dashboard.components import zone
from model.errors import CertgateError
from operations import modules
from operations.context import Context
from operations.modules import Direction, Order, SyncRow, SyncState

_TABLE = "syncs"
_ASKED = "syncs-asked"
_TOLD = "syncs-told"
_FRESH = "syncs-fresh"
_LOOK_AGAIN = timedelta(seconds=2)
_MOST = 1000


def show(context: Context) -> None:
    """The gateways that ``?gateways=1,2,3`` names, else all that one may manage."""
    numbers = _named()
    try:
        rows = modules.progress(context, numbers or None)
    except CertgateError as error:
        components.error(error.message)
        return
    st.title("Sync Modules", anchor=False)
    st.caption("A gateway's own file and the manager's records, compared and brought together.")
    if _TOLD in st.session_state:
        kind, text = st.session_state[_TOLD]
        components.notice(kind, text)
    if not rows:
        st.caption("There is no gateway that you may manage. Add one first; then its modules are compared here.")
        return
    _bar(rows)
    _table(rows)
    _show_asked()
    if any(row.running for row in rows):
        st.session_state[_FRESH] = True
        _watch(rows, numbers)


def _named() -> list[int]:
    words_given = st.query_params.get("gateways", "").split(",")
    return [int(one) for one in words_given if one.isascii() and one.isdigit() and len(one) < 10][:_MOST]


def _bar(rows: Sequence[SyncRow]) -> None:
    running = [row for row in rows if row.running]
    if running:
        ended = len(rows) - len(running)
        st.progress(ended / len(rows), text=f"{ended} of {len(rows)} gateways are done with.")
    numbers = tuple(row.gateway_id for row in rows)
    with st.container(horizontal=True, gap="small"):
        st.button(
            "Compare all",
            icon=":material/difference:",
            key="syncs-compare",
            on_click=_perform,
            args=(numbers, Order()),
        )
        st.button("Sync all", icon=":material/sync:", type="primary", key="syncs-apply", on_click=_ask, args=(numbers,))
        if running:
            st.button(
                "Cancel those under way",
                icon=":material/cancel:",
                key="syncs-cancel",
                on_click=_cancel,
                args=(tuple(row.gateway_id for row in running),),
            )


def _table(rows: Sequence[SyncRow]) -> None:
    size = filters.PAGE_SIZE
    page = min(filters.page(), max(1, -(-len(rows) // size)))
    shown = rows[(page - 1) * size : page * size]
    chosen = tables.table(
        _TABLE,
        [row.gateway_id for row in shown],
        {
            "ID": [row.gateway_id for row in shown],
            "Gateway": [row.gateway for row in shown],
            "State": tables.cells((row.state for row in shown), words.SYNC),
            "Revision": [row.revision for row in shown],
            "Changed here": [row.changed_here for row in shown],
            "Differences": [row.differences for row in shown],
            "Conflicts": [row.conflicts for row in shown],
            "Message": [row.message for row in shown],
            "As of": [row.updated_at for row in shown],
        },
        {
            "ID": st.column_config.NumberColumn(width=55, format="%d"),
            "Gateway": st.column_config.TextColumn(width=190),
            "State": tables.states("State", words.SYNC, 150),
            "Revision": st.column_config.NumberColumn(width=75, format="%d"),
            "Changed here": st.column_config.NumberColumn(
                width=100, format="%d", help="Changes at the manager since that revision."
            ),
            "Differences": st.column_config.NumberColumn(width=90, format="%d"),
            "Conflicts": st.column_config.NumberColumn(width=80, format="%d"),
            "Message": st.column_config.TextColumn(width=380),
            "As of": st.column_config.DatetimeColumn(width=130, format="YYYY-MM-DD HH:mm", timezone=str(zone())),
        },
        alt="Syncs of gateways",
    )
    if chosen is None:
        st.caption(":material/arrow_selector_tool: Select a gateway to see what differs and to decide its conflicts.")
    elif st.button("Open", icon=":material/open_in_full:", key="syncs-open"):
        places.go(places.SYNC, gateway=str(chosen))
    turned = components.pager(len(rows), page, size, "syncs")
    if turned != page:
        filters.turn_to(turned)
        st.rerun()


def _ask(numbers: tuple[int, ...]) -> None:
    st.session_state[_ASKED] = numbers
    st.session_state.pop(_TOLD, None)


def _close() -> None:
    st.session_state.pop(_ASKED, None)


def _show_asked() -> None:
    if _ASKED in st.session_state:
        st.dialog("Bring all of them together?", on_dismiss=_close)(_dialog)()


def _dialog() -> None:
    numbers = st.session_state.get(_ASKED)
    if not numbers:
        st.rerun()
    with guard.guarded():
        rows = modules.progress(session.context(), numbers)
        st.caption("What one side changed goes to the other, also removals. Conflicts are left alone and told.")
        st.text(", ".join(row.gateway for row in rows[:20]) + (f" and {len(rows) - 20} more" if rows[20:] else ""))
        away = sum(row.state == SyncState.WAITING for row in rows)
        if away:
            components.warning(f"{away} of them did not answer last: they are synced when they are back.")
        with st.container(horizontal=True, horizontal_alignment="right"):
            st.button("Back", key="syncs-back", on_click=_close)
            st.button(
                "Sync now",
                icon=":material/sync:",
                type="primary",
                key="syncs-confirm",
                on_click=_perform,
                args=(tuple(numbers), Order(apply=True, direction=Direction.BOTH)),
            )


def _perform(numbers: tuple[int, ...], order: Order) -> None:
    _close()
    st.session_state.pop(_TOLD, None)
    try:
        begun = bridge().run(modules.start_many(session.context(), numbers, order), timedelta(seconds=120))
        problems = [one.problem for one in begun if one.problem]
        if problems:
            st.session_state[_TOLD] = ("warning", "\n".join(problems[:10]))
    except session.SessionEnded as ended:
        session.end(ended.message)
    except Exception as error:
        st.session_state[_TOLD] = ("error", guard.sentence(error))


def _cancel(numbers: tuple[int, ...]) -> None:
    st.session_state.pop(_TOLD, None)
    for number in numbers:
        try:
            bridge().run(modules.cancel(session.context(), number))
        except session.SessionEnded as ended:
            session.end(ended.message)
            return
        except Exception as error:
            st.session_state[_TOLD] = ("error", guard.sentence(error))


@st.fragment(run_every=_LOOK_AGAIN)
def _watch(seen: Sequence[SyncRow], numbers: Sequence[int]) -> None:
    """Draw the page again as soon as a sync has gone on; not under an open dialog."""
    if st.session_state.pop(_FRESH, False) or _ASKED in st.session_state:
        return
    with guard.guarded(lambda _: None):
        if modules.progress(session.context(), numbers or None) != seen:
            st.rerun()
