"""What is asked about a certificate authority before it is added, changed, checked or removed."""

from __future__ import annotations

from datetime import timedelta
from typing import Literal, cast

import streamlit as st
from pydantic import BaseModel

from connectors import registry
from connectors.ca.contract import Health
from connectors.errors import Permanent
from dashboard import components, dialogs, forms, session
from dashboard.bridge import bridge
from dashboard.dialogs import Dialog
from model.errors import InvalidInput
from operations import authorities
from operations.authorities import AuthorityRow, NewAuthority

_NAME, _TYPE, _PUBLIC, _FROM, _ACTIVE = "ca-name", "ca-type", "ca-public", "ca-from", "ca-active"
# A gateway that is away is waited for half a minute, and a CA may be slow.
_CA_PATIENCE = timedelta(seconds=60)
REACHED = {"manager": "From the manager", "gateway": "From gateways only"}


def changes() -> dict[str, Dialog]:
    """The dialogs about a CA that is there."""
    return {
        "ca-edit": Dialog("Edit this certificate authority", "Save", _form, _edited, "save", "large"),
        "ca-remove": Dialog("Remove this certificate authority?", "Remove", _removal, _removed, "delete"),
    }


def additions() -> dict[str, Dialog]:
    """The dialog that adds one."""
    return {"ca-add": Dialog("Add a certificate authority", "Add", _new, _added, "add", "large")}


def check(row: AuthorityRow, gateway: str | None = None) -> Health:
    """Ask the CA whether it can be used, from here or by a gateway; nothing is ordered. Raises `CertgateError`."""
    with st.spinner("Asking the CA …"):
        return bridge().run(authorities.check(session.context(), row.id, bridge().surroundings, gateway), _CA_PATIENCE)


def settings(type_name: str) -> type[BaseModel]:
    """The connector's own settings model. Raises `InvalidInput` for a type that is not installed here."""
    try:
        model: type[BaseModel] = registry.find("cas", type_name).settings
    except Permanent as error:
        raise InvalidInput(error.message) from None
    return model


def _new(_: object) -> None:
    types = authorities.types()
    left, right = st.columns(2)
    left.text_input("Name", key=_NAME, max_chars=128, autocomplete="off")
    names = list(types)
    first = names.index("private") if "private" in names else 0
    right.selectbox("Type", names, index=first, format_func=lambda name: types[name], key=_TYPE)
    left.selectbox("Reached", list(REACHED), format_func=lambda name: REACHED[name], key=_FROM)
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
        forms.draw(settings(str(chosen)), f"ca-new-{chosen}")


def _added(_: object) -> str:
    chosen = dialogs.value(_TYPE)
    if not chosen:
        raise InvalidInput("Choose the type of the CA.")
    new = NewAuthority(
        name=dialogs.value(_NAME),
        type=chosen,
        settings=forms.words(settings(chosen), f"ca-new-{chosen}"),
        reached_from=_from(),
        is_private=not st.session_state.get(_PUBLIC),
    )
    row = bridge().run(authorities.add(session.context(), new, bridge().surroundings))
    return f"CA {row.name} was added."


def _form(row: AuthorityRow) -> None:
    components.strong(row.name)
    left, right = st.columns(2, vertical_alignment="bottom")
    reached = list(REACHED)
    left.selectbox(
        "Reached", reached, index=reached.index(row.reached_from), format_func=lambda name: REACHED[name], key=_FROM
    )
    right.checkbox(
        "In use", value=row.active, key=_ACTIVE,
        help="Switched off, nothing new is ordered; orders that are open are still collected.",
    )  # fmt: skip
    st.subheader("Settings", anchor=False)
    forms.draw(settings(row.type), f"ca-edit-{row.id}", row.settings)


def _edited(row: AuthorityRow) -> str:
    now = authorities.edit(
        session.context(),
        row.id,
        settings=forms.words(settings(row.type), f"ca-edit-{row.id}", cleared=True),
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
    return f"CA {row.name} was removed."
