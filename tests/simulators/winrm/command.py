"""The simulator as a program: address and credentials as one JSON value on stdout, then service until it is stopped."""

from __future__ import annotations

import json
import signal
import socket
import tempfile
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from tests.pki import make_ca, make_leaf, new_key
from tests.simulators.winrm.faults import Faults
from tests.simulators.winrm.simulator import JEA, WinrmSimulator
from tests.simulators.winrm.windows import SNI


def run(port: int, faults: str) -> None:
    """Serve until SIGINT or SIGTERM. Raises `ValueError` for wrong `faults`, `OSError` for a port that is taken."""
    over = threading.Event()

    def stop(*_: Any) -> None:
        over.set()

    wanted = Faults(None if faults == "off" else int(faults))
    with (
        tempfile.TemporaryDirectory(prefix="certgate-winrm-") as folder,
        WinrmSimulator(Path(folder), port=port, faults=wanted) as simulator,
    ):
        bindings = furnish(simulator)
        before = {one: signal.signal(one, stop) for one in (signal.SIGINT, signal.SIGTERM)}
        try:
            told = {**simulator.settings, "configuration_name": JEA, "bindings": bindings, "faults": faults}
            print(json.dumps(told), flush=True)
            over.wait()
        finally:
            for one, handler in before.items():
                signal.signal(one, handler)


def furnish(simulator: WinrmSimulator) -> list[str]:
    """Two sites with names of their own, and one that takes every name; gives the ids of their bindings."""
    windows, now = simulator.windows, datetime.now(UTC)
    start, end = now - timedelta(days=1), now + timedelta(days=30)
    authority = make_ca("Somebody else", not_before=start, not_after=end)
    ports = [_free_port(), _free_port()]
    made = [
        windows.add_site("Shop", f"*:{ports[0]}:www.example.org", SNI),
        windows.add_site("Intranet", f"*:{ports[0]}:intranet.example.org", SNI),
        windows.add_site("Default Web Site", f"*:{ports[1]}:"),
    ]
    for binding in made:
        key, names = new_key(), [binding.host or "localhost"]
        leaf = make_leaf(authority, key, names, not_before=start, not_after=end)
        windows.records[binding.record] = (windows.store(leaf, key), "My")
    return [f"{binding.site}/{binding.information}" for binding in made]


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])
