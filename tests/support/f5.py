"""A BIG-IP as a product that certificates are installed on: the simulator, its profile ``/Common/www``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.simulators.f5 import Faults, Simulator
from tests.simulators.f5.simulator import USER


def settings_of(device: Simulator, folder: Path, **changes: Any) -> dict[str, Any]:
    """Settings of an endpoint for a simulator; the password goes into a file of `folder`."""
    password = folder / "bigip-password"
    if not password.exists():
        password.touch(mode=0o600)
        password.write_text(device.password)
    found: dict[str, Any] = {
        "address": "127.0.0.1",
        "port": device.port,
        "username": USER,
        "password": f"file:{password}",
        "ca_file": str(device.ca_file),
        "device_group": device.device_group if len(device.units) > 1 else None,
        **changes,
    }
    return {name: value for name, value in found.items() if value is not None}


class DisposableF5:
    """Runs from enter to exit; the simulator is at hand as `device`."""

    def __init__(self, folder: Path, *, faults: Faults | None = None, units: int = 2) -> None:
        self.type = "f5-big-ip"
        self.binding = "/Common/www"
        self.names: Sequence[str] = ("www.example.com",)
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self.device = Simulator(faults=faults or Faults.off(), units=units)

    def __enter__(self) -> DisposableF5:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.device.stop()

    @property
    def settings(self) -> dict[str, Any]:
        """Of its endpoint."""
        return settings_of(self.device, self._folder)

    def start(self) -> None:
        """With the configuration that was saved."""
        self.device.start()

    def stop(self) -> None:
        """As by a power cut."""
        self.device.pause()

    def running(self) -> bool:
        """Whether it answers."""
        return self.device.running

    def break_next(self) -> None:
        """It takes every order and serves on what it serves now."""
        self.device.freeze()

    def mend(self) -> None:
        """The end of that."""
        self.device.freeze(False)

    def files(self) -> Sequence[Path]:
        """None: a device has objects."""
        return ()
