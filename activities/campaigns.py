"""Replacement campaigns: which certificates come next, what became of the others, and whose word counts.

The records are the truth about a campaign, so that a lost signal, a manager that was killed, or a workflow that was
ended by force changes nothing: whoever looks next sees what is left to do. Each step may run twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import func, select, update
from sqlmodel import Session, col
from temporalio import activity
from temporalio.common import WorkflowIDConflictPolicy
from temporalio.exceptions import ApplicationError

from activities.failures import as_failures, heartbeating
from activities.records import Records, step_key
from model import access, audit, campaigns, naming
from model.errors import InvalidInput
from model.messages import (
    AdvanceCampaign,
    CampaignItemEnded,
    CampaignSaid,
    CampaignStanding,
    CampaignStart,
    HandedOver,
    HandOver,
    OrderWord,
    RenewalStart,
    SayCampaign,
)
from model.rules import campaigns as rules
from model.states import AccessMethod, CampaignState, CampaignWay, ItemState, OrderWay, Outcome
from model.tables import (
    Administrator,
    Campaign,
    CampaignItem,
    Certificate,
    CertificateRequest,
    Gateway,
    Organization,
)

# A campaign with more certificates under way than this looks at all of them once a minute only; those that ended tell.
_FEW = 500
_WHOLE_LOOK = timedelta(minutes=1)
# An order that nothing was heard of for so long is handed over again.
_LOST_AFTER = timedelta(minutes=2)
_LOOK_AGAIN, _LOOK_AT_PARKED, _LOOK_AT_NOTHING = 60.0, 300.0, 3600.0
_MOST_SPANS = 50
_AT_A_TIME = 10
_MOST_ROUNDS = 20
_LIVE = (CampaignState.RUNNING, CampaignState.PAUSED)


class Campaigns(Records):
    """Steps on the manager for replacement campaigns."""

    @activity.defn(name="campaigns.advance")
    def advance(self, asked: AdvanceCampaign) -> CampaignStanding:
        """Settle what ended, pause when too much failed, and pick whose turn it is."""
        with self.writing() as session:
            campaign = _load(session, asked.campaign_id)
            _guard(campaign)
            look = _Look(self, session, campaign, self._clock())
            look.settle(asked.ended)
            look.judge()
            picked = look.pick() if campaign.state == CampaignState.RUNNING else []
            return look.standing(picked)

    @activity.defn(name="campaigns.hand_over")
    async def hand_over(self, wanted: HandOver) -> HandedOver:
        """Tell the renewal workflow of each certificate to order; one that does not run is started with that word. What
        has a request by now, or was replaced, is not told again."""
        with as_failures():
            async with heartbeating(lambda: f"telling {len(wanted.items)} renewals"):
                orders = await asyncio.to_thread(self._orders, wanted)
                for some in campaigns.portions(orders, _AT_A_TIME):
                    await asyncio.gather(*(_tell_renewal(order) for order in some))
                await asyncio.to_thread(self._handed, wanted)
                return HandedOver(len(orders))

    @activity.defn(name="campaigns.say")
    def say(self, said: SayCampaign) -> CampaignSaid:
        """Judge a word (pause, resume, cancel, change_rate) and do it, told in the audit."""
        with self.writing() as session:
            campaign = _load(session, said.campaign_id)
            if self.told(session, f"campaign.{said.word}"):
                return CampaignSaid(None, _done(said, campaign), campaign.state)
            refused = _refusal(session, campaign, said)
            if refused is None:
                refused = _unfit(campaign, said)
            else:
                self._tell(session, campaign, f"campaign.{said.word}", refused, said.administrator, Outcome.REFUSED)
            if refused is not None:
                return CampaignSaid(refused, state=campaign.state)
            message = _perform(session, campaign, said, self._clock())
            self._tell(session, campaign, f"campaign.{said.word}", message, said.administrator)
            return CampaignSaid(None, message, campaign.state)

    @activity.defn(name="campaigns.stop")
    def stop(self, start: CampaignStart) -> CampaignSaid:
        """The workflow was canceled with Temporal's own cancel: so is the campaign."""
        with self.writing() as session:
            campaign = _load(session, start.campaign_id)
            if campaign.state in _LIVE:
                said = SayCampaign(start.campaign_id, "cancel", "temporal", "canceled with Temporal's own cancel")
                message = _perform(session, campaign, said, self._clock())
                self._tell(session, campaign, "campaign.cancel", message, "temporal")
            return CampaignSaid(None, state=campaign.state)

    def pause(self, session: Session, campaign: Campaign, why: str, now: datetime) -> None:
        """The campaign stops by itself, and people are told."""
        campaign.state, campaign.why, campaign.expected_at = CampaignState.PAUSED, why, None
        told = f"Campaign {campaign.id} ({campaign.name}) paused by itself: {why}"
        self._tell(session, campaign, "campaign.paused", told, outcome=Outcome.FAILED)
        text = f"{why} Look at what failed, then resume the campaign, or cancel it."
        _news(campaign, "campaign.paused", f"Campaign {campaign.name} is paused", text, now)

    def complete(self, session: Session, campaign: Campaign, failed: int, now: datetime) -> None:
        """Nothing is left to do."""
        campaign.state, campaign.ended_at, campaign.expected_at = CampaignState.COMPLETED, now, None
        campaign.why = f"{failed} certificates could not be replaced." if failed else None
        told = f"Campaign {campaign.id} ({campaign.name}) is completed" + (f"; {failed} failed." if failed else ".")
        self._tell(session, campaign, "campaign.completed", told, outcome=Outcome.FAILED if failed else Outcome.DONE)
        text = campaign.why or "All of its certificates are replaced, or were left out for a reason that is told."
        _news(campaign, "campaign.completed", f"Campaign {campaign.name} is completed", text, now)

    def late(self, session: Session, campaign: Campaign, seen: rules.Forecast, now: datetime) -> None:
        """The deadline will be missed at this rate; told once a rate."""
        campaign.late_told = True
        assert seen.deadline_at is not None
        told = f"At this rate it ends at {seen.ends_at:%Y-%m-%d %H:%M} UTC, after its deadline at "
        told += f"{seen.deadline_at:%Y-%m-%d %H:%M} UTC."
        if seen.needed_rate is not None:
            told += f" {seen.needed_rate} an hour would meet it."
        self._tell(session, campaign, "campaign.late", f"Campaign {campaign.id}: {told}", outcome=Outcome.FAILED)
        _news(campaign, "campaign.late", f"Campaign {campaign.name} will miss its deadline", told, now)

    def _tell(
        self,
        session: Session,
        campaign: Campaign,
        action: str,
        description: str,
        actor: str = "certgate",
        outcome: Outcome = Outcome.DONE,
    ) -> bool:
        act = audit.Act(
            actor=actor[:128] or "nobody",
            access_method=AccessMethod.WORKFLOW,
            action=action,
            object_type="campaign",
            object_id=campaign.id,
            organization_id=campaign.organization_id,
            department_id=campaign.department_id,
            description=description,
            outcome=outcome,
            once=step_key(action),
        )
        return audit.append(session, act, self._clock())

    def _orders(self, wanted: HandOver) -> list[_Order]:
        with self.reading() as session:
            campaign = _load(session, wanted.campaign_id)
            starter = session.get(Administrator, campaign.started_by_id or campaign.created_by_id)
            word = OrderWord(
                administrator=starter.login if starter is not None else "",
                way=OrderWay.RENEW if campaign.way == CampaignWay.RENEW else OrderWay.REPLACE,
                reason=campaign.reason or f"campaign {campaign.id}: {campaign.name}",
                campaign_id=campaign.id,
                new_key=True if campaign.new_key else None,
                revocation_reason=campaign.revocation_reason,
                profile_id=campaign.profile_id if campaign.way == CampaignWay.MOVE else None,
            )
            there = campaigns.flying(session, col(CampaignItem.id).in_(wanted.items))
            return [
                _Order(one.certificate_id, word)
                for one in there
                if one.state == ItemState.RUNNING and one.replaced_by_id is None and not one.request_is_new
            ]

    def _handed(self, wanted: HandOver) -> None:
        with self.writing() as session:
            for item in _items(session, wanted.items):
                item.handed_at = item.handed_at or self._clock()
                session.add(item)


@dataclass(frozen=True)
class _Order:
    certificate_id: int
    word: OrderWord


async def _tell_renewal(order: _Order) -> None:
    await activity.client().start_workflow(
        "CertificateRenewal",
        RenewalStart(order.certificate_id),
        id=naming.renewal_workflow(order.certificate_id),
        task_queue=naming.MANAGER_QUEUE,
        id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
        start_signal="order",
        start_signal_args=[order.word],
        static_summary=f"Renewal of certificate {order.certificate_id}",
    )


class _Look:
    """One look at a campaign, within one transaction."""

    def __init__(self, steps: Campaigns, session: Session, campaign: Campaign, now: datetime) -> None:
        self._steps = steps
        self._session = session
        self._campaign = campaign
        self._now = now
        assert campaign.id is not None
        self._id = campaign.id
        self._failed_canary: str | None = None

    def settle(self, ended: Sequence[CampaignItemEnded]) -> None:
        """What became of the certificates that were ordered."""
        problems = {one.certificate_id: one for one in ended if one.problem is not None}
        changes: dict[int, tuple[campaigns.Flying, ItemState, str | None]] = {}
        for one in self._to_look_at({one.certificate_id for one in ended}):
            said = problems.get(one.certificate_id)
            problem = said.problem if said is not None and said.request_id is None and one.handed_at else None
            state, message = rules.standing(one.replaced_by_id, one.request, problem)
            found = one.request is not None and one.request.request_id != one.request_id
            if (state, message) != (one.state, one.message) or found or self._is_lost(one, state):
                changes[one.item_id] = one, state, message
        for item in _items(self._session, list(changes)):
            assert item.id is not None
            one, state, message = changes[item.id]
            if one.request is not None:
                item.request_id = one.request.request_id
            elif self._is_lost(one, state):
                # The word is said again, and whoever heard it already does not order again.
                item.handed_at = None
            self._move(item, state, message)

    def _is_lost(self, one: campaigns.Flying, state: ItemState) -> bool:
        """Whether nothing was heard of an order for so long that its word must have been lost."""
        silent = one.request is None and state == ItemState.RUNNING and one.handed_at is not None
        return silent and one.handed_at is not None and self._now - one.handed_at > _LOST_AFTER

    def judge(self) -> None:
        """Stop when too much failed."""
        campaign = self._campaign
        if campaign.state != CampaignState.RUNNING:
            return
        why = self._failed_canary or rules.must_pause(
            failures=campaign.failures - campaign.failures_before,
            ends=campaign.ends - campaign.ends_before,
            pause_after=campaign.pause_after,
            pause_share=campaign.pause_share,
        )
        if why is not None:
            self._steps.pause(self._session, campaign, why, self._now)

    def pick(self) -> list[int]:
        """The items that are to be ordered now: those whose word did not get out, and whose turn it is."""
        campaign = self._campaign
        unsaid = self._session.scalars(
            select(col(CampaignItem.id)).where(
                col(CampaignItem.campaign_id) == self._id,
                col(CampaignItem.state) == ItemState.RUNNING,
                col(CampaignItem.handed_at).is_(None),
            )
        ).all()
        picked = [number for number in unsaid if number is not None]
        free = campaign.at_once - campaigns.moving(self._session, self._id)
        pace = rules.pace(campaign.next_at, self._now, campaign.rate_per_hour, free)
        taken = 0
        for _ in range(_MOST_ROUNDS):
            coming = self._next(pace.count - taken)
            if not coming:
                break
            for item in self._judged(coming):
                assert item.id is not None
                taken += 1
                picked.append(item.id)
        if taken:
            step = rules.interval(campaign.rate_per_hour)
            campaign.next_at = pace.next_at - (pace.count - taken) * step
        self._session.flush()
        return picked

    def standing(self, picked: list[int]) -> CampaignStanding:
        """Where the campaign stands, and when to look again; a campaign of which nothing is left is completed."""
        campaign = self._campaign
        count = campaigns.counts(self._session, self._id)
        left = sum(count[state] for state in campaigns.OPEN_ITEMS)
        if campaign.state == CampaignState.RUNNING and not left:
            self._steps.complete(self._session, campaign, count[ItemState.FAILED], self._now)
        elif campaign.state == CampaignState.RUNNING:
            self._foresee(left)
        flying = count[ItemState.RUNNING] + count[ItemState.AWAITING_APPROVAL]
        self._session.add(campaign)
        one = campaign.organization_id
        organization = self._session.get(Organization, one) if one is not None else None
        return CampaignStanding(
            state=campaign.state,
            name=campaign.name,
            organization=organization.name if organization is not None else "",
            why=campaign.why,
            over=campaign.state not in _LIVE and not flying,
            total=campaign.total,
            waiting=count[ItemState.WAITING],
            running=count[ItemState.RUNNING],
            awaiting_approval=count[ItemState.AWAITING_APPROVAL],
            done=count[ItemState.DONE],
            failed=count[ItemState.FAILED],
            skipped=count[ItemState.SKIPPED],
            rate_per_hour=campaign.rate_per_hour,
            at_once=campaign.at_once,
            expected_at=campaign.expected_at,
            deadline_at=campaign.deadline_at,
            hand_over=picked,
            wait_seconds=self._wait(count[ItemState.WAITING], flying),
            wake_after=max(1, min(count[ItemState.RUNNING], campaign.at_once) // 8),
        )

    def _to_look_at(self, ended: set[int]) -> list[campaigns.Flying]:
        """All that are under way; of very many, most of the time those only that are said to have ended."""
        campaign = self._campaign
        own = col(CampaignItem.campaign_id) == self._id
        looked = campaign.looked_at
        if looked is not None and self._now - looked < _WHOLE_LOOK and self._many():
            found: list[campaigns.Flying] = []
            for some in campaigns.portions(sorted(ended)):
                found += campaigns.flying(self._session, own, col(CampaignItem.certificate_id).in_(some))
            return found
        campaign.looked_at = self._now
        return campaigns.flying(self._session, own)

    def _many(self) -> bool:
        count = campaigns.counts(self._session, self._id)
        return sum(count[state] for state in campaigns.IN_FLIGHT) > _FEW

    def _move(self, item: CampaignItem, state: ItemState, message: str | None) -> None:
        if item.state == state and item.message == message:
            return
        campaign, before = self._campaign, item.state
        if state != before and state in (ItemState.DONE, ItemState.FAILED):
            item.ended_at = self._now
            campaign.ends += 1
            campaign.failures += state == ItemState.FAILED
            if state == ItemState.FAILED and item.canary:
                name = self._session.get_one(Certificate, item.certificate_id).common_name
                self._failed_canary = f"The canary {name} could not be replaced: {message}"
        elif state != before:
            item.ended_at = None
        item.state, item.message = state, message
        self._session.add(item)

    def _next(self, most: int) -> list[CampaignItem]:
        """Whose turn it is: canaries, until all of them have ended; then the rest, unless their gateway is away."""
        if most <= 0:
            return []
        canaries = select(col(CampaignItem.id)).where(
            col(CampaignItem.campaign_id) == self._id,
            col(CampaignItem.canary),
            col(CampaignItem.state).in_(campaigns.OPEN_ITEMS),
        )
        statement = (
            select(CampaignItem)
            .join(Gateway, col(Gateway.id) == col(CampaignItem.gateway_id))
            .where(
                col(CampaignItem.campaign_id) == self._id,
                col(CampaignItem.state) == ItemState.WAITING,
                campaigns.here(),
            )
            .order_by(col(CampaignItem.position))
            .limit(min(most, campaigns.AT_ONCE))
        )
        if self._session.execute(canaries.limit(1)).first() is not None:
            statement = statement.where(col(CampaignItem.canary))
        return list(self._session.scalars(statement).all())

    def _judged(self, coming: Sequence[CampaignItem]) -> Iterable[CampaignItem]:
        """Those that are ordered now. One that is being renewed already is told of as well: its renewal workflow orders
        nothing beside that, and tells when it has ended. What can't be replaced any more is skipped."""
        campaign = self._campaign
        starter = campaign.started_by_id or campaign.created_by_id
        judged = {
            one.certificate_id: one
            for one in campaigns.candidates(
                self._session,
                campaigns.Target.of(campaign),
                access.grants_of(self._session, starter),
                col(Certificate.id).in_([item.certificate_id for item in coming]),
                campaign_id=self._id,
            )
        }
        newest = self._session.execute(select(func.max(CertificateRequest.id))).scalar_one() or 0
        for item in coming:
            one = judged[item.certificate_id]
            watched = (
                one.obstacle is not None
                and one.obstacle.kind == rules.Kind.OPEN_REQUEST
                and campaign.way != CampaignWay.MOVE
            )
            if one.obstacle is not None and not watched:
                item.state, item.message, item.ended_at = ItemState.SKIPPED, one.obstacle.message, self._now
                self._session.add(item)
                continue
            item.state, item.message, item.picked_at = ItemState.RUNNING, None, self._now
            item.after_request_id, item.ended_at, item.handed_at = newest, None, None
            item.request_id = one.open_request_id if watched else None
            self._session.add(item)
            yield item
        self._session.flush()

    def _foresee(self, left: int) -> None:
        campaign = self._campaign
        statement = (
            select(col(CampaignItem.picked_at), col(CampaignItem.ended_at))
            .where(col(CampaignItem.campaign_id) == self._id, col(CampaignItem.state) == ItemState.DONE)
            .order_by(col(CampaignItem.position).desc())
            .limit(_MOST_SPANS)
        )
        spans = [end - begin for begin, end in self._session.execute(statement).all() if begin and end]
        canaries = select(col(CampaignItem.id)).where(
            col(CampaignItem.campaign_id) == self._id,
            col(CampaignItem.canary),
            col(CampaignItem.state).in_(campaigns.OPEN_ITEMS),
        )
        seen = rules.forecast(
            now=self._now,
            remaining=left,
            rate_per_hour=campaign.rate_per_hour,
            at_once=campaign.at_once,
            each=rules.mean(spans),
            canaries=self._session.execute(canaries.limit(1)).first() is not None,
            deadline_at=campaign.deadline_at,
        )
        campaign.expected_at = seen.ends_at
        if not seen.meets_deadline and not campaign.late_told:
            self._steps.late(self._session, campaign, seen, self._now)

    def _wait(self, waiting: int, flying: int) -> float:
        campaign = self._campaign
        if campaign.state == CampaignState.RUNNING and waiting and campaign.next_at is not None:
            # Also when nothing more may be under way: what came to wait for a person leaves its place to another.
            due = (campaign.next_at - self._now).total_seconds()
            return min(max(due, rules.tick(campaign.rate_per_hour).total_seconds()), _LOOK_AGAIN)
        if flying:
            return _LOOK_AGAIN if campaigns.moving(self._session, self._id) else _LOOK_AT_PARKED
        return _LOOK_AT_NOTHING


def _load(session: Session, campaign_id: int) -> Campaign:
    campaign = session.scalars(select(Campaign).where(col(Campaign.id) == campaign_id).with_for_update()).one_or_none()
    if campaign is None:
        raise ApplicationError(
            f"There is no campaign {campaign_id} in the database.", type="NotFound", non_retryable=True
        )
    return campaign


def _items(session: Session, numbers: Sequence[int]) -> list[CampaignItem]:
    found: list[CampaignItem] = []
    for some in campaigns.portions(list(numbers)):
        found += session.scalars(select(CampaignItem).where(col(CampaignItem.id).in_(some))).all()
    return sorted(found, key=lambda item: item.position)


def _guard(campaign: Campaign) -> None:
    """A campaign is carried through by its own workflow, after somebody who may has started it."""
    assert campaign.id is not None
    own = naming.campaign_workflow(campaign.id)
    if activity.info().workflow_id != own:
        told = f"Campaign {campaign.id} is carried through by {own} and by no other workflow."
    elif campaign.state == CampaignState.DRAFT:
        told = f"Campaign {campaign.id} is a draft: start it with `certgate campaign start {campaign.id}`."
    else:
        return
    raise ApplicationError(told, type="Conflict", non_retryable=True)


def _refusal(session: Session, campaign: Campaign, said: SayCampaign) -> str | None:
    """Why this administrator's word does not count."""
    administrator = access.administrator_of(session, said.administrator)
    if administrator is not None and administrator.active:
        assert administrator.id is not None
        if campaigns.permitted(session, campaign, access.grants_of(session, administrator.id)):
            return None
    wanted = " and ".join(f"'{privilege}'" for privilege in campaigns.Target.of(campaign).privileges)
    doing = "change the rate of" if said.word == "change_rate" else said.word
    return (
        f"{said.administrator[:64]} may not {doing} campaign {campaign.id}: "
        f"the privilege {wanted} for all of its certificates is missing."
    )


def _unfit(campaign: Campaign, said: SayCampaign) -> str | None:
    """Why the word does not fit the campaign's state."""
    state, number = campaign.state, campaign.id
    if state not in _LIVE:
        return f"Campaign {number} is {state}: nothing can be changed about it."
    if said.word == "pause" and state == CampaignState.PAUSED:
        return f"Campaign {number} is paused already."
    if said.word == "resume" and state == CampaignState.RUNNING:
        return f"Campaign {number} is running already."
    if said.word == "change_rate":
        try:
            rules.check_pace(said.rate_per_hour or campaign.rate_per_hour, said.at_once or campaign.at_once)
        except InvalidInput as error:
            return error.message
    return None


def _perform(session: Session, campaign: Campaign, said: SayCampaign, now: datetime) -> str:
    comment = f": {said.comment}" if said.comment else "."
    match said.word:
        case "pause":
            campaign.state, campaign.why = CampaignState.PAUSED, f"Paused by {said.administrator}{comment}"
            campaign.expected_at = None
        case "resume":
            campaign.state, campaign.why, campaign.next_at = CampaignState.RUNNING, None, None
            # Whoever resumes has seen what failed until now.
            campaign.failures_before, campaign.ends_before = campaign.failures, campaign.ends
        case "cancel":
            campaign.state, campaign.why = CampaignState.CANCELED, f"Canceled by {said.administrator}{comment}"
            campaign.ended_at, campaign.expected_at = now, None
            session.execute(
                update(CampaignItem)
                .where(col(CampaignItem.campaign_id) == campaign.id, col(CampaignItem.state) == ItemState.WAITING)
                .values(state=ItemState.SKIPPED, message="The campaign was canceled.", ended_at=now)
                .execution_options(synchronize_session=False)
            )
        case "change_rate":
            campaign.rate_per_hour = said.rate_per_hour or campaign.rate_per_hour
            campaign.at_once = said.at_once or campaign.at_once
            campaign.next_at, campaign.late_told = None, False
        case _:
            raise ApplicationError(f"{said.word} is no word for a campaign.", type="Conflict", non_retryable=True)
    session.add(campaign)
    return _done(said, campaign) + (f" {said.comment}" if said.comment else "")


def _done(said: SayCampaign, campaign: Campaign) -> str:
    number = campaign.id
    match said.word:
        case "pause":
            return f"Campaign {number} is paused by {said.administrator}; what was ordered comes to its end."
        case "resume":
            return f"Campaign {number} is resumed by {said.administrator}."
        case "cancel":
            return f"Campaign {number} is canceled by {said.administrator}; what was ordered comes to its end."
        case _:
            return (
                f"Campaign {number} orders {campaign.rate_per_hour} an hour, {campaign.at_once} at the same time, "
                f"as {said.administrator} wishes."
            )


def _news(campaign: Campaign, kind: str, subject: str, text: str, now: datetime) -> None:
    """What is to be told as a notification, by the manager that looks next."""
    once = f"{kind}/{campaign.id}/{now:%Y%m%dT%H%M%S.%f}"
    campaign.news = [*campaign.news, {"kind": kind, "once": once, "subject": subject, "text": text}]
