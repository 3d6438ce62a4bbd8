"""My account: one's own name, password, tokens and sessions."""

from __future__ import annotations

import streamlit as st

from dashboard import actions, components, dialogs, session, shelf
from dashboard.dialogs import Dialog
from dashboard.views import administrator_forms as forms
from dashboard.views.administrator import access_dialogs, facts, show_roles
from model.errors import InvalidInput, NotPermitted
from operations import account, administrators
from operations.administrators import AdministratorRow

_NAME = "account-name"
_CURRENT, _NEW, _AGAIN = "account-current", "account-new", "account-again"


def show() -> None:
    """Draw the page."""
    context = session.context()
    row = administrators.show(context, context.actor.id)
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        st.title("My account", anchor=False, width="content")
        with st.container(horizontal=True, width="content", gap="small"):
            shelf.offer("Edit name", "edit", "account-name", row)
            if row.has_password:
                shelf.offer("Change password", "password", "account-password", row)
    actions.show_told()
    facts(row)
    st.caption("Your e-mail address decides who you are at a provider, so only an MRAO changes it.")
    show_roles(row, owner=False)
    forms.show_tokens(context, row)
    forms.show_sessions(context, row)
    dialogs.show(
        {
            "account-name": Dialog("Edit your name", "Save", _name, _named, "save"),
            "account-password": Dialog("Change your password", "Change", _password, _changed, "password"),
            **access_dialogs(),
        }
    )


def _name(row: AdministratorRow) -> None:
    st.text_input("Full name", value=row.full_name, key=_NAME, max_chars=128, autocomplete="name")


def _named(_: AdministratorRow) -> str:
    account.rename(session.context(), dialogs.value(_NAME))
    return "Your name was saved."


def _password(row: AdministratorRow) -> None:
    components.strong(row.login)
    st.text_input("Current password", type="password", key=_CURRENT, autocomplete="current-password", max_chars=1024)
    st.text_input("New password", type="password", key=_NEW, autocomplete="new-password", max_chars=1024)
    st.text_input("The new one again", type="password", key=_AGAIN, autocomplete="new-password", max_chars=1024)
    st.caption("At least 12 characters. Your sessions in other browsers end; your tokens stay good.")


def _changed(_: AdministratorRow) -> str:
    current, new, again = (str(st.session_state.get(key) or "") for key in (_CURRENT, _NEW, _AGAIN))
    if new != again:
        raise InvalidInput("The two new passwords differ.")
    try:
        account.change_password(session.context(), current, new, session.number())
    except NotPermitted as error:
        # Told in the dialog: nothing that was typed is lost.
        raise InvalidInput(error.message) from None
    return "Your password was changed."
