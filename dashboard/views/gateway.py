"""Edit one orchestration gateway: its properties, its connected endpoints, and the downloads for its host."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace

import streamlit as st

from dashboard import actions, components, connections, dialogs, guard, places, session, words
from dashboard.components import zone
from dashboard.views import endpoints, gateway_actions, gateway_downloads, gateway_forms, groups
from dashboard.views.gateway_actions import Seen
from model.errors import CertgateError, Conflict, NotFound
from operations import gateway_changes, gateways
from operations.context import now
from operations.gateway_changes import LONGEST_COMMENT, LONGEST_NAME
from operations.gateways import GatewayRow

_PARTS = ["Properties", "Connected endpoints", "Groups", "Downloads"]
_EDITING = "gateway-editing"
_FIELDS = ("gateway-edit-name", "gateway-edit-comments", "gateway-edit-active")


@dataclass(frozen=True)
class Editing:
    """An edit under way: the gateway and its fields as they were when it began."""

    seen: Seen
    fields: tuple[str, str, bool]


def show() -> None:
    """Draw the page of the gateway that ``?id=`` names."""
    context = session.context()
    places.link(places.GATEWAYS, "All gateways", "arrow_back")
    number = places.number("id")
    if number is None:
        components.error("The address names no gateway: choose one from the list.")
        return
    statuses, _ = connections.statuses(context)
    try:
        row = gateways.show(context, number, statuses)
    except NotFound:
        components.error("There is no such gateway: it was deleted, or it serves nobody whom you may see.")
        return
    allowed = gateways.allowed(context, [row.id]).get(row.id, frozenset())
    _head(row, allowed)
    actions.show_told()
    part = st.segmented_control(
        "Part", _PARTS, default=_PARTS[0], required=True, key="gateway-part", bind="query-params",
        label_visibility="collapsed",
    )  # fmt: skip
    with guard.guarded():
        if part == _PARTS[1]:
            endpoints.show_for_gateway(context, row.id)
        elif part == _PARTS[2]:
            groups.show_for_gateway(context, row.id)
        elif part == _PARTS[3]:
            gateway_downloads.show(context, row, "restore" in allowed)
        else:
            _properties(row, "edit" in allowed)
    dialogs.show(gateway_forms.DIALOGS)


def _head(row: GatewayRow, allowed: frozenset[str]) -> None:
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        with st.container(gap=None, width="content"):
            components.heading(row.name)
            components.quiet(gateway_actions.described(row, now()))
        with st.container(horizontal=True, width="content", gap="small"):
            for act, button in gateway_actions.BUTTONS.items():
                if act != "edit" and act in allowed:
                    gateway_actions.offer(act, button, [row])


# --- properties -------------------------------------------------------------------------------------------------------


def _properties(row: GatewayRow, may_edit: bool) -> None:
    form, facts = st.columns([5, 4], gap="large")
    with form:
        _form(_editing(row), may_edit)
    with facts:
        components.facts(
            [
                ("ID", str(row.id)),
                ("Delegation mode", words.DELEGATION[row.delegation_mode].words),
                ("Serves", gateway_actions.served(row)),
                ("Version", row.version),
                ("Operating system", row.os),
                ("Host", row.host),
                ("Modules", ", ".join(row.modules)),
                ("Endpoints", str(row.endpoints)),
                ("Open requests", str(row.open_requests)),
                ("Last activity", words.when(row.last_activity, zone())),
                ("Joined", words.when(row.joined_at, zone())),
                ("Added", words.when(row.created_at, zone())),
            ]
        )


def _editing(row: GatewayRow) -> Editing:
    """The gateway as it was when this editing began. It begins anew with another gateway, and when somebody else has
    changed it before anything was typed."""
    editing = st.session_state.get(_EDITING)
    if not isinstance(editing, Editing) or editing.seen.id != row.id or _FIELDS[0] not in st.session_state:
        return _begin(row)
    if editing.seen.revision != row.revision and _typed() == editing.fields:
        return _begin(row)
    return editing


def _begin(row: GatewayRow) -> Editing:
    editing = Editing(Seen(row.id, row.name, row.revision), (row.name, row.comments, row.active))
    st.session_state[_EDITING] = editing
    for key, value in zip(_FIELDS, editing.fields, strict=True):
        st.session_state[key] = value
    return editing


def _typed() -> tuple[str, str, bool]:
    name, comments, active = (st.session_state.get(key) for key in _FIELDS)
    return str(name or ""), str(comments or ""), bool(active)


def _form(editing: Editing, may_edit: bool) -> None:
    with st.container(border=True):
        st.text_input(
            "Name",
            key="gateway-edit-name",
            max_chars=LONGEST_NAME,
            autocomplete="off",
            help=gateway_forms.NAME_RULE,
            disabled=not may_edit,
        )
        st.text_area(
            "Comments", key="gateway-edit-comments", max_chars=LONGEST_COMMENT, height=110, disabled=not may_edit
        )
        st.toggle(
            "In use",
            key="gateway-edit-active",
            help="A gateway that is switched off is given no work; its open requests wait.",
            disabled=not may_edit,
        )
        if not may_edit:
            st.caption("You may look at this gateway and not change it.")
            return
        st.button("Save", type="primary", icon=":material/save:", key="gateway-save", on_click=_save, args=(editing,))


def _save(editing: Editing) -> None:
    """Keep what was typed; what was refused stays as it was typed."""
    context = session.context()
    name, comments, active = _typed()
    seen = editing.seen
    try:
        with gateway_actions.told_if_gone(seen):
            row = gateway_changes.edit(
                context, seen.id, new_name=name, comments=comments, active=active, seen_revision=seen.revision
            )
    except CertgateError as error:
        actions.tell("error", error.message)
        if isinstance(error, Conflict):
            # He was told what somebody else did: whoever saves again means it.
            with suppress(NotFound):
                row = gateways.show(context, seen.id)
                st.session_state[_EDITING] = replace(editing, seen=replace(seen, revision=row.revision))
    else:
        _begin(row)
        saved = row.revision > seen.revision
        actions.tell("success", f"Gateway {row.name} was saved." if saved else "Nothing was changed.")
