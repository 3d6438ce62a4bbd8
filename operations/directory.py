"""Organizations and departments as lists to look through, with what hangs on each; the database searches and pages."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import sqlalchemy
from sqlalchemy import ColumnElement, and_, func, or_
from sqlmodel import Session, col, select

from model.rules import permissions
from model.states import CertificateStatus
from model.tables import (
    ApprovalPolicy,
    Certificate,
    CertificateRequest,
    Delegation,
    Department,
    Gateway,
    Organization,
    RoleAssignment,
)
from operations import lookup
from operations.context import Context
from operations.lookup import identity


@dataclass(frozen=True)
class Counts:
    """What hangs on an organization or a department. `gateways` are those that are delegated to it, `certificates`
    those that are issued and not replaced. `administrators` None: only an MRAO may know of others."""

    gateways: int = 0
    open_requests: int = 0
    certificates: int = 0
    administrators: int | None = None


@dataclass(frozen=True)
class OrganizationLine:
    """A line of the list of organizations; all counts are of what the actor may see. `policy` is the approval policy
    that holds for it; None: the strict default."""

    id: int
    name: str
    departments: int
    policy: str | None
    counts: Counts


@dataclass(frozen=True)
class DepartmentLine:
    """A line of the list of departments of one organization."""

    id: int
    name: str
    counts: Counts


@dataclass(frozen=True)
class OrganizationPage:
    """Some organizations and how many there are in all."""

    rows: list[OrganizationLine]
    total: int


@dataclass(frozen=True)
class DepartmentPage:
    """Some departments and how many there are in all."""

    rows: list[DepartmentLine]
    total: int


def organizations(context: Context, search: str = "", offset: int = 0, limit: int = 100) -> OrganizationPage:
    """Organizations that the actor may see, by name. `search` looks into the names of organizations and departments."""
    conditions = [lookup.organizations_seen_by(context.actor)]
    if search:
        named = select(Department.organization_id).where(_contains(Department.name, search), _departments_seen(context))
        conditions.append(or_(_contains(Organization.name, search), col(Organization.id).in_(named)))
    with context.database.read() as session:
        total = session.exec(select(func.count()).select_from(Organization).where(*conditions)).one()
        statement = select(Organization).where(*conditions).order_by(func.lower(Organization.name), Organization.name)
        return OrganizationPage(
            _lines(context, session, session.exec(statement.offset(offset).limit(limit)).all()), total
        )


def organization(context: Context, which: str | int) -> OrganizationLine:
    """One organization with what hangs on it. Raises `NotFound`."""
    with context.database.read() as session:
        return _lines(context, session, [lookup.organization(session, context.actor, which)])[0]


def departments(
    context: Context, which: str | int, search: str = "", offset: int = 0, limit: int = 100
) -> DepartmentPage:
    """The departments of an organization that the actor may see, by name. Raises `NotFound` (organization)."""
    with context.database.read() as session:
        owner = lookup.organization(session, context.actor, which)
        conditions = [col(Department.organization_id) == owner.id, _departments_seen(context)]
        if search:
            conditions.append(_contains(Department.name, search))
        total = session.exec(select(func.count()).select_from(Department).where(*conditions)).one()
        statement = select(Department).where(*conditions).order_by(func.lower(Department.name), Department.name)
        rows = session.exec(statement.offset(offset).limit(limit)).all()
        counted = _counts(context, session, "department_id", [identity(row) for row in rows])
        return DepartmentPage([DepartmentLine(identity(row), row.name, counted[identity(row)]) for row in rows], total)


def _lines(context: Context, session: Session, rows: Iterable[Organization]) -> list[OrganizationLine]:
    rows = list(rows)
    numbers = [identity(row) for row in rows]
    counted = _counts(context, session, "organization_id", numbers)
    inside = select(Department.organization_id, func.count()).where(
        col(Department.organization_id).in_(numbers), _departments_seen(context)
    )
    departments = dict(session.exec(inside.group_by(col(Department.organization_id))).all())
    own = select(ApprovalPolicy.organization_id, ApprovalPolicy.name).where(
        or_(col(ApprovalPolicy.organization_id).in_(numbers), col(ApprovalPolicy.organization_id).is_(None))
    )
    policies = dict(session.exec(own.order_by(col(ApprovalPolicy.id).desc())).all())
    return [
        OrganizationLine(
            number,
            row.name,
            departments.get(number, 0),
            policies.get(number, policies.get(None)),
            counted[number],
        )
        for number, row in zip(numbers, rows, strict=True)
    ]


def _counts(context: Context, session: Session, column: str, numbers: list[int]) -> dict[int, Counts]:
    """What hangs on some organizations (`column` organization_id) or departments (department_id), one statement for
    each kind of thing."""

    def counted(table: Any, amount: Any, *conditions: ColumnElement[bool]) -> dict[int, int]:
        of = getattr(table, column)
        statement = sqlalchemy.select(of, amount).where(of.in_(numbers), *conditions).group_by(of)
        return {int(number): int(count) for number, count in session.execute(statement).all()}

    gateways = counted(
        Delegation,
        func.count(sqlalchemy.distinct(col(Delegation.gateway_id))),
        _seen(context, Delegation, whole=True),
        col(Delegation.gateway_id).in_(select(Gateway.id).where(~col(Gateway.name_key).startswith(lookup.GONE))),
    )
    requests = counted(
        CertificateRequest, func.count(), col(CertificateRequest.closed).is_(False), _seen(context, CertificateRequest)
    )
    certificates = counted(
        Certificate,
        func.count(),
        col(Certificate.status) == CertificateStatus.ISSUED,
        _seen(context, Certificate),
    )
    administrators = None
    if context.actor.owns_everything:
        administrators = counted(RoleAssignment, func.count(sqlalchemy.distinct(col(RoleAssignment.administrator_id))))
    return {
        number: Counts(
            gateways.get(number, 0),
            requests.get(number, 0),
            certificates.get(number, 0),
            None if administrators is None else administrators.get(number, 0),
        )
        for number in numbers
    }


def _seen(context: Context, table: Any, *, whole: bool = False) -> ColumnElement[bool]:
    """What the actor may see of a table's rows; with `whole`, what concerns a whole organization concerns its
    departments' administrators too."""
    seen = lookup.seen_by(context.actor, table.organization_id, table.department_id)
    if not whole:
        return seen
    sight = permissions.visible(context.actor.grants)
    return or_(
        seen,
        and_(
            col(table.department_id).is_(None),
            col(table.organization_id).in_(
                select(Department.organization_id).where(col(Department.id).in_(sight.departments))
            ),
        ),
    )


def _departments_seen(context: Context) -> ColumnElement[bool]:
    return lookup.seen_by(context.actor, Department.organization_id, Department.id)


def _contains(column: Any, text: str) -> ColumnElement[bool]:
    return func.lower(column).contains(text.lower(), autoescape=True)
