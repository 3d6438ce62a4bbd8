"""Reads from the records what the rules of `model/rules/` want to know."""

from __future__ import annotations

import hashlib

from sqlmodel import Session, col, select

from model.errors import NotFound
from model.rules import approval, delegation, permissions
from model.states import DelegationMode, Privilege, Verdict
from model.tables import (
    Administrator,
    ApprovalPolicy,
    CertificateRequest,
    Decision,
    Delegation,
    Fact,
    Gateway,
    RoleAssignment,
)

INSTALLATION = "installation"
# The public half of the manager's key (`model/channel.py`).
MANAGER_KEY = "manager_key"
# Starts the `name_key` of a gateway that was deleted but is still told of by old requests; no name can begin so.
GONE = "#"


def installation(session: Session) -> str:
    """This certgate's own id, made once."""
    fact = session.get(Fact, INSTALLATION)
    if fact is None:
        raise NotFound("This database was never prepared: run `certgate up` or `certgate database upgrade`.")
    return fact.value


def grants_of(session: Session, administrator_id: int) -> list[permissions.Grant]:
    """All role assignments of an administrator."""
    rows = session.exec(select(RoleAssignment).where(RoleAssignment.administrator_id == administrator_id)).all()
    return [
        permissions.Grant(row.role, row.organization_id, row.department_id, frozenset(row.privileges)) for row in rows
    ]


def administrator_of(session: Session, login: str) -> Administrator | None:
    """The administrator of that login."""
    return session.exec(select(Administrator).where(Administrator.login == login)).one_or_none()


def scope_of(request: CertificateRequest) -> permissions.Scope:
    """Where a request is."""
    return permissions.Scope(request.organization_id, request.department_id)


def permitted(session: Session, administrator: Administrator, privilege: Privilege, scope: permissions.Scope) -> bool:
    """Whether this administrator is active and may do this there."""
    assert administrator.id is not None
    return administrator.active and permissions.may(grants_of(session, administrator.id), privilege, scope)


def policy_for(session: Session, organization_id: int) -> ApprovalPolicy:
    """The organization's own approval policy, else the general one, else the strict default."""
    own = session.exec(select(ApprovalPolicy).where(ApprovalPolicy.organization_id == organization_id)).one_or_none()
    if own is not None:
        return own
    general = select(ApprovalPolicy).where(col(ApprovalPolicy.organization_id).is_(None))
    return session.exec(general.order_by(col(ApprovalPolicy.id))).first() or ApprovalPolicy(name="default")


def rules_of(policy: ApprovalPolicy) -> approval.Rules:
    """The deciding part of a policy."""
    return approval.Rules(
        approvals_required=policy.approvals_required,
        four_eyes=policy.four_eyes,
        auto_approve_renewals=policy.auto_approve_renewals,
        auto_approve_privileged=policy.auto_approve_privileged,
    )


def given_for(session: Session, request_id: int) -> list[approval.Given]:
    """The decisions on a request, in the order they were given."""
    statement = (
        select(Administrator.login, Decision.verdict)
        .join(Decision, col(Decision.administrator_id) == col(Administrator.id))
        .where(Decision.request_id == request_id)
        .order_by(col(Decision.id))
    )
    return [approval.Given(login, Verdict(verdict)) for login, verdict in session.exec(statement).all()]


def gateway_serves(session: Session, gateway: Gateway, organization_id: int, department_id: int | None) -> bool:
    """Whether the gateway may work for that organization or department now."""
    return delegation.serves(
        active=gateway.active,
        mode=gateway.delegation_mode,
        delegations=_delegations(session, gateway),
        organization_id=organization_id,
        department_id=department_id,
    )


def custody(session: Session, gateway: Gateway) -> list[permissions.Scope]:
    """Where one must hold a privilege to act on a gateway: wherever it serves; for a General one everywhere."""
    if gateway.delegation_mode == DelegationMode.GENERAL:
        return [permissions.Scope()]
    served = [permissions.Scope(one.organization_id, one.department_id) for one in _delegations(session, gateway)]
    return served or [permissions.Scope()]


def scope_of_gateway(session: Session, gateway: Gateway) -> permissions.Scope:
    """Where the audit tells an act on the gateway itself, as it is delegated now, so that administrators of an
    organization read of the gateways that serve them alone, and nothing of others. Flush new delegations before."""
    return delegation.scope(gateway.delegation_mode, _delegations(session, gateway))


def _delegations(session: Session, gateway: Gateway) -> list[delegation.Delegated]:
    rows = session.exec(select(Delegation).where(Delegation.gateway_id == gateway.id)).all()
    return [delegation.Delegated(row.organization_id, row.department_id) for row in rows]


def number_of(gateway: Gateway) -> int:
    """The id of a gateway's row that was read or flushed."""
    assert gateway.id is not None
    return gateway.id


def is_gone(gateway: Gateway) -> bool:
    """Whether the gateway was deleted and its row is there for the past only."""
    return gateway.name_key.startswith(GONE)


def token_digest(secret: str) -> str:
    """What is kept of an enrollment token's secret: its SHA-256."""
    return hashlib.sha256(secret.encode()).hexdigest()
