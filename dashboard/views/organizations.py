"""The organizations: what hangs on each; add, rename, remove."""

from __future__ import annotations

import streamlit as st

from dashboard import actions, components, dialogs, filters, places, session, tables
from dashboard.dialogs import Dialog
from operations import directory, organizations
from operations.directory import OrganizationLine

_TABLE = "organizations"
NAME = "organization-name"


def show() -> None:
    """Draw the page."""
    context = session.context()
    owner = context.actor.owns_everything
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        st.title("Organizations", anchor=False, width="content")
        with st.container(horizontal=True, width="content", gap="small"):
            st.button("Refresh", icon=":material/refresh:", key="refresh", on_click=actions.forget_told)
            if owner:
                st.button(
                    "Add organization",
                    icon=":material/add:",
                    type="primary",
                    key="add",
                    on_click=dialogs.ask,
                    args=("organization-add",),
                )
    actions.show_told()
    text = filters.search("o-q", "Search by name of organization or department")
    size, page = filters.PAGE_SIZE, filters.page()
    found = directory.organizations(context, text, (page - 1) * size, size)
    if found.total and not found.rows:
        filters.turn_to(-(-found.total // size))
        st.rerun()
    if found.rows:
        bar = st.container(key="selection", border=True)
        chosen = _table(found.rows, owner)
        _selection(bar, next((row for row in found.rows if row.id == chosen), None), owner)
        turned = components.pager(found.total, page, size, "organizations")
        if turned != page:
            tables.unchoose(_TABLE)
            filters.turn_to(turned)
            st.rerun()
    else:
        _empty(text)
    dialogs.show(
        {
            "organization-add": Dialog("Add an organization", "Add", _add, _added, "add"),
            "organization-rename": Dialog("Rename this organization", "Rename", rename_form, renamed, "edit"),
            "organization-remove": Dialog("Remove this organization?", "Remove", removal, _removed, "delete"),
        }
    )


def _table(rows: list[OrganizationLine], owner: bool) -> int | None:
    columns: dict[str, list[object]] = {
        "No.": [row.id for row in rows],
        "Name": [row.name for row in rows],
        "Departments": [row.departments for row in rows],
        "Delegated gateways": [row.counts.gateways for row in rows],
        "Open requests": [row.counts.open_requests for row in rows],
        "Certificates": [row.counts.certificates for row in rows],
        "Approval policy": [row.policy or "strict default" for row in rows],
    }
    if owner:
        columns["Administrators"] = [row.counts.administrators for row in rows]
    count = st.column_config.NumberColumn(width=120, format="localized")
    return tables.table(
        _TABLE,
        [row.id for row in rows],
        columns,
        {
            "No.": st.column_config.NumberColumn(width=60, format="%d"),
            "Name": st.column_config.TextColumn(width=300),
            "Departments": count,
            "Delegated gateways": st.column_config.NumberColumn(width=150, format="localized"),
            "Open requests": count,
            "Certificates": count,
            "Administrators": count,
            "Approval policy": st.column_config.TextColumn(width=200),
        },
        alt="Organizations",
    )


def _selection(bar: st.delta_generator.DeltaGenerator, row: OrganizationLine | None, owner: bool) -> None:
    with bar, st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        if row is None:
            st.caption(":material/arrow_selector_tool: Select an organization to see its departments.")
            return
        components.strong(row.name)
        with st.container(horizontal=True, width="content", gap="small"):
            if st.button("Open", icon=":material/open_in_full:", type="primary", key="open"):
                places.go(places.ORGANIZATION, id=str(row.id))
            if owner:
                offer(row)


def offer(row: OrganizationLine) -> None:
    """Buttons that change an organization."""
    st.button("Rename", icon=":material/edit:", key="rename", on_click=dialogs.ask, args=("organization-rename", row))
    st.button("Remove", icon=":material/delete:", key="remove", on_click=dialogs.ask, args=("organization-remove", row))


def _empty(text: str) -> None:
    with st.container(border=True, horizontal_alignment="center", key="empty"):
        if text:
            st.subheader(":material/search_off: No organization matches", anchor=False)
            st.caption("Only organizations that you may see are searched.")
        else:
            st.subheader(":material/corporate_fare: No organizations", anchor=False)
            st.caption("Certificates are for organizations: add the first one.")


def _add(_: object) -> None:
    st.text_input("Name", key=NAME, max_chars=128, autocomplete="off", placeholder="Example Ltd")
    st.caption("1 to 128 characters, no slash. The general approval policy holds for it until it has its own.")


def _added(_: object) -> str:
    row = organizations.add(session.context(), dialogs.value(NAME))
    return f"Organization {row.name} was added."


def rename_form(row: OrganizationLine) -> None:
    """Ask for another name."""
    components.strong(row.name)
    st.text_input("New name", value=row.name, key=NAME, max_chars=128, autocomplete="off")
    st.caption("Requests, certificates and roles stay as they are: they belong to the organization, not to its name.")


def renamed(row: OrganizationLine) -> str:
    """Give it the name that was typed."""
    now = organizations.rename(session.context(), row.id, dialogs.value(NAME), row.name)
    return f"Organization {row.name} is called {now.name}."


def removal(row: OrganizationLine) -> bool:
    """Say what keeps it from being removed, or ask."""
    components.strong(row.name)
    return may_go(organizations.hanging(session.context(), row.id))


def may_go(hanging: str) -> bool:
    """Tell what hangs on an organization or department; whether it can be removed."""
    if hanging:
        components.warning(f"It can't be removed, because this hangs on it: {hanging}.")
        st.caption("Take that away first. Requests and certificates are kept for good, so what had any stays too.")
        return False
    st.caption("Nothing hangs on it. What the audit tells of it stays.")
    return True


def _removed(row: OrganizationLine) -> str:
    organizations.remove(session.context(), row.id, row.name)
    tables.unchoose(_TABLE)
    return f"Organization {row.name} was removed."
