"""Orchestration gateways: list, add with an enrollment token, edit, delegate, delete; who is connected."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import secrets
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sqlalchemy import func
from sqlmodel import Session, col, select

from model.errors import Conflict, InvalidInput
from model.naming import gateway_queue
from model.rules.permissions import Scope
from model.states import ConnectionStatus, DelegationMode, Privilege
from model.tables import (
    Certificate,
    CertificateRequest,
    Delegation,
    Department,
    Endpoint,
    EndpointBinding,
    Gateway,
    Installation,
    Keystore,
    Organization,
)
from operations import lookup
from operations.context import Context
from operations.lookup import identity
from operations.organizations import said, scopes_named
from operations.presence import connection_status, heartbeats

TOKEN_PREFIX = "cgj_"  # noqa: S105  (what tokens begin with)
TOKEN_LIFETIME = timedelta(hours=24)
_LONGEST_NAME, _LONGEST_COMMENT = 128, 256
_NAME = re.compile(r"(?:[^\W_]|[ .'\-])+")


@dataclass(frozen=True)
class GatewayRow:
    """A line of the list of gateways. Its status is asked separately, of the engine: `statuses`."""

    id: int
    name: str
    delegation_mode: DelegationMode
    comments: str
    active: bool
    joined_at: datetime | None
    version: str | None
    os: str | None
    endpoints: int
    organizations: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class NewGateway:
    """What a gateway is made of. `departments` are named as ``ORGANIZATION/NAME``.

    `address` and `namespace` are where the gateway will find Temporal; they go into its token and are kept nowhere.
    """

    name: str
    comments: str = ""
    delegation_mode: DelegationMode = DelegationMode.GENERAL
    organizations: Sequence[str] = ()
    departments: Sequence[str] = ()
    address: str = ""
    namespace: str = "default"


@dataclass(frozen=True)
class Enrollment:
    """An enrollment token, to be shown once: only a hash of its secret is kept."""

    gateway_id: int
    token: str = field(repr=False)
    expires_at: datetime | None = None


@dataclass(frozen=True)
class Hanging:
    """What hangs on a gateway."""

    open_requests: int
    active_installations: int
    endpoints: int

    def __str__(self) -> str:
        return said(
            {
                "open request": self.open_requests,
                "active installation": self.active_installations,
                "endpoint": self.endpoints,
            }
        )


def listing(context: Context) -> list[GatewayRow]:
    """The gateways that the actor may see, by name."""
    with context.database.read() as session:
        gateways = session.exec(
            select(Gateway)
            .where(lookup.gateways_seen_by(context.actor), ~col(Gateway.name_key).startswith(lookup.GONE))
            .order_by(col(Gateway.name_key))
        ).all()
        counted = select(Endpoint.gateway_id, func.count()).group_by(col(Endpoint.gateway_id))
        endpoints: dict[int, int] = dict(session.exec(counted).all())
        served = _served(context, session)
    return [
        _row(gateway, endpoints.get(identity(gateway), 0), served.get(identity(gateway), [])) for gateway in gateways
    ]


def show(context: Context, name: str) -> GatewayRow:
    """One gateway. Raises `NotFound`."""
    with context.database.read() as session:
        gateway_id = identity(lookup.gateway(session, context.actor, name))
    return next(row for row in listing(context) if row.id == gateway_id)


async def statuses(context: Context) -> dict[int, ConnectionStatus]:
    """Which gateways are connected, asked of the engine in one query. Raises `Unavailable`."""
    rows = listing(context)
    seen = await heartbeats(context)
    now = context.clock()
    return {row.id: connection_status(seen.get(gateway_queue(row.id)), row.joined_at, now) for row in rows}


def add(context: Context, new: NewGateway) -> Enrollment:
    """Make a gateway and its enrollment token. Raises `InvalidInput`, `NotFound`, `Conflict`, `NotPermitted`."""
    with context.acting("gateway.added", "gateway") as session:
        name, comments = checked_name(new.name), _checked_comments(new.comments)
        scopes = _delegations(session, context, new.delegation_mode, new.organizations, new.departments)
        _require(context, Privilege.MANAGE_GATEWAYS, scopes, f"add the gateway {name}")
        if new.delegation_mode == DelegationMode.CUSTOMIZED:
            _require(context, Privilege.MANAGE_DELEGATION, scopes, f"delegate the gateway {name}")
        _refuse_twin(session, name)
        now = context.clock()
        secret = secrets.token_urlsafe(32)
        row = Gateway(
            name=name,
            name_key=name.casefold(),
            delegation_mode=new.delegation_mode,
            comments=comments,
            created_at=now,
            token_digest=hashlib.sha256(secret.encode()).hexdigest(),
            token_expires_at=now + TOKEN_LIFETIME,
        )
        session.add(row)
        session.flush()
        number = identity(row)
        session.add(Keystore(gateway_id=number, name="default", type="pem", settings={}))
        if new.delegation_mode == DelegationMode.CUSTOMIZED:
            _set_delegations(session, number, scopes)
        told = f"Gateway {name} was added, {_described(new.delegation_mode, new.organizations, new.departments)}."
        context.tell(session, "gateway.added", "gateway", told, object_id=number, gateway_id=number)
    content = {"gateway_id": number, "name": name, "secret": secret, "namespace": new.namespace}
    if new.address:
        content["address"] = new.address
    encoded = base64.urlsafe_b64encode(json.dumps(content, separators=(",", ":")).encode()).decode().rstrip("=")
    return Enrollment(number, TOKEN_PREFIX + encoded, now + TOKEN_LIFETIME)


def edit(
    context: Context,
    name: str,
    *,
    new_name: str | None = None,
    comments: str | None = None,
    active: bool | None = None,
) -> GatewayRow:
    """Change what is given. Raises `NotFound`, `InvalidInput`, `Conflict`, `NotPermitted`."""
    with context.acting("gateway.edited", "gateway") as session:
        row = lookup.gateway(session, context.actor, name)
        _require(context, Privilege.MANAGE_GATEWAYS, custody(session, row), f"edit the gateway {row.name}")
        changes = []
        if new_name is not None and (wanted := checked_name(new_name)) != row.name:
            if wanted.casefold() != row.name_key:
                _refuse_twin(session, wanted)
            changes.append(f"name {wanted}")
            row.name, row.name_key = wanted, wanted.casefold()
        if comments is not None and (text := _checked_comments(comments)) != row.comments:
            changes.append(f"comments {text!r}")
            row.comments = text
        if active is not None and active != row.active:
            changes.append("active" if active else "not active")
            row.active = active
        session.add(row)
        number = identity(row)
        if changes:
            told = f"Gateway {name} was edited: {', '.join(changes)}."
            context.tell(session, "gateway.edited", "gateway", told, object_id=number, gateway_id=number)
    return next(row for row in listing(context) if row.id == number)


def delegate(
    context: Context,
    name: str,
    *,
    general: bool = False,
    organizations: Sequence[str] = (),
    departments: Sequence[str] = (),
) -> GatewayRow:
    """Let a gateway serve everybody (`general`), or exactly these organizations and departments.

    Raises `NotFound`, `InvalidInput`, `NotPermitted` (the actor must hold `manage_delegation` in every scope that is
    added or taken away, and everywhere to change between General and Customized).
    """
    with context.acting("gateway.delegated", "gateway") as session:
        row = lookup.gateway(session, context.actor, name)
        if general and (organizations or departments):
            raise InvalidInput("A gateway is either General or delegated to organizations and departments, not both.")
        mode = DelegationMode.GENERAL if general else DelegationMode.CUSTOMIZED
        wanted = _delegations(session, context, mode, organizations, departments)
        before = custody(session, row)
        changed = sorted(set(before) ^ set(wanted), key=str)
        if mode == row.delegation_mode and not changed:
            number = identity(row)
        else:
            _require(context, Privilege.MANAGE_DELEGATION, changed or wanted, f"delegate the gateway {row.name} so")
            row.delegation_mode = mode
            session.add(row)
            number = identity(row)
            _set_delegations(session, number, [] if general else wanted)
            told = f"Gateway {row.name} is now {_described(mode, organizations, departments)}."
            context.tell(session, "gateway.delegated", "gateway", told, object_id=number, gateway_id=number)
    # Its new scope may be one that the actor doesn't see.
    with context.database.read() as session:
        gateway = session.get_one(Gateway, number)
        count = session.exec(select(func.count()).select_from(Endpoint).where(Endpoint.gateway_id == number)).one()
        return _row(gateway, count, _served(context, session).get(number, []))


def hanging(context: Context, name: str) -> Hanging:
    """What hangs on a gateway, to be shown before it is deleted. Raises `NotFound`."""
    with context.database.read() as session:
        return _hanging(session, identity(lookup.gateway(session, context.actor, name)))


def delete(context: Context, name: str, *, force: bool = False) -> Hanging:
    """Delete a gateway. With open requests or active installations only by `force`: `Conflict` says what hangs on it.

    A gateway that old requests tell of keeps its row, inactive and out of every list; its name is free again. Raises
    `NotFound`, `Conflict`, `NotPermitted`.
    """
    with context.acting("gateway.deleted", "gateway") as session:
        row = lookup.gateway(session, context.actor, name)
        _require(context, Privilege.MANAGE_GATEWAYS, custody(session, row), f"delete the gateway {row.name}")
        number = identity(row)
        hangs = _hanging(session, number)
        if (hangs.open_requests or hangs.active_installations) and not force:
            raise Conflict(f"On gateway {row.name} hangs: {hangs}; delete it by force, or close them first.")
        requests = select(func.count()).select_from(CertificateRequest).where(CertificateRequest.gateway_id == number)
        _set_delegations(session, number, [])
        if session.exec(requests).one():
            row.active, row.name_key, row.delegation_mode = False, f"{lookup.GONE}{number}", DelegationMode.CUSTOMIZED
            row.token_digest = row.token_expires_at = None
            session.add(row)
        else:
            _delete_rows(session, number)
            session.flush()
            session.delete(row)
        told = f"Gateway {row.name} was deleted" + (f"; on it hung: {hangs}." if str(hangs) else ".")
        context.tell(session, "gateway.deleted", "gateway", told, object_id=number, gateway_id=number)
        return hangs


def custody(session: Session, gateway: Gateway) -> list[Scope]:
    """Where one must hold a privilege to act on a gateway: wherever it serves; for a General one everywhere."""
    if gateway.delegation_mode == DelegationMode.GENERAL:
        return [Scope()]
    rows = session.exec(select(Delegation).where(Delegation.gateway_id == gateway.id)).all()
    return [Scope(row.organization_id, row.department_id) for row in rows] or [Scope()]


def require_custody(context: Context, session: Session, gateway: Gateway, doing: str) -> None:
    """Raise `NotPermitted` unless the actor holds `manage_gateways` wherever the gateway serves."""
    _require(context, Privilege.MANAGE_GATEWAYS, custody(session, gateway), doing)


def checked_name(name: str) -> str:
    """A gateway's name in normal form; raises `InvalidInput`."""
    name = unicodedata.normalize("NFC", name.strip())
    if not (1 <= len(name) <= _LONGEST_NAME and len(name.casefold()) <= _LONGEST_NAME and _NAME.fullmatch(name)):
        raise InvalidInput(
            f"A gateway's name has 1 to {_LONGEST_NAME} letters, digits, spaces, hyphens, dots or apostrophes."
        )
    return name


def _checked_comments(comments: str) -> str:
    if len(comments) > _LONGEST_COMMENT:
        raise InvalidInput(f"A gateway's comments have at most {_LONGEST_COMMENT} characters, not {len(comments)}.")
    return comments


def _require(context: Context, privilege: Privilege, scopes: Iterable[Scope], doing: str) -> None:
    for scope in scopes:
        context.require(privilege, scope, doing)


def _refuse_twin(session: Session, name: str) -> None:
    if session.exec(select(Gateway.id).where(Gateway.name_key == name.casefold())).first() is not None:
        raise Conflict(f"There is a gateway {name!r} already (names count the same in any case).")


def _delegations(
    session: Session,
    context: Context,
    mode: DelegationMode,
    organizations: Sequence[str],
    departments: Sequence[str],
) -> list[Scope]:
    if mode == DelegationMode.GENERAL:
        if organizations or departments:
            raise InvalidInput("A General gateway serves everybody: delegate it to somebody by making it Customized.")
        return [Scope()]
    scopes = scopes_named(session, context, organizations, departments)
    if not scopes:
        raise InvalidInput("A Customized gateway needs at least one organization or department that it serves.")
    return scopes


def _set_delegations(session: Session, gateway_id: int, scopes: Iterable[Scope]) -> None:
    for row in session.exec(select(Delegation).where(Delegation.gateway_id == gateway_id)).all():
        session.delete(row)
    session.flush()
    for scope in scopes:
        assert scope.organization_id is not None
        session.add(
            Delegation(gateway_id=gateway_id, organization_id=scope.organization_id, department_id=scope.department_id)
        )


def _delete_rows(session: Session, gateway_id: int) -> None:
    for endpoint in session.exec(select(Endpoint).where(Endpoint.gateway_id == gateway_id)).all():
        for binding in session.exec(select(EndpointBinding).where(EndpointBinding.endpoint_id == endpoint.id)).all():
            session.delete(binding)
        session.flush()
        session.delete(endpoint)
    for keystore in session.exec(select(Keystore).where(Keystore.gateway_id == gateway_id)).all():
        session.delete(keystore)


def _hanging(session: Session, gateway_id: int) -> Hanging:
    requests = select(func.count()).where(CertificateRequest.gateway_id == gateway_id, ~col(CertificateRequest.closed))
    installations = (
        select(func.count(func.distinct(col(Installation.id))))
        .select_from(Installation)
        .join(Certificate, col(Certificate.id) == col(Installation.certificate_id))
        .join(Endpoint, col(Endpoint.id) == col(Installation.endpoint_id))
        .where(Endpoint.gateway_id == gateway_id, col(Certificate.active))
    )
    endpoints = select(func.count()).select_from(Endpoint).where(Endpoint.gateway_id == gateway_id)
    return Hanging(session.exec(requests).one(), session.exec(installations).one(), session.exec(endpoints).one())


def _served(context: Context, session: Session) -> dict[int, list[str]]:
    statement = (
        select(Delegation.gateway_id, Organization.name, Department.name)
        .join(Organization, col(Organization.id) == col(Delegation.organization_id))
        .outerjoin(Department, col(Department.id) == col(Delegation.department_id))
        .where(lookup.seen_by(context.actor, Delegation.organization_id, Delegation.department_id))
        .order_by(col(Organization.name), col(Department.name))
    )
    served: dict[int, list[str]] = {}
    for gateway_id, organization, department in session.exec(statement).all():
        served.setdefault(gateway_id, []).append(f"{organization}/{department}" if department else organization)
    return served


def _described(mode: DelegationMode, organizations: Sequence[str], departments: Sequence[str]) -> str:
    if mode == DelegationMode.GENERAL:
        return "General"
    return f"Customized for {', '.join([*organizations, *departments])}"


def _row(gateway: Gateway, endpoints: int, served: list[str]) -> GatewayRow:
    return GatewayRow(
        id=identity(gateway),
        name=gateway.name,
        delegation_mode=gateway.delegation_mode,
        comments=gateway.comments,
        active=gateway.active,
        joined_at=gateway.joined_at,
        version=gateway.version,
        os=gateway.os,
        endpoints=endpoints,
        organizations=served,
    )
