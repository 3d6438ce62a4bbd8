"""What it takes to prove one name to an ACME server (RFC 8555 section 8): three verbs, one class a method.

Each verb may be called again with the same challenge, by another process too, after one was killed between any two
lines. Errors are those of `connectors/errors.py`.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, runtime_checkable


class Method(StrEnum):
    """The methods that we know, by their registered names (RFC 8555 section 9.7.8, RFC 8737)."""

    HTTP_01 = "http-01"
    TLS_ALPN_01 = "tls-alpn-01"
    DNS_01 = "dns-01"


@dataclass(frozen=True)
class Challenge:
    """One challenge of an authorization.

    `name` is a DNS name (A-labels, without the ``*.`` of a wildcard) or an IP address in its shortest form. `token` is
    the CA's (base64url), `key_authorization` the token, a dot and the thumbprint of the account key (RFC 8555 section
    8.1); neither is secret.
    """

    name: str
    method: Method
    token: str
    key_authorization: str

    @property
    def address(self) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
        """The name as an address, None for a DNS name."""
        try:
            return ipaddress.ip_address(self.name)
        except ValueError:
            return None


class Responder(Protocol):
    """Answers the challenges of one method."""

    async def present(self, challenge: Challenge) -> None:
        """Put the answer where the CA will look for it. One that is there already is success."""
        ...

    async def settled(self, challenge: Challenge, /) -> str | None:
        """None once the CA would see the answer, else one sentence that says what is still awaited. The CA is asked to
        look only after that, because most count failed looks."""
        ...

    async def remove(self, challenge: Challenge) -> None:
        """Take the answer away again, and only this one. One that is gone is success."""
        ...


@runtime_checkable
class Listens(Protocol):
    """A responder with a listener of its own, which closes by itself once there is nothing to answer."""

    async def close(self) -> None:
        """Close it now."""
        ...
