"""PostgreSQL with TLS as a product for the conformance suite and the end-to-end tests."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from connectors.endpoints.starttls import StartTls
from tests.support.pem import shown_by
from tests.support.postgres import binary, unprivileged
from tests.support.products import until
from tests.support.programs import program
from worker.playground import free_port, self_signed

NAME = "db.example"


class PostgresqlProduct:
    """A cluster of its own, whose configuration is spread over included files. A context manager: it is started."""

    type = "postgresql"
    names: Sequence[str] = (NAME,)

    def __init__(self) -> None:
        # Not in pytest's folder: that one is closed to the user who runs the server.
        self.folder = Path(tempfile.mkdtemp(prefix="certgate-pgtls-"))
        self.data, self.log, self.port = self.folder / "data", self.folder / "server.log", free_port()
        tls = self.folder / "it's a folder"
        self.certificate, self.key = tls / "server's.crt", tls / "server.key"
        self.configuration = self.folder / "main.conf"
        included = self.folder / "more.d"
        for folder in (tls, included):
            folder.mkdir()
        (included / "10-tls.conf").write_text(
            f"SSL = on  # comes later than 'ssl = off'\nssl_cert_file = {_quoted(self.certificate)}\n"
        )
        (included / ".hidden.conf").write_text("ssl_cert_file = 'wrong'\n")
        self._configuration = (
            f"data_directory {_quoted(self.data)}\nlisten_addresses = '127.0.0.1'\nport = {self.port}\n"
            f"unix_socket_directories = {_quoted(self.folder)}\nfsync = off\nlogging_collector = on\n"
            f"ssl = off\nssl_key_file = {_quoted(self.key)}\ninclude_dir 'more.d'\ninclude_if_exists 'absent.conf'\n"
            f"hba_file = {_quoted(self.data / 'pg_hba.conf')}\nident_file = {_quoted(self.data / 'pg_ident.conf')}\n"
            "autovacuum = off\nwal_level = minimal\nmax_wal_senders = 0\nshared_buffers = 16MB\n"
        )
        self.configuration.write_text(self._configuration)
        certificate, key = self_signed([NAME])
        self.certificate.write_bytes(certificate)
        self.key.write_bytes(key)
        self.key.chmod(0o600)
        self._as_user = [program("setpriv"), "--pdeathsig", "INT", *unprivileged(self.folder), "--"]
        unprivileged(tls)
        made = subprocess.run(
            [*self._as_user, str(binary("initdb")), "-D", str(self.data), "--auth", "trust", "--no-sync"],
            capture_output=True,
            text=True,
            cwd=self.folder,
            check=False,
        )
        assert made.returncode == 0, made.stderr
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> PostgresqlProduct:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def settings(self) -> dict[str, Any]:
        """Of the endpoint."""
        return {"configuration": str(self.configuration), "names": [NAME]}

    @property
    def binding(self) -> str:
        """The only one."""
        return f"postgresql:{self.port}"

    def start(self) -> None:
        """Unless it runs."""
        if self.running():
            return
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                [*self._as_user, str(binary("postgres")), "-c", f"config_file={self.configuration}"],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=self.folder,
                start_new_session=True,
            )
        until(lambda: not self.running() or shown_by(self.port, StartTls.POSTGRESQL) is not None, "PostgreSQL serves")
        assert self.running(), self.log.read_text()

    def stop(self) -> None:
        """A fast shutdown."""
        if self._process is not None:
            self._process.send_signal(2)
            self._process.wait(30)
            self._process = None

    def running(self) -> bool:
        """Whether the postmaster is there."""
        return self._process is not None and self._process.poll() is None

    def break_next(self) -> None:
        """A reload is given up in the log only, and the old certificate stays."""
        self.configuration.write_text(self._configuration + "ssl_ca_file = '/nowhere/ca.pem'\n")

    def mend(self) -> None:
        """Out of the configuration."""
        self.configuration.write_text(self._configuration)

    def files(self) -> Sequence[Path]:
        """Certificate and key."""
        return [self.certificate, self.key]


def _quoted(path: Path) -> str:
    return "'" + str(path).replace("'", "''") + "'"
