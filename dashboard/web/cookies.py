"""The dashboard's cookies. None of them can be read by a page, and none is sent along from another site's page."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.responses import Response

from worker.settings import DashboardSettings


@dataclass(frozen=True)
class Cookies:
    """Their names and how they are set. Browsers keep cookies by host and not by port: the port is in the names, so
    that two dashboards of one machine don't end each other's sessions."""

    prefix: str
    secure: bool

    @property
    def session(self) -> str:
        """Who is signed in: a token of `operations/sessions.py`."""
        return f"{self.prefix}-session"

    @property
    def browser(self) -> str:
        """That somebody signed in here before: a token of `operations/identity.py`."""
        return f"{self.prefix}-browser"

    @property
    def form(self) -> str:
        """That the sign-in form was shown to this browser: what a page of another site can't know."""
        return f"{self.prefix}-form"

    def put(self, response: Response, name: str, value: str, seconds: int | None = None) -> None:
        """Set a cookie; without `seconds` it lasts until the browser is closed."""
        response.set_cookie(
            name, value, max_age=seconds, path="/", secure=self.secure, httponly=True, samesite="lax"
        )  # RFC 6265bis section 4.1.2

    def drop(self, response: Response, name: str) -> None:
        """Forget a cookie."""
        response.delete_cookie(name, path="/", secure=self.secure, httponly=True, samesite="lax")


def cookies_of(dashboard: DashboardSettings) -> Cookies:
    """The cookies of a dashboard. Over HTTPS their names begin with ``__Host-``: no other host can have set them
    (RFC 6265bis section 4.1.3.2)."""
    if dashboard.secure:
        return Cookies("__Host-certgate", True)
    return Cookies(f"certgate-{dashboard.port}", False)
