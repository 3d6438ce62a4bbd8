"""The record that proves a name by dns-01 (RFC 8555 section 8.4)."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass

import dns.exception
import dns.name

from connectors.errors import Permanent

PREFIX = "_acme-challenge"
_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


@dataclass(frozen=True)
class Record:
    """A TXT record to be. `domain` is the name that is proved; `name` where the CA looks, and `owner` where that leads
    by its aliases; `value` is the digest of the key authorization: 43 characters, Base64url."""

    domain: str
    name: dns.name.Name
    owner: dns.name.Name
    value: str


def validation_name(domain: str) -> dns.name.Name:
    """Where a CA looks for the proof of `domain`, a normalized DNS name without the star of a wildcard.

    Raises `Permanent` for what is no such name, and for a name that leaves no room for the prefix (RFC 1035 section
    2.3.4: 255 octets).
    """
    labels = domain.split(".")
    if not all(_LABEL.fullmatch(label) for label in labels) or labels[-1].isdecimal():
        raise Permanent(f"The name {domain[:80]!a} can't be proved by dns-01: it is no DNS name in its ASCII form.")
    try:
        return dns.name.from_text(f"{PREFIX}.{domain}.")
    except dns.exception.DNSException:
        raise Permanent(
            f"The name {domain[:80]!a} can't be proved by dns-01: with {PREFIX} before it, it is longer than the DNS "
            "allows."
        ) from None


def validation_value(key_authorization: str) -> str:
    """What the record says: the SHA-256 digest as Base64url without padding."""
    digest = hashlib.sha256(key_authorization.encode()).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode("ascii")
