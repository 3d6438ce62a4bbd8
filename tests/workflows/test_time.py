"""Months in seconds: approvals that nobody gives, and renewals that come due."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest_asyncio
from sqlmodel import col, select
from temporalio.api.enums.v1 import IndexedValueType
from temporalio.api.operatorservice.v1 import AddSearchAttributesRequest
from temporalio.api.testservice.v1 import UnlockTimeSkippingRequest
from temporalio.testing import WorkflowEnvironment

from model.messages import AdministratorWord, RenewalView, RevocationStart
from model.naming import MANAGER_QUEUE, renewal_workflow
from model.states import CertificateStatus, InstallState
from model.tables import ApprovalPolicy, AuditEntry, Certificate, CertificateProfile, CertificateRequest
from tests.support.programs import skipping_server
from tests.support.world import World, wait_until, world
from worker.converter import DATA_CONVERTER
from workflows import attributes
from workflows.renewal import CertificateRenewalWorkflow
from workflows.revocation import CertificateRevocationWorkflow


@pytest_asyncio.fixture(loop_scope="session")
async def skipping(tmp_path: Path) -> AsyncIterator[tuple[World, WorkflowEnvironment]]:
    """A whole certgate whose clock is the time-skipping server's."""
    async with await WorkflowEnvironment.start_time_skipping(
        test_server_existing_path=skipping_server(), data_converter=DATA_CONVERTER
    ) as environment:
        # This server can't list search attributes, only take them; without them every upsert hangs.
        keyword = IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD
        await environment.client.operator_service.add_search_attributes(
            AddSearchAttributesRequest(
                namespace="default", search_attributes={key.name: keyword for key in attributes.ALL}
            )
        )
        loop = asyncio.get_running_loop()
        here = await environment.get_current_time()

        def clock() -> datetime:
            nonlocal here
            try:
                asyncio.get_running_loop()
            except RuntimeError:
                # A step in a thread: the server's own time.
                future = asyncio.run_coroutine_threadsafe(environment.get_current_time(), loop)
                here = future.result().astimezone(UTC)
            return here.astimezone(UTC)

        async with world(tmp_path, environment=environment, clock=clock) as made:
            yield made, environment


async def pass_time(world: World, environment: WorkflowEnvironment, span: timedelta) -> None:
    """Let time go by, half a day at a time, and let what falls due come to its end before more time goes by.

    The test server counts what forbids it to skip time, and forgets to count down when a child that was started by a
    child ends: that is every renewal. We count down in its place, once a renewal, when its workflow has ended.
    """
    done = replaced(world)
    for _ in range(2 * span.days):
        step = asyncio.create_task(environment.sleep(timedelta(hours=12)))
        while not step.done():
            for certificate_id in replaced(world) - done:
                await world.client.get_workflow_handle(renewal_workflow(certificate_id)).result()
                await environment.client.test_service.unlock_time_skipping(UnlockTimeSkippingRequest())
                done.add(certificate_id)
            await asyncio.wait({step}, timeout=0.05)
        await step
        now = await environment.get_current_time()
        await wait_until(lambda now=now: settled(world, now))


def replaced(world: World) -> set[int]:
    """Certificates whose renewal is over."""
    return {row.id for row in world.rows(Certificate) if row.status == CertificateStatus.REPLACED}


def settled(world: World, now: datetime) -> bool:
    """Whether nothing is due or on its way, but for what waits for a person."""
    waits = InstallState.KEY_READY
    if any(not row.closed and row.install_state != waits for row in world.rows(CertificateRequest)):
        return False
    if any(not row.closed for row in world.rows(CertificateRequest)):
        return True
    return all(row.renew_at and row.renew_at > now for row in world.rows(Certificate) if row.active)


def actions(world: World) -> list[str]:
    """All acts told so far."""
    with world.database.read() as session:
        return list(session.exec(select(AuditEntry.action).order_by(col(AuditEntry.sequence))).all())


async def test_a_request_that_nobody_decides_expires_with_few_reminders(
    skipping: tuple[World, WorkflowEnvironment],
) -> None:
    world, environment = skipping
    number = await world.submit("nobody.example.org")
    await world.until(number, state=InstallState.KEY_READY)
    started = await environment.get_current_time()
    await pass_time(world, environment, timedelta(days=31))
    result = await world.workflow(number).result()
    assert result.status == CertificateStatus.CANCELED
    assert "Nobody decided within 30 days" in (result.reason or "")
    assert await environment.get_current_time() - started >= timedelta(days=30)
    assert actions(world).count("approval.reminder") == 4  # after 1, 3, 7 and 15 days
    assert world.show(number).closed
    assert len((await world.workflow(number).fetch_history()).events) < 100


async def test_a_late_approval_still_counts(skipping: tuple[World, WorkflowEnvironment]) -> None:
    world, environment = skipping
    number = await world.submit("late.example.org")
    await world.until(number, state=InstallState.KEY_READY)
    await environment.sleep(timedelta(days=29))
    assert world.show(number).status == CertificateStatus.REQUESTED
    await world.workflow(number).execute_update("approve", AdministratorWord("bob"))
    result = await world.workflow(number).result()
    assert result.status == CertificateStatus.ISSUED


async def issue(world: World, name: str, validity_days: int) -> Certificate:
    """A certificate in use, renewed by itself."""
    with world.database.write() as session:
        profile = session.exec(select(CertificateProfile)).one()
        profile.validity_seconds = validity_days * 86_400
        session.add(profile)
    number = await world.submit(name)
    await world.until(number, state=InstallState.KEY_READY)
    await world.workflow(number).execute_update("approve", AdministratorWord("bob"))
    await world.workflow(number).result()
    return newest(world)


def newest(world: World) -> Certificate:
    """The certificate issued last."""
    with world.database.read() as session:
        return session.exec(select(Certificate).order_by(col(Certificate.id).desc())).first()  # type: ignore[return-value]


async def test_half_a_year_of_47_day_certificates(skipping: tuple[World, WorkflowEnvironment]) -> None:
    world, environment = skipping
    first = await issue(world, "year.example.org", 47)
    await pass_time(world, environment, timedelta(days=182))
    with world.database.read() as session:
        chain = list(session.exec(select(Certificate).order_by(col(Certificate.id))).all())
        requests = list(session.exec(select(CertificateRequest).order_by(col(CertificateRequest.id))).all())
    # Due between 27.4 and 31.3 days of life: 5 or 6 renewals in half a year.
    assert 5 <= len(chain) - 1 <= 7
    for old, new in itertools.pairwise(chain):
        assert old.status == CertificateStatus.REPLACED
        assert old.replaced_by_id == new.id
        assert new.not_before < old.not_after - timedelta(days=13)
        assert requests[old.request_id - 1].key_alias != requests[new.request_id - 1].key_alias
    assert chain[-1].status == CertificateStatus.ISSUED
    assert chain[-1].active
    assert first.id == chain[0].id
    now = await environment.get_current_time()
    view = await world.renewal(chain[-1].id).query(CertificateRenewalWorkflow.view)
    assert view.at is not None
    assert now < view.at < chain[-1].not_after
    assert "It will be renewed on" in view.message


async def test_a_six_day_certificate_never_lapses(skipping: tuple[World, WorkflowEnvironment]) -> None:
    world, environment = skipping
    await issue(world, "short.example.org", 6)
    await pass_time(world, environment, timedelta(days=30))
    now = await environment.get_current_time()
    last = newest(world)
    assert last.not_before <= now < last.not_after
    assert len(world.rows(Certificate)) >= 7


async def test_renewal_on_an_administrators_word_and_the_end_by_revocation(
    skipping: tuple[World, WorkflowEnvironment],
) -> None:
    world, _ = skipping
    first = await issue(world, "asked.example.org", 40)
    handle = world.renewal(first.id)
    view: RenewalView = await handle.execute_update(CertificateRenewalWorkflow.renew, AdministratorWord("bob"))
    assert view.request_id is not None
    await handle.result()
    second = newest(world)
    assert second.id != first.id
    result = await world.client.execute_workflow(
        CertificateRevocationWorkflow.run,
        RevocationStart(second.id or 0, "bob", "superseded", "drill"),
        id=f"revocation-{second.id}",
        task_queue=MANAGER_QUEUE,
    )
    assert result.revoked
    watch = world.renewal(second.id)
    assert (await watch.result()).step == "stop"
    assert newest(world).status == CertificateStatus.REVOKED
    assert "certificate.revoked" in actions(world)


async def test_a_renewal_that_is_declined_rests_and_is_tried_again(
    skipping: tuple[World, WorkflowEnvironment],
) -> None:
    world, environment = skipping
    with world.database.write() as session:
        policy = session.exec(select(ApprovalPolicy)).one()
        policy.auto_approve_renewals = False
        session.add(policy)
    first = await issue(world, "declined.example.org", 47)
    await pass_time(world, environment, timedelta(days=33))
    renewal = world.rows(CertificateRequest)[-1]
    assert renewal.renews_certificate_id == first.id
    await world.workflow(renewal.id).execute_update("decline", AdministratorWord("bob", "not yet"))
    await world.workflow(renewal.id).result()
    await environment.sleep(timedelta(hours=2))
    again = world.rows(CertificateRequest)[-1]
    assert again.id != renewal.id
    assert "renewal.failed" in actions(world)
    await world.until(again.id, state=InstallState.KEY_READY)
    await world.workflow(again.id).execute_update("approve", AdministratorWord("bob"))
    await world.workflow(again.id).result()
    assert newest(world).request_id == again.id
