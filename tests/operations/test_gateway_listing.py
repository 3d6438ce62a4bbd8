"""The list of a thousand gateways: filtered, ordered, grouped and paged by the database, in a handful of statements."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import get_args

import pytest
from sqlalchemy import event

from model.database import Database
from model.errors import Conflict, InvalidInput
from model.states import ConnectionStatus, DelegationMode
from model.tables import Delegation, Endpoint, Gateway
from operations import gateway_changes, gateways, preferences
from operations.context import Context
from operations.gateway_queries import ALL, Filter, Order, Statuses
from operations.gateways import By, Group
from operations.lookup import identity
from tests.operations.conftest import NOW, Records, fill
from tests.support.postgres import postgres

MANY = 1000
CONNECTED, DISCONNECTED, PENDING = ConnectionStatus


def add_many(database: Database) -> None:
    """Every fourth is Customized for Alpha (1); versions 1.0 and 2.0 in turn; every fifth has never joined."""
    with database.write() as session:
        for number in range(MANY):
            joined = number % 5 != 0
            row = Gateway(
                name=f"Site {number % 10} Rack {number:04}",
                name_key=f"site {number % 10} rack {number:04}",
                comments=f"comment {number % 7}",
                delegation_mode=DelegationMode.CUSTOMIZED if number % 4 == 0 else DelegationMode.GENERAL,
                version=f"{number % 2 + 1}.0" if joined else None,
                os="Linux" if joined else None,
                modules=[{"kind": "endpoint", "name": "nginx", "version": "1"}] * (number % 3),
                created_at=NOW,
                joined_at=NOW if joined else None,
                last_activity=NOW - timedelta(seconds=number) if joined else None,
            )
            session.add(row)
            session.flush()
            if number % 4 == 0:
                session.add(Delegation(gateway_id=identity(row), organization_id=1))
            if number % 6 == 0:
                session.add(Endpoint(gateway_id=identity(row), name="web", type="nginx"))


@contextmanager
def statements(database: Database) -> Iterator[list[str]]:
    """What the database is asked meanwhile."""
    found: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        found.append(statement)

    event.listen(database.engine, "before_cursor_execute", note)
    try:
        yield found
    finally:
        event.remove(database.engine, "before_cursor_execute", note)


def statuses_of(context: Context) -> dict[int, ConnectionStatus]:
    """Some are connected, some not, and whoever has never joined is pending."""
    rows = gateways.listing(context).rows
    return {row.id: PENDING if row.joined_at is None else CONNECTED if row.id % 2 else DISCONNECTED for row in rows}


def names(context: Context, wanted: Filter, statuses: Statuses | None = None) -> list[str]:
    return [row.name for row in gateways.listing(context, wanted, statuses).rows]


@pytest.fixture
def many(records: Records) -> Records:
    add_many(records.database)
    return records


def test_a_page_of_a_thousand_takes_as_many_statements_as_one_of_four(records: Records) -> None:
    context = records.acting("rao")

    def ask() -> gateways.Page:
        statuses = dict.fromkeys(range(1, MANY, 2), CONNECTED)
        page = gateways.listing(context, statuses=statuses, order="status", limit=50)
        gateways.groups(context, "status", statuses=statuses)
        gateways.names(context)
        gateways.allowed(context, range(1, 51))
        return page

    with statements(records.database) as few:
        ask()
    add_many(records.database)
    with statements(records.database) as many:
        page = ask()
    assert (len(page.rows), page.total) == (50, MANY + 3)
    assert len(many) == len(few) <= 12


def test_search_and_filters_keep_what_they_say(many: Records) -> None:
    context = many.acting("mrao")
    statuses = statuses_of(context)
    rows = {row.name: row for row in gateways.listing(context, statuses=statuses).rows}
    assert names(context, Filter(search="RACK 000")) == sorted(name for name in rows if "Rack 000" in name)
    for hostile in ("%", "_", "\\", "'; DROP TABLE gateway; --"):
        assert names(context, Filter(search=hostile)) == []
    for wanted, kept in (
        (Filter(statuses=(DISCONNECTED,)), lambda row: row.status == DISCONNECTED),
        (Filter(statuses=(CONNECTED, PENDING)), lambda row: row.status in (CONNECTED, PENDING)),
        (Filter(delegation_mode=DelegationMode.GENERAL), lambda row: row.delegation_mode == DelegationMode.GENERAL),
        (Filter(organization="Alpha"), lambda row: any(one.startswith("Alpha") for one in row.organizations)),
        (Filter(version="1.0"), lambda row: row.version == "1.0"),
        (Filter(version="", os=""), lambda row: row.version is None),
        (Filter(active=False), lambda row: not row.active),
        (Filter(search="site 3", version="2.0"), lambda row: "Site 3" in row.name and row.version == "2.0"),
    ):
        assert names(context, wanted, statuses) == sorted((n for n in rows if kept(rows[n])), key=str.casefold), wanted
    # Without the engine nobody knows who is connected: nothing is left out, and nothing claimed.
    assert gateways.listing(context, Filter(statuses=(CONNECTED,)), None, limit=1).total == MANY + 4
    assert gateways.listing(context, limit=1).rows[0].status is None


def test_every_order_is_whole_and_stable_over_pages(many: Records) -> None:
    context = many.acting("mrao")
    statuses = dict.fromkeys(range(1, MANY, 3), CONNECTED)
    for number, order in enumerate(get_args(Order)):
        descending = number % 2 == 0
        seen: list[int] = []
        for first in range(0, MANY + 50, 334):
            page = gateways.listing(context, ALL, statuses, order=order, descending=descending, offset=first, limit=334)
            seen += [row.id for row in page.rows]
        assert len(seen) == len(set(seen)) == MANY + 4, order
        if order == "id":
            assert seen == sorted(seen, reverse=descending)


def grouped(context: Context, by: By, statuses: Statuses | None = None) -> dict[str | None, int]:
    return {group.key: group.count for group in gateways.groups(context, by, ALL, statuses)}


def test_groups_count_what_one_may_see(many: Records) -> None:
    context, stranger = many.acting("mrao"), many.acting("stranger")
    statuses = statuses_of(context)
    assert grouped(context, "delegation_mode") == {"GENERAL": 751, "CUSTOMIZED": 253}
    assert grouped(stranger, "delegation_mode") == {"GENERAL": 751, "CUSTOMIZED": 1}
    assert grouped(context, "organization") == {None: 751, "Alpha": 252, "Beta": 1}
    assert grouped(stranger, "organization") == {None: 751, "Beta": 1}
    assert grouped(context, "status", statuses) == {"Connected": 402, "Disconnected": 402, "Pending": 200}
    assert gateways.groups(context, "status") == [Group(None, MANY + 4)]
    assert grouped(context, "version") == {"1.0": 401, "2.0": 401, "": 202}
    assert sum(grouped(context, "os").values()) == MANY + 4


def test_postgresql_answers_alike(records: Records) -> None:
    with postgres() as server:
        database = Database(server.create("gateways"))
        database.upgrade()
        fill(database)
        there = replace(records.acting("rao"), database=database)
        here = records.acting("rao")
        for context in (here, there):
            gateway_changes.add(
                context, gateway_changes.NewGateway("Zürich", "x", DelegationMode.CUSTOMIZED, departments=["Alpha/Web"])
            )
            preferences.choose_columns(context, "gateways", ["name"])
            preferences.choose_columns(context, "gateways", ["status"])
        statuses = {1: CONNECTED, 2: DISCONNECTED}
        for wanted in (
            ALL,
            Filter(statuses=(DISCONNECTED, PENDING)),
            Filter(search="ZÜ"),
            Filter(organization="Alpha"),
        ):
            for order in get_args(Order):
                found = [gateways.listing(one, wanted, statuses, order=order, limit=9) for one in (here, there)]
                assert [{row.name for row in page.rows} for page in found] == [{row.name for row in found[0].rows}] * 2
                assert found[0].total == found[1].total > 0
            for by in get_args(By):
                assert gateways.groups(here, by, wanted, statuses) == gateways.groups(there, by, wanted, statuses)
        assert gateways.kinds(here) == gateways.kinds(there)
        assert preferences.columns(there, "gateways") == ["status"]
        with pytest.raises(Conflict, match="already"):
            gateway_changes.add(there, gateway_changes.NewGateway("ZÜRICH", "", DelegationMode.CUSTOMIZED, ["Alpha"]))
        database.close()


def test_columns_are_kept_for_each_administrator(records: Records) -> None:
    mine, other = records.acting("rao"), records.acting("mrao")
    assert preferences.columns(mine, "gateways") is None
    preferences.choose_columns(mine, "gateways", ["name", "status", "name"])
    preferences.choose_columns(mine, "gateways", ["status", "name"])
    assert preferences.columns(mine, "gateways") == ["status", "name"]
    assert preferences.columns(mine, "requests") is None
    assert preferences.columns(other, "gateways") is None
    preferences.forget_columns(mine, "gateways")
    assert preferences.columns(mine, "gateways") is None
    for wrong in ([], ["x" * 65], [str(number) for number in range(65)]):
        with pytest.raises(InvalidInput, match="1 to 64 columns"):
            preferences.choose_columns(mine, "gateways", wrong)
