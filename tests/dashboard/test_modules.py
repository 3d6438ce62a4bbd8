"""Sync Modules: what the page shows, to whom, what it lets be decided; and in a browser with a real engine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import expect
from sqlmodel import Session, select

from activities import modules_file
from model.states import InstallMode
from model.tables import Endpoint, Gateway, GatewaySync
from operations.lookup import identity
from tests.dashboard.browsing import Visitor
from tests.dashboard.conftest import Visit, labels, texts
from tests.dashboard.scene import HOSTILE, Scene
from tests.dashboard.test_live import Engine, address, chrome, engine, enter

__all__ = ["address", "chrome", "engine", "enter"]


def line(key: str, standing: str, manager: Any, gateway: Any, **fields: Any) -> dict[str, Any]:
    """A line of a difference, as a comparison keeps it."""
    deeds = {
        "conflict": ("changed", "changed"),
        "changed at the manager": ("changed", "unchanged"),
        "changed at the gateway": ("unchanged", "added"),
    }
    at_manager, at_gateway = deeds.get(standing, ("unchanged", "unchanged"))
    return {
        "key": key,
        "standing": standing,
        "at_manager": at_manager,
        "at_gateway": at_gateway,
        "manager": manager,
        "gateway": gateway,
        "takeover_problem": None,
        "writing_problem": None,
        "left": None,
        **fields,
    }


def compared(scene: Scene, *lines: dict[str, Any], gateway: str = "local", **fields: Any) -> int:
    """A gateway whose sides were compared."""
    with scene.database.write() as session:
        seen = {
            "manager_digest": "a",
            "gateway_digest": "b",
            "gateway_revision": 3,
            "manager_changes": 1,
            "gateway_changes": 2,
            "same": 4,
            "note": None,
            "connectors": [
                {
                    "kind": "endpoints",
                    "name": "f5",
                    "title": "F5",
                    "manager": None,
                    "gateway": "2.0",
                    "meaning": "The manager does not know F5.",
                }
            ],
            "at": scene.now.isoformat(),
        }
        given = {"state": "compared", "message": "2 things differ.", "revision": 3, "seen": seen, **fields}
        row = GatewaySync(gateway_id=scene.ids[gateway], difference=list(lines), updated_at=scene.now, **given)
        session.add(row)
    return scene.ids[gateway]


NGINX = {"type": "nginx", "settings": {"address": HOSTILE}}


def test_the_difference_is_shown_with_both_values_and_conflicts_are_decided(visit: Visit, scene: Scene) -> None:
    number = compared(
        scene,
        line("endpoint:web", "conflict", {"type": "nginx"}, NGINX),
        line("endpoint:" + HOSTILE, "changed at the gateway", None, {"type": "nginx"}),
    )
    app = visit("sync", gateway=str(number))
    table = app.dataframe[0].value
    assert list(table["Module"]) == ["Endpoint web", "Endpoint " + HOSTILE]
    assert HOSTILE in table["At the gateway"][0]
    assert table["What happened"][0] == "conflict: changed on both sides"
    assert "The manager does not know F5." in list(app.dataframe[1].value["What it means"])
    assert "revision 3" in texts(app)
    (choice,) = app.radio
    assert choice.value == "Leave it alone"
    app.button(key="sync-apply").click().run()
    shown = texts(app)
    assert f"add endpoint {HOSTILE}: type=nginx" in shown
    assert "endpoint:web: Both sides changed it" in shown
    app.button(key="sync-back").click().run()
    app.radio[0].set_value("The gateway's value").run()
    app.button(key="sync-apply").click().run()
    assert "change endpoint web: type=nginx" in texts(app)
    # There is no engine here: that is one sentence, and nothing is lost.
    app.button(key="sync-confirm").click().run()
    assert "Temporal" in texts(app)
    assert not app.exception


def test_one_direction_and_a_change_undone(visit: Visit, scene: Scene) -> None:
    number = compared(scene, line("property:comments", "changed at the manager", "new", "old"))
    app = visit("sync", gateway=str(number))
    app.segmented_control(key="sync-direction").set_value("From the gateway only").run()
    assert app.button(key="sync-apply").disabled
    app.toggle(key="sync-more").set_value(True).run()
    app.radio[0].set_value("The gateway's value").run()
    app.button(key="sync-apply").click().run()
    assert "change property comments: old" in texts(app)


def test_a_difference_that_was_replaced_is_not_applied(visit: Visit, scene: Scene) -> None:
    number = compared(scene, line("property:comments", "changed at the manager", "new", "old"))
    app = visit("sync", gateway=str(number))
    app.button(key="sync-apply").click()
    app.run()
    with scene.database.write() as session:
        row = session.exec(select(GatewaySync)).one()
        row.seen = {**row.seen, "gateway_digest": "another"}
        session.add(row)
    app.run()
    assert "no longer the one that you decided on" in texts(app)
    assert "Sync now" not in labels(app)


@pytest.mark.parametrize(
    ("login", "gateway", "offered"),
    [("bob", "local", {"Compare"}), ("walter", "frankfurt-1", set()), ("rita", "local", set())],
)
def test_only_who_manages_a_gateway_is_offered_a_sync(
    visit: Visit, scene: Scene, login: str, gateway: str, offered: set[str]
) -> None:
    app = visit("sync", login=login, gateway=str(scene.ids[gateway]))
    assert labels(app) & {"Compare", "Apply", "Cancel"} == offered


@pytest.mark.parametrize("query", [{"gateway": "99999"}, {"gateways": "1,99999"}])
def test_what_is_not_there_is_told(visit: Visit, scene: Scene, query: dict[str, str]) -> None:
    app = visit("sync", **query)
    assert "There is no" in texts(app)
    assert not app.exception


def test_another_organizations_gateway_is_not_there(visit: Visit, scene: Scene) -> None:
    compared(scene, line("endpoint:secret", "conflict", None, None), gateway="frankfurt-1")
    app = visit("sync", login="rita", gateway=str(scene.ids["frankfurt-1"]))
    assert "secret" not in texts(app)
    assert not app.dataframe


def test_many_are_listed_with_where_each_stands(visit: Visit, scene: Scene) -> None:
    compared(scene, line("endpoint:web", "conflict", None, NGINX), state="waiting", message="It does not answer.")
    app = visit("sync")
    table = app.dataframe[0].value
    assert list(table["Gateway"]) == ["frankfurt-1", "local"]
    assert list(table["Conflicts"]) == [0, 1]
    assert "1 of 2 gateways" in str(app.get("progress")[0].proto)
    app.button(key="syncs-apply").click().run()
    assert "frankfurt-1, local" in texts(app)
    app.button(key="syncs-confirm").click().run()
    assert "Temporal" in texts(app)


# --- in a browser -----------------------------------------------------------------------------------------------------


@pytest.fixture
def file(engine: Engine) -> Iterator[Any]:
    path = engine.world.gateway_surroundings.home / modules_file.FILE_NAME
    yield path
    path.unlink(missing_ok=True)


def test_compare_decide_and_apply_in_a_browser(enter: Callable[[], Visitor], engine: Engine, file: Any) -> None:
    world = engine.world
    file.write_text('[endpoints."by <b>hand</b>"]\ntype = "nginx"  # ours\n')
    alice = enter()
    alice.sign_in("alice", path=f"/sync?gateway={world.gateway_id}")
    alice.press("sync-compare")
    expect(alice.page.get_by_text("Difference", exact=True)).to_be_visible()
    alice.shot("sync-difference")
    alice.press("sync-apply")
    dialog = alice.page.get_by_role("dialog")
    expect(dialog).to_contain_text("add endpoint by <b>hand</b>: type=nginx")
    alice.shot("sync-confirm", full=False)
    alice.confirm("Sync now")
    expect(alice.page.get_by_text("There is no difference to show.")).to_be_visible()
    expect(alice.page.locator('[class*="st-key-notice-success"]')).to_contain_text("Revision 1")

    # Both sides change it, and the gateway's word counts.
    with world.database.write() as session:
        row = session.exec(select(Endpoint).where(Endpoint.name == "by <b>hand</b>")).one()
        row.install_mode = InstallMode.MANUAL
        session.add(row)
    file.write_text(file.read_text().replace('type = "nginx"', 'type = "nginx"\nsettings = {address = "10.0.0.1"}', 1))
    alice.press("sync-compare")
    expect(alice.page.get_by_text("Conflicts", exact=True)).to_be_visible()
    alice.page.get_by_text("The gateway's value").first.click()
    alice.shot("sync-conflict")
    alice.settled()
    alice.press("sync-apply")
    expect(dialog).to_contain_text("change endpoint by <b>hand</b>: type=nginx, address=10.0.0.1")
    alice.confirm("Sync now")
    expect(alice.page.get_by_text("There is no difference to show.")).to_be_visible()
    with Session(world.database.engine) as session:
        row = session.exec(select(Endpoint).where(Endpoint.name == "by <b>hand</b>")).one()
        assert (row.settings, row.install_mode) == ({"address": "10.0.0.1"}, InstallMode.AUTO)
    assert "# ours" in file.read_text()


def test_several_with_progress_and_one_that_is_away(enter: Callable[[], Visitor], engine: Engine, file: Any) -> None:
    world = engine.world
    with world.database.write() as session:
        row = Gateway(name="far away", name_key="far away", created_at=world.clock())
        session.add(row)
        session.flush()
        away = identity(row)
    bob = enter()
    bob.sign_in("bob", path=f"/sync?gateways={world.gateway_id},{away}")
    bob.press("syncs-apply")
    bob.confirm("Sync now")
    expect(bob.page.get_by_text("1 of 2 gateways are done with.")).to_be_visible()
    bob.shot("sync-many")
    bob.press("syncs-cancel")
    expect(bob.page.get_by_role("button", name="Cancel those under way")).to_have_count(0)
