"""Keystore files keep the contract of endpoints, with and without something that serves them."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path

from tests.connectors.endpoints.conformance import EndpointConformance
from tests.support.keystore_files import KeystoreFile, ServedKeystore
from tests.support.products import Product


class TestServed(EndpointConformance):
    """PKCS#12, taken apart by OpenSSL for a TLS server."""

    folder = "it's a product"

    @classmethod
    def product_in(cls, folder: Path) -> AbstractContextManager[Product]:
        return ServedKeystore(folder)


class TestJks(EndpointConformance):
    """JKS whose keys have a passphrase of their own."""

    is_process = False

    @classmethod
    def product_in(cls, folder: Path) -> AbstractContextManager[Product]:
        return KeystoreFile(folder, "jks")
