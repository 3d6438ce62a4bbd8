"""Administrators, their passwords and tokens, and the audit trail that tells of them."""

from __future__ import annotations

from datetime import timedelta

import pytest

from model.errors import Conflict, InvalidInput, NotPermitted
from model.states import Outcome, Privilege, Role
from operations import administrators, audit_trail, identity
from operations.administrators import AdministratorChange, NewAdministrator
from operations.audit_trail import Filter
from tests.operations.conftest import NOW, Records


def test_a_made_up_password_signs_in_and_is_shown_once(records: Records) -> None:
    added = administrators.add(records.acting("mrao"), NewAdministrator("new", Role.MRAO))
    assert added.password is not None
    assert added.password not in repr(added)
    assert identity.sign_in(records.database, "new", added.password, NOW).login == "new"
    given = administrators.add(
        records.acting("mrao"), NewAdministrator("second", Role.MRAO, password="a password that is long")
    )
    assert given.password is None


@pytest.mark.parametrize(
    "new",
    [
        NewAdministrator("", Role.MRAO),
        NewAdministrator("a b", Role.MRAO),
        NewAdministrator("x" * 65, Role.MRAO),
        NewAdministrator("new", Role.MRAO, organizations=["Alpha"]),
        NewAdministrator("new", Role.RAO),
        NewAdministrator("new", Role.RAO, departments=["Alpha/Web"]),
        NewAdministrator("new", Role.DRAO, organizations=["Alpha"]),
        NewAdministrator("new", Role.MRAO, password="short"),
        NewAdministrator("new", Role.MRAO, email="nobody"),
        NewAdministrator("new", Role.MRAO, full_name="x" * 129),
        NewAdministrator("new", Role.RAO, organizations=["Nowhere"]),
    ],
)
def test_a_wrong_administrator_is_refused_and_not_made(records: Records, new: NewAdministrator) -> None:
    with pytest.raises(InvalidInput):
        administrators.add(records.acting("mrao"), new)
    assert len(administrators.listing(records.acting("mrao"))) == 6


def test_a_role_is_given_anew(records: Records) -> None:
    context = records.acting("mrao")
    change = AdministratorChange(role=Role.RAO, organizations=["Alpha", "Beta"], privileges=[Privilege.APPROVE])
    row = administrators.edit(context, "requester", change)
    assert (row.role, row.organizations, row.privileges) == (Role.RAO, ["Alpha", "Beta"], ["approve"])
    with pytest.raises(InvalidInput):
        administrators.edit(context, "requester", AdministratorChange(organizations=["Alpha"]))


def test_there_is_always_an_owner(records: Records) -> None:
    context = records.acting("mrao")
    with pytest.raises(Conflict, match="last"):
        administrators.deactivate(context, "mrao")
    with pytest.raises(Conflict, match="last"):
        administrators.edit(context, "mrao", AdministratorChange(role=Role.RAO, organizations=["Alpha"]))
    assert administrators.show(context, "mrao").role == Role.MRAO
    administrators.add(context, NewAdministrator("second", Role.MRAO))
    administrators.deactivate(context, "mrao")


def test_a_token_is_good_until_it_expires_or_its_owner_is_locked_out(records: Records) -> None:
    context = records.acting("mrao")
    token = administrators.token(context, "rao", timedelta(hours=1))
    assert identity.by_token(records.database, token, NOW).login == "rao"
    with pytest.raises(NotPermitted):
        identity.by_token(records.database, token, NOW + timedelta(hours=1))
    administrators.deactivate(context, "rao")
    administrators.activate(context, "rao")
    with pytest.raises(NotPermitted):
        identity.by_token(records.database, token, NOW)
    for wrong in (timedelta(0), timedelta(days=367), timedelta(hours=-1)):
        with pytest.raises(InvalidInput):
            administrators.token(context, "rao", wrong)


def test_tokens_can_be_revoked(records: Records) -> None:
    own = records.acting("rao")
    token = administrators.token(own, "rao", timedelta(hours=1))
    assert administrators.revoke_tokens(own, "rao") == 1
    with pytest.raises(NotPermitted):
        identity.by_token(records.database, token, NOW)


def test_the_trail_is_filtered_and_paged(records: Records) -> None:
    context = records.acting("mrao")
    for number in range(5):
        administrators.token(context, "rao", timedelta(hours=number + 1))
    page = audit_trail.listing(context, Filter(action="administrator.token"), offset=1, limit=2)
    assert page.total == 5
    assert [row.sequence for row in page.rows] == [7, 6]
    assert audit_trail.listing(context, Filter(search="HAPPENED to the req")).total == 1
    assert audit_trail.listing(context, Filter(actor="mrao", outcome=Outcome.DONE)).total == 5
    assert audit_trail.listing(context, Filter(object_type="request", object_id=1)).total == 1
    assert audit_trail.listing(context, Filter(since=NOW + timedelta(seconds=1))).total == 0
    assert audit_trail.listing(context, Filter(until=NOW)).total == 0
    assert [row.sequence for row in audit_trail.export(context)] == list(range(1, 9))


def test_a_trail_that_was_changed_is_found(records: Records) -> None:
    context = records.acting("mrao")
    assert audit_trail.verify(context).finding is None
    with records.database.engine.begin() as connection:
        for trigger in connection.exec_driver_sql("SELECT name FROM sqlite_master WHERE type = 'trigger'").all():
            connection.exec_driver_sql(f"DROP TRIGGER {trigger[0]}")
        connection.exec_driver_sql("UPDATE audit_entry SET description = 'nothing' WHERE sequence = 2")
    finding = audit_trail.verify(context).finding
    assert finding is not None
    assert finding.sequence == 2
