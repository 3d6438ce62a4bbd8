"""Network discovery: gateways look through networks for certificates, as far as their own settings allow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlmodel import Session, col, select
from temporalio.client import Client
from temporalio.common import WorkflowIDConflictPolicy
from temporalio.service import RPCError, RPCStatusCode

from connectors.endpoints import scan
from connectors.endpoints.scan import Rules, Service, Targets
from connectors.errors import Permanent
from model import access, naming
from model.errors import Conflict, InvalidInput, NotFound, Unavailable
from model.messages import ScanStart
from model.rules import names
from model.states import ScanState
from model.tables import Gateway, NetworkScan
from operations import lookup
from operations.context import Context
from operations.gateways import require_custody
from operations.lookup import identity
from workflows.network_scan import NetworkScanWorkflow

# No network is looked through more often, and none for longer.
SHORTEST_REPEAT, LONGEST_REPEAT = 3600, 366 * 86_400
LONGEST_SCAN = 7 * 86_400
_MOST_NETWORKS, _MOST_SERVICES = 64, 64
_ENDED = (ScanState.DONE, ScanState.FAILED, ScanState.CANCELED)


@dataclass(frozen=True)
class NewScan:
    """What is to be looked through: networks (CIDR), ports with what is spoken there before TLS (``443``, ``25``,
    ``8025:smtp``; none: the usual ones that the gateway allows), and further names to ask for in SNI. `rate` is
    connections a second, `at_once` how many are open; `every_seconds` None: once."""

    gateway: str | int
    networks: Sequence[str]
    ports: Sequence[str] = ()
    server_names: Sequence[str] = ()
    rate: int = 20
    at_once: int = 16
    timeout_seconds: int = 3
    most_seconds: int = 86_400
    every_seconds: int | None = None


@dataclass(frozen=True)
class ScanRow:
    """A scan and how far it is. `position` of `total` addresses and ports were looked at; `answered` took a connection,
    `found` served a certificate, `fresh` of them had never been seen, `unread` could not be kept."""

    id: int
    gateway: str
    networks: list[str]
    services: list[str]
    server_names: list[str]
    rate: int
    at_once: int
    timeout_seconds: int
    most_seconds: int
    every_seconds: int | None
    asked_by: str
    state: ScanState
    message: str | None
    round: int
    position: int
    total: int
    answered: int
    found: int
    fresh: int
    unread: int
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    next_at: datetime | None

    @property
    def running(self) -> bool:
        """Whether it is looking, or about to."""
        return self.state not in _ENDED


@dataclass(frozen=True)
class Allowed:
    """What a gateway's own settings allow, as it said when it last started. `known` False: it never said."""

    gateway: str
    known: bool
    networks: list[str]
    ports: list[str]
    rate: int
    at_once: int


def allowed(context: Context, gateway: str | int) -> Allowed:
    """What may be looked through there. Raises `NotFound`."""
    with context.database.read() as session:
        owner = lookup.gateway(session, context.actor, gateway)
        told: dict[str, Any] = Rules(ports=()).told() | (owner.discovery or {})
        known = owner.discovery is not None
        return Allowed(owner.name, known, told["networks"], told["ports"], told["rate"], told["at_once"])


async def begin(context: Context, new: NewScan) -> ScanRow:
    """Have a gateway look through networks, from now on. Raises `InvalidInput` (also for what the gateway is known to
    refuse), `NotFound`, `NotPermitted`, `Unavailable`: then it is kept, and the manager begins it as soon as Temporal
    is back."""
    with context.acting("inventory.scan", "gateway") as session:
        owner = lookup.gateway(session, context.actor, new.gateway)
        require_custody(context, session, owner, f"look through the networks of gateway {owner.name}")
        row = _checked(context, owner, new)
        session.add(row)
        session.flush()
        number = identity(row)
        told = f"Gateway {owner.name} looks through {', '.join(row.networks)} for certificates (scan {number}"
        told += f", every {row.every_seconds} seconds)." if row.every_seconds else ")."
        _tell(context, session, owner, told)
    await _run(context, number)
    return show(context, number)


def listing(context: Context, gateway: str | None = None, limit: int = 100) -> list[ScanRow]:
    """The scans of gateways of which the actor may know all, the newest first. Raises `NotFound`."""
    with context.database.read() as session:
        conditions = [lookup.gateways_wholly_seen_by(context.actor), ~col(Gateway.name_key).startswith(lookup.GONE)]
        if gateway is not None:
            conditions.append(col(Gateway.id) == identity(lookup.gateway(session, context.actor, gateway)))
        statement = (
            select(NetworkScan, Gateway.name)
            .join(Gateway, col(Gateway.id) == col(NetworkScan.gateway_id))
            .where(*conditions)
            .order_by(col(NetworkScan.id).desc())
        )
        return [_row(row, name) for row, name in session.exec(statement.limit(limit)).all()]


def show(context: Context, scan_id: int) -> ScanRow:
    """How far a scan is. Raises `NotFound`."""
    with context.database.read() as session:
        row, owner = _found(context, session, scan_id)
        return _row(row, owner.name)


async def again(context: Context, scan_id: int) -> ScanRow:
    """Have it looked through once more, now. Raises `Conflict` (it is being done), `NotFound`, `NotPermitted`,
    `Unavailable`."""
    with context.acting("inventory.scan", "gateway") as session:
        row, owner = _held(context, session, scan_id)
        if row.state not in _ENDED:
            raise Conflict(f"Scan {scan_id} is being carried out: wait until it is over, or cancel it.")
        _refuse(owner, row)
        row.state, row.message = ScanState.WAITING, None
        session.add(row)
        _tell(context, session, owner, f"Gateway {owner.name} carries out scan {scan_id} again.")
    await _run(context, scan_id)
    return show(context, scan_id)


async def cancel(context: Context, scan_id: int) -> ScanRow:
    """End it now, and begin it no more by itself; what was found stays. Raises `Conflict` (there is nothing to cancel),
    `NotFound`, `NotPermitted`, `Unavailable`."""
    with context.acting("inventory.scan", "gateway") as session:
        row, owner = _held(context, session, scan_id)
        if row.state in _ENDED and row.next_at is None:
            raise Conflict(f"Scan {scan_id} is over already.")
        row.every_seconds = row.next_at = None
        session.add(row)
        _tell(context, session, owner, f"Scan {scan_id} of gateway {owner.name} is canceled.")
    if not await _signal(context, scan_id, "cancel"):
        with context.database.write() as session:
            row, _ = _found(context, session, scan_id)
            if row.state not in _ENDED:
                # Nobody carries it out: it was never started, or its workflow was ended from outside.
                row.state, row.ended_at = ScanState.CANCELED, context.clock()
                session.add(row)
    return show(context, scan_id)


async def remove(context: Context, scan_id: int) -> None:
    """Forget a scan; what it found stays in the inventory. Raises `Conflict` (it is being done), `NotFound`,
    `NotPermitted`, `Unavailable`."""
    with context.acting("inventory.scan", "gateway") as session:
        row, owner = _held(context, session, scan_id)
        if row.state not in _ENDED:
            raise Conflict(f"Scan {scan_id} is being carried out: cancel it first.")
        session.delete(row)
        _tell(context, session, owner, f"Scan {scan_id} of gateway {owner.name} was removed.")
    await _signal(context, scan_id, "look_again")


def _checked(context: Context, owner: Gateway, new: NewScan) -> NetworkScan:
    if not new.networks or len(new.networks) > _MOST_NETWORKS:
        raise InvalidInput(f"Name 1 to {_MOST_NETWORKS} networks, such as 10.0.0.0/24.")
    if len(new.ports) > _MOST_SERVICES:
        raise InvalidInput(f"Name at most {_MOST_SERVICES} ports.")
    if len(new.server_names) > scan.MOST_NAMES:
        raise InvalidInput(f"Name at most {scan.MOST_NAMES} names to ask for.")
    for what, value, least, most in (
        ("connections a second", new.rate, 1, scan.MOST_RATE),
        ("connections at once", new.at_once, 1, scan.MOST_AT_ONCE),
        ("seconds for a connection", new.timeout_seconds, 1, 10),
        ("seconds for a scan", new.most_seconds, 60, LONGEST_SCAN),
        ("seconds from one scan to the next", new.every_seconds or SHORTEST_REPEAT, SHORTEST_REPEAT, LONGEST_REPEAT),
    ):
        if not least <= value <= most:
            raise InvalidInput(f"There may be {least} to {most} {what}, not {value}.")
    try:
        networks = [scan.network(word) for word in new.networks]
        rules = Rules.read(owner.discovery) if owner.discovery is not None else None
        services = [scan.service(word) for word in new.ports] or _usual(rules)
        Targets(networks, services)
    except Permanent as error:
        raise InvalidInput(error.message) from None
    wanted = names.normalize_names(new.server_names[0], new.server_names) if new.server_names else []
    if any("*" in name for name in wanted):
        raise InvalidInput("A name to ask for is a host's, without a wildcard.")
    row = NetworkScan(
        gateway_id=identity(owner),
        networks=[str(one) for one in networks],
        services=[{"port": one.port, "starttls": str(one.starttls) if one.starttls else None} for one in services],
        server_names=wanted,
        rate=new.rate,
        at_once=new.at_once,
        timeout_seconds=new.timeout_seconds,
        most_seconds=new.most_seconds,
        every_seconds=new.every_seconds,
        asked_by=context.actor.described,
        created_at=context.clock(),
    )
    _refuse(owner, row)
    return row


def _usual(rules: Rules | None) -> list[Service]:
    """The usual ports, as far as the gateway allows them."""
    usual = [scan.service(str(port)) for port in scan.USUAL_PORTS]
    if rules is None:
        return usual
    kept = [one for one in usual if any(first <= one.port <= last for first, last in rules.ports)]
    if not kept:
        raise InvalidInput("The gateway allows none of the usual ports: name ports that it allows.")
    return kept


def _refuse(owner: Gateway, row: NetworkScan) -> None:
    """What the gateway is known to refuse is refused here; whatever this says, it judges by its own settings."""
    if owner.discovery is None:
        return
    services = [Service(int(one["port"])) for one in row.services]
    refused = Rules.read(owner.discovery).refusal([scan.network(word) for word in row.networks], services)
    if refused is not None:
        raise InvalidInput(refused)


def _found(context: Context, session: Session, scan_id: int) -> tuple[NetworkScan, Gateway]:
    statement = (
        select(NetworkScan, Gateway)
        .join(Gateway, col(Gateway.id) == col(NetworkScan.gateway_id))
        .where(NetworkScan.id == scan_id, lookup.gateways_wholly_seen_by(context.actor))
        .where(~col(Gateway.name_key).startswith(lookup.GONE))
    )
    found = session.exec(statement).one_or_none()
    if found is None:
        raise NotFound(f"There is no network scan {scan_id}: `certgate inventory scans` shows what there is.")
    return found


def _held(context: Context, session: Session, scan_id: int) -> tuple[NetworkScan, Gateway]:
    row, owner = _found(context, session, scan_id)
    lookup.gateway(session, context.actor, identity(owner))
    require_custody(context, session, owner, f"look through the networks of gateway {owner.name}")
    return row, owner


async def start(client: Client, scan_id: int) -> None:
    """Start the workflow of a scan, or have the one that runs look at its record. Raises `Unavailable`."""
    try:
        await client.start_workflow(
            NetworkScanWorkflow.run,
            ScanStart(scan_id),
            id=naming.scan_workflow(scan_id),
            task_queue=naming.MANAGER_QUEUE,
            id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
            start_signal="look_again",
            static_summary=f"Network scan {scan_id}",
        )
    except RPCError as error:
        raise Unavailable(f"Temporal does not answer ({error.message}).") from error


async def _run(context: Context, scan_id: int) -> None:
    try:
        await start(await context.temporal(), scan_id)
    except Unavailable as error:
        raise Unavailable(
            f"Scan {scan_id} is kept, but could not be started ({error.message}) The manager starts it as soon as "
            "Temporal is back."
        ) from error


async def _signal(context: Context, scan_id: int, signal: str) -> bool:
    """Tell the workflow. False where none runs any more."""
    client = await context.temporal()
    try:
        await client.get_workflow_handle(naming.scan_workflow(scan_id)).signal(signal)
    except RPCError as error:
        if error.status is not RPCStatusCode.NOT_FOUND:
            raise Unavailable(f"Temporal does not answer ({error.message}).") from error
        return False
    return True


def _tell(context: Context, session: Session, owner: Gateway, told: str) -> None:
    scope, number = access.scope_of_gateway(session, owner), identity(owner)
    context.tell(session, "inventory.scan", "gateway", told, object_id=number, gateway_id=number, scope=scope)


def _row(row: NetworkScan, gateway: str) -> ScanRow:
    return ScanRow(
        id=identity(row),
        gateway=gateway,
        networks=list(row.networks),
        services=[f"{one['port']}:{one['starttls']}" if one["starttls"] else str(one["port"]) for one in row.services],
        server_names=list(row.server_names),
        rate=row.rate,
        at_once=row.at_once,
        timeout_seconds=row.timeout_seconds,
        most_seconds=row.most_seconds,
        every_seconds=row.every_seconds,
        asked_by=row.asked_by,
        state=row.state,
        message=row.message,
        round=row.round,
        position=row.position,
        total=row.total,
        answered=row.answered,
        found=row.found,
        fresh=row.fresh,
        unread=row.unread,
        created_at=row.created_at,
        started_at=row.started_at,
        ended_at=row.ended_at,
        next_at=row.next_at,
    )
