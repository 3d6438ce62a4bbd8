"""A small server of the test's own that serves what a CA publishes: OCSP, CRLs, or whatever else it is told to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

Handler = Callable[[str, bytes], Awaitable[bytes | int]]


@dataclass
class Publisher:
    """`routes` give the body for a path, or a status; what was asked is counted."""

    port: int
    routes: dict[str, Handler] = field(default_factory=dict)
    asked: dict[str, int] = field(default_factory=dict)

    def url(self, path: str) -> str:
        """The address of a path."""
        return f"http://127.0.0.1:{self.port}{path}"


@asynccontextmanager
async def publishing() -> AsyncIterator[Publisher]:
    """Serve on a free port of 127.0.0.1, until the test is over."""
    made = Publisher(0)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                _, path, _ = line.decode("ascii").split(" ", 2)
                length = 0
                while (header := await reader.readline()).strip():
                    name, _, value = header.decode("latin-1").partition(":")
                    length = int(value) if name.lower() == "content-length" else length
                body = await reader.readexactly(length)
                made.asked[path] = made.asked.get(path, 0) + 1
                given = await made.routes[path](path, body) if path in made.routes else 404
                status, content = (given, b"") if isinstance(given, int) else (200, given)
                writer.write(f"HTTP/1.1 {status} X\r\ncontent-length: {len(content)}\r\n\r\n".encode() + content)
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()
