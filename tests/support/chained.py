"""A CA with an intermediate, which sends what the test wants of its chain, and says where the test wants the rest."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID
from sqlmodel import select

from connectors import registry
from connectors.ca.contract import CollectRequest, Health, IssuedCertificate, Order, OrderRequest, RevokeRequest
from connectors.registry import ConnectorType, Surroundings
from model.tables import CertificateAuthority
from tests.pki import Issuer, make_ca, pem
from tests.support.rogue import RogueSettings
from tests.support.world import World


class ChainedAuthority:
    """A CA for one test: `begin` makes its keys anew. `sends` is the chain that comes with a certificate, `url` where
    a certificate says that its issuer is."""

    root: Issuer
    issuer: Issuer
    url: str | None = None
    sends: tuple[Issuer, ...] = ()
    submits = 0
    orders: dict[str, OrderRequest] = {}  # noqa: RUF012  (shared on purpose: the CA outlives its connections)

    def __init__(self, _settings: RogueSettings, surroundings: Surroundings) -> None:
        self._now = surroundings.clock

    @classmethod
    def begin(cls, name: str, now: dt.datetime) -> None:
        """New keys under that name."""
        begin, end = now - dt.timedelta(days=100), now + dt.timedelta(days=1000)
        cls.root = make_ca(f"{name} root", not_before=begin, not_after=end)
        cls.issuer = make_ca(f"{name} issuer", cls.root, not_before=begin, not_after=end)
        cls.url, cls.sends, cls.submits = None, (), 0

    async def check(self) -> Health:
        """Always fine."""
        return Health(True, "The chained CA answers.")

    async def submit(self, request: OrderRequest) -> Order:
        """Count the order."""
        type(self).submits += 1
        self.orders[request.reference] = request
        return Order(request.reference)

    async def collect(self, request: CollectRequest) -> IssuedCertificate:
        """A certificate of the intermediate."""
        return IssuedCertificate(self._issue(self.orders[request.number]), [pem(one.certificate) for one in self.sends])

    async def revoke(self, request: RevokeRequest) -> None:
        """Nothing to do."""

    def _issue(self, order: OrderRequest) -> str:
        now = self._now()
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([]))
            .issuer_name(self.issuer.certificate.subject)
            .public_key(x509.load_pem_x509_csr(order.csr_pem.encode()).public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(minutes=5))
            .not_valid_after(now + dt.timedelta(days=30))
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in order.names]), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self.issuer.key.public_key()), critical=False
            )
        )
        if self.url is not None:
            builder = builder.add_extension(access_at(self.url), critical=False)
        return pem(builder.sign(self.issuer.key, hashes.SHA256()))


def access_at(*urls: str) -> x509.AuthorityInformationAccess:
    """The extension that says where the issuer's certificate is."""
    where = AuthorityInformationAccessOID.CA_ISSUERS
    return x509.AuthorityInformationAccess(
        [x509.AccessDescription(where, x509.UniformResourceIdentifier(url)) for url in urls]
    )


def install_chained(monkeypatch: pytest.MonkeyPatch | None = None) -> None:
    """Register it beside the real connectors, for one test."""
    real = registry.installed
    chained = ConnectorType("chained", "Chained CA", RogueSettings, ChainedAuthority)

    def with_it(kind: registry.Kind) -> Mapping[str, ConnectorType[Any, Any]]:
        return {**real(kind), **({"chained": chained} if kind == "cas" else {})}

    if monkeypatch is None:
        registry.installed = with_it  # type: ignore[assignment]
    else:
        monkeypatch.setattr(registry, "installed", with_it)


def chained_in(world: World, name: str, *, is_private: bool = True) -> type[ChainedAuthority]:
    """The CA `chained` of a world, with new keys."""
    with world.database.write() as session:
        row = session.exec(select(CertificateAuthority).where(CertificateAuthority.name == "chained")).one_or_none()
        row = row or CertificateAuthority(name="chained", type="chained", settings={})
        row.is_private = is_private
        session.add(row)
    ChainedAuthority.begin(name, world.clock())
    return ChainedAuthority
