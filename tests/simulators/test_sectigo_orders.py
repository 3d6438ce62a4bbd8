"""The life of an order at the simulator, as a plain client sees it."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from model.keys import KeyAlgorithm
from tests import pki
from tests.simulators.sectigo import Approval, Customer, CustomField, Fault, Faults, Simulator
from tests.simulators.support import KEY, NAMES, client, code, enroll, order


@pytest.fixture(scope="module")
def simulator() -> Iterator[Simulator]:
    """One for all of this module; each test orders for itself."""
    with Simulator(faults=Faults.off()) as made:
        yield made


@pytest.fixture
def ca(simulator: Simulator) -> Simulator:
    """In fair weather, nothing counted yet."""
    simulator.fair_weather()
    simulator.forget_calls()
    return simulator


@pytest.fixture
def http(ca: Simulator) -> Iterator[httpx.Client]:
    """A client that is signed in."""
    with client(ca) as made:
        yield made


def collect(http: httpx.Client, ssl_id: int) -> httpx.Response:
    """The certificate alone, or why there is none."""
    return http.get(f"/ssl/v1/collect/{ssl_id}/x509CO")


def issue(http: httpx.Client, **changes: Any) -> int:
    """Order and collect once; gives the id."""
    ssl_id = enroll(http, **changes)
    assert collect(http, ssl_id).status_code == 200
    return ssl_id


def test_an_order_becomes_a_certificate(ca: Simulator, http: httpx.Client) -> None:
    ssl_id = enroll(http, comments="for the shop")
    answer = collect(http, ssl_id)
    assert answer.status_code == 200
    assert answer.text == ca.order(ssl_id).certificate_pem
    leaf = x509.load_pem_x509_certificate(answer.content)
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == [*NAMES]
    assert leaf.public_key() == KEY.public_key()
    assert (leaf.not_valid_after_utc - leaf.not_valid_before_utc).days == 90
    assert ca.requests == {"enroll": 1, "collect": 1}
    details = http.get(f"/ssl/v2/{ssl_id}").json()
    assert details["status"] == "Issued"
    assert details["comments"] == "for the shop"
    assert int(details["serialNumber"].replace(":", ""), 16) == leaf.serial_number
    assert details["backendCertId"] == str(details["orderNumber"]) == str(ca.order(ssl_id).order_number)


def test_rsa_and_names_that_are_addresses(http: httpx.Client) -> None:
    key = pki.shared_key(KeyAlgorithm.RSA_2048)
    names = ("rsa.example.com", "192.0.2.7", "2001:db8::7", "*.rsa.example.com")
    ssl_id = issue(http, names=names, csr=pki.make_csr(key, names, names[0]))
    leaf = x509.load_pem_x509_certificate(collect(http, ssl_id).content)
    assert leaf.public_key() == key.public_key()
    assert len(leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value) == 4
    assert http.get(f"/ssl/v1/{ssl_id}").json()["keyType"] == "RSA - 2048"


def csr_of(algorithm: KeyAlgorithm) -> str:
    return pki.make_csr(pki.shared_key(algorithm), NAMES, NAMES[0])


REFUSED: list[tuple[dict[str, Any], int]] = [
    ({"subjAltNames": None}, -1002),
    ({"subjAltNames": ""}, -1002),
    ({"orgId": 9999}, -1023),
    ({"orgId": None}, -7),
    ({"orgId": "seven"}, -1601),
    ({"certType": 999}, -111),
    ({"certType": 304}, -111),
    ({"term": 365}, -36),
    ({"term": None}, -36),
    ({"csr": "no base64!"}, -9),
    ({"csr": "MIIB"}, -10),
    ({"csr": None}, -7),
    ({"csr": csr_of(KeyAlgorithm.ED25519)}, -11),
    ({"subjAltNames": "www.example.com,not a name"}, -732),
    ({"certType": 302}, -1601),
    ({"customFields": [{"name": "Nonsense", "value": "x"}]}, -64),
    ({"comments": "x" * 1025}, -1601),
    ({"externalRequester": "no address"}, -1601),
]


@pytest.mark.parametrize(("changes", "wanted"), REFUSED, ids=[f"{one}" for one in range(len(REFUSED))])
def test_an_order_that_is_refused_is_none(
    ca: Simulator, http: httpx.Client, changes: dict[str, Any], wanted: int
) -> None:
    before = len(ca.orders)
    answer = http.post("/ssl/v2/enroll", json=order(**changes))
    assert (answer.status_code, code(answer)) == (400, wanted)
    assert len(ca.orders) == before


def test_a_mandatory_custom_field() -> None:
    customer = Customer(custom_fields=(CustomField(52, "Ticket", mandatory=True),))
    with Simulator(faults=Faults.off(), customer=customer) as ca, client(ca) as http:
        assert http.get("/ssl/v1/customFields").json() == [{"id": 52, "name": "Ticket", "mandatory": True}]
        assert code(http.post("/ssl/v1/enroll", json=order())) == -62
        ssl_id = enroll(http, customFields=[{"name": "Ticket", "value": "T-1"}])
        assert http.get(f"/ssl/v1/{ssl_id}").json()["customFields"] == [{"name": "Ticket", "value": "T-1"}]


def test_what_is_offered(http: httpx.Client) -> None:
    offered = http.get("/ssl/v1/types", params={"organizationId": 7001}).json()
    assert [one["id"] for one in offered] == [301, 302, 303]
    assert offered[0]["terms"] == [30, 90, 199]
    organizations = http.get("/organization/v1").json()
    assert organizations[0]["departments"] == [{"id": 7011, "name": "Web", "parentName": "Example Org"}]


def test_being_processed_is_a_400_of_three_kinds(ca: Simulator, http: httpx.Client) -> None:
    ca.faults = Faults(approval=Approval.MANUAL, issue_polls=(1, 1))
    ssl_id = enroll(http)
    assert http.get(f"/ssl/v1/{ssl_id}").json()["status"] == "Requested"
    assert code(collect(http, ssl_id)) == -183
    assert http.post(f"/ssl/v1/approve/{ssl_id}", json={"message": "fine"}).status_code == 204
    assert code(collect(http, ssl_id)) == -1400
    assert code(collect(http, ssl_id)) == 0
    assert collect(http, ssl_id).status_code == 200
    again = http.post(f"/ssl/v1/approve/{ssl_id}", json={})
    assert (again.status_code, code(again)) == (400, -1112)


def test_declined_and_rejected(ca: Simulator, http: httpx.Client) -> None:
    ca.faults = Faults(approval=Approval.MANUAL)
    ssl_id = enroll(http)
    answer = http.post(f"/ssl/v2/decline/{ssl_id}", json={"message": "no"})
    assert (answer.status_code, answer.content) == (204, b"")
    assert code(collect(http, ssl_id)) == -130
    assert http.get(f"/ssl/v2/{ssl_id}").json()["status"] == "Declined"
    ca.faults = Faults(rejects=1.0)
    rejected = enroll(http)
    assert code(collect(http, rejected)) == -130
    assert ca.order(rejected).status == "Rejected"


def test_an_order_hangs_in_applied_until_support_looks(ca: Simulator, http: httpx.Client) -> None:
    ca.faults = Faults(hangs=1.0)
    ssl_id = enroll(http)
    assert {code(collect(http, ssl_id)) for _ in range(5)} == {0}
    assert ca.order(ssl_id).status == "Applied"
    ca.release(ssl_id)
    assert collect(http, ssl_id).status_code == 200


def test_time_is_the_given_clock() -> None:
    moment = [datetime(2027, 5, 1, tzinfo=UTC)]
    with Simulator(faults=Faults(issue_seconds=3600.0), clock=lambda: moment[0]) as ca, client(ca) as http:
        ssl_id = enroll(http)
        moment[0] += timedelta(minutes=59)
        assert code(collect(http, ssl_id)) == 0
        moment[0] += timedelta(minutes=1)
        assert collect(http, ssl_id).status_code == 200
        moment[0] += timedelta(days=91)
        assert http.get(f"/ssl/v1/{ssl_id}").json()["status"] == "Expired"
        assert http.get("/ssl/v1", params={"status": "Expired"}).headers["x-total-count"] == "1"


def test_a_replacement_keeps_the_id(ca: Simulator, http: httpx.Client) -> None:
    ssl_id = issue(http)
    old = collect(http, ssl_id).text
    key = pki.new_key()
    body = {"csr": pki.make_csr(key, ["www.example.com"]), "reason": "key lost"}
    ca.faults = Faults(issue_polls=(1, 1))
    as_text = body | {"subjectAlternativeNames": "b.example.com"}
    assert code(http.post(f"/ssl/v1/replace/{ssl_id}", json=as_text)) == -1601
    as_array = body | {"commonName": "www.example.com", "subjectAlternativeNames": ["b.example.com"]}
    answer = http.post(f"/ssl/v1/replace/{ssl_id}", json=as_array)
    assert (answer.status_code, answer.content) == (204, b"")
    assert code(http.post(f"/ssl/v1/replace/{ssl_id}", json=as_array)) == -130
    assert code(collect(http, ssl_id)) == 0
    new = collect(http, ssl_id)
    leaf = x509.load_pem_x509_certificate(new.content)
    assert new.text != old
    assert leaf.public_key() == key.public_key()
    assert ca.order(ssl_id).reissues == 1
    assert ca.order(ssl_id).names == ["www.example.com", "b.example.com"]
    assert len([one for one in ca.certificates if one in (old, new.text)]) == 2


def test_while_a_replacement_is_in_work_the_old_one_may_be_handed_out(ca: Simulator, http: httpx.Client) -> None:
    ssl_id = issue(http)
    old = collect(http, ssl_id).text
    ca.faults = Faults(issue_polls=(1, 1), shows_old=1.0)
    body = {"csr": pki.make_csr(pki.new_key(), NAMES), "subjectAlternativeNames": [*NAMES]}
    assert http.post(f"/ssl/v2/replace/{ssl_id}", json=body).status_code == 204
    assert collect(http, ssl_id).text == old
    assert collect(http, ssl_id).text != old


def test_what_is_installed_by_the_vendor_is_not_replaced(ca: Simulator, http: httpx.Client) -> None:
    ssl_id = issue(http)
    ca.auto_install(ssl_id)
    assert code(http.post(f"/ssl/v1/replace/{ssl_id}", json={"csr": csr_of(KeyAlgorithm.EC_P256)})) == -1148


def test_a_renewal_is_a_new_order(ca: Simulator, http: httpx.Client) -> None:
    ssl_id = issue(http, externalRequester="shop@example.org")
    renewed = http.post(f"/ssl/v1/renewById/{ssl_id}", json={"csr": csr_of(KeyAlgorithm.EC_P256)})
    new = renewed.json()["sslId"]
    assert new != ssl_id
    assert ca.order(new).earlier == ssl_id
    assert ca.order(new).external_requester == "shop@example.org"
    assert http.get(f"/ssl/v1/{ssl_id}").json()["renewed"] is True
    assert collect(http, new).status_code == 200
    answer = http.post(f"/ssl/v1/renew/{ca.order(ssl_id).renew_id}")
    assert (answer.status_code, answer.content) == (204, b"")
    assert [one.kind for one in ca.orders[-2:]] == ["renew", "renew"]
    assert code(http.post("/ssl/v1/renew/unknown")) == -123
    assert code(http.post(f"/ssl/v1/renewById/{enroll(http)}", json={})) == -105


def test_revoke_by_id_and_by_serial(ca: Simulator, http: httpx.Client) -> None:
    first, second = issue(http), issue(http)
    body = {"reasonCode": "1", "reason": "key lost"}
    assert code(http.post(f"/ssl/v1/revoke/{first}", json={"reasonCode": "1"})) == -7
    assert code(http.post(f"/ssl/v1/revoke/{first}", json=body | {"reasonCode": "2"})) == -1601
    answer = http.post(f"/ssl/v1/revoke/{first}", json=body)
    assert (answer.status_code, answer.content) == (204, b"")
    assert code(http.post(f"/ssl/v1/revoke/{first}", json=body)) == -159
    assert code(collect(http, first)) == -110
    assert ca.order(first).reason_code == "1"
    serial = http.get(f"/ssl/v1/{second}").json()["serialNumber"]
    assert http.post(f"/ssl/v2/revoke/serial/{serial}", json={"reason": "gone"}).status_code == 204
    assert ca.order(second).status == "Revoked"
    assert code(http.post("/ssl/v1/revoke/serial/00ff", json={"reason": "gone"})) == -166
    assert code(http.post(f"/ssl/v1/revoke/{enroll(http)}", json=body)) == -102


def test_lists_filter_and_page(ca: Simulator, http: httpx.Client) -> None:
    ids = [issue(http, names=(f"page-{number}.example.org",)) for number in range(12)]
    everything: dict[str, str | int] = {"commonName": "PAGE-", "size": 200}
    assert [one["sslId"] for one in http.get("/ssl/v1", params=everything).json()] == ids
    page = http.get("/ssl/v1", params={"commonName": "page-", "size": 5, "position": 10})
    assert [one["sslId"] for one in page.json()] == ids[10:]
    assert page.headers["x-total-count"] == "12"
    assert len(http.get("/ssl/v1", params={"commonName": "page-"}).json()) == 10
    counted = http.head("/ssl/v1", params={"commonName": "page-"})
    assert (counted.headers["x-total-count"], counted.content) == ("12", b"")
    assert code(http.get("/ssl/v1", params={"size": 201})) == -1601
    one = ca.order(ids[3])
    for name, value in {
        "serialNumber": one.serial_number,
        "subjectAlternativeName": "page-3.example.org",
        "sha256Hash": http.get(f"/ssl/v1/{ids[3]}").json()["certificateDetails"]["sha256Hash"],
    }.items():
        assert [one["sslId"] for one in http.get("/ssl/v1", params={name: value}).json()] == [ids[3]], name


def test_filters_may_want_the_whole_text() -> None:
    with Simulator(faults=Faults.off(), exact_filters=True) as ca, client(ca) as http:
        ssl_id = enroll(http, externalRequester="a@example.org,b@example.org")
        part = http.get("/ssl/v1", params={"externalRequester": "a@example.org"})
        whole = http.get("/ssl/v1", params={"externalRequester": "A@example.org,b@example.org"})
        assert (part.json(), [one["sslId"] for one in whole.json()]) == ([], [ssl_id])


def test_a_tag_finds_the_order_whose_reply_was_lost(ca: Simulator, http: httpx.Client) -> None:
    before = len(ca.orders)
    ca.inject(Fault.CUT_AFTER, on="enroll")
    with pytest.raises(httpx.RemoteProtocolError):
        http.post("/ssl/v1/enroll", json=order(externalRequester="certgate+lost@example.org"))
    assert len(ca.orders) == before + 1
    found = http.get("/ssl/v1", params={"externalRequester": "certgate+lost@example.org"})
    assert [one["sslId"] for one in found.json()] == [ca.orders[-1].id]


def test_update_and_delete(ca: Simulator, http: httpx.Client) -> None:
    ca.faults = Faults(approval=Approval.MANUAL)
    ssl_id = enroll(http)
    changed = http.put("/ssl/v1", json={"sslId": ssl_id, "comments": "new", "externalRequester": "x@example.org"})
    assert changed.json()["comments"] == ca.order(ssl_id).comments == "new"
    assert http.put("/ssl/v2", json={"sslId": ssl_id, "term": 30}).json()["term"] == 30
    assert code(http.put("/ssl/v2", json={"sslId": ssl_id, "term": 31})) == -1601
    assert code(http.put("/ssl/v2", json={"sslId": ssl_id, "externalRequester": "x"})) == -1601
    assert http.delete(f"/ssl/v1/{ssl_id}").status_code == 204
    assert http.get(f"/ssl/v1/{ssl_id}").status_code == 404
    ca.fair_weather()
    issued = issue(http)
    assert code(http.delete(f"/ssl/v1/{issued}")) == -3
    assert code(http.put("/ssl/v1", json={"sslId": issued, "term": 30})) == -1601
    assert http.put("/ssl/v1", json={"sslId": issued, "term": 90, "comments": "kept"}).json()["comments"] == "kept"
    assert code(http.post("/ssl/v1/approve/1", json={})) == -124
    assert http.get("/ssl/v1/1").status_code == 404


def test_domain_control_validation(ca: Simulator, http: httpx.Client) -> None:
    ca.require_validation("new.example.com", rechecks=1)
    names = ("new.example.com",)
    assert code(http.post("/ssl/v1/enroll", json=order(names))) == -107
    ssl_id = enroll(http, names, dcvMode="CNAME")
    assert code(collect(http, ssl_id)) == 0
    [shown] = http.get(f"/ssl/v2/{ssl_id}/dcv").json()
    assert shown["dcvLog"]["log"][0]["dcvStatus"] == "Not Validated"
    assert shown["instructions"][0]["domainName"] == "new.example.com"
    assert shown["instructions"][0]["host"].endswith(".new.example.com")
    rechecked = http.post(f"/ssl/v2/{ssl_id}/dcv/recheck")
    assert rechecked.status_code == 202
    assert rechecked.json()["dcvLog"]["log"][0]["dcvStatus"] == "Not Validated"
    assert http.post(f"/ssl/v2/{ssl_id}/dcv/recheck").json()["instructions"] == []
    assert collect(http, ssl_id).status_code == 200
    ca.faults = Faults(approval=Approval.MANUAL)
    ca.require_validation("later.example.com")
    waiting = enroll(http, ("later.example.com",), dcvMode="TXT")
    assert code(http.post(f"/ssl/v1/approve/{waiting}", json={})) == -1137
    ca.validate("later.example.com")
    assert http.post(f"/ssl/v1/approve/{waiting}", json={}).status_code == 204


def test_import_of_a_certificate_from_elsewhere(ca: Simulator, http: httpx.Client) -> None:
    leaf = pki.make_leaf(pki.make_ca("Elsewhere"), pki.new_key(), ["old.example.com"], common_name="old.example.com")
    text = base64.b64encode(leaf.public_bytes(serialization.Encoding.DER)).decode()
    [first] = http.post("/ssl/v2/import", json=[{"orgID": 7001, "cert": text, "comments": "from before"}]).json()
    assert (first["successful"], first["created"]) == (True, True)
    assert http.get(f"/ssl/v2/{first['cert']['id']}").json()["commonName"] == "old.example.com"
    [second] = http.post("/ssl/v2/import", json=[{"orgID": 7001, "cert": text}]).json()
    assert (second["created"], second["cert"]["id"]) == (False, first["cert"]["id"])
    [wrong] = http.post("/ssl/v2/import", json=[{"orgID": 7001, "cert": "MA=="}]).json()
    assert wrong["successful"] is False
