"""Issuers' certificates by URL: what is read, what is refused, and how far a lead is followed."""

from __future__ import annotations

import asyncio
import itertools
import socket
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
import pytest_asyncio
from cryptography import x509 as crypto
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7

from connectors import issuers, public_roots
from connectors.errors import AuthorityFault, ConnectorError, Permanent, Retryable
from connectors.web import PUBLIC, Addresses
from model import x509
from model.errors import InvalidInput
from tests.pki import Issuer, make_ca, make_leaf, new_key, pem
from tests.support.chained import access_at
from tests.support.scripted import Scripted, scripted

LOCAL = issuers.reachable(["127.0.0.0/8"])
ROOT = make_ca("Root")
INTER = make_ca("Inter", ROOT)


@pytest_asyncio.fixture
async def server() -> AsyncIterator[Scripted]:
    async with scripted() as made:
        yield made


async def fetched(server: Scripted, addresses: Addresses = LOCAL) -> list[crypto.Certificate]:
    return await issuers.fetch(f"http://127.0.0.1:{server.port}/ca.p7c?token=secret", addresses)


def p7(*given: Issuer, encoding: Encoding = Encoding.DER) -> bytes:
    return pkcs7.serialize_certificates([one.certificate for one in given], encoding)


@pytest.mark.parametrize(
    "body",
    [
        p7(INTER, ROOT),
        p7(INTER, ROOT, encoding=Encoding.PEM),
        (pem(INTER.certificate) + "some words between\n" + pem(ROOT.certificate) * 3).encode(),
    ],
    ids=["p7c", "p7b in PEM", "PEM with duplicates"],
)
async def test_every_usual_encoding_is_read(server: Scripted, body: bytes) -> None:
    # Many servers call all of it application/octet-stream, or worse.
    server.answer("200 OK", body, "content-type: text/html")
    assert set(await fetched(server)) == {INTER.certificate, ROOT.certificate}


def key_pem() -> bytes:
    return new_key().private_bytes(Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


def deeply(times: int) -> bytes:
    """A PKCS#7 content info in a content info, in a content info …, of indefinite length."""
    return bytes.fromhex("308006092a864886f70d010702a080") * times


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"", "it is empty"),
        (b"<!DOCTYPE html><title>Sign in</title>", "it is a web page"),
        (b'{"certificates": []}', "neither as PEM nor as DER, nor as PKCS#7"),
        (key_pem() + pem(ROOT.certificate).encode(), "there is a private key in it"),
        (pem(ROOT.certificate).encode()[:300], "not a readable PEM certificate"),
        (ROOT.certificate.public_bytes(Encoding.DER)[:-1], "neither as PEM"),
        (p7(ROOT)[:-9], "neither as PEM"),
        (b"-----BEGIN PKCS7-----\nAAAA\n-----END PKCS7-----\n", "neither as PEM"),
        (deeply(60_000), "neither as PEM"),
    ],
    ids=["empty", "HTML", "JSON", "key", "cut PEM", "cut DER", "cut PKCS#7", "PKCS#7 of nothing", "deep PKCS#7"],
)
async def test_what_is_no_certificate_gets_one_sentence(server: Scripted, body: bytes, told: str) -> None:
    server.answer("200 OK", body)
    with pytest.raises(AuthorityFault, match=told) as caught:
        await fetched(server)
    assert caught.value.message.startswith(f"What http://127.0.0.1:{server.port}/ca.p7c gave can't be used: ")
    assert "secret" not in caught.value.message
    assert "\n" not in caught.value.message


async def test_fifty_megabytes_are_not_read(server: Scripted) -> None:
    server.stream(b"\x30" * 65_536, 800)
    with pytest.raises(AuthorityFault, match=f"sent more than {issuers.LARGEST} bytes"):
        await fetched(server)


@pytest.mark.parametrize(
    ("status", "kind", "told"),
    [
        ("302 Found", Permanent, "sends us elsewhere"),
        ("404 Not Found", Permanent, r"There is no certificate at .*/ca.p7c \(status 404\)"),
        ("403 Forbidden", Permanent, "403"),
        ("503 Service Unavailable", Retryable, "in trouble"),
    ],
)
async def test_other_answers_are_told(server: Scripted, status: str, kind: type[ConnectorError], told: str) -> None:
    server.answer(status, b"", "location: http://10.0.0.1/")
    with pytest.raises(kind, match=told) as caught:
        await fetched(server)
    assert len(server.asked) == 1
    assert "secret" not in caught.value.message


INSIDE = [
    "169.254.169.254", "127.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "[::ffff:a00:1]", "10.1.2.3", "192.168.0.1",
    "0.0.0.0",
    "[fd00::1]", "[fe80::1]", "[2002:7f00:1::]", "[64:ff9b::10.0.0.1]", "[::127.0.0.1]", "100.64.0.1", "224.0.0.1",
    "2130706433", "0x7f.1", "localhost",
]  # fmt: skip


@pytest.mark.parametrize("host", INSIDE)
async def test_addresses_inside_are_not_asked(host: str) -> None:
    with pytest.raises(Permanent, match=r"has the private address .* not asked unless it is allowed"):
        await issuers.fetch(f"http://{host}/ca.cer", PUBLIC)


@pytest.mark.parametrize(
    "url",
    ["", "ftp://example.org/ca.cer", "http://", "http://[::1/", "http://host:99999/", "http://a b/", "http://host:0/",
     "http://user:word@example.org/", "file:///etc/passwd", "http://exämple.org/"],
)  # fmt: skip
async def test_malformed_addresses_get_one_sentence(url: str) -> None:
    with pytest.raises(Permanent) as caught:
        await issuers.fetch(url, PUBLIC)
    assert "word" not in caught.value.message
    assert caught.value.message[0].isupper()


async def test_a_name_that_changes_its_address_is_asked_where_it_was_looked_up(
    server: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DNS rebinding: the first answer is an address that may be asked, every later one another."""
    loop = asyncio.get_running_loop()
    real, asked = loop.getaddrinfo, []

    async def rebound(host: Any, port: Any, **more: Any) -> Any:
        asked.append(host)
        if host != "rebinding.example.org":
            return await real(host, port, **more)
        address = "127.0.0.1" if len(asked) == 1 else "169.254.169.254"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    monkeypatch.setattr(loop, "getaddrinfo", rebound)
    server.answer("200 OK", pem(ROOT.certificate).encode())
    url = f"http://rebinding.example.org:{server.port}/"
    assert await issuers.fetch(url, LOCAL) == [ROOT.certificate]
    assert asked.count("rebinding.example.org") == 1
    assert "host: rebinding.example.org:" in server.asked[0].lower()
    with pytest.raises(Permanent, match=r"private address 169\.254\.169\.254"):
        await issuers.fetch(url, LOCAL)


def test_networks_are_checked() -> None:
    assert not issuers.reachable(["10.0.0.0/8"]).refuse("10.1.1.1")
    assert not issuers.reachable(["10.0.0.0/8"]).refuse("::ffff:10.1.1.1")
    assert issuers.reachable(["10.0.0.0/8"]).refuse("192.168.1.1")
    with pytest.raises(InvalidInput, match=r"as 10\.0\.0\.0/8"):
        issuers.reachable(["10.0.0.1/8"])


# --- following --------------------------------------------------------------------------------------------------------


class Repository:
    """A CA's web server: certificates by path."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.port = 0

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.port}/{name}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        path = (await reader.readuntil(b"\r\n\r\n")).split(b" ")[1].decode().lstrip("/")
        self.asked.append(path)
        body = self.files.get(path)
        status = "404 Not Found" if body is None else "200 OK"
        writer.write(f"HTTP/1.1 {status}\r\nconnection: close\r\n\r\n".encode() + (body or b""))
        await writer.drain()
        writer.close()


@pytest_asyncio.fixture
async def repository() -> AsyncIterator[Repository]:
    made = Repository()
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    yield made
    server.close()
    await server.wait_closed()


def saying(issuer: Issuer, signer: Issuer, *urls: str) -> Issuer:
    """The same CA with a certificate that says where its issuer's is."""
    old = issuer.certificate
    builder = crypto.CertificateBuilder(extensions=list(old.extensions)).subject_name(old.subject)
    builder = builder.issuer_name(signer.certificate.subject).public_key(old.public_key())
    builder = builder.serial_number(crypto.random_serial_number()).not_valid_before(old.not_valid_before_utc)
    builder = builder.not_valid_after(old.not_valid_after_utc).add_extension(access_at(*urls), critical=False)
    return Issuer(builder.sign(signer.key, hashes.SHA256()), issuer.key)


def der(*given: Issuer) -> bytes:
    return given[0].certificate.public_bytes(Encoding.DER) if len(given) == 1 else p7(*given)


async def followed(
    ends: Sequence[crypto.Certificate], addresses: Addresses = LOCAL
) -> tuple[list[crypto.Certificate], list[str], bool]:
    found = await issuers.follow(ends, addresses)
    return found.certificates, found.notes, found.again


async def test_a_lead_is_followed_up_to_a_root(repository: Repository) -> None:
    upper = saying(make_ca("Upper"), ROOT, repository.url("root"))
    lower = saying(make_ca("Lower"), upper, repository.url("missing"), repository.url("upper"))
    repository.files = {"root": der(ROOT), "upper": der(upper, make_ca("Stranger"), upper)}
    found, notes, again = await followed([lower.certificate])
    assert found == [upper.certificate, ROOT.certificate]
    assert notes == [f"There is no certificate at {repository.url('missing')} (status 404)."]
    assert not again
    assert repository.asked == ["missing", "upper", "root"]


async def test_what_did_not_sign_is_left_and_told(repository: Repository) -> None:
    end = saying(make_ca("Lower"), INTER, repository.url("other"))
    repository.files = {"other": der(make_ca("Inter", ROOT), ROOT)}
    found, notes, _ = await followed([end.certificate])
    assert found == []
    assert notes == [f"What {repository.url('other')} gave did not sign CN=Lower."]


async def test_a_loop_ends_where_it_began(repository: Repository) -> None:
    """Two CAs that signed each other, each naming the other's certificate."""
    a, b = make_ca("A"), make_ca("B")
    a_by_b, b_by_a = saying(a, b, repository.url("b")), saying(b, a, repository.url("a"))
    repository.files = {"a": der(a_by_b), "b": der(b_by_a)}
    found, notes, again = await followed([a_by_b.certificate])
    assert (found, notes, again) == ([b_by_a.certificate], [], False)
    assert sorted(repository.asked) == ["a", "b"]


async def test_a_lead_without_end_is_given_up(repository: Repository) -> None:
    """A server that names, for every certificate, one more."""
    line = [make_ca(f"Number {number}") for number in range(20)]
    said = [
        saying(lower, upper, repository.url(str(number + 1)))
        for number, (lower, upper) in enumerate(itertools.pairwise(line))
    ]
    repository.files = {str(number): der(one) for number, one in enumerate(said)}
    found, notes, _ = await followed([said[0].certificate])
    assert len(repository.asked) == len(found) == 8
    assert notes == ["After 8 addresses no more were asked."]


async def test_a_lead_inside_is_not_followed(repository: Repository) -> None:
    end = saying(make_ca("Lower"), INTER, "http://169.254.169.254/secret", "ldap://dc/cn=ca", repository.url("inter"))
    repository.files = {"inter": der(INTER)}
    assert x509.issuer_urls(end.certificate) == ["http://169.254.169.254/secret", repository.url("inter")]
    found, notes, again = await followed([end.certificate], PUBLIC)
    assert found == []
    assert len(notes) == 2
    assert all("private address" in note and "secret" not in note for note in notes)
    assert not again
    assert repository.asked == []


async def test_a_server_that_is_away_may_be_asked_later() -> None:
    async with scripted() as gone:
        port = gone.port
    end = saying(make_ca("Lower"), INTER, f"http://127.0.0.1:{port}/")
    found, notes, again = await followed([end.certificate])
    assert (found, again) == ([], True)
    assert "can't be reached" in notes[0]


def test_the_public_roots_are_many_and_readable() -> None:
    roots = x509.load_certificates(public_roots.pem())
    assert len(roots) > 100
    assert all(x509.is_self_signed(one) for one in roots)


def test_a_leaf_names_its_issuers_address() -> None:
    leaf = make_leaf(INTER, new_key(), ["www.example.org"])
    assert x509.issuer_urls(leaf) == []
