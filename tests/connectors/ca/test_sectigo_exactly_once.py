"""Every order at Sectigo once: new ones, renewals and replacements, while processes are killed, connections are cut at
any byte, and the CA itself is in all the trouble that passes by itself."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from model import x509
from model.keys import KeyAlgorithm
from model.messages import AuthorityAccess, Collected, Earlier, SubmitOrder
from model.states import OrderWay
from tests.connectors.ca.exactly_once import ENOUGH, Bought, CuttingProxy, buy, many, orders
from tests.pki import make_csr, shared_key
from tests.simulators.sectigo import Faults, Simulator

# Of each kind: new orders, renewals, replacements.
MANY = many(15) // 3


@dataclass
class Shop:
    """A simulator in trouble, a proxy before it, and how the connector is set up for both."""

    simulator: Simulator
    proxy: CuttingProxy
    access: AuthorityAccess
    home: Path

    async def buy(self, wanted: list[SubmitOrder], seed: int) -> Bought:
        environment = {"SECTIGO_PASSWORD": self.simulator.password}
        return await buy(self.access, wanted, self.home, seed=seed, proxy=self.proxy, environment=environment)


@pytest.fixture(scope="module")
def simulator() -> Iterator[Simulator]:
    with Simulator(faults=Faults.usual(11)) as running:
        yield running


@pytest.fixture(scope="module")
async def shop(simulator: Simulator, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Shop]:
    home = tmp_path_factory.mktemp("sectigo")
    password = home / "password"
    password.write_text(simulator.password)
    password.chmod(0o600)
    async with CuttingProxy(int(simulator.host_url.rpartition(":")[2])) as proxy:
        settings = {
            "address": f"https://127.0.0.1:{proxy.port}",
            "login": simulator.login,
            "customer_uri": simulator.customer_uri,
            "password": f"file:{password}",
            "ca_file": str(simulator.ca_file),
            "organization_id": 7001,
            "profile": "301",
        }
        yield Shop(simulator, proxy, AuthorityAccess("ca", "sectigo", settings, "manager", False), home)


def again(shop: Shop, bought: Bought, way: OrderWay, first: int) -> list[SubmitOrder]:
    """For each order that was bought one that renews or replaces it, with another key."""
    made = []
    key = shared_key(KeyAlgorithm.EC_P384)
    for offset, (reference, number) in enumerate(bought.numbers.items()):
        leaf = x509.load_certificate(bought.certificates[reference].certificate_pem)
        [name] = x509.subject_names(leaf)
        made.append(
            SubmitOrder(
                authority=shop.access,
                reference=f"certgate-once-{first + offset}",
                csr_pem=make_csr(key, [name]),
                common_name=name,
                names=[name],
                profile=None,
                validity_seconds=None,
                custom_fields={},
                way=way,
                earlier=Earlier(number, x509.serial_hex(leaf)),
                reason="The drill.",
            )
        )
    return made


def serials(certificates: dict[str, Collected]) -> set[str]:
    return {x509.serial_hex(x509.load_certificate(one.certificate_pem)) for one in certificates.values()}


async def test_every_order_renewal_and_replacement_is_placed_once(shop: Shop) -> None:
    ca = shop.simulator
    new = await shop.buy(orders(shop.access, MANY), 1)
    assert len(ca.orders) == MANY == len(ca.certificates)
    assert sorted(new.numbers.values()) == sorted(str(one.id) for one in ca.orders)

    renewed = await shop.buy(again(shop, new, OrderWay.RENEW, 1001), 2)
    renewals = [one for one in ca.orders if one.kind == "renew"]
    assert len(ca.orders) == 2 * MANY == len(ca.certificates)
    assert sorted(renewed.numbers.values()) == sorted(str(one.id) for one in renewals)
    assert sorted(one.earlier for one in renewals if one.earlier) == sorted(int(one) for one in new.numbers.values())

    replaced = await shop.buy(again(shop, renewed, OrderWay.REPLACE, 2001), 3)
    assert len(ca.orders) == 2 * MANY
    assert sorted(replaced.numbers.values()) == sorted(renewed.numbers.values())
    assert [one.reissues for one in ca.orders if one.kind == "renew"] == [1] * MANY
    assert len(ca.certificates) == 3 * MANY

    # None came twice, and none of them is another's.
    came = [serials(one.certificates) for one in (new, renewed, replaced)]
    issued = {x509.serial_hex(x509.load_certificate(one)) for one in ca.certificates}
    assert set.union(*came) == issued
    assert sum(len(one) for one in came) == len(issued)
    for bought in (new, renewed, replaced):
        assert bought.kills > MANY / 4
        assert bought.cuts > MANY / 10 or 3 * MANY < ENOUGH
    assert new.found + renewed.found + replaced.found > 0 or 3 * MANY < ENOUGH
