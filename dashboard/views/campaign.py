"""One replacement campaign: how far it has come, what failed and why, and what one may say to it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

import streamlit as st

from dashboard import actions, components, dialogs, filters, guard, places, session, tables, words
from dashboard.bridge import bridge
from dashboard.components import zone
from dashboard.dialogs import Dialog
from model.errors import InvalidInput, NotFound
from model.states import CampaignState, ItemState
from operations import campaign_words, campaigns
from operations.campaign_words import Word
from operations.campaigns import CampaignDetail, ItemPage
from operations.context import Context, now

_TABLE = "campaign-items"
_FRESH = "campaign-fresh"
_LOOK_AGAIN = timedelta(seconds=2)
_COLOURS: dict[ItemState, words.Colour] = {state: look.colour for state, look in words.ITEM.items()}


@dataclass(frozen=True)
class _Seen:
    """What the page shows; when it is no longer so, the page is drawn again."""

    detail: CampaignDetail
    items: ItemPage


def show() -> None:
    """Draw the page of the campaign that ``?id=`` names."""
    context = session.context()
    places.link(places.CAMPAIGNS, "All campaigns", "arrow_back")
    number = places.number("id")
    if number is None:
        components.error("The address names no campaign: choose one from the list.")
        return
    try:
        detail = campaigns.show(context, number)
    except NotFound as error:
        components.error(error.message)
        return
    _head(detail)
    actions.show_told()
    _progress(detail)
    left, right = st.columns([2, 1], gap="large")
    with right:
        _facts(detail)
    with left:
        _failures(detail)
        items = _items(context, detail)
    dialogs.show(_DIALOGS)
    if detail.row.state in (CampaignState.RUNNING, CampaignState.PAUSED) or _flying(detail):
        st.session_state[_FRESH] = True
        _watch(_Seen(detail, items))


def _head(detail: CampaignDetail) -> None:
    row = detail.row
    look = words.CAMPAIGN[row.state]
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        with st.container(width="content", gap="xsmall"):
            components.heading(row.name)
            with st.container(horizontal=True, gap="small", width="content"):
                st.badge(look.words, icon=f":material/{look.icon}:", color=look.colour, help=look.meaning)
        with st.container(horizontal=True, width="content", gap="small"):
            for word in detail.may:
                label, icon, primary = _BUTTONS[word]
                st.button(
                    label,
                    icon=f":material/{icon}:",
                    type="primary" if primary else "secondary",
                    key=f"offer-{word}",
                    on_click=dialogs.ask,
                    args=(f"campaign-{word}", detail),
                )
            link = bridge().door.workflow_link(detail.workflow_id) if row.started_at else None
            if link:
                st.link_button("Temporal", link, icon=":material/open_in_new:", help="The workflow in the Temporal UI")
    made = f"created by {row.created_by} {words.ago(row.created_at, now())}"
    if row.started_at and detail.started_by:
        made += f", started by {detail.started_by} {words.ago(row.started_at, now())}"
    components.quiet(f"Campaign {row.id} · {made}")


def _progress(detail: CampaignDetail) -> None:
    row = detail.row
    share = row.ended / row.total if row.total else 1.0
    st.progress(share, text=f"{row.ended:,} of {row.total:,} certificates are done with")
    if row.why:
        components.notice("warning" if row.state == CampaignState.PAUSED else "info", row.why)
    if detail.late:
        components.error(
            f"At this rate it ends {words.when(row.expected_at, zone())}, after its deadline: "
            "change the rate, or how many are replaced at the same time."
        )
    with components.tiles():
        for state, look in words.ITEM.items():
            with components.tile(row.counts[state], _COLOURS[state]):
                st.caption(look.words, help=look.meaning)


def _facts(detail: CampaignDetail) -> None:
    row = detail.row
    st.subheader("How", anchor=False)
    way = words.CAMPAIGN_WAYS[row.way]
    components.facts(
        [
            ("Chosen by", ", ".join(f"{name}: {value}" for name, value in detail.criteria.items())),
            ("What is done", f"{way}: {detail.profile}" if detail.profile else way),
            ("Reason", detail.reason or None),
            ("Rate", f"{row.rate_per_hour:,} an hour, {row.at_once} at the same time"),
            ("Expected end", words.when(row.expected_at, zone()) if row.expected_at else None),
            ("Deadline", words.when(row.deadline_at, zone()) if row.deadline_at else None),
            *([("Ended", words.when(row.ended_at, zone()))] if row.ended_at else []),
            ("Pauses by itself", _pauses(detail)),
            *([("Keys", "new ones, whatever the profile says")] if detail.new_key else []),
            *([("Old certificates", f"revoked: {detail.revocation_reason}")] if detail.revocation_reason else []),
            ("Workflow", detail.workflow_id),
        ]
    )
    if detail.canaries:
        st.space("small")
        st.subheader("Canaries", anchor=False)
        for one in detail.canaries:
            look = words.ITEM[one.state]
            with st.container(horizontal=True, vertical_alignment="center", gap="small"):
                st.badge(look.words, icon=f":material/{look.icon}:", color=look.colour, help=look.meaning)
                st.text(one.common_name)


def _pauses(detail: CampaignDetail) -> str:
    reasons = ["when a canary fails"] if detail.canaries else []
    reasons += [f"after {detail.pause_after} failures"] if detail.pause_after else []
    reasons += [f"when {detail.pause_share} % fail"] if detail.pause_share else []
    return ", ".join(reasons) or "never"


def _failures(detail: CampaignDetail) -> None:
    if not detail.failures:
        return
    st.subheader("Why certificates failed", anchor=False)
    for share in detail.failures:
        components.error(f"{share.count:,}: {share.name}")


def _items(context: Context, detail: CampaignDetail) -> ItemPage:
    st.subheader("Certificates", anchor=False)
    search, chosen = st.columns([3, 2], vertical_alignment="center")
    with search:
        text = filters.search("i-q", "Search by common name")
    with chosen:
        states = filters.states("State", "i-state", words.ITEM)
    size, page = filters.PAGE_SIZE, filters.page()
    found = campaigns.items(context, detail.row.id, states, text, (page - 1) * size, size)
    if not found.rows and found.total:
        filters.turn_to(-(-found.total // size))
        st.rerun()
    if not found.total:
        st.caption("No certificate of this campaign matches.")
        return found
    rows = found.rows
    picked = tables.table(
        _TABLE,
        [row.id for row in rows],
        {
            "Turn": [row.position for row in rows],
            "Common name": [row.common_name for row in rows],
            "State": tables.cells((row.state for row in rows), words.ITEM),
            "Canary": [row.canary for row in rows],
            "Message": [row.message for row in rows],
            "Gateway": [row.gateway for row in rows],
            "Endpoint": [row.endpoint for row in rows],
            "Request": [row.request_id for row in rows],
            "Certificate": [row.certificate_id for row in rows],
        },
        {
            "Turn": st.column_config.NumberColumn(width=60, format="%d"),
            "Common name": st.column_config.TextColumn(width=230),
            "State": tables.states("State", words.ITEM, 130),
            "Canary": st.column_config.CheckboxColumn(width=65),
            "Message": st.column_config.TextColumn(width=300),
            "Gateway": st.column_config.TextColumn(width=110),
            "Endpoint": st.column_config.TextColumn(width=110),
            "Request": st.column_config.NumberColumn(width=75, format="%d"),
            "Certificate": st.column_config.NumberColumn(width=85, format="%d"),
        },
        alt="Certificates of the campaign",
    )
    row = next((row for row in rows if row.id == picked), None)
    if row is not None:
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            components.strong(row.common_name)
            if st.button("Its certificate", icon=":material/verified:", key="item-certificate"):
                places.go(places.CERTIFICATE, id=str(row.certificate_id))
            if row.request_id is not None and st.button("Its request", icon=":material/article:", key="item-request"):
                places.go(places.REQUEST, id=str(row.request_id))
    turned = components.pager(found.total, page, size, "items")
    if turned != page:
        tables.unchoose(_TABLE)
        filters.turn_to(turned)
        st.rerun()
    return found


# --- what one may say -------------------------------------------------------------------------------------------------

_BUTTONS: dict[str, tuple[str, str, bool]] = {
    "start": ("Start", "play_arrow", True),
    "pause": ("Pause", "pause", True),
    "resume": ("Resume", "play_arrow", True),
    "change_rate": ("Change rate", "speed", False),
    "retry": ("Retry failed", "refresh", False),
    "cancel": ("Cancel", "cancel", False),
}


def _asked_start(detail: CampaignDetail) -> None:
    ready = detail.row.counts[ItemState.WAITING]
    components.strong(detail.row.name)
    st.caption("Canaries first; the rest under its rate when they are served. It can be paused at any time.")
    st.text_input(f"Type how many certificates will be replaced: {ready}", key="campaign-count", autocomplete="off")


def _start(detail: CampaignDetail) -> str:
    ready = detail.row.counts[ItemState.WAITING]
    if dialogs.value("campaign-count") != str(ready):
        raise InvalidInput(f"Type {ready} to start: so many certificates will be replaced.")
    bridge().run(campaign_words.start(session.context(), detail.row.id))
    return f"Campaign {detail.row.id} is running."


def _asked(detail: CampaignDetail) -> None:
    components.strong(detail.row.name)
    st.caption("What was ordered already comes to its end in any case.")
    st.text_area("Comment (optional)", max_chars=actions.LONGEST_COMMENT, key="campaign-comment", height=90)


def _say(word: Word, detail: CampaignDetail) -> str:
    said = campaign_words.say(session.context(), detail.row.id, word, dialogs.value("campaign-comment"))
    return bridge().run(said).message


def _asked_rate(detail: CampaignDetail) -> None:
    components.strong(detail.row.name)
    left, right = st.columns(2)
    left.number_input(
        "At most an hour", min_value=1, max_value=100_000, value=detail.row.rate_per_hour, step=50, key="campaign-rate"
    )
    right.number_input(
        "At most at the same time", min_value=1, max_value=500, value=detail.row.at_once, step=1, key="campaign-once"
    )
    st.text_area("Comment (optional)", max_chars=actions.LONGEST_COMMENT, key="campaign-comment", height=90)


def _change_rate(detail: CampaignDetail) -> str:
    said = campaign_words.say(
        session.context(),
        detail.row.id,
        "change_rate",
        dialogs.value("campaign-comment"),
        rate_per_hour=int(st.session_state["campaign-rate"]),
        at_once=int(st.session_state["campaign-once"]),
    )
    return bridge().run(said).message


def _asked_retry(detail: CampaignDetail) -> None:
    components.strong(detail.row.name)
    failed, skipped = detail.row.counts[ItemState.FAILED], detail.row.counts[ItemState.SKIPPED]
    st.caption(f"{failed:,} failed. A request that is still open tries its failed step again; others are ordered anew.")
    if skipped:
        st.checkbox(f"Also the {skipped:,} that were left out", key="campaign-skipped", value=not failed)


def _retry(detail: CampaignDetail) -> str:
    skipped = bool(st.session_state.get("campaign-skipped"))
    tried = bridge().run(campaign_words.retry(session.context(), detail.row.id, skipped=skipped))
    told = f"{tried.ordered} certificates are ordered anew, {tried.requests} open requests try their step again."
    return " ".join([told, *tried.problems[:5]])


_DIALOGS = {
    "campaign-start": Dialog("Start this campaign?", "Start", _asked_start, _start, icon="play_arrow"),
    "campaign-pause": Dialog("Pause this campaign?", "Pause", _asked, lambda one: _say("pause", one), icon="pause"),
    "campaign-resume": Dialog(
        "Resume this campaign?", "Resume", _asked, lambda one: _say("resume", one), icon="play_arrow"
    ),
    "campaign-cancel": Dialog(
        "Cancel this campaign for good?", "Cancel campaign", _asked, lambda one: _say("cancel", one), icon="cancel"
    ),
    "campaign-change_rate": Dialog("Change the rate?", "Change", _asked_rate, _change_rate, icon="speed"),
    "campaign-retry": Dialog("Try again what failed?", "Retry", _asked_retry, _retry, icon="refresh"),
}


def _flying(detail: CampaignDetail) -> bool:
    counts = detail.row.counts
    return bool(counts[ItemState.RUNNING] or counts[ItemState.AWAITING_APPROVAL])


@st.fragment(run_every=_LOOK_AGAIN)
def _watch(seen: _Seen) -> None:
    """Draw the page again as soon as something about the campaign has changed; not under an open dialog."""
    # The first time is the run that has just drawn the page.
    if st.session_state.pop(_FRESH, False) or dialogs.is_open():
        return
    with guard.guarded(lambda _: None):
        if campaigns.show(session.context(), seen.detail.row.id) != seen.detail:
            st.rerun()
