"""ACME against a real Pebble that rejects nonces, reuses authorizations and takes its time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest_asyncio

from connectors.ca.acme import CONNECTOR, AcmeAuthority
from connectors.ca.contract import CollectRequest, IssuedCertificate, OrderRequest
from connectors.errors import Pending
from connectors.registry import Surroundings
from connectors.secrets import resolve
from model.keys import KeyAlgorithm
from model.rules.certificates import check_issued
from model.x509 import load_certificate, public_key_sha256
from tests.pki import make_csr, shared_key
from tests.support.pebble import Pebble

Open = Callable[..., AcmeAuthority]


@pytest_asyncio.fixture(loop_scope="session")
async def open_ca(tmp_path: Path) -> AsyncIterator[Open]:
    """Opens CAs, and closes them after the test. They share one home."""
    opened: list[AcmeAuthority] = []

    def open_one(pebble: Pebble, **settings: Any) -> AcmeAuthority:
        configured = CONNECTOR.configure({**pebble.settings, **settings})
        opened.append(CONNECTOR.open(configured, Surroundings(tmp_path, resolve)))
        return opened[-1]

    yield open_one
    for ca in opened:
        await ca.close()


def order(*names: str, reference: str = "request-1", **more: Any) -> OrderRequest:
    return OrderRequest(reference, make_csr(shared_key(KeyAlgorithm.EC_P256), names), names[0], names, **more)


async def collect(ca: AcmeAuthority, number: str, request: OrderRequest) -> IssuedCertificate:
    """As the workflow does: ask again as long as it is pending."""
    while True:
        try:
            return await ca.collect(CollectRequest(number, request))
        except Pending:
            await asyncio.sleep(0.1)


async def test_names_and_an_address_are_proved_and_issued_by_http01(shared_pebble: Pebble, open_ca: Open) -> None:
    ca = open_ca(shared_pebble)
    request = order("www.example.com", "b.example.com", "127.0.0.1")
    assert await ca.find(request) is None
    placed = await ca.submit(request)
    assert await ca.find(request) == placed
    issued = await collect(ca, placed.number, request)
    leaf = load_certificate(issued.certificate_pem)
    facts = check_issued(
        issued.certificate_pem,
        issued.chain_pem,
        public_key_sha256=public_key_sha256(leaf),
        names=list(request.names),
        anchors=shared_pebble.roots(),
        now=leaf.not_valid_before_utc,
    )
    assert facts.chain_pem == tuple(issued.chain_pem)
    assert await collect(open_ca(shared_pebble), placed.number, request) == issued
