"""The HTTP API of ``cfssl serve``: ``info``, ``sign``, ``authsign``, ``revoke``, ``bundle``.

Every answer is ``{"success", "result", "errors": [{"code", "message"}]}``, failures with status 400
(https://github.com/cloudflare/cfssl/tree/1.2.0/doc/api). A request for ``authsign`` is wrapped: base64 of the request
and of its HMAC-SHA-256 with the shared key ("standard" authentication).
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from connectors.ca.cfssl.settings import Settings
from connectors.errors import AuthorityFault, Permanent
from connectors.web import Web

_MOST_CHARACTERS = 300


@dataclass(frozen=True)
class Said:
    """An answer: the result, or the code and sentence of the failure (printable, cut)."""

    result: Mapping[str, Any] | None
    code: int = 0
    message: str = ""


class Server:
    """One CFSSL server. Opening it touches nothing; `secret` may block and is called in a thread."""

    def __init__(self, settings: Settings, secret: Callable[[str], bytes]) -> None:
        certificate = None
        if settings.client_certificate is not None and settings.client_key is not None:
            certificate = (settings.client_certificate, settings.client_key)
        self._web = Web(
            "CFSSL",
            settings.address,
            ca_file=settings.ca_file,
            certificate=certificate,
            plain=True,  # the settings decide where it is allowed
        )
        self.where = self._web.where
        self._settings, self._secret = settings, secret

    async def close(self) -> None:
        """Close the connections."""
        await self._web.close()

    async def ask(self, endpoint: str, body: Mapping[str, Any]) -> Said | None:
        """Ask an endpoint; None where the server does not have it."""
        answer = await self._web.post(f"/api/v1/cfssl/{endpoint}", body=body, passing=(401, 403))
        if answer.status in (404, 405):
            return None
        found = answer.object()
        result = found.get("result")
        if found.get("success") is True and isinstance(result, dict):
            return Said(result)
        errors = found.get("errors")
        first = errors[0] if isinstance(errors, list) and errors and isinstance(errors[0], dict) else {}
        code, message = first.get("code"), first.get("message")
        return Said(None, code if isinstance(code, int) else 0, _printable(str(message or f"status {answer.status}")))

    async def sign(self, body: Mapping[str, Any]) -> Said:
        """Ask for a signature, with our key where we have one. Raises `Permanent` where it won't be asked so."""
        reference = self._settings.auth_key
        if reference is None:
            said = await self.ask("sign", body)
        else:
            key = await self._key(reference)
            request = json.dumps(body).encode()
            token = hmac.new(key, request, hashlib.sha256).digest()
            wrapped = {"token": base64.b64encode(token).decode(), "request": base64.b64encode(request).decode()}
            said = await self.ask("authsign", wrapped)
        if said is None:
            told = "authsign: none of its profiles has an auth_key" if reference else "sign: set auth_key"
            raise Permanent(f"{self.where} has no endpoint {told}.")
        if "invalid token" in said.message:
            raise Permanent(f"{self.where} refuses our signature: {reference} is not the key of its profile.")
        if "authentication required" in said.message:
            raise Permanent(f"{self.where} wants signed requests for this profile: set auth_key.")
        if "no authentication provider" in said.message:
            raise Permanent(f"{self.where} takes no signed requests for this profile: take auth_key out.")
        return said

    async def _key(self, reference: str) -> bytes:
        given = await asyncio.to_thread(self._secret, reference)
        try:
            return bytes.fromhex(given.decode("ascii").strip())
        except ValueError:
            raise Permanent(f"The credential {reference} is no key in hexadecimal digits.") from None

    def text(self, said: Said, name: str) -> str:
        """A text of a result. Raises `AuthorityFault`."""
        value = (said.result or {}).get(name)
        if not isinstance(value, str):
            raise AuthorityFault(f"{self.where} answered without {name}.")
        return value


def _printable(text: str) -> str:
    line = " ".join("".join(one if one.isprintable() else " " for one in text).split()).rstrip(".")
    return line if len(line) <= _MOST_CHARACTERS else f"{line[: _MOST_CHARACTERS - 1]}…"
