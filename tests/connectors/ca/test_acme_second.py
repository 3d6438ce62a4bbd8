"""ACME against a server of another maker (acme2certifier): binding, dns-01, revocation, renewal information."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from connectors.ca.acme import CONNECTOR, AcmeAuthority, authority
from connectors.ca.contract import (
    CollectRequest,
    EarlierOrder,
    GivesRenewalInformation,
    HeldCertificate,
    IssuedCertificate,
    Order,
    OrderRequest,
    RevocationReason,
    RevokeRequest,
)
from connectors.errors import AuthorityFault, Pending, Permanent
from connectors.registry import Surroundings
from connectors.secrets import resolve
from model.keys import KeyAlgorithm
from model.rules.certificates import check_issued
from model.x509 import ari_identifier, load_certificate, public_key_sha256, serial_hex
from tests.pki import make_ca, make_csr, make_leaf, pem, shared_key
from tests.support.acme2certifier import RETRY_AFTER, SecondServer
from tests.support.bind import Bind
from tests.support.pebble import Pebble

Open = Callable[..., AcmeAuthority]


@pytest_asyncio.fixture(loop_scope="session")
async def open_ca(tmp_path: Path, second_acme: SecondServer, name_servers: Bind) -> AsyncIterator[Open]:
    opened: list[AcmeAuthority] = []

    def open_one(**settings: Any) -> AcmeAuthority:
        configured = CONNECTOR.configure({**second_acme.settings, **name_servers.settings, **settings})
        opened.append(CONNECTOR.open(configured, Surroundings(tmp_path, resolve)))
        return opened[-1]

    yield open_one
    for ca in opened:
        await ca.close()


def order(*names: str, reference: str = "request-1", **more: Any) -> OrderRequest:
    return OrderRequest(reference, make_csr(shared_key(KeyAlgorithm.EC_P256), names), names[0], names, **more)


async def obtain(ca: AcmeAuthority, request: OrderRequest) -> tuple[Order, IssuedCertificate]:
    placed = await ca.submit(request)
    while True:
        try:
            return placed, await ca.collect(CollectRequest(placed.number, request))
        except Pending:
            await asyncio.sleep(0.1)


def held(placed: Order, issued: IssuedCertificate) -> HeldCertificate:
    serial = serial_hex(load_certificate(issued.certificate_pem))
    return HeldCertificate(placed.number, issued.certificate_pem, serial, issued.chain_pem)


async def test_bound_account_wildcard_order_revocation(
    second_acme: SecondServer, name_servers: Bind, open_ca: Open
) -> None:
    ca = open_ca()
    health = await ca.check()
    assert health.usable, health.message
    request = order("second.example.test", "*.second.example.test")
    placed, issued = await obtain(ca, request)
    leaf = load_certificate(issued.certificate_pem)
    check_issued(
        issued.certificate_pem,
        issued.chain_pem,
        public_key_sha256=public_key_sha256(leaf),
        names=list(request.names),
        anchors=[pem(second_acme.root.certificate)],
        now=leaf.not_valid_before_utc,
    )
    assert name_servers.texts("_acme-challenge.second.example.test") == set()
    # Asked again it gives the same.
    assert await ca.find(request) == placed
    assert await ca.collect(CollectRequest(placed.number, request)) == issued
    for _ in range(2):
        await ca.revoke(RevokeRequest(placed.number, issued.certificate_pem, "", RevocationReason.SUPERSEDED))


async def test_a_binding_that_is_missing_or_wrong(open_ca: Open, tmp_path: Path) -> None:
    missing = await open_ca(eab_key_id=None, eab_hmac_key=None).check()
    assert not missing.usable
    assert "set eab_key_id and eab_hmac_key" in missing.message
    other = tmp_path / "other"
    other.write_text("c29tZXRoaW5nIGVsc2UgYWx0b2dldGhlcg")
    other.chmod(0o600)
    wrong = await open_ca(eab_hmac_key=f"file:{other}", eab_key_id="somebody-else").check()
    assert not wrong.usable
    assert "c29tZX" not in wrong.message


async def test_a_proof_that_does_not_come_is_told_by_name(
    open_ca: Open, name_servers: Bind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The program says that it is done, and nothing is there: the CA is not asked to look, and no try is spent.
    monkeypatch.setattr(authority, "PATIENCE", timedelta(0))
    program = tmp_path / "hook"
    program.write_text("#!/bin/sh\nexit 0\n")
    program.chmod(0o700)
    ca = open_ca(dns01_server=None, dns01_key_name=None, dns01_key_secret=None, dns01_program=str(program))
    request = order("never.example.test")
    placed = await ca.submit(request)
    with pytest.raises(Pending) as caught:
        await ca.collect(CollectRequest(placed.number, request))
    [seen] = caught.value.validations
    assert "is shown by 0 of 1 DNS servers" in seen.missing


# --- renewal information ----------------------------------------------------------------------------------------------


async def test_the_window_of_a_certificate(second_acme: SecondServer, open_ca: Open) -> None:
    ca = open_ca()
    assert isinstance(ca, GivesRenewalInformation)
    _, issued = got = await obtain(ca, order("window.example.test"))
    leaf = load_certificate(issued.certificate_pem)
    found = await ca.renewal_information(held(*got))
    assert found is not None
    # Its own rule: from 85 % of the life of the certificate to its end.
    life = leaf.not_valid_after_utc - leaf.not_valid_before_utc
    assert abs(found.start - (leaf.not_valid_before_utc + life * 0.85)) < timedelta(seconds=5)
    assert found.end == leaf.not_valid_after_utc
    assert found.ask_again == timedelta(seconds=RETRY_AFTER)
    assert found.explanation_url is None


async def test_certificates_that_it_does_not_know(open_ca: Open) -> None:
    stranger = pem(make_leaf(make_ca("Another CA"), shared_key(KeyAlgorithm.EC_P256), ["x.example"]))
    assert await open_ca().renewal_information(HeldCertificate("1", stranger, "1")) is None


async def test_a_server_without_renewal_information(dns_pebble: Pebble, name_servers: Bind, open_ca: Open) -> None:
    settings = {name: dns_pebble.settings[name] for name in ("directory_url", "ca_file")}
    ca = open_ca(**settings, eab_key_id=None, eab_hmac_key=None)
    certificate = pem(make_leaf(make_ca("CA"), shared_key(KeyAlgorithm.EC_P256), ["x.example"]))
    assert await ca.renewal_information(HeldCertificate("1", certificate, "1")) is None
    # What an order replaces is not told to a server that does not know the field.
    request = order("unreplaced.example.test", earlier=EarlierOrder("1", "1", "AAAA.AAAA"))
    assert (await ca.submit(request)).number.startswith(dns_pebble.directory_url.rpartition("/")[0])


@pytest.fixture
def says(second_acme: SecondServer) -> Any:
    yield second_acme.answer_renewal_information
    second_acme.answer_renewal_information(None)


def window(start: str = "2027-01-02T03:04:05Z", end: str = "2027-01-03T03:04:05.5+01:00", **more: Any) -> str:
    return json.dumps({"suggestedWindow": {"start": start, "end": end}, **more})


CERTIFICATE = HeldCertificate("1", pem(make_leaf(make_ca("CA"), shared_key(KeyAlgorithm.EC_P256), ["x.example"])), "1")


async def test_a_window_with_an_explanation_and_no_hint(says: Any, open_ca: Open) -> None:
    ca, page = open_ca(), "https://ca.example/why?x=1"
    says(window(explanationURL=page))
    found = await ca.renewal_information(CERTIFICATE)
    assert found is not None
    assert found.start == datetime(2027, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert found.end == datetime(2027, 1, 3, 2, 4, 5, 500_000, tzinfo=UTC)
    assert (found.explanation_url, found.ask_again) == (page, timedelta(hours=6))
    for bad in ("javascript:alert(1)", "https://", 7, "https://x.example/" + "a" * 3000, "https://[", "https://a b/"):
        says(window(explanationURL=bad))
        found = await ca.renewal_information(CERTIFICATE)
        assert found is not None
        assert found.explanation_url is None


@pytest.mark.parametrize(("hint", "kept"), [("0", 60), ("59", 60), ("61", 61), ("86401", 86_400), ("x", 21_600)])
async def test_the_hint_is_kept_within_bounds(says: Any, open_ca: Open, hint: str, kept: int) -> None:
    says(window(retryAfter=hint))
    found = await open_ca().renewal_information(CERTIFICATE)
    assert found is not None
    assert found.ask_again == timedelta(seconds=kept)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (window(end="2027-01-02T03:04:05Z"), "ends before it starts"),
        (window(end="2027-01-02T03:04:05+00:01"), "ends before it starts"),
        (window(start="2027-01-02"), "without a window of two times"),
        (window(start="2027-01-02T03:04:05"), "without a window of two times"),
        (window(start="2027-13-02T03:04:05Z"), "without a window of two times"),
        (window(end="9999-12-31T23:59:59-23:59"), "without a window of two times"),
        ('{"suggestedWindow": ["2027-01-02T03:04:05Z"]}', "without a window of two times"),
        ('{"suggestedWindow": {"start": 1, "end": 2}}', "without a window of two times"),
        ("{}", "without a window of two times"),
        ("[]", "no object"),
        ("<html>", "no JSON"),
        ("", "nothing in it"),
    ],
)
async def test_windows_that_are_none(says: Any, open_ca: Open, body: str, message: str) -> None:
    says(body)
    with pytest.raises(AuthorityFault, match=message):
        await open_ca().renewal_information(CERTIFICATE)


async def test_an_order_tells_what_it_replaces_once(second_acme: SecondServer, open_ca: Open) -> None:
    ca = open_ca()
    placed, issued = await obtain(ca, order("replaced.example.test"))
    identifier = ari_identifier(load_certificate(issued.certificate_pem))
    assert identifier is not None
    earlier = EarlierOrder(placed.number, "", identifier)
    before = len(second_acme.replaced())
    for number in (2, 3):
        # The server refuses the second (alreadyReplaced), and the order is placed without.
        request = order("replaced.example.test", reference=f"request-{number}", earlier=earlier)
        _, renewed = await obtain(ca, request)
        assert (
            load_certificate(renewed.certificate_pem).serial_number
            != load_certificate(issued.certificate_pem).serial_number
        )
    assert second_acme.replaced()[before:] == [identifier, identifier]
    with pytest.raises(Permanent):
        # What is refused for another reason is refused without it as well.
        await ca.submit(order("a_b.example.test", reference="request-4", earlier=earlier))
