"""Replacement campaigns: keep a choice of certificates, and look how it goes.

What may be chosen stands in `operations/campaign_selection.py`, what one says to a campaign in
`operations/campaign_words.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy
from sqlalchemy import ColumnElement, func
from sqlmodel import Session, col, select

from model import campaigns as facts
from model import naming
from model.campaigns import Candidate
from model.errors import Conflict, InvalidInput, NotFound, NotPermitted
from model.rules import campaigns
from model.rules.permissions import Scope
from model.states import CampaignState, CampaignWay, ItemState
from model.tables import (
    Administrator,
    Campaign,
    CampaignItem,
    Certificate,
    CertificateProfile,
    CertificateRequest,
    Department,
    Endpoint,
    Gateway,
    Organization,
)
from operations import lookup
from operations.campaign_selection import Plan, Selection, Share, judge, target_of
from operations.context import Context
from operations.lookup import identity

MOST_SERIALS = 100_000
_LONGEST_NAME, _LONGEST_REASON = 128, 256
_LONGEST_DEADLINE = 400 * 86_400
_MOST_EXAMPLES = 5
_MOST_ISSUERS = 200
_MOST_REASONS = 20


@dataclass(frozen=True)
class CampaignRow:
    """A line of the list of campaigns; `counts` are its certificates by state, `expected_at` is when it should end."""

    id: int
    name: str
    state: CampaignState
    why: str | None
    way: CampaignWay
    created_by: str
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    deadline_at: datetime | None
    expected_at: datetime | None
    rate_per_hour: int
    at_once: int
    total: int
    counts: dict[ItemState, int]

    @property
    def ended(self) -> int:
        """How many certificates nothing more will happen to."""
        return sum(self.counts[state] for state in (ItemState.DONE, ItemState.FAILED, ItemState.SKIPPED))


@dataclass(frozen=True)
class CampaignDetail:
    """Everything about a campaign but its certificates. `criteria` is what was chosen by, `failures` why certificates
    failed with how often, `may` which words the asker may say now."""

    row: CampaignRow
    criteria: dict[str, Any]
    reason: str
    profile: str | None
    new_key: bool
    revocation_reason: str | None
    canaries: list[ItemRow]
    pause_after: int
    pause_share: int
    started_by: str | None
    failures: list[Share]
    late: bool
    may: list[str]
    workflow_id: str


@dataclass(frozen=True)
class ItemRow:
    """One certificate of a campaign."""

    id: int
    position: int
    canary: bool
    certificate_id: int
    common_name: str
    organization: str
    department: str | None
    gateway: str
    endpoint: str | None
    binding: str | None
    state: ItemState
    request_id: int | None
    message: str | None
    picked_at: datetime | None
    ended_at: datetime | None


@dataclass(frozen=True)
class Page:
    """Some campaigns and how many there are in all."""

    rows: list[CampaignRow]
    total: int


@dataclass(frozen=True)
class ItemPage:
    """Some certificates of a campaign and how many there are in all."""

    rows: list[ItemRow]
    total: int


def create(
    context: Context, name: str, selection: Selection, plan: Plan, expected: int | None = None
) -> CampaignDetail:
    """Keep a draft: the certificates are chosen now, and later ones don't come in. `expected` is how many the asker saw
    in the preview. Raises `InvalidInput`, `NotFound`, `NotPermitted`, `Conflict` (nothing can be replaced, or another
    number than expected)."""
    name = name.strip()
    if not name or len(name) > _LONGEST_NAME or not name.isprintable():
        raise InvalidInput(f"A campaign's name has 1 to {_LONGEST_NAME} printable characters.")
    with context.acting("campaign.created", "campaign") as session:
        target = target_of(session, plan)
        for privilege in target.privileges:
            if not any(grant.allows(privilege) for grant in context.actor.grants):
                raise NotPermitted(
                    f"{context.actor.login} may not replace certificates: the privilege '{privilege}' is missing."
                )
        judged = judge(context, session, selection, plan)
        ready = facts.in_turn(judged.ready)
        if not ready:
            raise Conflict("No certificate was chosen that can be replaced: look at the preview for the reasons.")
        if expected is not None and expected != len(ready):
            raise Conflict(f"{len(ready)} certificates can be replaced now, not {expected}: look at the preview again.")
        left_out = [one for one in judged.hindered if one.obstacle is not None and _kept(one.obstacle)]
        scope = _common([*ready, *left_out])
        now = context.clock()
        row = Campaign(
            name=name,
            created_by_id=context.actor.id,
            organization_id=scope.organization_id,
            department_id=scope.department_id,
            criteria=_told(selection),
            way=plan.way,
            reason=plan.reason.strip(),
            profile_id=target.profile_id,
            new_key=plan.new_key,
            revocation_reason=plan.revocation_reason,
            rate_per_hour=plan.rate_per_hour,
            at_once=plan.at_once,
            canaries=min(plan.canaries, len(ready)),
            pause_after=plan.pause_after,
            pause_share=plan.pause_share,
            deadline_seconds=plan.deadline_seconds,
            total=len(ready) + len(left_out),
            created_at=now,
        )
        session.add(row)
        session.flush()
        _freeze(session, row, ready, left_out, now)
        told = f"Campaign {row.id} ({name}) to {plan.way} {len(ready)} certificates was made."
        context.tell(session, "campaign.created", "campaign", told, object_id=row.id, scope=scope)
        number = identity(row)
    return show(context, number)


def listing(
    context: Context, states: Sequence[CampaignState] = (), search: str = "", offset: int = 0, limit: int = 50
) -> Page:
    """Campaigns all of whose certificates the actor may see, the newest first."""
    conditions = [seen(context)]
    if states:
        conditions.append(col(Campaign.state).in_(states))
    if search.strip():
        conditions.append(lookup.contains(context.database, Campaign.name, search.strip()))
    with context.database.read() as session:
        total = session.exec(select(func.count()).select_from(Campaign).where(*conditions)).one()
        found = session.exec(
            select(Campaign, Administrator.login)
            .join(Administrator, col(Administrator.id) == col(Campaign.created_by_id))
            .where(*conditions)
            .order_by(col(Campaign.id).desc())
            .offset(offset)
            .limit(limit)
        ).all()
        return Page([_row(session, row, login) for row, login in found], total)


def show(context: Context, campaign_id: int) -> CampaignDetail:
    """One campaign. Raises `NotFound`."""
    with context.database.read() as session:
        row = visible(context, session, campaign_id)
        profile = session.get(CertificateProfile, row.profile_id) if row.profile_id is not None else None
        starter = session.get(Administrator, row.started_by_id) if row.started_by_id is not None else None
        shown = _row(session, row, session.get_one(Administrator, row.created_by_id).login)
        late = row.deadline_at is not None and row.expected_at is not None and row.expected_at > row.deadline_at
        return CampaignDetail(
            row=shown,
            criteria=dict(row.criteria),
            reason=row.reason,
            profile=profile.name if profile is not None else None,
            new_key=row.new_key,
            revocation_reason=row.revocation_reason,
            canaries=_items(
                session, campaign_id, [col(CampaignItem.canary) == sqlalchemy.true()], 0, campaigns.MOST_CANARIES
            ),
            pause_after=row.pause_after,
            pause_share=row.pause_share,
            started_by=starter.login if starter is not None else None,
            failures=_failures(session, campaign_id),
            late=late,
            may=words(context, session, row, shown.counts),
            workflow_id=naming.campaign_workflow(campaign_id),
        )


def items(
    context: Context,
    campaign_id: int,
    states: Sequence[ItemState] = (),
    search: str = "",
    offset: int = 0,
    limit: int = 100,
) -> ItemPage:
    """The certificates of a campaign, in their turn. `search` looks into common names. Raises `NotFound`."""
    conditions: list[ColumnElement[bool]] = []
    if states:
        conditions.append(col(CampaignItem.state).in_(states))
    if search.strip():
        conditions.append(lookup.contains(context.database, Certificate.common_name, search.strip()))
    with context.database.read() as session:
        visible(context, session, campaign_id)
        total = session.exec(
            select(func.count())
            .select_from(CampaignItem)
            .join(Certificate, col(Certificate.id) == col(CampaignItem.certificate_id))
            .where(CampaignItem.campaign_id == campaign_id, *conditions)
        ).one()
        return ItemPage(_items(session, campaign_id, conditions, offset, limit), total)


def issuers(context: Context) -> list[Share]:
    """Who signed the certificates in use that the actor may see, with how many, the most first."""
    with context.database.read() as session:
        count = func.count()
        statement = (
            select(Certificate.issuer, count)
            .where(
                col(Certificate.active),
                Certificate.issuer != "",
                lookup.seen_by(context.actor, Certificate.organization_id, Certificate.department_id),
            )
            .group_by(col(Certificate.issuer))
            .order_by(count.desc(), col(Certificate.issuer))
            .limit(_MOST_ISSUERS)
        )
        return [Share(issuer, number) for issuer, number in session.exec(statement).all()]


# --- for the other half -----------------------------------------------------------------------------------------------


def seen(context: Context) -> ColumnElement[bool]:
    """A condition that keeps the campaigns of whose certificates the actor may see every one."""
    if context.actor.owns_everything:
        return sqlalchemy.true()
    within = lookup.seen_by(context.actor, CampaignItem.organization_id, CampaignItem.department_id)
    # What is null in it is not seen.
    unseen = sqlalchemy.case((within, 1), else_=0) == 0
    of = col(CampaignItem.campaign_id) == col(Campaign.id)
    return sqlalchemy.exists().where(of) & ~sqlalchemy.exists().where(of, unseen)


def visible(context: Context, session: Session, campaign_id: int, *, locked: bool = False) -> Campaign:
    """One that the actor may see. Raises `NotFound`."""
    statement = select(Campaign).where(Campaign.id == campaign_id, seen(context))
    row = session.exec(statement.with_for_update() if locked else statement).one_or_none()
    if row is None:
        raise NotFound(f"There is no campaign {campaign_id}: `certgate campaign list` shows what there is.")
    return row


def words(context: Context, session: Session, row: Campaign, counts: dict[ItemState, int]) -> list[str]:
    """What the actor may say to a campaign now."""
    if not facts.permitted(session, row, context.actor.grants):
        return []
    again = ["retry"] if counts[ItemState.FAILED] or counts[ItemState.SKIPPED] else []
    return {
        CampaignState.DRAFT: ["start", "cancel"],
        CampaignState.RUNNING: ["pause", "change_rate", "cancel", *again],
        CampaignState.PAUSED: ["resume", "change_rate", "cancel", *again],
        CampaignState.COMPLETED: again,
        CampaignState.CANCELED: [],
    }[row.state]


# --- keeping ----------------------------------------------------------------------------------------------------------


def _kept(obstacle: campaigns.Obstacle) -> bool:
    """Whether a certificate is written down as left out: not what the asker may not replace, nor what never is."""
    return obstacle.kind not in (campaigns.Kind.PRIVILEGE, campaigns.Kind.NOT_IN_USE, campaigns.Kind.REPLACED)


def _freeze(
    session: Session, campaign: Campaign, ready: Sequence[Candidate], left_out: Sequence[Candidate], now: datetime
) -> None:
    rows = [
        {
            "campaign_id": campaign.id,
            "position": position,
            "canary": position < campaign.canaries,
            "certificate_id": one.certificate_id,
            "organization_id": one.organization_id,
            "department_id": one.department_id,
            "gateway_id": one.gateway_id,
            "state": ItemState.WAITING if one.obstacle is None else ItemState.SKIPPED,
            "after_request_id": 0,
            "message": one.obstacle.message if one.obstacle is not None else None,
            "ended_at": now if one.obstacle is not None else None,
        }
        for position, one in enumerate([*ready, *left_out])
    ]
    session.execute(sqlalchemy.insert(CampaignItem), rows)


def _common(chosen: Sequence[Candidate]) -> Scope:
    """The organization, and the department, that all are of."""
    organizations = {one.organization_id for one in chosen}
    if len(organizations) != 1:
        return Scope()
    departments = {one.department_id for one in chosen}
    return Scope(organizations.pop(), departments.pop() if len(departments) == 1 else None)


def _told(selection: Selection) -> dict[str, Any]:
    """What was chosen by, as JSON; of serial numbers, how many."""
    given: dict[str, Any] = {
        "CA": selection.ca,
        "issuer": selection.issuer,
        "key": selection.key_algorithm and str(selection.key_algorithm),
        "organization": selection.organization,
        "department": selection.department,
        "gateway": selection.gateway,
        "search": selection.search.strip(),
        "serial numbers": len(selection.serials),
        "issued from": selection.issued_from and selection.issued_from.isoformat(),
        "issued until": selection.issued_until and selection.issued_until.isoformat(),
    }
    return {name: value for name, value in given.items() if value} or {"everything": True}


# --- rows -------------------------------------------------------------------------------------------------------------


def _row(session: Session, row: Campaign, login: str) -> CampaignRow:
    number = identity(row)
    return CampaignRow(
        id=number,
        name=row.name,
        state=row.state,
        why=row.why,
        way=row.way,
        created_by=login,
        created_at=row.created_at,
        started_at=row.started_at,
        ended_at=row.ended_at,
        deadline_at=row.deadline_at,
        expected_at=row.expected_at,
        rate_per_hour=row.rate_per_hour,
        at_once=row.at_once,
        total=row.total,
        counts=facts.counts(session, number),
    )


def _items(
    session: Session, campaign_id: int, conditions: Sequence[ColumnElement[bool]], offset: int, limit: int
) -> list[ItemRow]:
    statement = (
        sqlalchemy.select(
            CampaignItem,
            col(Certificate.common_name),
            col(Organization.name),
            col(Department.name),
            col(Gateway.name),
            col(Endpoint.name),
            col(CertificateRequest.binding),
        )
        .join(Certificate, col(Certificate.id) == col(CampaignItem.certificate_id))
        .join(CertificateRequest, col(CertificateRequest.id) == col(Certificate.request_id))
        .join(Organization, col(Organization.id) == col(CampaignItem.organization_id))
        .outerjoin(Department, col(Department.id) == col(CampaignItem.department_id))
        .join(Gateway, col(Gateway.id) == col(CampaignItem.gateway_id))
        .outerjoin(Endpoint, col(Endpoint.id) == col(CertificateRequest.endpoint_id))
        .where(col(CampaignItem.campaign_id) == campaign_id, *conditions)
        .order_by(col(CampaignItem.position))
        .offset(offset)
        .limit(limit)
    )
    return [
        ItemRow(
            id=identity(item),
            position=item.position + 1,
            canary=item.canary,
            certificate_id=item.certificate_id,
            common_name=common_name,
            organization=organization,
            department=department,
            gateway=gateway,
            endpoint=endpoint,
            binding=binding,
            state=item.state,
            request_id=item.request_id,
            message=item.message,
            picked_at=item.picked_at,
            ended_at=item.ended_at,
        )
        for item, common_name, organization, department, gateway, endpoint, binding in session.execute(statement).all()
    ]


def _failures(session: Session, campaign_id: int) -> list[Share]:
    """Why certificates failed, the most frequent reason first."""
    count = func.count()
    message = col(CampaignItem.message)
    statement = (
        sqlalchemy.select(message, count)
        .where(col(CampaignItem.campaign_id) == campaign_id, col(CampaignItem.state) == ItemState.FAILED)
        .group_by(message)
        .order_by(count.desc(), message)
        .limit(_MOST_REASONS)
    )
    return [Share(reason or "no reason was told", number) for reason, number in session.execute(statement).all()]
