"""Postfix as a product for the conformance suite and the end-to-end tests. Its master needs root."""

from __future__ import annotations

import pwd
import shutil
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

NAME = "mail.example"


class PostfixProduct:
    """A Postfix of its own: SMTP with STARTTLS and SMTP in TLS with a chain file in which the key comes first, and one
    more service with a pair of its own. A context manager: it is started."""

    type = "postfix"
    names: Sequence[str] = (NAME,)
    binding = "smtpd"

    def __init__(self) -> None:
        # Sockets have short paths, and Postfix's own user must get through.
        self.folder = Path(tempfile.mkdtemp(prefix="certgate-pf-"))
        self.folder.chmod(0o755)
        self.configuration, self.queue = self.folder / "etc", self.folder / "queue"
        for folder in (self.configuration, self.queue, self.folder / "state"):
            folder.mkdir()
        shutil.chown(self.folder / "state", pwd.getpwnam("postfix").pw_uid)
        self.port, self.tls_port, self.other_port = free_port(), free_port(), free_port()
        self.chain = self.folder / "chain.pem"
        self.certificate, self.key = self.folder / "own.pem", self.folder / "own.key"
        certificate, key = self_signed([NAME])
        self.chain.write_bytes(key + certificate)
        self.chain.chmod(0o640)
        self.certificate.write_bytes(certificate)
        self.key.write_bytes(key)
        self.key.chmod(0o600)
        self._broken = self.folder / "broken"
        # What sudo does that may not do everything.
        (self.folder / "as-root").write_text(
            f'[ "$4" = reload ] && [ -e {self._broken} ] && {{ echo "sudo: a password is required" >&2; exit 1; }}\n'
            'exec "$@"\n'
        )
        (self.configuration / "main.cf").write_text(
            "compatibility_level = 3.6\n"
            f"queue_directory = {self.queue}\ndata_directory = {self.folder}/state\n"
            "command_directory = /usr/sbin\ndaemon_directory = /usr/lib/postfix/sbin\n"
            f"myhostname = {NAME}\nmydestination =\nlocal_recipient_maps =\nalias_maps =\nalias_database =\n"
            "inet_interfaces = 127.0.0.1\ninet_protocols = ipv4\nsmtpd_peername_lookup = no\n"
            f"maillog_file = {self.folder}/mail.log\nmaillog_file_prefixes = {self.folder}\n"
            f"smtpd_tls_security_level = may\nsmtpd_tls_chain_files = {self.chain}\n"
        )
        self._master = (
            f"127.0.0.1:{self.port} inet n - n - - smtpd\n"
            f"{self.tls_port} inet n - n - - smtpd -o smtpd_tls_wrappermode=yes\n"
            f"127.0.0.1:{self.other_port} inet n - n - - smtpd -o {{ smtpd_tls_chain_files = }}\n"
            f"    -o smtpd_tls_cert_file={self.certificate} -o smtpd_tls_key_file={self.key}\n"
            "postlog unix-dgram n - n - 1 postlogd\nanvil unix - - n - 1 anvil\ntlsmgr unix - - n 1000? 1 tlsmgr\n"
            "rewrite unix - - n - - trivial-rewrite\ncleanup unix n - n - 0 cleanup\n"
        )
        (self.configuration / "master.cf").write_text(self._master)
        self._run("check")  # makes the queue's folders
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> PostfixProduct:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def settings(self) -> dict[str, Any]:
        """Of the endpoint."""
        return {
            "configuration": str(self.configuration),
            "postfix_command": ["/bin/sh", str(self.folder / "as-root"), program("postfix")],
            "postconf_command": [program("postconf")],
            "names": [NAME],
        }

    def start(self) -> None:
        """Unless it runs."""
        if self.running():
            return
        self._process = subprocess.Popen(
            ["/usr/lib/postfix/sbin/master", "-c", str(self.configuration), "-d", "-s"],
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        until(lambda: not self.running() or self.shown() is not None, "Postfix serves TLS")
        assert self.running(), self.log()

    def stop(self) -> None:
        """The master, which ends the others."""
        if self._process is not None:
            self._process.terminate()
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
        """The chain file."""
        return [self.chain]

    def log(self) -> str:
        """What it logged."""
        path = self.folder / "mail.log"
        return path.read_text() if path.exists() else "it logged nothing"

    def shown(self) -> str | None:
        """Fingerprint of what SMTP with STARTTLS shows."""
        return shown_by(self.port, StartTls.SMTP)

    def _run(self, deed: str) -> None:
        command = [program("postfix"), "-c", str(self.configuration), deed]
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, timeout=60
        )
        assert done.returncode == 0, done.stdout + done.stderr + self.log()
