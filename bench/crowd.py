"""A home with as many gateways, requests and certificates as are wanted, made in seconds, straight in the records."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import insert
from sqlmodel import Session, SQLModel

from bench import trail
from model.database import Database
from model.keys import KeyAlgorithm
from model.states import (
    CertificateStatus,
    DelegationMode,
    EndpointStatus,
    InstallState,
    Role,
)
from model.tables import (
    Administrator,
    ApprovalPolicy,
    Certificate,
    CertificateAuthority,
    CertificateProfile,
    CertificateRequest,
    Delegation,
    Department,
    Endpoint,
    Gateway,
    Keystore,
    Organization,
    RoleAssignment,
)
from operations.identity import hash_password

LOGIN, PASSWORD = "admin", "a password for the bench"
ORGANIZATIONS = 20
_BATCH = 5_000
_S, _I = CertificateStatus, InstallState
# Of a hundred requests: most are served, some wait, some failed.
_STATES = [(_S.ISSUED, _I.COMPLETED, True)] * 88 + [
    (_S.REQUESTED, _I.KEY_READY, False),
    (_S.REQUESTED, _I.KEY_READY, False),
    (_S.APPLIED, _I.CERT_PROCESSING, False),
    (_S.ISSUED, _I.READY_FOR_INSTALL, False),
    (_S.ISSUED, _I.ROLLED_BACK, False),
    (_S.ISSUED, _I.FAILED, False),
    (_S.DECLINED, _I.KEY_READY, True),
    (_S.CANCELED, _I.KEY_READY, True),
    (_S.REJECTED, _I.CERT_PROCESSING, True),
    (_S.INVALID, _I.KEY_PROCESSING, True),
    (_S.ISSUED, _I.COMPLETED, True),
    (_S.ISSUED, _I.COMPLETED, True),
]


def fill(home: Path, gateways: int, requests: int) -> Database:
    """Make the home's database. `LOGIN` may see everything; every request tells two entries of the audit."""
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    database = Database(f"sqlite:///{home}/certgate.db")
    database.upgrade()
    now = datetime.now(UTC)
    with database.write() as session:
        _frame(session, now)
        _gateways(session, now, gateways)
        _requests(session, now, gateways, requests)
    trail.fill(database, 2 * requests)
    with database.engine.connect() as connection:
        connection.exec_driver_sql("ANALYZE")
        connection.commit()
    return database


def _frame(session: Session, now: datetime) -> None:
    owner = Administrator(login=LOGIN, full_name="The bench", password_hash=hash_password(PASSWORD), created_at=now)
    session.add(owner)
    session.flush()
    assert owner.id is not None
    session.add(RoleAssignment(administrator_id=owner.id, role=Role.MRAO))
    session.add(ApprovalPolicy(name="default"))
    for number in range(1, ORGANIZATIONS + 1):
        session.add(Organization(id=number, name=f"Organization {number:02}"))
    session.flush()
    for number in range(1, 2 * ORGANIZATIONS + 1):
        session.add(Department(id=number, organization_id=(number + 1) // 2, name=f"Department {number:02}"))
    authority = CertificateAuthority(name="private", type="private", settings={})
    session.add(authority)
    session.flush()
    assert authority.id is not None
    session.add(CertificateProfile(name="server", authority_id=authority.id))
    session.flush()


def _gateways(session: Session, now: datetime, count: int) -> None:
    numbers = range(1, count + 1)
    _insert(
        session,
        Gateway,
        [
            {
                "id": number,
                "name": f"gateway-{number:04}",
                "name_key": f"gateway-{number:04}",
                "delegation_mode": DelegationMode.CUSTOMIZED if number % 2 else DelegationMode.GENERAL,
                "comments": f"In rack {number % 40}, room {number % 7}.",
                "version": f"0.{number % 3 + 1}.0",
                "os": ("Linux 6.1 x86_64", "Linux 5.15 x86_64", "Linux 6.1 aarch64")[number % 3],
                "modules": [{"kind": "endpoints", "name": "nginx", "title": "nginx", "version": "0.1.0"}],
                "created_at": now - timedelta(days=300),
                "joined_at": now - timedelta(days=300) if number % 20 else None,
            }
            for number in numbers
        ],
    )
    _insert(
        session,
        Delegation,
        [{"gateway_id": n, "organization_id": n % ORGANIZATIONS + 1, "department_id": None} for n in numbers if n % 2],
    )
    _insert(session, Keystore, [{"gateway_id": n, "name": "default", "type": "pem", "settings": {}} for n in numbers])
    _insert(
        session,
        Endpoint,
        [
            {
                "id": 3 * number + place,
                "gateway_id": number,
                "name": f"web-{place}",
                "type": "nginx",
                "settings": {},
                "connection_settings": {},
                "status": EndpointStatus.ACTIVE,
            }
            for number in numbers
            for place in range(3)
        ],
    )


def _requests(session: Session, now: datetime, gateways: int, count: int) -> None:
    for start in range(1, count + 1, _BATCH):
        numbers = range(start, min(start + _BATCH, count + 1))
        _insert(session, CertificateRequest, [_request(number, now, gateways, count) for number in numbers])
        _insert(
            session,
            Certificate,
            [_certificate(number, now) for number in numbers if _STATES[number % 100][1] == _I.COMPLETED],
        )


def _request(number: int, now: datetime, gateways: int, count: int) -> dict[str, Any]:
    status, install, closed = _STATES[number % 100]
    created = now - timedelta(minutes=count - number)
    gateway = number % gateways + 1
    name = f"host-{number:06}.example.com"
    return {
        "id": number,
        "organization_id": number % ORGANIZATIONS + 1,
        "department_id": None,
        "requester_id": 1,
        "common_name": name,
        "names": [name],
        "profile_id": 1,
        "authority_id": 1,
        "gateway_id": gateway,
        "endpoint_id": 3 * gateway + number % 3,
        "binding": f"{name}:443",
        "key_algorithm": KeyAlgorithm.EC_P256,
        "key_alias": f"request-{number}",
        "custom_fields": {},
        "status": status,
        "install_state": install,
        "order_number": f"P-{number:06}",
        "started": True,
        "closed": closed,
        "created_at": created,
        "updated_at": created,
    }


def _certificate(number: int, now: datetime) -> dict[str, Any]:
    end = now + timedelta(days=number % 47, hours=number % 24)
    return {
        "request_id": number,
        "organization_id": number % ORGANIZATIONS + 1,
        "department_id": None,
        "common_name": f"host-{number:06}.example.com",
        "pem": "",
        "chain_pem": [],
        "serial_number": f"{number:040x}",
        "fingerprint": f"{number:064x}",
        "not_before": end - timedelta(days=47),
        "not_after": end,
        "status": CertificateStatus.ISSUED,
        "active": True,
    }


def _insert(session: Session, table: type[SQLModel], rows: list[dict[str, Any]]) -> None:
    if rows:
        session.execute(insert(table), rows)
