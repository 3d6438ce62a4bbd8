"""Where a request's steps are put, and what becomes of a step when its gateway changes under it.

A gateway has a task queue for each of its channels, and a restore closes one and opens the next. So the workflow asks
the records where the gateway is *when it puts a step there*, and looks again when it is told that something changed
(signal `gateway_changed`, sent by `operations/gateway_news.py`): a step that waits in the queue of a dead channel is
given up, one that a dead channel's host has done counts for nothing, and both are put where the gateway is now. A
gateway that no longer serves the request is given no step: the request is held until it does again.

Requests that were admitted under 0.1 know nothing of that in their histories; for them each look is a patch.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from temporalio import workflow
from temporalio.exceptions import ActivityError

from workflows import options
from workflows.conversation import RequestConversation
from workflows.steps import NotPickedUp, StepCanceled, StepFailed, at_queue, queue_for, records

with workflow.unsafe.imports_passed_through():
    from activities.admission import Admissions
    from model import messages as m
    from model.naming import gateway_queue
    from model.states import CertificateStatus, InstallState

# More changes than this in the life of one request are not heard: it looks at its next step anyway.
_HEARD_CHANGES = 100


class Canceled(Exception):
    """Somebody canceled the request."""


class Ended(Exception):
    """The request came to nothing, for good."""

    def __init__(self, status: CertificateStatus, reason: str, step: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason
        self.step = step


class Stuck(Exception):
    """A person must do something; then the stage is tried again."""

    def __init__(self, state: InstallState, reason: str, *, told: bool = False, step: str = "request.stuck") -> None:
        super().__init__(reason)
        self.state = state
        self.reason = reason
        self.told = told
        self.step = step


class Held(Stuck):
    """The gateway may not work for this request now; it goes on by itself when it may again."""

    def __init__(self, reason: str) -> None:
        super().__init__(InstallState.ACTION_REQUIRED, reason, step="request.held")


class Incomplete(Stuck):
    """The certificate's chain lacks an issuer. It goes on by itself when what is trusted changes, and looks for the
    issuer again at `again_at`."""

    def __init__(self, reason: str, missing: str, again_at: datetime | None) -> None:
        super().__init__(InstallState.ACTION_REQUIRED, reason, told=True, step="chain.incomplete")
        self.missing = missing
        self.again_at = again_at


class Moved(Exception):
    """The gateway changed while a step was with it: the step is to be put anew."""


class RequestDispatch(RequestConversation):
    """The part of a request workflow that knows where its gateway is."""

    def __init__(self, request_id: int) -> None:
        super().__init__(request_id)
        self._place: m.GatewayPlace | None = None
        self._taken_by = 1
        self._looks = 0
        self._changes = 0
        self._looking = asyncio.Lock()

    @workflow.signal
    async def gateway_changed(self, _word: Any = None) -> None:
        """The gateway was restored, joined, delegated otherwise, or set (in)active: look again."""
        self._changes += 1
        number = self._changes
        if number > _HEARD_CHANGES:
            return
        await workflow.wait_condition(lambda: self._admission is not None or self._closed)
        if self._closed or self._admission is None or self._admission.refused is not None:
            return
        # A manager of 0.1 may have taken this signal and done nothing.
        if self._admission.place is None and not workflow.patched(f"gateway-changed-{number}"):
            return
        try:
            await self._look()
        except ActivityError:
            workflow.logger.info("the gateway of request %s could not be looked at", self._id)

    async def _look(self) -> m.GatewayPlace:
        """Ask the records where the gateway is. One look at a time: the newest answer stays."""
        async with self._looking:
            self._place = await records(Admissions.place, m.RequestStart(self._id))
        return self._place

    async def _whereabouts(self) -> m.GatewayPlace:
        """Where the gateway takes its work at this moment."""
        admission = self._admitted
        self._looks += 1
        if admission.place is None and not workflow.patched(f"channels-{self._looks}"):
            return m.GatewayPlace(admission.gateway_id, admission.gateway)
        return await self._look()

    async def _serving(self) -> m.GatewayPlace:
        """The same, if the gateway may work for the request. Raises `Held`."""
        place = await self._whereabouts()
        if place.unserved is not None:
            raise Held(place.unserved)
        return place

    def _left(self, place: m.GatewayPlace) -> bool:
        """Whether the channel of that place is dead now."""
        return self._place is not None and self._place.channel != place.channel

    def _moved(self, place: m.GatewayPlace) -> bool:
        """Whether what was put at that place is to be given up."""
        return self._left(place) or (self._place is not None and self._place.unserved is not None)

    def _serves_again(self) -> bool:
        return self._place is not None and self._place.unserved is None

    async def _at_place(
        self,
        place: m.GatewayPlace,
        step: Callable[..., Any],
        arg: object,
        how: options.StepOptions,
        pick_up: timedelta | None,
    ) -> Any:
        """Put a step there and wait for it. Raises `Moved`, `Canceled`, `NotPickedUp`, `StepFailed`."""
        try:
            result = await at_queue(
                step,
                arg,
                queue=gateway_queue(place.gateway_id, place.channel),
                how=how,
                canceled=lambda: self._is_canceled() or self._moved(place),
                pick_up=pick_up,
            )
        except StepCanceled:
            if self._is_canceled():
                raise Canceled from None
            raise Moved from None
        except (NotPickedUp, StepFailed):
            if self._moved(place) and not self._is_canceled():
                raise Moved from None
            raise
        if self._left(place):
            # What a host that is shut out has done counts for nothing.
            raise Moved
        self._taken_by = place.channel
        return result

    async def _on_gateway(
        self,
        step: Callable[..., Any],
        arg: object,
        how: options.StepOptions,
        waiting: str,
        *,
        first: m.GatewayPlace | None = None,
    ) -> Any:
        """Have the gateway do a step, however long it is away. `first` is where it was a moment ago. Raises `Held`,
        `Canceled`, `StepFailed`."""
        tries = 0
        place = first
        while True:
            if place is None:
                place = await self._serving()
            self._waiting_for = waiting
            try:
                return await self._at_place(
                    place, step, arg, how, options.PICK_UP[min(tries, len(options.PICK_UP) - 1)]
                )
            except NotPickedUp:
                await self._away(place.gateway)
                tries += 1
            except Moved:
                tries = 0
            place = None

    async def _at_authority(self, step: Callable[..., Any], arg: object, *, first: m.GatewayPlace | None = None) -> Any:
        """Have the CA do a step, from where it is reached."""
        admission = self._admitted
        assert admission.authority is not None
        try:
            if admission.authority.reached_from == "gateway":
                return await self._patiently(step, arg, first)
            return await at_queue(
                step,
                arg,
                queue=queue_for(admission.authority, admission.gateway_id, 1),
                how=options.ORDER,
                canceled=self._is_canceled,
            )
        except StepCanceled:
            raise Canceled from None
        except StepFailed as error:
            if error.kind == "Rejected":
                raise Ended(CertificateStatus.REJECTED, error.message, "order.rejected") from None
            raise Stuck(InstallState.FAILED, error.message, step="order.failed") from None

    async def _patiently(self, step: Callable[..., Any], arg: object, first: m.GatewayPlace | None) -> Any:
        place = first
        while True:
            place = place or await self._serving()
            try:
                return await self._at_place(place, step, arg, options.ORDER, None)
            except Moved:
                place = None

    async def _away(self, gateway: str) -> None:
        told = f"Gateway {gateway} does not take its work: it is not connected, or very busy. The request waits for it."
        if self._reason != told:
            self._reason = told
            await self._progress("gateway.away", told, failed=True)
        self._waiting_for = f"gateway {gateway}, which is not connected"

    @property
    def _admitted(self) -> m.Admission:
        assert self._admission is not None
        return self._admission

    def _is_canceled(self) -> bool:
        return self._cancel is not None

    def _check_cancel(self) -> None:
        if self._cancel is not None:
            raise Canceled
