"""A replacement campaign over many certificates, against as many single replacements at the same time as it does.

The certificates are put straight into the records, and nothing is installed: what is measured is the campaign, the
renewal workflows, and the requests from key to certificate with the built-in CA.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import sqlalchemy
from rich.console import Console
from rich.table import Table
from sqlmodel import col, func, select
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.workflowservice.v1 import GetWorkflowExecutionHistoryRequest
from temporalio.client import WorkflowHandle
from temporalio.service import RPCError, RPCStatusCode

from bench.stage import Stage, stage
from model import naming, x509
from model.errors import Unavailable
from model.keys import KeyAlgorithm
from model.states import CampaignState, CertificateStatus, InstallState, ItemState
from model.tables import (
    Certificate,
    CertificateProfile,
    CertificateRequest,
    Gateway,
    Organization,
)
from operations import campaign_words, campaigns, certificates
from operations.campaign_selection import Plan, Selection
from operations.context import now
from operations.lookup import identity
from worker.playground import self_signed

AT_ONCE = 20
_LOOK, _SOON = 0.1, 0.02
_SINGLE, _MANY = "single.bench.example", "campaign.bench.example"


@dataclass(frozen=True)
class Report:
    """What was measured. Seconds; events and bytes are those of the campaign's workflow, all runs of it."""

    certificates: int
    singles: int
    campaign_seconds: float
    single_seconds: float
    runs: int
    events: int
    history_bytes: int
    preview_seconds: float
    preview_of: int

    @property
    def campaign_a_minute(self) -> float:
        """Certificates that a campaign replaces in a minute."""
        return 60 * self.certificates / self.campaign_seconds

    @property
    def single_a_minute(self) -> float:
        """Certificates that single replacements replace in a minute, as many of them at a time."""
        return 60 * self.singles / self.single_seconds

    def as_json(self) -> Mapping[str, Any]:
        """As one JSON object."""
        return {
            "campaign": {
                "certificates": self.certificates,
                "at_once": AT_ONCE,
                "seconds": round(self.campaign_seconds, 1),
                "certificates_a_minute": round(self.campaign_a_minute, 1),
                "singles": self.singles,
                "single_certificates_a_minute": round(self.single_a_minute, 1),
                "ratio": round(self.campaign_a_minute / self.single_a_minute, 2),
                "workflow_runs": self.runs,
                "history_events": self.events,
                "history_events_a_certificate": round(self.events / self.certificates, 1),
                "history_bytes": self.history_bytes,
                "history_bytes_a_certificate": round(self.history_bytes / self.certificates),
                "preview_seconds": round(self.preview_seconds, 3),
                "preview_of": self.preview_of,
            }
        }

    def print(self, console: Console) -> None:
        """As a table."""
        table = Table(title=f"Replacement campaign, {AT_ONCE} at the same time", title_justify="left")
        for title in ("", "campaign", "single", "ratio"):
            table.add_column(title, justify="left" if not title else "right")
        ratio = self.campaign_a_minute / self.single_a_minute
        table.add_row("certificates", f"{self.certificates:,}", f"{self.singles:,}", "")
        table.add_row(
            "certificates a minute", f"{self.campaign_a_minute:.0f}", f"{self.single_a_minute:.0f}", f"{ratio:.2f}"
        )
        table.add_row("events of the campaign's history", f"{self.events:,} in {self.runs} runs", "", "")
        table.add_row("events a certificate", f"{self.events / self.certificates:.1f}", "", "")
        table.add_row("bytes a certificate", f"{self.history_bytes / self.certificates:,.0f}", "", "")
        table.add_row(f"preview of {self.preview_of:,}, seconds", f"{self.preview_seconds:.2f}", "", "")
        console.print(table)


async def measure(count: int, say: Callable[[str], None]) -> Report:
    """Replace `count` certificates by a campaign, and a fifth as many one by one."""
    singles = max(AT_ONCE, count // 5)
    async with stage(1, say) as place:
        say(f"Writing {count + singles:,} certificates into the records …")
        _fill(place, _MANY, count)
        alone = _fill(place, _SINGLE, singles)
        warm = _fill(place, "warm.bench.example", AT_ONCE)
        await _one_by_one(place, warm)
        say(f"{singles:,} certificates, {AT_ONCE} at a time …")
        begin = time.monotonic()
        await _one_by_one(place, alone)
        single_seconds = time.monotonic() - begin
        plan = Plan(rate_per_hour=100_000, at_once=AT_ONCE, canaries=0, pause_after=1)
        begin = time.monotonic()
        draft = campaigns.create(place.requester, "bench", Selection(search=_MANY), plan, count)
        preview_seconds = time.monotonic() - begin
        say(f"A campaign over {count:,} …")
        begin = time.monotonic()
        await campaign_words.start(place.requester, draft.row.id)
        await _completed(place, draft.row.id, count)
        campaign_seconds = time.monotonic() - begin
        runs, events, size = await _history(place, naming.campaign_workflow(draft.row.id))
    return Report(count, singles, campaign_seconds, single_seconds, runs, events, size, preview_seconds, count)


def _fill(place: Stage, domain: str, count: int) -> list[int]:
    """Certificates in use that nothing serves; their numbers."""
    leaf = x509.load_certificate(self_signed([domain])[0].decode())
    pem, issuer = x509.to_pem(leaf), x509.distinguished_name(leaf.issuer)
    moment = now()
    with place.database.write() as session:
        profile = session.exec(select(CertificateProfile).order_by(col(CertificateProfile.id))).first()
        organization = session.exec(select(Organization).order_by(col(Organization.id))).first()
        gateway = session.exec(select(Gateway).order_by(col(Gateway.id))).first()
        assert profile is not None
        assert organization is not None
        assert gateway is not None
        first = (session.exec(select(func.max(CertificateRequest.id))).one() or 0) + 1
        names = [f"n{number}.{domain}" for number in range(count)]
        requests = [
            {
                **CertificateRequest(
                    organization_id=identity(organization),
                    requester_id=place.requester.actor.id,
                    common_name=name,
                    names=[name],
                    profile_id=identity(profile),
                    authority_id=profile.authority_id,
                    gateway_id=identity(gateway),
                    key_algorithm=KeyAlgorithm.EC_P256,
                    status=CertificateStatus.ISSUED,
                    install_state=InstallState.NOT_CONFIGURED,
                    started=True,
                    closed=True,
                    created_at=moment,
                    updated_at=moment,
                ).model_dump(),
                "id": first + number,
            }
            for number, name in enumerate(names)
        ]
        session.execute(sqlalchemy.insert(CertificateRequest), requests)
        rows = [
            Certificate(
                request_id=first + number,
                organization_id=identity(organization),
                common_name=name,
                pem=pem,
                serial_number=uuid.uuid4().hex.lstrip("0"),
                issuer=issuer,
                fingerprint=uuid.uuid4().hex * 2,
                not_before=moment,
                not_after=moment + timedelta(days=47),
                active=True,
            ).model_dump(exclude={"id"})
            for number, name in enumerate(names)
        ]
        session.execute(sqlalchemy.insert(Certificate), rows)
        last = first + count
        of = select(Certificate.id).where(Certificate.request_id >= first, Certificate.request_id < last)
        return [number for number in session.exec(of).all() if number is not None]


async def _one_by_one(place: Stage, numbers: list[int]) -> None:
    waiting: Iterator[int] = iter(numbers)

    async def client() -> None:
        for number in waiting:
            await _ended(place, await certificates.renew(place.requester, number))

    await asyncio.gather(*(client() for _ in range(AT_ONCE)))


async def _ended(place: Stage, request_id: int) -> None:
    handle: WorkflowHandle[Any, Any] = place.client.get_workflow_handle(naming.request_workflow(request_id))
    while True:
        try:
            await handle.result()
            return
        except RPCError as error:
            # The renewal has kept the request and is about to start its workflow.
            if error.status != RPCStatusCode.NOT_FOUND:
                raise
            await asyncio.sleep(_SOON)


async def _completed(place: Stage, campaign_id: int, count: int) -> None:
    while True:
        row = campaigns.show(place.requester, campaign_id).row
        if row.state == CampaignState.COMPLETED and row.counts[ItemState.DONE] == count:
            return
        if row.state != CampaignState.RUNNING:
            raise Unavailable(f"The campaign of the bench is {row.state}: {row.why}")
        await asyncio.sleep(_LOOK)


async def _history(place: Stage, workflow_id: str) -> tuple[int, int, int]:
    """Runs, events and bytes of a workflow."""
    runs = events = size = 0
    async for one in place.client.list_workflows(f'WorkflowId = "{workflow_id}"'):
        runs += 1
        token = b""
        while True:
            answer = await place.client.workflow_service.get_workflow_execution_history(
                GetWorkflowExecutionHistoryRequest(
                    namespace=place.client.namespace,
                    execution=WorkflowExecution(workflow_id=workflow_id, run_id=one.run_id),
                    next_page_token=token,
                )
            )
            events += len(answer.history.events)
            size += sum(event.ByteSize() for event in answer.history.events)
            token = answer.next_page_token
            if not token:
                break
    return runs, events, size
