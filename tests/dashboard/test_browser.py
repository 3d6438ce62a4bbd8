"""The dashboard in a real browser, on records alone."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from playwright.sync_api import Browser, ConsoleMessage, expect

from model.states import Role
from model.tables import Notification
from tests.dashboard import scene as scenes
from tests.dashboard.browsing import PATIENCE, Visitor, chromium, serving
from tests.dashboard.scene import HOSTILE, PASSWORD, Scene, administrator

expect.set_options(timeout=PATIENCE * 1000)


@pytest.fixture(scope="module")
def chrome() -> Iterator[Browser]:
    # Of this module only: while Playwright's synchronous driver runs, no asynchronous test can.
    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    made = scenes.make(tmp_path_factory.mktemp("dashboard") / "home")
    yield made
    made.database.close()


@pytest.fixture(scope="module")
def address(filled: Scene) -> Iterator[str]:
    with serving(filled.home) as url:
        yield url


Enter = Callable[..., Visitor]


def _is_complaint(said: ConsoleMessage) -> bool:
    """What the browser holds against a page: the content security policy above all. That a form was refused is none."""
    return said.type == "error" and "the server responded with a status of 4" not in said.text


@pytest.fixture
def enter(chrome: Browser, address: str) -> Iterator[Enter]:
    """A window of its own, with its own session; what the browser complains of fails the test."""
    contexts = []
    complaints: list[str] = []

    def entered(width: int = 1440, height: int = 900, *, dark: bool = False) -> Visitor:
        context = chrome.new_context(
            viewport={"width": width, "height": height},
            color_scheme="dark" if dark else "light",
            timezone_id="Europe/Berlin",
        )
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda said: complaints.append(said.text) if _is_complaint(said) else None)
        return Visitor(page, address)

    yield entered
    for context in contexts:
        context.close()
    assert complaints == []


def test_signing_in_wrong_then_right_then_out(enter: Enter) -> None:
    visitor = enter()
    visitor.open()
    visitor.shot("sign-in")
    visitor.try_sign_in("alice", "wrong")
    expect(visitor.page.get_by_text("Login or password is wrong.")).to_be_visible()
    expect(visitor.page.get_by_text("Requests")).to_have_count(0)
    visitor.shot("sign-in-refused")
    visitor.try_sign_in("alice", PASSWORD)
    expect(visitor.page.get_by_role("heading", name="Requests")).to_be_visible()
    visitor.press("sign-out")
    expect(visitor.page.get_by_role("button", name="Sign in")).to_be_visible()


def test_a_session_outlives_a_reload_and_holds_in_every_tab_until_one_signs_out(enter: Enter, filled: Scene) -> None:
    first = enter()
    first.sign_in("alice")
    first.page.reload()
    expect(first.page.get_by_role("button", name="Sign out")).to_be_visible()
    other = Visitor(first.page.context.new_page(), first.address)
    other.open(f"/request?id={filled.requests['served']}")
    expect(other.page.get_by_text("shop.example.com", exact=True).first).to_be_visible()
    assert "session" not in other.page.evaluate("document.cookie")
    first.press("sign-out")
    expect(first.page.get_by_text("You are signed out.")).to_be_visible()
    # The other tab leaves by itself, and comes back to where it was after signing in.
    expect(other.page.get_by_role("button", name="Sign in")).to_be_visible()
    expect(other.page.get_by_text("shop.example.com")).to_have_count(0)
    other.try_sign_in("bob", PASSWORD)
    expect(other.page.get_by_text("shop.example.com", exact=True).first).to_be_visible()
    assert other.query("id") == str(filled.requests["served"])
    expect(other.page.get_by_text("Bob Berger")).to_be_visible()


def test_the_sign_in_page_in_the_dark_and_in_a_narrow_window(enter: Enter) -> None:
    dark = enter(dark=True)
    dark.open("/certificates")
    dark.try_sign_in("alice", "wrong")
    expect(dark.page.get_by_role("alert")).to_have_text("Login or password is wrong.")
    # The login stays, and typing goes on with the password.
    expect(dark.page.get_by_label("Login")).to_have_value("alice")
    expect(dark.page.get_by_role("textbox", name="Password")).to_be_focused()
    dark.shot("sign-in-dark")
    narrow = enter(360, 640)
    narrow.open()
    narrow.shot("sign-in-narrow")
    assert narrow.page.evaluate("document.documentElement.scrollWidth") <= 360


def test_a_lock_out_is_told(enter: Enter, filled: Scene) -> None:
    with filled.database.write() as session:
        administrator(filled, session, "clumsy", "Clumsy", Role.MRAO)
    visitor = enter()
    visitor.open()
    for _ in range(5):
        visitor.try_sign_in("clumsy", "wrong")
        expect(visitor.page.get_by_text("Login or password is wrong.")).to_be_visible()
        visitor.settled()
    visitor.try_sign_in("clumsy", PASSWORD)
    expect(visitor.page.get_by_text("Too many failed sign-ins: clumsy is locked until")).to_be_visible()
    visitor.shot("sign-in-locked")


def test_a_deep_link_is_followed(enter: Enter, filled: Scene) -> None:
    visitor = enter()
    visitor.sign_in("bob", path=f"/request?id={filled.requests['served']}")
    expect(visitor.page.get_by_text("shop.example.com", exact=True).first).to_be_visible()
    assert visitor.query("id") == str(filled.requests["served"])
    visitor.shot("request-served")


def test_the_inbox_filters_while_one_types_and_keeps_it_in_the_address(enter: Enter) -> None:
    visitor = enter()
    visitor.sign_in("bob")
    expect(visitor.page.get_by_text("1–7 of 7")).to_be_visible()
    visitor.shot("inbox")
    search = visitor.page.get_by_placeholder("Search by common name or order number")
    search.press_sequentially("shop")
    expect(visitor.page.get_by_text("1–1 of 1")).to_be_visible()
    expect(search).to_be_focused()
    assert visitor.query("q") == "shop"
    visitor.shot("inbox-search")
    visitor.press("clear")
    expect(visitor.page.get_by_text("1–7 of 7")).to_be_visible()
    visitor.page.get_by_text("Awaiting my decision").click()
    expect(visitor.page.get_by_text("1–3 of 3")).to_be_visible()
    other = enter()
    other.sign_in("bob", path=visitor.page.url.removeprefix(visitor.address))
    expect(other.page.get_by_text("1–3 of 3")).to_be_visible()


def test_groups_lead_to_their_requests(enter: Enter) -> None:
    visitor = enter()
    visitor.sign_in("bob", path="/requests?group=Gateway")
    expect(visitor.page.get_by_text("Select a group to see its requests; 7 in all.")).to_be_visible()
    visitor.shot("inbox-groups")
    visitor.select_row(0)
    expect(visitor.page.get_by_text("1–1 of 1")).to_be_visible()
    assert visitor.query("gateway") == "frankfurt-1"
    assert visitor.query("group") is None


def test_a_selected_request_is_opened_or_decided_on(enter: Enter, filled: Scene) -> None:
    visitor = enter()
    visitor.sign_in("bob", path="/requests?q=intranet")
    visitor.select_row(0)
    expect(visitor.page.get_by_text("Needed before Friday.")).to_be_visible()
    visitor.shot("inbox-selected")
    visitor.press("inbox-decline")
    dialog = visitor.page.get_by_role("dialog")
    expect(dialog.get_by_text(f"Request {filled.requests['waiting']}: intranet.example.com")).to_be_visible()
    visitor.shot("decline")
    visitor.confirm("Decline")
    expect(dialog.get_by_text("needs a reason")).to_be_visible()
    visitor.confirm("Back")
    expect(dialog).to_have_count(0)
    visitor.press("open")
    expect(visitor.page.get_by_text("It waits for somebody else's approval")).to_be_visible()
    visitor.shot("request-waiting")


def test_without_the_engine_a_decision_is_refused_in_one_sentence(enter: Enter, filled: Scene) -> None:
    visitor = enter(dark=True)
    visitor.sign_in("bob", path=f"/request?id={filled.requests['waiting']}")
    expect(visitor.page.get_by_text("What it is doing right now can't be shown.")).to_be_visible()
    visitor.press("request-approve")
    visitor.shot("approve-dark")
    visitor.confirm("Approve")
    expect(
        visitor.page.locator('[class*="st-key-notice-error"]').get_by_text("No Temporal server runs")
    ).to_be_visible()
    expect(visitor.page.get_by_text("Traceback")).to_have_count(0)
    visitor.shot("request-dark")


def test_what_people_typed_is_never_markup(enter: Enter, filled: Scene) -> None:
    visitor = enter()
    visitor.sign_in("bob", path=f"/request?id={filled.requests['hostile']}")
    expect(visitor.page.get_by_text(HOSTILE, exact=True)).to_be_visible()
    visitor.shot("request-hostile")
    visitor.press("request-approve")
    expect(visitor.page.get_by_role("dialog")).to_be_visible()
    main = visitor.page.locator('[data-testid="stMain"]')
    assert main.locator("img").count() == 0
    assert main.locator("a[href*='autolink'], a[href*='127.0.0.1/']").count() == 0
    assert visitor.page.evaluate("window.pwned") is None


def test_a_bad_name_keeps_the_form(enter: Enter) -> None:
    visitor = enter(height=1250)
    visitor.sign_in("alice", path="/new-request")
    for label, choice in (("Organization", "Default"), ("Gateway", "local"), ("Endpoint", "web")):
        visitor.choose(label, choice)
    visitor.choose("Binding", "shop.example.com:443")
    name = visitor.page.get_by_role("textbox", name="Common name")
    expect(name).to_have_value("shop.example.com")
    visitor.shot("new-request")
    name.fill("not a name")
    visitor.press("submit-1")
    expect(visitor.page.locator('[class*="st-key-notice-error"]')).to_contain_text("not a name")
    expect(name).to_have_value("not a name")
    expect(visitor.page.get_by_role("textbox", name="Further names, one a line")).to_have_value("www.shop.example.com")
    visitor.shot("new-request-refused")


def test_certificates_from_the_list_to_the_download(enter: Enter, filled: Scene, tmp_path: Path) -> None:
    visitor = enter()
    visitor.sign_in("bob", path="/certificates")
    visitor.select_row(0)
    visitor.shot("certificates")
    visitor.press("open")
    expect(visitor.page.get_by_text("web, shop.example.com:443")).to_be_visible()
    visitor.shot("certificate")
    with visitor.page.expect_download() as download:
        visitor.press("download")
    download.value.save_as(tmp_path / "chain.pem")
    text = (tmp_path / "chain.pem").read_text()
    assert text.count("BEGIN CERTIFICATE") == 3
    assert "KEY" not in text
    visitor.press("revoke")
    number = filled.certificates["served"]
    expect(visitor.page.get_by_role("dialog").get_by_text(f"Certificate {number}: shop.example.com")).to_be_visible()
    visitor.shot("revoke")


def test_who_may_not_sees_no_button(enter: Enter, filled: Scene) -> None:
    visitor = enter()
    visitor.sign_in("walter", path=f"/request?id={filled.requests['waiting']}")
    expect(visitor.page.get_by_text("intranet.example.com", exact=True).first).to_be_visible()
    expect(visitor.page.get_by_role("button", name="Approve")).to_have_count(0)
    expect(visitor.page.get_by_role("link", name="New request")).to_have_count(0)


def test_it_holds_in_a_narrow_window(enter: Enter, filled: Scene) -> None:
    visitor = enter(420, 850)
    visitor.open(f"/request?id={filled.requests['rolled back']}")
    visitor.try_sign_in("bob", PASSWORD)
    expect(visitor.page.get_by_text("Mend the endpoint, then retry.")).to_be_visible()
    visitor.shot("request-narrow")
    # Nothing but a table may be wider than the window.
    assert visitor.page.evaluate("document.documentElement.scrollWidth") <= 420
    inbox = enter(420, 850)
    inbox.open()
    inbox.try_sign_in("bob", PASSWORD)
    expect(inbox.page.get_by_role("heading", name="Requests")).to_be_visible()
    inbox.shot("inbox-narrow")


def test_there_is_no_noise_of_the_framework(enter: Enter) -> None:
    visitor = enter()
    visitor.sign_in("bob")
    for words in ("Deploy", "Made with Streamlit"):
        expect(visitor.page.get_by_text(words)).to_have_count(0)
    expect(visitor.page.locator('[data-testid="stMainMenu"]')).to_have_count(0)
    assert visitor.page.title() == "Requests · certgate"


def test_the_audit_trail_is_read_downloaded_and_verified(enter: Enter, filled: Scene) -> None:
    visitor = enter()
    visitor.sign_in("alice", path="/audit?a-outcome=Failed")
    expect(visitor.page.get_by_role("button", name="Clear filters")).to_be_visible()
    visitor.settled()
    visitor.select_row(0)
    expect(visitor.page.locator(".st-key-selection").get_by_text("nginx did not serve")).to_be_visible()
    visitor.shot("audit-entry")
    with visitor.page.expect_download() as begun:
        visitor.page.locator(".st-key-download-csv a").first.click()
    rows = list(csv.DictReader(begun.value.path().read_text(encoding="utf-8").splitlines()))
    assert {row["outcome"] for row in rows} == {"failed"}
    visitor.press("clear")
    visitor.press("verify")
    visitor.confirm("Verify now")
    expect(visitor.page.get_by_text("The audit trail is whole")).to_be_visible()
    visitor.shot("audit-verify")


def test_the_bell_leads_to_what_is_new_and_reading_it_makes_it_seen(enter: Enter, filled: Scene) -> None:
    with filled.database.write() as session:
        for number in range(3):
            session.add(
                Notification(
                    kind="gateway.away",
                    once=f"browser/{number}",
                    gateway_id=1,
                    subject=f"Gateway {number} is away",
                    text=f"It has open work. {HOSTILE}",
                    created_at=datetime.now(UTC),
                )
            )
    visitor = enter()
    visitor.sign_in("bob")
    bell = visitor.page.get_by_test_id("stSidebar").get_by_role("link", name="Notifications")
    expect(bell).to_contain_text("3 new")
    bell.click()
    expect(visitor.page.get_by_role("heading", name="Notifications")).to_be_visible()
    visitor.shot("notifications")
    visitor.page.get_by_text("Only new").click()
    expect(visitor.page).to_have_url(re.compile("new=true"))
    visitor.select_row(0)
    expect(visitor.page.locator(".st-key-selection").get_by_text(HOSTILE)).to_be_visible()
    expect(bell).to_contain_text("2 new")
    visitor.shot("notifications-selected")
    visitor.press("all-seen")
    expect(visitor.page.get_by_text("2 marked as seen.")).to_be_visible()
    expect(bell).not_to_contain_text("new")
    visitor.open("/notifications?new=true")
    expect(visitor.page.get_by_text("You have seen everything.")).to_be_visible()
    visitor.page.get_by_text("By e-mail").click()
    expect(visitor.page.get_by_text("Your mailbox is spared.")).to_be_visible()
    assert visitor.page.evaluate("window.pwned") is None
