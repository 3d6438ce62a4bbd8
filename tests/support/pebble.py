"""Pebble, the ACME server of Let's Encrypt for tests, with its DNS: real processes on free ports of 127.0.0.1.

Its faults are on unless a test says otherwise: it rejects valid nonces, reuses authorizations, and takes its time to
look. All names resolve to 127.0.0.1, where it asks the ports `http_port` and `tls_port` of whoever shall be proved.
"""

from __future__ import annotations

import json
import os
import re
import ssl
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.pki import make_ca, make_leaf, new_key, pem
from tests.support.programs import program
from worker import tether
from worker.playground import free_port

HOST = "127.0.0.1"
ROOTS = 3  # the default one, and two alternates
EAB_KEY_ID = "customer-1"
EAB_HMAC_KEY = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W"
BLOCKED = "blocked.example"
_FAULTS = {
    "PEBBLE_WFE_NONCEREJECT": "20",
    "PEBBLE_AUTHZREUSE": "50",
    "PEBBLE_VA_SLEEPTIME": "2",
    "PEBBLE_ALTERNATE_ROOTS": str(ROOTS - 1),
    "PEBBLE_CHAIN_LENGTH": "2",
    "PEBBLE_WFE_ORDERS_PER_PAGE": "7",
}


@dataclass
class Pebble:
    """One Pebble that runs, and its pebble-challtestsrv. `folder` holds ``ca.pem``, the root of its own address."""

    folder: Path
    port: int
    management_port: int
    http_port: int
    tls_port: int
    dns_port: int
    dns_management_port: int
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def directory_url(self) -> str:
        """Where its directory is."""
        return f"https://{HOST}:{self.port}/dir"

    @property
    def ca_file(self) -> Path:
        """What its address is trusted by."""
        return self.folder / "ca.pem"

    @property
    def log(self) -> str:
        """What it has said so far."""
        return (self.folder / "pebble.log").read_text(errors="replace")

    @property
    def settings(self) -> dict[str, Any]:
        """What every connector needs to reach it and to prove names by http-01."""
        return {
            "directory_url": self.directory_url,
            "ca_file": str(self.ca_file),
            "terms_agreed": True,
            "http01_listen": f"{HOST}:{self.http_port}",
        }

    def roots(self) -> list[str]:
        """Its roots, PEM, the default one first. They change with each start."""
        return [self._management(f"/roots/{number}").decode() for number in range(ROOTS)]

    def issued(self) -> list[str]:
        """The serial numbers (lower-case hex) of all certificates that it has issued."""
        return [one.lstrip("0") for one in re.findall(r"Issued certificate serial ([0-9a-f]+) ", self.log)]

    def status(self, serial: str) -> dict[str, Any]:
        """What it says of a certificate (``Status``, ``Reason``)."""
        # It looks for the number as Go writes it: in whole bytes.
        answer: dict[str, Any] = json.loads(self._management(f"/cert-status-by-serial/{serial}"))
        return answer

    def dns(self, verb: str, **words: Any) -> None:
        """Tell its DNS something, such as ``add-a`` with ``host`` and ``addresses``."""
        asked = urllib.request.Request(
            f"http://{HOST}:{self.dns_management_port}/{verb}", json.dumps(words).encode(), method="POST"
        )
        urllib.request.urlopen(asked, timeout=30).close()

    def _management(self, path: str) -> bytes:
        context = ssl.create_default_context(cafile=str(self.ca_file))
        with urllib.request.urlopen(f"https://{HOST}:{self.management_port}{path}", context=context) as answer:
            content: bytes = answer.read()
        return content

    def restart(self, environment: Mapping[str, str] | None = None, **configuration: Any) -> None:
        """Start it anew, on the same ports: it forgets everything, accounts and roots too."""
        if len(self.processes) == 2:
            _end(self.processes.pop())
        given = {
            "listenAddress": f"{HOST}:{self.port}",
            "managementListenAddress": f"{HOST}:{self.management_port}",
            "certificate": str(self.folder / "own.pem"),
            "privateKey": str(self.folder / "own.key"),
            "httpPort": self.http_port,
            "tlsPort": self.tls_port,
            "ocspResponderURL": "",
            "externalAccountBindingRequired": False,
            "domainBlocklist": [BLOCKED],
            **configuration,
        }
        (self.folder / "pebble.json").write_text(json.dumps({"pebble": given}))
        command = [program("pebble"), "-config", str(self.folder / "pebble.json")]
        command += ["-dnsserver", f"{HOST}:{self.dns_port}", "-strict=false"]
        started = self.log.count("Listening on") if (self.folder / "pebble.log").exists() else 0
        self.processes.append(_start(command, self.folder / "pebble.log", {**_FAULTS, **(environment or {})}))
        _await(self.processes[-1], self.folder / "pebble.log", "Listening on", started + 1)


@contextmanager
def pebble(folder: Path, environment: Mapping[str, str] | None = None, **configuration: Any) -> Iterator[Pebble]:
    """Start one in `folder`. `environment` changes its faults, `configuration` its settings."""
    _own_certificate(folder)
    ports = [free_port() for _ in range(6)]
    made = Pebble(folder, ports[0], ports[1], ports[2], ports[3], ports[4], ports[5])
    log = folder / "dns.log"
    dns = [program("pebble-challtestsrv"), "-management", f"{HOST}:{made.dns_management_port}"]
    dns += ["-dns01", f"{HOST}:{made.dns_port}", "-http01", "", "-https01", "", "-tlsalpn01", "", "-defaultIPv6", ""]
    try:
        made.processes.append(_start(dns, log, {}))
        _await(made.processes[0], log, "Starting management server")
        made.restart(environment, **configuration)
        yield made
    finally:
        for process in made.processes[::-1]:
            _end(process)


def _own_certificate(folder: Path) -> None:
    now, day = datetime.now(UTC), timedelta(days=1)
    root = make_ca("Pebble's own root", not_before=now - day, not_after=now + 30 * day)
    key = new_key()
    leaf = make_leaf(root, key, [HOST, "localhost"], not_before=now - day, not_after=now + 10 * day)
    (folder / "ca.pem").write_text(pem(root.certificate))
    (folder / "own.pem").write_text(pem(leaf))
    (folder / "own.key").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


def _start(command: Sequence[str], log: Path, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    ours = {name: value for name, value in os.environ.items() if not name.startswith("PEBBLE_")}
    with log.open("ab") as output:
        return subprocess.Popen(
            [sys.executable, tether.__file__, str(os.getpid()), "--", *command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**ours, **environment},
        )


def _await(process: subprocess.Popen[bytes], log: Path, words: str, times: int = 1) -> None:
    """Until it has said so; the test's own time limit is the bound."""
    while log.read_text(errors="replace").count(words) < times:
        assert process.poll() is None, log.read_text(errors="replace")
        time.sleep(0.02)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    process.wait()
