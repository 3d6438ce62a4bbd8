"""The first start: a database with what a person needs to make a request, and the machine's own gateway."""

from __future__ import annotations

import platform
import secrets
import uuid
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from sqlmodel import Session, col, select

from connectors.ca.contract import ShowsTrustAnchors
from connectors.registry import Surroundings, find
from model import access, audit, x509
from model.database import Database
from model.states import AccessMethod, Role
from model.tables import (
    Administrator,
    ApprovalPolicy,
    CertificateAuthority,
    CertificateProfile,
    Fact,
    Gateway,
    Keystore,
    Organization,
    RoleAssignment,
    TrustedCertificate,
)
from operations import manager_key
from operations.identity import hash_password
from operations.joining import own_system, own_version
from operations.lookup import identity
from operations.tokens import open_channel

LOCAL_GATEWAY = "local"
FIRST_ORGANIZATION = "Default"
FIRST_AUTHORITY = "private"
_LOCAL = "local_gateway"


@dataclass(frozen=True)
class FirstLogin:
    """The administrator made at the first start; the password is shown once and kept nowhere."""

    login: str
    password: str


@dataclass(frozen=True)
class Prepared:
    """What a prepared home has. `first_login` only at the very first start."""

    first_login: FirstLogin | None
    gateway_id: int | None


async def prepare(
    database: Database,
    surroundings: Surroundings,
    now: datetime,
    *,
    local_gateway: bool = True,
    key_file: Path | None = None,
) -> Prepared:
    """Bring the schema up to date and fill an empty database; a filled one is left as it is.

    `key_file` is where the manager's key was put by somebody; without it, certgate makes its own in the home.
    """
    database.upgrade()
    manager_key.establish(
        database, key_file or Path(surroundings.home) / manager_key.FILE_NAME, given=key_file is not None
    )
    first_login = None
    with database.write() as session:
        if session.get(Fact, access.INSTALLATION) is None:
            session.add(Fact(name=access.INSTALLATION, value=uuid.uuid4().hex[:12]))
            first_login = _first_administrator(session, now)
            session.add(Organization(name=FIRST_ORGANIZATION))
            session.add(ApprovalPolicy(name="default"))
            _tell(session, "installation.prepared", "installation", "This certgate was set up.", now)
    await _first_authority(database, surroundings, now)
    return Prepared(first_login, _local_gateway(database, now) if local_gateway else None)


async def trust_anchors(authority: CertificateAuthority, surroundings: Surroundings) -> list[TrustedCertificate]:
    """The roots that a private CA hands out, as records."""
    kind = find("cas", authority.type)
    opened = kind.open(kind.configure(authority.settings), surroundings)
    if not isinstance(opened, ShowsTrustAnchors):
        return []
    return [trusted(pem, is_root=True) for pem in await opened.trust_anchors()]


def trusted(pem: str, *, is_root: bool) -> TrustedCertificate:
    """A CA certificate as a record. Raises `InvalidInput` when it is none."""
    certificate = x509.load_certificate(pem)
    return TrustedCertificate(
        subject=x509.distinguished_name(certificate.subject),
        fingerprint=x509.fingerprint(certificate),
        is_root=is_root,
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
        pem=x509.to_pem(certificate),
    )


def _first_administrator(session: Session, now: datetime) -> FirstLogin:
    login = FirstLogin("admin", secrets.token_urlsafe(12))
    administrator = Administrator(
        login=login.login, full_name="First administrator", password_hash=hash_password(login.password), created_at=now
    )
    session.add(administrator)
    session.flush()
    session.add(RoleAssignment(administrator_id=identity(administrator), role=Role.MRAO))
    _tell(session, "administrator.added", "administrator", "The first administrator, admin, was made.", now)
    return login


async def _first_authority(database: Database, surroundings: Surroundings, now: datetime) -> None:
    with database.read() as session:
        if session.exec(select(CertificateAuthority)).first() is not None:
            return
    folder = Path(surroundings.home) / "ca"
    authority = CertificateAuthority(name=FIRST_AUTHORITY, type="private", settings={"folder": str(folder)})
    anchors = await trust_anchors(authority, surroundings)
    with database.write() as session:
        if session.exec(select(CertificateAuthority)).first() is not None:
            return
        session.add(authority)
        session.flush()
        session.add(CertificateProfile(name="server", authority_id=identity(authority), authority_profile="server"))
        for anchor in anchors:
            session.add(anchor)
        _tell(session, "ca.added", "ca", "The built-in private CA was made and its root is trusted.", now)


def _local_gateway(database: Database, now: datetime) -> int:
    with database.write() as session:
        fact = session.get(Fact, _LOCAL)
        # Homes of 0.1 have no such fact: there it is the first one.
        first = select(Gateway).order_by(col(Gateway.id))
        row = session.get(Gateway, int(fact.value)) if fact else session.exec(first).first()
        if row is None or access.is_gone(row):
            row = Gateway(
                name=LOCAL_GATEWAY,
                name_key=LOCAL_GATEWAY,
                comments="On the manager's own machine.",
                version=own_version(),
                os=own_system(),
                created_at=now,
                joined_at=now,
            )
            session.add(row)
            session.flush()
            session.add(Keystore(gateway_id=identity(row), name="default", type="pem", settings={}))
            _tell(session, "gateway.added", "gateway", "The gateway of this machine was made.", now, identity(row))
        fact = fact or Fact(name=_LOCAL, value="")
        fact.value = str(identity(row))
        session.add(fact)
        return identity(row)


def installation_of(database: Database) -> tuple[str, str]:
    """This certgate's own id, and its manager's public key."""
    with database.read() as session:
        return access.installation(session), manager_key.public_key(session)


def live_channel(database: Database, gateway_id: int) -> int:
    """The number of a gateway's live channel."""
    with database.read() as session:
        return session.get_one(Gateway, gateway_id).channel


def local_channel(database: Database, gateway_id: int, number: int, public_key: str, now: datetime) -> int:
    """Agree on a channel with the gateway of this machine, whose public key for it this is; gives its number. Another
    number is the channel that needs a key instead: a home that was wiped gets the next one, and the one before is
    dead, as after a restore.

    Whoever prepares a home owns both sides, so no token is needed.
    """
    with database.write() as session:
        gateway = session.get_one(Gateway, gateway_id)
        row = open_channel(session, gateway, now)
        if gateway.channel != number or (row.public_key == public_key and row.closed_at is None):
            return gateway.channel
        if row.public_key is not None:
            row.closed_at = row.closed_at or now
            session.add(row)
            gateway.channel += 1
            open_channel(session, gateway, now)
            return gateway.channel
        row.public_key, row.host, row.joined_at = public_key, platform.node()[:255], now
        gateway.joined_at = gateway.joined_at or now
        gateway.token_digest = gateway.token_expires_at = None
        session.add_all([row, gateway])
        told = f"The gateway of this machine has channel {gateway.channel} now."
        _tell(session, "gateway.joined", "gateway", told, now, gateway_id)
        return gateway.channel


def _tell(
    session: Session, action: str, object_type: str, description: str, now: datetime, gateway_id: int | None = None
) -> None:
    act = audit.Act(
        actor="certgate",
        access_method=AccessMethod.COMMAND_LINE,
        action=action,
        object_type=object_type,
        object_id=gateway_id,
        gateway_id=gateway_id,
        description=description,
    )
    audit.append(session, act, now)
