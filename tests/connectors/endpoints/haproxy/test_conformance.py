"""HAProxy keeps the contract of endpoints, whichever way it takes a certificate into use."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path

from connectors.errors import Retryable
from tests.connectors.endpoints.conformance import EndpointConformance
from tests.support.haproxy import DisposableHAProxy
from tests.support.products import Product


class TestReload(EndpointConformance):
    folder = "it's a product"
    failures = (RuntimeError,)

    @classmethod
    def product_in(cls, folder: Path) -> AbstractContextManager[Product]:
        return DisposableHAProxy(folder)


class TestRuntime(EndpointConformance):
    folder = "it's a product"
    failures = (Retryable,)

    @classmethod
    def product_in(cls, folder: Path) -> AbstractContextManager[Product]:
        return DisposableHAProxy(folder, update="runtime")
