"""What a CA publishes of a certificate, and what does not count: real OCSP responses and CRLs of the built-in CA."""

from __future__ import annotations

import ipaddress
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import pytest_asyncio
from cryptography import x509 as crypto
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID, NameOID

from connectors.ca.contract import CollectRequest, HeldCertificate, OrderRequest, RevocationReason, RevokeRequest
from connectors.ca.private import CONNECTOR, PrivateAuthority
from connectors.ca.standing import Publications
from connectors.registry import Surroundings
from connectors.secrets import resolve
from connectors.web import PUBLIC, Addresses
from model import x509
from tests import pki
from tests.support.publishing import Handler, Publisher, publishing

HERE = Addresses(every=False, allowed=(ipaddress.ip_network("127.0.0.0/8"),))


@dataclass
class Scene:
    """A CA whose revocations are published, and a certificate of it. `now` can be moved."""

    publisher: Publisher
    folder: Path
    now: datetime

    def clock(self) -> datetime:
        """The CA's time and ours."""
        return self.now

    def authority(self, name: str = "ca", *, responder: bool = True, lists: bool = True) -> PrivateAuthority:
        """A CA in a folder of its own, which names what is published."""
        settings = {
            "folder": str(self.folder / name),
            "ocsp_url": self.publisher.url(f"/{name}/ocsp") if responder else None,
            "revocation_url": self.publisher.url(f"/{name}/crl") if lists else None,
        }
        made = CONNECTOR.open(CONNECTOR.configure(settings), Surroundings(self.folder, resolve, clock=self.clock))
        assert isinstance(made, PrivateAuthority)

        async def answer(_: str, body: bytes) -> bytes:
            return await made.ocsp_response(body)

        async def listed(_: str, __: bytes) -> bytes:
            return await made.crl()

        self.publisher.routes[f"/{name}/ocsp"], self.publisher.routes[f"/{name}/crl"] = answer, listed
        return made

    def publications(self, addresses: Addresses = HERE) -> Publications:
        """Asks under this clock."""
        return Publications(addresses, self.clock)


@pytest_asyncio.fixture(loop_scope="session")
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    """Today."""
    async with publishing() as publisher:
        yield Scene(publisher, tmp_path, datetime.now(UTC).replace(microsecond=0))


def constant(given: bytes | int) -> Handler:
    """Answers the same to everything."""

    async def answer(_: str, __: bytes) -> bytes | int:
        return given

    return answer


async def issued(authority: PrivateAuthority, name: str = "www.example.org") -> HeldCertificate:
    """A certificate of that CA, as we hold it."""
    request = OrderRequest(f"certgate-{name}", pki.make_csr(pki.new_key(), [name]), name, [name])
    order = await authority.submit(request)
    found = await authority.collect(CollectRequest(order.number, request))
    serial = x509.serial_hex(x509.load_certificate(found.certificate_pem))
    return HeldCertificate(order.number, found.certificate_pem, serial, list(found.chain_pem))


async def revoke(authority: PrivateAuthority, held: HeldCertificate) -> None:
    """Behind our back."""
    reason = RevocationReason.KEY_COMPROMISE
    await authority.revoke(RevokeRequest(held.order_number, held.certificate_pem, held.serial_number, reason))


@pytest.mark.parametrize("source", ["OCSP", "CRL"])
async def test_a_good_and_then_a_revoked_certificate(scene: Scene, source: str) -> None:
    authority = scene.authority(responder=source == "OCSP")
    held, published = await issued(authority), scene.publications()
    good = (await published.standing(held)).standing
    assert good is not None
    assert (good.revoked, good.source) == (False, source)
    await revoke(authority, held)
    scene.now += timedelta(hours=2)
    gone = await published.standing(held)
    assert gone.problem is None
    assert gone.standing is not None
    assert (gone.standing.revoked, gone.standing.source, gone.standing.reason) == (True, source, "keyCompromise")
    assert gone.standing.revoked_at == scene.now - timedelta(hours=2)
    await published.close()


async def test_a_list_is_fetched_once_for_many_certificates(scene: Scene) -> None:
    authority, published = scene.authority(responder=False), scene.publications()
    for number in range(5):
        assert (await published.standing(await issued(authority, f"n{number}.example.org"))).standing is not None
    assert scene.publisher.asked == {"/ca/crl": 1}
    await published.close()


async def test_the_list_counts_where_the_responder_is_away(scene: Scene) -> None:
    authority, published = scene.authority(), scene.publications()
    held = await issued(authority)
    scene.publisher.routes["/ca/ocsp"] = constant(503)
    found = await published.standing(held)
    assert found.standing is not None
    assert (found.standing.source, found.problem) == ("CRL", None)
    scene.publisher.routes["/ca/crl"] = constant(503)
    again = scene.publications()
    away = await again.standing(held)
    assert (away.standing, away.passing, away.faulty) == (None, True, False)
    await published.close()
    await again.close()


Forger = Callable[["Forging"], bytes]


@dataclass
class Forging:
    """What a forger has: the question, our certificate, the issuer's certificate, and keys of his own."""

    question: ocsp.OCSPRequest
    leaf: crypto.Certificate
    issuer: crypto.Certificate
    other: HeldCertificate
    now: datetime


def response(
    forging: Forging,
    key: ec.EllipticCurvePrivateKey,
    responder: crypto.Certificate,
    *,
    leaf: crypto.Certificate | None = None,
    at: datetime | None = None,
    nonce: bytes | None = None,
    certificates: list[crypto.Certificate] | None = None,
) -> bytes:
    """A response that says revoked."""
    start = at or forging.now
    builder = ocsp.OCSPResponseBuilder().add_response(
        cert=leaf or forging.leaf,
        issuer=forging.issuer,
        algorithm=hashes.SHA1(),
        cert_status=ocsp.OCSPCertStatus.REVOKED,
        this_update=start,
        next_update=start + timedelta(hours=12),
        revocation_time=start,
        revocation_reason=None,
    )
    builder = builder.responder_id(ocsp.OCSPResponderEncoding.HASH, responder)
    if nonce is not None:
        builder = builder.add_extension(crypto.OCSPNonce(nonce), critical=False)
    if certificates:
        builder = builder.certificates(certificates)
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)


def signed_by(
    issuer: str, issuer_key: ec.EllipticCurvePrivateKey, *, ocsp_signing: bool, now: datetime
) -> tuple[crypto.Certificate, ec.EllipticCurvePrivateKey]:
    """A responder's certificate of somebody who calls himself the issuer."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = crypto.Name([crypto.NameAttribute(NameOID.COMMON_NAME, "Responder")])
    builder = crypto.CertificateBuilder().subject_name(name).issuer_name(x509.load_certificate(issuer).subject)
    builder = builder.public_key(key.public_key()).serial_number(crypto.random_serial_number())
    builder = builder.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
    usage = ExtendedKeyUsageOID.OCSP_SIGNING if ocsp_signing else ExtendedKeyUsageOID.SERVER_AUTH
    builder = builder.add_extension(crypto.ExtendedKeyUsage([usage]), critical=False)
    return builder.sign(issuer_key, hashes.SHA256()), key


def by_a_stranger(forging: Forging) -> bytes:
    """Signed with a key of nobody."""
    key = ec.generate_private_key(ec.SECP256R1())
    responder, key = signed_by(x509.to_pem(forging.issuer), key, ocsp_signing=True, now=forging.now)
    return response(forging, key, responder)


def by_a_responder_of_a_stranger(forging: Forging) -> bytes:
    """With a responder's certificate that the issuer did not sign."""
    responder, key = signed_by(
        x509.to_pem(forging.issuer), ec.generate_private_key(ec.SECP256R1()), ocsp_signing=True, now=forging.now
    )
    return response(forging, key, responder, certificates=[responder])


def garbage(_: Forging) -> bytes:
    """No response at all."""
    return b"<html>revoked</html>"


def unauthorized(_: Forging) -> bytes:
    """It does not know the CA."""
    status = ocsp.OCSPResponseStatus.UNAUTHORIZED
    return ocsp.OCSPResponseBuilder.build_unsuccessful(status).public_bytes(Encoding.DER)


@pytest.mark.parametrize(
    ("forge", "told"),
    [
        (by_a_stranger, "signed neither by the issuer"),
        (by_a_responder_of_a_stranger, "signed neither by the issuer"),
        (garbage, "no OCSP response"),
        (unauthorized, "does not answer for this certificate"),
    ],
    ids=lambda one: getattr(one, "__name__", ""),
)
async def test_a_forged_response_says_nothing_and_is_told(scene: Scene, forge: Forger, told: str) -> None:
    authority, published = scene.authority(lists=False), scene.publications()
    held = await issued(authority)
    other = await issued(authority, "other.example.org")

    async def answer(_: str, body: bytes) -> bytes:
        leaf, issuer = x509.load_certificate(held.certificate_pem), x509.load_certificate(held.chain_pem[0])
        return forge(Forging(ocsp.load_der_ocsp_request(body), leaf, issuer, other, scene.now))

    scene.publisher.routes["/ca/ocsp"] = answer
    found = await published.standing(held)
    assert (found.standing, found.faulty) == (None, True)
    assert told in (found.problem or "")
    await published.close()


@pytest.mark.parametrize(("moved", "told"), [(-1, "stale"), (1, "yet to come")])
async def test_a_response_of_another_day_says_nothing(scene: Scene, moved: int, told: str) -> None:
    authority, published = scene.authority(), scene.publications()
    held = await issued(authority)
    await revoke(authority, held)
    today = scene.now

    async def elsewhen(_: str, body: bytes) -> bytes:
        scene.now = today + timedelta(days=moved)
        try:
            return await authority.ocsp_response(body)
        finally:
            scene.now = today

    scene.publisher.routes["/ca/ocsp"], scene.publisher.routes["/ca/crl"] = elsewhen, constant(404)
    found = await published.standing(held)
    assert (found.standing, found.faulty) == (None, True)
    assert told in (found.problem or "")
    await published.close()


async def test_a_response_to_another_question_says_nothing(scene: Scene) -> None:
    """A recorded answer with another nonce, and one about another certificate, both signed by the CA itself."""
    authority, published = scene.authority(lists=False), scene.publications()
    held, other = await issued(authority), await issued(authority, "other.example.org")
    await revoke(authority, other)
    issuer = x509.load_certificate(held.chain_pem[0])

    def recorded(of: HeldCertificate, nonce: bytes | None) -> bytes:
        leaf = x509.load_certificate(of.certificate_pem)
        builder = ocsp.OCSPRequestBuilder().add_certificate(leaf, issuer, hashes.SHA1())
        builder = builder.add_extension(crypto.OCSPNonce(nonce), critical=False) if nonce else builder
        return builder.build().public_bytes(Encoding.DER)

    for question, told in ((recorded(held, b"n" * 32), "nonce"), (recorded(other, None), "another certificate")):
        answer = await authority.ocsp_response(question)
        scene.publisher.routes["/ca/ocsp"] = constant(answer)
        found = await published.standing(held)
        assert (found.standing, found.faulty) == (None, True)
        assert told in (found.problem or "")
    # Without a nonce it counts: responders make answers in advance.
    scene.publisher.routes["/ca/ocsp"] = constant(await authority.ocsp_response(recorded(held, None)))
    assert (await published.standing(held)).standing is not None
    await published.close()


async def test_a_list_of_another_ca_or_of_another_day_says_nothing(scene: Scene) -> None:
    authority, stranger = scene.authority(responder=False), scene.authority("stranger", responder=False)
    held = await issued(authority)
    await issued(stranger)
    old = await authority.crl()
    for content, told, later in (
        (await stranger.crl(), "not signed by the issuer", 0),
        (b"-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n", "no CRL", 0),
        (old, "stale", 30),
    ):
        scene.publisher.routes["/ca/crl"] = constant(content)
        published = scene.publications()
        scene.now += timedelta(days=later)
        found = await published.standing(held)
        assert (found.standing, found.faulty) == (None, True)
        assert told in (found.problem or "")
        await published.close()


async def test_private_addresses_are_asked_only_where_allowed(scene: Scene) -> None:
    held, published = await issued(scene.authority()), scene.publications(PUBLIC)
    found = await published.standing(held)
    assert (found.standing, found.faulty) == (None, True)
    assert "private address 127.0.0.1" in (found.problem or "")
    assert scene.publisher.asked == {}
    await published.close()


async def test_nothing_is_published_or_the_issuer_is_not_known(scene: Scene) -> None:
    held, published = await issued(scene.authority(responder=False, lists=False)), scene.publications()
    found = await published.standing(held)
    assert (found.standing, found.passing, found.faulty) == (None, False, False)
    assert "neither an OCSP responder nor a CRL" in (found.problem or "")
    orphan = HeldCertificate(held.order_number, held.certificate_pem, held.serial_number)
    assert "issuer of the certificate is not known" in ((await published.standing(orphan)).problem or "")


async def test_a_delegated_responder_counts_if_the_issuer_made_it_one(scene: Scene) -> None:
    """An issuer of the test's own, whose key we have: the built-in CA signs with its own key only."""
    root = pki.make_ca("Delegating Root", not_before=scene.now - pki.DAY, not_after=scene.now + pki.DAY)
    assert isinstance(root.key, ec.EllipticCurvePrivateKey)
    place = crypto.UniformResourceIdentifier(scene.publisher.url("/delegated"))
    access = crypto.AuthorityInformationAccess([crypto.AccessDescription(AuthorityInformationAccessOID.OCSP, place)])
    builder = crypto.CertificateBuilder().subject_name(crypto.Name([])).issuer_name(root.certificate.subject)
    builder = builder.public_key(pki.new_key().public_key()).serial_number(7)
    builder = builder.not_valid_before(scene.now).not_valid_after(scene.now + pki.DAY)
    leaf = builder.add_extension(access, critical=False).sign(root.key, hashes.SHA256())
    held = HeldCertificate("1", x509.to_pem(leaf), x509.serial_hex(leaf), [x509.to_pem(root.certificate)])
    for allowed in (True, False):
        responder, key = signed_by(x509.to_pem(root.certificate), root.key, ocsp_signing=allowed, now=scene.now)

        async def answer(
            _: str, body: bytes, responder: crypto.Certificate = responder, key: ec.EllipticCurvePrivateKey = key
        ) -> bytes:
            forging = Forging(ocsp.load_der_ocsp_request(body), leaf, root.certificate, held, scene.now)
            return response(forging, key, responder, certificates=[responder])

        scene.publisher.routes["/delegated"] = answer
        published = scene.publications()
        found = await published.standing(held)
        assert (found.standing is not None and found.standing.revoked) is allowed
        assert found.faulty is not allowed
        await published.close()
