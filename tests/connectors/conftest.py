"""A real nginx for a test, and a CA for all."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.installing import Rig, ThrowawayAuthority, local_host
from worker.playground import DisposableNginx


@pytest.fixture(scope="session")
def authority() -> ThrowawayAuthority:
    return ThrowawayAuthority()


@pytest.fixture
def stopped_rig(tmp_path: Path) -> Iterator[Rig]:
    """nginx with two sites, configured and not started."""
    nginx = DisposableNginx(tmp_path / "nginx", ["a.example", "b.example"])
    yield Rig(nginx, tmp_path / "home", local_host())
    nginx.stop()


@pytest.fixture
def rig(stopped_rig: Rig) -> Rig:
    """The same, started."""
    stopped_rig.nginx.start()
    return stopped_rig
