"""Installs on a real nginx: what must work, what must be refused, what must be put back."""

from __future__ import annotations

import os
import shutil
import socket
import ssl
import threading
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from connectors.endpoints.contract import Verification
from connectors.endpoints.procedure import look
from connectors.errors import Permanent, RestoreFailed, RolledBack, Step
from tests.support.installing import Rig, ThrowawayAuthority, fingerprint_of, fingerprint_of_file, trace

needs_ipv6 = pytest.mark.skipif(not Path("/proc/net/if_inet6").exists(), reason="no IPv6 here")


async def test_install_serves_and_keeps_owner_and_mode(rig: Rig, authority: ThrowawayAuthority) -> None:
    site, other = rig.nginx.sites
    if os.geteuid() == 0:
        os.chown(site.key, 65534, 65534)
    site.key.chmod(0o440)
    before, old, other_before = trace(site.key), await rig.served(), trace(other.certificate)
    material = authority.issue("a.example")
    report = await rig.install(material)
    assert (report.already, report.served_before) == (False, old)
    assert report.served_after == fingerprint_of(material) == await rig.served()
    assert report.verification is Verification.MATCH
    assert [step.name for step in report.steps] == ["look", "snapshot", "write", "check", "activate", "verify"]
    after = trace(site.key)
    assert (after.owner, after.group, after.mode) == (before.owner, before.group, before.mode)
    assert site.certificate.read_text() == material.certificate_pem + material.chain_pem[0]
    assert trace(other.certificate) == other_before
    assert rig.leftovers() == []


async def test_links_stay(rig: Rig, authority: ThrowawayAuthority) -> None:
    site = rig.nginx.sites[0]
    archive = rig.nginx.folder / "archive"
    archive.mkdir()
    for path in (site.certificate, site.key):
        shutil.move(path, archive / path.name)
        path.symlink_to(f"../archive/{path.name}")
    material = authority.issue("a.example")
    assert (await rig.install(material)).served_after == await rig.served()
    assert site.key.readlink() == Path(f"../archive/{site.key.name}")
    assert rig.leftovers() == []


async def test_files_that_are_not_there_yet(stopped_rig: Rig, authority: ThrowawayAuthority) -> None:
    site = stopped_rig.nginx.sites[0]
    site.certificate.unlink()
    site.key.unlink()
    with pytest.raises(Permanent, match="refuses its configuration"):
        await stopped_rig.install(authority.issue("a.example"))
    # nginx can't be asked before the files are there, so such a host is configured by a person with any pair first.
    assert not site.key.exists()


async def test_certificate_and_key_in_one_file(rig: Rig, authority: ThrowawayAuthority) -> None:
    site = rig.nginx.sites[0]
    site.certificate.write_bytes(site.certificate.read_bytes() + site.key.read_bytes())
    site.certificate.chmod(0o600)
    text = rig.nginx.configuration.read_text()
    rig.nginx.configuration.write_text(text.replace(str(site.key), str(site.certificate)))
    site.key.unlink()
    material = authority.issue("a.example")
    await rig.install(material)
    assert await rig.served() == fingerprint_of(material)
    assert material.private_key_pem is not None
    assert site.certificate.read_bytes().endswith(material.private_key_pem)
    assert (await rig.install(material)).already
    assert site.certificate.stat().st_mode & 0o777 == 0o600


@needs_ipv6
async def test_ipv6_wildcards_and_several_ports(stopped_rig: Rig, authority: ThrowawayAuthority) -> None:
    nginx, site = stopped_rig.nginx, stopped_rig.nginx.sites[0]
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as other:
        port = other.getsockname()[1]
    nginx.write_configuration(
        f"server {{ listen {nginx.port} ssl; listen [::1]:{port} ssl; server_name .a.example;"
        f" ssl_certificate {site.certificate}; ssl_certificate_key {site.key}; }}"
    )
    nginx.start()
    with pytest.raises(Permanent, match=r"does not cover \*\.a\.example"):
        await stopped_rig.install(authority.issue("a.example"))
    material = authority.issue("a.example", "*.a.example")
    await stopped_rig.install(material)
    served = await look(stopped_rig.endpoint, site.binding_id, expected=material)
    assert [(str(one.listener), one.server_name) for one in served] == [
        (f"127.0.0.1:{nginx.port}", "a.example"),
        (f"127.0.0.1:{nginx.port}", "certgate-probe.a.example"),
        (f"[::1]:{port}", "a.example"),
        (f"[::1]:{port}", "certgate-probe.a.example"),
    ]
    assert {one.verification for one in served} == {Verification.MATCH}


@pytest.mark.parametrize("version", ["TLSv1.2", "TLSv1.3"])
async def test_rsa_and_ecdsa_side_by_side(stopped_rig: Rig, authority: ThrowawayAuthority, version: str) -> None:
    nginx, (first, second) = stopped_rig.nginx, stopped_rig.nginx.sites
    old = authority.issue("a.example", key=rsa.generate_private_key(65537, 2048))
    assert old.private_key_pem is not None
    second.certificate.write_text(old.certificate_pem)
    second.key.write_bytes(old.private_key_pem)
    nginx.write_configuration(
        f"server {{ listen 127.0.0.1:{nginx.port} ssl; server_name a.example; ssl_protocols {version};"
        + "".join(f" ssl_certificate {one.certificate}; ssl_certificate_key {one.key};" for one in (first, second))
        + "}"
    )
    nginx.start()
    for key, untouched in (
        (rsa.generate_private_key(65537, 2048), first),
        (ec.generate_private_key(ec.SECP256R1()), second),
    ):
        before = trace(untouched.certificate)
        material = authority.issue("a.example", key=key)
        report = await stopped_rig.install(material)
        assert (report.already, report.verification) == (False, Verification.MATCH)
        assert (await stopped_rig.install(material)).already
        assert trace(untouched.certificate) == before
    second.certificate.write_text("damaged")
    with pytest.raises(Permanent, match="0 of them have a key of the type RSA"):
        await stopped_rig.install(authority.issue("a.example", key=rsa.generate_private_key(65537, 2048)))


async def test_ed25519(rig: Rig, authority: ThrowawayAuthority) -> None:
    material = authority.issue("a.example", key=ed25519.Ed25519PrivateKey.generate())
    assert (await rig.install(material)).served_after == await rig.served()


async def test_a_listener_with_proxy_protocol(stopped_rig: Rig, authority: ThrowawayAuthority) -> None:
    text = stopped_rig.nginx.configuration.read_text()
    stopped_rig.nginx.configuration.write_text(text.replace(" ssl;", " ssl proxy_protocol;"))
    stopped_rig.nginx.start()
    assert (await stopped_rig.install(authority.issue("a.example"))).served_after == await stopped_rig.served()


async def test_a_pid_file_of_another_process(stopped_rig: Rig) -> None:
    stopped_rig.nginx.pid_file.write_text(f"{os.getpid()}\n")
    assert not await stopped_rig.endpoint.running()
    stopped_rig.nginx.pid_file.write_text("nonsense")
    assert not await stopped_rig.endpoint.running()


async def test_broken_before_is_left_alone(rig: Rig, authority: ThrowawayAuthority) -> None:
    site = rig.nginx.sites[0]
    rig.nginx.configuration.write_text(rig.nginx.configuration.read_text().replace("server_tokens off", "no_such 1"))
    before = trace(site.certificate), trace(site.key)
    with pytest.raises(Permanent, match='refuses its configuration: unknown directive "no_such"') as caught:
        await rig.install(authority.issue("a.example"))
    assert type(caught.value) is Permanent
    assert (trace(site.certificate), trace(site.key)) == before
    assert rig.leftovers() == []


@pytest.mark.parametrize("signal", [True, False])
async def test_a_reload_that_nginx_gives_up_is_put_back(rig: Rig, authority: ThrowawayAuthority, signal: bool) -> None:
    """``nginx -t`` finds nothing wrong with a port that is taken, and the reload is then only given up in the log."""
    site = rig.nginx.sites[0]
    site.key.chmod(0o440)
    before, old = (trace(site.certificate), trace(site.key)), await rig.served()
    command = None if signal else [rig.nginx.program, "-c", str(rig.nginx.configuration), "-s", "reload"]
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        text = rig.nginx.configuration.read_text()
        rig.nginx.configuration.write_text(text.replace("http {", f"http {{ server {{ listen 127.0.0.1:{port}; }}"))
        with pytest.raises(RolledBack, match=rf"bind\(\) to 127\.0\.0\.1:{port} failed.*put back") as caught:
            await rig.install(authority.issue("a.example"), endpoint=rig.endpoint_with(reload_command=command))
    assert caught.value.served == old == await rig.served()
    assert caught.value.steps[-1].name == "verify what was restored"
    assert (trace(site.certificate), trace(site.key)) == before
    assert rig.leftovers() == []
    assert rig.nginx.pid is not None


async def test_a_reload_that_does_not_serve_is_put_back(rig: Rig, authority: ThrowawayAuthority) -> None:
    """A product that takes the order and serves the old certificate on, without a word."""
    site = rig.nginx.sites[0]
    before, old = (trace(site.certificate), trace(site.key)), await rig.served()
    endpoint = rig.endpoint_with(reload_command=["true"], reload_timeout_seconds=0.3)
    with pytest.raises(RolledBack, match="did not change over") as caught:
        await rig.install(authority.issue("a.example"), endpoint=endpoint)
    assert caught.value.served == old == await rig.served()
    assert (trace(site.certificate), trace(site.key)) == before
    assert rig.leftovers() == []


async def test_a_handshake_that_shows_another_certificate_is_put_back(rig: Rig, authority: ThrowawayAuthority) -> None:
    """Someone else answers where the binding is reached: nginx does all it should, and still nobody sees it."""
    site = rig.nginx.sites[0]
    before, old = (trace(site.certificate), trace(site.key)), await rig.served()
    text = rig.nginx.configuration.read_text()
    other = f"server {{ listen 127.0.0.2:{rig.nginx.port} ssl; server_name a.example;"
    other += f" ssl_certificate {rig.nginx.sites[1].certificate}; ssl_certificate_key {rig.nginx.sites[1].key}; }}"
    rig.nginx.configuration.write_text(text.replace("http {", f"http {{ {other}"))
    endpoint, binding = rig.endpoint_with(address="127.0.0.2"), f"{site.binding_id}@127.0.0.1"
    with pytest.raises(RolledBack, match=r"not served within 0\.5 s: .*not known") as caught:
        await rig.install(authority.issue("a.example"), binding, endpoint=endpoint, seconds=0.5)
    assert caught.value.served == fingerprint_of_file(rig.nginx.sites[1].certificate)
    assert (trace(site.certificate), trace(site.key)) == before
    assert await rig.served() == fingerprint_of_file(rig.nginx.sites[1].certificate)
    assert old == fingerprint_of_file(site.certificate)
    assert rig.leftovers() == []


async def test_nginx_ends_during_the_reload(rig: Rig, authority: ThrowawayAuthority) -> None:
    site = rig.nginx.sites[0]
    before = trace(site.certificate), trace(site.key)
    command = ["sh", "-c", f"kill -TERM {rig.nginx.pid}"]
    with pytest.raises(RestoreFailed, match=r"ended during the reload.*does not run any more.*start it"):
        await rig.install(authority.issue("a.example"), endpoint=rig.endpoint_with(reload_command=command))
    assert (trace(site.certificate), trace(site.key)) == before
    rig.nginx.stop()
    rig.nginx.start()
    material = authority.issue("a.example")
    report = await rig.install(material)
    assert Step("recover", "an interrupted install was put back") in report.steps
    assert await rig.served() == fingerprint_of(material)
    assert rig.leftovers() == []


async def test_no_connection_is_dropped(rig: Rig, authority: ThrowawayAuthority) -> None:
    """A dozen exchanges while others keep asking, on new connections and on one that stays open."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    stop = threading.Event()
    answers: list[bytes] = []
    failures: list[str] = []

    def ask() -> None:
        while not stop.is_set():
            try:
                with (
                    socket.create_connection(("127.0.0.1", rig.nginx.port), timeout=10) as plain,
                    context.wrap_socket(plain, server_hostname="a.example") as tls,
                ):
                    tls.sendall(b"GET / HTTP/1.0\r\nHost: a.example\r\n\r\n")
                    answer = b""
                    while part := tls.recv(4096):
                        answer += part
                    answers.append(answer)
            except OSError as error:
                failures.append(repr(error))

    load = threading.Thread(target=ask)
    load.start()
    try:
        for _ in range(12):
            material = authority.issue("a.example")
            await rig.install(material)
            # Once an install has ended, nobody is served the old one any more.
            assert [await rig.served() for _ in range(3)] == [fingerprint_of(material)] * 3
    finally:
        stop.set()
        load.join()
    assert failures == []
    assert len(answers) > 12
    assert all(answer.startswith(b"HTTP/1.1 200") and answer.endswith(b"a.example\n") for answer in answers)
