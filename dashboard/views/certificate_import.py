"""Certificates that a CA issued elsewhere: its list is read, chosen from, and taken into the inventory."""

from __future__ import annotations

from typing import Any

import streamlit as st

from dashboard import actions, components, dialogs, guard, places, session, words
from dashboard.bridge import bridge
from dashboard.components import zone
from dashboard.dialogs import Dialog
from operations import authorities, certificate_import, gateways, organizations, profiles
from operations.certificate_import import ImportView, LineView, NewImport
from operations.context import Context

_TAKE = "take-certificates"
_FILE = "certificate-file"
_ROWS = 100
_LOOK = 1.0
_ANY = "The only one of the CA"
_HERE = {
    "new": "New",
    "known": "There already",
    "chosen": "On its way",
    "imported": "Imported",
    "refused": "Refused",
}


def show() -> None:
    """Draw the page: one import where ``?id=`` names it, else the form of a new one and those that were."""
    context = session.context()
    number = places.number("id")
    if number is not None:
        places.link(places.IMPORT_CERTIFICATES, "All imports", "arrow_back")
        with guard.guarded():
            _import(context, number)
        return
    places.link(places.CERTIFICATES, "All certificates", "arrow_back")
    st.title("Import certificates", anchor=False)
    st.caption(
        "What a CA issued elsewhere is taken into the inventory: then it is watched over, and can be renewed, replaced "
        "and revoked here. Its key stays where it is; a renewal makes another one."
    )
    actions.show_told()
    with guard.guarded():
        _new(context)
        _earlier(context)


def _new(context: Context) -> None:
    cas = [row.name for row in authorities.listing(context)]
    if not cas:
        components.warning("There is no CA yet: add one first.")
        return
    with st.container(border=True):
        left, right = st.columns(2)
        with left:
            st.selectbox("CA", cas, key="import-ca")
            st.selectbox(
                "Organization", [row.name for row in organizations.listing(context)], key="import-organization"
            )
        with right:
            st.selectbox("Gateway", [row.name for row in gateways.listing(context).rows], key="import-gateway")
            named = [row.name for row in profiles.listing(context)]
            st.selectbox("Profile under which they are renewed", [_ANY, *named], key="import-profile")
        st.toggle(
            "Renew them by themselves",
            key="import-auto-renew",
            help="The first renewal of each waits for an approver: nobody has approved these certificates here.",
        )
        by_list, by_file = st.tabs(["From the CA's list", "From a file"])
        with by_list:
            st.caption("Nothing is imported yet: the list is shown, and you choose.")
            if st.button("Read the CA's list", icon=":material/list:", type="primary", key="import-begin"):
                with guard.guarded(), st.spinner("Asking the CA …"):
                    view = bridge().run(certificate_import.begin(session.context(), _wanted()))
                    places.go(places.IMPORT_CERTIFICATES, id=str(view.id))
        with by_file:
            file = st.file_uploader(
                "Certificate (PEM, with its chain if there is one, or DER)",
                type=["pem", "crt", "cer", "der"],
                key=_FILE,
                max_upload_size=1,
            )
            st.text_input("The CA's order number (optional)", key="import-order", max_chars=128)
            if st.button("Import this certificate", icon=":material/upload:", disabled=file is None, key="import-file"):
                assert file is not None
                with guard.guarded():
                    order = dialogs.value("import-order")
                    act = certificate_import.from_file(session.context(), _wanted(), file.getvalue(), order)
                    view = bridge().run(act)
                    actions.tell("success", view.message or "It was imported.")
                    places.go(places.IMPORT_CERTIFICATES, id=str(view.id))


def _wanted() -> NewImport:
    profile = st.session_state.get("import-profile")
    return NewImport(
        ca=str(st.session_state["import-ca"]),
        organization=str(st.session_state["import-organization"]),
        gateway=str(st.session_state["import-gateway"]),
        profile=None if profile in (None, _ANY) else str(profile),
        auto_renew=bool(st.session_state.get("import-auto-renew")),
    )


def _earlier(context: Context) -> None:
    rows = certificate_import.listing(context)
    if not rows:
        return
    st.subheader("Imports", anchor=False)
    for row in rows:
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            where = {"id": str(row.id)}
            places.link(places.IMPORT_CERTIFICATES, f"Import {row.id}", "move_to_inbox", where)
            components.quiet(f"{row.ca} · {row.organization} · {words.when(row.created_at, zone())} · {_state(row)}")


def _import(context: Context, number: int) -> None:
    view = certificate_import.show(context, number)
    st.title(f"Import {number}", anchor=False)
    actions.show_told()
    components.facts(
        [
            ("CA", view.ca),
            ("For", f"{view.organization} / {view.department}" if view.department else view.organization),
            ("Gateway", view.gateway),
            ("Profile", view.profile),
            ("Renewed by themselves", "yes" if view.auto_renew else "no"),
            ("Started", words.when(view.created_at, zone())),
        ]
    )
    if view.running:
        _progress(number)
        return
    if view.message:
        kind = {"failed": "error", "done": "success"}.get(view.state, "info")
        components.notice(kind, view.message)  # type: ignore[arg-type]  # one of its kinds
    if view.state == "failed" and not sum(view.counts.values()):
        return
    _lines(context, view)
    dialogs.show({_TAKE: Dialog("Import these certificates?", "Import", _body, _take, icon="move_to_inbox")})


@st.fragment(run_every=_LOOK)
def _progress(number: int) -> None:
    """How far it is, once a second; the whole page when it rests."""
    with guard.guarded():
        view = certificate_import.show(session.context(), number)
        if not view.running:
            actions.forget_told()
            st.rerun()
        if view.state == "listing":
            st.progress(0, text=f"The CA's list is being read: {sum(view.counts.values()):,} lines so far.")
            return
        done = view.counts["imported"] + view.counts["refused"]
        whole = done + view.counts["chosen"]
        st.progress(done / whole if whole else 0.0, text=f"{done:,} of {whole:,} are taken.")


def _lines(context: Context, view: ImportView) -> None:
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
        chosen = st.segmented_control(
            "Show", ["All", *_HERE.values()], default="All", key="import-state", required=True
        )
        search = st.text_input("Search", key="import-search", placeholder="Name, order or serial number")
    states = [state for state, shown in _HERE.items() if shown == chosen]
    page = int(st.session_state.get("import-page", 1))
    found = certificate_import.lines(context, view.id, states, search or "", (page - 1) * _ROWS, _ROWS)
    picked = _table(found.rows, view, page)
    wanted = components.pager(found.total, page, _ROWS, "import-pager")
    if wanted != page:
        st.session_state["import-page"] = wanted
        st.rerun()
    new = [row.order_number for row in picked if row.state == "new"]
    with st.container(horizontal=True, gap="small"):
        st.button(
            f"Import {len(new)} selected",
            icon=":material/move_to_inbox:",
            type="primary",
            disabled=not new,
            key="import-selected",
            on_click=dialogs.ask,
            args=(_TAKE, (view.id, tuple(new))),
        )
        rest = view.counts["new"] + view.counts["chosen"]
        st.button(
            f"Import all {rest:,} that are new",
            disabled=not rest,
            key="import-all",
            on_click=dialogs.ask,
            args=(_TAKE, (view.id, None)),
        )


def _table(rows: list[LineView], view: ImportView, page: int) -> list[LineView]:
    columns: dict[str, list[object]] = {
        "Common name": [row.common_name for row in rows],
        "Order": [row.order_number for row in rows],
        "Until": [row.not_after for row in rows],
        "At the CA": [row.status for row in rows],
        "Here": [_HERE[row.state] for row in rows],
        "Certificate": [row.certificate_id for row in rows],
        "Note": [row.note for row in rows],
    }
    event: Any = st.dataframe(
        columns,
        key=f"import-lines-{view.id}-{view.state}-{page}-{len(rows)}",
        hide_index=True,
        on_select="rerun",
        selection_mode="multi-row",
        column_config={
            "Common name": st.column_config.TextColumn(width=240),
            "Order": st.column_config.TextColumn(width=120),
            "Until": st.column_config.DatetimeColumn(width=130, format="YYYY-MM-DD HH:mm", timezone=str(zone())),
            "At the CA": st.column_config.TextColumn(width=100),
            "Here": st.column_config.TextColumn(width=110),
            "Certificate": st.column_config.NumberColumn(width=90, format="%d"),
            "Note": st.column_config.TextColumn(width=420),
        },
        placeholder="–",
        alt="The certificates that the CA lists",
    )
    return [rows[index] for index in event.selection.rows if index < len(rows)]


def _body(asked: tuple[int, tuple[str, ...] | None]) -> bool:
    number, orders = asked
    view = certificate_import.show(session.context(), number)
    count = len(orders) if orders is not None else view.counts["new"] + view.counts["chosen"]
    components.strong(f"{count:,} certificates of CA {view.ca}")
    components.facts(
        [
            ("Become certificates of", view.organization),
            ("On gateway", view.gateway),
            ("Renewed under profile", view.profile),
            ("Renewed by themselves", "yes" if view.auto_renew else "no, on an administrator's word"),
        ]
    )
    st.caption("Each is checked: names, key and chain. What is refused stays in the list, with the reason.")
    return True


def _take(asked: tuple[int, tuple[str, ...] | None]) -> str:
    number, orders = asked
    view = bridge().run(certificate_import.take(session.context(), number, orders))
    return f"Import {view.id} has begun."


def _state(row: ImportView) -> str:
    if row.running:
        return "being worked on"
    return row.message or row.state
