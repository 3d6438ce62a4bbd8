"""Fixtures for all tests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from model.database import Database
from tests.support.world import World, world


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    """An empty database of today's schema."""
    made = Database(f"sqlite:///{tmp_path}/certgate.db")
    made.upgrade()
    yield made
    made.close()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def shared_world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    """One whole certgate for all tests that only add to it."""
    async with world(tmp_path_factory.mktemp("world")) as made:
        yield made
