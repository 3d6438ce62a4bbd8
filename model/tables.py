"""The records. Plain data: rules stand in `model/rules/`, queries where they are used.

Times are UTC and aware. Fingerprints are SHA-256, lower-case hex. PEM texts hold public things only.
"""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import (
    JSON,
    CheckConstraint,
    DateTime,
    Dialect,
    Index,
    String,
    Text,
    TypeDecorator,
    UniqueConstraint,
    text,
)
from sqlmodel import Field, SQLModel

from model.keys import KeyAlgorithm
from model.states import (
    AccessMethod,
    CampaignState,
    CampaignWay,
    CertificateStatus,
    ConnectionStatus,
    DelegationMode,
    EndpointStatus,
    InstallMode,
    InstallState,
    ItemState,
    KeyPlace,
    OrderWay,
    Outcome,
    RequestOrigin,
    Role,
    ScanState,
    SightingWay,
    Verdict,
)


class UtcDateTime(TypeDecorator[datetime]):
    """A time zone aware UTC time, also on databases that forget the zone."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Refuse naive times; store UTC."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a time without a zone was about to be stored")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Give UTC back."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def _time(*, null: bool = False, index: bool = False) -> Any:
    default: Any = None if null else ...
    return Field(default=default, sa_type=UtcDateTime, nullable=null, index=index)


def _json(default: Any) -> Any:
    return Field(default_factory=default, sa_type=JSON, nullable=False)


def _text(*, null: bool = True) -> Any:
    return Field(default=None if null else ..., sa_type=Text, nullable=null)


class Words(TypeDecorator[StrEnum]):
    """A state, stored as its plain text, so that SQL stays readable and a new state needs no migration."""

    impl = String(32)
    cache_ok = True

    def __init__(self, words: type[StrEnum]) -> None:
        super().__init__()
        self.words = words

    def process_bind_param(self, value: StrEnum | str | None, dialect: Dialect) -> str | None:
        """Only a known word is stored."""
        return None if value is None else str(self.words(value))

    def process_result_value(self, value: str | None, dialect: Dialect) -> StrEnum | None:
        """Give the enumeration's member back."""
        return None if value is None else self.words(value)


def _word(words: type[StrEnum], default: Any = ...) -> Any:
    return Field(default=default, sa_type=Words(words), nullable=False)


class Fact(SQLModel, table=True):
    """A single fact about this installation, such as its own id."""

    name: str = Field(primary_key=True, max_length=64)
    value: str = _text(null=False)


class Organization(SQLModel, table=True):
    """Who certificates are for."""

    id: int | None = Field(default=None, primary_key=True)
    name: str = Field(max_length=128, unique=True)


class Department(SQLModel, table=True):
    """A part of one organization."""

    __table_args__ = (UniqueConstraint("organization_id", "name"),)
    id: int | None = Field(default=None, primary_key=True)
    organization_id: int = Field(foreign_key="organization.id", index=True)
    name: str = Field(max_length=128)


class Administrator(SQLModel, table=True):
    """A person who acts. `password_hash` is argon2id; None where the person signs in elsewhere or not at all. Elsewhere
    is `oidc_issuer`, which knows the person as `oidc_subject` (OpenID Connect Core 1.0 section 2)."""

    __table_args__ = (Index("ix_administrator_oidc", "oidc_issuer", "oidc_subject", unique=True),)
    id: int | None = Field(default=None, primary_key=True)
    login: str = Field(max_length=64, unique=True)
    full_name: str = Field(default="", max_length=128)
    email: str = Field(default="", max_length=256)
    password_hash: str | None = Field(default=None, max_length=256)
    oidc_issuer: str | None = Field(default=None, max_length=512)
    oidc_subject: str | None = Field(default=None, max_length=255)
    active: bool = True
    failed_sign_ins: int = 0
    locked_until: datetime | None = _time(null=True)
    last_sign_in: datetime | None = _time(null=True)
    created_at: datetime = _time()


class DashboardSession(SQLModel, table=True):
    """A signed-in browser; only the SHA-256 of its cookie is kept. `way` is ``password`` or ``oidc``. `ended` is why it
    holds no longer; the row stays until `expires_at`, so that the browser can be told."""

    __tablename__ = "dashboard_session"
    id: int | None = Field(default=None, primary_key=True)
    administrator_id: int = Field(foreign_key="administrator.id", index=True)
    digest: str = Field(max_length=64, unique=True)
    way: str = Field(max_length=16)
    address: str = Field(default="", max_length=64)
    agent: str = Field(default="", max_length=256)
    created_at: datetime = _time()
    seen_at: datetime = _time()
    expires_at: datetime = _time(index=True)
    ended: str | None = Field(default=None, max_length=16)


class KnownBrowser(SQLModel, table=True):
    """A browser in which an administrator signed in by password before: it has failures of its own, so that strangers
    who lock the account don't lock him out. Only the SHA-256 of its cookie is kept."""

    __tablename__ = "known_browser"
    id: int | None = Field(default=None, primary_key=True)
    administrator_id: int = Field(foreign_key="administrator.id", index=True)
    digest: str = Field(max_length=64)
    failed_sign_ins: int = 0
    locked_until: datetime | None = _time(null=True)
    expires_at: datetime = _time(index=True)
    __table_args__ = (UniqueConstraint("administrator_id", "digest"),)


class Preference(SQLModel, table=True):
    """What an administrator chose for himself, such as the columns of a table."""

    __table_args__ = (UniqueConstraint("administrator_id", "name"),)
    id: int | None = Field(default=None, primary_key=True)
    administrator_id: int = Field(foreign_key="administrator.id", index=True)
    name: str = Field(max_length=64)
    value: Any = Field(default=None, sa_type=JSON, nullable=False)


class RoleAssignment(SQLModel, table=True):
    """What an administrator may do and where: everywhere (MRAO), in an organization (RAO), in a department (DRAO)."""

    __tablename__ = "role_assignment"
    id: int | None = Field(default=None, primary_key=True)
    administrator_id: int = Field(foreign_key="administrator.id", index=True)
    role: Role = _word(Role)
    organization_id: int | None = Field(default=None, foreign_key="organization.id")
    department_id: int | None = Field(default=None, foreign_key="department.id")
    privileges: list[str] = _json(list)


class AccessToken(SQLModel, table=True):
    """A command line or API token; only its SHA-256 is kept."""

    __tablename__ = "access_token"
    id: int | None = Field(default=None, primary_key=True)
    administrator_id: int = Field(foreign_key="administrator.id", index=True)
    digest: str = Field(max_length=64, unique=True)
    created_at: datetime = _time()
    expires_at: datetime = _time()


class Gateway(SQLModel, table=True):
    """An orchestration gateway. Whether it is connected is asked of the engine, never stored as truth.

    `revision` grows with each edit, so that a second editor is told of the first. `channel` is the number of the
    channel that is alive (`GatewayChannel`). `told_status` is the connection status that the audit told last, and
    `status_since` since when it is so; `clock_offset` by how many seconds the clock of its host was seen to be fast.
    `told_standing` is what open requests were told of it last (`operations/gateway_news.py`).
    `modules` are the connectors that the gateway said it has (kind, name, title, version), `modules_revision` what was
    agreed last by a sync of modules. `discovery` is what its own settings allow network discovery, as it said when it
    checked in (`connectors/endpoints/scan.py`); None: it never said.
    """

    id: int | None = Field(default=None, primary_key=True)
    revision: int = 1
    name: str = Field(max_length=128)
    name_key: str = Field(max_length=128, unique=True)
    delegation_mode: DelegationMode = _word(DelegationMode, DelegationMode.GENERAL)
    comments: str = Field(default="", max_length=256)
    active: bool = True
    version: str | None = Field(default=None, max_length=64)
    os: str | None = Field(default=None, max_length=128)
    host: str | None = Field(default=None, max_length=255)
    modules: list[dict[str, Any]] = _json(list)
    modules_revision: int = 0
    discovery: dict[str, Any] | None = Field(default=None, sa_type=JSON, nullable=True)
    created_at: datetime = _time()
    joined_at: datetime | None = _time(null=True)
    last_activity: datetime | None = _time(null=True)
    told_status: ConnectionStatus | None = Field(default=None, sa_type=Words(ConnectionStatus), nullable=True)
    status_since: datetime | None = _time(null=True)
    clock_offset: float | None = None
    channel: int = 1
    told_standing: str | None = Field(default=None, max_length=64)
    token_digest: str | None = Field(default=None, max_length=64)
    token_expires_at: datetime | None = _time(null=True)


class GatewayChannel(SQLModel, table=True):
    """What a gateway and the manager agreed at a join: the gateway's X25519 public key (Base64), from which and from
    the manager's own key both derive the channel key. A closed channel is dead for good; its row stays for old
    histories."""

    __tablename__ = "gateway_channel"
    __table_args__ = (UniqueConstraint("gateway_id", "number"),)
    id: int | None = Field(default=None, primary_key=True)
    gateway_id: int = Field(foreign_key="gateway.id", index=True)
    number: int
    public_key: str | None = Field(default=None, max_length=64)
    host: str | None = Field(default=None, max_length=255)
    opened_at: datetime = _time()
    joined_at: datetime | None = _time(null=True)
    closed_at: datetime | None = _time(null=True)


class GatewaySync(SQLModel, table=True):
    """Where the sync of a gateway's modules stands: the document both sides agreed on at `revision`, and the projection
    of the workflow that compares or brings together (`state`, `difference`, `message`).

    `asked` is what an administrator ordered, under its own number: the workflow takes it from here and from nowhere
    else. `seen` tells of the last comparison, `plan` of what is still on its way to the gateway.
    """

    __tablename__ = "gateway_sync"
    id: int | None = Field(default=None, primary_key=True)
    gateway_id: int = Field(foreign_key="gateway.id", unique=True)
    revision: int = 0
    agreed: dict[str, Any] = _json(dict)
    state: str = Field(default="never", max_length=32)
    direction: str = Field(default="both", max_length=16)
    difference: list[dict[str, Any]] = _json(list)
    message: str | None = _text()
    asked_by: str | None = Field(default=None, max_length=128)
    asked: dict[str, Any] = _json(dict)
    seen: dict[str, Any] = _json(dict)
    plan: dict[str, Any] = _json(dict)
    updated_at: datetime = _time()


class Delegation(SQLModel, table=True):
    """A gateway serves an organization, or one of its departments."""

    __table_args__ = (UniqueConstraint("gateway_id", "organization_id", "department_id"),)
    id: int | None = Field(default=None, primary_key=True)
    gateway_id: int = Field(foreign_key="gateway.id", index=True)
    organization_id: int = Field(foreign_key="organization.id")
    department_id: int | None = Field(default=None, foreign_key="department.id")


class Endpoint(SQLModel, table=True):
    """A product that serves certificates, reached by one gateway. `credential` is a reference the gateway resolves.

    `key_at_endpoint`: keys are made there, and never cross the network. `verify_from_manager`: the manager may look at
    what is served too, not only the gateway."""

    __table_args__ = (UniqueConstraint("gateway_id", "name"),)
    id: int | None = Field(default=None, primary_key=True)
    gateway_id: int = Field(foreign_key="gateway.id", index=True)
    name: str = Field(max_length=512)
    type: str = Field(max_length=64)
    connection: str = Field(default="local", max_length=32)
    settings: dict[str, Any] = _json(dict)
    connection_settings: dict[str, Any] = _json(dict)
    credential: str | None = Field(default=None, max_length=512)
    install_mode: InstallMode = _word(InstallMode, InstallMode.AUTO)
    window_cron: str | None = Field(default=None, max_length=128)
    window_zone: str = Field(default="UTC", max_length=64)
    window_minutes: int = 60
    status: EndpointStatus = _word(EndpointStatus, EndpointStatus.INIT)
    last_error: str | None = _text()
    last_cure: str | None = _text()
    tested_at: datetime | None = _time(null=True)
    discovered_at: datetime | None = _time(null=True)
    key_at_endpoint: bool = False
    verify_from_manager: bool = False


class EndpointBinding(SQLModel, table=True):
    """A place of an endpoint that serves a certificate, as it was last discovered."""

    __tablename__ = "endpoint_binding"
    __table_args__ = (UniqueConstraint("endpoint_id", "binding"),)
    id: int | None = Field(default=None, primary_key=True)
    endpoint_id: int = Field(foreign_key="endpoint.id", index=True)
    binding: str = Field(max_length=512)
    names: list[str] = _json(list)
    listeners: list[str] = _json(list)
    certificate_path: str | None = _text()
    shared_with: list[str] = _json(list)
    obstacle: str | None = _text()
    served_fingerprint: str | None = Field(default=None, max_length=64)


class EndpointGroup(SQLModel, table=True):
    """Bindings of one gateway that serve the same certificate. The first `canaries` of them get it first; when these
    serve it, and `soak_seconds` later still do, the rest follows, `at_once` at a time."""

    __tablename__ = "endpoint_group"
    __table_args__ = (UniqueConstraint("gateway_id", "name"),)
    id: int | None = Field(default=None, primary_key=True)
    gateway_id: int = Field(foreign_key="gateway.id", index=True)
    name: str = Field(max_length=128)
    canaries: int = 1
    at_once: int = 4
    soak_seconds: int = 0


class EndpointGroupMember(SQLModel, table=True):
    """A binding of a group; `position` is the order in which they get the certificate."""

    __tablename__ = "endpoint_group_member"
    __table_args__ = (UniqueConstraint("group_id", "endpoint_id", "binding"),)
    id: int | None = Field(default=None, primary_key=True)
    group_id: int = Field(foreign_key="endpoint_group.id", index=True)
    position: int
    endpoint_id: int = Field(foreign_key="endpoint.id", index=True)
    binding: str = Field(max_length=512)


class Keystore(SQLModel, table=True):
    """Where a gateway makes and keeps keys. Every gateway has one named `default`. `contents` is what its gateway saw
    in it at `checked_at`: aliases, algorithms, fingerprints, ends; never a key."""

    __table_args__ = (UniqueConstraint("gateway_id", "name"),)
    id: int | None = Field(default=None, primary_key=True)
    gateway_id: int = Field(foreign_key="gateway.id", index=True)
    name: str = Field(max_length=128)
    type: str = Field(max_length=64)
    settings: dict[str, Any] = _json(dict)
    contents: list[dict[str, Any]] = _json(list)
    last_error: str | None = _text()
    checked_at: datetime | None = _time(null=True)


class CertificateAuthority(SQLModel, table=True):
    """A configured CA. `reached_from` says whose network it is in: `manager` or `gateway`. `networks` are those (CIDR)
    in which its OCSP responders and CRLs may be besides public addresses. `watch_problem` is what the watch over its
    certificates ran into last, None while it answers; `watch_faulty` that answers are wrong and not just missing."""

    __tablename__ = "certificate_authority"
    __table_args__ = (CheckConstraint("reached_from IN ('manager', 'gateway')", name="ck_authority_reached_from"),)
    id: int | None = Field(default=None, primary_key=True)
    name: str = Field(max_length=128, unique=True)
    type: str = Field(max_length=64)
    settings: dict[str, Any] = _json(dict)
    reached_from: str = Field(default="manager", max_length=16)
    is_private: bool = True
    active: bool = True
    networks: list[str] = _json(list)
    watch_problem: str | None = _text()
    watch_problem_since: datetime | None = _time(null=True)
    watch_faulty: bool = False
    watch_told: bool = False


class CertificateProfile(SQLModel, table=True):
    """What kind of certificate: key, validity, allowed names, CA. `allowed_names` empty allows every valid name;
    `include_root` has servers send the root as well."""

    __tablename__ = "certificate_profile"
    id: int | None = Field(default=None, primary_key=True)
    name: str = Field(max_length=128, unique=True)
    authority_id: int = Field(foreign_key="certificate_authority.id")
    authority_profile: str | None = Field(default=None, max_length=128)
    key_algorithm: KeyAlgorithm = _word(KeyAlgorithm, KeyAlgorithm.EC_P256)
    validity_seconds: int | None = None
    allowed_names: list[str] = _json(list)
    reuse_key: bool = False
    include_root: bool = False


class ApprovalPolicy(SQLModel, table=True):
    """Who must approve. The organization's own policy holds, else the one without organization. Times in seconds."""

    __tablename__ = "approval_policy"
    id: int | None = Field(default=None, primary_key=True)
    name: str = Field(max_length=128, unique=True)
    organization_id: int | None = Field(default=None, foreign_key="organization.id", unique=True)
    approvals_required: int = 1
    four_eyes: bool = True
    reminder_seconds: int = 86_400
    expiry_seconds: int = 30 * 86_400
    auto_approve_renewals: bool = True
    auto_approve_privileged: bool = False


class TrustedCertificate(SQLModel, table=True):
    """A root or intermediate that chains may be completed with; roots are trust anchors."""

    __tablename__ = "trusted_certificate"
    id: int | None = Field(default=None, primary_key=True)
    subject: str = Field(max_length=1024)
    fingerprint: str = Field(max_length=64, unique=True)
    is_root: bool = False
    not_before: datetime = _time()
    not_after: datetime = _time()
    pem: str = _text(null=False)


class CertificateRequest(SQLModel, table=True):
    """A request: the projection, for lists and search, of the workflow that carries it out. `authority_chosen`: the CA
    was named by the requester and is not the profile's.

    `key_place` says where its key was made. With `group_id` it is installed on all bindings of a group, of which
    `endpoint_id` and `binding` are the first. With `reinstalls_certificate_id` nothing is ordered: that certificate is
    put back into use.

    While its certificate's chain can't be completed, `missing_issuer` names what is missing, `awaited_issuers` the CAs
    that would help, and `trust_told` what was trusted of these when the request heard of it last (see
    `model/rules/trust.py`).
    """

    __tablename__ = "certificate_request"
    __table_args__ = (
        Index("ix_certificate_request_status_id", "status", "id"),
        Index("ix_certificate_request_organization_id_id", "organization_id", "id"),
        # Covers the count of a gateway's open requests, which are few of very many.
        Index("ix_certificate_request_gateway_open", "gateway_id", "closed", "organization_id", "department_id"),
        # Covers the counts of the overview: nothing is read of the rows themselves.
        Index("ix_certificate_request_counts", "closed", "organization_id", "department_id", "status", "install_state"),
        # Those few whose chain lacks an issuer, looked at every other second.
        Index(
            "ix_certificate_request_incomplete",
            "id",
            sqlite_where=text("missing_issuer IS NOT NULL"),
            postgresql_where=text("missing_issuer IS NOT NULL"),
        ),
    )
    id: int | None = Field(default=None, primary_key=True)
    organization_id: int = Field(foreign_key="organization.id")
    department_id: int | None = Field(default=None, foreign_key="department.id")
    requester_id: int = Field(foreign_key="administrator.id")
    common_name: str = Field(max_length=253, index=True)
    names: list[str] = _json(list)
    profile_id: int = Field(foreign_key="certificate_profile.id")
    authority_id: int = Field(foreign_key="certificate_authority.id")
    gateway_id: int = Field(foreign_key="gateway.id", index=True)
    endpoint_id: int | None = Field(default=None, foreign_key="endpoint.id")
    binding: str | None = Field(default=None, max_length=512)
    keystore_id: int | None = None
    key_algorithm: KeyAlgorithm = _word(KeyAlgorithm)
    key_alias: str = Field(default="", max_length=128)
    install_mode: InstallMode = _word(InstallMode, InstallMode.AUTO)
    comments: str = Field(default="", max_length=1024)
    custom_fields: dict[str, str] = _json(dict)
    renews_certificate_id: int | None = Field(default=None, index=True)
    order_way: OrderWay = _word(OrderWay, OrderWay.NEW)
    order_reason: str = Field(default="", max_length=256)
    origin: RequestOrigin = _word(RequestOrigin, RequestOrigin.SUBMITTED)
    authority_chosen: bool = False
    ordered_at: datetime | None = _time(null=True)
    status: CertificateStatus = _word(CertificateStatus, CertificateStatus.REQUESTED)
    install_state: InstallState = _word(InstallState, InstallState.NOT_CONFIGURED)
    order_number: str | None = Field(default=None, max_length=128, index=True)
    csr_pem: str | None = _text()
    reason: str | None = _text()
    missing_issuer: str | None = _text()
    awaited_issuers: list[str] = _json(list)
    trust_told: str | None = Field(default=None, max_length=64)
    key_place: KeyPlace = _word(KeyPlace, KeyPlace.GATEWAY)
    group_id: int | None = Field(default=None, index=True)
    reinstalls_certificate_id: int | None = None
    issued_fingerprint: str | None = Field(default=None, max_length=64)
    served_fingerprint: str | None = Field(default=None, max_length=64)
    install_after: datetime | None = _time(null=True)
    started: bool = Field(default=False, index=True)
    closed: bool = Field(default=False, index=True)
    created_at: datetime = _time(index=True)
    updated_at: datetime = _time()


class Decision(SQLModel, table=True):
    """An approver's word on a request; one an administrator."""

    __table_args__ = (UniqueConstraint("request_id", "administrator_id"),)
    id: int | None = Field(default=None, primary_key=True)
    request_id: int = Field(foreign_key="certificate_request.id", index=True)
    administrator_id: int = Field(foreign_key="administrator.id")
    verdict: Verdict = _word(Verdict)
    comment: str = Field(default="", max_length=1024)
    decided_at: datetime = _time()


class Certificate(SQLModel, table=True):
    """An issued certificate. `status` is ISSUED, REPLACED, REVOKED or EXPIRED. `issuer` is the distinguished name (RFC
    4514) of who signed it, as it stands in the certificate."""

    """An issued certificate. `status` is ISSUED, REPLACED, REVOKED or EXPIRED.

    `suggested_*` are the CA's renewal information (RFC 9773) and the moment in its window that is ours. `standing_*`
    say who told last whether the CA stands by it, and `standing_note` why that is not known. `found_revoked_at` is when
    it was seen that the CA had revoked it. `ask_at` is when the CA is asked next, `ask_window_at` not before when about
    its renewal information.
    """

    __table_args__ = (
        Index("ix_certificate_ask_at", "ask_at"),
        Index("ix_certificate_found_revoked_at", "found_revoked_at"),
        # Covers the counts of the overview: nothing is read of the rows themselves.
        Index("ix_certificate_counts", "status", "not_after", "organization_id", "department_id"),
        # So do these for the lists of organizations and departments.
        Index("ix_certificate_organizations", "organization_id", "department_id", "status"),
        Index("ix_certificate_departments", "department_id", "status"),
        # And this one for the issuers of what is in use.
        Index("ix_certificate_issuers", "active", "issuer", "organization_id", "department_id"),
    )
    id: int | None = Field(default=None, primary_key=True)
    request_id: int = Field(foreign_key="certificate_request.id", unique=True)
    organization_id: int = Field(foreign_key="organization.id")
    department_id: int | None = Field(default=None, foreign_key="department.id")
    common_name: str = Field(max_length=253, index=True)
    pem: str = _text(null=False)
    chain_pem: list[str] = _json(list)
    serial_number: str = Field(max_length=40)
    issuer: str = Field(default="", sa_type=Text, nullable=False)
    fingerprint: str = Field(max_length=64, unique=True)
    not_before: datetime = _time()
    not_after: datetime = _time(index=True)
    status: CertificateStatus = _word(CertificateStatus, CertificateStatus.ISSUED)
    active: bool = False
    renew_at: datetime | None = _time(null=True)
    renewal_note: str | None = _text()
    auto_renew: bool = True
    replaced_by_id: int | None = None
    revoked_at: datetime | None = _time(null=True)
    revocation_reason: str | None = Field(default=None, max_length=32)
    found_revoked_at: datetime | None = _time(null=True)
    revocation_told: bool = False
    suggested_start: datetime | None = _time(null=True)
    suggested_end: datetime | None = _time(null=True)
    suggested_at: datetime | None = _time(null=True)
    suggestion_url: str | None = _text()
    standing_source: str | None = Field(default=None, max_length=8)
    standing_at: datetime | None = _time(null=True)
    standing_note: str | None = _text()
    ask_at: datetime | None = _time(null=True)
    ask_window_at: datetime | None = _time(null=True)


class CertificateImport(SQLModel, table=True):
    """Certificates are taken over from a CA's own list. `state` is ``listing``, ``listed``, ``taking``, ``done`` or
    ``failed``; what is in the list stands in `ListedCertificate`. It is a note on what was done, and keeps nobody from
    removing the CA, organization or gateway that it names."""

    __tablename__ = "certificate_import"
    id: int | None = Field(default=None, primary_key=True)
    authority_id: int = Field(index=True)
    organization_id: int = Field(index=True)
    department_id: int | None = None
    gateway_id: int
    profile_id: int
    administrator_id: int
    auto_renew: bool = False
    state: str = Field(default="listing", max_length=16)
    message: str | None = _text()
    total: int | None = None
    created_at: datetime = _time()
    updated_at: datetime = _time()


class ListedCertificate(SQLModel, table=True):
    """A line of a CA's list, as an import saw it. `state` is ``new``, ``known`` (we have it), ``chosen``, ``imported``
    or ``refused``; `note` says why."""

    __tablename__ = "listed_certificate"
    __table_args__ = (
        UniqueConstraint("import_id", "order_number", "serial_number"),
        Index("ix_listed_certificate_state", "import_id", "state"),
    )
    id: int | None = Field(default=None, primary_key=True)
    import_id: int = Field(foreign_key="certificate_import.id")
    order_number: str = Field(max_length=128)
    serial_number: str = Field(default="", max_length=40)
    common_name: str = Field(default="", max_length=253)
    names: list[str] = _json(list)
    status: str = Field(default="", max_length=64)
    profile: str = Field(default="", max_length=256)
    not_after: datetime | None = _time(null=True)
    state: str = Field(default="new", max_length=16)
    note: str | None = _text()
    certificate_id: int | None = None


class Installation(SQLModel, table=True):
    """A certificate on a binding: what was tried and what a handshake showed before and after. `sightings` are what the
    last verification saw (`verified_at`), a handshake each; `installed_at` is when it was last brought into use,
    and `unserved_since` when a verification first saw that something else is served."""

    __table_args__ = (
        UniqueConstraint("certificate_id", "endpoint_id", "binding"),
        Index("ix_installation_place", "endpoint_id", "binding"),
    )
    id: int | None = Field(default=None, primary_key=True)
    certificate_id: int = Field(foreign_key="certificate.id", index=True)
    endpoint_id: int = Field(foreign_key="endpoint.id", index=True)
    binding: str = Field(max_length=512)
    state: InstallState = _word(InstallState)
    attempts: int = 0
    verification: str | None = Field(default=None, max_length=32)
    served_before: str | None = Field(default=None, max_length=64)
    served_after: str | None = Field(default=None, max_length=64)
    steps: list[dict[str, str]] = _json(list)
    message: str | None = _text()
    updated_at: datetime = _time()
    sightings: list[dict[str, Any]] = _json(list)
    verified_at: datetime | None = _time(null=True)
    installed_at: datetime | None = _time(null=True)
    unserved_since: datetime | None = _time(null=True, index=True)


class Campaign(SQLModel, table=True):
    """A replacement campaign: many certificates are replaced, some first as canaries, the rest under a rate.

    `criteria` is what was chosen by, as it was typed. A campaign pauses by itself when a canary fails, when
    `pause_after` certificates failed, or when `pause_share` per cent of those that ended did (0: never). `failures` and
    `ends` only grow; what they were at the last resume stands beside them: a person has seen the failures before.
    `profile_id` is where certificates are moved to. `new_key`: another key is made whatever the profile says.
    `revocation_reason` (RFC 5280 section 5.3.1): each old one is revoked with it once the new one is in use.
    `next_at` is when the rate allows the next order. `expected_at` is when it ends at this rate. `news` are events that
    wait to be told as notifications. `organization_id` and `department_id` are set where all certificates are of one.
    """

    __table_args__ = (Index("ix_campaign_state", "state"),)
    id: int | None = Field(default=None, primary_key=True)
    name: str = Field(max_length=128)
    created_by_id: int = Field(foreign_key="administrator.id")
    started_by_id: int | None = Field(default=None, foreign_key="administrator.id")
    organization_id: int | None = None
    department_id: int | None = None
    criteria: dict[str, Any] = _json(dict)
    way: CampaignWay = _word(CampaignWay)
    reason: str = Field(default="", max_length=256)
    profile_id: int | None = None
    new_key: bool = False
    revocation_reason: str | None = Field(default=None, max_length=32)
    rate_per_hour: int
    at_once: int
    canaries: int
    pause_after: int
    pause_share: int
    deadline_seconds: int | None = None
    deadline_at: datetime | None = _time(null=True)
    state: CampaignState = _word(CampaignState, CampaignState.DRAFT)
    why: str | None = _text()
    total: int = 0
    failures: int = 0
    failures_before: int = 0
    ends: int = 0
    ends_before: int = 0
    next_at: datetime | None = _time(null=True)
    looked_at: datetime | None = _time(null=True)
    expected_at: datetime | None = _time(null=True)
    late_told: bool = False
    news: list[dict[str, str]] = _json(list)
    created_at: datetime = _time()
    started_at: datetime | None = _time(null=True)
    ended_at: datetime | None = _time(null=True)


class CampaignItem(SQLModel, table=True):
    """One certificate of a campaign, in the order in which they come. `request_id` is the request that replaces it, one
    with a greater number than `after_request_id`. `picked_at` is when its turn came, `handed_at` when its renewal
    workflow was told."""

    __tablename__ = "campaign_item"
    __table_args__ = (
        UniqueConstraint("campaign_id", "certificate_id"),
        Index("ix_campaign_item_turn", "campaign_id", "state", "position"),
        Index("ix_campaign_item_scope", "campaign_id", "organization_id", "department_id"),
    )
    id: int | None = Field(default=None, primary_key=True)
    campaign_id: int = Field(foreign_key="campaign.id")
    position: int
    canary: bool = False
    certificate_id: int = Field(foreign_key="certificate.id", index=True)
    organization_id: int = Field(foreign_key="organization.id")
    department_id: int | None = Field(default=None, foreign_key="department.id")
    gateway_id: int = Field(foreign_key="gateway.id")
    state: ItemState = _word(ItemState, ItemState.WAITING)
    request_id: int | None = Field(default=None, index=True)
    after_request_id: int = 0
    picked_at: datetime | None = _time(null=True)
    handed_at: datetime | None = _time(null=True)
    ended_at: datetime | None = _time(null=True)
    message: str | None = _text()


class Notification(SQLModel, table=True):
    """Something that people should hear of without looking: shown in the dashboard, and delivered where that is set up.
    `once` names the event, so that it is told once."""

    id: int | None = Field(default=None, primary_key=True)
    kind: str = Field(max_length=64)
    once: str = Field(max_length=192, unique=True)
    gateway_id: int | None = Field(default=None, index=True)
    organization_id: int | None = None
    department_id: int | None = None
    subject: str = Field(max_length=256)
    text: str = _text(null=False)
    created_at: datetime = _time(index=True)
    delivered_at: datetime | None = _time(null=True)
    attempts: int = 0
    last_error: str | None = _text()


class NotificationSeen(SQLModel, table=True):
    """An administrator has seen a notification."""

    __tablename__ = "notification_seen"
    administrator_id: int = Field(primary_key=True, foreign_key="administrator.id")
    notification_id: int = Field(primary_key=True, foreign_key="notification.id", index=True)


class NotificationDelivery(SQLModel, table=True):
    """A notification on its way to one receiver: `way` is ``webhook`` or ``email``, `address` the e-mail address (empty
    for the webhook). Tried again at `due_at`, until it is delivered or given up; then that is None."""

    __tablename__ = "notification_delivery"
    __table_args__ = (UniqueConstraint("notification_id", "way", "address"),)
    id: int | None = Field(default=None, primary_key=True)
    notification_id: int = Field(foreign_key="notification.id")
    way: str = Field(max_length=16)
    address: str = Field(default="", max_length=320)
    due_at: datetime | None = _time(null=True, index=True)
    attempts: int = 0
    delivered_at: datetime | None = _time(null=True)
    last_error: str | None = _text()


class AuditEntry(SQLModel, table=True):
    """One act. Numbered without gaps, chained by hash (`model/audit.py`); the database refuses change and deletion.

    Each index ends with the number, so that the newest entries of a filter are read without sorting."""

    __tablename__ = "audit_entry"
    __table_args__ = (
        Index("ix_audit_entry_time", "time", "sequence"),
        Index("ix_audit_entry_actor", "actor", "sequence"),
        Index("ix_audit_entry_access_method", "access_method", "sequence"),
        Index("ix_audit_entry_action", "action", "sequence"),
        Index("ix_audit_entry_object", "object_type", "object_id", "sequence"),
        Index("ix_audit_entry_gateway_id", "gateway_id", "sequence"),
        Index("ix_audit_entry_organization_id", "organization_id", "sequence"),
        Index("ix_audit_entry_department_id", "department_id", "sequence"),
        Index("ix_audit_entry_outcome", "outcome", "sequence"),
    )
    sequence: int = Field(primary_key=True, sa_column_kwargs={"autoincrement": False})
    time: datetime = _time()
    actor: str = Field(max_length=128)
    access_method: AccessMethod = _word(AccessMethod)
    action: str = Field(max_length=64)
    object_type: str = Field(max_length=32)
    object_id: int | None = None
    gateway_id: int | None = None
    organization_id: int | None = None
    department_id: int | None = None
    description: str = _text(null=False)
    outcome: Outcome = _word(Outcome)
    once: str | None = Field(default=None, max_length=192, unique=True)
    previous_hash: str = Field(max_length=64)
    hash: str = Field(max_length=64)


class AuditHead(SQLModel, table=True):
    """The last number and hash of the audit trail; one row, and the lock that keeps the trail gapless."""

    __tablename__ = "audit_head"
    id: int = Field(default=1, primary_key=True)
    sequence: int = 0
    hash: str = Field(default="0" * 64, max_length=64)


class SeenCertificate(SQLModel, table=True):
    """A certificate that was seen somewhere, whoever issued it. It is managed where `Certificate` has its fingerprint.

    `common_name` is the subject's, else the first name. `names` are the first of `names_total` subject alternative
    names. `authority` marks a CA certificate. `ignored_by` is the login of who said that nobody needs to look at it.
    """

    __tablename__ = "seen_certificate"
    __table_args__ = (Index("ix_seen_certificate_end", "not_after", "id"),)
    id: int | None = Field(default=None, primary_key=True)
    fingerprint: str = Field(max_length=64, unique=True)
    pem: str = _text(null=False)
    common_name: str = Field(max_length=253)
    subject: str = _text(null=False)
    issuer: str = _text(null=False)
    names: list[str] = _json(list)
    names_total: int = 0
    serial_number: str = Field(max_length=80)
    key_algorithm: str = Field(max_length=32)
    not_before: datetime = _time()
    not_after: datetime = _time()
    authority: bool = False
    self_signed: bool = False
    first_seen: datetime = _time()
    last_seen: datetime = _time()
    ignored_by: str | None = Field(default=None, max_length=128)
    ignored_why: str | None = Field(default=None, max_length=1024)
    ignored_at: datetime | None = _time(null=True)


class Sighting(SQLModel, table=True):
    """Where a certificate was seen, by which gateway: at a binding of an endpoint, under an alias of a keystore, or at
    an address and port with a name in SNI ("": none) after a protocol ("": TLS from the start).

    `place` is one word for all of that (`model/seen.py`). `gone_at`: it was not there any more. `told_step` is the last
    step before its end that people were told of.
    """

    __table_args__ = (
        UniqueConstraint("place", "certificate_id"),
        Index("ix_sighting_certificate", "certificate_id", "gone_at", "gateway_id", "way"),
        Index("ix_sighting_gateway", "gateway_id", "way", "gone_at"),
    )
    id: int | None = Field(default=None, primary_key=True)
    certificate_id: int = Field(foreign_key="seen_certificate.id")
    gateway_id: int = Field(foreign_key="gateway.id")
    way: SightingWay = _word(SightingWay)
    place: str = Field(max_length=64)
    endpoint_id: int | None = Field(default=None, foreign_key="endpoint.id", index=True, ondelete="CASCADE")
    binding: str = Field(default="", max_length=512)
    keystore_id: int | None = Field(default=None, foreign_key="keystore.id", index=True, ondelete="CASCADE")
    alias: str = Field(default="", max_length=512)
    address: str = Field(default="", max_length=64)
    port: int = 0
    server_name: str = Field(default="", max_length=253)
    starttls: str = Field(default="", max_length=16)
    first_seen: datetime = _time()
    last_seen: datetime = _time()
    gone_at: datetime | None = _time(null=True)
    told_step: int | None = None


class NetworkScan(SQLModel, table=True):
    """Which networks a gateway looks through for certificates, and how far it is.

    `services` are ports with the protocol before TLS (`port`, `starttls`). `rate` is connections a second, `at_once`
    how many are open. `position` of `total` addresses and ports were looked at in this round; `answered` took a
    connection, `found` served a certificate, `unread` served one that could not be kept. With `every_seconds` it begins
    again that long after it began.
    """

    __tablename__ = "network_scan"
    id: int | None = Field(default=None, primary_key=True)
    gateway_id: int = Field(foreign_key="gateway.id", index=True)
    networks: list[str] = _json(list)
    services: list[dict[str, Any]] = _json(list)
    server_names: list[str] = _json(list)
    rate: int = 20
    at_once: int = 16
    timeout_seconds: int = 3
    most_seconds: int = 86_400
    every_seconds: int | None = None
    asked_by: str = Field(max_length=128)
    state: ScanState = _word(ScanState, ScanState.WAITING)
    message: str | None = _text()
    round: int = 0
    position: int = 0
    total: int = 0
    answered: int = 0
    found: int = 0
    unread: int = 0
    fresh: int = 0
    created_at: datetime = _time()
    started_at: datetime | None = _time(null=True)
    ended_at: datetime | None = _time(null=True)
    next_at: datetime | None = _time(null=True)
