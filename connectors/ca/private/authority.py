"""The verbs of the private CA: those of the contract, and those of the CA's owner (release, reject, CRL, OCSP)."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from datetime import datetime, timedelta

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
from connectors.ca.private import issuance, material, revocation
from connectors.ca.private.ledger import Ledger, OrderRecord, OrderState, StoredList
from connectors.ca.private.settings import Settings
from connectors.errors import ConnectorError, Pending, Permanent, Rejected
from connectors.folders import PrivateFolder
from connectors.registry import Surroundings
from model import x509

MIN_HINT = timedelta(seconds=1)
_PAGE = 200


class PrivateAuthority:
    """See `CertificateAuthority`, `FindsOrders`, `CancelsOrders`, `ShowsTrustAnchors`, `KnowsStanding`,
    `OffersProfiles`, `ListsCertificates` and `DecidesOrders`.

    Opening it touches nothing; the first verb loads the CA, or makes it. Verbs block in threads, so that a commit that
    waits for the disk holds up nobody else. Any number of objects, in any number of processes, may work on one folder.
    """

    def __init__(self, settings: Settings, surroundings: Surroundings) -> None:
        self._settings = settings
        self._clock = surroundings.clock
        self._folder = PrivateFolder(settings.folder or surroundings.home / "ca", "CA's folder")
        self._opening = threading.Lock()
        self._opened: tuple[material.Material, Ledger] | None = None

    # The contract

    async def check(self) -> Health:
        """Usable as long as the longest certificate of the default profile fits into the intermediate's life."""
        return await asyncio.to_thread(self._check)

    async def submit(self, request: OrderRequest) -> Order:
        """Takes the order, and issues at once unless a delay or manual issuance is configured.

        The reference makes a second submit harmless; one with another key or other names is `Permanent`.
        """
        return await asyncio.to_thread(self._submit, request)

    async def collect(self, request: CollectRequest) -> IssuedCertificate:
        """The certificate, the same bytes at every call, and the intermediate; the root is not sent."""
        return await asyncio.to_thread(self._collect, request.number)

    async def revoke(self, request: RevokeRequest) -> None:
        """See `CertificateAuthority.revoke`; the first reason stays."""
        await asyncio.to_thread(self._revoke, request)

    async def find(self, request: OrderRequest) -> Order | None:
        """See `FindsOrders.find`."""
        _, ledger = await asyncio.to_thread(self._open)
        record = await asyncio.to_thread(ledger.by_reference, request.reference)
        return Order(record.number) if record else None

    async def withdraw(self, order_number: str) -> bool:
        """See `CancelsOrders.withdraw`."""
        return await asyncio.to_thread(self._withdraw, order_number)

    async def trust_anchors(self) -> Sequence[str]:
        """The one root."""
        found, _ = await asyncio.to_thread(self._open)
        return [x509.to_pem(found.root)]

    async def standing(self, certificate: HeldCertificate) -> Standing | None:
        """See `KnowsStanding.standing`."""
        found, ledger = await asyncio.to_thread(self._open)
        if not x509.is_signed_by(x509.load_certificate(certificate.certificate_pem), found.intermediate):
            return None
        record = await asyncio.to_thread(ledger.by_serial, certificate.serial_number)
        if record is None:
            return None
        revoked = record.state is OrderState.REVOKED
        return Standing(revoked, "CA", record.revoked if revoked else None, record.reason if revoked else None)

    async def profiles(self) -> Sequence[ProfileOffer]:
        """See `OffersProfiles.profiles`."""
        return [
            ProfileOffer(
                name=name,
                title=name if name != self._settings.default_profile else f"{name} (for orders that name none)",
                validities=[profile.validity_seconds],
                description="Keys: " + ", ".join(profile.algorithms),
            )
            for name, profile in self._settings.profiles.items()
        ]

    async def certificates(self, page: str | None = None) -> CertificatePage:
        """See `ListsCertificates.certificates`."""
        _, ledger = await asyncio.to_thread(self._open)
        some = await asyncio.to_thread(ledger.signed, page, _PAGE + 1)
        total = await asyncio.to_thread(ledger.count_signed)
        shown = some[:_PAGE]
        return CertificatePage(
            [
                ListedCertificate(
                    order_number=record.number,
                    common_name=record.accepted.common_name,
                    serial_number=record.serial_number or "",
                    names=record.accepted.names,
                    status=str(record.state),
                    profile=record.accepted.profile,
                    not_after=record.not_after,
                )
                for record in shown
            ],
            shown[-1].number if len(some) > _PAGE else None,
            total,
        )

    async def certificate(self, order_number: str) -> IssuedCertificate:
        """See `ListsCertificates.certificate`."""
        found, ledger = await asyncio.to_thread(self._open)
        record = await asyncio.to_thread(ledger.by_number, order_number)
        if record.certificate_pem is None:
            raise Permanent(f"Order {order_number} has no certificate; it is {record.state}.")
        return IssuedCertificate(record.certificate_pem, [x509.to_pem(found.intermediate)])

    # The owner of the CA

    async def records(self, *states: OrderState) -> Sequence[OrderRecord]:
        """All orders as they are kept, or those in the given states, by number."""
        _, ledger = await asyncio.to_thread(self._open)
        return await asyncio.to_thread(ledger.all, *states)

    async def orders(self) -> Sequence[OpenOrder]:
        """See `DecidesOrders.orders`. One that was released, or whose time has come, is ``released`` until somebody
        collects it: then it is signed."""
        now = self._clock()
        return [
            OpenOrder(
                number=record.number,
                state=_shown_state(record, now),
                common_name=record.accepted.common_name,
                names=record.accepted.names,
                created=record.created,
                ready=record.ready,
                serial_number=record.serial_number,
                reason=record.reason,
            )
            for record in await self.records()
        ]

    async def release(self, order_number: str) -> None:
        """Let a pending order be issued now; the next `collect` signs it. Raises `Permanent` if it is not pending."""
        await asyncio.to_thread(self._release, order_number)

    async def reject(self, order_number: str, reason: str) -> None:
        """Refuse a pending order; `collect` then tells the reason. Raises `Permanent` if it is not pending."""
        await asyncio.to_thread(self._reject, order_number, reason)

    async def issuer(self) -> str:
        """The intermediate, PEM: what is to be served at `Settings.issuer_url` (as DER)."""
        found, _ = await asyncio.to_thread(self._open)
        return x509.to_pem(found.intermediate)

    async def crl(self) -> bytes:
        """The current CRL, DER (serve as ``application/pkix-crl``).

        A new one, numbered one higher, is made when something was revoked since or half of its life is over; otherwise
        it is the stored one.
        """
        return await asyncio.to_thread(self._crl)

    async def ocsp_response(self, request_der: bytes) -> bytes:
        """The answer to an OCSP request, both DER (``application/ocsp-request``, ``application/ocsp-response``)."""
        found, ledger = await asyncio.to_thread(self._open)
        return await asyncio.to_thread(revocation.answer, found, request_der, ledger.by_serial, self._clock())

    def close(self) -> None:
        """Give the files back; the next verb opens them again."""
        with self._opening:
            if self._opened is not None:
                self._opened[1].close()
                self._opened = None

    def _open(self) -> tuple[material.Material, Ledger]:
        with self._opening:
            if self._opened is None:
                found = material.load_or_create(self._folder, self._settings, self._clock())
                self._opened = found, Ledger(self._folder)
            return self._opened

    def _check(self) -> Health:
        try:
            found, ledger = self._open()
            pending = len(ledger.all(OrderState.PENDING))
        except ConnectorError as error:
            return Health(usable=False, message=error.message)
        end = found.intermediate.not_valid_after_utc
        longest = self._settings.profiles[self._settings.default_profile].validity_seconds
        usable = self._clock() + timedelta(seconds=longest) <= end
        until = "can issue" if usable else "can't issue certificates of its default profile any more: it ends"
        told = f"The private CA in {self._folder.path} {until} until {end:%Y-%m-%d}; {pending} pending."
        limits = [*self._settings.permitted_names, *(f"not {name}" for name in self._settings.excluded_names)]
        return Health(
            usable,
            told,
            [
                Detail("Issuer", x509.distinguished_name(found.intermediate.subject)),
                Detail("Issuer ends", f"{end:%Y-%m-%d %H:%M} UTC"),
                Detail(
                    "Root", f"{x509.distinguished_name(found.root.subject)}, SHA-256 {x509.fingerprint(found.root)}"
                ),
                Detail("Profiles", ", ".join(self._settings.profiles)),
                Detail("Names", ", ".join(limits) or "no limits"),
                Detail("Orders pending", str(pending)),
            ],
        )

    def _submit(self, request: OrderRequest) -> Order:
        found, ledger = self._open()
        accepted = issuance.accept(request, self._settings, found)
        now = self._clock()
        ready = None if self._settings.manual else now + timedelta(seconds=self._settings.issuance_delay_seconds)
        with ledger.changing():
            earlier = ledger.by_reference(request.reference)
            if earlier is not None:
                return self._same(earlier, accepted)
            record = ledger.add(accepted, now, ready)
            if ready is not None and ready <= now:
                self._issue(ledger, found, record)
        return Order(record.number)

    @staticmethod
    def _same(earlier: OrderRecord, accepted: issuance.AcceptedOrder) -> Order:
        # The CSR itself may differ: the keystore signs a new one for the same key when a step is repeated.
        before = earlier.accepted
        if (before.public_key_sha256, sorted(before.names)) != (accepted.public_key_sha256, sorted(accepted.names)):
            reference = accepted.reference
            raise Permanent(
                f"The reference {reference} belongs to order {earlier.number} for another key or other names."
            )
        return Order(earlier.number)

    def _issue(self, ledger: Ledger, found: material.Material, record: OrderRecord) -> str:
        certificate = issuance.issue(record.accepted, self._settings, found, self._clock())
        pem = x509.to_pem(certificate)
        ledger.set_issued(record.number, pem, x509.serial_hex(certificate), certificate.not_valid_after_utc)
        return pem

    def _collect(self, order_number: str) -> IssuedCertificate:
        found, ledger = self._open()
        record = ledger.by_number(order_number)
        pem = record.certificate_pem
        if record.state is OrderState.PENDING:
            self._still_pending(record)
            with ledger.changing():
                record = ledger.by_number(order_number)  # somebody may have been faster
                pem = record.certificate_pem
                if record.state is OrderState.PENDING:
                    pem = self._issue(ledger, found, record)
        if record.state is OrderState.REJECTED:
            raise Rejected(f"The CA rejected order {order_number}: {record.reason}.")
        if record.state is OrderState.WITHDRAWN:
            raise Rejected(f"Order {order_number} was withdrawn and will never be issued.")
        if record.state is OrderState.REVOKED:
            raise Permanent(f"The certificate of order {order_number} is revoked ({record.reason}).")
        assert pem is not None
        return IssuedCertificate(pem, [x509.to_pem(found.intermediate)])

    def _still_pending(self, record: OrderRecord) -> None:
        if record.ready is None:
            raise Pending(f"Order {record.number} waits for the owner of the CA to release it.")
        rest = record.ready - self._clock()
        if rest > timedelta(0):
            message = f"Order {record.number} is being worked on until {record.ready:%Y-%m-%d %H:%M:%S} UTC."
            raise Pending(message, max(rest, MIN_HINT))

    def _revoke(self, request: RevokeRequest) -> None:
        _, ledger = self._open()
        with ledger.changing():
            record = ledger.by_number(request.order_number)
            if record.serial_number is None:
                raise Permanent(f"Order {record.number} has no certificate to revoke; it is {record.state}.")
            if record.serial_number != request.serial_number:
                raise Permanent(f"The certificate of order {record.number} has another serial number.")
            if record.state is not OrderState.REVOKED:
                ledger.set_revoked(record.number, request.reason, self._clock())

    def _withdraw(self, order_number: str) -> bool:
        _, ledger = self._open()
        with ledger.changing():
            record = ledger.by_number(order_number)
            if record.state is OrderState.PENDING:
                ledger.set_ended(order_number, OrderState.WITHDRAWN, None)
            return record.certificate_pem is None

    def _release(self, order_number: str) -> None:
        _, ledger = self._open()
        with ledger.changing():
            self._pending(ledger, order_number)
            ledger.set_ready(order_number, self._clock())

    def _reject(self, order_number: str, reason: str) -> None:
        told = " ".join(reason.split()).rstrip(".")[:500]
        if not told:
            raise Permanent("An order is rejected with a reason.")
        _, ledger = self._open()
        with ledger.changing():
            self._pending(ledger, order_number)
            ledger.set_ended(order_number, OrderState.REJECTED, told)

    @staticmethod
    def _pending(ledger: Ledger, order_number: str) -> None:
        record = ledger.by_number(order_number)
        if record.state is not OrderState.PENDING:
            raise Permanent(f"Order {order_number} is not pending any more; it is {record.state}.")

    def _crl(self) -> bytes:
        found, ledger = self._open()
        validity = timedelta(seconds=self._settings.crl_validity_seconds)
        with ledger.changing():
            newest = ledger.newest_list()
            revoked = ledger.all(OrderState.REVOKED)
            now = self._clock()
            if newest and newest.revocations == len(revoked) and newest.made <= now < newest.made + validity / 2:
                return newest.der
            number = newest.number + 1 if newest else 1
            der = revocation.revocation_list(found, revoked, number, now, validity)
            ledger.add_list(StoredList(number, now, len(revoked), der))
            return der


def _shown_state(record: OrderRecord, now: datetime) -> str:
    released = record.state is OrderState.PENDING and record.ready is not None and record.ready <= now
    return "released" if released else str(record.state)
