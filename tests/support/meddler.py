"""Stands before an ACME server and changes what it answers, as a test tells: TLS in front and behind, one answer at a
time. The server sees the address that the client asked, so that its own addresses lead here too."""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import httpx

from tests.support.pebble import HOST, Pebble


@dataclass(frozen=True)
class Said:
    """One answer. `cut` ends the connection in its place."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    cut: bool = False

    def json(self, **changes: Any) -> Said:
        """The same with other fields in its JSON object."""
        return replace(self, body=json.dumps({**json.loads(self.body), **changes}).encode())


_HOP_BY_HOP = ("content-length", "transfer-encoding", "connection")
Alter = Callable[[str, Said], Said]


@dataclass
class Meddler:
    """`alter` is given the path and the answer, and says what the client gets. `asked` are the payloads that came."""

    port: int = 0
    alter: Alter = lambda _path, said: said
    asked: list[tuple[str, Any]] = field(default_factory=list)

    def settings(self, pebble: Pebble) -> dict[str, Any]:
        """Those of a connector that asks here."""
        return {**pebble.settings, "directory_url": f"https://{HOST}:{self.port}/dir"}

    def paths(self, beginning: str) -> list[Any]:
        """What was sent to addresses that begin so."""
        return [payload for path, payload in self.asked if path.startswith(beginning)]


@asynccontextmanager
async def meddler(pebble: Pebble) -> AsyncIterator[Meddler]:
    """One before that Pebble."""
    made = Meddler()
    behind = ssl.create_default_context(cafile=str(pebble.ca_file))
    front = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    front.load_cert_chain(pebble.folder / "own.pem", pebble.folder / "own.key")
    async with httpx.AsyncClient(verify=behind, trust_env=False) as client:

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                while await _one(made, client, pebble.port, reader, writer):
                    pass
            except (OSError, asyncio.IncompleteReadError):
                pass
            finally:
                writer.transport.abort()

        server = await asyncio.start_server(serve, HOST, 0, ssl=front)
        made.port = server.sockets[0].getsockname()[1]
        try:
            yield made
        finally:
            server.close()


async def _one(
    made: Meddler, client: httpx.AsyncClient, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> bool:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    method, path, _ = head[0].split(" ")
    sent = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
    body = await reader.readexactly(int(sent.get("content-length", "0")))
    if body:
        made.asked.append((path, _payload(body)))
    kept = {name: value for name, value in sent.items() if name not in ("connection", "accept-encoding")}
    came = await client.request(method, f"https://{HOST}:{port}{path}", content=body, headers=kept)
    passed = {name: value for name, value in came.headers.items() if name not in _HOP_BY_HOP}
    said = made.alter(path, Said(came.status_code, passed, came.content))
    if said.cut:
        return False
    lines = [f"HTTP/1.1 {said.status} Said", *(f"{name}: {value}" for name, value in said.headers.items())]
    lines += [f"content-length: {len(said.body)}", "", ""]
    writer.write("\r\n".join(lines).encode("latin-1") + (b"" if method == "HEAD" else said.body))
    await writer.drain()
    return True


def _payload(body: bytes) -> Any:
    given = json.loads(body)["payload"]
    return json.loads(base64.urlsafe_b64decode(given + "=" * (-len(given) % 4))) if given else None
