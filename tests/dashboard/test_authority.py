"""The page of a certificate authority: its answer, its open orders, what is decided at its side, what it offers."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from connectors.ca.contract import OrderRequest
from connectors.ca.private import CONNECTOR, PrivateAuthority
from connectors.registry import Surroundings
from connectors.secrets import resolve
from model.keys import KeyAlgorithm
from model.states import CertificateStatus, InstallState
from model.tables import CertificateAuthority, CertificateRequest
from tests import pki
from tests.dashboard.conftest import Visit, labels, texts
from tests.dashboard.scene import Scene
from tests.dashboard.test_places import choose, confirm, rows
from tests.dashboard.test_settings_pages import told


@pytest.fixture
def manual(scene: Scene) -> PrivateAuthority:
    """The scene's CA, which waits for its owner, with two orders."""
    settings = {"manual": True}
    with scene.database.write() as session:
        row = session.get_one(CertificateAuthority, scene.ids["private"])
        row.settings = settings
        session.add(row)
    ca = CONNECTOR.open(CONNECTOR.configure(settings), Surroundings(scene.home, resolve))
    for number in (1, 2):
        name = f"order-{number}.example.com"
        csr = pki.make_csr(pki.shared_key(KeyAlgorithm.EC_P256), [name])
        asyncio.run(ca.submit(OrderRequest(f"reference-{number}", csr, name, [name])))
    return ca


def applied(scene: Scene, key: str = "waiting") -> int:
    number = scene.requests[key]
    with scene.database.write() as session:
        row = session.get_one(CertificateRequest, number)
        row.status, row.install_state = CertificateStatus.APPLIED, InstallState.CERT_PROCESSING
        row.order_number, row.ordered_at = "P-000001", scene.now - timedelta(hours=30)
        session.add(row)
    return number


def test_the_list_tells_open_orders_and_the_age_of_the_oldest(visit: Visit, scene: Scene) -> None:
    applied(scene)
    app = visit("authorities")
    assert rows(app, "Open orders") == [1]
    assert rows(app, "Oldest") == ["1 day ago"]
    choose(app, "authorities", scene.ids["private"])
    assert {"Open", "Check", "Edit", "Remove"} <= labels(app)


def test_open_orders_stand_with_number_and_age(visit: Visit, scene: Scene) -> None:
    number = applied(scene)
    app = visit("authority", id=str(scene.ids["private"]))
    assert rows(app, "Order") == ["P-000001"]
    assert rows(app, "Age") == ["1 day ago"]
    app = choose(app, "open-orders", number)
    assert "Order P-000001: this number is what the CA's support asks for" in told(app)


def test_without_open_orders_the_page_says_so(visit: Visit, scene: Scene) -> None:
    assert "No open orders" in texts(visit("authority", id=str(scene.ids["private"])))


def test_a_check_tells_what_the_ca_says_of_itself(visit: Visit, scene: Scene) -> None:
    app = visit("authority", id=str(scene.ids["private"]))
    app.button(key="check").click().run()
    assert "can issue until" in told(app)
    assert "server, short, year" in told(app)
    assert "finds an order again" in told(app)


def test_an_order_is_released_and_another_rejected(visit: Visit, scene: Scene, manual: PrivateAuthority) -> None:
    app = visit("authority", id=str(scene.ids["private"]))
    app.session_state["ca-tabs"] = "Awaiting a decision at the CA"
    app.run()
    assert rows(app, "Order") == ["P-000001", "P-000002"]
    app = choose(app, "pending-orders", 0)
    app.button(key="offer-order-release").click().run()
    assert "P-000001 at private" in told(app)
    confirm(app)
    assert "Order P-000001 was released." in told(app)
    app = choose(app, "pending-orders", 0)
    app.button(key="offer-order-reject").click().run()
    confirm(app)
    assert "Say why: the requester reads it." in told(app)
    app.text_input(key="ca-reason").input("not ours")
    confirm(app)
    states = {one.number: (str(one.state), one.reason) for one in asyncio.run(manual.orders())}
    assert states["P-000002"] == ("rejected", "not ours")


def test_what_it_offers_is_told(visit: Visit, scene: Scene) -> None:
    app = visit("authority", id=str(scene.ids["private"]))
    app.session_state["ca-tabs"] = "What it offers"
    app.run()
    assert rows(app, "Name") == ["server", "short", "year"]
    assert rows(app, "Validity (days)") == ["47", "6", "398"]


def test_who_is_no_mrao_sees_his_orders_and_nothing_else(visit: Visit, scene: Scene, manual: PrivateAuthority) -> None:
    applied(scene)
    app = visit("authority", login="rita", id=str(scene.ids["private"]))
    assert not app.exception
    assert not {"Check", "Edit", "Remove", "Release"} & labels(app)
    assert "Manual" not in texts(app)


@pytest.mark.parametrize("query", [{}, {"id": "77"}, {"id": "x"}])
def test_an_address_that_names_no_ca_is_told(visit: Visit, query: dict[str, str]) -> None:
    app = visit("authority", **query)
    assert "names no certificate authority" in told(app) or "There is no CA" in told(app)
