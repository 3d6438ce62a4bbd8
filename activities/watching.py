"""The records of the watch over what CAs say of their certificates."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from types import MappingProxyType

from sqlalchemy import ColumnElement, func
from sqlmodel import Session, col, select
from temporalio import activity

from activities.failures import as_failures, heartbeating
from activities.records import Clock, Records, authority_access, step_key
from activities.standings import Standings
from model import audit
from model.database import Database
from model.messages import (
    AskAuthority,
    AskedCertificate,
    AskHere,
    Finding,
    KeepFindings,
    Kept,
    PlanWatch,
    SeenStanding,
    SeenWindow,
    WatchBatch,
    WatchPlan,
)
from model.rules import renewal, watching
from model.states import AccessMethod, CertificateStatus, Outcome
from model.tables import Certificate, CertificateAuthority, CertificateRequest, Gateway

# One step asks about so many; a gateway's answer, which travels through history, about fewer.
_AT_MANAGER, _AT_GATEWAY = 200, 40
_PLANNED = 1000


class Watching(Records):
    """Steps on the manager that choose whom to ask about, and keep what was said."""

    @activity.defn(name="records.plan_watch")
    def plan_watch(self, asked: PlanWatch) -> WatchPlan:
        """The certificates that are due, in batches, and when the next one is."""
        with self.reading() as session:
            authority = session.get(CertificateAuthority, asked.authority_id)
            if authority is None:
                return WatchPlan(ended=True)
            now = self._clock()
            watched = _watched(asked.authority_id)
            of = col(CertificateRequest.id) == col(Certificate.request_id)
            due = session.execute(
                select(col(Certificate.id), col(CertificateRequest.gateway_id))
                .join(CertificateRequest, of)
                .where(*watched, col(Certificate.ask_at) <= now)
                .order_by(col(Certificate.ask_at), col(Certificate.id))
                .limit(_PLANNED)
            ).all()
            counted = select(func.count(), func.min(Certificate.ask_at)).select_from(Certificate)
            total, first = session.execute(counted.join(CertificateRequest, of).where(*watched)).one()
            batches = _batches(session, authority, [(number, gateway) for number, gateway in due])
            return WatchPlan(False, authority.name, batches, first, len(due) == _PLANNED, total)

    @activity.defn(name="records.load_asked")
    def load_asked(self, asked: AskHere) -> AskAuthority:
        """The certificates as a gateway has to know them to ask."""
        with self.reading() as session:
            return _asked(session, asked, self._clock())

    @activity.defn(name="records.keep_findings")
    def keep_findings(self, found: KeepFindings) -> Kept:
        """Keep what a gateway found."""
        with self.writing() as session:
            return self.keep(session, found)

    def keep(self, session: Session, found: KeepFindings) -> Kept:
        """Write the findings down; what was revoked is told, and the CA's trouble is."""
        now = self._clock()
        numbers = [finding.certificate_id for finding in found.findings]
        rows = {row.id: row for row in session.exec(select(Certificate).where(col(Certificate.id).in_(numbers)))}
        revoked: list[int] = []
        sooner: list[int] = []
        # Rows first, then the audit, as everybody else does it who holds both.
        told: list[audit.Act] = []
        for finding in found.findings:
            certificate = rows.get(finding.certificate_id)
            if certificate is None:
                continue
            if certificate.status != CertificateStatus.ISSUED or not certificate.active:
                # It ended while it was asked about, or this step ran before and nobody heard what it found.
                certificate.ask_at = None
                found_before = certificate.active and certificate.found_revoked_at is not None
                revoked += [finding.certificate_id] if found_before else []
            else:
                if self._keep_one(session, certificate, finding, now, told):
                    revoked.append(finding.certificate_id)
                elif _moved_up(certificate):
                    sooner.append(finding.certificate_id)
            session.add(certificate)
        away = self._keep_trouble(session, found, now, told)
        session.flush()
        for act in told:
            audit.append(session, act, now)
        hints = [finding.after_seconds for finding in found.findings if finding.after_seconds is not None]
        return Kept(revoked, sooner, away, max(hints, default=None))

    def _keep_one(
        self, session: Session, certificate: Certificate, finding: Finding, now: datetime, told: list[audit.Act]
    ) -> bool:
        """True when it is found revoked."""
        if finding.window is not None:
            _suggest(certificate, finding.window)
        elif finding.window_asked:
            certificate.suggested_start = certificate.suggested_end = certificate.suggested_at = None
            certificate.suggestion_url = None
        if finding.window_asked:
            hint = finding.window.ask_again_seconds if finding.window else None
            certificate.ask_window_at = watching.window_again(now, hint)
        if finding.standing_asked:
            certificate.standing_note = finding.problem
            again = watching.standing_again(now, finding)
        else:
            again = watching.standing_due(certificate.standing_at, now)
        window = certificate.ask_window_at
        certificate.ask_at = min(again, window) if window is not None and window > now else again
        if finding.standing is None:
            return False
        certificate.standing_source, certificate.standing_at = finding.standing.source[:8], now
        if not finding.standing.revoked:
            return False
        told.append(self._disown(session, certificate, finding.standing, now))
        return True

    def _disown(self, session: Session, certificate: Certificate, standing: SeenStanding, now: datetime) -> audit.Act:
        """The CA revoked it behind our back: so say the records, and its renewal is to see to it."""
        certificate.status = CertificateStatus.REVOKED
        certificate.found_revoked_at, certificate.revoked_at = now, standing.revoked_at or now
        certificate.revocation_reason = (standing.reason or "unspecified")[:32]
        certificate.ask_at = certificate.suggested_at = None
        request = session.get_one(CertificateRequest, certificate.request_id)
        request.status, request.updated_at = CertificateStatus.REVOKED, now
        session.add(request)
        authority = session.get_one(CertificateAuthority, request.authority_id)
        told = f"CA {authority.name} has revoked certificate {certificate.id} ({certificate.common_name}), reason "
        told += f"{certificate.revocation_reason}, as {_SAID.get(standing.source, standing.source)}"
        told += " another one takes its place." if certificate.auto_renew else " renewal by itself is off: replace it."
        return audit.Act(
            actor="certgate",
            access_method=AccessMethod.WORKFLOW,
            action="certificate.revoked_by_ca",
            object_type="certificate",
            object_id=certificate.id,
            gateway_id=request.gateway_id,
            organization_id=certificate.organization_id,
            department_id=certificate.department_id,
            description=told,
            outcome=Outcome.FAILED,
            once=f"revoked-by-ca/{certificate.fingerprint}",
        )

    def _keep_trouble(self, session: Session, found: KeepFindings, now: datetime, acts: list[audit.Act]) -> bool:
        """What the CA's row says of the watch; True when the CA is away."""
        authority = session.get(CertificateAuthority, found.authority_id)
        if authority is None:
            return False
        faults = [finding for finding in found.findings if finding.faulty]
        answered = any(_answered(finding) for finding in found.findings)
        unanswered = next((finding for finding in found.findings if finding.passing and finding.asked), None)
        if faults:
            self._trouble(authority, faults[0].problem or "", now, faulty=True)
            told = f"What is said of certificates of CA {authority.name} does not count ({len(faults)} of "
            told += f"{len(found.findings)}): {faults[0].problem}"
            acts.append(_act(authority, "ca.answers_wrong", told, f"answers-wrong/{authority.id}/{now:%Y-%m-%d}"))
        elif unanswered is not None and not answered:
            self._trouble(authority, unanswered.problem or "", now, faulty=False)
        elif answered and authority.watch_problem is not None:
            if authority.watch_told:
                told = f"CA {authority.name} answers again for its certificates."
                acts.append(_act(authority, "ca.answers_again", told, step_key("ca.answers_again"), Outcome.DONE))
            authority.watch_problem, authority.watch_problem_since = None, None
            authority.watch_faulty = authority.watch_told = False
        session.add(authority)
        return unanswered is not None and not answered

    def _trouble(self, authority: CertificateAuthority, problem: str, now: datetime, *, faulty: bool) -> None:
        authority.watch_problem, authority.watch_faulty = problem, faulty
        authority.watch_problem_since = authority.watch_problem_since or now


class WatchedHere:
    """The step of the manager that asks about certificates and keeps what was said, so that neither travels."""

    def __init__(self, database: Database, clock: Clock, standings: Standings) -> None:
        self._records, self._standings, self._clock = Watching(database, clock), standings, clock

    @activity.defn(name="standings.ask_here")
    async def ask_here(self, asked: AskHere) -> Kept:
        """Ask about each of them, and write down what was found."""
        with as_failures():
            async with heartbeating(lambda: f"asking about {len(asked.certificate_ids)} certificates"):
                wanted = await asyncio.to_thread(self._records.load_asked, asked)
                findings = await self._standings.findings(wanted)
                return await asyncio.to_thread(self._records.keep_findings, KeepFindings(asked.authority_id, findings))


def _answered(finding: Finding) -> bool:
    """A CA whose renewal information works and whose responder is away does not answer."""
    return finding.standing is not None if finding.standing_asked else finding.window_asked


def _act(
    authority: CertificateAuthority, action: str, told: str, once: str, outcome: Outcome = Outcome.FAILED
) -> audit.Act:
    return audit.Act(
        actor="certgate",
        access_method=AccessMethod.WORKFLOW,
        action=action,
        object_type="ca",
        object_id=authority.id,
        description=told,
        outcome=outcome,
        once=once,
    )


def _watched(authority_id: int) -> tuple[ColumnElement[bool], ...]:
    """In use, and of that CA."""
    return (
        CertificateRequest.authority_id == authority_id,  # type: ignore[return-value]
        col(Certificate.ask_at).is_not(None),
        col(Certificate.active),
        col(Certificate.status) == CertificateStatus.ISSUED,
    )


def _batches(session: Session, authority: CertificateAuthority, due: Sequence[tuple[int, int]]) -> list[WatchBatch]:
    if authority.reached_from != "gateway":
        numbers = [number for number, _ in due]
        return [WatchBatch(some) for some in _portions(numbers, _AT_MANAGER)]
    at: dict[int, list[int]] = defaultdict(list)
    for number, gateway in due:
        at[gateway].append(number)
    rows = session.exec(select(Gateway).where(col(Gateway.id).in_(sorted(at)))).all()
    return [
        WatchBatch(some, gateway.id, gateway.channel)
        for gateway in sorted(rows, key=lambda row: row.id or 0)
        for some in _portions(at[gateway.id or 0], _AT_GATEWAY)
    ]


def _portions(numbers: list[int], size: int) -> list[list[int]]:
    return [numbers[start : start + size] for start in range(0, len(numbers), size)]


def _asked(session: Session, asked: AskHere, now: datetime) -> AskAuthority:
    authority = session.get_one(CertificateAuthority, asked.authority_id)
    statement = (
        select(Certificate, CertificateRequest.order_number)
        .join(CertificateRequest, col(CertificateRequest.id) == col(Certificate.request_id))
        .where(col(Certificate.id).in_(asked.certificate_ids))
        .order_by(col(Certificate.id))
    )
    issuers: dict[str, int] = {}
    certificates = []
    for row, number in session.exec(statement).all():
        assert row.id is not None
        certificates.append(
            AskedCertificate(
                certificate_id=row.id,
                order_number=number or "",
                serial_number=row.serial_number,
                pem=row.pem,
                chain=[issuers.setdefault(pem, len(issuers)) for pem in row.chain_pem],
                window=row.ask_window_at is None or row.ask_window_at <= now,
                standing=row.standing_note is not None or watching.standing_due(row.standing_at, now) <= now,
            )
        )
    return AskAuthority(authority_access(authority), list(authority.networks), certificates, list(issuers))


def _suggest(certificate: Certificate, window: SeenWindow) -> None:
    certificate.suggested_start, certificate.suggested_end = window.start, window.end
    certificate.suggested_at = renewal.moment_in(window.start, window.end, certificate.fingerprint)
    url = window.explanation_url
    certificate.suggestion_url = url if url and url.startswith(("https://", "http://")) and len(url) <= 2048 else None


def _moved_up(certificate: Certificate) -> bool:
    """Whether the CA's own time is before that for which the renewal sleeps."""
    at, planned = certificate.suggested_at, certificate.renew_at
    return at is not None and certificate.auto_renew and planned is not None and at < planned


_SAID: Mapping[str, str] = MappingProxyType(
    {"CA": "it says itself:", "OCSP": "its OCSP responder says:", "CRL": "its CRL says:"}
)
