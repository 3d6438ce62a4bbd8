"""One simulator for all tests here, as at first for each."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from connectors.endpoints import procedure
from connectors.endpoints.contract import Material
from connectors.endpoints.f5.endpoint import F5Endpoint
from connectors.errors import RolledBack
from connectors.registry import Surroundings, find
from connectors.secrets import resolve
from tests.simulators.f5 import Faults, Simulator
from tests.support.f5 import settings_of
from tests.support.installing import ThrowawayAuthority, fingerprint_of
from tests.support.products import Described, Installation, shown


@dataclass
class Clock:
    """The device's clock."""

    now: dt.datetime = field(default_factory=lambda: dt.datetime.now(dt.UTC))

    def __call__(self) -> dt.datetime:
        return self.now


@dataclass
class Bigip:
    """The device, and a gateway's home beside it."""

    device: Simulator
    clock: Clock
    home: Path
    authority: ThrowawayAuthority

    def settings(self, **changes: Any) -> dict[str, Any]:
        """Of its endpoint."""
        return settings_of(self.device, self.home, **changes)

    def endpoint(self, **changes: Any) -> F5Endpoint:
        """A new endpoint object."""
        kind = find("endpoints", "f5-big-ip")
        opened = kind.open(kind.configure(self.settings(**changes)), Surroundings(self.home, resolve))
        assert isinstance(opened, F5Endpoint)
        return opened

    def at(self, binding: str = "/Common/www", **changes: Any) -> Installation:
        """Where something is installed."""
        return Installation(Described("f5-big-ip", self.settings(**changes), binding, ()), self.home)

    async def refuse_to_serve(self, place: Installation, material: Material) -> RolledBack:
        """Install while the device serves on what it serves now; gives how that ends."""
        self.device.freeze()
        try:
            with pytest.raises(RolledBack, match="Everything was put back") as caught:
                await procedure.install(
                    place.endpoint,
                    place.product.binding,
                    material,
                    journal=place.journal,
                    progress=place.progress.append,
                    verify_timeout=dt.timedelta(seconds=0.2),
                )
        finally:
            self.device.freeze(False)
        return caught.value

    def issue(self, *names: str, **more: Any) -> Material:
        """A certificate."""
        return self.authority.issue(*(names or ("www.example.com",)), **more)

    def shown(self, virtual: str = "vs_web", name: str | None = "www.example.com") -> str | None:
        """What a virtual server serves."""
        return shown(self.device.ports[virtual], name)

    def serves(self, material: Material, virtual: str = "vs_web", name: str | None = "www.example.com") -> bool:
        """Whether it serves this."""
        return self.shown(virtual, name) == fingerprint_of(material)

    def ours(self) -> list[str]:
        """The objects that certgate made."""
        configuration = self.device.configuration
        return sorted(one for one in [*configuration.keys, *configuration.certificates] if "/certgate-" in one)

    def asked(self, what: str) -> int:
        """How many requests there were whose method and path have this in them."""
        return sum(what in f"{one.method} {one.path}" for one in self.device.calls)


@pytest.fixture(scope="session")
def _device() -> Iterator[tuple[Simulator, Clock]]:
    clock = Clock()
    with Simulator(faults=Faults.off(), clock=clock) as device:
        yield device, clock


@pytest.fixture(scope="session")
def authority() -> ThrowawayAuthority:
    return ThrowawayAuthority()


@pytest.fixture
def bigip(
    _device: tuple[Simulator, Clock],
    authority: ThrowawayAuthority,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Bigip:
    # It has one processor: there is nothing that ten rounds of handshakes could find.
    monkeypatch.setattr(procedure, "ROUNDS_IN_A_ROW", 1)
    device, clock = _device
    device.reset()
    clock.now = dt.datetime.now(dt.UTC)
    return Bigip(device, clock, tmp_path, authority)
