"""Sync of modules: compare a gateway's own file with the manager's records, and bring both together.

An order is kept in the records first, under a number, and then a workflow carries it out (`workflows/modules.py`); what
it finds is kept in the records for the faces.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement
from sqlmodel import Session, col, select
from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.service import RPCError, RPCStatusCode

from activities.modules_records import manager_documents
from model import messages, naming
from model.errors import CertgateError, Conflict, InvalidInput, Unavailable
from model.rules import modules
from model.rules.modules import RUNNING, Connector, Deed, Direction, Side, Standing, SyncState
from model.states import Privilege
from model.tables import Gateway, GatewaySync
from operations import lookup
from operations.context import Context
from operations.gateways import custodies, require_custody, tell
from operations.lookup import identity
from workflows.modules import GatewaySyncWorkflow

_AT_ONCE = 20
_EVERY_SECONDS = 0.1
_AGAIN = (0.1, 0.5)


@dataclass(frozen=True)
class Line:
    """One thing that the two sides do not have alike. Values are settings and references, never secrets; None: that
    side has no such thing. `left` says why the last sync left it alone."""

    key: str
    kind: str
    name: str
    standing: Standing
    at_manager: Deed
    at_gateway: Deed
    manager: Any
    gateway: Any
    takeover_problem: str | None
    writing_problem: str | None
    left: str | None

    @property
    def undecided(self) -> bool:
        """Whether an administrator has to say whose value counts."""
        return self.standing == Standing.CONFLICT

    @property
    def note(self) -> str | None:
        """What one should know of it: why it was left alone, or why it can't go the way that it would go."""
        if self.standing == Standing.TO_GATEWAY:
            return self.left or self.writing_problem
        return self.left or self.takeover_problem or self.writing_problem


@dataclass(frozen=True)
class SyncRow:
    """Where the sync of one gateway stands. `revision` is what both sides agreed on last, `gateway_revision` what the
    gateway's file said when it was read last; `changed_here` counts what the manager's side changed since `revision`,
    now, `changed_there` what the gateway's file had changed when it was read."""

    gateway_id: int
    gateway: str
    state: SyncState
    message: str | None
    direction: Direction
    asked_by: str | None
    revision: int
    gateway_revision: int | None
    changed_here: int
    changed_there: int
    differences: int
    conflicts: int
    updated_at: datetime | None

    @property
    def running(self) -> bool:
        """Whether a workflow is on it."""
        return self.state in RUNNING


@dataclass(frozen=True)
class SyncDetail:
    """The last comparison of one gateway. The digests name what was seen: an order that is given with them is carried
    out on exactly that, or not at all."""

    row: SyncRow
    lines: list[Line]
    connectors: list[modules.ConnectorDifference]
    note: str | None
    same: int
    compared_at: datetime | None
    manager_digest: str | None
    gateway_digest: str | None


@dataclass(frozen=True)
class Order:
    """What is to be done: only look (`apply` false), or bring together what may go in `direction`.

    `decisions` say of keys such as ``endpoint:web`` whose value counts. `seen` are the digests of the comparison that
    the administrator looked at, the manager's and the gateway's; decisions need them.
    """

    apply: bool = False
    direction: Direction = Direction.BOTH
    decisions: Mapping[str, Side] = field(default_factory=dict)
    seen: tuple[str, str] | None = None


@dataclass(frozen=True)
class Started:
    """One of several orders. `problem` says why it was not begun."""

    gateway_id: int
    gateway: str
    problem: str | None = None


def show(context: Context, which: str | int) -> SyncDetail:
    """What the last comparison found, and where a running sync stands. Raises `NotFound`."""
    with context.database.read() as session:
        gateway = lookup.gateway(session, context.actor, which)
        sync = _sync(session, identity(gateway))
        seen = sync.seen
        return SyncDetail(
            row=_row(gateway, sync, manager_documents(session, [gateway])[identity(gateway)]),
            lines=[_line(values) for values in sync.difference],
            connectors=[modules.ConnectorDifference(**values) for values in seen.get("connectors", [])],
            note=seen.get("note"),
            same=int(seen.get("same", 0)),
            compared_at=datetime.fromisoformat(seen["at"]) if "at" in seen else None,
            manager_digest=seen.get("manager_digest"),
            gateway_digest=seen.get("gateway_digest"),
        )


def progress(context: Context, which: Sequence[str | int] | None = None) -> list[SyncRow]:
    """Where the syncs of these gateways stand, or of all that the actor may manage; by name. Raises `NotFound`."""
    with context.database.read() as session:
        if which is None:
            gateways = _manageable(context, session)
        else:
            gateways = [lookup.gateway(session, context.actor, one) for one in dict.fromkeys(which)]
        found = session.exec(select(GatewaySync).where(_among(gateways))).all()
        known = {row.gateway_id: row for row in found}
        here = manager_documents(session, gateways)
        return [
            _row(gateway, known.get(identity(gateway)) or _never(identity(gateway)), here[identity(gateway)])
            for gateway in sorted(gateways, key=lambda one: one.name_key)
        ]


def seal(value: Any) -> str:
    """A short name for a value, the same for equal ones."""
    return modules.digest({"value": value})[:16]


def preview(detail: SyncDetail, order: Order) -> modules.Plan:
    """What an order would do with the difference that is shown. Raises `InvalidInput`."""
    items = [
        modules.Item(
            line.key,
            line.standing,
            line.at_manager,
            line.at_gateway,
            line.manager,
            line.gateway,
            line.takeover_problem,
            line.writing_problem,
        )
        for line in detail.lines
    ]
    return modules.plan(items, order.direction, order.decisions)


async def start(context: Context, which: str | int, order: Order) -> SyncRow:
    """Begin to compare, or to bring together. A comparison that is under way already is followed instead.

    Raises `Conflict` while another order is carried out, `InvalidInput`, `NotFound`, `NotPermitted`, `Unavailable`.
    """
    (started,) = await start_many(context, [which], order)
    if started.problem is not None:
        raise Conflict(started.problem)
    return progress(context, [which])[0]


async def start_many(context: Context, which: Sequence[str | int], order: Order) -> list[Started]:
    """Begin for several gateways, each by itself: one that is away keeps none of the others waiting.

    Raises `NotFound`, `NotPermitted` for any of them, before any is begun; `InvalidInput`, `Unavailable`.
    """
    _check(order, len(set(which)))
    with context.acting("gateway.sync_asked", "gateway") as session:
        gateways = [lookup.gateway(session, context.actor, one) for one in dict.fromkeys(which)]
        for gateway in gateways:
            require_custody(context, session, gateway, f"sync the modules of gateway {gateway.name}")
        rows = session.exec(select(GatewaySync).where(_among(gateways))).all()
    client = await context.temporal()
    busy = {row.gateway_id: row for row in rows if row.state in RUNNING}
    alive = dict(zip(busy, await asyncio.gather(*(_alive(client, number) for number in busy)), strict=True))
    begun, to_start = [], []
    with context.database.write() as session:
        for gateway in gateways:
            number = identity(gateway)
            sync = _sync(session, number)
            same_order = number in busy and sync.asked == busy[number].asked
            if sync.state in RUNNING and (alive.get(number, True) or not same_order):
                if not order.apply:
                    begun.append(Started(number, gateway.name))
                    continue
                if sync.asked.get("apply"):
                    told = (
                        f"A sync of gateway {gateway.name}, asked by {sync.asked_by}, is under way: wait or cancel it."
                    )
                    begun.append(Started(number, gateway.name, told))
                    continue
            _keep_order(context, session, gateway, sync, order)
            begun.append(Started(number, gateway.name))
            to_start.append((number, int(sync.asked["number"])))
    await _start_all(context, client, to_start)
    return begun


async def cancel(context: Context, which: str | int) -> SyncRow:
    """End a sync that is under way. What came from the gateway already is kept; nothing is lost on either side.

    Raises `Conflict` when none is under way, `NotFound`, `NotPermitted`, `Unavailable`.
    """
    with context.acting("gateway.sync_canceled", "gateway") as session:
        gateway = lookup.gateway(session, context.actor, which)
        number = identity(gateway)
        require_custody(context, session, gateway, f"cancel the sync of gateway {gateway.name}")
        sync = _sync(session, number)
        if sync.state not in RUNNING:
            raise Conflict(f"No sync of gateway {gateway.name} is under way.")
        sync.asked = {**sync.asked, "canceled_by": context.actor.login}
        session.add(sync)
        told = f"The sync of gateway {gateway.name} was canceled."
        tell(context, session, "gateway.sync_canceled", gateway, told)
    client = await context.temporal()
    if await _alive(client, number):
        await nudge(client, number)
        await wait(context, which, timedelta(seconds=10))
    else:
        with context.database.write() as session:
            sync = _sync(session, number)
            sync.state, sync.message = SyncState.CANCELED, f"Canceled by {context.actor.login}."
            session.add(sync)
    return progress(context, [which])[0]


async def wait(context: Context, which: str | int, patience: timedelta | None = None) -> SyncDetail:
    """Wait for the end of a sync that is under way, at most for `patience`. Raises `NotFound`."""
    loop = asyncio.get_running_loop()
    end = None if patience is None else loop.time() + patience.total_seconds()
    while True:
        detail = show(context, which)
        if not detail.row.running or (end is not None and loop.time() >= end):
            return detail
        await asyncio.sleep(_EVERY_SECONDS)


async def nudge(client: Client, gateway_id: int) -> None:
    """Have a running sync look at its order and its gateway's channel again; nothing happens where none runs."""
    try:
        await client.get_workflow_handle(naming.sync_workflow(gateway_id)).signal(GatewaySyncWorkflow.nudge)
    except RPCError as error:
        if error.status != RPCStatusCode.NOT_FOUND:
            raise Unavailable(f"Temporal does not answer ({error.message}).") from error


async def start_workflow(client: Client, gateway_id: int, number: int) -> None:
    """Have the order of that number carried out. One that ran before for the gateway has been replaced by it."""
    await client.start_workflow(
        GatewaySyncWorkflow.run,
        messages.SyncStart(gateway_id, number),
        id=naming.sync_workflow(gateway_id),
        task_queue=naming.MANAGER_QUEUE,
        id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
        id_conflict_policy=WorkflowIDConflictPolicy.TERMINATE_EXISTING,
        static_summary=f"Sync of gateway {gateway_id}",
    )


def _check(order: Order, count: int) -> None:
    if order.decisions and (order.seen is None or not order.apply):
        raise InvalidInput("Decisions are about a difference that was looked at: compare first.")
    if order.seen is not None and count != 1:
        raise InvalidInput("A difference that was looked at is that of one gateway.")
    for key in order.decisions:
        if modules.split(key)[0] not in (modules.PROPERTY, modules.ENDPOINT, modules.KEYSTORE):
            raise InvalidInput(f"{key!r} is not a thing such as endpoint:web, keystore:default or property:comments.")


def _keep_order(context: Context, session: Session, gateway: Gateway, sync: GatewaySync, order: Order) -> None:
    """Write the order into the records; the workflow takes it from there."""
    number = int(sync.asked.get("number", 0)) + 1
    seen = order.seen or (None, None)
    sync.asked = {
        "number": number,
        "by": context.actor.login,
        "described": context.actor.described,
        "method": str(context.access_method),
        "apply": order.apply,
        "direction": str(order.direction),
        "decisions": {key: str(side) for key, side in order.decisions.items()},
        "manager_digest": seen[0],
        "gateway_digest": seen[1],
    }
    sync.state, sync.message, sync.plan = SyncState.ASKED, None, {}
    sync.direction, sync.asked_by, sync.updated_at = order.direction, context.actor.login, context.clock()
    session.add(sync)
    if order.apply:
        decided = "".join(f"; of {key} the {side}'s value counts" for key, side in order.decisions.items())
        way = {Direction.BOTH: "both ways", Direction.TO_GATEWAY: "to the gateway only"}.get(
            order.direction, "from the gateway only"
        )
        told = f"A sync of the modules of gateway {gateway.name} was asked for, {way}{decided}."
        tell(context, session, "gateway.sync_asked", gateway, told)


async def _start_all(context: Context, client: Client, orders: Sequence[tuple[int, int]]) -> None:
    turn = asyncio.Semaphore(_AT_ONCE)

    async def begin(gateway_id: int, number: int) -> None:
        async with turn:
            for pause in _AGAIN:
                try:
                    return await start_workflow(client, gateway_id, number)
                except RPCError:
                    # The run that is replaced may be ending at this very moment.
                    await asyncio.sleep(pause)
            return await start_workflow(client, gateway_id, number)

    results = await asyncio.gather(*(begin(*one) for one in orders), return_exceptions=True)
    lost = [one for one, result in zip(orders, results, strict=True) if isinstance(result, BaseException)]
    if not lost:
        return
    problem = next(result for result in results if isinstance(result, BaseException))
    if not isinstance(problem, RPCError | CertgateError):
        raise problem
    with context.database.write() as session:
        for gateway_id, number in lost:
            sync = _sync(session, gateway_id)
            if sync.asked.get("number") == number:
                sync.state, sync.message = SyncState.FAILED, "Temporal did not answer: ask again."
                session.add(sync)
    raise Unavailable(
        f"Temporal does not answer ({problem}): {len(lost)} of {len(orders)} syncs were not begun; ask again."
    )


async def _alive(client: Client, gateway_id: int) -> bool:
    try:
        description = await client.get_workflow_handle(naming.sync_workflow(gateway_id)).describe()
    except RPCError as error:
        if error.status == RPCStatusCode.NOT_FOUND:
            return False
        raise Unavailable(f"Temporal does not answer ({error.message}).") from error
    return description.status == WorkflowExecutionStatus.RUNNING


def _manageable(context: Context, session: Session) -> list[Gateway]:
    living = ~col(Gateway.name_key).startswith(lookup.GONE)
    seen = session.exec(select(Gateway).where(lookup.gateways_seen_by(context.actor), living)).all()
    scopes = custodies(session, seen)
    return [
        one
        for one in seen
        if all(context.actor.may(Privilege.MANAGE_GATEWAYS, scope) for scope in scopes[identity(one)])
    ]


def _among(gateways: Sequence[Gateway]) -> ColumnElement[bool]:
    return col(GatewaySync.gateway_id).in_([identity(one) for one in gateways])


def _sync(session: Session, gateway_id: int) -> GatewaySync:
    row = session.exec(select(GatewaySync).where(GatewaySync.gateway_id == gateway_id)).one_or_none()
    return row or _never(gateway_id)


def _never(gateway_id: int) -> GatewaySync:
    return GatewaySync(gateway_id=gateway_id)


def _line(values: Mapping[str, Any]) -> Line:
    kind, name = modules.split(values["key"])
    return Line(
        key=values["key"],
        kind=kind,
        name=name,
        standing=Standing(values["standing"]),
        at_manager=Deed(values["at_manager"]),
        at_gateway=Deed(values["at_gateway"]),
        manager=values["manager"],
        gateway=values["gateway"],
        takeover_problem=values["takeover_problem"],
        writing_problem=values["writing_problem"],
        left=values["left"],
    )


def _row(gateway: Gateway, sync: GatewaySync, here: modules.Document) -> SyncRow:
    agreed = sync.agreed or {}
    seen = sync.seen or {}
    return SyncRow(
        gateway_id=identity(gateway),
        gateway=gateway.name,
        state=SyncState(sync.state or "never"),
        message=sync.message,
        direction=Direction(sync.direction or "both"),
        asked_by=sync.asked_by,
        revision=sync.revision or 0,
        gateway_revision=seen.get("gateway_revision"),
        changed_here=sum(agreed.get(key) != here.get(key) for key in {*agreed, *here}),
        changed_there=int(seen.get("gateway_changes", 0)),
        differences=len(sync.difference or []),
        conflicts=sum(one["standing"] == Standing.CONFLICT for one in sync.difference or []),
        updated_at=sync.updated_at,
    )


__all__ = [
    "Connector",
    "Deed",
    "Direction",
    "Line",
    "Order",
    "Side",
    "Standing",
    "Started",
    "SyncDetail",
    "SyncRow",
    "SyncState",
    "cancel",
    "nudge",
    "preview",
    "progress",
    "seal",
    "show",
    "start",
    "start_many",
    "start_workflow",
    "wait",
]
