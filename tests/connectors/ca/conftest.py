"""Servers that the tests of several CAs share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.acme2certifier import SecondServer, second_server
from tests.support.bind import Bind, bind
from tests.support.pebble import Pebble, pebble


@pytest.fixture(scope="session")
def shared_pebble(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pebble]:
    """One Pebble with its faults on, for all tests that don't change it."""
    with pebble(tmp_path_factory.mktemp("pebble")) as made:
        yield made


@pytest.fixture(scope="session")
def name_servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bind]:
    """One pair of BIND servers for all tests: each uses names of its own."""
    with bind(tmp_path_factory.mktemp("bind")) as running:
        yield running


@pytest.fixture(scope="session")
def dns_pebble(tmp_path_factory: pytest.TempPathFactory, name_servers: Bind) -> Iterator[Pebble]:
    """A Pebble with its faults on that asks the BIND servers."""
    with pebble(tmp_path_factory.mktemp("pebble-dns")) as made:
        made.dns_port = name_servers.port
        made.restart()
        yield made


@pytest.fixture(scope="session")
def second_acme(tmp_path_factory: pytest.TempPathFactory, name_servers: Bind) -> Iterator[SecondServer]:
    """An acme2certifier that asks the BIND servers."""
    with second_server(tmp_path_factory.mktemp("acme2certifier"), name_servers.port) as made:
        yield made
