"""Orchestration gateways, changed: add with an enrollment token, edit, delete."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy
from sqlalchemy import ColumnElement, func, true
from sqlalchemy.exc import IntegrityError
from sqlmodel import Session, col, select

from model import access, audit
from model.errors import Conflict, InvalidInput
from model.rules import texts
from model.rules.modules import RUNNING
from model.rules.permissions import Scope
from model.states import DelegationMode, Privilege
from model.tables import (
    Certificate,
    CertificateRequest,
    Delegation,
    Endpoint,
    EndpointBinding,
    Fact,
    Gateway,
    GatewayChannel,
    GatewaySync,
    Installation,
    Keystore,
)
from operations import gateway_delegation, gateways, lookup
from operations.context import Context
from operations.gateways import GatewayRow
from operations.lookup import identity
from operations.organizations import said
from operations.tokens import Enrollment, mint

LONGEST_NAME, LONGEST_COMMENT = 128, 256
_NAME = re.compile(r"(?:[^\W_]|[ .'\-])+")


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
class Hanging:
    """What hangs on a gateway. `syncing`: its modules are being synchronized."""

    open_requests: int
    active_installations: int
    endpoints: int
    keystores: int = 0
    syncing: bool = False

    def __str__(self) -> str:
        return said(
            {
                "open request": self.open_requests,
                "active installation": self.active_installations,
                "endpoint": self.endpoints,
                "keystore": self.keystores,
                "sync of modules": int(self.syncing),
            }
        )

    @property
    def heavy(self) -> bool:
        """Whether deleting the gateway breaks work or service, so that it is done by force only."""
        return bool(self.open_requests or self.active_installations or self.syncing)


def add(context: Context, new: NewGateway) -> Enrollment:
    """Make a gateway and its enrollment token. Raises `InvalidInput`, `NotFound`, `Conflict`, `NotPermitted`."""
    with context.acting("gateway.added", "gateway") as session:
        name, comments = checked_name(new.name), checked_comments(new.comments)
        scopes = gateway_delegation.wanted(session, context, new.delegation_mode, new.organizations, new.departments)
        require_adding(context, name, new.delegation_mode, scopes)
        _refuse_twin(session, name)
        row = Gateway(
            name=name,
            name_key=name.casefold(),
            delegation_mode=new.delegation_mode,
            comments=comments,
            created_at=context.clock(),
        )
        (enrollment,) = put(context, session, [(row, scopes)], address=new.address, namespace=new.namespace)
        return enrollment


def require_adding(context: Context, name: str, mode: DelegationMode, scopes: Sequence[Scope]) -> None:
    """Raise `NotPermitted` unless the actor may add such a gateway."""
    for scope in scopes:
        context.require(Privilege.MANAGE_GATEWAYS, scope, f"add the gateway {name}")
        if mode == DelegationMode.CUSTOMIZED:
            context.require(Privilege.MANAGE_DELEGATION, scope, f"delegate the gateway {name}")


def put(
    context: Context,
    session: Session,
    added: Sequence[tuple[Gateway, Sequence[Scope]]],
    *,
    address: str,
    namespace: str,
) -> list[Enrollment]:
    """Keep new gateways that were checked, each with its keystore, delegation and enrollment token."""
    session.add_all(row for row, _ in added)
    _flush(session, added[0][0].name)
    keystores, delegations = [], []
    for row, scopes in added:
        number = identity(row)
        keystores.append(Keystore(gateway_id=number, name="default", type="pem", settings={}))
        if row.delegation_mode == DelegationMode.CUSTOMIZED:
            delegations += [
                Delegation(gateway_id=number, organization_id=scope.organization_id, department_id=scope.department_id)
                for scope in scopes
                if scope.organization_id is not None
            ]
    session.add_all([*keystores, *delegations])
    session.flush()
    # Many are delegated alike: whom a gateway serves is put into words once.
    words: dict[tuple[Scope, ...], tuple[str, Scope]] = {}
    acts = []
    for row, scopes in added:
        known = tuple(scopes)
        if known not in words:
            words[known] = gateway_delegation.described(session, row), access.scope_of_gateway(session, row)
        served, scope = words[known]
        told = f"Gateway {row.name} was added, {served}."
        acts.append(context.act("gateway.added", "gateway", told, object_id=row.id, gateway_id=row.id, scope=scope))
    audit.append_all(session, acts, context.clock())
    # The facts that every token holds are kept at hand, and all tokens are written at once.
    facts = session.exec(select(Fact)).all()
    with session.no_autoflush:
        made = [mint(session, row, row.created_at, address=address, namespace=namespace) for row, _ in added]
    del facts
    session.flush()
    return made


def edit(
    context: Context,
    which: str | int,
    *,
    new_name: str | None = None,
    comments: str | None = None,
    active: bool | None = None,
    seen_revision: int | None = None,
) -> GatewayRow:
    """Change what is given. `seen_revision` is the one that the editor began with: if somebody else has changed the
    gateway since, `Conflict` says who changed what. Raises `NotFound`, `InvalidInput`, `Conflict`, `NotPermitted`."""
    with context.acting(gateways.EDITED, "gateway") as session:
        row = lookup.gateway(session, context.actor, which)
        before = row.name
        gateways.require_custody(context, session, row, f"edit the gateway {before}")
        gateways.refuse_late(session, row, seen_revision)
        changes = []
        if new_name is not None and (wanted := checked_name(new_name)) != row.name:
            if wanted.casefold() != row.name_key:
                _refuse_twin(session, wanted)
            changes.append(f"name {wanted}")
            row.name, row.name_key = wanted, wanted.casefold()
        if comments is not None and (text := checked_comments(comments)) != row.comments:
            changes.append(f"comments {text!r}")
            row.comments = text
        if active is not None and active != row.active:
            changes.append("active" if active else "not active")
            row.active = active
        if changes:
            row.revision += 1
            session.add(row)
            _flush(session, row.name)
            told = f"Gateway {before} was edited: {', '.join(changes)}."
            gateways.tell(context, session, gateways.EDITED, row, told)
        return gateways.seen(context, session, row)


def hanging(context: Context, which: str | int) -> Hanging:
    """What hangs on a gateway, to be shown before it is deleted. Of the requests of others, nothing is counted unless
    the actor may delete it. Raises `NotFound`."""
    with context.database.read() as session:
        row = lookup.gateway(session, context.actor, which)
        scopes = gateways.custody(session, row)
        whole = all(context.actor.may(Privilege.MANAGE_GATEWAYS, scope) for scope in scopes)
        return _hanging(session, identity(row), None if whole else context)


def delete(context: Context, which: str | int, *, force: bool = False, seen_name: str | None = None) -> Hanging:
    """Delete a gateway. With open requests, active installations or a running sync only by `force`: `Conflict` says
    what hangs on it. `seen_name` is the name that was asked for: if it was renamed meanwhile, nothing is deleted.

    The row stays, inactive and out of every list, so that a number is never given twice; the name is free again. Raises
    `NotFound`, `Conflict`, `NotPermitted`.
    """
    with context.acting("gateway.deleted", "gateway") as session:
        row = lookup.gateway(session, context.actor, which)
        gateways.require_custody(context, session, row, f"delete the gateway {row.name}")
        number = identity(row)
        if seen_name is not None and seen_name != row.name:
            raise Conflict(f"Gateway {seen_name} is called {row.name} now, so it was not deleted: look at it again.")
        hangs = _hanging(session, number)
        if hangs.heavy and not force:
            raise Conflict(f"On gateway {row.name} hangs: {hangs}; delete it by force, or close them first.")
        told = f"Gateway {row.name} was deleted" + (f"; on it hung: {hangs}." if str(hangs) else ".")
        gateways.tell(context, session, "gateway.deleted", row, told)
        _bury(session, row, context.clock())
        return hangs


def checked_name(name: str) -> str:
    """A gateway's name in normal form; raises `InvalidInput`."""
    name = unicodedata.normalize("NFC", name.strip())
    if not (1 <= len(name) <= LONGEST_NAME and len(name.casefold()) <= LONGEST_NAME and _NAME.fullmatch(name)):
        raise InvalidInput(
            f"A gateway's name has 1 to {LONGEST_NAME} letters, digits, spaces, hyphens, dots or apostrophes."
        )
    return name


def checked_comments(comments: str) -> str:
    """A gateway's comments as they are kept; raises `InvalidInput`. They may have several lines."""
    text = comments.replace("\r\n", "\n").replace("\r", "\n").strip()
    if len(text) > LONGEST_COMMENT:
        raise InvalidInput(f"A gateway's comments have at most {LONGEST_COMMENT} characters, not {len(text)}.")
    if (found := texts.unwanted(text)) is not None:
        raise InvalidInput(f"A gateway's comments have no control characters, such as {found}: type text.")
    return text


def _flush(session: Session, name: str) -> None:
    """Write; another administrator may have taken the name at this very moment."""
    try:
        session.flush()
    except IntegrityError:
        raise _taken(name) from None


def _refuse_twin(session: Session, name: str) -> None:
    if session.exec(select(Gateway.id).where(Gateway.name_key == name.casefold())).first() is not None:
        raise _taken(name)


def _taken(name: str) -> Conflict:
    return Conflict(f"There is a gateway {name!r} already (names count the same in any case).")


def _bury(session: Session, gateway: Gateway, now: datetime) -> None:
    """Take a gateway out of everything, but for what old requests tell of."""
    number = identity(gateway)
    gateway_delegation.put(session, number, [])
    told_of = select(func.count()).select_from(CertificateRequest).where(CertificateRequest.gateway_id == number)
    installed = (
        select(func.count())
        .select_from(Installation)
        .join(Endpoint, col(Endpoint.id) == col(Installation.endpoint_id))
        .where(Endpoint.gateway_id == number)
    )
    if not session.exec(told_of).one() and not session.exec(installed).one():
        endpoints = select(Endpoint.id).where(Endpoint.gateway_id == number)
        session.execute(sqlalchemy.delete(EndpointBinding).where(col(EndpointBinding.endpoint_id).in_(endpoints)))
        session.execute(sqlalchemy.delete(Endpoint).where(col(Endpoint.gateway_id) == number))
        session.execute(sqlalchemy.delete(Keystore).where(col(Keystore.gateway_id) == number))
    gateway.active, gateway.name_key, gateway.delegation_mode = (
        False,
        f"{lookup.GONE}{number}",
        DelegationMode.CUSTOMIZED,
    )
    gateway.token_digest = gateway.token_expires_at = None
    # Its host hears of it when it checks in.
    for channel in session.exec(select(GatewayChannel).where(GatewayChannel.gateway_id == number)).all():
        channel.closed_at = channel.closed_at or now
        session.add(channel)
    gateway.revision += 1
    session.add(gateway)


def _hanging(session: Session, number: int, seen_by: Context | None = None) -> Hanging:
    """What hangs on a gateway: everything, or what somebody may see of it."""
    sight: tuple[ColumnElement[bool], ColumnElement[bool]] = (true(), true())
    if seen_by is not None:
        sight = (
            lookup.seen_by(seen_by.actor, CertificateRequest.organization_id, CertificateRequest.department_id),
            lookup.seen_by(seen_by.actor, Certificate.organization_id, Certificate.department_id),
        )
    requests = (
        select(func.count())
        .select_from(CertificateRequest)
        .where(CertificateRequest.gateway_id == number, ~col(CertificateRequest.closed), sight[0])
    )
    installations = (
        select(func.count(func.distinct(col(Installation.id))))
        .select_from(Installation)
        .join(Certificate, col(Certificate.id) == col(Installation.certificate_id))
        .join(Endpoint, col(Endpoint.id) == col(Installation.endpoint_id))
        .where(Endpoint.gateway_id == number, col(Certificate.active), sight[1])
    )
    endpoints = select(func.count()).select_from(Endpoint).where(Endpoint.gateway_id == number)
    # Every gateway has a keystore from its beginning: one is told of when something is known to be in it.
    keystores = (
        select(func.count())
        .select_from(Keystore)
        .where(Keystore.gateway_id == number, (col(Keystore.name) != "default") | col(Keystore.checked_at).is_not(None))
    )
    syncs = (
        select(func.count())
        .select_from(GatewaySync)
        .where(GatewaySync.gateway_id == number, col(GatewaySync.state).in_(RUNNING))
    )
    return Hanging(
        session.exec(requests).one(),
        session.exec(installations).one(),
        session.exec(endpoints).one(),
        session.exec(keystores).one(),
        bool(session.exec(syncs).one()),
    )
