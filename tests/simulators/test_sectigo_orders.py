"""The life of an order at the simulator, as a plain client sees it."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from tests.simulators.sectigo import Approval, Fault, Faults, Simulator
from tests.simulators.support import client, code, enroll, order


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


def test_an_order_becomes_a_certificate(ca: Simulator, http: httpx.Client) -> None:
    ssl_id = enroll(http)
    answer = http.get(f"/ssl/v1/collect/{ssl_id}/x509CO")
    assert answer.status_code == 200
    assert answer.text == ca.order(ssl_id).certificate_pem
    assert ca.requests == {"enroll": 1, "collect": 1}


def test_a_lost_reply_leaves_an_order(ca: Simulator, http: httpx.Client) -> None:
    before = len(ca.orders)
    ca.inject(Fault.CUT_AFTER, on="enroll")
    with pytest.raises(httpx.RemoteProtocolError):
        http.post("/ssl/v1/enroll", json=order(externalRequester="certgate+lost@example.org"))
    assert len(ca.orders) == before + 1
    found = http.get("/ssl/v1", params={"externalRequester": "certgate+lost@example.org"})
    assert [one["sslId"] for one in found.json()] == [ca.orders[-1].id]


def test_being_processed_is_a_400(ca: Simulator, http: httpx.Client) -> None:
    ca.faults = Faults(approval=Approval.MANUAL, issue_polls=(1, 1))
    ssl_id = enroll(http)
    assert code(http.get(f"/ssl/v1/collect/{ssl_id}/x509CO")) == -183
    assert http.post(f"/ssl/v1/approve/{ssl_id}", json={"message": "fine"}).status_code == 204
    assert code(http.get(f"/ssl/v1/collect/{ssl_id}/x509CO")) == 0
    assert http.get(f"/ssl/v1/collect/{ssl_id}/x509CO").status_code == 200
