"""What the types of keystore files find, make and refuse."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from connectors.endpoints.contract import Verification
from connectors.errors import Permanent, RolledBack
from tests.support.installing import ThrowawayAuthority, fingerprint_of, trace
from tests.support.keystore_files import ALIAS, OTHER, STORE_WORD, KeystoreFile, entry, with_entry
from tests.support.pem import NAME
from tests.support.products import Installation

both = pytest.mark.parametrize("form", ["pkcs12", "jks"])


@pytest.fixture
def product(tmp_path: Path, form: Any) -> KeystoreFile:
    (tmp_path / "files").mkdir()
    return KeystoreFile(tmp_path / "files", form)


@pytest.fixture
def place(product: KeystoreFile, tmp_path: Path) -> Installation:
    return Installation(product, tmp_path / "home")


@both
async def test_each_key_is_a_binding_where_no_alias_is_set(place: Installation, authority: ThrowawayAuthority) -> None:
    found = await place.opened(alias=None, names=[]).discover()
    assert [one.id.lower() for one in found] == [OTHER, ALIAS.lower()]
    assert [one.obstacle for one in found] == [None, None]
    listening = await place.opened(alias=None, listeners=["127.0.0.1:1"]).discover()
    assert {one.obstacle for one in listening} == {
        "the endpoint has listeners, and the file several keys: set the alias of the one that is served there."
    }
    report = await place.install(authority.issue("other.example"), OTHER, alias=None, names=[])
    assert report.verification is Verification.IN_PLACE


@both
async def test_a_file_of_one_key_needs_no_alias(
    place: Installation, product: KeystoreFile, authority: ThrowawayAuthority
) -> None:
    product.file.write_bytes(with_entry(None, product.type, "Only One", NAME, product.key_word))  # type: ignore[arg-type]
    (found,) = await place.opened(alias=None).discover()
    material = authority.issue(NAME)
    report = await place.install(material, found.id, alias=None)
    assert (report.verification, report.served_after) == (Verification.IN_PLACE, fingerprint_of(material))


@both
async def test_what_the_hook_says_is_on_the_record(place: Installation, authority: ThrowawayAuthority) -> None:
    hook = ["/bin/sh", "-c", 'echo "loaded $0"', "{certificate}"]
    report = await place.install(authority.issue(NAME), hook=hook, hook_shell=False)
    (activate,) = [step for step in report.steps if step.name == "activate"]
    (file,) = place.product.files()
    assert activate.outcome == f"requested: exit status 0\nloaded {file}"


@both
async def test_an_entry_and_a_file_are_made_only_when_asked_for(
    place: Installation, product: KeystoreFile, authority: ThrowawayAuthority
) -> None:
    (found,) = await place.opened(alias="typo").discover()
    assert found.obstacle is not None
    assert found.obstacle.lower().endswith(
        f"has no key under typo (there is: {OTHER}, {ALIAS.lower()}): correct the alias, or set create."
    )
    material = authority.issue(NAME)
    await place.install(material, "third", alias="third", create=True)
    content = product.file.read_bytes()
    where = (await place.opened(alias="third").discover())[0].places[0]
    assert len(entry(product.key_word).look(content, where).aliases) == 3
    product.file.unlink()
    with pytest.raises(
        Permanent, match=r"There is no file .* on this host: correct the path, or set an alias and create"
    ):
        await place.endpoint.discover()
    await place.install(material, create=True)
    assert product.file.stat().st_mode & 0o777 == 0o600
    assert await place.served() == [fingerprint_of(material)]


@both
async def test_a_file_that_is_made_is_gone_when_the_install_fails(
    place: Installation, product: KeystoreFile, authority: ThrowawayAuthority
) -> None:
    product.file.unlink()
    product.break_next()
    with pytest.raises(RolledBack, match="the hook will not"):
        await place.install(authority.issue(NAME), create=True)
    assert not product.file.exists()


@both
async def test_what_can_not_be_opened_is_refused(
    place: Installation, product: KeystoreFile, authority: ThrowawayAuthority, tmp_path: Path
) -> None:
    wrong = tmp_path / "wrong"
    wrong.touch(0o600)
    wrong.write_text("not the word")
    before, material = trace(product.file), authority.issue(NAME)

    async def told(**settings: Any) -> str:
        with pytest.raises(Permanent) as caught:
            await place.install(material, **settings)
        assert "not the word" not in caught.value.message
        return caught.value.message

    assert "the passphrase is wrong or the file is damaged" in await told(store_password=f"file:{wrong}")
    assert "the passphrase is wrong or the file is damaged" in await told(store_password=f"file:{wrong}", alias=None)
    assert "has another passphrase than the one that is set" in await told(key_password=f"file:{wrong}")
    assert "can't be read" in await told(store_password=f"file:{tmp_path}/nowhere")
    assert trace(product.file) == before
    with pytest.raises(Permanent, match="passphrase is wrong"):
        await place.opened(store_password=f"file:{wrong}").check()
    sound = product.file.read_bytes()
    for content, why in ((sound[: len(sound) // 2], "the file is damaged"), (b"", "it is empty"), (b"junk", "neither")):
        product.file.write_bytes(content)
        assert why in await told()
        assert product.file.read_bytes() == content
    other = "jks" if product.type == "pkcs12" else "pkcs12"
    product.file.write_bytes(with_entry(None, other, ALIAS, NAME))  # type: ignore[arg-type]
    assert "file, and the endpoint is set as" in await told()


@both
@pytest.mark.parametrize(
    "settings",
    [{"path": "keys"}, {"path": "/"}, {"path": "/x\0y"}, {"store_password": STORE_WORD}, {"alias": ""}, {"hook": []}],
)
def test_settings_that_can_not_be(place: Installation, form: str, settings: dict[str, Any]) -> None:
    with pytest.raises(Permanent, match=f"setting {next(iter(settings))}"):
        place.opened(**settings)
