"""Network scans: what gateways may look through for certificates, what they look through, and how far they are."""

from __future__ import annotations

from datetime import timedelta

import streamlit as st

from dashboard import components, dialogs, filters, guard, places, session, shelf, tables, words
from dashboard.bridge import bridge
from dashboard.components import zone
from dashboard.dialogs import Dialog
from dashboard.words import Look
from model.errors import InvalidInput
from model.states import Privilege, ScanState
from operations import inventory_scans
from operations.context import Context
from operations.inventory_scans import NewScan, ScanRow

_TABLE = "scans"
_NEW, _AGAIN, _CANCEL, _REMOVE = "scan-new", "scan-again", "scan-cancel", "scan-remove"
_GATEWAY, _NETWORKS, _PORTS, _NAMES, _RATE, _AT_ONCE, _EVERY = (
    "scan-gateway", "scan-networks", "scan-ports", "scan-names", "scan-rate", "scan-at-once", "scan-every",
)  # fmt: skip
_LOOK = timedelta(seconds=2)
_REPEATS: dict[str, int | None] = {
    "Once": None,
    "Every day": 86_400,
    "Every week": 7 * 86_400,
    "Every month": 30 * 86_400,
}
STATES: dict[ScanState, Look] = {
    ScanState.WAITING: Look("Waiting", "orange", "hourglass_top", "It begins as soon as the manager takes it."),
    ScanState.RUNNING: Look("Running", "blue", "progress_activity", "The gateway looks."),
    ScanState.DONE: Look("Done", "green", "check_circle", "All was looked at."),
    ScanState.FAILED: Look("Failed", "red", "error", "It ended before all was looked at."),
    ScanState.CANCELED: Look("Canceled", "gray", "cancel", "Somebody ended it."),
}


def show() -> None:
    """Draw the page."""
    context = session.context()
    may = session.holds(context, Privilege.MANAGE_GATEWAYS)
    shelf.head("Network scans", "New scan" if may else None, _NEW)
    places.link(places.INVENTORY, "Inventory", "arrow_back")
    rows = inventory_scans.listing(context)
    if rows:
        bar = shelf.bar()
        chosen = _table(rows)
        hint = ":material/arrow_selector_tool: Select a scan to see it whole."
        row = shelf.selection(bar, rows, chosen, hint, lambda row: _selected(row, may))
        if row is not None:
            _details(row)
        if any(one.running for one in rows) and not dialogs.is_open():
            _watch([(one.id, one.position, one.state) for one in rows])
    else:
        shelf.empty(
            "travel_explore",
            "No network was looked through yet",
            "A gateway looks only where its own settings allow it: its operator names networks under [discovery] in "
            "its gateway.toml.",
        )
    dialogs.show(
        {
            _NEW: Dialog("Look through networks", "Begin", _form, _begun, "travel_explore", "large"),
            _AGAIN: Dialog("Look through them again now?", "Begin", _about, _again, "replay"),
            _CANCEL: Dialog("Cancel this scan?", "Cancel the scan", _about, _canceled, "cancel"),
            _REMOVE: Dialog("Remove this scan?", "Remove", _removal, _removed, "delete"),
        }
    )


@st.fragment(run_every=_LOOK)
def _watch(seen: list[tuple[int, int, ScanState]]) -> None:
    """Draw the page anew when a scan has gone on."""
    with guard.guarded():
        rows = inventory_scans.listing(session.context())
        if [(one.id, one.position, one.state) for one in rows] != seen:
            st.rerun()


def _table(rows: list[ScanRow]) -> int | None:
    return tables.table(
        _TABLE,
        [row.id for row in rows],
        {
            "No.": [row.id for row in rows],
            "Gateway": [row.gateway for row in rows],
            "Networks": [words.enumerated(row.networks, 3) for row in rows],
            "Ports": [words.enumerated(row.services, 4) for row in rows],
            "State": tables.cells((row.state for row in rows), STATES),
            "Progress": [_share(row) for row in rows],
            "With certificate": [row.found for row in rows],
            "Never seen before": [row.fresh for row in rows],
            "Began": [row.started_at for row in rows],
            "Next": [row.next_at for row in rows],
        },
        {
            "No.": st.column_config.NumberColumn(width=60, format="%d"),
            "Gateway": st.column_config.TextColumn(width=120),
            "Networks": st.column_config.TextColumn(width=200),
            "Ports": st.column_config.TextColumn(width=170),
            "State": tables.states("State", STATES, 105),
            "Progress": st.column_config.ProgressColumn(width=130, format="percent", min_value=0.0, max_value=1.0),
            "With certificate": st.column_config.NumberColumn(width=110, format="%d"),
            "Never seen before": st.column_config.NumberColumn(width=120, format="%d"),
            "Began": _when("Began"),
            "Next": _when("Next"),
        },
        alt="Network scans",
    )


def _when(label: str) -> object:
    return st.column_config.DatetimeColumn(label, width=140, format="YYYY-MM-DD HH:mm", timezone=str(zone()))


def _share(row: ScanRow) -> float:
    return min(row.position / row.total, 1.0) if row.total else 1.0 if row.state == ScanState.DONE else 0.0


def _selected(row: ScanRow, may: bool) -> None:
    with st.container(gap=None, width="content"):
        components.strong(f"{row.id} · {words.enumerated(row.networks)}")
        components.quiet(row.message or _told(row))
    if not may:
        return
    with st.container(horizontal=True, width="content", gap="small"):
        if row.running or row.next_at is not None:
            shelf.offer("Cancel", "cancel", _CANCEL, row)
        if not row.running:
            shelf.offer("Again", "replay", _AGAIN, row, primary=True)
            shelf.offer("Remove", "delete", _REMOVE, row)


def _told(row: ScanRow) -> str:
    if not row.total:
        return STATES[row.state].meaning
    return f"{row.position:,} of {row.total:,} addresses and ports were looked at."


def _details(row: ScanRow) -> None:
    with st.container(border=True, key="details"):
        if row.message:
            (components.error if row.state == ScanState.FAILED else components.warning)(row.message)
        components.facts(
            [
                ("Gateway", row.gateway),
                ("Networks", "\n".join(row.networks)),
                ("Ports", ", ".join(row.services)),
                ("Names asked for beside none", ", ".join(row.server_names) or "none"),
                ("At most", f"{row.rate} connections a second, {row.at_once} at once, {row.timeout_seconds} s each"),
                ("Answered", f"{row.answered:,} of {row.position:,} that were looked at"),
                ("With a certificate", f"{row.found:,}, {row.fresh:,} of them never seen before"),
                ("Certificates that could not be read", f"{row.unread:,}"),
                ("Again", words.lifetime(row.every_seconds) if row.every_seconds else "no"),
                ("Asked for by", row.asked_by),
                ("Began", words.when(row.started_at, zone())),
                ("Ended", words.when(row.ended_at, zone())),
            ]
        )


# --- what is changed --------------------------------------------------------------------------------------------------


def _form(_: object) -> bool:
    context = session.context()
    names = filters.gateway_names(context)
    gateway = st.selectbox(
        "Gateway", names, index=0 if len(names) == 1 else None, key=_GATEWAY, placeholder="Which one looks"
    )
    if gateway is None:
        st.caption("A gateway looks only where its own settings allow it.")
        return False
    allowed = _allowed(context, gateway)
    if not allowed:
        return False
    left, right = st.columns(2)
    left.text_area(
        "Networks, one a line", key=_NETWORKS, height=110, max_chars=4000, placeholder="\n".join(allowed[:2]),
        help="CIDR notation, within what the gateway allows.",
    )  # fmt: skip
    right.text_area(
        "Ports, one a line", key=_PORTS, height=110, max_chars=1000, placeholder="The usual ones that it allows",
        help="443, or 8025:smtp where another protocol is spoken before TLS. On its usual ports (25, 143, 389, 5432 …) "
        "that is known; 25:tls says that TLS begins at once.",
    )  # fmt: skip
    st.text_area(
        "Host names to ask for as well (SNI), one a line", key=_NAMES, height=80, max_chars=6000,
        help="A server may have another certificate for each name. Without a name it is asked in any case.",
    )  # fmt: skip
    rate, at_once, every = st.columns(3)
    rate.number_input("Connections a second", 1, 1000, 20, key=_RATE)
    at_once.number_input("Connections at once", 1, 256, 16, key=_AT_ONCE)
    every.selectbox("How often", list(_REPEATS), key=_EVERY)
    st.caption("Nothing is sent but what begins TLS. Whoever watches these networks should know of it.")
    return True


def _allowed(context: Context, gateway: str) -> list[str]:
    """What the gateway's own settings allow, shown; empty where nothing may be looked through."""
    rules = inventory_scans.allowed(context, gateway)
    if not rules.known:
        components.warning(
            f"It is not known what gateway {gateway} allows: it tells that when it starts. It refuses what its "
            "settings do not allow."
        )
        return ["10.0.0.0/24"]
    if not rules.networks:
        components.warning(
            f"The settings of gateway {gateway} allow no network: its operator names networks under [discovery] in its "
            "gateway.toml, and starts it again."
        )
        return []
    components.facts(
        [
            ("Networks that it allows", ", ".join(rules.networks)),
            ("Ports that it allows", words.enumerated(rules.ports, 30)),
            ("Its own bounds", f"{rules.rate} connections a second, {rules.at_once} at once, for all scans together"),
        ]
    )
    return rules.networks


def _begun(_: object) -> str:
    gateway = dialogs.value(_GATEWAY)
    networks = shelf.lines(_NETWORKS)
    if not networks:
        raise InvalidInput("Name at least one network, such as 10.0.0.0/24.")
    new = NewScan(
        gateway=gateway,
        networks=networks,
        ports=[word for line in shelf.lines(_PORTS) for word in line.replace(",", " ").split()],
        server_names=shelf.lines(_NAMES),
        rate=int(st.session_state.get(_RATE, 20)),
        at_once=int(st.session_state.get(_AT_ONCE, 16)),
        every_seconds=_REPEATS[dialogs.value(_EVERY) or "Once"],
    )
    row = bridge().run(inventory_scans.begin(session.context(), new))
    return f"Gateway {row.gateway} looks through {words.enumerated(row.networks)} (scan {row.id})."


def _about(row: ScanRow) -> None:
    components.strong(words.enumerated(row.networks))
    components.quiet(f"Ports {words.enumerated(row.services)} · gateway {row.gateway}")
    components.quiet(_told(row))


def _again(row: ScanRow) -> str:
    bridge().run(inventory_scans.again(session.context(), row.id))
    return f"Scan {row.id} begins."


def _canceled(row: ScanRow) -> str:
    bridge().run(inventory_scans.cancel(session.context(), row.id))
    return f"Scan {row.id} is canceled; what it found stays in the inventory."


def _removal(row: ScanRow) -> None:
    _about(row)
    st.caption("What it found stays in the inventory.")


def _removed(row: ScanRow) -> str:
    bridge().run(inventory_scans.remove(session.context(), row.id))
    tables.unchoose(_TABLE)
    return f"Scan {row.id} was removed."
