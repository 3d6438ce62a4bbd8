"""A request from the CSR to the certificate that nginx serves: real engine, real CA, real nginx."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from sqlmodel import col, select
from temporalio.client import WorkflowExecutionStatus, WorkflowFailureError, WorkflowUpdateFailedError

from connectors.ca.private import CONNECTOR, PrivateAuthority
from model import audit, naming
from model.errors import Conflict, InvalidInput, NotPermitted
from model.messages import AdministratorWord, RequestView
from model.states import CertificateStatus, InstallMode, InstallState, Outcome
from model.tables import AuditEntry, CertificateAuthority, Decision
from operations.bootstrap import trust_anchors
from tests.support.world import World, wait_until
from worker.playground import DisposableNginx, served_by


@pytest_asyncio.fixture(loop_scope="session")
async def nginx(tmp_path: Path) -> AsyncIterator[DisposableNginx]:
    """An nginx with two virtual hosts."""
    with DisposableNginx(tmp_path, ["www.example.org", "api.example.org"]) as server:
        yield server


@pytest_asyncio.fixture(loop_scope="session")
async def endpoint(shared_world: World, nginx: DisposableNginx) -> str:
    """That nginx as an endpoint whose bindings are known."""
    name = f"nginx {nginx.port}"
    await shared_world.endpoint(nginx, name)
    return name


def told(world: World, request_id: int) -> list[tuple[str, Outcome]]:
    """What the audit tells of a request."""
    with world.database.read() as session:
        statement = select(AuditEntry).where(AuditEntry.object_type == "request", AuditEntry.object_id == request_id)
        return [(row.action, row.outcome) for row in session.exec(statement.order_by(col(AuditEntry.sequence)))]


def key_file(world: World, request_id: int) -> Path:
    """Where the gateway keeps the key of a request."""
    return world.gateway_surroundings.home / "keys" / f"{naming.key_alias(request_id)}.key"


async def test_a_plain_request_ends_with_its_certificate_served(
    shared_world: World, nginx: DisposableNginx, endpoint: str
) -> None:
    before = await served_by(nginx)
    number = await shared_world.submit("www.example.org", endpoint=endpoint)
    waiting = await shared_world.until(number, state=InstallState.KEY_READY)
    assert waiting.status == CertificateStatus.REQUESTED
    assert waiting.csr_pem is not None
    assert await shared_world.say(number, "approve", "ok") == f"Request {number} is approved by bob."
    done = await shared_world.until(number, state=InstallState.COMPLETED)

    assert done.status == CertificateStatus.ISSUED
    assert done.served_fingerprint == done.issued_fingerprint == await served_by(nginx) != before
    assert done.binding == nginx.sites[0].binding_id
    result = await shared_world.workflow(number).result()
    assert result.served_fingerprint == done.issued_fingerprint
    actions = [action for action, _ in told(shared_world, number)]
    assert actions == [
        "request.submitted",
        "key.ready",
        "request.approved",
        "order.placed",
        "certificate.issued",
        "certificate.installed",
    ]
    history = await shared_world.workflow(number).fetch_history()
    assert len(history.events) <= 60
    key = key_file(shared_world, number)
    assert key.stat().st_mode & 0o777 == 0o600
    assert key.parent.stat().st_mode & 0o777 == 0o700
    with shared_world.database.snapshot() as session:
        assert audit.verify(session).finding is None


async def test_search_attributes_and_details_make_the_engine_useful_by_itself(
    shared_world: World, nginx: DisposableNginx, endpoint: str
) -> None:
    number = await shared_world.submit("www.example.org", endpoint=endpoint)
    await shared_world.until(number, state=InstallState.KEY_READY)
    handle = shared_world.workflow(number)
    view = await handle.query("view", result_type=RequestView)
    assert view.waiting_for == "an approver's decision"
    assert "BEGIN CERTIFICATE REQUEST" in str(await handle.query("csr"))
    query = f'CertgateStatus = "REQUESTED" AND CertgateGateway = "local" AND WorkflowId = "request-{number}"'
    found = [row.id async for row in shared_world.client.list_workflows(query)]
    while not found:  # visibility is eventually consistent; the test's time limit is the bound
        found = [row.id async for row in shared_world.client.list_workflows(query)]
    assert found == [f"request-{number}"]
    assert (await shared_world.say(number, "cancel", by="alice")).startswith("Canceled by alice")


async def test_approval_by_signal_as_typed(shared_world: World) -> None:
    number = await shared_world.submit("signal.example.org")
    await shared_world.until(number, state=InstallState.KEY_READY)
    await shared_world.workflow(number).signal("approve", {"administrator": "bob", "comment": "ok"})
    done = await shared_world.until(number, state=InstallState.NOT_CONFIGURED)
    assert done.status == CertificateStatus.ISSUED
    assert [(one.administrator, one.comment) for one in done.decisions] == [("bob", "ok")]


async def test_signals_of_the_wrong_shape_and_refused_words_leave_the_request_as_it_is(shared_world: World) -> None:
    number = await shared_world.submit("shapes.example.org")
    await shared_world.until(number, state=InstallState.KEY_READY)
    handle = shared_world.workflow(number)
    for wrong in ("bob", 42, ["bob"], {"who": "bob"}, {"administrator": {"name": "bob"}}, None):
        await handle.signal("approve", wrong)
    await handle.signal("approve")
    await handle.signal("no such signal", "x")
    for stranger in ("mallory", "alice", ""):
        await handle.signal("approve", {"administrator": stranger})
    await handle.signal("decline", {"administrator": "bob"})
    await handle.signal("retry", {"administrator": "bob"})
    await handle.signal("install", {"administrator": "bob"})
    await wait_until(lambda: [action for action, _ in told(shared_world, number)].count("decision.refused") >= 4)
    assert shared_world.show(number).status == CertificateStatus.REQUESTED
    refused = [outcome for action, outcome in told(shared_world, number) if action == "decision.refused"]
    assert set(refused) == {Outcome.REFUSED}
    await handle.signal("approve", {"administrator": "bob"})
    await shared_world.until(number, state=InstallState.NOT_CONFIGURED)


async def test_updates_are_judged_before_they_are_accepted(shared_world: World) -> None:
    number = await shared_world.submit("updates.example.org")
    await shared_world.until(number, state=InstallState.KEY_READY)
    handle = shared_world.workflow(number)

    async def refused(update: str, word: AdministratorWord) -> str:
        with pytest.raises(WorkflowUpdateFailedError) as caught:
            await handle.execute_update(update, word)
        return str(caught.value.cause)

    assert "somebody else has to approve" in await refused("approve", AdministratorWord("alice"))
    assert "needs the administrator's login" in await refused("approve", AdministratorWord(" "))
    assert "needs a reason" in await refused("decline", AdministratorWord("bob"))
    assert "not an active administrator" in await refused("approve", AdministratorWord("mallory"))
    assert "Nothing failed" in await refused("retry", AdministratorWord("bob"))
    assert "does not await the word to install" in await refused("install", AdministratorWord("bob"))
    assert "privilege" in await refused("cancel", AdministratorWord("mallory"))
    await handle.execute_update("approve", AdministratorWord("bob", "fine"))
    assert "awaits no decision" in await refused("approve", AdministratorWord("admin"))
    await handle.result()


async def test_the_requester_does_not_approve_and_nobody_decides_twice(shared_world: World) -> None:
    number = await shared_world.submit("four-eyes.example.org")
    await shared_world.until(number, state=InstallState.KEY_READY)
    with pytest.raises(NotPermitted, match="somebody else"):
        await shared_world.say(number, "approve", by="alice")
    assert "approve" not in shared_world.show(number).may or shared_world.show(number).requester != "admin"
    await shared_world.say(number, "approve")
    with pytest.raises(Conflict, match="already decided"):
        await shared_world.say(number, "approve")
    with pytest.raises(Conflict, match=r"awaits no decision|ended|already decided"):
        await shared_world.say(number, "decline", "too late", by="admin")
    await shared_world.until(number, state=InstallState.NOT_CONFIGURED)
    with pytest.raises(Conflict):
        await shared_world.say(number, "cancel")
    with shared_world.database.read() as session:
        assert len(session.exec(select(Decision).where(Decision.request_id == number)).all()) == 1


async def test_a_decline_needs_a_reason_and_deletes_the_key(shared_world: World) -> None:
    number = await shared_world.submit("declined.example.org")
    await shared_world.until(number, state=InstallState.KEY_READY)
    assert key_file(shared_world, number).exists()
    with pytest.raises(InvalidInput, match="needs a reason"):
        await shared_world.say(number, "decline")
    await shared_world.say(number, "decline", "wrong team")
    await shared_world.until(number, status=CertificateStatus.DECLINED)
    result = await shared_world.workflow(number).result()
    assert (result.status, result.reason) == (CertificateStatus.DECLINED, "wrong team")
    assert not key_file(shared_world, number).exists()


async def test_cancel_before_the_order(shared_world: World) -> None:
    number = await shared_world.submit("canceled.example.org")
    await shared_world.until(number, state=InstallState.KEY_READY)
    assert await shared_world.say(number, "cancel", "not needed", by="alice") == "Canceled by alice: not needed"
    result = await shared_world.workflow(number).result()
    assert (result.status, result.order_number) == (CertificateStatus.CANCELED, None)
    assert not key_file(shared_world, number).exists()
    assert shared_world.show(number).closed


async def test_the_engines_own_cancel_is_the_same_orderly_cancel(shared_world: World) -> None:
    number = await shared_world.submit("ctl-c.example.org")
    await shared_world.until(number, state=InstallState.KEY_READY)
    await shared_world.workflow(number).cancel()
    with pytest.raises(WorkflowFailureError):
        await shared_world.workflow(number).result()
    assert (await shared_world.workflow(number).describe()).status == WorkflowExecutionStatus.CANCELED
    assert shared_world.show(number).status == CertificateStatus.CANCELED
    assert not key_file(shared_world, number).exists()


async def test_cancel_while_the_order_is_pending_withdraws_it(shared_world: World, tmp_path: Path) -> None:
    manual = await manual_authority(shared_world, "manual-cancel", tmp_path)
    number = await shared_world.submit("pending.example.org", ca=manual)
    await shared_world.until(number, state=InstallState.KEY_READY)
    await shared_world.say(number, "approve")
    await shared_world.until(number, status=CertificateStatus.APPLIED)
    told_to_bob = await shared_world.say(number, "cancel", "changed my mind", by="alice")
    assert "was withdrawn" in told_to_bob
    result = await shared_world.workflow(number).result()
    assert result.status == CertificateStatus.CANCELED
    assert result.order_number is not None
    assert result.order_number in told_to_bob


async def test_cancel_of_an_issued_certificate_says_what_is_left(
    shared_world: World, nginx: DisposableNginx, endpoint: str
) -> None:
    before = await served_by(nginx)
    number = await shared_world.submit("www.example.org", endpoint=endpoint, install=InstallMode.MANUAL)
    await shared_world.until(number, state=InstallState.KEY_READY)
    await shared_world.say(number, "approve")
    ready = await shared_world.until(number, state=InstallState.READY_FOR_INSTALL)
    told_to_alice = await shared_world.say(number, "cancel", by="alice")
    assert ready.issued_fingerprint is not None
    assert ready.issued_fingerprint in told_to_alice
    assert "revoke it" in told_to_alice
    await shared_world.workflow(number).result()
    assert await served_by(nginx) == before


async def test_install_on_the_administrators_word(shared_world: World, nginx: DisposableNginx, endpoint: str) -> None:
    number = await shared_world.submit("api.example.org", endpoint=endpoint, install=InstallMode.MANUAL)
    await shared_world.until(number, state=InstallState.KEY_READY)
    await shared_world.say(number, "approve")
    ready = await shared_world.until(number, state=InstallState.READY_FOR_INSTALL)
    assert "install" in ready.may
    await shared_world.say(number, "install")
    done = await shared_world.until(number, state=InstallState.COMPLETED)
    assert done.served_fingerprint == done.issued_fingerprint


async def test_install_waits_for_the_window_or_an_administrators_word(
    shared_world: World, nginx: DisposableNginx
) -> None:
    # A window that opens once in four years: on 29 February.
    name = f"windowed {nginx.port}"
    await shared_world.endpoint(nginx, name, window_cron="0 3 29 2 *", window_minutes=60)
    number = await shared_world.submit("api.example.org", endpoint=name)
    await shared_world.until(number, state=InstallState.KEY_READY)
    await shared_world.say(number, "approve")
    scheduled = await shared_world.until(number, state=InstallState.SCHEDULED)
    assert scheduled.install_after is not None
    assert (scheduled.install_after.month, scheduled.install_after.day) == (2, 29)
    await shared_world.say(number, "install", "emergency")
    done = await shared_world.until(number, state=InstallState.COMPLETED)
    assert done.served_fingerprint == done.issued_fingerprint


async def test_a_pending_order_is_polled_without_growing_the_history(shared_world: World, tmp_path: Path) -> None:
    manual = await manual_authority(shared_world, "manual-poll", tmp_path)
    number = await shared_world.submit("slow.example.org", ca=manual)
    await shared_world.until(number, state=InstallState.KEY_READY)
    await shared_world.say(number, "approve")
    applied = await shared_world.until(number, status=CertificateStatus.APPLIED)
    handle = shared_world.workflow(number)

    async def polled(times: int) -> None:
        """Until the order was asked for so often."""
        attempts = 0
        while attempts < times:
            pending = (await handle.describe()).raw_description.pending_activities
            attempts = max([one.attempt for one in pending if one.activity_type.name == "orders.collect"], default=0)
            await asyncio.sleep(0.05)

    await polled(2)
    before = len((await handle.fetch_history()).events)
    await polled(3)
    assert len((await handle.fetch_history()).events) == before
    assert applied.order_number is not None
    await opened(shared_world, manual).release(applied.order_number)
    await shared_world.until(number, state=InstallState.NOT_CONFIGURED)


async def test_an_order_that_the_ca_rejects_ends_the_request(shared_world: World, tmp_path: Path) -> None:
    manual = await manual_authority(shared_world, "manual-reject", tmp_path)
    number = await shared_world.submit("rejected.example.org", ca=manual)
    await shared_world.until(number, state=InstallState.KEY_READY)
    await shared_world.say(number, "approve")
    applied = await shared_world.until(number, status=CertificateStatus.APPLIED)
    assert applied.order_number is not None
    await opened(shared_world, manual).reject(applied.order_number, "not one of ours")
    rejected = await shared_world.until(number, status=CertificateStatus.REJECTED)
    assert "not one of ours" in (rejected.reason or "")
    await shared_world.workflow(number).result()
    assert not key_file(shared_world, number).exists()


async def test_a_failed_install_is_retried_without_a_new_order(
    shared_world: World, nginx: DisposableNginx, endpoint: str
) -> None:
    before = await served_by(nginx)
    sound = nginx.configuration.read_text()
    number = await shared_world.submit("www.example.org", endpoint=endpoint)
    await shared_world.until(number, state=InstallState.KEY_READY)
    nginx.configuration.write_text(sound.replace("http {", "http {\n    no_such_directive on;"))
    await shared_world.say(number, "approve")
    failed = await shared_world.until(number, state=InstallState.FAILED)
    assert "no_such_directive" in (failed.reason or "")
    assert failed.may.count("retry") == 1
    assert await served_by(nginx) == before
    nginx.configuration.write_text(sound)
    await shared_world.say(number, "retry", "mended")
    done = await shared_world.until(number, state=InstallState.COMPLETED)
    assert done.order_number == failed.order_number
    assert done.issued_fingerprint == failed.issued_fingerprint == await served_by(nginx)
    actions = [action for action, _ in told(shared_world, number)]
    assert actions.count("order.placed") == 1


async def test_two_requests_for_one_nginx_at_once(shared_world: World, nginx: DisposableNginx, endpoint: str) -> None:
    numbers = [await shared_world.submit(site.name, endpoint=endpoint) for site in nginx.sites]
    for number in numbers:
        await shared_world.until(number, state=InstallState.KEY_READY)
    await asyncio.gather(*(shared_world.say(number, "approve") for number in numbers))
    for number in numbers:
        done = await shared_world.until(number, state=InstallState.COMPLETED)
        assert done.served_fingerprint == done.issued_fingerprint


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"common_name": "not a name"}, "name"),
        ({"common_name": "a.example.org", "names": ["*.*.example.org"]}, "star"),
        ({"common_name": "a.example.org", "names": [f"n{n}.example.org" for n in range(101)]}, "100"),
        ({"common_name": "a.example.org", "endpoint": "no such endpoint"}, "no endpoint"),
        ({"common_name": "a.example.org", "binding": "x:443"}, "without its endpoint"),
        ({"common_name": "a.example.org", "comments": "x" * 1025}, "1024"),
        ({"common_name": "a.example.org", "ca": "nowhere"}, "no CA"),
        ({"common_name": "a.example.org", "profile": "nowhere"}, "no certificate profile"),
        ({"common_name": "a.example.org", "department": "nowhere"}, "no department"),
    ],
)
async def test_bad_input_gets_one_sentence_and_changes_nothing(
    shared_world: World, fields: dict[str, Any], words: str
) -> None:
    before = shared_world.rows(AuditEntry)[-1].sequence
    given = dict(fields)
    with pytest.raises(InvalidInput, match=words) as caught:
        await shared_world.submit(str(given.pop("common_name")), **given)
    assert "\n" not in caught.value.message
    assert shared_world.rows(AuditEntry)[-1].sequence == before


async def manual_authority(world: World, name: str, folder: Path) -> str:
    """A private CA of its own that issues only when it is told to."""
    settings = {"folder": str(folder / name), "manual": True}
    with world.database.write() as session:
        authority = CertificateAuthority(name=name, type="private", settings=settings)
        session.add(authority)
    for anchor in await trust_anchors(authority, world.surroundings):
        with world.database.write() as session:
            session.add(anchor)
    return name


def opened(world: World, name: str) -> PrivateAuthority:
    """That CA, as its owner opens it."""
    with world.database.read() as session:
        row = session.exec(select(CertificateAuthority).where(CertificateAuthority.name == name)).one()
    authority = CONNECTOR.open(CONNECTOR.configure(row.settings), world.surroundings)
    assert isinstance(authority, PrivateAuthority)
    return authority
