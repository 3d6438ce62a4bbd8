"""Who may decide, and when is it decided?"""

from __future__ import annotations

from typing import Any

import pytest

from model.rules.approval import Given, Rules, Standing, automatic, refusal, standing
from model.rules.permissions import Grant, Scope
from model.states import CertificateStatus, Role, Verdict

APPROVER = Grant(Role.RAO, 1, None, frozenset({"approve"}))
ONE = Rules(approvals_required=1, four_eyes=True, auto_approve_renewals=True, auto_approve_privileged=False)
TWO = Rules(approvals_required=2, four_eyes=True, auto_approve_renewals=True, auto_approve_privileged=True)


def judge(**changes: Any) -> str | None:
    """A decision that counts, with changes."""
    given: dict[str, Any] = {
        "administrator": "bob",
        "active": True,
        "grants": [APPROVER],
        "requester": "alice",
        "verdict": Verdict.APPROVE,
        "scope": Scope(1, None),
        "status": CertificateStatus.REQUESTED,
        "given": [],
        "label": "request 7",
    }
    rules = changes.pop("rules", ONE)
    return refusal(rules, **{**given, **changes})


def test_a_right_decision_counts() -> None:
    assert judge() is None


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"active": False}, "not an active administrator"),
        ({"grants": []}, "may not decide"),
        ({"scope": Scope(2, None)}, "may not decide"),
        ({"requester": "bob"}, "somebody else has to approve"),
        ({"given": [Given("bob", Verdict.APPROVE)]}, "already decided"),
        ({"status": CertificateStatus.APPROVED}, "awaits no decision"),
        ({"status": CertificateStatus.CANCELED}, "awaits no decision"),
    ],
)
def test_a_wrong_one_is_refused_in_one_sentence(changes: dict[str, Any], words: str) -> None:
    told = judge(**changes)
    assert told is not None
    assert words in told
    assert "request 7" in told
    assert told.endswith((".", ")."))


def test_the_requester_may_decline_his_own_request_but_not_approve_it() -> None:
    assert judge(requester="bob", verdict=Verdict.DECLINE) is None
    alone = Rules(approvals_required=1, four_eyes=False, auto_approve_renewals=True, auto_approve_privileged=False)
    assert judge(requester="bob", rules=alone) is None


def test_a_quorum_needs_different_people_and_one_decline_ends_it() -> None:
    approve = [Given("bob", Verdict.APPROVE), Given("bob", Verdict.APPROVE)]
    assert standing(TWO, approve) == Standing.OPEN
    assert standing(TWO, [*approve, Given("carol", Verdict.APPROVE)]) == Standing.APPROVED
    assert standing(ONE, [Given("bob", Verdict.APPROVE)]) == Standing.APPROVED
    assert standing(TWO, [Given("bob", Verdict.APPROVE), Given("carol", Verdict.DECLINE)]) == Standing.DECLINED
    assert standing(ONE, []) == Standing.OPEN


def test_what_needs_no_person() -> None:
    scope = Scope(1, None)
    privileged = [Grant(Role.RAO, 1, None, frozenset({"auto_approve"}))]
    assert automatic(ONE, renewal=True, same_names=True, requester=[], scope=scope)
    assert automatic(ONE, renewal=True, same_names=False, requester=[], scope=scope) is None
    assert automatic(ONE, renewal=False, same_names=True, requester=privileged, scope=scope) is None
    assert automatic(TWO, renewal=False, same_names=False, requester=privileged, scope=scope)
    assert automatic(TWO, renewal=False, same_names=False, requester=privileged, scope=Scope(2, None)) is None
    assert (
        automatic(
            TWO, renewal=False, same_names=False, requester=[Grant(Role.MRAO, None, None, frozenset())], scope=scope
        )
        is None
    )
