"""Runs the dashboard of the home that CERTGATE_HOME names: ``python -m dashboard``, also from any other folder.

Theme and manners are in `.streamlit/config.toml` beside the script; what safety depends on is in `dashboard/web`.
"""

from __future__ import annotations

import os
import sys

from model.errors import CertgateError
from worker import processes
from worker.settings import Settings, load

PORT = "CERTGATE_DASHBOARD_PORT"


def settled() -> Settings:
    """The settings, with a port that is known from now on to everything in this process. Raises `CertgateError`."""
    settings = load()
    if settings.dashboard.port == 0:
        os.environ[PORT] = str(processes.free_port())
        settings = load()
    return settings


def main() -> None:
    """Serve until SIGTERM or Ctrl-C."""
    try:
        settings = settled()
    except CertgateError as error:
        sys.exit(error.message)
    from dashboard.web.server import serve

    serve(settings)


if __name__ == "__main__":
    main()
