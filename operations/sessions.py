"""Sessions of signed-in browsers. A browser holds a random token in a cookie; the records hold its SHA-256 alone.

A session ends when nobody used it for a while, when its time is over, when the administrator signs out, is deactivated
or gets another password, and when he or an MRAO ends it. Each run of the dashboard asks here, so that the end counts at
once, in every tab.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from sqlmodel import Session, col, delete, select, update

from model import audit
from model.database import Database
from model.errors import NotFound, NotPermitted
from model.states import AccessMethod
from model.tables import Administrator, DashboardSession
from operations import lookup
from operations.context import Actor, Context
from operations.identity import actor_of, digest_of
from operations.lookup import identity

# Use is written down once in so long: a click is not worth a write.
TOUCHED_EVERY = timedelta(minutes=1)
_TOKEN_BYTES = 32
_LONGEST_ADDRESS, _LONGEST_AGENT = 64, 256


class Ended(StrEnum):
    """Why a session holds no longer."""

    SIGNED_OUT = "signed-out"
    IDLE = "idle"
    EXPIRED = "expired"
    DEACTIVATED = "deactivated"
    PASSWORD = "password"  # noqa: S105  (a word, not a password)
    ENDED = "ended"
    UNKNOWN = "unknown"


SENTENCES = {
    Ended.SIGNED_OUT: "You are signed out.",
    Ended.IDLE: "This session has ended: nobody used it for a while.",
    Ended.EXPIRED: "This session has ended: its time was over.",
    Ended.DEACTIVATED: "This session has ended: the account was deactivated or deleted.",
    Ended.PASSWORD: "This session has ended: the account's password was changed.",
    Ended.ENDED: "This session has ended: it was ended by an administrator.",
    Ended.UNKNOWN: "This session has ended.",
}


class SessionOver(NotPermitted):
    """The token is good for nothing any more, or never was; the sentence and `why` say the reason."""

    def __init__(self, why: Ended) -> None:
        super().__init__(SENTENCES[why])
        self.why = why


@dataclass(frozen=True)
class Lifetimes:
    """How long a session may go unused, and how long it lasts in any case."""

    idle: timedelta
    whole: timedelta


@dataclass(frozen=True)
class Beginning:
    """A session to begin: whose, how he signed in (``password``, ``oidc``), and what is known of his browser."""

    administrator_id: int
    way: str
    address: str = ""
    agent: str = ""


@dataclass(frozen=True)
class Recognized:
    """The session that a token belongs to, and who acts in it with today's rights."""

    id: int
    actor: Actor
    way: str
    seen_at: datetime


@dataclass(frozen=True)
class SessionRow:
    """A line of the list of sessions that hold."""

    id: int
    login: str
    way: str
    address: str
    agent: str
    created_at: datetime
    seen_at: datetime
    expires_at: datetime


def begin(database: Database, beginning: Beginning, lifetimes: Lifetimes, now: datetime) -> str:
    """Begin a session; gives its token (256 random bits), which nobody gets to see again. Raises `SessionOver` when the
    administrator was deactivated in the meantime."""
    token = secrets.token_urlsafe(_TOKEN_BYTES)
    with database.write() as session:
        administrator = session.get(Administrator, beginning.administrator_id)
        if administrator is None or not administrator.active:
            raise SessionOver(Ended.DEACTIVATED)
        session.exec(delete(DashboardSession).where(col(DashboardSession.expires_at) <= now))
        row = DashboardSession(
            administrator_id=identity(administrator),
            digest=digest_of(token),
            way=beginning.way,
            address=beginning.address[:_LONGEST_ADDRESS],
            agent=_printable(beginning.agent)[:_LONGEST_AGENT],
            created_at=now,
            seen_at=now,
            expires_at=now + lifetimes.whole,
        )
        session.add(row)
    return token


def recognize(database: Database, token: str, idle: timedelta, now: datetime) -> Recognized:
    """Whose session a token belongs to. Raises `SessionOver`."""
    with database.read() as session:
        row = session.exec(select(DashboardSession).where(DashboardSession.digest == digest_of(token))).one_or_none()
        if row is None:
            raise SessionOver(Ended.UNKNOWN)
        if row.ended is not None:
            raise SessionOver(Ended(row.ended))
        if row.expires_at <= now:
            raise SessionOver(Ended.EXPIRED)
        if row.seen_at + idle <= now:
            raise SessionOver(Ended.IDLE)
        administrator = session.get(Administrator, row.administrator_id)
        if administrator is None or not administrator.active:
            raise SessionOver(Ended.DEACTIVATED)
        return Recognized(identity(row), actor_of(session, administrator), row.way, row.seen_at)


def touch(database: Database, recognized: Recognized, now: datetime) -> None:
    """Somebody used the session. Written down at most every `TOUCHED_EVERY`."""
    if now - recognized.seen_at < TOUCHED_EVERY:
        return
    statement = update(DashboardSession).where(col(DashboardSession.id) == recognized.id)
    with database.write() as session:
        session.exec(statement.values(seen_at=now))


def sign_out(database: Database, token: str, now: datetime) -> None:
    """End the token's session, if it holds."""
    with database.write() as session:
        row = session.exec(select(DashboardSession).where(DashboardSession.digest == digest_of(token))).one_or_none()
        if row is None or row.ended is not None:
            return
        row.ended = Ended.SIGNED_OUT
        session.add(row)
        login = session.get_one(Administrator, row.administrator_id).login
        act = audit.Act(
            actor=login,
            access_method=AccessMethod.DASHBOARD,
            action="administrator.sign_out",
            object_type="administrator",
            object_id=row.administrator_id,
            description=f"{login} signed out.",
        )
        audit.append(session, act, now)


def end_all_of(session: Session, administrator_id: int, why: Ended, now: datetime, keep: int | None = None) -> int:
    """End all sessions of an administrator in a transaction of his records; how many held."""
    rows = [row for row in _holding(session, now, administrator_id) if row.id != keep]
    for row in rows:
        row.ended = why
        session.add(row)
    return len(rows)


def listing(context: Context, idle: timedelta, login: str | int | None = None) -> list[SessionRow]:
    """The sessions that hold, the newest first: one's own, or as MRAO anybody's. Without a login all that one may see.
    Raises `NotFound`."""
    now = context.clock()
    with context.database.read() as session:
        whose = None if context.actor.owns_everything else context.actor.id
        if login is not None:
            whose = identity(lookup.administrator(session, context.actor, login))
        rows = [row for row in _holding(session, now, whose) if row.seen_at + idle > now]
        logins = {row.administrator_id: session.get_one(Administrator, row.administrator_id).login for row in rows}
        return [
            SessionRow(
                id=identity(row),
                login=logins[row.administrator_id],
                way=row.way,
                address=row.address,
                agent=row.agent,
                created_at=row.created_at,
                seen_at=row.seen_at,
                expires_at=row.expires_at,
            )
            for row in rows
        ]


def end(context: Context, login: str | int, number: int | None = None) -> int:
    """End a session of oneself, or as MRAO of anybody; without a number all of his. Gives how many held. Raises
    `NotFound`."""
    with context.acting("administrator.session_ended", "administrator") as session:
        administrator = lookup.administrator(session, context.actor, login)
        rows = _holding(session, context.clock(), identity(administrator))
        if number is not None:
            rows = [row for row in rows if row.id == number]
            if not rows:
                raise NotFound(f"{administrator.login} has no session {number}: it may have ended by itself.")
        for row in rows:
            row.ended = Ended.ENDED
            session.add(row)
        if rows:
            told = f"Sessions of {administrator.login} were ended ({len(rows)})."
            context.tell(session, "administrator.session_ended", "administrator", told, object_id=administrator.id)
        return len(rows)


def _holding(session: Session, now: datetime, administrator_id: int | None = None) -> list[DashboardSession]:
    statement = (
        select(DashboardSession)
        .where(col(DashboardSession.ended).is_(None), col(DashboardSession.expires_at) > now)
        .order_by(col(DashboardSession.id).desc())
    )
    if administrator_id is not None:
        statement = statement.where(DashboardSession.administrator_id == administrator_id)
    return list(session.exec(statement).all())


def _printable(text: str) -> str:
    return "".join(character for character in text if character.isprintable())
