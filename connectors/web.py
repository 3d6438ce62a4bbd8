"""HTTP for connectors: verified, bounded, never redirected, and its failures told as ours.

`Web` is one server's interface. It raises `Retryable` for what passes by itself (no connection, a cut answer, 429 and
5xx with their Retry-After), `Permanent` for what a person must mend (credentials, TLS, a redirect) and `AuthorityFault`
for an answer that is none (HTML in place of JSON, more bytes than any such answer has). No message quotes a header, a
query or a body: credentials may be in them.

With `addresses=PUBLIC` only public addresses are asked, whatever a name resolves to at that moment: for URLs that
somebody else wrote, such as the ones inside certificates. The name is resolved here, once, and the connection is made
to that very address, so that a second answer of the DNS changes nothing; proxies of the environment are left aside
then.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import socket
import ssl
import weakref
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

import certifi
import httpx

from connectors.errors import AuthorityFault, Permanent, Retryable

LARGEST_ANSWER = 4 * 1024 * 1024
PATIENCE = 30.0
_LONGEST_HINT = timedelta(days=1)
_AGENT = "certgate"

# What a NAT64 translates into the IPv4 address in its last 32 bits (RFC 6052 section 2.1).
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")

IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True)
class Addresses:
    """Which addresses may be asked: all, or the public ones and those in `allowed`."""

    every: bool = True
    allowed: tuple[IPNetwork, ...] = ()

    def refuse(self, address: str) -> bool:
        """Whether this address may not be asked."""
        if self.every:
            return False
        ip = ipaddress.ip_address(address.partition("%")[0])
        if isinstance(ip, ipaddress.IPv6Address):
            # An IPv4 address in the clothes of an IPv6 one is judged as what it is.
            ip = ip.ipv4_mapped or ip.sixtofour or _translated(ip) or ip
        if any(ip in network for network in self.allowed if network.version == ip.version):
            return False
        return not ip.is_global or ip.is_multicast or ip.is_reserved


EVERY = Addresses()
PUBLIC = Addresses(every=False)


@dataclass(frozen=True)
class Answer:
    """What the server said. `where` is for messages: the server's title and its scheme, host and port."""

    status: int
    headers: Mapping[str, str]
    content: bytes
    where: str

    @property
    def empty(self) -> bool:
        """There is no body (204, or a length of 0)."""
        return not self.content.strip()

    def json(self) -> Any:
        """The body as JSON. Raises `AuthorityFault`."""
        if self.empty:
            raise AuthorityFault(f"{self.where} answered with status {self.status} and nothing in it.")
        try:
            return json.loads(self.content)
        except (ValueError, RecursionError):
            kind = "an HTML page" if _is_html(self) else "something"
            told = f"{self.where} answered with status {self.status} and {kind} that is no JSON: is its address right?"
            raise AuthorityFault(told) from None

    def object(self) -> dict[str, Any]:
        """The body as a JSON object. Raises `AuthorityFault`."""
        value = self.json()
        if not isinstance(value, dict):
            raise AuthorityFault(f"{self.where} answered with JSON that is no object.")
        return value


class Web:
    """One server. `title` is what messages call it. Opening it connects to nothing.

    `base_url` has the scheme ``https`` (``http`` only where `plain` is True: for loopback and for what is signed in
    itself). `ca_file` (PEM) is trusted besides the public roots; `certificate` are the files of a client certificate
    and its key, `passphrase` that of the key. `headers` go with each request. `server_name` is what the server's
    certificate must name, where that is not the host of `base_url`.
    """

    def __init__(
        self,
        title: str,
        base_url: str,
        *,
        ca_file: Path | None = None,
        certificate: tuple[Path, Path] | None = None,
        passphrase: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        patience: float = PATIENCE,
        largest: int = LARGEST_ANSWER,
        addresses: Addresses = EVERY,
        plain: bool = False,
        server_name: str | None = None,
    ) -> None:
        parts = urlsplit(base_url)
        if parts.scheme not in (("https", "http") if plain else ("https",)) or not parts.hostname:
            wanted = "http:// or https://" if plain else "https://"
            raise Permanent(f"The address of {title} must begin with {wanted} and name a host.")
        if parts.username or parts.password:
            raise Permanent(f"The address of {title} holds a credential: give that as a reference of its own.")
        self.where = f"{title} ({place(base_url)})"
        self._base = base_url.rstrip("/")
        self._ca_file, self._certificate, self._passphrase = ca_file, certificate, passphrase
        self._headers = {"user-agent": _AGENT, **(headers or {})}
        self._patience, self._largest, self._addresses = patience, largest, addresses
        self._server_name = server_name
        self._client: httpx.AsyncClient | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def __aenter__(self) -> Web:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close what connections there are; the next request opens new ones."""
        client, self._client = self._client, None
        if client is not None and self._loop is asyncio.get_running_loop():
            await client.aclose()

    async def get(self, path: str = "", **more: Any) -> Answer:
        """GET; see `ask`."""
        return await self.ask("GET", path, **more)

    async def post(self, path: str = "", **more: Any) -> Answer:
        """POST; see `ask`."""
        return await self.ask("POST", path, **more)

    async def ask(
        self,
        method: str,
        path: str = "",
        *,
        body: Any = None,
        form: Mapping[str, str] | None = None,
        content: bytes | None = None,
        query: Mapping[str, str | int] | None = None,
        headers: Mapping[str, str] | None = None,
        passing: Sequence[int] = (),
    ) -> Answer:
        """Send one request and read its whole answer. `body` is sent as JSON, `form` as a form, `content` as it is.

        Answers with a status below 300 and those of 4xx that are not named here are given; 401, 403 and 407 are
        `Permanent`, 408, 425, 429 and 5xx `Retryable`, redirects `Permanent` — except for the statuses in `passing`,
        which the caller judges.
        """
        answer = await self._exchange(method, path, body, form, content, query, headers)
        return answer if answer.status in passing else self.judge(answer)

    def judge(self, answer: Answer) -> Answer:
        """Raise what an answer's status says, as `ask` does; else give it back."""
        if answer.status in (401, 403, 407):
            raise Permanent(
                f"{self.where} refuses the credentials (status {answer.status}): look whether they are right, "
                "have not ended, and may do this."
            )
        if 300 <= answer.status < 400:
            raise Permanent(f"{self.where} sends us elsewhere (status {answer.status}): set its final address.")
        if answer.status in (408, 425, 429) or answer.status >= 500:
            busy = "asks us to wait" if answer.status == 429 else "is in trouble"
            raise Retryable(f"{self.where} {busy} (status {answer.status}).", retry_after(answer.headers))
        return answer

    async def _exchange(
        self,
        method: str,
        path: str,
        body: Any,
        form: Mapping[str, str] | None,
        content: bytes | None,
        query: Mapping[str, str | int] | None,
        headers: Mapping[str, str] | None,
    ) -> Answer:
        url = path if path.startswith(("http://", "https://")) else f"{self._base}{path}"
        if place(url) != place(self._base):
            raise AuthorityFault(f"{self.where} names an address on another server: that is not followed.")
        sent = {**self._headers, **(headers or {})}
        extensions: dict[str, Any] = {"sni_hostname": self._server_name} if self._server_name else {}
        if not self._addresses.every:
            url, sent["host"], extensions["sni_hostname"] = await self._pinned(url)
        try:
            request = self._open().build_request(
                method,
                url,
                json=body,
                data=form,
                content=content,
                params=dict(query) if query else None,
                headers=sent,
                extensions=extensions,
            )
        except (httpx.InvalidURL, ValueError, TypeError):
            # The error itself quotes the header.
            raise Permanent(f"{self.where} can't be asked: the address or a header is malformed.") from None
        try:
            async with asyncio.timeout(self._patience * 4):
                response = await self._open().send(request, stream=True)
                try:
                    received = await self._read(response)
                finally:
                    await response.aclose()
        except (TimeoutError, httpx.TimeoutException):
            raise Retryable(f"{self.where} did not answer in time.") from None
        except httpx.ConnectError as error:
            raise _unconnected(self.where, error) from None
        except (httpx.HTTPError, httpx.StreamError) as error:
            raise Retryable(f"The connection to {self.where} was cut ({type(error).__name__}).") from None
        except ssl.SSLError:
            raise Retryable(f"The connection to {self.where} was cut (TLS).") from None
        return Answer(response.status_code, response.headers, received, self.where)

    async def _read(self, response: httpx.Response) -> bytes:
        received = bytearray()
        async for part in response.aiter_bytes():
            received += part
            if len(received) > self._largest:
                raise AuthorityFault(f"{self.where} sent more than {self._largest} bytes: no answer has that many.")
        return bytes(received)

    async def _pinned(self, url: str) -> tuple[str, str, str]:
        """The URL with an address that may be asked in place of the name, the Host header, and the name for TLS."""
        parts = urlsplit(url)
        name = parts.hostname or ""
        port = parts.port or (443 if parts.scheme == "https" else 80)
        try:
            found = await asyncio.get_running_loop().getaddrinfo(name, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            raise Retryable(f"The name of {self.where} can't be resolved.") from None
        addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
        for address in addresses:
            if self._addresses.refuse(address):
                raise Permanent(
                    f"{self.where} has the private address {address}, and that is not asked unless it is allowed."
                )
        literal = f"[{addresses[0]}]" if ":" in addresses[0] else addresses[0]
        return parts._replace(netloc=f"{literal}:{port}").geturl(), parts.netloc, name

    def _open(self) -> httpx.AsyncClient:
        loop = asyncio.get_running_loop()
        # Connections belong to the loop that made them.
        if self._client is None or self._loop is not loop:
            self._client = httpx.AsyncClient(
                # Nothing is verified where nothing is encrypted, and reading the trusted roots takes a while.
                verify=self._tls() if urlsplit(self._base).scheme == "https" else False,
                timeout=self._patience,
                follow_redirects=False,
                trust_env=self._addresses.every,
            )
            self._loop = loop
            # Not everybody who opens a connector closes it: its connections end with it.
            weakref.finalize(self, _let_go, self._client, loop).atexit = False
        return self._client

    def _tls(self) -> ssl.SSLContext:
        if self._certificate is None:
            return trusting(self._ca_file)
        context = _trusting(self._ca_file)
        certificate, key = self._certificate
        try:
            # Without a passphrase OpenSSL would ask for one at the terminal.
            context.load_cert_chain(certificate, key, password=self._passphrase or b"")
        except (OSError, ssl.SSLError) as error:
            raise Permanent(f"The client certificate {certificate} can't be used: {_why(error)}") from None
        return context


def trusting(ca_file: Path | None) -> ssl.SSLContext:
    """TLS that trusts the public roots, those of this machine, and those in `ca_file` (PEM). One for all who ask, and a
    new one once the file was changed: to read so many roots takes longer than most answers. Raises `Permanent`."""
    return _shared(ca_file, _stamp(ca_file))


@lru_cache(maxsize=64)
def _shared(ca_file: Path | None, _changed: tuple[int, int] | None) -> ssl.SSLContext:
    return _trusting(ca_file)


def _stamp(file: Path | None) -> tuple[int, int] | None:
    try:
        found = file.stat() if file is not None else None
    except OSError:
        return None
    return (found.st_mtime_ns, found.st_ino) if found else None


def _trusting(ca_file: Path | None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=certifi.where())
    context.load_default_certs()
    try:
        if ca_file is not None:
            context.load_verify_locations(cafile=ca_file)
    except (OSError, ssl.SSLError) as error:
        raise Permanent(f"The file {ca_file} with trusted certificates can't be used: {_why(error)}") from None
    return context


def _translated(ip: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    return ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF) if ip in _NAT64 else None


def _let_go(client: httpx.AsyncClient, loop: asyncio.AbstractEventLoop) -> None:
    """Close a client that nobody has any more, on the loop that its connections belong to, if that still runs."""

    def close() -> None:
        closing.add(task := loop.create_task(client.aclose()))
        task.add_done_callback(closing.discard)

    closing: set[asyncio.Task[None]] = set()
    with suppress(RuntimeError):  # the loop is closed, and everything of it gone
        loop.call_soon_threadsafe(close)


def place(url: str) -> str:
    """Scheme, host and port of a URL: what stands behind may be secret."""
    parts = urlsplit(url)
    try:
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        port = ""
    host = parts.hostname or ""
    return f"{parts.scheme}://{f'[{host}]' if ':' in host else host}{port}"


def retry_after(headers: Mapping[str, str], now: datetime | None = None) -> timedelta | None:
    """Retry-After (RFC 9110 section 10.2.3), seconds or a date, at most a day; None where there is none or nonsense."""
    given = headers.get("retry-after", "").strip()
    if given.isascii() and given.isdigit():
        return min(timedelta(seconds=int(given[:9])), _LONGEST_HINT)
    try:
        moment = parsedate_to_datetime(given)
    except (ValueError, TypeError):
        return None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return min(max(moment - (now or datetime.now(UTC)), timedelta(0)), _LONGEST_HINT)


def _unconnected(where: str, error: httpx.ConnectError) -> Permanent | Retryable:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return Permanent(
                f"The TLS certificate of {where} does not verify ({cause.verify_message.rstrip('.')}): set ca_file to "
                "the root that signed it, or correct the address."
            )
        cause = cause.__cause__ or cause.__context__
    return Retryable(f"{where} can't be reached: {str(error).rstrip('.') or 'no connection'}.")


def _why(error: OSError | ssl.SSLError) -> str:
    if isinstance(error, FileNotFoundError | PermissionError):
        return f"{error.strerror}."
    return "it does not hold what it should."


def _is_html(answer: Answer) -> bool:
    start = answer.content[:200].lstrip().lower()
    return start.startswith((b"<!doctype", b"<html")) or "html" in answer.headers.get("content-type", "")
