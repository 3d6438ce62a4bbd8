"""The dashboard in a real browser, with the real workflow engine behind it: request, approve, decline, until served."""

from __future__ import annotations

import asyncio
import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, expect
from sqlmodel import select

from model.states import CertificateStatus, InstallState
from model.tables import Administrator
from operations import endpoints
from operations.identity import hash_password
from tests.dashboard.browsing import PATIENCE, Visitor, chromium, serving
from tests.dashboard.scene import PASSWORD
from tests.support.world import World, world
from worker.playground import DisposableNginx

expect.set_options(timeout=PATIENCE * 1000)


class Engine:
    """A whole certgate on an event loop in a thread of its own: Playwright's driver wants this one."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._ready: Future[World] = Future()
        self._thread = threading.Thread(target=self._serve, name="engine")

    def __enter__(self) -> Engine:
        self._thread.start()
        self.world = self._ready.result()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()
        self._loop.close()

    def run(self, work: Any) -> Any:
        """The result of a coroutine on the engine's loop."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(PATIENCE * 2)

    def _serve(self) -> None:
        self._loop.run_until_complete(self._life())

    async def _life(self) -> None:
        try:
            async with world(self._folder) as made:
                self._ready.set_result(made)
                await self._stop.wait()
        except BaseException as error:
            if not self._ready.done():
                self._ready.set_exception(error)
            raise


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    with Engine(tmp_path_factory.mktemp("live")) as started:
        with started.world.database.write() as session:
            for login in ("alice", "bob"):
                row = session.exec(select(Administrator).where(Administrator.login == login)).one()
                row.password_hash = hash_password(PASSWORD)
                session.add(row)
        yield started


@pytest.fixture(scope="module")
def shop(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DisposableNginx]:
    """An nginx that serves shop.example.test, known as the endpoint `shop`."""
    folder = tmp_path_factory.mktemp("nginx")
    with DisposableNginx(folder / "shop", ["shop.example.test"]) as nginx:
        engine.run(engine.world.endpoint(nginx, "shop"))
        yield nginx
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def chrome() -> Iterator[Browser]:
    with chromium() as started:
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


@pytest.fixture
def enter(chrome: Browser, address: str) -> Iterator[Callable[[], Visitor]]:
    contexts = []

    def entered() -> Visitor:
        contexts.append(chrome.new_context(viewport={"width": 1440, "height": 1000}, timezone_id="Europe/Berlin"))
        return Visitor(contexts[-1].new_page(), address)

    yield entered
    for context in contexts:
        context.close()


def choose(visitor: Visitor, label: str, option: str) -> None:
    """Pick from a select box."""
    visitor.settled()
    visitor.page.get_by_role("combobox", name=label).click()
    visitor.page.get_by_role("option", name=option).first.click()
    visitor.settled()


def waiting(engine: Engine, name: str) -> int:
    """A request that awaits approval, made by alice."""
    number: int = engine.run(engine.world.submit(name))
    engine.run(engine.world.until(number, state=InstallState.KEY_READY))
    return number


def test_from_the_form_to_the_certificate_that_is_served(
    enter: Callable[[], Visitor], engine: Engine, shop: DisposableNginx
) -> None:
    alice = enter()
    alice.sign_in("alice", path="/new-request")
    choose(alice, "Endpoint", "shop")
    choose(alice, "Binding", "shop.example.test")
    expect(alice.page.get_by_role("textbox", name="Common name")).to_have_value("shop.example.test")
    alice.press("submit-1")
    # The page follows the request by itself.
    expect(alice.page.get_by_text("It waits for somebody else's approval than the requester's.")).to_be_visible()
    expect(alice.page.get_by_role("button", name="Approve")).to_have_count(0)
    number = int(alice.query("id") or 0)

    bob = enter()
    bob.sign_in("bob", path="/requests?mine=true&q=shop.example.test")
    bob.select_row(0)
    bob.press("inbox-approve")
    comment = bob.page.get_by_role("dialog").get_by_role("textbox", name="Comment (optional)")
    comment.fill("go <b>ahead</b>")
    bob.confirm("Approve")
    expect(bob.page.locator('[class*="st-key-notice-success"]')).to_be_visible()
    bob.shot("live-approved")

    expect(alice.page.get_by_text("The endpoint serves exactly the certificate that was issued.")).to_be_visible()
    expect(alice.page.get_by_text(f"Approved request {number}: go <b>ahead</b>")).to_be_visible()
    alice.shot("live-served")
    detail = engine.world.show(number)
    assert detail.install_state == InstallState.COMPLETED
    assert detail.served_fingerprint == detail.issued_fingerprint
    bob.open("/certificates?c-q=shop.example.test")
    expect(bob.page.get_by_text("1–1 of 1")).to_be_visible()
    bob.shot("live-certificates")


def test_a_decline_ends_a_request_with_its_reason(enter: Callable[[], Visitor], engine: Engine) -> None:
    number = waiting(engine, "declined.example.test")
    bob = enter()
    bob.sign_in("bob", path=f"/request?id={number}")
    bob.press("request-decline")
    bob.page.get_by_role("dialog").get_by_role("textbox", name="Reason").fill("this host is being shut down")
    bob.confirm("Decline")
    expect(bob.page.get_by_role("listitem").filter(has_text="declined")).to_be_visible()
    expect(bob.page.get_by_text("this host is being shut down").first).to_be_visible()
    expect(bob.page.get_by_role("button", name="Approve")).to_have_count(0)
    bob.shot("live-declined")
    assert engine.run(engine.world.until(number, status=CertificateStatus.DECLINED))


def test_a_second_decision_is_refused_in_one_sentence(enter: Callable[[], Visitor], engine: Engine) -> None:
    number = waiting(engine, "twice.example.test")
    bob = enter()
    bob.sign_in("bob", path=f"/request?id={number}")
    bob.press("request-approve")
    expect(bob.page.get_by_role("dialog")).to_be_visible()
    engine.run(engine.world.say(number, "approve", by="admin"))
    engine.run(engine.world.until(number, status=CertificateStatus.ISSUED))
    bob.confirm("Approve")
    refused = bob.page.locator('[class*="st-key-notice-error"]')
    expect(refused).to_contain_text(f"request {number} awaits no decision any more")
    expect(bob.page.get_by_role("dialog")).to_have_count(0)


def test_a_cancel_ends_a_request(enter: Callable[[], Visitor], engine: Engine) -> None:
    number = waiting(engine, "canceled.example.test")
    alice = enter()
    alice.sign_in("alice", path=f"/request?id={number}")
    alice.press("request-cancel")
    alice.confirm("Cancel request")
    expect(alice.page.get_by_role("listitem").filter(has_text="canceled")).to_be_visible()
    assert engine.run(engine.world.until(number, status=CertificateStatus.CANCELED))


def test_a_keystore_is_added_looked_into_and_a_wrong_passphrase_told(
    enter: Callable[[], Visitor], engine: Engine, tmp_path: Path
) -> None:
    passphrase = tmp_path / "passphrase"
    passphrase.write_text("correct horse battery staple")
    passphrase.chmod(0o600)
    bob = enter()
    bob.sign_in("bob", path=f"/keystores?gateway={engine.world.gateway_id}")
    bob.page.get_by_role("button", name="Add keystore").click()
    choose(bob, "Type", "PKCS#12 file")
    bob.page.get_by_role("textbox", name="Name (needed)").fill("tomcat")
    bob.page.get_by_role("textbox", name="File (needed)").fill("tomcat.p12")
    bob.page.get_by_role("textbox", name="Passphrase (needed)").fill(f"file:{passphrase}")
    bob.shot("live-keystore-add")
    bob.page.get_by_role("button", name="Add", exact=True).click()
    expect(bob.page.get_by_text("Keystore tomcat was added.")).to_be_visible()

    number = engine.run(engine.world.submit("kept.example.test", keystore="tomcat"))
    engine.run(engine.world.until(number, state=InstallState.KEY_READY))
    bob.open(f"/keystores?gateway={engine.world.gateway_id}")
    bob.select_row(1)
    bob.page.get_by_role("button", name="Check now").click()
    expect(bob.page.get_by_text("As its gateway saw it just now")).to_be_visible()
    bob.shot("live-keystore-contents")
    passphrase.write_text("another horse")
    bob.page.get_by_role("button", name="Check now").click()
    expect(bob.page.get_by_text("the passphrase is wrong or the file is damaged")).to_be_visible()
    expect(bob.page.get_by_text("Look whether the passphrase reference names")).to_be_visible()
    bob.page.get_by_role("button", name="Remove keystore").click()
    bob.page.get_by_role("button", name="Remove", exact=True).click()
    expect(bob.page.get_by_text(f"keys in it are in use: open request {number}")).to_be_visible()
    bob.shot("live-keystore-in-use")


def test_an_endpoint_is_tested_and_its_error_comes_with_its_cure(
    enter: Callable[[], Visitor], engine: Engine, tmp_path: Path
) -> None:
    with DisposableNginx(tmp_path / "tested", ["tested.example.test"]) as nginx:
        engine.run(engine.world.endpoint(nginx, "tested"))
        bob = enter()
        bob.sign_in("bob", path=f"/endpoints?gateway={engine.world.gateway_id}")
        rows = len(endpoints.listing(engine.world.context("bob"), engine.world.gateway_id))
        if rows > 1:
            bob.select_row(rows - 1)
        test = bob.page.get_by_role("button", name="Test connection")
        test.click()
        expect(bob.page.get_by_text("The connection is good.")).to_be_visible()
        bob.shot("live-endpoint-good")
        nginx.stop()
        test.click()
        expect(bob.page.get_by_text("Start the product on its host, then ask again.")).to_be_visible()
        bob.shot("live-endpoint-bad")
        nginx.start()
        bob.page.get_by_role("button", name="Discover bindings").click()
        expect(bob.page.get_by_text("1 binding found on tested.")).to_be_visible()
