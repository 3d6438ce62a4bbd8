"""IIS keeps the contract of endpoints, with Server Name Indication and without, on the simulated Windows server."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path

from tests.connectors.endpoints.conformance import EndpointConformance
from tests.support.iis import SimulatedIis
from tests.support.products import Product


class TestConformance(EndpointConformance):
    folder = "it's a product"

    @classmethod
    def product_in(cls, folder: Path) -> AbstractContextManager[Product]:
        return SimulatedIis(folder, sni=False)
