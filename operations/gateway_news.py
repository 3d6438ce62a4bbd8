"""Open requests hear when their gateway changes: restored, joined, delegated otherwise, set (in)active, deleted.

Nothing has to be marked by who changes a gateway. What open requests need to know of one is put into one word, its
*standing*; the manager compares it with what it told last and tells the requests where they differ. So a change reaches
them also if the engine was away, or the process died, when it was made. A gateway that changed and changed back in
between stands as before; then its revision has grown, and the requests that were held meanwhile are told.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections import defaultdict
from collections.abc import Sequence

import structlog
from sqlalchemy import select, update
from sqlmodel import col
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from model import access, naming
from model.database import Database
from model.errors import CertgateError, Unavailable
from model.states import InstallState
from model.tables import CertificateRequest, Delegation, Gateway, GatewayChannel

log = structlog.get_logger(__name__)

SIGNAL = "gateway_changed"
_EVERY_SECONDS = 2.0
_AT_ONCE = 50


async def tell_requests(database: Database, client: Client) -> int:
    """Tell the open requests of every gateway that changed since they were told last; gives how many were told. Raises
    `Unavailable`; what was not told then is told the next time."""
    told = 0
    for gateway_id, (standing, only_held) in _changed(database).items():
        numbers = _open_requests(database, gateway_id, only_held=only_held)
        for start in range(0, len(numbers), _AT_ONCE):
            await asyncio.gather(*(_tell(client, number) for number in numbers[start : start + _AT_ONCE]))
        with database.write() as session:
            session.execute(update(Gateway).where(col(Gateway.id) == gateway_id).values(told_standing=standing))
        told += len(numbers)
    return told


async def keep_telling(database: Database, client: Client) -> None:
    """Look every other second, for ever."""
    while True:
        try:
            told = await tell_requests(database, client)
            if told:
                log.info("told open requests that their gateway changed", count=told)
        except CertgateError as error:
            log.warning("open requests could not be told of their gateway", reason=error.message)
        await asyncio.sleep(_EVERY_SECONDS)


def _changed(database: Database) -> dict[int, tuple[str, bool]]:
    """The standing of the gateways whose requests were not told of it yet, and whether only those that are held need to
    be."""
    with database.read() as session:
        delegations: dict[int, list[tuple[int, int]]] = defaultdict(list)
        rows = session.execute(select(Delegation.gateway_id, Delegation.organization_id, Delegation.department_id))  # type: ignore[call-overload]
        for gateway_id, organization_id, department_id in rows:
            delegations[gateway_id].append((organization_id, department_id or 0))
        live = (col(GatewayChannel.gateway_id) == Gateway.id) & (col(GatewayChannel.number) == Gateway.channel)
        found = session.execute(
            select(
                col(Gateway.id),
                col(Gateway.told_standing),
                col(Gateway.revision),
                col(Gateway.channel),
                col(Gateway.active),
                col(Gateway.name_key),
                col(Gateway.delegation_mode),
                col(GatewayChannel.public_key),
            ).outerjoin(GatewayChannel, live)
        ).all()
    changed = {}
    for number, told, revision, channel, active, key, mode, public_key in found:
        gone = key.startswith(access.GONE)
        word = _word([channel, public_key, active, gone, str(mode), sorted(delegations.get(number, []))])
        standing = f"{word}/{revision}"
        if standing != told:
            changed[number] = (standing, told is not None and told.startswith(f"{word}/"))
    return changed


def _word(content: list[object]) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:48]


def _open_requests(database: Database, gateway_id: int, *, only_held: bool) -> Sequence[int]:
    with database.read() as session:
        statement = (
            select(col(CertificateRequest.id))
            .where(
                col(CertificateRequest.gateway_id) == gateway_id,
                ~col(CertificateRequest.closed),
                col(CertificateRequest.started),
            )
            .order_by(col(CertificateRequest.id))
        )
        if only_held:
            statement = statement.where(col(CertificateRequest.install_state) == InstallState.ACTION_REQUIRED)
        return [number for number in session.execute(statement).scalars() if number is not None]


async def _tell(client: Client, request_id: int) -> None:
    try:
        await client.get_workflow_handle(naming.request_workflow(request_id)).signal(SIGNAL)
    except RPCError as error:
        # It has ended meanwhile, or was never started: then it looks for itself when it is.
        if error.status is not RPCStatusCode.NOT_FOUND:
            raise Unavailable(f"Temporal does not answer ({error.message}).") from error
