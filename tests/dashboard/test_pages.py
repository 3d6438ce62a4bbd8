"""Each page with a filled database: what it shows, to whom, and what it refuses."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlmodel import select
from streamlit.testing.v1 import AppTest

from dashboard import guard
from model.errors import Conflict
from model.states import CertificateStatus, Privilege, RequestOrigin, Role
from model.tables import Administrator, Certificate, CertificateImport, CertificateRequest, ListedCertificate
from operations import requests
from operations.replacement import Replacement
from tests.dashboard.conftest import Visit, labels, texts
from tests.dashboard.scene import HOSTILE, Scene, administrator

PAGES = ["requests", "request", "new-request", "certificates", "certificate", "notifications"]


def rows(app: AppTest) -> list[str]:
    """The common names in the table."""
    return list(app.dataframe[0].value["Common name"])


# --- signing in -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", PAGES)
def test_nothing_without_signing_in(visit: Visit, path: str) -> None:
    app = visit(path, login=None, id="1")
    assert "Please sign in." in texts(app)
    assert not app.dataframe
    assert not labels(app)
    assert "example.com" not in texts(app)


def test_a_deep_link_is_followed_after_signing_in(visit: Visit, scene: Scene) -> None:
    app = visit("request", id=str(scene.requests["waiting"]))
    assert "intranet.example.com" in texts(app)


def test_signing_out_leaves_nothing(visit: Visit) -> None:
    app = visit()
    app.button(key="sign-out").click().run()
    assert not labels(app)
    assert not app.dataframe


def test_a_deactivated_administrators_session_ends(visit: Visit, scene: Scene) -> None:
    app = visit()
    with scene.database.write() as session:
        row = session.exec(select(Administrator).where(Administrator.login == "bob")).one()
        row.active = False
        session.add(row)
    app.run()
    assert "This session has ended: the account was deactivated" in texts(app)
    assert not labels(app)


# --- who sees and may what --------------------------------------------------------------------------------------------


def test_an_administrator_of_everything_sees_all_requests(visit: Visit, scene: Scene) -> None:
    assert len(rows(visit())) == len(scene.requests)


def test_an_administrator_of_one_organization_sees_nothing_of_another(visit: Visit, scene: Scene) -> None:
    app = visit(login="rita")
    assert rows(app) == ["secret.acme.example"]
    assert "Default" not in app.selectbox(key="organization").options
    assert "frankfurt-1" not in app.selectbox(key="gateway").options
    grouped = visit(login="rita", group="Organization")
    assert list(grouped.dataframe[0].value["Group"]) == ["Acme Ltd"]
    other = visit("request", login="rita", id=str(scene.requests["waiting"]))
    assert f"There is no request {scene.requests['waiting']}" in texts(other)
    assert "intranet" not in texts(other)
    certificate = visit("certificate", login="rita", id=str(scene.certificates["served"]))
    assert "There is no certificate" in texts(certificate)
    assert "No certificates yet" in texts(visit("certificates", login="rita"))


def test_who_may_not_sees_no_button(visit: Visit, scene: Scene) -> None:
    inbox = visit(login="walter")
    assert "New request" not in labels(inbox)
    page = visit("request", login="walter", id=str(scene.requests["waiting"]))
    assert labels(page) == {"Sign out"}
    certificate = visit("certificate", login="walter", id=str(scene.certificates["served"]))
    assert labels(certificate) == {"Sign out"}


def test_a_page_that_one_may_not_use_is_not_there(visit: Visit) -> None:
    app = visit("new-request", login="walter")
    assert not [field for field in app.text_input if field.label == "Common name"]


def test_the_requester_may_decline_and_cancel_but_not_approve(visit: Visit, scene: Scene) -> None:
    wanted = str(scene.requests["waiting"])
    assert labels(visit("request", login="alice", id=wanted)) == {"Sign out", "Decline", "Cancel request"}
    assert labels(visit("request", login="bob", id=wanted)) == {"Sign out", "Approve", "Decline", "Cancel request"}


def test_a_request_that_has_ended_offers_nothing(visit: Visit, scene: Scene) -> None:
    assert labels(visit("request", id=str(scene.requests["declined"]))) == {"Sign out"}


# --- the inbox --------------------------------------------------------------------------------------------------------


def test_the_inbox_is_filtered_by_what_the_address_says(visit: Visit) -> None:
    assert rows(visit(q="SHOP")) == ["shop.example.com"]
    assert rows(visit(q="4712")) == ["api.example.com"]
    assert rows(visit(status="Declined")) == ["old.example.com"]
    assert rows(visit(install="Ready to install")) == ["mail.example.com"]
    assert rows(visit(gateway="frankfurt-1")) == ["mail.example.com"]
    assert rows(visit(organization="Acme Ltd")) == ["secret.acme.example"]
    assert rows(visit(mine="true", q="intra")) == ["intranet.example.com"]
    assert "Nothing awaits your decision" in texts(visit(login="alice", mine="true"))
    assert "No request matches these filters" in texts(visit(q="%"))


def test_nonsense_in_the_address_does_no_harm(visit: Visit, scene: Scene) -> None:
    for query in ({"page": "minus"}, {"page": "99999"}, {"status": "nonsense"}, {"gateway": "none"}, {"group": "x"}):
        assert len(rows(visit(**query))) == len(scene.requests)
    for number in ("", "x", "-1", "99", "1e9", "٣", "9" * 40):
        app = visit("request", id=number)
        assert "names no request" in texts(app) or "There is no request" in texts(app)


@pytest.mark.parametrize(("path", "query"), [("requests", {"q": "shop"}), ("certificates", {"c-q": "nothing"})])
def test_filters_are_cleared_at_once(visit: Visit, path: str, query: dict[str, str]) -> None:
    app = visit(path, **query)
    app.button(key="clear").click().run()
    assert not app.exception
    assert "shop.example.com" in rows(app)
    assert "Clear filters" not in labels(app)


def test_groups_count_what_the_filters_keep(visit: Visit) -> None:
    table = visit(group="Status").dataframe[0].value
    counted = dict(zip(table["Group"], table["Requests"], strict=True))
    assert counted == {"Declined": 1, "Issued": 3, "Requested": 3}
    table = visit(group="Gateway", status="Issued").dataframe[0].value
    assert dict(zip(table["Group"], table["Requests"], strict=True)) == {"frankfurt-1": 1, "local": 2}


def test_empty_states_say_what_to_do_first(visit: Visit, scene: Scene) -> None:
    with scene.database.write() as session:
        administrator(scene, session, "newcomer", "Newcomer", Role.RAO, [Privilege.REQUEST], "Acme Ltd")
        session.delete(session.get_one(CertificateRequest, scene.requests["acme"]))
    app = visit(login="newcomer")
    assert "No requests yet" in texts(app)
    assert "Request the first certificate" in labels(app)
    assert "No certificates yet" in texts(visit("certificates", login="newcomer"))


def test_a_selection_offers_to_decide_in_place(visit: Visit, scene: Scene) -> None:
    app = visit()
    app.session_state["requests-chosen"] = (scene.requests["waiting"],)
    app.run()
    assert {"Open", "Approve", "Decline"} <= labels(app)
    assert "Needed before Friday." in texts(app)
    app.button(key="inbox-decline").click().run()
    assert f"Request {scene.requests['waiting']}: intranet.example.com" in texts(app)


# --- the request ------------------------------------------------------------------------------------------------------


def test_a_request_shows_everything_about_it(visit: Visit, scene: Scene) -> None:
    shown = texts(visit("request", id=str(scene.requests["served"])))
    for expected in (
        "shop.example.com, www.shop.example.com",
        "4711",
        "as agreed on Monday",
        "CN=Example Issuing CA 1",
        "The endpoint serves exactly the certificate that was issued.",
        "BEGIN CERTIFICATE REQUEST",
        "BEGIN CERTIFICATE-----",
        "web now serves the certificate on shop.example.com:443.",
        "Ticket 815",
    ):
        assert expected in shown


def test_another_served_certificate_is_told_loudly(visit: Visit, scene: Scene) -> None:
    with scene.database.write() as session:
        row = session.get_one(CertificateRequest, scene.requests["served"])
        row.served_fingerprint = "cd" * 32
        session.add(row)
    shown = texts(visit("request", id=str(scene.requests["served"])))
    assert "The endpoint serves another certificate" in shown
    assert "cd" * 32 in shown


def test_a_failure_says_why_and_what_to_do(visit: Visit, scene: Scene) -> None:
    app = visit("request", id=str(scene.requests["rolled back"]))
    assert "nginx did not serve the new certificate within 10 s" in texts(app)
    assert "Mend the endpoint, then retry." in texts(app)
    assert "Retry" in labels(app)


def test_without_the_engine_the_page_works_and_says_so(visit: Visit, scene: Scene) -> None:
    app = visit("request", id=str(scene.requests["waiting"]))
    assert "What it is doing right now can't be shown. No Temporal server runs" in texts(app)
    app.button(key="request-approve").click().run()
    app.button(key="dialog-confirm").click().run()
    assert "No Temporal server runs for" in texts(app)
    assert not app.exception


def test_a_decline_without_a_reason_is_refused_in_the_dialog(visit: Visit, scene: Scene) -> None:
    wanted = scene.requests["waiting"]
    app = visit("request", id=str(wanted))
    app.button(key="request-decline").click().run()
    app.text_area(key=f"comment-decline-{wanted}").input("   ")
    app.button(key="dialog-confirm").click().run()
    assert f"A decline of request {wanted} needs a reason" in texts(app)
    assert f"Request {wanted}: intranet.example.com" in texts(app)


def test_a_refusal_is_shown_as_its_sentence(visit: Visit, scene: Scene) -> None:
    """The request changes while the dialog is open."""
    wanted = scene.requests["waiting"]
    app = visit("request", id=str(wanted))
    app.button(key="request-approve").click().run()
    with scene.database.write() as session:
        row = session.get_one(CertificateRequest, wanted)
        row.status, row.closed = CertificateStatus.CANCELED, True
        session.add(row)
    app.button(key="dialog-confirm").click().run()
    assert f"request {wanted} awaits no decision any more: it is CANCELED." in texts(app)
    assert labels(app) == {"Sign out"}


def test_what_nobody_expected_is_one_sentence(
    visit: Visit, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("internal detail")

    app = visit()
    monkeypatch.setattr(requests, "listing", broken)
    app.run()
    assert guard.UNEXPECTED in texts(app)
    assert "internal detail" not in texts(app)
    assert not app.exception


def test_what_people_typed_is_text(visit: Visit, scene: Scene) -> None:
    app = visit("request", id=str(scene.requests["hostile"]))
    assert HOSTILE in [element.value for element in app.text]
    for kind in (app.markdown, app.caption, app.title, app.subheader):
        assert not [element.value for element in kind if "onerror" in str(element.value)]


# --- new request ------------------------------------------------------------------------------------------------------


def filled(app: AppTest, **changes: str) -> AppTest:
    """The form for shop.example.com, with some fields changed."""
    wanted = {"organization": "Default", "gateway": "local", **changes}
    app.selectbox(key="organization-1").select(wanted["organization"])
    app.selectbox(key="gateway-1").select(wanted["gateway"])
    app.text_input(key="cn-1").input(wanted.get("cn", "shop.example.com"))
    app.text_area(key="sans-1").input(wanted.get("sans", ""))
    app.text_area(key="comments-1").input(wanted.get("comments", "please"))
    return app.run()


def test_picking_a_binding_fills_the_names_in(visit: Visit) -> None:
    app = visit("new-request")
    app.selectbox(key="organization-1").select("Default")
    app.selectbox(key="gateway-1").select("local").run()
    app.selectbox(key="endpoint-1-local").select("web").run()
    binding = app.selectbox(key="binding-1-local-web")
    binding.select_index(1).run()
    assert app.text_input(key="cn-1").value == "shop.example.com"
    assert app.text_area(key="sans-1").value == "www.shop.example.com"
    app.selectbox(key="binding-1-local-web").select_index(0).run()
    assert app.text_input(key="cn-1").value == "intranet.example.com"
    app.text_input(key="cn-1").input("mine.example.com").run()
    app.selectbox(key="binding-1-local-web").select_index(1).run()
    assert app.text_input(key="cn-1").value == "mine.example.com"


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"cn": "not a name"}, "not a name"),
        ({"cn": ""}, "name"),
        ({"sans": "\n".join(f"h{number}.example.com" for number in range(120))}, "100"),
        ({"organization": "Acme Ltd", "gateway": "frankfurt-1"}, "Gateway frankfurt-1 is not delegated to Acme Ltd"),
    ],
)
def test_bad_input_is_one_sentence_and_nothing_is_lost(
    visit: Visit, scene: Scene, changes: dict[str, str], sentence: str
) -> None:
    app = filled(visit("new-request"), **changes)
    app.button(key="submit-1").click().run()
    told = [element.value for element in app.text]
    assert [text for text in told if sentence in text and text.endswith(".")]
    assert app.text_input(key="cn-1").value == changes.get("cn", "shop.example.com")
    assert app.text_area(key="sans-1").value == changes.get("sans", "")
    assert app.text_area(key="comments-1").value == "please"
    with scene.database.read() as session:
        assert len(session.exec(select(CertificateRequest)).all()) == len(scene.requests)


def test_what_is_left_open_is_asked_for(visit: Visit) -> None:
    app = visit("new-request")
    app.button(key="submit-1").click().run()
    assert "Choose an organization first." in texts(app)


# --- certificates -----------------------------------------------------------------------------------------------------


def test_certificates_show_their_end_and_their_renewal(visit: Visit) -> None:
    table = visit("certificates").dataframe[0].value
    assert list(table["Remaining"]) == ["26 days"]
    assert list(table["Renewal"]) == ["in 10 days"]
    assert "No certificate matches" in texts(visit("certificates", within="7 days"))
    assert list(visit("certificates", within="30 days").dataframe[0].value["Common name"]) == ["shop.example.com"]


def test_an_expired_certificate_never_looks_valid(visit: Visit, scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    later = scene.now + timedelta(days=40)
    for module in ("dashboard.views.certificates", "dashboard.views.certificate", "dashboard.chains"):
        monkeypatch.setattr(f"{module}.now", lambda: later)
    assert list(visit("certificates").dataframe[0].value["Remaining"]) == ["ended 13 days ago"]
    shown = visit("certificate", id=str(scene.certificates["served"]))
    assert "(expired 13 days ago)" in texts(shown)


def test_a_certificate_shows_where_it_is_installed(visit: Visit, scene: Scene) -> None:
    app = visit("certificate", id=str(scene.certificates["served"]))
    for expected in ("web, shop.example.com:443", "ab" * 32, "CN=Example Root CA", "match"):
        assert expected in texts(app)
    assert {"Renew now", "Revoke"} <= labels(app)


def test_a_revocation_names_what_will_be_revoked(visit: Visit, scene: Scene) -> None:
    number = scene.certificates["served"]
    app = visit("certificate", id=str(number))
    app.button(key="revoke").click().run()
    assert f"Certificate {number}: shop.example.com" in texts(app)
    assert "An endpoint serves this certificate" in texts(app)
    app.button(key="dialog-confirm").click().run()
    assert "No Temporal server runs for" in texts(app)


def test_a_replacement_names_what_will_be_changed_and_how(
    visit: Visit, scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[int, Replacement]] = []

    async def replaced(_: object, number: int, wanted: Replacement) -> int:
        asked.append((number, wanted))
        return 77

    monkeypatch.setattr("dashboard.views.certificate_replacement.replace", replaced)
    number = scene.certificates["served"]
    app = visit("certificate", id=str(number))
    app.button(key="replace").click().run()
    assert f"Certificate {number}: shop.example.com" in texts(app)
    app.text_input(key="replace-reason").set_value("the key was seen elsewhere")
    app.checkbox(key="replace-revoke").set_value(True).run()
    app.selectbox(key="replace-revocation").set_value("The private key was compromised")
    app.button(key="dialog-confirm").click().run()
    assert asked == [(number, Replacement("the key was seen elsewhere", True, None, "keyCompromise"))]
    assert f"Certificate {number} is being replaced by request 77." in texts(app)


def test_what_the_ca_says_stands_on_the_page_of_a_certificate(visit: Visit, scene: Scene) -> None:
    number, day = scene.certificates["served"], timedelta(days=1)
    with scene.database.write() as session:
        row = session.get_one(Certificate, number)
        row.suggested_start, row.suggested_end = row.not_after - 3 * day, row.not_after - day
        row.suggested_at, row.suggestion_url = row.not_after - 2 * day, "https://ca.example.org/why"
        row.standing_source, row.standing_at = "OCSP", row.not_before
        row.standing_note = "The CRL of http://ca.example.org is stale."
        session.add(row)
        request = session.get_one(CertificateRequest, row.request_id)
        request.origin, request.order_number = RequestOrigin.IMPORTED, "P-7"
        session.add(request)
    page = texts(visit("certificate", id=str(number)))
    for expected in (
        "P-7, imported",
        "(OCSP)",
        "; ours is ",
        "is not known: The CRL of http://ca.example.org is stale.",
    ):
        assert expected in page


def test_an_import_is_shown_with_its_lines_and_only_to_owners(visit: Visit, scene: Scene) -> None:
    with scene.database.write() as session:
        certificate = session.get_one(Certificate, scene.certificates["served"])
        request = session.get_one(CertificateRequest, certificate.request_id)
        row = CertificateImport(
            authority_id=request.authority_id,
            organization_id=request.organization_id,
            gateway_id=request.gateway_id,
            profile_id=request.profile_id,
            administrator_id=request.requester_id,
            state="listed",
            message="CA lists 2 certificates, 1 of them known.",
            created_at=request.created_at,
            updated_at=request.created_at,
        )
        session.add(row)
        session.flush()
        for order, state in (("A-1", "new"), ("A-2", "known")):
            session.add(ListedCertificate(import_id=row.id or 0, order_number=order, common_name="a", state=state))
        number = row.id
    app = visit("import-certificates", id=str(number))
    assert "CA lists 2 certificates, 1 of them known." in texts(app)
    assert list(app.dataframe[0].value["Order"]) == ["A-1", "A-2"]
    assert "Import all 1 that are new" in labels(app)
    app.button(key="import-all").click().run()
    assert "1 certificates of CA" in texts(app)
    assert "Import certificates" in texts(visit("import-certificates"))


def test_a_refused_renewal_is_shown(visit: Visit, scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refused(*_: object) -> int:
        raise Conflict("It can't be renewed today.")

    monkeypatch.setattr("operations.certificates.renew", refused)
    app = visit("certificate", id=str(scene.certificates["served"]))
    app.button(key="renew").click().run()
    assert "It can't be renewed today." in texts(app)
