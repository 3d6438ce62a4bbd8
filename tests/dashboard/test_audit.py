"""The audit page and its downloads: what they show, to whom, wherever one is in a long trail."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import httpx
import pytest
from sqlmodel import select
from starlette.applications import Starlette
from starlette.middleware import Middleware
from streamlit.testing.v1 import AppTest

from bench import trail
from dashboard import audit_filters
from dashboard.bridge import bridge
from dashboard.views import audit as view
from dashboard.web.cookies import cookies_of
from dashboard.web.downloads import Downloads
from dashboard.web.gate import Gate
from model import audit
from model.states import AccessMethod, Outcome, Privilege, Role
from model.tables import AuditEntry
from operations import audit_export, sessions
from operations.audit_search import Filter
from operations.context import Context, now
from tests.dashboard import scene as scenes
from tests.dashboard.conftest import Visit, labels, texts
from tests.dashboard.scene import HOSTILE, Scene, administrator


def column(app: AppTest, name: str) -> list[Any]:
    """A column of the table."""
    return list(app.dataframe[0].value[name])


def told(scene: Scene, description: str, **fields: object) -> None:
    """One more entry."""
    with scene.database.write() as session:
        act = {
            "actor": "bob",
            "access_method": AccessMethod.API,
            "action": "test.done",
            "object_type": "test",
            **fields,
        }
        audit.append(session, audit.Act(description=description, **act), scene.now)  # type: ignore[arg-type]


def test_all_is_shown_to_an_mrao_the_newest_first(visit: Visit, scene: Scene) -> None:
    app = visit("audit")
    numbers = column(app, "No.")
    assert numbers == sorted(numbers, reverse=True)
    assert numbers[-1] == 1
    assert {"Refresh", "Verify"} <= labels(app)
    assert f"1–{len(numbers)} of {len(numbers)}" in texts(app)
    assert HOSTILE in "".join(str(one) for one in column(app, "Description"))


def test_an_administrator_of_one_organization_sees_nothing_of_another(visit: Visit, scene: Scene) -> None:
    app = visit("audit", login="rita")
    assert column(app, "Description") == ["Requested a certificate for secret.acme.example."]
    assert "Verify" not in labels(app)
    assert list(app.selectbox(key="a-who").options) == ["alice"]
    assert "frankfurt-1" not in app.selectbox(key=view._GATEWAY_BOX).options
    assert "There is no gateway" in texts(visit("audit", login="rita", gateway=str(scene.ids["frankfurt-1"])))


def test_without_the_privilege_there_is_no_such_page(visit: Visit) -> None:
    app = visit("audit", login="walter")
    assert not app.dataframe or "Description" not in app.dataframe[0].value


def test_filters_are_in_the_address(visit: Visit, scene: Scene) -> None:
    told(scene, "Something was refused.", outcome=Outcome.REFUSED, gateway_id=scene.ids["frankfurt-1"])

    def found(**query: str) -> int:
        app = visit("audit", **query)
        return len(app.dataframe[0].value) if app.dataframe else 0

    everything, hour_ago = found(), scene.now - timedelta(minutes=59)
    with scene.database.read() as session:
        entries = session.exec(select(AuditEntry)).all()
    assert found(**{"a-outcome": "Refused"}) == 1
    assert found(**{"a-way": "API"}) == 1
    assert found(**{"a-who": "bob"}) == sum(entry.actor == "bob" for entry in entries)
    assert found(**{"a-q": "REFUSED"}) == 1
    assert found(**{"a-action": "test.done"}) == 1
    assert found(**{"a-when": "Last hour"}) == sum(entry.time >= hour_ago for entry in entries) < everything
    assert found(**{"a-when": "Last 365 days"}) == everything
    frankfurt = scene.ids["frankfurt-1"]
    assert found(gateway=str(frankfurt)) == sum(entry.gateway_id == frankfurt for entry in entries) > 1
    assert found(gateway="x") == found(before="-1") == found(page="99999") == everything
    app = visit("audit", **{"a-q": "nowhere", "a-who": "alice", "gateway": str(scene.ids["local"])})
    assert "No entry matches these filters" in texts(app)
    app.button(key="clear").click().run()
    assert len(column(app, "No.")) == everything


def test_a_range_that_ends_before_it_begins_is_a_sentence(visit: Visit) -> None:
    app = visit("audit", **{"a-when": view._CUSTOM, "a-from": "2026-02-01T00:00", "a-to": "2026-01-01T00:00"})
    assert "ends before it begins" in texts(app)
    assert not app.dataframe


def test_an_entry_is_shown_whole(visit: Visit, scene: Scene) -> None:
    app = visit("audit")
    app.session_state["audit-chosen"] = (1,)
    app.run()
    shown = texts(app)
    assert audit.ORIGIN in shown
    assert "Requested a certificate for shop.example.com" in shown
    assert "Default" in shown


def test_pages_are_turned_through_a_long_trail(visit: Visit, scene: Scene) -> None:
    trail.fill(scene.database, 2_000)
    app = visit("audit")
    total = int(column(app, "No.")[0])
    assert f"1–50 of {total:,}" in texts(app)
    app.button(key="audit-older").click().run()
    assert column(app, "No.")[0] == total - 50
    app.button(key="audit-oldest").click().run()
    assert column(app, "No.") == list(range(50, 0, -1))
    app.button(key="audit-newer").click().run()
    assert column(app, "No.") == list(range(100, 50, -1))
    assert [key for key in app.query_params if key != "after"] == []
    app.number_input[0].set_value(3).run()
    assert column(app, "No.")[0] == total - 100
    app.text_input(key="a-q").input("haystack").run()
    assert not app.query_params.get("page")
    assert column(visit("audit", after=str(total - 3)), "No.")[0] == total


def test_a_page_asks_no_more_of_a_long_trail(visit: Visit, scene: Scene) -> None:
    from tests.dashboard.test_queries import counted

    visit("audit")
    counts = []
    for _ in range(2):
        with counted() as load:
            visit("audit", **{"a-outcome": "Done"})
        counts.append(load.statements)
        trail.fill(scene.database, 10_000)
    assert counts[1] <= counts[0] + 10, counts


def test_the_trail_is_verified_with_progress(visit: Visit, scene: Scene) -> None:
    app = visit("audit")
    app.button(key="verify").click().run()
    app.button(key="verify-now").click().run()
    assert "The audit trail is whole" in texts(app)
    with scene.database.read() as session:
        check = audit.verify(session)
    noted = f"{check.entries}:{check.head}"
    assert noted in texts(app)
    app.text_input(key="audit-noted").input("17")
    app.button(key="verify-now").click().run()
    assert "its number, a colon and its hash" in texts(app)
    app.text_input(key="audit-noted").input(f"{check.entries}:{'0' * 64}")
    app.button(key="verify-now").click().run()
    assert f"entry {check.entries} is not the one that was known" in texts(app)


def test_the_audit_of_one_gateway_fits_into_a_dialog(visit: Visit, scene: Scene) -> None:
    def page() -> None:
        from dashboard import session
        from dashboard.views import audit as view

        view.show_for_gateway(session.context(), int(__import__("streamlit").query_params["which"]))

    for login, which, words in (
        ("bob", "local", None),
        ("bob", "frankfurt-1", None),
        ("walter", "local", "the privilege view_audit is missing"),
        ("rita", "frankfurt-1", "There is no gateway"),
    ):
        app = AppTest.from_function(page, default_timeout=60)
        app.session_state["cookie"] = scenes.signed_in(scene, login)
        app.session_state["pages"] = {}
        app.query_params["which"] = str(scene.ids[which])
        visit("audit", login=None)
        app.run()
        assert not app.exception
        if words is None:
            assert len(app.dataframe[0].value) > 1
        else:
            assert words in texts(app)


# --- downloads --------------------------------------------------------------------------------------------------------


@pytest.fixture
def browser(scene: Scene) -> httpx.AsyncClient:
    """A browser before the routes of downloads and their gate."""
    dashboard = bridge().door.settings.dashboard
    app = Starlette(routes=Downloads(dashboard).routes(), middleware=[Middleware(Gate, dashboard=dashboard)])
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://127.0.0.1")


def sign_in(browser: httpx.AsyncClient, scene: Scene, login: str) -> None:
    browser.cookies.set(cookies_of(bridge().door.settings.dashboard).session, scenes.signed_in(scene, login))


async def test_what_is_downloaded_is_what_is_seen(browser: httpx.AsyncClient, scene: Scene) -> None:
    wanted = Filter(
        search="certificate", actions=("request.submitted", "key.ready"), since=scene.now - timedelta(days=30)
    )
    for login, most in (("bob", 100), ("rita", 1)):
        sign_in(browser, scene, login)
        said = await browser.get(audit_filters.address(wanted, "csv"))
        assert said.status_code == 200
        assert said.headers["content-type"] == "text/csv; charset=utf-8"
        assert said.headers["content-disposition"].startswith('attachment; filename="audit-')
        rows = list(csv.DictReader(io.StringIO(said.text, newline="")))
        assert 1 <= len(rows) <= most
        assert {row["action"] for row in rows} <= {"request.submitted", "key.ready"}
        lines = await browser.get(audit_filters.address(wanted, "jsonl"))
        assert [str(json.loads(line)["sequence"]) for line in lines.text.splitlines()] == [
            row["sequence"] for row in rows
        ]
    assert "secret.acme.example" in said.text
    assert "shop" not in said.text


async def test_nobody_downloads_without_a_session_or_the_privilege(browser: httpx.AsyncClient, scene: Scene) -> None:
    address = audit_filters.address(Filter(), "csv")
    assert (await browser.get(address)).status_code == 401
    led = await browser.get(address, headers={"accept": "text/html"})
    assert led.status_code == 303
    sign_in(browser, scene, "walter")
    refused = await browser.get(address)
    assert (refused.status_code, "view_audit" in refused.text) == (403, True)
    assert "sequence" not in refused.text


@pytest.mark.parametrize(
    ("query", "status", "words"),
    [
        ("format=xml", 400, "csv or jsonl"),
        ("format=csv&outcome=nonsense", 400, "nonsense"),
        ("format=csv&since=yesterday", 400, "yesterday"),
        ("format=csv&since=0001-01-01T00:00:00%2B05:00", 400, "is not a time"),
        ("format=csv&gateway=x", 400, "x"),
        ("format=csv&gateway=99", 404, "no gateway 99"),
        ("format=csv&object=request:x", 400, "x"),
        ("format=csv&q=" + "x" * 300, 400, "256"),
    ],
)
async def test_wrong_words_in_an_address_are_sentences(
    browser: httpx.AsyncClient, scene: Scene, query: str, status: int, words: str
) -> None:
    sign_in(browser, scene, "bob")
    said = await browser.get(f"{audit_filters.DOWNLOAD}?{query}")
    assert (said.status_code, words in said.text) == (status, True), said.text


def test_an_address_says_all_of_a_filter() -> None:
    from starlette.datastructures import QueryParams

    moment = now()
    wanted = Filter(
        search="a&b=ü",
        actor="bob",
        actions=("x", "y"),
        outcome=Outcome.FAILED,
        access_method=AccessMethod.COMMAND_LINE,
        object_type="request",
        object_id=7,
        gateway=3,
        since=moment - timedelta(hours=1),
        until=moment,
    )
    query = QueryParams(audit_filters.address(wanted, "jsonl").partition("?")[2])
    assert audit_filters.read(query) == (wanted, "jsonl")


async def test_a_download_ends_with_its_session(
    browser: httpx.AsyncClient, scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    trail.fill(scene.database, 5_000)
    sign_in(browser, scene, "bob")
    token = next(iter(browser.cookies.values()))
    export = audit_export.export_csv

    def slow(context: Context, wanted: Filter) -> Iterator[str]:
        for number, piece in enumerate(export(context, wanted)):
            if number == 2:
                sessions.sign_out(scene.database, token, now())
            yield piece

    monkeypatch.setattr(audit_export, "export_csv", slow)
    with pytest.raises(sessions.SessionOver):
        await browser.get(audit_filters.address(Filter(), "csv"))


async def test_asking_for_headers_only_is_no_export(browser: httpx.AsyncClient, scene: Scene) -> None:
    sign_in(browser, scene, "bob")
    assert (await browser.head(audit_filters.address(Filter(), "csv"))).status_code == 405


def test_an_auditor_of_one_organization(visit: Visit, scene: Scene) -> None:
    with scene.database.write() as session:
        administrator(scene, session, "auditor", "Ada", Role.RAO, [Privilege.VIEW_AUDIT], "Default")
    descriptions = " ".join(str(one) for one in column(visit("audit", login="auditor"), "Description"))
    assert "shop.example.com" in descriptions
    assert "acme" not in descriptions
