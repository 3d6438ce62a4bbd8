"""The keystores of a gateway: what is in them, add, check, edit, remove."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

import streamlit as st

from connectors import registry
from dashboard import components, forms, guard, inline, places, session, tables, words
from dashboard.bridge import bridge
from dashboard.inline import Form
from dashboard.words import Look
from model.errors import InvalidInput, NotFound
from operations import gateways, keystores
from operations.context import Context
from operations.keystores import EntryRow, KeystoreDetail, KeystoreRow, NewKeystore

_PART = "keystores"
# A gateway that is away is told after 30 s, by the workflow; this is longer.
PATIENCE = timedelta(seconds=45)
# A certificate that ends in less is marked.
NEAR = timedelta(days=30)

_STATES = {
    "new": Look("Never looked", "gray", "visibility_off", "The gateway has not looked into it yet."),
    "good": Look("Good", "green", "check_circle", "The gateway opened it."),
    "bad": Look("Can't be opened", "red", "error", "The gateway could not open it; the reason is told."),
}
EXPIRY = {
    "none": Look("No certificate", "gray", "remove", "There is none yet, or none belongs there."),
    "good": Look("Valid", "green", "check_circle", "It is valid for more than a month."),
    "near": Look("Ends soon", "orange", "schedule", "It ends within a month."),
    "over": Look("Expired", "red", "event_busy", "It has ended."),
}


def show() -> None:
    """Draw the page of the gateway that ``?gateway=`` names."""
    context = session.context()
    number = places.number("gateway")
    if number is None:
        components.error("The address names no gateway: choose one from the list of gateways.")
        return
    gateway = gateways.show(context, number)
    places.link(places.GATEWAY, "The gateway", "arrow_back", {"id": str(number)})
    components.heading(f"Keystores of {gateway.name}")
    show_for_gateway(context, number)


def show_for_gateway(context: Context, gateway_id: int) -> None:
    """Draw the keystores of a gateway, on a page, in a tab or in a dialog. Raises `NotFound`."""
    part = f"{_PART}-{gateway_id}"
    rows = keystores.listing(context, gateway_id)
    may = "keystores" in gateways.allowed(context, [gateway_id]).get(gateway_id, frozenset())
    inline.show_told(part)
    form = inline.opened(part)
    if form is not None and may:
        _form(part, gateway_id, rows, form)
        return
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        st.caption("Private keys are made in a keystore and never leave the gateway; requests may choose one.")
        if may:
            st.button(
                "Add keystore", icon=":material/add:", type="primary", key=f"{part}-add",
                on_click=inline.ask, args=(part, "add"),
            )  # fmt: skip
    chosen = _table(part, rows)
    row = next((one for one in rows if one.id == chosen), rows[0] if len(rows) == 1 else None)
    if row is None:
        st.caption(":material/arrow_selector_tool: Select a keystore to see what is in it.")
        return
    _detail(context, part, row, may)


def _table(part: str, rows: Sequence[KeystoreRow]) -> int | None:
    states = ["bad" if row.last_error else "good" if row.checked_at else "new" for row in rows]
    zone = components.zone()
    return tables.table(
        part,
        [row.id for row in rows],
        {
            "Name": [row.name for row in rows],
            "State": [[_STATES[state].words] for state in states],
            "Type": [row.title for row in rows],
            "Entries": [row.entries if row.checked_at and not row.withheld else None for row in rows],
            "First expiry": [words.when(row.next_expiry, zone) for row in rows],
            "Place": [_place(row) for row in rows],
            "Checked": [words.when(row.checked_at, zone) for row in rows],
        },
        {
            "Name": st.column_config.TextColumn(width=150),
            "State": tables.states("State", _STATES, 140),
            "Type": st.column_config.TextColumn(width=150),
            "Entries": st.column_config.NumberColumn(width=70),
            "First expiry": st.column_config.TextColumn(width=150),
            "Place": st.column_config.TextColumn(width=220),
        },
        alt="Keystores",
    )


def _detail(context: Context, part: str, row: KeystoreRow, may: bool) -> None:
    with st.container(border=True):
        with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
            components.strong(row.name)
            check = False
            if may:
                with st.container(horizontal=True, width="content", gap="small"):
                    check = st.button("Check now", icon=":material/search_check:", key=f"{part}-check-{row.id}")
                    st.button(
                        "Edit keystore", icon=":material/edit:", key=f"{part}-edit-{row.id}",
                        on_click=inline.ask, args=(part, "edit", row.id),
                    )  # fmt: skip
                    if row.name != keystores.DEFAULT:
                        st.button(
                            "Remove keystore", icon=":material/delete:", key=f"{part}-remove-{row.id}",
                            on_click=inline.ask, args=(part, "remove", row.id),
                        )  # fmt: skip
        if check:
            with guard.guarded(), st.spinner("The gateway looks into the keystore …"):
                which = row.id or row.name
                bridge().run(keystores.check(context, row.gateway_id, which), PATIENCE)
                st.rerun()
        settings = [
            (name.replace("_", " ").capitalize(), str(value))
            for name, value in sorted(row.settings.items())
            if name not in ("file", "folder")
        ]
        components.facts([("Type", row.title), ("Place", _place(row)), *settings])
        if row.last_error:
            components.error(row.last_error)
            if row.cure:
                components.notice("info", row.cure)
        _contents(part, keystores.show(context, row.gateway_id, row.id or row.name), context.clock())


def _contents(part: str, detail: KeystoreDetail, now: datetime) -> None:
    row = detail.keystore
    if row.withheld:
        st.caption("What is in it is shown to those who see all organizations and departments that the gateway serves.")
        return
    if row.checked_at is None:
        st.caption("The gateway has not looked into it yet: check it now, and what is in it is shown here.")
        return
    zone = components.zone()
    components.quiet(f"As its gateway saw it {words.ago(row.checked_at, now)} ({words.when(row.checked_at, zone)}).")
    if not detail.entries:
        st.caption("Nothing is in it. A file or folder that is not there yet is made with the first key.")
        return
    tables.plain(
        f"{part}-contents",
        {
            "Alias": [entry.alias for entry in detail.entries],
            "Kind": [entry.kind for entry in detail.entries],
            "Key": [words.key(entry.key_algorithm) if entry.key_algorithm else "–" for entry in detail.entries],
            "Certificate": [", ".join(entry.names) or entry.subject or "–" for entry in detail.entries],
            "Validity": [[EXPIRY[validity(entry, now)].words] for entry in detail.entries],
            "Expires": [words.when(entry.not_after, zone) for entry in detail.entries],
            "Note": [entry.problem or "" for entry in detail.entries],
            "Issuer": [entry.issuer or "–" for entry in detail.entries],
            "Fingerprint": [entry.fingerprint or "–" for entry in detail.entries],
        },
        {"Validity": tables.states("Validity", EXPIRY, 120)},
        alt="What is in the keystore",
    )
    if detail.omitted:
        components.quiet(f"{detail.omitted:,} more entries are in it; the first {len(detail.entries):,} are shown.")


def validity(entry: EntryRow, now: datetime) -> str:
    """How a certificate's end looks, as a key of `EXPIRY`."""
    if entry.not_after is None:
        return "none"
    left = entry.not_after - now
    return "over" if left <= timedelta(0) else "near" if left < NEAR else "good"


def _place(row: KeystoreRow) -> str:
    place = row.settings.get("file") or row.settings.get("folder")
    return str(place) if place else "keys, in the gateway's home" if row.type == "pem" else "–"


def _form(part: str, gateway_id: int, rows: Sequence[KeystoreRow], form: Form) -> None:
    row = next((one for one in rows if one.id == form.about), None)
    with st.container(border=True, key=f"{part}-form-box"):
        if form.act == "add":
            _add(part, gateway_id, form)
        elif row is None:
            inline.close(part)
            raise NotFound("The keystore is gone: somebody removed it meanwhile.")
        elif form.act == "edit":
            _edit(part, row, form)
        else:
            _remove(part, row, form)


def _add(part: str, gateway_id: int, form: Form) -> None:
    st.subheader("Add a keystore", anchor=False)
    known = keystores.types()
    left, right = st.columns(2)
    left.text_input("Name (needed)", key=f"{form.key}-name", max_chars=128, autocomplete="off", placeholder="tomcat")
    # What most people want stands first.
    names = sorted(known, key=lambda name: (name != "pkcs12", name))
    chosen = right.selectbox("Type", names, format_func=known.__getitem__, key=f"{form.key}-type")
    model = registry.find("keystores", chosen).settings
    forms.draw(model, f"{form.key}-{chosen}")
    st.caption("The gateway makes its file or folder with the first key. What is there already is kept.")

    def perform(asked: Form) -> str:
        kind = inline.value(asked, "type")
        if not kind:
            raise InvalidInput("Choose a type of keystore first.")
        settings = forms.words(registry.find("keystores", kind).settings, f"{asked.key}-{kind}")
        new = NewKeystore(gateway_id, inline.value(asked, "name"), kind, settings)
        made = keystores.add(session.context(), new)
        return f"Keystore {made.name} was added. Check it, and you see what is in it."

    inline.confirm(part, form, "Add", "add", perform)


def _edit(part: str, row: KeystoreRow, form: Form) -> None:
    st.subheader("Edit this keystore", anchor=False)
    components.strong(f"{row.name} on {row.gateway}")
    if row.name != keystores.DEFAULT:
        st.text_input("Name", value=row.name, key=f"{form.key}-name", max_chars=128, autocomplete="off")
    model = registry.find("keystores", row.type).settings
    forms.draw(model, f"{form.key}-set", row.settings)
    st.caption("It holds for requests from now on. Keys that are elsewhere are not moved.")

    def perform(asked: Form) -> str:
        settings = forms.words(model, f"{asked.key}-set", cleared=True)
        which = row.id or row.name
        name = inline.value(asked, "name") if row.name != keystores.DEFAULT else None
        made = keystores.edit(session.context(), row.gateway_id, settings, which, new_name=name)
        return f"Keystore {made.name} was edited."

    inline.confirm(part, form, "Save", "save", perform)


def _remove(part: str, row: KeystoreRow, form: Form) -> None:
    st.subheader("Remove this keystore?", anchor=False)
    components.strong(f"{row.name} on {row.gateway}")
    components.facts([("Type", row.title), ("Place", _place(row)), ("Entries", str(row.entries))])
    st.caption("certgate forgets it. Its file or folder, with all keys, stays on the gateway's host.")

    def perform(_: Form) -> str:
        gone = keystores.remove(session.context(), row.gateway_id, row.id)
        tables.unchoose(part)
        return f"Keystore {gone.name} was removed. Its keys stay on the gateway's host."

    inline.confirm(part, form, "Remove", "delete", perform)
