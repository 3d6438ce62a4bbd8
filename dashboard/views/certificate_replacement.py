"""The dialog that replaces a certificate before its time."""

from __future__ import annotations

import streamlit as st

from connectors.ca.contract import RevocationReason
from dashboard import components, dialogs, session, words
from dashboard.bridge import bridge
from dashboard.components import zone
from dashboard.dialogs import Dialog
from operations import certificates, profiles
from operations.replacement import LONGEST_REASON, Replacement, replace

ASK = "replace-certificate"
REASONS = {
    RevocationReason.UNSPECIFIED: "Unspecified",
    RevocationReason.KEY_COMPROMISE: "The private key was compromised",
    RevocationReason.AFFILIATION_CHANGED: "The affiliation has changed",
    RevocationReason.SUPERSEDED: "It was superseded by another certificate",
    RevocationReason.CESSATION_OF_OPERATION: "What it was for no longer operates",
}
_SAME_PROFILE = "As it is"


def _body(certificate_id: int) -> bool:
    context = session.context()
    detail = certificates.show(context, certificate_id)
    row = detail.row
    components.strong(f"Certificate {row.id}: {row.common_name}")
    components.facts(
        [
            ("Names, which stay", ", ".join(detail.chain[0].names)),
            ("Organization", row.organization),
            ("CA", detail.order.ca),
            ("Valid until", words.when(row.not_after, zone())),
            ("Installed on", f"{row.endpoint}, {row.binding}" if row.endpoint else "nothing"),
        ]
    )
    st.caption("A request is made for another certificate; once it is served, it has taken the place of this one.")
    st.text_input("Reason (optional), told to the CA", max_chars=LONGEST_REASON, key="replace-reason")
    st.checkbox("Make a new key", value=True, key="replace-new-key")
    named = [one.name for one in profiles.listing(context)]
    st.selectbox(
        "Profile",
        [_SAME_PROFILE, *named],
        key="replace-profile",
        help="Another profile brings its CA and its key algorithm.",
    )
    if detail.may_revoke and st.checkbox("Revoke this certificate once the new one is served", key="replace-revoke"):
        st.selectbox("Reason of revocation", list(REASONS.values()), index=3, key="replace-revocation")
        st.caption("A revocation can't be taken back.")
    return True


def _perform(certificate_id: int) -> str:
    revoking = bool(st.session_state.get("replace-revoke"))
    chosen = st.session_state.get("replace-revocation")
    reason = next((str(word) for word, shown in REASONS.items() if shown == chosen), str(RevocationReason.SUPERSEDED))
    profile = st.session_state.get("replace-profile")
    wanted = Replacement(
        reason=dialogs.value("replace-reason"),
        new_key=bool(st.session_state.get("replace-new-key")),
        profile=None if profile in (None, _SAME_PROFILE) else str(profile),
        revocation_reason=reason if revoking else None,
    )
    number = bridge().run(replace(session.context(), certificate_id, wanted))
    return f"Certificate {certificate_id} is being replaced by request {number}."


DIALOG = Dialog("Replace this certificate?", "Replace", _body, _perform, icon="published_with_changes")
