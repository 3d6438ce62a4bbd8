"""OAuth2 client credentials (RFC 6749 section 4.4): bearer tokens that end."""

from __future__ import annotations

import base64
import binascii
import hmac
import secrets
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from urllib.parse import parse_qs, unquote_plus

from tests.simulators.sectigo.accounts import Credentials
from tests.simulators.sectigo.wire import Reply, Request

LIFE = timedelta(seconds=300)


class Tokens:
    """Those that were given out. Every method wants the simulator's lock held."""

    def __init__(self, credentials: Credentials, clock: Callable[[], datetime]) -> None:
        self._credentials = credentials
        self._now = clock
        self._ends: dict[str, datetime] = {}
        self.life = LIFE

    def give(self, request: Request) -> Reply:
        """The token endpoint; the client's name and secret come in the form or as Basic (RFC 6749 section 2.3.1)."""
        form = {name: values[-1] for name, values in parse_qs(request.body.decode("utf-8", "replace")).items()}
        client_id, secret = _basic(request.headers) or (form.get("client_id", ""), form.get("client_secret", ""))
        if form.get("grant_type") != "client_credentials":
            return Reply.of({"error": "unsupported_grant_type"}, 400)
        if not same(client_id, self._credentials.client_id) or not same(secret, self._credentials.client_secret):
            return Reply.of({"error": "invalid_client"}, 401)
        token = secrets.token_urlsafe(32)
        self._ends[token] = self._now() + self.life
        seconds = int(self.life.total_seconds())
        answer = {"access_token": token, "token_type": "Bearer", "expires_in": seconds}
        return Reply.of(answer, headers={"Cache-Control": "no-store"})

    def knows(self, header: str) -> bool:
        """Whether an Authorization header has a token that has not ended."""
        kind, _, token = header.partition(" ")
        end = self._ends.get(token.strip())
        return kind.lower() == "bearer" and end is not None and self._now() < end

    def end_all(self) -> None:
        """All tokens end now."""
        self._ends.clear()


def same(given: str, right: str) -> bool:
    """Compare in constant time."""
    return hmac.compare_digest(given.encode(), right.encode())


def _basic(headers: Mapping[str, str]) -> tuple[str, str] | None:
    kind, _, rest = headers.get("authorization", "").partition(" ")
    if kind.lower() != "basic":
        return None
    try:
        name, _, secret = base64.b64decode(rest, validate=True).decode().partition(":")
    except (binascii.Error, ValueError):
        return None
    return unquote_plus(name), unquote_plus(secret)
