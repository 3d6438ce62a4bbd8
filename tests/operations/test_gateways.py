"""Gateways: names, tokens, delegation, deletion."""

from __future__ import annotations

import pytest
from sqlalchemy import func
from sqlmodel import select

from model.errors import Conflict, InvalidInput, NotFound, NotPermitted
from model.states import DelegationMode
from model.tables import CertificateRequest, Gateway, Keystore
from operations import gateway_changes, gateway_delegation, gateways, tokens
from operations.gateway_changes import NewGateway
from tests.operations.conftest import Records


@pytest.mark.parametrize("name", ["", "   ", "a" * 129, "a_b", "a/b", "#1", "a\nb", "<b>", "ß" * 100])
def test_a_wrong_name_is_refused_and_nothing_is_made(records: Records, name: str) -> None:
    context = records.acting("mrao")
    before = len(gateways.names(context))
    with pytest.raises(InvalidInput):
        gateway_changes.add(context, NewGateway(name))
    assert len(gateways.names(context)) == before


@pytest.mark.parametrize("name", ["Hamburg 1", "St. John's", "Zürich-Süd", "a" * 128])
def test_a_right_name_is_kept_and_unique_in_any_case(records: Records, name: str) -> None:
    context = records.acting("mrao")
    gateway_changes.add(context, NewGateway(f" {name} "))
    assert gateways.show(context, name.upper()).name == name
    with pytest.raises(Conflict):
        gateway_changes.add(context, NewGateway(name.swapcase()))


def test_comments_have_a_limit(records: Records) -> None:
    with pytest.raises(InvalidInput, match="256"):
        gateway_changes.add(records.acting("mrao"), NewGateway("new", comments="x" * 257))


@pytest.mark.parametrize("text", ["", "cgj_", "cgj_!!!", "cgt_abc", "cgj_e30", "cgj_WzFd", "cgj_" + "A" * 100_000])
def test_what_is_no_token_is_refused_without_repeating_it(text: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        tokens.read(text)
    assert text not in caught.value.message or len(text) < 5


def test_customized_needs_somebody_and_general_nobody(records: Records) -> None:
    context = records.acting("mrao")
    with pytest.raises(InvalidInput):
        gateway_changes.add(context, NewGateway("new", delegation_mode=DelegationMode.CUSTOMIZED))
    with pytest.raises(InvalidInput):
        gateway_changes.add(context, NewGateway("new", organizations=["Alpha"]))
    with pytest.raises(InvalidInput, match="ORGANIZATION/NAME"):
        gateway_delegation.delegate(context, "alpha", departments=["Web"])
    with pytest.raises(NotFound):
        gateway_delegation.delegate(context, "alpha", departments=["Beta/Web"])


def test_an_administrator_of_a_part_changes_that_part(records: Records) -> None:
    context = records.acting("rao")
    with pytest.raises(NotFound):
        gateway_delegation.delegate(context, "alpha", organizations=["Alpha", "Beta"])
    gateway_delegation.delegate(records.acting("mrao"), "alpha", organizations=["Alpha", "Beta"])
    # He is not told of Beta, and what he says does not touch it.
    assert gateways.show(context, "alpha").organizations == ["Alpha"]
    gateway_delegation.delegate(context, "alpha", departments=["Alpha/Web"])
    assert gateways.show(records.acting("mrao"), "alpha").organizations == ["Alpha/Web", "Beta"]
    # An administrator of the department may take only the department away, and it goes on serving Beta.
    gateway_delegation.delegate(records.acting("drao"), "alpha")
    assert gateways.show(records.acting("mrao"), "alpha").organizations == ["Beta"]
    with pytest.raises(NotFound):
        gateways.show(context, "alpha")
    with pytest.raises(InvalidInput, match="at least one"):
        gateway_delegation.delegate(records.acting("stranger"), "alpha")


def test_who_may_not_delegate_there_changes_nothing(records: Records) -> None:
    with pytest.raises(NotPermitted):
        gateway_delegation.delegate(records.acting("bare"), "alpha", departments=["Alpha/Web"])
    # Of the organization above, a department's administrator neither sees nor changes the delegation.
    row = gateway_delegation.delegate(records.acting("drao"), "alpha", departments=["Alpha/Web"])
    assert row.organizations == ["Alpha/Web"]
    assert gateways.show(records.acting("mrao"), "alpha").organizations == ["Alpha", "Alpha/Web"]


def test_a_delegation_that_is_so_already_is_not_told_again(records: Records) -> None:
    before = records.audited()
    gateway_delegation.delegate(records.acting("rao"), "alpha", organizations=["Alpha", "Alpha"])
    assert records.audited() == before


def test_a_gateway_with_work_is_deleted_only_by_force(records: Records) -> None:
    context = records.acting("mrao")
    with pytest.raises(Conflict, match=r"1 open request, 1 active installation, 1 endpoint"):
        gateway_changes.delete(context, "alpha")
    assert (
        str(gateway_changes.delete(context, "alpha", force=True)) == "1 open request, 1 active installation, 1 endpoint"
    )
    assert "alpha" not in gateways.names(context).values()
    with pytest.raises(NotFound):
        gateways.show(context, "alpha")
    # Its requests still tell of it, and its name is free.
    with records.database.read() as session:
        request = session.get_one(CertificateRequest, 1)
        assert not session.get_one(Gateway, request.gateway_id).active
    gateway_changes.add(context, NewGateway("alpha"))


def test_a_deleted_gateways_number_is_never_given_again(records: Records) -> None:
    context = records.acting("mrao")
    number = gateways.find(context, "beta")
    gateway_changes.delete(context, number)
    with records.database.read() as session:
        buried = session.get_one(Gateway, number)
        assert (buried.active, buried.token_digest) == (False, None)
        assert session.exec(select(func.count()).select_from(Keystore).where(Keystore.gateway_id == number)).one() == 0
    assert gateway_changes.add(context, NewGateway("Beta")).gateway_id > number
    with pytest.raises(NotFound):
        gateways.show(context, number)


def test_edit_changes_what_is_given(records: Records) -> None:
    context = records.acting("mrao")
    row = gateway_changes.edit(context, "beta", new_name="BETA", comments="x", active=False)
    assert (row.name, row.comments, row.active) == ("BETA", "x", False)
    with pytest.raises(Conflict):
        gateway_changes.edit(context, "beta", new_name="Alpha")


def test_whoever_is_late_is_told_and_changes_nothing(records: Records) -> None:
    first, second = records.acting("mrao"), records.acting("rao")
    seen = gateways.show(second, "alpha").revision
    gateway_changes.edit(first, "alpha", comments="from the first", seen_revision=seen)
    with pytest.raises(Conflict, match=r"mrao said: Gateway alpha was edited: comments 'from the first'") as told:
        gateway_changes.edit(second, "alpha", new_name="Omega", seen_revision=seen)
    assert "nothing of yours was saved" in told.value.message
    gateway_delegation.delegate(first, "alpha", organizations=["Alpha", "Beta"])
    # Of whom it serves now the second may not hear, so that he isn't told the words.
    with pytest.raises(Conflict, match=r"mrao changed whom it serves") as told:
        gateway_delegation.delegate(second, "alpha", departments=["Alpha/Web"], seen_revision=seen)
    assert "Beta" not in told.value.message
    row = gateways.show(first, "alpha")
    assert (row.name, row.organizations, row.revision) == ("alpha", ["Alpha", "Beta"], seen + 2)
    gateway_delegation.delegate(second, "alpha", departments=["Alpha/Web"], seen_revision=row.revision)
    # What changes nothing is nobody's news.
    assert gateway_delegation.delegate(second, "alpha", departments=["Alpha/Web"]).revision == row.revision + 1


def test_a_renamed_gateway_is_not_deleted_by_its_old_name(records: Records) -> None:
    context = records.acting("mrao")
    gateway_changes.edit(context, "beta", new_name="Gamma")
    with pytest.raises(Conflict, match="Gateway beta is called Gamma now"):
        gateway_changes.delete(context, gateways.find(context, "gamma"), seen_name="beta")


def test_comments_are_text_of_several_lines_and_no_controls(records: Records) -> None:
    context = records.acting("mrao")
    assert gateway_changes.edit(context, "beta", comments=" one\r\ntwo 👩‍🔧 \n").comments == "one\ntwo 👩‍🔧"
    for bad in ("\x00", "\x1b[31m", "a\tb", "a\u202eb", "a\u2028b", "\ud800"):
        with pytest.raises(InvalidInput, match="no control characters, such as U"):
            gateway_changes.edit(context, "beta", comments=bad)


def test_who_may_not_delete_hears_of_others_nothing(records: Records) -> None:
    """The general gateway's requests may be anybody's."""
    with records.database.write() as session:
        session.get_one(CertificateRequest, 1).gateway_id = 1
    assert gateway_changes.hanging(records.acting("mrao"), "general").open_requests == 1
    assert gateway_changes.hanging(records.acting("drao"), "general").open_requests == 1
    assert gateway_changes.hanging(records.acting("stranger"), "general").open_requests == 0
    assert gateways.show(records.acting("stranger"), "general").open_requests == 0
