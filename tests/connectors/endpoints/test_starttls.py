"""TLS that begins inside another protocol. The servers here are checked by OpenSSL's own client, so that client and
server of these tests are not wrong in the same way; Postfix, Dovecot and PostgreSQL themselves are met in their own
tests."""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.endpoints.contract import Listener, Probe, Verification
from connectors.endpoints.handshake import fingerprint, shake_hands
from connectors.endpoints.starttls import NotBegun, StartTls, begin
from tests.support.installing import ThrowawayAuthority, fingerprint_of
from tests.support.programs import program


class Peer:
    """One connection of a server. It never reads further than it is asked to: what comes then may be TLS."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection

    async def say(self, content: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self.connection, content)

    async def exactly(self, count: int) -> bytes:
        content = b""
        while len(content) < count:
            content += await self.some(count - len(content))
        return content

    async def until(self, end: bytes) -> bytes:
        content = b""
        while not content.endswith(end):
            content += await self.some(1)
        return content

    async def line(self) -> bytes:
        return await self.until(b"\r\n")

    async def some(self, most: int = 1000) -> bytes:
        content = await asyncio.get_running_loop().sock_recv(self.connection, most)
        if not content:
            raise ConnectionResetError("the client had enough")
        return content


Dialogue = Callable[[Peer], Awaitable[None]]
TLS_NAMESPACE = b"urn:ietf:params:xml:ns:xmpp-tls"


# Each ends when TLS may begin.


async def smtp(peer: Peer, hello: bytes = b"EHLO") -> None:
    await peer.say(b"220-mail.example ESMTP\r\n220 ready\r\n")
    assert (await peer.line()).startswith(hello)
    await peer.say(b"250-mail.example\r\n250-SIZE 10240000\r\n250-starttls\r\n250 HELP\r\n")
    assert await peer.line() == b"STARTTLS\r\n"
    await peer.say(b"220 2.0.0 Ready to start TLS\r\n")


async def lmtp(peer: Peer) -> None:
    await smtp(peer, b"LHLO")


async def imap(peer: Peer) -> None:
    await peer.say(b"* OK [CAPABILITY IMAP4rev1] ready\r\n")
    tag, command = (await peer.line()).split()
    assert command == b"CAPABILITY"
    await peer.say(b"* CAPABILITY IMAP4rev1 STARTTLS LOGINDISABLED\r\n" + tag + b" OK done\r\n")
    tag, command = (await peer.line()).split()
    assert command == b"STARTTLS"
    await peer.say(tag + b" OK Begin TLS negotiation now.\r\n")


async def pop3(peer: Peer) -> None:
    await peer.say(b"+OK ready\r\n")
    assert await peer.line() == b"STLS\r\n"
    await peer.say(b"+OK Begin TLS negotiation now.\r\n")


async def sieve(peer: Peer) -> None:
    await peer.say(b'"IMPLEMENTATION" "Example"\r\n"STARTTLS"\r\n"SIEVE" "fileinto"\r\nOK "ready"\r\n')
    assert await peer.line() == b"STARTTLS\r\n"
    await peer.say(b'OK "Begin TLS negotiation now."\r\n')


async def ftp(peer: Peer) -> None:
    await peer.say(b"220-welcome\r\n 220 is not the end\r\n220 ready\r\n")
    line = await peer.line()
    if line.startswith(b"FEAT"):  # OpenSSL asks
        await peer.say(b"211-Features:\r\n AUTH TLS\r\n211 End\r\n")
        line = await peer.line()
    assert line == b"AUTH TLS\r\n"
    await peer.say(b"234 Proceed with negotiation.\r\n")


async def ldap(peer: Peer) -> None:
    _, size = await peer.exactly(2)
    message = await peer.exactly(size)
    assert message[:3] == b"\x02\x01\x01"
    assert message.endswith(b"1.3.6.1.4.1.1466.20037")
    await peer.say(b"\x30\x0c\x02\x01\x01\x78\x07\x0a\x01\x00\x04\x00\x04\x00")


async def postgresql(peer: Peer) -> None:
    assert struct.unpack(">ii", await peer.exactly(8)) == (8, 80877103)
    await peer.say(b"S")


def mysql_greeting(capabilities: int = 0x800 | 0x8000 | 0x200, protocol: int = 10) -> bytes:
    packet = bytes([protocol]) + b"8.0.36-example\0" + struct.pack("<I8sxHBHH", 7, b"saltsalt", capabilities, 45, 2, 8)
    packet += b"\x15" + bytes(10) + b"saltsaltsalt\0" + b"mysql_native_password\0"
    return len(packet).to_bytes(3, "little") + b"\0" + packet


async def mysql(peer: Peer) -> None:
    await peer.say(mysql_greeting())
    head = await peer.exactly(4)
    assert (int.from_bytes(head[:3], "little"), head[3]) == (32, 1)
    assert int.from_bytes((await peer.exactly(32))[:4], "little") & 0x800


async def xmpp(peer: Peer, namespace: bytes = b"jabber:client") -> None:
    assert namespace in await _opening(peer)
    await peer.say(
        b"<?xml version='1.0'?><stream:stream xmlns='" + namespace + b"' id='1' from='a.example' version='1.0' "
        b"xmlns:stream='http://etherx.jabber.org/streams'>"
    )
    await peer.say(
        b'<stream:features><starttls xmlns="' + TLS_NAMESPACE + b'"><required/></starttls></stream:features>'
    )
    assert b"starttls" in await peer.until(b"/>")
    await peer.say(b"<proceed xmlns='" + TLS_NAMESPACE + b"'/>")


async def _opening(peer: Peer) -> bytes:
    content = b""
    while not re.search(rb"<stream:stream [^>]*>", content):
        content += await peer.some(1)
    return content


async def xmpp_server(peer: Peer) -> None:
    await xmpp(peer, b"jabber:server")


SPOKEN: dict[StartTls, Dialogue] = {
    StartTls.SMTP: smtp,
    StartTls.LMTP: lmtp,
    StartTls.IMAP: imap,
    StartTls.POP3: pop3,
    StartTls.SIEVE: sieve,
    StartTls.FTP: ftp,
    StartTls.LDAP: ldap,
    StartTls.POSTGRESQL: postgresql,
    StartTls.MYSQL: mysql,
    StartTls.XMPP: xmpp,
    StartTls.XMPP_SERVER: xmpp_server,
}


@asynccontextmanager
async def serving(kind: StartTls, dialogue: Dialogue, context: ssl.SSLContext | None = None) -> AsyncIterator[Probe]:
    """A server on loopback that speaks `dialogue` and then TLS."""

    loop = asyncio.get_running_loop()
    tasks: set[asyncio.Task[None]] = set()

    async def accept(listening: socket.socket) -> None:
        while True:
            connection, _ = await loop.sock_accept(listening)
            tasks.add(asyncio.create_task(talk(connection)))

    async def talk(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            await dialogue(Peer(connection))
            if context is not None:
                await asyncio.to_thread(shake, connection, context)

    def shake(connection: socket.socket, context: ssl.SSLContext) -> None:
        connection.setblocking(True)
        with context.wrap_socket(connection, server_side=True) as secured:
            while secured.recv(1000):
                pass

    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setblocking(False)
        tasks.add(asyncio.create_task(accept(listening)))
        try:
            yield Probe(Listener("127.0.0.1", listening.getsockname()[1], starttls=kind), "a.example")
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


@pytest.fixture(scope="module")
def context(authority: ThrowawayAuthority, tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, str]:
    """A server's context, and the fingerprint of its certificate."""
    material = authority.issue("a.example")
    assert material.private_key_pem is not None
    path: Path = tmp_path_factory.mktemp("starttls") / "combined.pem"
    path.write_text(material.certificate_pem + material.private_key_pem.decode())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context, fingerprint_of(material)


def test_every_protocol_is_tested_here() -> None:
    assert set(SPOKEN) == set(StartTls)


@pytest.mark.parametrize("kind", list(StartTls))
async def test_tls_begins(kind: StartTls, context: tuple[ssl.SSLContext, str]) -> None:
    async with serving(kind, SPOKEN[kind], context[0]) as probe:
        seen = await shake_hands(probe)
        assert seen.failure is None, seen.reason
        assert fingerprint(seen.certificates[0]) == context[1]
        named = {StartTls.POSTGRESQL: "postgres"}.get(kind, str(kind))
        client = await asyncio.create_subprocess_exec(
            program("openssl"), "s_client", "-connect", str(probe.listener), "-starttls", named, "-brief",
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        output, _ = await client.communicate()
        assert b"Peer certificate: CN = leaf" in output, output


async def test_an_answer_may_come_byte_by_byte(context: tuple[ssl.SSLContext, str]) -> None:
    async def slowly(peer: Peer) -> None:
        for answer in (b"220 a\r\n", b"250-a\r\n250 STARTTLS\r\n", b"220 go\r\n"):
            for byte in answer:
                await peer.say(bytes([byte]))
                await asyncio.sleep(0)
            if answer != b"220 go\r\n":
                await peer.line()

    async with serving(StartTls.SMTP, slowly, context[0]) as probe:
        assert (await shake_hands(probe)).failure is None


def saying(*answers: bytes) -> Dialogue:
    """The first answer at once, each further one after something came; then the connection is closed."""

    async def dialogue(peer: Peer) -> None:
        for number, answer in enumerate(answers):
            if number:
                await peer.some()
            await peer.say(answer)
        peer.connection.shutdown(socket.SHUT_WR)
        await peer.some()

    return dialogue


def ldap_answer(code: int, words: bytes = b"", tag: int = 0x78) -> bytes:
    response = b"\x0a\x01" + bytes([code]) + b"\x04\x00\x04" + bytes([len(words)]) + words
    message = b"\x02\x01\x01" + bytes([tag, len(response)]) + response
    return b"\x30" + bytes([len(message)]) + message


STREAM = b"<stream:stream xmlns='jabber:client'>"
FEATURES = STREAM + b"<stream:features><starttls xmlns='x'/></stream:features>"
NONE, FAILED = Verification.NO_CERTIFICATE, Verification.HANDSHAKE_FAILED


@pytest.mark.parametrize(
    ("kind", "answers", "verification", "message"),
    [
        (StartTls.SMTP, [b"554 5.3.2 go away.\r\n"], FAILED, r"greeted with 554 5\.3\.2 go away$"),
        (StartTls.SMTP, [b"220 a\r\n", b"250-a\r\n250 HELP\r\n"], NONE, "does not offer STARTTLS$"),
        (StartTls.SMTP, [b"220 a\r\n", b"502 what\r\n"], FAILED, "answered EHLO with 502 what$"),
        (
            StartTls.SMTP,
            [b"220 a\r\n", b"250 STARTTLS\r\n", b"454 4.7.0 TLS not available\r\n"],
            FAILED,
            r"refused STARTTLS: 454 4\.7\.0 TLS not available$",
        ),
        (StartTls.SMTP, [b"HTTP/1.1 400 Bad Request\r\n\r\n"], FAILED, "speaks something else: HTTP/1.1 400 Bad"),
        (StartTls.SMTP, [b"\x15\x03\x01\0\x02\x02\x0a\n"], FAILED, "speaks something else: "),
        (StartTls.SMTP, [b""], FAILED, "closed the connection before TLS could begin"),
        (StartTls.SMTP, [b"220" + b"x" * 20_000], FAILED, "sent more than 8192 bytes"),
        (StartTls.SMTP, [b"220-x\r\n" * 5000], FAILED, "sent more than 200 lines"),
        (
            StartTls.SMTP,
            [b"220 a\r\n", b"250 STARTTLS\r\n", b"220 go\r\n250 injected\r\n"],
            FAILED,
            "sent something between its consent to TLS and the TLS handshake",
        ),
        (
            StartTls.SMTP,
            [b"421 \x1b[31mred\x07 " + b"w" * 500 + b"\r\n"],
            FAILED,
            r"greeted with 421 \[31mred w{100,}…$",
        ),
        (StartTls.LMTP, [b"220 a\r\n", b"500 no\r\n"], FAILED, "answered LHLO with 500 no$"),
        (StartTls.IMAP, [b"* BYE too many connections\r\n"], FAILED, r"greeted with \* BYE too many connections$"),
        (StartTls.IMAP, [b"* PREAUTH hello\r\n"], FAILED, r"greeted with \* PREAUTH"),
        (StartTls.IMAP, [b"+OK pop\r\n"], FAILED, r"speaks something else: \+OK pop"),
        (StartTls.IMAP, [b"* OK\r\n", b"* CAPABILITY IMAP4rev1\r\nc1 OK\r\n"], NONE, "does not offer STARTTLS$"),
        (
            StartTls.IMAP,
            [b"* OK\r\n", b"* CAPABILITY STARTTLS\r\nc1 OK\r\n", b"c2 NO not now\r\n"],
            FAILED,
            "refused STARTTLS: NO not now$",
        ),
        (StartTls.IMAP, [b"* OK\r\n", b"* 1 EXISTS\r\n" * 500], FAILED, "sent more than 200 lines"),
        (StartTls.POP3, [b"-ERR busy\r\n"], FAILED, "greeted with -ERR busy$"),
        (StartTls.POP3, [b"+OK\r\n", b"-ERR Unknown command\r\n"], FAILED, "refused STLS: -ERR Unknown command$"),
        (StartTls.POP3, [b"220 smtp\r\n"], FAILED, "speaks something else: 220 smtp$"),
        (StartTls.SIEVE, [b'"SIEVE" "x"\r\nOK\r\n'], NONE, "does not offer STARTTLS$"),
        (StartTls.SIEVE, [b'"STARTTLS"\r\nOK\r\n', b'NO "later"\r\n'], FAILED, 'refused STARTTLS: NO "later"$'),
        (StartTls.SIEVE, [b"220 smtp\r\n"], FAILED, "speaks something else"),
        (StartTls.SIEVE, [b'"X"\r\n' * 500], FAILED, "sent more than 200 lines"),
        (StartTls.FTP, [b"120 soon\r\n220 now\r\n", b"502 what\r\n"], FAILED, "refused AUTH TLS: 502 what$"),
        (StartTls.FTP, [b"530 no\r\n"], FAILED, "greeted with 530 no$"),
        (
            StartTls.LDAP,
            [b"", ldap_answer(2, b"unsupported")],
            NONE,
            r"refused StartTLS \(result code 2\): unsupported$",
        ),
        (StartTls.LDAP, [b"", ldap_answer(52)], FAILED, r"refused StartTLS \(result code 52\): no reason given$"),
        (StartTls.LDAP, [b"", ldap_answer(0, tag=0x61)], FAILED, "answered StartTLS with another LDAP message"),
        (StartTls.LDAP, [b"", b"220 smtp\r\n"], FAILED, "speaks something else than LDAP"),
        (StartTls.LDAP, [b"", b"\x30\x80\0\0"], FAILED, "answered StartTLS with something that is not LDAP"),
        (StartTls.LDAP, [b"", b"\x30\x84\xff\xff\xff\xff"], FAILED, "announced a message of 4294967295 bytes"),
        (StartTls.LDAP, [b"", b"\x30\x88"], FAILED, "announced a message that is too long"),
        (
            StartTls.LDAP,
            [b"", b"\x30\x05\x02\x01\x01\x78\x50"],
            FAILED,
            "answered StartTLS with something that is not LDAP",
        ),
        (StartTls.POSTGRESQL, [b"", b"N"], NONE, r"does not offer TLS \(ssl is off\)$"),
        (
            StartTls.POSTGRESQL,
            [b"", b"E" + b"SFATAL secret words"],
            FAILED,
            "answered the request for TLS with an error$",
        ),
        (StartTls.POSTGRESQL, [b"", b"H"], FAILED, "does not speak PostgreSQL"),
        (StartTls.POSTGRESQL, [b"", b"SE"], FAILED, "sent something between"),
        (StartTls.MYSQL, [mysql_greeting(0x200)], NONE, "does not offer TLS$"),
        (StartTls.MYSQL, [mysql_greeting(protocol=9)], FAILED, "does not speak MySQL$"),
        (StartTls.MYSQL, [b"\x0b\0\0\0\xff\x10\x04Too many"], FAILED, "greeted with an error: Too many$"),
        (StartTls.MYSQL, [b"\xff\xff\xff\0"], FAILED, "announced a message of 16777215 bytes"),
        (StartTls.XMPP, [b"", STREAM + b"<stream:features/>"], NONE, "does not offer STARTTLS$"),
        (
            StartTls.XMPP,
            [b"", STREAM + b"<stream:error><host-unknown xmlns='x'/></stream:error>"],
            FAILED,
            "refused the stream: host-unknown$",
        ),
        (StartTls.XMPP, [b"", FEATURES, b"<failure xmlns='x'/>"], FAILED, "refused STARTTLS: failure$"),
        (StartTls.XMPP, [b"", b"x" * 70_000], FAILED, "sent more than 65536 bytes"),
    ],
)
async def test_what_the_other_side_says_instead(
    kind: StartTls, answers: list[bytes], verification: Verification, message: str
) -> None:
    async with serving(kind, saying(*answers)) as probe:
        seen = await shake_hands(probe)
    assert seen.failure is verification
    assert re.match(message, seen.reason), seen.reason
    assert seen.reason.isprintable()


async def test_one_that_never_speaks_is_left() -> None:
    async def silent(peer: Peer) -> None:
        while await peer.some():
            pass

    for kind in (StartTls.SMTP, StartTls.POSTGRESQL):
        async with serving(kind, silent) as probe:
            seen = await shake_hands(probe, timeout=timedelta(seconds=0.02))
        assert (seen.failure, seen.reason) == (FAILED, f"did not let TLS begin by {kind.upper()} within 0.02 s")


PIECES = [
    *(b"220 a\r\n", b"250-STARTTLS\r\n", b"250 \r\n", b"* OK\r\n", b"c1 OK\r\n", b"+OK\r\n", b"OK\r\n"),
    *(b'"STARTTLS"\r\n', ldap_answer(0), b"S", mysql_greeting(), FEATURES, b"<proceed/>", b"\xff\0"),
]


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(list(StartTls)),
    content=st.lists(st.one_of(st.sampled_from(PIECES), st.binary(max_size=40)), max_size=8),
)
def test_nothing_but_its_own_error_comes_of_anything(kind: StartTls, content: list[bytes]) -> None:
    async def told() -> str:
        with (
            socket.create_server(("127.0.0.1", 0)) as listening,
            socket.create_connection(listening.getsockname()) as ours,
            listening.accept()[0] as theirs,
        ):
            ours.setblocking(False)
            theirs.sendall(b"".join(content))
            theirs.shutdown(socket.SHUT_WR)
            try:
                await begin(kind, ours, "a'><&.example")
            except NotBegun as error:
                return error.why
            return "TLS may begin"

    why = asyncio.run(told())
    assert why
    assert why.isprintable()
