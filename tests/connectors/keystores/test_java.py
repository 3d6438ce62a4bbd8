"""PKCS#12 and JKS against the programs that people have: ``keytool`` and ``openssl``, in both directions."""

from __future__ import annotations

import asyncio
import hashlib
import random
import struct
from pathlib import Path
from typing import Any

import pytest
from asn1crypto.cms import ContentInfo
from asn1crypto.pkcs12 import AuthenticatedSafe, Pfx, SafeContents
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.serialization import pkcs12

from connectors.archives import protection, rc2
from connectors.errors import Permanent
from connectors.keystores.contract import EntryKind
from model import x509
from model.keys import KeyAlgorithm
from tests.connectors.keystores.test_conformance import NAMES, PASSPHRASE, loaded, opened, request
from tests.pki import make_ca, make_leaf, pem, shared_key

WORD = PASSPHRASE.decode()
STORE = {"pkcs12": "PKCS12", "jks": "JKS"}
java = pytest.mark.parametrize("kind", sorted(STORE))


async def run(*command: str | Path, fails: bool = False) -> str:
    process = await asyncio.create_subprocess_exec(
        *map(str, command), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output, _ = await process.communicate()
    assert (process.returncode != 0) == fails, output.decode()
    return output.decode()


async def keytool(verb: str, file: Path, kind: str, *more: str | Path, word: str = WORD) -> str:
    quick = ("-J-XX:+UseSerialGC", "-J-XX:TieredStopAtLevel=1", "-J-Xshare:auto")
    return await run("keytool", *quick, verb, "-keystore", file, "-storetype", STORE[kind], "-storepass", word, *more)


def file_of(home: Path, kind: str) -> Path:
    return home / "keystores" / {"pkcs12": "keys.p12", "jks": "keys.jks"}[kind]


@java
async def test_java_reads_what_we_write(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("connectors.keystores.keys.generate", shared_key)
    keystore = opened(kind, tmp_path)
    root = make_ca("R")
    middle = make_ca("M", root)
    fingerprints = {}
    for algorithm in KeyAlgorithm:
        await keystore.sign_request(request(f"a-{algorithm}", algorithm))
    for algorithm in (KeyAlgorithm.EC_P256, KeyAlgorithm.RSA_2048):
        leaf = make_leaf(middle, await loaded(keystore, f"a-{algorithm}"), NAMES)
        await keystore.store_certificate(f"a-{algorithm}", pem(leaf), [pem(middle.certificate), pem(root.certificate)])
        fingerprints[algorithm] = x509.fingerprint(leaf)
    told = await keytool("-list", file_of(tmp_path, kind), kind, "-v")
    assert told.count("Entry type: PrivateKeyEntry") == len(KeyAlgorithm)
    assert told.count("Certificate chain length: 3") == 2
    assert told.count("Certificate chain length: 1") == len(KeyAlgorithm) - 2
    plain = told.replace(":", "").lower()
    assert all(fingerprint in plain for fingerprint in fingerprints.values())
    # Java takes every key out of it, so it could read them all.
    copy = tmp_path / "copy.p12"
    source = ("-srckeystore", file_of(tmp_path, kind), "-srcstoretype", STORE[kind], "-srcstorepass", WORD)
    told = await keytool("-importkeystore", copy, "pkcs12", *source, "-noprompt", word="another word")
    assert f"{len(KeyAlgorithm)} entries successfully imported, 0 entries failed" in told
    # And we read what Java made of it, as a file somewhere on the host.
    copy.chmod(0o600)
    ours = opened("pkcs12", tmp_path, lambda _: b"another word", file=str(copy))
    for entry in await keystore.entries():
        assert x509.public_key_sha256((await loaded(ours, entry.alias)).public_key()) == entry.public_key_sha256
    assert {entry.certificate_sha256 for entry in await ours.entries()} == {None, *fingerprints.values()}


@java
async def test_what_java_put_there_stays_as_it_is(tmp_path: Path, kind: str) -> None:
    file = tmp_path / f"java.{kind}"
    common = ("-dname", "CN=www.example.org, O=Example", "-validity", "20")
    other = () if kind == "pkcs12" else ("-keypass", "a key's own")
    await keytool("-genkeypair", file, kind, *common, "-alias", "Tomcat", "-keyalg", "EC", "-groupname", "secp384r1")
    await keytool("-genkeypair", file, kind, *common, "-alias", "second", "-keyalg", "RSA", "-keysize", "2048", *other)
    root = tmp_path / "root.pem"
    root.write_text(pem(make_ca("A root").certificate))
    await keytool("-importcert", file, kind, "-noprompt", "-alias", "anchor", "-file", root)
    file.chmod(0o600)
    keystore = opened(kind, tmp_path, file=str(file))
    before = {entry.alias: entry for entry in await keystore.entries()}
    assert {alias: entry.kind for alias, entry in before.items()} == {
        "tomcat": EntryKind.KEY_PAIR,
        "second": EntryKind.KEY_PAIR,
        "anchor": EntryKind.TRUSTED_CERTIFICATE,
    }
    assert (before["tomcat"].algorithm, before["second"].algorithm) == (KeyAlgorithm.EC_P384, KeyAlgorithm.RSA_2048)
    assert before["tomcat"].subject == "CN=www.example.org,O=Example"
    assert (before["anchor"].subject, before["anchor"].algorithm) == ("CN=A root", KeyAlgorithm.EC_P256)
    # In a JKS a key may have a passphrase of its own: that one is told, the rest is usable.
    assert ("another passphrase" in str(before["second"].problem)) == (kind == "jks")
    with pytest.raises(Permanent, match="has something else under anchor, which is no key"):
        await keystore.sign_request(request("anchor"))
    listed = await keytool("-list", file, kind)
    await keystore.sign_request(request())
    leaf = make_leaf(make_ca("R"), await loaded(keystore, "request-1"), NAMES)
    await keystore.store_certificate("request-1", pem(leaf), [])
    after = {entry.alias: entry for entry in await keystore.entries()}
    assert {alias: entry for alias, entry in after.items() if alias != "request-1"} == before
    await keystore.remove("request-1")
    assert sorted(await keytool("-list", file, kind)) == sorted(listed)
    # Java still takes the keys out, with the passphrases that they had.
    for alias, word in (("tomcat", ()), ("second", other)):
        await keytool("-certreq", file, kind, "-alias", alias, *word)


async def test_a_jks_whose_keys_have_one_passphrase_of_their_own(tmp_path: Path) -> None:
    words = {"env:P": PASSPHRASE, "env:K": b"for the keys"}
    keystore = opened("jks", tmp_path, words.__getitem__, key_passphrase="env:K")
    csr = await keystore.sign_request(request())
    listed = await keytool(
        "-certreq", file_of(tmp_path, "jks"), "jks", "-alias", "request-1", "-keypass", "for the keys"
    )
    assert "BEGIN NEW CERTIFICATE REQUEST" in listed
    assert await keystore.sign_request(request())
    plain = opened("jks", tmp_path, words.__getitem__)
    (entry,) = await plain.entries()
    assert "another passphrase" in str(entry.problem)
    with pytest.raises(Permanent, match="the key under request-1 has another passphrase than the one that is set"):
        await plain.private_key("request-1")
    assert csr


async def test_openssl_reads_what_we_write(tmp_path: Path) -> None:
    keystore = opened("pkcs12", tmp_path)
    await keystore.sign_request(request())
    root = make_ca("R")
    leaf = make_leaf(root, await loaded(keystore, "request-1"), NAMES)
    await keystore.store_certificate("request-1", pem(leaf), [pem(root.certificate)])
    told = await run("openssl", "pkcs12", "-in", file_of(tmp_path, "pkcs12"), "-passin", f"pass:{WORD}", "-nodes")
    assert (told.count("BEGIN PRIVATE KEY"), told.count("BEGIN CERTIFICATE")) == (1, 2)
    key, found, chain = pkcs12.load_key_and_certificates(file_of(tmp_path, "pkcs12").read_bytes(), PASSPHRASE)
    assert key is not None
    assert (found, chain) == (leaf, [root.certificate])


@pytest.mark.parametrize("how", ["today", "-legacy", "-nomac", "no name"])
async def test_we_read_what_openssl_writes(tmp_path: Path, how: str) -> None:
    key = shared_key(KeyAlgorithm.EC_P256)
    root = make_ca("R")
    leaf = make_leaf(root, key, NAMES)
    parts = tmp_path / "parts.pem"
    parts.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + (pem(leaf) + pem(root.certificate)).encode()
    )
    file = tmp_path / "openssl.p12"
    options = [how] if how.startswith("-") else []
    options += [] if how == "no name" else ["-name", "Web Server"]
    await run("openssl", "pkcs12", "-export", "-in", parts, "-out", file, "-passout", f"pass:{WORD}", *options)
    keystore = opened("pkcs12", tmp_path, file=str(file))
    (entry,) = await keystore.entries()
    assert entry.alias == ("1" if how == "no name" else "Web Server")
    assert (entry.algorithm, entry.certificate_sha256) == (KeyAlgorithm.EC_P256, x509.fingerprint(leaf))
    # A key of ours beside it, and the file is one of today's.
    await keystore.sign_request(request())
    told = await run("openssl", "pkcs12", "-in", file, "-passin", f"pass:{WORD}", "-nodes")
    assert (told.count("BEGIN PRIVATE KEY"), told.count("BEGIN CERTIFICATE")) == (2, 3)


@pytest.mark.parametrize(
    ("kind", "made", "why"), [("jks", "pkcs12", "a PKCS#12 file"), ("pkcs12", "jks", "a JKS file")]
)
async def test_the_other_format_under_this_name(tmp_path: Path, kind: str, made: str, why: str) -> None:
    await opened(made, tmp_path).sign_request(request())
    keystore = opened(kind, tmp_path, file=str(file_of(tmp_path, made)))
    with pytest.raises(Permanent, match=f"it is {why}, and the keystore is set as"):
        await keystore.entries()
    file_of(tmp_path, made).write_text(pem(make_ca("R").certificate))
    with pytest.raises(Permanent, match="it is a PEM file"):
        await keystore.entries()


async def test_a_file_that_asks_for_too_much_is_refused(tmp_path: Path) -> None:
    keystore = opened("pkcs12", tmp_path)
    await keystore.sign_request(request())
    file = file_of(tmp_path, "pkcs12")
    sound = file.read_bytes()
    for slow in (True, False):
        pfx = Pfx.load(sound)
        if slow:
            pfx["mac_data"]["iterations"] = 2_000_000_000
        else:
            whole = AuthenticatedSafe.load(bytes(pfx["auth_safe"]["content"]))
            bags = SafeContents.load(bytes(whole[0]["content"]))
            scheme = bags[0]["bag_value"]["encryption_algorithm"]["parameters"]
            scheme["key_derivation_func"]["parameters"]["iteration_count"] = 2_000_000_000
            whole[0] = ContentInfo({"content_type": "data", "content": bags.dump(force=True)})
            content = whole.dump(force=True)
            pfx["auth_safe"] = ContentInfo({"content_type": "data", "content": content})
            pfx["mac_data"] = protection.mac(content, WORD)
        file.write_bytes(pfx.dump(force=True))
        with pytest.raises(Permanent, match="it asks for 2,000,000,000 iterations to derive a key"):
            await keystore.entries()
    file.write_bytes(b"\x30\x84\xff\xff\xff\xff" + b"\x30\x80" * 100_000)
    with pytest.raises(Permanent, match="the file is damaged"):
        await keystore.entries()
    with file.open("wb") as large:
        large.truncate(17 * 1024 * 1024)
    for kind in ("pkcs12", "jks"):
        with pytest.raises(Permanent, match="is larger than 16777216 bytes and was not read"):
            await opened(kind, tmp_path, file=str(file)).entries()


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (struct.pack(">III", 0xFEEDFEED, 2, 2**32 - 1), "it ends too early"),
        (struct.pack(">III", 0xFEEDFEED, 3, 0), "of a version that nobody knows"),
        (struct.pack(">IIII", 0xFEEDFEED, 2, 1, 7) + b"\0" * 10, "an entry of the unknown kind 7"),
        (struct.pack(">III", 0xFEEDFEED, 2, 0) + b"more", "more in it than it says"),
        (struct.pack(">IIIIH", 0xFEEDFEED, 2, 1, 1, 1) + b"\xff" + b"\0" * 16, "an alias that is no text"),
        (struct.pack(">IIIIHQII", 0xFEEDFEED, 2, 1, 1, 0, 0, 0, 2**32 - 1), "an entry with 4294967295 certificates"),
    ],
)
async def test_a_jks_that_lies(tmp_path: Path, body: bytes, why: str) -> None:
    file = tmp_path / "lies.jks"
    whole = hashlib.sha1(WORD.encode("utf-16-be") + b"Mighty Aphrodite" + body).digest()
    file.write_bytes(body + whole)
    file.chmod(0o600)
    with pytest.raises(Permanent, match=why):
        await opened("jks", tmp_path, file=str(file)).entries()


async def test_a_folder_that_others_may_write_to_is_refused(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o755)
    keystore = opened("pkcs12", tmp_path, file=str(shared / "keys.p12"))
    assert await keystore.sign_request(request())
    shared.chmod(0o775)
    with pytest.raises(Permanent, match=r"open to others \(mode 0775\); run chmod go-w"):
        await keystore.entries()


@pytest.mark.parametrize("wrong", ["", "../keys.p12", "/etc/../keys", "/"])
def test_a_file_is_a_plain_path(tmp_path: Path, wrong: str) -> None:
    with pytest.raises(Permanent, match="PKCS#12 file: setting file"):
        opened("pkcs12", tmp_path, file=wrong)


def test_a_passphrase_is_needed_and_must_be_text(tmp_path: Path) -> None:
    settings: Any = {"passphrase": None}
    with pytest.raises(Permanent, match="setting passphrase"):
        opened("jks", tmp_path, **settings)
    with pytest.raises(Permanent, match="The passphrase env:P is not text in UTF-8"):
        asyncio.run(opened("jks", tmp_path, lambda _: b"\xff\xfe").sign_request(request()))


def test_rc2_as_its_specification_has_it() -> None:
    """RFC 2268 section 5, the vectors whose key is as long as its effective length."""
    for key, plain, sealed in (
        ("ffffffffffffffff", "ffffffffffffffff", "278b27e42e2f0d49"),
        ("3000000000000000", "1000000000000001", "30649edf9be7d2c2"),
        ("88bca90e90875a7f0f79c384627bafb2", "0000000000000000", "2269552ab0f85ca6"),
    ):
        assert rc2.decrypt_cbc(bytes.fromhex(key), b"\0" * 8, bytes.fromhex(sealed)).hex() == plain


@pytest.mark.parametrize("kind", sorted(STORE))
@pytest.mark.filterwarnings("ignore:Parsed a serial number")
async def test_whatever_is_in_a_file_it_is_read_or_refused_in_a_sentence(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files changed at random places, the same each time, where no check of the whole gets in the way."""
    monkeypatch.setattr(protection, "ITERATIONS", 10)
    keystore = opened(kind, tmp_path)
    root = make_ca("R")
    for alias in ("one", "two"):
        await keystore.sign_request(request(alias))
        leaf = make_leaf(root, await loaded(keystore, alias), NAMES)
        await keystore.store_certificate(alias, pem(leaf), [pem(root.certificate)])
    file = file_of(tmp_path, kind)
    body = file.read_bytes()[:-20] if kind == "jks" else _bare(file.read_bytes())
    chance = random.Random(20261124)
    outcomes = set()
    for _ in range(60):
        changed = bytearray(body)
        for _ in range(chance.choice((1, 1, 2, 5))):
            at = chance.randrange(len(changed))
            changed[at : at + chance.choice((0, 1, 1, 1, 9))] = chance.randbytes(chance.choice((0, 1, 1, 1, 5)))
        if kind == "jks":
            changed += hashlib.sha1(WORD.encode("utf-16-be") + b"Mighty Aphrodite" + changed).digest()
        for verb in (keystore.entries(), keystore.sign_request(request("new")), keystore.remove("one")):
            file.write_bytes(changed)
            try:
                await verb
                outcomes.add("read")
            except Permanent as error:
                outcomes.add("refused" if error.message.startswith(f"The keystore {file} ") else error.message)
    assert outcomes == {"read", "refused"}


def _bare(content: bytes) -> bytes:
    """A PKCS#12 file with its certificates in the clear and without a check of the whole."""
    keys, hidden = AuthenticatedSafe.load(bytes(Pfx.load(content)["auth_safe"]["content"]))
    info = hidden["content"]["encrypted_content_info"]
    sealed = bytes(info["encrypted_content"])
    plain = protection.decrypt(info["content_encryption_algorithm"], sealed, WORD, protection.Work())
    whole = AuthenticatedSafe([keys, ContentInfo({"content_type": "data", "content": plain})]).dump()
    return bytes(Pfx({"version": "v3", "auth_safe": ContentInfo({"content_type": "data", "content": whole})}).dump())
