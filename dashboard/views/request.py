"""One request: where it stands, what it waits for, what was done, and what one may say to it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

import streamlit as st

from dashboard import actions, chains, components, guard, places, progress, session, tables, words
from dashboard.bridge import bridge
from dashboard.components import zone
from dashboard.words import Look
from model.errors import CertgateError, NotFound
from model.states import InstallState, OrderWay, Verdict
from operations import audit_trail, requests
from operations.audit_trail import AuditRow
from operations.context import Context, now
from operations.requests import RequestDetail, Waiting

_FRESH = "request-fresh"
_PROOFS = {
    "valid": Look("Proved", "green", "check_circle", "The CA has the proof."),
    "pending": Look("Missing", "orange", "hourglass_top", "The CA waits for the proof."),
    "failed": Look("Failed", "red", "error", "The CA looked and did not find the proof."),
}
_WAYS = {
    OrderWay.NEW: "A first certificate",
    OrderWay.RENEW: "A renewal",
    OrderWay.REPLACE: "A replacement before its time",
}
_LOOK_AGAIN = timedelta(seconds=2)
# The page must not wait longer than this for an engine that does not answer.
_ENGINE_PATIENCE = timedelta(seconds=4)


@dataclass(frozen=True)
class _Seen:
    """What the page shows; when it is no longer so, the page is drawn again."""

    detail: RequestDetail
    waiting: list[Waiting]
    engine_problem: str | None
    told: int


def show() -> None:
    """Draw the page of the request that ``?id=`` names."""
    context = session.context()
    places.link(places.REQUESTS, "All requests", "arrow_back")
    request_id = places.number("id")
    if request_id is None:
        components.error("The address names no request: choose one from the list.")
        return
    try:
        seen, trail = _look(context, request_id)
    except NotFound as error:
        components.error(error.message)
        return
    detail = seen.detail
    _head(detail)
    actions.show_told()
    _standing(seen)
    st.space("small")
    left, right = st.columns([2, 1], gap="large")
    with left:
        _tabs(detail)
    with right:
        _timeline(trail)
    actions.show_asked()
    if not detail.closed:
        st.session_state[_FRESH] = True
        _watch(seen)


def _look(context: Context, request_id: int) -> tuple[_Seen, list[AuditRow]]:
    detail = requests.show(context, request_id)
    trail = audit_trail.for_request(context, request_id)
    waiting: list[Waiting] = []
    problem = None
    if not detail.closed:
        try:
            waiting = bridge().run(requests.waiting(context, request_id), _ENGINE_PATIENCE)
        except CertgateError as error:
            problem = error.message
    return _Seen(detail, waiting, problem, len(trail)), trail


def _head(detail: RequestDetail) -> None:
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        with st.container(width="content", gap="xsmall"):
            components.heading(detail.common_name)
            components.badges(detail.status, detail.install_state)
        with st.container(horizontal=True, width="content", gap="small"):
            actions.offer(detail, "request")
            link = bridge().door.workflow_link(detail.workflow_id)
            if link:
                st.link_button("Temporal", link, icon=":material/open_in_new:", help="The workflow in the Temporal UI")
    requested = f"requested by {detail.requester}"
    if detail.created_at:
        requested += f" {words.ago(detail.created_at, now())}, {words.when(detail.created_at, zone())}"
    components.quiet(f"Request {detail.id} · {_owner(detail)} · {requested}")


def _standing(seen: _Seen) -> None:
    detail = seen.detail
    st.space("xsmall")
    components.steps([(step.name, step.state, step.note) for step in progress.steps(detail)])
    if detail.reason:
        advice = progress.advice(detail)
        trouble = advice is not None or detail.closed
        with st.container(gap="xsmall"):
            components.notice("error" if trouble and advice else "info", detail.reason)
            if advice:
                st.caption(advice)
    waits = progress.waits_for(detail, seen.waiting, zone())
    if waits:
        components.notice("info", waits)
    _proofs(seen)
    if seen.engine_problem:
        components.warning(f"What it is doing right now can't be shown. {seen.engine_problem}")


def _proofs(seen: _Seen) -> None:
    """For which names the CA has the proof that they are ours, and what is missing for the others."""
    found = [one for step in seen.waiting for one in step.validations]
    if not found:
        return
    done = sum(1 for one in found if one.state == "valid")
    with st.container(border=True, key="proofs", gap="small"):
        components.strong(f"Domain validation: {done} of {len(found)} names are proved")
        tables.plain(
            "proofs-table",
            {
                "Name": [one.name for one in found],
                "State": [[_PROOFS.get(one.state, _PROOFS["pending"]).words] for one in found],
                "By": [one.method for one in found],
                "What is missing": [one.missing for one in found],
                "What the CA said": [one.error for one in found],
            },
            {
                "Name": st.column_config.TextColumn(width=220),
                "State": tables.states("State", _PROOFS, 110),
                "By": st.column_config.TextColumn(width=90),
                "What is missing": st.column_config.TextColumn(width=420),
                "What the CA said": st.column_config.TextColumn(width=320),
            },
            alt="Domain validation",
        )


def _tabs(detail: RequestDetail) -> None:
    overview, csr, chain, decisions = st.tabs(
        ["Overview", "Signing request", "Certificate", f"Decisions ({len(detail.decisions)})"]
    )
    with overview:
        _overview(detail)
    with csr:
        _signing_request(detail)
    with chain:
        if detail.chain:
            if detail.certificate_id is not None:
                places.link(
                    places.CERTIFICATE,
                    f"Certificate {detail.certificate_id}",
                    "verified",
                    {"id": str(detail.certificate_id)},
                )
            chains.show(detail.chain)
        else:
            st.caption("No certificate has been issued yet.")
    with decisions:
        _decisions(detail)


def _overview(detail: RequestDetail) -> None:
    components.facts(
        [
            ("Names", ", ".join(detail.names)),
            ("Organization", _owner(detail)),
            ("Profile", detail.profile),
            ("Keystore", detail.keystore),
            ("Certificate authority", detail.ca),
            ("Key", words.key(detail.key_algorithm)),
            ("Key made", progress.MADE[detail.key_place]),
            ("Ordered as", "nothing: a certificate is put back" if detail.puts_back_id else _WAYS[detail.order_way]),
            *([("Reason of the order", detail.order_reason)] if detail.order_reason else []),
            ("Order number", detail.order_number),
            *([("Ordered", _ordered(detail))] if detail.ordered_at else []),
            ("Gateway", detail.gateway),
            *([("Group", detail.group)] if detail.group else []),
            ("First endpoint" if detail.group else "Endpoint", detail.endpoint),
            ("First binding" if detail.group else "Binding", detail.binding),
            ("Installation", words.INSTALL_MODES[detail.install_mode] if detail.endpoint else "Nothing to install"),
            *([("Installed after", words.when(detail.install_after, zone()))] if detail.install_after else []),
            *([("Puts back certificate", str(detail.puts_back_id))] if detail.puts_back_id else []),
            *([("Renews certificate", str(detail.renews_certificate_id))] if detail.renews_certificate_id else []),
            ("Workflow", detail.workflow_id),
            ("Comments", detail.comments or None),
        ]
    )
    if detail.issued_fingerprint:
        st.space("small")
        st.subheader("What is served", anchor=False)
        _served(detail)


def _served(detail: RequestDetail) -> None:
    issued, served = detail.issued_fingerprint, detail.served_fingerprint
    if detail.endpoint is None:
        components.notice("info", "Nothing was to be installed, so nothing is compared.")
    elif served is None:
        components.notice("info", "The endpoint was not asked yet which certificate it serves.")
    elif served == issued:
        components.notice("success", "The endpoint serves exactly the certificate that was issued.")
    else:
        components.error("The endpoint serves another certificate than the one that was issued.")
    if issued:
        components.copyable("Issued (SHA-256)", issued)
    if served and served != issued:
        components.copyable("Served (SHA-256)", served)


def _signing_request(detail: RequestDetail) -> None:
    if detail.csr_pem is None:
        if detail.install_state == InstallState.KEY_PROCESSING:
            st.caption("The gateway is making key and CSR.")
        else:
            st.caption("There is no CSR: the gateway has not made one.")
        return
    with guard.guarded():
        chains.signing_request(detail.csr_pem)


def _decisions(detail: RequestDetail) -> None:
    if not detail.decisions:
        needed = detail.approvals_required
        st.caption(f"Nobody has decided yet; {needed} approval{'s are' if needed > 1 else ' is'} needed.")
    for decision in detail.decisions:
        approved = decision.verdict == Verdict.APPROVE
        with st.container(border=True, gap="xsmall"):
            with st.container(horizontal=True, vertical_alignment="center"):
                st.badge(
                    "Approved" if approved else "Declined",
                    icon=":material/thumb_up:" if approved else ":material/thumb_down:",
                    color="green" if approved else "red",
                )
                components.quiet(f"{decision.administrator} · {words.when(decision.decided_at, zone())}")
            if decision.comment:
                st.text(decision.comment)


def _timeline(trail: list[AuditRow]) -> None:
    st.subheader("Timeline", anchor=False)
    if not trail:
        st.caption("Nothing is told of this request yet.")
    with st.container(key="timeline"):
        for row in trail:
            components.moment(row.outcome, row.time, f"{row.actor} ({row.access_method})", row.description)


def _ordered(detail: RequestDetail) -> str | None:
    if detail.ordered_at is None:
        return None
    return f"{words.when(detail.ordered_at, zone())}, {words.ago(detail.ordered_at, now())}"


def _owner(detail: RequestDetail) -> str:
    return f"{detail.organization} / {detail.department}" if detail.department else detail.organization


@st.fragment(run_every=_LOOK_AGAIN)
def _watch(seen: _Seen) -> None:
    """Draw the page again as soon as something about the request has changed; not under an open dialog."""
    # The first time is the run that has just drawn the page.
    if st.session_state.pop(_FRESH, False) or actions.dialog_is_open():
        return
    with guard.guarded(lambda _: None):
        found, _ = _look(session.context(), seen.detail.id)
        if found != seen:
            st.rerun()
