"""The inventory: every certificate that was seen, whoever issued it, where, and what can be done about it."""

from __future__ import annotations

from datetime import datetime, timedelta

import streamlit as st

from dashboard import actions, chains, components, dialogs, filters, places, session, shelf, tables, words
from dashboard.bridge import bridge
from dashboard.components import zone
from dashboard.dialogs import Dialog
from dashboard.words import Look
from model.states import Privilege, SightingWay
from operations import inventory, inventory_manage, organizations, overview, profiles
from operations.context import Context, now
from operations.inventory import Filter, SeenRow
from operations.inventory_manage import Planned, Wish
from operations.requests import describe_certificate

_TABLE = "inventory"
_MANAGE, _IGNORE, _UNIGNORE = "inventory-manage", "inventory-ignore", "inventory-unignore"
_NOTHING: dict[str, object] = {
    "i-q": "",
    "i-state": [],
    "i-way": [],
    "i-gateway": None,
    "i-within": None,
    "i-gone": False,
}
_WHY, _WHOSE, _PROFILE, _COMMENTS = "ignore-why", "manage-whose", "manage-profile", "manage-comments"
_SHOWN_PLACES, _SHOWN_PLANS = 50, 20
_ONLY_ONE = "The only possible one"
# Hundreds of requests are started one after the other.
_PATIENCE = timedelta(minutes=5)

STATES: dict[str, Look] = {
    "unmanaged": Look("Unmanaged", "orange", "visibility", "certgate did not issue it, and renews nothing."),
    "managed": Look("Managed", "green", "verified", "certgate knows whose it is and renews it."),
    "ignored": Look("Ignored", "gray", "visibility_off", "Somebody said that nobody needs to look at it."),
}
WAYS: dict[SightingWay, Look] = {
    SightingWay.ENDPOINT: Look("Endpoint", "blue", "dns", "A binding of an endpoint serves it."),
    SightingWay.KEYSTORE: Look("Keystore", "violet", "key", "It is in a keystore of a gateway."),
    SightingWay.NETWORK: Look("Network", "gray", "lan", "A network scan found it."),
}
_WITHIN: dict[str, int | None] = {f"{days} days": days for days in overview.WITHIN} | {filters.EXPIRED: None}


def show() -> None:
    """Draw the page."""
    context = session.context()
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        st.title("Inventory", anchor=False, width="content")
        with st.container(horizontal=True, width="content", gap="small"):
            if places.known(places.NETWORK_SCANS) and st.button(
                "Network scans", icon=":material/travel_explore:", key="scans"
            ):
                places.go(places.NETWORK_SCANS)
            st.button("Refresh", icon=":material/refresh:", key="refresh", on_click=actions.forget_told)
    actions.show_told()
    wanted = _filters(context)
    page, size = filters.page(), filters.PAGE_SIZE
    found = inventory.listing(context, wanted, (page - 1) * size, size)
    _bar(context, wanted)
    if not found.total:
        _empty(wanted)
        return
    if not found.rows:
        filters.turn_to(-(-found.total // size))
        st.rerun()
    bar = shelf.bar()
    chosen = _table(found.rows)
    rows = [row for row in found.rows if row.id in chosen]
    with bar:
        _selection(context, rows)
    turned = components.pager(found.total, page, size, "inventory-pager")
    if turned != page:
        tables.unchoose(_TABLE)
        filters.turn_to(turned)
        st.rerun()
    if len(rows) == 1:
        _details(context, rows[0])
    dialogs.show(
        {
            _MANAGE: Dialog("Take under management?", "Request", _manage_body, _managed, "verified", "large"),
            _IGNORE: Dialog("Ignore this certificate?", "Ignore", _ignore_body, _ignored, "visibility_off"),
            _UNIGNORE: Dialog("Look at it again?", "Look again", _unignore_body, _unignored, "visibility"),
        }
    )


def _filters(context: Context) -> Filter:
    search, within = st.columns([3, 2], vertical_alignment="center")
    with search:
        text = filters.search("i-q", "Search by name, issuer, serial number or fingerprint")
    with within, st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.caption("Ends within", width="content")
        days = st.segmented_control(
            "Ends within",
            list(_WITHIN),
            key="i-within",
            bind="query-params",
            on_change=filters.first_page,
            label_visibility="collapsed",
        )
    state, way, gateway, gone = st.columns(4, vertical_alignment="center")
    with state:
        names = {look.words: name for name, look in STATES.items()}
        picked = st.multiselect(
            "State", list(names), key="i-state", placeholder="State", bind="query-params",
            on_change=filters.first_page, label_visibility="collapsed",
        )  # fmt: skip
    with way:
        ways = filters.states("Seen", "i-way", WAYS)
    with gateway:
        at_gateway = filters.one("Gateway", "i-gateway", filters.gateway_names(context))
    with gone:
        vanished = st.toggle("Seen nowhere any more", key="i-gone", bind="query-params", on_change=filters.first_page)
    return Filter(
        search=text,
        states=tuple(state for state in inventory.STATES if state in {names[name] for name in picked}),
        ways=tuple(ways),
        gateway=at_gateway,
        expiring_within_days=_WITHIN[days] if days else None,
        expired=days == filters.EXPIRED,
        gone=vanished,
    )


def _bar(context: Context, wanted: Filter) -> None:
    """How many there are of each state, what is exported, and the way out of the filters."""
    counted = inventory.counts(context, wanted)
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        for state, count in counted.items():
            look = STATES[state]
            title = look.words.lower()
            st.badge(f"{count:,} {title}", icon=f":material/{look.icon}:", color=look.colour)
        for label, form, export in (
            ("CSV", "csv", inventory.export_csv),
            ("JSON Lines", "jsonl", inventory.export_jsonl),
        ):
            st.download_button(
                label,
                lambda export=export: "".join(export(session.context(), wanted)).encode(),  # type: ignore[misc]
                f"inventory.{form}",
                "text/csv" if form == "csv" else "application/jsonl",
                icon=":material/download:",
                key=f"export-{form}",
                on_click="ignore",
            )
        if wanted != Filter():
            st.button(
                "Clear filters", icon=":material/filter_alt_off:", on_click=filters.clear, args=(_NOTHING,), key="clear"
            )


def _table(rows: list[SeenRow]) -> tuple[int, ...]:
    moment = now()
    return tables.table_of_many(
        _TABLE,
        [row.id for row in rows],
        {
            "Common name": [row.common_name for row in rows],
            "State": [[STATES[row.state].words] for row in rows],
            "Valid until": [row.not_after for row in rows],
            "Remaining": [_remaining(row, moment) for row in rows],
            "Seen at": [_where(row) for row in rows],
            "Gateway": [row.places[0].gateway if row.places else None for row in rows],
            "Issuer": [row.issuer for row in rows],
            "Key": [words.key(row.key_algorithm) for row in rows],
            "Last seen": [words.ago(row.last_seen, moment) for row in rows],
        },
        {
            "Common name": st.column_config.TextColumn(width=230),
            "State": tables.coloured("State", {look.words: look.colour for look in STATES.values()}, 110),
            "Valid until": st.column_config.DatetimeColumn(width=140, format="YYYY-MM-DD HH:mm", timezone=str(zone())),
            "Remaining": st.column_config.TextColumn(width=120),
            "Seen at": st.column_config.TextColumn(width=260),
            "Gateway": st.column_config.TextColumn(width=110),
            "Issuer": st.column_config.TextColumn(width=220),
            "Key": st.column_config.TextColumn(width=90),
            "Last seen": st.column_config.TextColumn(width=110),
        },
        alt="Certificates that were seen",
    )


def _remaining(row: SeenRow, moment: datetime) -> str:
    told = words.ago(row.not_after, moment)
    return f"ended {told}" if row.not_after <= moment else told.removeprefix("in ")


def _where(row: SeenRow) -> str | None:
    if not row.places:
        return None
    more = row.places_total - 1
    return row.places[0].where + (f" and {more} more" if more > 0 else "")


def _selection(context: Context, rows: list[SeenRow]) -> None:
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        if not rows:
            st.caption(":material/arrow_selector_tool: Select certificates to take them under management.")
            return
        with st.container(gap=None, width="content"):
            components.strong(rows[0].common_name if len(rows) == 1 else f"{len(rows)} certificates")
            if len(rows) == 1:
                components.quiet(_told(rows[0]))
        with st.container(horizontal=True, width="content", gap="small"):
            unmanaged = tuple(row.id for row in rows if row.state != "managed")
            if unmanaged and session.holds(context, Privilege.REQUEST):
                shelf.offer("Manage", "verified", _MANAGE, unmanaged, primary=True)
            if len(rows) == 1:
                _one_offer(context, rows[0])


def _one_offer(context: Context, row: SeenRow) -> None:
    if row.certificate_id is not None:
        if st.button("Open", icon=":material/open_in_full:", key="open"):
            places.go(places.CERTIFICATE, id=str(row.certificate_id))
        return
    if session.holds(context, Privilege.MANAGE_GATEWAYS):
        if row.state == "ignored":
            shelf.offer("Look again", "visibility", _UNIGNORE, row)
        else:
            shelf.offer("Ignore", "visibility_off", _IGNORE, row)


def _told(row: SeenRow) -> str:
    if row.state == "ignored":
        return f"ignored by {row.ignored_by}: {row.ignored_why}"
    return f"issued by {row.issuer}"


def _details(context: Context, row: SeenRow) -> None:
    detail = inventory.show(context, row.id)
    with st.container(key="details"):
        chains.card(describe_certificate(detail.pem), "CA certificate" if row.authority else "As it was seen")
        with st.container(border=True, gap="xsmall"):
            for place in detail.places[:_SHOWN_PLACES]:
                with st.container(horizontal=True, vertical_alignment="center", gap="small"):
                    look = WAYS[place.way]
                    st.badge(look.words, icon=f":material/{look.icon}:", color=look.colour, width="content")
                    st.text(place.where, width="content")
                    gone = f", gone since {words.when(place.gone_at, zone())}" if place.gone_at else ""
                    components.quiet(f"by {place.gateway}, since {words.when(place.first_seen, zone())}{gone}")
            if detail.places_total > _SHOWN_PLACES:
                components.quiet(f"and at {detail.places_total - _SHOWN_PLACES:,} more places.")
        if row.state != "managed" and not any(place.endpoint and not place.gone_at for place in detail.places):
            st.caption(
                "It is not seen at an endpoint. Add its server as one and discover it, or import the certificate from "
                "its CA; then certgate can renew it."
            )
            with st.container(horizontal=True, gap="medium"):
                places.link(places.ENDPOINTS, "Endpoints", "dns")
                if places.known(places.IMPORT_CERTIFICATES):
                    places.link(places.IMPORT_CERTIFICATES, "Import from a CA", "move_to_inbox")


def _empty(wanted: Filter) -> None:
    if wanted != Filter():
        shelf.empty("search_off", "No certificate matches these filters", "Take a filter away, or clear them all.")
        return
    shelf.empty(
        "travel_explore",
        "Nothing was seen yet",
        "Discover an endpoint, look into a keystore, or have a gateway look through networks: what is found there "
        "shows up here, whoever issued it.",
    )


# --- what is changed --------------------------------------------------------------------------------------------------


def _manage_body(about: tuple[int, ...]) -> bool:
    context = session.context()
    options = [
        f"{row.name} / {department}" if department else row.name
        for row in organizations.listing(context)
        for department in (None, *row.departments)
    ]
    left, right = st.columns(2)
    left.selectbox("Whose they are to be", options, index=None, key=_WHOSE, placeholder=_ONLY_ONE)
    right.selectbox(
        "Certificate profile",
        [row.name for row in profiles.listing(context)],
        index=None,
        key=_PROFILE,
        placeholder=_ONLY_ONE,
    )
    plan = inventory_manage.preview(context, about, _wish())
    good = [one for one in plan if one.problem is None]
    for one in plan[:_SHOWN_PLANS]:
        _plan_line(one)
    if len(plan) > _SHOWN_PLANS:
        components.quiet(f"and {len(plan) - _SHOWN_PLANS:,} more places.")
    if not good:
        st.caption("Nothing of this can be requested as it is.")
        return False
    st.text_input("Comments", key=_COMMENTS, max_chars=1024, placeholder="Optional; approvers see them")
    asked = f"{len(good):,} certificates are" if len(good) > 1 else "1 certificate is"
    components.quiet(
        f"{asked} requested. Each goes the way of every request: what is served changes when it is approved, issued "
        "and installed, and not before."
    )
    return True


def _plan_line(one: Planned) -> None:
    with st.container(border=True, gap=None):
        where = f"{one.endpoint} {one.binding} · {one.gateway}" if one.endpoint else one.gateway
        components.strong(words.enumerated(one.names) or one.common_name)
        components.quiet(where)
        if one.problem is not None:
            components.warning(one.problem)
            return
        whose = f"{one.organization} / {one.department}" if one.department else one.organization
        components.quiet(f"for {whose}, profile {one.profile}, from CA {one.ca}")
        if one.note is not None:
            components.quiet(one.note)


def _wish() -> Wish:
    organization, _, department = dialogs.value(_WHOSE).partition(" / ")
    return Wish(organization or None, department or None, dialogs.value(_PROFILE) or None, None, None,
                dialogs.value(_COMMENTS))  # fmt: skip


def _managed(about: tuple[int, ...]) -> str:
    plan = bridge().run(inventory_manage.manage(session.context(), about, _wish()), patience=_PATIENCE)
    tables.unchoose(_TABLE)
    done = [one.request_id for one in plan if one.request_id is not None]
    failed = [one for one in plan if one.request_id is None]
    told = "1 certificate was" if len(done) == 1 else f"{len(done):,} certificates were"
    numbers = f" (request {words.enumerated([str(number) for number in done])})" if done else ""
    left = f" For {len(failed)} nothing was requested; the first: {failed[0].problem}" if failed else ""
    return f"{told} requested{numbers}.{left}"


def _ignore_body(row: SeenRow) -> None:
    components.strong(row.common_name)
    components.quiet(f"SHA-256 {words.grouped(row.fingerprint)}")
    st.text_input("Why", key=_WHY, max_chars=1024, placeholder="Such as: the printer's own, nobody else sees it")
    st.caption("It is left out of what is unmanaged, and nobody is told of its end. That can be taken back.")


def _ignored(row: SeenRow) -> str:
    inventory.ignore(session.context(), row.id, dialogs.value(_WHY))
    return f"{row.common_name} is ignored."


def _unignore_body(row: SeenRow) -> None:
    components.strong(row.common_name)
    components.quiet(_told(row))


def _unignored(row: SeenRow) -> str:
    inventory.unignore(session.context(), row.id)
    return f"{row.common_name} is among the others again."
