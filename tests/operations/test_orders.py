"""Open orders: the oldest first, each for those whom it concerns, and one that hangs is told as it grows older."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from sqlmodel import col, select

from connectors.notices.settings import NotificationSettings
from model.errors import NotFound
from model.states import CertificateStatus, InstallState
from model.tables import CertificateAuthority, CertificateRequest, Gateway, Notification, Organization
from operations import orders
from tests.operations.conftest import NOW, Records

HOUR = timedelta(hours=1)
DAILY = NotificationSettings()


def order(records: Records, number: str, ordered_at: datetime | None, organization: str = "Alpha") -> int:
    """A request whose order the CA has."""
    with records.database.write() as session:
        before = session.get_one(CertificateRequest, 1)
        owner = session.exec(select(Organization).where(Organization.name == organization)).one()
        gateway = session.exec(select(Gateway).where(Gateway.name == "general")).one()
        assert owner.id is not None
        assert gateway.id is not None
        row = CertificateRequest(
            organization_id=owner.id,
            requester_id=before.requester_id,
            common_name=f"order-{number}.example",
            names=[f"order-{number}.example"],
            profile_id=before.profile_id,
            authority_id=before.authority_id,
            gateway_id=gateway.id,
            key_algorithm=before.key_algorithm,
            status=CertificateStatus.APPLIED,
            install_state=InstallState.CERT_PROCESSING,
            order_number=number,
            ordered_at=ordered_at,
            started=True,
            created_at=NOW - 100 * HOUR,
            updated_at=NOW,
        )
        session.add(row)
        session.flush()
        assert row.id is not None
        return row.id


def close(records: Records, request_id: int) -> None:
    with records.database.write() as session:
        row = session.get_one(CertificateRequest, request_id)
        row.status, row.closed = CertificateStatus.ISSUED, True
        session.add(row)


def told(records: Records) -> list[Notification]:
    with records.database.read() as session:
        statement = select(Notification).where(Notification.kind == orders.OVERDUE).order_by(col(Notification.id))
        return list(session.exec(statement).all())


def test_the_oldest_order_stands_first(records: Records) -> None:
    young, old = order(records, "2", NOW - HOUR), order(records, "1", NOW - 30 * HOUR)
    page = orders.listing(records.acting("mrao"), "private")
    assert [(row.request_id, row.number, row.ca) for row in page.rows] == [
        (old, "1", "private"),
        (young, "2", "private"),
    ]
    assert page.total == 2
    assert [row.number for row in orders.listing(records.acting("mrao"), offset=1, limit=1).rows] == ["2"]
    [count] = orders.counts(records.acting("mrao")).values()
    assert count == orders.Count(2, NOW - 30 * HOUR)
    close(records, old)
    assert orders.listing(records.acting("mrao")).total == 1


def test_nobody_sees_the_orders_of_others(records: Records) -> None:
    order(records, "1", NOW - HOUR)
    order(records, "2", NOW - HOUR, "Beta")
    for login, numbers in (("rao", ["1"]), ("bare", ["1"]), ("drao", []), ("stranger", ["2"])):
        assert [row.number for row in orders.listing(records.acting(login)).rows] == numbers
        assert sum(one.count for one in orders.counts(records.acting(login)).values()) == len(numbers)


def test_a_ca_that_is_not_there_is_told(records: Records) -> None:
    with pytest.raises(NotFound):
        orders.listing(records.acting("mrao"), "nowhere")


def test_an_order_that_hangs_is_told_again_when_it_is_twice_as_old(records: Records) -> None:
    number = order(records, "55", NOW - 23 * HOUR)
    assert orders.tell_overdue(records.database, DAILY, NOW) == 0
    ages = {1: 1, 2: 0, 24: 0, 25: 1, 26: 0, 73: 1, 100: 0, 24 * 400: 1, 24 * 800: 0}
    for later, expected in ages.items():
        assert orders.tell_overdue(records.database, DAILY, NOW + later * HOUR) == expected, later
    first, *_ = told(records)
    assert "Order 55 at private hangs" in first.subject
    assert f"request {number}" in first.text
    assert "24 hours" in first.text
    assert [entry for entry in records.audited() if entry[0] == orders.OVERDUE] == [(orders.OVERDUE, "failed")] * 4


def test_an_order_that_is_issued_is_not_told(records: Records) -> None:
    number = order(records, "55", NOW - 48 * HOUR)
    order(records, "56", None)
    close(records, number)
    assert orders.tell_overdue(records.database, DAILY, NOW) == 0
    assert told(records) == []


def test_the_time_can_be_set_and_the_alarm_be_switched_off(records: Records) -> None:
    order(records, "55", NOW - 2 * HOUR)
    assert orders.tell_overdue(records.database, NotificationSettings(order_hours=0), NOW) == 0
    assert orders.tell_overdue(records.database, NotificationSettings(order_hours=1), NOW) == 1


def test_orders_of_two_cas_are_kept_apart(records: Records) -> None:
    order(records, "1", NOW - HOUR)
    with records.database.write() as session:
        session.add(CertificateAuthority(name="other", type="private", settings={}))
    assert orders.listing(records.acting("mrao"), "other").total == 0
    assert orders.listing(records.acting("mrao"), "private").total == 1
