"""What is particular of tokens: PINs, slots that are empty, keys that stay, forks. The tokens are SoftHSM's; OpenSC's
tool looks at them independently."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pkcs11
import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from pkcs11 import Attribute, ObjectClass, exceptions
from pkcs11.constants import TokenFlag

from connectors.errors import KeyMissing, Permanent, Retryable
from connectors.keystores.contract import EntryKind, ExportsKeys, SigningRequest
from connectors.keystores.pkcs11 import CONNECTOR, token
from connectors.registry import Surroundings
from model import x509
from model.keys import KeyAlgorithm
from tests.pki import DAY, NOW, make_ca, make_leaf, new_key, pem
from tests.support import softhsm
from tests.support.programs import program

NAMES = ("www.example.com", "*.example.com")
PINS = {"env:PIN": softhsm.PIN.encode()}


def opened(home: Path, secret: Callable[[str], bytes] = PINS.__getitem__, **settings: Any) -> Any:
    given = {"module": softhsm.module(), "pin": "env:PIN", **settings}
    return CONNECTOR.open(CONNECTOR.configure(given), Surroundings(home, secret))


def request(alias: str = "request-1", algorithm: KeyAlgorithm = KeyAlgorithm.EC_P256) -> SigningRequest:
    return SigningRequest(alias, algorithm, NAMES[0], NAMES, "Example Ltd")


def tool(*arguments: str, label: str) -> bytes:
    """OpenSC's look at a token."""
    command = [program("pkcs11-tool"), "--module", softhsm.module(), "--token-label", label]
    done = subprocess.run([*command, *arguments], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


@pytest.fixture(scope="module")
def label() -> str:
    return softhsm.new_token()


async def test_the_key_stays_and_others_see_it(tmp_path: Path, label: str) -> None:
    keystore = opened(tmp_path, token=label)
    assert not isinstance(keystore, ExportsKeys)
    csr = x509.load_csr(await keystore.sign_request(request("stays")))
    assert csr.is_signature_valid
    assert [str(one.value) for one in csr.subject] == ["Example Ltd", NAMES[0]]
    root = make_ca("R")
    leaf = make_leaf(root, csr, NAMES)  # type: ignore[arg-type]
    await keystore.store_certificate("stays", pem(leaf), [pem(root.certificate)])
    shown = tool("--login", "--pin", softhsm.PIN, "--list-objects", label=label).decode()
    assert "sensitive, always sensitive, never extractable, local" in shown
    stored = tool("--read-object", "--type", "cert", "--label", "stays", label=label)
    assert stored == leaf.public_bytes(Encoding.DER)
    with token.session(token.TokenAddress(softhsm.module(), label, None), softhsm.PIN) as session:
        (private,) = session.get_objects({Attribute.CLASS: ObjectClass.PRIVATE_KEY, Attribute.LABEL: "stays"})
        with pytest.raises(exceptions.AttributeSensitive):
            private[Attribute.VALUE]
    await keystore.remove("stays")
    assert await keystore.entries() == []


async def test_a_wrong_pin_is_offered_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    pins, label, tried = dict(PINS), softhsm.new_token(), []
    find = token._token

    class Counting:
        def __init__(self, found: Any) -> None:
            self.serial, self.flags, self._found = found.serial, found.flags, found

        def open(self, *, rw: bool, user_pin: str) -> Any:
            tried.append(user_pin)
            return self._found.open(rw=rw, user_pin=user_pin)

    monkeypatch.setattr(token, "_token", lambda *given: Counting(find(*given)))
    keystore = opened(tmp_path, pins.__getitem__, token=label)
    await keystore.sign_request(request())
    tried.clear()
    pins["env:PIN"] = b"hunter2"
    with pytest.raises(Permanent, match="refuses the PIN; it is not tried again by itself") as caught:
        await keystore.entries()
    for verb in (keystore.entries(), keystore.sign_request(request()), keystore.remove("x")):
        with pytest.raises(Permanent, match="refused this PIN before, and certgate does not offer it again"):
            await verb
    assert tried == ["hunter2"]
    assert "hunter2" not in repr(caught.value) + caplog.text
    assert "hunter2" not in str(caught.value.__cause__) + str(caught.value.__context__)
    pins["env:PIN"] = softhsm.PIN.encode()
    assert [entry.alias for entry in await keystore.entries()] == ["request-1"]
    pins["env:PIN"] = b"\xff\xfe"
    with pytest.raises(Permanent, match="is not text in UTF-8"):
        await keystore.entries()


async def test_a_token_that_goes_and_comes(tmp_path: Path) -> None:
    label = softhsm.new_token()
    keystore = opened(tmp_path, token=label)
    first = await keystore.sign_request(request())
    softhsm.remove_token(label)
    with pytest.raises(Retryable, match=f"The token {label} "):  # SoftHSM knows nothing better than GeneralError
        await keystore.entries()
    for verb in (keystore.sign_request(request()), keystore.entries(), keystore.remove("request-1")):
        with pytest.raises(Retryable, match=f"The token {label} is away"):
            await verb
    softhsm.new_token(label)
    assert x509.public_key_sha256(x509.load_csr(await keystore.sign_request(request()))) != x509.public_key_sha256(
        x509.load_csr(first)
    )


async def test_tokens_of_one_label_are_told_apart_by_serial_number(tmp_path: Path) -> None:
    label = softhsm.new_token()
    softhsm.new_token(label)
    with pytest.raises(Permanent, match=f"Several tokens are called {label}: set the serial number"):
        await opened(tmp_path, token=label).entries()
    library = pkcs11.lib(softhsm.module())
    serials = [one.serial.decode() for one in library.get_tokens(token_label=label)]
    assert len(serials) == 2
    await opened(tmp_path, serial=serials[0]).sign_request(request("one"))
    assert [entry.alias for entry in await opened(tmp_path, token=label, serial=serials[0]).entries()] == ["one"]
    assert await opened(tmp_path, serial=serials[1]).entries() == []
    with pytest.raises(Retryable, match="The token with the serial number 0000 is away"):
        await opened(tmp_path, serial="0000").entries()


@pytest.mark.parametrize(
    ("module", "message"),
    [
        ("/nowhere/lib.so", r"module /nowhere/lib\.so can't be loaded: No such file or directory\."),
        ("/etc/passwd", r"module /etc/passwd can't be loaded: invalid ELF header\."),
    ],
)
async def test_a_module_that_is_none(tmp_path: Path, module: str, message: str) -> None:
    with pytest.raises(Permanent, match=message):
        await opened(tmp_path, module=module, token="x").entries()


@pytest.mark.parametrize(
    ("failure", "kind", "message"),
    [
        (exceptions.PinLocked(), Permanent, "is locked after too many wrong ones: unlock it as its security officer"),
        (exceptions.PinExpired(), Permanent, "has expired"),
        (exceptions.UserPinNotInitialized(), Permanent, "has no user PIN yet"),
        (exceptions.TokenNotPresent(), Retryable, "is away"),
        (exceptions.DeviceRemoved(), Retryable, "is away"),
        (exceptions.TokenWriteProtected(), Permanent, "is write-protected"),
        (exceptions.DeviceMemory(), Permanent, "is full"),
        (exceptions.MechanismInvalid(), Permanent, r"can't do that \(MechanismInvalid\): choose another algorithm"),
        (exceptions.FunctionFailed(), Retryable, r"failed \(FunctionFailed\)"),
        (TokenFlag.USER_PIN_LOCKED, Permanent, "is locked"),
        (TokenFlag.USER_PIN_FINAL_TRY, Permanent, "one more wrong PIN would lock it"),
    ],
)
async def test_what_a_token_may_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: Any, kind: type[Exception], message: str
) -> None:
    offered = []

    class Told:
        serial = b"1"
        flags = failure if isinstance(failure, TokenFlag) else TokenFlag(0)

        def open(self, **_: Any) -> Any:
            offered.append(1)
            raise failure

    monkeypatch.setattr(token, "_token", lambda *_: Told())
    with pytest.raises(kind, match=f"The .*token t1 .*{message}"):
        await opened(tmp_path, token="t1").entries()
    assert len(offered) == (0 if isinstance(failure, TokenFlag) else 1)


async def test_many_at_once_in_one_process(tmp_path: Path, label: str) -> None:
    keystores = [opened(tmp_path, token=label) for _ in range(3)]
    csrs = await asyncio.gather(*(one.sign_request(request("shared")) for one in keystores))
    own = await asyncio.gather(*(one.sign_request(request(f"own-{at}")) for at, one in enumerate(keystores)))
    assert len({x509.public_key_sha256(x509.load_csr(one)) for one in csrs}) == 1
    assert len({x509.public_key_sha256(x509.load_csr(one)) for one in own}) == 3
    for alias in ("shared", "own-0", "own-1", "own-2"):
        await keystores[0].remove(alias)


def test_a_forked_child_uses_the_token_while_its_parent_is_at_work(tmp_path: Path, label: str) -> None:
    keystore = opened(tmp_path, token=label)
    asyncio.run(keystore.sign_request(request("parent")))
    inside, leave = threading.Event(), threading.Event()

    def work() -> None:
        with token.session(token.TokenAddress(softhsm.module(), label, None), softhsm.PIN):
            inside.set()
            leave.wait(60)

    thread = threading.Thread(target=work)
    thread.start()
    assert inside.wait(60)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            aliases = [entry.alias for entry in asyncio.run(opened(tmp_path, token=label).entries())]
            asyncio.run(opened(tmp_path, token=label).sign_request(request("child")))
            status = 0 if "parent" in aliases else 2
        finally:
            os._exit(status)
    _, found = os.waitpid(child, 0)
    leave.set()
    thread.join(60)
    assert os.waitstatus_to_exitcode(found) == 0
    assert {"child", "parent"} <= {entry.alias for entry in asyncio.run(keystore.entries())}
    for alias in ("child", "parent"):
        asyncio.run(keystore.remove(alias))


async def test_what_others_keep_there_is_told_and_left(tmp_path: Path) -> None:
    label = softhsm.new_token()
    root, stranger = make_ca("R"), tmp_path / "stranger.der"
    stranger.write_bytes(make_leaf(root, new_key(), NAMES).public_bytes(Encoding.DER))
    login = ["--login", "--pin", softhsm.PIN]
    tool(*login, "--write-object", str(stranger), "--type", "cert", "--label", "theirs", "--id", "77", label=label)
    tool(*login, "--keypairgen", "--key-type", "EC:secp521r1", "--label", "large", "--id", "78", label=label)
    keystore = opened(tmp_path, token=label)
    await keystore.sign_request(request("ours"))
    found = {entry.alias: entry for entry in await keystore.entries()}
    assert {alias: entry.kind for alias, entry in found.items()} == {
        "large": EntryKind.KEY_PAIR,
        "ours": EntryKind.KEY_PAIR,
        "theirs": EntryKind.TRUSTED_CERTIFICATE,
    }
    assert (found["large"].algorithm, found["ours"].algorithm) == (None, KeyAlgorithm.EC_P256)
    with pytest.raises(Permanent, match="another algorithm under large"):
        await keystore.sign_request(request("large"))
    with pytest.raises(KeyMissing, match="has no key under theirs"):
        await keystore.store_certificate("theirs", pem(root.certificate), [])
    await keystore.remove("ours")
    assert {entry.alias for entry in await keystore.entries()} == {"large", "theirs"}


async def test_of_two_certificates_after_a_kill_the_newer_counts(tmp_path: Path, label: str) -> None:
    keystore = opened(tmp_path, token=label)
    csr: Any = x509.load_csr(await keystore.sign_request(request("killed")))
    root = make_ca("R")
    older, newer = make_leaf(root, csr, NAMES, not_before=NOW - 9 * DAY), make_leaf(root, csr, NAMES)
    await keystore.store_certificate("killed", pem(older), [])
    # What a process leaves that is killed before it takes the old one away.
    tool("--login", "--pin", softhsm.PIN, "--delete-object", "--type", "cert", "--label", "killed", label=label)
    await keystore.store_certificate("killed", pem(newer), [])
    (tmp_path / "older.der").write_bytes(older.public_bytes(Encoding.DER))
    identifier = re.search(r"ID:\s+(\w+)", tool("--list-objects", "--type", "cert", label=label).decode())
    assert identifier is not None
    tool(
        *("--login", "--pin", softhsm.PIN, "--write-object", str(tmp_path / "older.der"), "--type", "cert"),
        *("--label", "killed", "--id", identifier[1]),
        label=label,
    )
    assert tool("--list-objects", "--type", "cert", label=label).decode().count("killed") == 2
    (entry,) = await keystore.entries()
    assert entry.certificate_sha256 == x509.fingerprint(newer)
    await keystore.store_certificate("killed", pem(newer), [])
    assert tool("--list-objects", "--type", "cert", label=label).decode().count("killed") == 1
    await keystore.remove("killed")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"module": "lib.so", "token": "t", "pin": "env:P"}, "module"),
        ({"module": "/lib.so", "pin": "env:P"}, "token or serial must say which token is meant"),
        ({"module": "/lib.so", "token": "t", "pin": "1234"}, "must be a reference"),
        ({"module": "/lib.so", "token": "t" * 33, "pin": "env:P"}, "token"),
    ],
)
def test_settings_that_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(Permanent, match=message) as caught:
        CONNECTOR.configure(settings)
    assert "1234" not in caught.value.message
