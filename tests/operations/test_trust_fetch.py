"""CA certificates from an address: what is shown and what is refused; nothing is trusted before somebody says so."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import timedelta

import pytest
import pytest_asyncio
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7

from connectors import issuers
from model import x509
from model.errors import InvalidInput, NotPermitted, Unavailable
from model.tables import CertificateRequest
from operations import trust
from tests.operations.conftest import NOW, Records
from tests.pki import make_ca, make_leaf, new_key, pem
from tests.support.scripted import Scripted, scripted

DAY = timedelta(days=1)
BEGIN, END = NOW - DAY, NOW + 900 * DAY
LOCAL = ("127.0.0.0/8",)
ROOT = make_ca("Root", not_before=BEGIN, not_after=END)
INTER = make_ca("Inter", ROOT, not_before=BEGIN, not_after=END)
BOTH = [INTER.certificate, ROOT.certificate]


@pytest_asyncio.fixture
async def server() -> AsyncIterator[Scripted]:
    async with scripted() as made:
        yield made


async def fetched(
    records: Records, server: Scripted, networks: Sequence[str] = LOCAL, login: str = "mrao"
) -> list[trust.Candidate]:
    return await trust.fetch(records.acting(login), f" http://127.0.0.1:{server.port}/ca ", networks)


@pytest.mark.parametrize("form", ["pem", "p7c", "p7b"])
async def test_what_an_address_gives_is_shown_and_not_trusted(records: Records, server: Scripted, form: str) -> None:
    body = {
        "pem": "".join(pem(one) for one in BOTH).encode(),
        "p7c": pkcs7.serialize_certificates(BOTH, Encoding.DER),
        "p7b": pkcs7.serialize_certificates(BOTH, Encoding.PEM),
    }[form]
    server.answer("200 OK", body)
    found = {one.subject: one for one in await fetched(records, server)}
    assert found.keys() == {"CN=Inter", "CN=Root"}
    inter, root = found["CN=Inter"], found["CN=Root"]
    assert (inter.issuer, inter.is_root, inter.known, inter.problem) == ("CN=Root", False, False, None)
    assert (root.is_root, root.fingerprint) == (True, x509.fingerprint(ROOT.certificate))
    assert trust.listing(records.acting("mrao")) == []


async def test_a_private_address_is_asked_only_where_it_is_allowed(records: Records, server: Scripted) -> None:
    server.answer("200 OK", pem(ROOT.certificate).encode())
    for networks in ((), ("10.0.0.0/8",)):
        with pytest.raises(InvalidInput, match=r"private address 127\.0\.0\.1"):
            await fetched(records, server, networks)
    assert server.asked == []
    assert len(await fetched(records, server)) == 1


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        ("200 OK", b"<!doctype html><html><body>Sign in</body></html>", "no certificate in it"),
        ("200 OK", b"", "empty"),
        ("200 OK", b"x" * (issuers.LARGEST + 1), "more than"),
        ("404 Not Found", b"", "status 404"),
    ],
    ids=["html", "empty", "oversized", "not there"],
)
async def test_an_answer_without_certificates_is_said(
    records: Records, server: Scripted, status: str, body: bytes, said: str
) -> None:
    server.answer(status, body)
    with pytest.raises(InvalidInput, match=said):
        await fetched(records, server)


async def test_a_server_that_hangs_up_is_unavailable(records: Records, server: Scripted) -> None:
    server.says = [None]
    with pytest.raises(Unavailable):
        await fetched(records, server)


async def test_only_owners_fetch(records: Records, server: Scripted) -> None:
    with pytest.raises(NotPermitted):
        await fetched(records, server, login="rao")
    assert server.asked == []
    assert records.audited()[-1] == ("trust.fetched", "refused")


def test_a_candidate_tells_who_signed_it_and_what_is_wrong(records: Records) -> None:
    context = records.acting("mrao")
    [before] = trust.inspect(context, pem(INTER.certificate))
    assert before.signed_by is None
    assert "they still need its issuer" in (before.remark or "")
    trust.add(context, pem(ROOT.certificate))
    inter, root = trust.inspect(context, pem(INTER.certificate), pem(ROOT.certificate), pem(ROOT.certificate))
    assert (inter.signed_by, inter.remark, root.known) == ("CN=Root", None, True)
    leaf = make_leaf(INTER, new_key(), ["a.example"], not_before=NOW - DAY, not_after=NOW + DAY)
    ended = make_ca("Ended", not_before=NOW - 9 * DAY, not_after=NOW - DAY)
    problems = [one.problem or "" for one in trust.inspect(context, pem(leaf), pem(ended.certificate))]
    assert "not one of a CA" in problems[0]
    assert "ended on 2026-11-22" in problems[1]


def test_only_those_meant_are_added(records: Records) -> None:
    context = records.acting("mrao")
    text = "".join(pem(one) for one in BOTH)
    with pytest.raises(InvalidInput, match="so nothing was added"):
        trust.add(context, text, only=[x509.fingerprint(ROOT.certificate), "00" * 32])
    assert trust.listing(context) == []
    digits = x509.fingerprint(INTER.certificate).upper()
    written = ":".join(digits[at : at + 2] for at in range(0, len(digits), 2))
    [row] = trust.add(context, text, only=[written])
    assert (row.subject, row.is_root) == ("CN=Inter", False)
    assert [one.subject for one in trust.listing(context)] == ["CN=Inter"]


def test_who_waits_is_told_to_those_who_see_the_request(records: Records) -> None:
    with records.database.write() as session:
        session.get_one(CertificateRequest, 1).missing_issuer = "CN=Inter"
    expected = [trust.Waiting("CN=Inter", [trust.WaitingRequest(1, "a.example")])]
    for login, seen in (("mrao", expected), ("rao", expected), ("drao", expected), ("stranger", [])):
        assert trust.waiting(records.acting(login)) == seen, login
    with records.database.write() as session:
        session.get_one(CertificateRequest, 1).closed = True
    assert trust.waiting(records.acting("mrao")) == []
