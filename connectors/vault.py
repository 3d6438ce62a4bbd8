"""A Vault-compatible server (OpenBao, HashiCorp Vault): how it is reached, how we sign in, and requests to its API.

`VaultAccess` is what can be configured, `Vault` the server as a signed-in client, `VaultSecrets` its key-value secrets
for code that can't wait asynchronously (`connectors/secrets.py`).

A token is looked after where it is used: once two thirds of its life are over it is renewed, and where the server gives
it no more (its maximum life) or has ended it, we sign in anew, once a request. No message holds a token, a secret id or
what a secret holds.

HTTP API: https://openbao.org/api-docs/ (auth/token, auth/approle, auth/cert, auth/kubernetes, system/health, kv).
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote, urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from connectors.errors import AuthorityFault, ConnectorError, Permanent, Retryable
from connectors.registry import utc_now
from connectors.secrets import MAX_SECRET_BYTES, Reference
from connectors.web import LARGEST_ANSWER, PATIENCE, Answer, Web, retry_after

_LOOPBACK = ("localhost", "127.0.0.1", "::1")
# What Web would raise for, and what is judged here in the server's own terms.
_JUDGED = (307, 308, 400, 401, 403, 404, 405, 412, 503)
_MOST_CHARACTERS = 300


def _address(given: str) -> str:
    parts = urlsplit(given)
    try:
        good = parts.port is None or parts.port > 0
    except ValueError:
        good = False
    if not good or not parts.hostname or parts.query or parts.fragment or parts.username or parts.password:
        raise ValueError("must be the server's address, such as https://vault.example.com:8200")
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in _LOOPBACK):
        raise ValueError("must begin with https:// (http:// is for this machine alone)")
    return given.rstrip("/").removesuffix("/v1")


def _mount(given: str) -> str:
    path = given.strip("/")
    parts = path.split("/")
    if not path or any(part in ("", ".", "..") or not part.isprintable() for part in parts):
        raise ValueError("must be the path that the engine is mounted at, such as pki")
    return path


Address = Annotated[str, AfterValidator(_address)]
Mount = Annotated[str, Field(max_length=200), AfterValidator(_mount)]


class VaultAccess(BaseModel):
    """Where the server is, and one way of signing in: a token, an AppRole, a TLS client certificate, or a JWT such as
    that of a Kubernetes service account."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    address: Address = Field(description="The server, such as https://vault.example.com:8200.")
    namespace: str | None = Field(
        default=None, max_length=200, pattern=r"^[\w./-]+$", description="Its namespace, where it has several."
    )
    ca_file: Path | None = Field(
        default=None, description="Root certificates (PEM) that its TLS certificate is trusted by, besides the usual."
    )
    token: Reference | None = Field(default=None, description="Signs in by a token that somebody made for us.")
    role_id: str | None = Field(
        default=None, min_length=1, max_length=200, description="Signs in by AppRole: the role's id; needs secret_id."
    )
    secret_id: Reference | None = Field(default=None, description="The secret id of the AppRole.")
    client_certificate: Path | None = Field(
        default=None, description="Signs in by a TLS client certificate (PEM file); needs client_key."
    )
    client_key: Path | None = Field(default=None, description="Its key, a PEM file of mode 0600.")
    jwt: Reference | None = Field(
        default=None,
        description="Signs in by a JWT, such as a Kubernetes service account's "
        "(file:/run/secrets/kubernetes.io/serviceaccount/token); needs sign_in_role.",
    )
    sign_in_role: str | None = Field(
        default=None, min_length=1, max_length=200, description="The role to sign in as, by JWT or certificate."
    )
    sign_in_mount: Mount | None = Field(
        default=None, description="Where the way of signing in is mounted; default: approle, cert or kubernetes."
    )

    @model_validator(mode="after")
    def _one_way(self) -> VaultAccess:
        ways = [
            name
            for name, given in (
                ("token", self.token),
                ("role_id", self.role_id),
                ("client_certificate", self.client_certificate),
                ("jwt", self.jwt),
            )
            if given is not None
        ]
        if len(ways) != 1:
            raise ValueError(
                "needs one way of signing in: token, role_id with secret_id, client_certificate with client_key, or jwt"
            )
        if (self.role_id is None) != (self.secret_id is None):
            raise ValueError("role_id and secret_id belong together")
        if (self.client_certificate is None) != (self.client_key is None):
            raise ValueError("client_certificate and client_key belong together")
        if self.jwt is not None and self.sign_in_role is None:
            raise ValueError("jwt needs sign_in_role")
        return self


@dataclass(frozen=True)
class Reply:
    """What the server said. `data` is its ``data`` (empty where there is none), `errors` are its sentences, cut and
    printable; `status` is below 300, or 400, 404 or 405."""

    status: int
    data: Mapping[str, Any]
    errors: tuple[str, ...] = ()
    auth: Mapping[str, Any] = field(default_factory=dict)

    @property
    def good(self) -> bool:
        """It did what it was asked."""
        return self.status < 300

    @property
    def why(self) -> str:
        """What it says was wrong, as the tail of a sentence."""
        return "; ".join(self.errors).rstrip(".") or f"status {self.status}"


@dataclass(frozen=True)
class Token:
    """A token that we hold. `until` None: it never ends. `life` is what it was given for."""

    value: str = field(repr=False)
    until: datetime | None
    life: timedelta
    renewable: bool

    def tired(self, now: datetime) -> bool:
        """Two thirds of its life are over."""
        return self.until is not None and now >= self.until - self.life / 3


class Vault:
    """One server, as one who is signed in. `title` is what messages call it; opening it touches nothing.

    `secret` resolves references; it may block and is called in a thread. Requests of any number of tasks of one event
    loop may be under way at once.
    """

    def __init__(
        self,
        title: str,
        access: VaultAccess,
        secret: Callable[[str], bytes],
        clock: Callable[[], datetime] = utc_now,
        *,
        patience: float = PATIENCE,
        largest: int = LARGEST_ANSWER,
    ) -> None:
        certificate = None
        if access.client_certificate is not None and access.client_key is not None:
            certificate = (access.client_certificate, access.client_key)
        headers = {"x-vault-request": "true"}
        if access.namespace:
            headers["x-vault-namespace"] = access.namespace
        self._web = Web(
            title,
            access.address,
            ca_file=access.ca_file,
            certificate=certificate,
            headers=headers,
            patience=patience,
            largest=largest,
            plain=True,  # the settings allow it on loopback alone
        )
        self.where = self._web.where
        self._access, self._secret, self._clock = access, secret, clock
        self._token: Token | None = None
        self._signing_in = asyncio.Lock()

    async def close(self) -> None:
        """Close the connections; the token is kept."""
        await self._web.close()

    async def ask(
        self, method: str, path: str, *, body: Any = None, query: Mapping[str, str | int] | None = None
    ) -> Reply:
        """Ask for `path` (below ``/v1/``), signed in. Raises `Permanent` where the token may not do this, where nothing
        is mounted there or where we can't sign in; `Retryable` while the server is sealed, a standby, or away."""
        token = await self._signed_in(None)
        answer = await self._send(method, path, token.value, body, query)
        # A token that has ended and one that may not do this are refused alike.
        if answer.status in (401, 403) and not await self._lives(token):
            token = await self._signed_in(token)
            answer = await self._send(method, path, token.value, body, query)
        if answer.status in (401, 403):
            verb = "list" if method == "LIST" else "read" if method == "GET" else "write to"
            raise Permanent(
                f"{self.where} does not let us {verb} {path}: add it to the policies of the token that we sign in with."
            )
        return self._reply(answer, path)

    async def token(self) -> Mapping[str, Any]:
        """What the server says of our token (``auth/token/lookup-self``), without the token itself."""
        found = await self.ask("GET", "auth/token/lookup-self")
        return {name: value for name, value in found.data.items() if name not in ("id", "accessor")}

    async def health(self) -> Mapping[str, Any]:
        """What the server says of itself to everybody: ``initialized``, ``sealed``, ``standby``, ``version``."""
        statuses = (*_JUDGED, 429, 472, 473, 501)
        answer = await self._web.get("/v1/sys/health", passing=statuses)
        return answer.object()

    # Signing in

    async def _signed_in(self, dead: Token | None) -> Token:
        """A token that should live, and is not `dead`."""
        async with self._signing_in:
            token = self._token
            if token is not None and token is not dead:
                if not token.tired(self._clock()):
                    return token
                if (renewed := await self._renewed(token)) is not None:
                    self._token = renewed
                    return renewed
            self._token = None
            self._token = await self._sign_in()
            return self._token

    async def _renewed(self, token: Token) -> Token | None:
        """The token with a longer life, or as it is where that can't be had just now; None: sign in anew."""
        now = self._clock()
        if token.renewable:
            try:
                answer = await self._send("POST", "auth/token/renew-self", token.value, {}, None)
            except Retryable:
                answer = None
            if answer is None or answer.status < 300:
                longer = self._issued(self._reply(answer, "")) if answer else token
                # Near its maximum life a token gets ever less: then another one is due.
                if longer.until is None or longer.until - now > token.life / 3:
                    return Token(longer.value, longer.until, token.life, longer.renewable)
                token = longer
        # Somebody else makes tokens of this kind: it is used to its end, unless a newer one is there already.
        if self._access.token is not None and token.until is not None and token.until > now:
            given = await self._given(self._access.token, "a token")
            return token if given == token.value else None
        return None

    async def _sign_in(self) -> Token:
        access = self._access
        if access.token is not None:
            return await self._look_up(await self._given(access.token, "a token"), access.token)
        body: dict[str, str]
        if access.role_id is not None and access.secret_id is not None:
            mount, way = access.sign_in_mount or "approle", "AppRole"
            body = {"role_id": access.role_id, "secret_id": await self._given(access.secret_id, "a secret id")}
            mend = f"look at the role id and at {access.secret_id}: it may have ended or be used up"
        elif access.jwt is not None and access.sign_in_role is not None:
            mount, way = access.sign_in_mount or "kubernetes", "JWT"
            body = {"role": access.sign_in_role, "jwt": await self._given(access.jwt, "a JWT")}
            mend = f"look at the role {access.sign_in_role} and at {access.jwt}"
        else:
            mount, way = access.sign_in_mount or "cert", "client certificate"
            body = {"name": access.sign_in_role} if access.sign_in_role else {}
            mend = f"look at {access.client_certificate} and at what the server trusts"
        path = f"auth/{mount}/login"
        answer = await self._send("POST", path, None, body, None)
        if answer.status >= 300:
            raise Permanent(f"{self.where} refuses to let us sign in by {way} at {path}: {mend}.")
        reply = self._reply(answer, path)
        if not reply.auth.get("client_token"):
            raise Permanent(f"{self.where} wants more than {way} to sign in, such as a second factor.")
        return self._issued(reply)

    async def _given(self, reference: str, what: str) -> str:
        try:
            text = (await asyncio.to_thread(self._secret, reference)).decode("ascii").strip()
        except UnicodeDecodeError:
            text = ""
        if not text or not text.isprintable():
            raise Permanent(f"The credential {reference} does not hold {what}.")
        return text

    async def _look_up(self, value: str, reference: str) -> Token:
        answer = await self._send("GET", "auth/token/lookup-self", value, None, None)
        if answer.status >= 300:
            raise Permanent(f"{self.where} refuses the token that {reference} names: it has ended or was revoked.")
        data = self._reply(answer, "").data
        life = timedelta(seconds=_number(data.get("ttl")))
        until = self._clock() + life if data.get("expire_time") else None
        return Token(value, until, life, bool(data.get("renewable")))

    async def _lives(self, token: Token) -> bool:
        answer = await self._send("GET", "auth/token/lookup-self", token.value, None, None)
        return answer.status < 300

    def _issued(self, reply: Reply) -> Token:
        life = timedelta(seconds=_number(reply.auth.get("lease_duration")))
        value = reply.auth.get("client_token")
        if not isinstance(value, str) or not value.isascii():
            raise AuthorityFault(f"{self.where} answered a sign-in without a token.")
        return Token(value, self._clock() + life if life else None, life, bool(reply.auth.get("renewable")))

    # Requests

    async def _send(
        self, method: str, path: str, token: str | None, body: Any, query: Mapping[str, str | int] | None
    ) -> Answer:
        headers = {"x-vault-token": token} if token is not None else {}
        answer = await self._web.ask(
            method, f"/v1/{quote(path, safe='/:@')}", body=body, query=query, headers=headers, passing=_JUDGED
        )
        hint = retry_after(answer.headers)
        if answer.status == 503:
            if any("sealed" in error.lower() for error in _errors(answer)):
                raise Retryable(f"{self.where} is sealed: somebody has to unseal it.", hint)
            raise Retryable(f"{self.where} is in trouble (status 503).", hint)
        if answer.status in (307, 308):
            raise Retryable(f"{self.where} is a standby and names another node: set the address of the active one.")
        if answer.status == 412:
            raise Retryable(f"{self.where} has not caught up with its cluster yet.", hint)
        return answer

    def _reply(self, answer: Answer, path: str) -> Reply:
        errors = _errors(answer)
        if answer.status == 404 and any("no handler for route" in error for error in errors):
            raise Permanent(f"{self.where} has nothing mounted for {path}: correct the mount, or enable the engine.")
        if answer.status >= 300:
            return Reply(answer.status, {}, errors)
        found = {} if answer.empty else answer.object()
        data, auth = found.get("data"), found.get("auth")
        return Reply(answer.status, data if isinstance(data, dict) else {}, (), auth if isinstance(auth, dict) else {})


def _errors(answer: Answer) -> tuple[str, ...]:
    try:
        found = answer.object().get("errors")
    except AuthorityFault:
        return ()
    texts = [one for one in found if isinstance(one, str)] if isinstance(found, list) else []
    return tuple(printable(text) for text in texts[:5])


def printable(text: str) -> str:
    """What another side wrote, on one line, without control characters, cut."""
    line = " ".join("".join(one if one.isprintable() else " " for one in text).split())
    return line if len(line) <= _MOST_CHARACTERS else f"{line[: _MOST_CHARACTERS - 1]}…"


def _number(given: object) -> float:
    return float(given) if isinstance(given, int | float) and 0 <= given < 1e9 else 0.0


# --- key-value secrets ------------------------------------------------------------------------------------------------


class VaultSecrets:
    """Fields of key-value secrets (engine ``kv``, versions 1 and 2), for callers of any thread.

    Calling it blocks until the server has answered, at most `patience` seconds an exchange; what was read is remembered
    for `fresh` seconds, so that a busy process asks once. Raises `Permanent` and `Retryable`, which name the path and
    never what is there.
    """

    KEPT = 256

    def __init__(
        self,
        access: VaultAccess,
        secret: Callable[[str], bytes],
        *,
        patience: float = 10.0,
        fresh: float = 20.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._vault = Vault("Vault", access, secret, patience=patience)
        self._fresh, self._clock = fresh, clock
        self._kept: OrderedDict[tuple[str, str], tuple[float, bytes]] = OrderedDict()
        self._mounts: dict[str, bool] = {}
        self._reading = threading.Lock()

    def __call__(self, path: str, name: str) -> bytes:
        """The field `name` of the secret at `path` (with its mount, without ``data/``), as UTF-8."""
        with self._reading:
            kept = self._kept.get((path, name))
            if kept is not None and kept[0] > self._clock():
                return kept[1]
            value = _in_a_loop_of_its_own(lambda: self._read(path, name))
            self._kept[path, name] = (self._clock() + self._fresh, value)
            self._kept.move_to_end((path, name))
            if len(self._kept) > self.KEPT:
                self._kept.popitem(last=False)
            return value

    async def _read(self, path: str, name: str) -> bytes:
        called = f"vault:{path}#{name}"
        try:
            mount, versioned = await self._mount_of(path)
            rest = path.removeprefix(mount).strip("/")
            reply = await self._vault.ask("GET", f"{mount}/data/{rest}" if versioned else f"{mount}/{rest}")
            values = reply.data.get("data") if versioned else reply.data
            if not reply.good or not isinstance(values, dict):
                raise Permanent(f"{self._vault.where} has no secret there (any more).")
            if name not in values:
                raise Permanent(f"{self._vault.where} has a secret there without a field of that name.")
            value = values[name]
            if not isinstance(value, str):
                raise Permanent(f"{self._vault.where} has something other than a text in that field.")
            secret = value.encode()
            if len(secret) > MAX_SECRET_BYTES:
                raise Permanent(f"{self._vault.where} has more than {MAX_SECRET_BYTES} bytes in that field.")
            return secret
        except Retryable as error:
            raise Retryable(f"The credential {called} can't be had: {_tail(error)}", error.after) from None
        except ConnectorError as error:
            raise Permanent(f"The credential {called} can't be had: {_tail(error)}") from None
        finally:
            # Connections belong to the loop, which ends with this.
            await self._vault.close()

    async def _mount_of(self, path: str) -> tuple[str, bool]:
        """The mount that `path` is in, and whether it keeps versions (KV version 2)."""
        for mount, versioned in self._mounts.items():
            if path.startswith(f"{mount}/"):
                return mount, versioned
        # The way that the servers' own command-line clients find out; everybody with rights below the mount may ask.
        found = await self._vault.ask("GET", f"sys/internal/ui/mounts/{path}")
        mount, kind = str(found.data.get("path", "")).strip("/"), found.data.get("type")
        if not found.good or not mount or not path.startswith(f"{mount}/"):
            raise Permanent(f"{self._vault.where} has no engine mounted for that path.")
        if kind not in ("kv", "generic"):
            raise Permanent(f"{self._vault.where} has another engine than kv at {mount}: {printable(str(kind))}.")
        options = found.data.get("options")
        self._mounts[mount] = isinstance(options, dict) and options.get("version") == "2"
        return mount, self._mounts[mount]


def _tail(error: ConnectorError) -> str:
    return error.message[:1].lower() + error.message[1:] if error.message.startswith("The ") else error.message


def _in_a_loop_of_its_own(work: Callable[[], Any]) -> bytes:
    """Run a coroutine to its end in a thread of its own: the caller's may have a running loop."""
    outcome: list[bytes | BaseException] = []

    def run() -> None:
        try:
            outcome.append(asyncio.run(work()))
        except BaseException as error:
            outcome.append(error)

    thread = threading.Thread(target=run, name="vault", daemon=True)
    thread.start()
    thread.join()
    if isinstance(outcome[0], BaseException):
        raise outcome[0]
    return outcome[0]
