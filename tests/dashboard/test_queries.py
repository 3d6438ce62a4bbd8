"""The pages stay as quick with ten thousand rows: what is asked of the database does not grow."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest
from sqlalchemy import event

from dashboard.bridge import bridge
from model.tables import Certificate, CertificateRequest
from tests.dashboard import scene as scenes
from tests.dashboard.conftest import Visit
from tests.dashboard.scene import Scene

MANY = 10_000


@dataclass
class Load:
    """What one run asked of the database."""

    statements: int = 0
    rows: int = 0


@contextmanager
def counted() -> Iterator[Load]:
    """Count statements and records read."""
    load = Load()
    engine = bridge().door.database.engine

    def statement(*_: object) -> None:
        load.statements += 1

    def row(*_: object) -> None:
        load.rows += 1

    event.listen(engine, "before_cursor_execute", statement)
    for table in (CertificateRequest, Certificate):
        event.listen(table, "load", row)
    try:
        yield load
    finally:
        event.remove(engine, "before_cursor_execute", statement)
        for table in (CertificateRequest, Certificate):
            event.remove(table, "load", row)


@pytest.mark.parametrize(
    ("path", "query"),
    [
        ("requests", {}),
        ("requests", {"q": "EXAMPLE.com"}),
        ("requests", {"group": "Status"}),
        ("requests", {"mine": "true"}),
        ("request", {"id": "1"}),
        ("certificates", {}),
        ("new-request", {}),
        ("overview", {}),
        ("organizations", {}),
    ],
)
def test_a_run_asks_the_same_of_ten_thousand_rows(visit: Visit, scene: Scene, path: str, query: dict[str, str]) -> None:
    app = visit(path, **query)
    with counted() as few:
        app.run()
    scenes.many(scene, MANY)
    with counted() as many:
        app.run()
    assert few.statements > 0
    assert many.statements <= few.statements
    assert many.rows <= 60


def test_ten_thousand_rows_are_paged(visit: Visit, scene: Scene) -> None:
    scenes.many(scene, MANY)
    app = visit()
    assert len(app.dataframe[0].value) == 50
    assert "1–50 of 10,007" in [element.value for element in app.caption]
    app.button(key="requests-on").click().run()
    assert app.query_params["page"] == "2"
    assert "51–100 of 10,007" in [element.value for element in app.caption]
    last = visit(page="201")
    assert len(last.dataframe[0].value) == 7
