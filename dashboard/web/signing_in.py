"""Signing in by login and password, and leaving."""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Sequence
from datetime import timedelta
from urllib.parse import parse_qs, urlencode

import structlog
from anyio import to_thread
from starlette.requests import Request
from starlette.responses import FileResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from dashboard.bridge import bridge
from dashboard.web import addresses, gate
from dashboard.web.cookies import Cookies, cookies_of
from dashboard.web.page import ASSETS, SignInPage
from model.errors import CertgateError
from operations import identity, sessions
from operations.context import now
from operations.doorkeeper import Attempt, Doorkeeper, TooManyAttempts
from operations.sessions import Beginning, Ended, Lifetimes, SessionOver
from worker.settings import DashboardSettings

log = structlog.get_logger(__name__)

_LONGEST_FORM = 16_384  # bytes
_BRAND = {
    "logo.svg": ASSETS.parents[1] / "logo.svg",
    "mark.svg": ASSETS.parents[1] / "mark.svg",
    "sign_in.css": ASSETS / "sign_in.css",
}
_STRANGE = "This form was not shown by this dashboard, or cookies are turned off in this browser: please try again."


class SignIn:
    """The routes. One for the process: it counts failures."""

    def __init__(self, dashboard: DashboardSettings) -> None:
        self._dashboard = dashboard
        self._cookies: Cookies = cookies_of(dashboard)
        self._doorkeeper = Doorkeeper()

    def routes(self) -> Sequence[BaseRoute]:
        """What this answers."""
        return [
            Route(addresses.SIGN_IN, self.show, methods=["GET"]),
            Route(addresses.SIGN_IN, self.sign_in, methods=["POST"]),
            # Where `st.logout` leads. `st.login` is not used: docs/decisions tells why.
            Route("/auth/logout", self.leave, methods=["GET"]),
            Route("/auth/login", self.to_sign_in, methods=["GET"]),
            Route("/brand/{name}", self.brand, methods=["GET"]),
        ]

    async def show(self, request: Request) -> Response:
        """The page; whoever is signed in goes on. Tells why a session has ended."""
        asked = request.query_params.get("next")
        came_from = addresses.referrer(request.headers, self._dashboard.public_url)
        place = addresses.safe(asked if asked is not None else came_from)
        told = ""
        if self._cookies.session in request.cookies:
            try:
                await to_thread.run_sync(gate.recognize, request, self._dashboard)
                return RedirectResponse(place, 303)
            except SessionOver as over:
                told = over.message
            except CertgateError as error:
                return self._page(request, place, refused=error.message, status=503)
        return self._page(request, place, told=told)

    async def sign_in(self, request: Request) -> Response:
        """Check login and password; begin a session and go on."""
        body = b""
        async for part in request.stream():
            body += part
            if len(body) > _LONGEST_FORM:
                return self._page(request, addresses.HOME, refused="That was too long.", status=413)
        sent = {name: values[0] for name, values in parse_qs(body.decode("utf-8", "replace")).items()}
        login, place = sent.get("login", "").strip()[:64], addresses.safe(sent.get("next"))
        shown = request.cookies.get(self._cookies.form, "")
        if not shown or not hmac.compare_digest(shown.encode(), sent.get("form", "").encode()):
            return self._page(request, place, login=login, refused=_STRANGE, status=403)
        attempt = Attempt(
            login=login,
            password=sent.get("password", "")[:1024],
            address=request.client.host if request.client else "",
            browser=request.cookies.get(self._cookies.browser),
        )
        try:
            response = await to_thread.run_sync(self._begin, attempt, request.headers.get("user-agent", ""), place)
        except TooManyAttempts as many:
            page = self._page(request, place, login=login, refused=many.message, status=429)
            page.headers["retry-after"] = str(many.seconds)
            return page
        except CertgateError as error:
            status = 403 if isinstance(error, identity.SignInRefused) else 503
            return self._page(request, place, login=login, refused=error.message, status=status)
        return response

    def _begin(self, attempt: Attempt, agent: str, place: str) -> Response:
        database, moment = bridge().door.database, now()
        actor = self._doorkeeper.sign_in(database, attempt, moment)
        browser = identity.remember_browser(database, actor.id, attempt.browser, moment)
        beginning = Beginning(actor.id, "password", attempt.address, agent)
        response = self.begun(beginning, place)
        self._cookies.put(response, self._cookies.browser, browser, int(identity.REMEMBERED_FOR.total_seconds()))
        return response

    def begun(self, beginning: Beginning, place: str) -> Response:
        """Begin a session of somebody who was recognized, with a token that nobody knew before, and go on."""
        whole = timedelta(hours=self._dashboard.session_hours)
        lifetimes = Lifetimes(timedelta(minutes=self._dashboard.idle_minutes), whole)
        token = sessions.begin(bridge().door.database, beginning, lifetimes, now())
        response = RedirectResponse(place, 303, {"cache-control": "no-store"})
        self._cookies.put(response, self._cookies.session, token, int(whole.total_seconds()))
        self._cookies.drop(response, self._cookies.form)
        return response

    async def leave(self, request: Request) -> Response:
        """Where pages go whose session has ended. It ends none: a link on another site may lead here."""
        try:
            await to_thread.run_sync(gate.recognize, request, self._dashboard)
            return RedirectResponse(addresses.HOME, 303)
        except SessionOver as over:
            came_from = addresses.referrer(request.headers, self._dashboard.public_url)
            place = addresses.HOME if over.why == Ended.SIGNED_OUT else came_from
            return RedirectResponse(f"{addresses.SIGN_IN}?{urlencode({'next': place})}", 303)
        except CertgateError:
            return RedirectResponse(addresses.SIGN_IN, 303)

    async def to_sign_in(self, _request: Request) -> Response:
        """Streamlit's own way in is closed."""
        return RedirectResponse(addresses.SIGN_IN, 303)

    async def brand(self, request: Request) -> Response:
        """What the sign-in page looks like."""
        path = _BRAND.get(request.path_params["name"])
        if path is None:
            return Response(status_code=404)
        return FileResponse(path, headers={"cache-control": "public, max-age=3600"})

    def _page(
        self, request: Request, place: str, *, login: str = "", refused: str = "", told: str = "", status: int = 200
    ) -> Response:
        form = request.cookies.get(self._cookies.form) or secrets.token_urlsafe(24)
        response = SignInPage(form=form, next=place, login=login, refused=refused, told=told).response(status)
        self._cookies.put(response, self._cookies.form, form)
        if told:
            self._cookies.drop(response, self._cookies.session)
        return response
