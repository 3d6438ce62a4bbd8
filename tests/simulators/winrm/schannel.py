"""http.sys and Schannel as a client sees them: TLS listeners whose certificate is asked for at each handshake."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from cryptography import x509
from OpenSSL import SSL

HANDSHAKE_SECONDS = 5


@dataclass(frozen=True)
class Identity:
    """What is served: leaf and intermediates, and the leaf's key."""

    certificate: x509.Certificate
    chain: Sequence[x509.Certificate]
    key: Any


Choose = Callable[[str, int, str | None], Identity | None]


class Schannel:
    """Listeners on loopback. `choose` (address, port, server name) decides at each handshake; None refuses it."""

    def __init__(self, choose: Choose) -> None:
        self._choose = choose
        self._listeners: dict[tuple[str, int], socket.socket] = {}
        self._threads: list[threading.Thread] = []

    def listen(self, address: str, port: int) -> None:
        """Serve there, unless it is done already."""
        if (address, port) not in self._listeners:
            listener = socket.create_server((address, port))
            self._listeners[address, port] = listener
            self._start(self._accept, listener, address, port)

    def close(self) -> None:
        """No more listeners; they can be opened again."""
        for listener in self._listeners.values():
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        self._listeners.clear()
        for thread in self._threads:
            thread.join()
        self._threads.clear()

    def _start(self, work: Callable[..., None], *arguments: Any) -> None:
        self._threads = [thread for thread in self._threads if thread.is_alive()]
        thread = threading.Thread(target=work, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self, listener: socket.socket, address: str, port: int) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            self._start(self._serve, connection, address, port)

    def _serve(self, connection: socket.socket, address: str, port: int) -> None:
        with connection, suppress(SSL.Error, OSError):
            connection.settimeout(HANDSHAKE_SECONDS)
            context = SSL.Context(SSL.TLS_SERVER_METHOD)

            def named(tls: SSL.Connection) -> None:
                name = tls.get_servername()
                identity = self._choose(address, port, name.decode() if name else None)
                if identity is not None:
                    tls.set_context(_context(identity))

            context.set_tlsext_servername_callback(named)
            unnamed = self._choose(address, port, None)
            if unnamed is not None:
                context = _context(unnamed)
                context.set_tlsext_servername_callback(named)
            tls = SSL.Connection(context, connection)
            tls.set_accept_state()
            connection.setblocking(True)
            tls.do_handshake()
            with suppress(SSL.Error):
                tls.recv(1)
            tls.shutdown()


def _context(identity: Identity) -> SSL.Context:
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.use_certificate(identity.certificate)
    for certificate in identity.chain:
        context.add_extra_chain_cert(certificate)
    context.use_privatekey(identity.key)
    return context
