"""A real OpenBao whose answers are cut and whose customers are killed: as many certificates as orders."""

from __future__ import annotations

from pathlib import Path

from connectors.ca.vault.issued import colons
from model import x509
from model.messages import AuthorityAccess
from tests.connectors.ca.exactly_once import ENOUGH, CuttingProxy, buy, many, orders
from tests.support.openbao import OpenBao

COUNT = many(18)


async def test_every_order_is_one_certificate(openbao: OpenBao, tmp_path: Path) -> None:
    openbao.intermediate("pki_once")
    before = set(openbao.serials("pki_once"))
    secret = tmp_path / "secret-id"
    secret.write_text(openbao.secret_id())
    secret.chmod(0o600)
    async with CuttingProxy(openbao.plain_port) as proxy:
        settings = {
            "address": f"http://127.0.0.1:{proxy.port}",
            "role_id": openbao.role_id(),
            "secret_id": f"file:{secret}",
            "mount": "pki_once",
            "role": "server",
            "settle_seconds": 1,
        }
        access = AuthorityAccess("Vault", "vault", settings, "manager", True)
        bought = await buy(access, orders(access, COUNT), tmp_path, seed=20261124, proxy=proxy, longest_wait=1.0)
    assert bought.kills + bought.cuts >= 1.5 * COUNT
    assert bought.found >= 1 or COUNT < ENOUGH  # signed, and the answer lost
    issued = set(openbao.serials("pki_once")) - before
    assert issued == set(bought.numbers.values())
    assert len(issued) == COUNT
    for reference, came in bought.certificates.items():
        assert bought.numbers[reference] == colons(x509.serial_hex(x509.load_certificate(came.certificate_pem)))
