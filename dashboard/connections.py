"""Who is connected, for the pages. The answer of the engine is shared by everybody who looks within two seconds
(`operations/presence.py`); here it is only remembered that the engine is away, so that not every click waits for it."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from datetime import timedelta

import streamlit as st

from dashboard.bridge import bridge
from model.errors import Unavailable
from operations import gateways
from operations.context import Context
from operations.gateway_queries import Statuses

_AWAY_SECONDS = 10.0
_PATIENCE = timedelta(seconds=4)


@dataclass
class _Memory:
    """Since when and why one home's engine is away."""

    away_until: float = 0.0
    trouble: str = ""


def statuses(context: Context) -> tuple[Statuses | None, str | None]:
    """The statuses of the gateways that the actor may see; None, and the sentence why, while the engine is away."""
    memory = _memory(os.environ.get("CERTGATE_HOME") or "")
    if time.monotonic() < memory.away_until:
        return None, memory.trouble
    try:
        return bridge().run(gateways.statuses(context), _PATIENCE), None
    except Unavailable as error:
        memory.away_until, memory.trouble = time.monotonic() + _AWAY_SECONDS, error.message
        return None, error.message


def ask_anew() -> None:
    """The next look asks the engine, also if it was away just now."""
    _memory(os.environ.get("CERTGATE_HOME") or "").away_until = 0.0


@st.cache_resource(show_spinner=False)
def _memory(home: str) -> _Memory:
    del home  # only the key of the cache
    return _Memory()
