"""The verbs of an ACME CA: an order is placed, its names are proved, it is finalized, its certificate is fetched.

The order number is the order's address at the CA. An order that can never be issued any more (a proof failed, it
expired) is followed by a new one under the same reference; the number that was told first then stands for the newest,
see ``docs/decisions/2026-11-24-acme-client.md``.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from urllib.parse import urlsplit

from acme import messages

from connectors.ca.acme import problems, renewal, validation
from connectors.ca.acme.account import Account
from connectors.ca.acme.journal import Entry, Journal, Placed
from connectors.ca.acme.network import Network, Problematic
from connectors.ca.acme.order import Orders, Seen
from connectors.ca.acme.responders import responders
from connectors.ca.acme.settings import Settings
from connectors.ca.acme.validation import Validations
from connectors.ca.contract import (
    CollectRequest,
    Detail,
    Health,
    HeldCertificate,
    IssuedCertificate,
    Order,
    OrderRequest,
    ProfileOffer,
    RenewalInformation,
    RevocationReason,
    RevokeRequest,
)
from connectors.errors import ConnectorError, Pending, Permanent, Rejected
from connectors.folders import PrivateFolder
from connectors.registry import Surroundings
from model import x509
from model.errors import InvalidInput

# How long one call of `collect` stays with an order that moves; after that the workflow asks again.
PATIENCE = timedelta(seconds=8)
MOST_ORDERS = 50
_FIRST_LOOK = timedelta(milliseconds=100)
_LONGEST_LOOK = timedelta(seconds=2)
# Each failed proof counts at the CA (Let's Encrypt allows five an hour for a name): from one to the next the pause of
# the settings grows by these.
_GROWTH = (1, 15, 60)
# What does not pass by itself, however often it is tried.
_FOR_A_PERSON = frozenset({"caa", "dnssec", "rejectedIdentifier", "unsupportedIdentifier", "userActionRequired"})
_REASONS = {
    RevocationReason.UNSPECIFIED: 0,
    RevocationReason.KEY_COMPROMISE: 1,
    RevocationReason.AFFILIATION_CHANGED: 3,
    RevocationReason.SUPERSEDED: 4,
    RevocationReason.CESSATION_OF_OPERATION: 5,
}


class AcmeAuthority:
    """See `CertificateAuthority`, `FindsOrders`, `CancelsOrders`, `OffersProfiles` and `GivesRenewalInformation`.

    Opening it touches nothing. Any number of objects, in any number of processes, may share one home.
    """

    def __init__(self, settings: Settings, surroundings: Surroundings) -> None:
        self._settings, self._clock = settings, surroundings.clock
        home = surroundings.home / "acme"
        folder = PrivateFolder(home / _folder_name(settings), "folder of the ACME account")
        self._network = Network(settings, surroundings.clock)
        self._account = Account(self._network, settings, folder, surroundings.secret)
        self._journal = Journal(folder, surroundings.clock)
        self._orders = Orders(self._network, self._account, settings, surroundings.clock)
        self._validations = Validations(
            self._network, self._account, self._journal, responders(settings, surroundings, home / "answers")
        )

    # The contract

    async def check(self) -> Health:
        """Finds the account, or makes it: that costs nothing, and only so is it known whether the CA takes us."""
        try:
            async with self._network:
                directory = await self._network.directory()
                signer = await self._account.signer()
        except ConnectorError as error:
            return Health(usable=False, message=error.message)
        meta, methods = directory["meta"], ", ".join(self._settings.methods)
        proofs = f"proofs by {methods}" if methods else "no method of proof is set up: it has to know the names already"
        details = [
            Detail("Account", str(signer.account)),
            Detail("Terms of service", meta.terms_of_service or "none"),
            Detail("Profiles", ", ".join(sorted(meta.profiles or {})) or "none"),
            Detail("CAA identities", ", ".join(meta.caa_identities or ()) or "none"),
        ]
        return Health(True, f"{self._network.where} knows our account; {proofs}.", details)

    async def submit(self, request: OrderRequest) -> Order:
        """Places the order, once for a reference. Nothing is issued before `collect` has finalized it."""
        self._check_names(request)
        entry = await self._begin(request)
        if entry.current is None:
            async with self._network:
                entry = await self._place(entry, request)
        assert entry.current is not None
        return Order(entry.current.url)

    async def collect(self, request: CollectRequest) -> IssuedCertificate:
        """Moves the order on as far as it goes: proofs, finalization, certificate. `Pending` says which name waits for
        what."""
        async with self._network:
            return await self._collect(request)

    async def revoke(self, request: RevokeRequest) -> None:
        """Revokes by the account that ordered it (RFC 8555 section 7.6)."""
        certificate = x509.load_certificate(request.certificate_pem)
        wanted = messages.Revocation(certificate=certificate, reason=_REASONS[request.reason])
        try:
            async with self._network:
                directory = await self._network.directory()
                await self._account.post(directory["revokeCert"], wanted, "the revocation")
        except Problematic as refused:
            if refused.problem.kind != "alreadyRevoked":
                raise refused.error from None

    async def find(self, request: OrderRequest) -> Order | None:
        """The journal knows it, else the CA's list of our orders: where only the answer to our order was lost."""
        entry = await self._journal.read(request.reference)
        if entry is None:
            return None
        async with self._network:
            if not entry.orders and request.names:
                entry = await self._search(entry, request)
            current = entry.current
            if current is None:
                return None
            seen = await self._orders.look(current.url)
            if current.key is None and (seen is None or _is_over(seen, self._clock())):
                await self._end(entry, "the CA does not know it any more")
                return None
        if seen is not None and request.names and not seen.is_for(request.names):
            raise Permanent(f"Order {current.url} was placed for {request.reference} with other names.")
        return Order(current.url)

    async def withdraw(self, order_number: str) -> bool:
        """An order that was not finalized is never issued: it is not finalized any more (ACME has no cancellation)."""
        entry = await self._journal.by_number(order_number)
        if entry is None:
            async with self._network:
                seen = await self._orders.look(order_number)
            return seen is None or seen.status not in (messages.STATUS_PROCESSING, messages.STATUS_VALID)

        def give_up(now: Entry | None) -> Entry | None:
            if now is None or (now.current is not None and now.current.key is not None):
                return now
            ended = replace(now.orders[-1], ended=now.orders[-1].ended or "it was withdrawn")
            return replace(now.with_current(ended), withdrawn=True)

        entry = await self._journal.change(entry.reference, give_up) or entry
        await self._validations.tidy(entry)
        return entry.withdrawn

    async def profiles(self) -> Sequence[ProfileOffer]:
        """Those of the directory (draft-ietf-acme-profiles section 3)."""
        async with self._network:
            directory = await self._network.directory()
        offered = directory["meta"].profiles or {}
        return [ProfileOffer(str(name), str(name), description=str(text)) for name, text in sorted(offered.items())]

    async def renewal_information(self, certificate: HeldCertificate) -> RenewalInformation | None:
        """The window that the CA suggests (RFC 9773), where it does."""
        async with self._network:
            return await renewal.renewal_information(self._network, certificate)

    async def close(self) -> None:
        """Stop listening, whatever is still to be answered; the next `collect` listens again."""
        await self._validations.close()

    # One order after the other

    def _check_names(self, request: OrderRequest) -> None:
        wildcards = [name for name in request.names if name.startswith("*.")]
        if wildcards and "dns-01" not in self._settings.methods and self._settings.methods:
            raise Permanent(f"{wildcards[0]} can only be proved by dns-01, and that is not set up for this CA.")
        try:
            x509.load_csr(request.csr_pem)
        except InvalidInput as error:
            raise Permanent(error.message) from None

    async def _collect(self, wanted: CollectRequest) -> IssuedCertificate:
        entry = await self._known(wanted)
        deadline = asyncio.get_running_loop().time() + PATIENCE.total_seconds()
        pause, before = _FIRST_LOOK, ""
        while True:
            if entry.current is None:
                entry = await self._again(entry, wanted.request)
            assert entry.current is not None
            seen = await self._orders.look(entry.current.url)
            if seen is None or _expired(seen, self._clock()):
                entry = await self._lost(entry)
                continue
            if seen.body.certificate and seen.is_for(wanted.request.names):
                issued = await self._orders.download(seen, wanted.request.csr_pem)
                await self._validations.tidy(entry)
                return issued
            waiting = await self._move(entry, seen, wanted.request)
            pause = _FIRST_LOOK if seen.status.name != before else min(pause * 2, _LONGEST_LOOK)
            before = seen.status.name
            wait = max(pause, waiting.after or pause).total_seconds()
            if wait > deadline - asyncio.get_running_loop().time():
                raise waiting
            await asyncio.sleep(wait)
            entry = await self._journal.read(entry.reference) or entry

    async def _move(self, entry: Entry, seen: Seen, request: OrderRequest) -> Pending:
        """Do what an order waits for from us; what it waits for now."""
        assert entry.current is not None
        url = entry.current.url
        if not seen.is_for(request.names):
            raise Permanent(f"Order {url} is for other names than the request, and is left alone.")
        if seen.status == messages.STATUS_INVALID:
            raise await self._failed(entry, seen)
        if seen.status == messages.STATUS_PENDING:
            progress = await self._validations.advance(entry.reference, seen.body)
            message = f"Order {url} waits for the proof of {', '.join(progress.missing) or 'its names'}."
            return Pending(message, progress.after, progress.validations)
        if seen.status == messages.STATUS_READY:
            await self._finalize(entry, seen, request)
        return Pending(f"Order {url} is being issued.", seen.after)

    async def _begin(self, request: OrderRequest) -> Entry:
        names = tuple(sorted(request.names))
        key = x509.public_key_sha256(x509.load_csr(request.csr_pem))

        def begin(now: Entry | None) -> Entry:
            if now is None:
                return Entry(request.reference, names, self._clock())
            if now.names != names:
                raise Permanent(f"The reference {now.reference} belongs to an order for other names.")
            if now.withdrawn:
                raise Rejected(f"The order for {now.reference} was withdrawn and will never be issued.")
            if now.current is not None and now.current.key not in (None, key):
                raise Permanent(f"The reference {now.reference} belongs to order {now.current.url} for another key.")
            return now

        entry = await self._journal.change(request.reference, begin)
        assert entry is not None
        return entry

    async def _place(self, entry: Entry, request: OrderRequest) -> Entry:
        """Place an order and note it, unless somebody was faster: then ours stays unused."""
        url = await self._orders.place(request)
        count = len(entry.orders)

        def note(now: Entry | None) -> Entry:
            now = now or entry
            return now if len(now.orders) > count else now.with_order(Placed(url))

        noted = await self._journal.change(entry.reference, note)
        assert noted is not None
        return noted

    async def _search(self, entry: Entry, request: OrderRequest) -> Entry:
        """Look through the CA's list for an order whose address we were not told, and take it if nobody else has."""
        for url in (await self._orders.listed())[:_MOST_SEARCHED]:
            seen = await self._orders.look(url)
            if seen is None or seen.status not in (messages.STATUS_PENDING, messages.STATUS_READY):
                continue
            if not seen.is_for(request.names) or _is_over(seen, self._clock()):
                continue
            taken = await self._journal.claim(entry.reference, url)
            if taken is not None:
                return taken
        return entry

    async def _known(self, wanted: CollectRequest) -> Entry:
        """What the journal knows; a number from another home is taken over."""
        request = wanted.request

        def adopt(now: Entry | None) -> Entry:
            if now is None or not now.orders:
                created = now.created if now is not None else self._clock()
                return Entry(request.reference, tuple(sorted(request.names)), created, (Placed(wanted.number),))
            return now

        entry = await self._journal.read(request.reference)
        if entry is None or not entry.orders:
            entry = await self._journal.change(request.reference, adopt)
        assert entry is not None
        if entry.withdrawn:
            raise Rejected(f"Order {wanted.number} was withdrawn and will never be issued.")
        return entry

    async def _again(self, entry: Entry, request: OrderRequest) -> Entry:
        """The next order for a reference whose last one can never be issued."""
        last = entry.orders[-1]
        now = self._clock()
        if entry.not_before is not None and now < entry.not_before:
            raise Pending(
                f"Order {last.url} came to nothing ({last.ended}); the next one is placed at "
                f"{entry.not_before:%H:%M:%S} UTC.",
                entry.not_before - now,
            )
        if len(entry.orders) >= MOST_ORDERS:
            raise Rejected(f"{MOST_ORDERS} orders for {entry.reference} came to nothing ({last.ended}).")
        return await self._place(entry, request)

    async def _finalize(self, entry: Entry, seen: Seen, request: OrderRequest) -> None:
        assert entry.current is not None
        url, key = entry.current.url, x509.public_key_sha256(x509.load_csr(request.csr_pem))

        def finalizing(now: Entry | None) -> Entry | None:
            if now is None or now.current is None or now.current.url != url:
                raise Pending(f"Order {url} was given up a moment ago.", _FIRST_LOOK)
            if now.current.key not in (None, key):
                raise Permanent(f"Order {url} was finalized for another key.")
            return now.with_current(replace(now.current, key=key))

        await self._journal.change(entry.reference, finalizing)
        try:
            await self._orders.finalize(url, seen, request.csr_pem)
        except Problematic as refused:
            raise refused.error from None

    async def _lost(self, entry: Entry) -> Entry:
        """The CA does not know the order any more, or its time is over."""
        assert entry.current is not None
        url = entry.current.url
        if entry.current.key is not None:
            await self._end(entry, "the CA does not know it any more")
            raise Permanent(
                f"{self._network.where} does not know order {url} any more, and it had been finalized: look there "
                "whether its certificate was issued, then retry; a new order is placed then."
            )
        entry = await self._end(entry, "its time was over", failed=True)
        await self._validations.tidy(entry)
        if entry.failures >= self._settings.validation_tries:
            await self._ask_a_person(entry)
            raise Permanent(
                f"Order {url} was not proved before the CA gave it up, and {entry.failures} were so: look why the "
                "proofs don't come, then retry; a new order is placed then."
            )
        return entry

    async def _failed(self, entry: Entry, seen: Seen) -> ConnectorError:
        """The order is invalid: it will never be issued, whatever is done (RFC 8555 section 7.1.6)."""
        assert entry.current is not None
        url = entry.current.url
        there = await self._validations.look(seen.body)
        names = validation.failures(there)
        problem = problems.read(seen.body.error.to_json()) if seen.body.error is not None else None
        told = "; ".join(f"{one.name}: {one.error}" for one in names)
        told = told or (problem.told if problem else "the CA does not say why")
        kinds = validation.failed_kinds(there) | (problem.kinds if problem and not names else frozenset())
        entry = await self._end(entry, told, failed=True)
        await self._validations.tidy(entry)
        if problem is not None and not names:
            error = problems.outcome(problem, self._network.where, f"order {url}", 400, None)
            if isinstance(error, Rejected):
                return error
        what = f"could not be validated ({told})" if names else f"came to nothing ({told})"
        if kinds & _FOR_A_PERSON or entry.failures >= self._settings.validation_tries:
            await self._ask_a_person(entry)
            return Permanent(f"Order {url} {what}: mend that, then retry; a new order is placed then.")
        growth = _GROWTH[min(entry.failures, len(_GROWTH)) - 1]
        pause = timedelta(seconds=self._settings.validation_pause_seconds * growth)
        await self._journal.change(
            entry.reference, lambda now: replace(now, not_before=self._clock() + pause) if now else None
        )
        tries = f"try {entry.failures} of {self._settings.validation_tries}"
        return Pending(f"Order {url} {what}; a new one is placed by itself ({tries} failed).", pause, names)

    async def _end(self, entry: Entry, why: str, *, failed: bool = False) -> Entry:
        current = entry.current
        assert current is not None

        def end(now: Entry | None) -> Entry | None:
            if now is None or now.current is None or now.current.url != current.url:
                return now
            return replace(now.with_current(replace(now.current, ended=why)), failures=now.failures + failed)

        return await self._journal.change(entry.reference, end) or entry

    async def _ask_a_person(self, entry: Entry) -> None:
        """Who retries after that begins to count anew."""
        await self._journal.change(
            entry.reference, lambda now: replace(now, failures=0, not_before=None) if now else None
        )


_MOST_SEARCHED = 40


def _expired(seen: Seen, now: datetime) -> bool:
    open_still = seen.status in (messages.STATUS_PENDING, messages.STATUS_READY)
    return open_still and seen.body.expires is not None and seen.body.expires <= now


def _is_over(seen: Seen, now: datetime) -> bool:
    return seen.status == messages.STATUS_INVALID or _expired(seen, now)


def _folder_name(settings: Settings) -> str:
    """One folder an account: the host, for people, and what tells accounts apart."""
    told = "\n".join([settings.directory_url, settings.eab_key_id or "", settings.account_key or ""])
    return f"{urlsplit(settings.directory_url).hostname}-{hashlib.sha256(told.encode()).hexdigest()[:12]}"
