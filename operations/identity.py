"""Who is this? Sign-in by password, by token, and the owner of the home."""

from __future__ import annotations

import hashlib
import secrets
from datetime import datetime, timedelta
from functools import cache

from argon2 import PasswordHasher
from argon2.exceptions import Argon2Error, InvalidHashError
from sqlmodel import Session, col, delete, select

from model import access, audit
from model.database import Database
from model.errors import InvalidInput, NotPermitted
from model.states import AccessMethod, Outcome, Role
from model.tables import AccessToken, Administrator, KnownBrowser, RoleAssignment
from operations.context import Actor
from operations.lookup import identity

WRONG = "Login or password is wrong."
FAILURES_ALLOWED = 5
LOCKED_FOR = timedelta(minutes=15)
REMEMBERED_FOR = timedelta(days=90)
MOST_BROWSERS = 20
_HASHER = PasswordHasher()
_SHORTEST_PASSWORD = 12


class SignInRefused(NotPermitted):
    """A sign-in was refused. `account` says whether there is an account to sign in to, which nobody is to be told."""

    def __init__(self, message: str, *, account: bool) -> None:
        super().__init__(message)
        self.account = account


def sign_in(
    database: Database,
    login: str,
    password: str,
    now: datetime,
    *,
    access_method: AccessMethod = AccessMethod.DASHBOARD,
    browser: str | None = None,
    address: str = "",
    tell: bool = True,
) -> Actor:
    """Recognize an administrator by password (argon2id). Raises `SignInRefused`, with one sentence for all reasons but
    a lock-out: five failures lock the account for a quarter of an hour.

    `browser` is the token of a browser that `remember_browser` knows: it counts its own failures, and an account that
    strangers locked is still open to it. `tell` False keeps a refusal out of the audit.
    """
    with database.read() as session:
        known = access.administrator_of(session, login)
    # Compared before the write lock is taken: the comparison is slow on purpose.
    right = matches(known.password_hash if known and known.password_hash else _nobody(), password)
    where = f" from {address}" if address else ""
    account = known is not None and known.active and known.password_hash is not None
    refused = SignInRefused(WRONG, account=account)
    with database.write() as session:
        administrator = access.administrator_of(session, login)
        counter = _counter(session, administrator, browser, now)
        told = ""
        if administrator is None or administrator.password_hash is None or not administrator.active:
            told = f"Sign-in as {login[:64]!r}{where} was refused."
        elif counter.locked_until is not None and counter.locked_until > now:
            refused = SignInRefused(locked(login, counter.locked_until), account=True)
            told = f"Sign-in{where} was refused: {login} is locked until {counter.locked_until:%H:%M} UTC."
        elif not right:
            counter.failed_sign_ins += 1
            told = f"Sign-in{where} with a wrong password was refused."
            if counter.failed_sign_ins >= FAILURES_ALLOWED:
                counter.locked_until, counter.failed_sign_ins = now + LOCKED_FOR, 0
                told += f" This was failure {FAILURES_ALLOWED}: no further one is let through until "
                told += f"{counter.locked_until:%H:%M} UTC."
            session.add(counter)
        else:
            counter.failed_sign_ins, counter.locked_until = 0, None
            administrator.last_sign_in = now
            if _HASHER.check_needs_rehash(administrator.password_hash):
                administrator.password_hash = _HASHER.hash(password)
            session.add_all([administrator, counter])
            _tell(session, login, f"{login} signed in{where}.", Outcome.DONE, now, access_method)
            return actor_of(session, administrator)
        if tell:
            _tell(session, login, told, Outcome.REFUSED, now, access_method)
    raise refused


def locked(login: str, until: datetime) -> str:
    """The sentence for an account that is locked."""
    return f"Too many failed sign-ins: {login} is locked until {until:%H:%M} UTC."


def knows_browser(database: Database, login: str, browser: str | None, now: datetime) -> bool:
    """Whether this administrator signed in with that browser before."""
    if browser is None:
        return False
    with database.read() as session:
        administrator = access.administrator_of(session, login)
        return isinstance(_counter(session, administrator, browser, now), KnownBrowser)


def remember_browser(database: Database, administrator_id: int, browser: str | None, now: datetime) -> str:
    """Know the browser of an administrator who has just signed in; gives its token, a new one if need be. The number
    of browsers is bounded: the one that was away longest is forgotten."""
    with database.write() as session:
        administrator = session.get_one(Administrator, administrator_id)
        row = _counter(session, administrator, browser, now)
        if browser is None or not isinstance(row, KnownBrowser):
            session.exec(delete(KnownBrowser).where(col(KnownBrowser.expires_at) <= now))
            theirs = select(KnownBrowser).where(KnownBrowser.administrator_id == administrator_id)
            rows = session.exec(theirs.order_by(col(KnownBrowser.expires_at).desc())).all()
            for old in rows[MOST_BROWSERS - 1 :]:
                session.delete(old)
            browser = secrets.token_urlsafe(32)
            row = KnownBrowser(administrator_id=administrator_id, digest=digest_of(browser), expires_at=now)
        row.expires_at = now + REMEMBERED_FOR
        session.add(row)
        return browser


def forget_browsers(session: Session, administrator_id: int) -> None:
    """Know none of an administrator's browsers any more."""
    session.exec(delete(KnownBrowser).where(col(KnownBrowser.administrator_id) == administrator_id))


def tell_refusals(database: Database, number: int, now: datetime) -> None:
    """Tell in one entry what was refused without being told."""
    with database.write() as session:
        told = f"{number} further sign-ins were refused; they are not told one by one."
        _tell(session, "nobody", told, Outcome.REFUSED, now, AccessMethod.DASHBOARD)


def digest_of(token: str) -> str:
    """What is kept of a token: its SHA-256. A token is random and long, so nothing slower is needed."""
    return hashlib.sha256(token.encode()).hexdigest()


def recognize(database: Database, administrator_id: int) -> Actor:
    """The actor of a session that began earlier, with today's rights. Raises `NotPermitted` once he is deactivated."""
    with database.read() as session:
        administrator = session.get(Administrator, administrator_id)
        if administrator is None or not administrator.active:
            raise NotPermitted("This session has ended: the account was deactivated or deleted.")
        return actor_of(session, administrator)


def by_token(database: Database, token: str, now: datetime) -> Actor:
    """The administrator to whom a token was given. Raises `NotPermitted`."""
    digest = digest_of(token.strip())
    with database.read() as session:
        row = session.exec(select(AccessToken).where(AccessToken.digest == digest)).one_or_none()
        administrator = session.get(Administrator, row.administrator_id) if row else None
        if row is None or administrator is None or not administrator.active or row.expires_at <= now:
            raise NotPermitted("The token is unknown or expired: ask for a new one (`certgate administrator token`).")
        return actor_of(session, administrator)


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
        return actor_of(session, administrator, way=" (owner of the home)")


def mint_token(session: Session, administrator: Administrator, lifetime: timedelta, now: datetime) -> str:
    """A new token; only its hash is kept, so it is shown now or never."""
    token = "cgt_" + secrets.token_urlsafe(32)
    row = AccessToken(
        administrator_id=identity(administrator),
        digest=digest_of(token),
        created_at=now,
        expires_at=now + lifetime,
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


def matches(hashed: str, password: str) -> bool:
    """Whether this is the password; slow on purpose."""
    try:
        return _HASHER.verify(hashed, password)
    except (Argon2Error, InvalidHashError):
        return False


def actor_of(session: Session, administrator: Administrator, way: str = "") -> Actor:
    """An administrator with today's rights."""
    grants = access.grants_of(session, identity(administrator))
    return Actor(
        id=identity(administrator),
        login=administrator.login,
        full_name=administrator.full_name,
        grants=tuple(grants),
        described=administrator.login + way,
    )


def _counter(
    session: Session, administrator: Administrator | None, browser: str | None, now: datetime
) -> Administrator | KnownBrowser:
    """Who counts the failures: the browser if the administrator signed in with it before, else the account."""
    if administrator is None:
        return Administrator(login="", created_at=now)
    if browser is not None:
        statement = select(KnownBrowser).where(
            KnownBrowser.administrator_id == administrator.id, KnownBrowser.digest == digest_of(browser)
        )
        row = session.exec(statement).one_or_none()
        if row is not None and row.expires_at > now:
            return row
    return administrator


def _tell(
    session: Session, login: str, description: str, outcome: Outcome, now: datetime, access_method: AccessMethod
) -> None:
    act = audit.Act(
        actor=login[:64] or "nobody",
        access_method=access_method,
        action="administrator.sign_in",
        object_type="administrator",
        description=description,
        outcome=outcome,
    )
    audit.append(session, act, now)
