"""ACME against a real Pebble that rejects nonces, reuses authorizations and takes its time."""

from __future__ import annotations

import asyncio
import functools
import re
import socket
import stat
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from connectors.ca.acme import CONNECTOR, AcmeAuthority, authority
from connectors.ca.contract import (
    CancelsOrders,
    CertificateAuthority,
    CollectRequest,
    FindsOrders,
    GivesRenewalInformation,
    IssuedCertificate,
    OffersProfiles,
    OrderRequest,
    RevocationReason,
    RevokeRequest,
)
from connectors.errors import AuthorityFault, Pending, Permanent, Rejected
from connectors.registry import Surroundings, utc_now
from connectors.secrets import resolve
from model.keys import KeyAlgorithm
from model.rules.certificates import check_issued
from model.x509 import common_name, load_certificate, public_key_sha256, serial_hex
from tests.pki import make_csr, new_key, shared_key
from tests.support.pebble import HOST, Pebble

Open = Callable[..., AcmeAuthority]


class Clock:
    """A clock that the test turns."""

    def __init__(self) -> None:
        self.now = datetime.now(UTC)

    def __call__(self) -> datetime:
        return self.now


class QuietHandler(SimpleHTTPRequestHandler):
    """Serves files and says nothing."""

    def log_message(self, *_words: object) -> None:
        pass


@pytest_asyncio.fixture(loop_scope="session")
async def open_ca(tmp_path: Path) -> AsyncIterator[Open]:
    """Opens CAs, and closes them after the test. They share one home."""
    opened: list[AcmeAuthority] = []

    def open_one(
        pebble: Pebble, *, home: Path = tmp_path, clock: Callable[[], datetime] = utc_now, **settings: Any
    ) -> AcmeAuthority:
        configured = CONNECTOR.configure({**pebble.settings, **settings})
        opened.append(CONNECTOR.open(configured, Surroundings(home, resolve, clock=clock)))
        return opened[-1]

    yield open_one
    for ca in opened:
        await ca.close()


def order(*names: str, reference: str = "request-1", **more: Any) -> OrderRequest:
    return OrderRequest(reference, make_csr(shared_key(KeyAlgorithm.EC_P256), names), names[0], names, **more)


async def collect(ca: AcmeAuthority, number: str, request: OrderRequest) -> IssuedCertificate:
    """As the workflow does: ask again as long as it is pending."""
    while True:
        try:
            return await ca.collect(CollectRequest(number, request))
        except Pending:
            await asyncio.sleep(0.1)


def verified(pebble: Pebble, issued: IssuedCertificate, request: OrderRequest) -> None:
    """Its names, its key, its chain to a root of Pebble, without the root."""
    leaf = load_certificate(issued.certificate_pem)
    facts = check_issued(
        issued.certificate_pem,
        issued.chain_pem,
        public_key_sha256=public_key_sha256(shared_key(KeyAlgorithm.EC_P256).public_key()),
        names=list(request.names),
        anchors=pebble.roots(),
        now=leaf.not_valid_before_utc,
    )
    assert facts.chain_pem == tuple(issued.chain_pem)


def is_open(port: int) -> bool:
    """Whether somebody listens there."""
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) == 0


async def test_names_and_an_address_are_proved_and_issued_by_http01(
    tmp_path: Path, shared_pebble: Pebble, open_ca: Open
) -> None:
    ca = open_ca(shared_pebble)
    request = order("www.example.com", "b.example.com", "127.0.0.1")
    assert await ca.find(request) is None
    placed = await ca.submit(request)
    assert await ca.find(request) == placed
    issued = await collect(ca, placed.number, request)
    verified(shared_pebble, issued, request)
    assert await collect(open_ca(shared_pebble), placed.number, request) == issued
    assert not list((tmp_path / "acme" / "answers").glob("[!.]*"))
    assert not is_open(shared_pebble.http_port)


async def test_addresses_and_names_are_proved_by_tls_alpn01(
    tmp_path: Path, shared_pebble: Pebble, open_ca: Open
) -> None:
    listen = f"{HOST}:{shared_pebble.tls_port}"
    ca = open_ca(shared_pebble, http01_listen=None, tls_alpn01_listen=listen)
    request = order("alpn.example.com", "127.0.0.1")
    placed = await ca.submit(request)
    verified(shared_pebble, await collect(ca, placed.number, request), request)
    assert not list((tmp_path / "acme" / "answers").glob("[!.]*"))
    assert not is_open(shared_pebble.tls_port)


async def test_two_orders_of_one_name_take_turns_in_tls_alpn01(shared_pebble: Pebble, open_ca: Open) -> None:
    listen = f"{HOST}:{shared_pebble.tls_port}"
    ca = open_ca(shared_pebble, http01_listen=None, tls_alpn01_listen=listen)
    requests = [order("turns.example.com", reference=f"turn-{number}") for number in range(3)]
    numbers = [(await ca.submit(request)).number for request in requests]
    came = await asyncio.gather(*(collect(ca, *one) for one in zip(numbers, requests, strict=True)))
    assert len({one.certificate_pem for one in came}) == 3


async def test_a_web_root_is_written_into_and_left_as_it_was(
    tmp_path: Path, shared_pebble: Pebble, open_ca: Open
) -> None:
    root = tmp_path / "root"
    root.mkdir()
    handler = functools.partial(QuietHandler, directory=str(root))
    with ThreadingHTTPServer((HOST, shared_pebble.http_port), handler) as web:
        serving = threading.Thread(target=web.serve_forever, args=(0.01,))
        serving.start()
        try:
            ca = open_ca(shared_pebble, http01_listen=None, http01_web_root=str(root))
            request = order("root.example.com")
            placed = await ca.submit(request)
            verified(shared_pebble, await collect(ca, placed.number, request), request)
        finally:
            web.shutdown()
            serving.join()
    assert [one.name for one in root.rglob("*") if one.is_file()] == []
    with pytest.raises(Permanent, match="is not a folder"):
        await collect_anew(open_ca(shared_pebble, http01_listen=None, http01_web_root="/nowhere/at/all"))


async def collect_anew(ca: AcmeAuthority) -> IssuedCertificate:
    request = order("nowhere.example.com", reference="request-nowhere")
    return await collect(ca, (await ca.submit(request)).number, request)


async def test_the_chain_to_the_preferred_root_is_taken(shared_pebble: Pebble, open_ca: Open) -> None:
    roots = [load_certificate(one) for one in shared_pebble.roots()]
    request = order("chains.example.com")
    number = (await open_ca(shared_pebble).submit(request)).number
    for root in roots:
        ca = open_ca(shared_pebble, preferred_chain=common_name(root))
        issued = await collect(ca, number, request)
        assert load_certificate(issued.chain_pem[-1]).issuer == root.subject
    unknown = open_ca(shared_pebble, preferred_chain="A root of nobody")
    assert load_certificate((await collect(unknown, number, request)).chain_pem[-1]).issuer == roots[0].subject


async def test_the_account_is_made_once_and_its_key_is_nobody_elses(
    tmp_path: Path, shared_pebble: Pebble, open_ca: Open
) -> None:
    first, second = open_ca(shared_pebble), open_ca(shared_pebble, contact=["ops@example.com"])
    (account,) = {str((await one.check()).details[0].text) for one in (first, second)}
    (key,) = tmp_path.rglob("account.key")
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert stat.S_IMODE(key.parent.stat().st_mode) == 0o700
    named = open_ca(shared_pebble, account_key=f"file:{key}")
    assert (await named.check()).details[0].text == account
    key.chmod(0o644)
    refused = await open_ca(shared_pebble).check()
    assert not refused.usable
    assert "run chmod 600" in refused.message


async def test_the_terms_have_to_be_agreed_to(shared_pebble: Pebble, open_ca: Open) -> None:
    health = await open_ca(shared_pebble, terms_agreed=False).check()
    assert not health.usable
    assert re.search(r"read data:text/plain,.*, then set terms_agreed", health.message)


async def test_a_revoked_certificate_may_be_revoked_again(shared_pebble: Pebble, open_ca: Open) -> None:
    ca = open_ca(shared_pebble)
    request = order("revoked.example.com")
    number = (await ca.submit(request)).number
    issued = await collect(ca, number, request)
    serial = serial_hex(load_certificate(issued.certificate_pem))
    for _ in range(2):
        await ca.revoke(RevokeRequest(number, issued.certificate_pem, serial, RevocationReason.SUPERSEDED))
    assert shared_pebble.status(serial)["Status"] == "Revoked"
    assert shared_pebble.status(serial)["Reason"] == 4


async def test_a_failed_proof_is_tried_again_by_itself_and_then_by_a_person(
    tmp_path: Path, shared_pebble: Pebble, open_ca: Open
) -> None:
    clock = Clock()
    ca = open_ca(shared_pebble, clock=clock, validation_tries=2)
    request = order("elsewhere.example.com", "here.example.com")
    shared_pebble.dns("add-a", host="elsewhere.example.com", addresses=["127.0.0.9"])
    before = len(shared_pebble.issued())
    number = (await ca.submit(request)).number

    with pytest.raises(Pending, match="a new one is placed by itself") as told:
        await until_told(ca, number, request)
    assert told.value.after == timedelta(minutes=1)
    (failed,) = told.value.validations
    assert (failed.name, failed.state, failed.method) == ("elsewhere.example.com", "failed", "http-01")
    assert "connection" in failed.error
    with pytest.raises(Pending, match="the next one is placed at"):
        await ca.collect(CollectRequest(number, request))
    clock.now += timedelta(minutes=2)
    with pytest.raises(Permanent, match="mend that, then retry; a new order is placed then") as told_a_person:
        await until_told(ca, number, request)
    assert not isinstance(told_a_person.value, Rejected)

    shared_pebble.dns("clear-a", host="elsewhere.example.com")
    issued = await collect(ca, number, request)
    verified(shared_pebble, issued, request)
    assert await collect(ca, number, request) == issued
    assert len(shared_pebble.issued()) == before + 1
    newest = await ca.find(request)
    assert newest is not None
    assert newest.number != number
    assert not list((tmp_path / "acme" / "answers").glob("[!.]*"))


async def until_told(ca: AcmeAuthority, number: str, request: OrderRequest) -> None:
    """Until it says something else than that it waits."""
    while True:
        try:
            await ca.collect(CollectRequest(number, request))
        except Pending as pending:
            if "waits for the proof" not in pending.message:
                raise
            await asyncio.sleep(0.1)


async def test_a_withdrawn_order_is_never_issued(tmp_path: Path, shared_pebble: Pebble, open_ca: Open) -> None:
    ca = open_ca(shared_pebble)
    request = order("withdrawn.example.com")
    number = (await ca.submit(request)).number
    assert await ca.withdraw(number)
    with pytest.raises(Rejected, match="was withdrawn"):
        await ca.collect(CollectRequest(number, request))
    with pytest.raises(Rejected, match="was withdrawn"):
        await ca.submit(request)
    done = order("done.example.com", reference="request-2")
    number = (await ca.submit(done)).number
    await collect(ca, number, done)
    assert not await ca.withdraw(number)


async def test_a_reference_stays_with_its_names_and_its_key(shared_pebble: Pebble, open_ca: Open) -> None:
    ca = open_ca(shared_pebble)
    request = order("one.example.com")
    number = (await ca.submit(request)).number
    assert (await ca.submit(request)).number == number
    with pytest.raises(Permanent, match="belongs to an order for other names"):
        await ca.submit(order("two.example.com"))
    await collect(ca, number, request)
    other = replace(request, csr_pem=make_csr(new_key(), request.names))
    with pytest.raises(Permanent, match="for another key"):
        await ca.submit(other)
    with pytest.raises(AuthorityFault, match="another key"):
        await ca.collect(CollectRequest(number, other))


async def test_an_order_is_collected_by_another_home_with_the_same_key(
    tmp_path: Path, shared_pebble: Pebble, open_ca: Open
) -> None:
    request = order("moved.example.com")
    ca = open_ca(shared_pebble)
    number = (await ca.submit(request)).number
    (key,) = tmp_path.rglob("account.key")
    elsewhere = open_ca(shared_pebble, home=tmp_path / "elsewhere", account_key=f"file:{key}")
    assert await elsewhere.find(request) is None
    verified(shared_pebble, await collect(elsewhere, number, request), request)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"directory_url": "http://ca.example/dir"}, "https:// address"),
        ({"directory_url": "https://user:word@ca.example/dir"}, "without a credential"),
        ({"eab_key_id": "x"}, "belong together"),
        ({"eab_key_id": "x", "eab_hmac_key": "zWNDZM6eQGHWp"}, "must be a reference"),
        ({"http01_listen": "ca.example:80"}, "an address of this host and a port"),
        ({"http01_listen": "0.0.0.0:80", "http01_web_root": "/srv/www"}, "exclude each other"),
        ({"http01_web_root": "www"}, "absolute path"),
        ({"challenges": ["tls-alpn-01"]}, "nothing is set up for it"),
        ({"contact": ["nobody"]}, "is no e-mail address"),
    ],
)
def test_settings_that_will_not_do_are_refused_in_one_sentence(given: dict[str, Any], words: str) -> None:
    with pytest.raises(Permanent, match=words):
        CONNECTOR.configure({"directory_url": "https://ca.example/dir", **given})


def test_it_is_what_the_contract_asks(tmp_path: Path) -> None:
    ca = CONNECTOR.open(
        CONNECTOR.configure({"directory_url": "https://ca.example/dir"}), Surroundings(tmp_path, resolve)
    )
    for protocol in (CertificateAuthority, FindsOrders, CancelsOrders, OffersProfiles, GivesRenewalInformation):
        assert isinstance(ca, protocol)
    assert not list(tmp_path.iterdir())  # opening touches nothing


async def test_a_wildcard_needs_dns01(shared_pebble: Pebble, open_ca: Open) -> None:
    with pytest.raises(Permanent, match=r"\*\.example\.com can only be proved by dns-01"):
        await open_ca(shared_pebble).submit(order("*.example.com"))


async def test_a_name_that_nothing_is_set_up_for_is_told(shared_pebble: Pebble, open_ca: Open) -> None:
    ca = open_ca(shared_pebble, http01_listen=None)
    request = order("nothing.example.com")
    number = (await ca.submit(request)).number
    with pytest.raises(Permanent, match=r"wants proof of nothing\.example\.com by .*, and no method is set up"):
        await ca.collect(CollectRequest(number, request))


async def test_a_port_that_another_program_has_is_told(shared_pebble: Pebble, open_ca: Open) -> None:
    ca = open_ca(shared_pebble)
    request = order("taken.example.com")
    number = (await ca.submit(request)).number
    handler = functools.partial(QuietHandler, directory="/nonexistent")
    with ThreadingHTTPServer((HOST, shared_pebble.http_port), handler) as web:
        serving = threading.Thread(target=web.serve_forever, args=(0.01,))
        serving.start()
        authority_patience, authority.PATIENCE = authority.PATIENCE, timedelta(seconds=0.2)
        try:
            with pytest.raises(Pending) as told:
                await ca.collect(CollectRequest(number, request))
        finally:
            authority.PATIENCE = authority_patience
            web.shutdown()
            serving.join()
    (waiting,) = told.value.validations
    assert waiting.state == "pending"
    assert waiting.missing.startswith("another program listens at")
    verified(shared_pebble, await collect(ca, number, request), request)
