"""JSON to a URL, signed after Standard Webhooks 1.0.0 (https://www.standardwebhooks.com), so that a receiver has a
library to check it with.

The headers ``webhook-id``, ``webhook-timestamp`` and ``webhook-signature``: ``v1,`` and the Base64 of the HMAC-SHA256
over ``ID.TIMESTAMP.BODY``. The key is the secret's bytes; after ``whsec_`` it is Base64.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from connectors.errors import Permanent, Retryable
from connectors.notices.contract import Notice, trust
from connectors.notices.settings import WebhookSettings, checked_url

_PATIENCE = 10.0  # seconds
_LONGEST_HINT = timedelta(hours=1)
_ENCODED = "whsec_"


class Webhook:
    """One URL."""

    def __init__(
        self,
        settings: WebhookSettings,
        secret: Callable[[str], bytes],
        ca_file: Path | None,
        clock: Callable[[], datetime],
    ) -> None:
        self._settings, self._secret, self._ca_file, self._clock = settings, secret, ca_file, clock

    async def send(self, notice: Notice, address: str) -> None:  # noqa: ARG002  (one receiver)
        """Post it. Everything but a 2xx answer is tried again: what a proxy or a wrong setting says may pass."""
        url = await asyncio.to_thread(self._url)
        body = json.dumps(payload(notice), ensure_ascii=False, separators=(",", ":")).encode()
        signed = await asyncio.to_thread(self._signed, notice.key, body)
        headers = {"content-type": "application/json", "user-agent": "certgate", **signed}
        answer = await self._ask("POST", url, headers, body)
        if not answer.is_success:
            raise Retryable(f"The webhook at {_place(url)} answered with status {answer.status_code}.", _hint(answer))

    async def check(self) -> str:
        """Whether something answers there; any answer will do, nothing is posted."""
        url = await asyncio.to_thread(self._url)
        await asyncio.to_thread(self._signed, "check", b"")
        await self._ask("HEAD", url, {"user-agent": "certgate"}, b"")
        signed = "signed" if self._settings.secret else "not signed"
        return f"The webhook at {_place(url)} answers; what is sent there is {signed}."

    def _url(self) -> str:
        given = self._settings.url
        if given.startswith(("http://", "https://")):
            return given
        try:
            return checked_url(self._secret(given).decode())
        except ValueError:
            raise Permanent(f"What {given} holds is no http:// or https:// URL.") from None

    def _signed(self, key: str, body: bytes) -> dict[str, str]:
        moment = str(int(self._clock().timestamp()))
        headers = {"webhook-id": key, "webhook-timestamp": moment}
        if self._settings.secret is not None:
            secret = signing_key(self._secret(self._settings.secret), self._settings.secret)
            digest = hmac.new(secret, f"{key}.{moment}.".encode() + body, hashlib.sha256).digest()
            headers["webhook-signature"] = "v1," + base64.b64encode(digest).decode()
        return headers

    async def _ask(self, method: str, url: str, headers: dict[str, str], body: bytes) -> httpx.Response:
        where = f"The webhook at {_place(url)}"
        try:
            async with httpx.AsyncClient(timeout=_PATIENCE, verify=trust(self._ca_file)) as client:
                return await client.request(method, url, headers=headers, content=body)
        except httpx.TimeoutException:
            raise Retryable(f"{where} did not answer within {_PATIENCE:.0f} s.") from None
        except httpx.ConnectError as error:
            raise Retryable(f"{where} can't be reached: {str(error).rstrip('.') or 'no connection'}.") from None
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise Retryable(f"{where} can't be asked ({type(error).__name__}).") from None


def payload(notice: Notice) -> dict[str, object]:
    """The body, as documented in docs/notifications.md."""
    return {
        "type": notice.kind,
        "timestamp": notice.created_at.astimezone(UTC).isoformat().replace("+00:00", "Z"),
        "data": {
            "id": notice.number,
            "subject": notice.subject,
            "text": notice.text,
            "gateway_id": notice.gateway_id,
            "gateway": notice.gateway,
            "organization": notice.organization,
            "department": notice.department,
            "link": notice.link,
        },
    }


def signing_key(secret: bytes, named: str) -> bytes:
    """The key that a secret stands for. Raises `Permanent`, without the secret."""
    text = secret.strip()
    if not text.startswith(_ENCODED.encode()):
        return text
    try:
        return base64.b64decode(text.removeprefix(_ENCODED.encode()), validate=True)
    except (binascii.Error, ValueError):
        raise Permanent(f"What {named} holds begins with {_ENCODED}, and is no Base64 after that.") from None


def _place(url: str) -> str:
    """Scheme, host and port: the rest of a webhook's URL is often a secret."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname}" + (f":{parts.port}" if parts.port else "")


def _hint(answer: httpx.Response) -> timedelta | None:
    """Retry-After in seconds (RFC 9110 section 10.2.3), within reason."""
    given = answer.headers.get("retry-after", "")
    if not (given.isascii() and given.isdigit() and len(given) < 7):
        return None
    return min(timedelta(seconds=int(given)), _LONGEST_HINT)
