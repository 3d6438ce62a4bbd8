"""Answers that stay small: discovery of very many bindings, and scans that go on where a dead process was."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from temporalio.testing import ActivityEnvironment

from activities import installation
from activities.installation import Installations
from activities.inventory_scans import Scanning
from connectors.endpoints.contract import Binding, Listener
from connectors.registry import Surroundings
from connectors.secrets import resolve
from model.messages import (
    DiscoverEndpoint,
    Discovery,
    EndpointAccess,
    ScanFinding,
    ScanFound,
    ScanPart,
    ScanService,
)
from tests.support.served import context_for, listening
from tests.support.world import LOOKED_THROUGH


class Many:
    """An endpoint with thousands of bindings that nothing can be asked about."""

    async def discover(self) -> list[Binding]:
        """Long names, as they come."""
        listener = Listener("192.0.2.1", 443)
        return [Binding(f"{number:05}-{'x' * 400}", [f"{number}.example"], [listener]) for number in range(5000)]


async def test_thousands_of_bindings_come_in_answers_that_the_engine_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(installation, "open_endpoint", lambda *_: Many())
    steps = Installations(Surroundings(tmp_path, resolve))
    access = EndpointAccess(1, "many", "many", {}, "local", {})
    first: int | None = 0
    found: list[str] = []
    while first is not None:
        answer: Discovery = await ActivityEnvironment().run(steps.discover, DiscoverEndpoint(access, [], first))
        assert len(json.dumps(dataclasses.asdict(answer))) < 2_000_000
        found += [one.binding for one in answer.bindings]
        first = answer.next
    assert len(found) == len(set(found)) == 5000


async def test_a_scan_goes_on_where_its_last_heartbeat_was(tmp_path: Path) -> None:
    served, _ = context_for(tmp_path, ["resumed.example"])
    async with listening("127.0.0.1", 0, served) as port:
        part = ScanPart(["127.0.0.0/29"], [ScanService(port)], [], 0, 500, 8, 1.0)
        before = ScanFound(3, 6, 1, 0, [ScanFinding("127.0.0.2", port, None, None, "ab" * 32)], [])
        environment = ActivityEnvironment()
        details = json.loads(json.dumps(dataclasses.asdict(before)))
        environment.info = dataclasses.replace(environment.info, heartbeat_details=[details])
        found: ScanFound = await environment.run(Scanning(LOOKED_THROUGH).scan, part)
    # The server on the first address was looked at before, and is not again.
    assert (found.next, found.total, found.answered, found.findings) == (6, 6, 1, before.findings)
