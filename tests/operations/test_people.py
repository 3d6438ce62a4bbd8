"""Administrators, their passwords and tokens."""

from __future__ import annotations

from datetime import timedelta

import pytest

from model.errors import Conflict, InvalidInput, NotFound, NotPermitted
from model.rules.permissions import Scope
from model.states import Privilege, Role
from operations import administrators, identity, roles
from operations.administrators import AdministratorChange, NewAdministrator
from operations.roles import Assignment, RoleRow
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


def test_several_roles_each_with_its_own_privileges(records: Records) -> None:
    context = records.acting("mrao")
    roles.grant(context, "requester", Assignment(Role.RAO, ["Alpha", "Beta"], (), [Privilege.APPROVE]))
    rows = roles.grant(context, "requester", Assignment(Role.RAO, ["Beta"], (), [Privilege.VIEW_AUDIT]))
    assert [str(row) for row in rows] == [
        "DRAO of Alpha/Web with request",
        "RAO of Alpha with approve",
        "RAO of Beta with view_audit",
    ]
    actor = records.acting("requester").actor
    alpha, beta = Scope(1), Scope(2)
    assert [actor.may(Privilege.APPROVE, scope) for scope in (alpha, beta)] == [True, False]
    assert [actor.may(Privilege.VIEW_AUDIT, scope) for scope in (alpha, beta)] == [False, True]
    assert administrators.show(context, "requester").organizations == ["Alpha", "Beta"]
    rows = roles.withdraw(context, "requester", RoleRow(Role.RAO), exact=False)
    assert [str(row) for row in rows] == ["DRAO of Alpha/Web with request"]
    with pytest.raises(NotFound):
        roles.withdraw(context, "requester", RoleRow(Role.RAO), exact=False)
    assert roles.withdraw(context, "requester", rows[0]) == []
    assert administrators.show(context, "requester").role is None


def test_who_edits_a_role_second_is_told(records: Records) -> None:
    context = records.acting("mrao")
    (seen,) = administrators.show(context, "rao").roles
    less = Assignment(Role.RAO, seen.organizations, (), [Privilege.REQUEST])
    roles.grant(context, "rao", less, instead_of=seen)
    with pytest.raises(Conflict, match="meanwhile"):
        roles.grant(context, "rao", Assignment(Role.RAO, ["Beta"]), instead_of=seen)
    with pytest.raises(Conflict, match="meanwhile"):
        roles.withdraw(context, "rao", seen)
    assert [str(row) for row in administrators.show(context, "rao").roles] == ["RAO of Alpha with request"]
    row = administrators.show(context, "rao")
    administrators.edit(context, "rao", AdministratorChange(full_name="Rita"), row)
    with pytest.raises(Conflict, match="meanwhile"):
        administrators.edit(context, "rao", AdministratorChange(email="r@example.com"), row)


def test_administrators_are_searched_and_paged(records: Records) -> None:
    context = records.acting("mrao")
    administrators.edit(context, "rao", AdministratorChange(full_name="Rita 100%", email="rita@example.com"))
    identity.sign_in(
        records.database, "new", str(administrators.add(context, NewAdministrator("new", Role.MRAO)).password), NOW
    )

    def logins(**fields: object) -> list[str]:
        found = administrators.page(context, administrators.Filter(**fields))  # type: ignore[arg-type]
        assert found.total == len(found.rows)
        return [row.login for row in found.rows]

    assert logins(search="RITA@") == logins(search="100%") == ["rao"]
    assert logins(search="%") == ["rao"]
    assert logins(role=Role.MRAO) == ["mrao", "new"]
    assert logins(role=Role.RAO, organization="Beta") == ["stranger"]
    administrators.deactivate(context, "stranger")
    assert logins(active=False) == ["stranger"]
    page = administrators.page(context, offset=2, limit=2)
    assert (page.total, [row.login for row in page.rows]) == (7, ["mrao", "new"])
    assert page.rows[1].last_sign_in == NOW
    assert page.rows[0].last_sign_in is None


def test_there_is_always_an_owner(records: Records) -> None:
    context = records.acting("mrao")
    with pytest.raises(Conflict, match="last"):
        administrators.deactivate(context, "mrao")
    with pytest.raises(Conflict, match="last"):
        administrators.edit(context, "mrao", AdministratorChange(role=Role.RAO, organizations=["Alpha"]))
    with pytest.raises(Conflict, match="last"):
        roles.withdraw(context, "mrao", RoleRow(Role.MRAO))
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
    first, second = administrators.tokens(own, "rao")[0], administrators.token(own, "rao", timedelta(hours=2))
    administrators.revoke_token(own, "rao", first.id)
    with pytest.raises(NotFound):
        administrators.revoke_token(own, "rao", first.id)
    assert identity.by_token(records.database, second, NOW).login == "rao"
    assert administrators.show(own, "rao").tokens == 1
    assert administrators.revoke_tokens(own, "rao") == 1
    with pytest.raises(NotPermitted):
        identity.by_token(records.database, token, NOW)
