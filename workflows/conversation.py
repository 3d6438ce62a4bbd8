"""A request's state, how it is shown, and what people may say and ask while it runs.

Updates answer; signals of the same names are for those who can't wait, and for the Temporal CLI. Whether a word counts
is judged by `activities/decisions.py`, and a word that does not count never disturbs the request.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from temporalio import workflow
from temporalio.exceptions import ApplicationError

from workflows import attributes
from workflows.steps import records

with workflow.unsafe.imports_passed_through():
    from activities.admission import Admissions
    from activities.decisions import Decisions
    from model import messages as m
    from model.states import CertificateStatus, InstallState, Verdict

# Signals beyond this number are dropped unheard: the history of a request must not grow without bound because somebody
# sends signals in a loop.
_HEARD_SIGNALS = 100


class RequestConversation:
    """The part of a request workflow that faces people."""

    def __init__(self, request_id: int) -> None:
        self._id = request_id
        self._status = CertificateStatus.REQUESTED
        self._state = InstallState.NOT_STARTED
        self._waiting_for = "the manager"
        self._reason: str | None = None
        self._admission: m.Admission | None = None
        self._csr_pem: str | None = None
        self._standing: str | None = None
        self._approvals: list[str] = []
        self._order_number: str | None = None
        self._certificate_id: int | None = None
        self._certificate_pem: str | None = None
        self._chain_pem: list[str] = []
        self._issued: str | None = None
        self._served: str | None = None
        self._attempts = 0
        self._cancel: m.AdministratorWord | None = None
        self._install_word = False
        self._retry_word = False
        self._trust_heard = 0
        self._trust_changes = 0
        self._stuck = False
        self._canceling_is_over = False
        self._closed = False
        self._heard = 0
        self._one_at_a_time = asyncio.Lock()

    async def _progress(
        self,
        step: str,
        description: str,
        *,
        failed: bool = False,
        closed: bool = False,
        state: InstallState | None = None,
        audited: bool = True,
    ) -> None:
        if state is not None:
            self._state = state
        await records(
            Admissions.progress,
            m.Progress(
                request_id=self._id,
                step=step,
                status=self._status,
                install_state=self._state,
                description=description,
                reason=self._reason,
                order_number=self._order_number,
                failed=failed,
                closed=closed,
                audited=audited,
            ),
        )

    def _show(self, status: CertificateStatus, state: InstallState, waiting: str) -> None:
        self._status, self._state, self._waiting_for = status, state, waiting
        admission = self._admission
        name = admission.common_name if admission else f"request {self._id}"
        lines = [f"**{name}**: {status} / {state}", f"Waiting for {waiting}."]
        if admission is not None and admission.gateway:
            lines.append(f"Gateway {admission.gateway}, organization {admission.organization}.")
        if self._order_number:
            lines.append(f"Order {self._order_number}.")
        if self._reason:
            lines.append(self._reason)
        workflow.set_current_details("\n\n".join(lines))

    def _project(self, status: CertificateStatus, state: InstallState, waiting: str) -> None:
        """Show the state to the Temporal CLI and UI; search attributes are written only when one changes."""
        self._show(status, state, waiting)
        shown = workflow.info().typed_search_attributes
        changes = [
            key.value_set(value)
            for key, value in ((attributes.STATUS, str(status)), (attributes.INSTALL_STATE, str(state)))
            if shown.get(key) != value
        ]
        if changes:
            workflow.upsert_search_attributes(changes)

    # --- what people say and ask --------------------------------------------------------------------------------------

    @workflow.query
    def view(self) -> m.RequestView:
        """Where the request stands and what it waits for."""
        return m.RequestView(
            request_id=self._id,
            status=self._status,
            install_state=self._state,
            waiting_for=self._waiting_for,
            order_number=self._order_number,
            issued_fingerprint=self._issued,
            served_fingerprint=self._served,
            reason=self._reason,
            approvals=list(self._approvals),
        )

    @workflow.query
    def csr(self) -> str | None:
        """The CSR, PEM, once the gateway has made it."""
        return self._csr_pem

    @workflow.update
    async def approve(self, word: m.AdministratorWord) -> m.Receipt:
        """Approve. Waits for the CSR if the gateway has not made it yet."""
        return await self._decide(word, Verdict.APPROVE)

    @approve.validator
    def _check_approve(self, word: m.AdministratorWord) -> None:
        self._check_decision(word)
        admission = self._admission
        if admission is not None and admission.four_eyes and word.administrator == admission.requester:
            raise refusal(f"{word.administrator} requested request {self._id}, so somebody else has to approve it.")

    @workflow.update
    async def decline(self, word: m.AdministratorWord) -> m.Receipt:
        """Decline, with the reason as comment."""
        return await self._decide(word, Verdict.DECLINE)

    @decline.validator
    def _check_decline(self, word: m.AdministratorWord) -> None:
        self._check_decision(word)
        if not word.comment.strip():
            raise refusal(f"A decline of request {self._id} needs a reason: give it as the comment.")

    @workflow.update
    async def cancel(self, word: m.AdministratorWord) -> m.Receipt:
        """Cancel at whatever point the request is; answers when it is settled what became of it."""
        return await self._cancel_now(word)

    async def _cancel_now(self, word: m.AdministratorWord) -> m.Receipt:
        await self._permit(word, "cancel")
        self._cancel = self._cancel or word
        await workflow.wait_condition(lambda: self._canceling_is_over or self._closed)
        if self._status == CertificateStatus.CANCELED:
            return self._receipt(self._reason or "Canceled.")
        return self._receipt(f"It was too late to cancel: request {self._id} is {self._status} / {self._state}.")

    @cancel.validator
    def _check_cancel_word(self, word: m.AdministratorWord) -> None:
        self._check_open(word, "canceled")

    @workflow.update
    async def install(self, word: m.AdministratorWord) -> m.Receipt:
        """Install now, also before the maintenance window opens."""
        return await self._install_now(word)

    async def _install_now(self, word: m.AdministratorWord) -> m.Receipt:
        await self._permit(word, "install")
        self._install_word = True
        return self._receipt("The certificate is being installed.")

    @install.validator
    def _check_install(self, word: m.AdministratorWord) -> None:
        self._check_open(word, "installed")
        if self._state not in (InstallState.READY_FOR_INSTALL, InstallState.SCHEDULED):
            raise refusal(
                f"Request {self._id} does not await the word to install: it is {self._status} / {self._state}."
            )

    @workflow.update
    async def retry(self, word: m.AdministratorWord) -> m.Receipt:
        """Try the stage that failed again; nothing is ordered a second time."""
        return await self._retry_now(word)

    async def _retry_now(self, word: m.AdministratorWord) -> m.Receipt:
        await self._permit(word, "retry")
        self._retry_word = True
        return self._receipt("The step that failed is being tried again.")

    @retry.validator
    def _check_retry(self, word: m.AdministratorWord) -> None:
        self._check_open(word, "retried")
        if not self._stuck:
            raise refusal(f"Nothing failed in request {self._id} that could be retried: it is {self._status}.")

    # Signals take their word as optional: one that comes with nothing must not stop the workflow.

    @workflow.signal(name="approve")
    async def approve_signal(self, word: m.AdministratorWord | None = None) -> None:
        """As the update; the audit tells whether it counted."""
        if word is not None:
            await self._hear(self._decide(word, Verdict.APPROVE))

    @workflow.signal(name="decline")
    async def decline_signal(self, word: m.AdministratorWord | None = None) -> None:
        """As the update; the audit tells whether it counted."""
        if word is not None:
            await self._hear(self._decide(word, Verdict.DECLINE))

    @workflow.signal(name="cancel")
    async def cancel_signal(self, word: m.AdministratorWord | None = None) -> None:
        """As the update; the audit tells whether it counted."""
        if word is not None and not self._closed:
            await self._hear(self._cancel_now(word))

    @workflow.signal(name="install")
    async def install_signal(self, word: m.AdministratorWord | None = None) -> None:
        """As the update; nothing happens where none is awaited."""
        awaited = self._state in (InstallState.READY_FOR_INSTALL, InstallState.SCHEDULED)
        if word is not None and awaited:
            await self._hear(self._install_now(word))

    @workflow.signal(name="retry")
    async def retry_signal(self, word: m.AdministratorWord | None = None) -> None:
        """As the update; nothing happens where nothing failed."""
        if word is not None and self._stuck:
            await self._hear(self._retry_now(word))

    @workflow.signal
    async def trust_changed(self, _word: Any = None) -> None:
        """A CA certificate that the request may wait for was added or removed (`operations/trust_news.py`)."""
        number = self._trust_heard = self._trust_heard + 1
        # A manager of 0.2 may have taken this signal and done nothing.
        if number <= _HEARD_SIGNALS and workflow.patched(f"trust-changed-{number}"):
            self._trust_changes += 1

    async def _hear(self, saying: Coroutine[Any, Any, m.Receipt]) -> None:
        """A signal has no answer: a word that does not count is in the audit, and the workflow goes on."""
        self._heard += 1
        if self._heard > _HEARD_SIGNALS:
            saying.close()
            return
        try:
            await saying
        except ApplicationError as error:
            workflow.logger.info("a word that does not count: %s", error.message)

    async def _decide(self, word: m.AdministratorWord, verdict: Verdict) -> m.Receipt:
        await workflow.wait_condition(lambda: self._standing is not None or self._closed)
        async with self._one_at_a_time:
            if self._standing == "expired" or self._closed:
                raise refusal(f"Request {self._id} awaits no decision any more: it is {self._status}.")
            outcome = await records(Decisions.decide, m.Decide(self._id, word.administrator, verdict, word.comment))
            if outcome.refused is not None:
                raise refusal(outcome.refused)
            if verdict == Verdict.APPROVE:
                self._approvals.append(word.administrator)
            elif word.comment:
                self._reason = word.comment
            self._standing = outcome.standing
            done = "approved" if verdict == Verdict.APPROVE else "declined"
            more = " Another approval is needed." if outcome.standing == "open" else ""
            if outcome.standing == "approved":
                self._status = CertificateStatus.APPROVED
            return self._receipt(f"Request {self._id} is {done} by {word.administrator}.{more}")

    async def _permit(self, word: m.AdministratorWord, action: str) -> None:
        outcome = await records(Decisions.permit, m.Permit(self._id, word.administrator, action, word.comment))
        if outcome.refused is not None:
            raise refusal(outcome.refused)

    def _check_decision(self, word: m.AdministratorWord) -> None:
        if self._closed or self._standing not in (None, "open"):
            raise refusal(f"Request {self._id} awaits no decision any more: it is {self._status}.")
        if not word.administrator.strip():
            raise refusal("A decision needs the administrator's login.")
        if word.administrator in self._approvals:
            raise refusal(f"{word.administrator} has already decided on request {self._id} (approve).")

    def _check_open(self, word: m.AdministratorWord, done: str) -> None:
        if self._closed or self._canceling_is_over:
            raise refusal(f"Request {self._id} can't be {done} any more: it is {self._status} / {self._state}.")
        if not word.administrator.strip():
            raise refusal("The administrator's login is missing.")

    def _receipt(self, message: str) -> m.Receipt:
        return m.Receipt(self._status, self._state, message)


def refusal(message: str) -> ApplicationError:
    return ApplicationError(message, type="Refused", non_retryable=True)
