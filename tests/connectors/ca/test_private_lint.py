"""What the private CA signs, judged by pkilint.

By RFC 5280 and RFC 6960 there may be no finding above INFO, with one exception: a wildcard is not of the "preferred
name syntax", and RFC 5280 section 4.2.1.6 leaves its meaning to others (RFC 9525). The Baseline Requirements of the
CA/Browser Forum are for public CAs; a private one is held to them too, save for the findings below, each with its
reason.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509 as crypto
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from pkilint.bin import (  # type: ignore[import-untyped]
    lint_cabf_serverauth_cert,
    lint_crl,
    lint_ocsp_response,
    lint_pkix_cert,
    lint_pkix_signer_signee_cert_chain,
)

from connectors.ca.contract import RevocationReason
from model import x509
from model.keys import KeyAlgorithm
from tests.connectors.ca.test_private import collecting, open_ca, order, revocation
from tests.pki import shared_key

# pkilint's commands leave the files that they read to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

WILDCARD = {"pkix.invalid_domain_name_syntax"}
NOT_FOR_PRIVATE_CAS = {
    # Policy identifiers assert that the Forum's rules were followed; a private CA may not claim that.
    "cabf.serverauth.subscriber.certificate_policies_extension_absent",
    "cabf.serverauth.ca.certificate_policies_extension_absent",
    # The CA has a name and no vetted country or legal seat.
    "cabf.serverauth.ca.country_attribute_absent",
    "cabf.serverauth.ca.incomplete_name_constraints",
    # The root lies offline and publishes no list of revoked intermediates; it is taken out of the trust stores instead.
    "cabf.serverauth.ca.crl_distribution_points_extension_absent",
    # Edwards-curve keys are issued only where a profile says so.
    "cabf.serverauth.prohibited_subject_public_key_algorithm_encoding",
    # Internal names and addresses are what a private CA is for.
    "cabf.internal_ip_address",
    "cabf.internal_domain_name",
}
PROFILES = {"server": {"validity_seconds": 4_060_800, "algorithms": list(KeyAlgorithm), "client_authentication": False}}
URLS: dict[str, Any] = {f"{what}_url": f"http://pki.example.com/{what}" for what in ("revocation", "ocsp", "issuer")}
LONG_NAME = "a" * 60 + ".example.com"
Main = Callable[[list[str]], int]


@pytest.fixture
def findings(capsys: pytest.CaptureFixture[str]) -> Callable[..., set[str]]:
    """Runs a linter's command in this process and gives the codes of its findings above INFO."""

    def run(main: Main, *arguments: str | Path, severity: str = "NOTICE") -> set[str]:
        capsys.readouterr()
        main(["lint", "-f", "JSON", "-s", severity, *map(str, arguments)])
        report: dict[str, Any] = json.loads(capsys.readouterr().out)
        return {found["code"] for result in report["results"] for found in result["finding_descriptions"]}

    return run


@pytest.mark.parametrize("algorithm", list(KeyAlgorithm))
async def test_leafs(tmp_path: Path, findings: Callable[..., set[str]], algorithm: KeyAlgorithm) -> None:
    ca = open_ca(tmp_path, profiles=PROFILES, **URLS)
    (tmp_path / "issuer").write_text(await ca.issuer())
    for number, names in enumerate([["www.example.com", "10.0.0.7", "fd00::7"], [LONG_NAME], ["*.example.com"]]):
        placed = await ca.submit(order(f"request-{number}", key=shared_key(algorithm), names=names))
        leaf = tmp_path / f"leaf-{number}"
        leaf.write_text((await ca.collect(collecting(placed.number))).certificate_pem)
        assert findings(lint_pkix_cert.main, leaf) == (WILDCARD if names[0].startswith("*") else set())
        assert findings(lint_pkix_signer_signee_cert_chain.main, tmp_path / "issuer", leaf) == set()
        forum = findings(lint_cabf_serverauth_cert.main, "-t", "DV-FINAL-CERTIFICATE", leaf, severity="ERROR")
        assert forum <= NOT_FOR_PRIVATE_CAS


@pytest.mark.parametrize("permitted", [[], ["example.com"], ["10.0.0.0/8"]], ids=["open", "domain", "addresses"])
async def test_root_and_intermediate(tmp_path: Path, findings: Callable[..., set[str]], permitted: list[str]) -> None:
    ca = open_ca(tmp_path, permitted_names=permitted)
    root, issuer = tmp_path / "root", tmp_path / "issuer"
    root.write_text((await ca.trust_anchors())[0])
    issuer.write_text(await ca.issuer())
    for certificate in (root, issuer):
        assert findings(lint_pkix_cert.main, certificate) == set()
        assert findings(lint_pkix_signer_signee_cert_chain.main, root, certificate) == set()
    for kind, certificate in (("ROOT-CA", root), ("INTERNAL-UNCONSTRAINED-TLS-CA", issuer)):
        forum = findings(lint_cabf_serverauth_cert.main, "-t", kind, certificate, severity="ERROR")
        assert forum <= NOT_FOR_PRIVATE_CAS


async def test_revocation_list_and_ocsp(tmp_path: Path, findings: Callable[..., set[str]]) -> None:
    ca = open_ca(tmp_path, **URLS)
    issuer = x509.load_certificate(await ca.issuer())
    for number, reason in enumerate(RevocationReason):
        placed = await ca.submit(order(f"request-{number}", names=["www.example.com"]))
        issued = await ca.collect(collecting(placed.number))
        (tmp_path / "leaf").write_text(issued.certificate_pem)
        assert findings(lint_pkix_cert.main, tmp_path / "leaf") == set()
        leaf = x509.load_certificate(issued.certificate_pem)
        builder = ocsp.OCSPRequestBuilder().add_certificate(leaf, issuer, hashes.SHA1())
        request = builder.add_extension(crypto.OCSPNonce(b"n" * 32), critical=False).build().public_bytes(Encoding.DER)
        for act in (False, True):
            if act:
                await ca.revoke(revocation(placed.number, issued, reason))
            (tmp_path / "ocsp").write_bytes(await ca.ocsp_response(request))
            assert findings(lint_ocsp_response.main, tmp_path / "ocsp") == set()
        (tmp_path / "crl").write_bytes(await ca.crl())
        for profile in ("PKIX", "BR"):
            assert findings(lint_crl.main, "-t", "CRL", "-p", profile, tmp_path / "crl") == set()
