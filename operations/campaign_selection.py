"""Which certificates a replacement campaign is about, and what it would do with them: to be seen before it is done."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import sqlalchemy
from sqlalchemy import ColumnElement, func
from sqlmodel import Session, col, select

from connectors.ca.contract import RevocationReason
from model import access
from model import campaigns as facts
from model.campaigns import Candidate, Target
from model.errors import InvalidInput
from model.keys import KeyAlgorithm
from model.rules import approval, campaigns
from model.states import CampaignWay, CertificateStatus
from model.tables import (
    Certificate,
    CertificateAuthority,
    CertificateProfile,
    CertificateRequest,
    Organization,
)
from operations import lookup
from operations.context import Context
from operations.lookup import identity

MOST_SERIALS = 100_000
_LONGEST_NAME, _LONGEST_REASON = 128, 256
_LONGEST_DEADLINE = 400 * 86_400
_MOST_EXAMPLES = 5
_MOST_ISSUERS = 200
_MOST_REASONS = 20


@dataclass(frozen=True)
class Selection:
    """Which certificates; empty fields keep all, and a selection without any field chooses nothing unless `everything`
    says so. `issuer` is a distinguished name as `issuers` tells it; `search` looks into common name, serial number and
    fingerprint; `serials` are serial numbers, hexadecimal, as a CA lists them; `issued_*` bound the begin of the
    validity."""

    ca: str | None = None
    issuer: str | None = None
    key_algorithm: KeyAlgorithm | None = None
    organization: str | None = None
    department: str | None = None
    gateway: str | None = None
    search: str = ""
    serials: Sequence[str] = ()
    issued_from: datetime | None = None
    issued_until: datetime | None = None
    everything: bool = False


@dataclass(frozen=True)
class Plan:
    """What is done with each certificate, and how fast. `profile` (or `ca`, where that has one profile only) is where
    it is moved to. `pause_after` failures pause the campaign, or `pause_share` per cent of those that ended (0: never).
    """

    way: CampaignWay = CampaignWay.REPLACE
    reason: str = ""
    profile: str | None = None
    ca: str | None = None
    new_key: bool = False
    revocation_reason: str | None = None
    rate_per_hour: int = 600
    at_once: int = 20
    canaries: int = 1
    pause_after: int = 5
    pause_share: int = 20
    deadline_seconds: int | None = 86_400


@dataclass(frozen=True)
class Share:
    """How many of the certificates that can be replaced are of this."""

    name: str
    count: int


@dataclass(frozen=True)
class Hindered:
    """Certificates that can't be replaced, and why; the first few of them as examples (``ID common name``)."""

    kind: str
    reason: str
    count: int
    examples: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Approvals:
    """Requests of an organization that people must approve, and how many of them each."""

    organization: str
    certificates: int
    approvals_each: int


@dataclass(frozen=True)
class Named:
    """A certificate by name and place."""

    certificate_id: int
    common_name: str
    gateway: str
    endpoint: str | None
    binding: str | None


@dataclass(frozen=True)
class Preview:
    """What would happen. `away`: gateways that are not connected, with the certificates that wait for them. `past` are
    certificates that fit and are over, and so are not among the chosen."""

    chosen: int
    replaceable: int
    by_ca: list[Share]
    by_organization: list[Share]
    by_gateway: list[Share]
    by_endpoint_type: list[Share]
    hindered: list[Hindered]
    past: list[Share]
    unknown_serials: int
    away: list[Share]
    approvals: list[Approvals]
    canaries: list[Named]
    forecast: campaigns.Forecast


def preview(context: Context, selection: Selection, plan: Plan) -> Preview:
    """What a campaign would do now. Raises `InvalidInput`, `NotFound`."""
    with context.database.read() as session:
        judged = judge(context, session, selection, plan)
        return _described(context, session, judged, plan)


# --- choosing ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Judged:
    """What was chosen: what can be replaced, what can't be, and what is over (`past`, by status)."""

    ready: list[Candidate]
    hindered: list[Candidate]
    past: dict[CertificateStatus, int]
    unknown_serials: int


def judge(context: Context, session: Session, selection: Selection, plan: Plan) -> Judged:
    _check(plan)
    target = target_of(session, plan)
    conditions, serials = _conditions(context, session, selection)
    # Of what is over for long there may be ten times as much as of what is in use: it is counted, unless it is named.
    living = (col(Certificate.status) == CertificateStatus.ISSUED) | col(Certificate.active)
    found: list[Candidate] = []
    if serials:
        for some in facts.portions(serials):
            named = col(Certificate.serial_number).in_(some)
            found += facts.candidates(session, target, context.actor.grants, *conditions, named)
        past: dict[CertificateStatus, int] = {}
    else:
        found = facts.candidates(session, target, context.actor.grants, *conditions, living)
        state = col(Certificate.status)
        over = session.execute(
            sqlalchemy.select(state, func.count())
            .join(CertificateRequest, col(CertificateRequest.id) == col(Certificate.request_id))
            .where(*conditions, ~living)
            .group_by(state)
        ).all()
        past = {CertificateStatus(word): count for word, count in over}
    known = {one.serial_number for one in found}
    return Judged(
        ready=[one for one in found if one.obstacle is None],
        hindered=[one for one in found if one.obstacle is not None],
        past=past,
        unknown_serials=sum(1 for serial in serials if serial not in known),
    )


def _conditions(
    context: Context, session: Session, selection: Selection
) -> tuple[list[ColumnElement[bool]], list[str]]:
    actor = context.actor
    found = [lookup.seen_by(actor, Certificate.organization_id, Certificate.department_id)]
    of = select(CertificateRequest.id)
    if selection.ca:
        authority = lookup.authority(session, selection.ca)
        found.append(col(Certificate.request_id).in_(of.where(CertificateRequest.authority_id == authority.id)))
    if selection.issuer:
        found.append(col(Certificate.issuer) == selection.issuer)
    if selection.key_algorithm:
        kind = CertificateRequest.key_algorithm == selection.key_algorithm
        found.append(col(Certificate.request_id).in_(of.where(kind)))
    if selection.department and not selection.organization:
        raise InvalidInput("A department was given without its organization: name the organization too.")
    if selection.organization:
        organization = lookup.organization(session, actor, selection.organization)
        found.append(col(Certificate.organization_id) == organization.id)
        if selection.department:
            department = lookup.department(session, actor, organization, selection.department)
            found.append(col(Certificate.department_id) == department.id)
    if selection.gateway:
        gateway = lookup.gateway(session, actor, selection.gateway)
        found.append(col(Certificate.request_id).in_(of.where(CertificateRequest.gateway_id == gateway.id)))
    if selection.search.strip():
        found.append(_like(context, selection.search.strip()))
    if selection.issued_from:
        found.append(col(Certificate.not_before) >= selection.issued_from)
    if selection.issued_until:
        found.append(col(Certificate.not_before) < selection.issued_until)
    serials = list(dict.fromkeys(_serial(word) for word in selection.serials))
    if len(serials) > MOST_SERIALS:
        raise InvalidInput(f"At most {MOST_SERIALS:,} serial numbers are looked for at once, not {len(serials):,}.")
    if len(found) == 1 and not serials and not selection.everything:
        raise InvalidInput("Say which certificates: by CA, issuer, key, organization, gateway, name or serial number.")
    return found, serials


def _like(context: Context, sought: str) -> ColumnElement[bool]:
    digits = sought.replace(":", "").lower()
    return (
        lookup.contains(context.database, Certificate.common_name, sought)
        | col(Certificate.serial_number).contains(digits, autoescape=True)
        | col(Certificate.fingerprint).contains(digits, autoescape=True)
    )


def _serial(word: str) -> str:
    """A serial number as it is kept: lower-case hexadecimal. Raises `InvalidInput`."""
    digits = word.strip().lower().removeprefix("0x").replace(":", "").replace(" ", "")
    try:
        return f"{int(digits, 16):x}"
    except ValueError:
        raise InvalidInput(f"{word.strip()[:64]!r} is no hexadecimal serial number.") from None


def _check(plan: Plan) -> None:
    """Raises `InvalidInput` for a plan that is no use."""
    campaigns.check_pace(plan.rate_per_hour, plan.at_once)
    if not 0 <= plan.canaries <= campaigns.MOST_CANARIES:
        raise InvalidInput(f"A campaign has 0 to {campaigns.MOST_CANARIES} canaries, not {plan.canaries}.")
    if plan.pause_after < 0 or not 0 <= plan.pause_share <= 100:
        raise InvalidInput("A campaign pauses after a number of failures, or a share of 0 to 100 per cent.")
    if plan.deadline_seconds is not None and not 60 <= plan.deadline_seconds <= _LONGEST_DEADLINE:
        raise InvalidInput("A deadline is a minute to 400 days after the start.")
    if len(plan.reason) > _LONGEST_REASON or not plan.reason.isprintable():
        raise InvalidInput(f"A reason has at most {_LONGEST_REASON} printable characters.")
    reasons = [str(word) for word in RevocationReason]
    if plan.revocation_reason is not None and plan.revocation_reason not in reasons:
        raise InvalidInput(
            f"{plan.revocation_reason!r} is no reason for a revocation: use one of {', '.join(reasons)}."
        )


def target_of(session: Session, plan: Plan) -> Target:
    """What is done; a profile or a CA is named to move to, and only then. Raises `InvalidInput`, `NotFound`."""
    revokes = plan.revocation_reason is not None
    if plan.way != CampaignWay.MOVE:
        if plan.profile or plan.ca:
            raise InvalidInput("A profile or CA to move to was named, but the certificates are not to be moved.")
        return Target(plan.way, revokes=revokes)
    if plan.profile:
        profile = lookup.profile(session, plan.profile)
        authority = session.get_one(CertificateAuthority, profile.authority_id)
        if plan.ca and lookup.authority(session, plan.ca).id != authority.id:
            raise InvalidInput(f"Profile {profile.name} is of CA {authority.name}, not of {plan.ca}.")
        return Target(plan.way, identity(profile), revokes)
    if not plan.ca:
        raise InvalidInput("Say where the certificates are moved to: name a profile, or a CA that has one profile.")
    authority = lookup.authority(session, plan.ca)
    theirs = select(CertificateProfile).where(CertificateProfile.authority_id == authority.id)
    profiles = session.exec(theirs.order_by(col(CertificateProfile.id))).all()
    if len(profiles) != 1:
        names = ", ".join(profile.name for profile in profiles) or "none"
        raise InvalidInput(f"CA {authority.name} has not one profile ({names}): name the profile to move to.")
    return Target(plan.way, identity(profiles[0]), revokes)


# --- describing -------------------------------------------------------------------------------------------------------


def _described(context: Context, session: Session, judged: Judged, plan: Plan) -> Preview:
    ready = facts.in_turn(judged.ready)
    names = _names(session, {one.organization_id for one in ready})
    now = context.clock()
    deadline = now + timedelta(seconds=plan.deadline_seconds) if plan.deadline_seconds else None
    away = Counter(one.gateway for one in ready if one.away)
    return Preview(
        chosen=len(judged.ready) + len(judged.hindered),
        replaceable=len(ready),
        by_ca=_shares(one.issued_by for one in ready),
        by_organization=_shares(names[one.organization_id] for one in ready),
        by_gateway=_shares(one.gateway for one in ready),
        by_endpoint_type=_shares(one.endpoint_type or "nothing installed" for one in ready),
        hindered=_hindered(judged),
        past=[Share(str(status).lower(), count) for status, count in judged.past.items()],
        unknown_serials=judged.unknown_serials,
        away=[Share(name, count) for name, count in away.most_common()],
        approvals=_approvals(context, session, ready, names),
        canaries=[
            Named(one.certificate_id, one.common_name, one.gateway, one.endpoint, one.binding)
            for one in ready[: plan.canaries]
        ],
        forecast=campaigns.forecast(
            now=now,
            remaining=len(ready),
            rate_per_hour=plan.rate_per_hour,
            at_once=plan.at_once,
            each=campaigns.USUAL,
            canaries=0 < plan.canaries < len(ready),
            deadline_at=deadline,
        ),
    )


def _shares(names: Iterable[str]) -> list[Share]:
    return [Share(name, count) for name, count in Counter(names).most_common()]


def _hindered(judged: Judged) -> list[Hindered]:
    """By reason. Where the sentences differ from one certificate to the next, one sentence stands for all of them."""
    groups: dict[tuple[campaigns.Kind, str], list[Candidate]] = defaultdict(list)
    alike = (campaigns.Kind.OPEN_REQUEST, campaigns.Kind.REPLACED, campaigns.Kind.NAMES)
    for one in judged.hindered:
        assert one.obstacle is not None
        words = "" if one.obstacle.kind in alike else one.obstacle.message
        groups[one.obstacle.kind, words].append(one)
    found = []
    for (kind, words), members in groups.items():
        examples = [f"{one.certificate_id} {one.common_name}" for one in members[:_MOST_EXAMPLES]]
        first = members[0].obstacle
        assert first is not None
        told = words or (first.message if len(members) == 1 else _ALIKE[kind])
        found.append(Hindered(kind, told, len(members), examples))
    return sorted(found, key=lambda one: -one.count)


_ALIKE = {
    campaigns.Kind.OPEN_REQUEST: "A request that renews it is open already: let it end, or cancel it.",
    campaigns.Kind.REPLACED: "Another certificate has replaced it already.",
    campaigns.Kind.NAMES: "The profile to move to does not allow all of its names.",
}


def _approvals(
    context: Context, session: Session, ready: Sequence[Candidate], names: dict[int, str]
) -> list[Approvals]:
    """As the requests will be judged (`activities/admission.py`): a renewal of what was approved may need nobody."""
    found: Counter[tuple[int, int]] = Counter()
    rules = {number: access.rules_of(access.policy_for(session, number)) for number in names}
    for one in ready:
        policy = rules[one.organization_id]
        automatic = approval.automatic(
            policy, renewal=True, same_names=not one.imported, requester=context.actor.grants, scope=one.scope
        )
        if automatic is None:
            found[one.organization_id, max(1, policy.approvals_required)] += 1
    return [Approvals(names[number], count, each) for (number, each), count in found.most_common()]


def _names(session: Session, organizations: Iterable[int]) -> dict[int, str]:
    rows = session.exec(select(Organization).where(col(Organization.id).in_(set(organizations)))).all()
    return {identity(row): row.name for row in rows}
