"""What every host has to do, over each of them: this machine directly, and by way of SSH."""

# ruff: noqa: ASYNC220, ASYNC221 (the loop has nothing else to do in these tests)

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import subprocess
from datetime import timedelta
from pathlib import Path
from typing import Protocol

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_public_key,
    load_pem_private_key,
)

from connectors.errors import Permanent, Retryable
from connectors.hosts.contract import Host, KeepsKeys, SendsSignals
from connectors.keystores.contract import SigningRequest
from connectors.keystores.keys import generate
from model.keys import KeyAlgorithm
from tests.support.disks import small_disk
from tests.support.installing import hidden_files, local_host, trace
from tests.support.programs import program
from tests.support.sshd import Sshd, may_mount

LONG = timedelta(seconds=30)
is_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
NAMES = (
    "key with blanks.pem",
    'it\'s "quoted".pem',
    "two\nlines.pem\n",
    "a;id>x.pem",
    "$(touch x)`touch y`.pem",
    "-rf",
    "*?[a].pem",
    "back\\slash.pem",
    "ümlaut.pem",
    "not\udcffutf8.pem",
)


class AnyHost(Host, SendsSignals, KeepsKeys, Protocol):
    """What both have."""


@pytest.fixture(params=["local", "ssh"])
def host(request: pytest.FixtureRequest) -> AnyHost:
    """One host after the other."""
    if request.param == "local":
        return local_host()
    server: Sshd = request.getfixturevalue("ssh_server")
    return server.host()


async def test_it_is_a_host(host: AnyHost) -> None:
    assert isinstance(host, Host)
    assert isinstance(host, SendsSignals)
    assert isinstance(host, KeepsKeys)
    assert host.address == "127.0.0.1"


# Files.


@pytest.mark.parametrize("name", NAMES)
async def test_every_name_is_only_a_name(host: AnyHost, tmp_path: Path, name: str) -> None:
    path = str(tmp_path / name)
    await host.replace(path, b"old", owner=None, group=None, mode=0o640)
    found = await host.state(path)
    assert found is not None
    assert (found.path, found.mode, found.size) == (path, 0o640, 3)
    await host.keep(path, f"{path}.kept")
    await host.replace(path, b"\0new\xff\n", owner=None, group=None, mode=0o600)
    assert await host.read(path) == b"\0new\xff\n"
    assert await host.glob(f"{tmp_path}/*") == sorted([path, f"{path}.kept"], key=os.fsencode)
    await host.put_back(f"{path}.kept", path)
    assert Path(path).read_bytes() == b"old"
    assert (await host.run(["cat", "--", path], timeout=LONG)).output == "old"
    await host.delete(path)
    assert list(tmp_path.iterdir()) == []
    assert not Path("/x").exists()


async def test_what_no_file_is_called_is_refused(host: AnyHost) -> None:
    with pytest.raises((Permanent, ValueError), match=r"no file has such a name|null"):
        await host.read("/etc/passwd\0.pem")


async def test_replace_follows_links_and_keeps_the_link(host: AnyHost, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    target, link = tmp_path / "real" / "key.pem", tmp_path / "link.pem"
    target.write_bytes(b"old")
    link.symlink_to("real/key.pem")
    await host.replace(str(link), b"new", owner=None, group=None, mode=0o640)
    assert link.is_symlink()
    assert target.read_bytes() == b"new"
    assert target.stat().st_mode & 0o7777 == 0o640
    found = await host.state(str(link))
    assert found is not None
    assert found.path == str(target)
    assert hidden_files(tmp_path) == []


async def test_a_link_to_nothing_is_filled(host: AnyHost, tmp_path: Path) -> None:
    (tmp_path / "link.pem").symlink_to("real.pem")
    assert await host.state(str(tmp_path / "link.pem")) is None
    await host.replace(str(tmp_path / "link.pem"), b"new", owner=None, group=None, mode=0o600)
    assert (tmp_path / "real.pem").read_bytes() == b"new"


@is_root
async def test_replace_gives_the_owner(host: AnyHost, tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    await host.replace(str(path), b"new", owner=65534, group=33, mode=0o400)
    state = await host.state(str(path))
    assert state is not None
    assert (state.owner, state.group, state.mode, state.size) == (65534, 33, 0o400, 3)


async def test_access_lists_are_kept(host: AnyHost, tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    path.write_bytes(b"old")
    path.chmod(0o640)
    subprocess.run([program("setfacl"), "-m", "u:65534:r", str(path)], check=True)
    before = os.getxattr(path, "system.posix_acl_access")
    await host.replace(str(path), b"new", owner=os.getuid(), group=os.getgid(), mode=0o640)
    assert os.getxattr(path, "system.posix_acl_access") == before
    assert path.read_bytes() == b"new"


async def test_a_leftover_is_replaced_and_never_written_into(host: AnyHost, tmp_path: Path) -> None:
    path, leftover = tmp_path / "key.pem", tmp_path / ".key.pem.certgate-new"
    leftover.write_bytes(b"half of a key")
    leftover.chmod(0o644)
    with leftover.open("rb") as reader:
        await host.replace(str(path), b"new", owner=None, group=None, mode=0o600)
        assert reader.read() == b"half of a key"
    assert path.read_bytes() == b"new"
    assert hidden_files(tmp_path) == []


async def test_what_is_not_a_leftover_is_left(host: AnyHost, tmp_path: Path) -> None:
    path, other = tmp_path / "key.pem", tmp_path / "other"
    other.write_bytes(b"precious")
    (tmp_path / ".key.pem.certgate-new").symlink_to(other)
    with pytest.raises(Permanent, match="in the way"):
        await host.replace(str(path), b"new", owner=None, group=None, mode=0o600)
    assert other.read_bytes() == b"precious"
    assert not path.exists()


async def test_a_file_that_another_process_writes_is_left_alone(host: AnyHost, tmp_path: Path) -> None:
    leftover = tmp_path / ".key.pem.certgate-new"
    with leftover.open("wb") as writer:
        fcntl.flock(writer, fcntl.LOCK_EX)
        with pytest.raises(Retryable, match="Another process"):
            await host.replace(str(tmp_path / "key.pem"), b"new", owner=None, group=None, mode=0o600)
    assert leftover.exists()


async def test_many_write_at_once_and_each_file_is_whole(host: AnyHost, tmp_path: Path) -> None:
    async def write(number: int) -> None:
        content = bytes([number]) * 50_000
        await host.replace(str(tmp_path / f"{number}.pem"), content, owner=None, group=None, mode=0o600)
        assert await host.read(str(tmp_path / f"{number}.pem")) == content

    await asyncio.gather(*(write(number) for number in range(12)))
    assert hidden_files(tmp_path) == []


@pytest.mark.skipif(not may_mount(), reason="needs a small disk of its own")
async def test_a_full_disk_is_told_and_changes_nothing(
    host: AnyHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with small_disk(tmp_path, "16k", monkeypatch) as fill:
        path = tmp_path / "key.pem"
        path.write_bytes(b"old")
        before = trace(path)
        fill()
        with pytest.raises(Permanent, match=f"{path}.*the disk is full"):
            await host.replace(str(path), b"x" * 65536, owner=None, group=None, mode=0o600)
        assert trace(path) == before
        assert hidden_files(tmp_path) == []


async def test_missing_folder_is_told(host: AnyHost, tmp_path: Path) -> None:
    path = tmp_path / "none" / "key.pem"
    with pytest.raises(Permanent, match=f"{path}.*does not exist"):
        await host.replace(str(path), b"new", owner=None, group=None, mode=0o600)


async def test_keep_and_put_back_restore_the_very_file(host: AnyHost, tmp_path: Path) -> None:
    path, backup = tmp_path / "key.pem", tmp_path / ".kept"
    path.write_bytes(b"old")
    path.chmod(0o640)
    before = trace(path)
    await host.keep(str(path), str(backup))
    await host.keep(str(path), str(backup))
    await host.replace(str(path), b"new", owner=None, group=None, mode=0o600)
    await host.put_back(str(backup), str(path))
    await host.put_back(str(backup), str(path))
    assert trace(path) == before
    assert not backup.exists()


async def test_put_back_of_an_unchanged_file_leaves_no_second_name(host: AnyHost, tmp_path: Path) -> None:
    path, backup = tmp_path / "key.pem", tmp_path / ".kept"
    path.write_bytes(b"old")
    await host.keep(str(path), str(backup))
    await host.put_back(str(backup), str(path))
    assert path.stat().st_nlink == 1
    assert not backup.exists()


async def test_keep_refuses_another_file_in_its_way(host: AnyHost, tmp_path: Path) -> None:
    path, backup = tmp_path / "key.pem", tmp_path / ".kept"
    path.write_bytes(b"old")
    backup.write_bytes(b"other")
    with pytest.raises(Permanent, match="in the way"):
        await host.keep(str(path), str(backup))
    with pytest.raises(Permanent, match=r"none.*does not exist"):
        await host.keep(str(tmp_path / "none" / "key.pem"), str(backup))


async def test_reading(host: AnyHost, tmp_path: Path) -> None:
    path, fifo, large = tmp_path / "key.pem", tmp_path / "fifo", tmp_path / "large"
    path.write_bytes(b"content")
    os.mkfifo(fifo)
    with large.open("wb") as file:
        file.truncate(16 * 1024 * 1024 + 1)
    assert await host.read(str(path)) == b"content"
    with pytest.raises(Permanent, match="not a regular file"):
        await host.read(str(fifo))
    with pytest.raises(Permanent, match="larger than 16777216 bytes"):
        await host.read(str(large))
    with pytest.raises(Permanent, match="does not exist"):
        await host.read(str(tmp_path / "none"))
    assert await host.state(str(path / "below")) is None
    assert await host.state(str(tmp_path / "none")) is None
    assert (await host.read(f"/proc/{os.getpid()}/cmdline")).strip(b"\0")
    await host.delete(str(path))
    await host.delete(str(path))
    await host.delete(str(tmp_path / "none" / "below"))
    assert not path.exists()


async def test_patterns(host: AnyHost, tmp_path: Path) -> None:
    for name in ("b.conf", "a.conf", ".hidden.conf", "c.other", "sub/d.conf"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "dangling.conf").symlink_to("nowhere")
    here = str(tmp_path)
    assert await host.glob(f"{here}/*.conf") == [f"{here}/{name}" for name in ("a.conf", "b.conf", "dangling.conf")]
    assert await host.glob(f"{here}/*/*.conf") == [f"{here}/sub/d.conf"]
    assert await host.glob(f"{here}/.h*.conf") == [f"{here}/.hidden.conf"]
    assert await host.glob(f"{here}/[!a].conf") == [f"{here}/b.conf"]
    assert await host.glob(f"{here}/$(touch {here}/z)*") == []
    assert await host.glob(f"{here}/none/*") == []
    assert not (tmp_path / "z").exists()


# Commands.


async def test_a_command_runs_without_our_environment(host: AnyHost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "x")
    result = await host.run(["env"], timeout=LONG)
    assert sorted(line.partition("=")[0] for line in result.output.split()) == ["LC_ALL", "PATH"]
    result = await host.run(["sh", "-c", "echo out; echo err >&2; pwd; cat; exit 3"], timeout=LONG)
    assert (result.status, result.output, result.errors) == (3, "out\n/\n", "err\n")


async def test_arguments_come_as_they_are(host: AnyHost) -> None:
    words = ["", " ", "a b", "'", '"', "\\", "$HOME", "$(id)", "`id`", ";", "\n", "*", "~", "!", "ü", "-n"]
    result = await host.run(["printf", "%s|", *words], timeout=LONG)
    assert result.output == "".join(f"{word}|" for word in words)


async def test_output_is_bounded(host: AnyHost) -> None:
    result = await host.run(["head", "-c", "300000", "/dev/zero"], timeout=LONG)
    assert (result.status, len(result.output)) == (0, 65536)
    result = await host.run(["sh", "-c", "head -c 300000 /dev/zero >&2"], timeout=LONG)
    assert (result.status, len(result.errors)) == (0, 65536)


async def test_a_command_that_cannot_be_run(host: AnyHost, tmp_path: Path) -> None:
    with pytest.raises(Permanent, match=r"Can't run no-such-command on .*No such file"):
        await host.run(["no-such-command"], timeout=LONG)
    (tmp_path / "data").write_bytes(b"data")
    with pytest.raises(Permanent, match=r"Can't run .*data on .*Permission denied"):
        await host.run([str(tmp_path / "data")], timeout=LONG)
    assert (await host.run(["sh", "-c", "exit 127"], timeout=LONG)).status == 127


async def gone(pid_file: Path) -> None:
    """Wait until the process that wrote its number there has ended."""
    pid = int(pid_file.read_text())
    async with asyncio.timeout(10):
        while Path(f"/proc/{pid}").exists() and "Z" not in Path(f"/proc/{pid}/stat").read_text():
            await asyncio.sleep(0.01)


async def test_a_command_that_hangs_is_ended_with_its_children(host: AnyHost, tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    script = f"sleep 600 & echo $! > {pid_file}.new; mv {pid_file}.new {pid_file}; wait"
    with pytest.raises(Permanent, match=r"did not end within 0\.5 s on .* and was stopped"):
        await host.run(["sh", "-c", script], timeout=timedelta(seconds=0.5))
    await gone(pid_file)
    assert (await host.run(["echo", "next"], timeout=LONG)).output == "next\n"


async def test_cancellation_ends_the_command(host: AnyHost, tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    script = f"sleep 600 & echo $! > {pid_file}.new; mv {pid_file}.new {pid_file}; wait"
    task = asyncio.create_task(host.run(["sh", "-c", script], timeout=LONG))
    async with asyncio.timeout(10):
        while not pid_file.exists():
            await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await gone(pid_file)
    assert (await host.run(["echo", "next"], timeout=LONG)).output == "next\n"


async def test_hang_up(host: AnyHost) -> None:
    # Whoever runs the tests may ignore hang-ups, and what he starts would too.
    process = subprocess.Popen(["env", "--default-signal=HUP", "sleep", "600"])
    assert await host.hang_up(process.pid)
    assert process.wait() == -signal.SIGHUP
    with pytest.raises(Permanent, match=f"Process {process.pid} on .* has ended"):
        await host.hang_up(process.pid)


# Keys.


@pytest.mark.parametrize(
    "algorithm", [KeyAlgorithm.EC_P256, KeyAlgorithm.EC_P384, KeyAlgorithm.ED25519, KeyAlgorithm.RSA_2048]
)
async def test_a_key_is_made_there_and_signs_its_request(
    host: AnyHost, tmp_path: Path, algorithm: KeyAlgorithm
) -> None:
    path = tmp_path / ".it's a key.certgate-key-request-7"
    request = SigningRequest(
        "request-7", algorithm, "www.example.org", ["www.example.org", "*.example.org", "10.0.0.1"]
    )
    first, again = await host.make_key(str(path), request), await host.make_key(str(path), request)
    assert path.stat().st_mode & 0o7777 == 0o600
    assert hidden_files(tmp_path) == [path.name]
    key = load_pem_private_key(path.read_bytes(), password=None)
    for text in (first, again):
        csr = x509.load_pem_x509_csr(text.encode())
        assert csr.is_signature_valid
        assert csr.public_key() == key.public_key()
        assert csr.subject.rfc4514_string() == "CN=www.example.org"
        names = csr.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert [str(name.value) for name in names] == list(request.names)
    public = await host.public_key(str(path))
    assert public is not None
    assert load_der_public_key(public) == key.public_key()
    other = KeyAlgorithm.EC_P384 if algorithm is KeyAlgorithm.EC_P256 else KeyAlgorithm.EC_P256
    with pytest.raises(Permanent, match=f"another algorithm under request-7: {algorithm}, not {other}"):
        await host.make_key(str(path), SigningRequest("request-7", other, "www.example.org", ["www.example.org"]))


async def test_what_a_file_says_without_its_key(host: AnyHost, tmp_path: Path) -> None:
    key = generate(KeyAlgorithm.EC_P256)
    text = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    public = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    certificate = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
    locked = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
    path = tmp_path / "site.pem"
    for content, found, left in (
        (certificate + text + certificate, public, certificate * 2),
        (text + certificate, public, certificate),
        (certificate + text, public, certificate),
        (certificate, None, certificate),
        (certificate + locked, None, certificate),
        (certificate + text[:80], None, certificate),
        (b"\0\xff binary", None, b"\0\xff binary"),
        (b"", None, b""),
    ):
        path.write_bytes(content)
        assert await host.public_key(str(path)) == found
        assert await host.without_keys(str(path)) == left
    path.write_bytes(key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()))
    assert await host.public_key(str(path)) == public
    with pytest.raises(Permanent, match="does not exist"):
        await host.without_keys(str(tmp_path / "none"))


async def test_a_file_is_put_together_of_others(host: AnyHost, tmp_path: Path) -> None:
    (tmp_path / "it's.key").write_bytes(b"key\n")
    path = tmp_path / "both.pem"
    parts: list[bytes | str] = [b"certificate\n", str(tmp_path / "it's.key"), b"", b"chain\0\n"]
    await host.assemble(str(path), parts, owner=None, group=None, mode=0o600)
    assert path.read_bytes() == b"certificate\nkey\nchain\0\n"
    assert path.stat().st_mode & 0o7777 == 0o600
    before = trace(path)
    with pytest.raises(Permanent, match="does not exist"):
        await host.assemble(str(path), [b"new", str(tmp_path / "none")], owner=None, group=None, mode=0o600)
    assert trace(path) == before
    assert hidden_files(tmp_path) == []
