"""A new replacement campaign in three steps on one page: choose, see what will happen, confirm."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import TypeVar

import streamlit as st

from dashboard import actions, components, filters, guard, places, session, words
from dashboard.bridge import bridge
from dashboard.views.certificate_replacement import REASONS
from model.errors import CertgateError, InvalidInput, Unavailable
from model.states import CampaignWay
from operations import authorities, campaign_words, campaigns, organizations, profiles
from operations.campaign_selection import Plan, Preview, Selection, Share, preview
from operations.context import Context, now

_DRAFT = "campaign-draft"
_ANY = "Any"
_PAST = {"issued": "issued and never used"}
ChoiceT = TypeVar("ChoiceT")


def show() -> None:
    """Draw the page."""
    context = session.context()
    places.link(places.CAMPAIGNS, "All campaigns", "arrow_back")
    st.title("New campaign", anchor=False)
    draft = int(st.session_state.setdefault(_DRAFT, 1))
    stepper = st.container()
    selection = _choose(context, draft)
    plan = _plan(context, draft)
    seen, problem = None, None
    try:
        seen = preview(context, selection, plan)
    except InvalidInput as error:
        problem = error.message
    chosen = selection != Selection()
    with stepper:
        _stepper(chosen, seen)
    st.subheader("2 · See what will happen", anchor=False)
    if not chosen:
        st.caption("Choose certificates above: what becomes of them is shown here before anything is changed.")
    elif seen is None:
        components.error(problem or "")
    else:
        _see(seen, plan)
        _confirm(context, draft, selection, plan, seen)


def _stepper(chosen: bool, seen: Preview | None) -> None:
    ready = seen is not None and seen.replaceable > 0
    components.steps(
        [
            ("Choose", "done" if chosen and ready else "current", "which certificates"),
            ("See", "done" if ready else "todo", "what will happen"),
            ("Confirm", "current" if ready else "todo", "by their number"),
        ]
    )


def _choose(context: Context, draft: int) -> Selection:
    st.subheader("1 · Choose", anchor=False)
    with st.container(border=True):
        left, middle, right = st.columns(3)
        ca = left.selectbox(
            "Certificate authority", [row.name for row in authorities.listing(context)], index=None,
            placeholder=_ANY, key=f"k-ca-{draft}",
        )  # fmt: skip
        signed = {share.name: f"{share.name} ({share.count:,})" for share in campaigns.issuers(context)}
        issuer = middle.selectbox(
            "Issuer", list(signed), index=None, format_func=signed.__getitem__, placeholder=_ANY,
            help="Who signed them: the CA certificate's distinguished name.", key=f"k-issuer-{draft}",
        )  # fmt: skip
        key = right.selectbox("Key", list(words.KEYS.values()), index=None, placeholder=_ANY, key=f"k-key-{draft}")
        owners = organizations.listing(context)
        organization = left.selectbox(
            "Organization", [row.name for row in owners], index=None, placeholder=_ANY, key=f"k-organization-{draft}"
        )
        departments = next((row.departments for row in owners if row.name == organization), [])
        department = middle.selectbox(
            "Department", departments, index=None, placeholder=_ANY, disabled=not departments,
            key=f"k-department-{draft}-{organization}",
        )  # fmt: skip
        gateway = right.selectbox(
            "Gateway", filters.gateway_names(context), index=None, placeholder=_ANY, key=f"k-gateway-{draft}"
        )
        search = left.text_input(
            "Name, serial number or fingerprint", max_chars=253, placeholder="contains …", key=f"k-search-{draft}"
        )
        since = middle.date_input(
            "Issued from", value=None, key=f"k-from-{draft}", help="Valid from that day (UTC) on."
        )
        until = right.date_input(
            "Issued before", value=None, key=f"k-until-{draft}", help="Valid from before that day."
        )
        with st.expander("Serial numbers from the CA's list"):
            serials = st.text_area(
                "Serial numbers, hexadecimal, one a line", key=f"k-serials-{draft}", height=110,
                placeholder="0a1b2c3d…\n5e:6f:70:81…",
            )  # fmt: skip
        everything = st.checkbox("All certificates that I may replace", key=f"k-all-{draft}")
    return Selection(
        ca=ca,
        issuer=issuer,
        key_algorithm=_word(words.KEYS, key),
        organization=organization,
        department=department,
        gateway=gateway,
        search=(search or "").strip(),
        serials=tuple((serials or "").split()),
        issued_from=_day(since),
        issued_until=_day(until),
        everything=everything,
    )


def _plan(context: Context, draft: int) -> Plan:
    standard = Plan()
    with st.container(border=True):
        left, middle, right = st.columns(3)
        shown = left.selectbox("What is done", list(words.CAMPAIGN_WAYS.values()), key=f"k-way-{draft}")
        way = _word(words.CAMPAIGN_WAYS, shown) or CampaignWay.REPLACE
        moving = way == CampaignWay.MOVE
        known = {row.name: f"{row.name} ({row.ca})" for row in profiles.listing(context)} if moving else {}
        profile = middle.selectbox(
            "Profile to move to", list(known), format_func=known.__getitem__, index=None, disabled=not moving,
            placeholder="Choose one; its CA issues" if moving else "They keep theirs",
            key=f"k-profile-{draft}-{moving}",
        )  # fmt: skip
        reason = right.text_input("Reason, for the CA and the record", max_chars=256, key=f"k-reason-{draft}")
        rate = left.number_input(
            "At most an hour",
            min_value=1,
            max_value=100_000,
            value=standard.rate_per_hour,
            step=50,
            key=f"k-rate-{draft}",
        )
        at_once = middle.number_input(
            "At most at the same time",
            min_value=1,
            max_value=500,
            value=standard.at_once,
            step=1,
            key=f"k-once-{draft}",
        )
        hours = right.number_input(
            "Deadline, hours after the start", min_value=1, max_value=9600, value=24, step=1, key=f"k-deadline-{draft}"
        )
        canaries = left.number_input(
            "Canaries", min_value=0, max_value=100, value=standard.canaries, step=1, key=f"k-canaries-{draft}",
            help="So many come first; the rest when they are served. One that fails pauses the campaign.",
        )  # fmt: skip
        failures = middle.number_input(
            "Pause after failures",
            min_value=0,
            value=standard.pause_after,
            step=1,
            key=f"k-failures-{draft}",
            help="0: never.",
        )
        share = right.number_input(
            "Pause at a share of failures, %", min_value=0, max_value=100, value=standard.pause_share, step=5,
            key=f"k-share-{draft}", help="Of those that ended, from the tenth on; 0: never.",
        )  # fmt: skip
        new_key = left.checkbox("Make new keys, whatever the profile says", key=f"k-new-key-{draft}")
        revoking = middle.checkbox("Revoke each old one once it is replaced", key=f"k-revoke-{draft}")
        revocation = None
        if revoking:
            told = right.selectbox("Reason of revocation", list(REASONS.values()), index=3, key=f"k-revocation-{draft}")
            revocation = next(str(word) for word, text in REASONS.items() if text == told)
    return Plan(
        way=way,
        reason=(reason or "").strip(),
        profile=profile,
        new_key=new_key,
        revocation_reason=revocation,
        rate_per_hour=int(rate),
        at_once=int(at_once),
        canaries=int(canaries),
        pause_after=int(failures),
        pause_share=int(share),
        deadline_seconds=int(hours) * 3600,
    )


def _see(seen: Preview, plan: Plan) -> None:
    with components.tiles():
        _tile(seen.chosen, "gray", "chosen")
        _tile(seen.replaceable, "green" if seen.replaceable else "red", "can be replaced")
        _tile(sum(one.count for one in seen.hindered), "orange", "left out")
        _tile(sum(one.certificates * one.approvals_each for one in seen.approvals), "violet", "approvals needed")
        _tile(sum(one.count for one in seen.away), "orange", "wait for a gateway")
    if seen.unknown_serials:
        components.warning(f"{seen.unknown_serials:,} serial numbers are of no certificate that you may see.")
    if seen.past:
        told = ", ".join(f"{share.count:,} {_PAST.get(share.name, share.name)}" for share in seen.past)
        components.quiet(f"Not counted, since they are over: {told}.")
    if seen.replaceable:
        _forecast(seen, plan)
    columns = st.columns(4)
    groups = (
        ("By CA", seen.by_ca),
        ("By organization", seen.by_organization),
        ("By gateway", seen.by_gateway),
        ("By endpoint", seen.by_endpoint_type),
    )
    for column, (title, shares) in zip(columns, groups, strict=True):
        with column:
            _shares(title, shares)
    for one in seen.away:
        components.warning(f"Gateway {one.name} is not connected: its {one.count:,} wait until it is back.")
    for needed in seen.approvals:
        components.notice(
            "info",
            f"{needed.organization}: each of {needed.certificates:,} requests awaits "
            f"{needed.approvals_each} approval{'s' if needed.approvals_each > 1 else ''} by its policy.",
        )
    if seen.canaries:
        named = ", ".join(
            f"{one.common_name} ({f'{one.gateway}, {one.endpoint}' if one.endpoint else one.gateway})"
            for one in seen.canaries[:10]
        )
        more = f" and {len(seen.canaries) - 10} more" if len(seen.canaries) > 10 else ""
        components.notice("info", f"Canaries: {named}{more}.")
    if seen.hindered:
        st.caption("What is left out, and why")
        st.dataframe(
            {
                "Certificates": [one.count for one in seen.hindered],
                "Why": [one.reason for one in seen.hindered],
                "Such as": [", ".join(one.examples) or None for one in seen.hindered],
            },
            hide_index=True,
            column_config={
                "Certificates": st.column_config.NumberColumn(width=90, format="%d"),
                "Why": st.column_config.TextColumn(width=480),
                "Such as": st.column_config.TextColumn(width=420),
            },
            placeholder="–",
            alt="What is left out, and why",
            key="campaign-left-out",
        )


def _tile(count: int, colour: words.Colour, what: str) -> None:
    with components.tile(count, colour):
        st.caption(what)


def _shares(title: str, shares: list[Share]) -> None:
    st.caption(title)
    for share in shares[:8]:
        st.text(f"{share.count:,} · {share.name}")
    if len(shares) > 8:
        components.quiet(f"and {len(shares) - 8:,} more")


def _forecast(seen: Preview, plan: Plan) -> None:
    forecast, moment = seen.forecast, now()
    told = f"At {plan.rate_per_hour:,} an hour it ends {words.ago(forecast.ends_at, moment)}"
    told += f" ({words.when(forecast.ends_at, components.zone())}), if nothing waits for people or gateways."
    if forecast.meets_deadline:
        slowest = f" {forecast.needed_rate:,} an hour would still meet the deadline." if forecast.needed_rate else ""
        components.notice("success", told + slowest)
        return
    needed = forecast.needed_rate
    advice = (
        f" {needed:,} an hour would meet it." if needed else " More at the same time, or a later deadline, is needed."
    )
    components.error(
        f"{told} That is after the deadline, {words.when(forecast.deadline_at, components.zone())}.{advice}"
    )


def _confirm(context: Context, draft: int, selection: Selection, plan: Plan, seen: Preview) -> None:
    st.subheader("3 · Confirm", anchor=False)
    if not seen.replaceable:
        st.caption("None of the chosen certificates can be replaced.")
        return
    with st.container(border=True):
        left, right = st.columns(2)
        name = left.text_input(
            "Name of the campaign", max_chars=128, placeholder="CA incident of …", key=f"k-name-{draft}"
        )
        typed = right.text_input(
            "To start at once, type how many will be replaced", placeholder=str(seen.replaceable),
            key=f"k-count-{draft}", autocomplete="off",
        )  # fmt: skip
        with st.container(horizontal=True, horizontal_alignment="right"):
            if st.button("Keep as draft", icon=":material/save:", key=f"k-keep-{draft}"):
                _create(context, name or "", selection, plan, seen.replaceable, begin=False)
            if st.button("Start campaign", icon=":material/play_arrow:", type="primary", key=f"k-start-{draft}"):
                if (typed or "").strip() != str(seen.replaceable):
                    components.error(f"Type {seen.replaceable} to start: so many certificates will be replaced.")
                else:
                    _create(context, name or "", selection, plan, seen.replaceable, begin=True)


def _create(context: Context, name: str, selection: Selection, plan: Plan, expected: int, *, begin: bool) -> None:
    with guard.guarded():
        number = campaigns.create(context, name, selection, plan, expected).row.id
        # A second press of the same button finds another draft, and does nothing.
        st.session_state[_DRAFT] += 1
        actions.forget_told()
        if begin:
            try:
                bridge().run(campaign_words.start(context, number))
            except Unavailable as error:
                actions.tell("warning", error.message)
            except CertgateError as error:
                actions.tell("error", error.message)
        places.go(places.CAMPAIGN, id=str(number))


def _word(shown: dict[ChoiceT, str], choice: str | None) -> ChoiceT | None:
    return next((word for word, text in shown.items() if text == choice), None)


def _day(given: date | None) -> datetime | None:
    return datetime(given.year, given.month, given.day, tzinfo=UTC) if isinstance(given, date) else None
