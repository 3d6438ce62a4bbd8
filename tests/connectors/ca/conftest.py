"""Servers that the tests of several CAs share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.pebble import Pebble, pebble


@pytest.fixture(scope="session")
def shared_pebble(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pebble]:
    """One Pebble with its faults on, for all tests that don't change it."""
    with pebble(tmp_path_factory.mktemp("pebble")) as made:
        yield made
