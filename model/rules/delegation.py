"""Does this gateway serve this organization or department?"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from model.rules.permissions import Scope
from model.states import DelegationMode


@dataclass(frozen=True)
class Delegated:
    """A delegation as a rule reads it: an organization, or one department of it."""

    organization_id: int
    department_id: int | None


def serves(
    *,
    active: bool,
    mode: DelegationMode,
    delegations: Iterable[Delegated],
    organization_id: int,
    department_id: int | None,
) -> bool:
    """A gateway serves a request if it is active and General, or delegated to the organization or the department.

    A department inherits from its organization; an organization does not inherit from its departments.
    """
    if not active:
        return False
    if mode == DelegationMode.GENERAL:
        return True
    return any(
        given.organization_id == organization_id and given.department_id in (None, department_id)
        for given in delegations
    )


def scope(mode: DelegationMode, delegations: Iterable[Delegated]) -> Scope:
    """Whose affair a gateway is: of the one organization (and its one department) that it serves; where it serves
    several, or is General, the whole installation's."""
    if mode == DelegationMode.GENERAL:
        return Scope()
    given = list(delegations)
    organizations = {one.organization_id for one in given}
    if len(organizations) != 1:
        return Scope()
    departments = {one.department_id for one in given}
    return Scope(organizations.pop(), departments.pop() if len(departments) == 1 else None)
