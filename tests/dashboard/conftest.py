"""A home to look at, and the dashboard's own script run by Streamlit's test driver."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import streamlit as st
from streamlit.components.v2 import manifest_scanner
from streamlit.testing.v1 import AppTest
from streamlit.util import calc_hash

from dashboard import session
from tests.dashboard import scene as scenes
from tests.dashboard.scene import Scene

COOKIE = "cookie"
SCRIPT = Path(__file__).parents[2] / "dashboard" / "app.py"


@pytest.fixture(scope="session", autouse=True)
def _components_once() -> Iterator[None]:
    """The driver looks through all installed packages for components each time; a server does when it starts."""
    found = manifest_scanner.scan_component_manifests()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(manifest_scanner, "scan_component_manifests", lambda *_: found)
        yield


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    """A filled home, and CERTGATE_HOME naming it. No Temporal runs for it."""
    for variable in ("TEMPORAL_ADDRESS", "TEMPORAL_PROFILE", "TEMPORAL_CONFIG_FILE", "CERTGATE_DATABASE_URL"):
        monkeypatch.delenv(variable, raising=False)
    made = scenes.make(tmp_path / "home")
    monkeypatch.setenv("CERTGATE_HOME", str(made.home))
    yield made
    made.database.close()
    # The process's bridge to this home ends with it.
    st.cache_resource.clear()


Visit = Callable[..., AppTest]


@pytest.fixture
def visit(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> Visit:
    """Open an address of the dashboard, signed in as somebody unless told otherwise. The driver has no browser: what a
    cookie would be is kept in the tab's state."""
    monkeypatch.setattr(session, "presented", lambda: st.session_state.get(COOKIE))

    def opened(path: str = "requests", *, login: str | None = "bob", **query: str) -> AppTest:
        app = AppTest.from_file(str(SCRIPT), default_timeout=60)
        app.query_params.update(query)
        app._page_hash = calc_hash(path)  # AppTest has no public way to a page that is a function
        if login is not None:
            app.session_state[COOKIE] = scenes.signed_in(scene, login)
        app.run()
        assert not app.exception
        return app

    return opened


def texts(app: AppTest) -> str:
    """Everything that is readable on the page, in lines."""
    kinds = (app.text, app.markdown, app.caption, app.title, app.header, app.subheader, app.code)
    return "\n".join(str(element.value) for kind in kinds for element in kind)


def labels(app: AppTest) -> set[str]:
    """The labels of all buttons."""
    return {button.label for button in app.button}
