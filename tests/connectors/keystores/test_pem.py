"""The PEM directory: real files, real processes, killed and racing."""

from __future__ import annotations

import asyncio
import logging
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509 as crypto
from cryptography.hazmat.primitives import serialization

from connectors.errors import Permanent
from connectors.keystores.contract import ExportsKeys, Keystore, SigningRequest
from connectors.keystores.pem import CONNECTOR, PemKeystore, Settings
from connectors.registry import Surroundings
from connectors.secrets import resolve
from model import x509
from model.keys import KeyAlgorithm
from model.rules.certificates import check_signing_request
from tests.pki import make_ca, make_leaf, new_key, pem, shared_key

NAMES = ("www.example.com", "*.example.com", "10.0.0.7", "fd00::7")
ROOT = Path(__file__).parents[3]


def open_keystore(home: Path, passphrase: str | None = None, secret: Callable[[str], bytes] = resolve) -> PemKeystore:
    return CONNECTOR.open(Settings(passphrase=passphrase), Surroundings(home, secret))


def request(alias: str = "request-1", algorithm: KeyAlgorithm = KeyAlgorithm.EC_P256) -> SigningRequest:
    return SigningRequest(alias, algorithm, NAMES[0], NAMES)


def key_of(csr: str) -> str:
    return x509.public_key_sha256(x509.load_csr(csr))


def test_it_is_what_the_contract_asks(tmp_path: Path) -> None:
    keystore = open_keystore(tmp_path)
    assert isinstance(keystore, Keystore)
    assert isinstance(keystore, ExportsKeys)
    with pytest.raises(Permanent, match="setting fodler"):
        CONNECTOR.configure({"fodler": "/tmp/x"})


@pytest.mark.parametrize("algorithm", [one for one in KeyAlgorithm if one not in ("rsa-3072", "rsa-4096")])
async def test_the_request_says_what_was_asked(tmp_path: Path, algorithm: KeyAlgorithm) -> None:
    csr = await open_keystore(tmp_path).sign_request(request(algorithm=algorithm))
    assert check_signing_request(csr, NAMES, algorithm).names == NAMES
    loaded = x509.load_csr(csr)
    assert x509.common_name(loaded) == NAMES[0]
    hash_names = {KeyAlgorithm.EC_P384: "sha384", KeyAlgorithm.ED25519: None}
    used = loaded.signature_hash_algorithm
    assert (used.name if used else None) == hash_names.get(algorithm, "sha256")


async def test_a_long_common_name_stays_out_of_the_subject(tmp_path: Path) -> None:
    long = "a" * 60 + ".example.com"
    csr = await open_keystore(tmp_path).sign_request(SigningRequest("a", KeyAlgorithm.EC_P256, long, [long]))
    loaded = x509.load_csr(csr)
    assert x509.common_name(loaded) is None
    assert loaded.extensions.get_extension_for_class(crypto.SubjectAlternativeName).critical


async def test_files_and_modes(tmp_path: Path) -> None:
    await open_keystore(tmp_path).sign_request(request())
    folder = tmp_path / "keys"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert sorted(path.name for path in folder.iterdir()) == [".lock", "request-1.key"]
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in folder.iterdir())
    assert (folder / "request-1.key").read_bytes().startswith(b"-----BEGIN PRIVATE KEY-----")


async def test_a_certificate_beside_its_key(tmp_path: Path) -> None:
    keystore = open_keystore(tmp_path)
    await keystore.sign_request(request())
    await keystore.sign_request(request("request-0", KeyAlgorithm.ED25519))
    exported = serialization.load_pem_private_key(await keystore.private_key("request-1"), None)
    root = make_ca("R")
    leaf = make_leaf(root, exported, NAMES)  # type: ignore[arg-type]
    for _ in range(2):
        await keystore.store_certificate("request-1", pem(leaf), [pem(root.certificate)])
    assert (tmp_path / "keys" / "request-1.pem").read_text() == pem(leaf) + pem(root.certificate)
    zero, one = await keystore.entries()
    assert (zero.alias, zero.algorithm, zero.certificate_sha256) == ("request-0", KeyAlgorithm.ED25519, None)
    assert (one.alias, one.certificate_sha256) == ("request-1", x509.fingerprint(leaf))
    assert one.not_after == leaf.not_valid_after_utc
    with pytest.raises(Permanent, match="does not match the key under request-1; nothing was stored"):
        await keystore.store_certificate("request-1", pem(make_leaf(root, new_key(), NAMES)), [])
    with pytest.raises(Permanent, match="no key under request-9"):
        await keystore.store_certificate("request-9", pem(leaf), [])
    with pytest.raises(Permanent, match="not a readable PEM"):
        await keystore.store_certificate("request-1", "nonsense", [])
    for _ in range(2):
        await keystore.remove("request-1")
    assert [entry.alias for entry in await keystore.entries()] == ["request-0"]
    with pytest.raises(Permanent, match="no key under request-1"):
        await keystore.private_key("request-1")


async def test_a_passphrase_encrypts_and_is_asked_for_at_each_use(tmp_path: Path) -> None:
    secrets = {"env:P": b"correct horse"}
    keystore = open_keystore(tmp_path, "env:P", secrets.__getitem__)
    csr = await keystore.sign_request(request())
    content = (tmp_path / "keys" / "request-1.key").read_bytes()
    assert content.startswith(b"-----BEGIN ENCRYPTED PRIVATE KEY-----")
    assert b"BEGIN PRIVATE KEY" in await keystore.private_key("request-1")
    secrets["env:P"] = b"wrong horse"
    with pytest.raises(Permanent, match="passphrase is wrong or the file is damaged") as caught:
        await keystore.sign_request(request())
    assert "horse" not in repr(caught.value)
    with pytest.raises(Permanent, match="no passphrase configured"):
        await open_keystore(tmp_path).sign_request(request())
    secrets["env:P"] = b"correct horse"
    assert key_of(await keystore.sign_request(request())) == key_of(csr)


@pytest.mark.parametrize("damage", [b"", b"-----BEGIN PRIVATE KEY-----\nAAAA\n", b"\xff" * 100])
async def test_a_damaged_key_is_told_and_kept(tmp_path: Path, damage: bytes) -> None:
    keystore = open_keystore(tmp_path)
    await keystore.sign_request(request())
    path = tmp_path / "keys" / "request-1.key"
    path.write_bytes(damage)
    for verb in (keystore.sign_request(request()), keystore.private_key("request-1"), keystore.entries()):
        with pytest.raises(Permanent, match=r"request-1.key can't be read: the file is damaged"):
            await verb
    assert path.read_bytes() == damage


async def test_folders_and_files_open_to_others_are_refused(tmp_path: Path) -> None:
    keystore = open_keystore(tmp_path)
    await keystore.sign_request(request())
    (tmp_path / "keys" / "request-1.key").chmod(0o640)
    with pytest.raises(Permanent, match=r"open to others \(mode 0640\); run chmod 600"):
        await keystore.private_key("request-1")
    (tmp_path / "keys").chmod(0o750)
    with pytest.raises(Permanent, match=r"open to others \(mode 0750\); run chmod 700"):
        await keystore.sign_request(request("request-2"))


async def test_what_the_system_refuses_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("a file in the place of the folder")
    with pytest.raises(Permanent, match="can't be made"):
        await open_keystore(tmp_path).sign_request(request())


async def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(Permanent, match=r"request-1.key can't be written: No space left on device"):
        await open_keystore(tmp_path).sign_request(request())
    assert [path.name for path in (tmp_path / "keys").iterdir()] == [".lock"]


async def test_the_key_is_in_no_message_and_no_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    keystore = open_keystore(tmp_path)
    await keystore.sign_request(request())
    secret_lines = (await keystore.private_key("request-1")).decode().splitlines()[1:-1]
    path = tmp_path / "keys" / "request-1.key"
    path.write_text(path.read_text()[:-40])
    with pytest.raises(Permanent) as caught:
        await keystore.private_key("request-1")
    told = f"{caught.value!r} {caught.value.__cause__!r} {keystore!r} {caplog.text}"
    assert not any(line in told for line in secret_lines)


async def test_an_rsa_key_does_not_hold_up_the_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    beats = 0
    shared = shared_key(KeyAlgorithm.RSA_4096)
    waiting, go = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def slow(_: KeyAlgorithm) -> object:
        loop.call_soon_threadsafe(waiting.set)
        assert go.wait(30)
        return shared

    monkeypatch.setattr("connectors.keystores.keys.generate", slow)
    task = asyncio.create_task(open_keystore(tmp_path).sign_request(request(algorithm=KeyAlgorithm.RSA_4096)))
    await asyncio.wait_for(waiting.wait(), 30)
    for _ in range(10):
        await asyncio.sleep(0)
        beats += 1
    assert beats == 10
    assert not task.done()
    go.set()
    await task


KILLED = """
import asyncio, os, pathlib, signal, sys
from connectors.folders import PrivateFolder
from tests.connectors.keystores.test_pem import open_keystore, request
def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)
point = sys.argv[2]
if point == "before the flush": os.fsync = die
if point == "before the rename": pathlib.Path.rename = die
if point == "after the rename": PrivateFolder._flush_names = die
if point == "half written":
    class Half:
        def __init__(self, fd, mode): self.fd = fd
        def __enter__(self): return self
        def __exit__(self, *_): pass
        def write(self, content): os.write(self.fd, content[: len(content) // 2]); die()
    os.fdopen = Half
asyncio.run(open_keystore(pathlib.Path(sys.argv[1])).sign_request(request()))
"""


@pytest.mark.parametrize("point", ["half written", "before the flush", "before the rename", "after the rename"])
async def test_killed_at_any_point_there_is_one_key(tmp_path: Path, point: str) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", KILLED, str(tmp_path), point, cwd=ROOT, stderr=subprocess.PIPE
    )
    _, errors = await process.communicate()
    assert process.returncode == -signal.SIGKILL, errors.decode()
    path = tmp_path / "keys" / "request-1.key"
    survivor = path.read_bytes() if path.exists() else None
    assert (survivor is not None) == (point == "after the rename")
    keystore = open_keystore(tmp_path)
    assert len(await keystore.entries()) == (survivor is not None)
    csr = await keystore.sign_request(request())
    assert key_of(csr) == key_of(await keystore.sign_request(request()))
    assert survivor in (None, path.read_bytes())
    await keystore.remove("request-2")  # takes the lock, and with it away what the killed process left
    assert sorted(one.name for one in path.parent.iterdir()) == [".lock", "request-1.key"]
