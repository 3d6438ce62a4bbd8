"""The web server around Streamlit as programs see it, honest ones and others: cookies, forms, headers, sockets."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from http.cookies import SimpleCookie
from urllib.parse import quote

import httpx
import pytest
from sqlmodel import select
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.sessions import SessionMiddleware
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from websockets.exceptions import InvalidStatus
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Origin, Subprotocol

from dashboard.web import addresses
from dashboard.web.doors import Door
from dashboard.web.provider import START, Provider
from dashboard.web.signing_in import SignIn
from model.tables import DashboardSession
from operations import sessions
from operations.identity import digest_of
from tests.dashboard import scene as scenes
from tests.dashboard.browsing import serving
from tests.dashboard.scene import PASSWORD, Scene
from worker.processes import free_port
from worker.settings import DashboardSettings, OidcSettings

PUBLIC = "https://certgate.example.com"
HTML = {"accept": "text/html,*/*"}


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    made = scenes.make(tmp_path_factory.mktemp("sign-in") / "home")
    yield made
    made.database.close()


@pytest.fixture(scope="module")
def address(filled: Scene) -> Iterator[str]:
    with serving(filled.home, {"CERTGATE_DASHBOARD_PUBLIC_URL": PUBLIC}) as url:
        yield url


@pytest.fixture
def browser(address: str) -> Iterator[httpx.Client]:
    """What comes through a proxy with TLS that keeps the name, as a browser would send it."""
    with httpx.Client(base_url=address, trust_env=False, headers={"host": "certgate.example.com"}) as client:
        yield client


def cookies(response: httpx.Response) -> dict[str, str]:
    """Names and attributes of the cookies that are set."""
    found = {}
    for header in response.headers.get_list("set-cookie"):
        name, _, rest = header.partition("=")
        found[name] = rest
    return found


def value(response: httpx.Response, name: str) -> str:
    parsed: SimpleCookie = SimpleCookie()
    for header in response.headers.get_list("set-cookie"):
        parsed.load(header)
    return parsed[name].value


def sign_in(browser: httpx.Client, login: str = "bob", password: str = PASSWORD, **more: str) -> httpx.Response:
    """Open the form and send it."""
    page = browser.get("/sign-in")
    form = re.search(r'name="form" value="([^"]+)"', page.text)
    assert form
    sent = {"login": login, "password": password, "form": form[1], **more}
    jar = f"__Host-certgate-form={value(page, '__Host-certgate-form')}"
    return browser.post("/sign-in", data=sent, headers={"cookie": jar, "origin": PUBLIC})


def test_without_a_session_there_is_the_sign_in_page_and_nothing_else(browser: httpx.Client) -> None:
    led = browser.get("/request?id=4&x=%2F", headers=HTML)
    assert (led.status_code, led.headers["location"]) == (303, "/sign-in?next=%2Frequest%3Fid%3D4%26x%3D%252F")
    for path in ("/", "/_stcore/host-config", "/media/x.pem", "/download/audit", "/_stcore/agent/openapi.json", "/x"):
        assert browser.get(path).status_code == 401, path
    assert browser.put("/_stcore/upload_file/a/b", content=b"x").status_code == 401
    assert browser.get("/_stcore/health").status_code == 200
    assert browser.get("/brand/sign_in.css").headers["content-type"].startswith("text/css")
    for path in ("/brand/..%2Fpage.py", "/brand/page.py", "/static/..%2f..%2fapp.py"):
        assert browser.get(path).status_code in (400, 404), path


def test_a_session_is_a_cookie_that_no_page_can_read_and_a_hash_here(browser: httpx.Client, filled: Scene) -> None:
    begun = sign_in(browser, next="/request?id=4")
    assert (begun.status_code, begun.headers["location"]) == (303, "/request?id=4")
    attributes = cookies(begun)["__Host-certgate-session"]
    for attribute in ("HttpOnly", "Secure", "Path=/", "SameSite=lax", "Max-Age=43200"):
        assert attribute in attributes
    assert "Domain" not in attributes
    token = value(begun, "__Host-certgate-session")
    again = value(sign_in(browser), "__Host-certgate-session")
    assert token != again
    with filled.database.read() as session:
        digests = {row.digest for row in session.exec(select(DashboardSession)).all()}
    assert {digest_of(token), digest_of(again)} <= digests
    assert token not in str(digests)
    inside = browser.get("/request?id=4", headers={**HTML, "cookie": f"__Host-certgate-session={token}"})
    assert (inside.status_code, "<title>Streamlit" in inside.text) == (200, True)
    # Signed out: the token is worth nothing any more, and the sign-in page says why, once.
    sessions.sign_out(filled.database, token, datetime.now(UTC))
    out = {"cookie": f"__Host-certgate-session={token}"}
    assert browser.get("/", headers=out).status_code == 401
    page = browser.get("/sign-in", headers=out)
    assert "You are signed out." in page.text
    assert "Max-Age=0" in cookies(page)["__Host-certgate-session"]
    log = (filled.home / "dashboard.log").read_text()
    assert token not in log
    assert PASSWORD not in log


def test_a_link_to_the_way_out_ends_no_session(browser: httpx.Client) -> None:
    token = value(sign_in(browser), "__Host-certgate-session")
    jar = {"cookie": f"__Host-certgate-session={token}"}
    left = browser.get("/auth/logout", headers=jar)
    assert (left.status_code, left.headers["location"]) == (303, "/")
    assert browser.get("/", headers=jar).status_code == 200
    assert browser.get("/sign-in", headers=jar).headers["location"] == "/"


@pytest.mark.parametrize(
    "place",
    [
        "//evil.example",
        "https://evil.example/",
        "/\\evil.example",
        "\\\\evil.example",
        "javascript:alert(1)",
        "/\t/evil.example",
        "/ok\r\nset-cookie: x=y",
        "/sign-in?next=/sign-in",
        "/auth/logout",
        "evil.example",
        "/" + "x" * 3000,
        "",
    ],
)
def test_nobody_is_led_elsewhere(place: str) -> None:
    assert addresses.safe(place) == "/"


def test_a_place_of_ours_is_kept_with_its_query() -> None:
    assert addresses.safe("/requests?q=a%20b&mine=true#x") == "/requests?q=a%20b&mine=true"
    assert addresses.sign_in("/requests?q=a") == "/sign-in?next=" + quote("/requests?q=a", safe="")


@pytest.mark.parametrize(
    ("headers", "form"),
    [
        ({"origin": "https://evil.example"}, None),
        ({"origin": "http://certgate.example.com:8080"}, None),
        ({"origin": "null"}, None),
        ({"sec-fetch-site": "cross-site"}, None),
        ({"sec-fetch-site": "same-site"}, None),
        ({}, "guessed"),
        ({}, ""),
    ],
)
def test_a_form_of_another_site_signs_nobody_in(
    browser: httpx.Client, headers: dict[str, str], form: str | None
) -> None:
    page = browser.get("/sign-in")
    shown = value(page, "__Host-certgate-form")
    sent = {"login": "bob", "password": PASSWORD, "form": shown if form is None else form}
    jar = {"cookie": f"__Host-certgate-form={shown}", **headers}
    answer = browser.post("/sign-in", data=sent, headers=jar)
    assert answer.status_code == 403
    assert "__Host-certgate-session" not in cookies(answer)


def test_what_was_typed_is_text_and_a_refusal_is_a_sentence(browser: httpx.Client) -> None:
    refused = sign_in(browser, '"><img src=x onerror=alert(1)>', "x")
    assert refused.status_code == 403
    assert "<img src=x" not in refused.text
    assert "Login or password is wrong." in refused.text
    assert sign_in(browser, "bob", "x" * 20_000).status_code == 413
    assert "That was too long." in sign_in(browser, "bob", "x" * 20_000).text
    assert sign_in(browser, "bob\0", "\0").status_code == 403


def test_every_answer_tells_browsers_to_be_careful(browser: httpx.Client) -> None:
    for path, status in (("/sign-in", 200), ("/nowhere", 401), ("/static/x.js", 200), ("/_stcore/health", 200)):
        answer = browser.get(path)
        assert answer.status_code == status
        headers = answer.headers
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "same-origin"
        assert headers["strict-transport-security"] == "max-age=31536000"
        assert "server" not in headers
    assert "script-src" not in browser.get("/sign-in").headers["content-security-policy"]
    assert browser.get("/sign-in").headers["cache-control"] == "no-store"
    streamlit = browser.get("/static/x.js").headers["content-security-policy"]
    assert "'unsafe-inline'" not in streamlit.split("script-src")[1].split(";")[0]


def test_only_a_page_of_ours_gets_a_socket_with_the_cookie(browser: httpx.Client, address: str) -> None:
    token = value(sign_in(browser), "__Host-certgate-session")
    url = address.replace("http", "ws") + "/_stcore/stream"
    jar = {"Cookie": f"__Host-certgate-session={token}"}
    own = Origin(address)
    for origin in ("http://127.0.0.1:1", "http://localhost:3000", "https://evil.example", None):
        with pytest.raises(InvalidStatus) as refused:
            connect(url, origin=Origin(origin) if origin else None, additional_headers=jar, proxy=None).close()
        assert refused.value.response.status_code == 403
    ask = BackMsg()
    ask.rerun_script.query_string = ""
    streamlit = [Subprotocol("streamlit")]
    with connect(url, origin=own, subprotocols=streamlit, additional_headers=jar, proxy=None) as socket:
        socket.send(ask.SerializeToString())
        assert said(socket).WhichOneof("type") == "new_session"
    # Without a session no script runs: the page is sent to the sign-in page.
    with connect(url, origin=own, subprotocols=streamlit, proxy=None) as socket:
        assert said(socket).auth_redirect.url == "/auth/logout"
        with pytest.raises(Exception, match="1000"):
            socket.recv(30)


def said(socket: ClientConnection) -> ForwardMsg:
    """The next message of the server."""
    message = socket.recv(30)
    assert isinstance(message, bytes)
    return ForwardMsg.FromString(message)


async def test_a_provider_that_is_away_is_a_sentence() -> None:
    dashboard = DashboardSettings(public_url="http://testserver")
    settings = OidcSettings(issuer=f"http://127.0.0.1:{free_port()}", client_id="certgate", label="<Example> ID")
    door = Door(dashboard, (settings.label, START))
    routes = SignIn(dashboard, door, Provider(settings, dashboard.public_url, door)).routes()
    app = Starlette(routes=routes, middleware=[Middleware(SessionMiddleware, secret_key="for tests only")])
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://testserver", follow_redirects=True) as client:
        answer = await client.get("/sign-in/oidc?next=//evil.example")
        assert answer.url.path == "/sign-in"
        assert "&lt;Example&gt; ID does not answer" in answer.text
        assert "evil" not in answer.text
        # Told once: the next look is at a fresh page.
        assert "does not answer" not in (await client.get("/sign-in")).text
