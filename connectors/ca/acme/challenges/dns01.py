"""dns-01 (RFC 8555 section 8.4): the proof stands as a TXT record in the zone of the name, or where an alias leads.

`dns01_record` the record · `dns01_lookup` questions to the DNS · `dns01_update` publishing by dynamic update (RFC 2136)
· `dns01_hook` publishing by a program. A CA is asked to look only when every authoritative server shows the record:
what one of them answers without it, a resolver of the CA may remember.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Protocol

from connectors.ca.acme.challenges.contract import Challenge
from connectors.ca.acme.challenges.dns01_lookup import Lookup, NoAnswer, Server, shown
from connectors.ca.acme.challenges.dns01_record import Record, validation_name, validation_value

# A challenge is presented at every look at its order; a program behind a slow interface is not called each time.
REPEATED_SECONDS = 300.0


class Publisher(Protocol):
    """Puts TXT records into the DNS and takes them out again, one value at a time. Both may be called twice."""

    async def publish(self, record: Record) -> None:
        """Add the record beside what stands at its owner."""
        ...

    async def withdraw(self, record: Record) -> None:
        """Take away this one value; success also where it is gone."""
        ...


class Dns01:
    """`contract.Responder` for dns-01. `servers`, where given, are looked at instead of the zone's own (NS)."""

    def __init__(self, publisher: Publisher, lookup: Lookup, servers: Sequence[str] = ()) -> None:
        self._publisher, self._lookup, self._servers = publisher, lookup, tuple(servers)
        self._published: dict[Challenge, float] = {}

    async def present(self, challenge: Challenge) -> None:
        """Publish the record, unless this process did so within `REPEATED_SECONDS`."""
        now = time.monotonic()
        if now - self._published.get(challenge, -REPEATED_SECONDS) < REPEATED_SECONDS:
            return
        await self._publisher.publish(await self._record(challenge))
        self._published = {one: when for one, when in self._published.items() if now - when < REPEATED_SECONDS}
        self._published[challenge] = now

    async def settled(self, challenge: Challenge) -> str | None:
        """None once every authoritative server shows the record, else which do not, and what they say instead."""
        record = await self._record(challenge)
        servers = await self._authorities(record)
        told = [one for one in await asyncio.gather(*(self._look(server, record) for server in servers)) if one]
        if not told:
            return None
        count = f"{len(servers) - len(told)} of {len(servers)}"
        return f"The record at {shown(record.owner)} is shown by {count} DNS servers: {'; '.join(told)}."

    async def remove(self, challenge: Challenge) -> None:
        """Take the record away again."""
        self._published.pop(challenge, None)
        await self._publisher.withdraw(await self._record(challenge))

    async def _record(self, challenge: Challenge) -> Record:
        name = validation_name(challenge.name)
        owner = await self._lookup.canonical(name)
        return Record(challenge.name, name, owner, validation_value(challenge.key_authorization))

    async def _authorities(self, record: Record) -> list[Server]:
        if self._servers:
            return [await self._lookup.server(one) for one in self._servers]
        return await self._lookup.authorities(await self._lookup.zone(record.owner))

    async def _look(self, server: Server, record: Record) -> str:
        try:
            values = await self._lookup.texts(server, record.owner)
        except NoAnswer as error:
            return f"{server} {error}"
        if record.value in values:
            return ""
        return f"{server} shows other values" if values else f"{server} shows none"
