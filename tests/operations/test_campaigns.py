"""Choosing certificates for a campaign, and the manager's looks at one; no engine runs."""

from __future__ import annotations

import dataclasses
import uuid
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import insert, update
from sqlmodel import col, select
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

from activities.campaigns import Campaigns
from connectors.notices.settings import NotificationSettings
from model.errors import Conflict, InvalidInput
from model.keys import KeyAlgorithm
from model.messages import AdvanceCampaign, CampaignItemEnded, CampaignStanding, HandOver
from model.naming import campaign_workflow
from model.states import (
    CampaignState,
    CampaignWay,
    CertificateStatus,
    ConnectionStatus,
    InstallState,
    ItemState,
    OrderWay,
    Role,
)
from model.tables import (
    ApprovalPolicy,
    Campaign,
    CampaignItem,
    Certificate,
    CertificateRequest,
    Gateway,
    Notification,
    Organization,
    RoleAssignment,
)
from operations import campaign_upkeep, campaigns
from operations.campaign_selection import Plan, Selection, preview
from tests.operations.conftest import NOW, Records

ALL, PLAN = Selection(everything=True), Plan(rate_per_hour=3600, at_once=5, canaries=0)


def more(records: Records, count: int, **fields: Any) -> list[int]:
    """Further certificates in use, as the first one, but of the whole of Alpha; their numbers."""
    with records.database.write() as session:
        before = session.exec(select(CertificateRequest)).first()
        leaf = session.exec(select(Certificate)).first()
        assert before is not None
        assert leaf is not None
        place = {"organization_id": before.organization_id, "department_id": None, **fields}
        shared = {name: value for name, value in place.items() if name in CertificateRequest.model_fields}
        own = {name: value for name, value in place.items() if name in Certificate.model_fields}
        first = 100 + len(session.exec(select(Certificate.id)).all())
        numbers = [first + number for number in range(count)]
        session.execute(
            insert(CertificateRequest),
            [{**before.model_dump(), "closed": True, **shared, "id": number} for number in numbers],
        )
        session.execute(
            insert(Certificate),
            [
                {
                    **leaf.model_dump(),
                    "id": number,
                    "request_id": number,
                    "common_name": f"n{number}.a.example",
                    "fingerprint": uuid.uuid4().hex * 2,
                    "serial_number": f"{number:x}",
                    **own,
                }
                for number in numbers
            ],
        )
    return numbers


def replacement(records: Records, certificate_id: int, **fields: Any) -> int:
    """A request that replaces a certificate; its number."""
    with records.database.write() as session:
        before = session.exec(select(CertificateRequest)).first()
        assert before is not None
        values = {
            **before.model_dump(exclude={"id"}),
            "renews_certificate_id": certificate_id,
            "order_way": OrderWay.REPLACE,
            "install_state": InstallState.KEY_PROCESSING,
            **fields,
        }
        row = CertificateRequest(**values)
        session.add(row)
        session.flush()
        assert row.id is not None
        return row.id


class Desk:
    """A campaign that runs, and the manager's looks at it, at times that the test says."""

    def __init__(self, records: Records, plan: Plan = PLAN, login: str = "mrao") -> None:
        self.records = records
        self.context = records.acting(login)
        self.number = campaigns.create(self.context, "drill", ALL, plan).row.id
        self.now = NOW
        self.set(state=CampaignState.RUNNING, started_by_id=self.context.actor.id)
        self.steps = Campaigns(records.database, lambda: self.now)
        self.environment = ActivityEnvironment()
        self.looks = 0
        self.workflow_id = campaign_workflow(self.number)

    def set(self, **values: Any) -> None:
        with self.records.database.write() as session:
            session.execute(update(Campaign).where(col(Campaign.id) == self.number).values(**values))

    def look(self, later: timedelta = timedelta(), ended: list[CampaignItemEnded] | None = None) -> CampaignStanding:
        """The next look, some time later."""
        self.now += later
        self.looks += 1
        self.environment.info = dataclasses.replace(
            self.environment.info, workflow_id=self.workflow_id, activity_id=str(self.looks)
        )
        return self.environment.run(self.steps.advance, AdvanceCampaign(self.number, ended or []))

    def handed(self, items: Any) -> None:
        """What `hand_over` writes down when it has told the renewals."""
        self.steps._handed(HandOver(self.number, list(items)))

    def orders(self, items: Any) -> list[int]:
        """Whose renewal `hand_over` would tell."""
        return [order.certificate_id for order in self.steps._orders(HandOver(self.number, list(items)))]

    def states(self) -> dict[int, ItemState]:
        rows = campaigns.items(self.context, self.number).rows
        return {row.certificate_id: row.state for row in rows}


# --- choosing ---------------------------------------------------------------------------------------------------------


def test_each_criterion_keeps_what_it_names(records: Records) -> None:
    with records.database.read() as session:
        beta = session.exec(select(Organization.id).where(Organization.name == "Beta")).one()
    more(records, 3, key_algorithm=KeyAlgorithm.RSA_2048, issuer="CN=Other CA")
    more(records, 2, organization_id=beta, not_before=NOW - timedelta(days=10))
    context = records.acting("mrao")

    def count(selection: Selection) -> int:
        return preview(context, selection, PLAN).replaceable

    assert count(ALL) == 4  # alpha does not serve Beta
    assert preview(context, ALL, PLAN).chosen == 6
    assert count(Selection(key_algorithm=KeyAlgorithm.RSA_2048)) == 3
    assert count(Selection(issuer="CN=Other CA")) == 3
    assert count(Selection(organization="Alpha")) == 4
    assert count(Selection(organization="Alpha", department="Web")) == 1
    assert preview(context, Selection(organization="Beta"), PLAN).hindered[0].kind == "not delegated"
    assert preview(context, Selection(issued_until=NOW - timedelta(days=5)), PLAN).chosen == 2
    assert count(Selection(issued_from=NOW)) == 4
    assert count(Selection(ca="private", gateway="alpha", search="A.EXAMPLE")) == 4
    seen = preview(context, Selection(serials=["0x65", "0:0:66", "ffff", "65"]), PLAN)
    assert (seen.chosen, seen.unknown_serials) == (2, 1)
    assert {share.name for share in campaigns.issuers(context)} > {"CN=Other CA"}
    for wrong in (Selection(), Selection(serials=["xyz"]), Selection(department="Web")):
        with pytest.raises(InvalidInput):
            preview(context, wrong, PLAN)


def test_what_would_happen_is_said_before(records: Records) -> None:
    more(records, 3)
    more(records, 2, status=CertificateStatus.REPLACED, active=False)
    with records.database.write() as session:
        session.execute(update(Gateway).values(told_status=ConnectionStatus.DISCONNECTED))
        session.execute(update(ApprovalPolicy).values(auto_approve_renewals=False, approvals_required=2))
    plan = dataclasses.replace(PLAN, canaries=2, rate_per_hour=1, deadline_seconds=3600)
    seen = preview(records.acting("rao"), ALL, plan)
    assert (seen.chosen, seen.replaceable, [share.count for share in seen.past]) == (4, 4, [2])
    assert [(share.name, share.count) for share in seen.by_endpoint_type] == [("nginx", 4)]
    assert [(share.name, share.count) for share in seen.away] == [("alpha", 4)]
    assert [(one.organization, one.certificates, one.approvals_each) for one in seen.approvals] == [("Alpha", 4, 2)]
    assert [one.common_name for one in seen.canaries] == ["a.example", "n101.a.example"]
    assert not seen.forecast.meets_deadline
    assert seen.forecast.needed_rate == 4


def test_a_draft_is_frozen_and_kept_only_with_the_number_that_was_seen(records: Records) -> None:
    context = records.acting("rao")
    with pytest.raises(Conflict):
        campaigns.create(context, "drill", ALL, PLAN, expected=2)
    detail = campaigns.create(context, "drill", ALL, PLAN, expected=1)
    more(records, 2)
    assert campaigns.show(context, detail.row.id).row.total == 1
    with pytest.raises(InvalidInput):
        campaigns.create(context, " ", ALL, PLAN)
    with pytest.raises(Conflict):
        campaigns.create(context, "drill", Selection(search="nothing of that name"), PLAN)


def test_an_administrator_of_a_department_chooses_nothing_beyond_it(records: Records) -> None:
    more(records, 3)
    drao = records.acting("drao")
    assert preview(drao, ALL, PLAN).chosen == 1
    number = campaigns.create(records.acting("rao"), "all of Alpha", ALL, PLAN).row.id
    assert number not in {row.id for row in campaigns.listing(drao).rows}
    own = campaigns.create(drao, "mine", ALL, PLAN).row.id
    assert own in {row.id for row in campaigns.listing(records.acting("rao")).rows}


def test_revoking_and_renewing_need_their_privileges_as_well(records: Records) -> None:
    with records.database.write() as session:
        row = session.exec(select(RoleAssignment).where(RoleAssignment.role == Role.RAO)).first()
        assert row is not None
        row.privileges = ["replace"]
        session.add(row)
    rao = records.acting("rao")
    assert preview(rao, ALL, PLAN).replaceable == 1
    for more_of in ({"way": CampaignWay.RENEW}, {"revocation_reason": "keyCompromise"}):
        seen = preview(rao, ALL, dataclasses.replace(PLAN, **more_of))
        assert [one.kind for one in seen.hindered] == ["privilege"]
    with pytest.raises(InvalidInput):
        preview(rao, ALL, dataclasses.replace(PLAN, revocation_reason="boredom"))


# --- looking ----------------------------------------------------------------------------------------------------------


def test_a_look_that_is_taken_twice_orders_the_same(records: Records) -> None:
    more(records, 9)
    desk = Desk(records)
    first = desk.look().hand_over
    assert len(first) == 1
    # The process died before the workflow heard of it: the same word again, and no faster than the rate.
    assert list(desk.look().hand_over) == list(first)
    second = desk.look(timedelta(seconds=3)).hand_over
    assert list(first) == list(second)[:1]
    assert len(second) == 4
    desk.handed(second)
    assert desk.look().hand_over == []
    # No more than five at the same time, however late it is.
    assert len(desk.look(timedelta(seconds=10)).hand_over) == 1


def test_a_word_that_was_lost_is_said_again_and_a_request_is_never_doubled(records: Records) -> None:
    desk = Desk(records)
    (item,) = desk.look().hand_over
    assert desk.orders([item]) == [1]
    desk.handed([item])
    assert desk.look(timedelta(minutes=1)).hand_over == []
    assert list(desk.look(timedelta(minutes=2)).hand_over) == [item]
    request_id = replacement(records, 1)
    assert desk.orders([item]) == []
    desk.handed([item])
    assert desk.look(timedelta(minutes=5)).hand_over == []
    assert campaigns.items(desk.context, desk.number).rows[0].request_id == request_id


def test_an_order_that_makes_no_request_has_failed(records: Records) -> None:
    desk = Desk(records, dataclasses.replace(PLAN, pause_after=1))
    desk.handed(desk.look().hand_over)
    told = CampaignItemEnded(1, None, "The certificate is revoked; nothing is to be renewed.")
    standing = desk.look(timedelta(seconds=1), [told])
    assert (standing.state, standing.failed) == (CampaignState.PAUSED, 1)
    assert standing.why == "1 certificate could not be replaced."


def test_what_is_stuck_counts_as_failed_until_somebody_mends_it(records: Records) -> None:
    more(records, 1)
    desk = Desk(records, dataclasses.replace(PLAN, at_once=1, pause_after=0, pause_share=0))
    desk.handed(desk.look().hand_over)
    request_id = replacement(records, 1, install_state=InstallState.ROLLED_BACK, reason="nginx does not start.")
    desk.handed(desk.look(timedelta(seconds=5)).hand_over)
    # It gives its place to the next one.
    assert desk.states() == {1: ItemState.FAILED, 101: ItemState.RUNNING}
    assert [(one.count, one.name) for one in campaigns.show(desk.context, desk.number).failures] == [
        (1, "nginx does not start.")
    ]
    with records.database.write() as session:
        row = session.get_one(CertificateRequest, request_id)
        row.install_state, row.status, row.closed = InstallState.COMPLETED, CertificateStatus.ISSUED, True
        session.add(row)
    desk.look(timedelta(minutes=1))
    assert desk.states()[1] == ItemState.DONE


def test_what_can_not_be_replaced_any_more_is_skipped_with_the_reason(records: Records) -> None:
    more(records, 1)
    desk = Desk(records, login="rao")
    with records.database.write() as session:
        session.execute(
            update(Certificate)
            .where(col(Certificate.id) == 1)
            .values(status="REPLACED", active=False, replaced_by_id=9)
        )
        session.execute(update(RoleAssignment).values(privileges=[]))
    standing = desk.look()
    assert (standing.state, standing.skipped, standing.over) == (CampaignState.COMPLETED, 2, True)
    messages = {row.message for row in campaigns.items(desk.context, desk.number).rows}
    assert messages == {
        "It was replaced by certificate 9 already.",
        "The privilege 'replace' for its organization is missing.",
    }


def test_a_deadline_that_will_be_missed_is_told_once(records: Records) -> None:
    more(records, 30)
    desk = Desk(records, dataclasses.replace(PLAN, rate_per_hour=1))
    desk.set(deadline_at=NOW + timedelta(hours=2))
    assert desk.look().expected_at is not None
    desk.look(timedelta(seconds=30))
    assert campaigns.show(desk.context, desk.number).late
    assert records.audited().count(("campaign.late", "failed")) == 1
    assert campaign_upkeep.tell_news(records.database, NotificationSettings()) == 1
    with records.database.read() as session:
        told = session.exec(select(Notification).where(Notification.kind == "campaign.late")).one()
    assert told.subject == "Campaign drill will miss its deadline"
    assert "an hour would meet it." in told.text


def test_only_its_own_workflow_carries_a_campaign_through(records: Records) -> None:
    desk = Desk(records)
    desk.workflow_id = "campaign-999"
    with pytest.raises(ApplicationError, match="by no other workflow"):
        desk.look()
    desk.workflow_id = campaign_workflow(desk.number)
    desk.set(state=CampaignState.DRAFT)
    with pytest.raises(ApplicationError, match="is a draft"):
        desk.look()
    with records.database.read() as session:
        assert session.exec(select(CampaignItem.picked_at).where(CampaignItem.campaign_id == desk.number)).all() == [
            None
        ]


def test_times_are_those_of_the_look(records: Records) -> None:
    desk = Desk(records)
    desk.look(timedelta(hours=1))
    row = campaigns.items(desk.context, desk.number).rows[0]
    expected: datetime = NOW + timedelta(hours=1)
    assert row.picked_at == expected
