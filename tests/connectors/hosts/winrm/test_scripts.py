"""Scripts on a Windows host, by pypsrp over the simulated WinRM: what works, what goes wrong, what is never told."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from connectors.cures import cure
from connectors.endpoints.iis import scripts
from connectors.errors import ConnectorError, Permanent, Retryable
from connectors.hosts.contract import Host, RunsScripts, Script, ScriptValue, SecretText
from connectors.hosts.winrm import CONNECTOR, session
from connectors.registry import Surroundings, find, open_endpoint
from connectors.secrets import resolve
from tests.simulators.winrm import Fault, WinrmSimulator
from tests.simulators.winrm.simulator import JEA

SOON = timedelta(seconds=20)
HOSTILE = ["'; Remove-Item C:\\ -Recurse #", "$(calc.exe)", '"`n& calc', "two\nlines", "_x0041_ \u0001 \U0001f512", "…"]


@pytest.fixture(scope="module")
def simulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WinrmSimulator]:
    with WinrmSimulator(tmp_path_factory.mktemp("windows")) as simulator:
        yield simulator
        assert simulator.service.broken is None, simulator.service.broken


@pytest.fixture(autouse=True)
def nothing_stays(simulator: WinrmSimulator) -> Iterator[None]:
    simulator.windows.calls.clear()
    yield
    simulator.faults.forget()


def opened(settings: dict[str, Any], **changes: Any) -> RunsScripts:
    surroundings = Surroundings(home=Path("/"), secret=resolve)
    return CONNECTOR.open(CONNECTOR.configure({**settings, **changes}), surroundings)


@contextmanager
def moments(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The host answers at once or never: nobody waits for the usual seconds."""
    monkeypatch.setattr(session, "HELD_SECONDS", 1)
    yield


async def all_deleted(simulator: WinrmSimulator) -> None:
    """Wait until no session is left."""
    while simulator.shells.open:
        await asyncio.sleep(0.005)


# What works.


async def test_a_script_gives_its_objects(simulator: WinrmSimulator) -> None:
    host = opened(simulator.settings)
    assert isinstance(host, RunsScripts)
    assert not isinstance(host, Host)
    assert host.address == "127.0.0.1"
    assert await host.run_script(scripts.GET_SERVER, {}, timeout=SOON) == [{"Build": 20348, "Running": True}]


async def test_scripts_that_follow_each_other_use_one_session_which_ends_with_the_host(
    simulator: WinrmSimulator,
) -> None:
    host, opened_before = opened(simulator.settings), simulator.shells.opened
    for _ in range(3):
        await host.run_script(scripts.GET_SERVER, {}, timeout=SOON)
        with pytest.raises(Permanent):
            await host.run_script(scripts.GET_CERTIFICATE, {"Site": "x", "Information": "x"}, timeout=SOON)
    assert simulator.shells.opened == opened_before + 1
    del host
    await all_deleted(simulator)


async def test_a_session_that_the_host_deleted_meanwhile_is_opened_anew(simulator: WinrmSimulator) -> None:
    host = opened(simulator.settings)
    for _ in range(2):
        await host.run_script(scripts.GET_SERVER, {}, timeout=SOON)
        simulator.shells.wake()  # somebody ends all sessions
    assert len(simulator.windows.calls) == 2


async def test_a_session_that_was_idle_for_long_is_not_used_again(
    simulator: WinrmSimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    host, before = opened(simulator.settings), simulator.shells.opened
    await host.run_script(scripts.GET_SERVER, {}, timeout=SOON)
    monkeypatch.setattr(session, "KEPT_SECONDS", -1)
    await host.run_script(scripts.GET_SERVER, {}, timeout=SOON)
    assert simulator.shells.opened == before + 2


async def test_what_a_script_did_stands_when_the_session_breaks_after_it(simulator: WinrmSimulator) -> None:
    host = opened(simulator.settings)
    simulator.inject(Fault.CUT_AT_END)
    for _ in range(2):
        assert await host.run_script(scripts.GET_SERVER, {}, timeout=SOON)


@pytest.mark.parametrize("value", HOSTILE)
async def test_values_arrive_as_they_are_and_as_nothing_but_values(simulator: WinrmSimulator, value: str) -> None:
    host = opened(simulator.settings)
    with pytest.raises(Permanent, match="The site has no such https binding"):
        await host.run_script(scripts.GET_CERTIFICATE, {"Site": value, "Information": value}, timeout=SOON)
    [call] = simulator.windows.calls
    assert call.parameters == {"Site": value, "Information": value}


async def test_every_type_of_value_arrives(simulator: WinrmSimulator) -> None:
    """Bytes, a secret, a list and more than one fragment; the simulator checks the types against the script's own."""
    host, pfx = opened(simulator.settings), bytes(range(256)) * 4000
    given: dict[str, ScriptValue] = {
        "Pfx": pfx,
        "Password": SecretText("p\u00e4ss…"),
        "Thumbprint": "0" * 40,
        "FriendlyName": "certgate x",
        "Store": "My",
        "Intermediate": [],
    }
    with pytest.raises(Permanent, match="The specified network password is not correct"):
        await host.run_script(scripts.IMPORT_CERTIFICATE, given, timeout=SOON)
    [call] = simulator.windows.calls
    assert call.parameters == {**given, "Password": "p\u00e4ss…"}


async def test_some_at_once(simulator: WinrmSimulator) -> None:
    host = opened(simulator.settings)
    await asyncio.gather(*(host.run_script(scripts.GET_SERVER, {}, timeout=SOON) for _ in range(4)))
    assert len(simulator.windows.calls) == 4
    del host
    await all_deleted(simulator)


async def test_without_tls_every_message_is_encrypted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By NTLM, whose other side is pyspnego's own."""
    with WinrmSimulator(tmp_path, tls=False) as plain:
        monkeypatch.setenv("NTLM_USER_FILE", str(plain.ntlm_user_file))
        host = opened(plain.settings)
        assert await host.run_script(scripts.GET_SERVER, {}, timeout=SOON)
        assert plain.service.in_the_clear == 0
        wrong = tmp_path / "wrong"
        wrong.touch(0o600)
        wrong.write_text("not it")
        with pytest.raises(Permanent, match="refused the sign-in"):
            await opened(plain.settings, password=f"file:{wrong}").run_script(scripts.GET_SERVER, {}, timeout=SOON)
        assert plain.service.broken is None


async def test_a_gateway_signs_in_by_its_certificate(simulator: WinrmSimulator, tmp_path: Path) -> None:
    settings = simulator.settings_by_certificate
    assert await opened(settings).run_script(scripts.GET_SERVER, {}, timeout=SOON)
    none = {**settings, "key_file": str(tmp_path / "none.pem")}
    with pytest.raises(Permanent, match=r"none\.pem"):
        await opened(none).run_script(scripts.GET_SERVER, {}, timeout=SOON)


async def test_a_jea_session_calls_functions_and_sends_no_script(simulator: WinrmSimulator) -> None:
    host = opened(simulator.settings, configuration_name=JEA)
    nonsense = Script("Get-CertgateServer", "this text is never sent")
    assert await host.run_script(nonsense, {}, timeout=SOON)
    with pytest.raises(Permanent, match="'Get-Process' is not recognized"):
        await host.run_script(Script("Get-Process", ""), {}, timeout=SOON)


# What goes wrong.


async def test_a_script_that_fails_is_told_in_its_own_words(simulator: WinrmSimulator) -> None:
    host = opened(simulator.settings)
    with pytest.raises(Permanent) as caught:
        await host.run_script(scripts.GET_CERTIFICATE, {"Site": "No", "Information": "*:443:"}, timeout=SOON)
    words = "Get-CertgateCertificate failed on 127.0.0.1: The site has no such https binding any more, or several."
    assert caught.value.message == words


async def test_a_script_that_nobody_knows_and_parameters_that_it_does_not_take(simulator: WinrmSimulator) -> None:
    host = opened(simulator.settings)
    with pytest.raises(Permanent, match="does not know this script"):
        await host.run_script(Script("X", scripts.GET_SERVER.text + " "), {}, timeout=SOON)
    with pytest.raises(Permanent, match="matches parameter name 'Nonsense'"):
        await host.run_script(scripts.GET_SERVER, {"Nonsense": "1"}, timeout=SOON)
    with pytest.raises(Permanent, match="missing mandatory parameters: Information"):
        await host.run_script(scripts.GET_CERTIFICATE, {"Site": "x"}, timeout=SOON)
    assert simulator.windows.calls == []


@pytest.mark.parametrize(
    ("fault", "kind", "told"),
    [
        (Fault.QUOTA, Retryable, "as many sessions of WEB-1.certgate as it allows"),
        (Fault.NO_SESSION, Permanent, "gives this account no session: access is denied"),
        (Fault.CUT_BEFORE, Retryable, "could not be reached"),
        (Fault.CUT_AFTER, Retryable, "could not be reached"),
        (Fault.KILLED, Retryable, "ended the session: The request for the Windows Remote Shell"),
        (Fault.NOT_XML, Retryable, "answered with HTTP status 502 where WinRM was expected"),
    ],
)
async def test_faults_of_the_transport(
    simulator: WinrmSimulator, fault: Fault, kind: type[ConnectorError], told: str
) -> None:
    host = opened(simulator.settings)
    simulator.inject(fault)
    with pytest.raises(kind, match=told) as caught:
        await host.run_script(scripts.GET_SERVER, {}, timeout=SOON)
    assert simulator.password not in caught.value.message
    assert cure(caught.value.message, kind)
    assert len(simulator.windows.calls) == (1 if fault is Fault.CUT_AFTER else 0)
    if isinstance(caught.value, Retryable) and fault is Fault.QUOTA:
        assert caught.value.after == timedelta(minutes=1)
    assert await host.run_script(scripts.GET_SERVER, {}, timeout=SOON)


async def test_a_sign_in_that_is_refused(simulator: WinrmSimulator, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong"
    wrong.touch(0o600)
    wrong.write_text("hunter2")
    host = opened(simulator.settings, password=f"file:{wrong}")
    with pytest.raises(Permanent, match=r"refused the sign-in of WEB-1.certgate by basic") as caught:
        await host.run_script(scripts.GET_SERVER, {}, timeout=SOON)
    assert "hunter2" not in caught.value.message
    assert "credential" in cure(caught.value.message)
    host = opened(simulator.settings, password=f"file:{tmp_path / 'none'}")
    with pytest.raises(Permanent, match="can't be read"):
        await host.run_script(scripts.GET_SERVER, {}, timeout=SOON)


async def test_a_certificate_that_nobody_vouches_for(simulator: WinrmSimulator, tmp_path: Path) -> None:
    """Nothing is sent there, the password least of all."""
    host = opened({name: value for name, value in simulator.settings.items() if name != "ca_file"})
    with pytest.raises(Permanent, match=r"TLS certificate of 127.0.0.1 .* can't be verified"):
        await host.run_script(scripts.GET_SERVER, {}, timeout=SOON)
    host = opened(simulator.settings, ca_file=str(tmp_path / "none.pem"))
    with pytest.raises(Permanent, match=r"none\.pem"):
        await host.run_script(scripts.GET_SERVER, {}, timeout=SOON)
    assert simulator.windows.calls == []


async def test_a_host_that_is_not_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    host = opened({"address": "127.0.0.1", "port": port, "tls": False})
    with pytest.raises(Retryable, match=f"port {port}.* could not be reached: .*refused"):
        await host.run_script(scripts.GET_SERVER, {}, timeout=SOON)


async def test_a_host_that_never_answers(simulator: WinrmSimulator, monkeypatch: pytest.MonkeyPatch) -> None:
    host = opened(simulator.settings, answer_timeout_seconds=0.2)
    simulator.inject(Fault.SILENT)
    with moments(monkeypatch), pytest.raises(Retryable, match=r"did not answer within 0\.2 s"):
        await host.run_script(scripts.GET_SERVER, {}, timeout=SOON)


async def test_a_script_that_does_not_end_is_stopped(
    simulator: WinrmSimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = opened(simulator.settings)
    simulator.inject(Fault.ENDLESS)
    with moments(monkeypatch), pytest.raises(Retryable, match=r"did not end within 0\.5 s .* and was stopped"):
        await host.run_script(scripts.GET_SERVER, {}, timeout=timedelta(seconds=0.5))
    assert simulator.shells.running == 0


async def test_a_cancelled_script_has_ended_before_the_cancellation_comes_back(
    simulator: WinrmSimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = opened(simulator.settings)
    simulator.inject(Fault.ENDLESS)
    with moments(monkeypatch):
        task = asyncio.create_task(host.run_script(scripts.GET_SERVER, {}, timeout=SOON))
        while simulator.shells.running == 0:
            await asyncio.sleep(0.005)
        task.cancel()
        await asyncio.sleep(0)
        task.cancel()  # whoever is impatient
        with pytest.raises(asyncio.CancelledError):
            await task
    assert simulator.shells.running == 0


async def test_a_redirect_is_not_followed(simulator: WinrmSimulator) -> None:
    """Whoever answers could otherwise have the sign-in elsewhere."""
    other = socket.create_server(("127.0.0.1", 0))
    with other:
        answer = (
            b"HTTP/1.1 307 Temporary Redirect\r\nLocation: https://127.0.0.1:%d/wsman\r\nContent-Length: 0\r\n\r\n"
            % simulator.service.port
        )

        def redirect() -> None:
            connection, _ = other.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(answer)

        thread = threading.Thread(target=redirect, daemon=True)
        thread.start()
        host = opened({"address": "127.0.0.1", "port": other.getsockname()[1], "tls": False})
        with pytest.raises(Permanent, match="redirects"):
            await host.run_script(scripts.GET_SERVER, {}, timeout=SOON)
        thread.join()


async def test_nonsense_in_place_of_objects(simulator: WinrmSimulator) -> None:
    class Nonsense:
        content = b"<not-an-envelope/>"

    host = opened(simulator.settings)
    simulator.service.instead = Nonsense.content
    try:
        with pytest.raises(Permanent):
            await host.run_script(scripts.GET_SERVER, {}, timeout=SOON)
    finally:
        simulator.service.instead = None


# What is never told.


async def test_no_secret_is_logged_even_where_everything_is(
    simulator: WinrmSimulator, caplog: pytest.LogCaptureFixture
) -> None:
    host = opened(simulator.settings)
    given: dict[str, ScriptValue] = {
        "Pfx": b"the private key",
        "Password": SecretText("one-time-password"),
        "Thumbprint": "0" * 40,
        "FriendlyName": "certgate x",
        "Store": "My",
    }
    for name in (None, "pypsrp", "pypsrp.wsman", "pypsrp.messages", "urllib3", "spnego"):
        caplog.set_level(logging.DEBUG, logger=name)
    with pytest.raises(Permanent) as caught:
        await host.run_script(scripts.IMPORT_CERTIFICATE, given, timeout=SOON)
    text = caplog.text + caught.value.message + repr(given["Password"])
    assert "pypsrp" in caplog.text  # which does log
    for secret in ("one-time-password", "dGhlIHByaXZhdGUga2V5", "the private key", simulator.password):
        assert secret not in text


async def test_a_secret_that_windows_quotes_is_taken_out(
    simulator: WinrmSimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    def quoting(script: str, parameters: dict[str, Any]) -> None:
        raise ValueError(f"The password {parameters['Password']} is bad.")

    monkeypatch.setattr(simulator.windows, "run", quoting)
    host = opened(simulator.settings)
    given: dict[str, ScriptValue] = {
        "Pfx": b"x",
        "Password": SecretText("one-time-password"),
        "Thumbprint": "0" * 40,
        "FriendlyName": "certgate x",
        "Store": "My",
    }
    with pytest.raises(Permanent, match="The password … is bad"):
        await host.run_script(scripts.IMPORT_CERTIFICATE, given, timeout=SOON)


# What it is for.


def test_a_type_that_needs_files_is_told_so() -> None:
    settings = {"address": "web-1"}
    surroundings = Surroundings(home=Path("/"), secret=resolve)
    with pytest.raises(Permanent, match="nginx can't be connected by winrm"):
        open_endpoint("nginx", {}, "winrm", settings, surroundings)
    with pytest.raises(Permanent, match="IIS can't be connected by local; choose winrm"):
        open_endpoint("iis", {}, "local", {}, surroundings)
    with_scripts = replace(surroundings, host=opened(settings))
    with pytest.raises(Permanent, match="nginx needs files and commands on web-1"):
        find("endpoints", "nginx").open(find("endpoints", "nginx").configure({}), with_scripts)
    with pytest.raises(Permanent, match="its connection must be winrm"):
        find("endpoints", "iis").open(find("endpoints", "iis").configure({}), surroundings)
