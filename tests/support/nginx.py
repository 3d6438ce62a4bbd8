"""nginx as a product for the conformance suite and the end-to-end tests."""

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

from tests.support.products import until
from worker.playground import DisposableNginx


class NginxProduct:
    """A disposable nginx with two sites, of which the first is installed on. A context manager: it is started."""

    type = "nginx"

    def __init__(self, folder: Path) -> None:
        self.nginx = DisposableNginx(folder, ["a.example", "b.example"])
        self.names: Sequence[str] = ["a.example"]
        self._configuration = self.nginx.configuration.read_text()
        self._taken: socket.socket | None = None

    def __enter__(self) -> NginxProduct:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.mend()
        self.stop()

    @property
    def settings(self) -> dict[str, Any]:
        """Of the endpoint."""
        return dict(self.nginx.settings)

    @property
    def binding(self) -> str:
        """The first site."""
        return self.nginx.sites[0].binding_id

    def start(self) -> None:
        """Unless it runs."""
        if not self.running():
            self.nginx.start()

    def stop(self) -> None:
        """With its workers."""
        self.nginx.stop()

    def running(self) -> bool:
        """Whether the master is there."""
        return self.nginx.pid is not None

    def break_next(self) -> None:
        """A port that is taken: ``nginx -t`` finds nothing wrong, and the reload is given up in the log only."""
        self._taken = socket.create_server(("127.0.0.1", 0))
        port = self._taken.getsockname()[1]
        broken = self._configuration.replace("http {", f"http {{ server {{ listen 127.0.0.1:{port}; }}")
        self.nginx.configuration.write_text(broken)

    def mend(self) -> None:
        """The port out of the configuration."""
        if self._taken is not None:
            self.nginx.configuration.write_text(self._configuration)
            self._await_giving_up()
            self._taken.close()
            self._taken = None

    def _await_giving_up(self) -> None:
        """nginx asks five times for a port, half a second apart, before it gives a reload up: with the port free any
        earlier that reload would come true, with the certificate that has been put back since."""
        quiet = 0
        while quiet < 4 and self.running():
            log = self.nginx.error_log.read_text(errors="replace")
            given_up = log.count("bind() to") == 5 * log.count("still could not bind()")
            quiet = quiet + 1 if given_up else 0
            time.sleep(0.2)

    def files(self) -> Sequence[Path]:
        """Certificate and key of the first site."""
        return [self.nginx.sites[0].certificate, self.nginx.sites[0].key]

    @contextmanager
    def share(self, name: str) -> Iterator[str]:
        """A third server with the first one's files."""
        site = self.nginx.sites[0]
        server = f"server {{ listen 127.0.0.1:{site.port} ssl; server_name {name};"
        server += f' ssl_certificate "{site.certificate}"; ssl_certificate_key "{site.key}"; return 200; }}'
        self.nginx.configuration.write_text(self._configuration.replace("http {", f"http {{ {server}"))
        self._reload()
        try:
            yield f"{name}:{site.port}"
        finally:
            self.nginx.configuration.write_text(self._configuration)
            self._reload()

    def _reload(self) -> None:
        """And wait until the old workers are gone."""
        assert self.nginx.pid is not None
        old = psutil.Process(self.nginx.pid).children()
        os.kill(self.nginx.pid, signal.SIGHUP)
        until(lambda: not any(one.is_running() for one in old), "nginx reloads")
