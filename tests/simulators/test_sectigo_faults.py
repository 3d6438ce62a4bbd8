"""What goes wrong at the simulator goes wrong as it is told, is repeatable, and never spoils its books."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace

import httpx
import pytest

from tests.simulators.sectigo import Fault, Faults, RemoteSimulator, Simulator, Status, Wrong
from tests.simulators.sectigo.faults import Fate
from tests.simulators.support import client, code, enroll, order, trusting


@pytest.fixture(scope="module")
def ca() -> Iterator[Simulator]:
    """In fair weather."""
    with Simulator(faults=Faults.off()) as made:
        yield made


@pytest.fixture
def http(ca: Simulator) -> Iterator[httpx.Client]:
    """A client that is signed in."""
    with client(ca) as made:
        yield made


ANSWERS: dict[Fault, tuple[int, Callable[[httpx.Response], bool]]] = {
    Fault.RATE_LIMITED: (429, lambda answer: answer.headers["retry-after"] == "1"),
    Fault.SERVER_ERROR: (500, lambda answer: code(answer) == -2),
    Fault.HTML_ERROR: (502, lambda answer: answer.text.startswith("<!DOCTYPE html>")),
    Fault.GATEWAY_TIMEOUT: (504, lambda answer: answer.text.startswith("<!DOCTYPE html>")),
    Fault.CA_UNAVAILABLE: (400, lambda answer: code(answer) == -195),
    Fault.UNAUTHORIZED: (401, lambda answer: code(answer) == -16),
    Fault.EMPTY: (200, lambda answer: answer.content == b""),
    Fault.HTML: (200, lambda answer: answer.headers["content-type"] == "text/html"),
    Fault.HUGE: (200, lambda answer: len(answer.content) == 50 * 1024 * 1024),
    Fault.REDIRECT: (302, lambda answer: "169.254.169.254" in answer.headers["location"]),
}
CUTS = {
    Fault.CUT_BEFORE: httpx.RemoteProtocolError,
    Fault.CUT_AFTER: httpx.RemoteProtocolError,
    Fault.CUT_WITHIN: httpx.RemoteProtocolError,
    Fault.STALLED: httpx.ReadTimeout,
}
DONE = {
    *(Fault.GATEWAY_TIMEOUT, Fault.EMPTY, Fault.HTML, Fault.HUGE),
    *(Fault.CUT_AFTER, Fault.CUT_WITHIN, Fault.STALLED),
}


@pytest.mark.parametrize("fault", Fault)
def test_each_fault_is_what_it_is_called_and_the_work_is_done_or_not(
    ca: Simulator, http: httpx.Client, fault: Fault
) -> None:
    before, known = len(ca.orders), len(ca.calls)
    ca.inject(fault, on="enroll")
    if fault in CUTS:
        patience = httpx.Timeout(30, read=0.02 if fault is Fault.STALLED else 30)
        with pytest.raises(CUTS[fault]):
            http.post("/ssl/v1/enroll", json=order(), timeout=patience)
    else:
        status, right = ANSWERS[fault]
        answer = http.post("/ssl/v1/enroll", json=order())
        assert answer.status_code == status
        assert right(answer)
    while len(ca.calls) == known:
        time.sleep(0.005)  # the client's patience may be shorter than the work
    assert len(ca.orders) - before == (1 if fault in DONE else 0)
    assert ca.calls[-1].fault == fault.value
    assert http.post("/ssl/v1/enroll", json=order()).status_code == 200


def test_an_answer_without_a_body_can_be_cut_too(ca: Simulator, http: httpx.Client) -> None:
    ssl_id = enroll(http)
    assert http.get(f"/ssl/v1/collect/{ssl_id}").status_code == 200
    ca.inject(Fault.CUT_WITHIN, on="revoke")
    with pytest.raises(httpx.RemoteProtocolError):
        http.post(f"/ssl/v1/revoke/{ssl_id}", json={"reason": "gone"})
    assert ca.order(ssl_id).status == Status.REVOKED


def test_faults_can_be_aimed(ca: Simulator, http: httpx.Client) -> None:
    ca.inject(Fault.SERVER_ERROR, on="types", times=2, skip=1)
    assert [http.get("/ssl/v1/types").status_code for _ in range(4)] == [200, 500, 500, 200]
    ca.inject(Fault.SERVER_ERROR)
    assert http.get("/ssl/v1/customFields").status_code == 500


def drawn(seed: int, subjects: list[str]) -> dict[str, list[Fault | None]]:
    """What the requests about each subject meet."""
    fate = Fate(Faults.usual(seed))
    found: dict[str, list[Fault | None]] = {}
    for subject in subjects:
        found.setdefault(subject, []).append(fate.of_request("enroll", subject))
    return found


def test_a_seed_repeats_itself_whatever_the_order() -> None:
    subjects = [f"{number % 20}" for number in range(400)]
    first = drawn(7, subjects)
    assert drawn(7, sorted(subjects)) == first
    assert drawn(8, subjects) != first
    met = [one for several in first.values() for one in several if one is not None]
    assert 50 < len(met) < 150


def test_whoever_tries_again_gets_through() -> None:
    fate = Fate(replace(Faults.usual(3), rate_limited=1.0, most_in_a_row=2))
    assert [fate.of_request("enroll", "x") is None for _ in range(6)] == [False, False, True, False, False, True]


def test_probabilities_are_checked_and_every_fault_has_one() -> None:
    with pytest.raises(ValueError, match="cut_after"):
        Faults(cut_after=1.5)
    assert {one.value for one in [*Fault, *Wrong]} <= {one.name for one in fields(Faults)}
    hostile = Faults.hostile(1)
    assert [one for one in [*Fault, *Wrong] if getattr(hostile, one.value) == 0] == [Fault.STALLED]
    assert all(getattr(Faults.off(), one.value) == 0 for one in [*Fault, *Wrong])


def get_through(http: httpx.Client, name: str) -> int:
    """Order once, as a careful client does: look for the order by its tag before trying again."""
    tag = f"certgate+{name}@example.org"
    while True:
        try:
            found = http.get("/ssl/v1", params={"externalRequester": tag})
            if found.status_code == 200 and found.json():
                return int(found.json()[0]["sslId"])
            if found.status_code == 200:
                http.post("/ssl/v1/enroll", json=order((f"{name}.example.com",), externalRequester=tag))
        except httpx.TransportError:
            continue


def get_certificate(http: httpx.Client, ssl_id: int) -> str:
    """Poll until it is there."""
    while True:
        try:
            answer = http.get(f"/ssl/v1/collect/{ssl_id}/x509CO")
        except httpx.TransportError:
            continue
        if answer.status_code == 200:
            return answer.text


def test_with_the_usual_faults_and_many_at_once_each_order_is_placed_once() -> None:
    with Simulator() as ca, client(ca) as http, ThreadPoolExecutor(8) as threads:
        names = [f"many-{number}" for number in range(60)]
        ids = list(threads.map(lambda name: get_through(http, name), names))
        texts = list(threads.map(lambda ssl_id: get_certificate(http, ssl_id), ids))
        assert sorted(ids) == [one.id for one in ca.orders]
        assert len(ids) == len(set(ids)) == len(names)
        assert [ca.order(ssl_id).certificate_pem for ssl_id in ids] == texts
        assert len(ca.certificates) == len(names)
        assert sum(one.fault is not None for one in ca.calls) > 20


# --- who may ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("missing", ["login", "password", "customerUri"])
def test_a_wrong_header_is_an_unknown_user(ca: Simulator, http: httpx.Client, missing: str) -> None:
    answer = http.get("/ssl/v1/types", headers={missing: "wrong"})
    assert (answer.status_code, code(answer)) == (401, -16)


def test_a_client_certificate(ca: Simulator) -> None:
    headers = {"login": ca.login, "customerUri": ca.customer_uri}
    url = f"{ca.private_url}/ssl/v1/types"
    assert code(httpx.get(url, headers=headers, verify=trusting(ca))) == -16
    with_password = headers | {"password": ca.password}
    assert code(httpx.get(url, headers=with_password, verify=trusting(ca))) == -16
    context = trusting(ca)
    context.load_cert_chain(ca.files.client_certificate, ca.files.client_key)
    assert httpx.get(url, headers=headers, verify=context).status_code == 200
    assert code(httpx.get(url, headers=headers | {"login": "x"}, verify=context)) == -16
    foreign = trusting(ca)
    foreign.load_cert_chain(ca.files.foreign_certificate)
    with pytest.raises((httpx.TransportError, ssl.SSLError)):
        httpx.get(url, headers=headers, verify=foreign)


def test_tokens_end(ca: Simulator) -> None:
    right = ca.customer.credentials
    form = {"grant_type": "client_credentials", "client_id": right.client_id, "client_secret": right.client_secret}
    with httpx.Client(verify=trusting(ca)) as http:
        token = http.post(ca.token_url, data=form).json()
        assert token["expires_in"] == 300
        bearer = {"Authorization": f"Bearer {token['access_token']}"}
        assert http.get(f"{ca.admin_url}/ssl/v2/types", headers=bearer).status_code == 200
        assert code(http.get(f"{ca.base_url}/ssl/v2/types", headers=bearer)) == -16
        ca.end_tokens()
        ended = http.get(f"{ca.admin_url}/ssl/v2/types", headers=bearer)
        assert (ended.status_code, ended.headers["www-authenticate"]) == (401, "Bearer")
        basic = httpx.BasicAuth(right.client_id, right.client_secret)
        assert http.post(ca.token_url, data={"grant_type": "client_credentials"}, auth=basic).status_code == 200
        assert http.post(ca.token_url, data=form | {"client_secret": "x"}).json() == {"error": "invalid_client"}
        assert http.post(ca.token_url, data=form | {"grant_type": "password"}).status_code == 400


# --- the wire ---------------------------------------------------------------------------------------------------------


def test_nonsense_is_refused_and_does_no_harm(ca: Simulator, http: httpx.Client) -> None:
    assert http.get("/ssl/v3/types").status_code == 404
    assert http.get("/ssl/v1/").status_code == 404
    answer = http.delete("/ssl/v1/enroll")
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
    assert code(http.post("/ssl/v1/enroll", content=b"{")) == -1601
    assert code(http.post("/ssl/v1/enroll", content=b"[" * 200_000)) == -1601
    assert code(http.post("/ssl/v1/enroll", content=b"\xff\xfe")) == -1601
    assert http.post("/ssl/v1/enroll", content=b"x" * (5 * 1024 * 1024)).status_code == 413


def test_the_remote_control_has_everything_that_the_object_has() -> None:
    ours = {name for name in vars(Simulator) if not name.startswith("_")}
    theirs = {name for name in vars(RemoteSimulator) if not name.startswith("_")}
    elsewhere = {"private_url", "admin_url", "token_url", "plain_url", "host_url"}  # in the address
    assert ours - theirs - elsewhere == {"start", "stop", "serve"}
