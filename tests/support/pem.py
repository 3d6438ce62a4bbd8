"""Files as products for the conformance suite: those of a small TLS server of its own process, which reads them again
on SIGHUP, and one that nothing is known to serve."""

from __future__ import annotations

import asyncio
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from connectors.endpoints.contract import Listener, Probe
from connectors.endpoints.handshake import fingerprint, shake_hands
from connectors.endpoints.starttls import StartTls
from tests.support.products import ROOT, shown, until
from worker.playground import free_port, self_signed

NAME = "files.example"


def serve(port: int, certificate: Path, key: Path) -> None:
    """Answer handshakes until the process is ended. A certificate that can't be used is not taken."""
    context = [_context(certificate, key)]

    def again(*_: object) -> None:
        try:
            context[0] = _context(certificate, key)
        except (OSError, ssl.SSLError) as error:
            print(f"still the old certificate: {error}", file=sys.stderr, flush=True)

    signal.signal(signal.SIGHUP, again)
    with socket.create_server(("127.0.0.1", port), backlog=64) as listening:
        while True:
            connection, _ = listening.accept()
            connection.settimeout(5)
            try:
                with context[0].wrap_socket(connection, server_side=True) as tls:
                    tls.recv(1)
            except OSError:
                connection.close()


def _context(certificate: Path, key: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context


def shown_by(port: int, kind: StartTls, name: str | None = None) -> str | None:
    """Fingerprint of the certificate that a server on 127.0.0.1 shows once TLS has begun in its own protocol. It
    blocks, also where an event loop runs."""
    probe = Probe(Listener("127.0.0.1", port, starttls=kind), name)
    with ThreadPoolExecutor(1) as threads:
        seen = threads.submit(lambda: asyncio.run(shake_hands(probe))).result()
    return fingerprint(seen.certificates[0]) if seen.certificates else None


class TlsServer:
    """The server, and a hook that makes it read its files again. A context manager: it is started."""

    type = "pem"
    names: Sequence[str] = (NAME,)

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.certificate, self.key = folder / 'it\'s a "file".pem', folder / "new\nline.key"
        certificate, key = self_signed([NAME])
        self.certificate.write_bytes(certificate)
        self.key.write_bytes(key)
        self.certificate.chmod(0o640)
        self.key.chmod(0o600)
        self._process: subprocess.Popen[bytes] | None = None
        self._broken = folder / "broken"
        (folder / "hook.sh").write_text(
            'cd "$(dirname "$0")"\n'
            '[ -e broken ] && { echo "the hook will not" >&2; exit 4; }\n'
            "kill -HUP $(cat pid)\n"
            'echo "told $1"\n'
        )

    def __enter__(self) -> TlsServer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.mend()
        self.stop()

    @property
    def settings(self) -> dict[str, Any]:
        """Of the endpoint."""
        return {
            "certificate": str(self.certificate),
            "key": str(self.key),
            "names": [NAME],
            "listeners": [f"127.0.0.1:{self.port}"],
            "hook": ["/bin/sh", str(self.folder / "hook.sh"), "{certificate}"],
        }

    @property
    def binding(self) -> str:
        """The only one."""
        return str(self.certificate)

    def start(self) -> None:
        """Unless it runs."""
        if self.running():
            return
        program = "import sys, pathlib; from tests.support.pem import serve; "
        program += "serve(int(sys.argv[1]), pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3]))"
        arguments = [str(self.port), str(self.certificate), str(self.key)]
        self._process = subprocess.Popen([sys.executable, "-c", program, *arguments], cwd=ROOT)
        (self.folder / "pid").write_text(str(self._process.pid))
        until(lambda: shown(self.port, NAME) is not None, "the TLS server serves")

    def stop(self) -> None:
        """Its process."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def running(self) -> bool:
        """Whether it is there."""
        return self._process is not None and self._process.poll() is None

    def break_next(self) -> None:
        """The hook fails."""
        self._broken.touch()

    def mend(self) -> None:
        """And works again."""
        self._broken.unlink(missing_ok=True)

    def files(self) -> Sequence[Path]:
        """Certificate and key."""
        return [self.certificate, self.key]


class PlainFiles:
    """Key, certificate and chain, each in a file of its own, and a hook; there is no process. A context manager."""

    type = "pem"
    names: Sequence[str] = (NAME,)

    def __init__(self, folder: Path) -> None:
        self.certificate, self.key, self.chain = (folder / name for name in ("leaf.pem", "leaf.key", "chain.pem"))
        self._broken = folder / "broken"
        certificate, key = self_signed([NAME])
        for path, content in ((self.certificate, certificate), (self.key, key), (self.chain, certificate)):
            path.write_bytes(content)
            path.chmod(0o640)

    def __enter__(self) -> PlainFiles:
        return self

    def __exit__(self, *_: object) -> None:
        self.mend()

    @property
    def settings(self) -> dict[str, Any]:
        """Of the endpoint."""
        hook = f'[ ! -e "{self._broken}" ] || {{ echo "the hook will not" >&2; exit 4; }}'
        return {
            "certificate": str(self.certificate),
            "key": str(self.key),
            "chain": str(self.chain),
            "names": [NAME],
            "hook": [hook],
            "hook_shell": True,
        }

    @property
    def binding(self) -> str:
        """The only one."""
        return str(self.certificate)

    def start(self) -> None:
        """There is nothing to start."""

    def stop(self) -> None:
        """There is nothing to stop."""

    def running(self) -> bool:
        """As far as there is something."""
        return True

    def break_next(self) -> None:
        """The hook fails."""
        self._broken.touch()

    def mend(self) -> None:
        """And works again."""
        self._broken.unlink(missing_ok=True)

    def files(self) -> Sequence[Path]:
        """All three."""
        return [self.certificate, self.key, self.chain]
