"""How far a request has come and what it waits for, in words. Pure functions of what the operations tell."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import tzinfo

from dashboard import words
from model.states import CertificateStatus, InstallState, KeyPlace, RequestOrigin, Verdict
from operations.requests import RequestDetail, Waiting

_TROUBLE = {
    InstallState.FAILED: "failed",
    InstallState.ROLLED_BACK: "failed",
    InstallState.ACTION_REQUIRED: "attention",
}
_OVER_BADLY = {
    CertificateStatus.DECLINED: "declined",
    CertificateStatus.REJECTED: "rejected",
    CertificateStatus.INVALID: "refused",
    CertificateStatus.CANCELED: "canceled",
}
_WAS_ISSUED = (
    CertificateStatus.ISSUED,
    CertificateStatus.REVOKED,
    CertificateStatus.EXPIRED,
    CertificateStatus.REPLACED,
)
MADE = {
    KeyPlace.GATEWAY: "made on the gateway",
    KeyPlace.HSM: "made in the HSM",
    KeyPlace.ENDPOINT: "made at the endpoint",
}
_BEING_DONE = {
    "keys.prepare": "The gateway makes the key and its CSR",
    "keys.discard": "The gateway deletes the key that nothing uses",
    "orders.submit": "The order is placed with the CA",
    "orders.collect": "The CA works on the order",
    "orders.withdraw": "The order is withdrawn at the CA",
    "installation.verify": "The gateway looks whether the canaries serve the certificate still",
    "installation.install": "The gateway installs the certificate and looks at what is served",
}


@dataclass(frozen=True)
class Step:
    """A stage of the life cycle. `state` is done, current, attention, failed or todo; all words are our own."""

    name: str
    state: str
    note: str


def steps(detail: RequestDetail) -> list[Step]:
    """The stages of a request with where it stands."""
    installs = detail.endpoint is not None
    installed = detail.install_state == InstallState.COMPLETED
    given = sum(1 for decision in detail.decisions if decision.verdict == Verdict.APPROVE)
    approved = detail.order_number is not None or detail.status not in (CertificateStatus.REQUESTED, *_OVER_BADLY)
    issued = detail.issued_fingerprint is not None or detail.status in _WAS_ISSUED
    stages = [
        ("Submitted", True, "checked and kept"),
        ("Key and CSR", detail.csr_pem is not None, MADE[detail.key_place]),
        ("Approval", approved, f"{given} of {detail.approvals_required}" if detail.decisions or not approved else ""),
        ("Order", detail.order_number is not None, "at the CA"),
        ("Certificate", issued, "issued and checked"),
        ("Installation", installed if installs else issued and detail.closed, "" if installs else "nothing to install"),
    ]
    if detail.origin == RequestOrigin.ROLLBACK:
        put_back = detail.status in _WAS_ISSUED
        stages = [stages[0], stages[2], ("Certificate", put_back, "in use before"), stages[-1]]
    found: list[Step] = []
    reached = True
    for name, done, note in stages:
        if done and reached:
            found.append(Step(name, "done", note))
        elif reached:
            reached = False
            found.append(Step(name, *_here(detail, note)))
        else:
            found.append(Step(name, "todo", ""))
    return found


def waits_for(detail: RequestDetail, waiting: list[Waiting], zone: tzinfo) -> str | None:
    """What a running request waits for, in one sentence; None for one that has ended."""
    if detail.closed:
        return None
    if waiting:
        told = [_being_done(step) for step in waiting]
        return " ".join(told)
    match detail.install_state:
        case InstallState.READY_FOR_INSTALL:
            return "The certificate is here; it waits for an administrator's word to install it."
        case InstallState.SCHEDULED if detail.group is not None and detail.reason:
            return None  # told by the reason
        case InstallState.SCHEDULED:
            return f"It waits for the maintenance window, {words.when(detail.install_after, zone)}."
        case InstallState.KEY_READY if detail.status == CertificateStatus.REQUESTED:
            given = sum(1 for decision in detail.decisions if decision.verdict == Verdict.APPROVE)
            if detail.approvals_required > 1:
                return f"It waits for approval: {given} of {detail.approvals_required} given."
            return "It waits for somebody else's approval than the requester's."
    return None


def advice(detail: RequestDetail) -> str | None:
    """What to do about a reason of failure; None where there is nothing to mend."""
    if detail.closed and detail.status in (CertificateStatus.INVALID, CertificateStatus.REJECTED):
        return "This request has ended. Mend what the sentence names and submit a new one."
    if detail.closed:
        return None
    match detail.install_state:
        case InstallState.ACTION_REQUIRED:
            return "Do what the sentence asks for, then retry. No new order is placed."
        case InstallState.ROLLED_BACK:
            return "The certificate from before is served. Mend the endpoint, then retry. No new order is placed."
        case InstallState.FAILED:
            return "Mend what the sentence names, then retry. What was already made or ordered is used again."
    return None


def _here(detail: RequestDetail, note: str) -> tuple[str, str]:
    if detail.status in _OVER_BADLY:
        return "failed", _OVER_BADLY[detail.status]
    if detail.install_state in _TROUBLE:
        return _TROUBLE[detail.install_state], words.INSTALL[detail.install_state].words.lower()
    if detail.install_state in (InstallState.READY_FOR_INSTALL, InstallState.SCHEDULED, InstallState.INSTALLING):
        return "current", words.INSTALL[detail.install_state].words.lower()
    return "current", note or "in progress"


def _being_done(step: Waiting) -> str:
    told = _BEING_DONE.get(step.step, f"The step {step.step} runs")
    if step.attempt > 1 and step.last_failure:
        return f"{told}: attempt {step.attempt}; the last one said: {step.last_failure}"
    return f"{told}."
