"""The verbs of a Vault-compatible PKI."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509 as crypto

from connectors.ca.contract import (
    CertificatePage,
    CollectRequest,
    Detail,
    Health,
    HeldCertificate,
    IssuedCertificate,
    ListedCertificate,
    Order,
    OrderRequest,
    ProfileOffer,
    RevokeRequest,
    Standing,
)
from connectors.ca.vault.issued import Issued, colons, names_of, together
from connectors.ca.vault.settings import Settings
from connectors.errors import AuthorityFault, ConnectorError, Permanent, Rejected, Retryable
from connectors.registry import Surroundings
from connectors.vault import Reply, Vault, printable
from model import x509
from model.errors import CertgateError

TITLE = "Vault"
# A list of a million serial numbers has about 62 MB.
_LARGEST = 80 * 1024 * 1024
_LISTED_AT_ONCE = 100
_ROLE_FRESH = timedelta(minutes=5)
_MAX_COMMON_NAME = 64  # RFC 5280 appendix A.1, ub-common-name


@dataclass(frozen=True)
class _Right:
    """Something that our token must be allowed to do."""

    path: str
    capability: str
    purpose: str


class VaultAuthority:
    """See `CertificateAuthority`, `FindsOrders`, `CancelsOrders`, `ShowsTrustAnchors`, `KnowsStanding`,
    `OffersProfiles` and `ListsCertificates`.

    The number of an order is the serial number of its certificate, as the engine writes it. The engine signs in one
    call, so that there is nothing to wait for: a lost answer is looked for by the key of the signing request.
    """

    def __init__(self, settings: Settings, surroundings: Surroundings) -> None:
        self._settings = settings
        self._clock = surroundings.clock
        self._vault = Vault(TITLE, settings, surroundings.secret, surroundings.clock, largest=_LARGEST)
        self._issued = Issued(self._vault, settings.mount)
        self._roles: dict[str, tuple[datetime, Mapping[str, Any]]] = {}

    # The contract

    async def check(self) -> Health:
        """Unsealed, signed in, the policies suffice, the role exists and keeps certificates, and the issuer lives."""
        try:
            return await self._check()
        except ConnectorError as error:
            return Health(False, error.message)

    async def submit(self, request: OrderRequest) -> Order:
        """Signs. Where the answer is lost, `Retryable` asks for `settle_seconds` of patience, after which `find` sees
        what the server did."""
        role = request.profile or self._settings.role
        await self._storing(role)
        try:
            reply = await self._vault.ask("POST", self._sign_path(role), body=_signing(request))
        except Retryable as error:
            settle = timedelta(seconds=self._settings.settle_seconds)
            raise Retryable(error.message, max(settle, error.after or settle)) from None
        if not reply.good:
            raise await self._refusal(role, reply)
        certificate = self._certificate(reply.data.get("certificate"))
        return Order(self._issued.add(certificate).serial)

    async def find(self, request: OrderRequest) -> Order | None:
        """See `FindsOrders.find`: a living certificate for the key and names, newer than the one that is renewed."""
        if not request.csr_pem:
            return None
        csr = x509.load_csr(request.csr_pem)
        candidates = await self._issued.for_key(x509.public_key_sha256(csr), request.names)
        earlier = colons(request.earlier.serial_number) if request.earlier else ""
        before = self._issued.known(earlier)
        for one in candidates:
            older = one.serial == earlier or (before is not None and one.not_before <= before.not_before)
            if older or one.not_after <= self._clock():
                continue
            found = await self._entry(one.serial)
            if found is not None and not _revoked_at(found):
                return Order(one.serial)
        return None

    async def collect(self, request: CollectRequest) -> IssuedCertificate:
        """Reads the certificate, with its issuers up to the root, which is left out."""
        issued, leaf, found = await self._collected(request.number)
        wanted = request.request
        if wanted.csr_pem and x509.public_key_sha256(leaf) != x509.public_key_sha256(x509.load_csr(wanted.csr_pem)):
            raise AuthorityFault(f"{self._where} has a certificate for another key under {request.number}.")
        if _revoked_at(found):
            raise Rejected(f"The certificate {request.number} is revoked at {self._where}.")
        if wanted.names:
            self._require_names(leaf, wanted)
        return issued

    async def revoke(self, request: RevokeRequest) -> None:
        """See `CertificateAuthority.revoke`. The engine takes no reason."""
        serial = colons(request.serial_number)
        reply = await self._vault.ask("POST", f"{self._settings.mount}/revoke", body={"serial_number": serial})
        if not reply.good:
            raise Permanent(f"{self._where} does not revoke {serial}: {reply.why}.")

    async def withdraw(self, order_number: str) -> bool:  # noqa: ARG002  (it is always too late)
        """See `CancelsOrders.withdraw`: what has a number is signed."""
        return False

    async def trust_anchors(self) -> Sequence[str]:
        """The root above the issuer, where the mount knows it."""
        chain = await self._issuer_chain(self._settings.issuer or "default")
        return [x509.to_pem(one) for one in chain if x509.is_self_signed(one)]

    async def standing(self, certificate: HeldCertificate) -> Standing | None:
        """See `KnowsStanding.standing`."""
        found = await self._entry(colons(certificate.serial_number))
        if found is None:
            return None
        revoked = _revoked_at(found)
        return Standing(revoked is not None, "CA", revoked)

    async def profiles(self) -> Sequence[ProfileOffer]:
        """The roles of the mount."""
        listed = await self._vault.ask("LIST", f"{self._settings.mount}/roles")
        offers = []
        for name in listed.data.get("keys") or ():
            role = await self._role(str(name))
            if role is not None:
                offers.append(ProfileOffer(str(name), f"Role {name}", (), _described(role)))
        return offers

    async def certificates(self, page: str | None = None) -> CertificatePage:
        """See `ListsCertificates.certificates`: by serial number, CA certificates left out."""
        serials = await self._issued.serials(page or "", _LISTED_AT_ONCE)
        total = len(serials) if len(serials) > _LISTED_AT_ONCE else None
        # A server without pages gives everything each time: they are made here.
        part = [one for one in sorted(serials) if one > (page or "")][:_LISTED_AT_ONCE]
        entries = await together(map(self._entry, part))
        listed = [
            one
            for serial, entry in zip(part, entries, strict=True)
            if entry is not None and (one := self._listed(serial, entry)) is not None
        ]
        more = len(part) == _LISTED_AT_ONCE
        return CertificatePage(listed, part[-1] if more else None, total)

    async def certificate(self, order_number: str) -> IssuedCertificate:
        """See `ListsCertificates.certificate`."""
        return (await self._collected(order_number))[0]

    async def close(self) -> None:
        """Close the connections."""
        await self._vault.close()

    # Issuing

    @property
    def _where(self) -> str:
        return self._vault.where

    def _sign_path(self, role: str) -> str:
        issuer = f"issuer/{self._settings.issuer}/" if self._settings.issuer else ""
        return f"{self._settings.mount}/{issuer}sign/{role}"

    async def _storing(self, role: str) -> None:
        """Raise `Permanent` for a role that keeps no certificates: what was signed could not be found again."""
        now = self._clock()
        seen = self._roles.get(role)
        if seen is None or not seen[0] <= now < seen[0] + _ROLE_FRESH:
            try:
                found = await self._role(role)
            except Permanent:
                # Not readable for us; signing tells whether it is there.
                found = {}
            if found is None:
                raise Permanent(await self._no_role(role))
            seen = self._roles[role] = (now, found)
        if seen[1].get("no_store"):
            raise Permanent(_forgetful(role))

    async def _role(self, name: str) -> Mapping[str, Any] | None:
        reply = await self._vault.ask("GET", f"{self._settings.mount}/roles/{name}")
        return reply.data if reply.good else None

    async def _no_role(self, role: str) -> str:
        try:
            listed = await self._vault.ask("LIST", f"{self._settings.mount}/roles")
        except Permanent:
            listed = Reply(404, {})
        there = ", ".join(sorted(str(one) for one in listed.data.get("keys") or ()))[:300]
        return f"{self._where} has no role {role} at {self._settings.mount}{f'; it has: {there}' if there else ''}."

    async def _refusal(self, role: str, reply: Reply) -> ConnectorError:
        if any("unknown role" in one for one in reply.errors):
            return Permanent(await self._no_role(role))
        if any("issuer" in one.lower() and "find" in one.lower() for one in reply.errors):
            return Permanent(f"{self._where} can't sign with the issuer that is set: {reply.why}.")
        return Rejected(f"{self._where} refuses to sign by the role {role}: {reply.why}.")

    def _certificate(self, pem: object) -> crypto.Certificate:
        try:
            return x509.load_certificate(pem if isinstance(pem, str) else "")
        except (CertgateError, ValueError):
            raise AuthorityFault(f"{self._where} answered without a certificate that can be read.") from None

    def _require_names(self, leaf: crypto.Certificate, wanted: OrderRequest) -> None:
        present, asked = names_of(leaf), set(wanted.names)
        role = wanted.profile or self._settings.role
        if lacking := sorted(asked - present):
            raise Permanent(
                f"The certificate {colons(x509.serial_hex(leaf))} lacks {', '.join(lacking[:5])}: let the role {role} "
                "take names from the signing request (use_csr_sans, use_csr_common_name)."
            )
        if strange := sorted(present - asked):
            shown = printable(", ".join(strange[:5]))
            raise Permanent(
                f"The certificate {colons(x509.serial_hex(leaf))} has names that nobody asked for, {shown}: "
                f"look at what the role {role} adds."
            )

    # Reading

    async def _entry(self, serial: str) -> Mapping[str, Any] | None:
        reply = await self._vault.ask("GET", f"{self._settings.mount}/cert/{serial}")
        return reply.data if reply.good else None

    async def _collected(self, number: str) -> tuple[IssuedCertificate, crypto.Certificate, Mapping[str, Any]]:
        found = await self._entry(number)
        if found is None:
            raise Permanent(f"{self._where} has no certificate {number} (any more): it was tidied away, or not kept.")
        leaf = self._certificate(found.get("certificate"))
        issuer = found.get("issuer_id")
        wanted = [issuer if isinstance(issuer, str) else None, self._settings.issuer, "default"]
        chain: list[crypto.Certificate] = []
        for reference in dict.fromkeys(one for one in wanted if one):
            chain = x509.order_chain(leaf, await self._issuer_chain(reference))
            if chain:
                break
        return IssuedCertificate(x509.to_pem(leaf), [x509.to_pem(one) for one in chain]), leaf, found

    async def _issuer_chain(self, reference: str) -> list[crypto.Certificate]:
        """An issuer and those above it; it may be read by everybody."""
        reply = await self._vault.ask("GET", f"{self._settings.mount}/issuer/{reference}/json")
        given = [reply.data.get("certificate"), *(reply.data.get("ca_chain") or ())]
        if not reply.good or not isinstance(given[0], str):
            return []
        unique = list(dict.fromkeys(one.strip() for one in given if isinstance(one, str)))
        return [self._certificate(one) for one in unique]

    def _listed(self, serial: str, entry: Mapping[str, Any]) -> ListedCertificate | None:
        leaf = self._certificate(entry.get("certificate"))
        try:
            if leaf.extensions.get_extension_for_class(crypto.BasicConstraints).value.ca:
                return None
        except crypto.ExtensionNotFound:
            pass
        return ListedCertificate(
            order_number=serial,
            common_name=x509.common_name(leaf) or "",
            serial_number=x509.serial_hex(leaf),
            names=sorted(names_of(leaf)),
            status="revoked" if _revoked_at(entry) else "issued",
            not_after=leaf.not_valid_after_utc,
        )

    # Looking whether all is well

    async def _check(self) -> Health:
        health = await self._vault.health()
        details = [Detail("Server", printable(f"version {health.get('version', 'unknown')}"))]
        if not health.get("initialized", True):
            return Health(False, f"{self._where} is not initialized.", details)
        if health.get("sealed"):
            return Health(False, f"{self._where} is sealed: somebody has to unseal it.", details)
        if health.get("standby"):
            details.append(Detail("Node", "a standby: it passes requests on to the active one"))
        details += _credential(await self._vault.token())
        if missing := await self._missing_rights():
            return Health(False, f"The token for {self._where} may not {'; '.join(missing)}.", details)
        role = await self._readable_role(details)
        if role is None:
            return Health(False, await self._no_role(self._settings.role), details)
        if role.get("no_store"):
            return Health(False, _forgetful(self._settings.role), details)
        return await self._judged(role, details)

    async def _readable_role(self, details: list[Detail]) -> Mapping[str, Any] | None:
        try:
            role = await self._role(self._settings.role)
        except Permanent:
            details.append(Detail("Role", f"{self._settings.role}; our token may not read it"))
            return {}
        if role is not None:
            details.append(Detail("Role", f"{self._settings.role}: {_described(role)}"))
        return role

    async def _judged(self, role: Mapping[str, Any], details: list[Detail]) -> Health:
        chosen = role.get("issuer_ref")
        reference = self._settings.issuer or (chosen if isinstance(chosen, str) and chosen else "default")
        chain = await self._issuer_chain(reference)
        if not chain:
            mount = self._settings.mount
            return Health(False, f"{self._where} has no issuer {reference} at {mount} that could sign.", details)
        issuer = chain[0]
        end = issuer.not_valid_after_utc
        details.append(Detail("Issuer", f"{x509.distinguished_name(issuer.subject)}, until {end:%Y-%m-%d}"))
        if not any(x509.is_self_signed(one) for one in chain):
            details.append(Detail("Root", "not in this mount: add it to the trusted CA certificates"))
        longest = _seconds(role.get("ttl")) or _seconds(role.get("max_ttl"))
        usable = self._clock() + timedelta(seconds=longest) < end
        until = "signs" if usable else "can't sign certificates of the role's full validity any more: its issuer ends"
        tail = f"by the role {self._settings.role}" if usable else f"on {end:%Y-%m-%d}"
        return Health(usable, f"{self._where} {until} {tail}.", details)

    async def _missing_rights(self) -> list[str]:
        mount = self._settings.mount
        rights = [
            _Right(self._sign_path(self._settings.role), "update", "sign"),
            # Lists are asked for with a slash at the end, and policies with and without one fit that.
            _Right(f"{mount}/certs/", "list", "list what was signed"),
            _Right(f"{mount}/cert/0", "read", "read what was signed"),
            _Right(f"{mount}/revoke", "update", "revoke"),
        ]
        reply = await self._vault.ask("POST", "sys/capabilities-self", body={"paths": [one.path for one in rights]})
        missing = []
        for right in rights:
            may = reply.data.get(right.path)
            if not isinstance(may, list) or ("root" not in may and right.capability not in may):
                missing.append(f"{right.purpose} ({right.capability} on {right.path})")
        return missing


def _signing(request: OrderRequest) -> dict[str, Any]:
    """The parameters of ``sign/ROLE``. A role that takes them from the signing request ignores names given here; one
    that does not gets the same ones."""
    addresses = [name for name in request.names if _is_address(name)]
    body: dict[str, Any] = {
        "csr": request.csr_pem,
        "format": "pem",
        # It is among the names already, and an address must not become a DNS name.
        "exclude_cn_from_sans": True,
        "alt_names": ",".join(name for name in request.names if name not in addresses),
        "ip_sans": ",".join(addresses),
    }
    if len(request.common_name) <= _MAX_COMMON_NAME:
        body["common_name"] = request.common_name
    if request.validity_seconds is not None:
        body["ttl"] = f"{request.validity_seconds}s"
    return body


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _revoked_at(entry: Mapping[str, Any]) -> datetime | None:
    moment = _seconds(entry.get("revocation_time"))
    return datetime.fromtimestamp(moment, UTC) if moment else None


def _seconds(given: object) -> float:
    return float(given) if isinstance(given, int | float) and given > 0 else 0.0


def _forgetful(role: str) -> str:
    return (
        f"The role {role} keeps no certificates (no_store), so that one whose answer was lost could not be found "
        "again: set no_store to false."
    )


def _described(role: Mapping[str, Any]) -> str:
    longest = _seconds(role.get("max_ttl")) or _seconds(role.get("ttl"))
    names = role.get("allowed_domains") or ()
    told = [f"at most {longest / 86_400:g} days" if longest else "validity as the mount says"]
    if role.get("allow_any_name"):
        told.append("any name")
    elif isinstance(names, list) and names:
        told.append(printable("names of " + ", ".join(map(str, names[:10]))))
    told.append(f"keys: {role.get('key_type') or 'any'}")
    if role.get("no_store"):
        told.append("not usable: it keeps no certificates (no_store)")
    return ", ".join(told)


def _credential(token: Mapping[str, Any]) -> list[Detail]:
    end = token.get("expire_time")
    policies = token.get("policies")
    named = ", ".join(map(str, policies)) if isinstance(policies, list) else ""
    life = f"until {str(end)[:16].replace('T', ' ')} UTC" if end else "without end"
    renewed = ", renewed before" if end and token.get("renewable") else ""
    return [Detail("Token", printable(f"{life}{renewed}; policies: {named or 'none'}"))]
