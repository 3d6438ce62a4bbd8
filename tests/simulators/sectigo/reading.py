"""Signing requests, names and serial numbers as they come in a request. Pure."""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from tests.simulators.sectigo.problems import Problem

_HOST = re.compile(r"(\*\.)?([a-z0-9_]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


def plain_serial(serial: str) -> str:
    """Lower-case hex without colons, blanks and leading zeros."""
    return serial.replace(":", "").replace(" ", "").lower().lstrip("0")


def read_csr(text: str) -> x509.CertificateSigningRequest:
    """A CSR with or without its PEM lines. Raises `Problem`."""
    inner = re.sub(r"-----(BEGIN|END) (NEW )?CERTIFICATE REQUEST-----", "", text)
    try:
        der = base64.b64decode("".join(inner.split()), validate=True)
    except (binascii.Error, ValueError):
        raise Problem(-9, "The CSR is not valid Base-64 data!") from None
    try:
        csr = x509.load_der_x509_csr(der)
        key, valid = csr.public_key(), csr.is_signature_valid
        _ = csr.extensions
    except (ValueError, UnsupportedAlgorithm, x509.InvalidVersion):
        raise Problem(-10, "Error while decoding CSR.") from None
    if not valid:
        raise Problem(-138, "Invalid CSR.")
    if isinstance(key, rsa.RSAPublicKey):
        if not 2048 <= key.key_size <= 8192:
            raise Problem(-13, "The CSR uses an unsupported key size!")
    elif not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name not in ("secp256r1", "secp384r1"):
        raise Problem(-11, "The CSR uses an unsupported algorithm!")
    return csr


def csr_common_name(csr: x509.CertificateSigningRequest) -> str:
    """The common name, lower-case; empty if there is none."""
    found = csr.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(found[0].value).lower() if found else ""


def csr_names(csr: x509.CertificateSigningRequest | x509.Certificate) -> list[str]:
    """The DNS names and IP addresses in a CSR or certificate."""
    try:
        names = csr.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return [str(one.value).lower() for one in names if isinstance(one, x509.DNSName | x509.IPAddress)]


def certificate_names(leaf: x509.Certificate) -> list[str]:
    """The common name, if there is one, and the DNS names and IP addresses."""
    found = leaf.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return list(dict.fromkeys([*(str(one.value).lower() for one in found), *csr_names(leaf)]))


def is_name(text: str) -> bool:
    """Whether it is a host name, with a wildcard perhaps, or an IP address."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return _HOST.fullmatch(text) is not None and len(text) <= 253
    return True
