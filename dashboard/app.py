"""The dashboard's script: Streamlit runs it on every interaction. Start it with ``python -m dashboard``."""

from __future__ import annotations

import streamlit as st
from streamlit.navigation.page import StreamlitPage

from dashboard import components, places, session
from dashboard.guard import guarded
from dashboard.views import certificate, certificates, new_request, request, requests, sign_in
from model.states import Privilege
from operations.context import Context


def _pages(acting: Context | None) -> list[StreamlitPage]:
    """The pages for whoever acts. All of them while nobody is signed in, so that a deep link outlives the sign-in; what
    is drawn then is the sign-in form."""
    pages = [
        st.Page(requests.show, title="Requests", icon=":material/inbox:", url_path=places.REQUESTS, default=True),
        st.Page(request.show, title="Request", url_path=places.REQUEST, visibility="hidden"),
        st.Page(certificates.show, title="Certificates", icon=":material/verified:", url_path=places.CERTIFICATES),
        st.Page(certificate.show, title="Certificate", url_path=places.CERTIFICATE, visibility="hidden"),
    ]
    if acting is None or session.holds(acting, Privilege.REQUEST):
        pages.insert(
            1, st.Page(new_request.show, title="New request", icon=":material/add_circle:", url_path=places.NEW_REQUEST)
        )
    return pages


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
    pages = _pages(acting)
    page = st.navigation(pages, position="sidebar" if acting else "hidden")
    if acting is None:
        if not session.signed_in():
            sign_in.show()
        return
    st.set_page_config(page_title=f"{page.title} · certgate")
    places.remember(pages)
    _account(acting)
    with guarded():
        page.run()


main()
