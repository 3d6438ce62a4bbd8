"""beacon, the server of docs/write-an-endpoint.md: sites in a JSON file, read again on SIGHUP; and its rig."""

from __future__ import annotations

import json
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.products import ROOT, shown, until
from worker.playground import free_port, self_signed

NAME = "lights.example"


def serve(configuration: Path) -> None:
    """Answer handshakes until the process is ended. What can't be read changes nothing, and nobody is told."""
    contexts: dict[str, ssl.SSLContext] = {}
    folder = configuration.parent

    def read(*_: object) -> None:
        if (folder / "stubborn").exists():
            return
        found = {}
        for site in json.loads(configuration.read_text())["sites"]:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            try:
                context.load_cert_chain(folder / site["certificate"], folder / site["key"])
            except (OSError, ssl.SSLError):
                return
            found[site["name"]] = context
        contexts.clear()
        contexts.update(found)

    def choose(tls: ssl.SSLSocket | ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> None:
        tls.context = contexts.get(name or "", next(iter(contexts.values())))

    signal.signal(signal.SIGHUP, read)
    read()
    first = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    first.sni_callback = choose
    with socket.create_server(("127.0.0.1", json.loads(configuration.read_text())["port"]), backlog=64) as listening:
        while True:
            connection, _ = listening.accept()
            connection.settimeout(5)
            try:
                with first.wrap_socket(connection, server_side=True) as tls:
                    tls.recv(1)
            except OSError:
                connection.close()


class DisposableBeacon:
    """One beacon with one site. A context manager: it is started."""

    type = "beacon"
    names: Sequence[str] = (NAME,)
    binding = NAME

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.configuration = folder / "beacon.json"
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        for path, content in zip(self.files(), self_signed([NAME]), strict=True):
            path.write_bytes(content)
            path.chmod(0o640)
        self._configure(NAME)

    def __enter__(self) -> DisposableBeacon:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.mend()
        self.stop()

    @property
    def settings(self) -> dict[str, Any]:
        """Of the endpoint."""
        return {"configuration": str(self.configuration)}

    def start(self) -> None:
        """Unless it runs."""
        if self.running():
            return
        program = "import sys, pathlib; from tests.support.beacon import serve; serve(pathlib.Path(sys.argv[1]))"
        self._process = subprocess.Popen([sys.executable, "-c", program, str(self.configuration)], cwd=ROOT)
        (self.folder / "beacon.pid").write_text(f"{self._process.pid}\n")
        until(lambda: shown(self.port, NAME) is not None, "beacon serves")

    def stop(self) -> None:
        """By its process id."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def running(self) -> bool:
        """Whether it is there."""
        return self._process is not None and self._process.poll() is None

    def break_next(self) -> None:
        """It takes the signal and serves the old certificate."""
        (self.folder / "stubborn").touch()

    def mend(self) -> None:
        """And no longer."""
        (self.folder / "stubborn").unlink(missing_ok=True)

    def files(self) -> Sequence[Path]:
        """Of the site."""
        return [self.folder / "lights.pem", self.folder / "lights.key"]

    @contextmanager
    def share(self, name: str) -> Iterator[str]:
        """Another site with the same files."""
        self._configure(NAME, name)
        self._read_again()
        try:
            yield name
        finally:
            self._configure(NAME)
            self._read_again()

    def _read_again(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGHUP)

    def _configure(self, *names: str) -> None:
        sites = [{"name": name, "certificate": "lights.pem", "key": "lights.key"} for name in names]
        configured = {"port": self.port, "pid_file": "beacon.pid", "sites": sites}
        self.configuration.write_text(json.dumps(configured))
