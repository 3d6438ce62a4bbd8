"""One certificate: validity, renewal, where it is installed; renew, replace, revoke, download."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta

import streamlit as st

from dashboard import actions, chains, components, dialogs, guard, places, session, words
from dashboard.bridge import bridge
from dashboard.components import zone
from dashboard.views import certificate_replacement
from dashboard.views.certificate_replacement import REASONS
from model.errors import InvalidInput, NotFound
from model.states import CertificateStatus, OrderWay
from operations import certificates, standing, verification
from operations.certificates import CertificateDetail, InstallationView
from operations.context import Context, now

_REVOKING = "revoking"
# A gateway that is away is told after 30 s; many bindings take longer.
PATIENCE = timedelta(seconds=120)


@dataclass(frozen=True)
class _Revoking:
    """The open revocation dialog: which certificate, and what was refused about it."""

    certificate_id: int
    problem: str | None = None


def show() -> None:
    """Draw the page of the certificate that ``?id=`` names."""
    context = session.context()
    places.link(places.CERTIFICATES, "All certificates", "arrow_back")
    certificate_id = places.number("id")
    if certificate_id is None:
        components.error("The address names no certificate: choose one from the list.")
        return
    try:
        detail = certificates.show(context, certificate_id)
    except NotFound as error:
        components.error(error.message)
        return
    _head(context, detail)
    actions.show_told()
    st.space("small")
    _facts(detail)
    installed, chain = st.tabs([f"Installations ({len(detail.installations)})", "Chain"])
    with installed:
        if not detail.installations:
            st.caption("It was not installed anywhere by certgate.")
        for installation in detail.installations:
            _installation(installation, detail)
    with chain:
        chains.show(detail.chain)
    asked = st.session_state.get(_REVOKING)
    if isinstance(asked, _Revoking) and asked.certificate_id == certificate_id:
        st.dialog("Revoke this certificate?", on_dismiss=_close)(_dialog)()
    else:
        dialogs.show({certificate_replacement.ASK: certificate_replacement.DIALOG})


def _head(context: Context, detail: CertificateDetail) -> None:
    row = detail.row
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        with st.container(width="content", gap="xsmall"):
            components.heading(row.common_name)
            with st.container(horizontal=True, width="content", gap="small"):
                components.badges(_status(detail))
                if row.active:
                    st.badge("In use", icon=":material/bolt:", color="green", help="An endpoint serves it.")
                if row.imported:
                    told = "The CA issued it elsewhere; its key is not in a keystore of ours."
                    st.badge("Imported", icon=":material/move_to_inbox:", color="blue", help=told)
        with st.container(horizontal=True, width="content", gap="small"):
            st.download_button(
                "Download PEM",
                certificates.download(context, row.id),
                file_name=f"certificate-{row.id}.pem",
                mime="application/x-pem-file",
                icon=":material/download:",
                key="download",
                on_click="ignore",
            )
            if detail.may_renew and st.button("Renew now", icon=":material/autorenew:", key="renew"):
                _renew(context, row.id)
            may_verify = row.active and detail.installations and detail.may_verify
            if may_verify and st.button("Verify", icon=":material/verified_user:", key="verify"):
                _verify(context, row.id)
            if detail.may_ask and st.button("Ask the CA", icon=":material/contact_support:", key="ask-ca"):
                _ask_ca(context, row.id)
            if detail.may_replace:
                st.button(
                    "Replace",
                    icon=":material/published_with_changes:",
                    key="replace",
                    on_click=dialogs.ask,
                    args=(certificate_replacement.ASK, row.id),
                )
            if detail.may_revoke:
                st.button("Revoke", icon=":material/gpp_bad:", key="revoke", on_click=_ask, args=(row.id,))
    components.quiet(f"Certificate {row.id} · {row.organization}" + (f" / {row.department}" if row.department else ""))


def _status(detail: CertificateDetail) -> CertificateStatus:
    # The end of a certificate needs no workflow to have come.
    if detail.row.status == CertificateStatus.ISSUED and detail.row.not_after <= now():
        return CertificateStatus.EXPIRED
    return detail.row.status


def _facts(detail: CertificateDetail) -> None:
    row = detail.row
    leaf = detail.chain[0]
    renewal = "switched off" if not row.auto_renew else words.when(row.renew_at, zone()) if row.renew_at else None
    components.facts(
        [
            ("Names", ", ".join(leaf.names)),
            ("Issued by", leaf.issuer),
            ("Key", words.key(leaf.key)),
            ("CA", detail.order.ca),
            ("Order", _order(detail)),
            ("Valid from", words.when(row.not_before, zone())),
            ("Valid until", chains.validity(leaf)),
            ("Renewal", renewal if row.status == CertificateStatus.ISSUED else None),
            ("Gateway", row.gateway),
            ("Endpoint", row.endpoint),
            ("Binding", row.binding),
            ("The CA stands by it", _standing(detail)),
            *([("The CA's own time", _window(detail))] if detail.window else []),
            *([("Revoked", words.when(detail.revoked_at, zone()))] if detail.revoked_at else []),
            *([("Reason of revocation", detail.revocation_reason)] if detail.revocation_reason else []),
        ]
    )
    if row.renewal_note:
        components.quiet(row.renewal_note)
    if detail.standing.note:
        components.warning(f"Whether the CA stands by it is not known: {detail.standing.note}")
    if detail.standing.found_revoked_at is not None and row.active:
        components.error("The CA has revoked this certificate while it is in use: clients that check will refuse it.")
    with st.container(horizontal=True):
        places.link(places.REQUEST, f"Request {row.request_id}", "article", {"id": str(row.request_id)})
        if detail.window is not None and detail.window.explanation_url:
            st.link_button("Why the CA wants it renewed", detail.window.explanation_url, icon=":material/open_in_new:")
        if detail.replaces_id is not None:
            number = detail.replaces_id
            places.link(places.CERTIFICATE, f"Took the place of certificate {number}", "history", {"id": str(number)})
        if detail.successor_request_id is not None:
            number = detail.successor_request_id
            places.link(places.REQUEST, f"Being replaced by request {number}", "article", {"id": str(number)})
        if detail.replaced_by_id is not None:
            number = detail.replaced_by_id
            places.link(places.CERTIFICATE, f"Replaced by certificate {number}", "verified", {"id": str(number)})
    st.space("small")


def _order(detail: CertificateDetail) -> str:
    order, number = detail.order, detail.order.number or "no number"
    if detail.row.imported:
        return f"{number}, imported"
    what = {OrderWay.NEW: "new", OrderWay.RENEW: "renewal", OrderWay.REPLACE: "replacement"}[order.way]
    return f"{number}, {what}" + (f": {order.reason}" if order.reason else "")


def _standing(detail: CertificateDetail) -> str | None:
    told = detail.standing
    if told.found_revoked_at is not None:
        return f"No, it revoked it; seen {words.when(told.found_revoked_at, zone())} ({told.source})"
    if told.asked_at is not None:
        return f"Yes, {words.when(told.asked_at, zone())} ({told.source})"
    return None


def _window(detail: CertificateDetail) -> str:
    assert detail.window is not None
    start, end = words.when(detail.window.start, zone()), words.when(detail.window.end, zone())
    return f"{start} to {end}; ours is {words.when(detail.window.at, zone())}"


def _installation(installation: InstallationView, detail: CertificateDetail) -> None:
    look = words.INSTALL[installation.state]
    with st.container(border=True):
        with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
            components.strong(f"{installation.endpoint}, {installation.binding}")
            st.badge(look.words, icon=f":material/{look.icon}:", color=look.colour, help=look.meaning)
        if installation.message:
            st.text(installation.message)
        components.facts(
            [
                ("Verification", (installation.verification or "").replace("_", " ").lower() or None),
                ("Verified", words.when(installation.verified_at, zone())),
                ("Attempts", str(installation.attempts)),
                ("Installed", words.when(installation.installed_at, zone())),
                ("Last change", words.when(installation.updated_at, zone())),
            ]
        )
        for seen in installation.sightings:
            good = seen.get("verification") in ("MATCH", "IN_PLACE")
            with st.container(horizontal=True, vertical_alignment="center", gap="small"):
                st.markdown(":material/check_circle:" if good else ":material/error:", width="content")
                st.text(f"Seen from the {seen.get('seen_from')}: {seen.get('message')}", width="stretch")
        if installation.served_before:
            components.copyable("Served before (SHA-256)", installation.served_before)
        if installation.served_after:
            same = installation.served_after == detail.row.fingerprint
            components.copyable(
                f"Served after (SHA-256): {'this certificate' if same else 'another certificate'}",
                installation.served_after,
            )
        if installation.steps:
            with st.expander(f"What the gateway did, step by step ({len(installation.steps)})"):
                for step in installation.steps:
                    components.strong(str(step.get("name", "")))
                    st.text(str(step.get("outcome", "")))


def _verify(context: Context, certificate_id: int) -> None:
    with guard.guarded(), st.spinner("The gateway looks at every binding …"):
        count = bridge().run(verification.certificate(context, certificate_id), PATIENCE)
        served = f"{count.looked - count.failed} of {count.looked} bindings serve this certificate."
        actions.tell("error" if count.failed else "success", served)
        st.rerun()


def _renew(context: Context, certificate_id: int) -> None:
    with guard.guarded(), st.spinner("Starting the renewal …"):
        number = bridge().run(certificates.renew(context, certificate_id))
        actions.tell("success", f"Certificate {certificate_id} is renewed by this request.")
        places.go(places.REQUEST, id=str(number))


def _ask_ca(context: Context, certificate_id: int) -> None:
    with guard.guarded(), st.spinner("Asking the CA …"):
        if bridge().run(standing.ask(context, certificate_id)):
            actions.tell("success", "The CA was asked; what it says stands below.")
        else:
            actions.tell("info", "The CA has not answered yet; open this page again to see what it says.")
        st.rerun()


def _ask(certificate_id: int) -> None:
    st.session_state[_REVOKING] = _Revoking(certificate_id)
    actions.forget_told()


def _close() -> None:
    st.session_state.pop(_REVOKING, None)


def _dialog() -> None:
    asked = st.session_state.get(_REVOKING)
    if not isinstance(asked, _Revoking):
        st.rerun()
    with guard.guarded():
        detail = certificates.show(session.context(), asked.certificate_id)
        row = detail.row
        components.strong(f"Certificate {row.id}: {row.common_name}")
        components.facts(
            [
                ("Names", ", ".join(detail.chain[0].names)),
                ("Organization", row.organization),
                ("Serial number", words.grouped(row.serial_number)),
                ("Valid until", words.when(row.not_after, zone())),
                ("Installed on", f"{row.endpoint}, {row.binding}" if row.endpoint else "nothing"),
            ]
        )
        if row.active:
            components.warning("An endpoint serves this certificate: clients that check revocation will refuse it.")
        st.selectbox("Reason", list(REASONS.values()), key="revoke-reason")
        st.text_area("Comment (optional)", max_chars=actions.LONGEST_COMMENT, key="revoke-comment", height=80)
        st.caption("A revocation can't be taken back.")
        if asked.problem:
            components.error(asked.problem)
        with st.container(horizontal=True, horizontal_alignment="right"):
            st.button("Back", key="dialog-back", on_click=_close)
            st.button(
                "Revoke",
                icon=":material/gpp_bad:",
                type="primary",
                key="dialog-confirm",
                on_click=_revoke,
                args=(asked,),
            )


def _revoke(asked: _Revoking) -> None:
    chosen = st.session_state.get("revoke-reason")
    reason = next(word for word, shown in REASONS.items() if shown == chosen)
    comment = str(st.session_state.get("revoke-comment") or "").strip()
    try:
        result = bridge().run(certificates.revoke(session.context(), asked.certificate_id, reason, comment))
    except session.SessionEnded as ended:
        session.end(ended.message)
    except InvalidInput as error:
        st.session_state[_REVOKING] = replace(asked, problem=error.message)
    except Exception as error:
        _close()
        actions.tell("error", guard.sentence(error))
    else:
        _close()
        actions.tell("success" if result.revoked else "warning", result.message)
