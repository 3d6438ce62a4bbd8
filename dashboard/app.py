"""The dashboard's script: Streamlit runs it on every interaction. Start it with ``python -m dashboard``."""

from __future__ import annotations

import streamlit as st

from dashboard import bell, components, navigation, places, session
from dashboard.guard import guarded
from dashboard.web import addresses
from model.errors import CertgateError
from operations.context import Context


def _account(acting: Context) -> None:
    actor = acting.actor
    with st.sidebar.container(key="account"):
        components.strong(actor.full_name or actor.login)
        components.quiet(
            f"{actor.login} · {', '.join(sorted({str(grant.role) for grant in actor.grants}) or ['no role'])}"
        )
        places.link(places.ACCOUNT, "My account", "manage_accounts")
        if st.button("Sign out", icon=":material/logout:", key="sign-out", width="stretch"):
            session.sign_out()
            st.rerun()


def _leave(why: str) -> None:
    """Nobody is signed in: the browser goes to the sign-in page, which is none of Streamlit's."""
    with st.container(key="farewell"):
        st.title("Signed out", anchor=False)
        components.notice("info", why)
        st.link_button("Sign in", addresses.SIGN_IN, icon=":material/login:")
    st.logout()


def main() -> None:
    """One run."""
    st.set_page_config(page_title="certgate", page_icon=str(components.MARK), layout="wide")
    components.dress()
    acting, why = None, ""
    try:
        acting = session.context()
    except session.SessionEnded as ended:
        why = session.farewell() or ended.message
    except CertgateError as error:
        components.warning(error.message)
        return
    pages = navigation.pages(acting)
    page = st.navigation(pages, position="sidebar" if acting else "hidden", expanded=True)
    if acting is None:
        _leave(why)
        return
    st.set_page_config(page_title=f"{page.title} · certgate")
    places.remember([one for section in pages.values() for one in section])
    bell.show(acting)
    _account(acting)
    with guarded():
        page.run()


main()
