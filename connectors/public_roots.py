"""The roots that browsers trust, as Mozilla publishes them: the `certifi` package, brought up to date with certgate."""

from __future__ import annotations

import warnings
from functools import cache

import certifi
from cryptography.utils import CryptographyDeprecationWarning

from model import x509
from model.errors import InvalidInput

_END = "-----END CERTIFICATE-----"


@cache
def pem() -> str:
    """All of them, one PEM text, but for those few that are so old that they break RFC 5280 and can't be relied on to
    be readable."""
    found = []
    with warnings.catch_warnings():
        warnings.simplefilter("error", CryptographyDeprecationWarning)
        for block in certifi.contents().split(_END)[:-1]:
            try:
                (root,) = x509.load_certificates(block + _END)
            except (InvalidInput, CryptographyDeprecationWarning):
                continue
            found.append(x509.to_pem(root))
    return "".join(found)
