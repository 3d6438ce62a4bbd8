"""Where something serves a certificate that does not say so itself: file types are told, in their settings."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict, Field, field_validator

from connectors.endpoints.contract import Listener, Probe, Verification
from connectors.endpoints.handshake import shake_hands
from connectors.endpoints.starttls import StartTls

# The label that is put for ``*`` when a wildcard host is looked at.
PROBE_LABEL = "certgate-probe"
_FORM = re.compile(r"(?:(?P<protocol>[a-z0-9-]+)://)?(?P<host>\[[0-9A-Fa-f:.]+\]|[^\s:/\[\]@]*):(?P<port>[0-9]{1,5})")
_NAME = re.compile(
    r"(\*\.)?([a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z0-9]([a-z0-9_-]{0,61}[a-z0-9])?", re.IGNORECASE
)
_PLAIN = "tls"


class ListenerSettings(BaseModel):
    """Settings that say where handshakes look, for endpoint types to inherit from."""

    model_config = ConfigDict(extra="forbid")

    names: list[str] = Field(
        default=[],
        max_length=100,
        description="Host names that the certificate must cover. Handshakes ask for each of them (SNI).",
    )
    listeners: list[str] = Field(
        default=[],
        max_length=100,
        description="Where the certificate is served, and handshakes look after an install, such as "
        '["www.example.org:8443", "smtp://mail.example.org:25", ":993"]; without a host, the one that the files are '
        f"on. Before :// stands the protocol of STARTTLS: {', '.join(StartTls)}. None: the files are looked at only.",
    )

    @field_validator("names")
    @classmethod
    def _host_names(cls, value: list[str]) -> list[str]:
        for name in value:
            if len(name) > 253 or not _NAME.fullmatch(name):
                raise ValueError(f"{name[:80]!a} is no host name; a wildcard is only the whole leftmost label")
        return value

    @field_validator("listeners")
    @classmethod
    def _readable(cls, value: list[str]) -> list[str]:
        for one in value:
            _read(one, "")
        return value

    def found_at(self, host_address: str) -> tuple[Sequence[Listener], Sequence[Probe]]:
        """The listeners, and one handshake for each name at each of them; `host_address` is where the endpoint's own
        host is reached."""
        listeners = tuple(dict.fromkeys(_read(one, host_address) for one in self.listeners))
        names: list[str | None] = [name.replace("*", PROBE_LABEL, 1).lower() for name in self.names]
        names = names or [None]
        return listeners, tuple(dict.fromkeys(Probe(one, name) for one in listeners for name in names))


async def anybody_answers(listeners: Sequence[Listener]) -> bool:
    """Whether anything takes connections at one of these."""
    seen = await asyncio.gather(*(shake_hands(Probe(one, None)) for one in listeners))
    return any(one.failure not in (Verification.CONNECTION_FAILED, Verification.RESOLUTION_FAILED) for one in seen)


def _read(given: str, host_address: str) -> Listener:
    found = _FORM.fullmatch(given)
    if found is None or not 0 < int(found["port"]) < 65536:
        raise ValueError(f"{given[:80]!a} must look like host:port, or smtp://host:port for STARTTLS")
    protocol = found["protocol"]
    if protocol not in (None, _PLAIN, *StartTls):
        raise ValueError(f"the protocol {protocol} is not known; there is: {_PLAIN}, {', '.join(StartTls)}")
    starttls = StartTls(protocol) if protocol not in (None, _PLAIN) else None
    return Listener(found["host"].strip("[]") or host_address, int(found["port"]), starttls=starttls)
