"""Runs the dashboard of the home that CERTGATE_HOME names: ``python -m dashboard``, also from any other folder.

Theme and manners are in `.streamlit/config.toml` beside the script; what safety depends on is given as flags, which
nothing in a person's own Streamlit settings or environment overrides.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from model.errors import CertgateError
from worker import processes
from worker.settings import Settings, load

SCRIPT = Path(__file__).parent / "app.py"


def arguments(settings: Settings) -> Sequence[str]:
    """What ``streamlit`` is called with."""
    dashboard = settings.dashboard
    flags = {
        "server.address": dashboard.host,
        "server.port": str(dashboard.port or processes.free_port()),
        "server.headless": "true",
        "server.enableXsrfProtection": "true",
        "server.enableCORS": "true",
        "server.enableStaticServing": "false",
        "server.maxUploadSize": "1",
        "server.fileWatcherType": "none",
        "browser.gatherUsageStats": "false",
        "client.showErrorDetails": "none",
        "client.toolbarMode": "minimal",
        "global.developmentMode": "false",
        # A run is never cut off in the middle: it may just have submitted something.
        "runner.fastReruns": "false",
    }
    return ["run", str(SCRIPT), *(f"--{name}={value}" for name, value in flags.items())]


def main() -> None:
    """Serve until SIGTERM or Ctrl-C."""
    try:
        settings = load()
    except CertgateError as error:
        sys.exit(error.message)
    from streamlit.web import cli

    sys.argv = ["streamlit", *arguments(settings)]
    cli.main()


if __name__ == "__main__":
    main()
