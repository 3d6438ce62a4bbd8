"""The simulator as a program: address and credentials as one JSON value on stdout, then service until it is stopped."""

from __future__ import annotations

import dataclasses
import json
import signal
import sys
import threading
from pathlib import Path
from typing import Any

from tests.simulators.sectigo.faults import Faults
from tests.simulators.sectigo.remote import PATH, Address
from tests.simulators.sectigo.simulator import Simulator


def faults_of(text: str) -> Faults:
    """``off``, or a seed. Raises `ValueError`."""
    return Faults.off() if text == "off" else Faults.usual(int(text))


def run(port: int, faults: str, *, until_stdin_ends: bool = False) -> None:
    """Serve until SIGINT or SIGTERM. Raises `ValueError` for wrong `faults`, `OSError` for a port that is taken."""
    over = threading.Event()

    def stop(*_: Any) -> None:
        over.set()

    with Simulator(port=port, faults=faults_of(faults)) as simulator:
        # Only now: whoever is stopped before it answers ends as usual.
        before = {one: signal.signal(one, stop) for one in (signal.SIGINT, signal.SIGTERM)}
        try:
            print(json.dumps(dataclasses.asdict(address(simulator, faults))), flush=True)
            if until_stdin_ends:
                threading.Thread(target=_at_the_end_of_stdin, args=(over,), daemon=True).start()
            over.wait()
        finally:
            for one, handler in before.items():
                signal.signal(one, handler)


def _at_the_end_of_stdin(over: threading.Event) -> None:
    sys.stdin.read()
    over.set()


def address(simulator: Simulator, faults: str) -> Address:
    """All that is needed to use it; writes the files that references can name."""
    credentials, files = simulator.customer.credentials, simulator.files
    folder = files.ca.parent
    anchors = folder / "trust-anchors.pem"
    anchors.write_text("".join(simulator.trust_anchors))
    return Address(
        address=simulator.host_url,
        admin_address=simulator.admin_url.removesuffix("/api"),
        base_url=simulator.base_url,
        private_url=simulator.private_url,
        admin_url=simulator.admin_url,
        token_url=simulator.token_url,
        plain_url=simulator.plain_url,
        ca_file=str(files.ca),
        customer_uri=credentials.customer_uri,
        login=credentials.login,
        password=credentials.password,
        password_file=str(_secret(folder / "password", credentials.password)),
        client_id=credentials.client_id,
        client_secret=credentials.client_secret,
        client_secret_file=str(_secret(folder / "client-secret", credentials.client_secret)),
        client_certificate=str(files.client_certificate),
        client_key=str(files.client_key),
        trust_anchors_file=str(anchors),
        control_url=f"{simulator.host_url}{PATH}",
        control_secret=simulator.control_secret,
        faults=faults,
    )


def _secret(path: Path, content: str) -> Path:
    path.touch(mode=0o600)
    path.write_text(content)
    return path
