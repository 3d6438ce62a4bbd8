"""Administrators: who may act, where and how they sign in.

They are made and changed by MRAOs only: whoever could make himself a second account could approve what he asked for.
Anybody may change his own password and make himself a token.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sqlmodel import Session, col, select

from model import access
from model.errors import Conflict, InvalidInput, NotFound, NotPermitted
from model.rules import permissions
from model.states import Privilege, Role
from model.tables import AccessToken, Administrator, Department, Organization, RoleAssignment
from operations.context import Context
from operations.identity import hash_password, mint_token
from operations.lookup import identity
from operations.organizations import scopes_named

LONGEST_TOKEN = timedelta(days=366)
_LOGIN = re.compile(r"[A-Za-z0-9._@+-]{1,64}")
_LONGEST_NAME, _LONGEST_EMAIL = 128, 256
# What a role is given when nobody says otherwise: to ask, and to see that it ends well.
DEFAULT_PRIVILEGES = (Privilege.REQUEST, Privilege.RENEW, Privilege.INSTALL)


@dataclass(frozen=True)
class AdministratorRow:
    """A line of the list. `organizations` and `departments` (as ``ORGANIZATION/NAME``) are where the role holds."""

    id: int
    login: str
    full_name: str
    email: str
    role: Role | None
    organizations: list[str]
    departments: list[str]
    privileges: list[str]
    active: bool
    has_password: bool
    locked_until: datetime | None
    created_at: datetime


@dataclass(frozen=True)
class NewAdministrator:
    """What an administrator is made of. Without a password one is made up. Privileges None: the usual ones."""

    login: str
    role: Role
    full_name: str = ""
    email: str = ""
    organizations: Sequence[str] = ()
    departments: Sequence[str] = ()
    privileges: Sequence[Privilege] | None = None
    password: str | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Added:
    """The new administrator; `password` only where it was made up, to be shown once."""

    login: str
    password: str | None = field(repr=False)


@dataclass(frozen=True)
class AdministratorChange:
    """What is to be changed; None leaves it. A role is always given with its scopes and privileges."""

    full_name: str | None = None
    email: str | None = None
    role: Role | None = None
    organizations: Sequence[str] = ()
    departments: Sequence[str] = ()
    privileges: Sequence[Privilege] | None = None


def listing(context: Context) -> list[AdministratorRow]:
    """All administrators for an MRAO, by login; for others only they themselves."""
    with context.database.read() as session:
        statement = select(Administrator).order_by(col(Administrator.login))
        if not context.actor.owns_everything:
            statement = statement.where(Administrator.id == context.actor.id)
        return [_row(session, row) for row in session.exec(statement).all()]


def show(context: Context, login: str) -> AdministratorRow:
    """One administrator. Raises `NotFound`."""
    with context.database.read() as session:
        return _row(session, _known(context, session, login))


def add(context: Context, new: NewAdministrator) -> Added:
    """Add an administrator. Raises `InvalidInput`, `NotFound` (scope), `Conflict` (login), `NotPermitted`."""
    with context.acting("administrator.added", "administrator") as session:
        context.require_owner("add administrators")
        if not _LOGIN.fullmatch(new.login):
            raise InvalidInput("A login has 1 to 64 letters, digits or the characters . _ @ + -")
        if access.administrator_of(session, new.login) is not None:
            raise Conflict(f"There is an administrator {new.login!r} already.")
        made_up = None if new.password is not None else secrets.token_urlsafe(15)
        role = Role(new.role)
        row = Administrator(login=new.login, created_at=context.clock())
        _describe(row, new.full_name, new.email)
        row.password_hash = hash_password(new.password if new.password is not None else str(made_up))
        session.add(row)
        session.flush()
        told = _give(context, session, row, role, new.organizations, new.departments, new.privileges)
        context.tell(
            session,
            "administrator.added",
            "administrator",
            f"Administrator {new.login} was added as {told}.",
            object_id=row.id,
        )
        return Added(new.login, made_up)


def edit(context: Context, login: str, change: AdministratorChange) -> AdministratorRow:
    """Change an administrator. Raises `NotFound`, `InvalidInput`, `Conflict` (the last MRAO), `NotPermitted`."""
    with context.acting("administrator.edited", "administrator") as session:
        row = _known(context, session, login)
        context.require_owner("edit administrators")
        full_name = row.full_name if change.full_name is None else change.full_name
        _describe(row, full_name, row.email if change.email is None else change.email)
        session.add(row)
        told = f"Administrator {login} was edited."
        if change.role is not None:
            for assignment in _assignments(session, row):
                session.delete(assignment)
            session.flush()
            given = _give(
                context, session, row, change.role, change.organizations, change.departments, change.privileges
            )
            _keep_an_owner(session)
            told = f"Administrator {login} is now {given}."
        elif change.organizations or change.departments or change.privileges is not None:
            raise InvalidInput("Scopes and privileges are given together with the role.")
        context.tell(session, "administrator.edited", "administrator", told, object_id=row.id)
        return _row(session, row)


def deactivate(context: Context, login: str) -> None:
    """Lock an administrator out: password, tokens and sessions count no longer. What he did stays. Raises `NotFound`,
    `Conflict` (the last MRAO), `NotPermitted`."""
    with context.acting("administrator.deactivated", "administrator") as session:
        row = _known(context, session, login)
        context.require_owner("deactivate administrators")
        if not row.active:
            return
        row.active = False
        session.add(row)
        session.flush()
        _keep_an_owner(session)
        for token in session.exec(select(AccessToken).where(AccessToken.administrator_id == row.id)).all():
            session.delete(token)
        told = f"Administrator {login} was deactivated; his tokens are void."
        context.tell(session, "administrator.deactivated", "administrator", told, object_id=row.id)


def activate(context: Context, login: str) -> None:
    """Let a deactivated or locked administrator in again. Raises `NotFound`, `NotPermitted`."""
    with context.acting("administrator.activated", "administrator") as session:
        row = _known(context, session, login)
        context.require_owner("activate administrators")
        if row.active and row.locked_until is None:
            return
        row.active, row.locked_until, row.failed_sign_ins = True, None, 0
        session.add(row)
        told = f"Administrator {login} was activated."
        context.tell(session, "administrator.activated", "administrator", told, object_id=row.id)


def set_password(context: Context, login: str, password: str) -> None:
    """Set one's own password, or as MRAO anybody's. Raises `NotFound`, `InvalidInput` (too short), `NotPermitted`."""
    with context.acting("administrator.password", "administrator") as session:
        row = _known(context, session, login)
        if row.id != context.actor.id:
            context.require_owner("set the passwords of others")
        row.password_hash = hash_password(password)
        row.locked_until, row.failed_sign_ins = None, 0
        session.add(row)
        told = f"The password of {login} was set."
        context.tell(session, "administrator.password", "administrator", told, object_id=row.id)


def token(context: Context, login: str, lifetime: timedelta) -> str:
    """A new access token for oneself, or as MRAO for anybody; to be shown once. Raises `NotFound`, `InvalidInput`,
    `Conflict` (deactivated), `NotPermitted`."""
    with context.acting("administrator.token", "administrator") as session:
        row = _known(context, session, login)
        if row.id != context.actor.id:
            context.require_owner("make tokens for others")
        if not timedelta(0) < lifetime <= LONGEST_TOKEN:
            raise InvalidInput(f"A token lives at most {LONGEST_TOKEN.days} days.")
        if not row.active:
            raise Conflict(f"Administrator {login} is deactivated: activate him first.")
        now = context.clock()
        minted = mint_token(session, row, lifetime, now)
        told = f"A token for {login} was made, valid until {now + lifetime:%Y-%m-%d %H:%M} UTC."
        context.tell(session, "administrator.token", "administrator", told, object_id=row.id)
        return minted


def revoke_tokens(context: Context, login: str) -> int:
    """Make all tokens of oneself, or as MRAO of anybody, void; gives how many. Raises `NotFound`, `NotPermitted`."""
    with context.acting("administrator.token", "administrator") as session:
        row = _known(context, session, login)
        if row.id != context.actor.id:
            context.require_owner("revoke the tokens of others")
        tokens = session.exec(select(AccessToken).where(AccessToken.administrator_id == row.id)).all()
        for one in tokens:
            session.delete(one)
        if tokens:
            told = f"The tokens of {login} were made void ({len(tokens)})."
            context.tell(session, "administrator.token", "administrator", told, object_id=row.id)
        return len(tokens)


def _known(context: Context, session: Session, login: str) -> Administrator:
    row = access.administrator_of(session, login)
    if row is None or not (context.actor.owns_everything or row.id == context.actor.id):
        raise NotFound(f"There is no administrator {login!r}: `certgate administrator list` shows whom there is.")
    return row


def _describe(row: Administrator, full_name: str, email: str) -> None:
    if len(full_name) > _LONGEST_NAME or not (full_name.isprintable()):
        raise InvalidInput(f"A full name has at most {_LONGEST_NAME} printable characters.")
    if len(email) > _LONGEST_EMAIL or (email and not re.fullmatch(r"[^@\s]+@[^@\s]+", email)):
        raise InvalidInput(f"{email[:80]!a} is not an e-mail address.")
    row.full_name, row.email = full_name, email


def _give(
    context: Context,
    session: Session,
    row: Administrator,
    role: Role,
    organizations: Sequence[str],
    departments: Sequence[str],
    privileges: Sequence[Privilege] | None,
) -> str:
    given = sorted({str(one) for one in (DEFAULT_PRIVILEGES if privileges is None else privileges)})
    if role == Role.MRAO and privileges is None:
        given = []
    wrong = {
        Role.MRAO: bool(organizations or departments),
        Role.RAO: bool(departments) or not organizations,
        Role.DRAO: bool(organizations) or not departments,
    }[role]
    if wrong:
        needs = {Role.MRAO: "no scope", Role.RAO: "organizations", Role.DRAO: "departments"}[role]
        raise InvalidInput(f"The role {role} is given with {needs}.")
    scopes = scopes_named(session, context, organizations, departments) or [permissions.Scope()]
    for scope in scopes:
        grant = permissions.Grant(role, scope.organization_id, scope.department_id, frozenset(given))
        if not permissions.may_grant(context.actor.grants, grant):
            raise NotPermitted(
                f"{context.actor.login} can't give what he doesn't have: {role} with {', '.join(given)}."
            )
        session.add(
            RoleAssignment(
                administrator_id=identity(row),
                role=role,
                organization_id=scope.organization_id,
                department_id=scope.department_id,
                privileges=given,
            )
        )
    where, what = ", ".join([*organizations, *departments]), ", ".join(given)
    return f"{role}{f' of {where}' if where else ''}{f' with {what}' if what else ''}"


def _keep_an_owner(session: Session) -> None:
    session.flush()
    owners = (
        select(Administrator.id)
        .join(RoleAssignment, col(RoleAssignment.administrator_id) == col(Administrator.id))
        .where(RoleAssignment.role == Role.MRAO, col(Administrator.active))
    )
    if session.exec(owners).first() is None:
        raise Conflict("This is the last active administrator with the role MRAO: make another one first.")


def _assignments(session: Session, row: Administrator) -> Sequence[RoleAssignment]:
    statement = select(RoleAssignment).where(RoleAssignment.administrator_id == row.id)
    return session.exec(statement.order_by(col(RoleAssignment.id))).all()


def _row(session: Session, row: Administrator) -> AdministratorRow:
    assignments = _assignments(session, row)
    organizations, departments = [], []
    for assignment in assignments:
        if assignment.organization_id is None:
            continue
        organization = session.get_one(Organization, assignment.organization_id).name
        if assignment.department_id is None:
            organizations.append(organization)
        else:
            departments.append(f"{organization}/{session.get_one(Department, assignment.department_id).name}")
    return AdministratorRow(
        id=identity(row),
        login=row.login,
        full_name=row.full_name,
        email=row.email,
        role=assignments[0].role if assignments else None,
        organizations=organizations,
        departments=departments,
        privileges=sorted({privilege for assignment in assignments for privilege in assignment.privileges}),
        active=row.active,
        has_password=row.password_hash is not None,
        locked_until=row.locked_until,
        created_at=row.created_at,
    )
