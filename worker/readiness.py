"""How a process says that it is ready: a file `<home>/run/NAME.ready` with its process id.

A supervisor may look for the file, and so may a container's health check. It counts only while the process that wrote
it lives.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from worker import processes
from worker.processes import ProcessIdentity


def announce(home: Path, name: str) -> None:
    """Says that this process, as `name`, does its work now. Call it when the worker polls or the page answers.

    Raises:
        OSError: the home cannot be written.
    """
    path = path_of(home, name)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    identity = ProcessIdentity.of(os.getpid())
    processes.write_json(path, {"pid": identity.pid, "created": identity.created})


def withdraw(home: Path, name: str) -> None:
    """Takes it back: call it when draining begins."""
    path_of(home, name).unlink(missing_ok=True)


def ready(home: Path, name: str) -> ProcessIdentity | None:
    """The living process that announced itself as `name`, if there is one."""
    identity = processes.read_identity(path_of(home, name))
    if identity is None or identity.find() is None:
        return None
    return identity


def path_of(home: Path, name: str) -> Path:
    """The file that stands for readiness."""
    return home / "run" / f"{name}.ready"


def main() -> None:
    """`python -m worker.readiness HOME NAME` ends 0 if that process is ready, 1 if not: a cheap health check."""
    if len(sys.argv) != 3:
        sys.exit("usage: python -m worker.readiness HOME NAME")
    sys.exit(0 if ready(Path(sys.argv[1]), sys.argv[2]) else 1)


if __name__ == "__main__":
    main()
