"""The conformance suite on files of a small TLS server, and on files that nothing is known to serve."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path

from tests.connectors.endpoints.conformance import EndpointConformance
from tests.support.dovecot import DovecotProduct
from tests.support.pem import PlainFiles, TlsServer
from tests.support.postfix import PostfixProduct
from tests.support.postgresql import PostgresqlProduct
from tests.support.products import Product


class TestPem(EndpointConformance):
    folder = "it's a product"

    @classmethod
    def product_in(cls, folder: Path) -> AbstractContextManager[Product]:
        return TlsServer(folder)


class TestFilesThatNothingServes(EndpointConformance):
    is_process = False

    @classmethod
    def product_in(cls, folder: Path) -> AbstractContextManager[Product]:
        return PlainFiles(folder)


class TestPostgresql(EndpointConformance):
    @classmethod
    def product_in(cls, folder: Path) -> AbstractContextManager[Product]:
        return PostgresqlProduct()


class TestPostfix(EndpointConformance):
    @classmethod
    def product_in(cls, folder: Path) -> AbstractContextManager[Product]:
        return PostfixProduct()


class TestDovecot(EndpointConformance):
    @classmethod
    def product_in(cls, folder: Path) -> AbstractContextManager[Product]:
        return DovecotProduct()
