"""The sign-in form: the only thing that is shown to whoever is not signed in."""

from __future__ import annotations

import streamlit as st

from dashboard import components, session
from dashboard.guard import guarded


def show() -> None:
    """The form. The address stays as it is, so that a deep link is followed after signing in."""
    _, middle, _ = st.columns([1, 1.1, 1])
    with middle, st.container(key="sign-in"):
        st.title("Sign in", anchor=False)
        if why := session.farewell():
            components.notice("info", why)
        with st.form("sign-in-form", border=True):
            st.text_input("Login", key="login", autocomplete="username", max_chars=64)
            st.text_input("Password", key="password", type="password", autocomplete="current-password", max_chars=1024)
            sent = st.form_submit_button("Sign in", type="primary", width="stretch")
        if sent:
            with guarded():
                login, password = str(st.session_state["login"] or ""), str(st.session_state["password"] or "")
                session.sign_in(login.strip(), password)
                st.rerun()
        st.caption("The first login was printed once by `certgate up`.")
