"""tls-alpn-01 (RFC 8737; for addresses RFC 8738 section 6): a certificate of our own that carries the proof, shown in a
TLS handshake for the protocol ``acme-tls/1``.

For an address the CA asks for its reverse-mapping name. One name has one answer at a time, because the CA does not say
which order it asks for: the second order of a name waits for the first.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import ssl
from collections import OrderedDict
from contextlib import suppress
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID, ObjectIdentifier

from connectors.ca.acme.challenges.answers import Answers
from connectors.ca.acme.challenges.contract import Challenge
from connectors.ca.acme.challenges.listener import PATIENCE, Listener
from model.x509 import general_names

PROTOCOL = "acme-tls/1"
ACME_IDENTIFIER = ObjectIdentifier("1.3.6.1.5.5.7.1.31")
_KEPT = 64
_LIFE = timedelta(days=7)


class OwnTlsServer:
    """Answers from this process, at `address`."""

    def __init__(self, address: str, answers: Answers) -> None:
        self._answers = answers
        self._listener = Listener(address, _until_closed, answers.any, self._context)
        self._made: OrderedDict[tuple[str, str], ssl.SSLContext] = OrderedDict()

    async def present(self, challenge: Challenge) -> None:
        """See `Responder.present`."""
        await asyncio.to_thread(self._answers.put, asked_name(challenge), challenge)
        await self._listener.open()

    async def settled(self, challenge: Challenge) -> str | None:
        """Asks ourselves: at that address may also be somebody else."""
        if await asyncio.to_thread(self._answers.get, asked_name(challenge)) != challenge.key_authorization:
            return "the proof of the same name for another order comes first"
        host, port = self._listener.reachable
        asking = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        asking.check_hostname, asking.verify_mode = False, ssl.CERT_NONE
        asking.set_alpn_protocols([PROTOCOL])
        shown = b""
        with suppress(OSError, TimeoutError, ssl.SSLError):
            async with asyncio.timeout(PATIENCE):
                _, writer = await asyncio.open_connection(host, port, ssl=asking, server_hostname=asked_name(challenge))
                found = writer.get_extra_info("ssl_object")
                if found.selected_alpn_protocol() == PROTOCOL:
                    shown = found.getpeercert(binary_form=True) or b""
                writer.transport.abort()
        if shown and proof(challenge.key_authorization) in shown:
            return None
        return f"another program listens at {self._listener.address} of this host and does not give our answer"

    async def remove(self, challenge: Challenge) -> None:
        """See `Responder.remove`."""
        await asyncio.to_thread(self._answers.drop, asked_name(challenge), challenge)
        await self._listener.close_unneeded()

    async def close(self) -> None:
        """See `Listens.close`."""
        await self._listener.close()

    def _context(self) -> ssl.SSLContext:
        context = _bare_context()
        context.sni_callback = self._choose
        return context

    def _choose(
        self, connection: ssl.SSLObject | ssl.SSLSocket, name: str | None, _context: ssl.SSLContext
    ) -> int | None:
        """Give the connection the certificate for the name that is asked for."""
        asked = (name or "").lower()
        authorization = self._answers.get(asked) if asked else None
        if authorization is None:
            return ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME
        connection.context = self._certified(asked, authorization)
        return None

    def _certified(self, asked: str, authorization: str) -> ssl.SSLContext:
        made = self._made.get((asked, authorization))
        if made is None:
            made = self._made[asked, authorization] = _bare_context()
            _load(made, *certificate(asked, authorization))
            if len(self._made) > _KEPT:
                self._made.popitem(last=False)
        return made


def asked_name(challenge: Challenge) -> str:
    """The server name that the CA asks for (SNI)."""
    address = challenge.address
    return challenge.name if address is None else address.reverse_pointer


def proof(authorization: str) -> bytes:
    """The value of the extension ``acmeIdentifier``: SHA-256 of the key authorization, as an OCTET STRING."""
    return b"\x04\x20" + hashlib.sha256(authorization.encode()).digest()


def certificate(asked: str, authorization: str) -> tuple[bytes, bytes]:
    """The certificate of RFC 8737 section 3 and its key, made for this alone; both PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "ACME challenge")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + _LIFE)
        .add_extension(x509.SubjectAlternativeName(general_names([_proved_name(asked)])), critical=False)
        .add_extension(x509.UnrecognizedExtension(ACME_IDENTIFIER, proof(authorization)), critical=True)
        .sign(key, SHA256())
    )
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return made.public_bytes(Encoding.PEM), private


def _proved_name(asked: str) -> str:
    """The name behind what is asked for: the address for a reverse-mapping name."""
    if asked.endswith(".in-addr.arpa"):
        return ".".join(asked.removesuffix(".in-addr.arpa").split(".")[::-1])
    if asked.endswith(".ip6.arpa"):
        digits = "".join(asked.removesuffix(".ip6.arpa").split(".")[::-1])
        return ":".join(digits[at : at + 4] for at in range(0, 32, 4))
    return asked


def _bare_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols([PROTOCOL])
    return context


def _load(context: ssl.SSLContext, chain: bytes, key: bytes) -> None:
    """The library reads certificates and keys from files only; this one is in memory and has no name."""
    descriptor = os.memfd_create("acme-challenge", os.MFD_CLOEXEC)
    try:
        os.write(descriptor, key + chain)
        context.load_cert_chain(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)


async def _until_closed(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    """The handshake was all: whoever asked closes."""
    await reader.read(1)
