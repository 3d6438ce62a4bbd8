"""Programs that tests start: found beside this Python or on the path."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path


def program(name: str) -> str:
    """Where a program is; a test without it fails, and says what is missing."""
    beside = Path(sys.executable).parent / name
    found = (
        str(beside)
        if beside.exists()
        else shutil.which(name, path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin:/bin")
    )
    if found is None:
        raise AssertionError(f"{name} is not installed: `make setup` installs what the tests need")
    return found


def skipping_server() -> str:
    """The time-skipping Temporal test server."""
    return program("temporal-test-server")
