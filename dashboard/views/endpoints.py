"""The connected endpoints of a gateway: what they serve, their last error and its cure; add, test, discover, edit,
remove."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from zoneinfo import available_timezones

import streamlit as st

from connectors import registry
from dashboard import components, forms, guard, inline, places, session, tables, words
from dashboard.bridge import bridge
from dashboard.inline import Form
from dashboard.words import Look
from model.errors import CertgateError, InvalidInput, NotFound
from model.messages import EndpointReport
from model.rules import windows
from model.states import EndpointStatus, InstallMode
from operations import endpoints, gateways, rollback
from operations.context import Context
from operations.endpoints import EndpointChange, EndpointRow, NewEndpoint
from operations.rollback import Return

_PART = "endpoints"
# A gateway that is away is told after 30 s, by the workflow; a slow endpoint takes longer.
PATIENCE = timedelta(seconds=90)
_MOST_MINUTES = 7 * 24 * 60

STATUS: dict[EndpointStatus, Look] = {
    EndpointStatus.INIT: Look("New", "gray", "fiber_new", "Nobody has looked at it yet."),
    EndpointStatus.ACTIVE: Look("Active", "green", "check_circle", "The gateway reached it the last time."),
    EndpointStatus.INACTIVE: Look("Inactive", "red", "error", "The gateway did not reach it the last time."),
    EndpointStatus.RESTART_REQUIRED: Look(
        "Restart required", "orange", "restart_alt", "It serves the new certificate after a restart."
    ),
}


def show() -> None:
    """Draw the page of the gateway that ``?gateway=`` names."""
    context = session.context()
    number = places.number("gateway")
    if number is None:
        components.error("The address names no gateway: choose one from the list of gateways.")
        return
    gateway = gateways.show(context, number)
    places.link(places.GATEWAY, "The gateway", "arrow_back", {"id": str(number)})
    components.heading(f"Endpoints of {gateway.name}")
    show_for_gateway(context, number)


def show_for_gateway(context: Context, gateway_id: int) -> None:
    """Draw the endpoints of a gateway, on a page, in a tab or in a dialog. Raises `NotFound`."""
    part = f"{_PART}-{gateway_id}"
    rows = endpoints.listing(context, gateway_id)
    may = "edit" in gateways.allowed(context, [gateway_id]).get(gateway_id, frozenset())
    inline.show_told(part)
    form = inline.opened(part)
    if form is not None and may:
        _form(part, gateway_id, rows, form)
        return
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        st.caption("Products that serve certificates, reached by this gateway. What they serve is discovered.")
        if may:
            st.button(
                "Add endpoint", icon=":material/add:", type="primary", key=f"{part}-add",
                on_click=inline.ask, args=(part, "add"),
            )  # fmt: skip
    if not rows:
        with st.container(border=True, horizontal_alignment="center"):
            st.subheader(":material/dns: No endpoints", anchor=False)
            st.caption(
                "Add the first one, test its connection, and discover what it serves."
                if may
                else "Certificates for this gateway are issued only; nothing is installed."
            )
        return
    chosen = _table(part, rows)
    row = next((one for one in rows if one.id == chosen), rows[0] if len(rows) == 1 else None)
    if row is None:
        st.caption(":material/arrow_selector_tool: Select an endpoint to see what it serves.")
        return
    _detail(context, part, row, may)


def _table(part: str, rows: Sequence[EndpointRow]) -> int | None:
    hosts = {name: kind.title for name, kind in registry.installed("hosts").items()}
    hosts[registry.OWN_INTERFACE] = "Its own interface"
    return tables.table(
        part,
        [row.id for row in rows],
        {
            "Name": [row.name for row in rows],
            "Type": [row.title for row in rows],
            "Connection": [hosts.get(row.connection, row.connection) for row in rows],
            "Status": tables.cells([row.status for row in rows], STATUS),
            "Bindings": [row.bindings for row in rows],
            "Last error": [row.last_error or "" for row in rows],
        },
        {
            "Name": st.column_config.TextColumn(width=200),
            "Type": st.column_config.TextColumn(width=110),
            "Connection": st.column_config.TextColumn(width=130),
            "Status": tables.states("Status", STATUS, 140),
            "Bindings": st.column_config.NumberColumn(width=80),
        },
        alt="Endpoints",
    )


def _detail(context: Context, part: str, row: EndpointRow, may: bool) -> None:
    report_key = f"{part}-report-{row.id}"
    with st.container(border=True):
        with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
            components.strong(row.name)
            if may:
                _buttons(context, part, row, report_key)
        zone = components.zone()
        settings = [(name.replace("_", " ").capitalize(), _said(value)) for name, value in sorted(row.settings.items())]
        settings += [
            (f"Connection: {name.replace('_', ' ')}", _said(value))
            for name, value in sorted(row.connection_settings.items())
        ]
        components.facts(
            [
                ("Type", row.title),
                ("Installation", words.INSTALL_MODES[row.install_mode]),
                ("Maintenance window", row.window or "at any time"),
                ("Keys are made", "at the endpoint" if row.key_at_endpoint else "at the gateway"),
                ("Verified from", "gateway and manager" if row.verify_from_manager else "the gateway"),
                ("Connection tested", words.when(row.tested_at, zone)),
                ("Bindings discovered", words.when(row.discovered_at, zone)),
                *settings,
            ]
        )
        if row.last_error:
            components.error(row.last_error)
            if row.last_cure:
                components.notice("info", row.last_cure)
        report = st.session_state.get(report_key)
        if isinstance(report, EndpointReport):
            _report(report)
        _bindings(context, part, row)


def _buttons(context: Context, part: str, row: EndpointRow, report_key: str) -> None:
    with st.container(horizontal=True, width="content", gap="small"):
        test = st.button("Test connection", icon=":material/network_check:", key=f"{part}-test-{row.id}")
        discover = st.button("Discover bindings", icon=":material/travel_explore:", key=f"{part}-discover-{row.id}")
        st.button(
            "Edit endpoint", icon=":material/edit:", key=f"{part}-edit-{row.id}",
            on_click=inline.ask, args=(part, "edit", row.id),
        )  # fmt: skip
        st.button(
            "Remove endpoint", icon=":material/delete:", key=f"{part}-remove-{row.id}",
            on_click=inline.ask, args=(part, "remove", row.id),
        )  # fmt: skip
    if test:
        st.session_state.pop(report_key, None)
        with guard.guarded(), st.spinner("The gateway tries the connection …"):
            st.session_state[report_key] = bridge().run(endpoints.test(context, row.gateway_id, row.id), PATIENCE)
            st.rerun()
    if discover:
        st.session_state.pop(report_key, None)
        with guard.guarded(), st.spinner("The gateway looks at what it serves …"):
            found = bridge().run(endpoints.discover(context, row.gateway_id, row.id), PATIENCE)
            count = f"{len(found)} binding{'s' if len(found) != 1 else ''}"
            inline.tell(part, "success", f"{count} found on {row.name}.")
            st.rerun()


def _report(report: EndpointReport) -> None:
    for step in report.steps:
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            st.markdown(":material/check_circle:" if step.passed else ":material/error:", width="content")
            st.text(f"{step.name}: {step.told}", width="stretch")
    if report.problem is None:
        components.notice("success", "The connection is good.")


def _bindings(context: Context, part: str, row: EndpointRow) -> None:
    found = endpoints.bindings(context, row.gateway_id, row.id)
    if not found:
        st.caption(
            "It has no binding that serves a certificate."
            if row.discovered_at
            else "Nothing is known yet of what it serves: discover its bindings."
        )
        return
    name = f"{part}-bindings-{row.id}"
    at = tables.table(
        name,
        list(range(len(found))),
        {
            "Binding": [one.binding for one in found],
            "Names": [", ".join(one.names) for one in found],
            "Listens on": [", ".join(one.listeners) for one in found],
            "Certificate": [one.certificate_path or "–" for one in found],
            "Serves": [one.served_fingerprint or "nothing" for one in found],
            "Obstacle": [one.obstacle or "" for one in found],
        },
        {
            "Binding": st.column_config.TextColumn(width=220),
            "Names": st.column_config.TextColumn(width=220),
            "Listens on": st.column_config.TextColumn(width=160),
            "Certificate": st.column_config.TextColumn(width=220),
            "Serves": st.column_config.TextColumn(width=150),
        },
        alt="Bindings",
    )
    if at is None or at >= len(found):
        st.caption(":material/arrow_selector_tool: Select a binding to see which certificates it had.")
        return
    _history(context, part, row, found[at].binding)


def _history(context: Context, part: str, row: EndpointRow, binding: str) -> None:
    """The certificate of a binding, the one before it, and the way back."""
    shown = rollback.preview(context, row.gateway_id, row.id, binding)
    with st.container(border=True):
        components.strong(binding)
        if shown.current_id is None:
            st.text(shown.refused or "")
            return
        components.facts(
            [
                ("In use", f"certificate {shown.current_id}, {(shown.current or '')[:16]}…"),
                ("Before it", _before(shown)),
            ]
        )
        with st.container(horizontal=True):
            number = str(shown.current_id)
            places.link(places.CERTIFICATE, f"Certificate {number}", "verified", {"id": number})
            if shown.previous_id is not None:
                number = str(shown.previous_id)
                places.link(places.CERTIFICATE, f"Certificate {number}, before it", "history", {"id": number})
        if shown.refused:
            components.quiet(shown.refused)
            return
        st.button(
            "Roll back", icon=":material/settings_backup_restore:", key=f"{part}-rollback-{row.id}-{binding}",
            on_click=_ask_rollback, args=(part, row.id, binding),
        )  # fmt: skip


def _before(shown: Return) -> str | None:
    if shown.previous_id is None:
        return None
    until = words.when(shown.previous_not_after, components.zone())
    return f"certificate {shown.previous_id}, {(shown.previous or '')[:16]}…, valid until {until}"


def _ask_rollback(part: str, endpoint_id: int, binding: str) -> None:
    st.session_state[f"{part}-returning"] = binding
    inline.ask(part, "rollback", endpoint_id)


def _rollback(part: str, row: EndpointRow, form: Form) -> None:
    binding = str(st.session_state.get(f"{part}-returning") or "")
    shown = rollback.preview(session.context(), row.gateway_id, row.id, binding)
    st.subheader("Go back to the certificate before?", anchor=False)
    components.strong(f"{binding} of {row.name}")
    components.facts([("In use now", f"certificate {shown.current_id}, {shown.current}"), ("Put back", _before(shown))])
    st.text_area("Reason", key=f"{form.key}-comment", max_chars=1024, height=80, placeholder="Approvers see it")
    st.caption(
        "This makes a request: it is approved as any other, and installed in the maintenance window. Nothing is "
        "ordered, and the certificate that is put back is not renewed by itself."
    )

    def perform(asked: Form) -> str:
        comment = inline.value(asked, "comment")
        made = bridge().run(rollback.roll_back(session.context(), row.gateway_id, row.id, binding, comment), PATIENCE)
        return f"Request {made.id} puts the certificate back; it is among the requests."

    inline.confirm(part, form, "Roll back", "settings_backup_restore", perform)


def _said(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(
            f"{name.replace('_', ' ')} {_said(one)}" for name, one in value.items() if one not in (None, [])
        )
    return " ".join(map(_said, value)) if isinstance(value, list) else str(value)


def _form(part: str, gateway_id: int, rows: Sequence[EndpointRow], form: Form) -> None:
    row = next((one for one in rows if one.id == form.about), None)
    with st.container(border=True, key=f"{part}-form-box"):
        if form.act == "add":
            _add(part, gateway_id, form)
        elif row is None:
            inline.close(part)
            raise NotFound("The endpoint is gone: somebody removed it meanwhile.")
        elif form.act == "edit":
            _edit(part, row, form)
        elif form.act == "rollback":
            _rollback(part, row, form)
        else:
            _remove(part, row, form)


def _add(part: str, gateway_id: int, form: Form) -> None:
    st.subheader("Add an endpoint", anchor=False)
    left, right = st.columns(2)
    left.text_input("Name (needed)", key=f"{form.key}-name", max_chars=512, autocomplete="off", placeholder="web-1")
    known = endpoints.types()
    kind = right.selectbox("Type", list(known), format_func=known.__getitem__, key=f"{form.key}-type")
    forms.draw(registry.find("endpoints", kind).settings, f"{form.key}-{kind}")
    _connection(form, None, kind)
    _installing(form, None)

    def perform(asked: Form) -> str:
        chosen, host = inline.value(asked, "type"), inline.value(asked, "connection")
        if not chosen or host not in endpoints.connections_of(chosen):
            raise InvalidInput("Choose a type and a connection first.")
        new = NewEndpoint(
            gateway_id,
            inline.value(asked, "name"),
            chosen,
            host,
            forms.words(registry.find("endpoints", chosen).settings, f"{asked.key}-{chosen}"),
            _host_words(asked, host),
            InstallMode(inline.value(asked, "install") or InstallMode.AUTO),
            inline.value(asked, "cron") or None,
            inline.value(asked, "zone") or "UTC",
            _minutes(asked),
            _flag(asked, "key-at-endpoint"),
            _flag(asked, "verify-from-manager"),
        )
        made = endpoints.add(session.context(), new)
        return f"Endpoint {made.name} was added. Test its connection, then discover what it serves."

    inline.confirm(part, form, "Add", "add", perform)


def _edit(part: str, row: EndpointRow, form: Form) -> None:
    st.subheader("Edit this endpoint", anchor=False)
    components.strong(f"{row.name} on {row.gateway}")
    st.text_input("Name", value=row.name, key=f"{form.key}-name", max_chars=512, autocomplete="off")
    model = registry.find("endpoints", row.type).settings
    forms.draw(model, f"{form.key}-set", row.settings)
    _connection(form, row, row.type)
    _installing(form, row)

    def perform(asked: Form) -> str:
        host = inline.value(asked, "connection") or row.connection
        change = EndpointChange(
            name=inline.value(asked, "name"),
            settings=forms.words(model, f"{asked.key}-set", cleared=True),
            connection=host,
            connection_settings=_host_words(asked, host, cleared=host == row.connection),
            install=InstallMode(inline.value(asked, "install") or row.install_mode),
            window_cron=inline.value(asked, "cron"),
            window_zone=inline.value(asked, "zone") or row.window_zone,
            window_minutes=_minutes(asked),
            key_at_endpoint=_flag(asked, "key-at-endpoint"),
            verify_from_manager=_flag(asked, "verify-from-manager"),
        )
        made = endpoints.edit(session.context(), row.gateway_id, row.id, change)
        st.session_state.pop(f"{part}-report-{row.id}", None)
        return f"Endpoint {made.name} was edited. Test its connection to see whether it is right."

    inline.confirm(part, form, "Save", "save", perform)


def _host_words(form: Form, host: str, *, cleared: bool = False) -> dict[str, str]:
    """What was typed of the connection; an endpoint's own interface has nothing to type."""
    if host == registry.OWN_INTERFACE:
        return {}
    return forms.words(registry.find("hosts", host).settings, f"{form.key}-host-{host}", cleared=cleared)


def _flag(form: Form, name: str) -> bool:
    return bool(st.session_state.get(f"{form.key}-{name}"))


def _connection(form: Form, row: EndpointRow | None, kind: str) -> None:
    hosts = endpoints.connections_of(kind)
    names = list(hosts)
    if not names:
        components.error("No connection is installed over which it works.")
        return
    first = row.connection if row else names[0]
    chosen = st.selectbox(
        "Connection", names, index=names.index(first) if first in names else 0, format_func=hosts.__getitem__,
        # Another type works over other connections: the choice begins anew.
        key=f"{form.key}-connection", help="How the gateway reaches the product's host.",
    )  # fmt: skip
    if chosen == registry.OWN_INTERFACE:
        return
    values = row.connection_settings if row and row.connection == chosen else None
    with st.expander("Settings of the connection"):
        forms.draw(registry.find("hosts", chosen).settings, f"{form.key}-host-{chosen}", values)


def _installing(form: Form, row: EndpointRow | None) -> None:
    modes = list(words.INSTALL_MODES)
    st.selectbox(
        "Installation", modes, index=modes.index(row.install_mode) if row else 0,
        format_func=words.INSTALL_MODES.__getitem__, key=f"{form.key}-install",
    )  # fmt: skip
    left, right = st.columns(2)
    left.toggle(
        "Make keys at the endpoint", value=row.key_at_endpoint if row else False, key=f"{form.key}-key-at-endpoint",
        help="The private key is made where it is used, and never crosses the network. Each certificate has its own.",
    )  # fmt: skip
    right.toggle(
        "The manager looks too", value=row.verify_from_manager if row else False,
        key=f"{form.key}-verify-from-manager",
        help="A verification then shakes hands from the gateway and from the manager, which must reach the endpoint.",
    )  # fmt: skip
    left, middle, right = st.columns(3)
    cron = left.text_input(
        "Maintenance window", value=(row.window_cron if row else None) or "", key=f"{form.key}-cron",
        placeholder="Any time", max_chars=128, autocomplete="off",
        help="When a window opens, as cron: minute, hour, day, month, weekday. `0 2 * * 6` is Saturdays at two.",
    )  # fmt: skip
    zones = sorted(available_timezones())
    zone = row.window_zone if row else "UTC"
    zone = middle.selectbox(
        "Time zone", zones, index=zones.index(zone) if zone in zones else zones.index("UTC"), key=f"{form.key}-zone"
    )
    minutes = right.number_input(
        "Open for minutes", value=row.window_minutes if row else 60, min_value=1, max_value=_MOST_MINUTES,
        key=f"{form.key}-minutes",
    )  # fmt: skip
    if cron.strip():
        window = windows.Window(cron.strip(), zone, int(minutes))
        try:
            opens = windows.earliest_start(windows.check(window), session.context().clock())
            components.quiet(f"An install may start at {words.when(opens, components.zone())}.")
        except CertgateError as error:
            components.error(error.message)


def _minutes(form: Form) -> int:
    return int(st.session_state.get(f"{form.key}-minutes") or 60)


def _remove(part: str, row: EndpointRow, form: Form) -> None:
    st.subheader("Remove this endpoint?", anchor=False)
    components.strong(f"{row.name} on {row.gateway}")
    components.facts([("Type", row.title), ("Bindings", str(row.bindings)), ("Status", STATUS[row.status].words)])
    st.caption("certgate forgets it and its bindings. What it serves stays as it is.")

    def perform(_: Form) -> str:
        endpoints.remove(session.context(), row.gateway_id, row.id)
        tables.unchoose(part)
        return f"Endpoint {row.name} was removed. What it serves stays as it is."

    inline.confirm(part, form, "Remove", "delete", perform)
