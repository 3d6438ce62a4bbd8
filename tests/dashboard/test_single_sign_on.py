"""Signing in through a real OpenID Connect provider, in a real browser."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, expect
from sqlmodel import col, select

from model.states import Role
from model.tables import Administrator, AuditEntry, DashboardSession
from operations.lookup import identity
from operations.provider_check import Asked, check
from tests.dashboard import scene as scenes
from tests.dashboard.browsing import PATIENCE, Visitor, chromium, serving
from tests.dashboard.scene import Scene, administrator
from tests.support import oidc
from worker.processes import free_port
from worker.settings import load

expect.set_options(timeout=PATIENCE * 1000)

PEOPLE = {
    "p-1": {"name": "Alice", "email": "alice@elsewhere.example", "email_verified": True},
    "p-2": {"name": "Carol", "email": "Carol@Example.com", "email_verified": True},
    "p-3": {"name": "Carol too", "email": "carol@example.com", "email_verified": False},
    "p-4": {"name": "<b>Nobody</b>", "email": "nobody@example.com", "email_verified": True},
    "p-5": {"name": "Gone", "email": "", "email_verified": False},
}


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    made = scenes.make(tmp_path_factory.mktemp("sso") / "home")
    with made.database.write() as session:
        administrator(made, session, "carol", "Carol", Role.MRAO)
        administrator(made, session, "gone", "Gone", Role.MRAO)
        rows = {row.login: row for row in session.exec(select(Administrator)).all()}
        rows["carol"].email, rows["carol"].password_hash = "carol@example.com", None
        rows["gone"].active = False
        session.add_all(rows.values())
    yield made
    made.database.close()


@pytest.fixture(scope="module")
def address(filled: Scene) -> Iterator[str]:
    port = free_port()
    dashboard = f"http://127.0.0.1:{port}"
    secret = filled.home / "client-secret"
    secret.write_text(oidc.SECRET)
    secret.chmod(0o600)
    with oidc.provider(dashboard, PEOPLE, filled.home / "provider.log") as provider:
        (filled.home / "certgate.toml").write_text(
            f'[dashboard]\npublic_url = "{dashboard}"\n[oidc]\nissuer = "{provider.issuer}"\nclient_id = "certgate"\n'
            f'client_secret = "file:{secret}"\nlabel = "Example ID"\nlink = "email"\nprompt = "login"\n'
        )
        with filled.database.write() as session:
            for login, subject in (("alice", "p-1"), ("gone", "p-5")):
                row = session.exec(select(Administrator).where(Administrator.login == login)).one()
                row.oidc_issuer, row.oidc_subject = provider.issuer, subject
                session.add(row)
        with serving(filled.home, port=port) as url:
            yield url


@pytest.fixture(scope="module")
def chrome() -> Iterator[Browser]:
    with chromium() as started:
        yield started


@pytest.fixture
def enter(chrome: Browser, address: str) -> Iterator[Callable[..., Visitor]]:
    contexts = []

    def entered(account: str | None = None, path: str = "/") -> Visitor:
        contexts.append(chrome.new_context(viewport={"width": 1280, "height": 850}))
        visitor = Visitor(contexts[-1].new_page(), address)
        visitor.open(path)
        if account is not None:
            visitor.page.get_by_role("link", name="Sign in with Example ID").click()
            visitor.page.get_by_label("Account").fill(account)
            visitor.page.get_by_role("button", name="Continue").click()
        return visitor

    yield entered
    for context in contexts:
        context.close()


def audited(scene: Scene) -> list[tuple[str, str, str]]:
    with scene.database.read() as session:
        rows = session.exec(select(AuditEntry).order_by(col(AuditEntry.sequence))).all()
        return [(row.action, str(row.outcome), row.description) for row in rows]


def test_in_by_the_provider_then_reload_then_out_on_both_sides(
    enter: Callable[..., Visitor], filled: Scene, address: str
) -> None:
    number = filled.requests["served"]
    visitor = enter(path=f"/request?id={number}")
    visitor.shot("sign-in-provider")
    visitor.page.get_by_role("link", name="Sign in with Example ID").click()
    visitor.page.get_by_label("Account").fill("p-1")
    visitor.page.get_by_role("button", name="Continue").click()
    # The deep link outlived the way to the provider and back.
    expect(visitor.page.get_by_text("shop.example.com", exact=True).first).to_be_visible()
    assert visitor.query("id") == str(number)
    visitor.page.reload()
    expect(visitor.page.get_by_text("Alice Ahlgren")).to_be_visible()
    # Nothing of the provider's is in the browser: one cookie of ours counts, and no page can read it.
    ours = {one["name"]: one for one in visitor.page.context.cookies(address) if one["name"].startswith("certgate-")}
    session_cookie = ours[f"certgate-{urlsplit(address).port}-session"]
    assert session_cookie["httpOnly"]
    assert session_cookie["sameSite"] == "Lax"
    assert "certgate-" not in visitor.page.evaluate("document.cookie")
    assert not [one for one in visitor.page.context.cookies(address) if one["name"].startswith("_streamlit_user")]

    visitor.press("sign-out")
    visitor.page.get_by_role("button", name="Yes, sign me out").click()
    expect(visitor.page.get_by_text("You are signed out.")).to_be_visible()
    visitor.open()
    expect(visitor.page.get_by_role("heading", name="Sign in")).to_be_visible()
    with filled.database.read() as session:
        row = session.exec(select(DashboardSession).where(DashboardSession.way == "oidc")).one()
        assert (row.administrator_id, row.ended) == (filled.ids["alice"], "signed-out")
    log = (filled.home / "dashboard.log").read_text()
    assert session_cookie["value"] not in log


def test_a_verified_address_binds_once(enter: Callable[..., Visitor], filled: Scene) -> None:
    # The same address, but the provider does not vouch for it: nobody.
    unverified = enter("p-3")
    expect(unverified.page.get_by_text("no administrator here belongs to that account")).to_be_visible()
    visitor = enter("p-2")
    expect(visitor.page.get_by_role("button", name="Sign out")).to_be_visible()
    with filled.database.read() as session:
        row = session.exec(select(Administrator).where(Administrator.login == "carol")).one()
        assert row.oidc_subject == "p-2"
    assert any(action == "administrator.linked" and "verified e-mail" in told for action, _, told in audited(filled))


def test_deactivated_in_the_middle_the_page_leaves_by_itself(enter: Callable[..., Visitor], filled: Scene) -> None:
    visitor = enter("p-1", path="/certificates")
    expect(visitor.page.get_by_role("button", name="Sign out")).to_be_visible()
    visitor.settled()
    with filled.database.write() as session:
        row = session.exec(select(Administrator).where(Administrator.login == "alice")).one()
        row.active = False
        session.add(row)
    try:
        expect(visitor.page.get_by_text("the account was deactivated")).to_be_visible()
        again = enter("p-1")
        expect(again.page.get_by_text("The account alice is deactivated.")).to_be_visible()
    finally:
        with filled.database.write() as session:
            row = session.get_one(Administrator, identity(row))
            row.active = True
            session.add(row)


def test_who_is_nobody_here_is_told_and_it_is_audited(enter: Callable[..., Visitor], filled: Scene) -> None:
    visitor = enter("p-4")
    expect(visitor.page.get_by_text("You signed in as nobody@example.com, subject p-4")).to_be_visible()
    visitor.shot("sign-in-unknown")
    gone = enter("p-5")
    expect(gone.page.get_by_text("The account gone is deactivated.")).to_be_visible()
    refused = [told for action, outcome, told in audited(filled) if outcome == "refused" and "through" in told]
    assert any("nobody@example.com, subject p-4" in told for told in refused)
    assert any("The account gone is deactivated." in told for told in refused)


def test_the_doctor_looks_at_the_provider(address: str, filled: Scene) -> None:
    oidc_settings = load(filled.home, {}).oidc
    assert oidc_settings is not None
    right = Asked(oidc_settings.issuer, oidc_settings.metadata_url, oidc_settings.client_secret, None)
    for asked, expected in (
        (right, [(True, f"{right.issuer} answers.")]),
        (replace(right, issuer=right.issuer + "/"), [(False, "exactly as the provider does")]),
        (replace(right, metadata_url=f"{right.issuer}/nowhere"), [(False, "gives no metadata")]),
        (
            replace(right, client_secret="env:NOT_THERE_AT_ALL", metadata_url=f"http://127.0.0.1:{free_port()}/"),
            [(False, "NOT_THERE_AT_ALL is not set"), (False, "gives no metadata")],
        ),
    ):
        # In a thread of its own: Playwright has a loop in this one.
        with ThreadPoolExecutor(1) as thread:
            found = thread.submit(asyncio.run, check(asked)).result()
        assert [(one.ok, words in one.message) for one, (_, words) in zip(found, expected, strict=True)] == [
            (ok, True) for ok, _ in expected
        ]


def test_a_refusal_at_the_provider_and_a_stale_way_back_are_sentences(enter: Callable[..., Visitor]) -> None:
    visitor = enter()
    visitor.page.get_by_role("link", name="Sign in with Example ID").click()
    visitor.page.get_by_role("button", name="Refuse").click()
    expect(visitor.page.get_by_text("Example ID did not let you in.")).to_be_visible()
    # A way back that was not asked for, as a page of another site could make a browser take it.
    visitor.open("/oauth2callback?code=stolen&state=unknown")
    expect(visitor.page.get_by_text("Signing in with Example ID did not work")).to_be_visible()
