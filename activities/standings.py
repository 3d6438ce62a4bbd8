"""What CAs say of certificates that are in use: when to renew them, and whether they still stand by them."""

from __future__ import annotations

import asyncio
import ipaddress
from collections import OrderedDict
from datetime import timedelta

from temporalio import activity

from activities.failures import as_failures, heartbeating
from activities.orders import Orders
from connectors.ca.contract import (
    CertificateAuthority,
    GivesRenewalInformation,
    HeldCertificate,
    KnowsStanding,
    RenewalInformation,
)
from connectors.ca.standing import Publications, Published
from connectors.errors import AuthorityFault, ConnectorError, Retryable
from connectors.registry import Surroundings
from connectors.web import Addresses
from model.messages import AskAuthority, AskedCertificate, Finding, SeenStanding, SeenWindow

# So many questions at once; more gain little, and a CA counts them.
_AT_ONCE = 8
# After so many in a row without an answer the CA is away, and the others wait for the next round.
_AWAY_AFTER = 5
_KEPT_OPEN = 8


class Standings:
    """Runs where the CA is reached from. Connections and CRLs are kept from one batch to the next."""

    def __init__(self, surroundings: Surroundings, orders: Orders) -> None:
        self._clock, self._orders = surroundings.clock, orders
        self._published: OrderedDict[tuple[str, ...], Publications] = OrderedDict()

    @activity.defn(name="standings.ask")
    async def ask(self, wanted: AskAuthority) -> list[Finding]:
        """Ask about each certificate; what one of them meets is its finding and stops no other."""
        with as_failures():
            async with heartbeating(lambda: f"asking {wanted.authority.name}"):
                return await self.findings(wanted)

    async def findings(self, wanted: AskAuthority) -> list[Finding]:
        """The same, for a step that asks and keeps at once."""
        problem, authority = None, None
        try:
            authority = self._orders.authority(wanted.authority)
        except ConnectorError as error:
            problem = error.message
        published = self._publications(wanted.networks)
        turns, unanswered = asyncio.Semaphore(_AT_ONCE), 0

        async def one(asked: AskedCertificate) -> Finding:
            nonlocal unanswered
            async with turns:
                if unanswered >= _AWAY_AFTER:
                    return Finding(asked.certificate_id, asked=False, problem="The CA does not answer.", passing=True)
                held = HeldCertificate(
                    order_number=asked.order_number,
                    certificate_pem=asked.pem,
                    serial_number=asked.serial_number,
                    chain_pem=[wanted.issuers[place] for place in asked.chain],
                )
                finding = await _find(asked, held, authority, published, problem)
                unanswered = unanswered + 1 if finding.passing else 0
                return finding

        return list(await asyncio.gather(*(one(asked) for asked in wanted.certificates)))

    def _publications(self, networks: list[str]) -> Publications:
        key = tuple(networks)
        if key not in self._published:
            allowed = tuple(ipaddress.ip_network(network) for network in networks)
            self._published[key] = Publications(Addresses(every=False, allowed=allowed), self._clock)
            if len(self._published) > _KEPT_OPEN:
                self._published.popitem(last=False)
        self._published.move_to_end(key)
        return self._published[key]


async def _find(
    asked: AskedCertificate,
    held: HeldCertificate,
    authority: CertificateAuthority | None,
    published: Publications,
    problem: str | None,
) -> Finding:
    window, window_asked, wrong = None, False, []
    if problem is not None:
        wrong.append(Published(None, problem, faulty=True))
    if asked.window and isinstance(authority, GivesRenewalInformation):
        try:
            window = _window(await authority.renewal_information(held))
            window_asked = True
        except ConnectorError as error:
            wrong.append(_trouble(error))
    told = await _standing(held, authority, published) if asked.standing else Published(None)
    wrong += [told] if told.problem is not None else []
    standing = told.standing
    # What a person must mend is told before what passes, and that before what just isn't published.
    worst = max(wrong, key=lambda one: (one.faulty, one.passing), default=None)
    hints = [one.after for one in wrong if one.after is not None]
    return Finding(
        certificate_id=asked.certificate_id,
        window=window,
        window_asked=window_asked,
        standing_asked=asked.standing,
        standing=SeenStanding(standing.revoked, standing.source, standing.revoked_at, standing.reason)
        if standing
        else None,
        problem=worst.problem if worst else None,
        passing=any(one.passing for one in wrong) and standing is None,
        faulty=any(one.faulty for one in wrong),
        after_seconds=max(hints).total_seconds() if hints else None,
    )


async def _standing(
    held: HeldCertificate, authority: CertificateAuthority | None, published: Publications
) -> Published:
    """By the CA's own interface where it has one and knows the certificate, else by what is published."""
    own = None
    if isinstance(authority, KnowsStanding):
        try:
            standing = await authority.standing(held)
        except ConnectorError as error:
            own = _trouble(error)
        else:
            if standing is not None:
                return Published(standing)
    told = await published.standing(held)
    if told.standing is None and own is not None:
        return own
    return told


def _window(told: RenewalInformation | None) -> SeenWindow | None:
    if told is None:
        return None
    if told.end < told.start or told.end - told.start > timedelta(days=3650):
        raise AuthorityFault("The CA's renewal information has a window that ends before it starts, or never.")
    again = told.ask_again.total_seconds() if told.ask_again is not None else None
    return SeenWindow(told.start, told.end, told.explanation_url, again)


def _trouble(error: ConnectorError) -> Published:
    if isinstance(error, Retryable):
        return Published(None, error.message, passing=True, after=error.after)
    return Published(None, error.message, faulty=True)
