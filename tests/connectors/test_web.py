"""HTTP for connectors, against a server that says exactly what it is told to."""

from __future__ import annotations

import asyncio
import ipaddress
import json
import socket
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from connectors.errors import AuthorityFault, ConnectorError, Permanent, Retryable
from connectors.web import EVERY, PUBLIC, Addresses, Answer, Web, place, retry_after
from tests.support.scripted import Scripted, ServerTls, scripted, server_tls

SECRET = "hunter2-of-the-ca"


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> ServerTls:
    return server_tls(tmp_path_factory.mktemp("tls"))


@pytest_asyncio.fixture
async def server(tls: ServerTls) -> AsyncIterator[Scripted]:
    async with scripted(tls.context) as found:
        found.answer("200 OK", b'{"fine": true}')
        yield found


@pytest.fixture
def web(server: Scripted, tls: ServerTls) -> Callable[..., Web]:
    def opened(**more: Any) -> Web:
        return Web(
            "The CA",
            f"https://127.0.0.1:{server.port}/api",
            ca_file=tls.ca_file,
            headers={"password": SECRET},
            **more,
        )

    return opened


async def test_a_request_is_sent_as_told_and_its_answer_read(server: Scripted, web: Callable[..., Web]) -> None:
    async with web() as ca:
        answer = await ca.post("/enroll", body={"a": 1}, query={"size": 2}, headers={"x-more": "yes"})
    assert answer.object() == {"fine": True}
    head = server.asked[0]
    assert head.startswith("POST /api/enroll?size=2 HTTP/1.1\r\n")
    assert f"password: {SECRET}" in head
    assert "x-more: yes" in head
    assert "user-agent: certgate" in head


@pytest.mark.parametrize(
    ("status", "kind", "words"),
    [
        ("401 Unauthorized", Permanent, "refuses the credentials (status 401)"),
        ("403 Forbidden", Permanent, "refuses the credentials (status 403)"),
        ("302 Found", Permanent, "sends us elsewhere"),
        ("408 Request Timeout", Retryable, "in trouble"),
        ("429 Too Many Requests", Retryable, "asks us to wait"),
        ("500 Oh", Retryable, "in trouble (status 500)"),
        ("503 Busy", Retryable, "in trouble (status 503)"),
    ],
)
async def test_a_status_becomes_an_outcome(
    server: Scripted, web: Callable[..., Web], status: str, kind: type[ConnectorError], words: str
) -> None:
    server.answer(status, f"your password {SECRET} is wrong".encode(), "location: http://10.0.0.1/", "retry-after: 7")
    async with web() as ca:
        with pytest.raises(kind) as caught:
            await ca.get("/x")
        passed = await ca.get("/x", passing=[int(status[:3])])
    assert words in caught.value.message
    assert SECRET not in caught.value.message
    if isinstance(caught.value, Retryable):
        assert caught.value.after == timedelta(seconds=7)
    assert passed.status == int(status[:3])
    # A redirect was followed to nowhere.
    assert len(server.asked) == 2


@pytest.mark.parametrize("status", ["200 OK", "400 Bad Request", "404 Not Found", "422 No"])
async def test_other_statuses_are_the_callers_to_judge(server: Scripted, web: Callable[..., Web], status: str) -> None:
    server.answer(status, b'{"code": -16}')
    async with web() as ca:
        assert (await ca.get("")).status == int(status[:3])


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "nothing in it"),
        (b"  \n", "nothing in it"),
        (b"<!DOCTYPE html><p>Maintenance", "an HTML page"),
        (b"no json", "something that is no JSON"),
        (b"[" * 100_000, "no JSON"),
        (b"[1, 2]", "no object"),
        (b"\xff\xfe", "no JSON"),
    ],
)
async def test_what_is_no_answer_is_the_cas_fault(
    server: Scripted, web: Callable[..., Web], body: bytes, words: str
) -> None:
    server.answer("200 OK", body)
    async with web() as ca:
        with pytest.raises(AuthorityFault, match=words):
            (await ca.get()).object()


async def test_an_endless_answer_is_given_up_early(server: Scripted, web: Callable[..., Web]) -> None:
    server.stream(b"x" * 1_000_000, 50)
    async with web(largest=100_000) as ca:
        with pytest.raises(AuthorityFault, match="more than 100000 bytes"):
            await ca.get()


@pytest.mark.parametrize(
    "says",
    [
        [None],
        [b"HTTP/1.1 200 OK\r\ncontent-le", None],
        [b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf", None],
        [b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf"],
        [b"220 mail.example.com ESMTP\r\n"],
    ],
)
async def test_a_cut_connection_may_be_tried_again(
    server: Scripted, web: Callable[..., Web], says: list[bytes | None]
) -> None:
    server.says = says
    async with web() as ca:
        with pytest.raises(Retryable, match="was cut"):
            await ca.get()


async def test_nobody_there_may_be_tried_again(web: Callable[..., Web], server: Scripted) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    async with Web("The CA", f"https://127.0.0.1:{port}") as ca:
        with pytest.raises(Retryable, match="can't be reached"):
            await ca.get()


async def test_a_server_that_keeps_silent_is_given_up(server: Scripted, tls: ServerTls) -> None:
    silence = asyncio.Event()

    async def silent(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await silence.wait()
        writer.close()

    mute = await asyncio.start_server(silent, "127.0.0.1", 0, ssl=tls.context)
    try:
        async with Web(
            "The CA", f"https://127.0.0.1:{mute.sockets[0].getsockname()[1]}", ca_file=tls.ca_file, patience=0.2
        ) as ca:
            with pytest.raises(Retryable, match="did not answer in time"):
                await ca.get()
    finally:
        silence.set()
        mute.close()
        await mute.wait_closed()


async def test_a_certificate_that_does_not_verify_is_told(server: Scripted, tmp_path: Path) -> None:
    address = f"https://127.0.0.1:{server.port}"
    async with Web("The CA", address) as ca:
        with pytest.raises(Permanent, match=r"TLS certificate of The CA .* does not verify"):
            await ca.get()
    other = server_tls(tmp_path)
    async with Web("The CA", address, ca_file=other.ca_file) as ca:
        with pytest.raises(Permanent, match="does not verify"):
            await ca.get()
    assert server.asked == []


async def test_a_certificate_for_another_name_is_told(tmp_path: Path) -> None:
    stranger = server_tls(tmp_path, "elsewhere.example.com")
    async with (
        scripted(stranger.context) as server,
        Web("The CA", f"https://127.0.0.1:{server.port}", ca_file=stranger.ca_file) as ca,
    ):
        with pytest.raises(Permanent, match="does not verify"):
            await ca.get()


@pytest.mark.parametrize(
    ("content", "words"), [(None, "No such file"), ("nothing", "does not hold what it should")], ids=["none", "text"]
)
async def test_files_that_can_not_be_used_are_told(tmp_path: Path, content: str | None, words: str) -> None:
    file = tmp_path / "ca.pem"
    if content is not None:
        file.write_text(content)
    for more in ({"ca_file": file}, {"certificate": (file, file)}):
        async with Web("The CA", "https://127.0.0.1:1", **more) as ca:
            with pytest.raises(Permanent, match=words):
                await ca.get()


@pytest.mark.parametrize(
    "address", ["http://ca.example.com", "ftp://x", "https://", "ca.example.com", "https://user:pw@ca.example.com"]
)
def test_an_address_that_will_not_do_is_refused_at_once(address: str) -> None:
    with pytest.raises(Permanent) as caught:
        Web("The CA", address)
    assert "pw" not in caught.value.message


async def test_another_server_is_not_asked(web: Callable[..., Web]) -> None:
    async with web() as ca:
        with pytest.raises(AuthorityFault, match="another server"):
            await ca.get("https://127.0.0.1:9/elsewhere")


async def test_it_works_again_in_another_loop(web: Callable[..., Web]) -> None:
    ca = web()
    assert (await ca.get()).status == 200
    assert (await asyncio.to_thread(lambda: asyncio.run(ca.get()))).status == 200
    assert (await ca.get()).status == 200
    await ca.close()


# --- addresses --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0",
        "224.0.0.1", "255.255.255.255", "::1", "fe80::1%eth0", "fd00::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1",
        "2002:7f00:1::", "ff02::1", "::",
    ],
)  # fmt: skip
def test_private_addresses_are_refused(address: str) -> None:
    assert PUBLIC.refuse(address)
    assert not EVERY.refuse(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8"])
def test_public_addresses_are_asked(address: str) -> None:
    assert not PUBLIC.refuse(address)


def test_a_network_may_be_allowed() -> None:
    allowed = Addresses(False, (ipaddress.ip_network("10.1.0.0/16"), ipaddress.ip_network("fd00::/8")))
    assert not allowed.refuse("10.1.2.3")
    assert not allowed.refuse("::ffff:10.1.2.3")
    assert not allowed.refuse("fd00::7")
    assert allowed.refuse("10.2.0.1")
    assert allowed.refuse("::1")


async def test_a_private_address_is_not_asked(server: Scripted, web: Callable[..., Web], tls: ServerTls) -> None:
    for name in ("127.0.0.1", "localhost"):
        async with Web("The URL", f"https://{name}:{server.port}", ca_file=tls.ca_file, addresses=PUBLIC) as ca:
            with pytest.raises(Permanent, match="private address"):
                await ca.get()
    assert server.asked == []


async def test_the_address_that_was_judged_is_the_one_that_is_asked(
    server: Scripted, tls: ServerTls, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A DNS that answers otherwise the second time gains nothing: there is no second time."""
    asked = []
    loop = asyncio.get_running_loop()
    real = loop.getaddrinfo

    async def resolves(host: str, port: int, **more: Any) -> Any:
        asked.append(host)
        return await real("127.0.0.1" if host == "localhost" else host, port, **more)

    monkeypatch.setattr(loop, "getaddrinfo", resolves)
    allowed = Addresses(False, (ipaddress.ip_network("127.0.0.0/8"),))
    async with Web("The URL", f"https://localhost:{server.port}", ca_file=tls.ca_file, addresses=allowed) as ca:
        # TLS is verified for the name, though the address is asked.
        assert (await ca.get("/x")).status == 200
    assert asked.count("localhost") == 1
    assert f"host: localhost:{server.port}" in server.asked[0].lower()


async def test_a_name_that_does_not_resolve_may_be_tried_again() -> None:
    async with Web("The URL", "https://does-not-exist.invalid", addresses=PUBLIC) as ca:
        with pytest.raises(Retryable, match="can't be resolved"):
            await ca.get()


# --- small things -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        ("7", 7), (" 7 ", 7), ("0", 0), ("999999999999", 86_400), ("", None), ("-1", None), ("soon", None),
        ("Tue, 24 Nov 2026 12:00:30 GMT", 30), ("Tue, 24 Nov 2026 11:00:00 GMT", 0), ("١", None),
    ],
)  # fmt: skip
def test_retry_after(given: str, seconds: int | None) -> None:
    now = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
    expected = None if seconds is None else timedelta(seconds=seconds)
    assert retry_after({"retry-after": given}, now) == expected


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://ca.example.com/secret?x=1", "https://ca.example.com"),
        ("http://[::1]:80/a", "http://[::1]:80"),
        ("https://a:b@ca.example.com:99999/", "https://ca.example.com"),
    ],
)
def test_a_place_holds_no_secret(url: str, shown: str) -> None:
    assert place(url) == shown


def test_an_answer_reads_json() -> None:
    assert Answer(200, {}, json.dumps([1]).encode(), "x").json() == [1]
