"""A signed-in conversation with Sectigo's REST interface: headers, client certificate or bearer token, and refusals.

One `Session` keeps one client open and one token until shortly before its end. Credentials are resolved where they are
used, at each request; no message holds one, also where the CA would quote it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any
from urllib.parse import quote

from connectors.ca.sectigo.refusals import Refused, printable
from connectors.ca.sectigo.settings import Settings
from connectors.errors import AuthorityFault, Permanent, Retryable
from connectors.registry import Surroundings
from connectors.web import Answer, Web

TITLE = "Sectigo"
# A token is given up so long before its end: it has to live until the request is there.
_MARGIN = timedelta(seconds=30)
_SHORTEST_TOKEN = timedelta(seconds=60)
_JUDGED = (401, 403)
_TRIES = {"GET": 3, "PUT": 3}


@dataclass(frozen=True)
class Token:
    """A bearer token (RFC 6750) and when it ends."""

    value: str = field(repr=False)
    ends: datetime


class Session:
    """Opening it connects to nothing. Any number of tasks may use it at the same time.

    It is used as a context: connections are shared by all who are in it, and closed when the last one leaves, so that
    whoever drops a `Session` between two calls leaves nothing open behind.
    """

    def __init__(self, settings: Settings, surroundings: Surroundings) -> None:
        self._settings = settings
        self._secret = surroundings.secret
        self._clock = surroundings.clock
        self._users = 0
        self._web: Web | None = None
        self._token_web: Web | None = None
        self._left: list[Web] = []
        self._token: Token | None = None
        self._lock: tuple[asyncio.AbstractEventLoop, asyncio.Lock] | None = None

    async def __aenter__(self) -> Session:
        self._users += 1
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._users -= 1
        if self._users == 0:
            left, self._left = self._left, []
            for web in (self._web, self._token_web, *left):
                if web is not None:
                    await web.close()

    async def get(self, path: str, query: Mapping[str, str | int] | None = None) -> Answer:
        """GET below the base. Raises `Refused` and the outcomes of `Web`."""
        return await self._ask("GET", path, query=query)

    async def look(self, path: str) -> Answer | None:
        """GET; None where the CA says that there is no such thing."""
        try:
            return await self.get(path)
        except Refused as refused:
            if refused.missing:
                return None
            raise

    async def post(self, path: str, body: Mapping[str, Any] | None = None) -> Answer:
        """POST a JSON object. Raises `Refused` and the outcomes of `Web`."""
        return await self._ask("POST", path, body=body)

    async def put(self, path: str, body: Mapping[str, Any]) -> Answer:
        """PUT a JSON object. Raises `Refused` and the outcomes of `Web`."""
        return await self._ask("PUT", path, body=body)

    async def delete(self, path: str) -> Answer:
        """DELETE. Raises `Refused` and the outcomes of `Web`."""
        return await self._ask("DELETE", path)

    async def token_ends(self) -> datetime | None:
        """When the present token ends; None where there is none."""
        return (await self._valid_token()).ends if self._settings.sign_in == "oauth2" else None

    async def _ask(self, method: str, path: str, **more: Any) -> Answer:
        """What only looks, or writes the same words once more, is asked again at once: a verb is made of several calls,
        and the engine's own patience begins with the first of them again. Nothing that orders is."""
        for _ in range(_TRIES.get(method, 1) - 1):
            try:
                return await self._ask_once(method, path, **more)
            except Retryable as error:
                if error.after is not None:
                    raise
        return await self._ask_once(method, path, **more)

    async def _ask_once(self, method: str, path: str, **more: Any) -> Answer:
        headers, secrets = await self._signed()
        answer = await self._opened().ask(method, path, headers=headers, passing=_JUDGED, **more)
        if answer.status == 401 and self._settings.sign_in == "oauth2":
            # It may have been ended before its time; a new one that is refused as well is no matter of time.
            await self._forget(headers["authorization"])
            headers, secrets = await self._signed()
            answer = await self._opened().ask(method, path, headers=headers, passing=_JUDGED, **more)
        if answer.status < 300:
            return answer
        if answer.status in _JUDGED:
            # The files of a client certificate are read anew by the next request: somebody may have mended them.
            self._left += [self._web] if self._web is not None else []
            self._web = None
        elif not answer.empty:
            answer.object()  # an HTML page is no refusal of Sectigo's, but of something that stands before it
        raise _refused(answer, secrets)

    def _opened(self) -> Web:
        if self._web is None:
            s = self._settings
            pair = (s.certificate_file, s.key_file) if s.certificate_file and s.key_file else None
            if s.key_file is not None and s.sign_in == "certificate":
                # The same rules as for every other credential in a file: there, and nobody else's to read.
                self._secret(f"file:{s.key_file}")
            self._web = Web(
                TITLE,
                s.base_url,
                ca_file=s.ca_file,
                certificate=pair if s.sign_in == "certificate" else None,
                passphrase=self._secret(s.key_passphrase) if s.key_passphrase else None,
                headers={"accept": "application/json"},
                plain=s.base_url.startswith("http://"),
            )
        return self._web

    async def _signed(self) -> tuple[dict[str, str], tuple[str, ...]]:
        """The headers that sign a request, and the secrets in them."""
        s = self._settings
        if s.sign_in == "oauth2":
            token = await self._valid_token()
            return {"authorization": f"Bearer {token.value}"}, (token.value,)
        headers = {"login": s.login or "", "customerUri": s.customer_uri or ""}
        if s.sign_in == "certificate":
            return headers, ()
        password = self._text(s.password)
        return {**headers, "password": password}, (password,)

    def _text(self, reference: str | None) -> str:
        assert reference is not None  # the settings see to it
        try:
            text = self._secret(reference).decode("utf-8")
        except UnicodeDecodeError:
            raise Permanent(f"The credential {reference} is not text in UTF-8.") from None
        if not text.isprintable():
            raise Permanent(f"The credential {reference} has more than one line or characters that can't be sent.")
        return text

    # --- tokens (RFC 6749 section 4.4) --------------------------------------------------------------------------------

    async def _valid_token(self) -> Token:
        async with self._locked():
            if self._token is None or self._clock() >= self._token.ends - _MARGIN:
                self._token = await self._new_token()
            return self._token

    async def _forget(self, used: str) -> None:
        async with self._locked():
            # Somebody else may have fetched a new one already.
            if self._token is not None and used == f"Bearer {self._token.value}":
                self._token = None

    def _locked(self) -> asyncio.Lock:
        """One fetches a token while the others wait for it. A lock belongs to the loop that uses it."""
        loop = asyncio.get_running_loop()
        if self._lock is None or self._lock[0] is not loop:
            self._lock = loop, asyncio.Lock()
        return self._lock[1]

    async def _new_token(self) -> Token:
        s = self._settings
        if self._token_web is None:
            self._token_web = Web(
                f"{TITLE}'s token service",
                s.token_url,
                ca_file=s.ca_file,
                headers={"accept": "application/json"},
                plain=s.token_url.startswith("http://"),
            )
        secret = self._text(s.client_secret)
        form = {"grant_type": "client_credentials", "client_id": s.client_id or "", "client_secret": secret}
        answer = await self._token_web.post(form=form, passing=_JUDGED)
        if answer.status >= 300:
            # RFC 6749 section 5.2: {"error": "invalid_client", "error_description": "…"}
            error = printable(_json_object(answer).get("error", ""), (secret,), 60)
            raise Permanent(
                f"{answer.where} gives no token (status {answer.status}{f', {error}' if error else ''}): correct "
                "client_id, client_secret and token_url in the CA's settings."
            )
        told = answer.object()
        value, seconds = told.get("access_token"), told.get("expires_in", _SHORTEST_TOKEN.total_seconds())
        if not isinstance(value, str) or not value.isprintable() or not value:
            raise AuthorityFault(f"{answer.where} answered without an access_token.")
        if not isinstance(seconds, int | float) or isinstance(seconds, bool) or not 0 < seconds < 10**8:
            raise AuthorityFault(f"{answer.where} answered with a token whose expires_in makes no sense.")
        return Token(value, self._clock() + timedelta(seconds=seconds))


def _refused(answer: Answer, secrets: Iterable[str]) -> Refused:
    told = _json_object(answer)
    code = told.get("code")
    description = told.get("description") or told.get("error") or ""
    return Refused(
        answer.status,
        code if isinstance(code, int) and not isinstance(code, bool) else None,
        printable(description, secrets) if isinstance(description, str) else "",
        answer.where,
    )


def _json_object(answer: Answer) -> dict[str, Any]:
    """What a refusal says; nothing where it is empty or no JSON: its status says enough."""
    try:
        return answer.object()
    except AuthorityFault:
        return {}


def segment(value: str | int) -> str:
    """One part of a path."""
    return quote(str(value), safe="")
