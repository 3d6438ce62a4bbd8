"""The WinRM service: HTTP, sign-in, message encryption. Basic and NTLM (by pyspnego's acceptor, which reads its users
from the file that NTLM_USER_FILE names)."""

from __future__ import annotations

import base64
import re
import ssl
import struct
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import spnego

from tests.simulators.winrm import soap
from tests.simulators.winrm.faults import Fault, Faults
from tests.simulators.winrm.shells import Cut, Shells, Silence
from tests.simulators.winrm.soap import Problem

ENCRYPTED = "application/HTTP-SPNEGO-session-encrypted"
# What a client says that signs in by its certificate (WS-Management 1.2, annex C).
MUTUAL = "http://schemas.dmtf.org/wbem/wsman/1/wsman/secprofile/https/mutual"


class Service(ThreadingHTTPServer):
    """Listens on loopback until it is closed. `accounts` are for Basic; `seen` counts sign-ins that were refused."""

    daemon_threads = True
    block_on_close = False

    def __init__(
        self,
        shells: Shells,
        faults: Faults,
        accounts: dict[str, str],
        context: ssl.SSLContext | None,
        port: int,
    ) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.shells = shells
        self.faults = faults
        self.accounts = accounts
        self.context = context
        self.closing = threading.Event()
        self.refused = 0
        self.in_the_clear = 0
        self.broken: BaseException | None = None
        self.instead: bytes | None = None  # what answers everything

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.server_address[1])

    def finish_request(self, request: Any, client_address: Any) -> None:
        """TLS in the connection's own thread: a client that does not go on holds up nobody."""
        if self.context is None:
            super().finish_request(request, client_address)
            return
        request.settimeout(5)
        with self.context.wrap_socket(request, server_side=True) as connection:
            connection.settimeout(None)
            super().finish_request(connection, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Connections end in all ways here; what else goes wrong is the simulator's own fault."""
        error = sys.exception()
        if not isinstance(error, OSError):
            self.broken = error
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    server: Service
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    negotiation: Any = None

    def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002
        """Silent."""

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        content = self.rfile.read(length)
        if len(content) < length:
            # Whoever asked was killed while asking.
            self.close_connection = True
            return
        if not self._signed_in():
            return
        encrypted = "multipart/encrypted" in self.headers.get("Content-Type", "")
        if encrypted:
            content = self._decrypted(content)
        elif self.server.context is None:
            if content:
                self.server.in_the_clear += 1
            self._reply(200, b"")
            return
        try:
            status, answer = self._answer(content)
        except Cut:
            self.close_connection = True
            return
        except Silence:
            self.server.closing.wait()
            self.close_connection = True
            return
        if encrypted:
            self._reply(
                status,
                self._encrypt(answer),
                f'multipart/encrypted;protocol="{ENCRYPTED}";boundary="Encrypted Boundary"',
            )
        else:
            self._reply(status, answer)

    def _answer(self, content: bytes) -> tuple[int, bytes]:
        if self.server.faults.take(None, Fault.NOT_XML):
            return 502, b"<html><body>Bad gateway</body>"
        if self.server.instead is not None:
            return 200, self.server.instead
        request = soap.read(content)
        if request.body.find("wsmid:Identify", soap.NAMESPACES) is not None:
            return 200, soap.identity()
        try:
            return 200, self.server.shells.answer(request)
        except Problem as problem:
            return 500, soap.fault(request, problem)

    def _signed_in(self) -> bool:
        scheme, _, given = self.headers.get("Authorization", "").partition(" ")
        if scheme == "Basic" and self.server.context is not None:
            user, _, password = base64.b64decode(given).decode().partition(":")
            if self.server.accounts.get(user) == password:
                return True
        elif scheme == MUTUAL and self.server.context is not None:
            if self.connection.getpeercert():  # TLS has verified it
                return True
        elif scheme == "Negotiate":
            return self._negotiated(base64.b64decode(given))
        elif self.negotiation is not None and self.negotiation.complete:
            return True
        self._refuse()
        return False

    def _negotiated(self, token: bytes) -> bool:
        if self.negotiation is None or self.negotiation.complete:
            options = spnego.NegotiateOptions.wrapping_winrm
            self.negotiation = spnego.server(protocol="negotiate", options=options)
        try:
            answer = self.negotiation.step(token)
        except spnego.exceptions.SpnegoError:
            self.negotiation = None
            self._refuse()
            return False
        if self.negotiation.complete:
            if answer:
                self._token = answer
            return True
        self._refuse(answer)
        return False

    _token: bytes | None = None

    def _refuse(self, token: bytes | None = None) -> None:
        if token is None:
            self.server.refused += 1
        self.send_response(401)
        challenge = "Negotiate" if token is None else f"Negotiate {base64.b64encode(token).decode()}"
        self.send_header("WWW-Authenticate", challenge)
        if token is None and self.server.context is not None:
            self.send_header("WWW-Authenticate", 'Basic realm="WSMAN"')
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _reply(self, status: int, content: bytes, kind: str = "application/soap+xml;charset=UTF-8") -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        if self._token is not None:
            self.send_header("WWW-Authenticate", f"Negotiate {base64.b64encode(self._token).decode()}")
            self._token = None
        self.end_headers()
        self.wfile.write(content)

    # Message encryption (MS-WSMV 2.2.9.1).

    def _decrypted(self, content: bytes) -> bytes:
        found = re.search(
            rb"\tContent-Type: application/octet-stream\r\n(.*)--Encrypted Boundary--\r\n$", content, re.DOTALL
        )
        assert found is not None
        length = struct.unpack("<i", found[1][:4])[0]
        plain: bytes = self.negotiation.unwrap_winrm(found[1][4 : 4 + length], found[1][4 + length :])
        return plain

    def _encrypt(self, content: bytes) -> bytes:
        header, data, _ = self.negotiation.wrap_winrm(content)
        assert isinstance(header, bytes)
        assert isinstance(data, bytes)
        return (
            b"--Encrypted Boundary\r\n\tContent-Type: " + ENCRYPTED.encode() + b"\r\n\tOriginalContent: "
            b"type=application/soap+xml;charset=UTF-8;Length=" + str(len(content)).encode() + b"\r\n"
            b"--Encrypted Boundary\r\n\tContent-Type: application/octet-stream\r\n"
            + struct.pack("<i", len(header))
            + header
            + data
            + b"--Encrypted Boundary--\r\n"
        )
