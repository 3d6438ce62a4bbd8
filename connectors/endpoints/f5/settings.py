"""What can be configured of a BIG-IP."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from connectors.secrets import Reference

# What a partition, a device group and a login may be called here: they become part of paths and of one command line.
_PLAIN = r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}"
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")


def _address(given: str) -> str:
    try:
        return str(ipaddress.ip_address(given))
    except ValueError:
        if not _HOST.fullmatch(given):
            raise ValueError("an IP address or a host name, without a port and without https://") from None
        return given.lower()


def _networks(given: Sequence[str]) -> list[str]:
    found = []
    for one in given:
        try:
            found.append(str(ipaddress.ip_network(one, strict=False)))
        except ValueError:
            raise ValueError(f"{one!r} is no network such as 192.0.2.0/24 or 2001:db8::/32") from None
    return found


def _paths(given: Sequence[str]) -> list[str]:
    for one in given:
        if not re.fullmatch(r"/[^/~]+(/[^/~]+)+", one):
            raise ValueError(f"{one!r} is no full path such as /Common/www")
    return list(given)


class Settings(BaseModel):
    """Where the device is managed, who signs in, and where its keys and certificates go."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    address: Annotated[str, AfterValidator(_address)] = Field(
        description="Management address of the device, an IP address or a host name: of one unit, rather than a "
        "floating address of two."
    )
    port: int = Field(default=443, ge=1, le=65_535, description="Port of its iControl REST interface.")
    username: str = Field(pattern=rf"^{_PLAIN}$", description="User of the device that certgate signs in as.")
    password: Reference = Field(description="Password of that user.")
    login_provider: str = Field(
        default="tmos",
        pattern=rf"^{_PLAIN}$",
        description="Who checks the password: tmos for the device's own users and what it is set to ask remotely, or "
        "another login provider of its REST framework.",
    )
    ca_file: Path | None = Field(
        default=None,
        description="PEM file with what the device's own TLS certificate is verified by, besides the public roots; a "
        "self-signed one goes in as it is.",
    )
    certificate_name: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?$",
        description="Name in the device's own TLS certificate, where that is not its address.",
    )
    partition: str = Field(
        default="Common",
        pattern=rf"^{_PLAIN}$",
        description="Partition whose client-ssl profiles are looked at (its folders included), and into which new keys "
        "and certificates go.",
    )
    device_group: str | None = Field(
        default=None,
        pattern=rf"^(/Common/)?{_PLAIN}$",
        description="Sync-failover device group that each change is synchronized to. None: a device on its own.",
    )
    networks: Annotated[list[str], AfterValidator(_networks)] = Field(
        default_factory=list,
        description="Networks whose virtual servers can be reached from the gateway: handshakes look only there. "
        "None: everywhere.",
    )
    new_profiles: Annotated[list[str], AfterValidator(_paths)] = Field(
        default_factory=list,
        description="Virtual servers (full paths such as /Common/www) that get a client-ssl profile of their own with "
        "the first certificate, in place of one that comes with the device.",
    )
    parent_profile: str = Field(
        default="/Common/clientssl",
        pattern=r"^/[^/~]+(/[^/~]+)+$",
        description="The profile that such new ones take all other settings from.",
    )
    save: bool = Field(
        default=True,
        description="Save the device's configuration after each change; else a restart of the device brings the old "
        "certificate back.",
    )
    timeout_seconds: float = Field(default=30.0, gt=0, le=600, description="How long one answer may take.")
    busy_timeout_seconds: float = Field(
        default=60.0, ge=0, le=3600, description="How long a device that says it is busy is asked again."
    )
    sync_timeout_seconds: float = Field(
        default=120.0, gt=0, le=3600, description="How long the device group may take to be in sync."
    )

    @property
    def base_url(self) -> str:
        """Where the paths begin."""
        host = f"[{self.address}]" if ":" in self.address else self.address
        return f"https://{host}:{self.port}"
