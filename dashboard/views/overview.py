"""The first page: what waits, what fails, what ends soon, and who is away."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from datetime import timedelta

import altair
import streamlit as st

from dashboard import components, filters, guard, places, session, words
from dashboard.bridge import bridge
from dashboard.components import zone
from model.states import CertificateStatus, ConnectionStatus, Privilege
from operations import inventory_expiry, overview
from operations.context import Context, now
from operations.inventory_expiry import Endings
from operations.overview import Expiry, FirstSteps, Gateways, Overview
from operations.requests import Page, RequestRow

# Charts use a pandas that is loaded, also one that another thread is just loading and that is half there: wait for it.
importlib.import_module("pandas")

_LOOK_AGAIN = timedelta(seconds=15)
_STATUS_COLOURS: dict[ConnectionStatus, words.Colour] = {
    ConnectionStatus.CONNECTED: "green",
    ConnectionStatus.DISCONNECTED: "red",
    ConnectionStatus.PENDING: "orange",
}
# Bars by how soon: this week, within a month, within a quarter, later.
_SOON = ((1, "#d63031"), (4, "#e08e0b"), (13, "#c9b458"), (overview.WEEKS, "#2f9e8f"))


def show() -> None:
    """Draw the page."""
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        st.title("Overview", anchor=False, width="content")
        st.button("Refresh", icon=":material/refresh:", key="refresh")
    _body()


@st.fragment(run_every=_LOOK_AGAIN)
def _body() -> None:
    """Everything below the title; it looks for changes by itself."""
    with guard.guarded():
        context = session.context()
        seen = overview.show(context)
        if not seen.first_steps.done:
            _first_steps(context, seen.first_steps)
        left, right = st.columns(2, gap="medium")
        with left:
            _section("Awaiting my decision", "how_to_reg", lambda: _awaiting(seen.awaiting_me))
        with right:
            _section("Needs attention", "report", lambda: _failing(seen.failing))
        left, right = st.columns(2, gap="medium")
        with left:
            _section("Open requests", "inbox", lambda: _requests(seen))
        with right:
            _section("Orchestration gateways", "hub", lambda: _gateways(context))
        _section("Certificates by their end", "event_upcoming", lambda: _expiry(seen.expiry))
        unmanaged = inventory_expiry.ending(context)
        if unmanaged.total:
            _section("Nobody renews these", "travel_explore", lambda: _unmanaged(unmanaged))
        if seen.changes is not None:
            _section("Recent changes", "history", lambda: _changes(seen))


def _section(title: str, icon: str, draw: Callable[[], None]) -> None:
    with st.container(border=True):
        with st.container(key=f"section-{components.seat()}"):
            st.markdown(f":material/{icon}: {title}")
        draw()


def _first_steps(context: Context, steps: FirstSteps) -> None:
    may = {one: session.holds(context, one) for one in (Privilege.MANAGE_GATEWAYS, Privilege.REQUEST)}
    with st.container(border=True, key="first-steps"):
        st.subheader("First steps", anchor=False)
        st.caption("What a first certificate needs, one after the other.")
        gateway = places.GATEWAYS if may[Privilege.MANAGE_GATEWAYS] else None
        request = places.NEW_REQUEST if may[Privilege.REQUEST] and steps.gateway else None
        for number, (done, text, label, place) in enumerate(
            (
                (steps.gateway, "A gateway in the network of your servers.", "Add a gateway", gateway),
                (
                    steps.endpoint,
                    "An endpoint: the web server that is to serve certificates. Its gateway discovers what it serves.",
                    "Connect an endpoint",
                    gateway if steps.gateway else None,
                ),
                (steps.request, "A request: somebody else approves it, the rest happens by itself.", "Request a "
                 "certificate", request),
            ),
            start=1,
        ):  # fmt: skip
            with st.container(horizontal=True, vertical_alignment="center", gap="small"):
                st.markdown(":green[:material/check_circle:]" if done else f"**{number}**", width="content")
                st.text(text, width="content")
                if not done and place is not None and places.known(place):
                    places.link(place, label, "arrow_forward")


def _awaiting(found: Page) -> None:
    if not found.total:
        st.caption(":material/task_alt: Nothing awaits your decision.")
        return
    for row in found.rows:
        _line(row, f"requested by {row.requester} for {row.organization}, {words.ago(row.created_at, now())}")
    if found.total > len(found.rows):
        places.link(places.REQUESTS, f"All {found.total:,} that await you", "arrow_forward", {"mine": "true"})


def _failing(found: Page) -> None:
    if not found.total:
        st.caption(":material/task_alt: No open request needs a person.")
        return
    for row in found.rows:
        _line(row, row.reason or words.INSTALL[row.install_state].meaning)
    if found.total > len(found.rows):
        states = [words.INSTALL[state].words for state in overview.TROUBLE]
        places.link(
            places.REQUESTS,
            f"All {found.total:,} that need attention",
            "arrow_forward",
            {"unfinished": "true", "install": states},
        )


def _line(row: RequestRow, told: str) -> None:
    with st.container(gap=None):
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            places.link(places.REQUEST, f"Request {row.id}", "article", {"id": str(row.id)})
            st.text(row.common_name, width="content")
            look = words.INSTALL[row.install_state]
            st.badge(look.words, color=look.colour, width="content")
        components.quiet(told)


def _requests(seen: Overview) -> None:
    if not seen.open_requests:
        st.caption(":material/task_alt: No request is open.")
        return
    with components.tiles():
        for status, count in seen.open_requests.items():
            look = words.STATUS[status]
            label = "Issued, open" if status == CertificateStatus.ISSUED else look.words
            with components.tile(count, look.colour):
                places.link(places.REQUESTS, label, look.icon, {"unfinished": "true", "status": look.words})


def _unmanaged(found: Endings) -> None:
    """Certificates that were seen in use, are not ours, and end soon."""
    ended = f" ({found.ended:,} ended already)" if found.ended else ""
    what = (
        "1 certificate that certgate does not manage ends"
        if found.total == 1
        else (f"{found.total:,} certificates that certgate does not manage end")
    )
    st.text(f"{what} within 90 days{ended}.")
    for name, end in found.first[:5]:
        components.quiet(f"{name}: {words.when(end, zone())}")
    places.link(places.INVENTORY, "The inventory", "arrow_forward")


def _gateways(context: Context) -> None:
    shown = Gateways({})
    with guard.guarded():
        shown = bridge().run(overview.gateways_now(context))
    if not shown.by_status:
        return
    if not sum(shown.by_status.values()):
        st.caption(":material/hub: There are no gateways yet.")
        return
    with components.tiles():
        for status, count in shown.by_status.items():
            with components.tile(count, _STATUS_COLOURS[status] if count else "gray"):
                if places.known(places.GATEWAYS):
                    places.link(places.GATEWAYS, str(status), "hub", {"g-status": str(status)})
                else:
                    st.caption(str(status))
    for gateway in shown.away:
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            st.markdown(":orange[:material/link_off:]", width="content")
            st.text(gateway.name, width="content")
            waiting = f"{gateway.open_requests:,} open request" + ("s wait" if gateway.open_requests > 1 else " waits")
            since = f"; last heard of {words.ago(gateway.last_activity, now())}" if gateway.last_activity else ""
            components.quiet(f"is away, {waiting} for it{since}")


def _expiry(expiry: Expiry) -> None:
    if not expiry.valid and not expiry.expired:
        st.caption(":material/verified: No certificate has been issued yet.")
        return
    with components.tiles():
        with components.tile(expiry.expired, "red" if expiry.expired else "gray"):
            places.link(places.CERTIFICATES, "Expired", "event_busy", {"within": filters.EXPIRED})
        colours: tuple[words.Colour, ...] = ("red", "orange", "orange", "gray")
        for (days, count), colour in zip(expiry.within.items(), colours, strict=True):
            with components.tile(count, colour if count else "gray"):
                places.link(places.CERTIFICATES, f"Within {days} days", "event", {"within": f"{days} days"})
        with components.tile(expiry.valid, "green" if expiry.valid else "gray"):
            places.link(places.CERTIFICATES, "All valid", "verified", {"c-status": "Issued"})
    if any(expiry.weeks):
        _chart(expiry)


def _chart(expiry: Expiry) -> None:
    today = now().astimezone(zone()).date()
    colours = [next(colour for below, colour in _SOON if week < below) for week in range(len(expiry.weeks))]
    rows = [
        {
            "from": (today + timedelta(weeks=week)).isoformat(),
            "order": week,
            "Certificates": count,
            "Ends": f"{today + timedelta(weeks=week)} to {today + timedelta(weeks=week, days=6)}",
            "colour": colours[week],
        }
        for week, count in enumerate(expiry.weeks)
    ]
    slanted = altair.Axis(labelAngle=-45)
    chart = (
        altair.Chart(altair.InlineData(values=rows))
        .mark_bar(cornerRadiusTopLeft=3, cornerRadiusTopRight=3)
        .encode(
            x=altair.X("from:O", title="Certificates that end in the week from", sort=None, axis=slanted),
            y=altair.Y("Certificates:Q", title=None, axis=altair.Axis(tickMinStep=1, format="d")),
            color=altair.Color("colour:N", scale=None),
            tooltip=[altair.Tooltip("Ends:N"), altair.Tooltip("Certificates:Q", format=",")],
        )
        .properties(height=210)
    )
    counted = sum(expiry.weeks)
    st.altair_chart(chart, alt=f"{counted:,} certificates end within {len(expiry.weeks)} weeks, counted by week")
    later = expiry.valid - counted
    if later:
        st.caption(f"{later:,} end later.")


def _changes(seen: Overview) -> None:
    if not seen.changes:
        st.caption("Nothing was done yet that you may read of.")
        return
    with st.container(key="timeline"):
        for entry in seen.changes:
            components.moment(entry.outcome, entry.time, entry.actor, entry.description)
    if places.known(places.AUDIT):
        places.link(places.AUDIT, "The whole audit trail", "arrow_forward")
