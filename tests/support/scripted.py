"""A server that says exactly the bytes it is told to, over TLS or plainly: for answers that no proper server gives."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography.hazmat.primitives import serialization

from tests.pki import Issuer, make_ca, make_leaf, new_key, pem


@dataclass
class Scripted:
    """`says` are the parts of each answer; `None` among them cuts the connection there. `asked` are the heads of the
    requests that came."""

    port: int = 0
    says: list[bytes | None] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    def answer(self, status: str, body: bytes = b"", *headers: str) -> None:
        """Say this from now on."""
        head = [f"HTTP/1.1 {status}", f"content-length: {len(body)}", "connection: close", *headers, "", ""]
        self.says = ["\r\n".join(head).encode() + body]

    def stream(self, part: bytes, times: int) -> None:
        """Say that part so many times from now on, with no length told."""
        self.says = [b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n", *[part] * times]


@dataclass(frozen=True)
class ServerTls:
    """A certificate for 127.0.0.1 and localhost, and the file with the root that signed it."""

    context: ssl.SSLContext
    ca_file: Path


def server_tls(folder: Path, *names: str, issuer: Issuer | None = None) -> ServerTls:
    """Made anew in `folder`."""
    now, day = datetime.now(UTC), timedelta(days=1)
    issuer = issuer or make_ca("Test root of a server", not_before=now - day, not_after=now + 30 * day)
    key = new_key()
    leaf = make_leaf(
        issuer, key, list(names) or ["127.0.0.1", "localhost"], not_before=now - day, not_after=now + 10 * day
    )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "server.pem").write_text(pem(leaf))
    (folder / "server.key").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    (folder / "root.pem").write_text(pem(issuer.certificate))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem", folder / "server.key")
    return ServerTls(context, folder / "root.pem")


@asynccontextmanager
async def scripted(tls: ssl.SSLContext | None = None, says: Iterable[bytes | None] = ()) -> AsyncIterator[Scripted]:
    """It listens on a free port of 127.0.0.1."""
    script = Scripted(says=list(says))

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            script.asked.append(head)
            for part in script.says:
                if part is None:
                    writer.transport.abort()
                    return
                writer.write(part)
                await writer.drain()
        with suppress(OSError):
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    script.port = server.sockets[0].getsockname()[1]
    try:
        yield script
    finally:
        server.close()
        await server.wait_closed()
