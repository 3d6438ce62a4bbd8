"""The questions to the DNS that dns-01 needs: where a record really belongs, in which zone, and who shows it already.

Aliases and zones are asked of the resolvers, records of the authoritative servers themselves: what a resolver remembers
says nothing about what a CA will see.
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
import re
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import dns.asyncquery
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.resolver
from pydantic import AfterValidator

from connectors.errors import Permanent, Retryable

PATIENCE = 10.0
LONGEST_ALIAS_CHAIN = 10
DNS_PORT = 53
_HOST = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)(\.(?!-)[A-Za-z0-9_-]{1,63}(?<!-))*\.?")


def _split(given: str) -> tuple[str, int]:
    bracketed = re.fullmatch(r"\[([0-9A-Fa-f:.]+)\](?::([0-9]{1,5}))?", given)
    if bracketed:
        host, port = bracketed.groups()
        return str(ipaddress.IPv6Address(host)), int(port or DNS_PORT)
    if given.count(":") > 1:
        return str(ipaddress.IPv6Address(given)), DNS_PORT
    host, _, port = given.partition(":")
    if not _HOST.fullmatch(host) or len(host) > 253 or (port and not re.fullmatch(r"[0-9]{1,5}", port)):
        raise ValueError
    return host, int(port or DNS_PORT)


def _server(given: str) -> str:
    try:
        _, port = _split(given)
    except ValueError:
        port = 0
    if not 0 < port < 65536:
        raise ValueError(
            "must be a DNS server: a name or an address, with a port if that is not 53 "
            "(ns1.example.com, 192.0.2.1:5353, [2001:db8::1]:53)"
        )
    return given


ServerAddress = Annotated[str, AfterValidator(_server)]
"""The field type for a DNS server in settings: host, or host and port."""


@dataclass(frozen=True)
class Server:
    """A DNS server: what it was called, and the addresses under which it is asked, in turn."""

    name: str
    addresses: Sequence[str]
    port: int = DNS_PORT

    def __str__(self) -> str:
        # A zone's own server on its usual port is known by its name alone.
        return self.name if self.port == DNS_PORT else f"{self.name} port {self.port}"


@dataclass(frozen=True)
class Zone:
    """A zone, and the name of the primary server in its SOA (RFC 1035 section 3.3.13)."""

    name: dns.name.Name
    primary: dns.name.Name

    def __str__(self) -> str:
        return shown(self.name)


class NoAnswer(Exception):
    """A server gave no usable answer; the text is why, for the middle of a sentence."""


def shown(name: dns.name.Name) -> str:
    """A name as people write it, without the dot of the root."""
    return name.to_text(omit_final_dot=True)


async def ask(
    server: Server, question: dns.message.Message, patience: float, *, tcp: bool = False
) -> dns.message.Message:
    """One question (or update) to one server, at the first of its addresses that answers within `patience` seconds.

    Over UDP an answer that is cut is fetched anew over TCP. Raises `NoAnswer`, and the errors of `dns.tsig`.
    """
    why = "has no address"
    for address in server.addresses:
        try:
            if tcp:
                return await dns.asyncquery.tcp(question, address, patience, server.port)
            answer, _ = await dns.asyncquery.udp_with_fallback(question, address, patience, server.port)
            return answer
        except dns.exception.Timeout:
            why = f"does not answer within {patience:g} s"
        except (OSError, EOFError) as error:
            # The loop's own text repeats the address; the system's says what is wrong.
            number = getattr(error, "errno", None)
            why = f"can't be reached ({os.strerror(number)})" if number else "cuts the connection"
        except (dns.exception.FormError, dns.message.TrailingJunk, dns.query.BadResponse) as error:
            # Also an answer that lacks the signature of a key.
            why = f"gives no valid answer ({str(error).rstrip('.')})"
    raise NoAnswer(why)


class Lookup:
    """Asks `resolvers`; none: those of the system (``/etc/resolv.conf``). No answer is waited for longer than
    `patience` seconds."""

    def __init__(self, resolvers: Sequence[str] = (), patience: float = PATIENCE) -> None:
        self._given = tuple(resolvers)
        self.patience = patience

    async def canonical(self, name: dns.name.Name) -> dns.name.Name:
        """Where the aliases (CNAME) of `name` end: `name` itself where it is none.

        Raises `Permanent` where they go in a circle or on for too long, `Retryable` where no resolver answers.
        """
        passed = [name]
        while True:
            answer = await self._resolve(passed[-1], dns.rdatatype.CNAME)
            found = answer.get_rrset(answer.answer, passed[-1], dns.rdataclass.IN, dns.rdatatype.CNAME)
            if not found:
                return passed[-1]
            target: dns.name.Name = found[0].target
            if target in passed:
                raise Permanent(
                    f"The aliases (CNAME) of {shown(name)} go in a circle by {shown(target)}: correct them in the DNS."
                )
            if len(passed) > LONGEST_ALIAS_CHAIN:
                raise Permanent(
                    f"The aliases (CNAME) of {shown(name)} have no end after {LONGEST_ALIAS_CHAIN}: shorten them."
                )
            passed.append(target)

    async def zone(self, name: dns.name.Name) -> Zone:
        """The zone that `name` belongs to: the nearest name at or above it that has an SOA. Raises as `canonical`."""
        above = name
        while above != dns.name.root:
            answer = await self._resolve(above, dns.rdatatype.SOA)
            # The name above may be an alias itself: only an SOA of its own counts.
            found = answer.get_rrset(answer.answer, above, dns.rdataclass.IN, dns.rdatatype.SOA)
            if found:
                return Zone(above, found[0].mname)
            above = above.parent()
        raise Permanent(f"The DNS has no zone for {shown(name)}: look whether its domain exists and is delegated.")

    async def authorities(self, zone: Zone) -> list[Server]:
        """All servers that the zone's NS records name. Raises as `canonical`."""
        answer = await self._resolve(zone.name, dns.rdatatype.NS)
        found = answer.get_rrset(answer.answer, zone.name, dns.rdataclass.IN, dns.rdatatype.NS)
        if not found:
            raise Permanent(f"The zone {zone} names no servers (NS): correct it, or set which servers to look at.")
        hosts = sorted(record.target for record in found)
        return list(await asyncio.gather(*(self._addresses(host) for host in hosts)))

    async def primary(self, zone: Zone) -> Server:
        """The server that takes the zone's updates (RFC 2136 section 4.3). Raises as `canonical`."""
        return await self._addresses(zone.primary)

    async def server(self, given: str) -> Server:
        """A server of the settings, by the system's own resolution. Raises `Retryable`."""
        host, port = _split(given)
        try:
            found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            raise Retryable(f"The name of the DNS server {host} can't be resolved: is it right?") from None
        return Server(host, tuple(dict.fromkeys(str(entry[4][0]) for entry in found)), port)

    async def texts(self, server: Server, name: dns.name.Name) -> frozenset[str]:
        """The values of TXT records that `server` has at `name`. Raises `NoAnswer`."""
        answer = await ask(server, dns.message.make_query(name, dns.rdatatype.TXT), self.patience)
        if answer.rcode() not in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN):
            raise NoAnswer(f"answers with {dns.rcode.to_text(answer.rcode())}")
        found = answer.get_rrset(answer.answer, name, dns.rdataclass.IN, dns.rdatatype.TXT)
        return frozenset(b"".join(record.strings).decode("ascii", "replace") for record in found or ())

    async def _addresses(self, host: dns.name.Name) -> Server:
        addresses: list[str] = []
        for kind in (dns.rdatatype.A, dns.rdatatype.AAAA):
            try:
                answer = await self._resolve(host, kind)
            except Retryable:
                # One kind of address is enough.
                if not addresses:
                    raise
                continue
            addresses += [record.address for rrset in answer.answer if rrset.rdtype == kind for record in rrset]
        return Server(shown(host), tuple(addresses), DNS_PORT)

    async def _resolve(self, name: dns.name.Name, kind: dns.rdatatype.RdataType) -> dns.message.Message:
        """The answer of the first resolver that has one; that a name does not exist is an answer."""
        question = dns.message.make_query(name, kind)
        told: list[str] = []
        refused = True
        for resolver in await self._resolvers():
            try:
                answer = await ask(resolver, question, self.patience)
            except NoAnswer as error:
                told.append(f"{resolver} {error}")
                refused = False
                continue
            if answer.rcode() in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN):
                return answer
            told.append(f"{resolver} answers with {dns.rcode.to_text(answer.rcode())}")
            refused = refused and answer.rcode() == dns.rcode.REFUSED
        message = f"No DNS resolver tells of {shown(name)}: {'; '.join(told)}."
        raise Permanent(message) if refused else Retryable(message)

    async def _resolvers(self) -> list[Server]:
        if self._given:
            return [await self.server(one) for one in self._given]
        try:
            configured = dns.resolver.Resolver()
        except dns.resolver.NoResolverConfiguration:
            raise Permanent("This machine has no DNS resolver in /etc/resolv.conf: set resolvers.") from None
        return [Server(str(one), (str(one),), configured.port) for one in configured.nameservers]
