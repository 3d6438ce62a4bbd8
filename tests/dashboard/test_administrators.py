"""Administrators and one's own account: roles, passwords, tokens, sessions, and who may not see them."""

from __future__ import annotations

import pytest
from sqlmodel import select
from streamlit.testing.v1 import AppTest

from dashboard import words
from model.states import Privilege, Role
from model.tables import AccessToken, Administrator, RoleAssignment
from operations import identity
from tests.dashboard.conftest import Visit, labels, texts
from tests.dashboard.scene import HOSTILE, PASSWORD, Scene
from tests.dashboard.test_places import choose, confirm, rows
from tests.dashboard.test_settings_pages import told


def roles_of(scene: Scene, login: str) -> list[tuple[str, int | None, int | None, list[str]]]:
    """The rows of somebody's roles."""
    with scene.database.read() as session:
        found = session.exec(
            select(RoleAssignment).where(RoleAssignment.administrator_id == scene.ids[login]).order_by("id")
        ).all()
        return [(str(one.role), one.organization_id, one.department_id, sorted(one.privileges)) for one in found]


def secret(app: AppTest) -> str:
    """What is shown only now."""
    assert "Copy it: only a hash of it is kept" in texts(app)
    value = str(app.code[-1].value)
    app.button(key="dialog-done").click().run()
    assert value not in texts(app)
    return value


def test_only_an_mrao_finds_administrators(visit: Visit, scene: Scene) -> None:
    for login, path in (("rita", "administrators"), ("rita", "administrator"), ("walter", "administrators")):
        app = visit(path, login=login, id=str(scene.ids["bob"]))
        assert "Overview" in [title.value for title in app.title]
        assert "Bob Berger" not in texts(app)


def test_administrators_are_filtered(visit: Visit) -> None:
    app = visit("administrators")
    assert rows(app, "Login") == ["alice", "bob", "rita", "walter"]
    assert rows(app, "Roles") == ["MRAO", "MRAO", "RAO of Acme Ltd", "RAO of Default"]
    assert rows(visit("administrators", **{"a-q": "WATCH"}), "Login") == ["walter"]
    assert rows(visit("administrators", **{"a-role": "RAO"}), "Login") == ["rita", "walter"]
    assert rows(visit("administrators", **{"a-organization": "Acme Ltd"}), "Login") == ["rita"]
    none = visit("administrators", **{"a-state": "Deactivated"})
    assert "No administrator matches" in texts(none)
    none.button(key="clear").click().run()
    assert len(rows(none, "Login")) == 4


def test_an_administrator_is_added_and_signs_in_with_the_password_shown_once(visit: Visit, scene: Scene) -> None:
    app = visit("administrators")
    app.button(key="add").click().run()
    app.text_input(key="new-login").input("dora")
    app.text_input(key="new-name").input(HOSTILE[:100])
    app.radio(key="administrator-role").set_value(Role.DRAO).run()
    confirm(app)
    assert "The role DRAO is given with departments." in told(app)
    for box in app.checkbox:
        if box.label == "Approve":
            box.check()
    picked = f"role-DRAO-{app.session_state['dialog-turn']}-picked"
    app.session_state[picked] = {"Acme Ltd/Shop"}
    confirm(app)
    assert not [one.value for kind in (app.markdown, app.caption) for one in kind if "onerror" in one.value]
    password = secret(app)
    assert identity.sign_in(scene.database, "dora", password, scene.now).login == "dora"
    with scene.database.read() as session:
        scene.ids["dora"] = session.exec(select(Administrator.id).where(Administrator.login == "dora")).one() or 0
    usual = ["approve", "install", "renew", "request"]
    assert roles_of(scene, "dora") == [("DRAO", scene.ids["Acme Ltd"], scene.ids["Shop"], usual)]


@pytest.mark.parametrize(
    ("login", "typed", "again", "sentence"),
    [
        ("a b", "long enough, I hope", "long enough, I hope", "A login has 1 to 64"),
        ("bob", "long enough, I hope", "long enough, I hope", "There is an administrator 'bob' already."),
        ("new", "short", "short", "at least 12 characters"),
        ("new", "long enough, I hope", "something else here", "The two passwords differ."),
    ],
)
def test_a_wrong_administrator_stays_in_the_dialog(
    visit: Visit, login: str, typed: str, again: str, sentence: str
) -> None:
    app = visit("administrators")
    app.button(key="add").click().run()
    app.radio(key="administrator-role").set_value(Role.MRAO)
    app.checkbox(key="administrator-made-up").uncheck().run()
    app.text_input(key="new-login").input(login)
    app.text_input(key="administrator-password").input(typed)
    app.text_input(key="administrator-again").input(again)
    confirm(app)
    assert sentence in told(app)
    assert app.text_input(key="new-login").value == login
    assert len(rows(app, "Login")) == 4


def test_roles_are_given_changed_and_taken_away(visit: Visit, scene: Scene) -> None:
    app = visit("administrator", id=str(scene.ids["walter"]))
    assert "only to look" in texts(app)
    app.button(key="give").click().run()
    app.radio(key="administrator-role").set_value(Role.MRAO).run()
    app.checkbox(key="privilege-MRAO-auto_approve").check()
    confirm(app)
    assert [role[0] for role in roles_of(scene, "walter")] == ["RAO", "MRAO"]
    app.button(key="role-edit-0").click().run()
    app.checkbox(key="privilege-RAO-view_audit").check()
    confirm(app)
    assert roles_of(scene, "walter")[-1] == ("RAO", scene.ids["Default"], None, ["view_audit"])
    app.button(key="role-remove-0").click().run()
    confirm(app)
    assert [role[0] for role in roles_of(scene, "walter")] == ["RAO"]


def test_who_changes_a_role_second_is_told(visit: Visit, scene: Scene) -> None:
    app = visit("administrator", id=str(scene.ids["walter"]))
    app.button(key="role-edit-0").click().run()
    with scene.database.write() as session:
        row = session.exec(select(RoleAssignment).where(RoleAssignment.administrator_id == scene.ids["walter"])).one()
        row.privileges = ["revoke"]
        session.add(row)
    app.checkbox(key="privilege-RAO-approve").check()
    confirm(app)
    assert "The roles of walter were changed meanwhile by somebody else" in told(app)
    assert roles_of(scene, "walter")[0][3] == ["revoke"]


def test_the_last_owner_stays(visit: Visit, scene: Scene) -> None:
    app = visit("administrator", id=str(scene.ids["alice"]))
    app.button(key="offer-administrator-off").click().run()
    assert "his sessions end at once" in told(app)
    confirm(app)
    assert "Activate" in labels(app)
    own = visit("administrator", id=str(scene.ids["bob"]))
    own.button(key="offer-administrator-off").click().run()
    confirm(own)
    assert "This is the last active administrator with the role MRAO" in told(own)
    app = visit("administrator", id=str(scene.ids["alice"]))
    app.button(key="offer-administrator-on").click().run()
    confirm(app)
    assert "Deactivate" in labels(app)


def test_tokens_are_shown_once_and_revoked(visit: Visit, scene: Scene) -> None:
    app = visit("account", login="rita")
    app.button(key="offer-token-add").click().run()
    app.number_input(key="token-lifetime").set_value(400)
    confirm(app)
    assert "A token lives at most 366 days." in told(app)
    app.number_input(key="token-lifetime").set_value(2)
    confirm(app)
    token = secret(app)
    assert identity.by_token(scene.database, token, scene.now).login == "rita"
    with scene.database.read() as session:
        number = session.exec(select(AccessToken.id)).one()
    assert number is not None
    choose(app, "tokens", number)
    app.button(key="offer-token-revoke").click().run()
    confirm(app)
    assert f"Token {number} of rita is void." in told(app)
    with scene.database.read() as session:
        assert session.exec(select(AccessToken)).all() == []


def test_ones_own_password_is_changed_with_the_current_one(visit: Visit, scene: Scene) -> None:
    other = visit("requests", login="rita")
    app = visit("account", login="rita")
    assert len(rows(app, "Began")) == 2

    def change(current: str, new: str, again: str) -> str:
        app.button(key="offer-account-password").click().run()
        app.text_input(key="account-current").input(current)
        app.text_input(key="account-new").input(new)
        app.text_input(key="account-again").input(again)
        confirm(app)
        said = told(app)
        if "Your password was changed." not in said:
            app.button(key="dialog-back").click().run()
        return said

    new = "another long password"
    assert "The two new passwords differ." in change(PASSWORD, new, new + "!")
    assert "A password has at least 12 characters." in change(PASSWORD, "short", "short")
    assert "The current password is wrong." in change("wrong", new, new)
    assert "Your password was changed." in change(PASSWORD, new, new)
    # This browser stays signed in, the other one does not.
    assert "My account" in [title.value for title in app.run().title]
    assert "Signed out" in [title.value for title in other.run().title]
    assert identity.sign_in(scene.database, "rita", new, scene.now).login == "rita"
    with scene.database.write() as session:
        row = session.get_one(Administrator, scene.ids["rita"])
        row.failed_sign_ins = 4
        session.add(row)
    assert "The current password is wrong." in change("wrong", new, new)
    assert "is locked until" in change(new, "a third long password", "a third long password")


def test_ones_own_account_shows_what_one_may_and_lets_nobody_raise_himself(visit: Visit, scene: Scene) -> None:
    app = visit("account", login="walter")
    assert "RAO: organizations" in texts(app)
    assert labels(app) == {"Sign out", "Edit name", "Change password", "New token"}
    app.button(key="offer-account-name").click().run()
    app.text_input(key="account-name").input(HOSTILE)
    confirm(app)
    assert "Your name was saved." in told(app)
    # In the page, and in the side bar.
    assert [one.value for one in app.text].count(HOSTILE) == 2
    assert not [one.value for kind in (app.markdown, app.caption) for one in kind if "onerror" in one.value]


def test_a_session_is_ended_from_another(visit: Visit, scene: Scene) -> None:
    other = visit("requests", login="rita")
    app = visit("administrator", id=str(scene.ids["rita"]))
    number = int(next(str(value) for value in app.dataframe[0].value["No."]))
    choose(app, "sessions", number)
    app.button(key="offer-session-end").click().run()
    confirm(app)
    assert f"Session {number} of rita has ended." in told(app)
    assert "Signed out" in [title.value for title in other.run().title]


def test_every_role_and_privilege_is_explained() -> None:
    assert set(words.PRIVILEGES) == set(Privilege)
    assert set(words.ROLES) == set(Role)
