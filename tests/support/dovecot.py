"""Dovecot as a product for the conformance suite and the end-to-end tests."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from connectors.endpoints.starttls import StartTls
from tests.support.pem import shown_by
from tests.support.products import until
from tests.support.programs import program
from worker.playground import free_port, self_signed

NAME, OTHER = "imap.example", "other.example"


class DovecotProduct:
    """IMAP with STARTTLS and in TLS, and a second certificate by SNI. A context manager: it is started."""

    type = "dovecot"
    names: Sequence[str] = (NAME,)
    binding = "default"

    def __init__(self) -> None:
        # Its sockets have short paths, and its own users must get through.
        self.folder = Path(tempfile.mkdtemp(prefix="certgate-dc-"))
        self.folder.chmod(0o755)
        self.port, self.tls_port = free_port(), free_port()
        tls = self.folder / "it is a folder"
        tls.mkdir()
        self.certificate, self.key = tls / "server.pem", tls / "server.key"
        self.other_certificate, self.other_key = tls / "other.pem", tls / "other.key"
        for name, pair in ((NAME, (self.certificate, self.key)), (OTHER, (self.other_certificate, self.other_key))):
            for path, content in zip(pair, self_signed([name]), strict=True):
                path.write_bytes(content)
                path.chmod(0o600)
        self._broken = self.folder / "broken"
        # What sudo does that may not do everything.
        (self.folder / "as-root").write_text(
            f'[ "$4" = reload ] && [ -e {self._broken} ] && {{ echo "sudo: a password is required" >&2; exit 1; }}\n'
            'exec "$@"\n'
        )
        self.configuration = self.folder / "dovecot.conf"
        self.text = (
            f"base_dir = {self.folder}/run\nstate_dir = {self.folder}/run\nlog_path = {self.folder}/log\n"
            "protocols = imap\nlisten = 127.0.0.1\nssl = yes\nmail_location = maildir:/nowhere\n"
            "passdb {\n driver = static\n args = nopassword=y\n}\n"
            "userdb {\n driver = static\n args = uid=65534 gid=65534\n}\n"
            f"ssl_cert = <{self.certificate}\nssl_key = <{self.key}\n"
            f"local_name {OTHER} {{\n ssl_cert = <{self.other_certificate}\n ssl_key = <{self.other_key}\n}}\n"
            f"service imap-login {{\n inet_listener imap {{\n port = {self.port}\n }}\n"
            f" inet_listener imaps {{\n port = {self.tls_port}\n }}\n}}\n"
        )
        self.configuration.write_text(self.text)
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> DovecotProduct:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def settings(self) -> dict[str, Any]:
        """Of the endpoint."""
        return {
            "configuration": str(self.configuration),
            "doveconf_command": [program("doveconf")],
            "doveadm_command": ["/bin/sh", str(self.folder / "as-root"), program("doveadm")],
            "names": [NAME],
        }

    def start(self) -> None:
        """Unless it runs."""
        if self.running():
            return
        self._process = subprocess.Popen(
            [program("dovecot"), "-F", "-c", str(self.configuration)], stdin=subprocess.DEVNULL, start_new_session=True
        )
        until(lambda: not self.running() or shown_by(self.port, StartTls.IMAP) is not None, "Dovecot serves TLS")
        assert self.running(), (self.folder / "log").read_text()

    def stop(self) -> None:
        """The master, which ends the others."""
        if self._process is not None:
            os.kill(self._process.pid, signal.SIGTERM)
            self._process.wait(20)
            self._process = None

    def running(self) -> bool:
        """Whether the master is there."""
        return self._process is not None and self._process.poll() is None

    def break_next(self) -> None:
        """The reload is refused: sudo asks for a password."""
        self._broken.touch()

    def mend(self) -> None:
        """It no longer does."""
        self._broken.unlink(missing_ok=True)

    def files(self) -> Sequence[Path]:
        """Certificate and key of the server itself."""
        return [self.certificate, self.key]
