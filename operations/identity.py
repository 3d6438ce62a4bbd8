"""Who is this? Sign-in by password, by token, and the owner of the home."""

from __future__ import annotations

import hashlib
import secrets
from datetime import datetime, timedelta
from functools import cache

from argon2 import PasswordHasher
from argon2.exceptions import Argon2Error, InvalidHashError
from sqlmodel import Session, col, select

from model import access, audit
from model.database import Database
from model.errors import InvalidInput, NotPermitted
from model.states import AccessMethod, Outcome, Role
from model.tables import AccessToken, Administrator, RoleAssignment
from operations.context import Actor
from operations.lookup import identity

_HASHER = PasswordHasher()
_FAILURES_ALLOWED = 5
_LOCKED_FOR = timedelta(minutes=15)
_SHORTEST_PASSWORD = 12


def sign_in(database: Database, login: str, password: str, now: datetime) -> Actor:
    """Recognize an administrator by password (argon2id). Raises `NotPermitted`, with one sentence for all reasons but a
    lock-out: five failures lock the account for a quarter of an hour."""
    refused = NotPermitted("Login or password is wrong.")
    with database.read() as session:
        known = access.administrator_of(session, login)
    # Compared before the write lock is taken: the comparison is slow on purpose.
    right = _matches(known.password_hash if known and known.password_hash else _nobody(), password)
    with database.write() as session:
        administrator = access.administrator_of(session, login)
        if administrator is None or administrator.password_hash is None or not administrator.active:
            _tell(session, login, f"Sign-in as {login[:64]!r} was refused.", Outcome.REFUSED, now)
        elif administrator.locked_until is not None and administrator.locked_until > now:
            refused = NotPermitted(
                f"Too many failed sign-ins: {login} is locked until {administrator.locked_until:%H:%M} UTC."
            )
            _tell(session, login, refused.message, Outcome.REFUSED, now)
        elif not right:
            administrator.failed_sign_ins += 1
            if administrator.failed_sign_ins >= _FAILURES_ALLOWED:
                administrator.locked_until, administrator.failed_sign_ins = now + _LOCKED_FOR, 0
            session.add(administrator)
            _tell(session, login, "Sign-in with a wrong password was refused.", Outcome.REFUSED, now)
        else:
            administrator.failed_sign_ins, administrator.locked_until = 0, None
            administrator.last_sign_in = now
            if _HASHER.check_needs_rehash(administrator.password_hash):
                administrator.password_hash = _HASHER.hash(password)
            session.add(administrator)
            _tell(session, login, f"{login} signed in.", Outcome.DONE, now)
            return _actor(session, administrator)
    raise refused


def recognize(database: Database, administrator_id: int) -> Actor:
    """The actor of a session that began earlier, with today's rights. Raises `NotPermitted` once he is deactivated."""
    with database.read() as session:
        administrator = session.get(Administrator, administrator_id)
        if administrator is None or not administrator.active:
            raise NotPermitted("This session has ended: the account was deactivated or deleted.")
        return _actor(session, administrator)


def by_token(database: Database, token: str, now: datetime) -> Actor:
    """The administrator to whom a token was given. Raises `NotPermitted`."""
    digest = hashlib.sha256(token.strip().encode()).hexdigest()
    with database.read() as session:
        row = session.exec(select(AccessToken).where(AccessToken.digest == digest)).one_or_none()
        administrator = session.get(Administrator, row.administrator_id) if row else None
        if row is None or administrator is None or not administrator.active or row.expires_at <= now:
            raise NotPermitted("The token is unknown or expired: ask for a new one (`certgate administrator token`).")
        return _actor(session, administrator)


def owner(database: Database) -> Actor:
    """The administrator that `up` created, for the owner of the home on the manager's machine; the audit says so."""
    with database.read() as session:
        statement = (
            select(Administrator)
            .join(RoleAssignment, col(RoleAssignment.administrator_id) == col(Administrator.id))
            .where(RoleAssignment.role == Role.MRAO, col(Administrator.active))
            .order_by(col(Administrator.id))
        )
        administrator = session.exec(statement).first()
        if administrator is None:
            raise NotPermitted("This home has no active administrator with the role MRAO: run `certgate up` first.")
        return _actor(session, administrator, way=" (owner of the home)")


def mint_token(session: Session, administrator: Administrator, lifetime: timedelta, now: datetime) -> str:
    """A new token; only its hash is kept, so it is shown now or never."""
    token = "cgt_" + secrets.token_urlsafe(32)
    digest = hashlib.sha256(token.encode()).hexdigest()
    row = AccessToken(
        administrator_id=identity(administrator), digest=digest, created_at=now, expires_at=now + lifetime
    )
    session.add(row)
    return token


def hash_password(password: str) -> str:
    """Argon2id with the library's parameters (RFC 9106). Raises `InvalidInput` for one that is too short."""
    if len(password) < _SHORTEST_PASSWORD:
        raise InvalidInput(f"A password has at least {_SHORTEST_PASSWORD} characters.")
    return _HASHER.hash(password)


@cache
def _nobody() -> str:
    """Compared with when there is no such login, so that an answer takes as long either way."""
    return _HASHER.hash(secrets.token_urlsafe(16))


def _matches(hashed: str, password: str) -> bool:
    try:
        return _HASHER.verify(hashed, password)
    except (Argon2Error, InvalidHashError):
        return False


def _actor(session: Session, administrator: Administrator, way: str = "") -> Actor:
    grants = access.grants_of(session, identity(administrator))
    return Actor(
        id=identity(administrator),
        login=administrator.login,
        full_name=administrator.full_name,
        grants=tuple(grants),
        described=administrator.login + way,
    )


def _tell(session: Session, login: str, description: str, outcome: Outcome, now: datetime) -> None:
    act = audit.Act(
        actor=login[:64] or "nobody",
        access_method=AccessMethod.DASHBOARD,
        action="administrator.sign_in",
        object_type="administrator",
        description=description,
        outcome=outcome,
    )
    audit.append(session, act, now)
