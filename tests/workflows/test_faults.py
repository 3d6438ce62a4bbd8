"""What must not go through: wrong certificates, wrong CSRs, a CA in trouble, a gateway that never comes."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
import pytest_asyncio
from sqlmodel import col, select
from temporalio.client import WorkflowFailureError
from temporalio.worker import UnsandboxedWorkflowRunner

from connectors.ca.private import CONNECTOR
from model.messages import OrderValidation, RequestStart, RequestView
from model.naming import MANAGER_QUEUE
from model.states import CertificateStatus, DelegationMode, InstallState
from model.tables import (
    AuditEntry,
    Certificate,
    CertificateAuthority,
    CertificateRequest,
    Gateway,
    Keystore,
    TrustedCertificate,
)
from operations import authorities, orders, requests, trust
from operations.authorities import NewAuthority
from operations.bootstrap import trusted
from operations.submission import start
from tests.support.rogue import RogueAuthority, install_rogues
from tests.support.world import World, wait_until, world
from worker import workers
from workflows import options


@pytest_asyncio.fixture(loop_scope="session")
async def rogue(shared_world: World, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[type[RogueAuthority]]:
    """A CA named `rogue` whose faults the test chooses."""
    install_rogues(monkeypatch)
    with shared_world.database.write() as session:
        if session.exec(select(CertificateAuthority).where(CertificateAuthority.name == "rogue")).first() is None:
            session.add(CertificateAuthority(name="rogue", type="rogue", settings={}))
            session.add(trusted(RogueAuthority.root(), is_root=True))
    RogueAuthority.fault, RogueAuthority.submits = "none", 0
    yield RogueAuthority
    RogueAuthority.fault = "none"


async def approved(world: World, name: str, ca: str = "rogue") -> int:
    """A request that is approved."""
    number = await world.submit(name, ca=ca)
    await world.until(number, state=InstallState.KEY_READY)
    await world.say(number, "approve")
    return number


async def test_what_the_ca_wants_proved_is_seen_while_it_waits(
    shared_world: World, rogue: type[RogueAuthority]
) -> None:
    rogue.fault = "unproved"
    number = await shared_world.submit("one.unproved.example.org", names=["two.unproved.example.org"], ca="rogue")
    await shared_world.until(number, state=InstallState.KEY_READY)
    await shared_world.say(number, "approve")
    context = shared_world.context("bob")

    async def told() -> list[OrderValidation]:
        return [one for step in await requests.waiting(context, number) for one in step.validations]

    while not (found := await told()):
        await asyncio.sleep(0.05)
    assert found == [
        OrderValidation("one.unproved.example.org", "failed", "http-01", error="The file was not there."),
        OrderValidation(
            "two.unproved.example.org", "pending", "dns-01", "Put a TXT record at two.unproved.example.org."
        ),
    ]
    [step] = await requests.waiting(context, number)
    assert (step.step, step.last_failure) == ("orders.collect", "The rogue CA waits for the proof of the names.")
    detail = shared_world.show(number)
    assert detail.status == CertificateStatus.APPLIED
    assert detail.ordered_at is not None
    assert [row.request_id for row in orders.listing(context, "rogue").rows] == [number]
    rogue.fault = "none"
    await shared_world.until(number, state=InstallState.NOT_CONFIGURED)
    assert orders.listing(context, "rogue").total == 0


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("other key", "key"),
        ("other names", "names|evil"),
        ("expired", "expired"),
        ("future", "not.*valid|future"),
        ("garbage", "no certificate"),
    ],
)
async def test_a_wrong_certificate_is_never_kept_nor_ordered_anew(
    shared_world: World, rogue: type[RogueAuthority], fault: str, words: str
) -> None:
    rogue.fault = fault
    number = await approved(shared_world, f"{fault.replace(' ', '-')}.example.org")
    stuck = await shared_world.until(number, state=InstallState.FAILED)
    assert stuck.status == CertificateStatus.APPLIED
    assert stuck.reason is not None
    assert re.search(words, stuck.reason)
    assert "\n" not in stuck.reason
    assert stuck.issued_fingerprint is None
    assert not [row for row in shared_world.rows(Certificate) if row.request_id == number]
    rogue.fault = "none"
    await shared_world.say(number, "retry", "the CA has mended it")
    done = await shared_world.until(number, state=InstallState.NOT_CONFIGURED)
    assert done.order_number == stuck.order_number
    assert rogue.submits == 1


async def test_a_chain_without_its_issuer_goes_on_once_it_is_trusted(
    shared_world: World, rogue: type[RogueAuthority]
) -> None:
    with shared_world.database.write() as session:
        # Other tests of this CA may have trusted its root as well.
        for row in session.exec(select(TrustedCertificate).where(col(TrustedCertificate.subject).like("%Rogue%"))):
            session.delete(row)
    number = await approved(shared_world, "incomplete.example.org")
    stuck = await shared_world.until(number, state=InstallState.ACTION_REQUIRED)
    assert "Rogue Root" in (stuck.reason or "")
    with shared_world.database.write() as session:
        session.add(trusted(RogueAuthority.root(), is_root=True))
    await shared_world.say(number, "retry")
    await shared_world.until(number, state=InstallState.NOT_CONFIGURED)
    assert rogue.submits == 1


async def test_an_order_that_can_not_be_placed_waits_for_a_person(
    shared_world: World, rogue: type[RogueAuthority]
) -> None:
    rogue.fault = "refuses"
    number = await approved(shared_world, "refuses.example.org")
    stuck = await shared_world.until(number, state=InstallState.FAILED)
    assert stuck.status == CertificateStatus.APPROVED
    assert "correct its credentials" in (stuck.reason or "")
    rogue.fault = "none"
    await shared_world.say(number, "retry")
    await shared_world.until(number, state=InstallState.NOT_CONFIGURED)
    assert rogue.submits == 1


async def test_a_busy_ca_is_asked_again_and_shown_as_what_it_is(
    shared_world: World, rogue: type[RogueAuthority]
) -> None:
    rogue.fault = "busy"
    number = await approved(shared_world, "busy.example.org")
    await shared_world.until(number, status=CertificateStatus.APPLIED)
    context = shared_world.context("bob")
    waiting = await requests.waiting(context, number)
    while not waiting or waiting[0].attempt < 2:
        waiting = await requests.waiting(context, number)
    assert waiting[0].step == "orders.collect"
    assert "busy" in (waiting[0].last_failure or "")
    rogue.fault = "none"
    await shared_world.until(number, state=InstallState.NOT_CONFIGURED)
    assert rogue.submits == 1


async def test_a_retry_uses_the_settings_that_were_mended(shared_world: World, tmp_path: Path) -> None:
    """A person told that the CA's settings are wrong corrects them, and says retry: no new request is needed."""
    context = shared_world.context("admin")
    new = NewAuthority("mended", "private", {"name": "Mended", "folder": "/proc/nowhere"}, "gateway")
    await authorities.add(context, new, shared_world.surroundings)
    number = await approved(shared_world, "mended.example.org", "mended")
    stuck = await shared_world.until(number, state=InstallState.FAILED)
    assert "/proc/nowhere" in (stuck.reason or "")
    authorities.edit(context, "mended", settings={"folder": str(tmp_path / "ca")})
    ca = CONNECTOR.open(
        CONNECTOR.configure({"name": "Mended", "folder": str(tmp_path / "ca")}), shared_world.surroundings
    )
    trust.add(context, *await ca.trust_anchors())
    await shared_world.say(number, "retry", by="alice")
    done = await shared_world.until(number, state=InstallState.NOT_CONFIGURED)
    assert (done.status, done.order_number) == (CertificateStatus.ISSUED, "P-000001")


async def test_a_csr_that_is_not_what_was_asked_ends_the_request(
    shared_world: World, rogue: type[RogueAuthority]
) -> None:
    with shared_world.database.write() as session:
        keystore = session.exec(select(Keystore)).first()
        assert keystore is not None
        keystore.type = "rogue"
        session.add(keystore)
    try:
        number = await shared_world.submit("wrong-csr.example.org")
        ended = await shared_world.until(number, status=CertificateStatus.INVALID)
        result = await shared_world.workflow(number).result()
    finally:
        with shared_world.database.write() as session:
            keystore.type = "pem"
            session.add(keystore)
    assert "evil.example.org" in (ended.reason or "")
    assert ended.closed
    assert result.order_number is None


async def test_what_was_taken_away_after_submission_is_refused_inside_the_workflow(
    shared_world: World, rogue: type[RogueAuthority]
) -> None:
    """The row says one thing, delegation another: a request put into the database by hand gets nowhere."""
    seen = await approved(shared_world, "template.example.org")
    await shared_world.workflow(seen).result()
    with shared_world.database.write() as session:
        closed = Gateway(
            name="closed", name_key="closed", delegation_mode=DelegationMode.CUSTOMIZED, created_at=shared_world.clock()
        )
        session.add(closed)
        session.flush()
        template = session.get_one(CertificateRequest, seen)
        values = template.model_dump(exclude={"id", "status", "closed", "started", "install_state"})
        row = CertificateRequest(**{**values, "gateway_id": closed.id, "order_number": None})
        session.add(row)
        session.flush()
        number = row.id
    assert number is not None
    await start(shared_world.client, shared_world.database, number)
    ended = await shared_world.until(number, status=CertificateStatus.INVALID)
    assert "not delegated" in (ended.reason or "")
    refused = [row for row in shared_world.rows(AuditEntry) if row.object_id == number and row.outcome == "refused"]
    assert [row.action for row in refused] == ["request.refused"]


async def test_nobody_starts_a_request_again_with_the_engines_own_tools(
    shared_world: World, rogue: type[RogueAuthority]
) -> None:
    number = await approved(shared_world, "once.example.org")
    await shared_world.workflow(number).result()
    before = shared_world.show(number)
    for workflow_id in (f"request-{number}", "a-second-one"):
        again = await shared_world.client.start_workflow(
            "CertificateRequest", RequestStart(number), id=workflow_id, task_queue=MANAGER_QUEUE
        )
        with pytest.raises(WorkflowFailureError):
            await again.result()
    assert shared_world.show(number) == before
    assert rogue.submits == 1


async def test_a_gateway_that_never_comes_is_told_and_the_request_can_be_canceled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Unsandboxed, so that the shorter patience is seen by the workflow.
    monkeypatch.setattr(options, "PICK_UP", (timedelta(milliseconds=300), timedelta(milliseconds=600)))
    monkeypatch.setattr(workers, "runner", UnsandboxedWorkflowRunner)
    async with world(tmp_path) as own:
        with own.database.write() as session:
            session.add(Gateway(name="away", name_key="away", created_at=own.clock()))
        number = await own.submit("away.example.org", gateway="away")
        await wait_until(lambda: own.show(number).reason is not None)
        detail = own.show(number)
        assert "Gateway away does not take its work" in (detail.reason or "")
        assert not detail.closed
        view = await own.workflow(number).query("view", result_type=RequestView)
        assert "gateway" in view.waiting_for
        assert [row.action for row in own.rows(AuditEntry)].count("gateway.away") == 1
        assert (await own.say(number, "cancel", by="alice")).startswith("Canceled by alice")
        assert own.show(number).status == CertificateStatus.CANCELED
        # The key, if one was ever made there, is still to be deleted: the workflow waits for the gateway with that.
        await own.workflow(number).terminate("the test is over")
