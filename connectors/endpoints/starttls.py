"""How TLS begins on a connection that first speaks its own protocol: the few words that are needed, and no more.

Whatever the other side sends is bounded, and nothing but `NotBegun` comes of it. Bytes that come after the word that
lets TLS begin are refused: they would have been sent by somebody in between (RFC 3207 section 6, CVE-2021-23222).
"""

from __future__ import annotations

import asyncio
import re
import socket
import struct
from collections.abc import Awaitable, Callable, Mapping
from enum import StrEnum
from xml.sax.saxutils import quoteattr

LARGEST_LINE = 8192
MOST_LINES = 200
LARGEST_MESSAGE = 65536
LONGEST_WORDS = 160


class StartTls(StrEnum):
    """The protocols that are spoken before the TLS handshake."""

    SMTP = "smtp"
    LMTP = "lmtp"
    IMAP = "imap"
    POP3 = "pop3"
    SIEVE = "sieve"
    FTP = "ftp"
    LDAP = "ldap"
    POSTGRESQL = "postgresql"
    MYSQL = "mysql"
    XMPP = "xmpp"
    XMPP_SERVER = "xmpp-server"


class NotBegun(Exception):
    """The other side did not let TLS begin. `why` goes on after its address: "refused STARTTLS: …". With `offered`
    False it has no TLS there at all, with True it has, and would not now."""

    def __init__(self, why: str, *, offered: bool = True) -> None:
        super().__init__(why)
        self.why = why
        self.offered = offered


async def begin(kind: StartTls, connection: socket.socket, name: str) -> None:
    """Speak until the next byte is TLS's. `connection` is connected and non-blocking, `name` is the host that is asked
    for, where the protocol wants to know. Raises `NotBegun` for what is said, `OSError` for what the network does; how
    long it may take is the caller's to bound."""
    talk = _Talk(connection)
    await _SPOKEN[kind](talk, name)
    if talk.left_over():
        raise NotBegun("sent something between its consent to TLS and the TLS handshake")


class _Talk:
    """Both directions of a connection, with what was received and not yet read."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._received = bytearray()

    async def send(self, content: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self._connection, content)

    async def line(self) -> str:
        """The next line without its end; protocols of text are ASCII, and what is not is shown as it can be."""
        content = await self.until(re.compile(rb"\n"), LARGEST_LINE)
        return content.decode("utf-8", "replace").rstrip("\r\n")

    async def until(self, end: re.Pattern[bytes], most: int = LARGEST_MESSAGE) -> bytes:
        """Everything up to a match of `end`, which must come within `most` bytes."""
        while (found := end.search(self._received)) is None:
            if len(self._received) > most:
                raise NotBegun(f"sent more than {most} bytes where an answer was due")
            await self._receive()
        return self._take(found.end())

    async def exactly(self, count: int) -> bytes:
        if count > LARGEST_MESSAGE:
            raise NotBegun(f"announced a message of {count} bytes where a short one was due")
        while len(self._received) < count:
            await self._receive()
        return self._take(count)

    def own_address(self) -> str:
        """Our address literal (RFC 5321 section 4.1.3): what a client says that has no name to give."""
        address: str = self._connection.getsockname()[0]
        return f"[IPv6:{address.partition('%')[0]}]" if ":" in address else f"[{address}]"

    def left_over(self) -> bool:
        return bool(self._received)

    async def _receive(self) -> None:
        content = await asyncio.get_running_loop().sock_recv(self._connection, 4096)
        if not content:
            raise NotBegun("closed the connection before TLS could begin")
        self._received += content

    def _take(self, count: int) -> bytes:
        taken = bytes(self._received[:count])
        del self._received[:count]
        return taken


# Protocols of text.


async def _smtp(talk: _Talk, _name: str, hello: str = "EHLO") -> None:
    """RFC 3207 section 4."""
    await _expect(talk, "220", "greeted with")
    await talk.send(f"{hello} {talk.own_address()}\r\n".encode())
    offers = await _expect(talk, "250", f"answered {hello} with")
    if "STARTTLS" not in (line[4:].strip().upper() for line in offers):
        raise NotBegun("does not offer STARTTLS", offered=False)
    await talk.send(b"STARTTLS\r\n")
    await _expect(talk, "220", "refused STARTTLS:")


async def _lmtp(talk: _Talk, name: str) -> None:
    """RFC 2033: SMTP with another greeting."""
    await _smtp(talk, name, "LHLO")


async def _ftp(talk: _Talk, _name: str) -> None:
    """RFC 4217 section 4: ``AUTH TLS``."""
    lines = await _reply(talk)
    while lines[0].startswith("1"):  # "Service ready in nnn minutes", RFC 959 section 5.4
        lines = await _reply(talk)
    _require(lines, "220", "greeted with")
    await talk.send(b"AUTH TLS\r\n")
    await _expect(talk, "234", "refused AUTH TLS:")


async def _expect(talk: _Talk, code: str, otherwise: str) -> list[str]:
    lines = await _reply(talk)
    _require(lines, code, otherwise)
    return lines


def _require(lines: list[str], code: str, otherwise: str) -> None:
    if not lines[-1].startswith(code):
        raise NotBegun(f"{otherwise} {_words(lines[-1])}")


async def _reply(talk: _Talk) -> list[str]:
    """One reply: ``code-text`` lines, and ``code text`` as the last. FTP's lines in between may be anything (RFC 959
    section 4.2)."""
    lines = [await talk.line()]
    code = lines[0][:3]
    if not re.fullmatch(r"[1-5]\d\d", code) or lines[0][3:4] not in ("", " ", "-"):
        raise NotBegun(f"speaks something else: {_words(lines[0])}")
    while lines[0][3:4] == "-" and not (lines[-1][:3] == code and lines[-1][3:4] in ("", " ")):
        if len(lines) == MOST_LINES:
            raise NotBegun(f"sent more than {MOST_LINES} lines where an answer was due")
        lines.append(await talk.line())
    return lines


async def _imap(talk: _Talk, _name: str) -> None:
    """RFC 9051 sections 6.1.1 and 6.2.1."""
    greeting = await talk.line()
    if not greeting.upper().startswith("* OK"):
        what = "greeted with" if greeting.startswith("* ") else "speaks something else:"
        raise NotBegun(f"{what} {_words(greeting)}")
    answer = await _tagged(talk, "c1", "CAPABILITY")
    offered = {word.upper() for line in answer if line.upper().startswith("* CAPABILITY") for word in line.split()}
    if "STARTTLS" not in offered:
        raise NotBegun("does not offer STARTTLS", offered=False)
    answer = await _tagged(talk, "c2", "STARTTLS")
    if not answer[-1].upper().startswith("C2 OK"):
        raise NotBegun(f"refused STARTTLS: {_words(answer[-1][3:])}")


async def _tagged(talk: _Talk, tag: str, command: str) -> list[str]:
    await talk.send(f"{tag} {command}\r\n".encode())
    lines: list[str] = []
    while len(lines) < MOST_LINES:
        lines.append(await talk.line())
        if lines[-1].lower().startswith(f"{tag} "):
            return lines
    raise NotBegun(f"sent more than {MOST_LINES} lines where an answer was due")


async def _pop3(talk: _Talk, _name: str) -> None:
    """RFC 2595 section 4."""
    for command, otherwise in ((b"", "greeted with"), (b"STLS\r\n", "refused STLS:")):
        await talk.send(command)
        line = await talk.line()
        if not line.startswith("+OK"):
            raise NotBegun(f"{otherwise if line.startswith('-ERR') else 'speaks something else:'} {_words(line)}")


async def _sieve(talk: _Talk, _name: str) -> None:
    """ManageSieve, RFC 5804 sections 1.7 and 2.2."""
    offers = await _sieve_reply(talk, "greeted with")
    if not any(line.strip().strip('"').upper() == "STARTTLS" for line in offers):
        raise NotBegun("does not offer STARTTLS", offered=False)
    await talk.send(b"STARTTLS\r\n")
    await _sieve_reply(talk, "refused STARTTLS:")


async def _sieve_reply(talk: _Talk, otherwise: str) -> list[str]:
    lines: list[str] = []
    while len(lines) < MOST_LINES:
        line = await talk.line()
        word = re.split(r"[ (]", line, maxsplit=1)[0].upper()
        if word == "OK":
            return lines
        if word in ("NO", "BYE"):
            raise NotBegun(f"{otherwise} {_words(line)}")
        if not line.startswith('"'):
            raise NotBegun(f"speaks something else: {_words(line)}")
        lines.append(line)
    raise NotBegun(f"sent more than {MOST_LINES} lines where an answer was due")


async def _xmpp(talk: _Talk, name: str, namespace: str = "jabber:client") -> None:
    """RFC 6120 section 5.4. The stream is looked through for three elements and not read as XML: nothing of it is
    believed but that TLS may begin."""
    await talk.send(
        f"<?xml version='1.0'?><stream:stream to={quoteattr(name)} version='1.0' xmlns='{namespace}' "
        "xmlns:stream='http://etherx.jabber.org/streams'>".encode()
    )
    offers = await talk.until(re.compile(rb"</(\w+:)?features\s*>|<(\w+:)?features\s*/>|</(\w+:)?error\s*>"))
    if b"error" in offers[-20:]:
        raise NotBegun(f"refused the stream: {_words(_element(offers))}")
    if not re.search(rb"<(\w+:)?starttls\b", offers):
        raise NotBegun("does not offer STARTTLS", offered=False)
    await talk.send(b"<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>")
    proceed = re.compile(rb"<(?P<word>(\w+:)?\w+)[^<>]*/>|<(?P<open>(\w+:)?\w+)[^<>/]*>\s*</(\w+:)?\w+\s*>")
    answer = await talk.until(proceed)
    found = proceed.search(answer)
    word = (found["word"] or found["open"]) if found else b""
    if not word.endswith(b"proceed"):
        raise NotBegun(f"refused STARTTLS: {_words(_element(answer))}")


async def _xmpp_server(talk: _Talk, name: str) -> None:
    await _xmpp(talk, name, "jabber:server")


def _element(content: bytes) -> str:
    """The innermost element's name in an error, which is the condition (RFC 6120 section 4.9.3)."""
    names = re.findall(rb"<(?:\w+:)?([\w-]+)", content)
    return names[-1].decode("ascii", "replace") if names else "no reason given"


# Protocols of bytes.

# LDAPMessage 1, ExtendedRequest with the name of StartTLS (RFC 4511 section 4.14.1).
_LDAP_REQUEST = b"\x30\x1d\x02\x01\x01\x77\x18\x80\x161.3.6.1.4.1.1466.20037"


async def _ldap(talk: _Talk, _name: str) -> None:
    """RFC 4511 section 4.14, RFC 4513 section 3.1.1."""
    await talk.send(_LDAP_REQUEST)
    head = await talk.exactly(2)
    if head[0] != 0x30:
        raise NotBegun("speaks something else than LDAP")
    size = head[1]
    if size >= 0x80:
        if size > 0x84:
            raise NotBegun("announced a message that is too long where a short one was due")
        size = int.from_bytes(await talk.exactly(size & 0x7F), "big")
    try:
        _, _, rest = _element_of(await talk.exactly(size))
        tag, response, _ = _element_of(rest)
        _, code, rest = _element_of(response)
        _, _, rest = _element_of(rest)
        _, diagnostic, _ = _element_of(rest)
    except IndexError:
        raise NotBegun("answered StartTLS with something that is not LDAP") from None
    if tag != 0x78:
        raise NotBegun("answered StartTLS with another LDAP message")
    result = int.from_bytes(code, "big")
    if result != 0:
        words = _words(diagnostic.decode("utf-8", "replace")) if diagnostic else "no reason given"
        # protocolError: "the server does not support StartTLS" (section 4.14.1).
        raise NotBegun(f"refused StartTLS (result code {result}): {words}", offered=result != 2)


def _element_of(content: bytes) -> tuple[int, bytes, bytes]:
    """Tag, content and rest of the first BER element; `IndexError` where it is cut off."""
    size, start = content[1], 2
    if size >= 0x80:
        start += size & 0x7F
        size = int.from_bytes(content[2:start], "big")
    if len(content) < start + size:
        raise IndexError
    return content[0], content[start : start + size], content[start + size :]


async def _postgresql(talk: _Talk, _name: str) -> None:
    """SSLRequest (PostgreSQL documentation, "Message Flow", "SSL Session Encryption")."""
    await talk.send(struct.pack(">ii", 8, 80877103))
    answer = await talk.exactly(1)
    if answer == b"N":
        raise NotBegun("does not offer TLS (ssl is off)", offered=False)
    if answer != b"S":
        # An error's text is not shown: it is not authenticated (CVE-2024-10977).
        raise NotBegun("answered the request for TLS with an error" if answer == b"E" else "does not speak PostgreSQL")


_MYSQL_PROTOCOL_41, _MYSQL_SSL, _MYSQL_SECURE_CONNECTION = 0x200, 0x800, 0x8000


async def _mysql(talk: _Talk, _name: str) -> None:
    """The initial handshake packet, and an SSLRequest (MySQL documentation, "Connection Phase Packets")."""
    head = await talk.exactly(4)
    packet = await talk.exactly(int.from_bytes(head[:3], "little"))
    if packet[:1] == b"\xff":
        raise NotBegun(f"greeted with an error: {_words(packet[3:].decode('utf-8', 'replace'))}")
    _, end, rest = packet.partition(b"\0")
    if packet[:1] != b"\x0a" or not end or len(rest) < 15:
        raise NotBegun("does not speak MySQL")
    # After the version's NUL: thread id (4), salt (8), filler (1), lower half of the capabilities (2).
    if not int.from_bytes(rest[13:15], "little") & _MYSQL_SSL:
        raise NotBegun("does not offer TLS", offered=False)
    capabilities = _MYSQL_PROTOCOL_41 | _MYSQL_SSL | _MYSQL_SECURE_CONNECTION
    request = struct.pack("<IIB23x", capabilities, 1 << 24, 45)
    await talk.send(len(request).to_bytes(3, "little") + bytes([(head[3] + 1) & 0xFF]) + request)


def _words(text: str) -> str:
    """What the other side said, for a sentence."""
    shown = "".join(character if character.isprintable() else " " for character in text)
    shown = " ".join(shown.split()).rstrip(".")
    return f"{shown[:LONGEST_WORDS]}…" if len(shown) > LONGEST_WORDS else shown or "nothing"


_SPOKEN: Mapping[StartTls, Callable[[_Talk, str], Awaitable[None]]] = {
    StartTls.SMTP: _smtp,
    StartTls.LMTP: _lmtp,
    StartTls.IMAP: _imap,
    StartTls.POP3: _pop3,
    StartTls.SIEVE: _sieve,
    StartTls.FTP: _ftp,
    StartTls.LDAP: _ldap,
    StartTls.POSTGRESQL: _postgresql,
    StartTls.MYSQL: _mysql,
    StartTls.XMPP: _xmpp,
    StartTls.XMPP_SERVER: _xmpp_server,
}
