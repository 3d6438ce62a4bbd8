"""Profiles, policies, trusted CA certificates, CAs: what is shown, what is refused, and who is told of whom."""

from __future__ import annotations

import pytest
from sqlmodel import select
from streamlit.testing.v1 import AppTest

from dashboard import durations, forms
from model.tables import (
    ApprovalPolicy,
    CertificateAuthority,
    CertificateProfile,
    TrustedCertificate,
)
from operations import trust
from tests import pki
from tests.dashboard.conftest import Visit, labels, texts
from tests.dashboard.scene import HOSTILE, Scene
from tests.dashboard.test_places import choose, confirm, rows


def told(app: AppTest) -> str:
    """What notices say."""
    return "\n".join(element.value for element in app.text)


@pytest.mark.parametrize("path", ["profiles", "policies", "trust", "authorities", "organizations"])
def test_who_is_no_mrao_changes_nothing(visit: Visit, scene: Scene, path: str) -> None:
    app = visit(path, login="rita")
    choose(app, path, 1)
    assert labels(app) <= {"Sign out", "Refresh", "Open"}


@pytest.mark.parametrize("path", ["profiles", "policies", "trust", "authorities"])
def test_a_search_that_finds_nothing_says_so(visit: Visit, path: str) -> None:
    key = {"profiles": "p-q", "policies": "y-q", "trust": "t-q", "authorities": "ca-q"}[path]
    assert "matches" in texts(visit(path, **{key: "no such thing"}))
    assert len(visit(path, **{key: ""}).dataframe) == 1


# --- profiles ---------------------------------------------------------------------------------------------------------


def test_a_profile_is_added_with_its_names_explained(visit: Visit, scene: Scene) -> None:
    app = visit("profiles")
    app.button(key="add").click().run()
    app.text_input(key="profile-name").input(HOSTILE.replace("/", " "))
    app.text_area(key="profile-allowed").input("*.example.com\n10.0.0.0/8\n-wrong-").run()
    assert "every name below example.com, at any depth" in texts(app)
    assert "10.0.0.0/8: addresses of this range" in texts(app)
    assert "-wrong-" in told(app)
    confirm(app)
    assert "is not 1 to 63 letters" in told(app)
    app.text_area(key="profile-allowed").input("*.example.com\nintranet")
    app.number_input(key="profile-validity").set_value(6)
    confirm(app)
    assert rows(app, "Valid for") == ["6 days", "47 days"]
    assert not [one.value for kind in (app.markdown, app.caption) for one in kind if "onerror" in one.value]
    with scene.database.read() as session:
        row = session.exec(select(CertificateProfile).where(CertificateProfile.name != "server")).one()
        assert (row.validity_seconds, row.allowed_names) == (6 * 86_400, ["*.example.com", "intranet"])


def test_who_edits_a_profile_second_is_told(visit: Visit, scene: Scene) -> None:
    app = choose(visit("profiles"), "profiles", scene.ids["server"])
    app.button(key="offer-profile-edit").click().run()
    with scene.database.write() as session:
        row = session.get_one(CertificateProfile, scene.ids["server"])
        row.reuse_key = True
        session.add(row)
    app.number_input(key="profile-validity").set_value(20)
    confirm(app)
    assert "Profile server was edited meanwhile by somebody else" in texts(app)
    assert app.number_input(key="profile-validity").value == 20
    with scene.database.read() as session:
        assert session.get_one(CertificateProfile, scene.ids["server"]).validity_seconds == 47 * 86_400


def test_a_profile_that_requests_name_stays(visit: Visit, scene: Scene) -> None:
    app = choose(visit("profiles"), "profiles", scene.ids["server"])
    app.button(key="offer-profile-remove").click().run()
    confirm(app)
    assert "Profile server can't be removed, because this hangs on it: 7 requests." in texts(app)


# --- policies ---------------------------------------------------------------------------------------------------------


def test_a_policy_is_read_in_words_and_edited(visit: Visit, scene: Scene) -> None:
    app = choose(visit("policies"), "policies", 1)
    assert "For all without their own policy (2 now), one person has to approve a request." in texts(app)
    app.button(key="offer-policy-edit").click().run()
    app.number_input(key="policy-approvals").set_value(2)
    app.text_input(key="policy-name").input(" ")
    confirm(app)
    assert "A policy's name has 1 to 128 printable characters." in told(app)
    app.text_input(key="policy-name").input("general")
    app.number_input(key="policy-expiry").set_value(2)
    app.selectbox(key="policy-expiry-unit").select("weeks")
    confirm(app)
    assert "2 different people have to approve" in texts(app)
    with scene.database.read() as session:
        row = session.exec(select(ApprovalPolicy)).one()
        assert (row.approvals_required, row.expiry_seconds, row.reminder_seconds) == (2, 14 * 86_400, 86_400)


def test_an_organization_gets_a_policy_of_its_own(visit: Visit, scene: Scene) -> None:
    app = visit("policies")
    app.button(key="add").click().run()
    app.text_input(key="policy-name").input("acme")
    confirm(app)
    assert "Choose for whom it holds." in told(app)
    app.selectbox(key="policy-organization").select("Acme Ltd")
    app.checkbox(key="policy-four-eyes").uncheck()
    confirm(app)
    assert rows(app, "Holds for") == ["All that have none of their own", "Acme Ltd"]
    assert rows(app, "Organizations") == [1, 1]
    assert rows(visit("policies", login="walter")) == ["default"]
    app = choose(app, "policies", 2)
    app.button(key="offer-policy-edit").click().run()
    with scene.database.write() as session:
        row = session.get_one(ApprovalPolicy, 2)
        row.approvals_required = 3
        session.add(row)
    confirm(app)
    assert "Policy acme was edited meanwhile" in texts(app)


@pytest.mark.parametrize(
    ("seconds", "words"), [(90, "90 seconds"), (60, "1 minute"), (5400, "90 minutes"), (86_400, "1 day")]
)
def test_lengths_of_time_lose_nothing(seconds: int, words: str) -> None:
    assert durations.words(seconds) == words


# --- trust ------------------------------------------------------------------------------------------------------------


def test_trusted_certificates_tell_what_uses_them(visit: Visit, scene: Scene) -> None:
    app = visit("trust")
    assert rows(app, "Kind") == ["Root", "Intermediate"]
    assert rows(app, "Used by CA") == ["private", "private"]
    app = choose(app, "trust", scene.ids["root"])
    assert "CN=Example Issuing CA 1" in texts(app)
    app.button(key="offer-trust-remove").click().run()
    assert "New certificates of private lead through it" in texts(app)
    confirm(app)
    assert "CN=Example Root CA is trusted no longer." in texts(app)
    assert rows(app, "Kind") == ["Intermediate"]


def test_certificates_are_added_by_file_or_paste(visit: Visit, scene: Scene) -> None:
    root, other = pki.make_ca("Another root"), pki.make_ca("A third root")
    app = visit("trust")
    app.button(key="add").click().run()
    confirm(app)
    assert "Choose a file, paste a certificate, or fetch one." in told(app)
    app.text_area(key="trust-pem").input("-----BEGIN PRIVATE KEY-----\nMIIB\n-----END PRIVATE KEY-----")
    confirm(app)
    assert "There is a private key in it" in told(app)
    app.text_area(key="trust-pem").input("no pem")
    confirm(app)
    assert "neither as PEM nor as DER" in told(app)
    app.text_area(key="trust-pem").input(pki.pem(root.certificate))
    app.file_uploader(key="trust-file").upload(
        "other.pem", pki.pem(other.certificate).encode(), "application/x-pem-file"
    )
    confirm(app)
    assert "Trusted now:" in told(app)
    with scene.database.read() as session:
        assert len(session.exec(select(TrustedCertificate)).all()) == 4


def test_a_file_may_be_der_and_must_be_a_ca(scene: Scene) -> None:
    from cryptography.hazmat.primitives.serialization import Encoding

    from operations.context import Context
    from operations.identity import owner

    async def nowhere() -> object:
        raise AssertionError

    context = Context(scene.database, owner(scene.database), "dashboard", nowhere)  # type: ignore[arg-type]
    der = pki.make_ca("A DER root").certificate.public_bytes(Encoding.DER)
    (row,) = trust.add(context, der)
    assert row.is_root
    for wrong in (der[:-3], b"", b"\xff" * 40, der * 5000):
        with pytest.raises(Exception, match=r"in it|larger") as caught:
            trust.add(context, wrong)
        assert type(caught.value).__name__ == "InvalidInput"


# --- CAs --------------------------------------------------------------------------------------------------------------


def test_a_ca_is_edited_by_its_connectors_own_settings(visit: Visit, scene: Scene) -> None:
    app = choose(visit("authorities"), "authorities", scene.ids["private"])
    app.button(key="offer-ca-edit").click().run()
    form = f"ca-edit-{scene.ids['private']}"
    app.number_input(key=f"{form}-issuance_delay_seconds").set_value(-1)
    confirm(app)
    assert "setting issuance_delay_seconds" in told(app)
    app.number_input(key=f"{form}-issuance_delay_seconds").set_value(30)
    app.text_area(key=f"{form}-permitted_names").input("example.com\n10.0.0.0/8")
    app.selectbox(key=f"{form}-manual").select("true")
    confirm(app)
    assert "CA private was saved." in told(app)
    with scene.database.read() as session:
        settings = session.get_one(CertificateAuthority, scene.ids["private"]).settings
    assert settings == {
        "issuance_delay_seconds": 30,
        "permitted_names": ["example.com", "10.0.0.0/8"],
        "manual": True,
    }
    app.button(key="offer-ca-edit").click().run()
    app.number_input(key=f"{form}-issuance_delay_seconds").set_value(0)
    app.text_area(key=f"{form}-permitted_names").input("")
    app.checkbox(key="ca-active").uncheck()
    confirm(app)
    with scene.database.read() as session:
        row = session.get_one(CertificateAuthority, scene.ids["private"])
        assert (row.settings, row.active) == ({"issuance_delay_seconds": 0, "manual": True}, False)


def test_a_ca_is_added_checked_and_removed(visit: Visit, scene: Scene) -> None:
    app = visit("authorities")
    app.button(key="add").click().run()
    app.text_input(key="ca-name").input("second")
    app.text_input(key="ca-new-private-folder").input(str(scene.home / "second"))
    confirm(app)
    assert "CA second was added." in told(app)
    app = choose(app, "authorities", 2)
    app.button(key="check").click().run()
    assert "second: " in told(app)
    app.button(key="offer-ca-remove").click().run()
    confirm(app)
    assert rows(app) == ["private"]
    app = choose(app, "authorities", scene.ids["private"])
    app.button(key="offer-ca-remove").click().run()
    confirm(app)
    assert "because this hangs on it: 1 certificate profile, 7 requests." in told(app)


def test_settings_forms_know_every_type_that_is_installed() -> None:
    from connectors import registry

    for kind in ("cas", "endpoints", "keystores", "hosts"):
        for connector in registry.installed(kind).values():
            for field in forms.fields(connector.settings):
                assert field.label, connector.name
                assert field.needed or field.kind != forms.Kind.FLAG or field.default in ("true", "false")
