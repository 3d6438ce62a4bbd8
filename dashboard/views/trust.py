"""Trusted CA certificates: the roots that chains must end at, and the intermediates that complete them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import streamlit as st

from dashboard import chains, components, dialogs, places, session, shelf, tables, words
from dashboard.bridge import bridge
from dashboard.components import seat, zone
from dashboard.dialogs import Dialog
from dashboard.words import Look
from model.errors import CertgateError, InvalidInput
from operations import trust, trust_expiry
from operations.context import now
from operations.requests import describe_certificate
from operations.trust import TrustRow, TrustUses

_TABLE = "trust"
_PEM, _FILE, _URL = "trust-pem", "trust-file", "trust-url"
# What was fetched (PEM texts) and why nothing could be, while the dialog is open.
_FETCHED, _PROBLEM = "trust-fetched", "trust-problem"
_MOST_LINKS, _MOST_WARNINGS = 10, 3
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
    _waiting(owner)
    _ending()
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
            "trust-add": Dialog("Trust CA certificates", "Add", _form, _added, "add", "large"),
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
            "Subject": st.column_config.TextColumn(width=300),
            "Kind": st.column_config.TextColumn(width=95),
            "Validity": tables.states("Validity", _VALIDITY, 110),
            "Valid until": st.column_config.DatetimeColumn(width=140, format="YYYY-MM-DD HH:mm", timezone=str(zone())),
            "Remaining": st.column_config.TextColumn(width=110),
            "Used by CA": st.column_config.TextColumn(width=120),
            "Fingerprint": st.column_config.TextColumn(width=160),
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
                ("Certificates in use that lead through it", f"{uses.in_use:,}"),
            ]
        )


def _form(_: object) -> None:
    st.file_uploader(
        "Files: PEM, DER or PKCS#7", key=_FILE, accept_multiple_files=True, max_upload_size=_LARGEST_MB,
        type=["pem", "crt", "cer", "der", "p7b", "p7c", "txt"],
    )  # fmt: skip
    st.text_area(
        "Or PEM text, one or more certificates", key=_PEM, height=110, max_chars=200_000,
        placeholder="-----BEGIN CERTIFICATE-----\n…",
    )  # fmt: skip
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.text_input(
            "Or the address of the issuer's certificate", key=_URL, max_chars=1000, autocomplete="off",
            placeholder="http://ca.example.com/issuer.p7c",
            help="Certificates name it as caIssuers. What is there is only shown; you decide whether it is trusted.",
        )  # fmt: skip
        if st.button("Fetch", icon=":material/download:", key="trust-fetch"):
            _fetch()
    if problem := _of_this_dialog(_PROBLEM):
        components.error(problem)
    _preview()
    st.caption(
        "Self-signed certificates are trusted as roots: whatever they sign is accepted from then on. Others complete "
        "chains and are trusted only as far as a root goes. Compare the fingerprint with what the CA publishes."
    )


def _fetch() -> None:
    """Bring what the address gives, to be looked at."""
    st.session_state.pop(_PROBLEM, None)
    st.session_state.pop(_FETCHED, None)
    networks = bridge().door.settings.trust.fetch_networks
    try:
        with st.spinner("Asking the address …"):
            found = bridge().run(trust.fetch(session.context(), dialogs.value(_URL), networks), timedelta(seconds=60))
    except CertgateError as error:
        st.session_state[_PROBLEM] = (dialogs.turn(), error.message)
        return
    st.session_state[_FETCHED] = (dialogs.turn(), [one.pem for one in found])


def _contents() -> list[bytes]:
    """What was chosen, typed or fetched."""
    contents: list[bytes] = [one.getvalue() for one in st.session_state.get(_FILE) or []]
    if pem := dialogs.value(_PEM):
        contents.append(pem.encode())
    return contents + [pem.encode() for pem in _of_this_dialog(_FETCHED) or []]


def _of_this_dialog(key: str) -> Any:
    """What was kept while the dialog that is open now was; None for what an earlier one left."""
    turn, kept = st.session_state.get(key) or (None, None)
    return kept if turn == dialogs.turn() else None


def _preview() -> None:
    """What would be trusted, each with its fingerprint, to be left out where it is not meant."""
    contents = _contents()
    if not contents:
        return
    try:
        found = trust.inspect(session.context(), *contents)
    except CertgateError as error:
        components.error(error.message)
        return
    for one in found:
        usable = one.problem is None and not one.known
        with st.container(border=True, gap="xsmall"):
            st.checkbox(
                "Trust this root" if one.is_root else "Trust this intermediate",
                value=usable, disabled=not usable, key=_pick(one.fingerprint),
            )  # fmt: skip
            components.strong(one.subject)
            components.quiet(f"SHA-256 {words.grouped(one.fingerprint)}")
            components.quiet(
                f"{words.key(one.key)} · issued by {one.issuer} · until {words.when(one.not_after, zone())}"
            )
            if one.known:
                st.caption("It is trusted already.")
            elif one.problem is not None:
                components.error(f"{one.problem}.")
            elif one.remark is not None:
                components.quiet(one.remark)


def _pick(fingerprint: str) -> str:
    return f"trust-pick-{fingerprint[:24]}"


def _added(_: object) -> str:
    contents = _contents()
    if not contents:
        raise InvalidInput("Choose a file, paste a certificate, or fetch one.")
    context = session.context()
    # What was never shown to be left out is meant.
    wanted = [
        one.fingerprint
        for one in trust.inspect(context, *contents)
        if st.session_state.get(_pick(one.fingerprint), True)
    ]
    if not wanted:
        raise InvalidInput("None of them is chosen, or all of them are trusted already.")
    before = {row.id for row in trust.listing(context)}
    kept = {row.id: row for row in trust.add(context, *contents, only=wanted)}
    new = [row.subject for number, row in kept.items() if number not in before]
    if not new:
        return "All of them were trusted already."
    return f"Trusted now: {words.enumerated(new)}."


def _waiting(owner: bool) -> None:
    """The requests that can't go on before an issuer is trusted."""
    found = trust.waiting(session.context())
    for one in found:
        with st.container(border=True, key=f"waiting-{seat()}", gap="xsmall"):
            components.warning(
                f"{_counted(len(one.requests))} for the certificate of {one.missing_issuer}, which is not among the "
                "trusted CA certificates."
            )
            with st.container(horizontal=True, gap="medium"):
                for request in one.requests[:_MOST_LINKS]:
                    places.link(places.REQUEST, f"Request {request.id}", "article", {"id": str(request.id)})
            st.caption(
                "Add that certificate: the requests go on by themselves."
                if owner
                else "An administrator with the role MRAO adds it; the requests go on by themselves then."
            )


def _counted(number: int) -> str:
    return "1 request waits" if number == 1 else f"{number} requests wait"


def _ending() -> None:
    """What ends soon, the first to end first."""
    context = session.context()
    found = trust_expiry.ending(context)
    for one in found[:_MOST_WARNINGS]:
        components.warning(trust_expiry.told_of(one, context.clock()))
    if len(found) > _MOST_WARNINGS:
        more = len(found) - _MOST_WARNINGS
        components.quiet(
            f"{more} more {'ends' if more == 1 else 'end'} soon or {'has' if more == 1 else 'have'} ended."
        )


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
