"""Fixtures for all tests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from model.database import Database
from tests.support import databases
from tests.support import openbao as openbao_server
from tests.support.openbao import OpenBao
from tests.support.sshd import Sshd, sshd
from tests.support.world import World, world

# What takes longest begins first, so that no core is left alone with it in the end.
LONGEST = (
    "tests/system",
    "tests/dashboard/test_browser.py",
    "tests/dashboard/test_gateways_browser.py",
    "tests/dashboard/test_live.py",
    "tests/dashboard/test_settings_browser.py",
    "tests/connectors/ca",
    "tests/workflows",
)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Order the files; within a file tests stay as they are."""

    def place(item: pytest.Item) -> int:
        path = item.path.relative_to(config.rootpath).as_posix()
        return next((at for at, start in enumerate(LONGEST) if path.startswith(start)), len(LONGEST))

    items.sort(key=place)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    """An empty database of today's schema."""
    made = databases.empty(tmp_path)
    yield made
    made.close()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def shared_world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    """One whole certgate for all tests that only add to it."""
    async with world(tmp_path_factory.mktemp("world")) as made:
        yield made


@pytest.fixture(scope="session")
def ssh_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    """An SSH server on this machine that lets the user in that runs the tests."""
    with sshd(tmp_path_factory.mktemp("sshd")) as server:
        yield server


@pytest.fixture(scope="session")
def openbao(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenBao]:
    """A real OpenBao; a test that seals it unseals it."""
    with openbao_server.running(tmp_path_factory.mktemp("openbao")) as server:
        yield server
