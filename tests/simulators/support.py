"""A plain client for the tests of the simulator: no connector of ours is in it."""

from __future__ import annotations

import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import httpx

from model.keys import KeyAlgorithm
from tests import pki
from tests.simulators.sectigo import Simulator

NAMES = ("www.example.com", "a.example.com")
KEY = pki.new_key(KeyAlgorithm.EC_P256)


def trusting(ca: Simulator) -> ssl.SSLContext:
    """TLS that trusts the simulator."""
    return ssl.create_default_context(cafile=str(ca.ca_file))


@contextmanager
def client(ca: Simulator) -> Iterator[httpx.Client]:
    """Signed in by password, at ``/api``."""
    headers = {"login": ca.login, "password": ca.password, "customerUri": ca.customer_uri}
    with httpx.Client(verify=trusting(ca), headers=headers, base_url=ca.base_url) as made:
        yield made


def order(names: Sequence[str] = NAMES, **changes: Any) -> dict[str, Any]:
    """The body of a good enroll, changed."""
    body: dict[str, Any] = {
        "orgId": 7001,
        "certType": 301,
        "term": 90,
        "csr": pki.make_csr(KEY, names, names[0]),
        "subjAltNames": ",".join(names),
    }
    return {name: value for name, value in (body | changes).items() if value is not None}


def enroll(http: httpx.Client, names: Sequence[str] = NAMES, **changes: Any) -> int:
    """Order; gives the id."""
    answer = http.post("/ssl/v1/enroll", json=order(names, **changes))
    assert answer.status_code == 200, answer.text
    return int(answer.json()["sslId"])


def code(answer: httpx.Response) -> int:
    """The vendor's number in a refusal."""
    return int(answer.json()["code"])
