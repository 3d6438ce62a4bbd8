"""What all ways of signing in have in common: the brake on guessing, the session that begins, the page that refuses."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import timedelta
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from dashboard.bridge import bridge
from dashboard.web import addresses
from dashboard.web.cookies import cookies_of
from dashboard.web.page import SignInPage
from operations import sessions
from operations.context import now
from operations.doorkeeper import Doorkeeper
from operations.sessions import Beginning, Lifetimes
from worker.settings import DashboardSettings

_REFUSED = "certgate-refused"


@dataclass(frozen=True)
class Begun:
    """A session that has begun: the answer that sets its cookie, and its token."""

    response: Response
    token: str


class Door:
    """One for the process. `other_way` is the label and the address of the button for another way in."""

    def __init__(self, dashboard: DashboardSettings, other_way: tuple[str, str] | None = None) -> None:
        self.cookies = cookies_of(dashboard)
        self.keeper = Doorkeeper()
        self._other_way = other_way
        self._lifetimes = Lifetimes(timedelta(minutes=dashboard.idle_minutes), timedelta(hours=dashboard.session_hours))

    def begin(self, beginning: Beginning, place: str) -> Begun:
        """Begin a session of somebody who was recognized, with a token that nobody knew before, and go on. Asks the
        records: call it in a thread."""
        token = sessions.begin(bridge().door.database, beginning, self._lifetimes, now())
        response = RedirectResponse(place, 303, {"cache-control": "no-store"})
        self.cookies.put(response, self.cookies.session, token, int(self._lifetimes.whole.total_seconds()))
        self.cookies.drop(response, self.cookies.form)
        return Begun(response, token)

    def show(self, request: Request, place: str, told: str = "") -> Response:
        """The sign-in page; `told` is why the session that the browser still has a cookie of has ended. What was
        `refused_there` is told once."""
        refused = request.session.pop(_REFUSED, "")
        response = self._page(SignInPage(self._form(request), place, refused=refused, told=told))
        if told:
            self.cookies.drop(response, self.cookies.session)
        return response

    def refuse(self, request: Request, place: str, why: str, status: int, login: str = "") -> Response:
        """The sign-in page with a sentence."""
        return self._page(SignInPage(self._form(request), place, login=login, refused=why), status)

    def refused_there(self, request: Request, place: str, why: str) -> Response:
        """Back from somewhere else without being let in: on to the sign-in page, whose address can be opened again."""
        request.session[_REFUSED] = why
        return RedirectResponse(addresses.sign_in(place), 303, {"cache-control": "no-store"})

    def _form(self, request: Request) -> str:
        return request.cookies.get(self.cookies.form) or secrets.token_urlsafe(24)

    def _page(self, page: SignInPage, status: int = 200) -> Response:
        if self._other_way is not None:
            label, address = self._other_way
            page = page.with_provider(label, f"{address}?{urlencode({'next': page.next})}")
        response = page.response(status)
        self.cookies.put(response, self.cookies.form, page.form)
        return response
