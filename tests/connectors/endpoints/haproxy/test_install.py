"""Installs on a real HAProxy: both ways into use, what its own check does not see, how its files may stand."""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from connectors.endpoints.contract import Activation, Verification
from connectors.endpoints.haproxy import endpoint as haproxy_endpoint
from connectors.errors import Permanent, RestoreFailed, Retryable, RolledBack, Step
from tests.support.haproxy import DisposableHAProxy
from tests.support.installing import ThrowawayAuthority, fingerprint_of, fingerprint_of_file, trace
from tests.support.products import Fault, Installation
from tests.support.serving import Server
from worker.playground import free_port


@pytest.fixture
def stopped(tmp_path: Path) -> Iterator[DisposableHAProxy]:
    haproxy = DisposableHAProxy(tmp_path / "haproxy")
    yield haproxy
    haproxy.stop()


@pytest.fixture
def haproxy(stopped: DisposableHAProxy) -> DisposableHAProxy:
    stopped.start()
    return stopped


@pytest.fixture
def place(stopped: DisposableHAProxy, tmp_path: Path) -> Installation:
    return Installation(stopped, tmp_path / "home")


def workers(haproxy: DisposableHAProxy) -> list[int]:
    assert haproxy.pid is not None
    return [one.pid for one in psutil.Process(haproxy.pid).children()]


async def test_its_own_signal_and_owner_and_mode(
    haproxy: DisposableHAProxy, place: Installation, authority: ThrowawayAuthority
) -> None:
    site, other = haproxy.sites
    if os.geteuid() == 0:
        os.chown(site.certificate, 65534, 65534)
    site.certificate.chmod(0o440)
    before, other_before, master, old = trace(site.certificate), trace(other.certificate), haproxy.pid, workers(haproxy)
    material = authority.issue("a.example")
    report = await place.install(material, reload_command=None)
    assert Step("activate", "done") in report.steps
    after = trace(site.certificate)
    assert (after.owner, after.group, after.mode) == (before.owner, before.group, before.mode)
    content = site.certificate.read_text()
    assert content.startswith(material.certificate_pem + material.chain_pem[0])
    assert material.private_key_pem is not None
    assert content.endswith(material.private_key_pem.decode())
    assert "\n\n" not in content
    assert trace(other.certificate) == other_before
    assert await place.served(f"b.example.pem:{haproxy.port}") == [fingerprint_of_file(other.certificate)]
    assert haproxy.pid == master
    assert not set(old) & set(workers(haproxy))


def tcp(haproxy: DisposableHAProxy) -> tuple[dict[str, Any], Fault | None]:
    port = free_port()
    text = haproxy.configuration.read_text()
    haproxy.configuration.write_text(
        text.replace("    stats socket", f"    stats socket 127.0.0.1:{port} level admin\n    stats socket")
    )
    return {"runtime_socket": f"127.0.0.1:{port}"}, None


@pytest.mark.parametrize(
    "way", [lambda _: ({}, None), tcp, lambda _: ({}, Fault())], ids=["on this machine", "TCP", "socat"]
)
async def test_at_runtime_nothing_is_reloaded_and_the_file_is_written(
    stopped: DisposableHAProxy,
    place: Installation,
    authority: ThrowawayAuthority,
    way: Callable[[DisposableHAProxy], tuple[dict[str, Any], Fault | None]],
) -> None:
    settings, fault = way(stopped)
    stopped.start()
    before, material = workers(stopped), authority.issue("a.example")
    report = await place.install(material, fault=fault, update="runtime", **settings)
    (activated,) = [step.outcome for step in report.steps if step.name == "activate"]
    assert activated.startswith("done: Transaction created for certificate")
    assert "Success!" in activated
    assert workers(stopped) == before
    assert await place.served() == [fingerprint_of(material)]
    # This is what brings the old one back where only the process was told.
    stopped.reload()
    assert await place.served() == [fingerprint_of(material)]


async def test_a_transaction_that_was_left_open(
    haproxy: DisposableHAProxy, place: Installation, authority: ThrowawayAuthority
) -> None:
    """By a process that died; it is of our own file, and what it would have committed is forgotten."""
    path = haproxy.sites[0].certificate
    left = haproxy.say(f"set ssl cert {path} <<\n{haproxy.sites[1].certificate.read_text()}\n")
    assert "Transaction created" in left
    material = authority.issue("a.example")
    await place.install(material, update="runtime")
    assert await place.served() == [fingerprint_of(material)]
    assert "# transaction" not in haproxy.say("show ssl cert")


async def test_another_transaction_is_not_mixed_up_with_ours(
    haproxy: DisposableHAProxy, place: Installation, authority: ThrowawayAuthority
) -> None:
    """HAProxy would change the open one, whichever file is named."""
    other = haproxy.sites[1].certificate
    haproxy.say(f"set ssl cert {other} <<\n{other.read_text()}\n")
    before = await place.state()
    with pytest.raises(RolledBack, match=f"Somebody else is changing {other} .*abort ssl cert"):
        await place.install(authority.issue("a.example"), update="runtime")
    assert await place.state() == before
    assert "Success!" in haproxy.say(f"commit ssl cert {other}")
    assert await place.served(f"b.example.pem:{haproxy.port}") == [fingerprint_of_file(other)]


@pytest.mark.parametrize("fault", [None, Fault()], ids=["on this machine", "socat"])
async def test_blank_lines_in_a_file_that_is_put_back(
    haproxy: DisposableHAProxy, place: Installation, authority: ThrowawayAuthority, fault: Fault | None
) -> None:
    """A payload would end at the first of them."""
    material, path = authority.issue("a.example"), haproxy.sites[0].certificate
    assert material.private_key_pem is not None
    parts = ["subject=/CN=a.example", material.certificate_pem, *material.chain_pem, material.private_key_pem.decode()]
    path.write_text("\n\n \n".join(parts))
    (binding, _) = await place.endpoint.discover()
    activated = await place.opened(fault, update="runtime").activate(binding.places[0])
    assert activated.proof is Activation.IN_EFFECT
    assert await place.served() == [fingerprint_of(material)]


@pytest.mark.parametrize("update", ["reload", "runtime"])
async def test_a_key_beside(
    stopped: DisposableHAProxy, place: Installation, authority: ThrowawayAuthority, update: str
) -> None:
    path = stopped.sites[0].certificate
    key = Path(f"{path}.key")
    certificate, begin, block = path.read_text().partition("-----BEGIN PRIVATE KEY")
    path.write_text(certificate)
    key.write_text(begin + block)
    key.chmod(0o600)
    stopped.start()
    material = authority.issue("a.example")
    await place.install(material, update=update)
    assert await place.served() == [fingerprint_of(material)]
    assert key.read_bytes() == material.private_key_pem
    assert "PRIVATE" not in path.read_text()
    stopped.reload()
    assert (await place.install(material, update=update)).already


@pytest.mark.parametrize("update", ["reload", "runtime"])
async def test_a_stapled_response_of_the_old_certificate_does_no_harm(
    haproxy: DisposableHAProxy, place: Installation, authority: ThrowawayAuthority, update: str
) -> None:
    """HAProxy leaves it out; it is for another certificate."""
    old, new = authority.issue("a.example"), authority.issue("a.example")
    await place.install(old)
    Path(f"{haproxy.sites[0].certificate}.ocsp").write_bytes(authority.vouch(old))
    haproxy.reload()
    await place.install(new, update=update)
    assert await place.served() == [fingerprint_of(new)]


async def test_rsa_and_ecdsa_side_by_side(
    stopped: DisposableHAProxy, place: Installation, authority: ThrowawayAuthority
) -> None:
    site = stopped.sites[0]
    old = authority.issue("a.example", key=rsa.generate_private_key(65537, 2048))
    assert old.private_key_pem is not None
    site.certificate.rename(f"{site.certificate}.ecdsa")
    Path(f"{site.certificate}.rsa").write_text(old.certificate_pem + old.private_key_pem.decode())
    stopped.start()
    for key, untouched in (
        (rsa.generate_private_key(65537, 2048), "ecdsa"),
        (ec.generate_private_key(ec.SECP256R1()), "rsa"),
    ):
        for update in ("reload", "runtime"):
            before = trace(Path(f"{site.certificate}.{untouched}"))
            material = authority.issue("a.example", key=key)
            report = await place.install(material, update=update)
            assert (report.already, report.verification) == (False, Verification.MATCH)
            assert (await place.install(material)).already
            assert trace(Path(f"{site.certificate}.{untouched}")) == before


async def test_broken_before_is_left_alone(
    haproxy: DisposableHAProxy, place: Installation, authority: ThrowawayAuthority
) -> None:
    """Be it a key that does not belong to its certificate, in another file."""
    other = haproxy.sites[1].certificate
    first, second = authority.issue("b.example"), authority.issue("b.example")
    assert second.private_key_pem is not None
    other.write_text(first.certificate_pem + second.private_key_pem.decode())
    before = await place.state()
    with pytest.raises(Permanent, match=f"refuses its configuration: .*inconsistencies .*{other}") as caught:
        await place.install(authority.issue("a.example"))
    assert type(caught.value) is Permanent
    assert await place.state() == before


async def test_a_reload_that_haproxy_gives_up_is_put_back(
    haproxy: DisposableHAProxy, place: Installation, authority: ThrowawayAuthority
) -> None:
    """A port that is taken is nothing that its check looks at; the master goes on with the worker that it has."""
    before, text = await place.state(), haproxy.configuration.read_text()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        haproxy.configuration.write_text(f"{text}frontend taken\n    bind 127.0.0.1:{port}\n")
        with pytest.raises(RolledBack, match="did not start a new worker within 1 s") as caught:
            await place.install(authority.issue("a.example"), reload_timeout_seconds=1)
        assert caught.value.served == before.served[0]
        assert await place.state() == before
    haproxy.configuration.write_text(text)
    material = authority.issue("a.example")
    await place.install(material)
    assert await place.served() == [fingerprint_of(material)]


async def test_an_order_that_was_lost_is_given_again(
    haproxy: DisposableHAProxy, place: Installation, authority: ThrowawayAuthority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As HAProxy loses one that comes right after another reload; here the first is dropped for sure."""
    monkeypatch.setattr(haproxy_endpoint, "AGAIN_SECONDS", 0.2)
    seen, material = haproxy.folder / "seen", authority.issue("a.example")
    script = 'if [ -e "$0" ]; then kill -USR2 $(cat "$1"); else touch "$0"; fi'
    command = ["sh", "-c", script, str(seen), str(haproxy.pid_file)]
    report = await place.install(material, reload_command=command)
    assert Step("activate", "done") in report.steps
    assert seen.exists()
    assert await place.served() == [fingerprint_of(material)]


async def test_haproxy_ends_in_the_reload(
    haproxy: DisposableHAProxy, place: Installation, authority: ThrowawayAuthority
) -> None:
    before = [trace(path) for path in haproxy.files()]
    command = ["sh", "-c", f"kill -TERM {haproxy.pid}"]
    with pytest.raises(RestoreFailed, match=r"ended during the reload.*does not run any more.*start it"):
        await place.install(authority.issue("a.example"), reload_command=command, reload_timeout_seconds=1)
    assert [trace(path) for path in haproxy.files()] == before
    haproxy.start()
    report = await place.install(authority.issue("a.example"))
    assert Step("recover", "an interrupted install was put back") in report.steps
    assert place.leftovers() == []


async def test_a_request_that_takes_long_is_not_cut_off(
    haproxy: DisposableHAProxy, place: Installation, authority: ThrowawayAuthority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(haproxy_endpoint, "LINGER_SECONDS", 0.2)
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    material, (old,) = authority.issue("a.example"), workers(haproxy)
    with (
        socket.create_connection(("127.0.0.1", haproxy.port), timeout=20) as plain,
        context.wrap_socket(plain, server_hostname="a.example") as tls,
    ):
        tls.sendall(b"GET / HTTP/1.1\r\n")
        report = await place.install(material)
        assert Step("activate", "requested") in report.steps
        assert psutil.pid_exists(old)
        tls.sendall(b"Host: a.example\r\nConnection: close\r\n\r\n")
        assert tls.recv(4096).startswith(b"HTTP/1.1 200")
    assert await place.served() == [fingerprint_of(material)]


async def test_what_can_not_be_done(
    stopped: DisposableHAProxy, place: Installation, authority: ThrowawayAuthority, tmp_path: Path
) -> None:
    """Without a master no signal reloads; without a socket, or one where nobody answers, nothing goes at runtime."""
    alone = Server(tmp_path, [stopped.program, "-db", "-f", str(stopped.configuration)])
    alone.start(stopped.socket.exists)
    try:
        stopped.pid_file.write_text(str(alone.pid))
        material = authority.issue("a.example")
        changes: tuple[tuple[dict[str, Any], str], ...] = (
            ({"reload_command": None}, "runs without a master"),
            ({"update": "runtime", "runtime_socket": "/nowhere.sock"}, r"nowhere\.sock can't be reached: No such file"),
            (
                {"update": "runtime", "runtime_socket": f"127.0.0.1:{free_port()}"},
                "can't be reached: Connection refused",
            ),
        )
        for settings, words in changes:
            with pytest.raises(RolledBack, match=words):
                await place.install(material, **settings)
        (binding, _) = await place.endpoint.discover()
        stranger = place.opened(Fault(), update="runtime", runtime_socket="/nowhere.sock")
        with pytest.raises(Retryable, match=r"nowhere\.sock can't be reached: .*No such file"):
            await stranger.activate(binding.places[0])
        stopped.configuration.write_text(stopped.configuration.read_text().replace("level admin", "level operator"))
        with pytest.raises(Permanent, match="no stats socket with level admin"):
            await place.opened(update="runtime").activate(binding.places[0])
        # What it has answers all the same.
        assert await place.served() == [fingerprint_of_file(stopped.sites[0].certificate)]
        await place.install(material, update="runtime", runtime_socket=str(stopped.socket))
        assert await place.served() == [fingerprint_of(material)]
    finally:
        alone.stop()


async def test_a_certificate_that_the_running_process_has_not_loaded(
    haproxy: DisposableHAProxy, place: Installation, authority: ThrowawayAuthority
) -> None:
    new = haproxy.folder / "certificates" / "c.example.pem"
    new.write_bytes(haproxy.sites[0].certificate.read_bytes())
    haproxy.list.write_text(f"{haproxy.list.read_text()}c.example.pem c.example\n")
    with pytest.raises(RolledBack, match=f"has not loaded {new}: reload it once"):
        await place.install(authority.issue("c.example"), f"c.example.pem:{haproxy.port}", update="runtime")
    assert place.leftovers() == []


async def test_a_pid_file_of_another_process(stopped: DisposableHAProxy, place: Installation) -> None:
    stopped.pid_file.write_text(f"{os.getpid()}\n")
    assert not await place.endpoint.running()
    assert not await place.opened(pid_file="/nowhere.pid").running()
