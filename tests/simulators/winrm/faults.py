"""What goes wrong on demand: each fault a number of times, at a script or at any."""

from __future__ import annotations

import random
import threading
from enum import StrEnum


class Fault(StrEnum):
    """Faults of the transport and of Windows."""

    CUT_BEFORE = "the connection is cut before the script runs"
    CUT_AFTER = "the connection is cut after the script ran, before its answer"
    CUT_AT_END = "the connection is cut when everything has been received"
    KILLED = "the process of the session is killed before the script runs"
    SILENT = "nothing is answered"
    ENDLESS = "the script does not end"
    QUOTA = "too many shells"
    NO_SESSION = "the account gets no session"
    NOT_XML = "an answer that is a web page"
    OTHER_OUTPUT = "the script puts out something else"
    STORE_DENIED = "the certificate store can't be opened for writing"
    STORE_FULL = "the certificate store takes no more"
    NO_LOGON_SESSION = "http.sys refuses the certificate"
    NO_EFFECT = "http.sys takes the order and serves the old certificate"


# What passes by itself, and how often it happens where faults are usual.
USUAL = (Fault.CUT_BEFORE, Fault.CUT_AFTER, Fault.KILLED, Fault.QUOTA, Fault.NO_LOGON_SESSION)
PROBABILITY = 0.04


class Faults:
    """Those that are still to happen, and with a `seed` some that happen by themselves: the same for the same seed."""

    def __init__(self, seed: int | None = None) -> None:
        self._random = None if seed is None else random.Random(seed)
        self._waiting: list[tuple[Fault, str | None]] = []
        self._lock = threading.Lock()

    def inject(self, fault: Fault, script: str | None = None, times: int = 1) -> None:
        """From now on it happens `times` times, at `script` or (None) at any."""
        with self._lock:
            self._waiting += [(fault, script)] * times

    def take(self, script: str | None, *among: Fault) -> Fault | None:
        """The first fault that is to happen now, which has then happened."""
        with self._lock:
            for waiting in self._waiting:
                if waiting[0] in among and waiting[1] in (None, script):
                    self._waiting.remove(waiting)
                    return waiting[0]
            usual = [fault for fault in among if fault in USUAL]
            if self._random is not None and usual and self._random.random() < PROBABILITY:
                return self._random.choice(usual)
        return None

    def forget(self) -> None:
        """None of those that wait."""
        with self._lock:
            self._waiting.clear()
