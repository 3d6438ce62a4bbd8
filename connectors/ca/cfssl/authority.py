"""The verbs of a CFSSL server.

CFSSL signs in one call, gives no order numbers, and can't be asked for what it signed. So the serial number is made
here, of the order's reference and key, and stands for the order (`serial_numbers` = ours):

- a server with a database refuses a second certificate of the same number. When an answer was lost, the number is taken
  there: that certificate, which nobody has, is revoked, and the order's next number is signed;
- a server without one signs the number anew: the same certificate as far as revocation goes.

What was signed is on our disk before it is handed on, so that it can be collected again on this machine.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

from cryptography import x509 as crypto

from connectors.ca.cfssl.server import Said, Server
from connectors.ca.cfssl.settings import Settings
from connectors.ca.contract import (
    CollectRequest,
    Detail,
    Health,
    IssuedCertificate,
    Order,
    OrderRequest,
    RevocationReason,
    RevokeRequest,
)
from connectors.errors import AuthorityFault, ConnectorError, Permanent, Rejected
from connectors.folders import PrivateFolder
from connectors.registry import Surroundings
from model import x509
from model.errors import CertgateError

# So often an answer may be lost before a person has to look.
MOST_SIGNATURES = 16
# Signed certificates that are kept on our disk; the oldest go first.
MOST_KEPT = 5_000
_DATABASE_ERROR = 11_000
_TAKEN = ("unique", "duplicate")
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(h|m|s)")
_UNITS = {"h": 3600, "m": 60, "s": 1}


def serial_number(request: OrderRequest, signature: int = 0) -> int:
    """The serial number of an order's certificate: 20 octets, positive (RFC 5280 section 4.1.2.2), the same for one
    reference, key and count of `signature`. The key makes it one that nobody foresees."""
    key = x509.public_key_sha256(x509.load_csr(request.csr_pem))
    digest = hashlib.sha256(f"certgate {request.reference} {key} {signature}".encode()).digest()
    return (int.from_bytes(digest[:20]) & ((1 << 159) - 1)) | (1 << 158)


class CfsslAuthority:
    """See `CertificateAuthority` and `ShowsTrustAnchors`. The number of an order is its first serial number (hex)."""

    def __init__(self, settings: Settings, surroundings: Surroundings) -> None:
        self._settings = settings
        self._clock = surroundings.clock
        self._server = Server(settings, surroundings.secret)
        self._folder = PrivateFolder(surroundings.home / "cfssl", "folder of signed certificates")

    # The contract

    async def check(self) -> Health:
        """The server answers, takes our key, and its signer outlives what it signs. Nothing is signed."""
        try:
            return await self._check()
        except ConnectorError as error:
            return Health(False, error.message)

    async def submit(self, request: OrderRequest) -> Order:
        """Looks whether the server is there and its profile fits. Nothing is signed before `collect`, which alone can
        hand the certificate on."""
        _, expiry = await self._info(request.profile)
        asked = request.validity_seconds
        if asked is not None and expiry is not None and timedelta(seconds=asked) < expiry:
            raise Permanent(
                f"{self._server.where} decides itself how long certificates of its profile live "
                f"({_hours(expiry)}), and that is longer than {_hours(timedelta(seconds=asked))}: ask for no validity, "
                "or set up a profile of that life there."
            )
        return Order(f"{serial_number(request):x}")

    async def collect(self, request: CollectRequest) -> IssuedCertificate:
        """Signs, or gives what this machine has of it already."""
        wanted = request.request
        # Before it is signed: afterwards the less that can go wrong the better.
        issuers = await self._issuers(wanted.profile)
        kept = await asyncio.to_thread(self._kept, request.number)
        leaf = self._read(kept) if kept is not None else await self._signed(request)
        if self._settings.serial_numbers == "ours" and not self._is_ours(leaf, wanted):
            raise Permanent(
                f"{self._server.where} gave the certificate the number {x509.serial_hex(leaf)} of its own: set "
                "ClientProvidesSerialNumbers in its profile, or serial_numbers to theirs."
            )
        if not x509.is_signed_by(leaf, issuers[0]):
            raise AuthorityFault(f"{self._server.where} gave a certificate that its signer did not sign.")
        return IssuedCertificate(x509.to_pem(leaf), [x509.to_pem(one) for one in x509.order_chain(leaf, issuers)])

    async def revoke(self, request: RevokeRequest) -> None:
        """See `CertificateAuthority.revoke`. Only a server with a database can."""
        leaf = self._read(request.certificate_pem)
        if not await self._revoke(leaf.serial_number, request.reason, leaf):
            raise Permanent(f"{self._server.where} does not know the certificate {request.serial_number}.")

    async def trust_anchors(self) -> Sequence[str]:
        """The signer, if it is a root."""
        signer, _ = await self._info(None)
        return [x509.to_pem(signer)] if x509.is_self_signed(signer) else []

    async def close(self) -> None:
        """Close the connections."""
        await self._server.close()

    # Signing

    async def _signed(self, request: CollectRequest) -> crypto.Certificate:
        wanted = request.request
        for signature in range(MOST_SIGNATURES):
            serial = serial_number(wanted, signature)
            said = await self._server.sign(self._body(wanted, serial))
            if said.result is not None:
                pem = self._server.text(said, "certificate")
                leaf = self._read(pem)
                if x509.public_key_sha256(leaf) != x509.public_key_sha256(x509.load_csr(wanted.csr_pem)):
                    raise AuthorityFault(f"{self._server.where} signed another key than the one that was asked for.")
                await asyncio.to_thread(self._keep, request.number, x509.to_pem(leaf))
                return leaf
            if not _number_taken(said):
                raise Rejected(f"{self._server.where} refuses to sign: {said.message} (code {said.code}).")
            # It was signed, and the answer lost. Nobody has that certificate, and nobody shall come to have it.
            await self._revoke(serial, RevocationReason.SUPERSEDED, None)
        raise AuthorityFault(
            f"{self._server.where} signed order {request.number} {MOST_SIGNATURES} times and its answers were lost."
        )

    def _body(self, wanted: OrderRequest, serial: int) -> dict[str, object]:
        body: dict[str, object] = {
            "certificate_request": wanted.csr_pem,
            "hosts": list(wanted.names),
            "profile": wanted.profile or self._settings.profile or "",
            "label": self._settings.label or "",
        }
        if self._settings.serial_numbers == "ours":
            body["serial"] = serial
        return body

    def _is_ours(self, leaf: crypto.Certificate, wanted: OrderRequest) -> bool:
        return any(leaf.serial_number == serial_number(wanted, number) for number in range(MOST_SIGNATURES))

    async def _revoke(self, serial: int, reason: RevocationReason, leaf: crypto.Certificate | None) -> bool:
        """False: the server does not know it. It files certificates under their authority's key identifier, and version
        1.2 under none."""
        for authority in ("", _authority_key(leaf)):
            if authority is None:
                continue
            body = {"serial": str(serial), "authority_key_id": authority, "reason": reason.lower()}
            said = await self._server.ask("revoke", body)
            if said is None:
                raise Permanent(f"{self._server.where} keeps no database (-db-config) and can't revoke.")
            if said.result is not None:
                return True
            if "not found" not in said.message:
                raise Permanent(f"{self._server.where} does not revoke {serial:x}: {said.message}.")
        return False

    async def _info(self, profile: str | None) -> tuple[crypto.Certificate, timedelta | None]:
        """The signer, and how long certificates of a profile live."""
        asked = {"label": self._settings.label or "", "profile": profile or self._settings.profile or ""}
        said = await self._server.ask("info", asked)
        if said is None:
            raise Permanent(f"{self._server.where} does not answer as a server that signs: look at its address.")
        if said.result is None:
            raise Permanent(f"{self._server.where} does not tell about its signer: {said.message}.")
        return self._read(self._server.text(said, "certificate")), _duration(said.result.get("expiry"))

    async def _issuers(self, profile: str | None) -> list[crypto.Certificate]:
        """The signer, and what the server's bundler knows above it: nothing where it has none."""
        signer, _ = await self._info(profile)
        if x509.is_self_signed(signer):
            return [signer]
        said = await self._server.ask("bundle", {"certificate": x509.to_pem(signer), "flavor": "optimal"})
        bundle = said.result.get("bundle") if said is not None and said.result is not None else None
        try:
            return [signer, *(x509.load_certificates(bundle) if isinstance(bundle, str) else [])]
        except (CertgateError, ValueError):
            return [signer]

    def _read(self, pem: str) -> crypto.Certificate:
        try:
            return x509.load_certificate(pem)
        except (CertgateError, ValueError):
            raise AuthorityFault(f"{self._server.where} gave a certificate that can't be read.") from None

    # What was signed, on our disk

    def _kept(self, number: str) -> str | None:
        self._folder.prepare()
        content = self._folder.read(_file_name(number))
        return content.decode("ascii", "replace") if content is not None else None

    def _keep(self, number: str, pem: str) -> None:
        self._folder.prepare()
        with self._folder.lock():
            names = self._folder.names(".pem")
            if len(names) >= MOST_KEPT:
                for name in sorted(names, key=self._age)[: MOST_KEPT // 10]:
                    self._folder.delete(name)
            self._folder.write(_file_name(number), pem.encode())

    def _age(self, name: str) -> float:
        try:
            return Path(self._folder.path / name).stat().st_mtime
        except OSError:
            return 0.0

    # Looking whether all is well

    async def _check(self) -> Health:
        signer, expiry = await self._info(None)
        where, end = self._server.where, signer.not_valid_after_utc
        details = [Detail("Signer", f"{x509.distinguished_name(signer.subject)}, until {end:%Y-%m-%d}")]
        if expiry is not None:
            details.append(Detail("Certificates live", _hours(expiry)))
        # What can't be decoded is refused only after our key was taken: nothing is signed.
        said = await self._server.sign({"certificate_request": "", "profile": self._settings.profile or ""})
        if said.result is not None:
            raise AuthorityFault(f"{where} signed an empty request.")
        signs = "signed by our key" if self._settings.auth_key else "not signed: whoever reaches the server gets any"
        details.append(Detail("Requests", signs))
        revokes = await self._server.ask("revoke", {"serial": "0", "authority_key_id": "", "reason": "superseded"})
        details.append(
            Detail("Database", "there: it can revoke" if revokes is not None else "none: it can't revoke anything")
        )
        if self._settings.serial_numbers == "theirs":
            details.append(Detail("Exactly once", "not promised: a lost answer may mean a second certificate"))
        if self._settings.address.startswith("http://"):
            details.append(Detail("Connection", "not encrypted"))
        if expiry is not None and self._clock() + expiry > end:
            return Health(False, f"{where} can't sign certificates of full life any more: its signer ends.", details)
        return Health(True, f"{where} signs.", details)


def _number_taken(said: Said) -> bool:
    return said.code == _DATABASE_ERROR and any(word in said.message.lower() for word in _TAKEN)


def _authority_key(leaf: crypto.Certificate | None) -> str | None:
    if leaf is None:
        return None
    try:
        identifier = leaf.extensions.get_extension_for_class(crypto.AuthorityKeyIdentifier).value.key_identifier
    except crypto.ExtensionNotFound:
        return None
    return identifier.hex() if identifier else None


def _file_name(number: str) -> str:
    if not re.fullmatch(r"[0-9a-f]{1,40}", number):
        raise Permanent(f"{number[:50]!a} is no number of an order at a CFSSL server.")
    return f"{number}.pem"


def _duration(given: object) -> timedelta | None:
    """A duration as Go writes it, such as ``1128h`` or ``1h30m``."""
    parts = _DURATION.findall(given) if isinstance(given, str) else []
    return timedelta(seconds=sum(float(count) * _UNITS[unit] for count, unit in parts)) if parts else None


def _hours(duration: timedelta) -> str:
    hours = duration.total_seconds() / 3600
    return f"{hours / 24:g} days" if hours >= 48 else f"{hours:g} hours"
