"""People are told what the watch over the CAs saw: certificates that a CA revoked, and CAs that don't answer.

Certificates of one gateway and organization that were revoked together are one notification: on the day on which a CA
revokes ten thousand, nobody reads ten thousand.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime, timedelta

import sqlalchemy
import structlog
from sqlmodel import Session, col

from connectors.notices.settings import NotificationSettings
from model import audit
from model.database import Database
from model.errors import CertgateError
from model.rules.permissions import Scope
from model.states import AccessMethod, Outcome
from model.tables import Certificate, CertificateAuthority, CertificateRequest, Gateway
from operations import telling
from operations.context import now as system_clock
from operations.lookup import identity

log = structlog.get_logger(__name__)

REVOKED, SILENT, WRONG = "certificate.revoked_by_ca", "ca.silent", "ca.answers_wrong"
# A CA that does not answer for so long is told; what is wrong is told at once.
SILENT_AFTER = timedelta(hours=6)
_EVERY_SECONDS = 30.0
_AT_ONCE = 1000
_NAMED = 10


def tell_revoked(database: Database, settings: NotificationSettings, now: datetime) -> int:
    """Tell of certificates that were found revoked. Gives how many notifications were made."""
    untold = (col(Certificate.found_revoked_at).is_not(None), ~col(Certificate.revocation_told))
    with database.read() as session:
        if session.scalars(sqlalchemy.select(col(Certificate.id)).where(*untold).limit(1)).first() is None:
            return 0
    with database.write() as session:
        rows = session.execute(
            sqlalchemy.select(Certificate, CertificateRequest)
            .join(CertificateRequest, col(CertificateRequest.id) == col(Certificate.request_id))
            .where(*untold)
            .order_by(col(Certificate.id))
            .limit(_AT_ONCE)
            .with_for_update(of=Certificate)
        ).all()
        together: dict[tuple[int, int, int, int | None], list[Certificate]] = defaultdict(list)
        for certificate, request in rows:
            key = (request.authority_id, request.gateway_id, certificate.organization_id, certificate.department_id)
            together[key].append(certificate)
            certificate.revocation_told = True
            session.add(certificate)
        for (authority_id, gateway_id, organization_id, department_id), group in sorted(
            together.items(), key=lambda one: one[1][0].id or 0
        ):
            ca = session.get_one(CertificateAuthority, authority_id).name
            telling.tell(
                session,
                settings,
                kind=REVOKED,
                once=f"{REVOKED}/{group[0].id}",
                gateway_id=gateway_id,
                scope=Scope(organization_id, department_id),
                subject=_subject(ca, group),
                text=_text(ca, session.get_one(Gateway, gateway_id).name, group),
                now=now,
            )
        return len(together)


def tell_trouble(database: Database, settings: NotificationSettings, now: datetime) -> int:
    """Tell of CAs that do not answer for their certificates, or wrongly. Gives how many were told."""
    since = col(CertificateAuthority.watch_problem_since)
    bad = (
        col(CertificateAuthority.watch_problem).is_not(None),
        ~col(CertificateAuthority.watch_told),
        col(CertificateAuthority.watch_faulty) | (since <= now - SILENT_AFTER),
    )
    with database.read() as session:
        if session.scalars(sqlalchemy.select(col(CertificateAuthority.id)).where(*bad).limit(1)).first() is None:
            return 0
    with database.write() as session:
        statement = sqlalchemy.select(CertificateAuthority).where(*bad).order_by(col(CertificateAuthority.id))
        rows = session.scalars(statement.with_for_update()).all()
        for row in rows:
            row.watch_told = True
            session.add(row)
            _tell(session, settings, row, now)
        return len(rows)


async def keep_telling(database: Database, settings: NotificationSettings) -> None:
    """Look twice a minute, for ever."""
    while True:
        try:
            moment = system_clock()
            await asyncio.to_thread(tell_revoked, database, settings, moment)
            await asyncio.to_thread(tell_trouble, database, settings, moment)
        except CertgateError as error:
            log.warning("it is not known what the CAs say of their certificates", reason=error.message)
        await asyncio.sleep(_EVERY_SECONDS)


def _tell(session: Session, settings: NotificationSettings, row: CertificateAuthority, now: datetime) -> None:
    since = row.watch_problem_since or now
    kind = WRONG if row.watch_faulty else SILENT
    if row.watch_faulty:
        subject = f"What is said of certificates of CA {row.name} does not count"
        text = f"Whether CA {row.name} stands by its certificates is not known for all of them since "
        text += f"{since:%Y-%m-%d %H:%M} UTC, because an answer does not count: {row.watch_problem} "
        text += "Nothing was changed on its word; the pages of the certificates show what is not known."
    else:
        subject = f"CA {row.name} does not answer for its certificates"
        text = f"Since {since:%Y-%m-%d %H:%M} UTC CA {row.name} has not said whether it stands by its certificates: "
        text += f"{row.watch_problem} It is asked on; a revocation is not noticed until it answers."
    once = f"{kind}/{row.id}/{since:%Y%m%dT%H%M%S}"
    told = telling.tell(
        session,
        settings,
        kind=kind,
        once=once,
        gateway_id=None,
        scope=Scope(),
        subject=subject,
        text=text,
        now=now,
    )
    if told and kind == SILENT:
        act = audit.Act(
            actor="certgate",
            access_method=AccessMethod.WORKFLOW,
            action=SILENT,
            object_type="ca",
            object_id=identity(row),
            description=f"{subject} since {since:%Y-%m-%d %H:%M} UTC: {row.watch_problem}",
            outcome=Outcome.FAILED,
            once=once,
        )
        audit.append(session, act, now)


def _subject(ca: str, group: Sequence[Certificate]) -> str:
    if len(group) == 1:
        return f"CA {ca} has revoked the certificate for {group[0].common_name}"
    return f"CA {ca} has revoked {len(group)} certificates"


def _text(ca: str, gateway: str, group: Sequence[Certificate]) -> str:
    shown = ", ".join(f"{one.common_name} (certificate {one.id})" for one in group[:_NAMED])
    more = f" and {len(group) - _NAMED} more" if len(group) > _NAMED else ""
    by_hand = sum(not one.auto_renew for one in group)
    text = f"CA {ca} has revoked what is in use on gateway {gateway}: {shown}{more}. "
    if by_hand == len(group):
        return text + "Renewal by itself is off: replace what is still needed."
    text += "Others take their place at once, without anybody's word unless the policy needs an approver."
    return text + (f" For {by_hand} of them renewal by itself is off: replace these." if by_hand else "")
