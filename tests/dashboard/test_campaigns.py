"""Replacement campaigns in the dashboard: choose, see, confirm, and look how it goes; no engine runs."""

from __future__ import annotations

import pytest
from sqlalchemy import update
from sqlmodel import select
from streamlit.testing.v1 import AppTest

from model.states import CampaignState, ItemState
from model.tables import Campaign, CampaignItem
from tests.dashboard.conftest import Visit, labels, texts
from tests.dashboard.scene import HOSTILE, Scene


def chosen(visit: Visit) -> AppTest:
    """The form with all certificates chosen."""
    app = visit("new-campaign")
    app.checkbox(key="k-all-1").check().run()
    assert not app.exception
    return app


def campaign(scene: Scene) -> Campaign:
    with scene.database.read() as session:
        return session.exec(select(Campaign)).one()


def test_nothing_is_shown_before_something_is_chosen(visit: Visit) -> None:
    assert "No campaigns yet" in texts(visit("campaigns"))
    app = visit("new-campaign")
    assert "Choose certificates above" in texts(app)
    assert "Start campaign" not in labels(app)


def test_a_wrong_number_starts_nothing_and_the_right_one_does(visit: Visit, scene: Scene) -> None:
    app = chosen(visit)
    assert "At 600 an hour it ends" in texts(app)
    assert "Canaries: " in texts(app)
    app.text_input(key="k-name-1").input(HOSTILE)
    app.text_input(key="k-count-1").input("7")
    app.button(key="k-start-1").click().run()
    assert "to start: so many certificates will be replaced." in texts(app)
    with scene.database.read() as session:
        assert session.exec(select(Campaign)).all() == []
    ready = app.text_input(key="k-count-1").placeholder
    app.text_input(key="k-count-1").input(ready)
    app.button(key="k-start-1").click().run()
    # It is started; without an engine it begins later, and that is told.
    row = campaign(scene)
    assert (row.state, row.name) == (CampaignState.RUNNING, HOSTILE)
    page = visit("campaign", id=str(row.id))
    assert HOSTILE in [text.value for text in page.text]
    assert {"Pause", "Change rate", "Cancel"} <= labels(page)


def test_a_draft_is_given_up_by_a_dialog(visit: Visit, scene: Scene) -> None:
    app = chosen(visit)
    app.text_input(key="k-name-1").input("Drill")
    app.button(key="k-keep-1").click().run()
    number = campaign(scene).id
    page = visit("campaign", id=str(number))
    assert {"Start", "Cancel"} <= labels(page)
    page.button(key="offer-cancel").click().run()
    page.button(key="dialog-confirm").click().run()
    assert "is given up; nothing was ordered." in texts(page)
    assert campaign(scene).state == CampaignState.CANCELED
    assert list(visit("campaigns").dataframe[0].value["Name"]) == ["Drill"]


def test_what_failed_is_told_with_its_reason_and_may_be_retried(visit: Visit, scene: Scene) -> None:
    app = chosen(visit)
    app.text_input(key="k-name-1").input("Drill")
    app.button(key="k-keep-1").click().run()
    with scene.database.write() as session:
        session.execute(update(Campaign).values(state=CampaignState.PAUSED, why="A canary failed."))
        session.execute(update(CampaignItem).values(state=ItemState.FAILED, message="nginx does not start."))
    page = visit("campaign", id=str(campaign(scene).id))
    assert "A canary failed." in texts(page)
    assert f"{campaign(scene).total}: nginx does not start." in texts(page)
    assert {"Resume", "Retry failed"} <= labels(page)
    assert set(page.dataframe[0].value["Message"]) == {"nginx does not start."}


def test_others_see_neither_the_campaign_nor_a_form_for_one(visit: Visit, scene: Scene) -> None:
    app = chosen(visit)
    app.text_input(key="k-name-1").input("Drill")
    app.button(key="k-keep-1").click().run()
    number = str(campaign(scene).id)
    assert "No campaigns yet" in texts(visit("campaigns", login="rita"))
    assert f"There is no campaign {number}" in texts(visit("campaign", login="rita", id=number))
    assert labels(visit("campaign", login="walter", id=number)) == {"Sign out"}
    assert not [box for box in visit("new-campaign", login="walter").checkbox if box.label.startswith("All")]


@pytest.mark.parametrize("number", ["", "x", "99"])
def test_nonsense_in_the_address_does_no_harm(visit: Visit, number: str) -> None:
    app = visit("campaign", id=number)
    assert "names no campaign" in texts(app) or "There is no campaign" in texts(app)
