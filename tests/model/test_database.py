"""The database: schema, locks, and what it says when it can't."""

from __future__ import annotations

from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import text
from sqlmodel import SQLModel, select

from model.database import Database
from model.errors import Unavailable
from model.tables import Organization


def test_migrations_lead_to_the_tables_of_today(database: Database) -> None:
    with database.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": False})
        assert compare_metadata(context, SQLModel.metadata) == []


def test_upgrading_twice_changes_nothing(database: Database) -> None:
    database.upgrade()
    assert database.revision() == database.newest_revision()


def test_a_write_that_fails_leaves_nothing(database: Database) -> None:
    with pytest.raises(RuntimeError), database.write() as session:  # noqa: PT012
        session.add(Organization(name="half"))
        session.flush()
        raise RuntimeError
    with database.read() as session:
        assert session.exec(select(Organization)).all() == []


def test_an_empty_database_says_what_to_do(tmp_path: Path) -> None:
    empty = Database(f"sqlite:///{tmp_path}/empty.db")
    with pytest.raises(Unavailable, match="certgate database upgrade"), empty.read() as session:
        session.exec(select(Organization)).all()
    empty.close()


def test_a_file_that_is_no_database_is_told(tmp_path: Path) -> None:
    path = tmp_path / "certgate.db"
    path.write_bytes(b"this is not a database" * 100)
    damaged = Database(f"sqlite:///{path}")
    with pytest.raises(Unavailable, match="can't be used"):
        damaged.upgrade()
    damaged.close()


def test_a_newer_schema_is_told(database: Database) -> None:
    with database.engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(Unavailable, match="newer certgate"):
        database.upgrade()


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    nowhere = Database(f"sqlite:///{tmp_path}/not/there/certgate.db")
    with pytest.raises(Unavailable, match="check that it runs"):
        nowhere.upgrade()
    nowhere.close()


def test_a_password_in_the_url_is_never_shown() -> None:
    secret = Database("postgresql://certgate:hunter2@db.example/certgate")
    assert "hunter2" not in secret.describe()
    secret.close()
