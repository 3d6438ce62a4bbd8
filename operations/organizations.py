"""Organizations and their departments: who certificates are for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import func
from sqlmodel import Session, col, select

from model.errors import Conflict, InvalidInput
from model.rules import permissions
from model.rules.permissions import Scope
from model.tables import (
    ApprovalPolicy,
    Certificate,
    CertificateRequest,
    Delegation,
    Department,
    Organization,
    RoleAssignment,
)
from operations import lookup
from operations.context import Context
from operations.lookup import identity

_LONGEST_NAME = 128


@dataclass(frozen=True)
class OrganizationRow:
    """An organization with the names of those of its departments that the asker may see."""

    id: int
    name: str
    departments: list[str] = field(default_factory=list)


def listing(context: Context) -> list[OrganizationRow]:
    """The organizations that the actor may see, by name. A DRAO sees the one above his departments."""
    sight = permissions.visible(context.actor.grants)
    with context.database.read() as session:
        organizations = session.exec(select(Organization).order_by(col(Organization.name))).all()
        departments = session.exec(select(Department).order_by(col(Department.name))).all()
    rows = []
    for organization in organizations:
        number = identity(organization)
        whole = sight.everything or number in sight.organizations
        names = [
            department.name
            for department in departments
            if department.organization_id == number and (whole or department.id in sight.departments)
        ]
        if whole or names:
            rows.append(OrganizationRow(number, organization.name, names))
    return rows


def add(context: Context, name: str) -> OrganizationRow:
    """Add an organization. Raises `InvalidInput` (rule of names), `Conflict` (there is one), `NotPermitted`."""
    with context.acting("organization.added", "organization") as session:
        context.require_owner("add organizations")
        name = checked_name(name, "An organization's name")
        _refuse_twin(session, name)
        row = Organization(name=name)
        session.add(row)
        session.flush()
        number = identity(row)
        context.tell(
            session,
            "organization.added",
            "organization",
            f"Organization {name} was added.",
            object_id=number,
            scope=Scope(number),
        )
        return OrganizationRow(number, name)


def rename(context: Context, which: str | int, new_name: str, seen: str | None = None) -> OrganizationRow:
    """Give an organization another name; `seen` is the one that it was seen with. Raises `NotFound`, `InvalidInput`,
    `Conflict` (there is one; somebody else renamed it meanwhile), `NotPermitted`."""
    with context.acting("organization.renamed", "organization") as session:
        row = lookup.organization(session, context.actor, which)
        context.require_owner("rename organizations")
        _refuse_late("Organization", row.name, seen)
        new_name = checked_name(new_name, "An organization's name")
        if new_name != row.name:
            _refuse_twin(session, new_name, identity(row))
            told = f"Organization {row.name} is now called {new_name}."
            row.name = new_name
            session.add(row)
            scope = Scope(identity(row))
            context.tell(session, "organization.renamed", "organization", told, object_id=row.id, scope=scope)
        return OrganizationRow(identity(row), row.name)


def hanging(context: Context, which: str | int, department: str | int | None = None) -> str:
    """What hangs on an organization, or on one of its departments, and keeps it from being removed; empty: nothing.
    Raises `NotFound`, `NotPermitted`."""
    with context.acting("organization.removed", "organization") as session:
        row = lookup.organization(session, context.actor, which)
        part = None if department is None else lookup.department(session, context.actor, row, department)
        context.require_owner("remove organizations")
        return said(_uses(session, row) if part is None else _department_uses(session, part))


def remove(context: Context, which: str | int, seen: str | None = None) -> None:
    """Remove an organization on which nothing hangs. Raises `Conflict` that says what does, or when somebody else
    renamed it meanwhile, `NotFound`, `NotPermitted`."""
    with context.acting("organization.removed", "organization") as session:
        row = lookup.organization(session, context.actor, which)
        context.require_owner("remove organizations")
        _refuse_late("Organization", row.name, seen)
        refuse_if_used(f"Organization {row.name}", _uses(session, row))
        session.delete(row)
        told = f"Organization {row.name} was removed."
        context.tell(session, "organization.removed", "organization", told, object_id=row.id)


def add_department(context: Context, organization: str | int, name: str) -> OrganizationRow:
    """Add a department. Raises `NotFound`, `InvalidInput`, `Conflict`, `NotPermitted`."""
    with context.acting("department.added", "department") as session:
        owner = lookup.organization(session, context.actor, organization)
        context.require_owner("add departments")
        name = checked_name(name, "A department's name")
        _refuse_department_twin(session, owner, name)
        row = Department(organization_id=identity(owner), name=name)
        session.add(row)
        session.flush()
        context.tell(
            session,
            "department.added",
            "department",
            f"Department {owner.name}/{name} was added.",
            object_id=row.id,
            scope=Scope(identity(owner), row.id),
        )
    return next(row for row in listing(context) if row.id == identity(owner))


def rename_department(
    context: Context, organization: str | int, which: str | int, new_name: str, seen: str | None = None
) -> None:
    """Give a department another name; `seen` is the one that it was seen with. Raises as `rename`."""
    with context.acting("department.renamed", "department") as session:
        owner = lookup.organization(session, context.actor, organization)
        row = lookup.department(session, context.actor, owner, which)
        context.require_owner("rename departments")
        _refuse_late("Department", row.name, seen)
        new_name = checked_name(new_name, "A department's name")
        if new_name == row.name:
            return
        _refuse_department_twin(session, owner, new_name, identity(row))
        told = f"Department {owner.name}/{row.name} is now called {new_name}."
        row.name = new_name
        session.add(row)
        scope = Scope(identity(owner), identity(row))
        context.tell(session, "department.renamed", "department", told, object_id=row.id, scope=scope)


def remove_department(context: Context, organization: str | int, which: str | int, seen: str | None = None) -> None:
    """Remove a department on which nothing hangs. Raises as `remove`."""
    with context.acting("department.removed", "department") as session:
        owner = lookup.organization(session, context.actor, organization)
        row = lookup.department(session, context.actor, owner, which)
        context.require_owner("remove departments")
        _refuse_late("Department", row.name, seen)
        refuse_if_used(f"Department {owner.name}/{row.name}", _department_uses(session, row))
        session.delete(row)
        told = f"Department {owner.name}/{row.name} was removed."
        scope = Scope(identity(owner), row.id)
        context.tell(session, "department.removed", "department", told, object_id=row.id, scope=scope)


def checked_name(name: str, what: str, longest: int = _LONGEST_NAME) -> str:
    """A name without white space around it; raises `InvalidInput` when it is empty, too long or unprintable."""
    name = name.strip()
    if not 1 <= len(name) <= longest or not name.isprintable():
        raise InvalidInput(f"{what} has 1 to {longest} printable characters.")
    if "/" in name and longest == _LONGEST_NAME:
        raise InvalidInput(f"{what} has no slash: it separates an organization from its department.")
    return name


def refuse_if_used(what: str, uses: dict[str, int]) -> None:
    """Raises `Conflict` that lists what hangs on a thing; `uses` counts by the word for one of them."""
    listed = said(uses)
    if listed:
        raise Conflict(f"{what} can't be removed, because this hangs on it: {listed}.")


def said(uses: dict[str, int]) -> str:
    """``2 requests, 1 certificate``; empty when all are zero."""
    return ", ".join(f"{count} {plural(word, count)}" for word, count in uses.items() if count)


def plural(word: str, count: int) -> str:
    """The word for that many, also of ``role of an administrator``."""
    if count == 1:
        return word
    first, *rest = word.split(" of ")
    first = first[:-1] + "ies" if first.endswith("cy") or first.endswith("ity") else first + "s"
    return " of ".join([first, *rest])


def _count(session: Session, column: Any, number: int) -> int:
    return session.exec(select(func.count()).select_from(column.class_).where(col(column) == number)).one()


def _uses(session: Session, row: Organization) -> dict[str, int]:
    number = identity(row)
    return {
        "department": _count(session, Department.organization_id, number),
        "request": _count(session, CertificateRequest.organization_id, number),
        "certificate": _count(session, Certificate.organization_id, number),
        "delegation of a gateway": _count(session, Delegation.organization_id, number),
        "role of an administrator": _count(session, RoleAssignment.organization_id, number),
        "approval policy": _count(session, ApprovalPolicy.organization_id, number),
    }


def _department_uses(session: Session, row: Department) -> dict[str, int]:
    number = identity(row)
    return {
        "request": _count(session, CertificateRequest.department_id, number),
        "certificate": _count(session, Certificate.department_id, number),
        "delegation of a gateway": _count(session, Delegation.department_id, number),
        "role of an administrator": _count(session, RoleAssignment.department_id, number),
    }


def _refuse_late(what: str, name: str, seen: str | None) -> None:
    if seen is not None and seen != name:
        raise Conflict(f"{what} {seen} was renamed meanwhile by somebody else; it is called {name} now.")


def _refuse_twin(session: Session, name: str, own: int | None = None) -> None:
    """Names differ by more than the case of their letters: nobody could tell them apart in a list."""
    for number, there in session.exec(select(Organization.id, Organization.name)).all():
        if number != own and there.casefold() == name.casefold():
            raise Conflict(f"There is an organization {there!r} already.")


def _refuse_department_twin(session: Session, owner: Organization, name: str, own: int | None = None) -> None:
    statement = select(Department.id, Department.name).where(Department.organization_id == owner.id)
    for number, there in session.exec(statement).all():
        if number != own and there.casefold() == name.casefold():
            raise Conflict(f"Organization {owner.name} has a department {there!r} already.")


def scopes_named(
    session: Session, context: Context, organizations: Sequence[str], departments: Sequence[str]
) -> list[Scope]:
    """The scopes of organizations by name and departments as ``ORGANIZATION/NAME``, each once. Raises `NotFound`,
    `InvalidInput`."""
    scopes = [Scope(identity(lookup.organization(session, context.actor, name))) for name in organizations]
    for words in departments:
        above, slash, name = words.partition("/")
        if not slash:
            raise InvalidInput(f"A department is named as ORGANIZATION/NAME, not {words!r}.")
        owner = lookup.organization(session, context.actor, above)
        row = lookup.department(session, context.actor, owner, name)
        scopes.append(Scope(identity(owner), identity(row)))
    return list(dict.fromkeys(scopes))
