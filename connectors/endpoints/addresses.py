"""Addresses that people set in place of those that a product's configuration names."""

from __future__ import annotations

import ipaddress
from typing import Annotated

from pydantic import AfterValidator, StringConstraints


def _bare(value: str) -> str:
    if ":" in value:
        try:
            ipaddress.IPv6Address(value)
        except ValueError:
            raise ValueError("an address or a name without a port") from None
    return value


BareAddress = Annotated[str, StringConstraints(min_length=1), AfterValidator(_bare)]
"""An IP address or a host name, without a port and without brackets."""
