"""Role assignments: what an administrator may do, and where. One person may hold several, each with its own privileges:
asking for certificates in one organization and approving them in another."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import sqlalchemy
from sqlmodel import Session, col, select

from model.errors import Conflict, InvalidInput, NotFound, NotPermitted
from model.rules import permissions
from model.rules.permissions import Scope
from model.states import Privilege, Role
from model.tables import Administrator, Department, Organization, RoleAssignment
from operations import lookup
from operations.context import Context
from operations.lookup import identity
from operations.organizations import scopes_named

# What a role is given when nobody says otherwise: to ask, and to see that it ends well.
DEFAULT_PRIVILEGES = (Privilege.REQUEST, Privilege.RENEW, Privilege.INSTALL)


@dataclass(frozen=True)
class Assignment:
    """A role to give: where it holds, and what it allows there. `departments` are named as ``ORGANIZATION/NAME``.
    Privileges None: the usual ones."""

    role: Role
    organizations: Sequence[str] = ()
    departments: Sequence[str] = ()
    privileges: Sequence[Privilege] | None = None


@dataclass(frozen=True)
class RoleRow:
    """A role that somebody holds, with all places where it allows the same."""

    role: Role
    organizations: list[str] = field(default_factory=list)
    departments: list[str] = field(default_factory=list)
    privileges: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        where, what = ", ".join([*self.organizations, *self.departments]), ", ".join(self.privileges)
        return f"{self.role}{f' of {where}' if where else ''}{f' with {what}' if what else ''}"


def grant(context: Context, who: str | int, given: Assignment, instead_of: RoleRow | None = None) -> list[RoleRow]:
    """Give a role, beside those that are held. Where he holds it already, its privileges are given anew; `instead_of`
    is a role as it was seen, which ends in the same act.

    Raises `NotFound`, `InvalidInput`, `Conflict` (`instead_of` has changed meanwhile; the last MRAO), `NotPermitted`.
    """
    with context.acting("administrator.role_given", "administrator") as session:
        row = lookup.administrator(session, context.actor, who)
        context.require_owner("give roles")
        if instead_of is not None:
            _end(session, row, instead_of, True)
        told = give(context, session, row, given)
        keep_an_owner(session)
        text = f"Administrator {row.login} was given {told}" + (f" instead of {instead_of}" if instead_of else "")
        context.tell(session, "administrator.role_given", "administrator", f"{text}.", object_id=row.id)
        return held(session, [identity(row)])[identity(row)]


def withdraw(context: Context, who: str | int, role: RoleRow, *, exact: bool = True) -> list[RoleRow]:
    """Take a role away as it was seen; unless `exact`, whatever it allows, and without a place everywhere.

    Raises `NotFound`, `Conflict` (it has changed meanwhile; the last MRAO), `NotPermitted`.
    """
    with context.acting("administrator.role_withdrawn", "administrator") as session:
        row = lookup.administrator(session, context.actor, who)
        context.require_owner("withdraw roles")
        _end(session, row, role, exact)
        keep_an_owner(session)
        told = f"Administrator {row.login} is no longer {role}."
        context.tell(session, "administrator.role_withdrawn", "administrator", told, object_id=row.id)
        return held(session, [identity(row)])[identity(row)]


def give(context: Context, session: Session, row: Administrator, given: Assignment) -> str:
    """Add an assignment in the session's transaction; gives how the audit says it. Raises `InvalidInput`, `NotFound`
    (scope), `NotPermitted` (the actor doesn't have it himself)."""
    privileges = sorted({str(one) for one in (DEFAULT_PRIVILEGES if given.privileges is None else given.privileges)})
    if given.role == Role.MRAO and given.privileges is None:
        privileges = []
    wrong = {
        Role.MRAO: bool(given.organizations or given.departments),
        Role.RAO: bool(given.departments) or not given.organizations,
        Role.DRAO: bool(given.organizations) or not given.departments,
    }[given.role]
    if wrong:
        needs = {Role.MRAO: "no scope", Role.RAO: "organizations", Role.DRAO: "departments"}[given.role]
        raise InvalidInput(f"The role {given.role} is given with {needs}.")
    scopes = scopes_named(session, context, given.organizations, given.departments) or [Scope()]
    there = {_place(one): one for one in assignments(session, identity(row)) if one.role == given.role}
    for scope in scopes:
        grant = permissions.Grant(given.role, scope.organization_id, scope.department_id, frozenset(privileges))
        if not permissions.may_grant(context.actor.grants, grant):
            raise NotPermitted(
                f"{context.actor.login} can't give what he doesn't have: {given.role} with {', '.join(privileges)}."
            )
        assignment = there.get(scope) or RoleAssignment(
            administrator_id=identity(row),
            role=given.role,
            organization_id=scope.organization_id,
            department_id=scope.department_id,
        )
        assignment.privileges = privileges
        session.add(assignment)
    session.flush()
    return str(RoleRow(given.role, list(given.organizations), list(given.departments), privileges))


def held(session: Session, administrators: Iterable[int]) -> dict[int, list[RoleRow]]:
    """What each of these administrators holds, in the order it was given."""
    found: dict[int, list[RoleRow]] = {number: [] for number in administrators}
    statement = (
        sqlalchemy.select(RoleAssignment, col(Organization.name), col(Department.name))
        .outerjoin(Organization, col(Organization.id) == col(RoleAssignment.organization_id))
        .outerjoin(Department, col(Department.id) == col(RoleAssignment.department_id))
        .where(col(RoleAssignment.administrator_id).in_(found))
        .order_by(col(RoleAssignment.id))
    )
    for assignment, organization, department in session.execute(statement).all():
        rows = found[assignment.administrator_id]
        privileges = sorted(assignment.privileges)
        row = next((one for one in rows if one.role == assignment.role and one.privileges == privileges), None)
        if row is None:
            row = RoleRow(assignment.role, privileges=privileges)
            rows.append(row)
        if department is not None:
            row.departments.append(f"{organization}/{department}")
        elif organization is not None:
            row.organizations.append(organization)
    return found


def assignments(session: Session, administrator_id: int) -> Sequence[RoleAssignment]:
    """The rows of one administrator."""
    statement = select(RoleAssignment).where(RoleAssignment.administrator_id == administrator_id)
    return session.exec(statement.order_by(col(RoleAssignment.id))).all()


def keep_an_owner(session: Session) -> None:
    """Raises `Conflict` when the session's transaction would leave nobody with the role MRAO."""
    session.flush()
    owners = (
        select(Administrator.id)
        .join(RoleAssignment, col(RoleAssignment.administrator_id) == col(Administrator.id))
        .where(RoleAssignment.role == Role.MRAO, col(Administrator.active))
    )
    if session.exec(owners).first() is None:
        raise Conflict("This is the last active administrator with the role MRAO: make another one first.")


def _end(session: Session, row: Administrator, seen: RoleRow, exact: bool) -> None:
    """Delete what was seen. Raises `Conflict` when it is not there as it was seen."""
    wanted = {*seen.organizations, *seen.departments} or ({""} if exact else set())
    ended = set()
    for assignment in assignments(session, identity(row)):
        place = _named(session, assignment)
        if assignment.role != seen.role or (wanted and place not in wanted):
            continue
        if exact and sorted(assignment.privileges) != sorted(seen.privileges):
            raise _changed(row)
        ended.add(place)
        session.delete(assignment)
    if exact and wanted - ended:
        raise _changed(row)
    if not ended or wanted - ended:
        raise NotFound(f"Administrator {row.login} does not hold the role {seen}.")
    session.flush()


def _changed(row: Administrator) -> Conflict:
    return Conflict(f"The roles of {row.login} were changed meanwhile by somebody else: look at them again.")


def _place(assignment: RoleAssignment) -> Scope:
    return Scope(assignment.organization_id, assignment.department_id)


def _named(session: Session, assignment: RoleAssignment) -> str:
    if assignment.organization_id is None:
        return ""
    organization = session.get_one(Organization, assignment.organization_id).name
    if assignment.department_id is None:
        return organization
    return f"{organization}/{session.get_one(Department, assignment.department_id).name}"
