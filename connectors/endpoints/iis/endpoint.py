"""IIS as an endpoint: https bindings, the machine's certificate store, http.sys.

http.sys takes a certificate into use for new connections the moment that it is bound, so `write` serves already, and
what is needed to go back is the old certificate's thumbprint: the certificate itself stays in the store, and those that
certgate imported are deleted only when two newer ones have taken their place.
"""

from __future__ import annotations

import base64
import ipaddress
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import SHA1
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from connectors.endpoints import certificates
from connectors.endpoints.contract import Activated, Activation, Binding, InPlace, Material, Place, Snapshot
from connectors.endpoints.handshake import fingerprint
from connectors.endpoints.iis import archive, scripts
from connectors.endpoints.iis.bindings import bindings_of, read
from connectors.endpoints.iis.settings import IisSettings
from connectors.errors import Permanent
from connectors.hosts.contract import RunsScripts, Script, ScriptValue
from connectors.keystores.contract import SigningRequest
from connectors.registry import ConnectorType, Surroundings
from model.keys import KeyAlgorithm
from model.x509 import key_algorithm

# CNG's names, and the length that RSA needs beside its name.
ALGORITHMS = {
    KeyAlgorithm.EC_P256: ("ECDSA_P256", 0),
    KeyAlgorithm.EC_P384: ("ECDSA_P384", 0),
    KeyAlgorithm.RSA_2048: ("RSA", 2048),
    KeyAlgorithm.RSA_3072: ("RSA", 3072),
    KeyAlgorithm.RSA_4096: ("RSA", 4096),
}
LONGEST_COMMON_NAME = 64
TIME = "%Y-%m-%dT%H:%M:%S.%fZ"


class IisEndpoint:
    """`connectors.endpoints.contract.Endpoint` and `MakesKeys` for the IIS of one Windows host."""

    def __init__(self, settings: IisSettings, host: RunsScripts, clock: Callable[[], datetime]) -> None:
        self._settings = settings
        self._host = host
        self._clock = clock

    @property
    def identity(self) -> str:
        """The host: it has one IIS."""
        return f"iis {self._host.address}"

    @property
    def title(self) -> str:
        """``IIS``, with its host."""
        return f"IIS on {self._host.address}"

    # Looking.

    async def discover(self) -> Sequence[Binding]:
        """All https bindings of all sites."""
        rows = read(await self._run(scripts.GET_BINDINGS))
        return bindings_of(rows, self._settings.store, self._settings.address or self._host.address)

    async def check(self, place: Place | None = None, /) -> None:
        """Read the configuration; of a place, whether its certificate is in the store and has its key."""
        if place is None:
            await self._run(scripts.GET_BINDINGS)
            return
        bound = await self._bound(place)
        if bound is None or not bound["Chain"]:
            raise Permanent(f"{self.title} has no certificate for {place.certificate} in its store.")
        if not bound["HasPrivateKey"]:
            raise Permanent(f"The certificate for {place.certificate} has no private key on {self._host.address}.")

    async def running(self) -> bool:
        """Whether the service W3SVC runs."""
        return bool((await self._server())["Running"])

    async def choose(self, binding: Binding, material: Material) -> Place:
        """The only place there is, for the key types that Windows serves."""
        key = certificates.read(material).leaf.public_key()
        if not isinstance(key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey):
            raise Permanent(f"{self.title} serves certificates with RSA and ECDSA keys only: request another key type.")
        return binding.places[0]

    async def in_place(self, place: Place) -> InPlace:
        """What is bound. That a private key fits is Windows's own word: the key is never read."""
        bound = await self._bound(place)
        chain = _chain_of(bound) if bound else []
        if not bound or not chain:
            return InPlace(None)
        intermediates = [certificate for certificate in chain[1:] if certificate.subject != certificate.issuer]
        return InPlace(
            certificate=fingerprint(chain[0]),
            chain=tuple(fingerprint(certificate) for certificate in intermediates),
            public_key=certificates.public_key_of(chain[0]) if bound["HasPrivateKey"] else None,
        )

    # Changing.

    async def plan(self, place: Place, name: str) -> Snapshot:
        """Note the bound thumbprint and its store. A certificate that is bound and not in the store (somebody deleted
        it) is not served, and could not be bound again."""
        bound = await self._bound(place)
        if bound is None or not bound["Chain"]:
            return Snapshot(name, place, {}, (place.alias,))
        return Snapshot(name, place, {place.alias: f"{bound['Store']} {bound['Thumbprint']}"})

    async def snapshot(self, snapshot: Snapshot) -> None:
        """Nothing is to be kept: `write` adds to the store and takes nothing away."""

    async def write(self, place: Place, material: Material) -> None:
        """Into the store first, where a missing right or a full disk shows, then the binding."""
        contents = certificates.read(material)
        common: dict[str, ScriptValue] = {
            "FriendlyName": f"{_prefix(place)}{self._clock():{TIME}}",
            "Store": self._settings.store,
            "Intermediate": [_encoded(certificate) for certificate in contents.chain],
        }
        if material.key_alias is not None:
            await self._run(
                scripts.ADD_CERTIFICATE,
                {"Certificate": _encoded(contents.leaf), "KeyName": _key_name(material.key_alias), **common},
            )
        elif material.private_key_pem is not None:
            password = archive.one_time_password()
            build = int((await self._server())["Build"])
            pfx = archive.pack(contents.leaf, material.private_key_pem, password, build)
            thumbprint = _thumbprint(contents.leaf)
            await self._run(
                scripts.IMPORT_CERTIFICATE, {"Pfx": pfx, "Password": password, "Thumbprint": thumbprint, **common}
            )
        else:
            raise Permanent(
                f"{self.title} needs the private key with the certificate, or one that was made there for it."
            )
        await self._bind(place.alias, _thumbprint(contents.leaf), self._settings.store)

    async def activate(self, _: Place, /) -> Activated:
        """http.sys uses what is bound for every new connection."""
        return Activated(Activation.IN_EFFECT)

    async def restore(self, snapshot: Snapshot) -> None:
        """Bind the certificate that was bound, or none. What was imported stays in the store until it is pruned."""
        for binding, kept in snapshot.kept.items():
            store, _, thumbprint = kept.partition(" ")
            await self._bind(binding, thumbprint, store)
        for binding in snapshot.absent:
            await self._bind(binding, "", self._settings.store)

    async def discard(self, snapshot: Snapshot) -> None:
        """Delete what certgate once imported for this place, but for what came last, what was bound before, and what
        is in use."""
        await self._run(
            scripts.REMOVE_CERTIFICATES,
            {
                "Prefix": _prefix(snapshot.place),
                "Store": self._settings.store,
                "Keep": self._settings.keep,
                "Except": [kept.partition(" ")[2] for kept in snapshot.kept.values()],
            },
        )

    # Keys that are made there.

    async def make_key(self, binding_id: str, request: SigningRequest) -> str:  # noqa: ARG002 (keys are the machine's)
        """A key of CNG's software provider that can't be exported; see `MakesKeys.make_key`."""
        if request.algorithm not in ALGORITHMS:
            raise Permanent(f"{self.title} makes RSA and ECDSA keys only: request another key type.")
        algorithm, length = ALGORITHMS[request.algorithm]
        addresses = [name for name in request.names if _is_address(name)]
        outputs = await self._run(
            scripts.NEW_REQUEST,
            {
                "KeyName": _key_name(request.alias),
                "Algorithm": algorithm,
                "Length": length,
                "Subject": base64.b64encode(_subject(request)).decode(),
                "DnsName": [name for name in request.names if name not in addresses],
                "IpAddress": addresses,
            },
        )
        try:
            made = x509.load_der_x509_csr(base64.b64decode(outputs[0]["Request"]))
            found = key_algorithm(made.public_key())
        except (ValueError, TypeError, LookupError):
            raise Permanent(f"{self.title} made a signing request that can't be read.") from None
        if found is not request.algorithm:
            raise Permanent(
                f"{self.title} has a key of another algorithm under {request.alias}: {found}, not {request.algorithm}."
            )
        return made.public_bytes(Encoding.PEM).decode()

    async def discard_key(self, binding_id: str, alias: str) -> None:  # noqa: ARG002
        """See `MakesKeys.discard_key`; one that a certificate uses stays."""
        await self._run(scripts.REMOVE_KEY, {"KeyName": _key_name(alias)})

    # Scripts.

    async def _run(
        self, script: Script, parameters: Mapping[str, ScriptValue] | None = None
    ) -> Sequence[Mapping[str, Any]]:
        return await self._host.run_script(script, parameters or {}, timeout=self._settings.script_timeout)

    async def _server(self) -> Mapping[str, Any]:
        return self._one(await self._run(scripts.GET_SERVER), "Running", "Build")

    async def _bound(self, place: Place) -> Mapping[str, Any] | None:
        """What Get-CertgateCertificate tells; None where no certificate is bound."""
        site, _, information = place.alias.partition("/")
        outputs = await self._run(scripts.GET_CERTIFICATE, {"Site": site, "Information": information})
        return self._one(outputs, "Thumbprint", "Store", "HasPrivateKey", "Chain") if outputs else None

    async def _bind(self, binding: str, thumbprint: str, store: str) -> None:
        site, _, information = binding.partition("/")
        await self._run(
            scripts.SET_BINDING, {"Site": site, "Information": information, "Thumbprint": thumbprint, "Store": store}
        )

    def _one(self, outputs: Sequence[Mapping[str, Any]], *wanted: str) -> Mapping[str, Any]:
        if len(outputs) != 1 or not set(wanted) <= set(outputs[0]):
            raise Permanent(
                f"{self.title} answers otherwise than certgate's scripts do: bring its functions up to date."
            )
        return outputs[0]


def _chain_of(bound: Mapping[str, Any]) -> list[x509.Certificate]:
    try:
        return [x509.load_der_x509_certificate(base64.b64decode(encoded)) for encoded in bound["Chain"] or ()]
    except (ValueError, TypeError):
        raise Permanent(
            f"The certificate {bound['Thumbprint']} in the store of {bound['Store']} can't be read."
        ) from None


def _thumbprint(certificate: x509.Certificate) -> str:
    """SHA-1 over the encoding, as Windows names certificates; no proof of anything."""
    return certificate.fingerprint(SHA1()).hex().upper()  # noqa: S303


def _encoded(certificate: x509.Certificate) -> str:
    return base64.b64encode(certificate.public_bytes(Encoding.DER)).decode()


def _prefix(place: Place) -> str:
    """What tells certgate's certificates from all others in the store, and those of this place from those of others, by
    their friendly names; the time of the import follows."""
    return f"certgate {place.certificate} "


def _key_name(alias: str) -> str:
    return f"certgate-{alias}"


def _subject(request: SigningRequest) -> bytes:
    """The distinguished name, DER, as `SigningRequest` says."""
    attributes = []
    try:
        if request.organization:
            attributes.append(x509.NameAttribute(NameOID.ORGANIZATION_NAME, request.organization))
        if request.common_name and len(request.common_name) <= LONGEST_COMMON_NAME:
            attributes.append(x509.NameAttribute(NameOID.COMMON_NAME, request.common_name))
        return x509.Name(attributes).public_bytes()
    except ValueError as error:
        raise Permanent(f"No signing request can be made for {request.alias}: {str(error)[:200]!a}.") from None


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _open(settings: IisSettings, surroundings: Surroundings) -> IisEndpoint:
    return IisEndpoint(settings, surroundings.require_scripts("IIS"), surroundings.clock)


CONNECTOR: ConnectorType[IisSettings, IisEndpoint] = ConnectorType(
    name="iis", title="IIS", settings=IisSettings, open=_open, over=frozenset({"winrm"})
)
