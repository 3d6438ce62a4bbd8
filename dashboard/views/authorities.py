"""Certificate authorities: which there are, whether they answer, and their connectors' own settings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, cast

import streamlit as st
from pydantic import BaseModel

from connectors import registry
from connectors.errors import Permanent
from dashboard import actions, components, dialogs, forms, guard, session, shelf, tables
from dashboard.bridge import bridge
from dashboard.dialogs import Dialog
from dashboard.words import Look
from model.errors import InvalidInput
from operations import authorities
from operations.authorities import AuthorityRow, NewAuthority

_TABLE = "authorities"
_NAME, _TYPE, _PUBLIC, _FROM, _ACTIVE = "ca-name", "ca-type", "ca-public", "ca-from", "ca-active"
_STATES = {
    True: Look("In use", "green", "check_circle", "Profiles may name it."),
    False: Look("Switched off", "gray", "block", "Nothing is ordered from it."),
}
_REACHED = {"manager": "From the manager", "gateway": "From gateways only"}


def show() -> None:
    """Draw the page."""
    context = session.context()
    owner = context.actor.owns_everything
    shelf.head("Certificate authorities", "Add CA" if owner else None, "ca-add")
    rows = authorities.listing(context)
    found = shelf.searched("ca-q", "Search by name or type", rows, lambda row: f"{row.name}\n{row.type}")
    if found:
        bar = shelf.bar()
        chosen = _table(found)
        hint = ":material/arrow_selector_tool: Select a CA to check or change it."
        row = shelf.selection(bar, found, chosen, hint, lambda row: _selected(row, owner))
        if owner:
            shelf.facts_below(row, _facts)
    elif rows:
        shelf.empty("search_off", "No CA matches", "Type less, or something else.")
    else:
        shelf.empty("account_balance", "No certificate authorities", "Somebody has to issue: add one.")
    dialogs.show(
        {
            "ca-add": Dialog("Add a certificate authority", "Add", _new, _added, "add", "large"),
            "ca-edit": Dialog("Edit this certificate authority", "Save", _form, _edited, "save", "large"),
            "ca-remove": Dialog("Remove this certificate authority?", "Remove", _removal, _removed, "delete"),
        }
    )


def _settings(type_name: str) -> type[BaseModel]:
    """The connector's own settings model. Raises `InvalidInput` for a type that is not installed here."""
    try:
        model: type[BaseModel] = registry.find("cas", type_name).settings
    except Permanent as error:
        raise InvalidInput(error.message) from None
    return model


def _table(rows: Sequence[AuthorityRow]) -> int | None:
    titles = authorities.types()
    return tables.table(
        _TABLE,
        [row.id for row in rows],
        {
            "No.": [row.id for row in rows],
            "Name": [row.name for row in rows],
            "Type": [titles.get(row.type, row.type) for row in rows],
            "State": [[_STATES[row.active].words] for row in rows],
            "Private": [row.is_private for row in rows],
            "Reached": [_REACHED.get(row.reached_from, row.reached_from) for row in rows],
        },
        {
            "No.": st.column_config.NumberColumn(width=60, format="%d"),
            "Name": st.column_config.TextColumn(width=260),
            "Type": st.column_config.TextColumn(width=260),
            "State": tables.states("State", _STATES, 130),
            "Private": st.column_config.CheckboxColumn(width=90),
            "Reached": st.column_config.TextColumn(width=180),
        },
        alt="Certificate authorities",
    )


def _selected(row: AuthorityRow, owner: bool) -> None:
    components.strong(row.name)
    if not owner:
        return
    with st.container(horizontal=True, width="content", gap="small"):
        if st.button("Check", icon=":material/network_check:", key="check"):
            _check(row)
        shelf.offer("Edit", "edit", "ca-edit", row)
        shelf.offer("Remove", "delete", "ca-remove", row)


def _check(row: AuthorityRow) -> None:
    """Ask the CA whether it can be used; nothing is ordered."""
    with guard.guarded(lambda text: actions.tell("error", text)), st.spinner("Asking the CA …"):
        health = bridge().run(authorities.check(session.context(), row.id, bridge().surroundings))
        actions.tell("success" if health.usable else "error", f"{row.name}: {health.message}")
    st.rerun()


def _facts(row: AuthorityRow) -> list[tuple[str, str | None]]:
    pairs: list[tuple[str, str | None]] = [("Type", authorities.types().get(row.type, row.type))]
    known = [field for field in forms.fields(_settings(row.type)) if field.name in row.settings]
    pairs += [(field.label, forms.shown(row.settings[field.name])) for field in known]
    return pairs if len(pairs) > 1 else [*pairs, ("Settings", "all at their defaults")]


def _new(_: object) -> None:
    types = authorities.types()
    left, right = st.columns(2)
    left.text_input("Name", key=_NAME, max_chars=128, autocomplete="off")
    right.selectbox("Type", list(types), format_func=lambda name: types[name], key=_TYPE)
    left.selectbox("Reached", list(_REACHED), format_func=lambda name: _REACHED[name], key=_FROM)
    right.checkbox(
        "Public: its roots are in every browser already", key=_PUBLIC,
        help="The roots of a private CA are trusted from then on, if it can show them.",
    )  # fmt: skip
    chosen = st.session_state.get(_TYPE)
    if chosen:
        st.subheader("Settings", anchor=False)
        st.caption(
            "Left alone they stay at their defaults. A credential is a reference such as file:/etc/certgate/key."
        )
        forms.draw(_settings(str(chosen)), f"ca-new-{chosen}")


def _added(_: object) -> str:
    chosen = dialogs.value(_TYPE)
    if not chosen:
        raise InvalidInput("Choose the type of the CA.")
    new = NewAuthority(
        name=dialogs.value(_NAME),
        type=chosen,
        settings=forms.words(_settings(chosen), f"ca-new-{chosen}"),
        reached_from=_from(),
        is_private=not st.session_state.get(_PUBLIC),
    )
    row = bridge().run(authorities.add(session.context(), new, bridge().surroundings))
    return f"CA {row.name} was added."


def _form(row: AuthorityRow) -> None:
    components.strong(row.name)
    left, right = st.columns(2, vertical_alignment="bottom")
    reached = list(_REACHED)
    left.selectbox(
        "Reached", reached, index=reached.index(row.reached_from), format_func=lambda name: _REACHED[name], key=_FROM
    )
    right.checkbox(
        "In use", value=row.active, key=_ACTIVE,
        help="Switched off, nothing new is ordered; orders that are open are still collected.",
    )  # fmt: skip
    st.subheader("Settings", anchor=False)
    forms.draw(_settings(row.type), f"ca-edit-{row.id}", row.settings)


def _edited(row: AuthorityRow) -> str:
    now = authorities.edit(
        session.context(),
        row.id,
        settings=forms.words(_settings(row.type), f"ca-edit-{row.id}", cleared=True),
        reached_from=_from(),
        active=bool(st.session_state.get(_ACTIVE)),
        seen=row,
    )
    return f"CA {now.name} was saved."


def _from() -> Literal["manager", "gateway"]:
    return cast(Literal["manager", "gateway"], st.session_state.get(_FROM) or "manager")


def _removal(row: AuthorityRow) -> None:
    components.strong(row.name)
    st.caption(
        "Nothing is ordered from it any more. A CA that a profile or a request names stays: switch it off instead. "
        "Its certificates and its trusted roots stay."
    )


def _removed(row: AuthorityRow) -> str:
    authorities.remove(session.context(), row.id)
    tables.unchoose(_TABLE)
    return f"CA {row.name} was removed."
