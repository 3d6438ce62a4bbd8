"""The gateways' page in a real browser, with a real engine that says who is connected."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from playwright.sync_api import Browser, expect
from sqlmodel import select

from model.tables import Administrator, Gateway, Organization
from operations import gateway_changes, gateways
from operations.identity import hash_password
from operations.lookup import identity
from tests.dashboard import fleet
from tests.dashboard.browsing import PATIENCE, Visitor, chromium, serving
from tests.dashboard.scene import PASSWORD, Scene
from tests.dashboard.test_live import Engine

expect.set_options(timeout=PATIENCE * 1000)

MANY = 60


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """A certgate whose own gateway is connected, beside a fleet of which nothing is heard."""
    with Engine(tmp_path_factory.mktemp("gateways")) as started:
        world = started.world
        scene = Scene(world.home, world.database, datetime.now(UTC).replace(microsecond=0))
        with world.database.write() as session:
            for login in ("alice", "bob"):
                row = session.exec(select(Administrator).where(Administrator.login == login)).one()
                row.password_hash = hash_password(PASSWORD)
            acme = Organization(name="Acme Ltd")
            session.add(acme)
            session.flush()
            scene.ids["Acme Ltd"] = identity(acme)
            fleet.organizations(scene, session, 40)
            fleet.gateways(scene, session, MANY)
            fleet.hostile(scene, session)
        yield started


@pytest.fixture(scope="module")
def address(engine: Engine) -> Iterator[str]:
    client = engine.world.client
    environment = {
        "TEMPORAL_ADDRESS": client.service_client.config.target_host,
        "TEMPORAL_NAMESPACE": client.namespace,
    }
    with serving(engine.world.home, environment) as url:
        yield url


@pytest.fixture(scope="module")
def chrome() -> Iterator[Browser]:
    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def signed_in(chrome: Browser, address: str) -> Any:
    """What the browser of bob keeps once he has signed in."""
    context = chrome.new_context()
    Visitor(context.new_page(), address).sign_in("bob", path="/gateways")
    kept = context.storage_state()
    context.close()
    return kept


Enter = Callable[..., Visitor]


@pytest.fixture
def enter(chrome: Browser, address: str, signed_in: Any) -> Iterator[Enter]:
    """Bob's window on an address; what the browser complains of fails the test."""
    contexts = []
    complaints: list[str] = []

    def entered(path: str, width: int = 1440, height: int = 900, *, dark: bool = False) -> Visitor:
        context = chrome.new_context(
            viewport={"width": width, "height": height},
            color_scheme="dark" if dark else "light",
            timezone_id="Europe/Berlin",
            storage_state=signed_in,
        )
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: complaints.append(str(error)))
        visitor = Visitor(page, address)
        visitor.open(path)
        return visitor

    yield entered
    for context in contexts:
        context.close()
    assert complaints == []


def cell(visitor: Visitor, text: str) -> Any:
    """A cell of the table. It is drawn on a canvas; what screen readers are told stands beside it."""
    return visitor.page.locator('[data-testid="stDataFrame"] td').filter(has_text=re.compile(f"^{text}$"))


def test_quick_search_status_sort_groups_and_columns(enter: Enter) -> None:
    visitor = enter("/gateways")
    page = visitor.page
    expect(page.get_by_text(f"1–50 of {MANY + 2}")).to_be_visible()
    visitor.shot("gateways")
    search = page.get_by_placeholder("Quick search by name")
    search.press_sequentially("LOCA")
    expect(page.get_by_text("1–1 of 1")).to_be_visible()
    expect(search).to_be_focused()
    assert visitor.query("g-q") == "LOCA"
    expect(cell(visitor, "Connected")).to_have_count(1)
    visitor.press("gateways-clear")
    visitor.choose("Group", "Status")
    expect(page.get_by_text(f"Select a group to see its gateways; {MANY + 2} in all.")).to_be_visible()
    visitor.shot("gateways-groups")
    # Connected, disconnected, pending: the third.
    visitor.select_row(2)
    expect(page.get_by_text("1–13 of 13")).to_be_visible()
    assert visitor.query("g-status") == "Pending"
    visitor.choose("Sort by", "ID")
    visitor.page.get_by_text("Descending").click()
    expect(cell(visitor, "hostile")).to_have_count(1)
    visitor.press("gateways-columns")
    page.get_by_test_id("stPopoverBody").get_by_text("Organizations", exact=True).click()
    expect(page.get_by_role("checkbox", name="Organizations")).to_be_checked()
    visitor.shot("gateways-columns")
    page.get_by_role("button", name="Usual columns").click()
    expect(page.get_by_role("checkbox", name="Organizations")).not_to_be_checked()
    other = enter(page.url.removeprefix(visitor.address))
    expect(other.page.get_by_text("1–13 of 13")).to_be_visible()


def test_it_is_refreshed_by_itself_and_keeps_the_selection(enter: Enter, engine: Engine) -> None:
    visitor = enter("/gateways?g-q=oslo-000")
    expect(visitor.page.get_by_text("1–1 of 1")).to_be_visible()
    visitor.select_row(0)
    expect(visitor.page.get_by_role("button", name="Edit")).to_be_visible()
    world = engine.world
    number = gateways.find(world.context("alice"), "oslo-0004")
    # The first in the order from now on: the selected one is in another row.
    gateway_changes.add(world.context("alice"), gateway_changes.NewGateway("A oslo-000"))
    expect(visitor.page.get_by_text("1–2 of 2")).to_be_visible()
    expect(visitor.page.get_by_text(f"{number} · oslo-0004")).to_be_visible()
    visitor.shot("gateways-selected")
    gateway_changes.delete(world.context("alice"), "A oslo-000")


def test_a_gateway_is_added_step_by_step(enter: Enter, engine: Engine) -> None:
    visitor = enter("/gateways?g-q=Hamburg+Harbour")
    expect(visitor.page.get_by_text("No gateway matches")).to_be_visible()
    visitor.press("gateway-add")
    dialog = visitor.page.get_by_role("dialog")
    visitor.shot("gateway-add")
    dialog.get_by_role("textbox", name="Name").fill("Hamburg <b>Harbour</b>")
    dialog.get_by_text("Customized", exact=True).click()
    dialog.get_by_placeholder("Search organizations and departments").press_sequentially("branch 01")
    expect(dialog.get_by_text("Branch 019")).to_be_visible()
    expect(dialog.get_by_text("Branch 020")).to_have_count(0)
    dialog.get_by_role("button", name="2 departments").first.click()
    dialog.get_by_text("Support", exact=True).first.click()
    expect(dialog.get_by_text("Chosen: Branch 010/Support")).to_be_visible()
    visitor.shot("gateway-add-customized")
    visitor.confirm("Add")
    expect(dialog.get_by_text("1 to 128 letters")).to_be_visible()
    dialog.get_by_role("textbox", name="Name").fill("Hamburg Harbour")
    visitor.confirm("Add")
    expect(visitor.page.get_by_text("Gateway Hamburg Harbour was added.")).to_be_visible()
    visitor.shot("gateway-token")
    with visitor.page.expect_download() as download:
        visitor.press("gateway-token-file")
    assert download.value.suggested_filename.endswith(".token")
    visitor.confirm("Done")
    expect(visitor.page.get_by_text("1–1 of 1")).to_be_visible()
    expect(visitor.page.get_by_text("cgj_")).to_have_count(0)
    made = gateways.show(engine.world.context("bob"), "Hamburg Harbour")
    assert made.organizations == ["Branch 010/Support"]


def test_delegate_restore_and_delete_name_what_they_change(enter: Enter, engine: Engine) -> None:
    context = engine.world.context("alice")
    visitor = enter("/gateways?g-q=rotterdam-0006")
    page = visitor.page
    visitor.select_row(0)
    visitor.press("gateway-delegate")
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_text("rotterdam-0006")).to_be_visible()
    dialog.get_by_text("Customized", exact=True).click()
    dialog.get_by_text("Acme Ltd", exact=True).click()
    visitor.shot("gateway-delegate")
    visitor.confirm("Delegate")
    expect(page.get_by_text("Gateway rotterdam-0006 was delegated.")).to_be_visible()
    assert gateways.show(context, "rotterdam-0006").organizations == ["Acme Ltd"]
    visitor.press("gateway-restore")
    expect(dialog.get_by_text("shut out at once")).to_be_visible()
    visitor.shot("gateway-restore")
    visitor.confirm("Make a token")
    expect(page.get_by_text("Gateway rotterdam-0006 was restored")).to_be_visible()
    visitor.confirm("Done")
    visitor.press("gateway-delete")
    visitor.shot("gateway-delete")
    visitor.confirm("Delete")
    expect(dialog.get_by_text("That is not the name of this gateway")).to_be_visible()
    # Somebody else is quicker.
    gateway_changes.delete(context, "rotterdam-0006")
    dialog.get_by_label("Type the name").fill("rotterdam-0006")
    visitor.confirm("Delete")
    expect(page.get_by_text("Gateway rotterdam-0006 is gone")).to_be_visible()
    expect(page.get_by_text("No gateway matches")).to_be_visible()


def test_keystores_audit_sync_and_downloads(enter: Enter, engine: Engine) -> None:
    visitor = enter("/gateways?g-q=local")
    page = visitor.page
    dialog = page.get_by_role("dialog")
    visitor.select_row(0)
    visitor.press("gateway-keystores")
    expect(dialog.get_by_role("heading", name="Keystores")).to_be_visible()
    expect(dialog.get_by_text("Private keys are made in a keystore")).to_be_visible()
    visitor.shot("gateway-keystores")
    visitor.press("dialog-back")
    visitor.press("gateway-audit")
    expect(dialog.get_by_role("heading", name="Orchestration gateways audit")).to_be_visible()
    visitor.shot("gateway-audit")
    visitor.press("dialog-back")
    visitor.press("gateway-sync")
    expect(page.get_by_role("heading", name="Sync Modules")).to_be_visible()
    number = gateways.find(engine.world.context("bob"), "local")
    visitor.open(f"/gateway?id={number}&gateway-part=Downloads")
    expect(page.get_by_text("systemd service")).to_be_visible()
    visitor.shot("gateway-downloads")
    with page.expect_download() as download:
        visitor.press("gateway-file-ini")
    assert "ExecStart" in download.value.path().read_text()
    page.get_by_role("radio", name="Connected endpoints").click()
    expect(page.get_by_role("button", name="Add endpoint").first).to_be_visible()
    visitor.shot("gateway-endpoints")


def test_several_are_deleted_together(enter: Enter) -> None:
    visitor = enter("/gateways?g-q=paris-00")
    visitor.select_row(0)
    visitor.select_row(1)
    expect(visitor.page.get_by_text("2 gateways", exact=True)).to_be_visible()
    visitor.press("gateway-delete")
    dialog = visitor.page.get_by_role("dialog")
    expect(dialog.get_by_text("paris-0005")).to_be_visible()
    expect(dialog.get_by_text("paris-0015")).to_be_visible()
    visitor.shot("gateways-delete")
    dialog.get_by_label("Type how many").fill("2")
    visitor.confirm("Delete")
    expect(visitor.page.get_by_text("2 of 2 gateways were deleted.")).to_be_visible()
    expect(visitor.page.get_by_text("1–4 of 4")).to_be_visible()


def test_editing_tells_of_somebody_else(enter: Enter, engine: Engine) -> None:
    context = engine.world.context("alice")
    number = gateways.find(context, "wien-0007")
    visitor = enter("/gateways?g-q=wien-0007")
    visitor.select_row(0)
    visitor.press("gateway-edit")
    page = visitor.page
    expect(page.get_by_role("textbox", name="Name")).to_have_value("wien-0007")
    visitor.shot("gateway-edit")
    page.get_by_role("textbox", name="Comments").fill("What bob typed")
    gateway_changes.edit(context, number, new_name="Wien 7")
    visitor.press("gateway-save")
    expect(page.get_by_text("was changed while you were editing")).to_be_visible()
    expect(page.get_by_role("textbox", name="Comments")).to_have_value("What bob typed")
    visitor.shot("gateway-edit-conflict")
    visitor.press("gateway-save")
    expect(page.get_by_text("Gateway wien-0007 was saved.")).to_be_visible()
    with engine.world.database.read() as session:
        row = session.get_one(Gateway, number)
        assert (row.name, row.comments) == ("wien-0007", "What bob typed")


def test_dark_narrow_and_hostile(enter: Enter) -> None:
    dark = enter("/gateways", dark=True)
    expect(dark.page.get_by_text("1–50 of")).to_be_visible()
    dark.shot("gateways-dark")
    narrow = enter("/gateways?g-q=hostile", 420, 900)
    expect(narrow.page.get_by_text("1–1 of 1")).to_be_visible()
    narrow.select_row(0)
    narrow.shot("gateways-narrow")
    assert narrow.page.evaluate("document.documentElement.scrollWidth") <= 420
    narrow.press("gateway-edit")
    expect(narrow.page.get_by_role("textbox", name="Comments")).to_have_value(re.compile("onerror"))
    narrow.shot("gateway-edit-narrow")
    main = narrow.page.locator('[data-testid="stMain"]')
    assert main.locator("img").count() == 0
    assert narrow.page.evaluate("window.pwned") is None
