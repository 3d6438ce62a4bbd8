"""Approval policies: who must say yes to a request, and how long that may take."""

from __future__ import annotations

from dataclasses import dataclass, replace

import sqlalchemy
from sqlalchemy import func
from sqlmodel import Session, col, select

from model.errors import Conflict, InvalidInput, NotFound
from model.rules.permissions import Scope
from model.tables import ApprovalPolicy, Organization
from operations import lookup
from operations.context import Context
from operations.lookup import identity
from operations.organizations import checked_name

_MOST_APPROVALS = 10
_LONGEST_SECONDS = 366 * 86_400


@dataclass(frozen=True)
class PolicyRow:
    """A line of the list. Without an organization it holds for all that have none of their own. Times in seconds.
    `holds_for` counts the organizations that the actor sees and for which it holds."""

    id: int
    name: str
    organization: str | None
    approvals_required: int
    four_eyes: bool
    reminder_seconds: int
    expiry_seconds: int
    auto_approve_renewals: bool
    auto_approve_privileged: bool
    holds_for: int = 0


@dataclass(frozen=True)
class PolicyChange:
    """What a policy says, or what is to be changed of it: None leaves it (or takes the strict default)."""

    approvals_required: int | None = None
    four_eyes: bool | None = None
    reminder_seconds: int | None = None
    expiry_seconds: int | None = None
    auto_approve_renewals: bool | None = None
    auto_approve_privileged: bool | None = None
    name: str | None = None


def listing(context: Context) -> list[PolicyRow]:
    """The policies that hold for what the actor sees: the general one first, then those of his organizations."""
    with context.database.read() as session:
        statement = (
            sqlalchemy.select(ApprovalPolicy, col(Organization.name))
            .outerjoin(Organization, col(Organization.id) == col(ApprovalPolicy.organization_id))
            .order_by(col(ApprovalPolicy.organization_id).is_not(None), col(ApprovalPolicy.id))
        )
        found = [(row, name) for row, name in session.execute(statement).all() if _concerns(context, row)]
        seen = lookup.organizations_seen_by(context.actor)
        total = session.exec(select(func.count()).select_from(Organization).where(seen)).one()
        own = sum(row.organization_id is not None for row, _ in found)
        return [_row(row, name, 1 if name else total - own) for row, name in found]


def show(context: Context, which: str | int) -> PolicyRow:
    """One policy. Raises `NotFound`."""
    found = next((row for row in listing(context) if which in (row.id, row.name)), None)
    if found is None:
        raise _unknown(which)
    return found


def add(
    context: Context, name: str, organization: str | None = None, change: PolicyChange = PolicyChange()
) -> PolicyRow:
    """Add a policy for an organization, or the general one. Raises `InvalidInput`, `NotFound`, `Conflict`,
    `NotPermitted`."""
    with context.acting("policy.added", "policy") as session:
        context.require_owner("add approval policies")
        name = _free_name(session, name)
        number = identity(lookup.organization(session, context.actor, organization)) if organization else None
        same = (
            col(ApprovalPolicy.organization_id).is_(None)
            if number is None
            else ApprovalPolicy.organization_id == number
        )
        there = session.exec(select(ApprovalPolicy).where(same)).first()
        if there is not None:
            whom = f"Organization {organization}" if organization else "Everybody"
            raise Conflict(f"{whom} has the approval policy {there.name} already: edit that one.")
        row = ApprovalPolicy(name=name, organization_id=number)
        _apply(row, change)
        session.add(row)
        session.flush()
        told = f"Approval policy {name} was added: {_said(row)}."
        context.tell(session, "policy.added", "policy", told, object_id=row.id, scope=Scope(number))
        number = identity(row)
    return show(context, number)


def edit(context: Context, which: str | int, change: PolicyChange, seen: PolicyRow | None = None) -> PolicyRow:
    """Change a policy; it holds at once, also for requests that wait. `seen` is the policy as the change was made up.
    Raises `NotFound`, `InvalidInput`, `Conflict` (name; somebody else changed it meanwhile), `NotPermitted`."""
    with context.acting("policy.edited", "policy") as session:
        row = _known(context, session, which)
        context.require_owner("edit approval policies")
        if seen is not None and replace(seen, holds_for=0) != _row(row, seen.organization):
            raise Conflict(f"Policy {seen.name} was edited meanwhile by somebody else: look at it again.")
        if change.name is not None and change.name.strip() != row.name:
            row.name = _free_name(session, change.name)
        _apply(row, change)
        session.add(row)
        session.flush()
        number = identity(row)
        told = f"Approval policy {row.name} now says: {_said(row)}."
        context.tell(session, "policy.edited", "policy", told, object_id=number, scope=Scope(row.organization_id))
    return show(context, number)


def remove(context: Context, which: str | int) -> None:
    """Remove a policy: the general one holds then, or where there is none the strict default. Raises `NotFound`,
    `NotPermitted`."""
    with context.acting("policy.removed", "policy") as session:
        row = _known(context, session, which)
        context.require_owner("remove approval policies")
        session.delete(row)
        told = f"Approval policy {row.name} was removed."
        context.tell(session, "policy.removed", "policy", told, object_id=row.id, scope=Scope(row.organization_id))


def _known(context: Context, session: Session, which: str | int) -> ApprovalPolicy:
    known = ApprovalPolicy.id == which if isinstance(which, int) else ApprovalPolicy.name == which
    row = session.exec(select(ApprovalPolicy).where(known)).one_or_none()
    if row is None or not _concerns(context, row):
        raise _unknown(which)
    return row


def _unknown(which: str | int) -> NotFound:
    return NotFound(f"There is no approval policy {which!r}: `certgate policy list` shows what there is.")


def _free_name(session: Session, name: str) -> str:
    name = checked_name(name, "A policy's name")
    if session.exec(select(ApprovalPolicy.id).where(ApprovalPolicy.name == name)).first() is not None:
        raise Conflict(f"There is an approval policy {name!r} already.")
    return name


def _concerns(context: Context, row: ApprovalPolicy) -> bool:
    if row.organization_id is None or context.actor.owns_everything:
        return True
    return any(grant.organization_id == row.organization_id for grant in context.actor.grants)


def _apply(row: ApprovalPolicy, change: PolicyChange) -> None:
    if change.approvals_required is not None:
        if not 1 <= change.approvals_required <= _MOST_APPROVALS:
            raise InvalidInput(f"A policy asks for 1 to {_MOST_APPROVALS} approvals, not {change.approvals_required}.")
        row.approvals_required = change.approvals_required
    for name in ("reminder_seconds", "expiry_seconds"):
        seconds = getattr(change, name)
        if seconds is not None:
            if not 1 <= seconds <= _LONGEST_SECONDS:
                raise InvalidInput(f"Reminder and expiry come after 1 to {_LONGEST_SECONDS} seconds, not {seconds}.")
            setattr(row, name, seconds)
    for name in ("four_eyes", "auto_approve_renewals", "auto_approve_privileged"):
        if getattr(change, name) is not None:
            setattr(row, name, getattr(change, name))


def _said(row: ApprovalPolicy) -> str:
    words = [f"{row.approvals_required} approval(s)", "four eyes" if row.four_eyes else "no four eyes"]
    words.append(f"reminder after {row.reminder_seconds} s, expiry after {row.expiry_seconds} s")
    words.append(f"renewals {'approved by themselves' if row.auto_approve_renewals else 'need approval'}")
    if row.auto_approve_privileged:
        words.append("the privilege auto_approve counts")
    return ", ".join(words)


def _row(row: ApprovalPolicy, organization: str | None, holds_for: int = 0) -> PolicyRow:
    return PolicyRow(
        id=identity(row),
        name=row.name,
        organization=organization,
        approvals_required=row.approvals_required,
        four_eyes=row.four_eyes,
        reminder_seconds=row.reminder_seconds,
        expiry_seconds=row.expiry_seconds,
        auto_approve_renewals=row.auto_approve_renewals,
        auto_approve_privileged=row.auto_approve_privileged,
        holds_for=holds_for,
    )
