"""Private keys and the keystore's passphrase are where they belong and nowhere else, whatever one looks through.

Looked for are pieces of every secret number, twelve bytes long, so that neither a page of a database nor a line end
hides one, in every encoding that a program might have used without meaning to.
"""

from __future__ import annotations

import base64
import json
import secrets
import stat
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from sqlmodel import select

from model.keys import KeyAlgorithm
from model.states import CertificateStatus, InstallMode, InstallState
from model.tables import Keystore
from tests.support.holding import served, site_of
from tests.support.running import PARTS, Running, running, until
from worker.playground import DisposableNginx

pytestmark = pytest.mark.timeout(300)
_PIECE = 12
Needles = Mapping[str, frozenset[bytes]]


def pieces(secret: bytes) -> Iterator[bytes]:
    """Overlapping pieces of a secret."""
    for start in range(0, len(secret) - _PIECE + 1, 5):
        yield secret[start : start + _PIECE]
    yield secret[-_PIECE:]


def encoded(secret: bytes) -> Iterator[bytes]:
    """A piece of a secret as it is, in hexadecimal, in Base64 wherever its three bytes begin, as Python shows it."""
    for piece in pieces(secret):
        yield piece
        yield piece[::-1]
        yield piece.hex().encode()
        yield piece.hex().upper().encode()
        yield piece.hex(":").encode()
        yield repr(piece)[2:-1].encode()
        for offset in range(3):
            padded = base64.b64encode(b"\0" * offset + piece)
            # Only the characters that depend on nothing but the piece.
            inner = padded[(offset * 8 + 5) // 6 : (offset + len(piece)) * 8 // 6]
            yield inner
            yield inner.translate(bytes.maketrans(b"+/", b"-_"))


def of_number(number: int) -> frozenset[bytes]:
    """Everything that would give away a secret number."""
    size = (number.bit_length() + 7) // 8
    decimal = str(number).encode()
    digits = {decimal[start : start + 30] for start in range(0, len(decimal) - 30, 10)}
    return frozenset(encoded(number.to_bytes(size, "big"))) | digits


def of_key(pem: bytes, passphrase: bytes | None = None) -> frozenset[bytes]:
    """The secret numbers of a key, and the lines of its PEM file that hold nothing public."""
    key = load_pem_private_key(pem, passphrase)
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return of_number(key.private_numbers().private_value)
    assert isinstance(key, rsa.RSAPrivateKey)
    numbers = key.private_numbers()
    lines = pem.splitlines()[8:-2] if passphrase is None else []
    return frozenset(lines).union(*(of_number(one) for one in (numbers.d, numbers.p, numbers.q)))


def found_in(content: bytes, needles: Needles) -> set[str]:
    """Whose secrets are in there, also where line ends cut them, or where they stand as escapes."""
    joined = content.replace(b"\r", b"").replace(b"\n", b"").replace(b"\\n", b"")
    return {name for name, looked_for in needles.items() if any(one in content or one in joined for one in looked_for)}


def search(folders: list[Path], needles: Needles) -> dict[str, set[str]]:
    """Which files hold which secrets."""
    found: dict[str, set[str]] = {}
    for folder in folders:
        for path in [folder, *folder.rglob("*")]:
            with suppress(FileNotFoundError):  # what a running process deletes meanwhile
                if path.is_file() and (hits := found_in(path.read_bytes(), needles)):
                    found[str(path)] = hits
                if hits := found_in(bytes(str(path), "utf-8"), needles):
                    found[f"the name of {path}"] = hits
    return found


def processes_of(up: Running, but: Collection[str] = ()) -> dict[str, psutil.Process]:
    """Everything that belongs to one certgate, `but` parts that were ended."""
    parts = {"up": up.process.pid, **{part: up.pid(part) for part in PARTS if part not in but}}
    found = {}
    for name, pid in parts.items():
        assert pid is not None, name
        found[name] = psutil.Process(pid)
        for child in found[name].children(recursive=True):
            found[f"{name} {child.pid}"] = child
    return found


def search_processes(up: Running, needles: Needles, but: Collection[str] = ()) -> dict[str, set[str]]:
    """Which processes were given secrets as arguments or in their environment."""
    found = {}
    for name, process in processes_of(up, but).items():
        for place in ("cmdline", "environ"):
            with suppress(FileNotFoundError, ProcessLookupError):
                if hits := found_in(Path(f"/proc/{process.pid}/{place}").read_bytes().replace(b"\0", b"\n"), needles):
                    found[f"{place} of {name}"] = hits
    return found


async def search_histories(up: Running, needles: Needles) -> dict[str, set[str]]:
    """Which workflows' histories hold secrets, as bytes and as their JSON."""
    found, seen = {}, 0
    async for row in up.world.client.list_workflows():
        history = await up.world.client.get_workflow_handle(row.id, run_id=row.run_id).fetch_history()
        seen += len(history.events)
        content = b"\n".join(event.SerializeToString() for event in history.events) + history.to_json().encode()
        payloads = [base64.b64decode(one) for one in data_of(json.loads(history.to_json()))]
        if hits := found_in(content + b"\n".join(payloads), needles):
            found[row.id] = hits
    assert seen > 100
    return found


def data_of(value: object) -> Iterator[str]:
    """All payloads in a history."""
    if isinstance(value, dict):
        for key, one in value.items():
            if key == "data" and isinstance(one, str):
                yield one
            else:
                yield from data_of(one)
    elif isinstance(value, list):
        for one in value:
            yield from data_of(one)


def mode(path: Path) -> int:
    """A file's mode."""
    return stat.S_IMODE(path.stat().st_mode)


def test_the_search_finds_what_is_there(tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    number = key.private_numbers().private_value
    raw = number.to_bytes(32, "big")
    needles = {"key": of_number(number)}
    wrapped = base64.encodebytes(b"x" * 41 + raw)
    forms = [raw, b"before" + raw[:20], raw.hex().encode(), wrapped, str(number).encode(), repr(raw).encode()]
    forms += [wrapped.replace(b"\n", b"\\n"), base64.urlsafe_b64encode(b"ab" + raw), raw[::-1], raw.hex(":").encode()]
    for count, form in enumerate(forms):
        (tmp_path / str(count)).write_bytes(b"something before " + form + b" and after")
    (tmp_path / "nothing").write_bytes(secrets.token_bytes(4096))
    assert sorted(Path(path).name for path in search([tmp_path], needles)) == sorted(map(str, range(len(forms))))


async def test_keys_and_passphrase_are_nowhere_else(tmp_path: Path) -> None:
    passphrase = secrets.token_urlsafe(30)
    passphrase_file = tmp_path / "secret" / "passphrase"
    passphrase_file.parent.mkdir(mode=0o700)
    passphrase_file.touch(mode=0o600)
    passphrase_file.write_text(passphrase + "\n")
    needles: dict[str, frozenset[bytes]] = {"passphrase": frozenset(encoded(passphrase.encode()))}
    everywhere = [tmp_path / "run", tmp_path / "nginx"]
    names = ["a.example.org", "b.example.org"]
    async with running(tmp_path / "run") as up:
        world = up.world
        keys, ca = up.home / "gateway" / "keys", up.home / "ca"
        with DisposableNginx(tmp_path / "nginx", names) as nginx:
            first, second = (site_of(nginx, name) for name in names)
            for site in (first, second):
                needles[f"the old key of {site.name}"] = of_key(site.key.read_bytes())
            for path in ca.glob("*.key"):
                needles[f"the CA's {path.name}"] = of_key(path.read_bytes())
            assert len(needles) >= 5
            await world.endpoint(nginx, "nginx")

            async def requested(name: str, **fields: Any) -> int:
                """A request, whose key is known as soon as it is made."""
                number = await world.submit(name, **fields)
                await world.until(number, state=InstallState.KEY_READY)
                content = (keys / f"request-{number}.key").read_bytes()
                needles[f"the key of request {number}"] = of_key(
                    content, passphrase.encode() if b"ENCRYPTED" in content else None
                )
                return number

            plain = await requested("a.example.org", endpoint="nginx")
            declined = await requested("c.example.org")
            canceled = await requested("b.example.org", endpoint="nginx", install=InstallMode.MANUAL)
            await world.say(plain, "approve")
            await world.until(plain, state=InstallState.COMPLETED)
            await world.say(declined, "decline", "not ours")
            await world.until(declined, status=CertificateStatus.DECLINED)
            await world.say(canceled, "approve")
            await world.until(canceled, state=InstallState.READY_FOR_INSTALL)
            await world.say(canceled, "cancel", "not now", by="alice")
            for number in (declined, canceled):
                await world.workflow(number).result()
                assert not list(keys.glob(f"request-{number}.*"))

            with world.database.write() as session:
                keystore = session.exec(select(Keystore)).one()
                keystore.settings = {"passphrase": f"file:{passphrase_file}"}
                session.add(keystore)
            locked = await requested("b.example.org", endpoint="nginx", key_algorithm=KeyAlgorithm.RSA_2048)
            await world.say(locked, "approve")
            done = await world.until(locked, state=InstallState.COMPLETED)
            assert b"ENCRYPTED PRIVATE KEY" in (keys / f"request-{locked}.key").read_bytes()
            assert await served(second) == done.issued_fingerprint
            # And a step that fails on purpose: what it logs and tells must not quote anything either.
            passphrase_file.chmod(0o644)
            failing = await world.submit("d.example.org")
            await until(lambda: world.show(failing).install_state == InstallState.FAILED)
            await world.say(failing, "cancel", by="alice")
            passphrase_file.chmod(0o600)
            await until(lambda: world.show(failing).closed)

            allowed = {
                str(keys / f"request-{plain}.key"): {f"the key of request {plain}"},
                str(first.key): {f"the key of request {plain}"},
                str(second.key): {f"the key of request {locked}"},
                **{str(path): {f"the CA's {path.name}"} for path in ca.glob("*.key")},
            }
            assert len(needles) == 5 + 4
            assert search(everywhere, needles) == allowed
            assert search_processes(up, needles) == {}
            assert await search_histories(up, needles) == {}

            for part, process in processes_of(up).items():
                limits = Path(f"/proc/{process.pid}/limits").read_text()
                (core,) = [line.split() for line in limits.splitlines() if line.startswith("Max core file size")]
                assert core[4:6] == ["0", "0"], part
            for folder in (up.home, up.home / "gateway", keys, ca, up.home / "gateway" / "journal"):
                assert mode(folder) == 0o700, folder
            for path in (*keys.glob("*"), *ca.glob("*.key"), first.key, second.key):
                assert mode(path) == 0o600, path
            for folder in (up.home / "logs", up.home / "temporal", up.home / "run"):
                assert mode(folder) & 0o077 == 0, folder
        database, temporal = up.home / "certgate.db", up.home / "temporal" / "state.db"
        assert temporal.stat().st_size > 0
        assert database.stat().st_size > 0
    # Stopped: what was in memory or in a write-ahead log is in the files now.
    assert search(everywhere, needles) == allowed
    assert list((tmp_path / "run" / "tmp").rglob("*")) == []
