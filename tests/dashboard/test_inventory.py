"""The pages of the inventory and of network scans: what they show, to whom, and what is done from there."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from connectors.endpoints.scan import Rules, network, ports
from model import seen, x509
from model.errors import Unavailable
from model.keys import KeyAlgorithm
from model.states import ScanState, SightingWay
from model.tables import EndpointBinding, Gateway, NetworkScan, SeenCertificate
from operations import inventory_manage, inventory_scans
from tests import pki
from tests.dashboard.conftest import Visit, labels, texts
from tests.dashboard.scene import HOSTILE, Scene
from tests.dashboard.test_places import choose, confirm, rows
from tests.dashboard.test_settings_pages import told


def sighting(scene: Scene, name: str, days: int, **spot: Any) -> int:
    """A certificate for `name` that ends in so many days, seen by the gateway of endpoint web."""
    begin, end = scene.now - timedelta(days=300), scene.now + timedelta(days=days)
    issuer = pki.make_ca(HOSTILE[:64], not_before=begin, not_after=end)
    leaf = pki.make_leaf(issuer, pki.shared_key(KeyAlgorithm.EC_P256), [name], not_before=begin, not_after=end)
    with scene.database.write() as session:
        gateway = scene.ids["frankfurt-1"] if "endpoint_id" not in spot else _gateway_of(scene, session)
        at = seen.Spot(gateway, **spot)
        seen.keep(session, {at: x509.fingerprint(leaf)}, [leaf.public_bytes(Encoding.PEM).decode()], scene.now)
        return seen.known(session, [x509.fingerprint(leaf)])[x509.fingerprint(leaf)]


def _gateway_of(scene: Scene, session: Any) -> int:
    from model.tables import Endpoint

    return int(session.get_one(Endpoint, scene.ids["web"]).gateway_id)


@pytest.fixture
def found(scene: Scene) -> dict[str, int]:
    """Three that were seen: at an endpoint, in the network, and one with hostile words."""
    served = {"way": SightingWay.ENDPOINT, "endpoint_id": scene.ids["web"], "binding": "legacy.example.com:443"}
    with scene.database.write() as session:
        session.add(
            EndpointBinding(
                endpoint_id=scene.ids["web"], binding="legacy.example.com:443", names=["legacy.example.com"]
            )
        )
    return {
        "served": sighting(scene, "legacy.example.com", 20, **served),
        "network": sighting(scene, "printer.example.com", 400, way=SightingWay.NETWORK, address="192.0.2.7", port=443),
    }


def test_the_overview_tells_what_nobody_renews(visit: Visit, found: dict[str, int]) -> None:
    shown = texts(visit("overview"))
    assert "1 certificate that certgate does not manage ends within 90 days." in shown
    assert "legacy.example.com" in shown
    assert "printer.example.com" not in shown


def test_without_anything_seen_the_page_says_where_it_comes_from(visit: Visit) -> None:
    app = visit("inventory")
    assert "Nothing was seen yet" in texts(app)


def test_what_was_seen_is_listed_the_first_to_end_first_and_filtered(visit: Visit, found: dict[str, int]) -> None:
    app = visit("inventory")
    assert rows(app, "Common name") == ["legacy.example.com", "printer.example.com"]
    assert rows(app, "Seen at") == ["web legacy.example.com:443", "192.0.2.7:443"]
    assert "2 unmanaged" in texts(app)
    app = visit("inventory", **{"i-within": "30 days"})
    assert rows(app, "Common name") == ["legacy.example.com"]
    app = visit("inventory", **{"i-q": "nothing like it"})
    assert "No certificate matches these filters" in texts(app)
    app = visit("inventory", **{"i-gone": "true"})
    assert "No certificate matches these filters" in texts(app)


def test_one_is_shown_whole_and_what_others_wrote_stays_text(visit: Visit, found: dict[str, int]) -> None:
    app = choose(visit("inventory"), "inventory", found["network"])
    shown = texts(app)
    assert "192.0.2.7:443" in shown
    assert "It is not seen at an endpoint" in shown
    assert all(HOSTILE[:36] not in str(element.value) for kind in (app.markdown, app.caption) for element in kind)


def test_managing_names_what_will_be_requested_and_says_what_became_of_it(
    visit: Visit, scene: Scene, found: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    async def manage(context: Any, which: Any, wish: Any) -> list[inventory_manage.Planned]:
        asked.append((tuple(which), wish))
        plan = inventory_manage.preview(context, which, wish)
        return [one if one.problem else replace(one, request_id=77) for one in plan]

    monkeypatch.setattr(inventory_manage, "manage", manage)
    app = visit("inventory")
    app.session_state["inventory-chosen"] = (found["served"], found["network"])
    app.run()
    assert "2 certificates" in texts(app)
    app.button(key="offer-inventory-manage").click().run()
    shown = texts(app)
    assert "web legacy.example.com:443" in shown
    assert "add its server as an endpoint" in told(app)
    app.selectbox(key="manage-whose").select("Default").run()
    assert "for Default, profile" in texts(app)
    assert "1 certificate is requested" in texts(app)
    confirm(app)
    ((which, wish),) = asked
    assert (which, wish.organization) == ((found["served"], found["network"]), "Default")
    assert "1 certificate was requested (request 77). For 1 nothing was requested" in told(app)


def test_one_is_ignored_with_a_reason_and_looked_at_again(visit: Visit, scene: Scene, found: dict[str, int]) -> None:
    app = choose(visit("inventory"), "inventory", found["network"])
    app.button(key="offer-inventory-ignore").click().run()
    confirm(app)
    assert "Say why it is to be ignored" in told(app)
    app.text_input(key="ignore-why").input("A printer's own")
    confirm(app)
    assert "printer.example.com is ignored." in told(app)
    with scene.database.read() as session:
        row = session.get_one(SeenCertificate, found["network"])
        assert (row.ignored_by, row.ignored_why) == ("bob", "A printer's own")
    app = choose(visit("inventory", **{"i-state": "Ignored"}), "inventory", found["network"])
    assert rows(app, "Common name") == ["printer.example.com"]
    app.button(key="offer-inventory-unignore").click().run()
    confirm(app)
    with scene.database.read() as session:
        assert session.get_one(SeenCertificate, found["network"]).ignored_by is None


def test_what_is_in_a_network_is_not_shown_to_those_whom_the_gateway_serves_beside_others(
    visit: Visit, found: dict[str, int]
) -> None:
    """The gateway of endpoint web serves everybody; Rita is of Acme Ltd alone."""
    app = visit("inventory", login="rita")
    assert rows(app, "Common name") == ["legacy.example.com"]
    assert "1 unmanaged" in texts(app)


def test_scans_are_listed_with_how_far_they_are(visit: Visit, scene: Scene) -> None:
    with scene.database.write() as session:
        session.add(
            NetworkScan(
                gateway_id=scene.ids["frankfurt-1"], networks=["192.0.2.0/24"], asked_by="bob", total=254,
                services=[{"port": 443, "starttls": None}, {"port": 25, "starttls": "smtp"}], position=254, found=3,
                state=ScanState.FAILED, message="It took longer than it may.", created_at=scene.now,
            )
        )  # fmt: skip
    app = visit("network-scans")
    assert rows(app, "Ports") == ["443, 25:smtp"]
    app = choose(app, "scans", 1)
    assert "It took longer than it may." in told(app)
    assert {"Again", "Remove", "New scan"} <= labels(app)
    assert "Cancel" not in labels(app)


def test_a_scan_is_begun_with_what_the_gateway_allows_in_sight(
    visit: Visit, scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[inventory_scans.NewScan] = []

    async def begin(context: Any, new: inventory_scans.NewScan) -> inventory_scans.ScanRow:
        asked.append(new)
        inventory_scans._checked(context, _row(scene), new)
        raise Unavailable("Temporal does not answer.")

    monkeypatch.setattr(inventory_scans, "begin", begin)
    app = visit("network-scans")
    app.button(key="add").click().run()
    app.selectbox(key="scan-gateway").select("frankfurt-1").run()
    assert "It is not known what gateway frankfurt-1 allows" in told(app)
    with scene.database.write() as session:
        row = session.get_one(Gateway, scene.ids["frankfurt-1"])
        row.discovery = Rules((network("192.0.2.0/24"),), ports([443, "8000-8010"])).told()
    app.run()
    assert "192.0.2.0/24" in texts(app)
    assert "443, 8000-8010" in texts(app)
    confirm(app)
    assert "Name at least one network" in told(app)
    app.text_area(key="scan-networks").input("192.0.2.0/25\n10.0.0.0/24")
    app.text_area(key="scan-ports").input("443, 8005")
    app.selectbox(key="scan-every").select("Every week")
    confirm(app)
    assert "do not allow the network 10.0.0.0/24" in told(app)
    assert asked[0].every_seconds == 7 * 86_400
    assert list(asked[0].ports) == ["443", "8005"]


def _row(scene: Scene) -> Gateway:
    with scene.database.read() as session:
        return session.get_one(Gateway, scene.ids["frankfurt-1"])
