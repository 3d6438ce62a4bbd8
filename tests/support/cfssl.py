"""A real ``cfssl serve`` for tests: a root of its own, profiles, with or without a database and TLS."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from socket import create_connection

from cryptography.hazmat.primitives import serialization

from tests.pki import Issuer, make_ca, pem
from tests.support.programs import program
from worker.processes import free_port

AUTH_KEY = "0123456789ABCDEF0123456789ABCDEF"
# As certdb/sqlite/migrations of CFSSL 1.2 make them.
_TABLES = """
CREATE TABLE certificates (serial_number blob NOT NULL, authority_key_identifier blob NOT NULL, ca_label blob,
  status blob NOT NULL, reason int, expiry timestamp, revoked_at timestamp, pem blob NOT NULL,
  PRIMARY KEY(serial_number, authority_key_identifier));
CREATE TABLE ocsp_responses (serial_number blob NOT NULL, authority_key_identifier blob NOT NULL, body blob NOT NULL,
  expiry timestamp, PRIMARY KEY(serial_number, authority_key_identifier));
"""
_USAGES = {"usages": ["digital signature", "server auth"], "expiry": "1128h"}
PROFILES = {
    "open": {**_USAGES, "ClientProvidesSerialNumbers": True},
    "signed": {**_USAGES, "ClientProvidesSerialNumbers": True, "auth_key": "shared"},
    "numbering": _USAGES,
    "narrow": {**_USAGES, "ClientProvidesSerialNumbers": True, "name_whitelist": r"^[a-z0-9-]+\.example\.com$"},
}


@dataclass
class Cfssl:
    """A running server and what it signs with."""

    folder: Path
    port: int
    root: Issuer
    database: Path | None

    @property
    def address(self) -> str:
        """Where it listens, without TLS."""
        return f"http://127.0.0.1:{self.port}"

    def signed(self, *, status: str = "good") -> list[int]:
        """The serial numbers in its database."""
        assert self.database is not None
        with sqlite3.connect(self.database) as connection:
            rows = connection.execute("SELECT serial_number FROM certificates WHERE status = ?", (status,)).fetchall()
        connection.close()
        return [int(row[0]) for row in rows]


@contextmanager
def running(folder: Path, *, database: bool = True, above: Issuer | None = None) -> Iterator[Cfssl]:
    """Start a server and end it. `above` signs its signer, which is a root otherwise."""
    now = datetime.now(UTC)
    dates = {"not_before": now - timedelta(days=1), "not_after": now + timedelta(days=1000)}
    root = make_ca("CFSSL signer", above, not_before=dates["not_before"], not_after=dates["not_after"])
    (folder / "ca.pem").write_text(pem(root.certificate))
    (folder / "ca.key").write_bytes(
        root.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
        )
    )
    keys = {"shared": {"type": "standard", "key": AUTH_KEY}}
    config = {"signing": {"default": PROFILES["open"], "profiles": PROFILES}, "auth_keys": keys}
    (folder / "config.json").write_text(json.dumps(config))
    port = free_port()
    command = [program("cfssl"), "serve", f"-port={port}", "-ca=ca.pem", "-ca-key=ca.key", "-config=config.json"]
    kept = folder / "certificates.db" if database else None
    if kept is not None:
        connection = sqlite3.connect(kept)
        connection.executescript(_TABLES)
        connection.close()
        (folder / "db.json").write_text(json.dumps({"driver": "sqlite3", "data_source": str(kept)}))
        command.append("-db-config=db.json")
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    said: list[str] = []
    # It must never wait for somebody to read what it says.
    reader = threading.Thread(target=said.extend, args=(process.stdout,), daemon=True)
    reader.start()
    try:
        while True:
            assert process.poll() is None, f"cfssl ended: {''.join(said)}"
            with suppress(OSError), create_connection(("127.0.0.1", port)):
                break
            time.sleep(0.02)
        yield Cfssl(folder, port, root, kept)
    finally:
        process.terminate()
        process.wait(timeout=30)
        reader.join(timeout=30)
        process.stdout.close()
