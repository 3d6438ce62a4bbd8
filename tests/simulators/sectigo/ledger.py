"""All orders, and the rules by which they are placed, changed and issued.

Every method wants the simulator's lock held.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes

from tests.simulators.sectigo.accounts import CertificateType, Customer
from tests.simulators.sectigo.authority import Authority, Issued, Revocation, Standing
from tests.simulators.sectigo.faults import Fate, Plan
from tests.simulators.sectigo.orders import Order, OrderView, Status, Validation
from tests.simulators.sectigo.problems import Problem, invalid_field, missing, wrong_id
from tests.simulators.sectigo.reading import (
    certificate_names,
    csr_common_name,
    csr_names,
    is_name,
    plain_serial,
    read_csr,
)

FIRST_ID, FIRST_NUMBER = 50_001, 1_800_000_001
REASONS = {"1": "key_compromise", "3": "affiliation_changed", "4": "superseded", "5": "cessation_of_operation"}
_EXTERNAL = re.compile(r"[^@\s,]+@[^@\s,]+(\s*,\s*[^@\s,]+@[^@\s,]+)*")


@dataclass(frozen=True)
class Wanted:
    """What an enroll asks for, read and checked."""

    org_id: int
    profile: CertificateType
    term: int
    key: CertificatePublicKeyTypes
    common_name: str
    names: list[str]
    mode: str | None


class Ledger:
    """The orders of one customer, by id."""

    def __init__(self, customer: Customer, authority: Authority, fate: Fate, clock: Callable[[], datetime]) -> None:
        self.customer = customer
        self.authority = authority
        self.fate = fate
        self._now = clock
        self.orders: dict[int, Order] = {}
        self.deleted: list[Order] = []
        self.standings: list[Standing] = []
        self.exact_filters = False
        self.undelegated: dict[str, int | None] = {}
        """Names without domain control validation: how many rechecks still find them open (None: until told)."""

    # --- placing ------------------------------------------------------------------------------------------------------

    def enroll(self, body: Mapping[str, Any], requester: str) -> Order:
        """A new order. Raises `Problem` for each of the many reasons not to."""
        wanted = self._wanted(body)
        fields = self._custom_fields(body.get("customFields") or [])
        order = self._place("enroll", wanted, requester)
        order.comments = str(body.get("comments") or "")
        order.external_requester = str(body.get("externalRequester") or "")
        order.custom_fields = fields
        return order

    def renew(self, ssl_id: int, body: Mapping[str, Any], requester: str) -> Order:
        """A new order like an issued one, with the same key or with another CSR; comments and the external requester go
        over into it."""
        earlier = self.find(ssl_id)
        if earlier.status_at(self._now()) not in (Status.ISSUED, Status.EXPIRED):
            raise Problem(-105, f"Error was occurred while renewing cert. Status = {earlier.status.value}")
        profile = next((one for one in self.customer.types if one.id == earlier.type_id), None)
        if profile is None:
            raise Problem(-180, "This SSL Certificate Profile doesn't allow renew")
        key = read_csr(str(body["csr"])).public_key() if body.get("csr") else earlier.key
        mode = body.get("dcvMode")
        wanted = Wanted(earlier.org_id, profile, earlier.term, key, earlier.common_name, list(earlier.names), mode)
        self._check_domains(wanted.names, mode)
        order = self._place("renew", wanted, requester)
        order.comments, order.external_requester = earlier.comments, earlier.external_requester
        order.custom_fields, order.earlier = dict(earlier.custom_fields), earlier.id
        earlier.renewed = self._now()
        return order

    def replace(self, ssl_id: int, body: Mapping[str, Any]) -> None:
        """Reissue within the order: the id stays, the certificate becomes another one once it is issued."""
        order = self.find(ssl_id)
        if order.auto_installed:
            raise Problem(-1148, "Replace is forbidden for autoinstalled certificates.")
        status = order.status_at(self._now())
        if status is not Status.ISSUED:
            raise Problem(-130, f"SSL state is not 'ISSUED': {status.value}")
        if not body.get("csr"):
            raise missing("csr")
        csr = read_csr(str(body["csr"]))
        common_name = str(body.get("commonName") or csr_common_name(csr) or order.common_name).lower()
        others = [str(one).strip().lower() for one in body.get("subjectAlternativeNames") or []]
        names = list(dict.fromkeys([common_name, *others]))
        mode = body.get("dcvMode")
        self._check_names(names)
        self._check_domains(names, mode)
        now = self._now()
        order.key, order.common_name, order.names = csr.public_key(), common_name, names
        order.reissues += 1
        order.plan = self.fate.of_order(f"{common_name}/{order.order_number}/{order.reissues}")
        order.validations = self._validations(names, mode, now)
        order.replaced = now
        order.apply(now)

    def update(self, order: Order, body: Mapping[str, Any]) -> None:
        """Change what is said about an order at any time, and what is ordered as long as it is Requested."""
        _check_external(body)
        fields = self._custom_fields(body["customFields"]) if body.get("customFields") else {}
        self._change(order, body)
        order.custom_fields |= fields
        if body.get("comments") is not None:
            order.comments = str(body["comments"])
        if body.get("externalRequester") is not None:
            order.external_requester = str(body["externalRequester"])
        if body.get("suspendNotifications") is not None:
            order.suspend_notifications = bool(body["suspendNotifications"])

    def _change(self, order: Order, body: Mapping[str, Any]) -> None:
        key = read_csr(str(body["csr"])).public_key() if body.get("csr") else order.key
        common_name = str(body.get("commonName") or order.common_name).lower()
        others = body.get("subjectAlternativeNames")
        names = list(dict.fromkeys([common_name, *(order.names if others is None else map(str.lower, others))]))
        org_id, type_id = int(body.get("orgId") or order.org_id), int(body.get("certTypeId") or order.type_id)
        term = int(body.get("term") or order.term)
        wanted = {
            "csr": (key, order.key),
            "commonName": (common_name, order.common_name),
            "subjectAlternativeNames": (set(names), set(order.names)),
            "term": (term, order.term),
            "certTypeId": (type_id, order.type_id),
            "orgId": (org_id, order.org_id),
        }
        changed = [name for name, (new, old) in wanted.items() if new != old]
        if changed and order.status is not Status.REQUESTED:
            raise invalid_field(changed[0])
        self._check_names(names)
        profile = next((one for one in self.customer.types_of(org_id) if one.id == type_id), None)
        if changed and (profile is None or term not in profile.terms):
            raise invalid_field(changed[0])
        order.key, order.common_name, order.names = key, common_name, names
        order.org_id, order.type_id, order.term = org_id, type_id, term

    def _place(self, kind: str, wanted: Wanted, requester: str) -> Order:
        now, ssl_id, number = self._now(), *self._numbers()
        same = sum(one.common_name == wanted.common_name for one in [*self.orders.values(), *self.deleted])
        order = Order(
            id=ssl_id,
            order_number=number,
            renew_id=secrets.token_urlsafe(15)[:20],
            kind=kind,
            org_id=wanted.org_id,
            type_id=wanted.profile.id,
            term=wanted.term,
            key=wanted.key,
            common_name=wanted.common_name,
            names=wanted.names,
            requested=now,
            requester=requester,
            plan=self.fate.of_order(f"{wanted.common_name}/{same}"),
            validations=self._validations(wanted.names, wanted.mode, now),
        )
        if order.plan.approval_polls == 0:
            order.approve(now)
            order.apply(now)
        self.orders[ssl_id] = order
        return order

    def _wanted(self, body: Mapping[str, Any]) -> Wanted:
        org_id = body.get("orgId")
        if not isinstance(org_id, int) or not self.customer.has_organization(org_id):
            raise Problem(-1023, f"Organization '{org_id}' not found.")
        offered = self.customer.types_of(org_id)
        profile = next((one for one in offered if one.id == body.get("certType")), None)
        if profile is None:
            raise Problem(-111, f"No certificate profile found by id {body.get('certType')}")
        if body.get("term") not in profile.terms:
            raise Problem(-36, "The validity period (term) is invalid for this certificate profile.")
        if not body.get("csr"):
            raise missing("csr")
        csr = read_csr(str(body["csr"]))
        given = [one.strip().lower() for one in str(body.get("subjAltNames") or "").split(",") if one.strip()]
        in_csr = csr_names(csr)
        common_name = csr_common_name(csr) or (given[0] if given else "")
        if not common_name:
            raise missing("Common name")
        if not given and (profile.multi_domain or set(in_csr) - {common_name}):
            raise Problem(-1002, "Subject alternative names are required: subjAltNames is empty.")
        names = list(dict.fromkeys([common_name, *given]))
        if not profile.multi_domain and len(names) > 1:
            raise invalid_field("subjAltNames")
        self._check_names(names)
        _check_external(body)
        mode = body.get("dcvMode")
        self._check_domains(names, mode)
        return Wanted(org_id, profile, int(body["term"]), csr.public_key(), common_name, names, mode)

    def _custom_fields(self, given: Sequence[Mapping[str, str]]) -> dict[str, str]:
        fields = {str(one.get("name")): str(one.get("value") or "") for one in given}
        known = {one.name: one for one in self.customer.custom_fields}
        for name in fields:
            if name not in known:
                raise Problem(-64, "Optional field 'name' is invalid!")
        if any(one.mandatory and not fields.get(one.name) for one in known.values()):
            raise Problem(-62, "Missing mandatory custom field!")
        return fields

    def _check_names(self, names: Iterable[str]) -> None:
        for name in names:
            if not is_name(name):
                raise Problem(-732, "Invalid domain name.")

    def _check_domains(self, names: Iterable[str], mode: str | None) -> None:
        lacking = [name for name in names if name in self.undelegated]
        if lacking and not mode:
            raise Problem(
                -107,
                f"Domain Control Validation is either incomplete or expired for {lacking[0]}. "
                "Please complete it before requesting a certificate.",
            )

    def _validations(self, names: Iterable[str], mode: str | None, now: datetime) -> dict[str, Validation]:
        return {
            name: Validation(name, mode or "CNAME", name not in self.undelegated, now, self.undelegated.get(name))
            for name in names
            if mode or name in self.undelegated
        }

    def take_over(self, leaf: x509.Certificate, org_id: int, requester: str) -> tuple[Order, bool]:
        """A certificate that was issued elsewhere, and whether it is new here."""
        known = self.by_serial(format(leaf.serial_number, "x"))
        if known is not None:
            return known, False
        now, ssl_id, number = self._now(), *self._numbers()
        names = certificate_names(leaf)
        life = leaf.not_valid_after_utc - leaf.not_valid_before_utc
        order = Order(
            id=ssl_id,
            order_number=number,
            renew_id="",
            kind="import",
            org_id=org_id,
            type_id=0,
            term=max(1, life.days),
            key=leaf.public_key(),
            common_name=names[0] if names else "",
            names=names,
            requested=now,
            requester=requester,
            plan=Plan.fair(),
            status=Status.ISSUED,
            issued_at=leaf.not_valid_before_utc,
            issued=Issued(leaf, []),
        )
        self.orders[ssl_id] = order
        return order, True

    def _numbers(self) -> tuple[int, int]:
        count = len(self.orders) + len(self.deleted)
        return FIRST_ID + count, FIRST_NUMBER + count

    # --- looking ------------------------------------------------------------------------------------------------------

    def find(self, ssl_id: int) -> Order:
        """The order. Raises `Problem` (400)."""
        if ssl_id not in self.orders:
            raise wrong_id(ssl_id)
        return self.orders[ssl_id]

    def by_renew_id(self, renew_id: str) -> Order:
        """The order with this renewId. Raises `Problem`."""
        for order in self.orders.values():
            if order.renew_id == renew_id:
                return order
        raise Problem(-123, "SSL Certificate to renew is invalid (null)")

    def poll(self, order: Order) -> None:
        """Somebody looks at it; issues what is ready."""
        now = self._now()
        if not order.look(now):
            return
        issued = self.authority.issue(order.key, order.common_name, order.names, order.term, now, order.plan.wrong)
        order.issued, order.issued_at, order.status = issued, now, Status.ISSUED
        self.standings.append(Standing(issued.leaf, None))

    # --- deciding -----------------------------------------------------------------------------------------------------

    def approve(self, ssl_id: int) -> None:
        """By a person at the CA's side."""
        order = self.find(ssl_id)
        self._want_requested(order)
        if order.unvalidated:
            names = ", ".join(order.unvalidated)
            raise Problem(-1137, f"The domain(s) {names} have not been validated under the DCV procedure.")
        order.approve(self._now())

    def decline(self, ssl_id: int) -> None:
        """By a person at the CA's side."""
        order = self.find(ssl_id)
        self._want_requested(order)
        order.status, order.declined = Status.DECLINED, self._now()

    def _want_requested(self, order: Order) -> None:
        if order.status not in (Status.REQUESTED, Status.SA_APPROVED):
            raise Problem(-1112, f"Certificate can't be approved cause it has state = {order.status.value}")

    def revoke(self, order: Order, reason_code: str) -> None:
        """Revoke what was issued."""
        if order.status is Status.REVOKED:
            raise Problem(-159, "Your certificate already revoked")
        if order.status is not Status.ISSUED or order.issued is None:
            raise Problem(-102, "Only issued certificates could be revoked.")
        now, serial = self._now(), order.issued.leaf.serial_number
        order.status, order.revoked, order.reason_code = Status.REVOKED, now, reason_code
        reason = x509.ReasonFlags[REASONS[reason_code]] if reason_code in REASONS else None
        gone = Revocation(serial, now, reason)
        self.standings = [
            replace(one, revoked=gone) if one.certificate.serial_number == serial else one for one in self.standings
        ]

    def revoke_serial(self, serial: str, reason_code: str) -> None:
        """Revoke by serial number, with or without colons."""
        order = self.by_serial(serial)
        if order is None:
            raise Problem(-166, "Entered data doesn't match the certificate or no valid certificate found")
        self.revoke(order, reason_code)

    def by_serial(self, serial: str) -> Order | None:
        """The order whose present certificate has this serial number (hex)."""
        wanted = plain_serial(serial)
        return next((one for one in self.orders.values() if wanted and plain_serial(one.serial_number) == wanted), None)

    def delete(self, order: Order) -> None:
        """Only what was never applied for may go."""
        if order.status not in (Status.REQUESTED, Status.DECLINED, Status.REJECTED, Status.INVALID, Status.INIT):
            raise Problem(-3, "You are not authorized to perform delete.")
        self.deleted.append(self.orders.pop(order.id))

    def view(self, order: Order) -> OrderView:
        """A copy for tests."""
        leaf = order.issued.leaf if order.issued else None
        return OrderView(
            id=order.id,
            order_number=order.order_number,
            renew_id=order.renew_id,
            kind=order.kind,
            status=order.status_at(self._now()).value,
            common_name=order.common_name,
            names=list(order.names),
            comments=order.comments,
            external_requester=order.external_requester,
            type_id=order.type_id,
            term=order.term,
            earlier=order.earlier,
            reissues=order.reissues,
            serial_number=plain_serial(order.serial_number),
            certificate_pem=leaf.public_bytes(serialization.Encoding.PEM).decode() if leaf else None,
            reason_code=order.reason_code,
            unvalidated=order.unvalidated,
        )


def _check_external(body: Mapping[str, Any]) -> None:
    given = body.get("externalRequester")
    if given and not _EXTERNAL.fullmatch(str(given)):
        raise invalid_field("externalRequester")
