"""Orders as the CA has them (RFC 8555 sections 7.1.3 and 7.4): place, look, finalize, download."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import josepy as jose
from acme import fields, messages
from cryptography import x509 as crypto
from cryptography.x509.oid import NameOID

from connectors.ca.acme import renewal
from connectors.ca.acme.account import Account
from connectors.ca.acme.network import Network, Problematic
from connectors.ca.acme.settings import Settings
from connectors.ca.contract import IssuedCertificate, OrderRequest
from connectors.errors import AuthorityFault, Permanent
from model import x509
from model.errors import InvalidInput

PEM_CHAIN = "application/pem-certificate-chain"
_MOST_ALTERNATES = 8
_MOST_PAGES = 10


class NewOrder(messages.NewOrder):
    """The library's newOrder with a validity (RFC 8555 section 7.4) and what it replaces (RFC 9773 section 5)."""

    not_after: datetime | None = fields.rfc3339("notAfter", omitempty=True)
    replaces: str | None = jose.field("replaces", omitempty=True)


@dataclass(frozen=True)
class Seen:
    """An order as it was at that moment. `after` is when the CA wants to be asked again."""

    body: messages.Order
    after: timedelta | None

    @property
    def status(self) -> messages.Status:
        """Its state (RFC 8555 section 7.1.6)."""
        return self.body.status

    def is_for(self, names: Sequence[str]) -> bool:
        """Whether it is for exactly these names."""
        there = {(one.typ, _comparable(one.value)) for one in self.body.identifiers or ()}
        return there == {(one.typ, _comparable(one.value)) for one in identifiers(names)}


class Orders:
    """The orders of one account."""

    def __init__(self, network: Network, account: Account, settings: Settings, clock: Callable[[], datetime]) -> None:
        self._network, self._account, self._settings, self._clock = network, account, settings, clock

    async def place(self, request: OrderRequest) -> str:
        """Place an order; its address. Raises what the CA says of it."""
        directory = await self._network.directory()
        wanted: dict[str, object] = {"identifiers": identifiers(request.names)}
        profile = request.profile or self._settings.default_profile
        if profile:
            self._check_profile(directory, profile)
            wanted["profile"] = profile
        if self._settings.send_validity and request.validity_seconds is not None:
            wanted["not_after"] = self._clock() + timedelta(seconds=request.validity_seconds)
        replaces = renewal.replaced(directory, request)
        if replaces is not None:
            try:
                answer = await self._account.post(
                    directory["newOrder"], NewOrder(**wanted, replaces=replaces), "the order"
                )
                return self._network.location(answer, "the order")
            except Problematic as refused:
                # What it replaces is a courtesy to the CA, and no reason to be left without a certificate.
                if not renewal.is_about_replacing(refused):
                    raise refused.error from None
        answer = await self._account.ask(directory["newOrder"], NewOrder(**wanted), "the order")
        return self._network.location(answer, "the order")

    def _check_profile(self, directory: messages.Directory, profile: str) -> None:
        # A server that has no profiles ignores the field (draft-ietf-acme-profiles section 4): what would be issued is
        # not what was asked for.
        offered = directory["meta"].profiles or {}
        if profile not in offered:
            known = f"it has: {', '.join(sorted(map(str, offered)))}" if offered else "it offers none"
            raise Permanent(f"{self._network.where} has no profile {profile[:100]!a}; {known}.")

    async def look(self, url: str) -> Seen | None:
        """The order; None where the CA does not know it (any more)."""
        try:
            answer = await self._account.post(url, None, f"to show order {url}")
        except Problematic as refused:
            if refused.status == 404:
                return None
            raise refused.error from None
        body = self._network.parsed(messages.Order.from_json, answer.object())
        if body.status is None or not body.identifiers:
            raise AuthorityFault(f"{self._network.where} gives something that is no order at {url}.")
        return Seen(body, self._network.hint(answer))

    async def finalize(self, url: str, seen: Seen, csr_pem: str) -> None:
        """Have it issued for this CSR. An order is issued once, however often this is asked."""
        csr = x509.load_csr(csr_pem)
        try:
            await self._account.post(seen.body.finalize, messages.CertificateRequest(csr=csr), f"order {url}")
        except Problematic as refused:
            # Not ready any more: an earlier call, whose answer was lost, did it.
            if refused.problem.kind != "orderNotReady":
                raise

    async def download(self, seen: Seen, csr_pem: str) -> IssuedCertificate:
        """The certificate with the chain that is preferred. Raises `AuthorityFault` for another key's."""
        answer = await self._account.ask(str(seen.body.certificate), None, "the certificate", PEM_CHAIN)
        chain: Sequence[crypto.Certificate] = self._read(answer.content)
        if x509.public_key_sha256(chain[0]) != x509.public_key_sha256(x509.load_csr(csr_pem)):
            raise AuthorityFault(f"{self._network.where} issued a certificate for another key than the order's.")
        preferred = self._settings.preferred_chain
        if preferred is not None:
            chains = [chain]
            for url in self._network.links(answer, "alternate")[:_MOST_ALTERNATES]:
                other = self._read((await self._account.ask(url, None, "another chain", PEM_CHAIN)).content)
                if other[0] == chain[0]:
                    chains.append(other)
            chain = choose_chain(chains, preferred)
        return IssuedCertificate(x509.to_pem(chain[0]), [x509.to_pem(one) for one in chain[1:]])

    async def listed(self) -> Sequence[str]:
        """The addresses of the account's orders, the newest first, where the server has a list (RFC 8555 section
        7.1.2.1); some have none, and some list only what can still be issued."""
        signer = await self._account.signer()
        try:
            account = (await self._account.post(str(signer.account), None, "to show the account")).object()
            page, found = account.get("orders"), list[str]()
            for _ in range(_MOST_PAGES):
                if not isinstance(page, str):
                    break
                answer = await self._account.post(page, None, "to list orders")
                found += [one for one in answer.object().get("orders") or [] if isinstance(one, str)]
                page = next(iter(self._network.links(answer, "next")), None)
        except Problematic:
            return []
        return found[::-1]

    def _read(self, content: bytes) -> list[crypto.Certificate]:
        try:
            return x509.load_certificates(content.decode("ascii", "replace"))
        except InvalidInput as error:
            raise AuthorityFault(f"{self._network.where} gives no certificate for the order: {error.message}") from None


def identifiers(names: Sequence[str]) -> list[messages.Identifier]:
    """Names as ACME has them (RFC 8555 section 9.7.7, RFC 8738 section 3)."""
    return [messages.Identifier(typ=_kind(name), value=name) for name in names]


def choose_chain(chains: Sequence[Sequence[crypto.Certificate]], preferred: str) -> Sequence[crypto.Certificate]:
    """The chain that leads to the root with this common name, else one with an issuer of that name in it, else the
    first."""
    for chain in chains:
        if preferred in _common_names(chain[-1].issuer):
            return chain
    for chain in chains:
        if any(preferred in _common_names(one.issuer) for one in chain):
            return chain
    return chains[0]


def _kind(name: str) -> messages.IdentifierType:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return messages.IDENTIFIER_FQDN
    return messages.IDENTIFIER_IP


def _comparable(value: str) -> str:
    try:
        return str(ipaddress.ip_address(value))
    except ValueError:
        return value.lower()


def _common_names(name: crypto.Name) -> list[str]:
    return [str(one.value) for one in name.get_attributes_for_oid(NameOID.COMMON_NAME)]
