"""The whole of it: a Windows server on loopback, with its account and its certificate."""

from __future__ import annotations

import secrets
import ssl
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID

from connectors.endpoints.iis import scripts
from tests.pki import make_ca, make_leaf, new_key
from tests.simulators.winrm.faults import Fault, Faults
from tests.simulators.winrm.server import Service
from tests.simulators.winrm.shells import Shells
from tests.simulators.winrm.windows import Windows

USER = r"WEB-1\certgate"
JEA = "certgate"


class WinrmSimulator:
    """A context manager. `folder` gets the CA file and the file with the password. Without `tls` it takes NTLM only,
    with encrypted messages."""

    def __init__(self, folder: Path, *, tls: bool = True, port: int = 0, faults: Faults | None = None) -> None:
        self.faults = faults or Faults()
        self.windows = Windows(self.faults)
        self.password = secrets.token_hex(16)
        self._folder = folder
        known = {script.text: script.name for script in scripts.ALL}
        self.shells = Shells(self.windows, self.faults, known, frozenset({JEA}))
        self.service = Service(
            self.shells,
            self.faults,
            {USER: self.password},
            self._tls_context() if tls else None,
            port,
        )
        self.password_file = folder / "password"
        self.password_file.touch(0o600)
        self.password_file.write_text(self.password)
        users = folder / "ntlm-users"
        users.write_text(f"WEB-1:certgate:{self.password}\n")
        self.ntlm_user_file = users
        self._thread = threading.Thread(target=self.service.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    def __enter__(self) -> WinrmSimulator:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.service.closing.set()
        self.shells.wake()
        self.service.shutdown()
        self.service.server_close()
        self._thread.join()
        self.windows.schannel.close()

    @property
    def settings(self) -> dict[str, Any]:
        """Settings of a connection ``winrm`` to it."""
        common = {
            "address": "127.0.0.1",
            "port": self.service.port,
            "username": USER,
            "password": f"file:{self.password_file}",
        }
        if self.service.context is None:
            return {**common, "tls": False, "authentication": "ntlm"}
        return {**common, "ca_file": str(self._folder / "ca.pem"), "authentication": "basic"}

    @property
    def settings_by_certificate(self) -> dict[str, Any]:
        """The same for a gateway that has a certificate in place of an account."""
        client = str(self._folder / "client.pem")
        common = {name: value for name, value in self.settings.items() if name in ("address", "port", "ca_file")}
        return {**common, "authentication": "certificate", "certificate_file": client, "key_file": client}

    def inject(self, fault: Fault, script: str | None = None, times: int = 1) -> None:
        """See `Faults.inject`."""
        self.faults.inject(fault, script, times)

    def _tls_context(self) -> ssl.SSLContext:
        now, key = datetime.now(UTC), new_key()
        start, end = now - timedelta(days=1), now + timedelta(days=1)
        authority = make_ca("WinRM CA", not_before=start, not_after=end)
        leaf = make_leaf(authority, key, ["127.0.0.1"], not_before=start, not_after=end)
        (self._folder / "ca.pem").write_bytes(authority.certificate.public_bytes(Encoding.PEM))
        pair = self._folder / "winrm.pem"
        pair.touch(0o600)
        pair.write_bytes(
            leaf.public_bytes(Encoding.PEM) + key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        )
        usage = ExtendedKeyUsageOID.CLIENT_AUTH
        client = make_leaf(authority, key, ["gateway"], not_before=start, not_after=end, usage=usage)
        (self._folder / "client.pem").write_bytes(client.public_bytes(Encoding.PEM) + pair.read_bytes())
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pair)
        context.load_verify_locations(self._folder / "ca.pem")
        context.verify_mode = ssl.CERT_OPTIONAL
        return context
