"""What the first page and the lists of organizations count, and that it stays cheap with many rows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import event, text
from sqlmodel import select

from model.states import CertificateStatus, ConnectionStatus, InstallState
from model.tables import Certificate, CertificateRequest, Department, Gateway, Organization
from operations import certificates, directory, gateways, overview
from operations.lookup import identity
from operations.overview import FirstSteps
from tests.operations.conftest import NOW, Records


def certificate(records: Records, number: int, days: float, status: str = "ISSUED") -> None:
    """A copy of the certificate there is, with another end."""
    with records.database.write() as session:
        first = session.get_one(CertificateRequest, 1)
        request = CertificateRequest.model_validate(first.model_dump(exclude={"id"}))
        session.add(request)
        session.flush()
        row = Certificate.model_validate(session.get_one(Certificate, 1).model_dump(exclude={"id"}))
        row.request_id, row.fingerprint = identity(request), f"{number:064x}"
        row.not_after, row.status = NOW + timedelta(days=days), CertificateStatus(status)
        session.add(row)


def test_certificates_are_counted_by_their_end(records: Records) -> None:
    for number, (days, status) in enumerate(
        [(-400, "EXPIRED"), (-1, "ISSUED"), (-1, "REPLACED"), (0.5, "ISSUED"), (6.9, "ISSUED"), (7.1, "ISSUED"),
         (29, "REVOKED"), (29, "ISSUED"), (59, "ISSUED"), (89, "ISSUED"), (400, "ISSUED")]
    ):  # fmt: skip
        certificate(records, number, days, status)
    context = records.acting("mrao")
    expiry = overview.show(context).expiry
    # One more, of 47 days, was there before.
    assert expiry.within == {7: 2, 30: 4, 60: 6, 90: 7}
    assert (expiry.expired, expiry.valid) == (2, 8)
    assert [week for week, count in enumerate(expiry.weeks) for _ in range(count)] == [0, 0, 1, 4, 6, 8, 12]
    # The list that a count leads to has as many rows.
    for days, count in expiry.within.items():
        assert certificates.listing(context, certificates.Filter(expiring_within_days=days)).total == count
    assert certificates.listing(context, certificates.Filter(expired=True)).total == expiry.expired
    assert overview.show(records.acting("stranger")).expiry.valid == 0


def test_what_needs_a_person_is_told_with_its_reason(records: Records) -> None:
    with records.database.write() as session:
        row = session.get_one(CertificateRequest, 1)
        row.install_state, row.reason = InstallState.ACTION_REQUIRED, "The issuer is missing."
        session.add(row)
    (failing,) = overview.show(records.acting("drao")).failing.rows
    assert (failing.id, failing.reason) == (1, "The issuer is missing.")
    assert overview.show(records.acting("stranger")).failing.total == 0
    with records.database.write() as session:
        row = session.get_one(CertificateRequest, 1)
        row.closed = True
        session.add(row)
    seen = overview.show(records.acting("drao"))
    assert (seen.failing.total, seen.open_requests) == (0, {})


async def test_a_gateway_that_is_away_with_open_work_is_named(
    records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def statuses(context: object) -> dict[int, ConnectionStatus]:
        return {1: ConnectionStatus.CONNECTED, 2: ConnectionStatus.DISCONNECTED, 3: ConnectionStatus.DISCONNECTED}

    monkeypatch.setattr(gateways, "statuses", statuses)
    seen = await overview.gateways_now(records.acting("rao"))
    assert {str(status): count for status, count in seen.by_status.items()} == {
        "Connected": 1,
        "Disconnected": 2,
        "Pending": 0,
    }
    assert [(one.name, one.open_requests) for one in seen.away] == [("alpha", 1)]
    assert (await overview.gateways_now(records.acting("stranger"))).away == []


def test_first_steps_are_those_that_are_missing(records: Records) -> None:
    assert overview.show(records.acting("rao")).first_steps == FirstSteps(True, True, True)
    assert overview.show(records.acting("stranger")).first_steps == FirstSteps(True, False, False)


def test_organizations_are_searched_with_their_departments(records: Records) -> None:
    context = records.acting("mrao")
    with records.database.write() as session:
        for number in range(60):
            session.add(Organization(name=f"Org 100% {number:02}"))
        session.add(Department(organization_id=2, name="Mail"))
    assert [row.name for row in directory.organizations(context, "MAIL").rows] == ["Beta"]
    assert directory.organizations(context, "%").total == 60
    page = directory.organizations(context, "org", offset=50, limit=50)
    assert (page.total, len(page.rows), page.rows[-1].name) == (60, 10, "Org 100% 59")
    assert directory.organizations(records.acting("drao"), "mail").total == 0
    assert [row.policy for row in directory.organizations(context).rows[:2]] == ["alpha", "default"]
    assert directory.departments(context, "Beta", "ai").total == 1


@contextmanager
def counted(records: Records) -> Iterator[list[tuple[str, Any]]]:
    """The statements that are run meanwhile."""
    found: list[tuple[str, Any]] = []

    def statement(_: object, __: object, sql: str, parameters: object, *___: object) -> None:
        found.append((sql, parameters))

    event.listen(records.database.engine, "before_cursor_execute", statement)
    yield found
    event.remove(records.database.engine, "before_cursor_execute", statement)


@pytest.mark.parametrize("login", ["mrao", "rao", "drao"])
def test_counts_read_nothing_but_an_index(records: Records, login: str) -> None:
    """However many rows there are: no count scans a table, and the number of statements does not grow."""
    context = records.acting(login)
    with counted(records) as few:
        overview.show(context)
    with records.database.write() as session:
        for number in range(60):
            session.add(Organization(name=f"Org {number:02}"))
            session.add(Gateway(name=f"g{number}", name_key=f"g{number}", created_at=NOW))
    with counted(records) as many:
        overview.show(context)
    assert len(many) <= len(few)
    counts = [one for one in many if "count(*)" in one[0] and "JOIN" not in one[0] and "audit_entry" not in one[0]]
    assert counts
    with records.database.engine.connect() as connection:
        for sql, parameters in counts:
            plan = [str(row[3]) for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {sql}", parameters).all()]
            touching = [line for line in plan if "certificate" in line]
            assert touching
            # What awaits a decision is read row by row: it is few, and found by its status.
            wanted = ("COVERING INDEX", "(status=?)")
            assert all("SEARCH" in line and any(word in line for word in wanted) for line in touching), plan


def test_lists_of_organizations_ask_as_much_of_one_as_of_fifty(records: Records) -> None:
    context = records.acting("mrao")
    with counted(records) as few:
        directory.organizations(context, limit=1)
    with records.database.write() as session:
        session.execute(text("DELETE FROM approval_policy WHERE organization_id IS NOT NULL"))
        for number in range(60):
            session.add(Organization(name=f"Org {number:02}"))
        assert len(session.exec(select(Organization)).all()) == 62
    with counted(records) as many:
        assert len(directory.organizations(context, limit=50).rows) == 50
    assert len(many) == len(few)
