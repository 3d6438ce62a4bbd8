"""The parts that no page is needed for, and what holds for all of the dashboard's source."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from dashboard import __main__ as launcher
from dashboard import progress, words
from dashboard.web.server import flags
from model.states import CertificateStatus, InstallState
from operations.context import Context
from operations.identity import owner
from operations.requests import RequestDetail, Waiting, show
from tests.dashboard import scene as scenes
from worker.settings import load

FOLDER = Path(launcher.__file__).parent
SOURCES = sorted(FOLDER.rglob("*.py"))


@pytest.fixture(scope="module")
def detail(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RequestDetail]:
    """The request that has come to its end, as whoever may see everything sees it."""
    scene = scenes.make(tmp_path_factory.mktemp("parts") / "home")

    async def nowhere() -> object:
        raise AssertionError

    context = Context(scene.database, owner(scene.database), "dashboard", nowhere)  # type: ignore[arg-type]
    yield show(context, scene.requests["served"])
    scene.database.close()


def states(detail: RequestDetail) -> list[str]:
    return [step.state for step in progress.steps(detail)]


def test_the_stepper_goes_as_far_as_the_request(detail: RequestDetail) -> None:
    assert states(detail) == ["done"] * 6
    ordered = replace(
        detail,
        status=CertificateStatus.APPLIED,
        install_state=InstallState.CERT_PROCESSING,
        issued_fingerprint=None,
        closed=False,
    )
    assert states(ordered) == ["done", "done", "done", "done", "current", "todo"]
    fresh = replace(ordered, status=CertificateStatus.REQUESTED, order_number=None, csr_pem=None, decisions=[])
    assert states(fresh) == ["done", "current", "todo", "todo", "todo", "todo"]


@pytest.mark.parametrize(
    ("status", "state", "expected"),
    [
        (CertificateStatus.DECLINED, InstallState.KEY_READY, ["done", "done", "failed", "todo", "todo", "todo"]),
        (CertificateStatus.CANCELED, InstallState.KEY_READY, ["done", "done", "failed", "todo", "todo", "todo"]),
        (CertificateStatus.APPROVED, InstallState.FAILED, ["done", "done", "done", "failed", "todo", "todo"]),
    ],
)
def test_the_stepper_shows_where_it_ended(
    detail: RequestDetail, status: CertificateStatus, state: InstallState, expected: list[str]
) -> None:
    ended = replace(detail, status=status, install_state=state, order_number=None, issued_fingerprint=None)
    assert states(ended) == expected


@pytest.mark.parametrize("status", CertificateStatus)
@pytest.mark.parametrize("state", InstallState)
def test_every_state_has_words_steps_and_an_answer(
    detail: RequestDetail, status: CertificateStatus, state: InstallState
) -> None:
    assert words.STATUS[status].words
    assert words.INSTALL[state].words
    seen = replace(detail, status=status, install_state=state, closed=False)
    assert len(progress.steps(seen)) == 6
    progress.waits_for(seen, [], UTC)
    progress.advice(seen)


def test_a_failing_step_is_told_with_its_attempt(detail: RequestDetail) -> None:
    waiting = [Waiting("orders.submit", 3, "The CA does not answer.", None), Waiting("new.step", 1, None, None)]
    told = progress.waits_for(replace(detail, closed=False), waiting, UTC)
    assert told == (
        "The order is placed with the CA: attempt 3; the last one said: The CA does not answer. The step new.step runs."
    )


def test_times_and_lengths_read_well() -> None:
    now = datetime(2026, 11, 23, 12, tzinfo=UTC)
    assert words.ago(now - timedelta(days=1, hours=3), now) == "1 day ago"
    assert words.ago(now + timedelta(hours=5, minutes=59), now) == "in 5 hours"
    assert words.ago(now, now) == "just now"
    assert words.when(None, UTC) == "–"
    assert words.lifetime(47 * 86_400) == "47 days"
    assert words.lifetime(6 * 3600) == "6 hours"
    assert words.grouped("abc") == "0A:BC"


def test_it_listens_where_the_settings_say_and_is_closed_otherwise(tmp_path: Path) -> None:
    given = flags(load(tmp_path / "home", {"CERTGATE_DASHBOARD_PORT": "18501"}).dashboard)
    expected = {
        "server.address": "127.0.0.1",
        "server.port": 18501,
        "server.enableXsrfProtection": True,
        "server.enableCORS": True,
        "server.enableStaticServing": False,
        "server.enableAgentApi": False,
        "server.maxUploadSize": 1,
        "browser.gatherUsageStats": False,
        "client.showErrorDetails": "none",
        "global.developmentMode": False,
        "runner.fastReruns": False,
    }
    assert {name: given[name] for name in expected} == expected


def test_a_port_of_zero_is_any_free_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CERTGATE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("CERTGATE_DASHBOARD_PORT", "0")
    assert launcher.settled().dashboard.port != 0


def test_the_theme_is_whole_in_light_and_dark() -> None:
    theme = tomllib.loads((FOLDER / ".streamlit" / "config.toml").read_text())["theme"]
    assert set(theme["light"]) == set(theme["dark"])


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: str(path.relative_to(FOLDER)))
def test_no_source_shows_html_of_its_own(source: Path) -> None:
    """HTML is made in one place, of our own words; everything else is text."""
    text = source.read_text()
    assert "unsafe_allow" not in text
    assert source.name == "components.py" or not re.search(r"st\.html|components\.v1|components\.v2", text)


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: str(path.relative_to(FOLDER)))
def test_markdown_is_made_of_our_own_words_only(source: Path) -> None:
    """Nothing is put into Markdown but numbers and words of this room; what people typed is `st.text`."""
    allowed = {
        "_ICONS[kind]",
        "needed",
        "look.icon",
        "icon",
        "title",
        "number",
        "count",
    }
    for call in re.finditer(
        r"\.(?:markdown|caption|title|header|subheader|write|badge)\(\s*f\"([^\"]*)\"", source.read_text()
    ):
        for expression in re.findall(r"{([^{}]*)}", call.group(1)):
            # Python itself refuses `:,` for anything but a number.
            ours = expression.endswith(":,") or expression.startswith(("'s are'", "words.ago(", "words.when("))
            assert ours or expression in allowed, (source.name, expression)


def test_the_folder_of_pages_is_not_one_that_streamlit_serves_by_itself() -> None:
    assert not (FOLDER / "pages").exists()
