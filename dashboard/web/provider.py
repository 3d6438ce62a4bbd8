"""Signing in through an OpenID Connect provider: the authorization code flow with PKCE (RFC 7636) and a nonce.

The flow is Authlib's, the library under `st.login` too. Its tokens stay here: the browser gets the cookie of our own
session, so that a deactivated administrator is out at once whatever his provider says. docs/decisions tells more.
"""

from __future__ import annotations

import ssl
import time
import warnings
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import httpx
import structlog
from anyio import to_thread
from authlib.deprecate import AuthlibDeprecationWarning
from authlib.integrations.base_client import OAuthError
from joserfc.errors import JoseError
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from connectors.errors import ConnectorError
from connectors.secrets import resolve
from dashboard.bridge import bridge
from dashboard.web import addresses
from dashboard.web.doors import Door
from model.errors import CertgateError, NotPermitted, Unavailable
from operations import single_sign_on
from operations.context import now
from operations.identity import digest_of
from operations.sessions import Beginning
from operations.single_sign_on import Person, Rules
from worker.settings import OidcSettings

with warnings.catch_warnings():
    # It would rather have httpx's successor, and works with either; users can't do anything about that.
    warnings.simplefilter("ignore", AuthlibDeprecationWarning)
    from authlib.integrations.starlette_client import OAuth

log = structlog.get_logger(__name__)

START = f"{addresses.SIGN_IN}/oidc"
CALLBACK = "/oauth2callback"
_NAME = "certgate"
_PATIENCE = 10.0  # seconds
_LASTS = 600  # seconds from the button to the way back
_MOST = 5000
_PLACE = "certgate-next"


class _Flows:
    """What is remembered of people who are at the provider; Authlib's cache. The browser holds only a mark of it."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, tuple[float, str]] = OrderedDict()

    async def get(self, key: str) -> str | None:
        """What was kept, if it is not too old."""
        until, value = self._kept.get(key, (0.0, ""))
        return value if until > time.monotonic() else None

    async def set(self, key: str, value: str, _seconds: float) -> None:
        """Keep it for a while."""
        self._kept[key] = (time.monotonic() + _LASTS, value)
        while len(self._kept) > _MOST:
            self._kept.popitem(last=False)

    async def delete(self, key: str) -> None:
        """Forget it: a way back is gone once."""
        self._kept.pop(key, None)


class Provider:
    """The routes for the way to the provider and back."""

    def __init__(
        self, settings: OidcSettings, public_url: str, door: Door, secret: Callable[[str], bytes] = resolve
    ) -> None:
        self._settings = settings
        self._secret = secret
        self._public_url = public_url
        self._door = door
        self._flows = _Flows()
        self._client: Any = None
        # For the provider's own sign-out; by the digest of our token.
        self._id_tokens: OrderedDict[str, str] = OrderedDict()

    @property
    def button(self) -> str:
        """What the button calls the provider."""
        return self._settings.label

    def routes(self) -> Sequence[BaseRoute]:
        """What this answers."""
        return [Route(START, self.start, methods=["GET"]), Route(CALLBACK, self.back, methods=["GET"])]

    async def start(self, request: Request) -> Response:
        """Send the browser to the provider."""
        place = addresses.safe(request.query_params.get("next"))
        extra = {"prompt": self._settings.prompt} if self._settings.prompt else {}
        try:
            client = await self._connected()
            response: Response = await client.authorize_redirect(request, self._public_url + CALLBACK, **extra)
        except (CertgateError, httpx.HTTPError, OAuthError, JoseError, RuntimeError, ValueError) as error:
            return self._door.refused_there(request, place, self._sentence(error))
        request.session[_PLACE] = place
        response.headers["cache-control"] = "no-store"
        return response

    async def back(self, request: Request) -> Response:
        """The browser comes back: exchange the code, check the ID token, begin a session."""
        place = addresses.safe(request.session.pop(_PLACE, None))
        try:
            client = await self._connected()
            token = await client.authorize_access_token(request)
            person = await self._person(client, token)
        except (CertgateError, httpx.HTTPError, OAuthError, JoseError, RuntimeError, ValueError) as error:
            return self._door.refused_there(request, place, self._sentence(error))
        address = request.client.host if request.client else ""
        agent = request.headers.get("user-agent", "")
        begin = partial(self._begin, person, address, agent, place, str(token.get("id_token", "")))
        try:
            return await to_thread.run_sync(begin)
        except CertgateError as error:
            return self._door.refused_there(request, place, error.message)

    async def sign_out_url(self, ended: str | None) -> str | None:
        """Where the provider signs people out (OpenID Connect RP-Initiated Logout 1.0), for the token of a session of
        ours that was begun through it; None if it has no such place."""
        id_token = self._id_tokens.pop(digest_of(ended), None) if ended else None
        if id_token is None:
            return None
        try:
            client = await self._connected()
            back = self._public_url + addresses.SIGN_IN
            out = await client.create_logout_url(
                post_logout_redirect_uri=back, id_token_hint=id_token, client_id=self._settings.client_id
            )
        except (CertgateError, httpx.HTTPError, RuntimeError, ValueError) as error:
            log.warning("the provider's sign-out can't be found", error=type(error).__name__)
            return None
        return str(out["url"])

    async def _connected(self) -> Any:
        """The client, with the provider's metadata. Raises `Unavailable` for a provider that says it is another one, or
        a secret that can't be read."""
        if self._client is None:
            try:
                options = await to_thread.run_sync(self._options)
            except (ConnectorError, OSError) as error:
                raise Unavailable(f"Signing in with {self.button} is not set up well: {error}") from None
            client = OAuth(cache=self._flows).register(_NAME, **options)
            metadata = await client.load_server_metadata()
            # OpenID Connect Discovery 1.0 section 4.3.
            if metadata.get("issuer") != self._settings.issuer:
                raise Unavailable(f"{self._settings.metadata_url} is the metadata of another issuer.")
            self._client = client
        return self._client

    def _options(self) -> dict[str, Any]:
        settings = self._settings
        secret = self._secret(settings.client_secret).decode() if settings.client_secret else None
        kwargs: dict[str, Any] = {
            "scope": " ".join(settings.scopes),
            "code_challenge_method": "S256",
            "timeout": _PATIENCE,
        }
        if settings.ca_file is not None:
            kwargs["verify"] = ssl.create_default_context(cafile=settings.ca_file)
        if secret is None:
            kwargs["token_endpoint_auth_method"] = "none"  # noqa: S105  (a word, not a token)
        return {
            "client_id": settings.client_id,
            "client_secret": secret,
            "server_metadata_url": settings.metadata_url,
            "client_kwargs": kwargs,
        }

    async def _person(self, client: Any, token: dict[str, Any]) -> Person:
        claims = dict(token.get("userinfo") or {})
        issuer, subject = claims.get("iss"), claims.get("sub")
        if issuer != self._settings.issuer or not isinstance(subject, str) or not subject:
            raise NotPermitted("The provider did not say who you are.")
        if "email" not in claims and "email" in self._settings.scopes and "userinfo_endpoint" in client.server_metadata:
            # Many providers tell it there only. OpenID Connect Core 1.0 section 5.3.2: it must be of the same person.
            more = await client.userinfo(token=token)
            if more.get("sub") != subject:
                raise NotPermitted("The provider told of somebody else than who signed in.")
            claims.update(more)
        email = claims.get("email")
        return Person(issuer, subject, email if isinstance(email, str) else "", claims.get("email_verified") is True)

    def _begin(self, person: Person, address: str, agent: str, place: str, id_token: str) -> Response:
        rules = Rules(self._settings.link == "email", self._settings.email_domains)
        database, moment = bridge().door.database, now()
        with self._door.keeper.admitting(database, address, moment) as admitted:
            actor = single_sign_on.sign_in(database, person, rules, moment, address=address, tell=admitted.tell)
        begun = self._door.begin(Beginning(actor.id, "oidc", address, agent), place)
        self._id_tokens[digest_of(begun.token)] = id_token
        while len(self._id_tokens) > _MOST:
            self._id_tokens.popitem(last=False)
        return begun.response

    def _sentence(self, error: Exception) -> str:
        """What a person is told; the log has the kind of the error, never a code or a token."""
        if isinstance(error, CertgateError):
            return error.message
        kind = error.error if isinstance(error, OAuthError) else ""
        log.warning("signing in through the provider failed", error=type(error).__name__, code=kind)
        if kind == "access_denied":
            return f"{self.button} did not let you in."
        if isinstance(error, httpx.HTTPError):
            return f"{self.button} does not answer: try again in a moment."
        return f"Signing in with {self.button} did not work: please try again."
