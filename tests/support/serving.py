"""What rigs of servers share: certificates in a folder, a process that is started, waited for and ended."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.support.products import until
from worker.playground import self_signed

STOP_SECONDS = 10


@dataclass(frozen=True)
class Site:
    """A name, its port on 127.0.0.1, and its files: the same one twice where both are in one."""

    name: str
    port: int
    certificate: Path
    key: Path

    def fill(self) -> None:
        """With a self-signed pair, the key with mode 0600."""
        certificate, key = self_signed([self.name])
        self.certificate.write_bytes(certificate + (key if self.key == self.certificate else b""))
        if self.key != self.certificate:
            self.key.write_bytes(key)
        self.key.chmod(0o600)


class Server:
    """A program in the foreground, ended by its process id. `folder` gets what it puts out."""

    def __init__(self, folder: Path, command: Sequence[str]) -> None:
        self._log = folder / "output.log"
        self._command = [*command]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, ready: Callable[[], bool]) -> None:
        """Unless it runs; and wait until it is ready."""
        if self.pid is not None:
            return
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        process = self._process

        def up() -> bool:
            assert process.poll() is None, f"{self._command[0]} ended: {self._log.read_text()[-1000:]}"
            return ready()

        try:
            until(up, f"{self._command[0]} starts")
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """With its children, which it ends by itself; nothing happens where it does not run."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    @property
    def pid(self) -> int | None:
        """None where it does not run."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None


def write_program(path: Path, script: str) -> None:
    """An executable shell script, exchanged in one step: it may be running."""
    temporary = path.with_suffix(".new")
    temporary.write_text(f"#!/bin/sh\n{script}\n")
    os.chmod(temporary, 0o755)  # noqa: PTH101
    temporary.replace(path)
