"""The dialog that proves that nothing of the audit trail was changed, added or taken away."""

from __future__ import annotations

import re

import streamlit as st

from dashboard import components, guard, session
from model.audit import Check, Known
from model.errors import InvalidInput
from operations import audit_trail

_TYPED = "audit-noted"
_OPENED = "audit-verify-open"
_CHECK = "audit-check"
_NOTED = re.compile(r"\s*(\d{1,10})\s*:\s*([0-9a-f]{64})\s*", re.IGNORECASE)


def show() -> None:
    """Draw the dialog if it is open."""
    if st.session_state.get(_OPENED):
        st.dialog("Verify the audit trail", on_dismiss=_close, width="medium")(_verify)()


def ask() -> None:
    """Open the dialog, at the next run."""
    st.session_state[_OPENED] = True
    st.session_state.pop(_CHECK, None)


def _close() -> None:
    st.session_state.pop(_OPENED, None)


def _verify() -> None:
    st.caption(
        "All hashes are calculated anew: a changed, inserted or deleted entry is found, wherever it is. Whoever could "
        "write to the database past its guards could calculate all of them anew as well; an entry that was noted "
        "elsewhere tells that, too."
    )
    st.text_input(
        "An entry that was noted (not needed)", key=_TYPED, placeholder="number:hash", max_chars=90,
        autocomplete="off",
    )  # fmt: skip
    pressed = st.button("Verify now", type="primary", icon=":material/verified_user:", key="verify-now")
    with guard.guarded():
        if pressed:
            st.session_state[_CHECK] = _checked(_noted(str(st.session_state.get(_TYPED) or "")))
        check = st.session_state.get(_CHECK)
        if isinstance(check, Check):
            _tell(check)


def _checked(known: Known | None) -> Check:
    bar = st.progress(0.0, "Reading …")

    def progress(done: int, of: int) -> None:
        bar.progress(min(done / of, 1.0) if of else 1.0, f"{done:,} of {of:,} entries")

    try:
        return audit_trail.verify(session.context(), known, progress)
    finally:
        bar.empty()


def _noted(typed: str) -> Known | None:
    if not typed.strip():
        return None
    match = _NOTED.fullmatch(typed)
    if match is None:
        raise InvalidInput("A noted entry is its number, a colon and its hash, as this page shows them after a check.")
    return Known(int(match[1]), match[2].lower())


def _tell(check: Check) -> None:
    if check.finding is not None:
        components.error(f"The audit trail is broken: {check.finding.problem}.")
        components.quiet(f"{check.entries:,} entries before it are as they were written.")
        return
    components.notice(
        "success", f"The audit trail is whole: {check.entries:,} entries, none changed, added or missing."
    )
    if check.entries:
        components.copyable("Note this elsewhere, for the next check:", f"{check.entries}:{check.head}")
