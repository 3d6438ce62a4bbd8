"""The dashboard's process: Streamlit's application with our routes, behind our gate, served by uvicorn."""

from __future__ import annotations

import signal
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from urllib.parse import urlsplit

import streamlit as st
import uvicorn
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from streamlit.web import bootstrap

from dashboard.guard import sentence
from dashboard.web.doors import Door
from dashboard.web.downloads import Downloads
from dashboard.web.gate import Gate
from dashboard.web.headers import CarefulHeaders
from dashboard.web.provider import START, Provider
from dashboard.web.signing_in import SignIn
from worker.credentials import resolver
from worker.settings import DashboardSettings, Settings

SCRIPT = Path(__file__).parents[1] / "app.py"
# How long open connections may still take when the process is told to end.
_GRACE = 5  # seconds


def flags(dashboard: DashboardSettings) -> Mapping[str, object]:
    """What Streamlit is told, as if on its command line: nothing in a person's own settings or environment overrides
    it."""
    public = urlsplit(dashboard.public_url)
    return {
        "server.address": dashboard.host,
        "server.port": dashboard.port,
        "server.headless": True,
        "server.enableXsrfProtection": True,
        "server.enableCORS": True,
        "server.corsAllowedOrigins": [dashboard.public_url] if dashboard.public_url else [],
        # Behind a proxy only the name that people know is answered to, and this machine's own.
        "server.allowedHosts": [public.hostname, "localhost", "127.0.0.1", "::1"] if public.hostname else [],
        "server.enableStaticServing": False,
        "server.enableAgentApi": False,
        "server.trustedUserHeaders": {},
        "server.maxUploadSize": 1,
        "server.fileWatcherType": "none",
        "browser.gatherUsageStats": False,
        "client.showErrorDetails": "none",
        "client.toolbarMode": "minimal",
        "global.developmentMode": False,
        # A run is never cut off in the middle: it may just have submitted something.
        "runner.fastReruns": False,
    }


def application(settings: Settings) -> st.App:
    """The whole application (ASGI)."""
    dashboard, oidc = settings.dashboard, settings.oidc
    door = Door(dashboard, (oidc.label, START) if oidc else None)
    provider = Provider(oidc, dashboard.public_url, door, resolver(settings.vault)) if oidc else None
    sign_in = SignIn(dashboard, door, provider)
    return st.App(
        SCRIPT,
        routes=[*sign_in.routes(), *Downloads(dashboard).routes()],
        middleware=[
            Middleware(CarefulHeaders, secure=dashboard.secure),
            Middleware(Gate, dashboard=dashboard),
        ],
        exception_handlers={Exception: _unexpected},
    )


def serve(settings: Settings) -> None:
    """Serve until SIGTERM or Ctrl-C. The port is a real one: whoever wants any free one has chosen it before."""
    dashboard = settings.dashboard
    app = application(settings)
    # After the application is made: from then on Streamlit finds its settings beside the script.
    bootstrap.load_config_options(dict(flags(dashboard)))
    family = socket.AF_INET6 if ":" in dashboard.host else socket.AF_INET
    try:
        listener = socket.create_server((dashboard.host, dashboard.port), family=family, backlog=2048)
    except OSError as error:
        where = f"{dashboard.host}:{dashboard.port}"
        sys.exit(f"The dashboard can't listen on {where}: {error.strerror}; set another port in certgate.toml.")
    config = uvicorn.Config(
        app,
        access_log=False,
        log_level="warning",
        use_colors=False,
        server_header=False,
        proxy_headers=True,
        forwarded_allow_ips=list(dashboard.trusted_proxies),
        ws="websockets-sansio",
        ws_max_size=4 * 1024 * 1024,
        timeout_graceful_shutdown=_GRACE,
    )
    # uvicorn hands the signal on when it has finished; by then there is nothing left to do.
    signal.signal(signal.SIGTERM, _finished)
    signal.signal(signal.SIGINT, _finished)
    uvicorn.Server(config).run(sockets=[listener])


def _finished(_signal: int, _frame: FrameType | None) -> None:
    sys.exit(0)


async def _unexpected(_request: object, error: Exception) -> PlainTextResponse:
    return PlainTextResponse(sentence(error), 500)
