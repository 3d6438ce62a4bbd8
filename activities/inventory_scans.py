"""Networks are looked through for certificates: on the gateway that is in them, and the manager keeps what it found."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Iterable
from contextlib import aclosing
from dataclasses import replace
from datetime import timedelta
from typing import Any

from sqlmodel import Session, col, select
from temporalio import activity

from activities.failures import as_failures, heartbeating
from activities.records import Records, step_key
from connectors.endpoints import scan
from connectors.endpoints.scan import Looked, Pace, Rules, Service, Targets
from connectors.endpoints.starttls import StartTls
from connectors.errors import Permanent
from model import access, audit, seen
from model.messages import (
    EndScan,
    KeepScan,
    ScanFinding,
    ScanFound,
    ScanKept,
    ScanNote,
    ScanPart,
    ScanPlan,
    ScanService,
    ScanStart,
)
from model.naming import gateway_queue
from model.states import AccessMethod, Outcome, ScanState, SightingWay
from model.tables import Gateway, NetworkScan, Sighting

# One step gives so much of certificates (characters of PEM) and findings, and looks for so long; the next one goes on.
_MOST_PEM, _MOST_FINDINGS = 256 * 1024, 1000
_STEP = timedelta(seconds=30)
# Of one address and port, whatever it serves to how many names.
_MOST_PEM_HERE = 512 * 1024
NOTHING = Rules()


class Scanning:
    """Runs on a gateway. What its own settings allow holds for all scans together, and whatever the manager says."""

    def __init__(self, rules: Rules = NOTHING) -> None:
        self._rules = rules
        self._pace = Pace(rules.rate)
        self._gate = asyncio.Semaphore(rules.at_once)

    @activity.defn(name="inventory.scan")
    async def scan(self, part: ScanPart) -> ScanFound:
        """Look at addresses and ports from `part.first` on, until the answer is large enough or half a minute is over.
        A step that died begins again where its last heartbeat was."""
        with as_failures():
            targets = self._allowed(part)
            found = [_resumed(part) or ScanFound(part.first, len(targets))]
            async with heartbeating(lambda: found[0]):
                await self._sweep(part, targets, found)
            return found[0]

    def _allowed(self, part: ScanPart) -> Targets:
        networks = [scan.network(word) for word in part.networks]
        try:
            services = [Service(one.port, StartTls(one.starttls) if one.starttls else None) for one in part.services]
        except ValueError:
            raise Permanent(
                "The gateway does not know a protocol of the scan: bring it to the manager's release."
            ) from None
        refused = self._rules.refusal(networks, services)
        if refused is not None:
            raise Permanent(refused)
        return Targets(networks, services)

    async def _sweep(self, part: ScanPart, targets: Targets, found: list[ScanFound]) -> None:
        loop = asyncio.get_running_loop()
        until = loop.time() + _STEP.total_seconds()
        size = sum(len(pem) for pem in found[0].certificates)
        sweep = scan.sweep(
            targets,
            found[0].next,
            part.server_names[: scan.MOST_NAMES],
            paces=[Pace(max(1, part.rate)), self._pace],
            at_once=max(1, min(part.at_once, self._rules.at_once)),
            gate=self._gate,
            timeout=timedelta(seconds=min(max(part.timeout_seconds, 0.1), 10)),
        )
        known = {finding.fingerprint for finding in found[0].findings}
        async with aclosing(sweep) as looking:
            async for looked in looking:
                more, new, grown = _told(looked, known)
                full = size + grown > _MOST_PEM or len(found[0].findings) + len(more.findings) > _MOST_FINDINGS
                if full and found[0].next > part.first:
                    return
                found[0], size = _added(found[0], more), size + grown
                known |= new
                if loop.time() > until:
                    return


def _resumed(part: ScanPart) -> ScanFound | None:
    """What the last heartbeat of this step had found."""
    details: Any = next(iter(activity.info().heartbeat_details), None)
    if not isinstance(details, dict) or not isinstance(details.get("next"), int) or details["next"] < part.first:
        return None
    findings = [ScanFinding(**one) for one in details["findings"]]
    return ScanFound(**{**details, "findings": findings})


def _told(looked: Looked, known: set[str]) -> tuple[ScanFound, set[str], int]:
    """One address and port as a message, the fingerprints that are new in it, and how large their certificates are."""
    findings, certificates, new, size, unread = [], [], set(), 0, looked.unread
    for one in looked.sighted:
        fingerprint = one.fingerprint
        if fingerprint not in known and fingerprint not in new:
            pem = one.pem
            if len(pem) > seen.LARGEST_PEM or size + len(pem) > _MOST_PEM_HERE:
                unread += 1
                continue
            certificates.append(pem)
            new.add(fingerprint)
            size += len(pem)
        starttls = looked.service.starttls
        spoken = str(starttls) if starttls else None
        findings.append(ScanFinding(looked.address, looked.service.port, spoken, one.server_name, fingerprint))
    found = ScanFound(looked.index + 1, 0, int(looked.answered), unread, findings, certificates)
    return found, new, size


def _added(found: ScanFound, more: ScanFound) -> ScanFound:
    return replace(
        found,
        next=more.next,
        answered=found.answered + more.answered,
        unread=found.unread + more.unread,
        findings=[*found.findings, *more.findings],
        certificates=[*found.certificates, *more.certificates],
    )


class Scans(Records):
    """Runs on the manager."""

    @activity.defn(name="records.plan_scan")
    def plan_scan(self, start: ScanStart) -> ScanPlan:
        """What is to be done now. A round whose time has come begins here."""
        with self.writing() as session:
            row = session.get(NetworkScan, start.scan_id)
            gateway = session.get(Gateway, row.gateway_id) if row is not None else None
            if row is None or gateway is None or access.is_gone(gateway):
                return ScanPlan(ended=True)
            queue = gateway_queue(row.gateway_id, gateway.channel)
            now = self._clock()
            if row.state not in (ScanState.WAITING, ScanState.RUNNING):
                if row.next_at is None:
                    return ScanPlan(True, gateway.name, queue)
                if row.next_at > now:
                    return ScanPlan(False, gateway.name, queue, due_at=row.next_at)
            if row.state != ScanState.RUNNING:
                row.state, row.message, row.round = ScanState.RUNNING, None, row.round + 1
                row.position = row.total = row.answered = row.found = row.unread = row.fresh = 0
                row.started_at, row.ended_at = now, None
                every = row.every_seconds
                row.next_at = now + timedelta(seconds=every) if every is not None else None
                session.add(row)
            assert row.started_at is not None
            return ScanPlan(
                ended=False,
                gateway=gateway.name,
                queue=queue,
                round=row.round,
                deadline=row.started_at + timedelta(seconds=row.most_seconds),
                part=ScanPart(
                    networks=list(row.networks),
                    services=[ScanService(**one) for one in row.services],
                    server_names=list(row.server_names),
                    first=row.position,
                    rate=row.rate,
                    at_once=row.at_once,
                    timeout_seconds=row.timeout_seconds,
                ),
            )

    @activity.defn(name="records.note_scan")
    def note_scan(self, note: ScanNote) -> None:
        """Say why a scan does not go on just now."""
        with self.writing() as session:
            row = session.get(NetworkScan, note.scan_id)
            if row is not None and row.state == ScanState.RUNNING:
                row.message = note.message
                session.add(row)

    @activity.defn(name="records.keep_scan")
    def keep_scan(self, kept: KeepScan) -> ScanKept:
        """Keep what a step found; a step that is told twice counts once."""
        with self.writing() as session:
            row = session.get(NetworkScan, kept.scan_id)
            if row is None or row.round != kept.round or row.state != ScanState.RUNNING:
                return ScanKept(over=True)
            found = kept.found
            if found.next > row.position:
                fresh, unkept = seen.keep(session, _spots(row, found.findings), found.certificates, self._clock())
                row.position, row.total, row.message = found.next, found.total, None
                row.answered += found.answered
                row.found += len(found.findings) - unkept
                row.unread += found.unread + unkept
                row.fresh += fresh
                session.add(row)
            return ScanKept(row.position >= row.total, row.position)

    @activity.defn(name="records.end_scan")
    def end_scan(self, end: EndScan) -> None:
        """The round is over. What was there before and was looked for and not found is gone, if all was looked at."""
        with self.writing() as session:
            row = session.get(NetworkScan, end.scan_id)
            if row is None or row.round != end.round or row.state != ScanState.RUNNING:
                return
            now = self._clock()
            row.state = ScanState.CANCELED if end.canceled else ScanState.FAILED if end.problem else ScanState.DONE
            row.ended_at, row.message = now, end.problem
            if row.state == ScanState.DONE:
                _forget_missing(session, row)
            if end.canceled:
                row.next_at = None
            session.add(row)
            gateway = session.get_one(Gateway, row.gateway_id)
            scope = access.scope_of_gateway(session, gateway)
            told = f"Network scan {row.id} of gateway {gateway.name} "
            told += (
                f"was canceled after {row.position} of {row.total} " if end.canceled else f"looked at {row.position} "
            )
            told += f"addresses and ports; {row.found} served a certificate, {row.fresh} of them had never been seen."
            audit.append(
                session,
                audit.Act(
                    actor=row.asked_by,
                    access_method=AccessMethod.WORKFLOW,
                    action="inventory.scanned",
                    object_type="gateway",
                    object_id=row.gateway_id,
                    gateway_id=row.gateway_id,
                    organization_id=scope.organization_id,
                    department_id=scope.department_id,
                    description=f"Network scan {row.id} of gateway {gateway.name} failed: {end.problem}"
                    if end.problem
                    else told,
                    outcome=Outcome.FAILED if end.problem else Outcome.DONE,
                    once=step_key("inventory.scanned"),
                ),
                now,
            )


def _spots(row: NetworkScan, findings: Iterable[ScanFinding]) -> dict[seen.Spot, str]:
    return {
        seen.Spot(
            gateway_id=row.gateway_id,
            way=SightingWay.NETWORK,
            address=one.address[:64],
            port=one.port,
            server_name=one.server_name or "",
            starttls=one.starttls or "",
        ): one.fingerprint
        for one in findings
    }


def _forget_missing(session: Session, row: NetworkScan) -> None:
    """Mark as gone what this round has looked for in vain."""
    networks = [ipaddress.ip_network(word) for word in row.networks]
    services = {(int(one["port"]), one.get("starttls") or "") for one in row.services}
    names = {"", *row.server_names}
    assert row.started_at is not None
    assert row.ended_at is not None
    statement = select(Sighting).where(
        Sighting.gateway_id == row.gateway_id,
        Sighting.way == SightingWay.NETWORK,
        col(Sighting.gone_at).is_(None),
        col(Sighting.last_seen) < row.started_at,
    )
    for sighting in session.exec(statement).all():
        address = ipaddress.ip_address(sighting.address)
        looked_for = (sighting.port, sighting.starttls) in services and sighting.server_name in names
        if looked_for and any(address in network for network in networks):
            sighting.gone_at = row.ended_at
            session.add(sighting)


__all__ = ["NOTHING", "Scanning", "Scans"]
