"""The virtual servers' traffic: TLS on loopback with the certificates that the profiles name, chosen by SNI as the
device chooses. A connection is closed after its handshake; there is nothing behind it."""

from __future__ import annotations

import hashlib
import selectors
import socket
import ssl
import tempfile
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from cryptography import x509

from tests.simulators.f5 import crypto
from tests.simulators.f5.configuration import Configuration

_PATIENCE = 10.0


class Traffic:
    """Listens for each virtual server that is on 127.0.0.1. `configuration` gives the one that is in effect."""

    def __init__(self, configuration: Callable[[], Configuration]) -> None:
        self._configuration = configuration
        self._contexts: dict[str, ssl.SSLContext] = {}
        self._fronts: dict[str, ssl.SSLContext] = {}
        self._selector = selectors.DefaultSelector()
        self._wake, self._woken = socket.socketpair()
        self._selector.register(self._woken, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._run, daemon=True, name="bigip-traffic")
        self._sockets: list[socket.socket] = []
        self._over = False

    def listen(self, virtual: str, port: int) -> None:
        """Before `start`."""
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        listener.listen(128)
        self._sockets.append(listener)
        self._selector.register(listener, selectors.EVENT_READ, virtual)

    def start(self) -> None:
        """It answers from now on."""
        self._thread.start()

    def stop(self) -> None:
        """Nothing answers any more."""
        self._over = True
        self._wake.send(b"x")
        self._thread.join()
        self._selector.close()
        for one in (*self._sockets, self._wake, self._woken):
            one.close()

    def _run(self) -> None:
        while not self._over:
            for key, _ in self._selector.select():
                if key.data is None:
                    continue
                with suppress(OSError):
                    connection, _ = key.fileobj.accept()  # type: ignore[union-attr]
                    threading.Thread(target=self._serve, args=(connection, key.data), daemon=True).start()

    def _serve(self, connection: socket.socket, virtual: str) -> None:
        connection.settimeout(_PATIENCE)
        with (
            suppress(OSError, ValueError),
            connection,
            self._front(virtual).wrap_socket(connection, server_side=True) as tls,
        ):
            tls.recv(1)

    def _front(self, virtual: str) -> ssl.SSLContext:
        """One context for all handshakes with a virtual server; the certificate is chosen within each."""
        front = self._fronts.get(virtual)
        if front is None:
            front = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)

            def choose(tls: ssl.SSLObject | ssl.SSLSocket, name: str | None, _: ssl.SSLContext) -> int | None:
                chosen = self._chosen(virtual, name)
                if chosen is None:
                    return ssl.ALERT_DESCRIPTION_HANDSHAKE_FAILURE
                tls.context = chosen
                return None

            front.sni_callback = choose
            self._fronts[virtual] = front
        return front

    def _chosen(self, virtual: str, name: str | None) -> ssl.SSLContext | None:
        configuration = self._configuration()
        found = configuration.virtuals.get(virtual)
        if found is None or found.get("disabled"):
            return None
        profile = profile_for(configuration, found, (name or "").lower())
        return None if profile is None else self._context(configuration, profile)

    def _context(self, configuration: Configuration, profile: str) -> ssl.SSLContext:
        parts = []
        for entry in configuration.chain_of(profile):
            chain = configuration.certificates.get(entry.get("chain", "none"))
            certificate, key = configuration.certificates[entry["cert"]], configuration.keys[entry["key"]]
            parts.append(certificate.content + (chain.content if chain else b"") + key.content)
        name = hashlib.sha256(b"\0".join(parts)).hexdigest()
        if name not in self._contexts:
            made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            for part in parts:
                # OpenSSL reads them from files only.
                with tempfile.NamedTemporaryFile() as file:
                    Path(file.name).write_bytes(part)
                    made.load_cert_chain(file.name)
            self._contexts[name] = made
        return self._contexts[name]


def profile_for(configuration: Configuration, virtual: Mapping[str, Any], name: str) -> str | None:
    """The client-ssl profile that answers to a name in SNI (empty: none was sent)."""
    profiles = configuration.client_ssl(virtual)
    if len(profiles) < 2:
        return profiles[0] if profiles else None

    def names(path: str) -> list[str]:
        own = configuration.profiles[path].get("serverName", "none")
        return [own.lower()] if own != "none" else _names_in(configuration, path)

    for wanted in (name, f"*.{name.partition('.')[2]}"):
        for path in profiles:
            if name and wanted in names(path):
                return path
    return next((path for path in profiles if configuration.profiles[path].get("sniDefault") == "true"), None)


def _names_in(configuration: Configuration, path: str) -> list[str]:
    found: list[str] = []
    for entry in configuration.chain_of(path):
        [leaf, *_] = crypto.certificates_of(entry["cert"], configuration.certificates[entry["cert"]].content)
        with suppress(x509.ExtensionNotFound):
            alternatives = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
            found += [one.lower() for one in alternatives.get_values_for_type(x509.DNSName)]
    return found
