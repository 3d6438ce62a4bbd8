"""The dashboard's script: Streamlit runs it on every interaction. Start it with ``python -m dashboard``."""

from __future__ import annotations

import streamlit as st

from dashboard import components, navigation, places, session
from dashboard.guard import guarded
from dashboard.views import sign_in
from operations.context import Context


def _account(acting: Context) -> None:
    actor = acting.actor
    with st.sidebar.container(key="account"):
        components.strong(actor.full_name or actor.login)
        components.quiet(
            f"{actor.login} · {', '.join(sorted({str(grant.role) for grant in actor.grants}) or ['no role'])}"
        )
        if st.button("Sign out", icon=":material/logout:", key="sign-out", width="stretch"):
            session.sign_out()
            st.rerun()


def main() -> None:
    """One run."""
    st.set_page_config(page_title="certgate", page_icon=":material/shield_lock:", layout="wide")
    components.dress()
    acting = None
    if session.signed_in():
        with guarded():
            acting = session.context()
    pages = navigation.pages(acting)
    page = st.navigation(pages, position="sidebar" if acting else "hidden")
    if acting is None:
        if not session.signed_in():
            sign_in.show()
        return
    st.set_page_config(page_title=f"{page.title} · certgate")
    places.remember([one for section in pages.values() for one in section])
    _account(acting)
    with guarded():
        page.run()


main()
