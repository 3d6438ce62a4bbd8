"""Overview and organizations: what they show, to whom, and what they refuse."""

from __future__ import annotations

from datetime import timedelta

import pytest
from streamlit.testing.v1 import AppTest

from model.states import ConnectionStatus, Privilege, Role
from model.tables import CertificateRequest, Gateway, Organization
from operations import gateways
from tests.dashboard.conftest import Visit, labels, texts
from tests.dashboard.scene import HOSTILE, Scene, administrator


def rows(app: AppTest, column: str = "Name") -> list[object]:
    """A column of the table."""
    return list(app.dataframe[0].value[column])


def choose(app: AppTest, table: str, number: int) -> AppTest:
    """Select a row by its id."""
    app.session_state[f"{table}-chosen"] = (number,)
    return app.run()


def confirm(app: AppTest) -> AppTest:
    """Press the dialog's main button."""
    app.button(key="dialog-confirm").click().run()
    assert not app.exception
    return app


def test_the_address_without_a_path_leads_to_the_overview(visit: Visit) -> None:
    app = visit("")
    assert "Overview" in [title.value for title in app.title]


def test_the_overview_tells_what_waits_and_what_fails(visit: Visit) -> None:
    shown = texts(visit("overview"))
    for expected in (
        "requested by alice for Acme Ltd, 5 minutes ago",
        "nginx did not serve the new certificate within 10 s",
        "No Temporal server runs for",
        "Requested a certificate for secret.acme.example.",
    ):
        assert expected in shown
    assert "First steps" not in shown


def test_the_overview_of_one_organization_tells_nothing_of_others(visit: Visit) -> None:
    shown = texts(visit("overview", login="rita"))
    assert "secret.acme.example" in shown
    for hidden in ("Default", "intranet", "api.example.com", "shop.example.com", "bob", "4711"):
        assert hidden not in shown


def test_gateways_are_counted_and_who_is_away_with_open_work_is_named(
    visit: Visit, scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def statuses(_: object) -> dict[int, ConnectionStatus]:
        return {
            scene.ids["local"]: ConnectionStatus.CONNECTED,
            scene.ids["frankfurt-1"]: ConnectionStatus.DISCONNECTED,
        }

    with scene.database.write() as session:
        row = session.get_one(Gateway, scene.ids["frankfurt-1"])
        row.last_activity = scene.now - timedelta(hours=3)
        session.add(row)
    monkeypatch.setattr(gateways, "statuses", statuses)
    app = visit("overview")
    shown = texts(app)
    assert "frankfurt-1" in shown
    assert "is away, 1 open request waits for it; last heard of 3 hours ago" in shown
    links = [link.proto.query_string for link in app.get("page_link") if "g-status" in link.proto.query_string]
    assert links == ["g-status=Connected", "g-status=Disconnected", "g-status=Pending"]


def test_who_may_not_read_the_audit_sees_no_changes(visit: Visit) -> None:
    assert "Recent changes" not in texts(visit("overview", login="walter"))


def test_an_empty_installation_says_what_to_do_first(visit: Visit, scene: Scene) -> None:
    with scene.database.write() as session:
        everything = list(Privilege)
        administrator(scene, session, "newcomer", "Newcomer", Role.RAO, everything, "Acme Ltd")
        session.delete(session.get_one(CertificateRequest, scene.requests["acme"]))
    shown = texts(visit("overview", login="newcomer"))
    for expected in ("First steps", "Nothing awaits your decision", "No request is open", "No certificate has been"):
        assert expected in shown


def test_organizations_show_what_hangs_on_them(visit: Visit) -> None:
    app = visit("organizations")
    assert rows(app) == ["Acme Ltd", "Default"]
    assert rows(app, "Open requests") == [1, 4]
    assert rows(app, "Administrators") == [1, 1]
    assert rows(visit("organizations", **{"o-q": "SHOP"})) == ["Acme Ltd"]
    assert "No organization matches" in texts(visit("organizations", **{"o-q": "%"}))


def test_an_administrator_of_one_sees_only_that_and_changes_nothing(visit: Visit, scene: Scene) -> None:
    app = visit("organizations", login="rita")
    assert rows(app) == ["Acme Ltd"]
    assert "Administrators" not in app.dataframe[0].value
    assert "Add organization" not in labels(app)
    choose(app, "organizations", scene.ids["Acme Ltd"])
    assert labels(app) == {"Sign out", "Refresh", "Open"}
    assert labels(visit("organization", login="rita", id=str(scene.ids["Acme Ltd"]))) == {"Sign out"}
    other = visit("organization", login="rita", id=str(scene.ids["Default"]))
    assert "There is no organization" in texts(other)


@pytest.mark.parametrize(("name", "refusal"), [("", "1 to 128"), ("a/b", "no slash"), ("DEFAULT", "already")])
def test_a_wrong_name_stays_in_the_dialog(visit: Visit, name: str, refusal: str) -> None:
    app = visit("organizations")
    app.button(key="add").click().run()
    app.text_input(key="organization-name").input(name)
    confirm(app)
    assert refusal in texts(app)
    assert app.text_input(key="organization-name").value == name
    app.text_input(key="organization-name").input(HOSTILE[:120].replace("/", " "))
    confirm(app)
    assert len(rows(app)) == 3
    assert [one.value for one in app.text if "onerror" in one.value]
    assert not [one.value for kind in (app.markdown, app.caption) for one in kind if "onerror" in one.value]


def test_who_renames_second_is_told(visit: Visit, scene: Scene) -> None:
    app = choose(visit("organizations"), "organizations", scene.ids["Acme Ltd"])
    app.button(key="rename").click().run()
    with scene.database.write() as session:
        row = session.get_one(Organization, scene.ids["Acme Ltd"])
        row.name = "Acme plc"
        session.add(row)
    app.text_input(key="organization-name").input("Acme GmbH")
    confirm(app)
    assert "Organization Acme Ltd was renamed meanwhile by somebody else; it is called Acme plc now." in texts(app)
    with scene.database.read() as session:
        assert session.get_one(Organization, scene.ids["Acme Ltd"]).name == "Acme plc"


def test_a_removal_says_what_hangs_on_it_first(visit: Visit, scene: Scene) -> None:
    app = choose(visit("organizations"), "organizations", scene.ids["Acme Ltd"])
    app.button(key="remove").click().run()
    assert "1 department, 1 request, 1 role of an administrator" in texts(app)
    assert "dialog-confirm" not in {button.key for button in app.button}
    with scene.database.write() as session:
        gone = Organization(name="Gone Ltd")
        session.add(gone)
        session.flush()
        number = gone.id
    assert number is not None
    app = choose(visit("organizations"), "organizations", number)
    app.button(key="remove").click().run()
    confirm(app)
    assert "Organization Gone Ltd was removed." in texts(app)
    assert rows(app) == ["Acme Ltd", "Default"]


def test_an_organization_that_vanishes_while_its_dialog_is_open(visit: Visit, scene: Scene) -> None:
    with scene.database.write() as session:
        row = Organization(name="Gone Ltd")
        session.add(row)
        session.flush()
        number = row.id
    app = visit("organization", id=str(number))
    app.button(key="rename").click().run()
    with scene.database.write() as session:
        session.delete(session.get_one(Organization, number))
    app.text_input(key="organization-name").input("Other Ltd")
    confirm(app)
    assert f"There is no organization {number}" in texts(app)


def test_departments_are_added_renamed_and_removed(visit: Visit, scene: Scene) -> None:
    app = visit("organization", id=str(scene.ids["Acme Ltd"]))
    app.button(key="add").click().run()
    app.text_input(key="department-name").input("Mail")
    confirm(app)
    assert rows(app) == ["Mail", "Shop"]
    choose(app, "departments", scene.ids["Shop"])
    app.button(key="rename-department").click().run()
    app.text_input(key="department-name").input("Web shop")
    confirm(app)
    assert "Department Acme Ltd/Shop is called Web shop." in texts(app)
    choose(app, "departments", scene.ids["Shop"])
    app.button(key="remove-department").click().run()
    confirm(app)
    assert rows(app) == ["Mail"]


def test_five_hundred_organizations_are_paged(visit: Visit, scene: Scene) -> None:
    with scene.database.write() as session:
        session.add_all([Organization(name=f"Org {number:03}") for number in range(498)])
    app = visit("organizations")
    assert len(rows(app)) == 50
    assert "1–50 of 500" in [one.value for one in app.caption]
    app.button(key="organizations-on").click().run()
    assert rows(app)[0] == "Org 048"
