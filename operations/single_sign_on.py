"""Signing in through an OpenID Connect provider: which administrator a person there is here.

The provider says who somebody is; what he may do stays in our records. A person is known by issuer and subject, which
never change (OpenID Connect Core 1.0 sections 2 and 5.7). An MRAO enters them, or, where the settings say so, a
verified e-mail address that is an administrator's binds the subject at the first sign-in, once and for all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlmodel import Session, col, func, select

from model import audit
from model.database import Database
from model.errors import Conflict, InvalidInput, NotPermitted
from model.states import AccessMethod, Outcome
from model.tables import Administrator
from operations import lookup, sessions
from operations.context import Actor, Context
from operations.identity import actor_of, forget_browsers
from operations.lookup import identity

_LONGEST_ISSUER, _LONGEST_SUBJECT = 512, 255


@dataclass(frozen=True)
class Person:
    """Whom the provider vouches for: claims of a validated ID token."""

    issuer: str
    subject: str
    email: str = ""
    email_verified: bool = False

    @property
    def described(self) -> str:
        """For the audit and for the person himself."""
        named = f"{self.email[:128]}, " if self.email else ""
        return f"{named}subject {self.subject[:_LONGEST_SUBJECT]}"


@dataclass(frozen=True)
class Rules:
    """Whether a verified e-mail address binds, and whose addresses may sign in at all (none named: everybody's)."""

    by_email: bool = False
    domains: Sequence[str] = ()


class Unlinked(NotPermitted):
    """The person is nobody here."""


def sign_in(
    database: Database, person: Person, rules: Rules, now: datetime, *, address: str = "", tell: bool = True
) -> Actor:
    """The administrator that a person of the provider is. Raises `Unlinked`, and `NotPermitted` for one who was
    deactivated. A lock after wrong passwords does not count: no password is asked for here."""
    where = f" from {address}" if address else ""
    with database.write() as session:
        row = _bound(session, person.issuer, person.subject)
        refusal = _outside(person, rules)
        if refusal is None and row is None and rules.by_email:
            row = _by_email(session, person, now)
        if refusal is None and row is None:
            refusal = Unlinked(
                f"You signed in as {person.described}, but no administrator here belongs to that account: "
                "an administrator with the role MRAO can link it."
            )
        if refusal is None and row is not None and not row.active:
            refusal = NotPermitted(f"The account {row.login} is deactivated.")
        if refusal is None and row is not None:
            row.last_sign_in = now
            session.add(row)
            _tell(session, row.login, f"{row.login} signed in{where} through {person.issuer}.", Outcome.DONE, now)
            return actor_of(session, row)
        if tell:
            why = refusal.message if refusal and row else "no administrator belongs to it."
            told = f"Sign-in{where} through {person.issuer} ({person.described}) was refused: {why}"
            _tell(session, row.login if row else "nobody", told, Outcome.REFUSED, now)
    raise refusal or Unlinked("No administrator here belongs to that account.")


def link(context: Context, login: str | int, issuer: str, subject: str) -> None:
    """Say who an administrator is at a provider; for MRAOs. Raises `NotFound`, `InvalidInput`, `Conflict` (somebody
    else is that already), `NotPermitted`."""
    with context.acting("administrator.linked", "administrator") as session:
        row = lookup.administrator(session, context.actor, login)
        context.require_owner("link administrators with a provider's accounts")
        bind(session, row, issuer, subject)
        sessions.end_all_of(session, identity(row), sessions.Ended.ENDED, context.clock())
        told = f"Administrator {row.login} is {subject} at {issuer}."
        context.tell(session, "administrator.linked", "administrator", told, object_id=row.id)


def unlink(context: Context, login: str | int) -> None:
    """Let nobody sign in as an administrator through a provider any more; for MRAOs. Raises `NotFound`,
    `NotPermitted`."""
    with context.acting("administrator.linked", "administrator") as session:
        row = lookup.administrator(session, context.actor, login)
        context.require_owner("link administrators with a provider's accounts")
        if row.oidc_subject is None:
            return
        row.oidc_issuer = row.oidc_subject = None
        session.add(row)
        sessions.end_all_of(session, identity(row), sessions.Ended.ENDED, context.clock())
        told = f"Administrator {row.login} is no longer linked with a provider's account."
        context.tell(session, "administrator.linked", "administrator", told, object_id=row.id)


def remove_password(context: Context, login: str | int) -> None:
    """Leave an administrator only the way through the provider; for MRAOs. Raises `NotFound`, `NotPermitted`."""
    with context.acting("administrator.password", "administrator") as session:
        row = lookup.administrator(session, context.actor, login)
        context.require_owner("remove passwords")
        if row.password_hash is None:
            return
        row.password_hash, row.locked_until, row.failed_sign_ins = None, None, 0
        session.add(row)
        sessions.end_all_of(session, identity(row), sessions.Ended.PASSWORD, context.clock())
        forget_browsers(session, identity(row))
        told = f"{row.login} has no password any more."
        context.tell(session, "administrator.password", "administrator", told, object_id=row.id)


def bind(session: Session, row: Administrator, issuer: str, subject: str) -> None:
    """Write down who an administrator is at a provider. Raises `InvalidInput`, `Conflict`."""
    if not issuer.startswith(("https://", "http://")) or len(issuer) > _LONGEST_ISSUER or not issuer.isprintable():
        raise InvalidInput("An issuer is the provider's address, such as https://login.example.com.")
    if not subject or len(subject) > _LONGEST_SUBJECT or not subject.isprintable():
        raise InvalidInput(f"A subject has 1 to {_LONGEST_SUBJECT} printable characters: it is the claim 'sub'.")
    other = _bound(session, issuer, subject)
    if other is not None and other.id != row.id:
        raise Conflict(f"{subject} at {issuer} is administrator {other.login} already.")
    row.oidc_issuer, row.oidc_subject = issuer, subject
    session.add(row)
    session.flush()


def _bound(session: Session, issuer: str, subject: str) -> Administrator | None:
    statement = select(Administrator).where(Administrator.oidc_issuer == issuer, Administrator.oidc_subject == subject)
    return session.exec(statement).one_or_none()


def _outside(person: Person, rules: Rules) -> NotPermitted | None:
    if not rules.domains:
        return None
    domain = person.email.rpartition("@")[2].lower()
    if person.email_verified and domain in {one.lower() for one in rules.domains}:
        return None
    return Unlinked("Only people with a verified e-mail address of certain domains may sign in here; yours is none.")


def _by_email(session: Session, person: Person, now: datetime) -> Administrator | None:
    """The one administrator with that address, who was not linked before; he is from now on."""
    if not person.email or not person.email_verified:
        return None
    statement = select(Administrator).where(
        func.lower(Administrator.email) == person.email.lower(),
        col(Administrator.active),
        col(Administrator.oidc_subject).is_(None),
    )
    found = session.exec(statement).all()
    if len(found) != 1:
        return None
    row = found[0]
    bind(session, row, person.issuer, person.subject)
    told = f"Administrator {row.login} was linked by the verified e-mail address {person.email} with {person.subject} "
    _tell(session, row.login, f"{told}at {person.issuer}.", Outcome.DONE, now, action="administrator.linked")
    return row


def _tell(
    session: Session,
    login: str,
    description: str,
    outcome: Outcome,
    now: datetime,
    action: str = "administrator.sign_in",
) -> None:
    act = audit.Act(
        actor=login,
        access_method=AccessMethod.DASHBOARD,
        action=action,
        object_type="administrator",
        description=description,
        outcome=outcome,
    )
    audit.append(session, act, now)
