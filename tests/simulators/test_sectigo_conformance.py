"""The simulator against what is not ours: a generator of requests from the description, and a foreign client."""

from __future__ import annotations

import json
import subprocess
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cert_manager
import httpx
import pytest
import requests
from cryptography import x509

from tests import pki
from tests.simulators.sectigo import Approval, Faults, Simulator, document
from tests.simulators.support import KEY, NAMES, client, enroll
from tests.support.programs import program

# One check is left out: it wants every request that fits the description to be accepted, and no description can say
# which organization there is or which base64 text is a signing request.
LEFT_OUT = "positive_data_acceptance"


def test_requests_made_from_the_description_find_nothing(tmp_path: Path) -> None:
    with Simulator(faults=Faults.off()) as ca:
        with client(ca) as http:
            issued, kept = ([_issue(http, f"{which}{number}") for number in range(30)] for which in "ab")
            ca.faults = Faults(approval=Approval.MANUAL)
            requested = [enroll(http, (f"{number}.example.net",)) for number in range(60)]
            ca.fair_weather()
        ca.forget_calls()
        config = tmp_path / "schemathesis.toml"
        config.write_text(_config(ca, requested, issued, kept))
        command = [
            *(program("schemathesis"), "--config-file", str(config), "run", str(document.FILE)),
            *("--url", ca.base_url, "--tls-verify", str(ca.ca_file), "--request-timeout", "30"),
            *("--exclude-checks", LEFT_OUT),
            *("--seed", "1", "--generation-deterministic", "--max-examples", "10"),
            *("--phases", "examples,coverage,fuzzing"),
            *("--warnings", "off", "--no-color"),
        ]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
        reached = defaultdict(set)
        for call in ca.calls:
            reached[call.route].add(call.status)
        # Nothing of it was empty: each route did its work at least once, and refused at least once.
        assert set(reached) == {name for _, _, name in _routes()}
        lazy = [route for route, statuses in reached.items() if not statuses & {200, 202, 204}]
        assert lazy == [], dict(reached)


def test_a_foreign_client_goes_the_whole_way() -> None:
    with Simulator(faults=Faults.off()) as ca, _foreign_client(ca) as (session, foreign):
        kinds = foreign.types
        assert kinds["Multi-Domain SSL"]["terms"] == [30, 90, 199]
        assert foreign.custom_fields[0]["name"] == "Cost centre"
        ordered = foreign.enroll(
            cert_type_name="Multi-Domain SSL",
            csr=pki.make_csr(KEY, NAMES, NAMES[0]),
            term=90,
            org_id=cert_manager.Organization(session).find(org_name="Example Org")[0]["id"],
            subject_alt_names=list(NAMES),
            external_requester="web@example.org",
            custom_fields=[{"name": "Cost centre", "value": "4711"}],
        )
        ssl_id = ordered["sslId"]
        leaf = x509.load_pem_x509_certificate(foreign.collect(ssl_id, "x509CO").encode())
        assert leaf.public_key() == KEY.public_key()
        for kind in foreign.valid_formats:
            if kind != "bin":  # which this client decodes as text
                assert foreign.collect(ssl_id, kind)
        renewed = foreign.renew(ssl_id)["sslId"]
        assert foreign.get(renewed)["commonName"] == NAMES[0]
        key = pki.new_key()
        csr = pki.make_csr(key, NAMES, NAMES[0])
        foreign.replace(cert_id=ssl_id, csr=csr, common_name=NAMES[0], reason="drill", subject_alt_names=list(NAMES))
        replaced = x509.load_pem_x509_certificate(foreign.collect(ssl_id, "pemco").encode())
        assert replaced.public_key() == key.public_key()
        foreign.revoke(ssl_id, reason="no longer needed")
        assert foreign.get(ssl_id)["status"] == "Revoked"
        assert [one["sslId"] for one in foreign.list(size=1)] == [ssl_id, renewed]
        assert foreign.count(status="Revoked") == 1
        assert [one.status for one in ca.orders] == ["Revoked", "Issued"]


def test_a_foreign_client_waits() -> None:
    with Simulator(faults=Faults(approval=Approval.MANUAL)) as ca, _foreign_client(ca) as (_, foreign):
        ordered = foreign.enroll(
            cert_type_name="Multi-Domain SSL",
            csr=pki.make_csr(KEY, NAMES, NAMES[0]),
            term=90,
            org_id=7001,
            subject_alt_names=",".join(NAMES),
        )
        with pytest.raises(cert_manager.PendingError):
            foreign.collect(ordered["sslId"], "pem")
        ca.approve(ordered["sslId"])
        assert foreign.collect(ordered["sslId"], "pem").count("BEGIN CERTIFICATE") == 3


@contextmanager
def _foreign_client(ca: Simulator) -> Iterator[tuple[Any, Any]]:
    with requests.Session() as session:
        # Without the environment: a CA bundle named there would win over ours.
        session.trust_env, session.verify = False, str(ca.ca_file)
        made = cert_manager.Client(
            base_url=ca.base_url,
            login_uri=ca.customer_uri,
            username=ca.login,
            password=ca.password,
            session=session,
        )
        yield made, cert_manager.SSL(client=made)


def _issue(http: httpx.Client, label: str) -> int:
    ssl_id = enroll(http, (f"{label}.example.com",))
    assert http.get(f"/ssl/v1/collect/{ssl_id}").status_code == 200
    return ssl_id


def _routes() -> list[tuple[str, str, str]]:
    return [
        (method, path, operation["operationId"].replace("collectAs", "collect"))
        for path, item in json.loads(document.FILE.read_text())["paths"].items()
        for method, operation in item.items()
        if isinstance(operation, dict)
    ]


def _config(ca: Simulator, requested: list[int], issued: list[int], kept: list[int]) -> str:
    """Where to take good values from: nobody guesses an id or a signing request."""
    known = {one.id: one for one in ca.orders}
    general: dict[str, list[Any]] = {
        "path.id": issued,
        "path.renewId": [known[one].renew_id for one in issued],
        "body.csr": [pki.make_csr(KEY, NAMES, NAMES[0])],
        "body.orgId": [7001],
        "body.certType": [301],
        "body.term": [90],
        "body.subjAltNames": [",".join(NAMES)],
    }
    # What can be done but once to an order gets orders of its own.
    special: dict[str, dict[str, list[Any]]] = {
        "approve": {"path.id": requested[::2]},
        "decline": {"path.id": requested[1::2]},
        "delete": {"path.id": requested},
        "revoke": {"path.id": kept[::3]},
        "revokeManual": {"body.certId": kept[1::3]},
        "revokeSerial": {"path.serial": [known[one].serial_number for one in kept[2::3]]},
    }
    headers = {"login": ca.login, "password": ca.password, "customerUri": ca.customer_uri}
    lines = [f"headers = {_table(headers)}"]
    for place, values in {"general": general, **special}.items():
        bound = {name: {"dictionary": f"{place}-{name}".replace(".", "-"), "probability": 0.8} for name in values}
        for name, one in values.items():
            lines.append(f"[dictionaries.{bound[name]['dictionary']}]\nvalues = {json.dumps(one)}")
        chosen = f'[[operations]]\ninclude-operation-id = "{place}"\n' if place in special else ""
        lines.append(f"{chosen}parameters = {_table(bound)}")
    return "\n".join(sorted(lines, key=lambda line: line.startswith("[")))


def _table(values: dict[str, Any]) -> str:
    """An inline table of TOML, whose strings and arrays are written as those of JSON."""
    parts = (
        f"{json.dumps(name)} = {_table(one) if isinstance(one, dict) else json.dumps(one)}"
        for name, one in values.items()
    )
    return "{" + ", ".join(parts) + "}"
