"""Certificate authorities: which there are, whether they answer, and the orders of a private one."""

from __future__ import annotations

import ipaddress
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

from sqlalchemy import func
from sqlmodel import Session, col, select

from connectors import registry
from connectors.ca.contract import (
    CancelsOrders,
    DecidesOrders,
    Detail,
    FindsOrders,
    GivesRenewalInformation,
    Health,
    KnowsStanding,
    ListsCertificates,
    OffersProfiles,
    OpenOrder,
    ProfileOffer,
    RenewsCertificates,
    ReplacesCertificates,
    ShowsTrustAnchors,
)
from connectors.errors import ConnectorError, Permanent
from connectors.registry import Surroundings
from model import messages, naming
from model.errors import Conflict, InvalidInput, Unavailable
from model.tables import CertificateAuthority, CertificateProfile, CertificateRequest
from operations import asking, lookup
from operations.bootstrap import trust_anchors
from operations.context import Context
from operations.endpoints import checked_settings
from operations.lookup import identity
from operations.organizations import checked_name, refuse_if_used
from operations.trust import keep
from workflows.looks import AuthorityCheckWorkflow

ReachedFrom = Literal["manager", "gateway"]
_ABILITIES: Mapping[type[Any], str] = {
    FindsOrders: "finds an order again",
    CancelsOrders: "withdraws orders",
    RenewsCertificates: "renews within its own records",
    ReplacesCertificates: "reissues within an order",
    GivesRenewalInformation: "tells when to renew",
    KnowsStanding: "tells what is revoked",
    ListsCertificates: "lists what it has issued",
    OffersProfiles: "tells its profiles",
    ShowsTrustAnchors: "shows its roots",
    DecidesOrders: "lets its owner decide orders",
}
DECIDES = _ABILITIES[DecidesOrders]
OFFERS = _ABILITIES[OffersProfiles]


@dataclass(frozen=True)
class AuthorityRow:
    """A line of the list. Settings are told to MRAOs only; they hold references to credentials, never these."""

    id: int
    name: str
    type: str
    reached_from: str
    is_private: bool
    active: bool
    settings: dict[str, Any] = field(default_factory=dict)
    networks: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class NewAuthority:
    """What a CA is made of. Settings are the connector's own, as words: lists and numbers as JSON."""

    name: str
    type: str
    settings: Mapping[str, str] = field(default_factory=dict)
    reached_from: ReachedFrom = "manager"
    is_private: bool = True


def types() -> dict[str, str]:
    """The CA types that are installed here: name and title."""
    return {name: kind.title for name, kind in registry.installed("cas").items()}


def listing(context: Context) -> list[AuthorityRow]:
    """All CAs, by name; everybody who may ask for certificates has to know them."""
    with context.database.read() as session:
        rows = session.exec(select(CertificateAuthority).order_by(col(CertificateAuthority.name))).all()
        return [_row(context, row) for row in rows]


def show(context: Context, which: str | int) -> AuthorityRow:
    """One CA. Raises `NotFound`."""
    with context.database.read() as session:
        return _row(context, lookup.authority(session, which))


async def add(context: Context, new: NewAuthority, surroundings: Surroundings) -> AuthorityRow:
    """Add a CA; the roots of a private one that can show them are trusted from then on.

    Raises `InvalidInput`, `Conflict` (name), `Unavailable` (its roots can't be fetched), `NotPermitted`.
    """
    with context.acting("ca.added", "ca") as session:
        context.require_owner("add CAs")
        row = _new(session, new)
    anchors = []
    if new.is_private and new.reached_from == "manager":
        async with _told():
            anchors = await trust_anchors(row, surroundings)
    with context.acting("ca.added", "ca") as session:
        _refuse_twin(session, row.name)
        session.add(row)
        session.flush()
        context.tell(session, "ca.added", "ca", f"CA {row.name} ({row.type}) was added.", object_id=row.id)
        keep(context, session, anchors)
        return _row(context, row)


def edit(
    context: Context,
    which: str | int,
    *,
    settings: Mapping[str, str] | None = None,
    reached_from: ReachedFrom | None = None,
    active: bool | None = None,
    networks: Sequence[str] | None = None,
    seen: AuthorityRow | None = None,
) -> AuthorityRow:
    """Change a CA: `settings` are laid over those that are set, an empty word takes one back to its default; `networks`
    (CIDR) are those in which its OCSP responders and CRLs may be besides public addresses; `seen` is the CA as the
    change was made up. Raises `NotFound`, `InvalidInput`, `Conflict` (somebody else changed it
    meanwhile), `NotPermitted`."""
    with context.acting("ca.edited", "ca") as session:
        context.require_owner("edit CAs")
        row = lookup.authority(session, which)
        name = row.name
        if seen is not None and _row(context, row) != seen:
            raise Conflict(f"CA {name} was edited meanwhile by somebody else: look at it again.")
        if settings is not None:
            row.settings = checked_settings("cas", row.type, settings, row.settings)
        row.reached_from = reached_from or row.reached_from
        if networks is not None:
            row.networks = [_network(one) for one in networks]
        changed = active is not None and active != row.active
        if active is not None:
            row.active = active
        session.add(row)
        told = f"CA {name} was {'switched ' + ('on' if row.active else 'off') if changed else 'edited'}."
        context.tell(session, "ca.edited", "ca", told, object_id=row.id)
        return _row(context, row)


def remove(context: Context, which: str | int) -> None:
    """Remove a CA that no profile and no request names; else switch it off. Raises `NotFound`, `Conflict`,
    `NotPermitted`."""
    with context.acting("ca.removed", "ca") as session:
        context.require_owner("remove CAs")
        row = lookup.authority(session, which)
        number, name = identity(row), row.name
        profiles = select(func.count()).where(CertificateProfile.authority_id == number)
        requests = select(func.count()).where(CertificateRequest.authority_id == number)
        uses = {"certificate profile": session.exec(profiles).one(), "request": session.exec(requests).one()}
        refuse_if_used(f"CA {name}", uses)
        session.delete(row)
        context.tell(session, "ca.removed", "ca", f"CA {name} was removed.", object_id=number)


async def check(
    context: Context, which: str | int, surroundings: Surroundings, gateway: str | int | None = None
) -> Health:
    """Ask the CA, without buying anything, whether it can be used: from here, or from a gateway, which one that only
    gateways reach needs. Raises `NotFound`, `Unavailable` (no gateway is named, or it does not answer),
    `NotPermitted`."""
    row = _owned(context, which, "ca.checked", "check CAs")
    if gateway is None:
        return await health_of(row, surroundings)
    with context.database.read() as session:
        asked = identity(lookup.gateway(session, context.actor, gateway))
    health = await asking.ask(
        context,
        AuthorityCheckWorkflow.run,
        messages.AuthorityCheckStart(identity(row), asked, context.actor.described),
        workflow_id=naming.authority_check_workflow(identity(row), asked),
        summary=f"Check of CA {row.name}",
    )
    return Health(health.usable, health.message, [Detail(one.label, one.text) for one in health.details])


async def health_of(row: CertificateAuthority, surroundings: Surroundings) -> Health:
    """What a CA answers; a connector that fails is not usable. Raises `Unavailable` where only gateways reach it."""
    _require_reached(row)
    try:
        kind = registry.find("cas", row.type)
        health: Health = await kind.open(kind.configure(row.settings), surroundings).check()
        return health
    except ConnectorError as error:
        return Health(False, error.message)


async def orders(context: Context, name: str, surroundings: Surroundings) -> list[OpenOrder]:
    """The orders of a CA at whose side we may decide, by number. Raises `NotFound`, `InvalidInput` (not such a CA),
    `Unavailable`, `NotPermitted`."""
    owned = _deciding(_owned(context, name, "ca.orders", "look at the orders of CAs"), surroundings)
    async with _told():
        return list(await owned.orders())


async def profiles(context: Context, which: str | int, surroundings: Surroundings) -> list[ProfileOffer]:
    """The kinds of certificates that a CA offers; empty where it does not tell. Raises `NotFound`, `Unavailable`,
    `NotPermitted`."""
    row = _owned(context, which, "ca.profiles", "look at what CAs offer")
    _require_reached(row)
    opened = _opened(row, surroundings)
    if not isinstance(opened, OffersProfiles):
        return []
    async with _told():
        return list(await opened.profiles())


def abilities(context: Context, which: str | int, surroundings: Surroundings) -> list[str]:
    """What a CA can do besides issuing, collecting and revoking, in words; nothing is asked of it. Empty for a CA whose
    type or settings are not understood here. Raises `NotFound`, `NotPermitted`."""
    row = _owned(context, which, "ca.abilities", "look at what CAs can do")
    try:
        opened = _opened(row, surroundings)
    except InvalidInput:
        return []
    return [words for protocol, words in _ABILITIES.items() if isinstance(opened, protocol)]


async def release(context: Context, name: str, order_number: str, surroundings: Surroundings) -> None:
    """Let a private CA issue a pending order. Raises `NotFound`, `InvalidInput`, `Conflict` (not pending),
    `NotPermitted`."""
    row = _owned(context, name, "ca.order_released", "release orders")
    async with _told(Conflict):
        await _deciding(row, surroundings).release(order_number)
    with context.acting("ca.order_released", "ca") as session:
        told = f"Order {order_number} of CA {name} was released."
        context.tell(session, "ca.order_released", "ca", told, object_id=row.id)


async def reject(context: Context, name: str, order_number: str, reason: str, surroundings: Surroundings) -> None:
    """Refuse a pending order of a private CA. Raises as `release`, and `InvalidInput` without a reason."""
    if not reason.strip():
        raise InvalidInput("An order is rejected with a reason.")
    row = _owned(context, name, "ca.order_rejected", "reject orders")
    async with _told(Conflict):
        await _deciding(row, surroundings).reject(order_number, reason)
    with context.acting("ca.order_rejected", "ca") as session:
        told = f"Order {order_number} of CA {name} was rejected: {reason.strip()[:500]}"
        context.tell(session, "ca.order_rejected", "ca", told, object_id=row.id)


@asynccontextmanager
async def _told(permanent: type[Conflict] | type[InvalidInput] = InvalidInput) -> AsyncIterator[None]:
    """A connector's errors as ours."""
    try:
        yield
    except Permanent as error:
        raise permanent(error.message) from error
    except ConnectorError as error:
        raise Unavailable(error.message) from error


def _owned(context: Context, which: str | int, action: str, doing: str) -> CertificateAuthority:
    if not context.actor.owns_everything:
        with context.acting(action, "ca"):
            context.require_owner(doing)
    with context.database.read() as session:
        return lookup.authority(session, which)


def _opened(row: CertificateAuthority, surroundings: Surroundings) -> Any:
    try:
        kind = registry.find("cas", row.type)
        return kind.open(kind.configure(row.settings), surroundings)
    except Permanent as error:
        raise InvalidInput(error.message) from None


def _deciding(row: CertificateAuthority, surroundings: Surroundings) -> DecidesOrders:
    opened = _opened(row, surroundings)
    if not isinstance(opened, DecidesOrders):
        raise InvalidInput(f"CA {row.name} is of type {row.type}: its orders are decided there, not here.")
    _require_reached(row)
    return opened


def _require_reached(row: CertificateAuthority) -> None:
    if row.reached_from != "manager":
        raise Unavailable(f"CA {row.name} is reached from gateways only: name the gateway that shall ask it.")


def _new(session: Session, new: NewAuthority) -> CertificateAuthority:
    name = checked_name(new.name, "A CA's name")
    _refuse_twin(session, name)
    return CertificateAuthority(
        name=name,
        type=new.type,
        settings=checked_settings("cas", new.type, new.settings),
        reached_from=new.reached_from,
        is_private=new.is_private,
    )


def _network(given: str) -> str:
    try:
        return str(ipaddress.ip_network(given.strip()))
    except ValueError:
        raise InvalidInput(f"{given!a} is no network: write it as 10.0.0.0/8 or fd00::/8.") from None


def _refuse_twin(session: Session, name: str) -> None:
    if session.exec(select(CertificateAuthority.id).where(CertificateAuthority.name == name)).first() is not None:
        raise Conflict(f"There is a CA {name!r} already.")


def _row(context: Context, row: CertificateAuthority) -> AuthorityRow:
    return AuthorityRow(
        id=identity(row),
        name=row.name,
        type=row.type,
        reached_from=row.reached_from,
        is_private=row.is_private,
        active=row.active,
        settings=dict(row.settings) if context.actor.owns_everything else {},
        networks=list(row.networks) if context.actor.owns_everything else [],
    )
