"""Apache keeps the contract of endpoints."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path

from tests.connectors.endpoints.conformance import EndpointConformance
from tests.support.apache import DisposableApache
from tests.support.products import Product


class TestConformance(EndpointConformance):
    folder = "it's a product"

    @classmethod
    def product_in(cls, folder: Path) -> AbstractContextManager[Product]:
        return DisposableApache(folder)
