"""The simulated Windows server as a program, and to a client that knows nothing of certgate."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import ssl
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from pypsrp.exceptions import AuthenticationError, WSManFaultError
from pypsrp.powershell import PowerShell, RunspacePool
from pypsrp.wsman import WSMan

from cli import main
from connectors.endpoints.iis import scripts
from connectors.registry import Surroundings, open_endpoint
from connectors.secrets import resolve
from tests.simulators.winrm import WinrmSimulator
from tests.simulators.winrm.faults import USUAL, Fault, Faults
from tests.simulators.winrm.simulator import USER
from tests.support.programs import program

IDENTIFY = (
    b'<s:Envelope xmlns:s="http://www.w3.org/2003/05/soap-envelope" '
    b'xmlns:wsmid="http://schemas.dmtf.org/wbem/wsman/identify/1/wsmanidentity.xsd">'
    b"<s:Header/><s:Body><wsmid:Identify/></s:Body></s:Envelope>"
)


@pytest.fixture(scope="module")
def simulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WinrmSimulator]:
    with WinrmSimulator(tmp_path_factory.mktemp("windows")) as simulator:
        yield simulator
        assert simulator.service.broken is None


def connected(simulator: WinrmSimulator, password: str | None = None) -> WSMan:
    return WSMan(
        "127.0.0.1",
        port=simulator.service.port,
        username=USER,
        password=password or simulator.password,
        auth="basic",
        cert_validation=simulator.settings["ca_file"],
        no_proxy=True,
    )


async def test_the_program_says_how_it_is_reached_and_ends_when_it_is_told(tmp_path: Path) -> None:
    command = [program("certgate"), "simulate", "winrm", "--faults", "off"]
    process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert process.stdout is not None
    try:
        told = json.loads(await process.stdout.readline())
        names = ("address", "port", "username", "password", "ca_file", "authentication", "configuration_name")
        connection = {name: told[name] for name in names}
        surroundings = Surroundings(home=tmp_path, secret=resolve)
        endpoint = open_endpoint("iis", {}, "winrm", connection, surroundings)
        assert [binding.id for binding in await endpoint.discover()] == told["bindings"]
    finally:
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0
    assert not Path(told["ca_file"]).exists()


def test_a_port_that_is_taken_and_a_seed_that_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert main.run(["simulate", "winrm", "--port", port]) == 1
    assert f"can't listen on port {port}" in capsys.readouterr().err
    assert main.run(["simulate", "winrm", "--faults", "many"]) == 2
    assert "--faults takes the word off" in capsys.readouterr().err


def test_it_identifies_itself_to_whoever_signs_in(simulator: WinrmSimulator) -> None:
    address = f"https://127.0.0.1:{simulator.service.port}/wsman"
    context = ssl.create_default_context(cafile=simulator.settings["ca_file"])
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context))
    with pytest.raises(urllib.error.HTTPError) as refused:
        opener.open(urllib.request.Request(address, IDENTIFY))
    assert refused.value.code == 401
    refused.value.close()
    passwords = urllib.request.HTTPPasswordMgrWithDefaultRealm()
    passwords.add_password(None, address, USER, simulator.password)
    opener.add_handler(urllib.request.HTTPBasicAuthHandler(passwords))
    with opener.open(urllib.request.Request(address, IDENTIFY)) as answer:
        assert b"Microsoft Corporation" in answer.read()


def test_pypsrp_alone_opens_a_pool_and_runs_several_pipelines_in_it(simulator: WinrmSimulator) -> None:
    with connected(simulator) as wsman, RunspacePool(wsman) as pool:
        for _ in range(2):
            pipeline = PowerShell(pool)
            pipeline.add_script(scripts.GET_SERVER.text)
            [found] = pipeline.invoke()
            assert found.extended_properties == {"Build": 20348, "Running": True}
            assert not pipeline.had_errors
            pipeline.close()
        assert pool.protocol_version == "2.3"
        failing = PowerShell(pool)
        failing.add_script("Get-Process")
        failing.invoke()
        assert failing.had_errors
        assert "does not know this script" in str(failing.streams.error[0])
    assert simulator.shells.open == 0


def test_faults_have_windows_own_codes(simulator: WinrmSimulator) -> None:
    with connected(simulator, "wrong") as wsman, pytest.raises(AuthenticationError):
        RunspacePool(wsman).open()
    simulator.inject(Fault.QUOTA)
    with connected(simulator) as wsman, pytest.raises(WSManFaultError) as caught:
        RunspacePool(wsman).open()
    assert caught.value.code == 2150859174
    with connected(simulator) as wsman:
        pool = RunspacePool(wsman)
        pool.open()
        simulator.shells.wake()  # somebody ends all sessions
        with pytest.raises(WSManFaultError) as caught:
            pool.close()
        assert caught.value.code == 2150858843
        with pytest.raises(WSManFaultError) as caught:
            wsman.get_server_config()
        assert str(caught.value.reason).endswith("is not supported.")


def test_the_same_seed_brings_the_same_faults() -> None:
    def drawn(seed: int) -> list[Fault | None]:
        faults = Faults(seed)
        return [faults.take(None, *USUAL) for _ in range(200)]

    assert drawn(1) == drawn(1) != drawn(2)
    assert 1 <= sum(fault is not None for fault in drawn(1)) <= 40
    assert Faults().take(None, *USUAL) is None
