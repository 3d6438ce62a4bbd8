"""CA certificates that end: the trusted ones, and those in the chains of certificates that are in use."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509 as crypto
from sqlalchemy import Text, cast, func, select
from sqlmodel import Session, col

from connectors.notices.settings import NotificationSettings
from model import access, x509
from model.database import Database
from model.rules import trust
from model.rules.permissions import Scope
from model.states import CertificateStatus
from model.tables import Certificate, Fact, TrustedCertificate
from operations import telling
from operations.context import Context

ENDING = "trust.ending"


@dataclass(frozen=True)
class Ending:
    """A CA certificate that ends soon, or has ended. `step` is the last of `model/rules/trust.py` that it came to;
    `in_use` counts the certificates in use whose chain has it."""

    subject: str
    fingerprint: str
    not_after: datetime
    step: int
    is_trusted: bool
    is_root: bool
    in_use: int


def ending(context: Context) -> list[Ending]:
    """What ends soon or has ended, the first to end first. Numbers and CA certificates only, and these are public."""
    return endings(context.database, context.clock())


def endings(database: Database, now: datetime) -> list[Ending]:
    """The same, for the manager's watch."""
    with database.read() as session:
        rows = session.scalars(select(TrustedCertificate).order_by(col(TrustedCertificate.id))).all()
        used = in_use(session, now)
    found: dict[str, Ending] = {}
    for row in rows:
        step = trust.step(row.not_before, row.not_after, now)
        if step is not None:
            number = count(x509.load_certificate(row.pem), used)
            found[row.fingerprint] = Ending(
                row.subject, row.fingerprint, row.not_after, step, True, row.is_root, number
            )
    for one, number in used.items():
        step = trust.step(one.not_valid_before_utc, one.not_valid_after_utc, now)
        fingerprint = x509.fingerprint(one)
        if step is not None and fingerprint not in found:
            subject, root = x509.distinguished_name(one.subject), x509.is_self_signed(one)
            found[fingerprint] = Ending(subject, fingerprint, one.not_valid_after_utc, step, False, root, number)
    return sorted(found.values(), key=lambda one: (one.not_after, one.fingerprint))


def tell_ending(database: Database, settings: NotificationSettings, now: datetime) -> int:
    """Tell of each, once at each step, those who own the installation. Gives how many were told."""
    found = {_event(one): one for one in endings(database, now)}
    with database.read() as session:
        untold = sorted(found.keys() - telling.told(session, found))
    if not untold:
        return 0
    told = 0
    with database.write() as session:
        # Two managers don't tell it both.
        session.get(Fact, access.INSTALLATION, with_for_update=True)
        for once in untold:
            one = found[once]
            told += telling.tell(
                session,
                settings,
                kind=ENDING,
                once=once,
                gateway_id=None,
                scope=Scope(),
                subject=f"The CA certificate {one.subject} {'has ended' if one.step == trust.ENDED else 'ends soon'}",
                text=told_of(one, now),
                now=now,
            )
    return told


def told_of(one: Ending, now: datetime) -> str:
    """What it means and what to do."""
    kind = "root" if one.is_root else "intermediate"
    end = f"{one.not_after:%Y-%m-%d %H:%M} UTC"
    days = (one.not_after - now).days
    when = f"ended on {end}" if one.step == trust.ENDED else f"ends on {end}, in {days} day{'' if days == 1 else 's'}"
    used = f", and {one.in_use} certificate{'' if one.in_use == 1 else 's'} in use" if one.in_use else ""
    hangs = f"{used} hang{'s' if one.in_use == 1 else ''} on it" if used else ""
    cure = "remove it once nothing needs it, or add the one that follows it"
    if one.in_use:
        cure = "ask its CA for the one that follows it, add that to the trusted CA certificates, and renew them"
    return f"The {kind} {one.subject} ({one.fingerprint[:16]}…) {when}{hangs}: {cure}."


def _event(one: Ending) -> str:
    return f"{ENDING}/{one.fingerprint}/{one.step}"


def in_use(session: Session, now: datetime) -> dict[crypto.Certificate, int]:
    """The CA certificates in the chains of certificates in use, and how many have each. The database groups equal
    chains: there are many certificates, and few chains."""
    chain = cast(col(Certificate.chain_pem), Text)
    statement = (
        select(chain, func.count())
        .where(
            col(Certificate.active),
            col(Certificate.status) == CertificateStatus.ISSUED,
            col(Certificate.not_after) > now,
        )
        .group_by(chain)
    )
    found: dict[crypto.Certificate, int] = {}
    for text, number in session.execute(statement).all():
        for one in (x509.load_certificate(pem) for pem in json.loads(text)):
            found[one] = found.get(one, 0) + number
    return found


def count(certificate: crypto.Certificate, used: Mapping[crypto.Certificate, int]) -> int:
    """How many certificates in use have it in their chain, or, of a root, end at it."""
    if certificate in used:
        return used[certificate]
    return sum(number for one, number in used.items() if x509.is_signed_by(one, certificate))
