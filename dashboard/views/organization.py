"""One organization: its departments, and ways to what belongs to it."""

from __future__ import annotations

import streamlit as st

from dashboard import actions, components, dialogs, filters, places, session, tables
from dashboard.dialogs import Dialog
from dashboard.views import organizations as shared
from model.errors import NotFound
from operations import directory, organizations
from operations.directory import DepartmentLine, OrganizationLine

_TABLE = "departments"
_NAME = "department-name"


def show() -> None:
    """Draw the page of the organization that ``?id=`` names."""
    context = session.context()
    places.link(places.ORGANIZATIONS, "All organizations", "arrow_back")
    number = places.number("id")
    if number is None:
        components.error("The address names no organization: choose one from the list.")
        return
    try:
        row = directory.organization(context, number)
    except NotFound as error:
        actions.show_told()
        components.error(error.message)
        return
    owner = context.actor.owns_everything
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        components.heading(row.name)
        if owner:
            with st.container(horizontal=True, width="content", gap="small"):
                shared.offer(row)
    actions.show_told()
    _facts(row)
    _departments(row, owner)
    dialogs.show(
        {
            "organization-rename": Dialog(
                "Rename this organization", "Rename", shared.rename_form, shared.renamed, "edit"
            ),
            "organization-remove": Dialog("Remove this organization?", "Remove", shared.removal, _gone, "delete"),
            "department-add": Dialog("Add a department", "Add", _add, _added, "add"),
            "department-rename": Dialog("Rename this department", "Rename", _rename, _renamed, "edit"),
            "department-remove": Dialog("Remove this department?", "Remove", _removal, _removed, "delete"),
        }
    )


def _facts(row: OrganizationLine) -> None:
    counts = row.counts
    pairs: list[tuple[str, str | None]] = [
        ("Departments", f"{row.departments:,}"),
        ("Gateways delegated to it", f"{counts.gateways:,}"),
        ("Open requests", f"{counts.open_requests:,}"),
        ("Certificates", f"{counts.certificates:,}"),
        ("Approval policy", row.policy or "strict default"),
    ]
    if counts.administrators is not None:
        pairs.append(("Administrators with a role here", f"{counts.administrators:,}"))
    components.facts(pairs)
    with st.container(horizontal=True, gap="medium"):
        places.link(places.REQUESTS, "Its requests", "inbox", {"organization": row.name})
        places.link(places.CERTIFICATES, "Its certificates", "verified", {"c-organization": row.name})
        if counts.administrators is not None and places.known(places.ADMINISTRATORS):
            places.link(places.ADMINISTRATORS, "Its administrators", "group", {"a-organization": row.name})


def _departments(row: OrganizationLine, owner: bool) -> None:
    st.space("small")
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        st.subheader("Departments", anchor=False, width="content")
        if owner:
            st.button(
                "Add department",
                icon=":material/add:",
                type="primary",
                key="add",
                on_click=dialogs.ask,
                args=("department-add", row),
            )
    text = filters.search("d-q", "Search by name of department") if row.departments else ""
    size, page = filters.PAGE_SIZE, filters.page()
    found = directory.departments(session.context(), row.id, text, (page - 1) * size, size)
    if found.total and not found.rows:
        filters.turn_to(-(-found.total // size))
        st.rerun()
    if not found.rows:
        with st.container(border=True, horizontal_alignment="center", key="empty"):
            if text:
                st.subheader(":material/search_off: No department matches", anchor=False)
            else:
                st.subheader(":material/account_tree: No departments", anchor=False)
                st.caption("A department has requests, certificates, gateways and administrators of its own.")
        return
    bar = st.container(key="selection", border=True)
    chosen = _table(found.rows, owner)
    line = next((one for one in found.rows if one.id == chosen), None)
    with bar, st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        if line is None:
            st.caption(
                ":material/arrow_selector_tool: Select a department to rename or remove it."
                if owner
                else ":material/account_tree: What each department has."
            )
        else:
            components.strong(line.name)
            if owner:
                with st.container(horizontal=True, width="content", gap="small"):
                    about = (row, line)
                    st.button(
                        "Rename department", icon=":material/edit:", key="rename-department",
                        on_click=dialogs.ask, args=("department-rename", about),
                    )  # fmt: skip
                    st.button(
                        "Remove department", icon=":material/delete:", key="remove-department",
                        on_click=dialogs.ask, args=("department-remove", about),
                    )  # fmt: skip
    turned = components.pager(found.total, page, size, "departments")
    if turned != page:
        tables.unchoose(_TABLE)
        filters.turn_to(turned)
        st.rerun()


def _table(rows: list[DepartmentLine], owner: bool) -> int | None:
    columns: dict[str, list[object]] = {
        "No.": [row.id for row in rows],
        "Name": [row.name for row in rows],
        "Delegated gateways": [row.counts.gateways for row in rows],
        "Open requests": [row.counts.open_requests for row in rows],
        "Certificates": [row.counts.certificates for row in rows],
    }
    if owner:
        columns["Administrators"] = [row.counts.administrators for row in rows]
    count = st.column_config.NumberColumn(width=150, format="localized")
    return tables.table(
        _TABLE,
        [row.id for row in rows],
        columns,
        {
            "No.": st.column_config.NumberColumn(width=60, format="%d"),
            "Name": st.column_config.TextColumn(width=320),
            **dict.fromkeys(("Delegated gateways", "Open requests", "Certificates", "Administrators"), count),
        },
        alt="Departments",
    )


def _gone(row: OrganizationLine) -> str:
    organizations.remove(session.context(), row.id, row.name)
    return f"Organization {row.name} was removed."


def _add(row: OrganizationLine) -> None:
    components.quiet(f"In {row.name}")
    st.text_input("Name", key=_NAME, max_chars=128, autocomplete="off", placeholder="Web team")
    st.caption("1 to 128 characters, no slash.")


def _added(row: OrganizationLine) -> str:
    name = dialogs.value(_NAME)
    organizations.add_department(session.context(), row.id, name)
    return f"Department {row.name}/{name} was added."


def _rename(about: tuple[OrganizationLine, DepartmentLine]) -> None:
    owner, line = about
    components.strong(f"{owner.name}/{line.name}")
    st.text_input("New name", value=line.name, key=_NAME, max_chars=128, autocomplete="off")


def _renamed(about: tuple[OrganizationLine, DepartmentLine]) -> str:
    owner, line = about
    name = dialogs.value(_NAME)
    organizations.rename_department(session.context(), owner.id, line.id, name, line.name)
    return f"Department {owner.name}/{line.name} is called {name}."


def _removal(about: tuple[OrganizationLine, DepartmentLine]) -> bool:
    owner, line = about
    components.strong(f"{owner.name}/{line.name}")
    return shared.may_go(organizations.hanging(session.context(), owner.id, line.id))


def _removed(about: tuple[OrganizationLine, DepartmentLine]) -> str:
    owner, line = about
    organizations.remove_department(session.context(), owner.id, line.id, line.name)
    tables.unchoose(_TABLE)
    return f"Department {owner.name}/{line.name} was removed."
