"""One administrator: what he may do and where, how he signs in, his tokens and sessions."""

from __future__ import annotations

import secrets

import streamlit as st

from dashboard import actions, components, dialogs, places, session, shelf, words
from dashboard.components import zone
from dashboard.dialogs import Dialog, Secret
from dashboard.views import administrator_forms as forms
from dashboard.views.administrators import STATES, state, ways
from model.errors import NotFound
from model.states import Privilege
from operations import administrators, roles, single_sign_on
from operations.administrators import AdministratorChange, AdministratorRow
from operations.context import now
from operations.roles import RoleRow

_NAME, _EMAIL = "administrator-name", "administrator-email"
_ISSUER, _SUBJECT = "administrator-issuer", "administrator-subject"


def show() -> None:
    """Draw the page of the administrator that ``?id=`` names."""
    context = session.context()
    places.link(places.ADMINISTRATORS, "All administrators", "arrow_back")
    number = places.number("id")
    if number is None:
        components.error("The address names no administrator: choose one from the list.")
        return
    try:
        row = administrators.show(context, number)
    except NotFound as error:
        components.error(error.message)
        return
    owner = context.actor.owns_everything
    _head(row, owner)
    actions.show_told()
    st.space("small")
    facts(row)
    show_roles(row, owner)
    forms.show_tokens(context, row)
    forms.show_sessions(context, row)
    dialogs.show(
        {
            "administrator-edit": Dialog("Edit this administrator", "Save", _edit, _edited, "save"),
            "administrator-password": Dialog("Set a password", "Set", _password, _password_set, "password"),
            "administrator-provider": Dialog("Sign-in through the provider", "Save", _provider, _linked, "save"),
            "administrator-off": Dialog("Deactivate this administrator?", "Deactivate", _off, _switched_off, "block"),
            "administrator-on": Dialog("Let this administrator in again?", "Activate", _on, _switched_on, "check"),
            "role-add": Dialog("Give a role", "Give", _role_add, _role_added, "add", "medium"),
            "role-edit": Dialog("Change this role", "Save", _role_edit, _role_edited, "save", "medium"),
            "role-remove": Dialog("Take this role away?", "Take away", _role_removal, _role_removed, "delete"),
            **access_dialogs(),
        }
    )


def access_dialogs() -> dict[str, Dialog]:
    """The dialogs about tokens and sessions."""
    return {
        "token-add": Dialog("New access token", "Make it", forms.token_form, forms.made_token, "key"),
        "token-revoke": Dialog("Revoke this token?", "Revoke", forms.revocation, forms.revoked, "delete"),
        "token-revoke-all": Dialog("Revoke all tokens?", "Revoke", forms.all_revocation, forms.all_revoked, "delete"),
        "session-end": Dialog("End this session?", "End it", forms.session_ending, forms.session_ended, "logout"),
    }


def _head(row: AdministratorRow, owner: bool) -> None:
    look = STATES[state(row, now())]
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        with st.container(width="content", gap="xsmall"):
            components.heading(row.full_name or row.login)
            st.badge(look.words, icon=f":material/{look.icon}:", color=look.colour, help=look.meaning)
        if owner:
            with st.container(horizontal=True, width="content", gap="small"):
                shelf.offer("Edit", "edit", "administrator-edit", row)
                shelf.offer("Set password", "password", "administrator-password", row)
                shelf.offer("Provider", "badge", "administrator-provider", row)
                if look is STATES["active"]:
                    shelf.offer("Deactivate", "block", "administrator-off", row)
                else:
                    shelf.offer("Activate", "check_circle", "administrator-on", row, primary=True)


def facts(row: AdministratorRow) -> None:
    """Who it is."""
    pairs: list[tuple[str, str | None]] = [
        ("Login", row.login),
        ("Full name", row.full_name),
        ("E-mail address", row.email),
        ("Signs in by", ways(row)),
        ("Last sign-in", words.when(row.last_sign_in, zone())),
        ("Since", words.when(row.created_at, zone())),
    ]
    if row.locked_until is not None and row.locked_until > now():
        pairs.append(("Locked until", words.when(row.locked_until, zone())))
    if row.oidc_subject is not None:
        pairs.append(("At the provider", f"{row.oidc_subject} of {row.oidc_issuer}"))
    components.facts(pairs)


def show_roles(row: AdministratorRow, owner: bool) -> None:
    """What he may do and where."""
    st.space("small")
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        st.subheader("Roles", anchor=False, width="content")
        if owner:
            st.button("Give a role", icon=":material/add:", key="give", on_click=dialogs.ask, args=("role-add", row))
    if not row.roles:
        st.caption("None: he may sign in, and sees nothing.")
    for number, role in enumerate(row.roles):
        with (
            st.container(border=True, key=f"role-{number}"),
            st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"),
        ):
            with st.container(gap="xsmall", width="stretch"):
                components.strong(words.ROLES[role.role][0])
                if role.organizations or role.departments:
                    st.text(", ".join([*role.organizations, *role.departments]))
                components.quiet(_allows(role))
            if owner:
                with st.container(horizontal=True, width="content", gap="small"):
                    st.button(
                        "Change", icon=":material/edit:", key=f"role-edit-{number}",
                        on_click=dialogs.ask, args=("role-edit", (row, role)),
                    )  # fmt: skip
                    st.button(
                        "Take away", icon=":material/delete:", key=f"role-remove-{number}",
                        on_click=dialogs.ask, args=("role-remove", (row, role)),
                    )  # fmt: skip


def _allows(role: RoleRow) -> str:
    titles = [words.PRIVILEGES[Privilege(one)][0].lower() for one in role.privileges]
    if role.role == "MRAO":
        return ", ".join(["everything", *titles])
    return ", ".join(titles) or "only to look"


def _edit(row: AdministratorRow) -> None:
    components.strong(row.login)
    st.text_input("Full name", value=row.full_name, key=_NAME, max_chars=128, autocomplete="off")
    st.text_input("E-mail address", value=row.email, key=_EMAIL, max_chars=256, autocomplete="off")
    st.caption(
        "The provider's person with this verified address signs in as this administrator, if he is linked to none."
    )


def _edited(row: AdministratorRow) -> str:
    change = AdministratorChange(full_name=dialogs.value(_NAME), email=dialogs.value(_EMAIL))
    administrators.edit(session.context(), row.id, change, row)
    return f"Administrator {row.login} was saved."


def _password(row: AdministratorRow) -> None:
    components.strong(row.login)
    forms.password_form()
    st.caption("A lock after wrong passwords ends, and so do all his sessions. His tokens stay good.")


def _password_set(row: AdministratorRow) -> str | Secret:
    given = forms.typed_password()
    password = given if given is not None else secrets.token_urlsafe(15)
    administrators.set_password(session.context(), row.id, password)
    told = f"The password of {row.login} was set; his sessions have ended."
    return told if given is not None else Secret(told, "New password", password)


def _provider(row: AdministratorRow) -> None:
    components.strong(row.login)
    st.text_input(
        "Issuer", value=row.oidc_issuer or "", key=_ISSUER, max_chars=512, placeholder="https://login.example.com",
        autocomplete="off",
    )  # fmt: skip
    st.text_input(
        "Subject", value=row.oidc_subject or "", key=_SUBJECT, max_chars=255, autocomplete="off",
        help="The claim sub, by which the provider knows the person.",
    )  # fmt: skip
    st.caption("Both empty: nobody signs in as this administrator through a provider.")


def _linked(row: AdministratorRow) -> str:
    issuer, subject = dialogs.value(_ISSUER), dialogs.value(_SUBJECT)
    if not issuer and not subject:
        single_sign_on.unlink(session.context(), row.id)
        return f"{row.login} does not sign in through a provider."
    single_sign_on.link(session.context(), row.id, issuer, subject)
    return f"{row.login} signs in as {subject} of {issuer}."


def _off(row: AdministratorRow) -> None:
    components.strong(row.login)
    components.warning("He can't sign in any more; his sessions end at once, and his tokens are void for good.")
    st.caption("What he asked for and decided stays as it is.")


def _switched_off(row: AdministratorRow) -> str:
    administrators.deactivate(session.context(), row.id)
    return f"Administrator {row.login} was deactivated."


def _on(row: AdministratorRow) -> None:
    components.strong(row.login)
    st.caption("He may sign in again with the roles that he holds. A lock after wrong passwords ends.")


def _switched_on(row: AdministratorRow) -> str:
    administrators.activate(session.context(), row.id)
    return f"Administrator {row.login} is active."


def _role_add(row: AdministratorRow) -> None:
    components.strong(row.login)
    forms.role_form(None)


def _role_added(row: AdministratorRow) -> str:
    roles.grant(session.context(), row.id, forms.typed_role())
    return f"A role was given to {row.login}."


def _role_edit(about: tuple[AdministratorRow, RoleRow]) -> None:
    row, role = about
    components.strong(row.login)
    forms.role_form(role)


def _role_edited(about: tuple[AdministratorRow, RoleRow]) -> str:
    row, role = about
    roles.grant(session.context(), row.id, forms.typed_role(), instead_of=role)
    return f"A role of {row.login} was changed."


def _role_removal(about: tuple[AdministratorRow, RoleRow]) -> None:
    row, role = about
    components.strong(row.login)
    st.text(str(role))
    st.caption("It holds at once, also in browsers in which he is signed in. What he did stays.")


def _role_removed(about: tuple[AdministratorRow, RoleRow]) -> str:
    row, role = about
    roles.withdraw(session.context(), row.id, role)
    return f"A role of {row.login} was taken away."
