"""The import page: what becomes of each row is seen before anything is written."""

from __future__ import annotations

from typing import Any

import pytest
from sqlmodel import col, select
from streamlit.testing.v1 import AppTest

from model import access, channel
from model.tables import Endpoint, Fact, Gateway
from operations import tokens
from tests.dashboard.conftest import Visit, labels, texts
from tests.dashboard.scene import HOSTILE, Scene


@pytest.fixture(autouse=True)
def _manager_key(scene: Scene) -> None:
    """Tokens hold the manager's public key, which a manager makes at its first start."""
    with scene.database.write() as session:
        session.merge(Fact(name=access.INSTALLATION, value="tests"))
        session.merge(Fact(name=access.MANAGER_KEY, value=channel.public_text(channel.new_key())))


def choose(app: AppTest, content: str) -> AppTest:
    """Choose a file."""
    uploader: Any = app.get("file_uploader")[0]
    uploader.set_value(("some.csv", content.encode("utf-8-sig"), "text/csv"))
    return app.run()


def names(scene: Scene, table: Any) -> list[str]:
    with scene.database.read() as session:
        return list(session.exec(select(table.name).order_by(col(table.id))).all())


def test_gateways_are_looked_at_confirmed_and_imported_with_their_tokens(visit: Visit, scene: Scene) -> None:
    before = names(scene, Gateway)
    app = choose(visit("import"), "name;comments\nHamburg;\nlocal;\n")
    assert "1 would be added, 1 is there already." in texts(app)
    app = choose(app, f'name;comments\nHamburg;"{HOSTILE.replace(chr(34), chr(34) * 2)}"\n')
    table = app.dataframe[0].value
    assert (list(table["Name"]), list(table["Result"])) == (["Hamburg"], ["New"])
    assert app.button(key="import-start").label == "Import 1 gateway"
    assert names(scene, Gateway) == before
    app.button(key="import-start").click().run()
    assert "1 gateway will be added." in texts(app)
    app.button(key="dialog-confirm").click().run()
    assert names(scene, Gateway) == [*before, "Hamburg"], texts(app)
    assert "1 were added, 0 are there already." in texts(app)
    text = app.session_state["import-tokens"]
    assert tokens.read(text.splitlines()[1].split(",")[2]).name == "Hamburg"
    app.button(key="import-tokens-forget").click().run()
    assert "import-tokens" not in app.session_state
    assert not app.exception


def test_a_wrong_row_is_told_first_and_nothing_can_be_imported(visit: Visit, scene: Scene) -> None:
    app = choose(visit("import", kind="Endpoints"), "gateway,name,type\nlocal,new,nginx\nlocal,<b>,apach\nx,y,nginx\n")
    table = app.dataframe[0].value
    assert list(table["Line"]) == [3, 4, 2]
    assert "No connector named 'apach'" in table["Problem"][0]
    assert app.button(key="import-start").disabled
    assert "new" not in names(scene, Endpoint)
    app = choose(app, "gateway,colour\nlocal,red\n")
    assert "there is no column 'colour'" in texts(app)
    assert not labels(app) & {"Import 1 endpoint"}


def test_who_manages_no_gateway_has_no_such_page(visit: Visit, scene: Scene) -> None:
    assert "Import" not in {element.value for element in visit("import", login="walter").title}
