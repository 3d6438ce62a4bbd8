"""Groups of a gateway's bindings that serve one certificate: canaries first, the rest after them."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from dashboard import components, durations, inline, session, tables
from dashboard.inline import Form
from model.errors import NotFound
from operations import endpoints, gateways, groups
from operations.context import Context
from operations.groups import GroupChange, GroupRow, MemberRow, NewGroup

_PART = "groups"


def show_for_gateway(context: Context, gateway_id: int) -> None:
    """Draw the groups of a gateway. Raises `NotFound`."""
    part = f"{_PART}-{gateway_id}"
    rows = groups.listing(context, gateway_id)
    may = "edit" in gateways.allowed(context, [gateway_id]).get(gateway_id, frozenset())
    inline.show_told(part)
    form = inline.opened(part)
    if form is not None and may:
        _form(context, part, gateway_id, rows, form)
        return
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        st.caption("Bindings that serve the same certificate: canaries get it first, the rest when these serve it.")
        if may:
            st.button(
                "Add group", icon=":material/add:", type="primary", key=f"{part}-add",
                on_click=inline.ask, args=(part, "add"),
            )  # fmt: skip
    if not rows:
        with st.container(border=True, horizontal_alignment="center"):
            st.subheader(":material/account_tree: No groups", anchor=False)
            st.caption("Discover the bindings of your endpoints, then put those together that serve one certificate.")
        return
    chosen = _table(part, rows)
    row = next((one for one in rows if one.id == chosen), rows[0] if len(rows) == 1 else None)
    if row is None:
        st.caption(":material/arrow_selector_tool: Select a group to see its bindings.")
        return
    _detail(context, part, row, may)


def _table(part: str, rows: Sequence[GroupRow]) -> int | None:
    return tables.table(
        part,
        [row.id for row in rows],
        {
            "Name": [row.name for row in rows],
            "Bindings": [row.members for row in rows],
            "Canaries": [row.canaries for row in rows],
            "At once": [row.at_once for row in rows],
            "Canaries are watched": [_span(row.soak_seconds) for row in rows],
        },
        {
            "Name": st.column_config.TextColumn(width=260),
            "Bindings": st.column_config.NumberColumn(width=90),
            "Canaries": st.column_config.NumberColumn(width=90),
            "At once": st.column_config.NumberColumn(width=90),
            "Canaries are watched": st.column_config.TextColumn(width=180),
        },
        alt="Groups",
    )


def _detail(context: Context, part: str, row: GroupRow, may: bool) -> None:
    _, members = groups.show(context, row.gateway_id, row.id)
    with st.container(border=True):
        with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
            components.strong(row.name)
            if may:
                with st.container(horizontal=True, width="content", gap="small"):
                    st.button(
                        "Edit group", icon=":material/edit:", key=f"{part}-edit-{row.id}",
                        on_click=inline.ask, args=(part, "edit", row.id),
                    )  # fmt: skip
                    st.button(
                        "Remove group", icon=":material/delete:", key=f"{part}-remove-{row.id}",
                        on_click=inline.ask, args=(part, "remove", row.id),
                    )  # fmt: skip
        tables.plain(
            f"{part}-members",
            {
                "Turn": ["canary" if member.canary else "then" for member in members],
                "Endpoint": [member.endpoint for member in members],
                "Binding": [member.binding for member in members],
                "Names": [", ".join(member.names) for member in members],
                "Maintenance window": [member.window or "at any time" for member in members],
                "Serves": [member.serves or "nothing" for member in members],
            },
            {"Turn": st.column_config.TextColumn(width=80), "Endpoint": st.column_config.TextColumn(width=180)},
            alt="Bindings of the group",
        )


def _form(context: Context, part: str, gateway_id: int, rows: Sequence[GroupRow], form: Form) -> None:
    row = next((one for one in rows if one.id == form.about), None)
    with st.container(border=True, key=f"{part}-form-box"):
        if form.act == "add":
            _fields(context, part, gateway_id, None, [], form)
        elif row is None:
            inline.close(part)
            raise NotFound("The group is gone: somebody removed it meanwhile.")
        elif form.act == "edit":
            _, members = groups.show(context, gateway_id, row.id)
            _fields(context, part, gateway_id, row, members, form)
        else:
            _remove(part, row, form)


def _fields(
    context: Context, part: str, gateway_id: int, row: GroupRow | None, members: Sequence[MemberRow], form: Form
) -> None:
    st.subheader("Edit this group" if row else "Add a group", anchor=False)
    st.text_input(
        "Name (needed)", value=row.name if row else "", key=f"{form.key}-name", max_chars=128, autocomplete="off",
        placeholder="web",
    )  # fmt: skip
    places = {
        f"{endpoint.name} · {binding.binding}": (endpoint.name, binding.binding)
        for endpoint in endpoints.listing(context, gateway_id)
        for binding in endpoints.bindings(context, gateway_id, endpoint.id)
        if binding.obstacle is None
    }
    now = [f"{member.endpoint} · {member.binding}" for member in members]
    st.multiselect(
        "Bindings (needed)", list(places), default=[one for one in now if one in places], key=f"{form.key}-members",
        placeholder="In the order in which they get a certificate" if places else "Discover endpoints first",
        help="The first ones are the canaries.",
    )  # fmt: skip
    first, second, third = st.columns([1, 1, 2])
    first.number_input(
        "Canaries", value=row.canaries if row else 1, min_value=0, max_value=groups.MOST_MEMBERS,
        key=f"{form.key}-canaries", help="How many get a certificate first. 0: all at once.",
    )  # fmt: skip
    second.number_input(
        "Installs at once", value=row.at_once if row else 4, min_value=1, max_value=groups.MOST_AT_ONCE,
        key=f"{form.key}-at-once",
    )  # fmt: skip
    with third:
        durations.draw(
            "Canaries are watched for", f"{form.key}-soak", row.soak_seconds if row else None,
            "After this they are looked at once more, before the rest follows. Empty: not at all.",
        )  # fmt: skip

    def perform(asked: Form) -> str:
        chosen = [places[one] for one in st.session_state.get(f"{asked.key}-members") or [] if one in places]
        soak = durations.typed(f"{asked.key}-soak") or 0
        canaries = int(st.session_state.get(f"{asked.key}-canaries") or 0)
        at_once = int(st.session_state.get(f"{asked.key}-at-once") or 1)
        name = inline.value(asked, "name")
        if row is None:
            made = groups.add(session.context(), NewGroup(gateway_id, name, chosen, canaries, at_once, soak))
            return f"Group {made.name} of {made.members} bindings was added. Request a certificate for it."
        change = GroupChange(name, chosen, canaries, at_once, soak)
        made = groups.edit(session.context(), gateway_id, row.id, change)
        return f"Group {made.name} was edited."

    inline.confirm(part, form, "Save" if row else "Add", "save" if row else "add", perform)


def _remove(part: str, row: GroupRow, form: Form) -> None:
    st.subheader("Remove this group?", anchor=False)
    components.strong(f"{row.name} on {row.gateway}")
    components.facts([("Bindings", str(row.members)), ("Canaries", str(row.canaries))])
    st.caption("certgate forgets the group. What its bindings serve stays as it is.")

    def perform(_: Form) -> str:
        groups.remove(session.context(), row.gateway_id, row.id)
        tables.unchoose(part)
        return f"Group {row.name} was removed. What its bindings serve stays as it is."

    inline.confirm(part, form, "Remove", "delete", perform)


def _span(seconds: int) -> str:
    return durations.words(seconds) if seconds else "not"
