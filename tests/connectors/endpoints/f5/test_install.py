"""What a BIG-IP is told and how it takes it: transactions, inheritance, key types, new profiles, generations, keys made
on the device. Each is proved by handshakes with the virtual servers."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from connectors.endpoints import procedure
from connectors.endpoints.contract import MakesKeys, Material, Verification
from connectors.endpoints.f5 import names, uploads
from connectors.errors import KeyMissing, Permanent, RolledBack
from connectors.keystores.contract import SigningRequest
from model.keys import KeyAlgorithm
from tests.connectors.endpoints.f5.conftest import Bigip
from tests.simulators.f5 import Fault
from tests.support.installing import PrivateKey, ThrowawayAuthority, fingerprint_of, pem
from tests.support.products import keyless

# What belongs to a profile; what is only tried is called otherwise.
UPLOAD = f"POST /mgmt/shared/file-transfer/uploads/{names.tag('/Common/www')}"


async def test_key_certificate_and_chain_are_one_transaction(bigip: Bigip) -> None:
    material = bigip.issue()
    report = await bigip.at().install(material)
    assert report.verification is Verification.MATCH
    [transaction] = {call.transaction for call in bigip.device.calls if call.transaction}
    inside = [f"{call.method} {call.path}" for call in bigip.device.calls if call.transaction == transaction]
    assert inside == [
        "POST /mgmt/tm/sys/file/ssl-key",
        "POST /mgmt/tm/sys/file/ssl-cert",
        "POST /mgmt/tm/sys/file/ssl-cert",
        "PATCH /mgmt/tm/ltm/profile/client-ssl/~Common~www",
    ]
    stem = f"/Common/{names.tag('/Common/www')}-{fingerprint_of(material)[:32]}"
    assert bigip.ours() == sorted([f"{stem}.key", f"{stem}.crt", f"{stem}-chain.crt"])
    assert all(not unit.files for unit in bigip.device.units), "the uploaded key is deleted from the disk"
    assert [unit.stamp for unit in bigip.device.units] == [bigip.device.active.stamp] * 2
    assert "device group failover-group is in sync" in report.steps[4].outcome
    assert bigip.device.active.saved is bigip.device.configuration


async def test_the_chain_is_sent_and_read_again(bigip: Bigip) -> None:
    deeper = ThrowawayAuthority()
    material = bigip.issue()
    both = replace(material, chain_pem=[*material.chain_pem, pem(deeper.intermediate)])
    await bigip.at().install(both)
    place = (await bigip.at().binding()).places[0]
    found = await bigip.endpoint().in_place(place)
    assert found.certificate == fingerprint_of(material)
    assert len(found.chain) == 2, "a bundle is told certificate by certificate"
    assert (await bigip.at().install(both)).already


async def test_sni_chooses_and_the_other_profile_stays(bigip: Bigip) -> None:
    other = bigip.shown(name="api.example.com")
    material = bigip.issue()
    await bigip.at().install(material)
    assert bigip.serves(material)
    assert bigip.serves(material, name=None), "it is the default"
    assert bigip.shown(name="api.example.com") == other
    api = bigip.issue("api.example.com")
    await bigip.at("/Common/api").install(api)
    assert bigip.serves(api, name="api.example.com")
    assert bigip.serves(material)


async def test_a_folder_of_another_partition(bigip: Bigip) -> None:
    material = bigip.issue("shop.example.com")
    await bigip.at("/Shop/app/shop", partition="Shop").install(material)
    assert bigip.serves(material, "vs_shop", "shop.example.com")
    assert all(one.startswith("/Shop/certgate-") for one in bigip.ours())


@pytest.mark.parametrize("name", ["/Common/idle; $(reboot)", "/Common/idle"])
async def test_profiles_that_nothing_uses_are_looked_at_in_place(bigip: Bigip, name: str) -> None:
    material = bigip.issue()
    report = await bigip.at(name).install(material)
    assert report.verification is Verification.IN_PLACE
    assert (await bigip.at(name).served()) == [fingerprint_of(material)]
    commands = [call for call in bigip.device.calls if "/util/" in call.path]
    assert commands
    assert (await bigip.at(name).install(material)).already


async def test_rsa_and_ecdsa_are_exchanged_apart(bigip: Bigip) -> None:
    place = bigip.at("/Common/dual")
    ecdsa = bigip.issue("dual.example.com")
    await place.install(ecdsa)
    key = rsa.generate_private_key(65537, 2048)
    second = bigip.issue("dual.example.com", key=key)
    await place.install(second)
    for material in (ecdsa, second):
        looked = await procedure.look(place.endpoint, "/Common/dual", expected=keyless(material))
        assert {one.verification for one in looked} == {Verification.MATCH}
    chain = bigip.device.configuration.chain_of("/Common/dual")
    assert [entry["name"] for entry in chain] == ["dual-rsa", "dual-ecdsa"]


async def test_what_fits_no_entry_or_no_device_is_refused(bigip: Bigip) -> None:
    with pytest.raises(Permanent, match="serves RSA and ECDSA"):
        await bigip.at().install(bigip.issue(key=ed25519.Ed25519PrivateKey.generate()))
    bigip.device.change(
        "PATCH",
        "ltm/profile/client-ssl/~Common~dual",
        {"certKeyChain": [{"name": "one", "cert": "/Common/www.crt", "key": "/Common/www.key"}]},
    )
    place = bigip.at("/Common/dual")
    endpoint = place.endpoint
    binding = await place.binding()
    two = replace(binding, places=[binding.places[0], replace(binding.places[0], alias="gone")])
    with pytest.raises(Permanent, match="none of them is RSA"):
        await endpoint.choose(two, bigip.issue(key=rsa.generate_private_key(65537, 2048)))


# --- inheritance ------------------------------------------------------------------------------------------------------


async def test_a_parent_changes_whoever_inherits_from_it(bigip: Bigip) -> None:
    parent = await bigip.at("/Common/parent").binding()
    assert parent.shared_with == ["/Common/child"]
    material = bigip.issue("parent.example.com")
    await bigip.at("/Common/parent").install(material)
    assert bigip.serves(material, "vs_child", None)
    assert bigip.device.configuration.profiles["/Common/child"]["inheritCertkeychain"] == "true"


async def test_a_child_gets_a_certificate_of_its_own(bigip: Bigip) -> None:
    before = bigip.device.configuration.chain_of("/Common/parent")
    material = bigip.issue("child.example.com")
    await bigip.at("/Common/child").install(material)
    assert bigip.serves(material, "vs_child", None)
    assert bigip.device.configuration.chain_of("/Common/parent") == before


async def test_a_child_inherits_again_where_its_install_fails(bigip: Bigip) -> None:
    before = bigip.shown("vs_child", None)
    await bigip.refuse_to_serve(bigip.at("/Common/child"), bigip.issue("child.example.com"))
    assert bigip.device.configuration.profiles["/Common/child"]["inheritCertkeychain"] == "true"
    assert bigip.shown("vs_child", None) == before
    assert bigip.ours() == []


# --- profiles that are made -------------------------------------------------------------------------------------------


async def test_a_virtual_server_gets_a_profile_of_its_own(bigip: Bigip) -> None:
    wanted = bigip.at("/Common/certgate-vs_plain", new_profiles=["/Common/vs_plain"])
    material = bigip.issue()
    await wanted.install(material)
    assert bigip.serves(material, "vs_plain")
    virtual = bigip.device.configuration.virtuals["/Common/vs_plain"]
    assert [one["name"] for one in virtual["profiles"]] == ["/Common/tcp", "/Common/http", wanted.product.binding]
    assert bigip.device.configuration.profiles[wanted.product.binding]["defaultsFrom"] == "/Common/clientssl"
    again = bigip.issue()
    await wanted.install(again)
    assert bigip.serves(again, "vs_plain")


async def test_such_a_profile_is_taken_away_where_the_install_fails(bigip: Bigip) -> None:
    before, first = bigip.shown("vs_plain"), bigip.device.configuration.virtuals["/Common/vs_plain"]
    place = bigip.at("/Common/certgate-vs_plain", new_profiles=["/Common/vs_plain"])
    await bigip.refuse_to_serve(place, bigip.issue())
    assert bigip.device.configuration.virtuals["/Common/vs_plain"] == first
    assert "/Common/certgate-vs_plain" not in bigip.device.configuration.profiles
    assert bigip.ours() == []
    assert bigip.shown("vs_plain") == before


async def test_new_profiles_that_make_no_sense_are_told(bigip: Bigip) -> None:
    for virtual, told in (
        ("/Common/nowhere", "there is no virtual server"),
        ("/Common/vs_web", "install on /Common/www"),
    ):
        name = f"/Common/certgate-{virtual.rpartition('/')[2]}"
        with pytest.raises(Permanent, match=told):
            await bigip.at(name, new_profiles=[virtual]).install(bigip.issue())
    assert bigip.asked("POST /mgmt/tm/transaction") == 0


# --- refused before anything is changed -------------------------------------------------------------------------------


async def test_an_incomplete_chain_is_refused(bigip: Bigip) -> None:
    material, stranger = bigip.issue(), ThrowawayAuthority()
    for chain in ([], [pem(stranger.intermediate)], [material.chain_pem[1]], [pem(stranger.root)]):
        with pytest.raises(Permanent, match=r"chain .* is not complete: .*'CN=Intermediate' is missing"):
            await bigip.at().install(replace(material, chain_pem=chain))
    with pytest.raises(Permanent, match=r"'CN=Root' is missing"):
        await bigip.at().install(
            replace(material, chain_pem=material.chain_pem[:1], trust_anchors_pem=[pem(stranger.root)])
        )
    assert bigip.asked("upload") == 0
    await bigip.at().install(replace(material, chain_pem=material.chain_pem[:1]))
    assert bigip.serves(material)


async def test_a_profile_with_a_passphrase_is_left_alone(bigip: Bigip) -> None:
    [entry] = bigip.device.configuration.chain_of("/Common/www")
    bigip.device.change(
        "PATCH", "ltm/profile/client-ssl/~Common~www", {"certKeyChain": [{**entry, "passphrase": "$M$secret"}]}
    )
    with pytest.raises(Permanent, match="keeps the passphrase of its key") as caught:
        await bigip.at().install(bigip.issue())
    assert "$M$" not in caught.value.message


async def test_a_key_in_place_stays_and_must_fit(bigip: Bigip) -> None:
    before = bigip.shown()
    with pytest.raises(RolledBack, match=r"01070317:3: profile /Common/www's key and certificate do not match"):
        await bigip.at().install(keyless(bigip.issue()))
    assert bigip.shown() == before
    assert bigip.ours() == []
    first = bigip.issue()
    await bigip.at().install(first)
    assert first.private_key_pem is not None
    key = _loaded(first)
    renewed = keyless(bigip.issue(key=key))
    await bigip.at().install(renewed)
    assert bigip.serves(renewed)


def _loaded(material: Material) -> PrivateKey:
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    assert material.private_key_pem is not None
    key = load_pem_private_key(material.private_key_pem, None)
    assert isinstance(key, PrivateKey)
    return key


# --- generations ------------------------------------------------------------------------------------------------------


async def test_the_last_two_generations_stay_and_nobody_elses_object_goes(bigip: Bigip) -> None:
    installed = []
    for _ in range(5):
        bigip.clock.now += dt.timedelta(days=30)
        installed.append(bigip.issue())
        await bigip.at().install(installed[-1])
    kept = [one for one in bigip.ours() if one.endswith(".crt") and not one.endswith("-chain.crt")]
    assert sorted(kept) == sorted(
        f"/Common/{names.tag('/Common/www')}-{fingerprint_of(one)[:32]}.crt" for one in installed[-3:]
    )
    assert len(bigip.ours()) == 9, "each with its key and chain"
    assert "/Common/www.key" in bigip.device.configuration.keys, "what was there first is not ours to delete"
    await bigip.at().install(installed[-2])
    assert bigip.serves(installed[-2])
    assert bigip.asked(UPLOAD) == 15, "going back needs nothing from us"


async def test_what_another_profile_uses_is_never_deleted(bigip: Bigip) -> None:
    first = bigip.issue("www.example.com", "api.example.com")
    await bigip.at().install(first)
    [entry] = bigip.device.configuration.chain_of("/Common/www")
    bigip.device.change("PATCH", "ltm/profile/client-ssl/~Common~api", {"certKeyChain": [entry]})
    await bigip.endpoint().activate((await bigip.at().binding()).places[0])
    for _ in range(4):
        bigip.clock.now += dt.timedelta(days=30)
        await bigip.at().install(bigip.issue())
    assert bigip.serves(first, name="api.example.com")
    assert len([one for one in bigip.ours() if one.endswith(".key")]) == 4


async def test_objects_that_are_there_are_used_and_wrong_ones_told(bigip: Bigip) -> None:
    material = bigip.issue()
    await bigip.at().install(material)
    bigip.device.change(
        "PATCH",
        "ltm/profile/client-ssl/~Common~www",
        {"certKeyChain": [{"name": "www", "cert": "/Common/www.crt", "key": "/Common/www.key"}]},
    )
    [certificate] = [one for one in bigip.ours() if one.endswith(".crt") and "chain" not in one]
    assert (await bigip.at().install(material)).already is False
    assert bigip.asked(UPLOAD) == 3
    bigip.device.change(
        "PATCH",
        "ltm/profile/client-ssl/~Common~www",
        {"certKeyChain": [{"name": "www", "cert": "/Common/www.crt", "key": "/Common/www.key"}]},
    )
    bigip.device.active.files["/var/config/rest/downloads/x"] = bigip.issue().certificate_pem.encode()
    bigip.device.change(
        "PATCH",
        f"sys/file/ssl-cert/{certificate.replace('/', '~')}",
        {"sourcePath": "file:/var/config/rest/downloads/x"},
    )
    with pytest.raises(RolledBack, match="holds another certificate than its name says"):
        await bigip.at().install(material)


# --- keys made on the device ------------------------------------------------------------------------------------------


def _signed(bigip: Bigip, csr: str, *host_names: str) -> Material:
    request = x509.load_pem_x509_csr(csr.encode())
    key = request.public_key()
    unsigned = bigip.issue(*host_names)
    # The authority of the tests wants a key; only its public half goes into a certificate.
    made = bigip.authority.issue(*host_names, key=_Half(key))  # type: ignore[arg-type]
    assert made.chain_pem == unsigned.chain_pem
    return made


class _Half:
    """A public key where a private one is expected."""

    def __init__(self, key: object) -> None:
        self._key = key

    def public_key(self) -> object:
        return self._key

    def private_bytes(self, *_: object) -> bytes:
        return b""


@pytest.mark.parametrize("algorithm", [KeyAlgorithm.EC_P256, KeyAlgorithm.RSA_2048])
async def test_a_key_made_on_the_device_never_leaves_it(bigip: Bigip, algorithm: KeyAlgorithm) -> None:
    endpoint = bigip.endpoint()
    assert isinstance(endpoint, MakesKeys)
    request = SigningRequest(
        "request-42", algorithm, "www.example.com", ["www.example.com", "192.0.2.7"], "Example Ltd"
    )
    csr = await endpoint.make_key("/Common/www", request)
    again = await endpoint.make_key("/Common/www", request)
    keys = [x509.load_pem_x509_csr(one.encode()).public_key() for one in (csr, again)]
    encoded = [one.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo) for one in keys]
    assert encoded[0] == encoded[1]
    assert not bigip.device.active.files
    assert not bigip.device.configuration.requests
    assert bigip.device.units[1].configuration.keys.keys() == bigip.device.configuration.keys.keys(), (
        "it is synchronized"
    )
    material = replace(_signed(bigip, csr, "www.example.com"), private_key_pem=None, key_alias="request-42")
    await bigip.at().install(material)
    assert bigip.serves(material)
    uploaded = [call.path for call in bigip.device.calls if "uploads" in call.path]
    assert not [one for one in uploaded if one.endswith("-key")]
    await endpoint.discard_key("/Common/www", "request-42")
    assert bigip.serves(material), "one in use stays"


async def test_keys_on_the_device_that_are_unlike_or_gone(bigip: Bigip) -> None:
    endpoint = bigip.endpoint()
    request = SigningRequest("request-7", KeyAlgorithm.EC_P256, "www.example.com", ["www.example.com"])
    csr = await endpoint.make_key("/Common/www", request)
    with pytest.raises(Permanent, match="is no rsa-2048 key"):
        await endpoint.make_key("/Common/www", replace(request, algorithm=KeyAlgorithm.RSA_2048))
    with pytest.raises(Permanent, match="makes no ed25519 keys"):
        await endpoint.make_key("/Common/www", replace(request, alias="x", algorithm=KeyAlgorithm.ED25519))
    for alias in ("../../etc/passwd", "a b", "$(reboot)", "a;b", "~Common~www", ""):
        with pytest.raises(Permanent, match="lower-case letters"):
            await endpoint.make_key("/Common/www", replace(request, alias=alias))
    material = replace(_signed(bigip, csr, "www.example.com"), private_key_pem=None, key_alias="request-7")
    await endpoint.discard_key("/Common/www", "request-7")
    await endpoint.discard_key("/Common/www", "request-7")
    place = (await bigip.at().binding()).places[0]
    with pytest.raises(KeyMissing, match="is not there any more"):
        await endpoint.write(place, material)


async def test_a_key_on_the_device_goes_with_its_last_certificate(bigip: Bigip) -> None:
    endpoint = bigip.endpoint()
    for number in range(4):
        bigip.clock.now += dt.timedelta(days=30)
        alias = f"request-{number}"
        csr = await endpoint.make_key(
            "/Common/www", SigningRequest(alias, KeyAlgorithm.EC_P256, "www.example.com", ["www.example.com"])
        )
        material = replace(_signed(bigip, csr, "www.example.com"), private_key_pem=None, key_alias=alias)
        await bigip.at().install(material)
    keys = [one.rpartition("-k-")[2] for one in bigip.ours() if one.endswith(".key")]
    assert keys == ["request-1.key", "request-2.key", "request-3.key"]


# --- files ------------------------------------------------------------------------------------------------------------


async def test_long_files_go_in_parts(bigip: Bigip) -> None:
    content = bytes(range(256)) * 5_000
    await bigip.endpoint().check()
    async with bigip.endpoint()._session as session:
        source = await uploads.upload(session, "long", content)
        assert bigip.asked("POST /mgmt/shared/file-transfer/uploads/long") == 3
        assert bigip.device.active.files[source.removeprefix("file://")] == content
        bigip.device.inject(Fault.CUT_AFTER, on="uploads/long", skip=1)
        await uploads.upload(session, "long", content)
        assert bigip.asked("POST /mgmt/shared/file-transfer/uploads/long") == 3 + 2 + 3
        assert bigip.device.active.files[source.removeprefix("file://")] == content
        await uploads.remove_uploads(session, ["long"])
        assert not bigip.device.active.files
