"""IIS as a product for the conformance suite and the end-to-end tests: the simulated Windows server with two sites."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from connectors.endpoints.contract import Material
from tests.simulators.winrm import Fault, WinrmSimulator
from tests.simulators.winrm.windows import SNI
from tests.support.installing import ThrowawayAuthority

SITE = "Shop & Co. 'north'"


class SimulatedIis:
    """A context manager: it is started. The first site is installed on; both have a certificate of nobody's at first.

    Without `sni` they have no Server Name Indication, and http.sys keeps one certificate for the address of each.
    """

    type = "iis"
    connection = "winrm"

    def __init__(self, folder: Path, *, sni: bool = True) -> None:
        self.simulator = WinrmSimulator(folder)
        self.windows = self.simulator.windows
        self.settings: dict[str, Any] = {}
        self.names: Sequence[str] = ["a.example"]
        self.port, other = _free_port(), _free_port()
        first = self.windows.add_site(SITE, f"127.0.0.1:{self.port}:a.example", SNI if sni else 0)
        second = self.windows.add_site("Other", f"127.0.0.1:{other}:b.example", SNI if sni else 0)
        authority = ThrowawayAuthority()
        for binding in (first, second):
            self.windows.records[binding.record] = (self.put(authority.issue(binding.host)), "My")
        self.binding = f"{SITE}/{first.information}"
        self.other_binding = f"Other/{second.information}"

    def __enter__(self) -> SimulatedIis:
        self.simulator.__enter__()
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self.simulator.__exit__(None, None, None)
        assert self.simulator.service.broken is None, self.simulator.service.broken

    @property
    def connection_settings(self) -> dict[str, Any]:
        """Of the connection ``winrm``."""
        return self.simulator.settings

    def put(self, material: Material, friendly_name: str = "", store: str = "My") -> str:
        """Somebody imports a certificate with its key; gives the thumbprint."""
        assert material.private_key_pem is not None
        certificate = x509.load_pem_x509_certificate(material.certificate_pem.encode())
        key = load_pem_private_key(material.private_key_pem, None)
        return self.windows.store(certificate, key, store, friendly_name)

    def start(self) -> None:
        """Start W3SVC."""
        self.windows.start()

    def stop(self) -> None:
        """Stop W3SVC."""
        self.windows.stop()

    def running(self) -> bool:
        """Whether W3SVC runs."""
        return self.windows.running

    def break_next(self) -> None:
        """http.sys takes the next order to bind, and serves the old certificate."""
        self.simulator.inject(Fault.NO_LOGON_SESSION, "Set-CertgateBinding")

    def mend(self) -> None:
        """No faults any more."""
        self.simulator.faults.forget()

    def files(self) -> Sequence[Path]:
        """None: the certificate is in the machine's store."""
        return []

    @contextmanager
    def share(self, name: str) -> Iterator[str]:
        """A third site on the same address and port, which shares the first one's record in http.sys (without SNI)."""
        binding = self.windows.add_site("Third", f"127.0.0.1:{self.port}:{name}")
        try:
            yield f"Third/{binding.information}"
        finally:
            self.windows.remove_site("Third")


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])
