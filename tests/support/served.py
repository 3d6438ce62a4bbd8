"""TLS servers of one certificate each, and servers that do what they must not, on loopback addresses."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from worker.playground import self_signed

Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def _end(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.close()


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Take the connection and never answer."""
    while await reader.read(4096):
        pass
    writer.close()


async def garbage(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer with what is no TLS."""
    await reader.read(10)
    writer.write(b"\x00\xff<html>" * 4000)
    writer.close()


def context_for(folder: Path, names: Sequence[str]) -> tuple[ssl.SSLContext, str]:
    """A server's side with a new certificate for these names, and that certificate."""
    certificate, key = self_signed(names)
    file = folder / f"{abs(hash(tuple(names)))}.pem"
    file.write_bytes(certificate + key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    file.unlink()
    return context, certificate.decode()


@asynccontextmanager
async def listening(
    address: str, port: int, context: ssl.SSLContext | None = None, answer: Answer = _end
) -> AsyncIterator[int]:
    """A server as long as the block runs; with port 0 on a free one. Gives its port."""
    server = await asyncio.start_server(answer, address, port, ssl=context)
    try:
        yield int(server.sockets[0].getsockname()[1])
    finally:
        server.close()
        await server.wait_closed()
