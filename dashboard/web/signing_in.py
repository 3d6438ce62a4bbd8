"""Signing in by login and password, and leaving."""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from urllib.parse import parse_qs, urlencode

from anyio import to_thread
from starlette.requests import Request
from starlette.responses import FileResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from dashboard.bridge import bridge
from dashboard.web import addresses, gate
from dashboard.web.doors import Door
from dashboard.web.page import ASSETS
from dashboard.web.provider import Provider
from model.errors import CertgateError
from operations import identity
from operations.context import now
from operations.doorkeeper import Attempt, TooManyAttempts
from operations.sessions import Beginning, Ended, SessionOver
from worker.settings import DashboardSettings

_LONGEST_FORM = 16_384  # bytes
_BRAND = {
    "logo.svg": ASSETS.parents[1] / "logo.svg",
    "mark.svg": ASSETS.parents[1] / "mark.svg",
    "sign_in.css": ASSETS / "sign_in.css",
}
_STRANGE = "This form was not shown by this dashboard, or cookies are turned off in this browser: please try again."


class SignIn:
    """The routes."""

    def __init__(self, dashboard: DashboardSettings, door: Door, provider: Provider | None) -> None:
        self._dashboard = dashboard
        self._door = door
        self._provider = provider

    def routes(self) -> Sequence[BaseRoute]:
        """What this answers."""
        return [
            Route(addresses.SIGN_IN, self.show, methods=["GET"]),
            Route(addresses.SIGN_IN, self.sign_in, methods=["POST"]),
            # Where `st.logout` leads.
            Route("/auth/logout", self.leave, methods=["GET"]),
            # Streamlit's own ways in are closed; one of them is the provider's, where there is one.
            Route("/auth/login", self.to_sign_in, methods=["GET"]),
            *(self._provider.routes() if self._provider else [Route("/oauth2callback", self.to_sign_in)]),
            Route("/brand/{name}", self.brand, methods=["GET"]),
        ]

    async def show(self, request: Request) -> Response:
        """The page; whoever is signed in goes on. Tells why a session has ended."""
        asked = request.query_params.get("next")
        came_from = addresses.referrer(request.headers, self._dashboard.public_url)
        place = addresses.safe(asked if asked is not None else came_from)
        if self._door.cookies.session not in request.cookies:
            return self._door.show(request, place)
        try:
            await to_thread.run_sync(gate.recognize, request, self._dashboard)
        except SessionOver as over:
            return self._door.show(request, place, told=over.message)
        except CertgateError as error:
            return self._door.refuse(request, place, error.message, 503)
        return RedirectResponse(place, 303)

    async def sign_in(self, request: Request) -> Response:
        """Check login and password; begin a session and go on."""
        body = b""
        async for part in request.stream():
            body += part
            if len(body) > _LONGEST_FORM:
                return self._door.refuse(request, addresses.HOME, "That was too long.", 413)
        sent = {name: values[0] for name, values in parse_qs(body.decode("utf-8", "replace")).items()}
        login, place = sent.get("login", "").strip()[:64], addresses.safe(sent.get("next"))
        shown = request.cookies.get(self._door.cookies.form, "")
        if not shown or not hmac.compare_digest(shown.encode(), sent.get("form", "").encode()):
            return self._door.refuse(request, place, _STRANGE, 403, login)
        attempt = Attempt(
            login=login,
            password=sent.get("password", "")[:1024],
            address=request.client.host if request.client else "",
            browser=request.cookies.get(self._door.cookies.browser),
        )
        try:
            return await to_thread.run_sync(self._begin, attempt, request.headers.get("user-agent", ""), place)
        except TooManyAttempts as many:
            refusal = self._door.refuse(request, place, many.message, 429, login)
            refusal.headers["retry-after"] = str(many.seconds)
            return refusal
        except CertgateError as error:
            status = 403 if isinstance(error, identity.SignInRefused) else 503
            return self._door.refuse(request, place, error.message, status, login)

    def _begin(self, attempt: Attempt, agent: str, place: str) -> Response:
        database, moment, cookies = bridge().door.database, now(), self._door.cookies
        actor = self._door.keeper.sign_in(database, attempt, moment)
        browser = identity.remember_browser(database, actor.id, attempt.browser, moment)
        response = self._door.begin(Beginning(actor.id, "password", attempt.address, agent), place).response
        cookies.put(response, cookies.browser, browser, int(identity.REMEMBERED_FOR.total_seconds()))
        return response

    async def leave(self, request: Request) -> Response:
        """Where pages go whose session has ended. It ends none: a link on another site may lead here."""
        try:
            await to_thread.run_sync(gate.recognize, request, self._dashboard)
        except SessionOver as over:
            if over.why != Ended.SIGNED_OUT:
                place = addresses.referrer(request.headers, self._dashboard.public_url)
                return RedirectResponse(addresses.sign_in(place), 303)
            out = None
            if self._provider is not None:
                out = await self._provider.sign_out_url(request.cookies.get(self._door.cookies.session))
            # After a sign-out the next one begins on the first page, whoever it is.
            return RedirectResponse(out or f"{addresses.SIGN_IN}?{urlencode({'next': addresses.HOME})}", 303)
        except CertgateError:
            return RedirectResponse(addresses.SIGN_IN, 303)
        return RedirectResponse(addresses.HOME, 303)

    async def to_sign_in(self, _request: Request) -> Response:
        """A way that is closed."""
        return RedirectResponse(addresses.SIGN_IN, 303)

    async def brand(self, request: Request) -> Response:
        """What the sign-in page looks like."""
        path = _BRAND.get(request.path_params["name"])
        if path is None:
            return Response(status_code=404)
        return FileResponse(path, headers={"cache-control": "public, max-age=3600"})
