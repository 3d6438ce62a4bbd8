"""Records to act on: two organizations, three gateways, a request with its certificate, a draft of a campaign
for it, and five administrators."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from sqlmodel import Session, col, select
from temporalio.client import Client

from connectors.registry import Surroundings
from connectors.secrets import resolve
from model import access, audit, channel, seen, x509
from model.database import Database
from model.errors import Unavailable
from model.keys import KeyAlgorithm
from model.states import (
    AccessMethod,
    CampaignWay,
    CertificateStatus,
    DelegationMode,
    InstallState,
    Privilege,
    Role,
    ScanState,
    SightingWay,
)
from model.tables import (
    Administrator,
    ApprovalPolicy,
    AuditEntry,
    Campaign,
    CampaignItem,
    Certificate,
    CertificateAuthority,
    CertificateProfile,
    CertificateRequest,
    Delegation,
    Department,
    Endpoint,
    EndpointBinding,
    EndpointGroup,
    EndpointGroupMember,
    Fact,
    Gateway,
    Installation,
    NetworkScan,
    Notification,
    Organization,
    RoleAssignment,
)
from operations import identity
from operations.context import Context
from operations.lookup import identity as number_of
from tests.support import databases
from worker.playground import self_signed

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
EVERYTHING = tuple(Privilege)


@dataclass
class Records:
    """A filled database and who may act on it."""

    database: Database
    home: Path

    @property
    def surroundings(self) -> Surroundings:
        """For operations that open connectors."""
        return Surroundings(self.home, resolve)

    def acting(self, login: str) -> Context:
        """The context of an administrator, without an engine."""
        with self.database.read() as session:
            row = session.exec(select(Administrator).where(Administrator.login == login)).one()
        actor = identity.recognize(self.database, number_of(row))

        async def away() -> Client:
            raise Unavailable("There is no engine here.")

        return Context(self.database, actor, AccessMethod.API, away, lambda: NOW)

    def audited(self) -> list[tuple[str, str]]:
        """Action and outcome of all entries, in order."""
        with self.database.read() as session:
            rows = session.exec(select(AuditEntry).order_by(col(AuditEntry.sequence))).all()
            return [(row.action, str(row.outcome)) for row in rows]


@dataclass(frozen=True)
class Filled:
    """A filled database to begin with, and the place and the one `Database` for all copies of it: with an engine of its
    own each test would have every statement made anew, which takes as long as all the rest of it."""

    original: Path
    place: Path
    database: Database


@pytest.fixture(scope="session")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Filled:
    """Filling a database takes a while."""
    folder = tmp_path_factory.mktemp("filled")
    made = databases.empty(folder)
    fill(made)
    made.close()
    place = tmp_path_factory.mktemp("records") / "certgate.db"
    return Filled(folder / "certgate.db", place, Database(f"sqlite:///{place}"))


@pytest.fixture
def records(filled: Filled, tmp_path: Path) -> Iterator[Records]:
    """Filled as the module's docstring says."""
    # Whoever still had the one before open does not see this one.
    for old in filled.place.parent.iterdir():
        old.unlink()
    shutil.copyfile(filled.original, filled.place)
    yield Records(filled.database, tmp_path)
    filled.database.close()


def sightings(session: Session, gateways: Mapping[str, int], endpoint_id: int, managed: str) -> None:
    """What was seen: certificate 1 at gateway alpha's endpoint, and at alpha and beta one each in the network, which a
    scan looked for."""
    spot = seen.Spot(gateways["alpha"], SightingWay.ENDPOINT, endpoint_id=endpoint_id, binding="a:443")
    seen.keep(session, {spot: x509.fingerprint(x509.load_certificate(managed))}, [managed], NOW)
    for name in ("alpha", "beta"):
        pem = self_signed([f"{name}-printer.example"])[0].decode()
        spot = seen.Spot(gateways[name], SightingWay.NETWORK, address="192.0.2.7", port=443)
        seen.keep(session, {spot: x509.fingerprint(x509.load_certificate(pem))}, [pem], NOW)
        session.add(
            NetworkScan(
                gateway_id=gateways[name],
                networks=["192.0.2.0/24"],
                services=[{"port": 443, "starttls": None}],
                asked_by="mrao",
                state=ScanState.DONE,
                created_at=NOW,
            )
        )


def fill(database: Database) -> None:
    """Alpha has a department Web; request 1 and certificate 1 are Web's; nothing is Beta's but a gateway."""
    with database.write() as session:
        session.add(Fact(name=access.INSTALLATION, value="0123456789ab"))
        session.add(Fact(name=access.MANAGER_KEY, value=channel.public_text(channel.new_key())))
        alpha, beta = Organization(name="Alpha"), Organization(name="Beta")
        session.add_all([alpha, beta])
        session.flush()
        web = Department(organization_id=number_of(alpha), name="Web")
        session.add(web)
        session.flush()
        a, b, w = number_of(alpha), number_of(beta), number_of(web)

        def administrator(login: str, role: Role, organization: int | None, privileges: Sequence[Privilege]) -> int:
            row = Administrator(login=login, created_at=NOW)
            session.add(row)
            session.flush()
            session.add(
                RoleAssignment(
                    administrator_id=number_of(row),
                    role=role,
                    organization_id=organization,
                    department_id=w if role == Role.DRAO else None,
                    privileges=[str(one) for one in privileges],
                )
            )
            return number_of(row)

        administrator("mrao", Role.MRAO, None, ())
        administrator("rao", Role.RAO, a, EVERYTHING)
        administrator("bare", Role.RAO, a, ())
        administrator("drao", Role.DRAO, a, EVERYTHING)
        administrator("stranger", Role.RAO, b, EVERYTHING)
        requester = administrator("requester", Role.DRAO, a, (Privilege.REQUEST,))

        gateways = {}
        for name, organization, department in (
            ("general", None, None),
            ("alpha", a, None),
            ("web", a, w),
            ("beta", b, None),
        ):
            mode = DelegationMode.GENERAL if organization is None else DelegationMode.CUSTOMIZED
            gateway = Gateway(
                name=name,
                name_key=name,
                delegation_mode=mode,
                created_at=NOW,
                joined_at=NOW,
                version={"alpha": "1.0", "beta": "2.0"}.get(name),
            )
            session.add(gateway)
            session.flush()
            gateways[name] = number_of(gateway)
            if organization is not None:
                session.add(
                    Delegation(gateway_id=number_of(gateway), organization_id=organization, department_id=department)
                )
        endpoint = Endpoint(gateway_id=gateways["alpha"], name="nginx", type="nginx")
        session.add(endpoint)
        session.flush()
        session.add(EndpointBinding(endpoint_id=number_of(endpoint), binding="a:443", names=["a.example"]))
        group = EndpointGroup(gateway_id=gateways["alpha"], name="web")
        session.add(group)
        session.flush()
        member = EndpointGroupMember(
            group_id=number_of(group), position=0, endpoint_id=number_of(endpoint), binding="a:443"
        )
        session.add(member)

        authority = CertificateAuthority(name="private", type="private", settings={"name": "tests"})
        session.add(authority)
        session.flush()
        profile = CertificateProfile(name="server", authority_id=number_of(authority))
        session.add_all([profile, ApprovalPolicy(name="default"), ApprovalPolicy(name="alpha", organization_id=a)])
        session.flush()
        request = CertificateRequest(
            organization_id=a,
            department_id=w,
            requester_id=requester,
            common_name="a.example",
            names=["a.example"],
            profile_id=number_of(profile),
            authority_id=number_of(authority),
            gateway_id=gateways["alpha"],
            endpoint_id=number_of(endpoint),
            binding="a:443",
            key_algorithm=KeyAlgorithm.EC_P256,
            install_state=InstallState.KEY_READY,
            started=True,
            created_at=NOW,
            updated_at=NOW,
        )
        session.add(request)
        session.flush()
        leaf = x509.load_certificate(self_signed(["a.example"])[0].decode())
        certificate = Certificate(
            request_id=number_of(request),
            organization_id=a,
            department_id=w,
            common_name="a.example",
            pem=leaf.public_bytes(Encoding.PEM).decode(),
            serial_number=x509.serial_hex(leaf),
            issuer=x509.distinguished_name(leaf.issuer),
            fingerprint=x509.fingerprint(leaf),
            not_before=NOW,
            not_after=NOW + timedelta(days=47),
            status=CertificateStatus.ISSUED,
            active=True,
        )
        session.add(certificate)
        session.flush()
        session.add(
            Installation(
                certificate_id=number_of(certificate),
                endpoint_id=number_of(endpoint),
                binding="a:443",
                state=InstallState.COMPLETED,
                updated_at=NOW,
            )
        )
        sightings(session, gateways, number_of(endpoint), leaf.public_bytes(Encoding.PEM).decode())
        campaign = Campaign(
            name="drill of a.example",
            created_by_id=requester,
            organization_id=a,
            department_id=w,
            way=CampaignWay.REPLACE,
            rate_per_hour=600,
            at_once=20,
            canaries=1,
            pause_after=5,
            pause_share=20,
            total=1,
            created_at=NOW,
        )
        session.add(campaign)
        session.flush()
        session.add(
            CampaignItem(
                campaign_id=number_of(campaign),
                position=0,
                canary=True,
                certificate_id=number_of(certificate),
                organization_id=a,
                department_id=w,
                gateway_id=gateways["alpha"],
            )
        )
        for organization, department in ((a, w), (b, None), (None, None)):
            session.add(
                Notification(
                    kind="gateway.away",
                    once=f"gateway.away/{organization}",
                    gateway_id=gateways["web"] if department else gateways["beta"] if organization else None,
                    organization_id=organization,
                    department_id=department,
                    subject=f"Something is away at {organization or 'large'}",
                    text="It has open work.",
                    created_at=NOW,
                )
            )
        for organization, thing, who in (
            (a, "request", "requester"),
            (b, "organization", "stranger"),
            (None, "installation", "certgate"),
        ):
            act = audit.Act(
                actor=who,
                access_method=AccessMethod.API,
                action=f"{thing}.done",
                object_type=thing,
                object_id=1,
                organization_id=organization,
                department_id=w if organization == a else None,
                description=f"Something happened to the {thing}.",
            )
            audit.append(session, act, NOW)
