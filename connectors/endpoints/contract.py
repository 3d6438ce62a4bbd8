"""What certgate asks of an endpoint: say what it serves and where, and let one binding's certificate be exchanged in
small steps that can each be undone. The order of the steps, the proof by handshake and the putting back are the same
for every type and stand in `procedure.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol, runtime_checkable

from connectors.endpoints.starttls import StartTls
from connectors.errors import Step
from connectors.keystores.contract import SigningRequest


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
    IN_PLACE = "IN_PLACE"
    """The certificate is in its place and nothing is known that would serve it: no handshake was made."""


class Activation(StrEnum):
    """What an endpoint can say of itself after `activate`."""

    IN_EFFECT = "IN_EFFECT"
    """Whatever used the old certificate takes no new connections any more: one matching handshake is proof."""
    REQUESTED = "REQUESTED"
    """The product took the order and tells nothing more: only matching handshakes in a row are proof."""


@dataclass(frozen=True)
class Activated:
    """The end of `activate`: what can be said of it, and what the product or a hook put out meanwhile (`told`, a few
    kilobytes at most, no secrets), for the installation's record."""

    proof: Activation
    told: str = ""


@dataclass(frozen=True)
class Listener:
    """Where a binding is reached: `address` is an IP address or host name that can be connected to from the gateway.
    With `proxy_protocol` the listener expects a PROXY protocol header before the handshake, with `starttls` a few words
    of that protocol."""

    address: str
    port: int
    proxy_protocol: bool = False
    starttls: StartTls | None = None

    def __str__(self) -> str:
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"


@dataclass(frozen=True)
class Probe:
    """One handshake that shows what a binding serves: where, and with which name in SNI (RFC 6066; None: none)."""

    listener: Listener
    server_name: str | None

    def __str__(self) -> str:
        return f"{self.listener} ({self.server_name or 'no SNI'})"


@dataclass(frozen=True)
class Place:
    """Where a certificate with its chain, and its private key, are kept: two paths (the same one twice where both are
    in one file), or the names of two objects on a device.

    With `chain` the chain has a file of its own and the certificate's file holds the leaf only. `form` is how it is
    written: ``pem``, ``pem-key-first`` (of a file with both), ``der``, ``pkcs12``, ``jks``, or a product's own word.
    `alias` names the entry of a keystore.
    """

    certificate: str
    key: str
    chain: str | None = None
    form: str = "pem"
    alias: str = ""


@dataclass(frozen=True)
class Binding:
    """One place of an endpoint that serves a certificate: a virtual host, a profile, an alias.

    `id` is stable as long as the place keeps its name and port. `names` are the host names that it answers to and that
    its certificate must cover (``*.`` is one label). `listeners` is where it is reached, `probes` the handshakes
    that together prove what it serves. `places` has one entry a certificate: two where RSA and ECDSA are both served.
    `shared_with` lists ids of bindings that use the same place, so that an install here changes them too. `obstacle`
    says in one sentence why certgate can't install here, or is None.
    """

    id: str
    names: Sequence[str]
    listeners: Sequence[Listener]
    probes: Sequence[Probe] = ()
    places: Sequence[Place] = ()
    shared_with: Sequence[str] = ()
    obstacle: str | None = None

    @property
    def certificate_path(self) -> str | None:
        """Where the (first) certificate is, for people to see."""
        return self.places[0].certificate if self.places else None

    @property
    def key_path(self) -> str | None:
        """Where the (first) private key is, for people to see."""
        return self.places[0].key if self.places else None


@dataclass(frozen=True)
class Material:
    """What is to be installed. `repr` never shows the key.

    Without `private_key_pem` the key is at the endpoint: made there under `key_alias` (`MakesKeys`), to be put in place
    there; or, without that too, in place already (an HSM).
    """

    certificate_pem: str
    chain_pem: Sequence[str]
    private_key_pem: bytes | None = field(repr=False)
    trust_anchors_pem: Sequence[str] = ()
    key_alias: str | None = None


@dataclass(frozen=True)
class InPlace:
    """What a place holds now, whether it is served or not. Fingerprints are SHA-256, lower-case hex; `certificate` is
    None where there is none that can be read. `public_key` is the SHA-256 of the private key's SubjectPublicKeyInfo;
    None where there is no key or it can't be looked at."""

    certificate: str | None
    chain: Sequence[str] = ()
    public_key: str | None = None


@dataclass(frozen=True)
class Snapshot:
    """What `restore` needs, in another process and after a crash. It is written to the journal, so it has no secrets.

    `kept` maps what will be changed to the name under which the old state is kept; `absent` is what did not exist.
    """

    name: str
    place: Place
    kept: Mapping[str, str]
    absent: Sequence[str] = ()


@dataclass(frozen=True)
class Served:
    """What one handshake showed. `fingerprint` (SHA-256, lower-case hex) is None unless a certificate came."""

    listener: Listener
    verification: Verification
    fingerprint: str | None
    message: str
    server_name: str | None = None


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
    """One configured product. A method that fails raises the tree of `connectors/errors.py` with the product's words.

    Nothing about a job is kept on the object between calls: each call gets what it needs.
    """

    @property
    def identity(self) -> str:
        """The same for all that talk to this product, different for any other: installs are one at a time for it."""
        ...

    @property
    def title(self) -> str:
        """How it is called in sentences for people."""
        ...

    async def discover(self) -> Sequence[Binding]:
        """All bindings, read from the real configuration, in its order."""
        ...

    async def check(self, place: Place | None = None, /) -> None:
        """Ask the product whether its configuration as it is on disk is sound; raises `Permanent` with its words. With
        `place` that is looked at in particular: whether its key belongs to its certificate, where the product itself
        would not say."""
        ...

    async def running(self) -> bool:
        """Whether the product is up and would be reached by `activate`."""
        ...

    async def choose(self, binding: Binding, material: Material) -> Place:
        """The place of the binding that this material belongs to; raises `Permanent` where none fits its key type."""
        ...

    async def in_place(self, place: Place) -> InPlace:
        """What the place holds now."""
        ...

    async def plan(self, place: Place, name: str) -> Snapshot:
        """What `snapshot` will do under `name`. Looks only."""
        ...

    async def snapshot(self, snapshot: Snapshot) -> None:
        """Keep all that `write` will change, durably. Called again it changes nothing."""
        ...

    async def write(self, place: Place, material: Material) -> None:
        """Put the material in place, atomically a file, with the owner and mode that was there. Serves nothing yet; a
        device that knows no difference does it in one transaction."""
        ...

    async def activate(self, place: Place, /) -> Activated:
        """Make the product use what is in place, without dropping a connection, and wait (bounded) until it does if it
        can be asked. Raises with the product's words where it stays with the old."""
        ...

    async def restore(self, snapshot: Snapshot) -> None:
        """Put back byte for byte what `snapshot` kept. It may be called again, and after only a part was kept."""
        ...

    async def discard(self, snapshot: Snapshot) -> None:
        """Forget what `snapshot` kept. It may be called again."""
        ...


@runtime_checkable
class MakesKeys(Protocol):
    """An endpoint at which keys can be made, so that they never cross the network."""

    async def make_key(self, binding_id: str, request: SigningRequest) -> str:
        """The CSR (PEM) of the key `request.alias`, which is made at the endpoint if it is not there. It serves nothing
        until `write` gets `Material.key_alias`. Called again it gives a CSR of the same key."""
        ...

    async def discard_key(self, binding_id: str, alias: str) -> None:
        """Delete a key that was made for a binding and is not in use; one that is not there is success."""
        ...
