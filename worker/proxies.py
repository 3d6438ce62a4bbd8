"""The way to Temporal through an HTTP proxy, where there is no other way out (CONNECT, RFC 9110 section 9.3.6)."""

from __future__ import annotations

import asyncio
import base64
from urllib.parse import urlsplit

from temporalio.service import HttpConnectProxyConfig

from connectors.errors import ConnectorError
from connectors.secrets import resolve
from model.errors import InvalidInput, Unavailable
from worker.credentials import Resolver
from worker.settings import TemporalSettings

_PATIENCE = 5.0
_LONGEST_ANSWER = 65_536


def of(settings: TemporalSettings, secret: Resolver = resolve) -> HttpConnectProxyConfig | None:
    """The proxy that is configured, with its credential resolved now by `secret`; None where there is none.

    Raises `InvalidInput` where the credential can't be had, or is not ``user:password``.
    """
    if settings.proxy is None:
        return None
    credential = None
    if settings.proxy_credential is not None:
        try:
            text = secret(settings.proxy_credential).decode()
        except ConnectorError as error:
            raise InvalidInput(f"The proxy's credential can't be had. {error.message}") from None
        except UnicodeDecodeError:
            text = ""
        user, colon, password = text.partition(":")
        if not (user and colon):
            raise InvalidInput(f"The proxy's credential {settings.proxy_credential} does not hold user:password.")
        credential = (user, password)
    return HttpConnectProxyConfig(urlsplit(settings.proxy).netloc, credential)


async def examine(proxy: HttpConnectProxyConfig, target: str) -> None:
    """Ask the proxy itself why there is no connection. Raises `Unavailable` with what waiting will not mend."""
    parts = urlsplit(f"http://{proxy.target_host}")
    try:
        async with asyncio.timeout(_PATIENCE):
            reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
            try:
                lines = [f"CONNECT {target} HTTP/1.1", f"Host: {target}"]
                if proxy.basic_auth is not None:
                    word = base64.b64encode(":".join(proxy.basic_auth).encode()).decode()
                    lines.append(f"Proxy-Authorization: Basic {word}")
                writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())
                await writer.drain()
                words = (await reader.readline())[:_LONGEST_ANSWER].decode("latin-1").split()
            finally:
                writer.close()
    except (OSError, TimeoutError, ValueError):
        # It may be starting: whoever waits for Temporal waits for it, too.
        return
    status = words[1] if len(words) > 1 and words[0].startswith("HTTP/") else ""
    where = f"The proxy {proxy.target_host}"
    # Some answer a wrong password with 401, which is a server's and not a proxy's.
    if status in ("401", "407"):
        asks = "refuses the user and password that it was given" if proxy.basic_auth else "wants a user and password"
        raise Unavailable(f"{where} {asks}: put user:password into a file and name it as proxy_credential.")
    if status in ("403", "405"):
        raise Unavailable(f"{where} does not let connections through to {target} ({status}): allow it there.")
