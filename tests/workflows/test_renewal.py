"""Renewals and replacements on somebody's word, and the answer to a campaign."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from sqlmodel import select
from temporalio import workflow
from temporalio.client import WorkflowHandle
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from model import naming
from model.messages import CampaignItemEnded, OrderWord, RenewalStart
from model.states import CertificateStatus, InstallState, OrderWay, Role
from model.tables import Certificate, CertificateRequest
from tests.support.world import World
from workflows.renewal import CertificateRenewalWorkflow


@workflow.defn(name="AnsweredCampaign")
class AnsweredCampaign:
    """Hears one answer and ends with it."""

    def __init__(self) -> None:
        self._heard: CampaignItemEnded | None = None

    @workflow.run
    async def run(self) -> CampaignItemEnded:
        """Wait for it."""
        await workflow.wait_condition(lambda: self._heard is not None)
        assert self._heard is not None
        return self._heard

    @workflow.signal
    def item_ended(self, ended: CampaignItemEnded) -> None:
        """The renewal's answer."""
        self._heard = ended


@pytest_asyncio.fixture(loop_scope="session")
async def campaign(shared_world: World) -> AsyncIterator[WorkflowHandle[AnsweredCampaign, CampaignItemEnded]]:
    """A campaign that waits, under a number of its own."""
    queue = f"campaigns-{uuid.uuid4()}"
    number = uuid.uuid4().int >> 96
    async with Worker(
        shared_world.client,
        task_queue=queue,
        workflows=[AnsweredCampaign],
        workflow_runner=UnsandboxedWorkflowRunner(),
    ):
        handle = await shared_world.client.start_workflow(
            AnsweredCampaign.run, id=naming.campaign_workflow(number), task_queue=queue
        )
        yield handle


def number_of(campaign: WorkflowHandle[AnsweredCampaign, CampaignItemEnded]) -> int:
    """The campaign's number."""
    return int(campaign.id.rpartition("-")[2])


async def in_use(world: World, name: str) -> Certificate:
    """A certificate that is issued and watched over."""
    number = await world.submit(name)
    await world.until(number, state=InstallState.KEY_READY)
    await world.say(number, "approve")
    await world.workflow(number).result()
    return of_request(world, number)


def of_request(world: World, request_id: int) -> Certificate:
    """The certificate of a request."""
    with world.database.read() as session:
        return session.exec(select(Certificate).where(Certificate.request_id == request_id)).one()


def request_of(world: World, certificate_id: int | None) -> CertificateRequest:
    """The request that renews or replaces a certificate."""
    statement = select(CertificateRequest).where(CertificateRequest.renews_certificate_id == certificate_id)
    with world.database.read() as session:
        return session.exec(statement).one()


async def test_an_order_of_a_campaign_replaces_and_is_answered(
    shared_world: World, campaign: WorkflowHandle[AnsweredCampaign, CampaignItemEnded]
) -> None:
    first = await in_use(shared_world, "campaign.example.org")
    word = OrderWord("bob", OrderWay.REPLACE, "the drill", number_of(campaign))
    await shared_world.renewal(first.id).signal(CertificateRenewalWorkflow.order, word)
    answer = await campaign.result()
    request = request_of(shared_world, first.id)
    assert answer == CampaignItemEnded(first.id or 0, request.id, None)
    assert (request.order_way, request.order_reason) == (OrderWay.REPLACE, "the drill")
    assert request.names == ["campaign.example.org"]
    assert of_request(shared_world, request.id or 0).active
    assert (await shared_world.renewal(first.id).result()).step == "stop"


async def test_a_campaign_that_orders_what_is_under_way_is_answered_with_its_end(
    shared_world: World, campaign: WorkflowHandle[AnsweredCampaign, CampaignItemEnded]
) -> None:
    first = await in_use(shared_world, "under-way.example.org")
    renewal = shared_world.renewal(first.id)
    await renewal.execute_update(CertificateRenewalWorkflow.replace, OrderWord("bob", OrderWay.REPLACE))
    await renewal.signal(CertificateRenewalWorkflow.order, OrderWord("bob", campaign_id=number_of(campaign)))
    answer = await campaign.result()
    assert (answer.request_id, answer.problem) == (request_of(shared_world, first.id).id, None)


async def test_a_campaign_hears_why_a_request_came_to_nothing(
    shared_world: World, campaign: WorkflowHandle[AnsweredCampaign, CampaignItemEnded]
) -> None:
    first = await in_use(shared_world, "refused.example.org")
    shared_world.administrator("dave", Role.RAO, ["renew"], first.organization_id)
    word = OrderWord("dave", OrderWay.REPLACE, campaign_id=number_of(campaign))
    await shared_world.renewal(first.id).signal(CertificateRenewalWorkflow.order, word)
    answer = await campaign.result()
    assert answer.problem is not None
    assert "dave may no longer replace certificates" in answer.problem
    assert of_request(shared_world, first.request_id).status == CertificateStatus.ISSUED


async def test_a_campaign_that_comes_too_late_is_told_that_it_is_done(
    shared_world: World, campaign: WorkflowHandle[AnsweredCampaign, CampaignItemEnded]
) -> None:
    first = await in_use(shared_world, "too-late.example.org")
    renewal = shared_world.renewal(first.id)
    await renewal.execute_update(CertificateRenewalWorkflow.replace, OrderWord("bob", OrderWay.REPLACE))
    await renewal.result()
    await shared_world.client.start_workflow(
        CertificateRenewalWorkflow.run,
        RenewalStart(first.id or 0),
        id=naming.renewal_workflow(first.id or 0),
        task_queue=naming.MANAGER_QUEUE,
        start_signal="order",
        start_signal_args=[OrderWord("bob", OrderWay.REPLACE, campaign_id=number_of(campaign))],
    )
    assert await campaign.result() == CampaignItemEnded(first.id or 0, None, None)


@pytest.mark.parametrize("revoked", [True, False])
async def test_the_old_one_is_revoked_only_once_the_new_one_is_in_use(shared_world: World, revoked: bool) -> None:
    first = await in_use(shared_world, f"compromised-{revoked}.example.org".lower())
    word = OrderWord("bob", OrderWay.REPLACE, "key compromised", None, True, "keyCompromise" if revoked else None)
    await shared_world.renewal(first.id).execute_update(CertificateRenewalWorkflow.replace, word)
    await shared_world.renewal(first.id).result()
    if revoked:
        result = await shared_world.client.get_workflow_handle(naming.revocation_workflow(first.id or 0)).result()
        assert result["revoked"]
    old = of_request(shared_world, first.request_id)
    new = of_request(shared_world, request_of(shared_world, first.id).id or 0)
    assert old.replaced_by_id == new.id
    assert new.active
    assert old.status == (CertificateStatus.REVOKED if revoked else CertificateStatus.REPLACED)
    assert old.revocation_reason == ("keyCompromise" if revoked else None)
