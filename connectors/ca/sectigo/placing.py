"""Orders are placed, and found again: new ones, renewals and replacements, each of them once.

A process may die, and a connection may be cut, at any moment of it. A new order carries our reference and is found by
it. For a renewal or a replacement the earlier order is marked first (`marks`); a mark without its outcome is looked
into by `find`: has the order got a successor, or another certificate?
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

from connectors.ca.contract import Order, OrderRequest
from connectors.ca.sectigo import certificates, marks
from connectors.ca.sectigo.answers import REFUSED, WORKING, Details, Profile, Status
from connectors.ca.sectigo.console import Console
from connectors.ca.sectigo.marks import Kind, Mark
from connectors.ca.sectigo.refusals import NO_RENEWALS, Refused, outcome
from connectors.ca.sectigo.settings import Settings
from connectors.errors import Permanent, Retryable
from model import x509
from model.errors import InvalidInput

DAY_SECONDS = 86_400
# A search that gives more than this has searched for nothing.
MOST_CANDIDATES = 100
MOST_SUCCESSORS = 1000


class Placing:
    """Places orders and finds them."""

    def __init__(self, settings: Settings, console: Console) -> None:
        self._settings = settings
        self._console = console

    # --- placing ------------------------------------------------------------------------------------------------------

    async def submit(self, request: OrderRequest) -> Order:
        """A new order."""
        profile = await self._profile(request.profile)
        term = choose_term(profile, request.validity_seconds, self._settings.term_days)
        body: dict[str, Any] = {
            "orgId": self._settings.organization_id,
            "csr": request.csr_pem,
            "subjAltNames": ",".join(request.names),
            "certType": profile.id,
            "externalRequester": marks.external_requester(self._settings, request.reference),
            "comments": marks.comments(self._settings, request.reference),
            **self._console.dcv(),
        }
        if term is not None:
            body["term"] = term
        fields = {**self._settings.custom_fields, **request.custom_fields}
        if fields:
            body["customFields"] = [{"name": name, "value": value} for name, value in fields.items()]
        async with asking("place the order"):
            return Order(str(await self._console.enroll(body)))

    async def renew(self, request: OrderRequest) -> Order:
        """A renewal of the earlier order; a new order where that can't be: other names, another profile, or an order
        that the CA has no renewal for."""
        earlier = await self._earlier(request)
        if earlier is None or not self._settings.renew_in_order or not await self._same_kind(earlier, request):
            return await self.submit(request)
        await self._mark(earlier, Kind.RENEWAL, request.reference)
        try:
            number = await self._console.renew(earlier.id, request.csr_pem)
        except Refused as refused:
            if refused.code == NO_RENEWALS:
                return await self.submit(request)
            raise outcome(refused, f"renew order {earlier.id}") from None
        # Its mark is enough to find it; words of its own are for people, and for its own renewal one day.
        with suppress(Retryable):
            async with asking("show the renewal"):
                await self._adopt(await self._console.details(number), request.reference)
        return Order(str(number))

    async def replace(self, request: OrderRequest) -> Order:
        """Another certificate within the earlier order; a new order where that was deleted."""
        earlier = await self._earlier(request)
        if earlier is None or not self._settings.replace_in_order:
            return await self.submit(request)
        await self._mark(earlier, Kind.REPLACEMENT, request.reference)
        reason = " ".join(request.reason.split()) or "The certificate is replaced by certgate."
        async with asking(f"replace the certificate of order {earlier.id}"):
            await self._console.replace(earlier.id, request.csr_pem, request.common_name, request.names, reason)
        return Order(str(earlier.id))

    # --- finding ------------------------------------------------------------------------------------------------------

    async def find(self, request: OrderRequest) -> Order | None:
        """See `FindsOrders.find`."""
        async with asking("search its orders"):
            for search in marks.searches(self._settings, request.reference):
                found = await self._tagged(search, request.reference)
                if found:
                    return Order(str(min(found)))
            return await self._find_within(request)

    async def _tagged(self, search: str, reference: str) -> list[int]:
        found = []
        looked = 0
        async for line in self._console.lines({"externalRequester": search}):
            looked += 1
            if looked > MOST_CANDIDATES:
                raise Permanent(
                    f"Sectigo's list does not search by external requester: it gives more than {MOST_CANDIDATES} "
                    f"orders for {search}, so that nothing is ordered that might be there already; ask its support."
                )
            details = await self._console.known(line.id)
            if details is not None and marks.is_tagged(self._settings, details.external_requester, reference):
                found.append(line.id)
        return found

    async def _find_within(self, request: OrderRequest) -> Order | None:
        """What was asked for within the earlier order, if anything was."""
        earlier = await self._earlier(request)
        asked = marks.asked(earlier.comments, request.reference) if earlier else None
        if earlier is None or asked is None:
            return None
        if asked.kind is Kind.REPLACEMENT:
            unchanged = earlier.status not in WORKING and earlier.serial_number == asked.serial_number
            return None if unchanged else Order(str(earlier.id))
        return await self._find_successor(earlier, request)

    async def _find_successor(self, earlier: Details, request: OrderRequest) -> Order | None:
        """The renewal that came of a mark. It has no words of ours yet, so it is known by what it is: a later order for
        the same name that nobody else claims, with our key if it is issued."""
        found: list[Details] = []
        looked = 0
        async for line in self._console.lines({"commonName": earlier.common_name}):
            looked += 1
            if looked > MOST_SUCCESSORS:
                raise Permanent(
                    f"Sectigo's list gives more than {MOST_SUCCESSORS} orders for {earlier.common_name}: whether order "
                    f"{earlier.id} was renewed already can't be told, so nothing is ordered; look in its console."
                )
            if line.id <= earlier.id or line.common_name.casefold() != earlier.common_name.casefold():
                continue
            details = await self._console.known(line.id)
            if details is not None and await self._is_ours(details, earlier, request):
                found.append(details)
        if len(found) > 1:
            listed = ", ".join(str(one.id) for one in found)
            raise Permanent(
                f"Any of the orders {listed} at Sectigo may be the renewal of order {earlier.id}: decline there which "
                "are not, then try again."
            )
        if not found:
            return None
        with suppress(Retryable):
            await self._adopt(found[0], request.reference)
        return Order(str(found[0].id))

    async def _is_ours(self, details: Details, earlier: Details, request: OrderRequest) -> bool:
        if details.status in REFUSED:
            return False
        if marks.is_tagged(self._settings, details.external_requester, request.reference):
            return True
        # A renewal is given its predecessor's words, our mark among them.
        if marks.asked(details.comments, request.reference) is not None:
            return True
        owner = marks.belongs_to(details.comments)
        if owner not in (None, marks.belongs_to(earlier.comments)) or details.profile_id != earlier.profile_id:
            return False
        if details.status in WORKING:
            return True
        try:
            answer = await self._console.collect(details.id, "x509CO")
        except Refused as refused:
            raise outcome(refused, f"show the certificate of order {details.id}") from None
        return certificates.leaf_of(certificates.read(answer), key_of(request)) is not None

    # --- the earlier order --------------------------------------------------------------------------------------------

    async def _earlier(self, request: OrderRequest) -> Details | None:
        if request.earlier is None or order_id(request.earlier.number) is None:
            return None
        number = order_id(request.earlier.number)
        assert number is not None
        async with asking(f"show order {number}"):
            return await self._console.known(number)

    async def _same_kind(self, earlier: Details, request: OrderRequest) -> bool:
        """Whether a renewal would be for what is asked: it takes over names, profile and term."""
        if earlier.status not in (Status.ISSUED, Status.EXPIRED):
            return False
        names = {name.casefold() for name in (earlier.common_name, *earlier.names) if name}
        if names != {name.casefold() for name in (request.common_name, *request.names)}:
            return False
        return earlier.profile_id is None or earlier.profile_id == (await self._profile(request.profile)).id

    async def _mark(self, earlier: Details, kind: Kind, reference: str) -> None:
        comments = marks.marked(earlier.comments, Mark(kind, earlier.serial_number), reference)
        if comments != earlier.comments:
            async with asking(f"write into the comments of order {earlier.id} that its {kind} is asked for"):
                await self._console.tag(earlier, earlier.external_requester, comments)

    async def _adopt(self, order: Details, reference: str) -> None:
        if marks.is_tagged(self._settings, order.external_requester, reference):
            return
        requester = marks.external_requester(self._settings, reference)
        async with asking(f"write our reference into order {order.id}"):
            await self._console.tag(order, requester, marks.comments(self._settings, reference))

    async def _profile(self, wanted: str | None) -> Profile:
        wanted = wanted or self._settings.profile
        async with asking("list its certificate profiles"):
            offered = await self._console.profiles()
            found = choose_profile(offered, wanted)
            if found is None:
                # It may have been made since they were asked for.
                offered = await self._console.profiles(anew=True)
                found = choose_profile(offered, wanted)
        if found is None:
            listed = ", ".join(f"{one.name} ({one.id})" for one in offered) or "none"
            missing = f"no certificate profile {wanted!a}" if wanted else "several certificate profiles and none is set"
            raise Permanent(
                f"Sectigo has {missing} for organization {self._settings.organization_id}; it offers: {listed}."
            )
        return found


@asynccontextmanager
async def asking(doing: str) -> AsyncIterator[None]:
    """A refusal of the CA as one of our outcomes; `doing` ends "refused to …"."""
    try:
        yield
    except Refused as refused:
        raise outcome(refused, doing) from None


def order_id(number: str) -> int | None:
    """The id in an order's number; None for what is none of Sectigo's."""
    return int(number) if number.isascii() and number.isdigit() and 0 < int(number[:19]) < 2**31 else None


def key_of(request: OrderRequest) -> str:
    """The key of the request, see `x509.public_key_sha256`. Raises `Permanent`."""
    try:
        return x509.public_key_sha256(x509.load_csr(request.csr_pem))
    except InvalidInput as error:
        raise Permanent(error.message) from None


def choose_profile(offered: Sequence[Profile], wanted: str | None) -> Profile | None:
    """The profile of that number or name; without one, the only one there is."""
    if wanted is None:
        return offered[0] if len(offered) == 1 else None
    by_number = [one for one in offered if str(one.id) == wanted]
    by_name = [one for one in offered if one.name.casefold() == wanted.strip().casefold()]
    found = by_number or by_name
    return found[0] if len(found) == 1 else None


def choose_term(profile: Profile, validity_seconds: int | None, term_days: int | None) -> int | None:
    """The term in days: the longest of the profile's that is not longer than asked for; else what is set, else the
    longest. None leaves it to the CA. Raises `Permanent`."""
    listed = ", ".join(str(term) for term in profile.terms)
    if validity_seconds is not None:
        days = validity_seconds // DAY_SECONDS
        fitting = [term for term in profile.terms or (days,) if 0 < term <= days]
        if not fitting:
            raise Permanent(
                f"The certificate profile {profile.name} has no term of {days} days or less; it has: {listed} days."
            )
        return max(fitting)
    if term_days is not None:
        if profile.terms and term_days not in profile.terms:
            raise Permanent(
                f"The certificate profile {profile.name} has no term of {term_days} days (setting term_days); it has: "
                f"{listed} days."
            )
        return term_days
    return max(profile.terms, default=None)


def without_default(fields: Sequence[Any], given: Mapping[str, str]) -> list[str]:
    """Mandatory custom fields that have no value in the settings."""
    return [one.name for one in fields if one.mandatory and not given.get(one.name)]
