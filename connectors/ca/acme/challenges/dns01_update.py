"""Changing a zone by dynamic update (RFC 2136), signed with a shared key (TSIG, RFC 8945).

Records are added to and taken from a name one by one, by their value: what stands beside them there (the wildcard's
value, another order's, a stranger's) is never touched, and doing it twice changes nothing.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

import dns.exception
import dns.message
import dns.name
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.tsig
import dns.update

from connectors.ca.acme.challenges.dns01_lookup import Lookup, NoAnswer, Zone, ask
from connectors.ca.acme.challenges.dns01_record import Record
from connectors.errors import ConnectorError, Permanent, Retryable


class TsigAlgorithm(StrEnum):
    """Algorithms of RFC 8945 section 6 that are fit for use; HMAC-MD5 and HMAC-SHA1 are not."""

    SHA256 = "hmac-sha256"
    SHA384 = "hmac-sha384"
    SHA512 = "hmac-sha512"


def is_key_name(name: str) -> bool:
    """Whether this can be the name of a key: it has the form of a DNS name (RFC 8945 section 4.2)."""
    try:
        return name.isascii() and dns.name.from_text(name) != dns.name.root
    except dns.exception.DNSException:
        return False


@dataclass(frozen=True)
class TsigKey:
    """A shared key: its name and algorithm as the server has them, and the reference of its secret (Base64)."""

    name: str
    secret: str
    algorithm: TsigAlgorithm = TsigAlgorithm.SHA256


class UpdatePublisher:
    """`dns01.Publisher` by dynamic update, over TCP. `secret` resolves the reference of the key; without a `key`
    updates are unsigned. `server` None: the primary that the zone's SOA names. `ttl` in seconds."""

    def __init__(
        self,
        lookup: Lookup,
        secret: Callable[[str], bytes],
        *,
        server: str | None = None,
        key: TsigKey | None = None,
        ttl: int = 60,
    ) -> None:
        self._lookup, self._secret = lookup, secret
        self._server, self._key, self._ttl = server, key, ttl

    async def publish(self, record: Record) -> None:
        """Add the record; one that is there is success."""
        update, zone = await self._update(record)
        update.add(record.owner, self._ttl, _data(record))
        await self._send(update, zone)

    async def withdraw(self, record: Record) -> None:
        """Take away this value only; one that is gone is success."""
        update, zone = await self._update(record)
        update.delete(record.owner, _data(record))
        await self._send(update, zone)

    async def _update(self, record: Record) -> tuple[dns.update.UpdateMessage, Zone]:
        zone = await self._lookup.zone(record.owner)
        return dns.update.UpdateMessage(zone.name, keyring=self._keyring()), zone

    def _keyring(self) -> dns.tsig.Key | None:
        if self._key is None:
            return None
        try:
            secret = base64.b64decode(b"".join(self._secret(self._key.secret).split()), validate=True)
        except binascii.Error:
            raise Permanent(
                f"The credential {self._key.secret} is no TSIG secret: it must be Base64, as tsig-keygen prints it."
            ) from None
        return dns.tsig.Key(self._key.name, secret, self._key.algorithm.value)

    async def _send(self, update: dns.update.UpdateMessage, zone: Zone) -> None:
        server = await (self._lookup.server(self._server) if self._server else self._lookup.primary(zone))
        where = f"The DNS server {server}"
        try:
            answer = await ask(server, update, self._lookup.patience, tcp=True)
        except NoAnswer as error:
            raise Retryable(f"{where} {error}: zone {zone} could not be updated.") from None
        except dns.exception.DNSException as error:
            raise self._key_trouble(where, error) from None
        if answer.rcode() != dns.rcode.NOERROR:
            raise self._refusal(where, zone, answer.rcode())

    @property
    def _signature(self) -> str:
        return f"the TSIG key {self._key.name}" if self._key else "no key"

    def _key_trouble(self, where: str, error: dns.exception.DNSException) -> ConnectorError:
        key = self._signature
        match error:
            case dns.tsig.PeerBadKey():
                return Permanent(
                    f"{where} does not know {key} (BADKEY): compare its name and algorithm with the server's."
                )
            case dns.tsig.PeerBadSignature() | dns.tsig.PeerBadTruncation():
                return Permanent(f"{where} has another secret for {key} (BADSIG): give both the same.")
            case dns.tsig.PeerBadTime() | dns.tsig.BadTime():
                return Retryable(
                    f"{where} and this machine have clocks that differ too much for {key} (BADTIME): set them right."
                )
            case _:
                return Permanent(
                    f"{where} answered with what {key} does not verify ({type(error).__name__}): its secret differs, "
                    "or somebody else answered."
                )

    def _refusal(self, where: str, zone: Zone, code: dns.rcode.Rcode) -> ConnectorError:
        said = dns.rcode.to_text(code)
        match code:
            case dns.rcode.REFUSED:
                return Permanent(
                    f"{where} refuses to update zone {zone} ({said}): allow it there for "
                    f"{self._signature} "
                    "(allow-update, update-policy)."
                )
            case dns.rcode.NOTAUTH | dns.rcode.NXDOMAIN | dns.rcode.NOTZONE:
                return Permanent(f"{where} does not hold zone {zone} ({said}): set the server that is its primary.")
            case dns.rcode.NOTIMP | dns.rcode.FORMERR:
                return Permanent(f"{where} takes no dynamic updates ({said}): set the primary of zone {zone}.")
            case _:
                return Retryable(f"{where} could not update zone {zone} ({said}).")


def _data(record: Record) -> dns.rdata.Rdata:
    return dns.rdata.from_text(dns.rdataclass.IN, dns.rdatatype.TXT, f'"{record.value}"')
