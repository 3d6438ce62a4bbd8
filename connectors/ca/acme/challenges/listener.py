"""A listener that is open only while there are answers to give."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import socket
from collections.abc import Awaitable, Callable
from ssl import SSLContext

from connectors.errors import Permanent

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
_LOOK_SECONDS = 2.0
PATIENCE = 10.0
LONGEST_REQUEST = 16_384
_MOST_CONNECTIONS = 200


class Listener:
    """Listens at `address` (``host:port``) from `open` on until `needed` says no. Connections beyond a limit are
    closed at once: anybody may connect.

    An address that somebody else listens at is left to them: it may be another process of ours, which gives the same
    answers.
    """

    def __init__(
        self, address: str, serve: Serve, needed: Callable[[], bool], tls: Callable[[], SSLContext] | None = None
    ) -> None:
        host, _, port = address.rpartition(":")
        self.address = address
        self._host, self._port = host.removeprefix("[").removesuffix("]"), int(port)
        self._serve, self._needed, self._tls = serve, needed, tls
        self._server: asyncio.Server | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._watching: asyncio.Task[None] | None = None
        self._connections = 0

    @property
    def reachable(self) -> tuple[str, int]:
        """Where this host itself reaches the listener."""
        address = ipaddress.ip_address(self._host)
        if not address.is_unspecified:
            return self._host, self._port
        return ("127.0.0.1" if address.version == 4 else "::1"), self._port

    async def open(self) -> None:
        """Listen, if nobody does. Raises `Permanent` where this host does not let us."""
        loop = asyncio.get_running_loop()
        if self._server is not None and self._loop is loop and self._server.is_serving():
            return
        v6 = ":" in self._host
        try:
            listening = socket.create_server(
                (self._host, self._port),
                family=socket.AF_INET6 if v6 else socket.AF_INET,
                dualstack_ipv6=v6 and self._host == "::",
            )
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return
            raise Permanent(
                f"Nothing can listen at {self.address} on this host: {error.strerror or 'it is not possible'}."
            ) from None
        self._server = await asyncio.start_server(
            self._one,
            sock=listening,
            limit=LONGEST_REQUEST,
            ssl=self._tls() if self._tls else None,
            ssl_handshake_timeout=PATIENCE if self._tls else None,
        )
        self._loop = loop
        self._watching = loop.create_task(self._watch())

    async def close_unneeded(self) -> None:
        """Stop listening once there is nothing to answer."""
        if self._server is not None and not await asyncio.to_thread(self._needed):
            await self.close()

    async def close(self) -> None:
        """Stop listening. Connections that are open come to their end."""
        if self._loop is not asyncio.get_running_loop():
            return
        if self._watching is not None and self._watching is not asyncio.current_task():
            self._watching.cancel()
        server, self._server = self._server, None
        if server is not None:
            server.close()

    async def _watch(self) -> None:
        while self._server is not None:
            await asyncio.sleep(_LOOK_SECONDS)
            await self.close_unneeded()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections += 1
        try:
            if self._connections <= _MOST_CONNECTIONS:
                async with asyncio.timeout(PATIENCE):
                    await self._serve(reader, writer)
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass
        finally:
            self._connections -= 1
            writer.transport.abort() if self._tls else writer.close()
