"""The list of issued certificates, with their end and when they will be renewed."""

from __future__ import annotations

from datetime import datetime

import streamlit as st

from dashboard import components, filters, places, session, tables, words
from dashboard.components import zone
from model.states import CertificateStatus
from operations import certificates, overview
from operations.certificates import CertificateRow, Filter
from operations.context import Context, now

_TABLE = "certificates"
_NOTHING: dict[str, object] = {
    "c-q": "",
    "c-status": [],
    "c-gateway": None,
    "c-organization": None,
    "within": None,
}

# The statuses that an issued certificate can have.
_STATUSES = {
    status: words.STATUS[status]
    for status in (
        CertificateStatus.ISSUED,
        CertificateStatus.EXPIRED,
        CertificateStatus.REPLACED,
        CertificateStatus.REVOKED,
    )
}
_WITHIN: dict[str, int | None] = {f"{days} days": days for days in overview.WITHIN} | {filters.EXPIRED: None}


def show() -> None:
    """Draw the page."""
    context = session.context()
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        st.title("Certificates", anchor=False, width="content")
        with st.container(horizontal=True, width="content", gap="small"):
            if context.actor.owns_everything and st.button("Import", icon=":material/move_to_inbox:", key="import"):
                places.go(places.IMPORT_CERTIFICATES)
            st.button("Refresh", icon=":material/refresh:", key="refresh")
    wanted = _filters(context)
    if wanted != Filter():
        st.button(
            "Clear filters", icon=":material/filter_alt_off:", on_click=filters.clear, args=(_NOTHING,), key="clear"
        )
    size = filters.PAGE_SIZE
    page = filters.page()
    found = certificates.listing(context, wanted, (page - 1) * size, size)
    if not found.total:
        _empty(wanted)
        return
    if not found.rows:
        filters.turn_to(-(-found.total // size))
        st.rerun()
    bar = st.container(key="selection", border=True)
    chosen = _table(found.rows)
    with bar, st.container(horizontal=True, vertical_alignment="center"):
        row = next((row for row in found.rows if row.id == chosen), None)
        if row is None:
            st.caption(":material/arrow_selector_tool: Select a certificate to open it.")
        else:
            with st.container(gap=None):
                components.strong(f"{row.id} · {row.common_name}")
                components.quiet(row.renewal_note or "")
            if st.button("Open", icon=":material/open_in_full:", key="open", type="primary"):
                places.go(places.CERTIFICATE, id=str(row.id))
            if st.button("Its request", icon=":material/article:", key="open-request"):
                places.go(places.REQUEST, id=str(row.request_id))
    turned = components.pager(found.total, page, size, "certificates")
    if turned != page:
        tables.unchoose(_TABLE)
        filters.turn_to(turned)
        st.rerun()


def _filters(context: Context) -> Filter:
    search, within = st.columns([3, 2], vertical_alignment="center")
    with search:
        text = filters.search("c-q", "Search by common name, serial number or fingerprint")
    with within, st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.caption("Ends within", width="content")
        days = st.segmented_control(
            "Ends within",
            list(_WITHIN),
            key="within",
            bind="query-params",
            on_change=filters.first_page,
            label_visibility="collapsed",
        )
    status, gateway, organization = st.columns(3)
    with status:
        statuses = filters.states("Status", "c-status", _STATUSES)
    with gateway:
        at_gateway = filters.one("Gateway", "c-gateway", filters.gateway_names(context))
    with organization:
        of_organization = filters.one("Organization", "c-organization", filters.organization_names(context))
    return Filter(
        search=text,
        statuses=tuple(statuses),
        expiring_within_days=_WITHIN[days] if days else None,
        expired=days == filters.EXPIRED,
        gateway=at_gateway,
        organization=of_organization,
    )


def _table(rows: list[CertificateRow]) -> int | None:
    moment = now()
    return tables.table(
        _TABLE,
        [row.id for row in rows],
        {
            "No.": [row.id for row in rows],
            "Common name": [row.common_name for row in rows],
            "Status": tables.cells((row.status for row in rows), _STATUSES),
            "Valid until": [row.not_after for row in rows],
            "Remaining": [remaining(row, moment) for row in rows],
            "Renewal": [renewal(row, moment) for row in rows],
            "Organization": [
                f"{row.organization} / {row.department}" if row.department else row.organization for row in rows
            ],
            "Gateway": [row.gateway for row in rows],
            "Endpoint": [row.endpoint for row in rows],
            "Serial number": [row.serial_number for row in rows],
        },
        {
            "No.": st.column_config.NumberColumn(width=60, format="%d"),
            "Common name": st.column_config.TextColumn(width=240),
            "Status": tables.states("Status", _STATUSES, 110),
            "Valid until": st.column_config.DatetimeColumn(width=140, format="YYYY-MM-DD HH:mm", timezone=str(zone())),
            "Remaining": st.column_config.TextColumn(width=120),
            "Renewal": st.column_config.TextColumn(width=150),
            "Organization": st.column_config.TextColumn(width=150),
            "Gateway": st.column_config.TextColumn(width=110),
            "Endpoint": st.column_config.TextColumn(width=110),
            "Serial number": st.column_config.TextColumn(width=240),
        },
        alt="Certificates",
    )


def remaining(row: CertificateRow, moment: datetime) -> str:
    """How long it is still good for; one that has ended says when."""
    told = words.ago(row.not_after, moment)
    return f"ended {told}" if row.not_after <= moment else told.removeprefix("in ")


def renewal(row: CertificateRow, moment: datetime) -> str | None:
    """When its renewal acts."""
    if row.status != CertificateStatus.ISSUED:
        return None
    if not row.auto_renew:
        return "switched off"
    if row.renew_at is None:
        return None
    return "due" if row.renew_at <= moment else words.ago(row.renew_at, moment)


def _empty(wanted: Filter) -> None:
    with st.container(border=True, horizontal_alignment="center", key="empty"):
        if wanted != Filter():
            st.subheader(":material/search_off: No certificate matches these filters", anchor=False)
            st.caption("Take a filter away, or clear them all.")
        else:
            st.subheader(":material/verified: No certificates yet", anchor=False)
            st.caption("A certificate shows up here as soon as a CA has issued it for one of your requests.")
            if places.known(places.NEW_REQUEST) and st.button("New request", type="primary", key="first"):
                places.go(places.NEW_REQUEST)
