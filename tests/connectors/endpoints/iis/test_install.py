"""Installs on IIS beyond what every endpoint must do: the store, keys, pruning, faults of Windows, the key's way."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization.pkcs12 import load_pkcs12

from connectors.endpoints.contract import Endpoint, InPlace, MakesKeys, Material, Verification
from connectors.endpoints.iis import archive
from connectors.endpoints.iis.settings import IisSettings
from connectors.errors import ActionRequired, Permanent, RolledBack
from connectors.keystores.contract import SigningRequest
from model.keys import KeyAlgorithm
from model.rules.certificates import check_signing_request
from tests.simulators.winrm import Fault
from tests.simulators.winrm.simulator import JEA
from tests.support.iis import SITE, SimulatedIis
from tests.support.installing import ThrowawayAuthority, fingerprint_of
from tests.support.products import Installation, keyless

FRIENDLY = "certgate a.example:"


@pytest.fixture
def iis(tmp_path: Path) -> Iterator[SimulatedIis]:
    with SimulatedIis(tmp_path) as iis:
        yield iis


@pytest.fixture
def place(iis: SimulatedIis, tmp_path: Path) -> Installation:
    return Installation(iis, tmp_path / "home")


def stored(iis: SimulatedIis, store: str = "My") -> list[str]:
    """Friendly names in a store, without the time."""
    return sorted(one.friendly_name.rpartition(" ")[0] for one in iis.windows.stores[store].values())


def ran(iis: SimulatedIis) -> list[str]:
    return [call.script for call in iis.windows.calls]


# What an install does there.


async def test_certificate_key_and_chain_are_where_windows_looks(
    iis: SimulatedIis, place: Installation, authority: ThrowawayAuthority
) -> None:
    material, keys = authority.issue("a.example"), set(iis.windows.keys)
    await place.install(material)
    [ours] = [one for one in iis.windows.stores["My"].values() if one.friendly_name]
    assert re.fullmatch(rf"{FRIENDLY}{iis.port} \d{{4}}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{{6}}Z", ours.friendly_name)
    assert len(set(iis.windows.keys) - keys) == 1
    assert [one.certificate.subject.rfc4514_string() for one in iis.windows.stores["CA"].values()] == [
        "CN=Intermediate"
    ]
    assert iis.windows.stores["Root"] == {}
    assert ran(iis) == [
        "Get-CertgateBinding",
        "Get-CertgateCertificate",
        "Get-CertgateServer",
        "Get-CertgateBinding",
        "Get-CertgateCertificate",
        "Get-CertgateServer",
        "Import-CertgateCertificate",
        "Set-CertgateBinding",
        "Get-CertgateCertificate",
        "Remove-CertgateCertificate",
    ]
    while iis.simulator.shells.open:  # until all sessions are deleted
        await asyncio.sleep(0.005)


async def test_the_other_site_serves_on_what_it_did(
    iis: SimulatedIis, place: Installation, authority: ThrowawayAuthority
) -> None:
    before = await place.served(iis.other_binding)
    await place.install(authority.issue("a.example"))
    assert await place.served(iis.other_binding) == before
    assert before[0] is not None


async def test_the_newest_two_stay_and_what_is_not_ours_or_in_use_stays_too(
    iis: SimulatedIis, place: Installation, authority: ThrowawayAuthority
) -> None:
    foreign = stored(iis)
    materials = [authority.issue("a.example") for _ in range(4)]
    await place.install(materials[0])
    # Somebody uses our first one elsewhere.
    [first] = [one.thumbprint for one in iis.windows.stores["My"].values() if one.friendly_name]
    iis.windows.records["0.0.0.0:9443"] = (first, "My")
    # And has one with a name like ours for another place.
    iis.put(authority.issue("z.example"), "certgate z.example:443 2020-01-01")
    for material in materials[1:]:
        await place.install(material)
    names = stored(iis)
    assert names.count(f"{FRIENDLY}{iis.port}") == 3  # the newest two, and the one in use
    assert first in iis.windows.stores["My"]
    assert "certgate z.example:443" in names
    assert names.count("") == foreign.count("")
    assert len(iis.windows.keys) == len(iis.windows.stores["My"])


async def test_what_was_bound_before_stays_even_if_it_was_imported_long_ago(
    iis: SimulatedIis, place: Installation, authority: ThrowawayAuthority
) -> None:
    """As after somebody went back to it."""
    materials = [authority.issue("a.example") for _ in range(4)]
    await place.install(materials[0])
    record = f"a.example:{iis.port}"
    first = iis.windows.records[record]
    await place.install(materials[1])
    await place.install(materials[2])
    assert first[0] not in iis.windows.stores["My"]
    await place.install(materials[0])
    await place.install(materials[1])
    first = iis.windows.records[record]
    iis.windows.stores["My"][first[0]].friendly_name = f"{FRIENDLY}{iis.port} 2020-01-01T00:00:00.000000Z"
    await place.install(materials[3])
    assert first[0] in iis.windows.stores["My"]


async def test_a_store_of_ones_own_and_going_back_to_the_other(
    iis: SimulatedIis, place: Installation, authority: ThrowawayAuthority
) -> None:
    old = dict(iis.windows.records)
    await place.install(authority.issue("a.example"), store="WebHosting")
    assert stored(iis, "WebHosting") == [f"{FRIENDLY}{iis.port}"]
    record = f"a.example:{iis.port}"
    assert iis.windows.records[record][1] == "WebHosting"
    iis.windows.records[record] = old[record]
    iis.simulator.inject(Fault.NO_EFFECT, "Set-CertgateBinding")
    with pytest.raises(RolledBack):
        await place.install(authority.issue("a.example"), store="WebHosting", verify_seconds=1)
    assert iis.windows.records[record] == old[record]


async def test_a_binding_without_any_certificate_gets_one_and_loses_it_again(
    iis: SimulatedIis, place: Installation, authority: ThrowawayAuthority
) -> None:
    record = f"a.example:{iis.port}"
    del iis.windows.records[record]
    iis.simulator.inject(Fault.NO_LOGON_SESSION, "Set-CertgateBinding")
    with pytest.raises(RolledBack, match="nothing is served, as before"):
        await place.install(authority.issue("a.example"))
    assert record not in iis.windows.records
    report = await place.install(authority.issue("a.example"))
    assert report.served_before is None
    assert report.verification is Verification.MATCH


async def test_a_certificate_that_somebody_deleted_from_the_store(
    iis: SimulatedIis, place: Installation, authority: ThrowawayAuthority
) -> None:
    """http.sys still names it and serves nothing."""
    record = f"a.example:{iis.port}"
    del iis.windows.stores["My"][iis.windows.records[record][0]]
    [found] = (await place.binding()).places
    assert await place.endpoint.in_place(found) == InPlace(None)
    with pytest.raises(Permanent, match=r"no certificate for a\.example"):
        await place.endpoint.check(found)
    assert (await place.install(authority.issue("a.example"))).served_before is None


@pytest.mark.parametrize("key", [rsa.generate_private_key(65537, 2048), ec.generate_private_key(ec.SECP384R1())])
async def test_key_types_that_windows_serves(
    place: Installation, authority: ThrowawayAuthority, key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey
) -> None:
    material = authority.issue("a.example", key=key)
    await place.install(material)
    assert await place.served() == [fingerprint_of(material)]


async def test_a_key_type_that_windows_does_not_serve(
    iis: SimulatedIis, place: Installation, authority: ThrowawayAuthority
) -> None:
    material = authority.issue("a.example", key=ed25519.Ed25519PrivateKey.generate())
    with pytest.raises(Permanent, match="RSA and ECDSA keys only"):
        await place.install(material)
    assert "Import-CertgateCertificate" not in ran(iis)


async def test_over_jea_nothing_is_different(
    iis: SimulatedIis, place: Installation, authority: ThrowawayAuthority, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {**iis.simulator.settings, "configuration_name": JEA}
    monkeypatch.setattr(SimulatedIis, "connection_settings", settings)
    material = authority.issue("a.example")
    await place.install(material)
    assert await place.served() == [fingerprint_of(material)]


# What goes wrong.


@pytest.mark.parametrize(
    ("fault", "script", "told"),
    [
        (Fault.STORE_DENIED, "Import-CertgateCertificate", "Import-CertgateCertificate failed on .*: Access is denied"),
        (Fault.STORE_FULL, "Import-CertgateCertificate", "not enough space on the disk"),
        (Fault.NO_LOGON_SESSION, "Set-CertgateBinding", "A specified logon session does not exist"),
        (Fault.CUT_BEFORE, "Import-CertgateCertificate", "could not be reached"),
        (Fault.CUT_AFTER, "Import-CertgateCertificate", "could not be reached"),
        (Fault.CUT_BEFORE, "Set-CertgateBinding", "could not be reached"),
        (Fault.CUT_AFTER, "Set-CertgateBinding", "could not be reached"),
        (Fault.KILLED, "Import-CertgateCertificate", "ended the session"),
        (Fault.KILLED, "Set-CertgateBinding", "ended the session"),
    ],
)
async def test_faults_are_put_back_told_and_can_be_tried_again(
    iis: SimulatedIis, place: Installation, authority: ThrowawayAuthority, fault: Fault, script: str, told: str
) -> None:
    before, records, material = await place.state(), dict(iis.windows.records), authority.issue("a.example")
    keys = len(iis.windows.keys)
    iis.simulator.inject(fault, script)
    with pytest.raises(RolledBack, match=told) as caught:
        await place.install(material)
    assert caught.value.served == before.served[0]
    assert await place.state() == before
    assert iis.windows.records == records
    assert place.leftovers() == []
    assert len(iis.windows.keys) <= keys + 1
    # The same certificate, without a new order; its key is not there twice.
    assert (await place.install(material)).served_after == fingerprint_of(material)
    assert len(iis.windows.keys) == keys + 1


async def test_an_order_to_bind_that_has_no_effect_is_seen_by_handshake(
    iis: SimulatedIis, place: Installation, authority: ThrowawayAuthority
) -> None:
    before = await place.state()
    iis.simulator.inject(Fault.NO_EFFECT, "Set-CertgateBinding")
    with pytest.raises(RolledBack, match="still serves the previous certificate"):
        await place.install(authority.issue("a.example"), verify_seconds=1)
    assert await place.state() == before


async def test_functions_of_another_version_are_told(iis: SimulatedIis, place: Installation) -> None:
    iis.simulator.inject(Fault.OTHER_OUTPUT, "Get-CertgateServer")
    with pytest.raises(Permanent, match="bring its functions up to date"):
        await place.endpoint.running()
    iis.simulator.inject(Fault.OTHER_OUTPUT, "Get-CertgateBinding")
    with pytest.raises(Permanent, match="configuration can't be read"):
        await place.endpoint.discover()


async def test_a_site_that_goes_in_the_middle(
    iis: SimulatedIis, place: Installation, authority: ThrowawayAuthority
) -> None:
    [found] = (await place.binding()).places
    iis.windows.remove_site(SITE)
    with pytest.raises(Permanent, match="The site has no such https binding any more"):
        await place.endpoint.in_place(found)
    with pytest.raises(Permanent, match="no binding"):
        await place.install(authority.issue("a.example"))


async def test_a_site_that_is_stopped_is_told_before_anything_is_touched(
    iis: SimulatedIis, place: Installation, authority: ThrowawayAuthority
) -> None:
    iis.windows.stopped.add(SITE)
    with pytest.raises(Permanent, match="its site is stopped"):
        await place.install(authority.issue("a.example"))
    assert "Import-CertgateCertificate" not in ran(iis)


async def test_iis_that_does_not_run_is_to_be_started(
    iis: SimulatedIis, place: Installation, authority: ThrowawayAuthority
) -> None:
    material = authority.issue("a.example")
    iis.stop()
    with pytest.raises(ActionRequired, match=r"IIS on 127\.0\.0\.1 is not running"):
        await place.install(material)
    iis.start()
    assert (await place.install(material)).already


# Keys that are made there.


def request(**changes: Any) -> SigningRequest:
    made = SigningRequest("request-7", KeyAlgorithm.EC_P256, "a.example", ["a.example", "192.0.2.1", "*.a.example"])
    return replace(made, **changes)


def issued_for(authority: ThrowawayAuthority, csr: str, *names: str) -> Material:
    public = x509.load_pem_x509_csr(csr.encode()).public_key()
    return keyless(authority.issue(*names, key=_Public(public)))  # type: ignore[arg-type]


class _Public:
    """Only the public half of a key, which is all that a CA sees."""

    def __init__(self, public: Any) -> None:
        self._public = public

    def public_key(self) -> Any:
        return self._public

    def private_bytes(self, *_: Any) -> bytes:
        return b""


def maker(place: Installation) -> MakesKeys:
    endpoint: Endpoint = place.endpoint
    assert isinstance(endpoint, MakesKeys)
    return endpoint


@pytest.mark.parametrize("algorithm", [KeyAlgorithm.EC_P256, KeyAlgorithm.EC_P384, KeyAlgorithm.RSA_2048])
async def test_a_key_made_there_never_crosses(
    iis: SimulatedIis, place: Installation, authority: ThrowawayAuthority, algorithm: KeyAlgorithm
) -> None:
    wanted = request(algorithm=algorithm)
    csr = await maker(place).make_key(iis.binding, wanted)
    check_signing_request(csr, wanted.names, algorithm)
    again = await maker(place).make_key(iis.binding, wanted)
    assert _public_of(again) == _public_of(csr)
    material = replace(issued_for(authority, csr, *wanted.names), key_alias="request-7")
    await place.install(material)
    assert await place.served() == [fingerprint_of(material)]
    assert "Import-CertgateCertificate" not in ran(iis)
    with pytest.raises(Permanent, match="A certificate uses this key"):
        await maker(place).discard_key(iis.binding, "request-7")


async def test_a_renewal_with_the_same_key_does_not_lose_it_when_the_old_one_is_pruned(
    iis: SimulatedIis, place: Installation, authority: ThrowawayAuthority
) -> None:
    wanted = request()
    csr = await maker(place).make_key(iis.binding, wanted)
    for _ in range(4):
        material = replace(issued_for(authority, csr, *wanted.names), key_alias="request-7")
        await place.install(material)
        assert await place.served() == [fingerprint_of(material)]
    assert stored(iis).count(f"{FRIENDLY}{iis.port}") == 2
    assert "certgate-request-7" in iis.windows.keys


async def test_a_key_that_came_to_nothing_is_deleted(iis: SimulatedIis, place: Installation) -> None:
    await maker(place).make_key(iis.binding, request())
    assert "certgate-request-7" in iis.windows.keys
    for _ in range(2):
        await maker(place).discard_key(iis.binding, "request-7")
        assert "certgate-request-7" not in iis.windows.keys


async def test_keys_that_can_not_be_made(iis: SimulatedIis, place: Installation) -> None:
    with pytest.raises(Permanent, match="RSA and ECDSA keys only"):
        await maker(place).make_key(iis.binding, request(algorithm=KeyAlgorithm.ED25519))
    await maker(place).make_key(iis.binding, request())
    with pytest.raises(Permanent, match="a key of another algorithm under request-7: ec-p256, not rsa-2048"):
        await maker(place).make_key(iis.binding, request(algorithm=KeyAlgorithm.RSA_2048))
    for alias in ("../../x", "a b", "$(calc)", "x'; y", "x\ny"):
        with pytest.raises(Permanent, match=r"parameter 'KeyName'\. It does not match the pattern"):
            await maker(place).make_key(iis.binding, request(alias=alias))


async def test_a_key_that_is_gone_or_another_one_is_put_back(
    iis: SimulatedIis, place: Installation, authority: ThrowawayAuthority
) -> None:
    before = await place.state()
    csr = await maker(place).make_key(iis.binding, request())
    material = issued_for(authority, csr, "a.example")
    with pytest.raises(RolledBack, match="Keyset does not exist"):
        await place.install(replace(material, key_alias="request-8"))
    await maker(place).make_key(iis.binding, request(alias="request-8"))
    with pytest.raises(RolledBack, match="does not match the public key"):
        await place.install(replace(material, key_alias="request-8"))
    assert await place.state() == before


def _public_of(csr: str) -> Any:
    return x509.load_pem_x509_csr(csr.encode()).public_key().public_numbers()  # type: ignore[union-attr]


# The key's way.


@pytest.mark.parametrize(
    ("build", "known"),
    [
        (20348, [b"\x60\x86\x48\x01\x65\x03\x04\x01\x2a", b"\x2a\x86\x48\x86\xf7\x0d\x01\x05\x0d"]),  # AES-256, PBES2
        (14393, [b"\x2a\x86\x48\x86\xf7\x0d\x01\x0c\x01\x03"]),  # pbeWithSHAAnd3-KeyTripleDES-CBC
    ],
)
async def test_the_archive_is_as_the_windows_of_its_time_can_read_it(
    iis: SimulatedIis, place: Installation, authority: ThrowawayAuthority, build: int, known: list[bytes]
) -> None:
    iis.windows.build = build
    material = authority.issue("a.example")
    await place.install(material)
    [call] = [call for call in iis.windows.calls if call.script == "Import-CertgateCertificate"]
    assert all(identifier in call.parameters["Pfx"] for identifier in known)
    content = load_pkcs12(call.parameters["Pfx"], call.parameters["Password"].encode())
    assert content.additional_certs == []
    assert len(call.parameters["Password"]) >= 40


def test_passwords_are_for_one_use() -> None:
    assert archive.one_time_password().text != archive.one_time_password().text


async def test_key_and_password_are_nowhere_but_in_the_one_call(
    iis: SimulatedIis,
    place: Installation,
    authority: ThrowawayAuthority,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Logs with everything on, errors with their causes, the journal, the progress, the other scripts."""
    caplog.set_level(logging.DEBUG)
    material = authority.issue("a.example")
    assert material.private_key_pem is not None
    journal: list[str] = []
    iis.simulator.inject(Fault.NO_LOGON_SESSION, "Set-CertgateBinding")
    with pytest.raises(RolledBack) as caught:
        await place.install(material)
    journal += [path.read_text(errors="replace") for path in place.journal_folder.iterdir()]
    calls = [call for call in iis.windows.calls if call.script == "Import-CertgateCertificate"]
    others = [call for call in iis.windows.calls if call.script != "Import-CertgateCertificate"]
    [call] = calls
    told, error = "", caught.value
    cause: BaseException | None = error
    while cause is not None:
        told += f"{cause!r} {cause.args!r} {vars(cause)!r}"
        cause = cause.__cause__ or cause.__context__
    everything = caplog.text + told + repr(journal) + repr(place.progress) + repr(others)
    secrets = [
        call.parameters["Password"],
        base64.b64encode(call.parameters["Pfx"]).decode()[40:120],
        material.private_key_pem.decode().splitlines()[1],
        iis.simulator.password,
    ]
    assert all(secrets)
    for secret in secrets:
        assert secret not in everything
    assert "PRIVATE KEY" not in everything


def test_the_password_of_the_account_is_a_reference_that_settings_show() -> None:
    from connectors.hosts.winrm import CONNECTOR

    settings = CONNECTOR.configure({"address": "web-1", "username": "u", "password": "env:WINRM"})
    assert json.loads(settings.model_dump_json())["password"] == "env:WINRM"


@pytest.mark.parametrize(
    "settings", [{"store": "Root"}, {"keep": 1}, {"address": "a:443"}, {"script_timeout_seconds": 0}, {"nonsense": 1}]
)
def test_settings_that_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(settings))):
        IisSettings.model_validate(settings)
    assert IisSettings().script_timeout == timedelta(minutes=2)
