"""Organizations, endpoints, profiles, policies, CAs and trust: what is refused, and what is kept."""

from __future__ import annotations

import pytest

from model.errors import Conflict, InvalidInput, NotFound
from model.tables import CertificateRequest, Endpoint, EndpointBinding
from operations import authorities, endpoints, groups, keystores, organizations, policies, profiles, trust
from operations.endpoints import EndpointChange, NewEndpoint
from tests import pki
from tests.operations.conftest import Records


def test_an_organization_with_something_on_it_says_what(records: Records) -> None:
    context = records.acting("mrao")
    with pytest.raises(Conflict, match="1 department, 1 request, 1 certificate, 2 delegations of a gateway, 4 roles"):
        organizations.remove(context, "Alpha")
    with pytest.raises(Conflict, match="1 request"):
        organizations.remove_department(context, "Alpha", "Web")


def test_what_hangs_on_nothing_goes(records: Records) -> None:
    context = records.acting("mrao")
    organizations.add(context, "Gamma")
    organizations.add_department(context, "Gamma", "Mail")
    with pytest.raises(Conflict):
        organizations.add_department(context, "Gamma", "Mail")
    organizations.rename_department(context, "Gamma", "Mail", "Post")
    organizations.remove_department(context, "Gamma", "Post")
    organizations.remove(context, "Gamma")
    with pytest.raises(Conflict):
        organizations.add(context, "Alpha")


@pytest.mark.parametrize("name", ["", " ", "x" * 129, "a/b", "a\x1b[2J"])
def test_names_of_organizations_follow_a_rule(records: Records, name: str) -> None:
    with pytest.raises(InvalidInput):
        organizations.add(records.acting("mrao"), name)


def test_settings_given_as_words_are_read_as_the_connector_wants_them(records: Records) -> None:
    given = {"command": '["sudo", "-n", "nginx"]', "reload_timeout_seconds": "3.5", "prefix": "/srv/"}
    row = endpoints.add(records.acting("mrao"), NewEndpoint("alpha", "second", "nginx", settings=given))
    assert row.settings == {"command": ["sudo", "-n", "nginx"], "reload_timeout_seconds": 3.5, "prefix": "/srv/"}


@pytest.mark.parametrize(
    "settings",
    [{"bogus": "1"}, {"command": "nginx"}, {"command": "[]"}, {"prefix": "relative"}, {"reload_timeout_seconds": "x"}],
)
def test_wrong_settings_are_refused(records: Records, settings: dict[str, str]) -> None:
    context = records.acting("mrao")
    with pytest.raises(InvalidInput, match="setting"):
        endpoints.add(context, NewEndpoint("alpha", "second", "nginx", settings=settings))
    assert len(endpoints.listing(context)) == 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"type": "iis7"},
        {"connection": "telnet"},
        {"name": "x" * 513},
        {"window_cron": "61 * * * *"},
        {"window_cron": "0 2 * * 6", "window_zone": "Europe/Nowhere"},
        {"window_cron": "0 2 * * 6", "window_minutes": 0},
    ],
)
def test_a_wrong_endpoint_is_refused(records: Records, wrong: dict[str, object]) -> None:
    values: dict[str, object] = {"gateway": "alpha", "name": "second", "type": "nginx", **wrong}
    with pytest.raises(InvalidInput):
        endpoints.add(records.acting("mrao"), NewEndpoint(**values))  # type: ignore[arg-type]


def test_an_endpoint_is_edited_setting_by_setting(records: Records) -> None:
    context = records.acting("mrao")
    endpoints.edit(context, "alpha", "nginx", EndpointChange(settings={"prefix": "/srv/", "address": "10.0.0.1"}))
    change = EndpointChange(settings={"prefix": ""}, window_cron="0 2 * * 6", window_zone="Europe/Berlin", name="web")
    row = endpoints.edit(context, "alpha", "nginx", change)
    assert row.settings == {"address": "10.0.0.1"}
    assert (row.name, row.window) == ("web", "0 2 * * 6 (Europe/Berlin, 60 min)")
    assert endpoints.edit(context, "alpha", "web", EndpointChange(window_cron="")).window is None


def test_an_endpoint_in_use_stays(records: Records) -> None:
    context = records.acting("mrao")
    with pytest.raises(Conflict, match="1 place of a group, 1 open request, 1 active installation"):
        endpoints.remove(context, "alpha", "nginx")
    groups.remove(context, "alpha", "web")
    with records.database.write() as session:
        request = session.get_one(CertificateRequest, 1)
        request.closed = True
        session.add(request)
        session.connection().exec_driver_sql("UPDATE certificate SET active = 0")
    endpoints.remove(context, "alpha", "nginx")
    with records.database.read() as session:
        assert session.get(Endpoint, 1) is None
        assert session.get(EndpointBinding, 1) is None
        assert session.get_one(CertificateRequest, 1).endpoint_id is None


def test_a_profile_is_checked(records: Records) -> None:
    context = records.acting("mrao")
    for wrong in ({"validity_seconds": 1}, {"allowed_names": ["not a name"]}, {"allowed_names": ["10.0.0.0/99"]}):
        with pytest.raises(InvalidInput):
            profiles.add(context, "new", "private", profiles.ProfileChange(**wrong))
    with pytest.raises(NotFound):
        profiles.add(context, "new", "nowhere")
    with pytest.raises(Conflict):
        profiles.add(context, "server", "private")
    with pytest.raises(Conflict, match="1 request"):
        profiles.remove(context, "server")
    row = profiles.add(context, "new", "private", profiles.ProfileChange(allowed_names=["*.example.com"]))
    assert profiles.edit(context, "new", profiles.ProfileChange(validity_seconds=86_400)).validity_seconds == 86_400
    assert row.allowed_names == ["*.example.com"]
    profiles.remove(context, "new")


def test_one_policy_an_organization(records: Records) -> None:
    context = records.acting("mrao")
    with pytest.raises(Conflict, match="alpha"):
        policies.add(context, "second", "Alpha")
    with pytest.raises(Conflict, match="default"):
        policies.add(context, "second")
    for wrong in (policies.PolicyChange(approvals_required=0), policies.PolicyChange(expiry_seconds=0)):
        with pytest.raises(InvalidInput):
            policies.add(context, "beta", "Beta", wrong)
    assert policies.add(context, "beta", "Beta", policies.PolicyChange(approvals_required=2)).approvals_required == 2


async def test_the_roots_of_a_private_ca_are_trusted_with_it(records: Records) -> None:
    context = records.acting("mrao")
    new = authorities.NewAuthority("second", "private", {"folder": str(records.home / "second"), "name": "second"})
    await authorities.add(context, new, records.surroundings)
    assert ["second" in row.subject and row.is_root for row in trust.listing(context)] == [True]
    with pytest.raises(Conflict):
        await authorities.add(context, new, records.surroundings)
    with pytest.raises(InvalidInput, match="setting"):
        await authorities.add(
            context, authorities.NewAuthority("third", "private", {"manual": "perhaps"}), records.surroundings
        )


async def test_a_ca_that_is_used_is_switched_off_not_removed(records: Records) -> None:
    context = records.acting("mrao")
    with pytest.raises(Conflict, match="1 certificate profile, 1 request"):
        authorities.remove(context, "private")
    assert not authorities.edit(context, "private", active=False).active
    assert (await authorities.check(context, "private", records.surroundings)).usable
    with pytest.raises(Conflict):
        await authorities.release(context, "private", "P-000099", records.surroundings)


def test_only_ca_certificates_are_trusted(records: Records) -> None:
    context = records.acting("mrao")
    root = pki.make_ca("A root")
    intermediate = pki.make_ca("An intermediate", root)
    leaf = pki.make_ca("No CA", root, is_ca=False)
    for wrong in ("", "no pem", pki.pem(root.certificate) + pki.pem(leaf.certificate)):
        with pytest.raises(InvalidInput):
            trust.add(context, wrong)
    assert trust.listing(context) == []
    both = pki.pem(intermediate.certificate) + pki.pem(root.certificate)
    assert [row.is_root for row in trust.add(context, both)] == [False, True]
    assert len(trust.add(context, both)) == len(trust.listing(context)) == 2
    gone = trust.listing(context)[0]
    with pytest.raises(InvalidInput):
        trust.remove(context, gone.fingerprint[:7])
    assert trust.remove(context, gone.fingerprint[:8].upper()) == gone
    with pytest.raises(NotFound):
        trust.show(context, gone.fingerprint)


def test_a_keystores_passphrase_is_a_reference_and_can_be_taken_away(records: Records) -> None:
    context = records.acting("mrao")
    assert keystores.edit(context, "alpha", {"passphrase": "file:/etc/certgate/pass"}).settings == {
        "passphrase": "file:/etc/certgate/pass"
    }
    for wrong in ({"passphrase": "hunter2"}, {"bogus": "1"}):
        with pytest.raises(InvalidInput) as caught:
            keystores.edit(context, "alpha", wrong)
        assert "hunter2" not in caught.value.message
    assert [row.settings for row in keystores.listing(context, "alpha")] == [{"passphrase": "file:/etc/certgate/pass"}]
    assert keystores.edit(context, "alpha", {"passphrase": ""}).settings == {}
    with pytest.raises(NotFound):
        keystores.edit(context, "alpha", {"passphrase": "env:PASS"}, "other")
