"""From Streamlit's threads to the operations: one door and one event loop for the whole process."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Coroutine
from concurrent.futures import TimeoutError as FutureTimeoutError
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import streamlit as st

from connectors.registry import Surroundings
from model.errors import Unavailable
from worker.credentials import resolver
from worker.door import Door
from worker.settings import load

ResultT = TypeVar("ResultT")

# An administrator's word is handed over as a signal after ten seconds without an answer; this is longer.
PATIENCE = timedelta(seconds=30)


class Bridge:
    """A home's door, and the loop that all its coroutines run on: the Temporal client belongs to one loop."""

    def __init__(self, home: Path | None) -> None:
        self.door = Door(load(home))
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, name="operations", daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, ResultT], patience: timedelta = PATIENCE) -> ResultT:
        """The result of a coroutine of `operations/`. Raises what it raises, and `Unavailable` after `patience`."""
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result(patience.total_seconds())
        except FutureTimeoutError:
            if future.done():
                raise
            future.cancel()
            raise Unavailable(
                f"Temporal did not answer within {patience.total_seconds():.0f} s: look at it again in a while."
            ) from None

    @property
    def surroundings(self) -> Surroundings:
        """What connectors that are opened in this process may know."""
        return Surroundings(self.door.settings.home, resolver(self.door.settings.vault))

    def close(self) -> None:
        """End the loop and give the database back."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self.door.close()

    def _serve(self) -> None:
        self._loop.run_forever()
        self._loop.close()


def bridge() -> Bridge:
    """The bridge of the home that CERTGATE_HOME names."""
    return _of_home(os.environ.get("CERTGATE_HOME") or "")


@st.cache_resource(show_spinner=False, on_release=Bridge.close)
def _of_home(home: str) -> Bridge:
    return Bridge(Path(home) if home else None)
