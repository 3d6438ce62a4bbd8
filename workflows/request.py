"""A certificate request, from the CSR to the certificate that is served.

The workflow is the truth about a running request; the database row is its projection. It ends when the certificate is
served (or issued, where nothing is to be installed), or when the request came to nothing; a failure that a person can
mend leaves it waiting for `retry`.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta

from temporalio import workflow
from temporalio.exceptions import WorkflowAlreadyStartedError

from workflows import attributes, options
from workflows.dispatch import Canceled, Ended, Held, Incomplete, Moved, Stuck
from workflows.group_install import GroupInstall
from workflows.renewal import CertificateRenewalWorkflow
from workflows.steps import NotPickedUp, StepCanceled, StepFailed, at_queue, queue_for, records

with workflow.unsafe.imports_passed_through():
    from activities.admission import Admissions
    from activities.chains import Chains
    from activities.issuance import Issuance
    from activities.keys import Keys
    from activities.orders import Orders
    from model import messages as m
    from model.naming import gateway_queue, renewal_workflow
    from model.states import CertificateStatus, InstallMode, InstallState, KeyPlace

_AWAITING_KEY = "the key and CSR from the gateway"
_AWAITING_DECISION = "an approver's decision"


@workflow.defn(name="CertificateRequest")
class CertificateRequestWorkflow(GroupInstall):
    """One request. Workflow id ``request-<id>``, on the manager's task queue."""

    @workflow.init
    def __init__(self, start: m.RequestStart) -> None:
        super().__init__(start.request_id)
        self._just_admitted: m.GatewayPlace | None = None
        self._csr_channel = 1
        self._key_place = KeyPlace.GATEWAY
        self._held = False
        self._retries = 0
        self._completions = 0
        self._trust_seen = 0
        self._fetched_pem: list[str] = []
        self._fetch_pause = options.FETCH_AGAIN

    # --- the order of things ------------------------------------------------------------------------------------------

    @workflow.run
    async def run(self, _start: m.RequestStart) -> m.RequestResult:
        """Carry the request through. The life of the request is a task of its own, so that a cancel of the workflow
        itself (Temporal CLI) is the same orderly cancel as an administrator's."""
        life = asyncio.create_task(self._live())
        stopped = False
        while not life.done():
            try:
                await workflow.wait_condition(life.done)
            except asyncio.CancelledError:
                stopped = True
                self._cancel = self._cancel or m.AdministratorWord("temporal", "canceled with Temporal's own cancel")
        life.result()
        await workflow.wait_condition(workflow.all_handlers_finished)
        if stopped and self._status == CertificateStatus.CANCELED:
            raise asyncio.CancelledError
        return self._result()

    async def _live(self) -> None:
        try:
            await self._admit()
            if self._admitted.reinstall is not None:
                await self._await_reinstall(self._admitted.reinstall)
            else:
                await self._have_issued()
            await self._stage(self._install)
        except Ended as end:
            await self._end(end.status, end.reason, end.step)
            await self._discard_key()
        except Canceled:
            await self._cancel_everything()
        finally:
            self._closed = True

    async def _have_issued(self) -> None:
        await self._stage(self._prepare_key)
        while self._order_number is None:
            await self._await_decision()
            await self._stage(self._place_order)
        await self._stage(self._collect)
        await self._stage(self._complete)

    async def _await_reinstall(self, wanted: m.Reinstall) -> None:
        """A certificate that was in use before is put back: nothing is made or ordered, and it is decided as any
        other request."""
        outcome = await records(Admissions.accept_csr, m.AcceptCsr(self._id, wanted.csr_pem, self._admitted.key_place))
        if outcome.problem is not None:
            raise Ended(CertificateStatus.INVALID, outcome.problem, "request.invalid")
        self._csr_pem = wanted.csr_pem
        self._standing = "approved" if outcome.approved is not None else "open"
        await self._await_decision()
        self._certificate_id, self._issued = wanted.certificate_id, wanted.fingerprint
        self._certificate_pem, self._chain_pem = wanted.certificate_pem, wanted.chain_pem
        self._status, self._reason = CertificateStatus.ISSUED, None

    async def _admit(self) -> None:
        self._admission = await records(Admissions.admit, m.RequestStart(self._id))
        if self._admission.refused is not None:
            raise Ended(CertificateStatus.INVALID, self._admission.refused, "request.invalid")
        # A signal may have come first, and then it knows better.
        self._place = self._place or self._admission.place
        self._just_admitted = self._place
        self._show(self._status, InstallState.KEY_PROCESSING, _AWAITING_KEY)
        workflow.upsert_search_attributes(
            [
                attributes.GATEWAY.value_set(self._admission.gateway),
                attributes.ORGANIZATION.value_set(self._admission.organization),
                attributes.COMMON_NAME.value_set(self._admission.common_name),
                attributes.STATUS.value_set(self._status),
                attributes.INSTALL_STATE.value_set(self._state),
            ]
        )

    async def _prepare_key(self) -> None:
        """Have the gateway make the key, or, on the host of another channel, see whether it is still there."""
        admission = self._admitted
        assert admission.keystore is not None
        csr_pem = self._csr_pem
        if csr_pem is None or self._host_changed():
            wanted = m.PrepareKey(
                keystore=admission.keystore,
                alias=admission.key_alias,
                algorithm=admission.key_algorithm,
                common_name=admission.common_name,
                names=admission.names,
                endpoint=admission.endpoint if admission.key_place == KeyPlace.ENDPOINT else None,
                binding=admission.binding if admission.key_place == KeyPlace.ENDPOINT else None,
            )
            # At the first time the admission has just said where the gateway is.
            first, self._just_admitted = self._just_admitted, None
            try:
                prepared: m.PreparedKey = await self._on_gateway(
                    Keys.prepare, wanted, options.PREPARE, _AWAITING_KEY, first=first
                )
            except StepFailed as error:
                raise Stuck(InstallState.FAILED, error.message) from None
            csr_pem, self._csr_channel, self._key_place = prepared.csr_pem, self._taken_by, prepared.key_place
        async with self._one_at_a_time:
            outcome = await records(Admissions.accept_csr, m.AcceptCsr(self._id, csr_pem, self._key_place))
            if outcome.problem is not None:
                raise Ended(CertificateStatus.INVALID, outcome.problem, "request.invalid")
            counts = outcome.csr_pem or csr_pem
            if counts != self._csr_pem:
                self._csr_pem, self._approvals, self._standing = counts, [], None
            if self._standing is None:
                self._standing = "approved" if outcome.approved is not None else "open"

    def _host_changed(self) -> bool:
        """Whether the key was made on the host of a channel that is dead, and another host has come."""
        place = self._place
        if self._admitted.reinstall is not None or self._key_place == KeyPlace.ENDPOINT:
            # The key is not this host's, or what is to be put back is known already.
            return False
        return place is not None and place.joined and place.unserved is None and place.channel != self._csr_channel

    async def _await_decision(self) -> None:
        admission = self._admitted
        if self._standing == "open":
            self._project(CertificateStatus.REQUESTED, InstallState.KEY_READY, _AWAITING_DECISION)
        expiry = workflow.now() + timedelta(seconds=admission.expiry_seconds)
        pause = timedelta(seconds=admission.reminder_seconds)
        remind_at = workflow.now() + pause
        while self._standing == "open":
            wake = min(expiry, remind_at)
            if await self._until(lambda: self._standing != "open" or self._host_changed(), at=wake):
                if self._standing != "open" or not self._host_changed():
                    continue
                # Who decides now waits for the CSR that the new host has to show.
                self._standing = None
                await self._stage(self._prepare_key)
                self._project(CertificateStatus.REQUESTED, InstallState.KEY_READY, _AWAITING_DECISION)
                continue
            if workflow.now() >= expiry:
                async with self._one_at_a_time:
                    if self._standing != "open":
                        break
                    self._standing = "expired"
                raise Ended(
                    CertificateStatus.CANCELED,
                    f"Nobody decided within {_span(admission.expiry_seconds)}: submit it again if it is needed.",
                    "request.expired",
                )
            await self._progress("approval.reminder", "The request still awaits an approver's decision.")
            # Each pause is twice the one before: a forgotten request costs few reminders and little history.
            pause *= 2
            remind_at = workflow.now() + pause
        if self._standing == "declined":
            raise Ended(CertificateStatus.DECLINED, self._reason or "declined", "request.closed")
        self._check_cancel()
        if admission.reinstall is None:
            self._project(CertificateStatus.APPROVED, InstallState.CERT_PROCESSING, "the CA's order number")

    async def _place_order(self) -> None:
        """Order, once the gateway still serves the request and the key of the approved CSR is still there; else the
        approval is asked for anew (and this ends without an order)."""
        admission = self._admitted
        assert admission.authority is not None
        place = await self._serving()
        if place.channel != self._csr_channel and self._key_place != KeyPlace.ENDPOINT:
            approved = self._csr_pem
            self._place = dataclasses.replace(place, joined=True)
            await self._prepare_key()
            if self._csr_pem != approved:
                return
            place = await self._serving()
        placed: m.OrderPlaced = await self._at_authority(Orders.submit, self._ordered(admission.authority), first=place)
        self._order_number = placed.order_number
        self._status = CertificateStatus.APPLIED
        found = " (it was there before)" if placed.found else ""
        await self._progress(
            "order.placed", f"Order {placed.order_number} was placed with {admission.authority.name}{found}."
        )
        self._project(CertificateStatus.APPLIED, InstallState.CERT_PROCESSING, f"order {placed.order_number} at the CA")

    def _ordered(self, authority: m.AuthorityAccess) -> m.SubmitOrder:
        """The order, the same words each time."""
        admission = self._admitted
        assert self._csr_pem is not None
        return m.SubmitOrder(
            authority=authority,
            reference=admission.reference,
            csr_pem=self._csr_pem,
            common_name=admission.common_name,
            names=admission.names,
            profile=admission.authority_profile,
            validity_seconds=admission.validity_seconds,
            custom_fields=admission.custom_fields,
            way=admission.way,
            earlier=admission.earlier,
            reason=admission.order_reason,
        )

    async def _collect(self) -> None:
        admission = self._admitted
        assert admission.authority is not None
        assert self._order_number is not None
        order = m.CollectOrder(admission.authority, self._order_number, self._ordered(admission.authority))
        collected: m.Collected = await self._at_authority(Orders.collect, order)
        self._certificate_pem, self._chain_pem = collected.certificate_pem, collected.chain_pem

    async def _complete(self) -> None:
        if self._certificate_pem is None:
            await self._collect()
        assert self._certificate_pem is not None
        # What changes while the chain is looked at counts.
        self._trust_seen = self._trust_changes
        came = m.AcceptCertificate(self._id, self._certificate_pem, self._chain_pem, self._fetched_pem)
        outcome = await records(Issuance.accept_certificate, came)
        if outcome.incomplete is not None:
            outcome = await self._look_for_issuers(came, outcome)
        if outcome.fault is not None:
            # Fetched anew on a retry, never ordered anew.
            self._certificate_pem = None
            raise Stuck(InstallState.FAILED, outcome.fault, told=True, step="certificate.refused")
        self._certificate_id, self._issued, self._chain_pem = (
            outcome.certificate_id,
            outcome.fingerprint,
            outcome.chain_pem,
        )
        self._status, self._reason = CertificateStatus.ISSUED, None

    async def _look_for_issuers(self, came: m.AcceptCertificate, outcome: m.CertificateOutcome) -> m.CertificateOutcome:
        """Have the missing issuers fetched from where the certificates say, and ask again. Raises `Incomplete`."""
        assert outcome.incomplete is not None
        self._completions += 1
        # Requests of 0.2 and before waited for a word.
        if not workflow.patched(f"chain-{self._completions}"):
            raise Stuck(InstallState.ACTION_REQUIRED, outcome.incomplete, told=True, step="chain.incomplete")
        again_at = None
        if outcome.fetch is not None:
            fetched = await self._fetch(outcome.fetch)
            self._fetched_pem = list(dict.fromkeys([*self._fetched_pem, *fetched.certificates]))
            came = dataclasses.replace(came, fetched_pem=self._fetched_pem, looked=True, notes=fetched.notes)
            outcome = await records(Issuance.accept_certificate, came)
            if fetched.again:
                again_at = workflow.now() + self._fetch_pause
                self._fetch_pause = min(2 * self._fetch_pause, options.FETCH_AGAIN_AT_MOST)
        if outcome.incomplete is not None:
            raise Incomplete(outcome.incomplete, outcome.missing_issuer or "an issuer", again_at)
        return outcome

    async def _fetch(self, wanted: m.FetchIssuers) -> m.FetchedIssuers:
        """From where the CA is reached. A gateway that is away just now is no failure."""
        admission = self._admitted
        assert admission.authority is not None
        try:
            if admission.authority.reached_from == "gateway":
                place = await self._serving()
                fetched = await self._at_place(place, Chains.fetch, wanted, options.FETCH, options.PICK_UP[0])
            else:
                fetched = await at_queue(
                    Chains.fetch,
                    wanted,
                    queue=queue_for(admission.authority, admission.gateway_id, 1),
                    how=options.FETCH,
                    canceled=self._is_canceled,
                )
        except StepCanceled:
            raise Canceled from None
        except (StepFailed, NotPickedUp, Moved):
            note = "The address of the issuer in the certificate could not be asked now."
            return m.FetchedIssuers([], [note], again=True)
        assert isinstance(fetched, m.FetchedIssuers)
        return fetched

    async def _install(self) -> None:
        admission = self._admitted
        if admission.endpoint is None or admission.binding is None:
            await self._finish(
                InstallState.NOT_CONFIGURED, "The certificate is issued; nothing is to be installed.", None
            )
            return
        # A retry after a failed install is a word to install as well.
        if admission.install_mode == InstallMode.MANUAL and not self._install_word and self._attempts == 0:
            waiting = "an administrator's word to install"
            ready = InstallState.READY_FOR_INSTALL
            await self._progress("certificate.ready", "The certificate awaits the word to install.", state=ready)
            self._project(CertificateStatus.ISSUED, InstallState.READY_FOR_INSTALL, waiting)
            await self._until(lambda: self._install_word)
        if admission.group is not None:
            await self._install_group(admission, admission.group)
            return
        while True:
            place = await self._await_window()
            self._attempts += 1
            self._project(CertificateStatus.ISSUED, InstallState.INSTALLING, f"gateway {admission.gateway}")
            try:
                installed = await self._install_once(admission, place)
            except NotPickedUp:
                # The window may be over by the time the gateway is back: plan again.
                await self._away(admission.gateway)
                continue
            except Moved:
                self._attempts -= 1
                continue
            break
        message = f"{admission.endpoint.name} {'already served' if installed.already else 'now serves'} the certificate"
        self._served = installed.served_after
        await self._finish(InstallState.COMPLETED, f"{message} on {admission.binding}.", installed)

    async def _install_once(self, admission: m.Admission, place: m.GatewayPlace) -> m.Installed:
        assert admission.endpoint is not None
        assert admission.binding is not None
        try:
            return await self._install_at(admission.endpoint, admission.binding, place)
        except StepFailed as error:
            state, told = self._failed_install(error)
            self._served = error.trouble.served if error.trouble else None
            await self._record_install(state, told, None, error.trouble)
            raise Stuck(state, told, told=True, step="install.failed") from None

    async def _await_window(self) -> m.GatewayPlace:
        """Wait until the install may start; gives where the gateway is then. Raises `Held`."""
        while True:
            plan = await records(Issuance.plan_install, m.PlanInstall(self._id, at_once=self._install_word))
            if plan.wait_until is None and plan.place is None:
                # Planned by 0.1.
                return await self._serving()
            if plan.wait_until is None:
                self._place = plan.place
                assert plan.place is not None
                if plan.place.unserved is not None:
                    raise Held(plan.place.unserved)
                return plan.place
            self._project(CertificateStatus.ISSUED, InstallState.SCHEDULED, plan.message)
            await self._until(lambda: self._install_word, at=plan.wait_until)

    async def _finish(self, state: InstallState, message: str, installed: m.Installed | None) -> None:
        recorded = await self._record_install(state, message, installed, None)
        if recorded.watch_certificate_id is not None:
            await self._watch(recorded.watch_certificate_id)
        self._project(CertificateStatus.ISSUED, state, "nothing")

    async def _record_install(
        self, state: InstallState, message: str, installed: m.Installed | None, trouble: m.InstallTrouble | None
    ) -> m.Recorded:
        assert self._certificate_id is not None
        steps = installed.steps if installed else trouble.steps if trouble else []
        return await records(
            Issuance.record_install,
            m.RecordInstall(
                request_id=self._id,
                certificate_id=self._certificate_id,
                attempt=self._attempts,
                status=CertificateStatus.ISSUED,
                state=state,
                message=message,
                verification=installed.verification if installed else None,
                served_before=installed.served_before if installed else None,
                served_after=self._served,
                steps=steps,
            ),
        )

    async def _watch(self, certificate_id: int) -> None:
        try:
            await workflow.start_child_workflow(
                CertificateRenewalWorkflow.run,
                m.RenewalStart(certificate_id),
                id=renewal_workflow(certificate_id),
                parent_close_policy=workflow.ParentClosePolicy.ABANDON,
            )
        except WorkflowAlreadyStartedError:
            return

    # --- canceling and failing ----------------------------------------------------------------------------------------

    async def _stage(self, step: Callable[[], Awaitable[None]]) -> None:
        """Run a stage; when it fails in a way that a person can mend, tell it and wait for `retry`."""
        while True:
            self._check_cancel()
            try:
                await step()
                self._stuck = False
                return
            except Stuck as stuck:
                why = stuck
            await self._wait_stuck(why)

    async def _wait_stuck(self, stuck: Stuck) -> None:
        """Tell it, and wait for `retry` or for what lets it go on by itself."""
        self._held = isinstance(stuck, Held)
        incomplete = stuck if isinstance(stuck, Incomplete) else None
        # A look for the issuer that found nothing new is nothing to tell again.
        known, self._reason = self._stuck and self._reason == stuck.reason, stuck.reason
        # Who is held goes on where it was: a word to install that was given stays given.
        self._stuck, self._retry_word, self._install_word = True, False, self._held and self._install_word
        waiting = "an administrator's retry or cancel"
        if incomplete is not None:
            waiting = f"the certificate of {incomplete.missing} among the trusted CA certificates"
        if not known:
            await self._progress(stuck.step, stuck.reason, failed=True, state=stuck.state, audited=not stuck.told)
        self._project(self._status, stuck.state, waiting)

        def goes_on() -> bool:
            trusted_anew = incomplete is not None and self._trust_changes != self._trust_seen
            return self._retry_word or trusted_anew or (self._held and self._serves_again())

        if not await self._until(goes_on, at=incomplete.again_at if incomplete is not None else None):
            return
        self._stuck, self._reason = False, None
        if self._retry_word:
            await self._access_anew()
        if not self._retry_word and (self._held or incomplete is not None):
            told = f"Gateway {self._admitted.gateway} serves the request again."
            if incomplete is not None:
                told = "The trusted CA certificates changed: the chain is looked at again."
            await self._progress("request.resumed", told, state=InstallState.CERT_PROCESSING)
        self._project(self._status, InstallState.CERT_PROCESSING, "the retry")

    async def _access_anew(self) -> None:
        """Whoever says *retry* may have mended the settings of CA, endpoint or keystore: they are read again."""
        self._retries += 1
        # 0.2 went on with those of the admission.
        if self._admission is None or not workflow.patched(f"settings-{self._retries}"):
            return
        now = await records(Admissions.access, m.RequestStart(self._id))
        self._admission = dataclasses.replace(
            self._admission, authority=now.authority, keystore=now.keystore, endpoint=now.endpoint
        )

    async def _cancel_everything(self) -> None:
        word = self._cancel or m.AdministratorWord("certgate")
        told = [f"Canceled by {word.administrator}" + (f": {word.comment}" if word.comment else ".")]
        admission = self._admission
        if admission is not None and admission.reinstall is not None:
            told.append("Nothing more is put back.")
        elif admission is not None and admission.authority is not None and self._certificate_id is not None:
            told.append(f"Certificate {self._issued} was issued and is not used: revoke it if nobody else needs it.")
        elif (
            admission is not None
            and admission.authority is not None
            and self._standing == "approved"
            and admission.reinstall is None
        ):
            told.append(await self._withdraw(admission, admission.authority))
        await self._end(CertificateStatus.CANCELED, " ".join(told), "request.canceled")
        self._canceling_is_over = True
        await self._discard_key()

    async def _withdraw(self, admission: m.Admission, authority: m.AuthorityAccess) -> str:
        order = m.WithdrawOrder(authority, admission.reference, self._order_number, self._ordered(authority))
        place = await self._whereabouts()
        try:
            withdrawn: m.Withdrawn = await at_queue(
                Orders.withdraw,
                order,
                queue=queue_for(authority, admission.gateway_id, place.channel),
                how=options.TIDY,
                canceled=lambda: False,
                pick_up=options.PICK_UP[0],
            )
        except (StepFailed, StepCanceled, NotPickedUp):
            number = f"Order {self._order_number}" if self._order_number else "An order that may have been placed"
            return f"{number} at {authority.name} could not be withdrawn: look there for {admission.reference}."
        self._order_number = withdrawn.order_number or self._order_number
        return withdrawn.message

    async def _end(self, status: CertificateStatus, reason: str, step: str) -> None:
        self._status, self._reason = status, reason
        await self._progress(step, reason, failed=status == CertificateStatus.INVALID, closed=True)
        self._project(status, self._state, "nothing")

    async def _discard_key(self) -> None:
        """Delete the key that nothing will use; a gateway that is away does it when it is back, within a month."""
        admission = self._admission
        if admission is None or admission.keystore is None or admission.key_is_shared:
            return
        at_endpoint = self._key_place == KeyPlace.ENDPOINT
        # 0.1 waited for all of the month at once.
        days, tries = (30, 1) if admission.place is None else (1, 30)
        for _ in range(tries):
            place = await self._whereabouts()
            try:
                await at_queue(
                    Keys.discard,
                    m.DiscardKey(
                        admission.keystore,
                        admission.key_alias,
                        admission.endpoint if at_endpoint else None,
                        admission.binding if at_endpoint else None,
                    ),
                    queue=gateway_queue(place.gateway_id, place.channel),
                    how=options.TIDY,
                    canceled=lambda: False,
                    pick_up=timedelta(days=days),
                )
                return
            except NotPickedUp:
                continue
            except (StepFailed, StepCanceled):
                break
        message = f"Key {admission.key_alias} could not be deleted on gateway {admission.gateway}: delete it there."
        await self._progress("key.left", message, failed=True, closed=True)

    # --- small helpers ------------------------------------------------------------------------------------------------

    async def _until(self, condition: Callable[[], bool], *, at: datetime | None = None) -> bool:
        """Wait for the condition; False when `at` came first. Raises when the request is canceled meanwhile."""
        timeout = None if at is None else max(timedelta(0), at - workflow.now())
        try:
            await workflow.wait_condition(lambda: condition() or self._cancel is not None, timeout=timeout)
        except TimeoutError:
            return False
        self._check_cancel()
        return True

    def _result(self) -> m.RequestResult:
        return m.RequestResult(
            request_id=self._id,
            status=self._status,
            install_state=self._state,
            order_number=self._order_number,
            certificate_id=self._certificate_id,
            issued_fingerprint=self._issued,
            served_fingerprint=self._served,
            reason=self._reason,
        )


def _span(seconds: int) -> str:
    days, rest = divmod(seconds, 86_400)
    return f"{days} days" if days and not rest else f"{timedelta(seconds=seconds)}"
