"""Receivers of notifications on loopback: a web server and a mail server, that may be down, refuse, and come back."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import EmailMessage
from email.parser import BytesParser
from email.policy import default as modern
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, cast

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from worker.playground import free_port


@dataclass(frozen=True)
class Posted:
    """A request that came."""

    method: str
    headers: dict[str, str]
    body: bytes


@dataclass
class WebReceiver:
    """Answers with `status`, for as long as it is up."""

    port: int
    status: int = 204
    headers: dict[str, str] = field(default_factory=dict)
    got: list[Posted] = field(default_factory=list)

    @property
    def url(self) -> str:
        """Where it listens; the path is a secret, as it often is."""
        return f"http://127.0.0.1:{self.port}/hooks/of-secret-path"

    @contextmanager
    def up(self) -> Iterator[None]:
        """It listens."""
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                headers = {name.lower(): value for name, value in self.headers.items()}
                receiver.got.append(Posted(self.command, headers, body))
                self.send_response(receiver.status)
                for name, value in receiver.headers.items():
                    self.send_header(name, value)
                self.send_header("content-length", "0")
                self.end_headers()

            do_POST = do_HEAD = answer

            def log_message(self, *_: Any) -> None:
                """Nothing is told."""

        server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()
            server.server_close()


@dataclass
class MailReceiver:
    """Takes mail from `user`, whose password is `password`, after STARTTLS if it has `tls`."""

    port: int
    tls: ssl.SSLContext | None = None
    user: str = "certgate"
    password: str = "a mail password"
    refused: dict[str, str] = field(default_factory=dict)
    got: list[tuple[str, EmailMessage]] = field(default_factory=list)

    @contextmanager
    def up(self) -> Iterator[None]:
        """It listens."""
        controller = Controller(
            _MailHandler(self),
            hostname="127.0.0.1",
            port=self.port,
            tls_context=self.tls,
            require_starttls=self.tls is not None,
            auth_required=self.tls is not None,
            authenticator=self._authenticate,
        )
        controller.start()
        try:
            yield
        finally:
            controller.stop()

    def _authenticate(self, _server: SMTP, _session: Session, _envelope: Envelope, _way: str, data: Any) -> AuthResult:
        given = cast(LoginPassword, data)
        right = (given.login, given.password) == (self.user.encode(), self.password.encode())
        return AuthResult(success=right, handled=False)


class _MailHandler:
    def __init__(self, receiver: MailReceiver) -> None:
        self._receiver = receiver

    async def handle_RCPT(
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, _options: list[str]
    ) -> str:
        """Refuse whom the receiver refuses."""
        if address in self._receiver.refused:
            return self._receiver.refused[address]
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:
        """Keep it."""
        content = cast(bytes, envelope.original_content)
        message = BytesParser(policy=modern).parsebytes(content)
        self._receiver.got += [(address, message) for address in envelope.rcpt_tos]
        return "250 OK"


def web_receiver() -> WebReceiver:
    """One that is not up yet."""
    return WebReceiver(free_port())


def mail_receiver(tls: ssl.SSLContext | None = None) -> MailReceiver:
    """One that is not up yet."""
    return MailReceiver(free_port(), tls)
