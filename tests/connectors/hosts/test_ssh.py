"""The host over SSH: who it believes, how it signs in, what it does with connections, and what it does as root."""

from __future__ import annotations

import asyncio
import os
import tempfile
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import asyncssh
import pytest
from cryptography import x509

from connectors.errors import Permanent, Retryable, RolledBack
from connectors.hosts.ssh import CONNECTOR, connections
from connectors.hosts.ssh.settings import SshSettings
from connectors.hosts.ssh.sudo import sudoers
from connectors.keystores.contract import SigningRequest
from model.keys import KeyAlgorithm
from tests.support.installing import ThrowawayAuthority, fingerprint_of, hidden_files, trace
from tests.support.nginx import NginxProduct
from tests.support.products import Installation, Product
from tests.support.sshd import ACCOUNT_PASSWORD, Sshd, SudoHost, may_mount, ssh_agent, sshd
from worker.playground import free_port

LONG = timedelta(seconds=30)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Sshd]:
    """A server that a test may do with what it likes."""
    with sshd(tmp_path / "sshd") as made:
        yield made


# Whom it believes.


async def test_a_host_key_that_nobody_told_is_refused_with_its_fingerprint(ssh_server: Sshd) -> None:
    fingerprint = ssh_server.server_key.get_fingerprint()
    with pytest.raises(Permanent) as caught:
        await ssh_server.host(host_keys=None).state("/")
    assert f"127.0.0.1:{ssh_server.port} is not known: it shows ssh-ed25519 {fingerprint}" in caught.value.message
    assert "ssh-keygen -lf" in caught.value.message
    assert await ssh_server.host(host_keys=[fingerprint]).state("/") is not None


async def test_a_host_key_that_changed_is_refused(server: Sshd, tmp_path: Path) -> None:
    before = server.server_key.get_fingerprint()
    known = tmp_path / "known_hosts"
    known.write_text(f"[127.0.0.1]:{server.port} {server.host_key_line}\n")
    host = server.host(host_keys=None, known_hosts=str(known))
    assert await host.state("/") is not None
    server.stop()
    server.change_host_key()
    server.start()
    # The connection that was open went with the server.
    again = server.host(host_keys=None, known_hosts=str(known), keepalive_seconds=14)
    with pytest.raises(Permanent) as caught:
        await again.state("/")
    assert "has changed" in caught.value.message
    assert f"shows ssh-ed25519 {server.server_key.get_fingerprint()}, and known is {before}" in caught.value.message


async def test_revoked_keys_other_hosts_and_authorities(server: Sshd, tmp_path: Path) -> None:
    known = tmp_path / "known_hosts"
    host = server.host(host_keys=None, known_hosts=str(known))
    with pytest.raises(Permanent, match="can't be read: No such file"):
        await host.state("/")
    known.write_text(f"other.example.org {server.host_key_line}\n")
    with pytest.raises(Permanent, match="is not known"):
        await host.state("/")
    known.write_text(f"@revoked * {server.host_key_line}\n")
    with pytest.raises(Permanent, match="marked as revoked"):
        await host.state("/")
    authority = asyncssh.generate_private_key("ssh-ed25519")
    certificate = authority.generate_host_certificate(server.server_key, "host", principals=["127.0.0.1"])
    (server.folder / "host-cert.pub").write_bytes(certificate.export_certificate())
    with (server.folder / "sshd_config").open("a") as file:
        file.write(f"HostCertificate {server.folder}/host-cert.pub\n")
    server.stop()
    server.start()
    known.write_text(f"@cert-authority * {authority.export_public_key().decode()}")
    assert await host.state("/") is not None


@pytest.mark.parametrize("given", [["nonsense"], ["SHA256:short"], ["ssh-ed25519"]])
def test_what_is_no_host_key_is_no_setting(given: list[str]) -> None:
    with pytest.raises(Permanent, match="setting host_keys"):
        CONNECTOR.configure({"address": "a", "username": "b", "host_keys": given})


# How it signs in.


async def test_nothing_is_used_that_the_settings_do_not_name(
    ssh_server: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh" / "id_ed25519").write_bytes(ssh_server.key.read_bytes())
    (tmp_path / ".ssh" / "id_ed25519").chmod(0o600)
    (tmp_path / ".ssh" / "config").write_text(f"Host *\n  IdentityFile {ssh_server.key}\n")
    (tmp_path / ".ssh" / "known_hosts").write_text(f"* {ssh_server.host_key_line}\n")
    with ssh_agent(ssh_server.key, tmp_path) as agent:
        monkeypatch.setenv("SSH_AUTH_SOCK", agent)
        with pytest.raises(Permanent, match="refused; offered was: nothing"):
            await ssh_server.host(private_key=None).state("/")
        with pytest.raises(Permanent, match="is not known"):
            await ssh_server.host(host_keys=None).state("/")
        assert await ssh_server.host(private_key=None, agent_socket=agent).state("/") is not None
    with pytest.raises(Permanent, match="No SSH agent answers"):
        await ssh_server.host(private_key=None, agent_socket=str(tmp_path / "none")).state("/")


async def test_keys_with_passphrases(server: Sshd, tmp_path: Path) -> None:
    locked = server.new_key(tmp_path / "locked", "correct horse")
    server.authorized.write_bytes(locked.export_public_key())
    passphrase = tmp_path / "passphrase"
    passphrase.write_text("correct horse\n")
    passphrase.chmod(0o600)
    key = f"file:{tmp_path}/locked"
    assert await server.host(private_key=key, passphrase=f"file:{passphrase}").state("/") is not None
    passphrase.write_text("wrong")
    # Other settings, another connection: the one that is open would do.
    other = server.host(private_key=key, passphrase=f"file:{passphrase}", keepalive_seconds=14)
    with pytest.raises(Permanent, match=r"passphrase of the SSH key .* is wrong"):
        await other.state("/")
    with pytest.raises(Permanent, match="has a passphrase"):
        await server.host(private_key=key).state("/")
    with pytest.raises(Permanent, match="is not a private key"):
        await server.host(private_key=f"file:{passphrase}").state("/")
    with pytest.raises(Permanent, match=r"login of .* was refused; offered was: private key\."):
        await server.host().state("/")


async def test_user_certificates(server: Sshd, tmp_path: Path) -> None:
    key = server.new_key(tmp_path / "key")
    good = server.user_ca.generate_user_certificate(key, "certgate", principals=[server.username])
    ended = server.user_ca.generate_user_certificate(
        key, "certgate", principals=[server.username], valid_after="20200101", valid_before="20200102"
    )
    file = tmp_path / "key-cert.pub"
    settings = {"private_key": f"file:{tmp_path}/key", "certificate": str(file)}
    with pytest.raises(Permanent, match=r"certificate .* can't be read: No such file"):
        await server.host(**settings).state("/")
    file.write_bytes(ended.export_certificate())
    with pytest.raises(Permanent, match="refused; offered was: private key with its certificate"):
        await server.host(**settings).state("/")
    file.write_bytes(good.export_certificate())
    assert await server.host(**settings).state("/") is not None
    line = good.export_certificate().decode().strip()
    assert await server.host(**{**settings, "certificate": line}).state("/") is not None


async def test_through_jump_hosts(ssh_server: Sshd, server: Sshd) -> None:
    def through(**wrong: Any) -> Any:
        return ssh_server.host(jump_hosts=[{**server.settings, **wrong}], answer_timeout_seconds=29)

    host, same = through(), through()
    assert await host.state("/") == await same.state("/")
    assert (await host.run(["echo", "there"], timeout=LONG)).output == "there\n"
    assert server.connections() == 1
    with pytest.raises(Permanent, match=f"127.0.0.1:{server.port} has changed"):
        await through(host_keys=[ssh_server.host_key_line]).state("/")
    port = free_port()
    with pytest.raises(Retryable, match=f"jump host opens no connection to 127.0.0.1:{port}: .*refused"):
        await ssh_server.host(port=port, jump_hosts=[server.settings]).state("/")


# Connections.


async def test_all_share_one_connection(server: Sshd) -> None:
    host = server.host()
    await asyncio.gather(*(host.run(["echo", str(number)], timeout=LONG) for number in range(20)))
    await asyncio.gather(*(server.host().state("/") for _ in range(20)))
    assert server.connections() == 1


async def test_what_nobody_needs_is_closed(server: Sshd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "IDLE_SECONDS", 0.05)
    assert await server.host().state("/") is not None
    while server.connections():
        await asyncio.sleep(0.01)
    assert await server.host().state("/") is not None


def test_nothing_is_left_open_when_the_loop_ends(server: Sshd) -> None:
    """Each run of a loop has its own connections, and closes them."""

    async def work() -> int:
        await server.host().run(["true"], timeout=LONG)
        await server.host().state("/")
        return server.connections()

    failed: list[BaseException] = []

    def in_a_thread() -> None:
        try:
            assert asyncio.run(work()) == 1
            assert asyncio.run(work()) == 1
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=in_a_thread)
    thread.start()
    thread.join()
    assert failed == []
    while server.connections():
        pass


async def test_a_connection_that_was_cut_is_told_and_made_anew(server: Sshd, tmp_path: Path) -> None:
    host = server.host()
    started = tmp_path / "started"
    task = asyncio.create_task(host.run(["sh", "-c", f"touch {started}; sleep 600"], timeout=LONG))
    while not started.exists():
        await asyncio.sleep(0.01)
    server.cut()
    with pytest.raises(Retryable, match=r"connection to 127\.0\.0\.1 was cut"):
        await task
    assert (await host.run(["echo", "again"], timeout=LONG)).output == "again\n"


async def test_nobody_sees_more_than_the_mode_says_and_a_cut_leaves_nothing(server: Sshd, tmp_path: Path) -> None:
    folder = tmp_path / "files"
    folder.mkdir()
    path, gate = folder / "key.pem", tmp_path / "gate"
    path.write_bytes(b"old")
    before = trace(path)
    os.mkfifo(gate)
    host = server.host()
    for mode in (0o644, 0o600, 0o400):
        # The content waits for the gate: the file that is written can be looked at meanwhile.
        task = asyncio.create_task(host.assemble(str(path), [b"key", str(gate)], owner=None, group=None, mode=mode))
        new = folder / ".key.pem.certgate-new"
        while not new.exists() or new.stat().st_size < 3:
            await asyncio.sleep(0.005)
        assert new.stat().st_mode & 0o7777 & ~mode == 0
        if mode == 0o400:
            server.cut()
            with pytest.raises(Retryable, match="was cut"):
                await task
        with gate.open("wb") as file:
            file.write(b"more")
        if mode != 0o400:
            with pytest.raises(Retryable, match=r"did not get to 127\.0\.0\.1 as a whole; nothing was changed"):
                await task
        while new.exists():
            await asyncio.sleep(0.005)
        assert trace(path) == before
    assert hidden_files(folder) == []


async def test_a_cut_in_the_middle_of_the_content_leaves_nothing(server: Sshd, tmp_path: Path) -> None:
    path, new = tmp_path / "key.pem", tmp_path / ".key.pem.certgate-new"
    host = server.host()
    await host.state("/")
    task = asyncio.create_task(host.replace(str(path), b"x" * 60_000_000, owner=None, group=None, mode=0o600))
    while not new.exists():
        await asyncio.sleep(0.001)
    server.cut()
    with pytest.raises(Retryable, match="was cut"):
        await task
    while new.exists():
        await asyncio.sleep(0.005)
    assert not path.exists()


@asynccontextmanager
async def listener(greeting: bytes) -> AsyncIterator[int]:
    """Somebody who takes connections, says one thing, and never anything more."""

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(greeting)
        await reader.read()
        writer.close()

    served = await asyncio.start_server(silent, "127.0.0.1", 0)
    async with served:
        yield served.sockets[0].getsockname()[1]


@pytest.mark.parametrize("greeting", [b"", b"SSH-2.0-silent\r\n"])
async def test_a_host_that_never_answers_is_given_up(ssh_server: Sshd, greeting: bytes) -> None:
    async with listener(greeting) as port:
        with pytest.raises(Retryable, match=rf"127.0.0.1:{port} did not answer over SSH within 0\.2 s"):
            await ssh_server.host(port=port, connect_timeout_seconds=0.2).state("/")


async def test_what_is_not_there_is_told(ssh_server: Sshd) -> None:
    with pytest.raises(Retryable, match=r"could not be reached over SSH: .*refused"):
        await ssh_server.host(port=free_port()).state("/")
    with pytest.raises(Retryable, match=r"name no-such-host\.invalid can't be resolved"):
        await ssh_server.host(address="no-such-host.invalid").state("/")
    async with listener(b"220 mail.example.org ESMTP\r\n") as port:
        with pytest.raises((Permanent, Retryable), match=f"127.0.0.1:{port}"):
            await ssh_server.host(port=port, connect_timeout_seconds=0.5).state("/")
    with pytest.raises(Permanent, match="there is no head in /nowhere"):
        await ssh_server.host(search_path="/nowhere").state("/")


async def test_work_that_never_ends_is_given_up(server: Sshd, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "gate")
    host = server.host(answer_timeout_seconds=0.3)
    parts: list[bytes | str] = [b"key", str(tmp_path / "gate")]
    with pytest.raises(Retryable, match=r"did not answer within 0\.3 s"):
        await host.assemble(str(tmp_path / "key.pem"), parts, owner=None, group=None, mode=0o600)
    assert await host.state("/") is not None


async def test_an_account_without_a_shell(server: Sshd) -> None:
    server.stop()
    with (server.folder / "sshd_config").open("a") as file:
        file.write("ForceCommand echo This account is closed\n")
    server.start()
    with pytest.raises(Permanent, match=r"runs no commands; it says '.*This account is closed"):
        await server.host().state("/")


# Root.


class Over:
    """A product whose files and commands are reached over SSH."""

    connection = "ssh"

    def __init__(self, product: Product, settings: dict[str, Any]) -> None:
        self._product = product
        self.connection_settings = settings

    def __getattr__(self, name: str) -> Any:
        return getattr(self._product, name)


@pytest.fixture(scope="module")
def sudo_host() -> Iterator[SudoHost]:
    """A host with an account that is not root, and a real sudo."""
    if not may_mount():
        pytest.skip("needs a mount namespace, to have accounts without touching the machine's own")
    with tempfile.TemporaryDirectory() as folder:
        made = SudoHost(Path(folder))
        made.start()
        try:
            yield made
        finally:
            made.stop()


@pytest.fixture
def private(sudo_host: SudoHost, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that only root may look into, with a key."""
    folder = sudo_host.folder / tmp_path_factory.mktemp("private").name
    folder.mkdir(mode=0o700)
    path = folder / "it is, a=key:1.pem"
    path.write_bytes(b"old")
    path.chmod(0o640)
    os.chown(path, 0, 33)
    return path


async def test_a_password_is_the_last_resort(sudo_host: SudoHost, tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.write_text(ACCOUNT_PASSWORD)
    password.chmod(0o600)
    host = sudo_host.host(private_key=None, password=f"file:{password}")
    assert (await host.run(["id", "-un"], timeout=LONG)).output == "certgate\n"
    password.write_text("something else")
    with pytest.raises(Permanent, match="refused; offered was: password") as caught:
        await sudo_host.host(private_key=None, password=f"file:{password}", keepalive_seconds=14).state("/")
    assert "something else" not in caught.value.message


async def test_without_sudo_files_root_is_never_used(sudo_host: SudoHost, private: Path) -> None:
    sudo_host.allow("certgate ALL=(root) NOPASSWD: ALL\n")
    host = sudo_host.host()
    for attempt in (host.state(str(private)), host.read(str(private)), host.public_key(str(private))):
        with pytest.raises(
            Permanent, match="no permission there; let the account certgate in, or list it in sudo_files"
        ):
            await attempt
    with pytest.raises(Permanent, match="no permission"):
        await host.replace(str(private), b"new", owner=None, group=None, mode=0o600)


async def test_files_of_root_by_exactly_what_sudo_allows(sudo_host: SudoHost, private: Path) -> None:
    settings = {**sudo_host.settings, "sudo_files": [str(private)]}
    sudo_host.allow(sudoers(SshSettings.model_validate(settings)))
    host, before = sudo_host.host(**settings), trace(private)
    backup = str(private.with_name(f".{private.name}.certgate-0123456789ab"))
    state = await host.state(str(private))
    assert state is not None
    assert (state.path, state.owner, state.group, state.mode, state.size) == (str(private), 0, 33, 0o640, 3)
    assert await host.read(str(private)) == b"old"
    await host.keep(str(private), backup)
    await host.keep(str(private), backup)
    content = bytes(range(256)) * 400
    await host.replace(str(private), content, owner=0, group=33, mode=0o640)
    after = trace(private)
    assert (after.content, after.owner, after.group, after.mode & 0o7777) == (content, 0, 33, 0o640)
    await host.replace(str(private), b"", owner=65534, group=65534, mode=0o400)
    after = trace(private)
    assert (after.content, after.owner, after.group, after.mode & 0o7777) == (b"", 65534, 65534, 0o400)
    await host.put_back(backup, str(private))
    await host.put_back(backup, str(private))
    assert trace(private) == before
    await host.keep(str(private), backup)
    await host.delete(backup)
    await host.delete(str(private))
    await host.delete(str(private))
    assert await host.state(str(private)) is None
    await host.replace(str(private), b"again", owner=None, group=None, mode=0o600)
    assert (private.read_bytes(), private.stat().st_mode & 0o7777, private.stat().st_uid) == (b"again", 0o600, 0)
    assert hidden_files(private.parent) == []
    # Another file in the same folder is none of ours.
    with pytest.raises(Permanent, match="no permission"):
        await host.read(str(private.with_name("other.pem")))


async def test_keys_made_by_root(sudo_host: SudoHost, private: Path) -> None:
    settings = {**sudo_host.settings, "sudo_files": [str(private)], "sudo_makes_keys": True}
    sudo_host.allow(sudoers(SshSettings.model_validate(settings)))
    host = sudo_host.host(**settings)
    start = str(private.with_name(f".{private.name}.certgate-key-request-"))
    for number, algorithm in ((7, KeyAlgorithm.EC_P256), (42, KeyAlgorithm.ED25519), (123456789, KeyAlgorithm.EC_P384)):
        request = SigningRequest(f"request-{number}", algorithm, "www.example.org", ["www.example.org"])
        first, again = [
            x509.load_pem_x509_csr((await host.make_key(f"{start}{number}", request)).encode()) for _ in range(2)
        ]
        assert first.is_signature_valid
        assert first.public_key() == again.public_key()
    assert sorted(await host.glob(f"{start.removesuffix('request-')}*")) == sorted(
        f"{start}{number}" for number in (7, 42, 123456789)
    )
    await host.assemble(str(private), [b"certificate\n", f"{start}7", b"chain\n"], owner=0, group=0, mode=0o600)
    assert private.read_bytes() == b"certificate\n" + Path(f"{start}7").read_bytes() + b"chain\n"
    assert await host.without_keys(str(private)) == b"certificate\nchain\n"
    assert await host.public_key(str(private)) == await host.public_key(f"{start}7")
    assert Path(f"{start}7").stat().st_mode & 0o7777 == 0o600
    for number in (7, 42, 123456789):
        await host.delete(f"{start}{number}")
    assert hidden_files(private.parent) == []


async def test_what_fails_under_root_leaves_nothing(sudo_host: SudoHost, private: Path) -> None:
    settings = {**sudo_host.settings, "sudo_files": [str(private)]}
    lines = sudoers(SshSettings.model_validate(settings)).splitlines()
    host, before = sudo_host.host(**settings), trace(private)
    # Step by step one command more is allowed; the last of them is the rename.
    for step in ("install", "cp", "dd", "mv"):
        sudo_host.allow("\n".join(line for line in lines if f"/usr/bin/{step} " not in line) + "\n")
        with pytest.raises(Permanent, match="does not let certgate run what writes"):
            await host.replace(str(private), b"new", owner=0, group=33, mode=0o640)
        assert trace(private) == before
        assert hidden_files(private.parent) == []


async def test_commands_as_root_are_the_listed_ones(sudo_host: SudoHost) -> None:
    settings = {**sudo_host.settings, "sudo_commands": ["/usr/bin/id -u", "/usr/bin/id -g"]}
    sudo_host.allow(sudoers(SshSettings.model_validate({**settings, "sudo_commands": ["/usr/bin/id -u"]})))
    host = sudo_host.host(**settings)
    assert (await host.run(["id", "-u"], timeout=LONG)).output == "0\n"
    assert (await host.run(["/usr/bin/id", "-u"], timeout=LONG)).output == "0\n"
    assert (await host.run(["id", "-u", "-r"], timeout=LONG)).output == "60123\n"
    with pytest.raises(
        Permanent, match=r"sudo on 127.0.0.1 does not let certgate run id -g without a password"
    ) as caught:
        await host.run(["id", "-g"], timeout=LONG)
    assert "certgate endpoint sudoers" in caught.value.message
    with pytest.raises(Permanent, match="does not let certgate run sudo -n id without a password"):
        await host.run(["sudo", "-n", "id"], timeout=LONG)


async def test_a_sudo_that_asks_for_a_password_is_told(sudo_host: SudoHost, private: Path) -> None:
    sudo_host.allow("certgate ALL=(root) ALL\n")
    host, before = sudo_host.host(sudo_files=[str(private)]), trace(private)
    backup = str(private.with_name(f".{private.name}.certgate-0123456789ab"))
    for attempt in (
        host.state(str(private)),
        host.read(str(private)),
        host.without_keys(str(private)),
        host.public_key(str(private)),
        host.replace(str(private), b"new", owner=None, group=None, mode=0o600),
        host.keep(str(private), backup),
        host.put_back(backup, str(private)),
        host.delete(str(private)),
    ):
        with pytest.raises(Permanent, match=r"sudo on 127.0.0.1 does not let certgate run .* without a password"):
            await attempt
    assert trace(private) == before


async def test_an_nginx_of_root_by_an_account_that_is_not(sudo_host: SudoHost, tmp_path: Path) -> None:
    with NginxProduct(sudo_host.folder / "nginx") as product:
        certificate, key = product.files()
        certificate.parent.chmod(0o700)
        command = f"{product.settings['command'][0]} -p {product.settings['prefix']} -c {product.nginx.configuration}"
        connection = {
            **sudo_host.settings,
            "sudo_files": [str(path) for path in sorted(certificate.parent.iterdir())],
            "sudo_commands": [f"{command} -t -q", f"{command} -s reload"],
        }
        sudo_host.allow(sudoers(SshSettings.model_validate(connection)))
        installation = Installation(cast("Product", Over(product, connection)), tmp_path)
        before = await installation.state()
        first, second = (ThrowawayAuthority().issue(*product.names) for _ in range(2))
        await installation.install(first)
        assert await installation.served() == [fingerprint_of(first)]
        after = trace(key)
        assert (after.owner, after.mode) == (before.files[1].owner, before.files[1].mode)
        good = await installation.state()
        # The reload is not allowed any more: what was there is put back, and is served.
        sudo_host.allow(sudoers(SshSettings.model_validate({**connection, "sudo_commands": [f"{command} -t -q"]})))
        with pytest.raises(RolledBack, match=r"does not let certgate run .* -s reload without a password"):
            await installation.install(second)
        assert await installation.state() == good
        assert installation.leftovers() == []


def test_sudoers_has_no_wildcard_that_matches_more() -> None:
    settings = SshSettings(
        address="a",
        username="certgate",
        sudo_files=["/etc/ssl/private/a key.pem"],
        sudo_commands=["/usr/sbin/nginx -s reload"],
        sudo_makes_keys=True,
    )
    lines = sudoers(settings).splitlines()
    assert "certgate ALL=(root) NOPASSWD: /usr/sbin/nginx -s reload" in lines
    assert "certgate ALL=(root) NOPASSWD: /usr/bin/cat -- /etc/ssl/private/a\\ key.pem" in lines
    assert [line for line in lines if "install" in line and "NOPASSWD" in line] == [
        "certgate ALL=(root) NOPASSWD: /usr/bin/install -m 0[0-7][0-7][0-7] -T -- /dev/null "
        "/etc/ssl/private/.a\\ key.pem.certgate-new"
    ]
    for line in lines:
        assert "*" not in line.replace("\\*", "")
        assert "?" not in line


@pytest.mark.parametrize("path", ["relative.pem", "/a/../b", "/a*", "/a\nb", '/a"b', "/a/", "/a!b", "/a\\b"])
def test_what_sudoers_cannot_name_is_no_setting(path: str) -> None:
    with pytest.raises(Permanent, match="setting sudo_files"):
        CONNECTOR.configure({"address": "a", "username": "b", "sudo_files": [path]})
