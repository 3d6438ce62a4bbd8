"""Sync Modules of one gateway: what differs between its own file and the manager's records, and bringing it together.

``?gateway=7`` names one; ``?gateways=1,2,3``, or none, is the page of several (`modules_many`).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import streamlit as st

from dashboard import components, guard, places, session, words
from dashboard.bridge import bridge
from dashboard.components import zone
from dashboard.views import modules_many
from model.errors import CertgateError, Conflict, NotFound
from operations import gateways, modules
from operations.context import Context, now
from operations.modules import Deed, Direction, Line, Order, Side, Standing, SyncDetail, SyncState

_ASKED = "sync-asked"
_TOLD = "sync-told"
_FRESH = "sync-fresh"
_LOOK_AGAIN = timedelta(seconds=1)
_MOST_RADIOS = 40

_DIRECTIONS = {
    "Both ways": Direction.BOTH,
    "To the gateway only": Direction.TO_GATEWAY,
    "From the gateway only": Direction.FROM_GATEWAY,
}
_CHOICES: dict[str, Side | None] = {
    "Leave it alone": None,
    "The manager's value": Side.MANAGER,
    "The gateway's value": Side.GATEWAY,
}
_AS_CHANGED = "As it was changed"
_KINDS = {"endpoint": "Endpoint", "keystore": "Keystore", "property": "Property"}


@dataclass(frozen=True)
class Asked:
    """The dialog that is open: an order on what was seen of a gateway."""

    gateway_id: int
    gateway: str
    order: Order


def show() -> None:
    """Draw the page that the address names."""
    context = session.context()
    if places.known(places.GATEWAYS):
        places.link(places.GATEWAYS, "All gateways", "arrow_back")
    number = places.number("gateway")
    if number is None:
        modules_many.show(context)
        return
    try:
        detail = modules.show(context, number)
    except NotFound:
        components.error("There is no such gateway that you may see: choose one from the list.")
        return
    one(context, detail)


def one(context: Context, detail: SyncDetail) -> None:
    """Sync Modules of one gateway, for this page or a part of another."""
    row = detail.row
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        with st.container(width="content", gap="xsmall"):
            st.title("Sync Modules", anchor=False)
            components.heading(row.gateway)
            look = words.SYNC[row.state]
            st.badge(look.words, icon=f":material/{look.icon}:", color=look.colour, help=look.meaning)
        with st.container(horizontal=True, width="content", gap="small"):
            _buttons(context, detail)
    _told()
    _facts(detail)
    _standing(detail)
    if not row.running:
        _difference(detail)
    _connectors(detail)
    _show_asked()
    if row.running:
        st.session_state[_FRESH] = True
        _watch(detail)


def _buttons(context: Context, detail: SyncDetail) -> None:
    row = detail.row
    if "sync" not in gateways.allowed(context, [row.gateway_id]).get(row.gateway_id, ()):
        return
    if row.running:
        st.button("Cancel", icon=":material/cancel:", key="sync-cancel", on_click=_cancel, args=(row.gateway_id,))
        return
    st.button(
        "Compare" if detail.compared_at is None else "Compare again",
        icon=":material/difference:",
        key="sync-compare",
        type="primary" if detail.compared_at is None else "secondary",
        on_click=_compare,
        args=(row.gateway_id,),
    )


def _facts(detail: SyncDetail) -> None:
    row = detail.row
    there = "no file" if row.gateway_revision is None else f"revision {row.gateway_revision}"
    components.facts(
        [
            ("At the manager", f"revision {row.revision}, {_changes(row.changed_here)} since"),
            (
                "At the gateway",
                None if detail.compared_at is None else f"{there}, {_changes(row.changed_there)} since",
            ),
            (
                "Compared",
                None
                if detail.compared_at is None
                else f"{words.ago(detail.compared_at, now())}, {words.when(detail.compared_at, zone())}",
            ),
            ("Asked by", row.asked_by),
        ]
    )


def _standing(detail: SyncDetail) -> None:
    row = detail.row
    if row.running:
        reading = "current" if row.state in (SyncState.ASKED, SyncState.COMPARING) else "done"
        writing = "current" if row.state == SyncState.WRITING else "todo"
        if row.state == SyncState.WAITING:
            to_write = "write" in (row.message or "")
            reading, writing = ("done", "attention") if to_write else ("attention", "todo")
        components.steps(
            [
                ("Asked", "done", "order kept"),
                ("Read and compare", reading, "at the gateway"),
                ("Write", writing, "at the gateway"),
                ("Agreed", "todo", "one revision"),
            ]
        )
    if row.message:
        kinds: dict[SyncState, components.Kind] = {
            SyncState.DONE: "success",
            SyncState.FAILED: "error",
            SyncState.REFUSED: "error",
            SyncState.PARTLY: "warning",
            SyncState.CHANGED: "warning",
            SyncState.WAITING: "warning",
        }
        components.notice(kinds.get(row.state, "info"), row.message)
    if row.state == SyncState.NEVER:
        st.caption("Compare first: the gateway reads its file, and you see here what differs. That changes nothing.")
    elif detail.note and detail.note not in (row.message or ""):
        components.warning(detail.note)


def _difference(detail: SyncDetail) -> None:
    if detail.compared_at is None:
        return
    lines = detail.lines
    if not lines:
        st.caption(":material/check: There is no difference to show.")
        return
    st.subheader("Difference", anchor=False)
    st.dataframe(
        {
            "Module": [f"{_KINDS[line.kind]} {line.name}" for line in lines],
            "What happened": [_happened(line) for line in lines],
            "At the manager": [_value(line.manager) for line in lines],
            "At the gateway": [_value(line.gateway) for line in lines],
            "Note": [line.note for line in lines],
        },
        key="sync-difference",
        hide_index=True,
        column_config={
            "Module": st.column_config.TextColumn(width=170),
            "What happened": st.column_config.TextColumn(width=190),
            "At the manager": st.column_config.TextColumn(width=260),
            "At the gateway": st.column_config.TextColumn(width=260),
            "Note": st.column_config.TextColumn(width=330),
        },
        placeholder="–",
        alt="What the two sides do not have alike",
    )
    decisions = _decisions(detail)
    with st.container(horizontal=True, vertical_alignment="bottom", horizontal_alignment="distribute"):
        chosen = st.segmented_control(
            "Which way changes go", list(_DIRECTIONS), default="Both ways", key="sync-direction", required=True
        )
        direction = _DIRECTIONS[chosen or "Both ways"]
        order = Order(True, direction, decisions, _seen(detail))
        plan = modules.preview(detail, order)
        changes = len(plan.to_manager) + len(plan.to_gateway)
        st.button(
            "Apply",
            icon=":material/sync:",
            type="primary",
            key="sync-apply",
            disabled=order.seen is None or not changes,
            help=None if changes else "There is nothing that this would change: decide the conflicts first.",
            on_click=_ask,
            args=(Asked(detail.row.gateway_id, detail.row.gateway, order),),
        )


def _decisions(detail: SyncDetail) -> dict[str, Side]:
    found: dict[str, Side] = {}
    conflicts = [line for line in detail.lines if line.undecided]
    others = [line for line in detail.lines if not line.undecided and line.standing != Standing.UNREADABLE]
    if conflicts:
        st.subheader("Conflicts", anchor=False)
        st.caption("Both sides changed these. What you leave alone stays as it is on both sides.")
    for line in conflicts[:_MOST_RADIOS]:
        _radio(detail, line, list(_CHOICES), found)
    if len(conflicts) > _MOST_RADIOS:
        st.caption("There are more conflicts: decide and apply these first.")
    if others and st.toggle("Decide other differences too", key="sync-more"):
        st.caption("Taking the other side's value undoes a change.")
        for line in others[:_MOST_RADIOS]:
            _radio(detail, line, [_AS_CHANGED, *list(_CHOICES)[1:]], found)
    return found


def _radio(detail: SyncDetail, line: Line, choices: list[str], found: dict[str, Side]) -> None:
    with st.container(border=True, gap="xsmall", key=f"conflict-{components.seat()}"):
        components.strong(f"{_KINDS[line.kind]} {line.name}")
        components.facts(
            [
                (f"At the manager, {line.at_manager}", _value(line.manager)),
                (f"At the gateway, {line.at_gateway}", _value(line.gateway)),
            ]
        )
        # Another comparison asks anew: a choice is about the values that were seen.
        key = f"decide-{detail.row.gateway_id}-{modules.seal([line.key, line.manager, line.gateway])}"
        word = st.radio("Whose value counts", choices, key=key, horizontal=True)
        for problem in (line.takeover_problem, line.writing_problem):
            if problem:
                components.quiet(problem)
        side = _CHOICES.get(word or "")
        if side is not None:
            found[line.key] = side


def _connectors(detail: SyncDetail) -> None:
    if not detail.connectors:
        return
    st.subheader("Connectors", anchor=False)
    st.caption("What only one side has installed, or in another version. A sync does not install software.")
    st.dataframe(
        {
            "Connector": [f"{one.title} ({one.kind}/{one.name})" for one in detail.connectors],
            "At the manager": [one.manager for one in detail.connectors],
            "At the gateway": [one.gateway for one in detail.connectors],
            "What it means": [one.meaning for one in detail.connectors],
        },
        key="sync-connectors",
        hide_index=True,
        placeholder="–",
        alt="Connectors that the two sides do not have alike",
    )


# --- acts -------------------------------------------------------------------------------------------------------------


def _ask(asked: Asked) -> None:
    st.session_state[_ASKED] = asked
    st.session_state.pop(_TOLD, None)


def _close() -> None:
    st.session_state.pop(_ASKED, None)


def _show_asked() -> None:
    if isinstance(st.session_state.get(_ASKED), Asked):
        st.dialog("Bring both sides together?", width="large", on_dismiss=_close)(_dialog)()


def _dialog() -> None:
    asked = st.session_state.get(_ASKED)
    if not isinstance(asked, Asked):
        st.rerun()
    with guard.guarded():
        detail = modules.show(session.context(), asked.gateway_id)
        components.strong(f"Gateway {asked.gateway}")
        if _seen(detail) != asked.order.seen:
            components.warning("The difference is no longer the one that you decided on: go back and look at it again.")
            st.button("Back", key="sync-back", on_click=_close)
            return
        plan = modules.preview(detail, asked.order)
        known = {line.key: line for line in detail.lines}
        st.caption("At the manager")
        st.text("\n".join(_change(known[key], value, "manager") for key, value in plan.to_manager.items()) or "nothing")
        st.caption("In the gateway's file")
        st.text("\n".join(_change(known[key], value, "gateway") for key, value in plan.to_gateway.items()) or "nothing")
        if plan.left:
            st.caption("Left alone on both sides")
            st.text("\n".join(f"{key}: {why}" for key, why in plan.left.items()))
        with st.container(horizontal=True, horizontal_alignment="right"):
            st.button("Back", key="sync-back", on_click=_close)
            st.button(
                "Sync now", icon=":material/sync:", type="primary", key="sync-confirm", on_click=_perform, args=(asked,)
            )


def _perform(asked: Asked) -> None:
    _close()
    _act(lambda: bridge().run(modules.start(session.context(), asked.gateway_id, asked.order)))


def _compare(gateway_id: int) -> None:
    _act(lambda: bridge().run(modules.start(session.context(), gateway_id, Order())))


def _cancel(gateway_id: int) -> None:
    _act(lambda: bridge().run(modules.cancel(session.context(), gateway_id)))


def _act(work: Any) -> None:
    st.session_state.pop(_TOLD, None)
    try:
        work()
    except session.SessionEnded as ended:
        session.end(ended.message)
    except Conflict as error:
        st.session_state[_TOLD] = ("warning", error.message)
    except Exception as error:
        st.session_state[_TOLD] = ("error", guard.sentence(error))


def _told() -> None:
    if _TOLD in st.session_state:
        kind, text = st.session_state[_TOLD]
        components.notice(kind, text)


@st.fragment(run_every=_LOOK_AGAIN)
def _watch(seen: SyncDetail) -> None:
    """Draw the page again as soon as something has changed; not under an open dialog."""
    if st.session_state.pop(_FRESH, False) or _ASKED in st.session_state:
        return
    with guard.guarded(lambda _: None):
        try:
            found = modules.show(session.context(), seen.row.gateway_id)
        except CertgateError:
            st.rerun()
        if found.row != seen.row:
            st.rerun()


# --- words ------------------------------------------------------------------------------------------------------------


def _seen(detail: SyncDetail) -> tuple[str, str] | None:
    if detail.manager_digest is None or detail.gateway_digest is None:
        return None
    return detail.manager_digest, detail.gateway_digest


def _changes(number: int) -> str:
    return "no change" if number == 0 else "1 change" if number == 1 else f"{number} changes"


def _happened(line: Line) -> str:
    if line.undecided:
        return "conflict: changed on both sides"
    if line.standing == Standing.UNREADABLE:
        return "not usable in the gateway's file"
    at_manager = line.at_manager != Deed.NOTHING
    return f"{line.at_manager if at_manager else line.at_gateway} at the {'manager' if at_manager else 'gateway'}"


def _change(line: Line, value: Any, side: str) -> str:
    here = line.manager if side == "manager" else line.gateway
    what = "remove" if value is None else "add" if here is None else "change"
    told = f"{what} {_KINDS[line.kind].lower()} {line.name}"
    return told if value is None else f"{told}: {_value(value)}"


def _value(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    parts = []
    for name, one in value.items():
        if name in ("settings", "connection_settings", "window"):
            parts += [f"{inner}={_plain(two)}" for inner, two in one.items()]
        else:
            parts.append(f"{name}={_plain(one)}")
    return ", ".join(parts)


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
