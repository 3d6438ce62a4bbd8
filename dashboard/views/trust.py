"""Trusted CA certificates: the roots that chains must end at, and the intermediates that complete them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

import streamlit as st

from dashboard import chains, components, dialogs, session, shelf, tables, words
from dashboard.components import zone
from dashboard.dialogs import Dialog
from dashboard.words import Look
from model.errors import InvalidInput
from operations import trust
from operations.context import now
from operations.requests import describe_certificate
from operations.trust import TrustRow, TrustUses

_TABLE = "trust"
_PEM, _FILE = "trust-pem", "trust-file"
_SOON = timedelta(days=90)
# Certificates of CAs are far smaller, also a hundred of them.
_LARGEST_MB = 1

_VALIDITY = {
    "valid": Look("Valid", "green", "verified", "It is good for more than 90 days."),
    "soon": Look("Ends soon", "orange", "event_upcoming", "It ends within 90 days."),
    "ended": Look("Ended", "red", "event_busy", "No chain that needs it is accepted any more."),
    "future": Look("Not yet valid", "violet", "schedule", "Its time has not come."),
}


def show() -> None:
    """Draw the page."""
    context = session.context()
    owner = context.actor.owns_everything
    shelf.head("Trusted CA certificates", "Add certificates" if owner else None, "trust-add")
    rows, uses = trust.listing(context), trust.uses(context)
    found = shelf.searched("t-q", "Search by subject or fingerprint", rows, lambda row: f"{row.subject}\n{_pairs(row)}")
    if found:
        bar = shelf.bar()
        chosen = _table(found, uses)
        hint = ":material/arrow_selector_tool: Select a certificate to see it whole."
        row = shelf.selection(bar, found, chosen, hint, lambda row: _selected(row, owner))
        if row is not None:
            _details(row, uses.get(row.id, TrustUses()))
    elif rows:
        shelf.empty("search_off", "No CA certificate matches", "A fingerprint may be typed with or without colons.")
    else:
        shelf.empty(
            "account_balance",
            "No CA certificate is trusted",
            "Without a root no certificate is accepted. A private CA that is added brings its own.",
        )
    dialogs.show(
        {
            "trust-add": Dialog("Trust CA certificates", "Add", _form, _added, "add", "medium"),
            "trust-remove": Dialog("Trust this no longer?", "Remove", _removal, _removed, "delete"),
        }
    )


def _pairs(row: TrustRow) -> str:
    return f"{row.fingerprint}\n{words.grouped(row.fingerprint)}"


def validity(row: TrustRow, moment: datetime) -> str:
    """Which of the four it is at a time."""
    if row.not_after <= moment:
        return "ended"
    if row.not_before > moment:
        return "future"
    return "soon" if row.not_after <= moment + _SOON else "valid"


def _kind(row: TrustRow) -> str:
    return "Root" if row.is_root else "Intermediate"


def _table(rows: Sequence[TrustRow], uses: Mapping[int, TrustUses]) -> int | None:
    moment = now()
    return tables.table(
        _TABLE,
        [row.id for row in rows],
        {
            "Subject": [row.subject for row in rows],
            "Kind": [_kind(row) for row in rows],
            "Validity": [[_VALIDITY[validity(row, moment)].words] for row in rows],
            "Valid until": [row.not_after for row in rows],
            "Remaining": [words.ago(row.not_after, moment).removeprefix("in ") for row in rows],
            "Used by CA": [words.enumerated(uses.get(row.id, TrustUses()).authorities) or None for row in rows],
            "Fingerprint": [words.grouped(row.fingerprint) for row in rows],
        },
        {
            "Subject": st.column_config.TextColumn(width=330),
            "Kind": st.column_config.TextColumn(width=100),
            "Validity": tables.states("Validity", _VALIDITY, 110),
            "Valid until": st.column_config.DatetimeColumn(width=140, format="YYYY-MM-DD HH:mm", timezone=str(zone())),
            "Remaining": st.column_config.TextColumn(width=110),
            "Used by CA": st.column_config.TextColumn(width=150),
            "Fingerprint": st.column_config.TextColumn(width=250),
        },
        alt="Trusted CA certificates",
    )


def _selected(row: TrustRow, owner: bool) -> None:
    components.strong(row.subject)
    _, pem = trust.show(session.context(), row.fingerprint)
    with st.container(horizontal=True, width="content", gap="small"):
        st.download_button(
            "Download PEM", pem, file_name=f"ca-{row.fingerprint[:16]}.pem", mime="application/x-pem-file",
            icon=":material/download:", key="download", on_click="ignore",
        )  # fmt: skip
        if owner:
            shelf.offer("Remove", "delete", "trust-remove", row)


def _details(row: TrustRow, uses: TrustUses) -> None:
    _, pem = trust.show(session.context(), row.fingerprint)
    with st.container(key="details"):
        chains.card(describe_certificate(pem), "Root: chains end here" if row.is_root else "Intermediate")
        components.facts(
            [
                ("CAs whose newest certificate leads through it", ", ".join(uses.authorities) or "none"),
                ("Trusted CA certificates that it signed", "\n".join(uses.signed) or "none"),
            ]
        )


def _form(_: object) -> None:
    st.file_uploader(
        "Files, PEM or DER", key=_FILE, accept_multiple_files=True, max_upload_size=_LARGEST_MB,
        type=["pem", "crt", "cer", "der", "txt"],
    )  # fmt: skip
    st.text_area(
        "Or PEM text, one or more certificates", key=_PEM, height=160, max_chars=200_000,
        placeholder="-----BEGIN CERTIFICATE-----\n…",
    )  # fmt: skip
    st.caption(
        "Self-signed certificates are trusted as roots: whatever they sign is accepted from then on. Others complete "
        "chains and are trusted only as far as a root goes. Compare the fingerprint with what the CA publishes."
    )


def _added(_: object) -> str:
    contents: list[bytes] = [one.getvalue() for one in st.session_state.get(_FILE) or []]
    if pem := dialogs.value(_PEM):
        contents.append(pem.encode())
    if not contents:
        raise InvalidInput("Choose a file, or paste a certificate.")
    context = session.context()
    before = {row.id for row in trust.listing(context)}
    kept = {row.id: row for row in trust.add(context, *contents)}
    new = [row.subject for number, row in kept.items() if number not in before]
    if not new:
        return "All of them were trusted already."
    return f"Trusted now: {words.enumerated(new)}."


def _removal(row: TrustRow) -> None:
    components.strong(row.subject)
    components.quiet(f"{_kind(row)} · {words.grouped(row.fingerprint)}")
    uses = trust.uses(session.context()).get(row.id, TrustUses())
    if uses.authorities:
        components.warning(
            f"New certificates of {words.enumerated(uses.authorities)} lead through it: they will be refused, unless "
            "another way to a trusted root is there."
        )
    if uses.signed and row.is_root:
        components.warning(f"These lead to no root any more: {words.enumerated(uses.signed)}.")
    if not uses.authorities and not uses.signed:
        st.caption("Nothing that is known here leads through it.")
    st.caption("Certificates that are installed stay where they are.")


def _removed(row: TrustRow) -> str:
    gone = trust.remove(session.context(), row.fingerprint)
    tables.unchoose(_TABLE)
    return f"{gone.subject} is trusted no longer."
