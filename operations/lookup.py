"""Find things by the words people use. What the actor may not see does not exist for him."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import ColumnElement, and_, false, func, or_, true
from sqlmodel import Session, col, select

from model import access
from model.database import Database
from model.errors import NotFound
from model.rules import permissions
from model.states import DelegationMode, Privilege
from model.tables import (
    Administrator,
    CertificateAuthority,
    CertificateProfile,
    Delegation,
    Department,
    Endpoint,
    Gateway,
    Keystore,
    Organization,
)
from operations.context import ABOUT, Actor

GONE = access.GONE


def identity(row: Any) -> int:
    """The id of a row that was read or flushed."""
    assert isinstance(row.id, int)
    return row.id


def organization(session: Session, actor: Actor, which: str | int) -> Organization:
    """By name or number; raises `NotFound`."""
    known = Organization.id == which if isinstance(which, int) else Organization.name == which
    row = session.exec(select(Organization).where(known)).one_or_none()
    if row is None or not _knows_organization(session, actor, identity(row)):
        raise NotFound(f"There is no organization {which!r}: `certgate organization list` shows what there is.")
    return row


def department(session: Session, actor: Actor, owner: Organization, which: str | int) -> Department:
    """By name or number within its organization; raises `NotFound`."""
    known = Department.id == which if isinstance(which, int) else Department.name == which
    statement = select(Department).where(Department.organization_id == owner.id, known)
    row = session.exec(statement).one_or_none()
    if row is None or not actor.sees(permissions.Scope(identity(owner), identity(row))):
        raise NotFound(f"Organization {owner.name} has no department {which!r}.")
    return row


def gateway(session: Session, actor: Actor, which: str | int) -> Gateway:
    """By name in any case, or by number; raises `NotFound`. One that was deleted is not found by either."""
    known = Gateway.id == which if isinstance(which, int) else Gateway.name_key == which.casefold()
    living = ~col(Gateway.name_key).startswith(GONE)
    row = session.exec(select(Gateway).where(known, living, gateways_seen_by(actor))).one_or_none()
    if row is None:
        raise NotFound(f"There is no gateway {which!r}: `certgate gateway list` shows what there is.")
    # A refusal is told about it.
    session.info[ABOUT] = row.id
    return row


def endpoint(session: Session, owner: Gateway, which: str | int) -> Endpoint:
    """By name or number within its gateway; a word that is no name but a number is one. Raises `NotFound`."""
    for known in _known(Endpoint, which):
        row = session.exec(select(Endpoint).where(Endpoint.gateway_id == owner.id, known)).one_or_none()
        if row is not None:
            return row
    raise NotFound(f"Gateway {owner.name} has no endpoint {which!r}: `certgate endpoint list` shows what there is.")


def keystore(session: Session, owner: Gateway, which: str | int) -> Keystore:
    """By name or number within its gateway; a word that is no name but a number is one. Raises `NotFound`."""
    for known in _known(Keystore, which):
        row = session.exec(select(Keystore).where(Keystore.gateway_id == owner.id, known)).one_or_none()
        if row is not None:
            return row
    raise NotFound(f"Gateway {owner.name} has no keystore {which!r}: `certgate keystore list` shows what there is.")


def _known(table: type[Endpoint] | type[Keystore], which: str | int) -> list[ColumnElement[bool]]:
    if isinstance(which, int):
        return [col(table.id) == which]
    number = int(which) if which.isascii() and which.isdigit() and len(which) < 10 else None
    return [col(table.name) == which, *([col(table.id) == number] if number is not None else [])]


def authority(session: Session, which: str | int) -> CertificateAuthority:
    """By name or number; raises `NotFound`."""
    known = CertificateAuthority.id == which if isinstance(which, int) else CertificateAuthority.name == which
    row = session.exec(select(CertificateAuthority).where(known)).one_or_none()
    if row is None:
        raise NotFound(f"There is no CA {which!r}: `certgate ca list` shows what there is.")
    return row


def profile(session: Session, which: str | int) -> CertificateProfile:
    """By name or number; raises `NotFound`."""
    known = CertificateProfile.id == which if isinstance(which, int) else CertificateProfile.name == which
    row = session.exec(select(CertificateProfile).where(known)).one_or_none()
    if row is None:
        raise NotFound(f"There is no certificate profile {which!r}: `certgate profile list` shows what there is.")
    return row


def administrator(session: Session, actor: Actor, who: str | int) -> Administrator:
    """By login or number; raises `NotFound`. Who is no MRAO knows only himself."""
    known = Administrator.id == who if isinstance(who, int) else Administrator.login == who
    row = session.exec(select(Administrator).where(known)).one_or_none()
    if row is None or not (actor.owns_everything or row.id == actor.id):
        raise NotFound(f"There is no administrator {who!r}: `certgate administrator list` shows whom there is.")
    return row


def contains(database: Database, column: Any, sought: str) -> ColumnElement[bool]:
    """A condition that keeps the texts with `sought` in them, just as it stands, in any case."""
    if database.is_sqlite and not sought.isascii():
        # SQLite itself knows the cases of ASCII only.
        return func.certgate_contains(col(column), sought) == 1
    return col(column).icontains(sought, autoescape=True)


def of_gateway(column: Any, name: str) -> ColumnElement[bool]:
    """A condition that keeps the rows of the gateway of that name, in any case."""
    return col(column).in_(select(Gateway.id).where(Gateway.name_key == name.casefold()))


def of_organization(column: Any, name: str) -> ColumnElement[bool]:
    """A condition that keeps the rows of the organization of that name."""
    return col(column).in_(select(Organization.id).where(Organization.name == name))


def seen_by(actor: Actor, organization_column: Any, department_column: Any) -> ColumnElement[bool]:
    """A condition that keeps the rows of organizations and departments that the actor may see."""
    return _within(actor.grants, organization_column, department_column)


def organizations_seen_by(actor: Actor) -> ColumnElement[bool]:
    """A condition that keeps the organizations that the actor may know of: a DRAO those above his departments."""
    sight = permissions.visible(actor.grants)
    if sight.everything:
        return true()
    above = select(Department.organization_id).where(col(Department.id).in_(sight.departments))
    return or_(col(Organization.id).in_(sight.organizations), col(Organization.id).in_(above))


def allowed_by(
    actor: Actor, privilege: Privilege, organization_column: Any, department_column: Any
) -> ColumnElement[bool]:
    """A condition that keeps the rows of organizations and departments where the actor holds the privilege."""
    held = [grant for grant in actor.grants if grant.allows(privilege)]
    return _within(held, organization_column, department_column)


def gateways_seen_by(actor: Actor) -> ColumnElement[bool]:
    """A condition that keeps the gateways that serve somebody the actor may see."""
    sight = permissions.visible(actor.grants)
    if sight.everything:
        return true()
    own_departments = select(Department.organization_id).where(col(Department.id).in_(sight.departments))
    delegated = select(Delegation.gateway_id).where(
        or_(
            col(Delegation.organization_id).in_(sight.organizations),
            and_(
                col(Delegation.organization_id).in_(own_departments),
                or_(
                    col(Delegation.department_id).is_(None),
                    col(Delegation.department_id).in_(sight.departments),
                ),
            ),
        )
    )
    return or_(col(Gateway.delegation_mode) == DelegationMode.GENERAL, col(Gateway.id).in_(delegated))


def gateways_wholly_seen_by(actor: Actor) -> ColumnElement[bool]:
    """A condition that keeps the gateways that serve nobody but whom the actor may see: he may know what is there,
    whoever it is for. A General gateway is the whole installation's."""
    sight = permissions.visible(actor.grants)
    if sight.everything:
        return true()
    serving = select(Delegation.id).where(Delegation.gateway_id == Gateway.id)
    seen = or_(
        col(Delegation.organization_id).in_(sight.organizations),
        func.coalesce(col(Delegation.department_id), -1).in_(sight.departments),
    )
    return and_(
        col(Gateway.delegation_mode) == DelegationMode.CUSTOMIZED, serving.exists(), ~serving.where(~seen).exists()
    )


def _within(
    grants: Iterable[permissions.Grant], organization_column: Any, department_column: Any
) -> ColumnElement[bool]:
    sight = permissions.visible(grants)
    if sight.everything:
        return true()
    return or_(
        false(),
        col(organization_column).in_(sight.organizations),
        col(department_column).in_(sight.departments),
    )


def _knows_organization(session: Session, actor: Actor, organization_id: int) -> bool:
    """An administrator of a department knows the name of the organization above it."""
    sight = permissions.visible(actor.grants)
    if sight.everything or organization_id in sight.organizations:
        return True
    statement = select(Department.id).where(
        Department.organization_id == organization_id, col(Department.id).in_(sight.departments)
    )
    return session.exec(statement).first() is not None
