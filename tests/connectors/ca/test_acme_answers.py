"""ACME answers that no CA should give, and refusals: a real Pebble, and somebody before it who changes what it says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from connectors.ca.acme import CONNECTOR, AcmeAuthority
from connectors.ca.acme.problems import PREFIX, Problem, outcome, read
from connectors.ca.contract import CollectRequest, IssuedCertificate, OrderRequest, ProfileOffer
from connectors.errors import (
    ActionRequired,
    AuthorityFault,
    ConnectorError,
    Pending,
    Permanent,
    Rejected,
    Retryable,
)
from connectors.registry import Surroundings
from connectors.secrets import resolve
from connectors.web import LARGEST_ANSWER
from model.keys import KeyAlgorithm
from tests.pki import make_ca, make_csr, make_leaf, new_key, pem, shared_key
from tests.support.meddler import Meddler, Said, meddler
from tests.support.pebble import BLOCKED, EAB_HMAC_KEY, EAB_KEY_ID, Pebble, pebble

Open = Callable[..., AcmeAuthority]


@pytest_asyncio.fixture(loop_scope="session")
async def between(shared_pebble: Pebble) -> AsyncIterator[Meddler]:
    async with meddler(shared_pebble) as made:
        yield made


@pytest_asyncio.fixture(loop_scope="session")
async def open_ca(tmp_path: Path, shared_pebble: Pebble, between: Meddler) -> AsyncIterator[Open]:
    opened: list[AcmeAuthority] = []

    def open_one(**settings: Any) -> AcmeAuthority:
        configured = CONNECTOR.configure({**between.settings(shared_pebble), **settings})
        opened.append(CONNECTOR.open(configured, Surroundings(tmp_path, resolve)))
        return opened[-1]

    yield open_one
    for ca in opened:
        await ca.close()


def order(*names: str, reference: str = "request-1", **more: Any) -> OrderRequest:
    return OrderRequest(reference, make_csr(shared_key(KeyAlgorithm.EC_P256), names), names[0], names, **more)


async def collect(ca: AcmeAuthority, number: str, request: OrderRequest) -> IssuedCertificate:
    while True:
        try:
            return await ca.collect(CollectRequest(number, request))
        except Pending:
            await asyncio.sleep(0.1)


def at(beginning: str, change: Callable[[Said], Said]) -> Callable[[str, Said], Said]:
    """Change what is answered at addresses that begin so, except where a nonce is rejected."""
    return lambda path, said: change(said) if path.startswith(beginning) and b"badNonce" not in said.body else said


def problem(kind: str, detail: str = "because", **more: Any) -> dict[str, Any]:
    return {"type": PREFIX + kind, "detail": detail, **more}


def refusing(kind: str, status: int = 403, **headers: str) -> Callable[[Said], Said]:
    body = b'{"type": "%s%s", "detail": "because"}' % (PREFIX.encode(), kind.encode())
    return lambda said: replace(said, status=status, body=body, headers={**said.headers, **headers})


NOT_ACME = [
    (lambda said: replace(said, body=b"<!doctype html><title>Welcome</title>"), AuthorityFault, "an HTML page"),
    (lambda said: replace(said, body=b""), AuthorityFault, "nothing in it"),
    (lambda said: replace(said, body=b"[]"), AuthorityFault, "no object"),
    (lambda said: replace(said, body=b'{"status": "strange"}'), AuthorityFault, "RFC 8555 does not know"),
    (lambda said: replace(said, body=b" " * (LARGEST_ANSWER + 1)), AuthorityFault, "more than"),
    (lambda said: replace(said, status=302, headers={"location": "http://10.0.0.1/"}), Permanent, "sends us elsewhere"),
    (lambda said: replace(said, status=503, headers={"retry-after": "77"}, body=b"busy"), Retryable, "in trouble"),
    (lambda said: replace(said, cut=True), Retryable, "was cut"),
]


@pytest.mark.parametrize(("change", "kind", "words"), NOT_ACME)
async def test_what_is_no_answer_of_acme_is_told(
    between: Meddler, open_ca: Open, change: Callable[[Said], Said], kind: type[ConnectorError], words: str
) -> None:
    ca, request = open_ca(), order("answers.example.com")
    number = (await ca.submit(request)).number
    between.alter = at("/my-order/", change)
    with pytest.raises(kind, match=words) as told:
        await ca.collect(CollectRequest(number, request))
    assert type(told.value) is kind
    assert getattr(told.value, "after", None) == (timedelta(seconds=77) if "trouble" in words else None)


@pytest.mark.parametrize(
    ("status", "kind", "words"), [(404, Permanent, "directory_url"), (200, AuthorityFault, "lacks newNonce")]
)
async def test_an_address_that_is_no_directory_is_told(
    between: Meddler, open_ca: Open, status: int, kind: type[ConnectorError], words: str
) -> None:
    between.alter = at("/dir", lambda said: replace(said, status=status, body=b"{}"))
    with pytest.raises(kind, match=words):
        await open_ca().submit(order("directory.example.com"))
    assert not (await open_ca().check()).usable


async def test_a_ca_whose_tls_does_not_verify_is_not_asked(open_ca: Open, between: Meddler) -> None:
    with pytest.raises(Permanent, match=r"TLS certificate .* does not verify"):
        await open_ca(ca_file=None).submit(order("tls.example.com"))
    assert between.asked == []


async def test_an_address_on_another_server_is_not_followed(between: Meddler, open_ca: Open) -> None:
    between.alter = at("/dir", lambda said: said.json(newOrder="https://10.0.0.1/order"))
    with pytest.raises(AuthorityFault, match="on another server"):
        await open_ca().submit(order("far.example.com"))


async def test_a_certificate_for_another_key_is_the_cas_fault(between: Meddler, open_ca: Open) -> None:
    wrong = pem(make_leaf(make_ca("Another"), new_key(), ["swapped.example.com"])).encode()
    ca, request = open_ca(), order("swapped.example.com")
    number = (await ca.submit(request)).number
    for content, words in ((wrong, "another key"), (b"<html>", "no certificate")):
        between.alter = at("/certZ/", lambda said, content=content: replace(said, body=content))  # type: ignore[misc]
        with pytest.raises(AuthorityFault, match=words):
            await collect(ca, number, request)
    between.alter = lambda _path, said: said
    assert await collect(ca, number, request)


@pytest.mark.parametrize(
    ("change", "kind", "words"),
    [
        (refusing("rateLimited", 429, **{"retry-after": "3600"}), Retryable, "asks us to wait with the order"),
        (refusing("serverInternal", 500), Retryable, "trouble of its own"),
        (refusing("rejectedIdentifier", 400), Rejected, "refuses the order for good"),
        (refusing("userActionRequired"), ActionRequired, "somebody has to do"),
        (refusing("caa"), Permanent, "CAA records"),
        (refusing("invalidProfile", 400), Permanent, "no such profile"),
        (refusing("somethingNew", 400), Permanent, "somethingNew"),
        (refusing("badNonce", 400), Retryable, "rejects every nonce"),
    ],
)
async def test_what_the_ca_refuses_becomes_an_outcome(
    between: Meddler, open_ca: Open, change: Callable[[Said], Said], kind: type[ConnectorError], words: str
) -> None:
    between.alter = at("/order-plz", change)
    with pytest.raises(kind, match=words) as told:
        await open_ca().submit(order("refused.example.com"))
    assert type(told.value) is kind
    assert getattr(told.value, "after", None) == (timedelta(hours=1) if "wait" in words else None)


async def test_a_name_that_the_ca_blocks_is_rejected(open_ca: Open) -> None:
    with pytest.raises(Rejected, match=f"does not issue for this name .*{BLOCKED}"):
        await open_ca().submit(order(f"www.{BLOCKED}"))


def test_the_worst_part_of_a_compound_problem_counts() -> None:
    given = read(
        problem(
            "compound",
            "several",
            subproblems=[
                problem("rateLimited", "slow", identifier={"type": "dns", "value": "a.example"}),
                problem("rejectedIdentifier", "never\n", identifier={"type": "dns", "value": "b.example"}),
            ],
        )
    )
    assert given is not None
    told = outcome(given, "The CA", "the order", 403, None)
    assert type(told) is Rejected
    assert "a.example: a rate limit is reached (rateLimited: slow)" in told.message
    assert "b.example: it does not issue for this name (rejectedIdentifier: never)" in told.message
    assert "\n" not in told.message
    strange: list[Any] = [[], {}, {"type": 7}, "text", None]
    assert [read(one) for one in strange] == [None] * 5
    assert len(Problem("malformed", "x").told) < 100
    assert len(read(problem("malformed", "x" * 9999)).told) < 600  # type: ignore[union-attr]


async def test_an_order_whose_time_is_over_is_followed_by_a_new_one(between: Meddler, open_ca: Open) -> None:
    ca, request = open_ca(), order("expired.example.com")
    number = (await ca.submit(request)).number
    past = (datetime.now(UTC) - timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    first = number.rpartition("/")[2]
    between.alter = at(f"/my-order/{first}", lambda said: said.json(expires=past))
    assert await collect(ca, number, request)
    assert len(between.paths("/order-plz")) - _rejected(between) == 2
    assert await ca.find(request) is not None


def _rejected(between: Meddler) -> int:
    """Orders that were sent again because the nonce was rejected: the same words, one after the other."""
    sent = [path for path, _ in between.asked]
    return sum(one == other == "/order-plz" for one, other in pairwise(sent))


async def test_an_order_whose_answer_was_lost_is_found_in_the_list(between: Meddler, open_ca: Open) -> None:
    ca, request = open_ca(), order("lost.example.com")
    between.alter = lambda path, said: replace(said, cut=path == "/order-plz" and said.status == 201)
    with pytest.raises(Retryable, match="was cut"):
        await ca.submit(request)
    between.alter = lambda _path, said: said
    found = await ca.find(request)
    assert found is not None
    assert await ca.submit(request) == found
    other = order("lost.example.com", reference="request-2")
    assert await ca.submit(other) != found
    assert await collect(ca, found.number, request)


async def test_profiles_are_the_directorys(between: Meddler, open_ca: Open) -> None:
    ca, request = open_ca(), order("profile.example.com", profile="shortlived")
    with pytest.raises(Permanent, match=r"has no profile 'shortlived'; it offers none"):
        await ca.submit(request)
    offered = {"classic": "The usual one", "shortlived": "Six days"}
    between.alter = at("/dir", lambda said: said.json(meta={"profiles": offered}))
    ca = open_ca(send_validity=True)
    assert await ca.profiles() == [ProfileOffer(name, name, description=text) for name, text in offered.items()]
    with pytest.raises(Permanent, match=r"no profile 'strange'; it has: classic, shortlived"):
        await ca.submit(order("profile.example.com", profile="strange", reference="request-2"))
    await ca.submit(replace(request, validity_seconds=86_400))
    sent = between.paths("/order-plz")[-1]
    assert sent["profile"] == "shortlived"
    wanted = datetime.fromisoformat(sent["notAfter"]) - datetime.now(UTC)
    assert timedelta(hours=23) < wanted <= timedelta(hours=24)
    plain = open_ca()
    await plain.submit(order("plain.example.com", reference="request-3", validity_seconds=86_400))
    assert set(between.paths("/order-plz")[-1]) == {"identifiers"}


async def test_a_customers_binding_and_a_ca_that_forgot_everything(tmp_path: Path) -> None:
    given = {"externalAccountBindingRequired": True, "externalAccountMACKeys": {EAB_KEY_ID: EAB_HMAC_KEY}}
    for name, content in (("right", EAB_HMAC_KEY), ("wrong", EAB_HMAC_KEY[::-1]), ("none", "not base64!")):
        (tmp_path / name).write_text(content)
        (tmp_path / name).chmod(0o600)
    with pebble(tmp_path, {"PEBBLE_VA_NOSLEEP": "1"}, **given) as server:

        def opened(**settings: Any) -> AcmeAuthority:
            return CONNECTOR.open(
                CONNECTOR.configure({**server.settings, **settings}), Surroundings(tmp_path / "home", resolve)
            )

        assert "set eab_key_id and eab_hmac_key" in (await opened().check()).message
        for name, words in (("wrong", "refuses the account"), ("none", "is no HMAC key")):
            health = await opened(eab_key_id=EAB_KEY_ID, eab_hmac_key=f"file:{tmp_path / name}").check()
            assert not health.usable
            assert words in health.message
            assert EAB_HMAC_KEY not in health.message
        unknown = await opened(eab_key_id="customer-2", eab_hmac_key=f"file:{tmp_path}/right").check()
        assert not unknown.usable
        ca = opened(eab_key_id=EAB_KEY_ID, eab_hmac_key=f"file:{tmp_path}/right")
        request = order("customer.example.com")
        number = (await ca.submit(request)).number
        assert await collect(ca, number, request)
        pending = order("forgotten.example.com", reference="request-2")
        lost = (await ca.submit(pending)).number

        server.restart({"PEBBLE_VA_NOSLEEP": "1"}, **given)
        # The account is made again; what was issued is not ordered again without a word, what was not, is.
        with pytest.raises(Permanent, match="look there whether its certificate was issued"):
            await ca.collect(CollectRequest(number, request))
        assert await ca.find(pending) is None
        assert await collect(ca, lost, pending)
        assert len(server.issued()) == 2
        await ca.close()
