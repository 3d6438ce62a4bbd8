"""A real PostgreSQL of its own: a cluster in a temporary folder, on loopback, run by an unprivileged user."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql

from tests.support.programs import program
from worker.playground import free_port

_START_SECONDS = 60.0
_USER = "certgate"


@dataclass(frozen=True)
class Postgres:
    """A running server."""

    port: int
    password: str

    def url(self, database: str) -> str:
        """The URL of one of its databases."""
        return f"postgresql://{_USER}:{self.password}@127.0.0.1:{self.port}/{database}"

    def create(self, database: str) -> str:
        """Make a database; gives its URL."""
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(database)))
        return self.url(database)


def binary(name: str) -> Path:
    """A program of PostgreSQL; Debian keeps them beside each other, a folder a version, the newest counts."""
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: int(path.parts[4]))
    return found[-1] if found else Path(program(name))


@contextmanager
def postgres() -> Iterator[Postgres]:
    """Make a cluster and run it; it is ended and deleted whatever happens."""
    # Not in pytest's folder: that one is closed to the user who runs the server.
    folder = Path(tempfile.mkdtemp(prefix="certgate-pg-"))
    process: subprocess.Popen[bytes] | None = None
    try:
        data, log, password_file = folder / "data", folder / "log", folder / "password"
        password, port = secrets.token_urlsafe(18), free_port()
        password_file.write_text(password)
        log.touch()
        as_user = unprivileged(folder)
        arguments = ["--username", _USER, "--pwfile", str(password_file), "--auth", "scram-sha-256", "--no-sync"]
        made = subprocess.run(
            [
                program("setpriv"),
                *as_user,
                "--",
                str(binary("initdb")),
                "-D",
                str(data),
                *arguments,
                "--encoding",
                "UTF8",
                "--locale",
                "C.UTF-8",
            ],
            capture_output=True,
            text=True,
            cwd=folder,
            check=False,
        )
        assert made.returncode == 0, made.stderr
        # Durability is PostgreSQL's own affair: here only what is ours is tested.
        settings = {"listen_addresses": "127.0.0.1", "unix_socket_directories": str(folder), "fsync": "off"}
        given = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        with log.open("ab") as output:
            process = subprocess.Popen(
                # The kernel ends it, fast and in order, when the test's own process is killed.
                [
                    program("setpriv"),
                    "--pdeathsig",
                    "INT",
                    *as_user,
                    "--",
                    str(binary("postgres")),
                    "-D",
                    str(data),
                    "-p",
                    str(port),
                    *given,
                ],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=folder,
                start_new_session=True,
            )
        found = Postgres(port, password)
        _await(found, process, log)
        yield found
    finally:
        if process is not None:
            _stop(process)
        shutil.rmtree(folder, ignore_errors=True)


def unprivileged(folder: Path) -> Sequence[str]:
    """What makes setpriv run a command as a user who is not root, which PostgreSQL refuses; the folder and what is in
    it becomes that user's."""
    if os.geteuid() != 0:
        return ()
    for name in ("postgres", "nobody"):
        with suppress(KeyError):
            user = pwd.getpwnam(name)
            for path in (folder, *folder.iterdir()):
                os.chown(path, user.pw_uid, user.pw_gid)
            ids = f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}"
            return (*ids, "--clear-groups")
    raise AssertionError("there is no unprivileged user, neither postgres nor nobody, to run PostgreSQL")


def _await(server: Postgres, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while True:
        assert process.poll() is None, log.read_text()
        with suppress(psycopg.OperationalError, OSError):
            socket.create_connection(("127.0.0.1", server.port), timeout=1).close()
            psycopg.connect(server.url("postgres")).close()
            return
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.05)


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.send_signal(2)  # SIGINT: a fast shutdown, also when somebody is still connected
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
