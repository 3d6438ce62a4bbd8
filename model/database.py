"""The database session: SQLite in write-ahead mode by default, PostgreSQL by URL.

A write takes the write lock at its start (SQLite ``BEGIN IMMEDIATE``), so that what it read is still so when it commits
and two writers wait for each other in place of failing.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import DatabaseError, OperationalError
from sqlmodel import Session

from model.errors import CertgateError, Unavailable

if TYPE_CHECKING:
    from alembic.config import Config

_BUSY_SECONDS = 30
_WRITES = "certgate_writes"
_UPGRADE_LOCK = 0x63657274  # any number that nobody else locks in this database


class Database:
    """One database, opened lazily; safe to use from several threads and processes."""

    def __init__(self, url: str) -> None:
        self._url = make_url(url)
        self.is_sqlite = self._url.get_backend_name() == "sqlite"
        if self.is_sqlite:
            self._engine = create_engine(self._url, connect_args={"timeout": _BUSY_SECONDS, "isolation_level": None})
            event.listen(self._engine, "connect", _tune_sqlite)
            event.listen(self._engine, "begin", _begin_sqlite)
        else:
            if self._url.drivername == "postgresql":
                self._url = self._url.set(drivername="postgresql+psycopg")
            self._engine = create_engine(self._url, pool_pre_ping=True, pool_size=10, max_overflow=20)
        self._writer = self._engine.execution_options(**{_WRITES: True})
        self._still = (
            self._engine if self.is_sqlite else self._engine.execution_options(isolation_level="REPEATABLE READ")
        )

    @property
    def engine(self) -> Engine:
        """The engine underneath, for migrations and tests."""
        return self._engine

    def describe(self) -> str:
        """The URL without its password."""
        return self._url.render_as_string(hide_password=True)

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A session that only reads. Objects stay usable after it."""
        with self._session(self._engine) as session:
            yield session

    @contextmanager
    def snapshot(self) -> Iterator[Session]:
        """A session that reads everything as of one moment, however long it reads. On SQLite every one is such."""
        with self._session(self._still) as session:
            yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        """A session that holds the write lock; commits at the end, rolls back when an exception leaves the block."""
        with self._session(self._writer) as session:
            yield session
            session.commit()

    @contextmanager
    def _session(self, engine: Engine) -> Iterator[Session]:
        try:
            with Session(engine, expire_on_commit=False) as session:
                yield session
        except OperationalError as error:
            raise Unavailable(self._sentence(error)) from error
        except DatabaseError as error:
            words = str(error.orig)
            damaged = "malformed" in words or "not a database" in words
            if damaged or _no_table(error):
                raise Unavailable(self._sentence(error)) from error
            raise

    def _sentence(self, error: DatabaseError) -> str:
        words = str(error.orig).strip().splitlines()[0] if error.orig else "no answer"
        if _no_table(error):
            return (
                f"The database {self.describe()} has no tables yet: run `certgate database upgrade` or `certgate up`."
            )
        return (
            f"The database {self.describe()} can't be used ({words}): check that it runs, has space and may be written."
        )

    def upgrade(self) -> None:
        """Bring the schema to this release's revision; nothing happens when it is there already.

        Raises `Unavailable` when the database was written by a newer release.
        """
        # Loaded where it is needed: it takes a quarter of the time that a command of the command line has.
        from alembic import command

        try:
            if self.revision() == self.newest_revision():
                return
            with self._writer.connect() as connection:
                if not self.is_sqlite:
                    # As SQLite's write lock does: of several processes one upgrades, and the others find it done.
                    connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _UPGRADE_LOCK})
                configuration = _alembic()
                configuration.attributes["connection"] = connection
                command.upgrade(configuration, "head")
                connection.commit()
        except OperationalError as error:
            raise Unavailable(self._sentence(error)) from error
        except DatabaseError as error:
            raise Unavailable(self._sentence(error)) from error
        except CertgateError:
            raise
        except Exception as error:
            if "Can't locate revision" in str(error):
                raise Unavailable(
                    f"The database {self.describe()} is of a newer certgate: use that release or restore a backup."
                ) from error
            raise

    def revision(self) -> str | None:
        """The schema revision found, None for an empty database."""
        from alembic.runtime.migration import MigrationContext

        try:
            with self._engine.connect() as connection:
                return MigrationContext.configure(connection).get_current_revision()
        except DatabaseError as error:
            raise Unavailable(self._sentence(error)) from error

    @staticmethod
    def newest_revision() -> str | None:
        """The schema revision of this release."""
        from alembic.script import ScriptDirectory

        return ScriptDirectory.from_config(_alembic()).get_current_head()

    def close(self) -> None:
        """Give all connections back."""
        self._engine.dispose()


def _no_table(error: DatabaseError) -> bool:
    """Whether a table is missing: SQLite says it in words, PostgreSQL by the code 42P01 (undefined_table)."""
    return "no such table" in str(error.orig) or getattr(error.orig, "sqlstate", None) == "42P01"


def _alembic() -> Config:
    from alembic.config import Config

    configuration = Config()
    configuration.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    return configuration


def _tune_sqlite(connection: Any, _record: Any) -> None:
    cursor = connection.cursor()
    # FULL: a commit that was answered outlives a power cut; see docs/decisions.
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", f"busy_timeout={_BUSY_SECONDS * 1000}"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()
    connection.create_function("certgate_contains", 2, _contains, deterministic=True)


def _contains(text: object, sought: str) -> bool:
    """Whether `sought` is in a text in any case, of any letters."""
    return isinstance(text, str) and sought.casefold() in text.casefold()


def _begin_sqlite(connection: Connection) -> None:
    writes = connection.get_execution_options().get(_WRITES, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
