"""What every keystore must do, whatever its form: the contract, run on all that are installed."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import multiprocessing
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization

from connectors.errors import Permanent
from connectors.keystores.contract import EntryKind, ExportsKeys, Keystore, SigningRequest
from connectors.registry import Surroundings, find, installed
from model import x509
from model.keys import KeyAlgorithm
from model.rules.certificates import check_signing_request
from tests.pki import make_ca, make_leaf, new_key, pem, shared_key
from tests.support import softhsm

NAMES = ("www.example.com", "*.example.com", "10.0.0.7", "fd00::7")
ROOT = Path(__file__).parents[3]
PASSPHRASE = b"correct horse"
SETTINGS: dict[str, dict[str, Any]] = {
    "pem": {"passphrase": "env:P"},
    "pkcs12": {"file": "keys.p12", "passphrase": "env:P"},
    "jks": {"file": "keys.jks", "passphrase": "env:P"},
    "pkcs11": {"pin": "env:P"},
}
every_kind = pytest.mark.parametrize("kind", sorted(SETTINGS))
# Those that are files of the gateway's own.
every_file = pytest.mark.parametrize("kind", sorted(set(SETTINGS) - {"pkcs11"}))


def opened(kind: str, home: Path, secret: Callable[[str], bytes] = lambda _: PASSPHRASE, **settings: Any) -> Any:
    connector = find("keystores", kind)
    there = token_of(home) if kind == "pkcs11" else {}
    return connector.open(connector.configure(SETTINGS[kind] | there | settings), Surroundings(home, secret))


def token_of(home: Path) -> dict[str, str]:
    """A token of SoftHSM for each home, made with the first call."""
    label = f"of {hashlib.sha256(str(home).encode()).hexdigest()[:12]}"
    if not (home / "token").exists():
        softhsm.new_token(label, PASSPHRASE.decode())
        (home / "token").touch()
    return {"module": softhsm.module(), "token": label}


def request(alias: str = "request-1", algorithm: KeyAlgorithm = KeyAlgorithm.EC_P256) -> SigningRequest:
    return SigningRequest(alias, algorithm, NAMES[0], NAMES)


def key_of(csr: str) -> str:
    return x509.public_key_sha256(x509.load_csr(csr))


async def loaded(keystore: Any, alias: str) -> Any:
    if not isinstance(keystore, ExportsKeys):
        return x509.load_csr(await keystore.sign_request(request(alias)))  # which has the public half
    return serialization.load_pem_private_key(await keystore.private_key(alias), None)


def kept(home: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(home.rglob("*")) if path.is_file() and path.stat().st_size}


def test_every_keystore_that_is_installed_is_tested_here() -> None:
    assert set(SETTINGS) == set(installed("keystores"))


@every_kind
async def test_every_algorithm_one_key_an_alias(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # Large RSA keys take long to make; that they are made is tested with the smallest.
    if kind != "pkcs11":  # a token makes its keys itself, one after the other
        monkeypatch.setattr("connectors.keystores.keys.generate", shared_key)
    keystore = opened(kind, tmp_path)
    assert isinstance(keystore, Keystore)
    assert isinstance(keystore, ExportsKeys) == (kind != "pkcs11")
    assert await keystore.entries() == []
    algorithms = [
        one for one in KeyAlgorithm if kind != "pkcs11" or one not in (KeyAlgorithm.RSA_3072, KeyAlgorithm.RSA_4096)
    ]
    for algorithm in algorithms:
        csr = await keystore.sign_request(request(f"a-{algorithm}", algorithm))
        assert check_signing_request(csr, NAMES, algorithm).names == NAMES
        # Another process, later: the same key.
        again = opened(kind, tmp_path)
        assert key_of(await again.sign_request(request(f"a-{algorithm}", algorithm))) == key_of(csr)
        if isinstance(again, ExportsKeys):
            assert x509.public_key_sha256((await loaded(again, f"a-{algorithm}")).public_key()) == key_of(csr)
    listed = await keystore.entries()
    assert [(entry.alias, entry.algorithm) for entry in listed] == sorted((f"a-{one}", one) for one in algorithms)
    assert all(entry.kind == EntryKind.KEY_PAIR and entry.certificate_sha256 is None for entry in listed)
    with pytest.raises(Permanent, match="another algorithm under a-ed25519: ed25519, not ec-p256"):
        await keystore.sign_request(request("a-ed25519"))
    files = [path for path in tmp_path.rglob("*") if path.is_file() and path.name != "token"]
    assert files
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in files)
    assert all(stat.S_IMODE(path.parent.stat().st_mode) == 0o700 for path in files)


@every_kind
async def test_certificates_stand_beside_their_keys(tmp_path: Path, kind: str) -> None:
    keystore = opened(kind, tmp_path)
    for alias in ("one", "two"):
        await keystore.sign_request(request(alias))
    root = make_ca("R")
    middle = make_ca("M", root)
    for alias in ("one", "two"):
        leaf = make_leaf(middle, await loaded(keystore, alias), NAMES)
        for _ in range(2):
            await keystore.store_certificate(alias, pem(leaf), [pem(middle.certificate), pem(root.certificate)])
            unchanged = kept(tmp_path)
        assert kept(tmp_path) == unchanged
    one, two = await keystore.entries()
    assert (one.alias, two.alias, two.certificate_sha256) == ("one", "two", x509.fingerprint(leaf))
    assert (two.not_after, two.serial_number) == (leaf.not_valid_after_utc, x509.serial_hex(leaf))
    assert (list(two.names), two.issuer, two.problem) == (list(NAMES), "CN=M", None)
    newer = make_leaf(root, await loaded(keystore, "one"), NAMES)
    await keystore.store_certificate("one", pem(newer), [pem(root.certificate)])
    before = kept(tmp_path)
    with pytest.raises(Permanent, match="does not match the key under one; nothing was stored"):
        await keystore.store_certificate("one", pem(make_leaf(root, new_key(), NAMES)), [])
    with pytest.raises(Permanent, match="no key under nine"):
        await keystore.store_certificate("nine", pem(leaf), [])
    with pytest.raises(Permanent, match="not a readable PEM"):
        await keystore.store_certificate("one", "nonsense", [])
    assert kept(tmp_path) == before
    assert [entry.certificate_sha256 for entry in await keystore.entries()] == [
        x509.fingerprint(newer),
        x509.fingerprint(leaf),
    ]
    for _ in range(2):
        await keystore.remove("one")
    assert [(entry.alias, entry.certificate_sha256) for entry in await keystore.entries()] == [
        ("two", x509.fingerprint(leaf))
    ]
    verbs = [keystore.store_certificate("one", pem(newer), [])]
    if isinstance(keystore, ExportsKeys):
        verbs.append(keystore.private_key("one"))
    for verb in verbs:
        with pytest.raises(Permanent, match="no key under one"):
            await verb


@every_kind
@pytest.mark.parametrize("alias", ["", "../x", "a/b", "A", ".lock", "-a", "a\n", "x" * 129, "ü"])
async def test_an_alias_is_made_of_plain_letters(tmp_path: Path, kind: str, alias: str) -> None:
    keystore = opened(kind, tmp_path)
    verbs = [keystore.sign_request(request(alias)), keystore.remove(alias)]
    if isinstance(keystore, ExportsKeys):
        verbs.append(keystore.private_key(alias))
    for verb in verbs:
        with pytest.raises(Permanent, match="alias"):
            await verb
    assert kept(tmp_path) == {}


@every_file
async def test_a_wrong_passphrase_and_damage_are_sentences(
    tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    secret = {"env:P": PASSPHRASE}
    keystore = opened(kind, tmp_path, secret.__getitem__)
    csr = await keystore.sign_request(request())
    (path,) = (Path(name) for name in kept(tmp_path))
    sound = path.read_bytes()

    async def refused(pattern: str) -> None:
        for verb in (keystore.sign_request(request()), keystore.private_key("request-1"), keystore.entries()):
            with pytest.raises(Permanent, match=pattern) as caught:
                await verb
            assert str(path) in caught.value.message
            assert caught.value.message.count(". ") == 0
            assert "horse" not in repr(caught.value) + caplog.text

    secret["env:P"] = b"battery horse"
    await refused("can't be read: the passphrase is wrong or the file is damaged")
    secret["env:P"] = PASSPHRASE
    cuts = [0, 1, 3, len(sound) // 3, len(sound) - 5]
    for damaged in (*(sound[:cut] for cut in cuts), b"\xff" * 300, sound[:-200] + b"\0" * 200):
        path.write_bytes(damaged)
        await refused("can't be read: ")
        assert path.read_bytes() == damaged
    path.write_bytes(sound)
    path.chmod(0o640)
    with pytest.raises(Permanent, match=r"open to others \(mode 0640\); run chmod 600"):
        await keystore.private_key("request-1")
    path.chmod(0o600)
    assert key_of(await keystore.sign_request(request())) == key_of(csr)


@every_file
async def test_a_full_disk_leaves_what_was_there(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    keystore = opened(kind, tmp_path)
    await keystore.sign_request(request())
    before = kept(tmp_path)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("os.fsync", full)
        with pytest.raises(Permanent, match="can't be written: No space left on device"):
            await keystore.sign_request(request("request-2"))
    assert kept(tmp_path) == before
    assert [entry.alias for entry in await keystore.entries()] == ["request-1"]


def _race(kind: str, home: str, number: int, barrier: Any, results: Any) -> None:
    keystore = opened(kind, Path(home))
    barrier.wait()
    own = asyncio.run(keystore.sign_request(request(f"own-{number}")))
    results.put((key_of(asyncio.run(keystore.sign_request(request()))), key_of(own)))


@every_kind
def test_of_processes_racing_for_one_alias_one_key_wins_and_none_is_lost(tmp_path: Path, kind: str) -> None:
    spawn = multiprocessing.get_context("spawn")
    barrier, results = spawn.Barrier(3), spawn.Queue()
    arguments = [(kind, str(tmp_path), number, barrier, results) for number in range(3)]
    processes = [spawn.Process(target=_race, args=one) for one in arguments]
    for process in processes:
        process.start()
    found = [results.get(timeout=60) for _ in processes]
    for process in processes:
        process.join(60)
    results.close()
    results.join_thread()
    listed = asyncio.run(opened(kind, tmp_path).entries())
    assert len({shared for shared, _ in found}) == 1
    assert {entry.public_key_sha256 for entry in listed} == {found[0][0], *(own for _, own in found)}


KILLED = """
import asyncio, os, pathlib, signal, sys
from connectors.folders import PrivateFolder
from tests.connectors.keystores.test_conformance import opened, request
kind, home, point = sys.argv[1:]
keystore = opened(kind, pathlib.Path(home))
asyncio.run(keystore.sign_request(request("before")))
def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)
if point == "before the flush": os.fsync = die
if point == "before the rename": pathlib.Path.rename = die
if point == "after the rename": PrivateFolder._flush_names = die
if point == "half written":
    class Half:
        def __init__(self, fd, mode): self.fd = fd
        def __enter__(self): return self
        def __exit__(self, *_): pass
        def read(self, size): return os.read(self.fd, size)
        def write(self, content): os.write(self.fd, content[: len(content) // 2]); die()
    os.fdopen = Half
asyncio.run(keystore.sign_request(request()))
"""


@pytest.mark.parametrize("kind", ["jks", "pkcs12"])  # the PEM directory has its own, with the files looked at
@pytest.mark.parametrize("point", ["half written", "before the flush", "before the rename", "after the rename"])
async def test_killed_at_any_point_the_file_is_whole(tmp_path: Path, kind: str, point: str) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", KILLED, kind, str(tmp_path), point, cwd=ROOT, stderr=subprocess.PIPE
    )
    _, errors = await process.communicate()
    assert process.returncode == -signal.SIGKILL, errors.decode()
    keystore = opened(kind, tmp_path)
    made = ["request-1"] if point == "after the rename" else []
    assert [entry.alias for entry in await keystore.entries()] == ["before", *made]
    csr = await keystore.sign_request(request())
    assert key_of(csr) == key_of(await keystore.sign_request(request()))
    folder = tmp_path / "keystores"
    assert sorted(path.name for path in folder.iterdir()) == [".lock", SETTINGS[kind]["file"]]
