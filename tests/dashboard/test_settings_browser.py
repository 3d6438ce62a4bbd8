"""Overview, settings and one's own account in a real browser: the main ways, as people go them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, expect

from model.tables import Organization
from tests import pki
from tests.dashboard import scene as scenes
from tests.dashboard.browsing import PATIENCE, Visitor, chromium, serving
from tests.dashboard.scene import HOSTILE, Scene

expect.set_options(timeout=PATIENCE * 1000)


@pytest.fixture(scope="module")
def chrome() -> Iterator[Browser]:
    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    made = scenes.make(tmp_path_factory.mktemp("settings") / "home")
    with made.database.write() as session:
        session.add(Organization(name=HOSTILE.replace("/", " ")))
    yield made
    made.database.close()


@pytest.fixture(scope="module")
def address(filled: Scene) -> Iterator[str]:
    with serving(filled.home) as url:
        yield url


Enter = Callable[..., Visitor]


@pytest.fixture
def enter(chrome: Browser, address: str) -> Iterator[Enter]:
    """A window with a session of its own; an error in the page fails the test."""
    contexts = []
    complaints: list[str] = []

    def entered(login: str, path: str, width: int = 1440, height: int = 1000, *, dark: bool = False) -> Visitor:
        context = chrome.new_context(
            viewport={"width": width, "height": height},
            color_scheme="dark" if dark else "light",
            timezone_id="Europe/Berlin",
        )
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: complaints.append(str(error)))
        visitor = Visitor(page, address)
        visitor.open(path)
        visitor.try_sign_in(login, scenes.PASSWORD)
        return visitor

    yield entered
    for context in contexts:
        context.close()
    assert complaints == []


def test_the_overview_leads_to_what_it_counts(enter: Enter) -> None:
    visitor = enter("bob", "/", height=1500)
    expect(visitor.page.get_by_role("heading", name="Overview")).to_be_visible()
    expect(visitor.page.get_by_text("Certificates that end in the week from")).to_be_visible()
    assert visitor.page.url.endswith("/overview")
    visitor.shot("overview")
    visitor.page.get_by_role("link", name="Within 30 days").click()
    expect(visitor.page.get_by_role("heading", name="Certificates")).to_be_visible()
    expect(visitor.page.get_by_text("1–1 of 1")).to_be_visible()
    visitor.page.go_back()
    visitor.page.get_by_role("link", name="Requested").click()
    expect(visitor.page.get_by_text("1–3 of 3")).to_be_visible()
    assert visitor.query("unfinished") == "true"


def test_the_overview_in_the_dark_and_in_a_narrow_window(enter: Enter) -> None:
    narrow = enter("rita", "/overview", 420, 1400, dark=True)
    expect(narrow.page.get_by_text("requested by alice for Acme Ltd")).to_be_visible()
    narrow.shot("overview-narrow-dark")
    assert narrow.page.evaluate("document.documentElement.scrollWidth") <= 420
    expect(narrow.page.get_by_text("intranet.example.com")).to_have_count(0)


def test_an_organization_from_the_list_to_a_new_department(enter: Enter) -> None:
    visitor = enter("bob", "/organizations")
    expect(visitor.page.get_by_text("1–3 of 3")).to_be_visible()
    search = visitor.page.get_by_placeholder("Search by name of organization or department")
    search.press_sequentially("shop")
    expect(visitor.page.get_by_text("1–1 of 1")).to_be_visible()
    visitor.select_row(0)
    visitor.shot("organizations")
    visitor.press("open")
    expect(visitor.page.get_by_role("heading", name="Departments")).to_be_visible()
    visitor.press("add")
    dialog = visitor.page.get_by_role("dialog")
    dialog.get_by_role("textbox", name="Name").fill("Shop")
    visitor.confirm("Add")
    expect(dialog.get_by_text("has a department 'Shop' already")).to_be_visible()
    visitor.shot("department-refused")
    dialog.get_by_role("textbox", name="Name").fill("Mail")
    visitor.confirm("Add")
    expect(dialog).to_have_count(0)
    expect(visitor.page.get_by_text("Department Acme Ltd/Mail was added.")).to_be_visible()
    visitor.shot("organization")


def test_hostile_names_are_text_everywhere(enter: Enter) -> None:
    visitor = enter("bob", "/organization?id=3")
    expect(visitor.page.get_by_text(HOSTILE.replace("/", " "), exact=True)).to_be_visible()
    visitor.press("remove")
    expect(visitor.page.get_by_role("dialog").get_by_text("Nothing hangs on it.")).to_be_visible()
    visitor.shot("organization-hostile")
    visitor.open("/administrators")
    expect(visitor.page.get_by_text("1–4 of 4")).to_be_visible()
    visitor.press("add")
    expect(visitor.page.get_by_role("dialog").get_by_text("Acme Ltd", exact=True)).to_be_visible()
    visitor.shot("administrator-add")
    main = visitor.page.locator('[data-testid="stApp"]')
    assert main.locator("img[src='x']").count() == 0
    assert main.locator("a[href*='autolink'], a[href='http://127.0.0.1/']").count() == 0
    assert visitor.page.evaluate("window.pwned") is None


def test_an_administrator_is_added_with_a_password_shown_once(enter: Enter) -> None:
    visitor = enter("bob", "/administrators", height=1250)
    visitor.press("add")
    dialog = visitor.page.get_by_role("dialog")
    dialog.get_by_role("textbox", name="Login").fill("erik")
    dialog.get_by_text("Acme Ltd", exact=True).click()
    expect(dialog.get_by_text("Chosen: Acme Ltd")).to_be_visible()
    dialog.get_by_text("View audit", exact=True).click()
    visitor.settled()
    visitor.confirm("Add")
    expect(dialog.get_by_text("Administrator erik was added.")).to_be_visible()
    password = dialog.locator("code").inner_text()
    visitor.shot("password-once")
    visitor.confirm("Done")
    expect(dialog).to_have_count(0)
    expect(visitor.page.get_by_text(password)).to_have_count(0)
    other = enter("nobody", "/account", dark=True)
    other.try_sign_in("erik", password)
    expect(other.page.get_by_role("heading", name="My account")).to_be_visible()
    expect(other.page.get_by_text("install, renew, request, view audit")).to_be_visible()
    other.shot("account-dark")
    expect(other.page.get_by_role("link", name="Administrators")).to_have_count(0)


def test_a_role_and_a_token_on_an_administrators_page(enter: Enter, filled: Scene) -> None:
    visitor = enter("bob", f"/administrator?id={filled.ids['walter']}", height=1250)
    visitor.press("role-edit-0")
    dialog = visitor.page.get_by_role("dialog")
    dialog.get_by_text("Revoke", exact=True).click()
    visitor.settled()
    visitor.confirm("Save")
    expect(visitor.page.get_by_text("A role of walter was changed.")).to_be_visible()
    visitor.press("offer-token-add")
    visitor.confirm("Make it")
    expect(dialog.get_by_text("cgt_")).to_be_visible()
    visitor.confirm("Done")
    expect(visitor.page.get_by_text("Select a token to revoke it.")).to_be_visible()
    visitor.shot("administrator")


def test_certificates_are_trusted_from_a_file(enter: Enter) -> None:
    visitor = enter("bob", "/trust", height=1250)
    visitor.press("add")
    content = pki.pem(pki.make_ca("Uploaded root").certificate).encode()
    dialog = visitor.page.get_by_role("dialog")
    dialog.locator("input[type=file]").set_input_files(
        {"name": "root.pem", "mimeType": "application/x-pem-file", "buffer": content}
    )
    expect(dialog.get_by_text("root.pem", exact=True)).to_be_visible()
    # It is shown before it is trusted.
    expect(dialog.get_by_text("CN=Uploaded root", exact=True)).to_be_visible()
    visitor.settled()
    visitor.press("dialog-confirm")
    expect(visitor.page.get_by_text("Trusted now: CN=Uploaded root.")).to_be_visible()
    visitor.select_row(0)
    expect(visitor.page.get_by_text("Root: chains end here")).to_be_visible()
    with visitor.page.expect_download() as download:
        visitor.press("download")
    assert download.value.suggested_filename.endswith(".pem")
    visitor.shot("trust")


def test_a_profile_and_a_policy_are_edited(enter: Enter) -> None:
    visitor = enter("bob", "/profiles")
    visitor.select_row(0)
    visitor.press("offer-profile-edit")
    dialog = visitor.page.get_by_role("dialog")
    names = dialog.get_by_role("textbox", name="Allowed names, one a line")
    names.fill("*.example.com")
    names.press("Control+Enter")
    expect(dialog.get_by_text("every name below example.com")).to_be_visible()
    visitor.shot("profile-edit")
    visitor.confirm("Save")
    expect(visitor.page.get_by_text("Certificate profile server was saved.")).to_be_visible()
    visitor.open("/policies")
    visitor.select_row(0)
    expect(visitor.page.get_by_text("one person has to approve a request.")).to_be_visible()
    visitor.shot("policies")
    visitor.open("/authorities")
    visitor.select_row(0)
    visitor.press("offer-ca-edit")
    expect(visitor.page.get_by_role("dialog").get_by_text("Settings", exact=True)).to_be_visible()
    visitor.shot("authority-edit")
