"""The parts of dialogs about administrators: a role with its scopes and privileges, a password, tokens, sessions."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from datetime import timedelta

import streamlit as st

from dashboard import components, dialogs, durations, session, shelf, tables, tree, words
from dashboard.bridge import bridge
from dashboard.components import zone
from dashboard.dialogs import Secret
from model.errors import InvalidInput
from model.states import Privilege, Role
from operations import administrators, organizations, sessions
from operations.administrators import AdministratorRow, TokenRow
from operations.context import Context, now
from operations.roles import DEFAULT_PRIVILEGES, Assignment, RoleRow
from operations.sessions import SessionRow

_ROLE = "administrator-role"
_PASSWORD, _AGAIN, _MADE_UP = "administrator-password", "administrator-again", "administrator-made-up"
_LIFETIME = "token-lifetime"
_TOKENS, _SESSIONS = "tokens", "sessions"


def role_form(held: RoleRow | None) -> None:
    """Ask for a role, where it holds, and what it allows."""
    roles = list(words.ROLES)
    st.radio(
        "Role",
        roles,
        index=roles.index(held.role) if held else roles.index(Role.RAO),
        format_func=lambda role: words.ROLES[role][0],
        captions=[words.ROLES[role][1] for role in roles],
        key=_ROLE,
    )
    role = Role(st.session_state.get(_ROLE) or Role.RAO)
    start = [*held.organizations, *held.departments] if held and held.role == role else []
    if role != Role.MRAO:
        rows = organizations.listing(session.context())
        if role == Role.RAO:
            st.caption("Organizations where it holds")
            tree.pick(_tree(role), [replace(row, departments=[]) for row in rows], start)
        else:
            st.caption("Departments where it holds")
            tree.pick(_tree(role), [row for row in rows if row.departments], start, whole=lambda _: False)
    _privileges(role, held.privileges if held else DEFAULT_PRIVILEGES)


def _tree(role: Role) -> str:
    return f"role-{role}-{dialogs.turn()}"


def _privileges(role: Role, ticked: Collection[str]) -> None:
    st.caption("What it allows there")
    if role == Role.MRAO:
        st.caption("Everything; only the privilege to need no approval is given by name.")
    left, right = st.columns(2)
    shown = [Privilege.AUTO_APPROVE] if role == Role.MRAO else list(Privilege)
    for number, privilege in enumerate(shown):
        title, meaning = words.PRIVILEGES[privilege]
        with (left, right)[number % 2]:
            st.checkbox(title, value=str(privilege) in ticked, key=_key(role, privilege), help=meaning)


def _key(role: Role, privilege: Privilege) -> str:
    return f"privilege-{role}-{privilege}"


def typed_role() -> Assignment:
    """The role that was asked for."""
    role = Role(st.session_state[_ROLE])
    privileges = [one for one in Privilege if st.session_state.get(_key(role, one))]
    if role == Role.MRAO:
        return Assignment(role, privileges=privileges)
    picked_organizations, picked_departments = tree.picked(_tree(role))
    if role == Role.RAO:
        return Assignment(role, picked_organizations, (), privileges)
    return Assignment(role, (), picked_departments, privileges)


def password_form() -> None:
    """Ask for a new password, or offer to make one up."""
    st.checkbox("Make up a password, shown once", value=True, key=_MADE_UP)
    if not st.session_state.get(_MADE_UP):
        st.text_input("Password", type="password", key=_PASSWORD, autocomplete="new-password", max_chars=1024)
        st.text_input("The same again", type="password", key=_AGAIN, autocomplete="new-password", max_chars=1024)


def typed_password() -> str | None:
    """The password that was typed; None where one is to be made up. Raises `InvalidInput` when the two differ."""
    if st.session_state.get(_MADE_UP, True):
        return None
    given = str(st.session_state.get(_PASSWORD) or "")
    if given != str(st.session_state.get(_AGAIN) or ""):
        raise InvalidInput("The two passwords differ.")
    return given


def show_tokens(context: Context, row: AdministratorRow) -> None:
    """The tokens of an administrator: make, revoke."""
    _section("Access tokens", "New token", "token-add", row if row.active else None)
    found = administrators.tokens(context, row.id)
    if not found:
        st.caption("No token is good now. A token lets the command line or a script act in one's place.")
        return
    bar = shelf.bar("tokens-bar")
    chosen = tables.table(
        _TOKENS,
        [one.id for one in found],
        {
            "No.": [one.id for one in found],
            "Made": [one.created_at for one in found],
            "Good until": [one.expires_at for one in found],
            "Ends": [words.ago(one.expires_at, now()) for one in found],
        },
        {"No.": st.column_config.NumberColumn(width=70, format="%d"), "Made": _time(), "Good until": _time()},
        alt="Access tokens",
    )

    def draw(one: TokenRow) -> None:
        components.strong(f"Token {one.id}")
        with st.container(horizontal=True, width="content", gap="small"):
            shelf.offer("Revoke", "delete", "token-revoke", (row, one))
            if len(found) > 1:
                shelf.offer("Revoke all", "delete_sweep", "token-revoke-all", row)

    hint = ":material/arrow_selector_tool: Select a token to revoke it."
    shelf.selection(bar, found, chosen, hint, draw)


def token_form(row: AdministratorRow) -> None:
    """Ask how long a token is good."""
    components.strong(row.login)
    durations.draw("Good for", _LIFETIME, 90 * 86_400, "At most 366 days.")
    st.caption("Whoever has it acts with all rights of this account, until it ends or is revoked.")


def made_token(row: AdministratorRow) -> Secret:
    """Make it; it is shown once."""
    seconds = durations.typed(_LIFETIME)
    if seconds is None:
        raise InvalidInput("How long it is good is missing.")
    token = administrators.token(session.context(), row.id, timedelta(seconds=seconds))
    return Secret(f"A token for {row.login}, good for {durations.words(seconds)}.", "CERTGATE_TOKEN", token)


def revocation(about: tuple[AdministratorRow, TokenRow]) -> None:
    """Name the token that will be void."""
    row, one = about
    components.strong(f"Token {one.id} of {row.login}")
    st.caption("Whatever uses it is refused from then on.")


def revoked(about: tuple[AdministratorRow, TokenRow]) -> str:
    """Make it void."""
    row, one = about
    administrators.revoke_token(session.context(), row.id, one.id)
    tables.unchoose(_TOKENS)
    return f"Token {one.id} of {row.login} is void."


def all_revocation(row: AdministratorRow) -> None:
    """Name whose tokens will be void."""
    components.strong(f"All tokens of {row.login}")
    st.caption("Whatever uses one of them is refused from then on.")


def all_revoked(row: AdministratorRow) -> str:
    """Make them void."""
    count = administrators.revoke_tokens(session.context(), row.id)
    tables.unchoose(_TOKENS)
    return f"{count} tokens of {row.login} are void."


def show_sessions(context: Context, row: AdministratorRow) -> None:
    """The browsers in which an administrator is signed in."""
    _section("Sessions", None, "", None)
    idle = timedelta(minutes=bridge().door.settings.dashboard.idle_minutes)
    found = sessions.listing(context, idle, row.id)
    if not found:
        st.caption("No browser is signed in.")
        return
    here = session.number()
    bar = shelf.bar("sessions-bar")
    chosen = tables.table(
        _SESSIONS,
        [one.id for one in found],
        {
            "No.": [one.id for one in found],
            "From": [one.address + (" (this one)" if one.id == here else "") for one in found],
            "Browser": [one.agent for one in found],
            "By": ["password" if one.way == "password" else "provider" for one in found],
            "Began": [one.created_at for one in found],
            "Last click": [words.ago(one.seen_at, now()) for one in found],
        },
        {
            "No.": st.column_config.NumberColumn(width=70, format="%d"),
            "From": st.column_config.TextColumn(width=180),
            "Browser": st.column_config.TextColumn(width=330),
            "By": st.column_config.TextColumn(width=90),
            "Began": _time(),
        },
        alt="Sessions",
    )

    def draw(one: SessionRow) -> None:
        components.strong(f"Session {one.id}, from {one.address or 'an unknown address'}")
        shelf.offer("End it", "logout", "session-end", (row, one))

    shelf.selection(bar, found, chosen, ":material/arrow_selector_tool: Select a session to end it.", draw)


def session_ending(about: tuple[AdministratorRow, SessionRow]) -> None:
    """Name the session that ends."""
    row, one = about
    components.strong(f"Session {one.id} of {row.login}")
    st.caption("The browser shows the sign-in page with its next click." if one.id != session.number() else "It is "
               "this one: you are signed out.")  # fmt: skip


def session_ended(about: tuple[AdministratorRow, SessionRow]) -> str:
    """End it."""
    row, one = about
    sessions.end(session.context(), row.id, one.id)
    tables.unchoose(_SESSIONS)
    return f"Session {one.id} of {row.login} has ended."


def _section(title: str, add: str | None, dialog: str, about: AdministratorRow | None) -> None:
    st.space("small")
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        st.subheader(title, anchor=False, width="content")
        if add is not None and about is not None:
            shelf.offer(add, "add", dialog, about)


def _time() -> object:
    return st.column_config.DatetimeColumn(width=150, format="YYYY-MM-DD HH:mm", timezone=str(zone()))
