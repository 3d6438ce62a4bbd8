"""An empty database of today's schema, without running every migration for each test."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from model.database import Database


@cache
def _empty() -> bytes:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "certgate.db"
        made = Database(f"sqlite:///{path}")
        made.upgrade()
        made.close()
        return path.read_bytes()


def empty(folder: Path) -> Database:
    """A new one in a folder, as `Database.upgrade` leaves it."""
    path = folder / "certgate.db"
    path.write_bytes(_empty())
    return Database(f"sqlite:///{path}")
