"""Reads from the records what the rules of `model/rules/campaigns.py` want to know of many certificates at once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, case, false, func, select, true
from sqlmodel import Session, col

from model import access
from model.errors import CertgateError
from model.rules import campaigns, delegation, names, permissions
from model.rules.permissions import Grant, Scope
from model.states import (
    CampaignState,
    CampaignWay,
    CertificateStatus,
    ConnectionStatus,
    ItemState,
    Privilege,
    RequestOrigin,
)
from model.tables import (
    Campaign,
    CampaignItem,
    Certificate,
    CertificateAuthority,
    CertificateProfile,
    CertificateRequest,
    Delegation,
    Endpoint,
    Gateway,
)

ThingT = TypeVar("ThingT")

AT_ONCE = 500
OPEN_ITEMS = (ItemState.WAITING, ItemState.RUNNING, ItemState.AWAITING_APPROVAL)
IN_FLIGHT = (ItemState.RUNNING, ItemState.AWAITING_APPROVAL)


@dataclass(frozen=True)
class Target:
    """What a campaign does. `profile_id` is where it moves certificates to; `revokes`: the old ones are revoked."""

    way: CampaignWay
    profile_id: int | None = None
    revokes: bool = False

    @property
    def privileges(self) -> tuple[Privilege, ...]:
        """What one must be allowed to do wherever one of the certificates is."""
        return campaigns.needed(self.way, revokes=self.revokes)

    @classmethod
    def of(cls, campaign: Campaign) -> Target:
        """What a campaign does that is kept."""
        return cls(campaign.way, campaign.profile_id, campaign.revocation_reason is not None)


@dataclass(frozen=True)
class Candidate:
    """A certificate that may be replaced. `obstacle` is why it can't be; `away`: its gateway is known not to be there;
    `authority` is the CA that would issue. `imported`: it was issued elsewhere, and never approved here."""

    certificate_id: int
    common_name: str
    serial_number: str
    organization_id: int
    department_id: int | None
    gateway_id: int
    gateway: str
    away: bool
    endpoint: str | None
    endpoint_type: str | None
    binding: str | None
    imported: bool
    issued_by: str
    authority: str
    obstacle: campaigns.Obstacle | None
    open_request_id: int | None

    @property
    def scope(self) -> Scope:
        """Where it is."""
        return Scope(self.organization_id, self.department_id)

    @property
    def group(self) -> tuple[int, str | None]:
        """What one canary tells of: a kind of endpoint on one gateway."""
        return self.gateway_id, self.endpoint_type


def candidates(
    session: Session,
    target: Target,
    grants: Sequence[Grant],
    *conditions: ColumnElement[bool],
    campaign_id: int | None = None,
) -> list[Candidate]:
    """Certificates, in the order of their numbers, each with why it can't be replaced by one who holds `grants`.
    `campaign_id` is the campaign that asks, if it is kept already."""
    rows = session.execute(_statement(target.way, campaign_id).where(*conditions)).all()
    serves = _serving(session, {row.gateway_id for row in rows})
    moved = target.way == CampaignWay.MOVE
    to_profile = session.get(CertificateProfile, target.profile_id) if moved and target.profile_id is not None else None
    to_authority = session.get(CertificateAuthority, to_profile.authority_id) if to_profile is not None else None
    needed = " and ".join(f"'{privilege}'" for privilege in target.privileges)
    allowed: dict[Scope, bool] = {}
    found: list[Candidate] = []
    for row in rows:
        scope = Scope(row.organization_id, row.department_id)
        if scope not in allowed:
            allowed[scope] = all(permissions.may(grants, privilege, scope) for privilege in target.privileges)
        authority, active = row.next_authority, row.next_authority_active
        if moved:
            authority = to_authority.name if to_authority is not None else None
            active = to_authority is not None and to_authority.active
        facts = campaigns.Facts(
            way=target.way,
            status=row.status,
            active=row.active,
            replaced_by_id=row.replaced_by_id,
            permitted=allowed[scope],
            needed=needed,
            gateway=row.gateway,
            gateway_gone=row.gateway_key.startswith(access.GONE),
            gateway_active=row.gateway_active,
            gateway_serves=serves(row.gateway_id, row.organization_id, row.department_id),
            authority=authority,
            authority_active=active,
            refused_names=_refused(row.names, to_profile) if to_profile is not None else None,
            open_request_id=row.open_request_id,
            campaign_id=row.campaign_id,
        )
        found.append(
            Candidate(
                certificate_id=row.id,
                common_name=row.common_name,
                serial_number=row.serial_number,
                organization_id=row.organization_id,
                department_id=row.department_id,
                gateway_id=row.gateway_id,
                gateway=row.gateway,
                away=row.told_status == ConnectionStatus.DISCONNECTED,
                endpoint=row.endpoint,
                endpoint_type=row.endpoint_type,
                binding=row.binding,
                imported=row.origin == RequestOrigin.IMPORTED,
                issued_by=row.authority,
                authority=authority or "",
                obstacle=campaigns.obstacle(facts),
                open_request_id=row.open_request_id,
            )
        )
    return found


def in_turn(found: Iterable[Candidate]) -> list[Candidate]:
    """The order in which they are replaced: what is served on endpoints first, one of each kind of endpoint and gateway
    in turn; what is nowhere installed at the end."""
    ready = list(found)
    served = [one for one in ready if one.endpoint_type is not None]
    others = [one for one in ready if one.endpoint_type is None]
    return [one for some in (served, others) for one in campaigns.spread((one.group, one) for one in some)]


@dataclass(frozen=True)
class Flying:
    """An item that is under way, with the request that replaces its certificate: the newest that came after its turn
    did, else the one that was open then. `replaced_by_id` is the certificate that took the place of its own."""

    item_id: int
    certificate_id: int
    state: ItemState
    message: str | None
    request_id: int | None
    handed_at: datetime | None
    replaced_by_id: int | None
    request: campaigns.Replacing | None
    request_is_new: bool


def flying(session: Session, *conditions: ColumnElement[bool]) -> list[Flying]:
    """Items with what became of their certificates, in one statement however many there are."""
    item = CampaignItem
    known = CertificateRequest.__table__.alias("known")  # type: ignore[attr-defined]
    new = CertificateRequest.__table__.alias("new")  # type: ignore[attr-defined]
    # What failed is looked at again while its request is open, and once more when somebody has mended that.
    served = known.c.status.in_(campaigns.ISSUED) & known.c.install_state.in_(campaigns.IN_USE)
    mended = (known.c.closed == false()) | served
    statement = (
        select(
            col(item.id),
            col(item.certificate_id),
            col(item.state),
            col(item.message),
            col(item.request_id),
            col(item.handed_at),
            case((col(Certificate.status) == CertificateStatus.REPLACED, col(Certificate.replaced_by_id))),
            *(of.c[name] for of in (known, new) for name in ("id", "status", "install_state", "closed", "reason")),
        )
        .select_from(item)
        .join(Certificate, col(Certificate.id) == col(item.certificate_id))
        .outerjoin(known, known.c.id == col(item.request_id))
        .outerjoin(
            new, (new.c.renews_certificate_id == col(item.certificate_id)) & (new.c.id > col(item.after_request_id))
        )
        .where(
            col(item.state).in_(IN_FLIGHT) | ((col(item.state) == ItemState.FAILED) & mended),
            *conditions,
        )
        .order_by(col(item.id), new.c.id)
    )
    found: dict[int, Flying] = {}
    for row in session.execute(statement).all():
        before, after = row[7:12], row[12:17]
        chosen = after if after[0] is not None else before
        request = campaigns.Replacing(*chosen) if chosen[0] is not None else None
        number, certificate_id, state, message, request_id, handed_at, replaced_by_id = row[:7]
        found[number] = Flying(
            item_id=number,
            certificate_id=certificate_id,
            state=state,
            message=message,
            request_id=request_id,
            handed_at=handed_at,
            replaced_by_id=replaced_by_id,
            request=request,
            request_is_new=after[0] is not None,
        )
    return list(found.values())


def counts(session: Session, campaign_id: int) -> dict[ItemState, int]:
    """How many items are in which state."""
    state = col(CampaignItem.state)
    statement = select(state, func.count()).where(col(CampaignItem.campaign_id) == campaign_id).group_by(state)
    found: dict[ItemState, int] = dict.fromkeys(ItemState, 0)
    found.update((ItemState(word), count) for word, count in session.execute(statement).all())
    return found


def moving(session: Session, campaign_id: int) -> int:
    """How many are being worked on now: not those that wait for a window, a word or a gateway that is away."""
    statement = (
        select(func.count())
        .select_from(CampaignItem)
        .join(Gateway, col(Gateway.id) == col(CampaignItem.gateway_id))
        .outerjoin(CertificateRequest, col(CertificateRequest.id) == col(CampaignItem.request_id))
        .where(
            col(CampaignItem.campaign_id) == campaign_id,
            col(CampaignItem.state) == ItemState.RUNNING,
            col(CertificateRequest.id).is_(None) | col(CertificateRequest.install_state).not_in(campaigns.PARKED),
            here(),
        )
    )
    return int(session.execute(statement).scalar_one())


def here() -> ColumnElement[bool]:
    """A condition that keeps what is of gateways that are not known to be away; `Gateway` must be joined."""
    return col(Gateway.told_status).is_(None) | (col(Gateway.told_status) != ConnectionStatus.DISCONNECTED)


def permitted(session: Session, campaign: Campaign, grants: Sequence[Grant]) -> bool:
    """Whether one who holds `grants` has the campaign's privileges wherever one of its certificates is."""
    places = select(col(CampaignItem.organization_id), col(CampaignItem.department_id)).distinct()
    rows = session.execute(places.where(col(CampaignItem.campaign_id) == campaign.id)).all()
    return all(
        permissions.may(grants, privilege, Scope(organization, department))
        for organization, department in rows
        for privilege in Target.of(campaign).privileges
    )


def portions(things: Sequence[ThingT], size: int = AT_ONCE) -> Iterator[Sequence[ThingT]]:
    """Pieces that fit into one statement."""
    return (things[start : start + size] for start in range(0, len(things), size))


def _statement(way: CampaignWay, campaign_id: int | None) -> Any:
    renewing = (
        select(func.min(CertificateRequest.id))
        .where(col(CertificateRequest.renews_certificate_id) == col(Certificate.id), ~col(CertificateRequest.closed))
        .correlate(Certificate)
        .scalar_subquery()
    )
    item, campaign = CampaignItem, Campaign
    elsewhere = (
        select(func.min(col(campaign.id)))
        .join(item, col(item.campaign_id) == col(campaign.id))
        .where(
            col(item.certificate_id) == col(Certificate.id),
            col(item.state).in_(OPEN_ITEMS),
            col(campaign.state).in_((CampaignState.RUNNING, CampaignState.PAUSED)),
            col(campaign.id) != (campaign_id or 0),
        )
        .correlate(Certificate)
        .scalar_subquery()
    )
    # As `renewing` reads the table of requests, the one that a certificate came by has a name of its own.
    before = CertificateRequest.__table__.alias("before")  # type: ignore[attr-defined]
    following = CertificateAuthority.__table__.alias("following")  # type: ignore[attr-defined]
    columns = [
        col(Certificate.id),
        col(Certificate.common_name),
        col(Certificate.serial_number),
        col(Certificate.organization_id),
        col(Certificate.department_id),
        col(Certificate.status),
        col(Certificate.active),
        col(Certificate.replaced_by_id),
        before.c.gateway_id,
        before.c.binding,
        before.c.origin,
        col(Gateway.name).label("gateway"),
        col(Gateway.name_key).label("gateway_key"),
        col(Gateway.active).label("gateway_active"),
        col(Gateway.told_status),
        col(Endpoint.name).label("endpoint"),
        col(Endpoint.type).label("endpoint_type"),
        col(CertificateAuthority.name).label("authority"),
        following.c.name.label("next_authority"),
        following.c.active.label("next_authority_active"),
        renewing.label("open_request_id"),
        elsewhere.label("campaign_id"),
        *([before.c.names] if way == CampaignWay.MOVE else []),
    ]
    return (
        select(*columns)
        .select_from(Certificate)
        .join(before, before.c.id == col(Certificate.request_id))
        .join(Gateway, col(Gateway.id) == before.c.gateway_id)
        .join(CertificateAuthority, col(CertificateAuthority.id) == before.c.authority_id)
        .join(CertificateProfile, col(CertificateProfile.id) == before.c.profile_id)
        # As `activities/renewals.py` has it: a CA that was chosen stays chosen, else the profile decides.
        .join(
            following,
            following.c.id
            == case(
                (before.c.authority_chosen == true(), before.c.authority_id),
                else_=col(CertificateProfile.authority_id),
            ),
        )
        .outerjoin(Endpoint, col(Endpoint.id) == before.c.endpoint_id)
        .order_by(col(Certificate.id))
    )


def _serving(session: Session, gateways: Iterable[int]) -> Callable[[int, int, int | None], bool]:
    """Whether a gateway serves an organization or department, without a statement for each certificate."""
    modes: dict[int, Any] = {}
    given: dict[int, list[delegation.Delegated]] = defaultdict(list)
    for some in portions(sorted(gateways)):
        for row in session.scalars(select(Gateway).where(col(Gateway.id).in_(some))).all():
            modes[access.number_of(row)] = (row.active, row.delegation_mode)
        for one in session.scalars(select(Delegation).where(col(Delegation.gateway_id).in_(some))).all():
            given[one.gateway_id].append(delegation.Delegated(one.organization_id, one.department_id))

    @cache
    def serves(gateway_id: int, organization_id: int, department_id: int | None) -> bool:
        active, mode = modes[gateway_id]
        return delegation.serves(
            active=active,
            mode=mode,
            delegations=given[gateway_id],
            organization_id=organization_id,
            department_id=department_id,
        )

    return serves


def _refused(wanted: Sequence[str], profile: CertificateProfile) -> str | None:
    try:
        names.check_allowed(list(wanted), profile.allowed_names)
    except CertgateError as error:
        return error.message
    return None
