"""Installs on a real Apache: what its own check does not see, what ends it, how its files may stand."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from connectors.endpoints.apache import endpoint as apache_endpoint
from connectors.endpoints.contract import Verification
from connectors.errors import Permanent, RestoreFailed, RolledBack, Step
from tests.support.apache import DisposableApache, virtual_host
from tests.support.installing import ThrowawayAuthority, fingerprint_of, fingerprint_of_file, pem, trace
from tests.support.products import Installation, until
from tests.support.serving import Site


@pytest.fixture
def stopped(tmp_path: Path) -> Iterator[DisposableApache]:
    apache = DisposableApache(tmp_path / "apache")
    yield apache
    apache.stop()


@pytest.fixture
def apache(stopped: DisposableApache) -> DisposableApache:
    stopped.start()
    return stopped


@pytest.fixture
def place(stopped: DisposableApache, tmp_path: Path) -> Installation:
    return Installation(stopped, tmp_path / "home")


async def test_its_own_graceful_restart_and_owner_and_mode(
    apache: DisposableApache, place: Installation, authority: ThrowawayAuthority
) -> None:
    site, other = apache.sites
    if os.geteuid() == 0:
        os.chown(site.key, 65534, 65534)
    site.key.chmod(0o440)
    before, other_before, parent = trace(site.key), trace(other.certificate), apache.pid
    material = authority.issue("a.example")
    report = await place.install(material, reload_command=None)
    assert Step("activate", "done") in report.steps
    after = trace(site.key)
    assert (after.owner, after.group, after.mode) == (before.owner, before.group, before.mode)
    assert site.certificate.read_text() == material.certificate_pem + material.chain_pem[0]
    assert trace(other.certificate) == other_before
    assert await place.served(f"b.example:{apache.port}") == [fingerprint_of_file(other.certificate)]
    assert apache.pid == parent


async def test_a_key_that_does_not_match_anywhere_is_found_before_it_ends_the_server(
    apache: DisposableApache, place: Installation, authority: ThrowawayAuthority
) -> None:
    """At another virtual host than the one that is installed on; Apache itself calls this "Syntax OK"."""
    site, other = apache.sites
    before = trace(site.certificate), trace(site.key)
    wrong = authority.issue("b.example")
    assert wrong.private_key_pem is not None
    other.key.write_bytes(wrong.private_key_pem)
    with pytest.raises(
        Permanent, match=rf"key in {other.key} does not belong .* {other.name}:{apache.port} uses.*AH02565"
    ):
        await place.install(authority.issue("a.example"))
    assert (trace(site.certificate), trace(site.key)) == before
    assert place.leftovers() == []
    assert apache.running()
    # What would have happened.
    await apache_restarted(apache)
    assert "AH02565" in apache.error_log.read_text()
    assert not apache.running()


async def apache_restarted(apache: DisposableApache) -> None:
    """Ordered to, and gone."""
    assert apache.pid is not None
    os.kill(apache.pid, signal.SIGUSR1)
    await asyncio.to_thread(until, lambda: not apache.running(), "Apache ends")


@pytest.mark.parametrize("damage", ["certificate", "nothing"])
async def test_a_certificate_that_is_none(
    apache: DisposableApache, place: Installation, authority: ThrowawayAuthority, damage: str
) -> None:
    apache.sites[1].certificate.write_text("damaged" if damage == "certificate" else "")
    words = {
        "certificate": "there is no certificate in .*b.example.pem",
        "nothing": "refuses its configuration.*b.exam",
    }
    with pytest.raises(Permanent, match=words[damage]):
        await place.install(authority.issue("a.example"))
    assert place.leftovers() == []


async def test_broken_before_is_left_alone(
    apache: DisposableApache, place: Installation, authority: ThrowawayAuthority
) -> None:
    apache.configuration.write_text(apache.configuration.read_text() + "NoSuchDirective 1\n")
    before = await place.state()
    with pytest.raises(Permanent, match=r"refuses its configuration: .*Invalid command 'NoSuchDirective'") as caught:
        await place.install(authority.issue("a.example"))
    assert type(caught.value) is Permanent
    assert await place.state() == before


async def test_apache_ends_in_the_restart(
    apache: DisposableApache, place: Installation, authority: ThrowawayAuthority
) -> None:
    """A port that is taken is nothing that ``-t`` looks at, and Apache does not outlive it."""
    before = [trace(path) for path in apache.files()]
    sound = apache.configuration.read_text()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        apache.configuration.write_text(f"{sound}Listen 127.0.0.1:{port}\n")
        with pytest.raises(RestoreFailed, match=r"in the graceful restart: no listening sockets .* not run any more"):
            await place.install(authority.issue("a.example"))
    assert [trace(path) for path in apache.files()] == before
    apache.configuration.write_text(sound)
    apache.start()
    material = authority.issue("a.example")
    report = await place.install(material)
    assert Step("recover", "an interrupted install was put back") in report.steps
    assert await place.served() == [fingerprint_of(material)]
    assert place.leftovers() == []


async def test_an_order_that_is_taken_and_not_carried_out(
    apache: DisposableApache, place: Installation, authority: ThrowawayAuthority
) -> None:
    """The parent stands still: the order succeeds, and its children serve the old certificate on."""
    before = await place.state()
    assert apache.pid is not None
    os.kill(apache.pid, signal.SIGSTOP)
    try:
        with pytest.raises(RolledBack, match=r"did not change over to new processes within 0\.4 s") as caught:
            await place.install(authority.issue("a.example"), reload_timeout_seconds=0.4)
        assert caught.value.served == before.served[0]
        assert await place.state() == before
    finally:
        os.kill(apache.pid, signal.SIGCONT)
    material = authority.issue("a.example")
    await place.install(material)
    assert await place.served() == [fingerprint_of(material)]


async def test_a_request_that_takes_long_is_not_cut_off(
    apache: DisposableApache, place: Installation, authority: ThrowawayAuthority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its process stays, and takes no new connections: many handshakes in a row are the proof."""
    monkeypatch.setattr(apache_endpoint, "LINGER_SECONDS", 0.2)
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    material = authority.issue("a.example")
    assert apache.pid is not None
    (old,) = psutil.Process(apache.pid).children()
    with (
        socket.create_connection(("127.0.0.1", apache.port), timeout=20) as plain,
        context.wrap_socket(plain, server_hostname="a.example") as tls,
    ):
        tls.sendall(b"GET / HTTP/1.1\r\n")
        report = await place.install(material)
        assert any(step.name == "activate" and step.outcome.startswith("requested") for step in report.steps)
        assert old.is_running()
        tls.sendall(b"Host: a.example\r\nConnection: close\r\n\r\n")
        assert tls.recv(4096).startswith(b"HTTP/1.1 200")
    assert await place.served() == [fingerprint_of(material)]


async def test_certificate_and_key_in_one_file(
    stopped: DisposableApache, place: Installation, authority: ThrowawayAuthority
) -> None:
    site = Site("a.example", stopped.port, stopped.folder / "both.pem", stopped.folder / "both.pem")
    site.fill()
    stopped.write(virtual_host(stopped.port, "a.example", site))
    stopped.start()
    material = authority.issue("a.example")
    await place.install(material)
    assert await place.served() == [fingerprint_of(material)]
    assert material.private_key_pem is not None
    assert site.certificate.read_bytes().endswith(material.private_key_pem)
    assert site.certificate.stat().st_mode & 0o777 == 0o600


async def test_a_chain_of_its_own_and_one_that_is_shared(
    stopped: DisposableApache, place: Installation, authority: ThrowawayAuthority
) -> None:
    first, second = stopped.sites
    chain = stopped.folder / "certificates" / "chain.pem"
    chain.write_text(pem(authority.intermediate))
    rest = f'SSLCertificateChainFile "{chain}"'
    own = virtual_host(stopped.port, "a.example", first, rest)
    stopped.write(own)
    stopped.start()
    material = authority.issue("a.example")
    assert (await place.install(material)).verification is Verification.MATCH
    assert first.certificate.read_text() == material.certificate_pem
    assert chain.read_text() == material.chain_pem[0]
    stopped.write(own + virtual_host(stopped.port, "b.example", second, rest))
    stopped.reload()
    # The same chain again hurts nobody.
    assert (await place.install(authority.issue("a.example"))).verification is Verification.MATCH
    before = await place.state()
    with pytest.raises(Permanent, match=f"another one than {chain} holds, and b.example:{stopped.port} uses that file"):
        await place.install(ThrowawayAuthority().issue("a.example"))
    assert await place.state() == before


async def test_rsa_and_ecdsa_side_by_side(
    stopped: DisposableApache, place: Installation, authority: ThrowawayAuthority
) -> None:
    first, second = stopped.sites
    old = authority.issue("a.example", key=rsa.generate_private_key(65537, 2048))
    assert old.private_key_pem is not None
    second.certificate.write_text(old.certificate_pem)
    second.key.write_bytes(old.private_key_pem)
    rest = f'SSLCertificateFile "{second.certificate}"\nSSLCertificateKeyFile "{second.key}"'
    stopped.write(virtual_host(stopped.port, "a.example", first, rest))
    stopped.start()
    for key, untouched in (
        (rsa.generate_private_key(65537, 2048), first),
        (ec.generate_private_key(ec.SECP256R1()), second),
    ):
        before = trace(untouched.certificate)
        material = authority.issue("a.example", key=key)
        report = await place.install(material)
        assert (report.already, report.verification) == (False, Verification.MATCH)
        assert (await place.install(material)).already
        assert trace(untouched.certificate) == before


async def test_a_pid_file_of_another_process(stopped: DisposableApache, place: Installation) -> None:
    stopped.pid_file.write_text(f"{os.getpid()}\n")
    assert not await place.endpoint.running()
    stopped.pid_file.write_text("nonsense")
    assert not await place.endpoint.running()


async def test_a_program_and_an_environment_that_are_not_there(place: Installation) -> None:
    with pytest.raises(Permanent, match="Can't run /nowhere/apache2"):
        await place.opened(command=["/nowhere/apache2"]).check()
    with pytest.raises(Permanent, match="its environment, /nowhere/envvars, does not exist"):
        await place.opened(environment="/nowhere/envvars").discover()
