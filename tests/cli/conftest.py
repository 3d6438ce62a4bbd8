"""A home to use the command line on, in this process: `cli.main.run` gives the exit code."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cli.main import run


@dataclass(frozen=True)
class Said:
    """What a command did."""

    code: int
    out: str
    err: str

    @property
    def value(self) -> Any:
        """Its one JSON value."""
        return json.loads(self.out)


Certgate = Callable[..., Said]


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(("CERTGATE_", "TEMPORAL_"))]:
        monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def _upgraded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("upgraded") / "home"
    assert run(["--home", str(home), "database", "upgrade"]) == 0
    return home


@pytest.fixture
def home(_upgraded: Path, tmp_path: Path) -> Path:
    """A home as `certgate database upgrade` leaves it."""
    home = tmp_path / "home"
    shutil.copytree(_upgraded, home)
    return home


@pytest.fixture
def certgate(home: Path, capfd: pytest.CaptureFixture[str]) -> Certgate:
    """Run a command on the home."""

    def call(*words: str, on: Path = home) -> Said:
        capfd.readouterr()
        code = run(["--home", str(on), *words])
        captured = capfd.readouterr()
        return Said(code, captured.out, captured.err)

    return call
