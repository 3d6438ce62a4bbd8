"""A real nginx that can be thrown away: for `certgate demo`, the bench and the tests.

It runs with its own prefix, on loopback, on free ports, unprivileged if need be, and touches nothing of the system's
nginx. Each virtual host starts with a self-signed certificate.
"""

from __future__ import annotations

import datetime
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from connectors.endpoints import handshake
from connectors.endpoints.contract import Listener, Probe
from model.errors import Unavailable

START_SECONDS = 10.0
STOP_SECONDS = 5.0


def free_port() -> int:
    """A TCP port on loopback that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def self_signed(names: Sequence[str]) -> tuple[bytes, bytes]:
    """A certificate for `names` that is good for a day, and its P-256 key; both PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0][:64])])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=False)
        .sign(key, SHA256())
    )
    return (
        certificate.public_bytes(Encoding.PEM),
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
    )


@dataclass(frozen=True)
class Site:
    """One virtual host: its name, its port on 127.0.0.1 and its files."""

    name: str
    port: int
    certificate: Path
    key: Path

    @property
    def binding_id(self) -> str:
        """What discovery calls it."""
        return f"{self.name}:{self.port}"


class DisposableNginx:
    """nginx in a folder of its own. Use it as a context manager, or call `start` and `stop`.

    `sites` are made at once, so that the folder can be looked at (and its configuration changed) before the start.
    """

    def __init__(self, folder: Path, names: Sequence[str] = ("demo.example",), *, port: int | None = None) -> None:
        """Write configuration and certificates below `folder`. All names share one port, `port` or a free one."""
        self.folder = folder
        self.configuration = folder / "nginx.conf"
        self.error_log = folder / "error.log"
        self.pid_file = folder / "nginx.pid"
        self.port = free_port() if port is None else port
        self._process: subprocess.Popen[bytes] | None = None
        certificates = folder / "certificates"
        certificates.mkdir(parents=True, exist_ok=True)
        (folder / "temporary").mkdir(exist_ok=True)
        self.sites = [
            Site(name, self.port, certificates / f"{name}.pem", certificates / f"{name}.key") for name in names
        ]
        for site in self.sites:
            self.write_self_signed(site.certificate, site.key, [site.name])
        self.write_configuration("\n".join(self._server(site) for site in self.sites))

    @property
    def settings(self) -> dict[str, object]:
        """Settings of the nginx connector for this server."""
        return {
            "configuration": str(self.configuration),
            "prefix": f"{self.folder}/",
            "command": [self.program],
        }

    def write_self_signed(self, certificate: Path, key: Path, names: Sequence[str]) -> None:
        """Make a self-signed pair, the key with mode 0600."""
        certificate_pem, key_pem = self_signed(names)
        certificate.write_bytes(certificate_pem)
        key.unlink(missing_ok=True)
        with open(key, "wb", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
            file.write(key_pem)

    def write_configuration(self, http: str, *, main: str = "") -> None:
        """Write nginx.conf with `http` inside the http block and `main` outside of it."""
        temporary = "\n".join(
            f'    {kind}_temp_path "{self.folder}/temporary/{kind}";'
            for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        user = "user root;\n" if os.geteuid() == 0 else ""
        self.configuration.write_text(
            f'{user}worker_processes 1;\ndaemon off;\npid "{self.pid_file}";\n'
            f'error_log "{self.error_log}" notice;\n'
            f"{main}\nevents {{ worker_connections 256; }}\n\nhttp {{\n    access_log off;\n    server_tokens off;\n"
            f"{temporary}\n{http}\n}}\n"
        )

    def start(self) -> None:
        """Start and wait until it takes connections; raises `Unavailable` with nginx's words if it does not."""
        log = (self.folder / "output.log").open("ab")
        with log:
            self._process = subprocess.Popen(
                [self.program, "-e", str(self.error_log), "-p", f"{self.folder}/", "-c", str(self.configuration)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
            )
        try:
            self._await_readiness(self._process)
        except BaseException:
            self.stop()
            raise

    def _await_readiness(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            if process.poll() is not None or time.monotonic() > deadline:
                words = self.error_log.read_text(errors="replace")[-500:] if self.error_log.exists() else ""
                raise Unavailable(f"nginx did not start on port {self.port}: {words.strip() or 'it gave no reason'}")
            time.sleep(0.005)

    def stop(self) -> None:
        """End it and its workers; nothing happens if it does not run."""
        process, self._process = self._process, None
        if process is None:
            return
        with suppress(ProcessLookupError):
            process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    @property
    def pid(self) -> int | None:
        """Process id of the master, None when it does not run."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    def __enter__(self) -> DisposableNginx:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _answers(self) -> bool:
        """The pid file is made after the sockets are open, then filled; a connection proves it."""
        if not self.pid_file.exists() or not self.pid_file.read_text().strip():
            return False
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        except OSError:
            return False
        return True

    def _server(self, site: Site) -> str:
        return (
            f"    server {{\n        listen 127.0.0.1:{site.port} ssl;\n        server_name {site.name};\n"
            f'        ssl_certificate "{site.certificate}";\n        ssl_certificate_key "{site.key}";\n'
            f'        location / {{ return 200 "{site.name}\\n"; }}\n    }}'
        )

    @property
    def program(self) -> str:
        """Where nginx is; raises `Unavailable` if it is not installed."""
        found = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
        if found is None:
            raise Unavailable("nginx is not installed: apt-get install -y --no-install-recommends nginx")
        return found


async def served_by(nginx: DisposableNginx) -> str:
    """The fingerprint that a handshake with a disposable nginx shows; raises `Unavailable` when it serves none."""
    probe = Probe(Listener("127.0.0.1", nginx.port), nginx.sites[0].name)
    shown = (await handshake.verify_all([probe], handshake.Expected(None)))[0]
    if shown.fingerprint is None:
        raise Unavailable(f"nginx serves no certificate: {shown.message}")
    return shown.fingerprint
