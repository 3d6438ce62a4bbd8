"""What `collect` gives, in any of its formats and any order, as a leaf and its chain."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

from cryptography import x509 as crypto
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import pkcs7

from connectors.ca.contract import IssuedCertificate
from connectors.errors import AuthorityFault
from connectors.web import Answer
from model import x509
from model.errors import InvalidInput

MOST_CERTIFICATES = 20


def read(answer: Answer) -> list[crypto.Certificate]:
    """All certificates of an answer: PEM, PKCS#7 (RFC 2315) in PEM or DER, or one in DER. Raises `AuthorityFault`."""
    content = answer.content
    if answer.empty:
        raise AuthorityFault(f"{answer.where} sent nothing where a certificate should be.")
    try:
        with warnings.catch_warnings():
            # The library warns of PKCS#7 in BER, which is what many CAs send.
            warnings.simplefilter("ignore")
            found = _parsed(content)
        for one in found:
            _ = one.extensions, one.public_key()
    except (ValueError, TypeError, UnsupportedAlgorithm, InvalidInput):
        kind = "an HTML page" if content[:200].lstrip().lower().startswith((b"<!doctype", b"<html")) else "something"
        raise AuthorityFault(f"{answer.where} sent {kind} where a certificate should be.") from None
    if not 1 <= len(found) <= MOST_CERTIFICATES:
        raise AuthorityFault(f"{answer.where} sent {len(found)} certificates where a certificate should be.")
    return found


def _parsed(content: bytes) -> list[crypto.Certificate]:
    if b"-----BEGIN PKCS7-----" in content:
        return list(pkcs7.load_pem_pkcs7_certificates(content))
    if b"-----BEGIN" in content:
        return x509.read_certificates(content)
    try:
        return list(pkcs7.load_der_pkcs7_certificates(content))
    except ValueError:
        return x509.read_certificates(content)


def leaf_of(found: Sequence[crypto.Certificate], key_sha256: str | None) -> crypto.Certificate | None:
    """The certificate that was ordered: the one for the key; without a key, the only one that issued none of the
    others and is no CA. None where there is no such."""
    if key_sha256 is not None:
        mine = [one for one in found if x509.public_key_sha256(one) == key_sha256]
        return mine[0] if mine else None
    leaves = [one for one in found if not _is_ca(one)]
    return leaves[0] if len(leaves) == 1 else None


def issued(leaf: crypto.Certificate, found: Sequence[crypto.Certificate]) -> IssuedCertificate:
    """The chain in order, issuer of the leaf first. What the CA sent besides stands after it: a cross-signed
    certificate may be of use to somebody else's trust anchors, and whoever verifies tells of strangers."""
    others = [one for one in dict.fromkeys(found) if one != leaf]
    chain = x509.order_chain(leaf, others, with_root=True)
    rest = [one for one in others if one not in chain]
    return IssuedCertificate(x509.to_pem(leaf), [x509.to_pem(one) for one in (*chain, *rest)])


def _is_ca(certificate: crypto.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(crypto.BasicConstraints).value.ca
    except crypto.ExtensionNotFound:
        return False
