"""HAProxy as a product: in a folder of its own, on a free port of 127.0.0.1, as master and worker."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from tests.support.products import shown, until
from tests.support.programs import program
from tests.support.serving import Server, Site, write_program
from worker.playground import free_port


class DisposableHAProxy:
    """HAProxy with two certificates on one port, of which the first is installed on; it answers 200 to everything.
    `update` is how it takes a new one into use. A context manager: it is started."""

    type = "haproxy"

    def __init__(self, folder: Path, names: Sequence[str] = ("a.example", "b.example"), update: str = "reload") -> None:
        self.folder = folder
        self.update = update
        self.configuration = folder / "haproxy.cfg"
        self.pid_file = folder / "haproxy.pid"
        self.socket = folder / "admin.sock"
        self.port = free_port()
        certificates = folder / "certificates"
        certificates.mkdir(parents=True)
        self.sites = [
            Site(name, self.port, certificates / f"{name}.pem", certificates / f"{name}.pem") for name in names
        ]
        for site in self.sites:
            site.fill()
        self.list = folder / "list"
        self.list.write_text("".join(f"{site.certificate.name} {site.name}\n" for site in self.sites))
        self.names: Sequence[str] = [names[0]]
        self.program = program("haproxy")
        self._server = Server(folder, [self.program, "-W", "-f", str(self.configuration)])
        self._reload_program = folder / "reload"
        self._broken = False
        self.write(f"bind 127.0.0.1:{self.port} ssl crt-list {_quoted(self.list)}")
        write_program(self._reload_program, f"kill -USR2 $(cat {_quoted(self.pid_file)})")

    def __enter__(self) -> DisposableHAProxy:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def write(self, *binds: str, main: str = "") -> None:
        """The configuration, with a frontend of these bind lines."""
        lines = "\n    ".join(binds)
        self.configuration.write_text(
            f"global\n    pidfile {_quoted(self.pid_file)}\n    nbthread 1\n"
            f"    crt-base {_quoted(self.folder / 'certificates')}\n"
            f"    stats socket {_quoted(self.socket)} mode 600 level admin expose-fd listeners\n    {main}\n"
            "defaults\n    mode http\n    timeout client 30s\n    timeout connect 5s\n    timeout server 30s\n"
            f"frontend web\n    {lines}\n    http-request return status 200\n"
        )

    @property
    def settings(self) -> dict[str, Any]:
        """Of the endpoint."""
        return {
            "configuration": [str(self.configuration)],
            "command": [self.program],
            "reload_command": [str(self._reload_program)],
            "update": self.update,
        }

    @property
    def binding(self) -> str:
        """The first certificate."""
        return f"{self.sites[0].certificate.name}:{self.port}"

    def start(self) -> None:
        """Unless it runs; it then serves and has its pid file."""
        self._server.start(lambda: self.pid_file.exists() and shown(self.port, self.sites[0].name) is not None)

    def stop(self) -> None:
        """With its workers."""
        self._server.stop()
        self.pid_file.unlink(missing_ok=True)

    def running(self) -> bool:
        """Whether the master is there."""
        return self.pid is not None

    @property
    def pid(self) -> int | None:
        """Of the master."""
        return self._server.pid

    def break_next(self) -> None:
        """The order to reload is refused; at runtime, somebody else has a transaction open."""
        self._broken = True
        write_program(self._reload_program, "echo 'it is forbidden today' >&2; exit 1")
        if self.update == "runtime":
            other = self.sites[1].certificate
            told = self.say(f"set ssl cert {_escaped(other)} <<\n{other.read_text()}\n")
            assert "Transaction created" in told

    def mend(self) -> None:
        """The end of that."""
        if self._broken:
            self._broken = False
            write_program(self._reload_program, f"kill -USR2 $(cat {_quoted(self.pid_file)})")
            if self.update == "runtime":
                self.say(f"abort ssl cert {_escaped(self.sites[1].certificate)}")

    def say(self, command: str) -> str:
        """To the stats socket."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(self.socket))
            connection.sendall(f"{command}\n".encode())
            connection.shutdown(socket.SHUT_WR)
            answer = b""
            while part := connection.recv(65_536):
                answer += part
        return answer.decode()

    def files(self) -> Sequence[Path]:
        """The first certificate with its key."""
        return [self.sites[0].certificate]

    @contextmanager
    def share(self, name: str) -> Iterator[str]:
        """A second frontend, on a port of its own, gives the first certificate another name."""
        before, port = self.configuration.read_text(), free_port()
        second = self.folder / "second-list"
        second.write_text(f"{self.sites[0].certificate.name} [alpn http/1.1] {name}\n")
        self.configuration.write_text(
            f"{before}frontend second\n    bind 127.0.0.1:{port} ssl crt-list {_quoted(second)}\n"
            "    http-request return status 200\n"
        )
        self.reload()
        try:
            yield f"{self.sites[0].certificate.name}:{port}"
        finally:
            self.configuration.write_text(before)
            self.reload()

    def reload(self) -> None:
        """And wait until the worker from before is gone."""
        assert self.pid is not None
        master, old, ordered = self.pid, psutil.Process(self.pid).children(), 0.0

        def gone() -> bool:
            nonlocal ordered
            # An order that comes right after another reload is lost.
            if time.monotonic() >= ordered + 2:
                os.kill(master, signal.SIGUSR2)
                ordered = time.monotonic()
            return not any(one.is_running() for one in old)

        until(gone, "HAProxy reloads")


def _quoted(path: Path) -> str:
    return f'"{path}"'


def _escaped(path: Path) -> str:
    return str(path).replace(" ", "\\ ").replace("'", "\\'")
