"""A database with something of everything to look at, straight in the records: no engine runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

from sqlalchemy import insert
from sqlmodel import Session, select

from model import audit, x509
from model.database import Database
from model.keys import KeyAlgorithm
from model.states import (
    AccessMethod,
    CertificateStatus,
    DelegationMode,
    InstallMode,
    InstallState,
    Outcome,
    Privilege,
    Role,
    Verdict,
)
from model.tables import (
    Administrator,
    ApprovalPolicy,
    Certificate,
    CertificateAuthority,
    CertificateProfile,
    CertificateRequest,
    Decision,
    Delegation,
    Department,
    Endpoint,
    EndpointBinding,
    Gateway,
    Installation,
    Organization,
    RoleAssignment,
)
from operations import sessions
from operations.bootstrap import trusted
from operations.identity import hash_password
from operations.lookup import identity
from operations.sessions import Beginning, Lifetimes
from tests import pki
from tests.support import databases

PASSWORD = "correct horse battery"
HOSTILE = '<img src=x onerror="window.pwned=1"> **bold** [link](http://127.0.0.1/) www.autolink.example :red[red] $x$'

S, I = CertificateStatus, InstallState  # noqa: E741


@dataclass
class Scene:
    """What was made, by the names that tests use."""

    home: Path
    database: Database
    now: datetime
    ids: dict[str, int] = field(default_factory=dict)
    requests: dict[str, int] = field(default_factory=dict)
    certificates: dict[str, int] = field(default_factory=dict)


@cache
def _hash() -> str:
    return hash_password(PASSWORD)


@cache
def _issuers(now: datetime) -> tuple[pki.Issuer, pki.Issuer]:
    begin, end = now - timedelta(days=100), now + timedelta(days=3000)
    root = pki.make_ca("Example Root CA", not_before=begin, not_after=end)
    return root, pki.make_ca("Example Issuing CA 1", root, path_length=0, not_before=begin, not_after=end)


def make(home: Path) -> Scene:
    """Fill the database of a new home."""
    home.mkdir(mode=0o700, exist_ok=True)
    database = databases.empty(home)
    scene = Scene(home, database, datetime.now(UTC).replace(microsecond=0))
    with database.write() as session:
        _people(scene, session)
        _places(scene, session)
        _requests(scene, session)
    return scene


def many(scene: Scene, count: int) -> None:
    """Further requests, as many as are wanted."""
    row = _request(scene, "", S.ISSUED, I.COMPLETED, minutes=10_000).model_dump(exclude={"id"})
    with scene.database.write() as session:
        # Not as objects, one by one: that takes many times as long.
        session.execute(
            insert(CertificateRequest),
            [
                {
                    **row,
                    "common_name": (name := f"host-{number:05}.example.com"),
                    "names": [name],
                    "created_at": (created := row["created_at"] - timedelta(minutes=number)),
                    "updated_at": created,
                }
                for number in range(count)
            ],
        )


def administrator(
    scene: Scene,
    session: Session,
    login: str,
    name: str,
    role: Role,
    privileges: Sequence[Privilege] = (),
    organization: str | None = None,
) -> None:
    """Somebody who can sign in with `PASSWORD`."""
    row = Administrator(login=login, full_name=name, password_hash=_hash(), created_at=scene.now)
    session.add(row)
    session.flush()
    scene.ids[login] = identity(row)
    session.add(
        RoleAssignment(
            administrator_id=identity(row),
            role=role,
            organization_id=scene.ids[organization] if organization else None,
            privileges=[str(privilege) for privilege in privileges],
        )
    )


def signed_in(scene: Scene, login: str) -> str:
    """The token of a new session."""
    lifetimes = Lifetimes(timedelta(hours=2), timedelta(hours=12))
    with scene.database.read() as session:
        row = session.exec(select(Administrator).where(Administrator.login == login)).one()
    return sessions.begin(scene.database, Beginning(identity(row), "password"), lifetimes, datetime.now(UTC))


def _keep(scene: Scene, session: Session, name: str, row: Any) -> int:
    session.add(row)
    session.flush()
    scene.ids[name] = identity(row)
    return scene.ids[name]


def _people(scene: Scene, session: Session) -> None:
    for name in ("Default", "Acme Ltd"):
        _keep(scene, session, name, Organization(name=name))
    for owner, name in (("Default", "Web"), ("Acme Ltd", "Shop")):
        _keep(scene, session, name, Department(organization_id=scene.ids[owner], name=name))
    session.add(ApprovalPolicy(name="default"))
    everything = list(Privilege)
    administrator(scene, session, "alice", "Alice Ahlgren", Role.MRAO)
    administrator(scene, session, "bob", "Bob Berger", Role.MRAO)
    administrator(scene, session, "rita", "Rita Rao", Role.RAO, everything, "Acme Ltd")
    administrator(scene, session, "walter", "Walter Watcher", Role.RAO, [], "Default")


def _places(scene: Scene, session: Session) -> None:
    for number, issuer in enumerate(_issuers(scene.now)):
        row = trusted(pki.pem(issuer.certificate), is_root=number == 0)
        _keep(scene, session, "intermediate" if number else "root", row)
    authority = CertificateAuthority(name="private", type="private")
    _keep(scene, session, "private", authority)
    profile = CertificateProfile(name="server", authority_id=scene.ids["private"], validity_seconds=47 * 86_400)
    _keep(scene, session, "server", profile)
    for name, mode in (("local", DelegationMode.GENERAL), ("frankfurt-1", DelegationMode.CUSTOMIZED)):
        gateway = Gateway(name=name, name_key=name, delegation_mode=mode, created_at=scene.now, joined_at=scene.now)
        _keep(scene, session, name, gateway)
    session.add(Delegation(gateway_id=scene.ids["frankfurt-1"], organization_id=scene.ids["Default"]))
    endpoint = Endpoint(gateway_id=scene.ids["local"], name="web", type="nginx", install_mode=InstallMode.AUTO)
    _keep(scene, session, "web", endpoint)
    for binding, names in (
        ("shop.example.com:443", ["shop.example.com", "www.shop.example.com"]),
        ("intranet.example.com:443", ["intranet.example.com"]),
    ):
        session.add(
            EndpointBinding(
                endpoint_id=scene.ids["web"], binding=binding, names=names, listeners=["0.0.0.0:443", "[::]:443"]
            )
        )


def _request(
    scene: Scene,
    name: str,
    status: CertificateStatus,
    install: InstallState,
    *,
    minutes: int,
    organization: str = "Default",
    requester: str = "alice",
    gateway: str = "local",
    **fields: Any,
) -> CertificateRequest:
    created = scene.now - timedelta(minutes=minutes)
    return CertificateRequest(
        organization_id=scene.ids[organization],
        requester_id=scene.ids[requester],
        common_name=name,
        names=fields.pop("names", [name]),
        profile_id=scene.ids["server"],
        authority_id=scene.ids["private"],
        gateway_id=scene.ids[gateway],
        key_algorithm=KeyAlgorithm.EC_P256,
        status=status,
        install_state=install,
        closed=fields.pop(
            "closed", status in (S.DECLINED, S.CANCELED, S.REJECTED, S.INVALID) or install == I.COMPLETED
        ),
        started=True,
        created_at=created,
        updated_at=created,
        **fields,
    )


def _add(
    scene: Scene, session: Session, label: str, row: CertificateRequest, told: Sequence[tuple[str, str, str]]
) -> int:
    session.add(row)
    session.flush()
    scene.requests[label] = identity(row)
    for minute, (actor, action, text) in enumerate(told):
        method = AccessMethod.WORKFLOW if actor == "certgate" else AccessMethod.DASHBOARD
        failed = "failed" in action or "rolled" in action
        audit.append(
            session,
            audit.Act(
                actor=actor,
                access_method=method,
                action=action,
                object_type="request",
                object_id=identity(row),
                gateway_id=row.gateway_id,
                organization_id=row.organization_id,
                description=text,
                outcome=Outcome.FAILED if failed else Outcome.DONE,
            ),
            row.created_at + timedelta(minutes=minute),
        )
    return identity(row)


def _requests(scene: Scene, session: Session) -> None:
    at_web: dict[str, Any] = {"endpoint_id": scene.ids["web"], "binding": "shop.example.com:443"}
    key = pki.shared_key(KeyAlgorithm.EC_P256)
    names = ["shop.example.com", "www.shop.example.com"]
    csr = pki.make_csr(key, names, "shop.example.com")
    submitted = ("alice", "request.submitted", "Requested a certificate for shop.example.com, www.shop.example.com.")
    ready = ("certgate", "key.ready", "Key request-1 is made and its CSR checked.")
    approved = ("bob", "request.approved", "Approved request 1: as agreed on Monday.")
    ordered = ("certgate", "order.placed", "Order 4711 was placed with private.")
    issued = ("certgate", "certificate.issued", "The certificate was issued and checked.")

    _served(scene, session, csr, names, at_web, [submitted, ready, approved, ordered, issued])
    _add(
        scene, session, "waiting",
        _request(scene, "intranet.example.com", S.REQUESTED, I.KEY_READY, minutes=30, csr_pem=csr,
                 endpoint_id=scene.ids["web"], binding="intranet.example.com:443", comments="Needed before Friday."),
        [("alice", "request.submitted", "Requested a certificate for intranet.example.com."), ready],
    )  # fmt: skip
    _add(
        scene, session, "hostile",
        _request(scene, "evil.example.com", S.REQUESTED, I.KEY_READY, minutes=25, comments=HOSTILE,
                 names=["evil.example.com"], csr_pem=csr),
        [("alice", "request.submitted", f"Requested with {HOSTILE}")],
    )  # fmt: skip
    _add(
        scene, session, "rolled back",
        _request(scene, "api.example.com", S.ISSUED, I.ROLLED_BACK, minutes=120, order_number="4712", csr_pem=csr,
                 reason="nginx did not serve the new certificate within 10 s; the one from before is served again.",
                 **at_web),
        [submitted, ready, approved, ordered,
         ("certgate", "install.rolled_back", "nginx did not serve the new certificate; all was put back.")],
    )  # fmt: skip
    _add(
        scene, session, "declined",
        _request(scene, "old.example.com", S.DECLINED, I.KEY_READY, minutes=2000, csr_pem=csr,
                 reason="bob: this host is being shut down."),
        [submitted, ready, ("bob", "request.declined", "Declined request 5: this host is being shut down.")],
    )  # fmt: skip
    _add(
        scene, session, "ready",
        _request(scene, "mail.example.com", S.ISSUED, I.READY_FOR_INSTALL, minutes=50, order_number="4713",
                 csr_pem=csr, gateway="frankfurt-1", install_mode=InstallMode.MANUAL),
        [submitted, ready, approved, ordered, issued],
    )  # fmt: skip
    _add(
        scene, session, "acme",
        _request(scene, "secret.acme.example", S.REQUESTED, I.KEY_READY, minutes=5, organization="Acme Ltd",
                 requester="alice", csr_pem=csr),
        [("alice", "request.submitted", "Requested a certificate for secret.acme.example.")],
    )  # fmt: skip


def _served(
    scene: Scene, session: Session, csr: str, names: list[str], at_web: dict[str, Any], told: list[tuple[str, str, str]]
) -> None:
    root, issuing = _issuers(scene.now)
    leaf = pki.make_leaf(
        issuing, pki.shared_key(KeyAlgorithm.EC_P256), names, common_name=names[0],
        not_before=scene.now - timedelta(days=20), not_after=scene.now + timedelta(days=27),
    )  # fmt: skip
    fingerprint = x509.fingerprint(leaf)
    row = _request(
        scene, names[0], S.ISSUED, I.COMPLETED, minutes=20 * 1440, names=names, csr_pem=csr, order_number="4711",
        issued_fingerprint=fingerprint, served_fingerprint=fingerprint, comments="Ticket 815", **at_web,
    )  # fmt: skip
    installed = ("certgate", "certificate.installed", "web now serves the certificate on shop.example.com:443.")
    number = _add(scene, session, "served", row, [*told, installed])
    session.add(
        Decision(request_id=number, administrator_id=scene.ids["bob"], verdict=Verdict.APPROVE,
                 comment="as agreed on Monday", decided_at=row.created_at + timedelta(minutes=2))
    )  # fmt: skip
    certificate = Certificate(
        request_id=number, organization_id=row.organization_id, common_name=names[0], pem=pki.pem(leaf),
        chain_pem=[pki.pem(issuing.certificate), pki.pem(root.certificate)], serial_number=x509.serial_hex(leaf),
        fingerprint=fingerprint, not_before=leaf.not_valid_before_utc, not_after=leaf.not_valid_after_utc, active=True,
        renew_at=scene.now + timedelta(days=11), renewal_note="It is renewed at two thirds of its lifetime.",
    )  # fmt: skip
    session.add(certificate)
    session.flush()
    scene.certificates["served"] = identity(certificate)
    session.add(
        Installation(
            certificate_id=identity(certificate), endpoint_id=scene.ids["web"], binding="shop.example.com:443",
            state=I.COMPLETED, attempts=1, verification="MATCH", served_before="ab" * 32, served_after=fingerprint,
            message="web now serves the certificate.", updated_at=scene.now,
            steps=[{"name": "snapshot", "outcome": "kept"}, {"name": "activate", "outcome": "reloaded"}],
        )
    )  # fmt: skip
