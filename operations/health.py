"""Is everything as it should be? One finding a question; nothing is changed."""

from __future__ import annotations

import asyncio
import stat
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy import func, text
from sqlmodel import col, select
from temporalio.api.enums.v1 import TaskQueueType
from temporalio.api.operatorservice.v1 import ListSearchAttributesRequest
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest
from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.service import RPCError, RPCStatusCode

from connectors.errors import ConnectorError
from connectors.notices.settings import NotificationSettings
from connectors.registry import Surroundings
from model import naming
from model.errors import CertgateError, Unavailable
from model.states import ConnectionStatus, InstallState
from model.tables import CertificateAuthority, CertificateRequest, Gateway
from operations import (
    authorities,
    delivery,
    gateways,
    inventory_expiry,
    lookup,
    manager_key,
    notifications,
    trust,
    trust_expiry,
)
from operations.context import Context
from operations.lookup import identity
from workflows import attributes

# Certificates are judged with five minutes of tolerance; a minute off deserves a word.
_CLOCK_TOLERANCE = timedelta(seconds=60)
_NOT_STARTED_AFTER = timedelta(minutes=1)
_LOOKED_AT = 200
_NO_WAYS = NotificationSettings()
_BEATS_AWAITED = 7  # seconds; workers beat every five
_NEEDS_A_PERSON = (InstallState.FAILED, InstallState.ACTION_REQUIRED, InstallState.ROLLED_BACK)


@dataclass(frozen=True)
class Finding:
    """The answer to one question: fine, not fine, or (None) it could not be asked or deserves a look."""

    name: str
    ok: bool | None
    message: str


async def doctor(
    context: Context, surroundings: Surroundings, telling: NotificationSettings = _NO_WAYS
) -> list[Finding]:
    """Ask everything, as far as it can be asked; for MRAOs. Raises `NotPermitted`."""
    if not context.actor.owns_everything:
        with context.acting("installation.examined", "installation"):
            context.require_owner("examine the whole installation")
    findings = [*home_findings(surroundings.home), *_clock_of_files(surroundings.home)]
    database = list(database_findings(context))
    findings += database
    usable = all(finding.ok for finding in database)
    client: Client | None = None
    try:
        client = await context.temporal()
        findings.append(Finding("temporal", True, f"Temporal answers for the namespace '{client.namespace}'."))
    except CertgateError as error:
        findings.append(Finding("temporal", False, error.message))
    if client is not None:
        findings.append(await _search_attributes(client))
        findings += await _manager(client, context.clock())
    if usable:
        if client is not None:
            findings += await _gateways(context)
        findings += await _authorities(context, surroundings)
        findings += list(_stuck(context))
        findings += list(_endings(context))
        findings += list(_unmanaged(context))
        findings += list(_clocks(context))
        findings += await _notifications(context, surroundings, telling)
        if client is not None:
            findings.append(await _workflows(context, client))
    return findings


def database_findings(context: Context) -> Iterator[Finding]:
    """Whether the database answers, is of this release, and has the same time."""
    try:
        found, newest = context.database.revision(), context.database.newest_revision()
    except CertgateError as error:
        yield Finding("database", False, error.message)
        return
    if found != newest:
        told = f"The schema of {context.database.describe()} is {found or 'empty'}, this release has {newest}: "
        yield Finding("database", False, told + "run `certgate database upgrade`.")
        return
    yield Finding("database", True, f"{context.database.describe()} answers; its schema is {found}.")
    if not context.database.is_sqlite:
        with context.database.read() as session:
            there = session.connection().execute(text("SELECT now()")).scalar_one()
        yield _clock("clock of the database", there - context.clock())


def home_findings(home: Path) -> Iterator[Finding]:
    """Whether nobody else can read the home and the keys in it."""
    mode = stat.S_IMODE(home.stat().st_mode)
    if mode & 0o077:
        yield Finding("home", False, f"{home} has mode {mode:04o}, so others can look into it: run chmod 700 on it.")
    else:
        yield Finding("home", True, f"{home} is closed to others.")
    open_files = []
    for folder in (home / "ca", home / "gateway"):
        for path in folder.rglob("*"):
            if path.is_file() and not path.is_symlink() and stat.S_IMODE(path.stat().st_mode) & 0o077:
                open_files.append(path)
    own = home / manager_key.FILE_NAME
    if own.is_file() and stat.S_IMODE(own.stat().st_mode) & 0o077:
        open_files.append(own)
    keys = [path for path in open_files if "key" in path.name or path.suffix == ".db"]
    if keys:
        told = f"{keys[0]} can be read by others: run chmod 600 on it"
        yield Finding("keys", False, told + (f" (and {len(keys) - 1} more)." if len(keys) > 1 else "."))
    else:
        yield Finding("keys", True, "No key in the home can be read by others.")


def _clock_of_files(home: Path) -> Iterator[Finding]:
    try:
        with tempfile.NamedTemporaryFile(dir=home, prefix=".clock") as file:
            there = Path(file.name).stat().st_mtime
    except OSError as error:
        yield Finding("clock", None, f"{home} can't be written ({error.strerror}), so its clock was not compared.")
        return
    yield _clock("clock", timedelta(seconds=there - time.time()))


def _clock(name: str, off: timedelta) -> Finding:
    seconds = off.total_seconds()
    if abs(off) > _CLOCK_TOLERANCE:
        return Finding(name, False, f"The clocks differ by {seconds:+.0f} s: let this machine's be set (NTP).")
    return Finding(name, True, f"The clocks agree to within {max(1, round(abs(seconds)))} s.")


async def _search_attributes(client: Client) -> Finding:
    try:
        answer = await client.operator_service.list_search_attributes(
            ListSearchAttributesRequest(namespace=client.namespace)
        )
    except RPCError as error:
        return Finding("search attributes", None, f"Temporal does not tell its search attributes ({error.message}).")
    missing = [key.name for key in attributes.ALL if key.name not in answer.custom_attributes]
    if missing:
        told = f"The namespace '{client.namespace}' lacks {', '.join(missing)}: start the manager, or make them there."
        return Finding("search attributes", False, told)
    return Finding("search attributes", True, "All search attributes are registered.")


async def _manager(client: Client, now: datetime) -> list[Finding]:
    try:
        answer = await client.workflow_service.describe_task_queue(
            DescribeTaskQueueRequest(
                namespace=client.namespace,
                task_queue=TaskQueue(name=naming.MANAGER_QUEUE),
                task_queue_type=TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW,
            )
        )
    except RPCError as error:
        return [Finding("manager", False, f"Temporal does not tell who serves the manager's queue ({error.message}).")]
    if not answer.pollers:
        return [Finding("manager", False, "No manager takes work from Temporal: start one with `certgate manager`.")]
    findings = [Finding("manager", True, f"{len({one.identity for one in answer.pollers})} manager(s) take work.")]
    # The server's own time of the last poll; it can't be later than now.
    latest = max(one.last_access_time.ToDatetime(tzinfo=UTC) for one in answer.pollers)
    if latest > now:
        findings.append(_clock("clock of Temporal", latest - now))
    return findings


async def _gateways(context: Context) -> list[Finding]:
    rows = gateways.listing(context).rows
    away = {row.id for row in rows if row.active and row.joined_at is not None}
    try:
        # A worker that has just started is seen from its first heartbeat on.
        for _ in range(_BEATS_AWAITED):
            statuses = await gateways.statuses(context)
            if not any(statuses.get(number) == ConnectionStatus.DISCONNECTED for number in away):
                break
            await asyncio.sleep(1)
    except Unavailable as error:
        return [Finding("gateways", None, error.message)]
    findings = []
    for row in rows:
        status = statuses.get(row.id, ConnectionStatus.PENDING)
        name = f"gateway {row.name}"
        if not row.active:
            findings.append(Finding(name, None, f"Gateway {row.name} is switched off; it is {status.lower()}."))
        elif status == ConnectionStatus.PENDING:
            findings.append(Finding(name, None, f"Gateway {row.name} has not joined yet."))
        else:
            connected = status == ConnectionStatus.CONNECTED
            findings.append(Finding(name, connected, f"Gateway {row.name} is {status.lower()}."))
    return findings


async def _authorities(context: Context, surroundings: Surroundings) -> list[Finding]:
    with context.database.read() as session:
        rows = session.exec(select(CertificateAuthority).order_by(col(CertificateAuthority.name))).all()
    findings = []
    for row in rows:
        name = f"ca {row.name}"
        if not row.active:
            findings.append(Finding(name, None, f"CA {row.name} is switched off."))
            continue
        try:
            health = await authorities.health_of(row, surroundings)
            findings.append(Finding(name, health.usable, health.message))
        except Unavailable as error:
            findings.append(Finding(name, None, error.message))
    return findings


def _clocks(context: Context) -> Iterator[Finding]:
    """Gateways whose clock was seen to be wrong by the manager's watch. Their status is right in spite of it; what they
    judge by their clock is not."""
    with context.database.read() as session:
        wrong = func.abs(Gateway.clock_offset) > _CLOCK_TOLERANCE.total_seconds()
        living = ~col(Gateway.name_key).startswith(lookup.GONE)
        rows = session.exec(select(Gateway).where(wrong, living).order_by(col(Gateway.name_key))).all()
    for row in rows:
        told = f"The clock of its host is {row.clock_offset or 0:+.0f} s off: let it be set (NTP)."
        yield Finding(f"clock of gateway {row.name}", False, told)


async def _notifications(context: Context, surroundings: Surroundings, settings: NotificationSettings) -> list[Finding]:
    """Whether the ways that are set up work, without sending anything, and whether something is stuck."""
    findings = []
    for name, way in delivery.ways_of(settings, surroundings.secret, context.clock).items():
        try:
            findings.append(Finding(f"notifications by {name}", True, await way.check()))
        except ConnectorError as error:
            findings.append(Finding(f"notifications by {name}", False, error.message))
    late = notifications.late(context)
    if late:
        told = f"{late} could not be delivered yet, or at all: `certgate notification list --json` says why."
        findings.append(Finding("notifications not delivered", None, told))
    return findings


def _stuck(context: Context) -> Iterator[Finding]:
    now = context.clock()
    with context.database.read() as session:
        rows = session.exec(select(CertificateRequest).where(~col(CertificateRequest.closed))).all()
    late = [row for row in rows if not row.started and now - row.created_at > _NOT_STARTED_AFTER]
    if late:
        told = f"{_numbers(late)} not started: a manager that reaches Temporal starts them."
        yield Finding("requests not started", False, told)
    waiting = [row for row in rows if row.install_state in _NEEDS_A_PERSON]
    if waiting:
        first = waiting[0]
        told = f"{_numbers(waiting)} waiting for a person; {first.id}: {first.reason or first.install_state}"
        yield Finding("requests that need a person", None, told)
    if not late and not waiting:
        yield Finding("requests", True, f"{len(rows)} open, none stuck.")


def _endings(context: Context) -> Iterator[Finding]:
    """CA certificates that end soon, and requests that wait for one that is not trusted."""
    found = trust_expiry.ending(context)
    for one in found:
        yield Finding("ca certificate", False, trust_expiry.told_of(one, context.clock()))
    for waiting in trust.waiting(context):
        numbers = ", ".join(str(one.id) for one in waiting.requests[:10])
        told = f"Waiting for the certificate of {waiting.missing_issuer} among the trusted ones: request {numbers}."
        yield Finding("ca certificate", False, told)
    if not found:
        yield Finding("ca certificates", True, "None that is trusted or in use ends within 90 days.")


def _unmanaged(context: Context) -> Iterator[Finding]:
    """Unmanaged certificates that are served somewhere and end soon."""
    found = inventory_expiry.ending(context)
    name = "unmanaged certificates"
    if not found.total:
        yield Finding(name, True, "None that is seen anywhere ends within 90 days.")
        return
    yield Finding(name, found.ended == 0 and None, inventory_expiry.told_of(found))


async def _workflows(context: Context, client: Client) -> Finding:
    """Rows whose workflow is gone: it was terminated, or its history was deleted."""
    name = "workflows"
    with context.database.read() as session:
        statement = select(CertificateRequest).where(~col(CertificateRequest.closed), col(CertificateRequest.started))
        rows = session.exec(statement.order_by(col(CertificateRequest.id))).all()
    try:
        running = set()
        if rows:
            query = "WorkflowType = 'CertificateRequest' AND ExecutionStatus = 'Running'"
            running = {workflow.id async for workflow in client.list_workflows(query)}
        suspects = [row for row in rows if naming.request_workflow(identity(row)) not in running]
        # The list lags behind a little: each suspect is asked for by itself.
        gone = [row for row in suspects[:_LOOKED_AT] if not await _runs(client, identity(row))]
    except (RPCError, Unavailable) as error:
        return Finding(name, None, f"Temporal does not tell its workflows ({error}).")
    with context.database.read() as session:
        gone = [row for row in gone if not session.get_one(CertificateRequest, identity(row)).closed]
    if gone:
        told = f"{_numbers(gone)} open, but the workflow ended without saying so (terminated?): submit anew."
        return Finding(name, False, told)
    return Finding(name, True, f"All {len(rows)} open requests have their running workflow.")


async def _runs(client: Client, request_id: int) -> bool:
    try:
        description = await client.get_workflow_handle(naming.request_workflow(request_id)).describe()
    except RPCError as error:
        if error.status == RPCStatusCode.NOT_FOUND:
            return False
        raise
    return description.status == WorkflowExecutionStatus.RUNNING


def _numbers(rows: list[CertificateRequest]) -> str:
    shown = ", ".join(str(row.id) for row in rows[:5]) + (" …" if len(rows) > 5 else "")
    return f"Request {shown} is" if len(rows) == 1 else f"{len(rows)} requests ({shown}) are"
