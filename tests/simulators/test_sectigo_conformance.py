"""The simulator against what is not ours: a generator of requests from the description, and a foreign client."""

from __future__ import annotations

import json
import subprocess
from collections import defaultdict
from pathlib import Path
from typing import Any

import httpx

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
