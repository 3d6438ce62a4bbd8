"""One entry of a PKCS#12 or JKS file exchanged, and nothing else; judged by ``keytool``, which made the file."""

from __future__ import annotations

import base64
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest

from connectors.archives import formats
from connectors.archives.contract import Archive, Passphrases, Unreadable
from connectors.endpoints.contract import Place
from connectors.endpoints.keystores import KeystoreEntry
from connectors.errors import Permanent
from model.keys import KeyAlgorithm
from tests.pki import make_ca, make_leaf, pem, shared_key
from tests.support.installing import ThrowawayAuthority, fingerprint_of
from tests.support.programs import program

WORD = "correct horse"
KEY_WORD = "battery staple"
NOW = datetime(2026, 11, 24, tzinfo=UTC)
both = pytest.mark.parametrize("form", ["pkcs12", "jks"])


def keytool(*arguments: str | Path) -> str:
    quick = ("-J-XX:+UseSerialGC", "-J-XX:TieredStopAtLevel=1", "-J-Xshare:auto")
    done = subprocess.run(
        [program("keytool"), *quick, *map(str, arguments)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def entry(store: str = WORD, key: str | None = None) -> KeystoreEntry:
    return KeystoreEntry(Passphrases(store, key or store), lambda: NOW)


def place(form: str, alias: str = "") -> Place:
    return Place("/keys", "/keys", form=form, alias=alias)


def read(content: bytes, store: str = WORD, key: str | None = None) -> Archive:
    return formats.opened(content, Passphrases(store, key or store))


@pytest.fixture(scope="module")
def made_by_java(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A file of each form with two keys and a trusted certificate. In the JKS the second key has its own passphrase."""
    folder = tmp_path_factory.mktemp("java")
    root = folder / "root.pem"
    root.write_text(pem(make_ca("A root").certificate))
    found = {}
    for form in ("pkcs12", "jks"):
        file = folder / f"keys.{form}"
        common = ("-keystore", file, "-storetype", form, "-storepass", WORD)
        own = ("-keypass", KEY_WORD) if form == "jks" else ()
        names = ("-dname", "CN=old", "-keyalg", "EC", "-groupname", "secp256r1")
        keytool("-genkeypair", *common, *names, "-alias", "WebServer")
        keytool("-genkeypair", *common, *names, "-alias", "other", *own)
        keytool("-importcert", *common, "-noprompt", "-alias", "anchor", "-file", root)
        found[form] = file
    return found


@both
def test_one_entry_is_exchanged(
    form: str, made_by_java: dict[str, Path], authority: ThrowawayAuthority, tmp_path: Path
) -> None:
    before = made_by_java[form].read_bytes()
    material = authority.issue("www.example.org")
    where = place(form, "webserver")
    after = entry().write(before, where, material)
    found = entry().read(after, where)
    assert found.certificate == fingerprint_of(material)
    assert len(found.chain) == 1
    assert found.public_key is not None
    old, new = {one.alias: one for one in read(before).entries()}, {one.alias: one for one in read(after).entries()}
    # The alias is spelled as Java spelled it, the order is kept, and the others are what they were.
    assert read(after).aliases() == read(before).aliases()
    assert {alias: one for alias, one in old.items() if alias != "webserver"} == {
        alias: one for alias, one in new.items() if alias != "webserver"
    }
    # Java reads it, and takes both keys out, each with its passphrase.
    file = tmp_path / "after"
    file.write_bytes(after)
    common = ("-keystore", file, "-storetype", form, "-storepass", WORD)
    told = keytool("-list", "-v", *common)
    assert told.count("Entry type: PrivateKeyEntry") == 2
    assert told.count("Entry type: trustedCertEntry") == 1
    assert told.count("Certificate chain length: 2") == 1
    assert fingerprint_of(material) in told.replace(":", "").lower()
    keytool("-certreq", *common, "-alias", "webserver")
    keytool("-certreq", *common, "-alias", "other", *(("-keypass", KEY_WORD) if form == "jks" else ()))


@both
def test_an_entry_and_a_file_are_made_where_there_is_none(
    form: str, made_by_java: dict[str, Path], authority: ThrowawayAuthority, tmp_path: Path
) -> None:
    material = authority.issue("www.example.org")
    grown = entry().write(made_by_java[form].read_bytes(), place(form, "Zürich ✓"), material)
    assert len(read(grown).aliases()) == 3
    fresh = entry().write(None, place(form), material)
    assert read(fresh).aliases() == ["tomcat"]
    assert entry().read(fresh, place(form)).certificate == fingerprint_of(material)
    assert entry().read(None, place(form)).certificate is None
    for content, count, alias in ((grown, 3, "Zürich ✓"), (fresh, 1, "tomcat")):
        file = tmp_path / f"{count}"
        file.write_bytes(content)
        told = keytool("-list", "-keystore", file, "-storetype", form, "-storepass", WORD, "-J-Dfile.encoding=UTF-8")
        assert told.count("PrivateKeyEntry") == count
        assert entry().read(content, place(form, alias.upper())).certificate == fingerprint_of(material)


@both
def test_keys_may_have_a_passphrase_of_their_own(form: str, authority: ThrowawayAuthority) -> None:
    material = authority.issue("www.example.org")
    content = entry(WORD, KEY_WORD).write(None, place(form), material)
    assert entry(WORD, KEY_WORD).read(content, place(form)).public_key is not None
    assert entry(WORD, KEY_WORD).look(content, place(form)).obstacle is None
    # With the file's own it can be looked into, and nothing is written that its user could not open.
    found = entry().read(content, place(form))
    assert (found.certificate, found.public_key) == (fingerprint_of(material), None)
    assert "the key under tomcat has another passphrase than the one that is set" in str(
        entry().look(content, place(form)).obstacle
    )
    with pytest.raises(Permanent, match=r"^The keystore /keys can't be used: the key under tomcat has another"):
        entry().write(content, place(form), material)


@both
def test_what_stands_in_the_way_is_told(
    form: str, made_by_java: dict[str, Path], authority: ThrowawayAuthority
) -> None:
    sound = made_by_java[form].read_bytes()
    assert entry().look(sound, place(form, "webserver")).obstacle is None
    assert entry().look(None, place(form)).obstacle is None
    several = entry().look(sound, place(form)).obstacle
    assert several is not None
    assert several.startswith("the keystore /keys has several keys (webserver, other), and nothing says which")
    wrong = entry("not it").look(sound, place(form)).obstacle
    assert wrong == "the keystore /keys can't be used: the passphrase is wrong or the file is damaged."
    for content, why in (
        (sound[:200], "the file is damaged"),
        (b"", r"it is empty \(0 bytes\)"),
        (b"\xce\xce\xce\xce" + bytes(40), "it is a JCEKS file, which certgate does not write"),
        (b"-----BEGIN CERTIFICATE-----", "it is a PEM file and no keystore"),
        (b"hello", "it is neither PKCS#12 nor JKS"),
    ):
        with pytest.raises(Permanent, match=f"The keystore /keys can't be used: {why}"):
            entry().read(content, place(form))
    with pytest.raises(Permanent, match="it has something else under anchor, which is no key"):
        entry().write(sound, place(form, "anchor"), authority.issue("www.example.org"))


def test_a_chain_that_others_need_stays(authority: ThrowawayAuthority) -> None:
    """Two keys whose certificates come from one intermediate: it is in the file once, and stays until both are gone."""
    archive = formats.PKCS12.new(Passphrases(WORD, WORD))
    ca = make_ca("Issuer")
    key = shared_key(KeyAlgorithm.EC_P256)
    for alias in ("one", "two"):
        archive.put(alias, key, [make_leaf(ca, key, [f"{alias}.example"]), ca.certificate], 1)
    other = make_ca("Other issuer")
    archive.put("one", key, [make_leaf(other, key, ["one.example"]), other.certificate], 2)
    again = read(archive.content())
    assert [[one.subject.rfc4514_string() for one in again.chain(alias)][1:] for alias in ("one", "two")] == [
        ["CN=Other issuer"],
        ["CN=Issuer"],
    ]


@both
def test_a_ca_that_changed_its_key_and_kept_its_name(form: str, authority: ThrowawayAuthority) -> None:
    """Java tells issuers in a PKCS#12 by their names; in a JKS each key has its own chain."""
    old, new = ThrowawayAuthority(), authority
    shared = entry().write(None, place(form, "one"), old.issue("one.example"))
    # The only key: the old issuer goes with the old certificate.
    renewed = entry().write(shared, place(form, "one"), new.issue("one.example"))
    assert len(entry().read(renewed, place(form, "one")).chain) == 1
    shared = entry().write(shared, place(form, "two"), old.issue("two.example"))
    if form == "jks":
        assert entry().write(shared, place(form, "two"), new.issue("two.example"))
        return
    with pytest.raises(Permanent, match="would have two different certificates of CN=Intermediate, and Java tells"):
        entry().write(shared, place(form, "two"), new.issue("two.example"))


def test_pbmac1_is_read_and_kept(authority: ThrowawayAuthority) -> None:
    """RFC 9579 appendix A.1, a file with SHA-256 in HMAC and PRF; its passphrase is 1234."""
    content = base64.b64decode((Path(__file__).parent / "rfc9579-a1.txt").read_text())
    (shown,) = read(content, "1234").entries()
    assert (shown.alias, shown.algorithm, shown.subject) == (
        "1",
        KeyAlgorithm.RSA_2048,
        "CN=tt,OU=rr,O=ee,L=ww,ST=qq,C=XX",
    )
    with pytest.raises(Unreadable, match="the passphrase is wrong or the file is damaged"):
        read(content, "1235")
    material = authority.issue("www.example.org")
    changed = entry("1234").write(content, place("pkcs12"), material)
    assert bytes.fromhex("06092a864886f70d01050e") in changed  # the identifier of PBMAC1
    assert entry("1234").read(changed, place("pkcs12")).certificate == fingerprint_of(material)
    with pytest.raises(Unreadable, match="the passphrase is wrong or the file is damaged"):
        read(changed, "1235")
    spoiled = bytearray(changed)
    spoiled[len(spoiled) // 2] ^= 1
    with pytest.raises(Unreadable):
        read(bytes(spoiled), "1234")
