"""What is really served: a TLS handshake that looks at the certificate and trusts nothing, after the words that some
protocols want before it (`starttls.py`).

Whether a certificate is trusted is decided elsewhere, from the chain that was issued. Here the question is only *which*
certificate comes, so old protocol versions and weak signatures are let through: an endpoint that is badly configured
must still be seen.
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache
from typing import Any

from cryptography import x509
from cryptography.hazmat.bindings.openssl.binding import Binding
from cryptography.hazmat.primitives.hashes import SHA256
from OpenSSL import SSL

from connectors.endpoints.contract import Probe, Served, Verification
from connectors.endpoints.starttls import NotBegun, begin

DEFAULT_TIMEOUT = timedelta(seconds=5)
# Enough to hide the wait for the network, few enough not to look like an attack.
HANDSHAKES_AT_ONCE = 16
# PROXY protocol version 1, "the sender says nothing about the client" (the HAProxy PROXY protocol document, 2.1).
PROXY_HEADER = b"PROXY UNKNOWN\r\n"
# What a client offers that takes only one type of certificate; Ed25519 goes with ECDSA, as in TLS 1.2.
SIGNATURE_ALGORITHMS = {
    "RSA": b"RSA-PSS+SHA256:RSA-PSS+SHA384:RSA-PSS+SHA512:RSA+SHA256:RSA+SHA384:RSA+SHA512:RSA+SHA1",
    "ECDSA": b"ECDSA+SHA256:ECDSA+SHA384:ECDSA+SHA512:ECDSA+SHA1:ed25519:ed448",
}


def fingerprint(certificate: x509.Certificate) -> str:
    """SHA-256 over the DER encoding, lower-case hex without colons."""
    return certificate.fingerprint(SHA256()).hex()


@dataclass(frozen=True)
class Observation:
    """What came in one handshake: the certificates as sent (leaf first), or why none came."""

    certificates: Sequence[x509.Certificate]
    failure: Verification | None = None
    reason: str = ""


@dataclass(frozen=True)
class Expected:
    """What is compared with. All are SHA-256 fingerprints; `intermediates` is what a server must send beside the leaf;
    `known` maps a fingerprint to what it is called in sentences, for certificates that certgate knows otherwise."""

    leaf: str | None
    intermediates: Sequence[str] = ()
    previous: Sequence[str] = ()
    known: Mapping[str, str] = field(default_factory=dict)


async def shake_hands(
    probe: Probe, *, timeout: timedelta = DEFAULT_TIMEOUT, authentication: str | None = None
) -> Observation:
    """One handshake. `authentication` (``RSA`` or ``ECDSA``) takes only a certificate of that type, so that a server
    which has several shows the one that is meant. Never raises for what the other side does."""
    connection: socket.socket | None = None
    phase, doing = Verification.RESOLUTION_FAILED, "could not be resolved"
    try:
        async with asyncio.timeout(timeout.total_seconds()):
            addresses = await _resolve(probe.listener.address, probe.listener.port)
            phase, doing = Verification.CONNECTION_FAILED, "could not be reached"
            connection = await _connect(addresses)
            phase = Verification.HANDSHAKE_FAILED
            if probe.listener.proxy_protocol:
                await asyncio.get_running_loop().sock_sendall(connection, PROXY_HEADER)
            if probe.listener.starttls is not None:
                doing = f"did not let TLS begin by {probe.listener.starttls.upper()}"
                await begin(probe.listener.starttls, connection, probe.server_name or probe.listener.address)
            doing = "did not finish the TLS handshake"
            certificates = await _negotiate(connection, probe, authentication)
    except TimeoutError:
        return Observation((), phase, f"{doing} within {timeout.total_seconds():g} s")
    except NotBegun as error:
        failure = Verification.HANDSHAKE_FAILED if error.offered else Verification.NO_CERTIFICATE
        return Observation((), failure, error.why)
    except socket.gaierror as error:
        return Observation((), Verification.RESOLUTION_FAILED, f"could not be resolved: {error.strerror}")
    except OSError as error:
        words = {
            Verification.CONNECTION_FAILED: "could not be reached",
            Verification.HANDSHAKE_FAILED: "cut the connection during the TLS handshake",
        }
        # asyncio puts words of its own over the system's.
        reason = os.strerror(error.errno) if error.errno else str(error)
        return Observation((), phase, f"{words.get(phase, 'failed')}: {reason}")
    except SSL.Error as error:
        return Observation((), Verification.HANDSHAKE_FAILED, f"refused the TLS handshake: {_reason(error)}")
    except (ValueError, x509.InvalidVersion):
        return Observation((), Verification.HANDSHAKE_FAILED, "sent a certificate that can't be read")
    finally:
        if connection is not None:
            connection.close()
    if not certificates:
        return Observation((), Verification.NO_CERTIFICATE, "finished the TLS handshake without a certificate")
    return Observation(certificates)


async def verify(
    probe: Probe, expected: Expected, *, timeout: timedelta = DEFAULT_TIMEOUT, authentication: str | None = None
) -> Served:
    """One handshake, and what it means."""
    return classify(probe, await shake_hands(probe, timeout=timeout, authentication=authentication), expected)


async def verify_all(
    probes: Sequence[Probe],
    expected: Expected,
    *,
    timeout: timedelta = DEFAULT_TIMEOUT,
    authentication: str | None = None,
) -> list[Served]:
    """All handshakes, some at a time, in the order of `probes`."""
    seen = await observe_all(probes, timeout=timeout, authentication=authentication)
    return [classify(probe, observation, expected) for probe, observation in zip(probes, seen, strict=True)]


async def observe_all(
    probes: Sequence[Probe], *, timeout: timedelta = DEFAULT_TIMEOUT, authentication: str | None = None
) -> list[Observation]:
    """All handshakes, some at a time, in the order of `probes`, and what came in each."""
    if len(probes) == 1:
        return [await shake_hands(probes[0], timeout=timeout, authentication=authentication)]
    gate = asyncio.Semaphore(HANDSHAKES_AT_ONCE)

    async def one(probe: Probe) -> Observation:
        async with gate:
            return await shake_hands(probe, timeout=timeout, authentication=authentication)

    return list(await asyncio.gather(*(one(probe) for probe in probes)))


def classify(probe: Probe, seen: Observation, expected: Expected) -> Served:
    """Decide what an observation means; a pure function."""

    def served(verification: Verification, leaf: str | None, message: str) -> Served:
        return Served(probe.listener, verification, leaf, f"{probe} {message}", probe.server_name)

    if seen.failure is not None:
        return served(seen.failure, None, f"{seen.reason}.")
    leaf = fingerprint(seen.certificates[0])
    if leaf == expected.leaf:
        missing = set(expected.intermediates) - {fingerprint(certificate) for certificate in seen.certificates}
        if missing:
            message = f"serves the expected certificate without {len(missing)} of its intermediate certificates."
            return served(Verification.INCOMPLETE_CHAIN, leaf, message)
        return served(Verification.MATCH, leaf, "serves the expected certificate.")
    if leaf in expected.previous:
        return served(Verification.PREVIOUS_CERTIFICATE, leaf, f"still serves the previous certificate ({leaf[:16]}…).")
    if leaf in expected.known:
        message = f"serves another certificate that is known: {expected.known[leaf]} ({leaf[:16]}…)."
        return served(Verification.OTHER_KNOWN_CERTIFICATE, leaf, message)
    return served(Verification.UNKNOWN_CERTIFICATE, leaf, f"serves a certificate that is not known ({leaf[:16]}…).")


@cache
def _context(authentication: str | None) -> SSL.Context:
    """One context for all handshakes: making one costs more than a handshake."""
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_verify(SSL.VERIFY_NONE)
    # aNULL comes last, for a server that has no certificate: that it has none is then seen.
    context.set_cipher_list(b"ALL:+aNULL:@SECLEVEL=0")
    if authentication is None:
        return context
    # pyOpenSSL has no method for this. Cipher suites would do the same, for TLS 1.2 only (RFC 8446 section 4.2.3).
    if Binding.lib.SSL_CTX_set1_sigalgs_list(context._context, SIGNATURE_ALGORITHMS[authentication]) != 1:
        raise AssertionError("OpenSSL does not know its own signature algorithms")
    return context


async def _resolve(address: str, port: int) -> list[tuple[int, Any]]:
    """Family and socket address of each way there. An IP address is taken as it is, without the resolver's thread."""
    try:
        literal = ipaddress.ip_address(address)
    except ValueError:
        found = await asyncio.get_running_loop().getaddrinfo(address, port, type=socket.SOCK_STREAM)
        return [(family, place) for family, _, _, _, place in found]
    return [(socket.AF_INET if literal.version == 4 else socket.AF_INET6, (address, port))]


async def _connect(addresses: Sequence[tuple[int, Any]]) -> socket.socket:
    """The first address that takes the connection; raises the last one's error."""
    loop = asyncio.get_running_loop()
    failure: OSError | None = None
    for family, place in addresses:
        connection = socket.socket(family, socket.SOCK_STREAM)
        connection.setblocking(False)
        try:
            await loop.sock_connect(connection, place)
        except OSError as error:
            connection.close()
            failure = error
        except BaseException:
            connection.close()
            raise
        else:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return connection
    raise failure or OSError("no address")


async def _negotiate(connection: socket.socket, probe: Probe, authentication: str | None) -> list[x509.Certificate]:
    """Drive OpenSSL over a non-blocking socket and give what the server sent."""
    loop = asyncio.get_running_loop()
    tls = SSL.Connection(_context(authentication), None)
    tls.set_connect_state()
    if probe.server_name is not None:
        tls.set_tlsext_host_name(probe.server_name.encode("idna"))

    async def flush() -> None:
        try:
            while outgoing := tls.bio_read(65536):
                await loop.sock_sendall(connection, outgoing)
        except SSL.WantReadError:
            return

    while True:
        try:
            tls.do_handshake()
        except SSL.WantReadError:
            await flush()
            incoming = await loop.sock_recv(connection, 65536)
            if not incoming:
                raise ConnectionResetError("the connection was closed") from None
            tls.bio_write(incoming)
        else:
            break
    certificates = tls.get_peer_cert_chain(as_cryptography=True) or []
    # A polite end, so that the server does not log a broken connection.
    tls.shutdown()
    await flush()
    return certificates


def _reason(error: SSL.Error) -> str:
    """OpenSSL's own words."""
    entries = error.args[0] if error.args else ()
    if isinstance(entries, list) and entries:
        return str(entries[-1][-1])
    return str(error) or "no reason given"
