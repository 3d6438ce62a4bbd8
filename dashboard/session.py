"""Who is signed in. The browser's cookie is asked about on every run, so that a session that has ended in whatever way
ends here too: in every tab, with all that was kept in it."""

from __future__ import annotations

from datetime import timedelta

import streamlit as st

from dashboard.bridge import bridge
from dashboard.web.cookies import cookies_of
from model.errors import CertgateError
from model.rules.permissions import visible
from model.states import AccessMethod, Privilege
from operations import sessions
from operations.context import Context, now

_BEGUN = "session"
_FAREWELL = "farewell"


class SessionEnded(CertgateError):
    """Nobody is signed in any more; the sentence says why."""


def presented() -> str | None:
    """The token that the browser sent along when it connected."""
    return st.context.cookies.get(cookies_of(bridge().door.settings.dashboard).session)


def context() -> Context:
    """Who acts, with today's rights. Raises `SessionEnded`."""
    token, door = presented(), bridge().door
    if token is None:
        raise SessionEnded("Please sign in.")
    idle = timedelta(minutes=door.settings.dashboard.idle_minutes)
    try:
        recognized = sessions.recognize(door.database, token, idle, now())
    except sessions.SessionOver as over:
        raise SessionEnded(over.message) from over
    if st.session_state.get(_BEGUN, recognized.id) != recognized.id:
        # This tab was somebody else's, or belonged to an earlier session: nothing of that stays.
        st.session_state.clear()
        st.session_state[_BEGUN] = recognized.id
        st.rerun()
    st.session_state[_BEGUN] = recognized.id
    return door.context(recognized.actor, AccessMethod.DASHBOARD)


def number() -> int | None:
    """The number of this browser's session."""
    found = st.session_state.get(_BEGUN)
    return found if isinstance(found, int) else None


def sign_out() -> None:
    """End the session; nothing that was seen in it stays."""
    token = presented()
    if token is not None:
        sessions.sign_out(bridge().door.database, token, now())
    st.session_state.clear()


def end(why: str) -> None:
    """Forget all that was seen; the next run says why and leads to the sign-in page."""
    st.session_state.clear()
    st.session_state[_FAREWELL] = why


def farewell() -> str | None:
    """Why the session has ended, if `end` was told."""
    return st.session_state.get(_FAREWELL)


def holds(acting: Context, privilege: Privilege) -> bool:
    """Whether the actor has the privilege anywhere, so that the page for it is worth showing."""
    held = visible(grant for grant in acting.actor.grants if grant.allows(privilege))
    return bool(held.everything or held.organizations or held.departments)
