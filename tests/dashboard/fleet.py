"""Many gateways to look at, of all kinds, beside those of the scene."""

from __future__ import annotations

from datetime import timedelta

from sqlmodel import Session

from model import access, channel
from model.states import DelegationMode
from model.tables import Delegation, Department, Endpoint, Fact, Gateway, Organization
from operations.lookup import identity
from tests.dashboard.scene import HOSTILE, Scene

CITIES = ("berlin", "hamburg", "köln", "münchen", "oslo", "paris", "rotterdam", "wien", "zürich", "łódź")
SYSTEMS = ("Linux 6.1.0 x86_64", "Linux 5.15.0 aarch64", "Windows Server 2022")
VERSIONS = ("0.1.0", "0.2.0")
MODULES = [
    {"kind": "endpoint", "name": "nginx", "title": "nginx", "version": "0.2.0"},
    {"kind": "keystore", "name": "pem", "title": "PEM files", "version": "0.2.0"},
]


def manager(session: Session) -> None:
    """What tokens are made with: the installation's id and its manager's key."""
    for name, value in ((access.INSTALLATION, "0123456789ab"), (access.MANAGER_KEY, _public())):
        if session.get(Fact, name) is None:
            session.add(Fact(name=name, value=value))


def _public() -> str:
    return channel.public_text(channel.new_key())


def organizations(scene: Scene, session: Session, count: int) -> None:
    """Further organizations, each with two departments."""
    for number in range(1, count + 1):
        row = Organization(name=f"Branch {number:03}")
        session.add(row)
        session.flush()
        scene.ids[row.name] = identity(row)
        for name in ("Sales", "Support"):
            session.add(Department(organization_id=identity(row), name=name))


def gateways(scene: Scene, session: Session, count: int, organization: str = "Acme Ltd") -> list[int]:
    """Further gateways: every third is Customized, every fifth has never joined, every seventh is switched off."""
    numbers = []
    for number in range(count):
        name = f"{CITIES[number % len(CITIES)]}-{number:04}"
        joined = number % 5 != 4
        customized = number % 3 == 2
        seen = scene.now - timedelta(minutes=3 * number + 2)
        row = Gateway(
            name=name,
            name_key=name.casefold(),
            delegation_mode=DelegationMode.CUSTOMIZED if customized else DelegationMode.GENERAL,
            comments=f"Rack {number % 40 + 1}, behind the second firewall; ask the network team before a change"
            if number % 2
            else "",
            active=number % 7 != 6,
            version=VERSIONS[number % 2] if joined else None,
            os=SYSTEMS[number % 3] if joined else None,
            modules=MODULES if joined else [],
            created_at=scene.now - timedelta(days=number % 90 + 1),
            joined_at=scene.now - timedelta(days=number % 90) if joined else None,
            last_activity=seen if joined else None,
        )
        session.add(row)
        session.flush()
        numbers.append(identity(row))
        if customized:
            session.add(Delegation(gateway_id=identity(row), organization_id=scene.ids[organization]))
        if joined and number % 4 == 0:
            session.add(Endpoint(gateway_id=identity(row), name="web", type="nginx"))
        if number % 200 == 199:
            session.flush()
            session.expunge_all()
    return numbers


def hostile(scene: Scene, session: Session) -> int:
    """A gateway and an organization whose words want to be markup."""
    organization = Organization(name="**Bold** <b>&</b> www.autolink.example")
    row = Gateway(name="hostile", name_key="hostile", comments=HOSTILE, created_at=scene.now)
    session.add_all([organization, row])
    session.flush()
    return identity(row)
