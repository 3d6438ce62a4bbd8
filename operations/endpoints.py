"""Endpoints: what serves certificates at a gateway, and which bindings were discovered there."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel
from sqlalchemy import func
from sqlmodel import Session, col, select

from connectors import registry
from connectors.errors import Permanent
from model import access, audit, messages, naming
from model.errors import Conflict, InvalidInput
from model.rules import windows
from model.states import EndpointStatus, InstallMode
from model.tables import (
    Certificate,
    CertificateRequest,
    Endpoint,
    EndpointBinding,
    EndpointGroup,
    EndpointGroupMember,
    Gateway,
    Installation,
)
from operations import asking, lookup
from operations.context import Context
from operations.gateways import require_custody
from operations.lookup import identity
from operations.organizations import checked_name, refuse_if_used
from workflows.gateways import EndpointDiscoveryWorkflow
from workflows.looks import EndpointTestWorkflow

_LONGEST_NAME = 512


@dataclass(frozen=True)
class EndpointRow:
    """A line of the list of endpoints. `window` is for people: cron, zone and length; None: at any time. `last_cure`
    says what to do about `last_error`."""

    id: int
    gateway: str
    gateway_id: int
    name: str
    type: str
    title: str
    connection: str
    settings: dict[str, Any]
    connection_settings: dict[str, Any]
    install_mode: InstallMode
    window: str | None
    window_cron: str | None
    window_zone: str
    window_minutes: int
    status: EndpointStatus
    last_error: str | None
    last_cure: str | None
    discovered_at: datetime | None
    tested_at: datetime | None
    bindings: int
    key_at_endpoint: bool = False
    verify_from_manager: bool = False


@dataclass(frozen=True)
class BindingRow:
    """A place of an endpoint that serves a certificate, as it was last discovered."""

    binding: str
    names: list[str]
    listeners: list[str]
    certificate_path: str | None
    shared_with: list[str]
    obstacle: str | None
    served_fingerprint: str | None


@dataclass(frozen=True)
class NewEndpoint:
    """What an endpoint is made of. Settings are the connector's own, as words: lists and numbers as JSON. `connection`
    None: this machine, where the type works over it, else its only way."""

    gateway: str | int
    name: str
    type: str
    connection: str | None = None
    settings: Mapping[str, str] = field(default_factory=dict)
    connection_settings: Mapping[str, str] = field(default_factory=dict)
    install: InstallMode = InstallMode.AUTO
    window_cron: str | None = None
    window_zone: str = "UTC"
    window_minutes: int = 60
    key_at_endpoint: bool = False
    verify_from_manager: bool = False


def types() -> dict[str, str]:
    """The endpoint types that are installed here: name and title."""
    return {name: kind.title for name, kind in registry.installed("endpoints").items()}


def listing(context: Context, gateway: str | int | None = None) -> list[EndpointRow]:
    """The endpoints of the gateways that the actor may see, or of one of them. Raises `NotFound`."""
    with context.database.read() as session:
        conditions = [lookup.gateways_seen_by(context.actor), ~col(Gateway.name_key).startswith(lookup.GONE)]
        if gateway is not None:
            conditions.append(col(Gateway.id) == identity(lookup.gateway(session, context.actor, gateway)))
        statement = (
            select(Endpoint, Gateway.name)
            .join(Gateway, col(Gateway.id) == col(Endpoint.gateway_id))
            .where(*conditions)
            .order_by(col(Gateway.name_key), col(Endpoint.name))
        )
        counted = select(EndpointBinding.endpoint_id, func.count()).group_by(col(EndpointBinding.endpoint_id))
        counts: dict[int, int] = dict(session.exec(counted).all())
        return [_row(row, name, counts.get(identity(row), 0)) for row, name in session.exec(statement).all()]


def show(context: Context, gateway: str | int, name: str | int) -> EndpointRow:
    """One endpoint. Raises `NotFound`."""
    with context.database.read() as session:
        owner = lookup.gateway(session, context.actor, gateway)
        row = lookup.endpoint(session, owner, name)
        return _row(row, owner.name, len(_bindings(session, identity(row))))


def bindings(context: Context, gateway: str | int, endpoint: str | int) -> list[BindingRow]:
    """What an endpoint serves, as last discovered. Raises `NotFound`."""
    with context.database.read() as session:
        owner = lookup.gateway(session, context.actor, gateway)
        return _bindings(session, identity(lookup.endpoint(session, owner, endpoint)))


def add(context: Context, new: NewEndpoint) -> EndpointRow:
    """Add an endpoint; nothing is looked at yet. Raises `InvalidInput`, `NotFound`, `Conflict`, `NotPermitted`."""
    with context.acting("endpoint.added", "endpoint") as session:
        owner = lookup.gateway(session, context.actor, new.gateway)
        require_custody(context, session, owner, f"add endpoints to gateway {owner.name}")
        row = checked(owner, new)
        _refuse_twin(session, owner, row.name)
        put(context, session, [(owner, row)])
        return _row(row, owner.name, 0)


def checked(owner: Gateway, new: NewEndpoint) -> Endpoint:
    """A new endpoint that keeps the rules, not kept yet. Raises `InvalidInput`."""
    connection = checked_connection(new.type, new.connection)
    row = Endpoint(
        gateway_id=identity(owner),
        name=checked_name(new.name, "An endpoint's name", _LONGEST_NAME),
        type=new.type,
        connection=connection,
        settings=checked_settings("endpoints", new.type, new.settings),
        connection_settings=_checked_host(connection, new.connection_settings),
        install_mode=new.install,
        key_at_endpoint=new.key_at_endpoint,
        verify_from_manager=new.verify_from_manager,
    )
    _set_window(row, new.window_cron, new.window_zone, new.window_minutes)
    return row


def put(context: Context, session: Session, added: Sequence[tuple[Gateway, Endpoint]]) -> None:
    """Keep new endpoints that were checked, each at its gateway."""
    session.add_all(row for _, row in added)
    session.flush()
    scopes = {
        owner.id: access.scope_of_gateway(session, owner) for owner in {id(one): one for one, _ in added}.values()
    }
    acts = [
        context.act(
            "endpoint.added",
            "endpoint",
            f"Endpoint {row.name} ({row.type}) was added to gateway {owner.name}.",
            object_id=row.id,
            gateway_id=owner.id,
            scope=scopes[owner.id],
        )
        for owner, row in added
    ]
    audit.append_all(session, acts, context.clock())


@dataclass(frozen=True)
class EndpointChange:
    """What is to be changed; None leaves it. `window_cron` empty takes the window away; `settings` are laid over those
    that are set, and an empty word takes a setting back to its default."""

    name: str | None = None
    settings: Mapping[str, str] | None = None
    connection: str | None = None
    connection_settings: Mapping[str, str] | None = None
    install: InstallMode | None = None
    window_cron: str | None = None
    window_zone: str | None = None
    window_minutes: int | None = None
    key_at_endpoint: bool | None = None
    verify_from_manager: bool | None = None


def edit(context: Context, gateway: str | int, which: str | int, change: EndpointChange) -> EndpointRow:
    """Change an endpoint. Raises `InvalidInput`, `NotFound`, `Conflict`, `NotPermitted`."""
    with context.acting("endpoint.edited", "endpoint") as session:
        owner = lookup.gateway(session, context.actor, gateway)
        row = lookup.endpoint(session, owner, which)
        name = row.name
        require_custody(context, session, owner, f"edit endpoints of gateway {owner.name}")
        if (
            change.name is not None
            and (wanted := checked_name(change.name, "An endpoint's name", _LONGEST_NAME)) != row.name
        ):
            _refuse_twin(session, owner, wanted)
            row.name = wanted
        if change.settings is not None:
            row.settings = checked_settings("endpoints", row.type, change.settings, row.settings)
        if change.connection is not None and change.connection != row.connection:
            row.connection, row.connection_settings = checked_connection(row.type, change.connection), {}
        given = change.connection_settings
        if given is not None or change.connection is not None:
            row.connection_settings = _checked_host(row.connection, given or {}, row.connection_settings)
        if change.key_at_endpoint and not row.key_at_endpoint:
            _refuse_grouped(session, row)
        row.key_at_endpoint = row.key_at_endpoint if change.key_at_endpoint is None else change.key_at_endpoint
        if change.verify_from_manager is not None:
            row.verify_from_manager = change.verify_from_manager
        row.install_mode = change.install or row.install_mode
        cron = row.window_cron if change.window_cron is None else change.window_cron
        _set_window(row, cron, change.window_zone or row.window_zone, change.window_minutes or row.window_minutes)
        session.add(row)
        told = f"Endpoint {name} of gateway {owner.name} was edited."
        _tell(context, session, "endpoint.edited", owner, row.id, told)
        return _row(row, owner.name, len(_bindings(session, identity(row))))


def remove(context: Context, gateway: str | int, which: str | int) -> None:
    """Remove an endpoint. Raises `Conflict` while open requests or active installations use it, `NotFound`,
    `NotPermitted`. Requests that have ended stay, without it."""
    with context.acting("endpoint.removed", "endpoint") as session:
        owner = lookup.gateway(session, context.actor, gateway)
        row = lookup.endpoint(session, owner, which)
        name = row.name
        require_custody(context, session, owner, f"remove endpoints of gateway {owner.name}")
        number = identity(row)
        requests = session.exec(select(CertificateRequest).where(CertificateRequest.endpoint_id == number)).all()
        installations = session.exec(
            select(Installation, Certificate.active)
            .join(Certificate, col(Certificate.id) == col(Installation.certificate_id))
            .where(Installation.endpoint_id == number)
        ).all()
        grouped = session.exec(select(EndpointGroupMember).where(EndpointGroupMember.endpoint_id == number)).all()
        refuse_if_used(
            f"Endpoint {name} of gateway {owner.name}",
            {
                "place of a group": len(grouped),
                "open request": sum(not request.closed for request in requests),
                "active installation": sum(active for _, active in installations),
            },
        )
        for request in requests:
            request.endpoint_id = None
            session.add(request)
        for installation, _ in installations:
            session.delete(installation)
        for binding in session.exec(select(EndpointBinding).where(EndpointBinding.endpoint_id == number)).all():
            session.delete(binding)
        session.flush()
        session.delete(row)
        told = f"Endpoint {name} of gateway {owner.name} was removed."
        _tell(context, session, "endpoint.removed", owner, number, told)


async def discover(context: Context, gateway: str | int, endpoint: str | int) -> list[BindingRow]:
    """Have the gateway look at an endpoint now. Raises `Conflict` with what the endpoint said, `Unavailable` when the
    gateway or Temporal does not answer, `NotFound`, `NotPermitted`."""
    number, name = _asked(context, gateway, endpoint, "endpoint.discovered")
    found = await asking.ask(
        context,
        EndpointDiscoveryWorkflow.run,
        messages.DiscoveryStart(number, context.actor.described),
        workflow_id=naming.discovery_workflow(number),
        summary=f"Discovery of {name}",
    )
    if found.problem is not None:
        raise Conflict(found.problem)
    return bindings(context, gateway, number)


async def test(context: Context, gateway: str | int, endpoint: str | int) -> messages.EndpointReport:
    """Have the gateway try the connection to an endpoint step by step; nothing there and no binding is changed. What
    failed is in the report, with its cure. Raises `Unavailable` when the gateway or Temporal does not answer,
    `NotFound`, `NotPermitted`."""
    number, name = _asked(context, gateway, endpoint, "endpoint.tested")
    return await asking.ask(
        context,
        EndpointTestWorkflow.run,
        messages.LookStart(number, context.actor.described),
        workflow_id=naming.endpoint_test_workflow(number),
        summary=f"Test of {name}",
    )


def _asked(context: Context, gateway: str | int, endpoint: str | int, action: str) -> tuple[int, str]:
    with context.acting(action, "endpoint") as session:
        owner = lookup.gateway(session, context.actor, gateway)
        row = lookup.endpoint(session, owner, endpoint)
        require_custody(context, session, owner, f"look at endpoints of gateway {owner.name}")
        return identity(row), row.name


def connections_of(type_name: str) -> dict[str, str]:
    """How endpoints of a type can be connected: name and title, the usual one first. Raises `InvalidInput`."""
    try:
        names = registry.connections(registry.find("endpoints", type_name))
    except Permanent as error:
        raise InvalidInput(error.message) from None
    titles = {name: kind.title for name, kind in registry.installed("hosts").items()}
    titles[registry.OWN_INTERFACE] = "Its own interface"
    return {name: titles[name] for name in sorted(names, key=lambda name: (name != "local", name))}


def checked_connection(type_name: str, wanted: str | None) -> str:
    """The connection that is wanted, if the type works over it; None: the usual one. Raises `InvalidInput`."""
    possible = connections_of(type_name)
    if not possible:
        raise InvalidInput(f"No connection is installed over which {type_name} works.")
    if wanted is None:
        return next(iter(possible))
    if wanted not in possible:
        title = registry.find("endpoints", type_name).title
        raise InvalidInput(f"{title} can't be connected by {wanted!r}; choose {' or '.join(possible)}.")
    return wanted


def _checked_host(connection: str, given: Mapping[str, str], before: Mapping[str, Any] | None = None) -> dict[str, Any]:
    if connection != registry.OWN_INTERFACE:
        return checked_settings("hosts", connection, given, before)
    if given:
        raise InvalidInput("An endpoint that is reached by its own interface has no settings of a connection.")
    return {}


def _refuse_grouped(session: Session, row: Endpoint) -> None:
    member = select(EndpointGroup.name).join(
        EndpointGroupMember, col(EndpointGroupMember.group_id) == col(EndpointGroup.id)
    )
    name = session.exec(member.where(EndpointGroupMember.endpoint_id == row.id)).first()
    if name is not None:
        raise Conflict(f"{row.name} is in group {name}, which shares one key: take it out of the group first.")


def checked_settings(
    kind: registry.Kind, type_name: str, given: Mapping[str, str], before: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Settings given as words, checked by the connector's own model and kept as what was set. Raises `InvalidInput`.

    A word for a field that is no text is read as JSON: ``command=["sudo","-n","nginx"]``, ``port=8443``.
    """
    try:
        connector = registry.find(kind, type_name)
        values = dict(before or {})
        for key, word in given.items():
            if word == "" and before is not None:
                values.pop(key, None)
            else:
                values[key] = _value(connector.settings, key, word)
        settings: BaseModel = connector.configure(values)
        return settings.model_dump(mode="json", include=set(values))
    except Permanent as error:
        raise InvalidInput(error.message) from None


def _value(model: type[BaseModel], key: str, word: str) -> Any:
    known = model.model_fields.get(key)
    text = known is None or known.annotation is str or _is_optional_text(known.annotation)
    if text and not (known is not None and get_origin(known.annotation) in (list, dict)):
        return word
    try:
        return json.loads(word)
    except ValueError:
        return word


def _is_optional_text(annotation: Any) -> bool:
    if get_origin(annotation) not in (Union, UnionType):
        return False
    return str in [get_args(one)[0] if get_origin(one) is Annotated else one for one in get_args(annotation)]


def types_of(kind: registry.Kind) -> dict[str, type[BaseModel]]:
    """The connector types of a kind that are installed here, with what their settings are made of."""
    return {name: connector.settings for name, connector in registry.installed(kind).items()}


def _tell(context: Context, session: Session, action: str, owner: Gateway, number: int | None, told: str) -> None:
    scope = access.scope_of_gateway(session, owner)
    context.tell(session, action, "endpoint", told, object_id=number, gateway_id=owner.id, scope=scope)


def _set_window(row: Endpoint, cron: str | None, zone: str, minutes: int) -> None:
    if cron:
        windows.check(windows.Window(cron, zone, minutes))
    row.window_cron, row.window_zone, row.window_minutes = cron or None, zone, minutes


def _refuse_twin(session: Session, owner: Gateway, name: str) -> None:
    statement = select(Endpoint.id).where(Endpoint.gateway_id == owner.id, Endpoint.name == name)
    if session.exec(statement).first() is not None:
        raise Conflict(f"Gateway {owner.name} has an endpoint {name!r} already.")


def _bindings(session: Session, endpoint_id: int) -> list[BindingRow]:
    statement = select(EndpointBinding).where(EndpointBinding.endpoint_id == endpoint_id)
    rows: Sequence[EndpointBinding] = session.exec(statement.order_by(col(EndpointBinding.binding))).all()
    return [
        BindingRow(
            binding=row.binding,
            names=list(row.names),
            listeners=list(row.listeners),
            certificate_path=row.certificate_path,
            shared_with=list(row.shared_with),
            obstacle=row.obstacle,
            served_fingerprint=row.served_fingerprint,
        )
        for row in rows
    ]


def _row(row: Endpoint, gateway: str, count: int) -> EndpointRow:
    window = f"{row.window_cron} ({row.window_zone}, {row.window_minutes} min)" if row.window_cron else None
    return EndpointRow(
        id=identity(row),
        gateway=gateway,
        gateway_id=row.gateway_id,
        name=row.name,
        type=row.type,
        title=types().get(row.type, row.type),
        connection=row.connection,
        settings=dict(row.settings),
        connection_settings=dict(row.connection_settings),
        install_mode=row.install_mode,
        window=window,
        window_cron=row.window_cron,
        window_zone=row.window_zone,
        window_minutes=row.window_minutes,
        status=row.status,
        last_error=row.last_error,
        last_cure=row.last_cure,
        discovered_at=row.discovered_at,
        tested_at=row.tested_at,
        bindings=count,
        key_at_endpoint=row.key_at_endpoint,
        verify_from_manager=row.verify_from_manager,
    )
