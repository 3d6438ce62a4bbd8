"""What the simulator issues: formats, chains, CRL and OCSP, and each way in which it can be wrong."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.serialization import pkcs7
from cryptography.x509 import ocsp, verification
from cryptography.x509.oid import AuthorityInformationAccessOID

from tests.simulators.sectigo import Faults, Simulator, Wrong
from tests.simulators.support import KEY, client, enroll

NAME = "www.example.com"


@pytest.fixture(scope="module")
def ca() -> Iterator[Simulator]:
    """In fair weather."""
    with Simulator(faults=Faults.off()) as made:
        yield made


@pytest.fixture
def http(ca: Simulator) -> Iterator[httpx.Client]:
    """A client that is signed in."""
    with client(ca) as made:
        yield made


def fetch(http: httpx.Client, ssl_id: int, kind: str) -> list[x509.Certificate]:
    """The certificates of one format, in its order."""
    answer = http.get(f"/ssl/v2/collect/{ssl_id}", params={"format": kind})
    assert answer.status_code == 200
    if kind == "base64":
        return pkcs7.load_pem_pkcs7_certificates(answer.content)
    if kind == "bin":
        return pkcs7.load_der_pkcs7_certificates(answer.content)
    return x509.load_pem_x509_certificates(answer.content)


def verify(ca: Simulator, leaf: x509.Certificate, chain: list[x509.Certificate], name: str = NAME) -> None:
    """By the library's own path validation, against the simulator's roots."""
    roots = [x509.load_pem_x509_certificate(one.encode()) for one in ca.trust_anchors]
    builder = verification.PolicyBuilder().store(verification.Store(roots)).time(datetime.now(UTC))
    builder.build_server_verifier(x509.DNSName(name)).verify(leaf, chain)


def issuer_of(certificate: x509.Certificate, among: list[x509.Certificate]) -> x509.Certificate:
    """Found by name."""
    return next(one for one in among if one.subject == certificate.issuer)


def test_every_format_in_its_order(ca: Simulator, http: httpx.Client) -> None:
    ssl_id = enroll(http)
    [leaf] = fetch(http, ssl_id, "x509CO")
    issuing, root = fetch(http, ssl_id, "x509IOR")
    assert leaf.issuer == issuing.subject
    assert issuing.issuer == root.subject == root.issuer
    assert fetch(http, ssl_id, "pemco") == [leaf]
    assert fetch(http, ssl_id, "x509IO") == [root, issuing]
    assert fetch(http, ssl_id, "x509") == fetch(http, ssl_id, "pem") == [root, issuing, leaf]
    assert fetch(http, ssl_id, "pemia") == [leaf, issuing, root]
    for kind in ("base64", "bin"):
        assert set(fetch(http, ssl_id, kind)) == {leaf, issuing, root}
    verify(ca, leaf, [issuing])
    assert http.get(f"/ssl/v1/collect/{ssl_id}/pemia").content == http.get(f"/ssl/v2/collect/{ssl_id}/pemia").content
    assert http.get(f"/ssl/v1/collect/{ssl_id}").content == http.get(f"/ssl/v1/collect/{ssl_id}/base64").content
    assert http.get(f"/ssl/v1/collect/{ssl_id}/pdf").status_code == 400


def test_cross_signed() -> None:
    with Simulator(faults=Faults.off(), cross_signed=True) as ca, client(ca) as http:
        ssl_id = enroll(http)
        leaf, *chain = fetch(http, ssl_id, "pemia")
        assert [one.issuer for one in [leaf, *chain][:-1]] == [one.subject for one in chain]
        new_root, old_root = (x509.load_pem_x509_certificate(one.encode()) for one in ca.trust_anchors)
        assert chain[-1] == old_root
        assert chain[1].subject == new_root.subject
        assert chain[1].issuer == old_root.subject
        verify(ca, leaf, chain)


def urls(certificate: x509.Certificate, kind: x509.ObjectIdentifier) -> list[str]:
    """Of the authority information access."""
    found = certificate.extensions.get_extension_for_class(x509.AuthorityInformationAccess).value
    return [one.access_location.value for one in found if one.access_method == kind]


def ask(leaf: x509.Certificate, issuer: x509.Certificate) -> ocsp.OCSPResponse:
    """OCSP at the address that the certificate names."""
    request = ocsp.OCSPRequestBuilder().add_certificate(leaf, issuer, hashes.SHA1()).build()
    [url] = urls(leaf, AuthorityInformationAccessOID.OCSP)
    answer = httpx.post(url, content=request.public_bytes(serialization.Encoding.DER))
    assert answer.headers["content-type"] == "application/ocsp-response"
    return ocsp.load_der_ocsp_response(answer.content)


def test_crl_ocsp_and_issuers_are_where_the_certificate_says(ca: Simulator, http: httpx.Client) -> None:
    ssl_id = enroll(http)
    leaf, issuing, root = fetch(http, ssl_id, "pemia")
    [at] = urls(leaf, AuthorityInformationAccessOID.CA_ISSUERS)
    assert x509.load_der_x509_certificate(httpx.get(at).content) == issuing
    [at] = urls(issuing, AuthorityInformationAccessOID.CA_ISSUERS)
    assert x509.load_der_x509_certificate(httpx.get(at).content) == root
    assert ask(leaf, issuing).certificate_status is ocsp.OCSPCertStatus.GOOD
    assert http.post(f"/ssl/v1/revoke/{ssl_id}", json={"reasonCode": "1", "reason": "lost"}).status_code == 204
    answer = ask(leaf, issuing)
    assert answer.certificate_status is ocsp.OCSPCertStatus.REVOKED
    assert answer.revocation_reason is x509.ReasonFlags.key_compromise
    points = leaf.extensions.get_extension_for_class(x509.CRLDistributionPoints).value
    [name] = points[0].full_name or []
    crl = x509.load_der_x509_crl(httpx.get(name.value).content)
    public = issuing.public_key()
    assert crl.is_signature_valid(public)  # type: ignore[arg-type]
    assert crl.get_revoked_certificate_by_serial_number(leaf.serial_number) is not None
    nonsense = ocsp.load_der_ocsp_response(httpx.post(f"{ca.plain_url}/ocsp", content=b"x").content)
    assert nonsense.response_status is ocsp.OCSPResponseStatus.MALFORMED_REQUEST


def test_each_certificate_is_wrong_in_its_way(ca: Simulator, http: httpx.Client) -> None:
    now = datetime.now(UTC)
    found: dict[Wrong, tuple[x509.Certificate, list[x509.Certificate]]] = {}
    for wrong in Wrong:
        ca.issue_wrongly(wrong)
        leaf, *chain = fetch(http, enroll(http), "pemia")
        found[wrong] = leaf, chain
    assert found[Wrong.OTHER_KEY][0].public_key() != KEY.public_key()
    with pytest.raises(verification.VerificationError):
        verify(ca, *found[Wrong.OTHER_NAMES])
    verify(ca, *found[Wrong.OTHER_NAMES], name="wrong.example.net")
    assert found[Wrong.EXPIRED][0].not_valid_after_utc < now
    assert found[Wrong.NOT_YET_VALID][0].not_valid_before_utc > now
    with pytest.raises(verification.VerificationError):
        verify(ca, *found[Wrong.UNKNOWN_ISSUER])
    leaf, chain = found[Wrong.UNORDERED_CHAIN]
    assert chain[0].subject != leaf.issuer
    verify(ca, leaf, chain)
    leaf, chain = found[Wrong.STRANGER_IN_CHAIN]
    assert len(chain) == 3
    assert [one for one in chain if one.subject not in {leaf.issuer, issuer_of(leaf, chain).issuer}] == [chain[1]]
    # And none of it lasts: the next order is right again.
    leaf, *chain = fetch(http, enroll(http), "pemia")
    verify(ca, leaf, chain)
    assert leaf.public_key() == KEY.public_key()
