"""What certgate asks of an endpoint: say what it serves and where, and let one binding's certificate be exchanged in
small steps that can each be undone. The order of the steps, the proof by handshake and the putting back are the same for
every type and stand in `procedure.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol, runtime_checkable

from connectors.errors import Step


class Verification(StrEnum):
    """What a TLS handshake with an endpoint showed."""

    MATCH = "MATCH"
    RESOLUTION_FAILED = "RESOLUTION_FAILED"
    CONNECTION_FAILED = "CONNECTION_FAILED"
    NO_CERTIFICATE = "NO_CERTIFICATE"
    PREVIOUS_CERTIFICATE = "PREVIOUS_CERTIFICATE"
    OTHER_KNOWN_CERTIFICATE = "OTHER_KNOWN_CERTIFICATE"
    UNKNOWN_CERTIFICATE = "UNKNOWN_CERTIFICATE"
    INCOMPLETE_CHAIN = "INCOMPLETE_CHAIN"
    HANDSHAKE_FAILED = "HANDSHAKE_FAILED"


@dataclass(frozen=True)
class Listener:
    """Where a binding is reached: `address` is an IP address or host name that can be connected to from the gateway."""

    address: str
    port: int


@dataclass(frozen=True)
class Binding:
    """One place of an endpoint that serves a certificate: a virtual host, a profile, an alias.

    `id` is stable as long as the place keeps its name and port. `names` are the host names it answers to (first one is
    sent as SNI; empty: none is sent). `shared_with` lists ids of bindings that use the same certificate file, so that an
    install here changes them too. `obstacle` says in one sentence why certgate can't install here, or is None.
    """

    id: str
    names: Sequence[str]
    listeners: Sequence[Listener]
    certificate_path: str | None = None
    key_path: str | None = None
    shared_with: Sequence[str] = field(default_factory=tuple)
    obstacle: str | None = None


@dataclass(frozen=True)
class Material:
    """What is to be installed. `private_key_pem` is None where the key is on the device. `repr` never shows it."""

    certificate_pem: str
    chain_pem: Sequence[str]
    private_key_pem: bytes | None = field(repr=False)
    trust_anchors_pem: Sequence[str] = ()


@dataclass(frozen=True)
class Served:
    """What one handshake showed. `fingerprint` (SHA-256, lower-case hex) is None unless a certificate came."""

    listener: Listener
    verification: Verification
    fingerprint: str | None
    message: str


@dataclass(frozen=True)
class InstallReport:
    """The end of a good install. `already` is True when the certificate was served before anything was done."""

    binding_id: str
    already: bool
    served_before: str | None
    served_after: str
    verification: Verification
    steps: Sequence[Step]


@runtime_checkable
class Endpoint(Protocol):
    """One configured product. A method that fails raises the tree of `connectors/errors.py` with the product's own words."""

    async def discover(self) -> Sequence[Binding]:
        """All bindings, read from the real configuration, in its order."""
        ...

    async def check(self) -> None:
        """Ask the product whether its configuration as it is on disk is sound; raises `Permanent` with its words."""
        ...

    async def running(self) -> bool:
        """Whether the product is up and would be reached by `activate`."""
        ...

    async def snapshot(self, binding: Binding, journal: str) -> None:
        """Keep all that `write` will change, durably, under the name `journal`, so that `restore` works in another
        process after a crash. Called again under the same name it changes nothing."""
        ...

    async def write(self, binding: Binding, material: Material) -> None:
        """Put the material in place, atomically a file, with the owner and mode that was there. Serves nothing yet."""
        ...

    async def activate(self) -> None:
        """Make the product use what is in place, without dropping a connection."""
        ...

    async def restore(self, binding: Binding, journal: str) -> None:
        """Put back byte for byte what `snapshot` kept under that name. It may be called again."""
        ...

    async def discard(self, binding: Binding, journal: str) -> None:
        """Forget what `snapshot` kept; the install stands."""
        ...
