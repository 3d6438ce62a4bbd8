"""The verbs of an account at Sectigo Certificate Manager."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Sequence
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

from connectors.ca.contract import (
    CertificatePage,
    CollectRequest,
    Detail,
    Health,
    HeldCertificate,
    IssuedCertificate,
    ListedCertificate,
    OpenOrder,
    Order,
    OrderRequest,
    ProfileOffer,
    RevokeRequest,
    Standing,
)
from connectors.ca.sectigo.answers import REFUSED, WORKING, Details, Profile, Status
from connectors.ca.sectigo.collecting import Collecting, known_number
from connectors.ca.sectigo.console import REASON_CODES, Console, utc
from connectors.ca.sectigo.placing import DAY_SECONDS, Placing, asking, choose_profile, choose_term, order_id
from connectors.ca.sectigo.placing import without_default as missing_fields
from connectors.ca.sectigo.refusals import ALREADY_REVOKED, Refused, outcome
from connectors.ca.sectigo.session import TITLE
from connectors.ca.sectigo.settings import Settings
from connectors.errors import ConnectorError, Permanent
from connectors.registry import Surroundings

MOST_OPEN_ORDERS = 200
P = ParamSpec("P")
T = TypeVar("T")
_REASONS = {code: str(reason) for reason, code in REASON_CODES.items()}


def connected(
    verb: Callable[Concatenate[SectigoAuthority, P], Awaitable[T]],
) -> Callable[Concatenate[SectigoAuthority, P], Coroutine[Any, Any, T]]:
    """A verb that shares its connections with those that run at the same time."""

    @wraps(verb)
    async def run(authority: SectigoAuthority, /, *args: P.args, **kwargs: P.kwargs) -> T:
        async with authority.console.session:
            return await verb(authority, *args, **kwargs)

    return run


class SectigoAuthority:
    """See `CertificateAuthority`, `FindsOrders`, `CancelsOrders`, `RenewsCertificates`, `ReplacesCertificates`,
    `KnowsStanding`, `OffersProfiles`, `ListsCertificates` and `DecidesOrders`.

    The number of an order is Sectigo's ``sslId``: it is there from the first moment, stays through approval, renewal of
    its successor and replacement, and stands in the console as the certificate's ID. The order number that support asks
    for exists from the state Applied on; messages name it beside.

    Opening it touches nothing. Verbs that run at the same time share their connections, which are closed after the last
    one; a token stays until its end.
    """

    def __init__(self, settings: Settings, surroundings: Surroundings) -> None:
        self._settings = settings
        self.console = Console(settings, surroundings)
        self._placing = Placing(settings, self.console)
        self._collecting = Collecting(settings, self.console)

    # --- orders -------------------------------------------------------------------------------------------------------

    @connected
    async def submit(self, request: OrderRequest) -> Order:
        """See `CertificateAuthority.submit`."""
        return await self._placing.submit(request)

    @connected
    async def find(self, request: OrderRequest) -> Order | None:
        """See `FindsOrders.find`."""
        return await self._placing.find(request)

    @connected
    async def renew(self, request: OrderRequest) -> Order:
        """See `RenewsCertificates.renew`; the renewal has a number of its own."""
        return await self._placing.renew(request)

    @connected
    async def replace(self, request: OrderRequest) -> Order:
        """See `ReplacesCertificates.replace`; the number stays."""
        return await self._placing.replace(request)

    @connected
    async def collect(self, request: CollectRequest) -> IssuedCertificate:
        """See `CertificateAuthority.collect`."""
        return await self._collecting.collect(request)

    @connected
    async def withdraw(self, order_number: str) -> bool:
        """See `CancelsOrders.withdraw`: an order that waits for approval is declined, a later one is deleted. An order
        that has, or had, a certificate is left alone, also while it is being replaced."""
        number = known_number(order_number)
        async with asking(f"show order {number}"):
            details = await self.console.known(number)
        if details is None or details.status in REFUSED:
            return True
        if details.has_been_issued or details.status not in WORKING:
            return False
        try:
            if details.status is Status.REQUESTED:
                await self.console.decline(number, "The request was canceled in certgate.")
            else:
                await self.console.delete(number)
        except Refused as refused:
            return await self._withdrawn_after_all(number, refused)
        return True

    async def _withdrawn_after_all(self, number: int, refused: Refused) -> bool:
        async with asking(f"show order {number}"):
            details = await self.console.known(number)
        if details is None or details.status in REFUSED:
            return True
        if details.has_been_issued:
            return False
        if details.status is Status.REQUESTED:
            raise outcome(refused, f"decline order {number}") from None
        quoted = f" and quote order number {details.order_number}" if details.order_number else ""
        raise Permanent(
            f"Order {number} at {TITLE} is {details.word} and can't be taken back from here (code {refused.code}): ask "
            f"its support to cancel it{quoted}."
        )

    # --- certificates -------------------------------------------------------------------------------------------------

    @connected
    async def revoke(self, request: RevokeRequest) -> None:
        """See `CertificateAuthority.revoke`. By the order where it still has this certificate; else by serial number,
        since a replacement keeps the order and must not be revoked in the place of what it replaced."""
        number = order_id(request.order_number)
        details = None
        if number is not None:
            async with asking(f"show order {number}"):
                details = await self.console.known(number)
        try:
            if details is None or details.serial_number != request.serial_number:
                await self.console.revoke_serial(request.serial_number, request.reason)
            elif details.status is not Status.REVOKED:
                await self.console.revoke(details.id, request.reason)
        except Refused as refused:
            if not refused.among(ALREADY_REVOKED):
                what = f"revoke the certificate with serial number {request.serial_number}"
                raise outcome(refused, what) from None

    @connected
    async def standing(self, certificate: HeldCertificate) -> Standing | None:
        """See `KnowsStanding.standing`."""
        async with asking(f"show the certificate with serial number {certificate.serial_number}"):
            details = await self._with_serial(certificate)
        if details is None:
            return None
        if details.status is not Status.REVOKED:
            return Standing(revoked=False, source="CA")
        return Standing(True, "CA", details.time("revoked"), _REASONS.get(details.reason_code))

    async def _with_serial(self, certificate: HeldCertificate) -> Details | None:
        number = order_id(certificate.order_number)
        details = await self.console.known(number) if number is not None else None
        if details is not None and details.serial_number == certificate.serial_number:
            return details
        async for line in self.console.lines({"serialNumber": certificate.serial_number}):
            if line.serial_number == certificate.serial_number:
                return await self.console.known(line.id)
        return None

    @connected
    async def certificates(self, page: str | None = None) -> CertificatePage:
        """See `ListsCertificates.certificates`: those of the organization that are Issued."""
        position = int(page) if page and page.isascii() and page.isdigit() else 0
        async with asking("list its certificates"):
            found = await self.console.page(position, self._of_status(Status.ISSUED))
        after = position + len(found.lines)
        more = after < found.total if found.total is not None else len(found.lines) >= self._settings.page_size
        return CertificatePage(
            [
                ListedCertificate(
                    order_number=str(line.id),
                    common_name=line.common_name,
                    serial_number=line.serial_number,
                    names=line.names,
                    status=Status.ISSUED.value,
                )
                for line in found.lines
            ],
            next=str(after) if more and found.lines else None,
            total=found.total,
        )

    def _of_status(self, status: Status) -> dict[str, str | int]:
        return {"status": status.value, "orgId": self._settings.organization_id}

    @connected
    async def certificate(self, order_number: str) -> IssuedCertificate:
        """See `ListsCertificates.certificate`."""
        return await self._collecting.certificate(known_number(order_number))

    # --- the account --------------------------------------------------------------------------------------------------

    @connected
    async def profiles(self) -> Sequence[ProfileOffer]:
        """See `OffersProfiles.profiles`."""
        async with asking("list its certificate profiles"):
            offered = await self.console.profiles(anew=True)
        return [
            ProfileOffer(
                name=one.name if choose_profile(offered, one.name) == one else str(one.id),
                title=f"{one.name} ({one.id})",
                validities=[term * DAY_SECONDS for term in one.terms],
                description=one.description,
            )
            for one in offered
        ]

    @connected
    async def check(self) -> Health:
        """See `CertificateAuthority.check`: credentials, organization, profiles and custom fields."""
        s = self._settings
        try:
            async with asking("show what the account has"):
                organization = await self.console.organization()
                offered = await self.console.profiles(anew=True)
                fields = await self.console.custom_fields()
            told = [Detail("Signed in as", s.signs_in_as)]
            ends = await self.console.session.token_ends()
            if ends is not None:
                told.append(Detail("Token ends", f"{utc(ends)}; renewed by itself"))
            if organization is None:
                return Health(False, f"{TITLE} does not show organization {s.organization_id} to this account.", told)
            told.append(Detail("Organization", f"{organization} ({s.organization_id})"))
            told += [Detail("Certificate profile", _described(one)) for one in offered]
            mandatory = [one.name for one in fields if one.mandatory]
            told.append(Detail("Mandatory custom fields", ", ".join(mandatory) or "none"))
            told.append(Detail("Lists", f"{s.page_size} lines at a time"))
            problem = _unusable(s, offered)
        except ConnectorError as error:
            return Health(False, error.message)
        if problem:
            return Health(False, problem, told)
        bare = missing_fields(fields, s.custom_fields)
        needs = f"; each request has to give {', '.join(bare)}" if bare else ""
        message = f"{TITLE} answers to {s.signs_in_as}, and offers {len(offered)} certificate profiles{needs}."
        return Health(True, message, told)

    # --- decisions at the CA's side -----------------------------------------------------------------------------------

    @connected
    async def orders(self) -> Sequence[OpenOrder]:
        """See `DecidesOrders.orders`: those of the organization that are not issued yet, at most two hundred."""
        found: list[OpenOrder] = []
        async with asking("list its orders"):
            for status in (Status.REQUESTED, Status.APPROVED, Status.APPLIED):
                async for line in self.console.lines(self._of_status(status)):
                    if len(found) >= MOST_OPEN_ORDERS:
                        break
                    details = await self.console.known(line.id)
                    if details is not None and details.status in WORKING:
                        found.append(_open(details))
        return sorted({one.number: one for one in found}.values(), key=lambda one: int(one.number))

    @connected
    async def release(self, order_number: str) -> None:
        """See `DecidesOrders.release`."""
        number = known_number(order_number)
        async with asking(f"approve order {number}"):
            await self.console.approve(number, "Approved in certgate.")

    @connected
    async def reject(self, order_number: str, reason: str) -> None:
        """See `DecidesOrders.reject`."""
        number = known_number(order_number)
        told = " ".join(reason.split())
        if not told:
            raise Permanent("An order is rejected with a reason.")
        async with asking(f"decline order {number}"):
            await self.console.decline(number, told)


def _described(profile: Profile) -> str:
    terms = f"terms of {', '.join(str(term) for term in profile.terms)} days" if profile.terms else "any term"
    keys = "; ".join(f"{name} {', '.join(sizes)}".strip() for name, sizes in profile.key_types.items())
    return f"{profile.name} ({profile.id}): {terms}{f'; keys: {keys}' if keys else ''}"


def _unusable(settings: Settings, offered: Sequence[Profile]) -> str | None:
    if not offered:
        return f"{TITLE} offers no certificate profile to organization {settings.organization_id}."
    chosen = choose_profile(offered, settings.profile)
    if settings.profile is not None and chosen is None:
        return f"{TITLE} has no certificate profile {settings.profile!a} (setting profile)."
    if chosen is not None and settings.term_days is not None:
        try:
            choose_term(chosen, None, settings.term_days)
        except Permanent as error:
            return error.message
    return None


def _open(details: Details) -> OpenOrder:
    return OpenOrder(
        number=str(details.id),
        state="pending" if details.status is Status.REQUESTED else details.word,
        common_name=details.common_name,
        names=details.names,
        created=details.time("requested"),
        serial_number=details.serial_number or None,
    )
