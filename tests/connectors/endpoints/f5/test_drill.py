"""Connections are cut after random bytes and processes are killed at random lines, while somebody looks at the virtual
server all the time: it serves a certificate that was meant for it in every single handshake, and in the end there is
order: one certificate bound, nothing of the way there left, the units in sync."""

from __future__ import annotations

import asyncio
import random
import threading
from pathlib import Path
from types import TracebackType

import pytest

from connectors.endpoints import procedure
from tests.connectors.ca.exactly_once import CuttingProxy, many
from tests.connectors.endpoints.f5.drill import Killer, carry_out
from tests.simulators.f5 import Faults, Simulator
from tests.support.f5 import settings_of
from tests.support.installing import ThrowawayAuthority, fingerprint_of
from tests.support.products import shown

LOOK_SECONDS = 0.1


class Watcher:
    """Shakes hands with the virtual server from enter to exit."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.seen: dict[str | None, int] = {}

    def _run(self) -> None:
        while not self._over.wait(LOOK_SECONDS):
            found = shown(self._port, "www.example.com")
            self.seen[found] = self.seen.get(found, 0) + 1

    def __enter__(self) -> Watcher:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()


@pytest.mark.parametrize("seed", [1])
async def test_it_serves_what_it_should_whatever_is_cut_and_killed(
    tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(procedure, "ROUNDS_IN_A_ROW", 1)
    dice, authority = random.Random(seed), ThrowawayAuthority()
    with Simulator(faults=Faults.off()) as device, Killer() as killer:
        before = shown(device.ports["vs_web"], "www.example.com")
        meant, killed, cuts, finished = {before}, 0, 0, 0
        async with CuttingProxy(device.port) as proxy:
            settings = settings_of(device, tmp_path, port=proxy.port)
            first = authority.issue("www.example.com")
            meant.add(fingerprint_of(first))
            with Watcher(device.ports["vs_web"]) as watcher:
                counted = await asyncio.to_thread(killer.run, settings, tmp_path, "/Common/www", first, None)
                assert counted.told == ""
                length = proxy.forwarded
                for _ in range(many(6)):
                    material = authority.issue("www.example.com")
                    meant.add(fingerprint_of(material))
                    if dice.random() < 0.6:
                        at = dice.randint(1, counted.lines)
                        ended = await asyncio.to_thread(killer.run, settings, tmp_path, "/Common/www", material, at)
                        killed += ended.killed
                        finished += not ended.killed and not ended.told
                    else:
                        proxy.arm(dice.randint(1, length))
                        finished += await carry_out(settings, tmp_path, "/Common/www", material) == ""
                        cuts += proxy.disarm()
                last = authority.issue("www.example.com")
                meant.add(fingerprint_of(last))
                assert await carry_out(settings, tmp_path, "/Common/www", last) == ""
        assert set(watcher.seen) <= meant, "in every handshake a certificate that was meant for it"
        assert sum(watcher.seen.values()) > 10
        assert killed >= 2
        assert cuts >= 1
        assert shown(device.ports["vs_web"], "www.example.com") == fingerprint_of(last)
        assert not list((tmp_path / "journal").glob("*.json"))
        assert not device.active.files, "no key lies about"
        assert device.units[0].configuration is device.units[1].configuration
        ours = [one for one in device.configuration.keys if "/certgate-" in one]
        assert len(ours) <= 3, "generations that nobody will go back to are gone"
