"""Who acts, by which way, on what: handed to every operation."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlmodel import Session
from temporalio.client import Client

from model import access, audit
from model.database import Database
from model.errors import NotPermitted
from model.rules import permissions
from model.states import AccessMethod, Outcome, Privilege
from model.tables import Gateway

# In a session's own notes: the id of the gateway that the act is about.
ABOUT = "gateway"
_OF_GATEWAYS = ("gateway", "endpoint", "keystore")


def now() -> datetime:
    """The clock."""
    return datetime.now(UTC)


@dataclass(frozen=True)
class Actor:
    """An administrator who was recognized. `described` is how the audit names him; it adds the way if that matters."""

    id: int
    login: str
    full_name: str
    grants: tuple[permissions.Grant, ...]
    described: str

    def may(self, privilege: Privilege, scope: permissions.Scope) -> bool:
        """Whether he may do this there."""
        return permissions.may(self.grants, privilege, scope)

    def sees(self, scope: permissions.Scope) -> bool:
        """Whether he may know of things there at all."""
        return permissions.sees(self.grants, scope)

    @property
    def owns_everything(self) -> bool:
        """Whether he is an MRAO: the whole installation is his."""
        return permissions.visible(self.grants).everything


@dataclass(frozen=True)
class Context:
    """One act's surroundings. `temporal` connects when it is first needed, so that reading works without the engine."""

    database: Database
    actor: Actor
    access_method: AccessMethod
    temporal: Callable[[], Awaitable[Client]]
    clock: Callable[[], datetime] = now

    @contextmanager
    def acting(
        self, action: str, object_type: str, object_id: int | None = None, scope: permissions.Scope | None = None
    ) -> Iterator[Session]:
        """A write transaction for an act. A `NotPermitted` that leaves it is audited, in its own transaction, about
        the gateway that was looked up (`lookup.gateway`) and, unless told otherwise, where that one is."""
        try:
            with self.database.write() as session:
                yield session
        except NotPermitted as refusal:
            about = session.info.get(ABOUT)
            with self.database.write() as session:
                where = scope or permissions.Scope()
                gateway = session.get(Gateway, about) if about is not None else None
                if gateway is not None and object_type in _OF_GATEWAYS:
                    where = scope or access.scope_of_gateway(session, gateway)
                    object_id = object_id or (gateway.id if object_type == "gateway" else None)
                act = audit.Act(
                    actor=self.actor.described,
                    access_method=self.access_method,
                    action=action,
                    object_type=object_type,
                    object_id=object_id,
                    gateway_id=gateway.id if gateway is not None else None,
                    organization_id=where.organization_id,
                    department_id=where.department_id,
                    description=refusal.message,
                    outcome=Outcome.REFUSED,
                )
                audit.append(session, act, self.clock())
            raise

    def tell(
        self,
        session: Session,
        action: str,
        object_type: str,
        description: str,
        *,
        object_id: int | None = None,
        gateway_id: int | None = None,
        scope: permissions.Scope | None = None,
    ) -> None:
        """Tell the act in the audit, in the transaction that does it."""
        act = self.act(action, object_type, description, object_id=object_id, gateway_id=gateway_id, scope=scope)
        audit.append(session, act, self.clock())

    def act(
        self,
        action: str,
        object_type: str,
        description: str,
        *,
        object_id: int | None = None,
        gateway_id: int | None = None,
        scope: permissions.Scope | None = None,
    ) -> audit.Act:
        """An act of this actor as the audit tells it."""
        where = scope or permissions.Scope()
        return audit.Act(
            actor=self.actor.described,
            access_method=self.access_method,
            action=action,
            object_type=object_type,
            object_id=object_id,
            gateway_id=gateway_id,
            organization_id=where.organization_id,
            department_id=where.department_id,
            description=description,
        )

    def require(self, privilege: Privilege, scope: permissions.Scope, doing: str) -> None:
        """Raise `NotPermitted` unless the actor may. `doing` completes the sentence "… may not …"."""
        if not self.actor.may(privilege, scope):
            raise NotPermitted(f"{self.actor.login} may not {doing}: the privilege '{privilege}' is missing there.")

    def require_owner(self, doing: str) -> None:
        """Raise `NotPermitted` unless the actor is an MRAO."""
        if not self.actor.owns_everything:
            raise NotPermitted(f"{self.actor.login} may not {doing}: that is for administrators with the role MRAO.")
