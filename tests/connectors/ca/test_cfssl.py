"""CFSSL's server, the real one: signing, keys for signed requests, numbers, revocation, lost answers."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from connectors.ca.cfssl import CONNECTOR, CfsslAuthority
from connectors.ca.cfssl.authority import serial_number
from connectors.ca.contract import (
    CertificateAuthority,
    CollectRequest,
    IssuedCertificate,
    OrderRequest,
    RevocationReason,
    RevokeRequest,
    ShowsTrustAnchors,
)
from connectors.errors import AuthorityFault, ConnectorError, Permanent, Rejected, Retryable
from connectors.registry import Surroundings
from connectors.secrets import resolve
from model import x509
from model.messages import AuthorityAccess
from model.rules.certificates import check_issued
from tests.connectors.ca.exactly_once import CuttingProxy, buy, many, orders
from tests.pki import make_csr, new_key
from tests.support import cfssl as server
from tests.support.cfssl import AUTH_KEY, Cfssl
from tests.support.scripted import scripted

NAMES = ["www.example.com", "10.0.0.7"]
COUNT = many(12)
Opened = Callable[..., CfsslAuthority]


@pytest.fixture(scope="module")
def cfssl(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cfssl]:
    with server.running(tmp_path_factory.mktemp("cfssl")) as running:
        yield running


@pytest.fixture(scope="module")
def forgetful(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cfssl]:
    """One without a database."""
    with server.running(tmp_path_factory.mktemp("forgetful"), database=False) as running:
        yield running


@pytest_asyncio.fixture
async def opened(cfssl: Cfssl, tmp_path: Path) -> AsyncIterator[Opened]:
    found: list[CfsslAuthority] = []

    def open_one(home: str = "home", **more: Any) -> CfsslAuthority:
        settings = {"address": cfssl.address, "profile": "open", **more}
        (tmp_path / home).mkdir(mode=0o700, exist_ok=True)
        found.append(CONNECTOR.open(CONNECTOR.configure(settings), Surroundings(tmp_path / home, resolve)))
        return found[-1]

    yield open_one
    for ca in found:
        await ca.close()


def order(names: list[str] | None = None, **more: Any) -> OrderRequest:
    names = names or NAMES
    return OrderRequest("request-1", make_csr(new_key(), names, names[0]), names[0], names, **more)


async def bought(ca: CfsslAuthority, wanted: OrderRequest) -> tuple[str, IssuedCertificate]:
    number = (await ca.submit(wanted)).number
    return number, await ca.collect(CollectRequest(number, wanted))


async def test_an_order_is_signed_under_its_own_number(cfssl: Cfssl, opened: Opened) -> None:
    ca, wanted = opened(), order()
    assert isinstance(ca, CertificateAuthority)
    assert isinstance(ca, ShowsTrustAnchors)
    number, issued = await bought(ca, wanted)
    assert (await ca.submit(wanted)).number == number
    assert await ca.collect(CollectRequest(number, wanted)) == issued
    assert x509.serial_hex(x509.load_certificate(issued.certificate_pem)) == number
    assert number == f"{serial_number(wanted):x}"
    assert len(number) == 40
    assert check_issued(
        issued.certificate_pem,
        issued.chain_pem,
        public_key_sha256=x509.public_key_sha256(x509.load_csr(wanted.csr_pem)),
        names=NAMES,
        anchors=await ca.trust_anchors(),
        now=datetime.now(UTC),
    )
    assert issued.chain_pem == []
    assert int(number, 16) in cfssl.signed()


async def test_collected_elsewhere_the_lost_one_is_revoked(cfssl: Cfssl, opened: Opened) -> None:
    wanted = order()
    number, first = await bought(opened(), wanted)
    again = await opened("elsewhere").collect(CollectRequest(number, wanted))
    assert again != first
    assert serial_number(wanted) in cfssl.signed(status="revoked")
    assert serial_number(wanted, 1) in cfssl.signed()


async def test_without_a_database_the_number_stays(forgetful: Cfssl, opened: Opened) -> None:
    wanted, where = order(), {"address": forgetful.address}
    number, first = await bought(opened(**where), wanted)
    again = await opened("elsewhere", **where).collect(CollectRequest(number, wanted))
    leaves = [x509.load_certificate(one.certificate_pem) for one in (first, again)]
    assert leaves[0].serial_number == leaves[1].serial_number == int(number, 16)
    with pytest.raises(Permanent, match="keeps no database"):
        await opened(**where).revoke(_revocation(number, first))
    details = {one.label: one.text for one in (await opened(**where).check()).details}
    assert details["Database"].startswith("none")


def _revocation(number: str, issued: IssuedCertificate) -> RevokeRequest:
    serial = x509.serial_hex(x509.load_certificate(issued.certificate_pem))
    return RevokeRequest(number, issued.certificate_pem, serial, RevocationReason.KEY_COMPROMISE)


@pytest.mark.parametrize("reason", list(RevocationReason))
async def test_revocation(cfssl: Cfssl, opened: Opened, reason: RevocationReason) -> None:
    ca = opened()
    number, issued = await bought(ca, order())
    request = dataclasses.replace(_revocation(number, issued), reason=reason)
    await ca.revoke(request)
    await ca.revoke(request)
    assert int(number, 16) in cfssl.signed(status="revoked")


async def test_signed_requests(opened: Opened, tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text(AUTH_KEY)
    key.chmod(0o600)
    signing = {"profile": "signed", "auth_key": f"file:{key}"}
    assert (await opened(**signing).check()).usable
    assert await bought(opened(**signing), order())
    with pytest.raises(Permanent, match="takes no signed requests"):
        await bought(opened(auth_key=f"file:{key}"), order())
    with pytest.raises(Permanent, match="wants signed requests for this profile: set auth_key"):
        await bought(opened(profile="signed"), order())
    key.write_text("FF" * 16)
    health = await opened(**signing).check()
    assert not health.usable
    assert "refuses our signature" in health.message
    key.write_text("no key")
    with pytest.raises(Permanent, match="no key in hexadecimal digits") as caught:
        await bought(opened(**signing), order())
    assert "no key" not in caught.value.message.removesuffix("is no key in hexadecimal digits.")


async def test_a_profile_that_numbers_by_itself(opened: Opened) -> None:
    wanted = order(profile="numbering")
    ca = opened()
    number = (await ca.submit(wanted)).number
    with pytest.raises(Permanent, match="set ClientProvidesSerialNumbers in its profile, or serial_numbers to theirs"):
        await ca.collect(CollectRequest(number, wanted))
    theirs = opened(serial_numbers="theirs")
    issued = await theirs.collect(CollectRequest(number, wanted))  # the one that was signed before
    assert await theirs.collect(CollectRequest(number, wanted)) == issued


async def test_refusals(opened: Opened) -> None:
    with pytest.raises(Rejected, match="refuses to sign"):
        await bought(opened(), order(["www.example.org"], profile="narrow"))
    with pytest.raises(Permanent, match=r"decides itself how long .*47 days.*longer than 24 hours"):
        await opened().submit(order(validity_seconds=86_400))
    with pytest.raises(Permanent, match="is no number of an order"):
        await opened().collect(CollectRequest("../x", order()))


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"address": "http://cfssl.example.com"}, "needs plain_http"),
        ({"address": "cfssl.example.com"}, "must be the server's address"),
        ({"client_key": "/a"}, "belong together"),
        ({"auth_key": "0123"}, "not the secret itself"),
    ],
)
def test_settings(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(Permanent, match=told):
        CONNECTOR.configure({"address": "https://cfssl.example.com", **settings})
    assert CONNECTOR.configure({"address": "http://cfssl.example.com", "plain_http": True})


@pytest.mark.parametrize(
    ("status", "body", "error", "told"),
    [
        ("502 Bad Gateway", b"<html>", Retryable, "is in trouble"),
        ("200 OK", b"<html>", AuthorityFault, "an HTML page"),
        ("200 OK", b"", AuthorityFault, "nothing in it"),
        ("200 OK", b'{"success":true,"result":{"certificate":"x"}}', AuthorityFault, "can't be read"),
        ("404 Not Found", b"", Permanent, "does not answer as a server that signs"),
        ("302 Found", b"", Permanent, "sends us elsewhere"),
    ],
)
async def test_answers_that_are_none(
    opened: Opened, status: str, body: bytes, error: type[ConnectorError], told: str
) -> None:
    async with scripted() as fake:
        fake.answer(status, body)
        with pytest.raises(error, match=told):
            await opened(address=f"http://127.0.0.1:{fake.port}").submit(order())


async def test_every_order_is_one_living_certificate(cfssl: Cfssl, tmp_path: Path) -> None:
    before = set(cfssl.signed())
    async with CuttingProxy(cfssl.port) as proxy:
        settings = {"address": f"http://127.0.0.1:{proxy.port}", "profile": "open"}
        access = AuthorityAccess("CFSSL", "cfssl", settings, "manager", True)
        done = await buy(access, orders(access, COUNT), tmp_path, seed=20261124, proxy=proxy)
    assert done.kills + done.cuts >= COUNT
    living = set(cfssl.signed()) - before
    leaves = [x509.load_certificate(came.certificate_pem) for came in done.certificates.values()]
    assert living == {leaf.serial_number for leaf in leaves}
    assert len(living) == len(set(done.numbers.values())) == COUNT
