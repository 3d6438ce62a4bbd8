"""The dashboard as its own process, and a Chromium to look at it with."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import httpx
from playwright.sync_api import Browser, Page, expect, sync_playwright
from playwright.sync_api import TimeoutError as PlaywrightTimeout

from tests.dashboard.scene import PASSWORD
from worker.processes import free_port

ROOT = Path(__file__).parents[2]
SCREENSHOTS = ROOT / "artifacts" / "screenshots"
CHROMIUM = "/usr/bin/chromium-headless-shell"
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
# Only how long a test that fails takes: nothing is asserted about time.
PATIENCE = 30.0


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser; where there is none, tests fail."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@contextmanager
def serving(home: Path, environment: Mapping[str, str] | None = None, port: int | None = None) -> Iterator[str]:
    """The dashboard of a home, started as `certgate dashboard` starts it; its address."""
    port = port or free_port()
    log = home / "dashboard.log"
    variables = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("TEMPORAL_", "STREAMLIT_"))},
        "CERTGATE_HOME": str(home),
        "CERTGATE_DASHBOARD_PORT": str(port),
        "PYTHONPATH": str(ROOT),
        **(environment or {}),
    }
    with log.open("wb") as out:
        # Another working directory than the source's: theme and settings must be found all the same.
        process = subprocess.Popen(
            [sys.executable, "-m", "dashboard"], cwd=home, env=variables, stdout=out, stderr=subprocess.STDOUT
        )
        try:
            address = f"http://127.0.0.1:{port}"
            _await_health(process, address, log)
            yield address
        finally:
            process.terminate()
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _await_health(process: subprocess.Popen[bytes], address: str, log: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    # One client, and none that reads all public roots for it.
    with httpx.Client(trust_env=False, verify=False) as client:
        while time.monotonic() < deadline:
            assert process.poll() is None, log.read_text()
            try:
                if client.get(f"{address}/_stcore/health").status_code == 200:
                    return
            except httpx.TransportError:
                time.sleep(0.05)
    raise AssertionError(f"The dashboard did not start: {log.read_text()}")


@dataclass
class Visitor:
    """A browser window on the dashboard."""

    page: Page
    address: str

    def open(self, path: str = "/requests") -> None:
        """Go to an address as if it had been typed."""
        self.page.goto(self.address + path)

    def sign_in(self, login: str, password: str = PASSWORD, path: str = "/requests") -> None:
        """Open an address and sign in there."""
        self.open(path)
        self.try_sign_in(login, password)
        expect(self.page.get_by_role("button", name="Sign out")).to_be_visible()

    def try_sign_in(self, login: str, password: str) -> None:
        """Fill the form in and send it."""
        self.page.get_by_label("Login").fill(login)
        self.page.get_by_role("textbox", name="Password").fill(password)
        self.page.get_by_role("button", name="Sign in").click()

    def press(self, key: str) -> None:
        """Press the button that the page's code calls `key`."""
        self.page.locator(f".st-key-{key} button").click()

    def confirm(self, name: str) -> None:
        """Press a button of the open dialog."""
        self.page.get_by_role("dialog").get_by_role("button", name=name).click()

    def settled(self) -> None:
        """Wait until Streamlit has finished its run and everything is drawn; the sign-in page is not Streamlit's."""
        if urlsplit(self.page.url).path == "/sign-in":
            return
        expect(self.page.locator('[data-testid="stApp"][data-test-script-state="notRunning"]')).to_be_visible()
        expect(self.page.locator('[data-testid="stSkeleton"]')).to_have_count(0)

    def shot(self, name: str, *, full: bool = True) -> None:
        """Keep a picture for people."""
        self.settled()
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=SCREENSHOTS / f"{name}.png", full_page=full)

    def select_row(self, position: int) -> None:
        """Select a row of the table, which is a canvas, by its checkbox."""
        table = self.page.locator('[data-testid="stDataFrame"]').first
        canvas = table.locator("canvas").first
        expect(canvas).to_be_visible()
        self.settled()
        table.click(position={"x": 18, "y": 36 + 36 * position + 18})

    def choose(self, label: str, choice: str) -> None:
        """Pick from a select box. A run that was just begun may close its list: it is opened until picked from."""
        option = self.page.get_by_role("option", name=choice)
        deadline = time.monotonic() + PATIENCE
        while True:
            self.settled()
            self.page.get_by_role("combobox", name=label).click()
            try:
                option.click(timeout=2000)
            except PlaywrightTimeout:
                if time.monotonic() > deadline:
                    raise
                self.page.keyboard.press("Escape")
            else:
                self.settled()
                return

    def query(self, name: str) -> str | None:
        """A value in the address."""
        found = re.search(rf"[?&]{name}=([^&]*)", self.page.url)
        return found.group(1) if found else None
