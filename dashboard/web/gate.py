"""Who gets in. Without a session there is the sign-in page and nothing else: no script runs, no file is handed out."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from functools import partial

from anyio import to_thread
from google.protobuf.message import DecodeError
from starlette.requests import HTTPConnection
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg

from dashboard.bridge import bridge
from dashboard.web import addresses
from dashboard.web.cookies import cookies_of
from model.errors import CertgateError
from operations import sessions
from operations.context import now
from operations.sessions import Ended, Recognized, SessionOver
from worker.settings import DashboardSettings

# What everybody may have: the sign-in page with its looks, Streamlit's own program, and whether the process lives.
_OPEN = frozenset(
    {
        addresses.SIGN_IN,
        f"{addresses.SIGN_IN}/oidc",
        "/auth/logout",
        "/auth/login",
        "/oauth2callback",
        "/favicon.png",
        "/_stcore/health",
    }
)
_OPEN_FOLDERS = ("/brand/", "/static/")
# How soon a page that nobody touches learns that its session has ended.
WATCHED_EVERY = timedelta(seconds=10)


def recognize(connection: HTTPConnection, dashboard: DashboardSettings) -> Recognized:
    """Whose session a request's cookie belongs to. Asks the records: call it in a thread. Raises `SessionOver`, and
    `Unavailable` when the records don't answer."""
    token = connection.cookies.get(cookies_of(dashboard).session)
    if token is None:
        raise SessionOver(Ended.UNKNOWN)
    idle = timedelta(minutes=dashboard.idle_minutes)
    return sessions.recognize(bridge().door.database, token, idle, now())


class Gate:
    """Stands in front of Streamlit and of our own routes."""

    def __init__(self, app: ASGIApp, dashboard: DashboardSettings) -> None:
        self._app = app
        self._dashboard = dashboard

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._http(scope, receive, send)
        elif scope["type"] == "websocket":
            await self._websocket(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        connection = HTTPConnection(scope)
        path, method = scope["path"], scope["method"]
        reading = method in ("GET", "HEAD", "OPTIONS")
        if not reading and not addresses.own_origin(connection.headers, self._dashboard.public_url):
            refusal = PlainTextResponse("This request was made by a page of another site.", 403)
            await refusal(scope, receive, send)
            return
        if path not in _OPEN and not path.startswith(_OPEN_FOLDERS):
            try:
                await to_thread.run_sync(recognize, connection, self._dashboard)
            except SessionOver as over:
                await self._turn_away(connection, over)(scope, receive, send)
                return
            except CertgateError as error:
                await PlainTextResponse(error.message, 503)(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _turn_away(self, connection: HTTPConnection, over: SessionOver) -> Response:
        """A person is led to the sign-in page; a program is told."""
        if connection.scope["method"] == "GET" and "text/html" in connection.headers.get("accept", ""):
            place = connection.url.path + (f"?{connection.url.query}" if connection.url.query else "")
            response: Response = RedirectResponse(addresses.sign_in(addresses.safe(place)), 303)
        else:
            response = PlainTextResponse(f"{over.message} Please sign in.", 401)
        response.headers["cache-control"] = "no-store"
        return response

    async def _websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        connection = HTTPConnection(scope)
        # A browser always names the origin here; only a page of ours may use the cookie that comes along.
        origin = connection.headers.get("origin")
        if origin is None or not addresses.own_origin(connection.headers, self._dashboard.public_url):
            await send({"type": "websocket.close", "code": 1008})
            return
        look = partial(to_thread.run_sync, recognize, connection, self._dashboard)
        try:
            recognized = await look()
        except SessionOver:
            await self._lead_away(scope, receive, send)
            return
        except CertgateError:
            # The records don't answer: the browser tries again by itself.
            await send({"type": "websocket.close", "code": 1013})
            return
        await self._watched(scope, receive, send, recognized, look)

    async def _lead_away(self, scope: Scope, receive: Receive, send: Send) -> None:
        """A page whose session has ended while it was away: it goes to the sign-in page, which says why."""
        await receive()
        asked = scope.get("subprotocols", [])
        await send({"type": "websocket.accept", "subprotocol": asked[0] if asked else None})
        await send({"type": "websocket.send", "bytes": leave()})
        await send({"type": "websocket.close", "code": 1000})

    async def _watched(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        recognized: Recognized,
        look: Callable[[], Awaitable[Recognized]],
    ) -> None:
        """A page with its session: use of it is written down, and its end is looked for."""
        seen = recognized

        async def until_it_ends() -> None:
            while True:
                await asyncio.sleep(WATCHED_EVERY.total_seconds())
                try:
                    await look()
                except SessionOver:
                    return
                except CertgateError:
                    continue

        async def received() -> Message:
            nonlocal seen
            message = asyncio.ensure_future(receive())
            await asyncio.wait({message, over}, return_when=asyncio.FIRST_COMPLETED)
            if over.done():
                message.cancel()
                with suppress(Exception):
                    await send({"type": "websocket.send", "bytes": leave()})
                return {"type": "websocket.disconnect", "code": 1008}
            moment = now()
            if _is_use(message.result()) and moment - seen.seen_at >= sessions.TOUCHED_EVERY:
                with suppress(CertgateError):
                    await to_thread.run_sync(sessions.touch, bridge().door.database, seen, moment)
                seen = replace(seen, seen_at=moment)
            return message.result()

        over = asyncio.create_task(until_it_ends(), name="session-watch")
        try:
            await self._app(scope, received, send)
        finally:
            over.cancel()


def leave() -> bytes:
    """What makes a page of Streamlit go to our address for leaving, as `st.logout` does."""
    message = ForwardMsg()
    message.auth_redirect.url = "/auth/logout"
    return message.SerializeToString()


def _is_use(message: Message) -> bool:
    """Whether a person did something: what a page asks for by itself, to be up to date, is no use of a session."""
    try:
        asked = BackMsg.FromString(message.get("bytes") or b"")
    except DecodeError:
        return False
    return asked.WhichOneof("type") == "rerun_script" and not asked.rerun_script.is_auto_rerun
