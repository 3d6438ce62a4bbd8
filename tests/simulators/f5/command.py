"""The simulator as a program: address and credentials as one JSON value on stdout, then service until it is stopped."""

from __future__ import annotations

import json
import signal
import threading
from typing import Any

from tests.simulators.f5.control import PATH
from tests.simulators.f5.faults import Faults
from tests.simulators.f5.simulator import USER, Simulator


def faults_of(text: str) -> Faults:
    """``off``, or a seed. Raises `ValueError`."""
    return Faults.off() if text == "off" else Faults.usual(int(text))


def run(port: int, faults: str) -> None:
    """Serve until SIGINT or SIGTERM. Raises `ValueError` for wrong `faults`, `OSError` for a port that is taken."""
    over = threading.Event()

    def stop(*_: Any) -> None:
        over.set()

    with Simulator(port=port, faults=faults_of(faults)) as simulator:
        # Only now: whoever is stopped before it answers ends as usual.
        before = {one: signal.signal(one, stop) for one in (signal.SIGINT, signal.SIGTERM)}
        try:
            print(json.dumps(described(simulator, faults)), flush=True)
            over.wait()
        finally:
            for one, handler in before.items():
                signal.signal(one, handler)


def described(simulator: Simulator, faults: str) -> dict[str, Any]:
    """All that is needed to use it; writes the file that a reference can name."""
    password = simulator.files.ca.parent / "password"
    password.touch(mode=0o600)
    password.write_text(simulator.password)
    return {
        "address": "127.0.0.1",
        "port": simulator.port,
        "ca_file": str(simulator.ca_file),
        "username": USER,
        "password_file": str(password),
        "device_group": simulator.device_group,
        "virtual_servers": simulator.ports,
        "control_url": f"https://{simulator.address}{PATH}",
        "control_secret": simulator.control_secret,
        "faults": faults,
    }
