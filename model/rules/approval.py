"""Who may decide on a request, and when is it decided?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from model.rules.permissions import Grant, Scope, may
from model.states import CertificateStatus, Privilege, Verdict

# Which privileges let an administrator say which word to a request; one of them is enough.
NEEDED: Mapping[str, tuple[Privilege, ...]] = MappingProxyType(
    {
        "cancel": (Privilege.REQUEST, Privilege.APPROVE),
        "install": (Privilege.INSTALL,),
        "retry": (Privilege.INSTALL, Privilege.APPROVE),
    }
)


class Standing(StrEnum):
    """Where the decision stands."""

    OPEN = "open"
    APPROVED = "approved"
    DECLINED = "declined"


@dataclass(frozen=True)
class Rules:
    """The part of an approval policy that decides."""

    approvals_required: int
    four_eyes: bool
    auto_approve_renewals: bool
    auto_approve_privileged: bool


@dataclass(frozen=True)
class Given:
    """A decision that was given."""

    administrator: str
    verdict: Verdict


def standing(rules: Rules, given: Iterable[Given]) -> Standing:
    """One decline ends it; enough approvals by different people approve it."""
    decisions = list(given)
    if any(decision.verdict == Verdict.DECLINE for decision in decisions):
        return Standing.DECLINED
    approvers = {decision.administrator for decision in decisions if decision.verdict == Verdict.APPROVE}
    return Standing.APPROVED if len(approvers) >= max(1, rules.approvals_required) else Standing.OPEN


def refusal(
    rules: Rules,
    *,
    administrator: str,
    active: bool,
    grants: Sequence[Grant],
    requester: str,
    verdict: Verdict,
    scope: Scope,
    status: CertificateStatus,
    given: Iterable[Given],
    label: str,
) -> str | None:
    """Why this decision does not count, in one sentence; None when it counts. `label` names the request."""
    earlier = [decision for decision in given if decision.administrator == administrator]
    if not active:
        return f"{administrator} is not an active administrator, so {label} stays as it is."
    if not may(grants, Privilege.APPROVE, scope):
        return f"{administrator} may not decide on {label}: the privilege 'approve' for its organization is missing."
    if verdict == Verdict.APPROVE and rules.four_eyes and administrator == requester:
        return f"{administrator} requested {label}, so somebody else has to approve it."
    if earlier:
        return f"{administrator} has already decided on {label} ({earlier[0].verdict})."
    if status != CertificateStatus.REQUESTED:
        return f"{label} awaits no decision any more: it is {status}."
    return None


def automatic(rules: Rules, *, renewal: bool, same_names: bool, requester: Sequence[Grant], scope: Scope) -> str | None:
    """Why no person needs to approve, in a few words; None when one must."""
    if renewal and same_names and rules.auto_approve_renewals:
        return "renewal of an approved certificate with the same names"
    if rules.auto_approve_privileged and may(requester, Privilege.AUTO_APPROVE, scope):
        return "the requester holds the privilege auto_approve and the policy honours it"
    return None
