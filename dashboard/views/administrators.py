"""The administrators: who may act, where, and how they sign in."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import streamlit as st

from dashboard import components, dialogs, filters, places, session, shelf, tables, words
from dashboard.components import zone
from dashboard.dialogs import Dialog, Secret
from dashboard.views import administrator_forms as forms
from dashboard.words import Look
from model.states import Role
from operations import administrators
from operations.administrators import AdministratorRow, Filter, NewAdministrator
from operations.context import Context, now

_TABLE = "administrators"
_LOGIN, _NAME, _EMAIL, _PROVIDER = "new-login", "new-name", "new-email", "new-provider"
_NOTHING: dict[str, object] = {"a-q": "", "a-role": None, "a-organization": None, "a-state": None}

STATES = {
    "active": Look("Active", "green", "check_circle", "May sign in."),
    "locked": Look("Locked", "orange", "lock_clock", "Too many wrong passwords; it opens by itself."),
    "off": Look("Deactivated", "gray", "block", "Can't sign in; what was done stays."),
}


def show() -> None:
    """Draw the page."""
    context = session.context()
    owner = context.actor.owns_everything
    shelf.head("Administrators", "Add administrator" if owner else None, "administrator-add")
    wanted = _filters(context) if owner else Filter()
    size, page = filters.PAGE_SIZE, filters.page()
    found = administrators.page(context, wanted, (page - 1) * size, size)
    if found.total and not found.rows:
        filters.turn_to(-(-found.total // size))
        st.rerun()
    if found.rows:
        bar = shelf.bar()
        chosen = _table(found.rows)
        hint = ":material/arrow_selector_tool: Select an administrator to see and change what he may do."
        shelf.selection(bar, found.rows, chosen, hint, _selected)
        turned = components.pager(found.total, page, size, "administrators")
        if turned != page:
            tables.unchoose(_TABLE)
            filters.turn_to(turned)
            st.rerun()
    else:
        shelf.empty("search_off", "No administrator matches these filters", "Take a filter away, or clear them all.")
    dialogs.show({"administrator-add": Dialog("Add an administrator", "Add", _form, _added, "person_add", "medium")})


def state(row: AdministratorRow, moment: datetime) -> str:
    """Which of the three it is at a time."""
    if not row.active:
        return "off"
    return "locked" if row.locked_until is not None and row.locked_until > moment else "active"


def ways(row: AdministratorRow) -> str:
    """How somebody signs in."""
    return " and ".join(["password"] * row.has_password + ["provider"] * row.has_single_sign_on) or "tokens only"


def _filters(context: Context) -> Filter:
    text = filters.search("a-q", "Search by login, name or e-mail address")
    role, organization, shown, clear = st.columns([2, 2, 2, 1], vertical_alignment="center")
    with role:
        of_role = filters.one("Role", "a-role", list(Role))
    with organization:
        of_organization = filters.one("Organization", "a-organization", filters.organization_names(context))
    with shown:
        in_state = filters.one("State", "a-state", [look.words for look in STATES.values()])
    wanted = Filter(
        search=text,
        role=Role(of_role) if of_role else None,
        organization=of_organization,
        active={"Active": True, "Deactivated": False}.get(in_state or ""),
        locked=in_state == STATES["locked"].words,
    )
    with clear:
        if wanted != Filter():
            st.button("Clear", icon=":material/filter_alt_off:", on_click=filters.clear, args=(_NOTHING,), key="clear")
    return wanted


def _table(rows: Sequence[AdministratorRow]) -> int | None:
    moment = now()
    return tables.table(
        _TABLE,
        [row.id for row in rows],
        {
            "Login": [row.login for row in rows],
            "Name": [row.full_name for row in rows],
            "State": [[STATES[state(row, moment)].words] for row in rows],
            "Roles": [", ".join(_short(row)) or "none" for row in rows],
            "E-mail": [row.email for row in rows],
            "Signs in by": [ways(row) for row in rows],
            "Last sign-in": [row.last_sign_in for row in rows],
            "Tokens": [row.tokens for row in rows],
        },
        {
            "Login": st.column_config.TextColumn(width=130),
            "Name": st.column_config.TextColumn(width=170),
            "State": tables.states("State", STATES, 110),
            "Roles": st.column_config.TextColumn(width=260),
            "E-mail": st.column_config.TextColumn(width=190),
            "Signs in by": st.column_config.TextColumn(width=120),
            "Last sign-in": st.column_config.DatetimeColumn(width=140, format="YYYY-MM-DD HH:mm", timezone=str(zone())),
            "Tokens": st.column_config.NumberColumn(width=75),
        },
        alt="Administrators",
    )


def _short(row: AdministratorRow) -> list[str]:
    """The roles without their privileges: ``RAO of Alpha, Beta``."""
    found = []
    for role in Role:
        held = [one for one in row.roles if one.role == role]
        where = [place for one in held for place in (*one.organizations, *one.departments)]
        if held:
            found.append(f"{role} of {words.enumerated(where, 3)}" if where else str(role))
    return found


def _selected(row: AdministratorRow) -> None:
    with st.container(gap=None, width="content"):
        components.strong(f"{row.login} · {row.full_name}" if row.full_name else row.login)
        components.quiet("; ".join(map(str, row.roles)) or "holds no role")
    if st.button("Open", icon=":material/open_in_full:", type="primary", key="open"):
        places.go(places.ADMINISTRATOR, id=str(row.id))


def _form(_: object) -> None:
    left, right = st.columns(2)
    left.text_input("Login", key=_LOGIN, max_chars=64, autocomplete="off", help="1 to 64 letters, digits or . _ @ + -")
    right.text_input("Full name", key=_NAME, max_chars=128, autocomplete="off")
    left.text_input("E-mail address", key=_EMAIL, max_chars=256, autocomplete="off")
    right.checkbox(
        "Signs in through the provider only", key=_PROVIDER,
        help="No password: the provider's person with this verified e-mail address becomes this administrator.",
    )  # fmt: skip
    if not st.session_state.get(_PROVIDER):
        forms.password_form()
    st.divider()
    forms.role_form(None)


def _added(_: object) -> str | Secret:
    role = forms.typed_role()
    provider = bool(st.session_state.get(_PROVIDER))
    new = NewAdministrator(
        login=dialogs.value(_LOGIN),
        role=role.role,
        full_name=dialogs.value(_NAME),
        email=dialogs.value(_EMAIL),
        organizations=role.organizations,
        departments=role.departments,
        privileges=role.privileges,
        password=None if provider else forms.typed_password(),
        without_password=provider,
    )
    added = administrators.add(session.context(), new)
    if added.password is None:
        return f"Administrator {added.login} was added."
    return Secret(f"Administrator {added.login} was added.", "First password", added.password)
