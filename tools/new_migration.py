"""Write a migration for what `model/tables.py` changed: ``python tools/new_migration.py 0002 "what it does"``.

The new file is a draft by Alembic's comparison with an empty database brought to the newest revision: read and mend it.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from alembic import command
from alembic.config import Config

from model import migrations
from model.database import Database


def main(revision: str, message: str) -> None:
    """Draft the migration."""
    with tempfile.TemporaryDirectory() as folder:
        database = Database(f"sqlite:///{folder}/draft.db")
        if database.newest_revision() is not None:
            database.upgrade()
        configuration = Config()
        configuration.set_main_option("script_location", str(Path(migrations.__file__).parent))
        configuration.set_main_option("file_template", "%%(rev)s_%%(slug)s")
        with database.engine.connect() as connection:
            configuration.attributes["connection"] = connection
            command.revision(configuration, message=message, autogenerate=True, rev_id=revision)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
