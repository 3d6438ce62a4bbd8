"""The conformance suite on a BIG-IP's simulator: a pair of units, SNI, the rights of `docs/f5-resource-group.json`."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from connectors.endpoints import procedure
from tests.connectors.endpoints.conformance import EndpointConformance
from tests.support.f5 import DisposableF5
from tests.support.installing import ThrowawayAuthority
from tests.support.products import Installation, Product


class TestConformance(EndpointConformance):
    is_process = False

    @classmethod
    def product_in(cls, folder: Path) -> AbstractContextManager[Product]:
        return DisposableF5(folder)

    @pytest.fixture(autouse=True)
    def _few_rounds(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """This device has one processor: there is nothing that ten rounds could find."""
        monkeypatch.setattr(procedure, "ROUNDS_IN_A_ROW", 2)
        monkeypatch.setattr(procedure, "ROUND_SECONDS", 0.0)

    async def test_putting_back_that_fails_is_told_and_tried_again(
        self, place: Installation, authority: ThrowawayAuthority, names: list[str]
    ) -> None:
        """What a device has been given it serves: only one that does not leaves something to put back."""
        place.product.break_next()
        try:
            await super().test_putting_back_that_fails_is_told_and_tried_again(place, authority, names)
        finally:
            place.product.mend()
