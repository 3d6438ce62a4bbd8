"""Issuers that are missing in a chain, fetched on the process that reaches the CA: the manager, or a gateway."""

from __future__ import annotations

from temporalio import activity

from activities.failures import as_failures, heartbeating
from connectors import issuers
from model import x509
from model.errors import InvalidInput
from model.messages import FetchedIssuers, FetchIssuers


class Chains:
    """Follows the URLs inside certificates. What it brings completes chains and is trusted for nothing."""

    @activity.defn(name="chains.fetch")
    async def fetch(self, wanted: FetchIssuers) -> FetchedIssuers:
        """The issuers, and what came of each place that gave none; places that do not answer are no failure."""
        with as_failures():
            async with heartbeating():
                try:
                    addresses = issuers.reachable(wanted.networks)
                except InvalidInput as error:
                    return FetchedIssuers([], [error.message])
                ends = [x509.load_certificate(pem) for pem in wanted.certificates]
                found = await issuers.follow(ends, addresses)
                return FetchedIssuers([x509.to_pem(one) for one in found.certificates], found.notes, found.again)
