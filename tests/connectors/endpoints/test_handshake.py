"""What a handshake shows of servers good and bad."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509

from connectors.endpoints.contract import Listener, Probe, Verification
from connectors.endpoints.handshake import Expected, Observation, classify, fingerprint, shake_hands, verify, verify_all
from tests.support.installing import ThrowawayAuthority, fingerprint_of
from worker.playground import free_port

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()
    writer.close()


@asynccontextmanager
async def serving(handler: Handler = say_nothing, context: ssl.SSLContext | None = None) -> AsyncIterator[Probe]:
    """A server on loopback and the probe for it."""
    server = await asyncio.start_server(handler, "127.0.0.1", 0, ssl=context)
    try:
        yield Probe(Listener("127.0.0.1", server.sockets[0].getsockname()[1]), "a.example")
    finally:
        server.close()
        await server.wait_closed()


def server_context(
    authority: ThrowawayAuthority, folder: Path, *, chain: bool = True
) -> tuple[ssl.SSLContext, Expected]:
    material = authority.issue("a.example")
    path = folder / "combined.pem"
    intermediates = list(material.chain_pem[:1])
    assert material.private_key_pem is not None
    path.write_text(
        material.certificate_pem + "".join(intermediates if chain else []) + material.private_key_pem.decode()
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    needed = tuple(fingerprint(x509.load_pem_x509_certificate(one.encode())) for one in intermediates)
    return context, Expected(fingerprint_of(material), needed)


async def test_match_and_incomplete_chain(authority: ThrowawayAuthority, tmp_path: Path) -> None:
    for chain, verification in ((True, Verification.MATCH), (False, Verification.INCOMPLETE_CHAIN)):
        context, expected = server_context(authority, tmp_path, chain=chain)
        async with serving(context=context) as probe:
            served = await verify(probe, expected)
        assert (served.verification, served.fingerprint) == (verification, expected.leaf)


async def test_old_protocol_versions_are_seen(authority: ThrowawayAuthority, tmp_path: Path) -> None:
    context, expected = server_context(authority, tmp_path)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    async with serving(context=context) as probe:
        assert (await verify(probe, expected)).verification is Verification.MATCH


async def test_what_another_certificate_means(authority: ThrowawayAuthority, tmp_path: Path) -> None:
    context, expected = server_context(authority, tmp_path)
    assert expected.leaf is not None
    async with serving(context=context) as probe:
        seen = await shake_hands(probe)
    for wanted, verification in (
        (Expected("00", previous=[expected.leaf]), Verification.PREVIOUS_CERTIFICATE),
        (Expected("00", known={expected.leaf: "request 7"}), Verification.OTHER_KNOWN_CERTIFICATE),
        (Expected("00"), Verification.UNKNOWN_CERTIFICATE),
        (Expected(None), Verification.UNKNOWN_CERTIFICATE),
    ):
        served = classify(probe, seen, wanted)
        assert served.verification is verification
        assert served.message.startswith(str(probe))
    assert classify(probe, Observation((), Verification.NO_CERTIFICATE, "x"), Expected("00")).fingerprint is None


async def test_a_server_without_a_certificate() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("aNULL:@SECLEVEL=0")
    async with serving(context=context) as probe:
        assert (await verify(probe, Expected("00"))).verification is Verification.NO_CERTIFICATE


async def test_nobody_listens() -> None:
    served = await verify(Probe(Listener("127.0.0.1", free_port()), None), Expected("00"))
    assert served.verification is Verification.CONNECTION_FAILED
    assert "refused" in served.message


async def test_a_name_that_does_not_resolve(monkeypatch: pytest.MonkeyPatch) -> None:
    async def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", unknown)
    served = await verify(Probe(Listener("nowhere.invalid", 443), None), Expected("00"))
    assert served.verification is Verification.RESOLUTION_FAILED
    assert "not known" in served.message


async def test_every_address_of_a_name_is_tried(
    authority: ThrowawayAuthority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context, expected = server_context(authority, tmp_path)
    async with serving(context=context) as probe:

        async def two(*_: object, **__: object) -> list[tuple[int, int, int, str, tuple[str, int]]]:
            ports = (free_port(), probe.listener.port)
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port)) for port in ports]

        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", two)
        served = await verify(Probe(Listener("a.example", 443), "a.example"), expected)
    assert served.verification is Verification.MATCH


async def test_no_tls_at_all() -> None:
    async def speak_http(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    for handler in (speak_http, hang_up):
        async with serving(handler) as probe:
            assert (await verify(probe, Expected("00"))).verification is Verification.HANDSHAKE_FAILED


async def test_a_server_that_says_nothing_is_given_up() -> None:
    async with serving() as probe:
        served = await verify(probe, Expected("00"), timeout=timedelta(seconds=0.2))
    assert served.verification is Verification.HANDSHAKE_FAILED
    assert "within 0.2 s" in served.message


async def test_many_at_once_keep_their_order(authority: ThrowawayAuthority, tmp_path: Path) -> None:
    context, expected = server_context(authority, tmp_path)
    async with serving(context=context) as probe:
        probes = [probe, Probe(Listener("127.0.0.1", free_port()), None)] * 10
        served = await verify_all(probes, expected)
    assert [one.verification for one in served] == [Verification.MATCH, Verification.CONNECTION_FAILED] * 10
