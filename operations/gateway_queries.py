"""The database's part of the list of gateways: which, in what order, and what is counted beside them.

Whether a gateway is connected is known to the engine alone: the statuses are asked of it once and come into the queries
as the ids that have each.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import ColumnElement, bindparam, case, func, literal
from sqlmodel import col, select

from model.states import ConnectionStatus, DelegationMode
from model.tables import CertificateRequest, Delegation, Endpoint, Gateway, Organization
from operations import lookup
from operations.context import Actor

Statuses = Mapping[int, ConnectionStatus]
Order = Literal[
    "id",
    "name",
    "delegation_mode",
    "status",
    "comments",
    "version",
    "os",
    "modules",
    "endpoints",
    "last_activity",
    "organizations",
    "open_requests",
]

# What a status is called while the engine does not answer.
UNKNOWN = "unknown"


@dataclass(frozen=True)
class Filter:
    """Which gateways; empty fields keep all. `search` looks into the name, in any case. `organization` keeps those that
    are delegated to it or to a department of it. An empty `version` or `os` keeps those of which it isn't known."""

    search: str = ""
    delegation_mode: DelegationMode | None = None
    statuses: Sequence[ConnectionStatus] = ()
    organization: str | None = None
    version: str | None = None
    os: str | None = None
    active: bool | None = None


# Every gateway that one may see.
ALL = Filter()


def conditions(actor: Actor, wanted: Filter, statuses: Statuses | None) -> list[ColumnElement[bool]]:
    """What keeps the living gateways that the actor may see and that `wanted` asks for."""
    found = [lookup.gateways_seen_by(actor), ~col(Gateway.name_key).startswith(lookup.GONE)]
    if wanted.search:
        words = unicodedata.normalize("NFC", wanted.search).casefold()
        found.append(col(Gateway.name_key).contains(words, autoescape=True))
    if wanted.delegation_mode is not None:
        found.append(col(Gateway.delegation_mode) == wanted.delegation_mode)
    if wanted.statuses and statuses is not None:
        found.append(status(statuses).in_([str(state) for state in wanted.statuses]))
    if wanted.organization is not None:
        delegated = (
            select(Delegation.gateway_id)
            .join(Organization, col(Organization.id) == col(Delegation.organization_id))
            .where(Organization.name == wanted.organization, sight(actor))
        )
        found.append(col(Gateway.id).in_(delegated))
    for column, value in ((col(Gateway.version), wanted.version), (col(Gateway.os), wanted.os)):
        if value is not None:
            found.append(func.coalesce(column, "") == value)
    if wanted.active is not None:
        found.append(col(Gateway.active).is_(wanted.active))
    return found


def status(statuses: Statuses | None) -> ColumnElement[str]:
    """The status of a gateway as an expression. One that was made since the statuses were asked is pending."""
    if statuses is None:
        return literal(UNKNOWN)
    having: dict[ConnectionStatus, list[int]] = {}
    for number, state in statuses.items():
        having.setdefault(state, []).append(number)
    away = [
        (one_of(col(Gateway.id), having[state]), literal(str(state)))
        for state in (ConnectionStatus.CONNECTED, ConnectionStatus.DISCONNECTED)
        if state in having
    ]
    pending = literal(str(ConnectionStatus.PENDING))
    return case(*away, else_=pending) if away else pending


def one_of(column: Any, numbers: Iterable[int]) -> ColumnElement[bool]:
    """Whether a column has one of these numbers. They are written into the statement: databases limit how many values
    may be bound to one, and there may be thousands."""
    found: ColumnElement[bool] = column.in_(bindparam(None, list(numbers), expanding=True, literal_execute=True))
    return found


def ordering(actor: Actor, statuses: Statuses | None, order: Order, descending: bool) -> list[Any]:
    """By what was asked, then by name, so that pages neither repeat a row nor leave one out."""
    columns: dict[Order, Any] = {
        "id": col(Gateway.id),
        "name": col(Gateway.name_key),
        "delegation_mode": col(Gateway.delegation_mode),
        "status": status(statuses),
        "comments": func.lower(Gateway.comments),
        "version": col(Gateway.version),
        "os": func.lower(Gateway.os),
        "modules": func.json_array_length(Gateway.modules),
        "endpoints": endpoints(),
        "last_activity": col(Gateway.last_activity),
        "organizations": first_organization(actor),
        "open_requests": open_requests(actor),
    }
    first = columns[order].desc() if descending else columns[order].asc()
    return [first.nulls_last(), col(Gateway.name_key)]


def endpoints() -> Any:
    """How many endpoints a gateway has, as an expression."""
    return (
        select(func.count()).select_from(Endpoint).where(col(Endpoint.gateway_id) == col(Gateway.id)).scalar_subquery()
    )


def open_requests(actor: Actor) -> Any:
    """How many open requests that the actor may see a gateway has, as an expression."""
    seen = lookup.seen_by(actor, CertificateRequest.organization_id, CertificateRequest.department_id)
    statement = select(func.count()).select_from(CertificateRequest)
    mine = col(CertificateRequest.gateway_id) == col(Gateway.id)
    return statement.where(mine, ~col(CertificateRequest.closed), seen).scalar_subquery()


def first_organization(actor: Actor) -> Any:
    """The first of the organizations that the actor may see and a gateway is delegated to, as an expression."""
    return (
        select(func.min(func.lower(Organization.name)))
        .select_from(Delegation)
        .join(Organization, col(Organization.id) == col(Delegation.organization_id))
        .where(col(Delegation.gateway_id) == col(Gateway.id), sight(actor))
        .scalar_subquery()
    )


def sight(actor: Actor) -> ColumnElement[bool]:
    """A condition that keeps the delegations that the actor may see."""
    return lookup.seen_by(actor, Delegation.organization_id, Delegation.department_id)
