"""Apache httpd as a product: in a folder of its own, on a free port of 127.0.0.1."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from tests.support.products import shown, until
from tests.support.programs import program
from tests.support.serving import Server, Site, write_program
from worker.playground import free_port

MODULES = "/usr/lib/apache2/modules"


class DisposableApache:
    """Apache with virtual hosts of one port, of which the first is installed on. A context manager: it is started."""

    type = "apache"

    def __init__(self, folder: Path, names: Sequence[str] = ("a.example", "b.example")) -> None:
        self.folder = folder
        self.configuration = folder / "httpd.conf"
        self.error_log = folder / "error.log"
        self.pid_file = folder / "httpd.pid"
        self.port = free_port()
        (folder / "certificates").mkdir(parents=True)
        certificates = folder / "certificates"
        self.sites = [
            Site(name, self.port, certificates / f"{name}.pem", certificates / f"{name}.key") for name in names
        ]
        for site in self.sites:
            site.fill()
        self.names: Sequence[str] = [names[0]]
        self.program = program("apache2")
        self._server = Server(folder, [self.program, "-f", str(self.configuration), "-D", "FOREGROUND"])
        self._graceful = folder / "graceful"
        self.write(self.hosts())
        self.mend()

    def __enter__(self) -> DisposableApache:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def hosts(self) -> str:
        """A virtual host a site."""
        return "\n".join(virtual_host(site.port, site.name, site) for site in self.sites)

    def write(self, hosts: str, *, main: str = "") -> None:
        """The configuration, with these virtual hosts."""
        modules = ("mpm_event", "authz_core", "ssl", "alias", "macro")
        loads = "\n".join(f"LoadModule {name}_module {MODULES}/mod_{name}.so" for name in modules)
        # Apache does not serve as root.
        user = "User www-data\nGroup www-data\n" if os.geteuid() == 0 else ""
        self.configuration.write_text(
            f'ServerRoot "{self.folder}"\nServerName localhost\nDefaultRuntimeDir "{self.folder}"\n{loads}\n{user}'
            f'PidFile "{self.pid_file}"\nErrorLog "{self.error_log}"\nMutex pthread\nListen 127.0.0.1:{self.port}\n'
            "StartServers 1\nServerLimit 4\nThreadsPerChild 8\nMaxRequestWorkers 32\nMinSpareThreads 1\n"
            f"MaxSpareThreads 32\nGracefulShutdownTimeout 5\n{main}\n{hosts}\n"
        )

    @property
    def settings(self) -> dict[str, Any]:
        """Of the endpoint."""
        return {
            "configuration": str(self.configuration),
            "command": [self.program],
            "reload_command": [str(self._graceful)],
        }

    @property
    def binding(self) -> str:
        """The first site."""
        return f"{self.sites[0].name}:{self.port}"

    def start(self) -> None:
        """Unless it runs; it then serves and has its pid file."""
        self._server.start(lambda: shown(self.port, self.sites[0].name) is not None and self.pid_file.exists())

    def stop(self) -> None:
        """With its children."""
        self._server.stop()

    def running(self) -> bool:
        """Whether the parent is there."""
        return self.pid is not None

    @property
    def pid(self) -> int | None:
        """Of the parent."""
        return self._server.pid

    def break_next(self) -> None:
        """The order to restart is refused."""
        write_program(self._graceful, "echo 'apache2: it is forbidden today' >&2; exit 1")

    def mend(self) -> None:
        """The order is Apache's own again."""
        write_program(self._graceful, f"exec {shlex.join([self.program, '-f', str(self.configuration)])} -k graceful")

    def files(self) -> Sequence[Path]:
        """Certificate and key of the first site."""
        return [self.sites[0].certificate, self.sites[0].key]

    @contextmanager
    def share(self, name: str) -> Iterator[str]:
        """A third virtual host with the first one's files."""
        before = self.configuration.read_text()
        self.configuration.write_text(before + virtual_host(self.port, name, self.sites[0]))
        self.reload()
        try:
            yield f"{name}:{self.port}"
        finally:
            self.configuration.write_text(before)
            self.reload()

    def reload(self) -> None:
        """And wait until the processes from before are gone."""
        assert self.pid is not None
        old = psutil.Process(self.pid).children()
        subprocess.run([self.program, "-f", str(self.configuration), "-k", "graceful"], check=True)
        until(lambda: not any(one.is_running() for one in old), "Apache restarts gracefully")


def virtual_host(port: int | str, name: str, site: Site, rest: str = "") -> str:
    """A host with TLS that answers 200 to everything."""
    key = "" if site.key == site.certificate else f'SSLCertificateKeyFile "{site.key}"\n'
    return (
        f'<VirtualHost *:{port}>\nServerName {name}\nSSLEngine on\nSSLCertificateFile "{site.certificate}"\n{key}'
        f"Redirect 200 /\n{rest}\n</VirtualHost>\n"
    )
