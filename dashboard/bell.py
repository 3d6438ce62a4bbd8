"""How many notifications are new, in the side bar of every page."""

from __future__ import annotations

from datetime import timedelta

import streamlit as st

from dashboard import guard, places, session
from operations import notifications
from operations.context import Context

_LOOK_AGAIN = timedelta(seconds=30)
_ACTING = "bell-acting"


def show(acting: Context) -> None:
    """The way to the notifications, with the number of new ones; it looks for more by itself."""
    # In the run that draws the page it is known who acts; later looks ask again.
    st.session_state[_ACTING] = acting
    with st.sidebar:
        _bell()


@st.fragment(run_every=_LOOK_AGAIN)
def _bell() -> None:
    with guard.guarded(lambda _: None):
        count = notifications.unseen(st.session_state.pop(_ACTING, None) or session.context())
        if not count:
            places.link(places.NOTIFICATIONS, "Notifications", "notifications")
            return
        shown = f"{notifications.MOST_COUNTED - 1}+" if count >= notifications.MOST_COUNTED else str(count)
        places.link(places.NOTIFICATIONS, f"Notifications :red-badge[{shown} new]", "notifications_active")
