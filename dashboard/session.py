"""Who is signed in. Asked of the records on every run, so that a deactivated account's session ends."""

from __future__ import annotations

import streamlit as st

from dashboard.bridge import bridge
from model.errors import CertgateError, NotPermitted
from model.rules.permissions import visible
from model.states import AccessMethod, Privilege
from operations import identity
from operations.context import Context, now

_WHO = "administrator_id"
_FAREWELL = "farewell"


class SessionEnded(CertgateError):
    """Nobody is signed in any more; the sentence says why."""


def sign_in(login: str, password: str) -> None:
    """Begin a session. Raises `NotPermitted` with the sentence to show."""
    actor = identity.sign_in(bridge().door.database, login, password, now())
    st.session_state.clear()
    st.session_state[_WHO] = actor.id


def sign_out() -> None:
    """End the session; nothing that was seen in it stays."""
    st.session_state.clear()


def end(why: str) -> None:
    """End the session; the sign-in page tells the reason at the next run."""
    st.session_state.clear()
    st.session_state[_FAREWELL] = why


def farewell() -> str | None:
    """Why the last session ended, to be told on the sign-in page."""
    return st.session_state.get(_FAREWELL)


def signed_in() -> bool:
    """Whether a session was begun; `context` tells whether it still holds."""
    return _WHO in st.session_state


def context() -> Context:
    """Who acts, with today's rights. Raises `SessionEnded`."""
    if not signed_in():
        raise SessionEnded("Please sign in.")
    door = bridge().door
    try:
        actor = identity.recognize(door.database, st.session_state[_WHO])
    except NotPermitted as ended:
        raise SessionEnded(ended.message) from ended
    return door.context(actor, AccessMethod.DASHBOARD)


def holds(acting: Context, privilege: Privilege) -> bool:
    """Whether the actor has the privilege anywhere, so that the page for it is worth showing."""
    held = visible(grant for grant in acting.actor.grants if grant.allows(privilege))
    return bool(held.everything or held.organizations or held.departments)
