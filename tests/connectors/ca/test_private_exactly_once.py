"""The built-in CA, killed at any line: as many orders and certificates as were asked for."""

from __future__ import annotations

from pathlib import Path

from connectors.ca.private import CONNECTOR, OrderState
from connectors.registry import Surroundings
from connectors.secrets import resolve
from model import x509
from model.messages import AuthorityAccess
from tests.connectors.ca.exactly_once import ENOUGH, buy, many, orders

COUNT = many(18)


async def test_every_order_is_one_order_and_one_certificate(tmp_path: Path) -> None:
    access = AuthorityAccess("Built-in", "private", {"folder": str(tmp_path / "ca")}, "manager", True)
    bought = await buy(access, orders(access, COUNT), tmp_path, seed=20261124)
    assert bought.kills >= COUNT / 3
    assert bought.found >= 1 or COUNT < ENOUGH
    ca = CONNECTOR.open(CONNECTOR.configure(access.settings), Surroundings(tmp_path, resolve))
    kept = {record.accepted.reference: record for record in await ca.records()}
    assert {record.number for record in kept.values()} == set(bought.numbers.values())
    assert len(await ca.records()) == len(kept) == COUNT
    for reference, came in bought.certificates.items():
        leaf = x509.load_certificate(came.certificate_pem)
        assert kept[reference].state is OrderState.ISSUED
        assert kept[reference].serial_number == x509.serial_hex(leaf)
    ca.close()
