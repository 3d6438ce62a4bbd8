"""Groups of bindings that serve one certificate: canaries get it first, the rest follows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import func
from sqlmodel import Session, col, select

from model import access
from model.errors import Conflict, InvalidInput, NotFound
from model.tables import (
    Certificate,
    CertificateRequest,
    Endpoint,
    EndpointBinding,
    EndpointGroup,
    EndpointGroupMember,
    Gateway,
)
from operations import lookup
from operations.context import Context
from operations.gateways import require_custody
from operations.lookup import identity
from operations.organizations import checked_name, refuse_if_used

LONGEST_NAME = 128
MOST_MEMBERS = 500
MOST_AT_ONCE = 50
LONGEST_SOAK = 30 * 86_400


@dataclass(frozen=True)
class MemberRow:
    """A binding of a group. `canary`: it gets the certificate first. `serves` is the fingerprint that it was seen to
    serve last."""

    endpoint: str
    endpoint_id: int
    binding: str
    names: list[str]
    canary: bool
    window: str | None
    serves: str | None


@dataclass(frozen=True)
class GroupRow:
    """A line of the list of groups."""

    id: int
    gateway: str
    gateway_id: int
    name: str
    members: int
    canaries: int
    at_once: int
    soak_seconds: int


@dataclass(frozen=True)
class NewGroup:
    """What a group is made of. `members` are (endpoint, binding), in the order in which they get a certificate."""

    gateway: str | int
    name: str
    members: Sequence[tuple[str | int, str]]
    canaries: int = 1
    at_once: int = 4
    soak_seconds: int = 0


@dataclass(frozen=True)
class GroupChange:
    """What is to be changed; None leaves it. `members` are all of them, anew."""

    name: str | None = None
    members: Sequence[tuple[str | int, str]] | None = None
    canaries: int | None = None
    at_once: int | None = None
    soak_seconds: int | None = None


def listing(context: Context, gateway: str | int | None = None) -> list[GroupRow]:
    """The groups of the gateways that the actor may see, or of one of them. Raises `NotFound`."""
    with context.database.read() as session:
        conditions = [lookup.gateways_seen_by(context.actor), ~col(Gateway.name_key).startswith(lookup.GONE)]
        if gateway is not None:
            conditions.append(col(Gateway.id) == identity(lookup.gateway(session, context.actor, gateway)))
        counted = select(EndpointGroupMember.group_id, func.count()).group_by(col(EndpointGroupMember.group_id))
        counts: dict[int, int] = dict(session.exec(counted).all())
        statement = (
            select(EndpointGroup, Gateway.name)
            .join(Gateway, col(Gateway.id) == col(EndpointGroup.gateway_id))
            .where(*conditions)
            .order_by(col(Gateway.name_key), col(EndpointGroup.name))
        )
        return [_row(row, name, counts.get(identity(row), 0)) for row, name in session.exec(statement).all()]


def show(context: Context, gateway: str | int, group: str | int) -> tuple[GroupRow, list[MemberRow]]:
    """One group and its members. Raises `NotFound`."""
    with context.database.read() as session:
        owner = lookup.gateway(session, context.actor, gateway)
        row = find(session, owner, group)
        members = _members(session, row)
        return _row(row, owner.name, len(members)), members


def add(context: Context, new: NewGroup) -> GroupRow:
    """Make a group. Raises `InvalidInput`, `NotFound`, `Conflict`, `NotPermitted`."""
    with context.acting("group.added", "endpoint group") as session:
        owner = lookup.gateway(session, context.actor, new.gateway)
        require_custody(context, session, owner, f"group endpoints of gateway {owner.name}")
        row = EndpointGroup(
            gateway_id=identity(owner),
            name=checked_name(new.name, "A group's name", LONGEST_NAME),
            canaries=new.canaries,
            at_once=new.at_once,
            soak_seconds=new.soak_seconds,
        )
        _refuse_twin(session, owner, row.name)
        members = _checked(session, owner, new.members)
        _check_numbers(row, len(members))
        session.add(row)
        session.flush()
        _put(session, row, members)
        _tell(context, session, "group.added", owner, row, f"Group {row.name} of {len(members)} bindings was added.")
        return _row(row, owner.name, len(members))


def edit(context: Context, gateway: str | int, which: str | int, change: GroupChange) -> GroupRow:
    """Change a group. Installs that are under way go on with what it is then. Raises `InvalidInput`, `NotFound`,
    `Conflict`, `NotPermitted`."""
    with context.acting("group.edited", "endpoint group") as session:
        owner = lookup.gateway(session, context.actor, gateway)
        require_custody(context, session, owner, f"group endpoints of gateway {owner.name}")
        row = find(session, owner, which)
        if change.name is not None and (name := checked_name(change.name, "A group's name", LONGEST_NAME)) != row.name:
            _refuse_twin(session, owner, name)
            row.name = name
        if change.members is not None:
            members = _checked(session, owner, change.members)
            for member in session.exec(select(EndpointGroupMember).where(EndpointGroupMember.group_id == row.id)).all():
                session.delete(member)
            session.flush()
            _put(session, row, members)
        row.canaries = row.canaries if change.canaries is None else change.canaries
        row.at_once = row.at_once if change.at_once is None else change.at_once
        row.soak_seconds = row.soak_seconds if change.soak_seconds is None else change.soak_seconds
        count = len(_members(session, row))
        _check_numbers(row, count)
        session.add(row)
        _tell(context, session, "group.edited", owner, row, f"Group {row.name} of gateway {owner.name} was edited.")
        return _row(row, owner.name, count)


def remove(context: Context, gateway: str | int, which: str | int) -> None:
    """Remove a group; what its bindings serve stays as it is. Raises `Conflict` while open requests or certificates in
    use are for it, `NotFound`, `NotPermitted`."""
    with context.acting("group.removed", "endpoint group") as session:
        owner = lookup.gateway(session, context.actor, gateway)
        require_custody(context, session, owner, f"group endpoints of gateway {owner.name}")
        row = find(session, owner, which)
        requests = session.exec(select(CertificateRequest).where(CertificateRequest.group_id == row.id)).all()
        numbers = [request.id for request in requests]
        in_use = session.exec(
            select(func.count())
            .select_from(Certificate)
            .where(col(Certificate.request_id).in_(numbers), col(Certificate.active))
        ).one()
        refuse_if_used(
            f"Group {row.name} of gateway {owner.name}",
            {"open request": sum(not request.closed for request in requests), "certificate in use": in_use},
        )
        for member in session.exec(select(EndpointGroupMember).where(EndpointGroupMember.group_id == row.id)).all():
            session.delete(member)
        for request in requests:
            request.group_id = None
            session.add(request)
        session.flush()
        told = f"Group {row.name} of gateway {owner.name} was removed. What its bindings serve stays as it is."
        _tell(context, session, "group.removed", owner, row, told)
        session.delete(row)


def find(session: Session, owner: Gateway, which: str | int) -> EndpointGroup:
    """By name or number within its gateway. Raises `NotFound`."""
    known = EndpointGroup.id == which if isinstance(which, int) else EndpointGroup.name == which
    row = session.exec(select(EndpointGroup).where(EndpointGroup.gateway_id == owner.id, known)).one_or_none()
    if row is None:
        raise NotFound(f"Gateway {owner.name} has no group {which!r}: `certgate group list` shows what there is.")
    return row


def bindings_of(session: Session, group: EndpointGroup) -> list[tuple[EndpointGroupMember, EndpointBinding | None]]:
    """The members in order, each with what was last discovered of it."""
    statement = (
        select(EndpointGroupMember, EndpointBinding)
        .outerjoin(
            EndpointBinding,
            (col(EndpointBinding.endpoint_id) == col(EndpointGroupMember.endpoint_id))
            & (col(EndpointBinding.binding) == col(EndpointGroupMember.binding)),
        )
        .where(EndpointGroupMember.group_id == group.id)
        .order_by(col(EndpointGroupMember.position), col(EndpointGroupMember.id))
    )
    return list(session.exec(statement).all())


def _members(session: Session, group: EndpointGroup) -> list[MemberRow]:
    session.flush()
    rows = []
    for number, (member, binding) in enumerate(bindings_of(session, group)):
        endpoint = session.get_one(Endpoint, member.endpoint_id)
        window = f"{endpoint.window_cron} ({endpoint.window_zone}, {endpoint.window_minutes} min)"
        rows.append(
            MemberRow(
                endpoint=endpoint.name,
                endpoint_id=member.endpoint_id,
                binding=member.binding,
                names=list(binding.names) if binding else [],
                canary=number < group.canaries,
                window=window if endpoint.window_cron else None,
                serves=binding.served_fingerprint if binding else None,
            )
        )
    return rows


def _checked(session: Session, owner: Gateway, given: Sequence[tuple[str | int, str]]) -> list[tuple[int, str]]:
    if not given:
        raise InvalidInput("A group needs a binding: name each as endpoint and binding.")
    if len(given) > MOST_MEMBERS:
        raise InvalidInput(f"A group has at most {MOST_MEMBERS} bindings, not {len(given)}.")
    found: list[tuple[int, str]] = []
    for name, binding in given:
        endpoint = lookup.endpoint(session, owner, name)
        at = select(EndpointBinding).where(
            EndpointBinding.endpoint_id == endpoint.id, EndpointBinding.binding == binding
        )
        row = session.exec(at).one_or_none()
        if row is None:
            raise InvalidInput(f"{endpoint.name} has no binding {binding!r}: discover it first.")
        if row.obstacle:
            raise InvalidInput(f"Nothing can be installed on {binding} of {endpoint.name}: {row.obstacle}")
        if endpoint.key_at_endpoint:
            raise InvalidInput(
                f"{endpoint.name} makes its own keys, and a group shares one: take that setting away, or leave it out."
            )
        if (identity(endpoint), binding) in found:
            raise InvalidInput(f"{binding} of {endpoint.name} is named twice.")
        found.append((identity(endpoint), binding))
    return found


def _check_numbers(group: EndpointGroup, members: int) -> None:
    if not 0 <= group.canaries <= members:
        raise InvalidInput(f"A group of {members} has 0 to {members} canaries, not {group.canaries}.")
    if not 1 <= group.at_once <= MOST_AT_ONCE:
        raise InvalidInput(f"1 to {MOST_AT_ONCE} bindings can be installed on at once, not {group.at_once}.")
    if not 0 <= group.soak_seconds <= LONGEST_SOAK:
        raise InvalidInput(f"Canaries are watched for 0 to {LONGEST_SOAK} seconds, not {group.soak_seconds}.")


def _put(session: Session, group: EndpointGroup, members: Sequence[tuple[int, str]]) -> None:
    session.add_all(
        EndpointGroupMember(group_id=identity(group), position=number, endpoint_id=endpoint_id, binding=binding)
        for number, (endpoint_id, binding) in enumerate(members)
    )
    session.flush()


def _refuse_twin(session: Session, owner: Gateway, name: str) -> None:
    statement = select(EndpointGroup.id).where(EndpointGroup.gateway_id == owner.id, EndpointGroup.name == name)
    if session.exec(statement).first() is not None:
        raise Conflict(f"Gateway {owner.name} has a group {name!r} already.")


def _tell(context: Context, session: Session, action: str, owner: Gateway, row: EndpointGroup, told: str) -> None:
    scope = access.scope_of_gateway(session, owner)
    context.tell(session, action, "endpoint group", told, object_id=row.id, gateway_id=owner.id, scope=scope)


def _row(row: EndpointGroup, gateway: str, members: int) -> GroupRow:
    return GroupRow(
        id=identity(row),
        gateway=gateway,
        gateway_id=row.gateway_id,
        name=row.name,
        members=members,
        canaries=row.canaries,
        at_once=row.at_once,
        soak_seconds=row.soak_seconds,
    )
