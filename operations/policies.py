"""Approval policies: who must say yes to a request, and how long that may take."""

from __future__ import annotations

from dataclasses import dataclass

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
    """A line of the list. Without an organization it holds for all that have none of their own. Times in seconds."""

    id: int
    name: str
    organization: str | None
    approvals_required: int
    four_eyes: bool
    reminder_seconds: int
    expiry_seconds: int
    auto_approve_renewals: bool
    auto_approve_privileged: bool


@dataclass(frozen=True)
class PolicyChange:
    """What a policy says, or what is to be changed of it: None leaves it (or takes the strict default)."""

    approvals_required: int | None = None
    four_eyes: bool | None = None
    reminder_seconds: int | None = None
    expiry_seconds: int | None = None
    auto_approve_renewals: bool | None = None
    auto_approve_privileged: bool | None = None


def listing(context: Context) -> list[PolicyRow]:
    """The policies that hold for what the actor sees: the general one and those of his organizations."""
    with context.database.read() as session:
        rows = session.exec(select(ApprovalPolicy).order_by(col(ApprovalPolicy.id))).all()
        return [_row(session, row) for row in rows if _concerns(context, row)]


def show(context: Context, name: str) -> PolicyRow:
    """One policy. Raises `NotFound`."""
    with context.database.read() as session:
        return _row(session, _known(context, session, name))


def add(
    context: Context, name: str, organization: str | None = None, change: PolicyChange = PolicyChange()
) -> PolicyRow:
    """Add a policy for an organization, or the general one. Raises `InvalidInput`, `NotFound`, `Conflict`,
    `NotPermitted`."""
    with context.acting("policy.added", "policy") as session:
        context.require_owner("add approval policies")
        name = checked_name(name, "A policy's name")
        if session.exec(select(ApprovalPolicy.id).where(ApprovalPolicy.name == name)).first() is not None:
            raise Conflict(f"There is an approval policy {name!r} already.")
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
        return _row(session, row)


def edit(context: Context, name: str, change: PolicyChange) -> PolicyRow:
    """Change a policy; it holds at once, also for requests that wait. Raises `NotFound`, `InvalidInput`,
    `NotPermitted`."""
    with context.acting("policy.edited", "policy") as session:
        row = _known(context, session, name)
        context.require_owner("edit approval policies")
        _apply(row, change)
        session.add(row)
        session.flush()
        told = f"Approval policy {name} now says: {_said(row)}."
        context.tell(session, "policy.edited", "policy", told, object_id=row.id, scope=Scope(row.organization_id))
        return _row(session, row)


def remove(context: Context, name: str) -> None:
    """Remove a policy: the general one holds then, or where there is none the strict default. Raises `NotFound`,
    `NotPermitted`."""
    with context.acting("policy.removed", "policy") as session:
        row = _known(context, session, name)
        context.require_owner("remove approval policies")
        session.delete(row)
        told = f"Approval policy {name} was removed."
        context.tell(session, "policy.removed", "policy", told, object_id=row.id, scope=Scope(row.organization_id))


def _known(context: Context, session: Session, name: str) -> ApprovalPolicy:
    row = session.exec(select(ApprovalPolicy).where(ApprovalPolicy.name == name)).one_or_none()
    if row is None or not _concerns(context, row):
        raise NotFound(f"There is no approval policy {name!r}: `certgate policy list` shows what there is.")
    return row


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


def _row(session: Session, row: ApprovalPolicy) -> PolicyRow:
    return PolicyRow(
        id=identity(row),
        name=row.name,
        organization=session.get_one(Organization, row.organization_id).name if row.organization_id else None,
        approvals_required=row.approvals_required,
        four_eyes=row.four_eyes,
        reminder_seconds=row.reminder_seconds,
        expiry_seconds=row.expiry_seconds,
        auto_approve_renewals=row.auto_approve_renewals,
        auto_approve_privileged=row.auto_approve_privileged,
    )
