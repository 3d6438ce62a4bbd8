"""Whether a certificate's chain is complete.

A BIG-IP sends what stands in the profile's ``chain`` and nothing else, and takes a profile without one: clients that do
not know the intermediate certificates would fail, hours later.
"""

from __future__ import annotations

from cryptography import x509
from cryptography.exceptions import InvalidSignature

from connectors.endpoints.certificates import Contents
from connectors.endpoints.contract import Material
from connectors.errors import Permanent


def require_complete(contents: Contents, material: Material) -> None:
    """Raise `Permanent` unless the leaf leads from issuer to issuer up to a root (RFC 5280 section 6.1): one that is
    among the material, or, where no root is, the issuer that the last certificate names."""
    given = [x509.load_pem_x509_certificate(pem.encode()) for pem in material.chain_pem]
    anchors = [x509.load_pem_x509_certificate(pem.encode()) for pem in material.trust_anchors_pem]
    roots = [one for one in given if one.subject == one.issuer] + anchors
    present, left = contents.leaf, list(contents.chain)
    while (above := next((one for one in left if _issued(present, one)), None)) is not None:
        left.remove(above)
        present = above
    if present.subject == present.issuer or any(_issued(present, root) for root in roots):
        return
    if present is not contents.leaf and not roots:
        # What is above is a root, or nobody knows: roots need not be sent, nor given (RFC 8446 section 4.4.2).
        return
    raise Permanent(
        "The chain of the certificate is not complete: the certificate of its issuer "
        f"{_shown(present.issuer)} is missing. A BIG-IP sends only what it is given; nothing was changed."
    )


def _issued(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _shown(name: x509.Name) -> str:
    return repr(name.rfc4514_string()[:200])
