"""May this administrator do this, there?"""

from __future__ import annotations

import pytest

from model.rules.delegation import Delegated, scope, serves
from model.rules.permissions import Grant, Scope, may, may_grant, sees, visible
from model.states import DelegationMode, Privilege, Role

MRAO = Grant(Role.MRAO, None, None, frozenset())
RAO = Grant(Role.RAO, 1, None, frozenset({"request", "approve"}))
DRAO = Grant(Role.DRAO, 1, 11, frozenset({"request"}))


@pytest.mark.parametrize(
    ("grant", "privilege", "scope", "allowed"),
    [
        (MRAO, Privilege.REVOKE, Scope(1, None), True),
        (MRAO, Privilege.MANAGE_GATEWAYS, Scope(), True),
        (MRAO, Privilege.AUTO_APPROVE, Scope(1, None), False),
        (RAO, Privilege.APPROVE, Scope(1, None), True),
        (RAO, Privilege.APPROVE, Scope(1, 11), True),
        (RAO, Privilege.APPROVE, Scope(2, None), False),
        (RAO, Privilege.REVOKE, Scope(1, None), False),
        (RAO, Privilege.APPROVE, Scope(), False),
        (DRAO, Privilege.REQUEST, Scope(1, 11), True),
        (DRAO, Privilege.REQUEST, Scope(1, None), False),
        (DRAO, Privilege.REQUEST, Scope(1, 12), False),
        (DRAO, Privilege.APPROVE, Scope(1, 11), False),
    ],
)
def test_a_grant_allows_its_privileges_in_its_scope(
    grant: Grant, privilege: Privilege, scope: Scope, allowed: bool
) -> None:
    assert may([grant], privilege, scope) is allowed


def test_what_is_seen_follows_the_scope_and_not_the_privileges() -> None:
    assert sees([DRAO], Scope(1, 11))
    assert not sees([DRAO], Scope(1, None))
    assert visible([RAO, DRAO]).organizations == [1]
    assert visible([RAO, DRAO]).departments == [11]
    assert visible([MRAO]).everything
    assert not visible([]).everything


def test_nobody_gives_away_what_he_does_not_have() -> None:
    assert may_grant([MRAO], MRAO)
    assert may_grant([MRAO], Grant(Role.RAO, 7, None, frozenset({"auto_approve"})))
    assert may_grant([RAO], Grant(Role.DRAO, 1, 11, frozenset({"approve"})))
    assert not may_grant([RAO], Grant(Role.DRAO, 1, 11, frozenset({"revoke"})))
    assert not may_grant([RAO], Grant(Role.RAO, 2, None, frozenset({"request"})))
    assert not may_grant([RAO], MRAO)


@pytest.mark.parametrize(
    ("active", "mode", "delegations", "department", "expected"),
    [
        (True, DelegationMode.GENERAL, [], None, True),
        (False, DelegationMode.GENERAL, [], None, False),
        (True, DelegationMode.CUSTOMIZED, [], None, False),
        (True, DelegationMode.CUSTOMIZED, [Delegated(1, None)], None, True),
        (True, DelegationMode.CUSTOMIZED, [Delegated(1, None)], 11, True),
        (True, DelegationMode.CUSTOMIZED, [Delegated(1, 11)], 11, True),
        (True, DelegationMode.CUSTOMIZED, [Delegated(1, 11)], None, False),
        (True, DelegationMode.CUSTOMIZED, [Delegated(1, 11)], 12, False),
        (True, DelegationMode.CUSTOMIZED, [Delegated(2, None)], None, False),
        (False, DelegationMode.CUSTOMIZED, [Delegated(1, None)], None, False),
    ],
)
def test_a_gateway_serves_whom_it_is_delegated_to(
    active: bool, mode: DelegationMode, delegations: list[Delegated], department: int | None, expected: bool
) -> None:
    served = serves(active=active, mode=mode, delegations=delegations, organization_id=1, department_id=department)
    assert served is expected


@pytest.mark.parametrize(
    ("mode", "delegations", "expected"),
    [
        (DelegationMode.GENERAL, [], Scope()),
        (DelegationMode.GENERAL, [Delegated(1, None)], Scope()),
        (DelegationMode.CUSTOMIZED, [], Scope()),
        (DelegationMode.CUSTOMIZED, [Delegated(1, None)], Scope(1, None)),
        (DelegationMode.CUSTOMIZED, [Delegated(1, 11)], Scope(1, 11)),
        (DelegationMode.CUSTOMIZED, [Delegated(1, 11), Delegated(1, 12)], Scope(1, None)),
        (DelegationMode.CUSTOMIZED, [Delegated(1, None), Delegated(1, 12)], Scope(1, None)),
        (DelegationMode.CUSTOMIZED, [Delegated(1, 11), Delegated(2, None)], Scope()),
    ],
)
def test_a_gateway_is_the_affair_of_the_one_whom_it_serves(
    mode: DelegationMode, delegations: list[Delegated], expected: Scope
) -> None:
    assert scope(mode, delegations) == expected
