"""A CA that speaks of its certificates: renewal information, standing, renewals and reissues within an order."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest

from connectors import registry
from connectors.ca.contract import (
    HeldCertificate,
    Order,
    OrderRequest,
    RenewalInformation,
    RevokeRequest,
    Standing,
)
from connectors.errors import ConnectorError, Retryable
from connectors.registry import ConnectorType
from tests.support.rogue import RogueAuthority, RogueSettings


class SpeakingAuthority(RogueAuthority):
    """What it says is set by the test, by serial number; what it was asked is counted."""

    orders: dict[str, OrderRequest] = {}  # noqa: RUF012  (as its base: the CA outlives its connections)
    windows: dict[str, RenewalInformation] = {}  # noqa: RUF012
    standings: dict[str, Standing] = {}  # noqa: RUF012
    ways: list[str] = []  # noqa: RUF012
    revoked: list[RevokeRequest] = []  # noqa: RUF012
    trouble: ConnectorError | None = None
    late = 0
    asked = 0

    @classmethod
    def forget(cls) -> None:
        """As new."""
        cls.orders, cls.windows, cls.standings, cls.ways = {}, {}, {}, []
        cls.revoked, cls.trouble, cls.late, cls.asked = [], None, 0, 0

    async def renewal_information(self, certificate: HeldCertificate) -> RenewalInformation | None:
        """As the test has it."""
        return self.windows.get(certificate.serial_number)

    async def standing(self, certificate: HeldCertificate) -> Standing | None:
        """Good unless the test says otherwise."""
        type(self).asked += 1
        if self.trouble is not None:
            raise self.trouble
        return self.standings.get(certificate.serial_number, Standing(False, "CA"))

    async def revoke(self, request: RevokeRequest) -> None:
        """Done, but for the first `late` times its answer is lost."""
        self.revoked.append(request)
        if len(self.revoked) <= self.late:
            raise Retryable("The speaking CA did not answer in time.", timedelta(milliseconds=50))

    async def renew(self, request: OrderRequest) -> Order:
        """A new order that names the earlier one."""
        assert request.earlier is not None
        self.ways.append(f"renew {request.earlier.number}")
        return await self.submit(request)

    async def replace(self, request: OrderRequest) -> Order:
        """The same, with the reason."""
        assert request.earlier is not None
        self.ways.append(f"replace {request.earlier.number}: {request.reason}")
        return await self.submit(request)


def install_speaking(
    monkeypatch: pytest.MonkeyPatch, authority: type[SpeakingAuthority] = SpeakingAuthority, name: str = "speaking"
) -> None:
    """Register it beside the real connectors for one test, as new."""
    SpeakingAuthority.forget()
    real = registry.installed
    speaking: ConnectorType[Any, Any] = ConnectorType(name, "Speaking CA", RogueSettings, authority)

    def with_speaking(kind: registry.Kind) -> Mapping[str, ConnectorType[Any, Any]]:
        return {**real(kind), **({name: speaking} if kind == "cas" else {})}

    monkeypatch.setattr(registry, "installed", with_speaking)
