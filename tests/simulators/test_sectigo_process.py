"""The simulator as a program: in a process of its own for tests, and as ``certgate simulate sectigo``."""

from __future__ import annotations

import json
import signal
import socket
import ssl
import subprocess
import urllib.error
import urllib.request
from pathlib import Path

import httpx
import pytest

from cli import main, simulate
from tests.simulators.sectigo import Approval, Fault, Faults, Problem, SimulatorProcess, Wrong
from tests.simulators.sectigo.remote import Address
from tests.simulators.support import order
from tests.support.programs import program


def signed_in(address: Address) -> httpx.Client:
    """A client with what the program printed."""
    headers = {"login": address.login, "password": address.password, "customerUri": address.customer_uri}
    context = ssl.create_default_context(cafile=address.ca_file)
    return httpx.Client(verify=context, headers=headers, base_url=address.base_url)


def test_a_process_of_its_own_is_controlled_from_here() -> None:
    with SimulatorProcess.start(faults="off") as ca, signed_in(ca.address) as http:
        ca.faults = Faults(approval=Approval.MANUAL, issue_polls=(0, 0))
        assert ca.faults == Faults(approval=Approval.MANUAL)
        ca.inject(Fault.CUT_AFTER, on="enroll")
        with pytest.raises(httpx.RemoteProtocolError):
            http.post("/ssl/v1/enroll", json=order())
        [placed] = ca.orders
        assert (placed.status, ca.requests["enroll"]) == ("Requested", 1)
        ca.approve(placed.id)
        with pytest.raises(Problem, match="can't be approved"):
            ca.approve(placed.id)
        assert http.get(f"/ssl/v1/collect/{placed.id}/pem").status_code == 200
        assert ca.order(placed.id).certificate_pem in ca.certificates
        ca.fair_weather()
        ca.issue_wrongly(Wrong.EXPIRED)
        expired = http.post("/ssl/v1/enroll", json=order()).json()["sslId"]
        assert http.get(f"/ssl/v1/{expired}").json()["status"] == "Expired"
        ca.revoke(placed.id, "1")
        assert ca.order(placed.id).reason_code == "1"


def test_the_control_path_wants_its_own_secret() -> None:
    with SimulatorProcess.start(faults="off") as ca:
        context = ssl.create_default_context(cafile=str(ca.ca_file))
        for verb, secret, status in [("orders", ca.password, 401), ("nothing", ca.address.control_secret, 404)]:
            request = urllib.request.Request(
                f"{ca.address.control_url}{verb}", b"{}", {"x-control-secret": secret}, method="POST"
            )
            with pytest.raises(urllib.error.HTTPError) as told:
                urllib.request.urlopen(request, context=context)
            told.value.close()
            assert told.value.code == status


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGINT])
def test_the_command_prints_how_to_use_it_and_serves_until_it_is_stopped(ending: signal.Signals) -> None:
    command = [program("certgate"), "simulate", "sectigo", "--faults", "off"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        address = Address(**json.loads(process.stdout.readline()))
        assert Path(address.password_file).read_text() == address.password
        assert Path(address.password_file).stat().st_mode & 0o077 == 0
        with signed_in(address) as http:
            placed = http.post("/ssl/v1/enroll", json=order()).json()["sslId"]
            assert http.get(f"/ssl/v2/collect/{placed}").status_code == 200
        process.send_signal(ending)
        rest, told = process.communicate(timeout=60)
    assert (process.returncode, rest) == (0, "")
    assert "Ctrl-C" in told
    assert not Path(address.ca_file).exists()


def test_wrong_usage(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert main.run(["simulate", "sectigo", "--faults", "some"]) == 2
    assert "whole number" in capsys.readouterr().err
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert main.run(["simulate", "sectigo", "--port", port]) == 1
    assert f"can't listen on port {port}" in capsys.readouterr().err
    monkeypatch.setattr(simulate, "TREE", tmp_path)
    assert main.run(["simulate", "sectigo"]) == 1
    assert "source tree" in capsys.readouterr().err
