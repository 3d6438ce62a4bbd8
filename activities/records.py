"""What the steps on the manager share: the database, the clock, and telling each act once.

These steps are local activities: they touch the manager's own database only, may run twice, and look first.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from datetime import datetime

from sqlmodel import Session, col, select
from temporalio import activity
from temporalio.exceptions import ApplicationError

from activities.failures import as_failures
from model import access, audit
from model.database import Database
from model.messages import AuthorityAccess, EndpointAccess, GatewayPlace, KeystoreAccess
from model.states import AccessMethod, Outcome
from model.tables import (
    AuditEntry,
    CertificateAuthority,
    CertificateRequest,
    Department,
    Endpoint,
    Gateway,
    GatewayChannel,
    Keystore,
    Organization,
)

Clock = Callable[[], datetime]

# SQLite has one writer. Threads that wait for it inside SQLite sleep for up to 0.1 s at a time and overtake each other;
# here they wait until it is free: the 99th percentile of a write with 20 waiting fell from 0.5–1 s to 0.1–0.2 s.
_SQLITE_TURN = threading.Lock()


class Records:
    """Base of the classes of steps that read and write records."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """A write transaction; errors become Temporal failures."""
        turn = _SQLITE_TURN if self._database.is_sqlite else nullcontext()
        with as_failures(), turn, self._database.write() as session:
            yield session

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """A read transaction; errors become Temporal failures."""
        with as_failures(), self._database.read() as session:
            yield session

    def tell(
        self,
        session: Session,
        request: CertificateRequest,
        action: str,
        description: str,
        *,
        actor: str = "certgate",
        outcome: Outcome = Outcome.DONE,
    ) -> bool:
        """Tell an act on a request in the audit, once for this step however often it runs."""
        return audit.append(
            session,
            audit.Act(
                actor=actor,
                access_method=AccessMethod.WORKFLOW,
                action=action,
                object_type="request",
                object_id=request.id,
                gateway_id=request.gateway_id,
                organization_id=request.organization_id,
                department_id=request.department_id,
                description=description,
                outcome=outcome,
                once=step_key(action),
            ),
            self._clock(),
        )

    def told(self, session: Session, *actions: str) -> bool:
        """Whether this very step told one of these acts before, in an earlier try."""
        keys = [step_key(action) for action in actions]
        return session.exec(select(AuditEntry.sequence).where(col(AuditEntry.once).in_(keys))).first() is not None


def step_key(action: str) -> str:
    """A name for this very step of this very run, the same when the step runs again."""
    info = activity.info()
    return f"{info.workflow_id}/{info.workflow_run_id}/{info.activity_id}/{action}"


def load(session: Session, request_id: int) -> CertificateRequest:
    """The request's row. A workflow whose row is gone can't go on: that is told as a final failure."""
    request = session.get(CertificateRequest, request_id)
    if request is None:
        raise ApplicationError(
            f"There is no request {request_id} in the database.", type="NotFound", non_retryable=True
        )
    return request


def authority_access(row: CertificateAuthority) -> AuthorityAccess:
    """A CA's row as the message that carries it."""
    return AuthorityAccess(row.name, row.type, dict(row.settings), row.reached_from, row.is_private)


def endpoint_access(row: Endpoint) -> EndpointAccess:
    """An endpoint's row as the message that carries it."""
    assert row.id is not None
    return EndpointAccess(
        id=row.id,
        name=row.name,
        type=row.type,
        settings=dict(row.settings),
        connection=row.connection,
        connection_settings=dict(row.connection_settings),
    )


def gateway_place(session: Session, gateway: Gateway, request: CertificateRequest | None = None) -> GatewayPlace:
    """Where a gateway takes its work now, and whether it may still work for that request."""
    number = access.number_of(gateway)
    statement = select(GatewayChannel).where(
        GatewayChannel.gateway_id == number, GatewayChannel.number == gateway.channel
    )
    row = session.exec(statement).one_or_none()
    # Gateways that joined under 0.1 have no row of their first channel.
    joined = row.joined_at is not None if row is not None else gateway.joined_at is not None
    unserved = None
    if request is not None and access.is_gone(gateway):
        unserved = f"Gateway {gateway.name} was deleted: cancel the request, and submit it again for another gateway."
    elif request is not None and not gateway.active:
        unserved = f"Gateway {gateway.name} is not active: set it active again, or cancel the request."
    elif request is not None and not access.gateway_serves(
        session, gateway, request.organization_id, request.department_id
    ):
        organization = session.get_one(Organization, request.organization_id).name
        department = session.get_one(Department, request.department_id).name if request.department_id else None
        whom = f"{organization}/{department}" if department else organization
        unserved = f"Gateway {gateway.name} no longer serves {whom}: delegate it again, or cancel the request."
    return GatewayPlace(number, gateway.name, gateway.channel, joined, unserved)


def keystore_access(session: Session, request: CertificateRequest) -> KeystoreAccess:
    """The keystore that a request chose, else its gateway's default one; a gateway without a row of its own has the
    plain PEM directory."""
    row = session.get(Keystore, request.keystore_id) if request.keystore_id is not None else None
    if row is None:
        statement = select(Keystore).where(Keystore.gateway_id == request.gateway_id, Keystore.name == "default")
        row = session.exec(statement).one_or_none()
    return KeystoreAccess(row.type, dict(row.settings)) if row else KeystoreAccess("pem", {})
