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

from sqlalchemy import ColumnElement, func, or_
from sqlmodel import Session, col, select

from model import access
from model.errors import Conflict, InvalidInput, NotFound
from model.states import Privilege, Role
from model.tables import AccessToken, Administrator, RoleAssignment
from operations import lookup, roles, sessions, single_sign_on
from operations.context import Context
from operations.identity import forget_browsers, hash_password, mint_token
from operations.lookup import identity
from operations.roles import Assignment, RoleRow

LONGEST_TOKEN = timedelta(days=366)
_LOGIN = re.compile(r"[A-Za-z0-9._@+-]{1,64}")
_LONGEST_NAME, _LONGEST_EMAIL = 128, 256


@dataclass(frozen=True)
class AdministratorRow:
    """A line of the list. `roles` are what he holds; `role` is the highest of them, and `organizations`, `departments`
    (as ``ORGANIZATION/NAME``) and `privileges` are those of all together."""

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
    has_single_sign_on: bool = False
    oidc_issuer: str | None = None
    oidc_subject: str | None = None
    last_sign_in: datetime | None = None
    tokens: int = 0
    roles: list[RoleRow] = field(default_factory=list)


@dataclass(frozen=True)
class Filter:
    """Which administrators; empty fields keep all. `search` looks into login, name and e-mail address; `active` False
    keeps those that are deactivated, `locked` those that are locked after failed sign-ins."""

    search: str = ""
    role: Role | None = None
    organization: str | None = None
    active: bool | None = None
    locked: bool = False


@dataclass(frozen=True)
class Page:
    """Some rows and how many there are in all."""

    rows: list[AdministratorRow]
    total: int


@dataclass(frozen=True)
class TokenRow:
    """An access token: what is known of it is when it was made and until when it is good."""

    id: int
    created_at: datetime
    expires_at: datetime


@dataclass(frozen=True)
class NewAdministrator:
    """What an administrator is made of. Without a password one is made up, unless he is to sign in through an OpenID
    Connect provider only (`without_password`, or his subject there). Privileges None: the usual ones."""

    login: str
    role: Role
    full_name: str = ""
    email: str = ""
    organizations: Sequence[str] = ()
    departments: Sequence[str] = ()
    privileges: Sequence[Privilege] | None = None
    password: str | None = field(default=None, repr=False)
    without_password: bool = False
    oidc_issuer: str | None = None
    oidc_subject: str | None = None


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
    return page(context).rows


def page(context: Context, wanted: Filter = Filter(), offset: int = 0, limit: int | None = None) -> Page:
    """Administrators, filtered and paged by the database, by login. Raises `NotFound` (organization)."""
    with context.database.read() as session:
        conditions = _conditions(context, session, wanted)
        total = session.exec(select(func.count()).select_from(Administrator).where(*conditions)).one()
        statement = select(Administrator).where(*conditions).order_by(col(Administrator.login))
        rows = session.exec(statement.offset(offset).limit(limit)).all()
        return Page(_rows(session, rows, context.clock()), total)


def show(context: Context, login: str | int) -> AdministratorRow:
    """One administrator. Raises `NotFound`."""
    with context.database.read() as session:
        return _row(session, lookup.administrator(session, context.actor, login), context.clock())


def add(context: Context, new: NewAdministrator) -> Added:
    """Add an administrator. Raises `InvalidInput`, `NotFound` (scope), `Conflict` (login), `NotPermitted`."""
    with context.acting("administrator.added", "administrator") as session:
        context.require_owner("add administrators")
        if not _LOGIN.fullmatch(new.login):
            raise InvalidInput("A login has 1 to 64 letters, digits or the characters . _ @ + -")
        if access.administrator_of(session, new.login) is not None:
            raise Conflict(f"There is an administrator {new.login!r} already.")
        linked = new.oidc_subject is not None
        made_up = None if new.password is not None or new.without_password or linked else secrets.token_urlsafe(15)
        role = Role(new.role)
        row = Administrator(login=new.login, created_at=context.clock())
        _describe(row, new.full_name, new.email)
        password = new.password if new.password is not None else made_up
        row.password_hash = None if password is None else hash_password(password)
        session.add(row)
        session.flush()
        if new.oidc_subject is not None:
            single_sign_on.bind(session, row, new.oidc_issuer or "", new.oidc_subject)
        told = roles.give(context, session, row, Assignment(role, new.organizations, new.departments, new.privileges))
        context.tell(
            session,
            "administrator.added",
            "administrator",
            f"Administrator {new.login} was added as {told}.",
            object_id=row.id,
        )
        return Added(new.login, made_up)


def edit(
    context: Context, login: str | int, change: AdministratorChange, seen: AdministratorRow | None = None
) -> AdministratorRow:
    """Change an administrator; `seen` is he as the change was made up. Raises `NotFound`, `InvalidInput`, `Conflict`
    (the last MRAO; somebody else changed him meanwhile), `NotPermitted`."""
    with context.acting("administrator.edited", "administrator") as session:
        row = lookup.administrator(session, context.actor, login)
        context.require_owner("edit administrators")
        if seen is not None and (row.full_name, row.email) != (seen.full_name, seen.email):
            raise Conflict(f"Administrator {row.login} was edited meanwhile by somebody else: look at him again.")
        full_name = row.full_name if change.full_name is None else change.full_name
        _describe(row, full_name, row.email if change.email is None else change.email)
        session.add(row)
        told = f"Administrator {row.login} was edited."
        if change.role is not None:
            for assignment in roles.assignments(session, identity(row)):
                session.delete(assignment)
            session.flush()
            given = Assignment(change.role, change.organizations, change.departments, change.privileges)
            told = f"Administrator {row.login} is now {roles.give(context, session, row, given)}."
            roles.keep_an_owner(session)
        elif change.organizations or change.departments or change.privileges is not None:
            raise InvalidInput("Scopes and privileges are given together with the role.")
        context.tell(session, "administrator.edited", "administrator", told, object_id=row.id)
        return _row(session, row, context.clock())


def deactivate(context: Context, login: str | int) -> None:
    """Lock an administrator out: password, tokens and sessions count no longer. What he did stays. Raises `NotFound`,
    `Conflict` (the last MRAO), `NotPermitted`."""
    with context.acting("administrator.deactivated", "administrator") as session:
        row = lookup.administrator(session, context.actor, login)
        context.require_owner("deactivate administrators")
        if not row.active:
            return
        row.active = False
        session.add(row)
        session.flush()
        roles.keep_an_owner(session)
        for token in session.exec(select(AccessToken).where(AccessToken.administrator_id == row.id)).all():
            session.delete(token)
        sessions.end_all_of(session, identity(row), sessions.Ended.DEACTIVATED, context.clock())
        forget_browsers(session, identity(row))
        told = f"Administrator {row.login} was deactivated; his sessions have ended and his tokens are void."
        context.tell(session, "administrator.deactivated", "administrator", told, object_id=row.id)


def activate(context: Context, login: str | int) -> None:
    """Let a deactivated or locked administrator in again. Raises `NotFound`, `NotPermitted`."""
    with context.acting("administrator.activated", "administrator") as session:
        row = lookup.administrator(session, context.actor, login)
        context.require_owner("activate administrators")
        if row.active and row.locked_until is None:
            return
        row.active, row.locked_until, row.failed_sign_ins = True, None, 0
        session.add(row)
        told = f"Administrator {row.login} was activated."
        context.tell(session, "administrator.activated", "administrator", told, object_id=row.id)


def set_password(context: Context, login: str | int, password: str) -> None:
    """Set one's own password, or as MRAO anybody's; all his sessions end. Raises `NotFound`, `InvalidInput` (too
    short), `NotPermitted`."""
    with context.acting("administrator.password", "administrator") as session:
        row = lookup.administrator(session, context.actor, login)
        if row.id != context.actor.id:
            context.require_owner("set the passwords of others")
        row.password_hash = hash_password(password)
        row.locked_until, row.failed_sign_ins = None, 0
        session.add(row)
        sessions.end_all_of(session, identity(row), sessions.Ended.PASSWORD, context.clock())
        forget_browsers(session, identity(row))
        told = f"The password of {row.login} was set; his sessions have ended."
        context.tell(session, "administrator.password", "administrator", told, object_id=row.id)


def token(context: Context, login: str | int, lifetime: timedelta) -> str:
    """A new access token for oneself, or as MRAO for anybody; to be shown once. Raises `NotFound`, `InvalidInput`,
    `Conflict` (deactivated), `NotPermitted`."""
    with context.acting("administrator.token", "administrator") as session:
        row = lookup.administrator(session, context.actor, login)
        if row.id != context.actor.id:
            context.require_owner("make tokens for others")
        if not timedelta(0) < lifetime <= LONGEST_TOKEN:
            raise InvalidInput(f"A token lives at most {LONGEST_TOKEN.days} days.")
        if not row.active:
            raise Conflict(f"Administrator {row.login} is deactivated: activate him first.")
        now = context.clock()
        minted = mint_token(session, row, lifetime, now)
        told = f"A token for {row.login} was made, valid until {now + lifetime:%Y-%m-%d %H:%M} UTC."
        context.tell(session, "administrator.token", "administrator", told, object_id=row.id)
        return minted


def tokens(context: Context, login: str | int) -> list[TokenRow]:
    """One's own tokens that are still good, or as MRAO anybody's, the newest first. Raises `NotFound`."""
    with context.database.read() as session:
        row = lookup.administrator(session, context.actor, login)
        statement = select(AccessToken).where(_good_tokens(context.clock()), AccessToken.administrator_id == row.id)
        found = session.exec(statement.order_by(col(AccessToken.id).desc())).all()
        return [TokenRow(identity(one), one.created_at, one.expires_at) for one in found]


def revoke_token(context: Context, login: str | int, token_id: int) -> None:
    """Make one token of oneself, or as MRAO of anybody, void. Raises `NotFound`, `NotPermitted`."""
    with context.acting("administrator.token", "administrator") as session:
        row = lookup.administrator(session, context.actor, login)
        if row.id != context.actor.id:
            context.require_owner("revoke the tokens of others")
        found = session.get(AccessToken, token_id)
        if found is None or found.administrator_id != row.id:
            raise NotFound(f"Administrator {row.login} has no such token any more.")
        session.delete(found)
        told = f"The token of {row.login} that was made {found.created_at:%Y-%m-%d %H:%M} UTC was made void."
        context.tell(session, "administrator.token", "administrator", told, object_id=row.id)


def revoke_tokens(context: Context, login: str | int) -> int:
    """Make all tokens of oneself, or as MRAO of anybody, void; gives how many. Raises `NotFound`, `NotPermitted`."""
    with context.acting("administrator.token", "administrator") as session:
        row = lookup.administrator(session, context.actor, login)
        if row.id != context.actor.id:
            context.require_owner("revoke the tokens of others")
        tokens = session.exec(select(AccessToken).where(AccessToken.administrator_id == row.id)).all()
        for one in tokens:
            session.delete(one)
        if tokens:
            told = f"The tokens of {row.login} were made void ({len(tokens)})."
            context.tell(session, "administrator.token", "administrator", told, object_id=row.id)
        return len(tokens)


def checked_full_name(full_name: str) -> str:
    """A name for people, without white space around it; may be empty. Raises `InvalidInput`."""
    full_name = full_name.strip()
    if len(full_name) > _LONGEST_NAME or not full_name.isprintable():
        raise InvalidInput(f"A full name has at most {_LONGEST_NAME} printable characters.")
    return full_name


def _describe(row: Administrator, full_name: str, email: str) -> None:
    full_name, email = checked_full_name(full_name), email.strip()
    if len(email) > _LONGEST_EMAIL or (email and not (email.isprintable() and re.fullmatch(r"[^@\s]+@[^@\s]+", email))):
        raise InvalidInput(f"{email[:80]!a} is not an e-mail address.")
    row.full_name, row.email = full_name, email


def _good_tokens(now: datetime) -> ColumnElement[bool]:
    return col(AccessToken.expires_at) > now


def _conditions(context: Context, session: Session, wanted: Filter) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if not context.actor.owns_everything:
        conditions.append(col(Administrator.id) == context.actor.id)
    if wanted.search:
        text = wanted.search.lower()
        fields = (Administrator.login, Administrator.full_name, Administrator.email)
        conditions.append(or_(*(func.lower(one).contains(text, autoescape=True) for one in fields)))
    if wanted.role is not None or wanted.organization:
        holders = select(RoleAssignment.administrator_id)
        if wanted.role is not None:
            holders = holders.where(RoleAssignment.role == wanted.role)
        if wanted.organization:
            number = identity(lookup.organization(session, context.actor, wanted.organization))
            holders = holders.where(RoleAssignment.organization_id == number)
        conditions.append(col(Administrator.id).in_(holders))
    if wanted.active is not None:
        conditions.append(col(Administrator.active).is_(wanted.active))
    if wanted.locked:
        conditions.append(col(Administrator.locked_until) > context.clock())
    return conditions


def _row(session: Session, row: Administrator, now: datetime) -> AdministratorRow:
    return _rows(session, [row], now)[0]


def _rows(session: Session, rows: Sequence[Administrator], now: datetime) -> list[AdministratorRow]:
    held = roles.held(session, [identity(row) for row in rows])
    counted = select(AccessToken.administrator_id, func.count()).where(
        _good_tokens(now), col(AccessToken.administrator_id).in_(held)
    )
    tokens: dict[int, int] = dict(session.exec(counted.group_by(col(AccessToken.administrator_id))).all())
    order = list(Role)
    found = []
    for row in rows:
        number = identity(row)
        holds = held[number]
        found.append(
            AdministratorRow(
                id=number,
                login=row.login,
                full_name=row.full_name,
                email=row.email,
                role=min((one.role for one in holds), key=order.index, default=None),
                organizations=list(dict.fromkeys(name for one in holds for name in one.organizations)),
                departments=list(dict.fromkeys(name for one in holds for name in one.departments)),
                privileges=sorted({privilege for one in holds for privilege in one.privileges}),
                active=row.active,
                has_password=row.password_hash is not None,
                locked_until=row.locked_until,
                created_at=row.created_at,
                has_single_sign_on=row.oidc_subject is not None,
                oidc_issuer=row.oidc_issuer,
                oidc_subject=row.oidc_subject,
                last_sign_in=row.last_sign_in,
                tokens=tokens.get(number, 0),
                roles=holds,
            )
        )
    return found
