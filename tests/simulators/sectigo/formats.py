"""The formats of ``collect``: what is in each, and in which order.

As clients of the real interface report them: ``x509`` and ``pem`` hold the whole chain *with the root first and the
leaf last*, ``x509IO`` the issuers with the root first, ``x509IOR`` the issuers in reverse, so that the issuer of the
leaf is first; ``pemia`` the leaf with its issuers after it. ``base64`` and ``bin`` are PKCS#7, a set without order. A
client had better rely on no order at all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.serialization import pkcs7

from tests.simulators.sectigo.authority import Issued
from tests.simulators.sectigo.problems import Problem


def _pem(certificates: Sequence[x509.Certificate]) -> bytes:
    return b"".join(one.public_bytes(serialization.Encoding.PEM) for one in certificates)


def _upwards(issued: Issued) -> list[x509.Certificate]:
    return [issued.leaf, *issued.issuers]


_FORMATS: dict[str, Callable[[Issued], bytes]] = {
    "x509": lambda issued: _pem(_upwards(issued)[::-1]),
    "pem": lambda issued: _pem(_upwards(issued)[::-1]),
    "x509CO": lambda issued: _pem([issued.leaf]),
    "pemco": lambda issued: _pem([issued.leaf]),
    "pemia": lambda issued: _pem(_upwards(issued)),
    "x509IO": lambda issued: _pem(list(issued.issuers)[::-1]),
    "x509IOR": lambda issued: _pem(issued.issuers),
    "base64": lambda issued: pkcs7.serialize_certificates(_upwards(issued), serialization.Encoding.PEM),
    "bin": lambda issued: pkcs7.serialize_certificates(_upwards(issued), serialization.Encoding.DER),
}
NAMES = tuple(_FORMATS)


def check(name: str) -> None:
    """Raises `Problem` for a format that there is not."""
    if name not in _FORMATS:
        raise Problem(-1450, f"Unsupported certificate format specified: {name}")


def render(issued: Issued, name: str) -> bytes:
    """The body of the answer."""
    return _FORMATS[name](issued)
