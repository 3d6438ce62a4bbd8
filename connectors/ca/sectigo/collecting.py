"""An order is moved on and looked at until its certificate is there."""

from __future__ import annotations

from cryptography import x509 as crypto

from connectors.ca.contract import CollectRequest, IssuedCertificate
from connectors.ca.sectigo import certificates, marks
from connectors.ca.sectigo.answers import REFUSED, WORKING, Details, Status
from connectors.ca.sectigo.console import Console, utc
from connectors.ca.sectigo.placing import asking, key_of, order_id
from connectors.ca.sectigo.refusals import WRONG_STATE, Refused, outcome
from connectors.ca.sectigo.session import TITLE
from connectors.ca.sectigo.settings import Settings
from connectors.errors import AuthorityFault, NameValidation, Pending, Permanent, Rejected
from model import x509

APPROVAL = "Approved by certgate, where the request was approved."


class Collecting:
    """Collects certificates."""

    def __init__(self, settings: Settings, console: Console) -> None:
        self._settings = settings
        self._console = console

    async def collect(self, request: CollectRequest) -> IssuedCertificate:
        """See `CertificateAuthority.collect`. The id of an order stays when its certificate is replaced, so that what
        is collected may still be the earlier one: then the order is `Pending`."""
        number = known_number(request.number)
        details = await self._details(number)
        await self._refuse_ended(details)
        if details.status in WORKING:
            raise await self._pending(details)
        found = await self.fetch(number)
        leaf = certificates.leaf_of(found, key_of(request.request))
        before = _before(details, request)
        if before is not None and (leaf is None or x509.serial_hex(leaf) == before):
            self._refuse_earlier(details, found, before)
        if leaf is None:
            raise AuthorityFault(
                f"{TITLE} sent a certificate for another key than the one of order {number}: it is not used; ask its "
                f"support{_quoting(details)}."
            )
        return certificates.issued(leaf, found)

    @staticmethod
    def _refuse_earlier(details: Details, found: list[crypto.Certificate], before: str) -> None:
        if any(x509.serial_hex(one) == before for one in found):
            raise Pending(
                f"{_called(details)} still has the certificate that is to be replaced; its replacement was asked for "
                f"{_since(details, 'replaced') or 'before'}."
            )

    async def certificate(self, number: int) -> IssuedCertificate:
        """The certificate of any order."""
        found = await self.fetch(number)
        leaf = certificates.leaf_of(found, None)
        if leaf is None:
            raise AuthorityFault(f"{TITLE} sent no server certificate, or several, for order {number}.")
        return certificates.issued(leaf, found)

    async def fetch(self, number: int) -> list[crypto.Certificate]:
        """All certificates of an order, as they come."""
        chosen = self._settings.chain_format
        try:
            found = certificates.read(await self._console.collect(number, chosen))
            if chosen == "x509CO":
                found += certificates.read(await self._console.collect(number, "x509IO"))
        except Refused as refused:
            raise outcome(refused, f"hand out the certificate of order {number}", collecting=True) from None
        return found

    async def _details(self, number: int) -> Details:
        async with asking(f"show order {number}"):
            details = await self._console.known(number)
        if details is None:
            raise Rejected(f"{TITLE} has no order {number} any more: it was deleted there.")
        return details

    async def _refuse_ended(self, details: Details) -> None:
        if details.status in REFUSED:
            when = details.time("declined")
            reason = marks.reason(details.comments)
            raise Rejected(
                f"{_called(details)} is {details.word}{f' since {utc(when)}' if when else ''} and will never be issued"
                f"{f', with the comment: {reason[:300]}' if reason else ''}."
            )
        if details.status is Status.REVOKED:
            raise Permanent(f"The certificate of order {details.id} was revoked at {TITLE}{_at(details, 'revoked')}.")

    async def _pending(self, details: Details) -> Pending:
        if details.status is Status.REQUESTED:
            return await self._unapproved(details)
        validations: list[NameValidation] = []
        async with asking(f"show the domain validation of order {details.id}"):
            validations = await self._console.validations(details.id)
        since = _since(details, "approved", "requested")
        missing = [one.name for one in validations if one.state != "valid"]
        told = f"{_called(details)} is {details.word}{f' since {since}' if since else ''}"
        if missing:
            return Pending(f"{told} and waits for the validation of {', '.join(missing[:5])}.", validations=validations)
        if details.status is Status.APPLIED:
            return Pending(f"{told}: if that is too long, ask its support{_quoting(details)}.", validations=validations)
        return Pending(f"{told}.", validations=validations)

    async def _unapproved(self, details: Details) -> Pending:
        waits = f"{_called(details)} waits for approval at {TITLE} since {_since(details, 'requested') or 'a while'}"
        if not self._settings.approve:
            return Pending(f"{waits}: approve it in its console.")
        try:
            await self._console.approve(details.id, APPROVAL)
        except Refused as refused:
            if refused.among(WRONG_STATE):
                return Pending(f"{_called(details)} was approved or declined this moment.")
            return Pending(outcome(refused, f"approve order {details.id}, which waits for that,").message)
        return Pending(f"{_called(details)} was approved.")


def known_number(number: str) -> int:
    """The id in an order's number. Raises `Permanent`."""
    found = order_id(number)
    if found is None:
        raise Permanent(f"{number[:60]!a} is not the number of an order at {TITLE}.")
    return found


def _before(details: Details, request: CollectRequest) -> str | None:
    """The serial number of the certificate that this order replaces within itself; None for every other order."""
    earlier = request.request.earlier
    if earlier is None or earlier.number != request.number:
        return None
    mark = marks.asked(details.comments, request.request.reference)
    return mark.serial_number if mark else earlier.serial_number


def _called(details: Details) -> str:
    number = f" (order number {details.order_number})" if details.order_number else ""
    return f"Order {details.id} at {TITLE}{number}"


def _quoting(details: Details) -> str:
    return f" and quote order number {details.order_number}" if details.order_number else f" about id {details.id}"


def _since(details: Details, *names: str) -> str:
    moment = details.time(*names)
    return utc(moment) if moment else ""


def _at(details: Details, name: str) -> str:
    moment = details.time(name)
    return f" on {utc(moment)}" if moment else ""
