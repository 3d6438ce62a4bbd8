"""May this administrator do this, there? The one answer, asked by `operations/` and again inside the workflow."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from model.states import Privilege, Role


@dataclass(frozen=True)
class Scope:
    """Where an act happens. Without an organization it concerns the whole installation."""

    organization_id: int | None = None
    department_id: int | None = None


@dataclass(frozen=True)
class Grant:
    """A role assignment as a rule reads it."""

    role: Role
    organization_id: int | None
    department_id: int | None
    privileges: frozenset[str]

    def covers(self, scope: Scope) -> bool:
        """MRAO everything, RAO its organization with all departments, DRAO its department."""
        if self.role == Role.MRAO:
            return True
        if scope.organization_id is None or scope.organization_id != self.organization_id:
            return False
        return self.role == Role.RAO or (scope.department_id is not None and scope.department_id == self.department_id)

    def allows(self, privilege: Privilege) -> bool:
        """An MRAO has every privilege except `auto_approve`, which is always given by name."""
        if self.role == Role.MRAO and privilege != Privilege.AUTO_APPROVE:
            return True
        return privilege in self.privileges


def may(grants: Iterable[Grant], privilege: Privilege, scope: Scope) -> bool:
    """Whether one of the grants allows `privilege` in `scope`."""
    return any(grant.covers(scope) and grant.allows(privilege) for grant in grants)


def sees(grants: Iterable[Grant], scope: Scope) -> bool:
    """Whether the holder may know of objects in `scope` at all."""
    return any(grant.covers(scope) for grant in grants)


@dataclass(frozen=True)
class Visible:
    """What an administrator may see, in a form that a query can use."""

    everything: bool
    organizations: Sequence[int]
    departments: Sequence[int]


def visible(grants: Iterable[Grant]) -> Visible:
    """Everything for an MRAO, else the organizations of RAO and the departments of DRAO assignments."""
    held = list(grants)
    return Visible(
        everything=any(grant.role == Role.MRAO for grant in held),
        organizations=sorted({g.organization_id for g in held if g.role == Role.RAO and g.organization_id is not None}),
        departments=sorted({g.department_id for g in held if g.role == Role.DRAO and g.department_id is not None}),
    )


def may_grant(holder: Iterable[Grant], given: Grant) -> bool:
    """Nobody gives away what he doesn't have: every privilege, in that very scope."""
    held = list(holder)
    if given.role == Role.MRAO and not any(grant.role == Role.MRAO for grant in held):
        return False
    scope = Scope(given.organization_id, given.department_id)
    owner = any(grant.role == Role.MRAO for grant in held)
    return owner or all(may(held, Privilege(privilege), scope) for privilege in given.privileges)
