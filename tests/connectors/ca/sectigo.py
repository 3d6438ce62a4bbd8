"""What tests of the Sectigo connector share: the connector set up for a simulator, and patience."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

from connectors.ca.contract import CollectRequest, EarlierOrder, IssuedCertificate, Order, OrderRequest
from connectors.ca.sectigo import CONNECTOR, SectigoAuthority
from connectors.errors import Pending, Retryable
from connectors.registry import Surroundings
from connectors.secrets import resolve
from model import x509
from model.keys import KeyAlgorithm
from tests.pki import make_csr, new_key, shared_key
from tests.simulators.sectigo import Simulator

DAY = timedelta(days=1)
ORGANIZATION = 7001
NAME = "www.example.com"
T = TypeVar("T")


def secret_file(folder: Path, name: str, text: str) -> str:
    """A file that only its owner reads; gives the reference."""
    file = folder / name
    file.write_text(text)
    file.chmod(0o600)
    return f"file:{file}"


def settings(ca: Simulator, folder: Path, **more: Any) -> dict[str, Any]:
    """By password, for the simulator's first profile."""
    return {
        "address": ca.host_url,
        "login": ca.login,
        "customer_uri": ca.customer_uri,
        "password": secret_file(folder, "password", ca.password),
        "ca_file": str(ca.ca_file),
        "organization_id": ORGANIZATION,
        "profile": "301",
        **more,
    }


def opened(ca: Simulator, folder: Path, **more: Any) -> SectigoAuthority:
    """The connector, opened anew."""
    return CONNECTOR.open(CONNECTOR.configure(settings(ca, folder, **more)), Surroundings(folder, resolve))


def order(
    reference: str = "certgate-test-1",
    names: Sequence[str] = (NAME,),
    *,
    fresh: bool = False,
    earlier: EarlierOrder | None = None,
    **more: Any,
) -> OrderRequest:
    """An order; with `fresh` for a key that no other order has."""
    key = new_key() if fresh else shared_key(KeyAlgorithm.EC_P256)
    return OrderRequest(reference, make_csr(key, names), names[0], list(names), earlier=earlier, **more)


def collecting(placed: Order, request: OrderRequest) -> CollectRequest:
    return CollectRequest(placed.number, request)


def leaf_of(issued: IssuedCertificate) -> Any:
    return x509.load_certificate(issued.certificate_pem)


def after(placed: Order, issued: IssuedCertificate) -> EarlierOrder:
    """The order and its certificate as what is renewed or replaced."""
    return EarlierOrder(placed.number, x509.serial_hex(leaf_of(issued)))


async def patiently(step: Callable[[], Awaitable[T]]) -> T:
    """As the steps of a workflow are run: again and again, and what does not pass is raised."""
    for _ in range(60):
        try:
            return await step()
        except (Retryable, Pending):
            await asyncio.sleep(0)
    return await step()


async def bought(authority: SectigoAuthority, request: OrderRequest) -> tuple[Order, IssuedCertificate]:
    """An order and its certificate."""
    placed = await patiently(lambda: authority.submit(request))
    return placed, await patiently(lambda: authority.collect(collecting(placed, request)))
