"""Who may use the interface and what it offers: accounts, organizations, certificate types, custom fields."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Credentials:
    """One API account: by password or client certificate with `login`, by OAuth2 with `client_id`."""

    customer_uri: str = "example"
    login: str = "certgate-api"
    password: str = field(default_factory=lambda: secrets.token_urlsafe(18), repr=False)
    client_id: str = "certgate-client"
    client_secret: str = field(default_factory=lambda: secrets.token_urlsafe(18), repr=False)


@dataclass(frozen=True)
class Organization:
    """An organization; its departments have ids of the same kind."""

    id: int
    name: str
    departments: tuple[tuple[int, str], ...] = ()


@dataclass(frozen=True)
class CertificateType:
    """A certificate profile. `terms` in days."""

    id: int
    name: str
    description: str
    terms: tuple[int, ...]
    multi_domain: bool = True
    organizations: tuple[int, ...] = ()
    """Offered to these only; empty: to all."""


@dataclass(frozen=True)
class CustomField:
    """A field that orders may, or must, have."""

    id: int
    name: str
    mandatory: bool


KEY_TYPES: dict[str, list[str]] = {"RSA": ["2048", "3072", "4096"], "EC": ["P-256", "P-384"]}

ORGANIZATIONS = (
    Organization(7001, "Example Org", ((7011, "Web"),)),
    Organization(7002, "Other Org"),
)
TYPES = (
    CertificateType(301, "Multi-Domain SSL", "Up to 250 names", (30, 90, 199)),
    CertificateType(302, "Single Domain SSL", "One name", (90, 199), multi_domain=False),
    CertificateType(303, "Short Lived SSL", "Six days", (6,)),
    CertificateType(304, "Other Org only", "Not for Example Org", (90,), organizations=(7002,)),
)


@dataclass(frozen=True)
class Customer:
    """All of it. Replace what a test needs otherwise."""

    credentials: Credentials = field(default_factory=Credentials)
    organizations: tuple[Organization, ...] = ORGANIZATIONS
    types: tuple[CertificateType, ...] = TYPES
    custom_fields: tuple[CustomField, ...] = (CustomField(51, "Cost centre", mandatory=False),)

    def has_organization(self, org_id: int) -> bool:
        """Whether there is such an organization or department."""
        return any(
            org_id == one.id or any(org_id == number for number, _ in one.departments) for one in self.organizations
        )

    def types_of(self, org_id: int | None) -> list[CertificateType]:
        """What is offered to an organization, or at all."""
        return [one for one in self.types if org_id is None or not one.organizations or org_id in one.organizations]
