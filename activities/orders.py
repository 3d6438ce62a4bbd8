"""Orders at a CA, on the process that reaches it: the manager, or the gateway for a CA inside its network."""

from __future__ import annotations

import inspect
from collections import OrderedDict

from temporalio import activity

from activities.failures import as_failures, heartbeating
from connectors.ca.contract import (
    CancelsOrders,
    CertificateAuthority,
    CollectRequest,
    EarlierOrder,
    FindsOrders,
    Order,
    OrderRequest,
    RenewsCertificates,
    ReplacesCertificates,
    RevocationReason,
    RevokeRequest,
)
from connectors.registry import Surroundings, find
from model.messages import (
    AuthorityAccess,
    Collected,
    CollectOrder,
    OrderPlaced,
    RevokeCertificate,
    SubmitOrder,
    Withdrawn,
    WithdrawOrder,
)
from model.states import OrderWay

_KEPT_OPEN = 64


class Orders:
    """Runs where the CA is reached from. Opened CAs are kept: a thousand orders do not sign in a thousand times."""

    def __init__(self, surroundings: Surroundings) -> None:
        self._surroundings = surroundings
        self._open: OrderedDict[str, CertificateAuthority] = OrderedDict()

    @activity.defn(name="orders.submit")
    async def submit(self, order: SubmitOrder) -> OrderPlaced:
        """Look for an order of ours first, and only then place one."""
        with as_failures():
            async with heartbeating(lambda: f"ordering from {order.authority.name}"):
                authority = self.authority(order.authority)
                request = _request(order)
                if isinstance(authority, FindsOrders):
                    there = await authority.find(request)
                    if there is not None:
                        return OrderPlaced(there.number, found=True)
                placed = await _place(authority, request, order.way)
                return OrderPlaced(placed.number, found=False)

    @activity.defn(name="orders.collect")
    async def collect(self, order: CollectOrder) -> Collected:
        """Fetch the certificate; fails with `Pending`, and so runs again after the CA's hint, until it is issued."""
        with as_failures():
            async with heartbeating(lambda: f"collecting order {order.order_number} from {order.authority.name}"):
                wanted = CollectRequest(order.order_number, _request(order.order))
                issued = await self.authority(order.authority).collect(wanted)
                return Collected(issued.certificate_pem, list(issued.chain_pem))

    @activity.defn(name="orders.withdraw")
    async def withdraw(self, order: WithdrawOrder) -> Withdrawn:
        """Withdraw the order of a canceled request, where the CA can, and say what became of it."""
        with as_failures():
            async with heartbeating():
                authority = self.authority(order.authority)
                number = order.order_number
                if number is None and isinstance(authority, FindsOrders):
                    there = await authority.find(_request(order.order, order.reference))
                    number = there.number if there else None
                name = order.authority.name
                if number is None:
                    return Withdrawn(None, f"{name} has no order for it.")
                if isinstance(authority, CancelsOrders):
                    if await authority.withdraw(number):
                        return Withdrawn(number, f"Order {number} at {name} was withdrawn.")
                    return Withdrawn(
                        number, f"Order {number} at {name} was issued already: revoke its certificate there."
                    )
                return Withdrawn(number, f"Order {number} at {name} can't be withdrawn from here: decline it there.")

    @activity.defn(name="orders.revoke")
    async def revoke(self, order: RevokeCertificate) -> None:
        """Revoke a certificate at its CA; one that is revoked already is success."""
        with as_failures():
            async with heartbeating():
                await self.authority(order.authority).revoke(
                    RevokeRequest(
                        order_number=order.order_number,
                        certificate_pem=order.certificate_pem,
                        serial_number=order.serial_number,
                        reason=RevocationReason(order.reason),
                    )
                )

    async def close(self) -> None:
        """Close the connections of the CAs that are open; the next step opens its own again."""
        while self._open:
            _, authority = self._open.popitem()
            if inspect.iscoroutinefunction(closing := getattr(authority, "close", None)):
                await closing()

    def authority(self, access: AuthorityAccess) -> CertificateAuthority:
        """The CA, opened or kept open. Raises `Permanent` (settings, unknown type)."""
        kind = find("cas", access.type)
        settings = kind.configure(access.settings)
        key = f"{access.type} {settings.model_dump_json()}"
        if key not in self._open:
            self._open[key] = kind.open(settings, self._surroundings)
            if len(self._open) > _KEPT_OPEN:
                self._open.popitem(last=False)
        self._open.move_to_end(key)
        return self._open[key]


async def _place(authority: CertificateAuthority, request: OrderRequest, way: OrderWay) -> Order:
    """In the way that was asked for, where the CA knows it and the earlier order is one of its own."""
    if request.earlier is not None and way == OrderWay.RENEW and isinstance(authority, RenewsCertificates):
        return await authority.renew(request)
    if request.earlier is not None and way == OrderWay.REPLACE and isinstance(authority, ReplacesCertificates):
        return await authority.replace(request)
    return await authority.submit(request)


def _request(order: SubmitOrder | None, reference: str = "") -> OrderRequest:
    if order is None:
        # Asked by a release before this one, which gave no more than its reference.
        return OrderRequest(reference=reference, csr_pem="", common_name="", names=[])
    earlier = order.earlier
    return OrderRequest(
        reference=order.reference,
        csr_pem=order.csr_pem,
        common_name=order.common_name,
        names=order.names,
        profile=order.profile,
        validity_seconds=order.validity_seconds,
        custom_fields=order.custom_fields,
        earlier=EarlierOrder(earlier.number, earlier.serial_number, earlier.ari_identifier) if earlier else None,
        reason=order.reason,
    )
