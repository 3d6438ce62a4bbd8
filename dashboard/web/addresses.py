"""Where a browser may be sent, and where it says that it comes from."""

from __future__ import annotations

from urllib.parse import urlencode, urlsplit

from starlette.datastructures import Headers

SIGN_IN = "/sign-in"
HOME = "/"
_NOWHERE = (SIGN_IN, "/auth/", "/oauth2callback", "/download/", "/brand/", "/_stcore/", "/media/")


def safe(place: str | None) -> str:
    """A place of this dashboard to go on to: a path with its query, and never anything that leads elsewhere. What is
    none becomes the first page."""
    if not place or len(place) > 2000 or not place.isprintable() or "\\" in place or not place.startswith("/"):
        return HOME
    parts = urlsplit(place)
    if place.startswith("//") or parts.scheme or parts.netloc or parts.path.startswith(_NOWHERE):
        return HOME
    return parts._replace(fragment="").geturl()


def sign_in(place: str) -> str:
    """The sign-in page that goes on to a place."""
    return SIGN_IN if place == HOME else f"{SIGN_IN}?{urlencode({'next': place})}"


def own_origin(headers: Headers, public_url: str) -> bool:
    """Whether a request was made by a page of this dashboard, as far as its browser says. Origins are compared with the
    port: another server on the same machine is another site, though cookies don't know the difference."""
    if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        return False
    origin = headers.get("origin")
    if origin is None:
        return True
    return (public_url != "" and origin == public_url) or urlsplit(origin).netloc == headers.get("host")


def referrer(headers: Headers, public_url: str) -> str:
    """The page of this dashboard that the browser was on; the first page if it was none."""
    parts = urlsplit(headers.get("referer", ""))
    known = (urlsplit(public_url).netloc if public_url else None, headers.get("host"))
    return safe(parts._replace(scheme="", netloc="").geturl()) if parts.netloc and parts.netloc in known else HOME
