"""A signed-in conversation with iControl REST: a token, renewed when the device forgets it, given back when idle.

The device has a limited number of tokens for a user ("maximum active login tokens"), so all sessions of this process
that sign in alike use the same one, and it is ended a few seconds after the last of them is left. A refused login is
not tried again until the password is another one: devices lock users. A device that is busy (503) has done nothing and
is asked again with growing pauses; where a connection is cut, only what may be done twice is.

Sources: F5's "iControl REST User Guide" (authentication, transactions) and the vendor's Ansible collection f5_modules.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from connectors.endpoints.f5.settings import Settings
from connectors.errors import AuthorityFault, ConnectorError, Permanent, Retryable
from connectors.web import Answer, Web

TITLE = "BIG-IP"
LOGIN = "/mgmt/shared/authn/login"
TOKENS = "/mgmt/shared/authz/tokens"
TOKEN_HEADER = "X-F5-Auth-Token"  # noqa: S105
TRANSACTION_HEADER = "X-F5-REST-Coordination-Id"
# A device with thousands of virtual servers lists them in one answer.
LARGEST_ANSWER = 64 * 1024 * 1024
TRIES = 3
FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 5.0
IDLE_SECONDS = 5.0
LONGEST_WORDS = 300
_JUDGED = (401, 403, 500, 502, 503)
# What the device says with a status of 401, too, where the user is known and may not do this.
_UNAUTHORIZED = "Authorization failed"
_CODE = re.compile(r"\b(0[0-9a-f]{7}):\d+: ")


class Refused(Permanent):
    """The device said no: `status` of HTTP, `code` the eight hexadecimal digits of its message, if it has them."""

    def __init__(self, message: str, status: int, words: str) -> None:
        super().__init__(message)
        self.status = status
        self.words = words
        found = _CODE.search(words)
        self.code = found[1] if found else ""

    @property
    def missing(self) -> bool:
        """There is no such object (any more)."""
        return self.status == 404

    @property
    def in_use(self) -> bool:
        """It can't be deleted because something uses it."""
        return self.code in ("01071349", "01070320", "01070265")

    @property
    def exists(self) -> bool:
        """It can't be made because it is there."""
        return self.code == "01020066"


@dataclass
class _Token:
    """A token that is in use by `users` sessions, or waits for its end."""

    value: str = field(repr=False)
    users: int = 0
    idle: tuple[asyncio.AbstractEventLoop, asyncio.TimerHandle] | None = None


# By where, who, and what is signed in with (its SHA-256).
_Key = tuple[str, str, str, str]
_TOKENS: dict[_Key, _Token] = {}
# A task that nobody holds may be collected before its end.
_ENDING: set[asyncio.Task[None]] = set()


class Session:
    """Opening it connects to nothing. Any number of tasks may use it; it is used as a context, and what connections
    there are end with the last one that leaves it.

    `secret` gives the password when one is needed.
    """

    def __init__(self, settings: Settings, secret: Callable[[str], bytes]) -> None:
        self._settings = settings
        self._secret = secret
        self._users = 0
        self._web: Web | None = None
        self._key: _Key | None = None
        self._token: _Token | None = None
        self._refused: str | None = None
        self._lock: tuple[asyncio.AbstractEventLoop, asyncio.Lock] | None = None

    async def __aenter__(self) -> Session:
        self._users += 1
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._users -= 1
        if self._users == 0:
            self._leave()
            web, self._web = self._web, None
            if web is not None:
                await web.close()

    async def sign_out(self) -> None:
        """Give the token back at once, unless somebody uses it."""
        token = _TOKENS.get(self._key) if self._key is not None else None
        if self._key is not None and token is not None and token.users == 0:
            await _end(self._settings, self._key, token)

    async def get(self, path: str, query: Mapping[str, str | int] | None = None) -> dict[str, Any]:
        """GET. Raises `Refused` and the outcomes of `Web`, as all of these do."""
        return _object(await self._repeated("GET", path, query=query))

    async def look(self, path: str) -> dict[str, Any] | None:
        """GET; None where the device says that there is no such object."""
        try:
            return await self.get(path)
        except Refused as refused:
            if refused.missing:
                return None
            raise

    async def items(self, path: str, query: Mapping[str, str | int] | None = None) -> list[dict[str, Any]]:
        """The objects of a collection; none where it is empty, for which the device leaves ``items`` away."""
        found = (await self.get(path, query)).get("items", [])
        return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []

    async def send(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, *, transaction: int | None = None
    ) -> dict[str, Any]:
        """A request that changes something, sent once (again only where the device was busy and did nothing)."""
        headers = {TRANSACTION_HEADER: str(transaction)} if transaction is not None else {}
        answer = await self._patient(method, path, body=body, headers=headers)
        return {} if answer.empty else _object(answer)

    async def again(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """A request that may be done twice: it is sent again where the connection is cut."""
        answer = await self._repeated(method, path, body=body)
        return {} if answer.empty else _object(answer)

    async def delete(self, path: str) -> bool:
        """Delete; one that is not there is success. False where something uses it."""
        try:
            await self.again("DELETE", path)
        except Refused as refused:
            if refused.in_use:
                return False
            if not refused.missing:
                raise
        return True

    async def put(self, path: str, part: bytes, content_range: str) -> None:
        """A part of a file, sent once."""
        headers = {"content-range": content_range, "content-type": "application/octet-stream"}
        await self._patient("POST", path, content=part, headers=headers)

    async def fetch(self, path: str) -> bytes:
        """A short file."""
        headers = {"content-range": "0-524287/0", "content-type": "application/octet-stream"}
        return (await self._repeated("GET", path, headers=headers)).content

    async def _repeated(self, method: str, path: str, **more: Any) -> Answer:
        loop = asyncio.get_running_loop()
        begun = loop.time()
        for _ in range(TRIES - 1):
            try:
                return await self._patient(method, path, **more)
            except Retryable:
                if loop.time() - begun >= self._settings.timeout_seconds / 2:
                    raise  # it was silent, and would be again
        return await self._patient(method, path, **more)

    async def _patient(self, method: str, path: str, **more: Any) -> Answer:
        """Ask until the device is not busy any more."""
        loop = asyncio.get_running_loop()
        until = loop.time() + self._settings.busy_timeout_seconds
        pause = FIRST_PAUSE_SECONDS
        while True:
            answer = await self._signed(method, path, **more)
            if answer.status != 503:
                return answer
            if loop.time() + pause > until:
                raise Retryable(
                    f"{answer.where} is busy (status 503{_quoted(_words(answer))}), and was all the "
                    f"{self._settings.busy_timeout_seconds:g} s that it was asked again."
                )
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE_SECONDS)

    async def _signed(self, method: str, path: str, **more: Any) -> Answer:
        headers = {"accept": "application/json", **(more.pop("headers", None) or {})}
        token = await self._valid_token()
        answer = await self._ask(method, path, headers={**headers, TOKEN_HEADER: token}, **more)
        if answer.status == 401 and not _words(answer).startswith(_UNAUTHORIZED):
            # It ended before its time, or another unit of the pair answers now. A new one that is refused as well is
            # no matter of time.
            await self._forget(token)
            token = await self._valid_token()
            answer = await self._ask(method, path, headers={**headers, TOKEN_HEADER: token}, **more)
        if answer.status < 300 or answer.status == 503:
            return answer
        words = _words(answer, (token,))
        if answer.status in (401, 403):
            raise Refused(
                f"{answer.where} does not let user {self._settings.username} {_deed(method)} {_place(path)} (status "
                f"{answer.status}{_quoted(words)}): give the user a role that may do this.",
                answer.status,
                words,
            )
        if answer.status in (500, 502):
            raise Retryable(f"{answer.where} is in trouble (status {answer.status}{_quoted(words)}).")
        raise Refused(
            f"{answer.where} refuses to {_deed(method)} {_place(path)} (status {answer.status}{_quoted(words)}).",
            answer.status,
            words,
        )

    async def _ask(self, method: str, path: str, **more: Any) -> Answer:
        try:
            if self._web is None:
                self._web = _opened(self._settings)
            return await self._web.ask(method, path, passing=_JUDGED, **more)
        except AuthorityFault as fault:
            raise Permanent(f"{fault.message} A BIG-IP does not answer so.") from None

    # --- the token ----------------------------------------------------------------------------------------------------

    async def _valid_token(self) -> str:
        async with self._locked():
            if self._token is not None and self._key is not None and _TOKENS.get(self._key) is self._token:
                return self._token.value
            self._token = None
            password = await asyncio.to_thread(self._secret, self._settings.password)
            s, known = self._settings, hashlib.sha256(password).hexdigest()
            self._key = (s.base_url, s.username, s.login_provider, known)
            if self._key not in _TOKENS:
                _TOKENS[self._key] = _Token(await self._sign_in(password, known))
            token = self._token = _TOKENS[self._key]
            token.users += 1
            _stay(token)
            return token.value

    async def _forget(self, used: str) -> None:
        async with self._locked():
            # Somebody else may have fetched a new one already.
            if self._key is not None and (found := _TOKENS.get(self._key)) is not None and found.value == used:
                del _TOKENS[self._key]

    def _leave(self) -> None:
        token, self._token = self._token, None
        if token is None:
            return
        token.users -= 1
        if token.users == 0 and self._key is not None and _TOKENS.get(self._key) is token:
            loop, settings, key = asyncio.get_running_loop(), self._settings, self._key
            token.idle = loop, loop.call_later(IDLE_SECONDS, _begin_to_end, settings, key, token)

    def _locked(self) -> asyncio.Lock:
        """One signs in while the others wait for it. A lock belongs to the loop that uses it."""
        loop = asyncio.get_running_loop()
        if self._lock is None or self._lock[0] is not loop:
            self._lock = loop, asyncio.Lock()
        return self._lock[1]

    async def _sign_in(self, password: bytes, known: str) -> str:
        s = self._settings
        try:
            text = password.decode()
        except UnicodeDecodeError:
            raise Permanent(f"The credential {s.password} is not text in UTF-8.") from None
        if self._refused == known:
            raise self._refusal()
        body = {"username": s.username, "password": text, "loginProviderName": s.login_provider}
        answer = await self._free(body)
        words = _words(answer, (text,))
        if answer.status in (401, 403):
            self._refused = known
            raise self._refusal()
        if answer.status == 503 or "maximum active login tokens" in words:
            raise Retryable(f"{answer.where} gives no token at the moment (status {answer.status}{_quoted(words)}).")
        if answer.status >= 300:
            raise Permanent(f"{answer.where} gives no token (status {answer.status}{_quoted(words)}).")
        told = _object(answer).get("token")
        token = told.get("token") if isinstance(told, dict) else None
        if not isinstance(token, str) or not re.fullmatch(r"[\w.-]{8,4096}", token):
            raise Permanent(f"{answer.where} answered the login without a token: is it a BIG-IP?")
        return token

    async def _free(self, body: Mapping[str, Any]) -> Answer:
        """Sign in, again while the device is busy: that is no wrong password."""
        loop = asyncio.get_running_loop()
        until, pause = loop.time() + self._settings.busy_timeout_seconds, FIRST_PAUSE_SECONDS
        while True:
            answer = await self._ask("POST", LOGIN, body=body)
            if answer.status != 503 or loop.time() + pause > until:
                return answer
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE_SECONDS)

    def _refusal(self) -> Permanent:
        s = self._settings
        return Permanent(
            f"{TITLE} ({s.base_url}) refuses the login of user {s.username} (login provider {s.login_provider}): "
            "correct username, password or login provider. It is not tried again with the same password, so that the "
            "device does not lock the user."
        )


def _stay(token: _Token) -> None:
    idle, token.idle = token.idle, None
    if idle is not None and not idle[0].is_closed():
        idle[1].cancel()


def _begin_to_end(settings: Settings, key: _Key, token: _Token) -> None:
    if token.users == 0:
        _ENDING.add(task := asyncio.get_running_loop().create_task(_end(settings, key, token)))
        task.add_done_callback(_ENDING.discard)


async def _end(settings: Settings, key: _Key, token: _Token) -> None:
    """Sign out. Where that fails the token ends by itself, in twenty minutes as a rule."""
    _stay(token)
    if _TOKENS.get(key) is token:
        del _TOKENS[key]
    with suppress(ConnectorError):
        async with _opened(settings) as web:
            headers = {TOKEN_HEADER: token.value}
            await web.ask("DELETE", f"{TOKENS}/{token.value}", headers=headers, passing=_JUDGED)


def _opened(settings: Settings) -> Web:
    return Web(
        TITLE,
        settings.base_url,
        ca_file=settings.ca_file,
        server_name=settings.certificate_name,
        patience=settings.timeout_seconds,
        largest=LARGEST_ANSWER,
    )


def _object(answer: Answer) -> dict[str, Any]:
    try:
        return answer.object()
    except AuthorityFault as fault:
        raise Permanent(f"{fault.message} A BIG-IP does not answer so.") from None


def _words(answer: Answer, secrets: tuple[str, ...] = ()) -> str:
    """What a refusal says, on one line; nothing where it would quote a secret. Only ``message`` is looked at: the body
    of a refused login repeats the password in ``originalRequestBody``."""
    try:
        told = answer.object().get("message")
    except AuthorityFault:
        return ""
    text = " ".join(told.split()) if isinstance(told, str) else ""
    if any(secret and secret in text for secret in secrets):
        return ""
    return "".join(one for one in text if one.isprintable())[:LONGEST_WORDS].rstrip(". ")


def _quoted(words: str) -> str:
    return f", {words}" if words else ""


def _deed(method: str) -> str:
    return {"GET": "read", "POST": "make", "PATCH": "change", "DELETE": "delete"}.get(method, method)


def _place(path: str) -> str:
    bare = path.partition("?")[0].removeprefix("/mgmt/").removeprefix("tm/")
    return "a token" if bare.startswith("shared/authz/tokens") else bare
