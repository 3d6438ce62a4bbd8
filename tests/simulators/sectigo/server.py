"""How requests and replies travel: HTTP/1.1 on loopback, and all the ways in which a connection ends too early.

The standard library's server and not the ASGI server that is installed with the dashboard: a cut has to happen between
two given bytes of the socket, a reply has to stop in its middle, and ``/private/api`` has to see the client's
certificate; ASGI shows none of that.
"""

from __future__ import annotations

import socket
import ssl
import struct
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from email.utils import formatdate
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from tests.simulators.sectigo.faults import Fault
from tests.simulators.sectigo.wire import Reply, Request

LARGEST_REQUEST = 4 * 1024 * 1024
DRAINED = 64 * 1024 * 1024
HUGE = 50 * 1024 * 1024
_IDLE_SECONDS = 60.0


@dataclass(frozen=True)
class Outcome:
    """A reply, and what happens to it on the way; None: the connection is cut before there is one."""

    reply: Reply | None
    fault: Fault | None = None


class Server:
    """Listens on 127.0.0.1 from `start` to `stop`, one thread a connection."""

    def __init__(self, answer: Callable[[Request], Outcome], port: int = 0, tls: ssl.SSLContext | None = None) -> None:
        self._server = _Listener(("127.0.0.1", port), answer, tls)
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True, name="simulator"
        )

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._server.server_address[1])

    def start(self) -> None:
        """It answers from now on."""
        self._thread.start()

    def stop(self) -> None:
        """It listens no more, and connections that are open are closed."""
        self._server.shutdown()
        self._thread.join()
        self._server.close_all()
        self._server.server_close()


class _Listener(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(
        self, address: tuple[str, int], answer: Callable[[Request], Outcome], tls: ssl.SSLContext | None
    ) -> None:
        super().__init__(address, _Handler)
        self.answer = answer
        self._tls = tls
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, address = super().get_request()
        connection.settimeout(_IDLE_SECONDS)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._tls is not None:
            # The handshake belongs into the connection's own thread: nobody else has to wait for a slow client.
            connection = self._tls.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        with self._lock:
            self._open.add(connection)
        return connection, address

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._open.discard(request)
        with suppress(OSError, ValueError):
            super().shutdown_request(request)

    def close_all(self) -> None:
        with self._lock:
            left, self._open = self._open, set()
        for connection in left:
            with suppress(OSError, ValueError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is no event."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "nginx"
    sys_version = ""
    server: _Listener

    def setup(self) -> None:
        if isinstance(self.request, ssl.SSLSocket):
            self.request.do_handshake()
        super().setup()

    def serve(self) -> None:
        request = self._request()
        if request is None:
            return
        outcome = self.server.answer(request)
        if outcome.fault is Fault.STALLED:
            self._stall()
        elif outcome.reply is None:
            self._cut()
        else:
            self._send(outcome.reply, outcome.fault)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = do_PATCH = do_OPTIONS = do_TRACE = do_QUERY = serve

    def log_message(self, *_: Any) -> None:
        """Nothing is logged: headers hold credentials."""

    def _request(self) -> Request | None:
        length = self.headers.get("content-length") or "0"
        if "transfer-encoding" in self.headers or not length.isdigit() or int(length) > LARGEST_REQUEST:
            self.close_connection = True
            self._drain(int(length) if length.isdigit() else 0)
            self._send(Reply.of({"code": -1, "description": "The body is too long, or has no length."}, 413), None)
            return None
        body = self.rfile.read(int(length))
        if len(body) < int(length):
            self.close_connection = True
            return None
        parts = urlsplit(self.path)
        certified = isinstance(self.connection, ssl.SSLSocket) and bool(self.connection.getpeercert())
        return Request(
            method=self.command,
            path=parts.path,
            query=dict(parse_qsl(parts.query, keep_blank_values=True)),
            headers={name.lower(): value for name, value in self.headers.items()},
            body=body,
            certified=certified,
        )

    def _drain(self, length: int) -> None:
        """Read away what is not wanted: a client that still writes would see a cut and not the answer."""
        left = min(length, DRAINED)
        while left > 0 and (part := self.rfile.read(min(left, 65_536))):
            left -= len(part)

    def _send(self, reply: Reply, fault: Fault | None) -> None:
        body = b"" if reply.status == 204 else reply.body
        size = HUGE if fault is Fault.HUGE else len(body)
        head = _head(reply, size, closing=self.close_connection)
        if fault is Fault.CUT_WITHIN:
            # Where there is no body it ends within the head, so that the client sees an answer that is none.
            self._put(head + body[: len(body) // 2] if len(body) > 1 else head[: len(head) // 2])
            self._cut()
        elif self.command == "HEAD":
            self._put(head)
        elif fault is Fault.HUGE:
            self._put(head)
            self._flood(size)
        else:
            self._put(head + body)

    def _flood(self, size: int) -> None:
        part = b" " * 65_536
        for _ in range(size // len(part)):
            self._put(part)

    def _put(self, content: bytes) -> None:
        self.wfile.write(content)
        self.wfile.flush()

    def _stall(self) -> None:
        self.close_connection = True
        # Nothing more comes from a client that waits for its answer: this ends when it hangs up.
        self.rfile.read(1)

    def _cut(self) -> None:
        """End the connection at once: what was sent may arrive, and nothing more will."""
        self.close_connection = True
        with suppress(OSError):
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.rfile.close()
        with suppress(OSError):
            # Without TLS's own farewell, which would make it an orderly end.
            socket.socket.shutdown(self.connection, socket.SHUT_RDWR)
        self.connection.close()


def _head(reply: Reply, size: int, *, closing: bool) -> bytes:
    lines = [f"HTTP/1.1 {reply.status} {HTTPStatus(reply.status).phrase}", "Server: nginx"]
    lines += [f"Date: {formatdate(usegmt=True)}"]
    lines += [f"{name}: {value}" for name, value in reply.headers.items()]
    if reply.status != HTTPStatus.NO_CONTENT:
        lines += [f"Content-Type: {reply.content_type}", f"Content-Length: {size}"]
    if closing:
        lines.append("Connection: close")
    return "\r\n".join([*lines, "", ""]).encode("latin-1")
