"""The gateways' page and the page of one of them, with a filled database and no engine."""

from __future__ import annotations

import pytest
from streamlit.testing.v1 import AppTest

from model.states import DelegationMode, Privilege, Role
from model.tables import Delegation, Gateway
from operations import gateway_changes, gateways, preferences
from operations.context import Context
from operations.identity import recognize
from tests.dashboard import fleet
from tests.dashboard.conftest import Visit, labels, texts
from tests.dashboard.scene import HOSTILE, Scene, administrator
from tests.dashboard.test_queries import counted

USUAL = ["id", "name", "delegation_mode", "status", "comments"]


def names(app: AppTest) -> list[str]:
    """The names in the table."""
    return list(app.dataframe[0].value["name"])


def select_gateways(app: AppTest, *ids: int) -> None:
    """As a click on rows leaves it behind."""
    app.session_state["gateways-chosen"] = ids
    app.run()


def acting(scene: Scene, login: str) -> Context:
    """The context of somebody of the scene."""

    async def nowhere() -> object:
        raise AssertionError

    actor = recognize(scene.database, scene.ids[login])
    return Context(scene.database, actor, "dashboard", nowhere)  # type: ignore[arg-type]


def row(scene: Scene, number: int) -> Gateway:
    with scene.database.read() as session:
        return session.get_one(Gateway, number)


def last_turn(app: AppTest, act: str) -> str:
    """What the keys of the open dialog's fields begin with."""
    return f"gateway-{act}-{app.session_state['gateway-turn']}"


# --- the list ---------------------------------------------------------------------------------------------------------


def test_the_console_columns_are_shown_and_the_engine_is_away(visit: Visit) -> None:
    app = visit("gateways")
    assert list(app.dataframe[0].value) == USUAL
    assert names(app) == ["frankfurt-1", "local"]
    assert "Which gateways are connected is not known now." in texts(app)
    assert [list(cell) for cell in app.dataframe[0].value["status"]] == [["Unknown"], ["Unknown"]]
    assert {"Add", "Refresh"} <= labels(app)


def test_it_is_searched_filtered_ordered_and_paged_by_the_address(visit: Visit, scene: Scene) -> None:
    with scene.database.write() as session:
        fleet.gateways(scene, session, 120)
    everything = visit("gateways")
    assert "1–50 of 122" in [caption.value for caption in everything.caption]
    assert names(visit("gateways", **{"g-q": "MÜNCHEN-0003"})) == ["münchen-0003"]
    backwards = visit("gateways", **{"g-sort": "ID", "g-descending": "true", "page": "3"})
    assert list(backwards.dataframe[0].value["id"]) == list(range(22, 0, -1))
    assert names(visit("gateways", **{"g-mode": "Customized", "g-organization": "Default"})) == ["frankfurt-1"]
    off = visit("gateways", **{"g-active": "Switched off", "g-version": "0.1.0", "g-q": "00"})
    assert all(int(name[-4:]) % 7 == 6 for name in names(off))
    assert "No gateway matches" in texts(visit("gateways", **{"g-q": "%"}))
    for nonsense in ({"g-sort": "x"}, {"g-group": "x"}, {"g-status": "x"}, {"page": "x"}, {"page": "99"}):
        assert len(names(visit("gateways", **nonsense))) in (22, 50)


SYSTEMS = {"Linux 5.15.0 aarch64": 1, "Linux 6.1.0 x86_64": 2, "Windows Server 2022": 2, "Not known yet": 3}


@pytest.mark.parametrize(
    ("group", "expected", "first"),
    [
        ("Delegation mode", {"General": 5, "Customized": 3}, {"g-mode": "Customized"}),
        ("Status", {"Unknown": 8}, {}),
        (
            "Organization",
            {"Every organization (General)": 5, "Acme Ltd": 2, "Default": 1},
            {"g-organization": "Acme Ltd"},
        ),
        ("Version", {"0.1.0": 2, "0.2.0": 3, "Not known yet": 3}, {"g-version": "Not known yet"}),
        ("Operating system", SYSTEMS, {"g-os": "Windows Server 2022"}),
    ],
)
def test_groups_count_what_their_filter_keeps(
    visit: Visit, scene: Scene, group: str, expected: dict[str, int], first: dict[str, str]
) -> None:
    with scene.database.write() as session:
        fleet.gateways(scene, session, 6)
    app = visit("gateways", **{"g-group": group})
    found = app.dataframe[0].value
    assert dict(zip(found["Group"], found["Gateways"], strict=True)) == expected
    chosen = next(iter(first.values()), "Unknown")
    assert len(names(visit("gateways", **first))) == expected[chosen]


def test_columns_are_each_administrators_own(visit: Visit, scene: Scene) -> None:
    app = visit("gateways")
    app.checkbox(key="gateways-column-version").check().run()
    app.button(key="gateways-column-version-up").click().run()
    app.checkbox(key="gateways-column-id").uncheck().run()
    wanted = ["name", "delegation_mode", "status", "version", "comments"]
    assert list(app.dataframe[0].value) == wanted
    assert list(visit("gateways").dataframe[0].value) == wanted
    assert list(visit("gateways", login="alice").dataframe[0].value) == USUAL
    app.button(key="gateways-columns-usual").click().run()
    assert list(app.dataframe[0].value) == USUAL
    # A column that this release doesn't know is left out.
    preferences.choose_columns(acting(scene, "bob"), "gateways", ["gone", "name"])
    assert list(visit("gateways").dataframe[0].value) == ["name"]


def test_an_administrator_of_one_organization_sees_nothing_of_another(visit: Visit, scene: Scene) -> None:
    app = visit("gateways", login="rita")
    assert names(app) == ["local"]
    assert "Default" not in app.selectbox(key="g-organization").options
    grouped = visit("gateways", login="rita", **{"g-group": "Organization"})
    assert list(grouped.dataframe[0].value["Group"]) == ["Every organization (General)"]
    other = visit("gateway", login="rita", id=str(scene.ids["frankfurt-1"]))
    assert "There is no such gateway" in texts(other)
    assert "frankfurt" not in texts(other)
    # Of the open requests she is told of those of her own organization.
    select_gateways(app, scene.ids["local"])
    assert "1 open request" in texts(app)


def test_who_may_not_is_offered_nothing(visit: Visit, scene: Scene) -> None:
    app = visit("gateways", login="walter")
    select_gateways(app, scene.ids["frankfurt-1"])
    assert not labels(app) & {"Add", "Edit", "Delegate", "Delete"}
    page = visit("gateway", login="walter", id=str(scene.ids["frankfurt-1"]))
    assert "You may look at this gateway and not change it." in texts(page)
    assert not labels(page) & {"Save", "Delegate", "Delete"}


def test_the_empty_states_say_what_to_do(visit: Visit, scene: Scene) -> None:
    for name in ("local", "frankfurt-1"):
        gateway_changes.delete(acting(scene, "bob"), name, force=True)
    assert "Add the first gateway" in labels(visit("gateways"))
    assert "No gateway that you may see" in texts(visit("gateways", login="walter"))


def test_a_selection_outlives_other_rows(visit: Visit, scene: Scene) -> None:
    app = visit("gateways")
    select_gateways(app, scene.ids["frankfurt-1"], scene.ids["local"])
    assert "2 gateways" in texts(app)
    assert "Edit" not in labels(app)
    with scene.database.write() as session:
        fleet.gateways(scene, session, 3)
    gateway_changes.delete(acting(scene, "alice"), scene.ids["local"], force=True)
    app.button(key="gateways-refresh").click().run()
    assert app.session_state["gateways-chosen"] == (scene.ids["frankfurt-1"],)
    assert {"Edit", "Delegate", "Delete"} <= labels(app)


@pytest.mark.parametrize("query", [{}, {"g-q": "-00"}, {"g-group": "Status"}, {"g-sort": "Organizations"}])
def test_a_run_asks_the_same_of_a_thousand_gateways(visit: Visit, scene: Scene, query: dict[str, str]) -> None:
    app = visit("gateways", **query)
    with counted() as few:
        app.run()
    with scene.database.write() as session:
        fleet.gateways(scene, session, 1000)
    with counted() as many:
        app.run()
    assert 0 < many.statements <= max(few.statements, 14)
    assert app.dataframe[0].value.shape[0] <= 50


# --- adding -----------------------------------------------------------------------------------------------------------


def test_a_gateway_is_added_and_its_token_shown_once(visit: Visit, scene: Scene) -> None:
    with scene.database.write() as session:
        fleet.manager(session)
    app = visit("gateways")
    app.button(key="gateway-add").click().run()
    key = last_turn(app, "add")
    app.text_input(key=f"{key}-name").input("a_b")
    app.text_area(key=f"{key}-comments").input("north\nwing")
    app.button(key="dialog-confirm").click().run()
    assert "1 to 128 letters" in texts(app)
    assert app.text_area(key=f"{key}-comments").value == "north\nwing"
    app.text_input(key=f"{key}-name").input("LOCAL")
    app.button(key="dialog-confirm").click().run()
    assert "There is a gateway 'LOCAL' already" in texts(app)
    app.text_input(key=f"{key}-name").input("Hamburg 1")
    app.radio(key=f"{key}-mode").set_value("Customized").run()
    app.button(key="dialog-confirm").click().run()
    assert "at least one organization" in texts(app)
    app.checkbox(key=f"{key}-tree-tick-Acme Ltd").check().run()
    app.button(key="dialog-confirm").click().run()
    told = texts(app)
    assert "Gateway Hamburg 1 was added." in told
    assert "cgj_" in told
    assert "certgate gateway join" in told
    app.button(key="dialog-done").click().run()
    app.run()
    assert "cgj_" not in texts(app)
    made = gateways.show(acting(scene, "bob"), "hamburg 1")
    assert (made.comments, made.organizations) == ("north\nwing", ["Acme Ltd"])


def test_an_administrator_of_an_organization_adds_for_it_only(visit: Visit, scene: Scene) -> None:
    app = visit("gateways", login="rita")
    app.button(key="gateway-add").click().run()
    key = last_turn(app, "add")
    assert app.radio(key=f"{key}-mode").value == "Customized"
    assert app.radio(key=f"{key}-mode").disabled
    assert {box.label for box in app.checkbox} >= {"Acme Ltd"}
    assert "Default" not in {box.label for box in app.checkbox}


# --- delegating -------------------------------------------------------------------------------------------------------


def test_the_tree_delegates_and_an_organization_stands_for_its_departments(visit: Visit, scene: Scene) -> None:
    number = scene.ids["frankfurt-1"]
    app = visit("gateways")
    select_gateways(app, number)
    app.button(key="gateway-delegate").click().run()
    key = f"{last_turn(app, 'delegate')}-tree"
    app.button(key=f"{key}-open-Default").click().run()
    assert app.checkbox(key=f"{key}-tick-Default/Web").disabled
    app.checkbox(key=f"{key}-tick-Default").uncheck().run()
    app.checkbox(key=f"{key}-tick-Default/Web").check().run()
    app.text_input(key=f"{key}-search").input("shop").run()
    app.checkbox(key=f"{key}-tick-Acme Ltd/Shop").check().run()
    app.button(key="dialog-confirm").click().run()
    assert "Gateway frankfurt-1 was delegated." in texts(app)
    assert gateways.show(acting(scene, "bob"), number).organizations == ["Acme Ltd/Shop", "Default/Web"]
    assert row(scene, number).delegation_mode == DelegationMode.CUSTOMIZED


def test_what_one_does_not_see_stays_delegated(visit: Visit, scene: Scene) -> None:
    number = scene.ids["frankfurt-1"]
    with scene.database.write() as session:
        session.add(Delegation(gateway_id=number, organization_id=scene.ids["Acme Ltd"]))
    app = visit("gateways", login="rita")
    select_gateways(app, number)
    assert "Default" not in texts(app)
    app.button(key="gateway-delegate").click().run()
    key = f"{last_turn(app, 'delegate')}-tree"
    app.checkbox(key=f"{key}-tick-Acme Ltd").uncheck().run()
    app.button(key="dialog-confirm").click().run()
    assert gateways.show(acting(scene, "bob"), number).organizations == ["Default"]


def test_several_are_delegated_at_once_and_those_that_fail_are_told(visit: Visit, scene: Scene) -> None:
    with scene.database.write() as session:
        first, second = fleet.gateways(scene, session, 2)
    app = visit("gateways")
    select_gateways(app, first, second)
    app.button(key="gateway-delegate").click().run()
    gateway_changes.edit(acting(scene, "alice"), second, comments="mine")
    app.checkbox(key=f"{last_turn(app, 'delegate')}-tree-tick-Default").check().run()
    app.button(key="dialog-confirm").click().run()
    assert "1 of 2 gateways were delegated." in texts(app)
    assert "alice said: Gateway hamburg-0001 was edited: comments 'mine'" in texts(app)


def test_five_hundred_organizations_are_searched(visit: Visit, scene: Scene) -> None:
    with scene.database.write() as session:
        fleet.organizations(scene, session, 500)
        fleet.hostile(scene, session)
    app = visit("gateways")
    app.button(key="gateway-add").click().run()
    key = last_turn(app, "add")
    app.radio(key=f"{key}-mode").set_value("Customized").run()
    assert len([box for box in app.checkbox if box.key and "-tree-tick-" in box.key]) == 60
    assert "443 more: search for them." in texts(app)
    app.text_input(key=f"{key}-tree-search").input("branch 444").run()
    ticks = [box.label for box in app.checkbox if box.key and "-tree-tick-" in box.key]
    assert ticks == ["Branch 444"]
    app.text_input(key=f"{key}-tree-search").input("autolink").run()
    (tick,) = [box for box in app.checkbox if box.key and "-tree-tick-" in box.key]
    assert tick.label == " Bold b b www autolink example"
    assert "**Bold** <b>&</b> www.autolink.example" in [text.value for text in app.text]


# --- deleting ---------------------------------------------------------------------------------------------------------


def test_a_gateway_is_deleted_by_its_name_and_with_work_by_force(visit: Visit, scene: Scene) -> None:
    number = scene.ids["local"]
    app = visit("gateways")
    select_gateways(app, number)
    app.button(key="gateway-delete").click().run()
    assert "On it hangs: 4 open requests, 1 active installation, 1 endpoint." in texts(app)
    key = last_turn(app, "delete")
    app.button(key="dialog-confirm").click().run()
    assert "That is not the name of this gateway" in texts(app)
    app.text_input(key=f"{key.replace('delete', 'delete-name')}").input("local")
    app.button(key="dialog-confirm").click().run()
    assert "delete it by force, or close them first" in texts(app)
    app.checkbox(key=f"{key.replace('delete', 'delete-force')}").check()
    app.button(key="dialog-confirm").click().run()
    app.run()
    assert "Gateway local was deleted." in texts(app)
    assert names(app) == ["frankfurt-1"]


def test_one_that_was_renamed_or_deleted_meanwhile_is_told(visit: Visit, scene: Scene) -> None:
    number = scene.ids["frankfurt-1"]
    app = visit("gateways")
    select_gateways(app, number)
    app.button(key="gateway-delete").click().run()
    gateway_changes.edit(acting(scene, "alice"), number, new_name="Frankfurt 2")
    name = last_turn(app, "delete").replace("delete", "delete-name")
    app.text_input(key=name).input("frankfurt-1")
    app.button(key="dialog-confirm").click().run()
    assert "Gateway frankfurt-1 is called Frankfurt 2 now, so it was not deleted" in texts(app)
    gateway_changes.delete(acting(scene, "alice"), number, force=True)
    app.button(key="dialog-confirm").click().run()
    app.run()
    assert "Gateway frankfurt-1 is gone: somebody else deleted it" in texts(app)
    assert names(app) == ["local"]


# --- editing ----------------------------------------------------------------------------------------------------------


def test_the_second_editor_is_told_of_the_first_and_loses_nothing(visit: Visit, scene: Scene) -> None:
    number = scene.ids["frankfurt-1"]
    app = visit("gateway", id=str(number))
    app.text_area(key="gateway-edit-comments").input("what bob typed")
    gateway_changes.edit(acting(scene, "alice"), number, new_name="Frankfurt 2")
    app.button(key="gateway-save").click().run()
    told = texts(app)
    assert "was changed while you were editing" in told
    assert "alice said: Gateway frankfurt-1 was edited: name Frankfurt 2" in told
    assert app.text_area(key="gateway-edit-comments").value == "what bob typed"
    app.text_input(key="gateway-edit-name").input("Frankfurt 3")
    app.button(key="gateway-save").click().run()
    assert "Gateway Frankfurt 3 was saved." in texts(app)
    assert (row(scene, number).name, row(scene, number).comments) == ("Frankfurt 3", "what bob typed")


def test_an_untouched_form_shows_what_somebody_else_saved(visit: Visit, scene: Scene) -> None:
    number = scene.ids["frankfurt-1"]
    app = visit("gateway", id=str(number))
    gateway_changes.edit(acting(scene, "alice"), number, comments="from alice", active=False)
    app.run()
    assert app.text_area(key="gateway-edit-comments").value == "from alice"
    app.button(key="gateway-save").click().run()
    assert "Nothing was changed." in texts(app)


def test_wrong_words_are_refused_and_kept(visit: Visit, scene: Scene) -> None:
    app = visit("gateway", id=str(scene.ids["local"]))
    app.text_input(key="gateway-edit-name").input("<b>local</b>")
    app.text_area(key="gateway-edit-comments").input(HOSTILE)
    app.button(key="gateway-save").click().run()
    assert "1 to 128 letters" in texts(app)
    assert app.text_area(key="gateway-edit-comments").value == HOSTILE
    app.text_input(key="gateway-edit-name").input("local")
    app.text_area(key="gateway-edit-comments").input("a\u202eb")
    app.button(key="gateway-save").click().run()
    assert "no control characters, such as U+202E" in texts(app)
    gateway_changes.delete(acting(scene, "alice"), scene.ids["local"], force=True)
    app.button(key="gateway-save").click().run()
    assert "There is no such gateway" in texts(app)


def test_privileges_without_custody_offer_nothing(visit: Visit, scene: Scene) -> None:
    """Rita manages what serves her alone; one that serves others as well is not hers to edit."""
    number = scene.ids["frankfurt-1"]
    with scene.database.write() as session:
        administrator(scene, session, "gert", "Gert", Role.RAO, [Privilege.MANAGE_GATEWAYS], "Default")
    app = visit("gateways", login="gert")
    select_gateways(app, number)
    assert "Edit" in labels(app)
    assert "Delegate" not in labels(app)
    with scene.database.write() as session:
        session.add(Delegation(gateway_id=number, organization_id=scene.ids["Acme Ltd"]))
    app.run()
    assert "Edit" not in labels(app)
