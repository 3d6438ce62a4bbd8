"""A Windows host by WinRM.

pypsrp blocks, so each script has a thread. The threads are these hosts' own: one that does not answer holds up nothing
else of the gateway. A session that a script leaves whole waits for the next one, until the host object is gone.
"""

from __future__ import annotations

import asyncio
import struct
import threading
import weakref
import xml.etree.ElementTree as ET
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from functools import partial
from typing import Any

import requests
from pypsrp.exceptions import AuthenticationError, WinRMError, WinRMTransportError, WSManFaultError
from spnego.exceptions import SpnegoError

from connectors.errors import ConnectorError, Permanent, Retryable
from connectors.hosts.contract import Script, ScriptValue
from connectors.hosts.winrm import session
from connectors.hosts.winrm.settings import WinrmSettings
from connectors.registry import ConnectorType, Surroundings

SCRIPTS_AT_ONCE = 16
_THREADS = ThreadPoolExecutor(SCRIPTS_AT_ONCE, thread_name_prefix="winrm")

# WS-Management faults (MS-WSMV, and winerror's ERROR_WSMAN_…).
ACCESS_DENIED = 5
TOO_MANY_SHELLS = 2150859174
SESSION_GONE = frozenset(
    {
        995,  # the process that ran the session ended
        session.NO_SUCH_SHELL,
        2150858793,  # nothing to tell within the time asked for
    }
)
QUOTA_PAUSE = timedelta(seconds=60)


class _Kept:
    """The session that waits for the next script, if there is one. Others that were in use meanwhile are closed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._session: session.Session | None = None

    def take(self) -> session.Session | None:
        """It, which then is the taker's."""
        with self._lock:
            found, self._session = self._session, None
        if found is None or not found.stale:
            return found
        found.close()
        return None

    def give(self, used: session.Session) -> None:
        """One that is good for another script."""
        with self._lock:
            if self._session is None:
                self._session = used
                return
        used.close()

    def close(self) -> None:
        """The end."""
        with self._lock:
            found, self._session = self._session, None
        if found is not None:
            found.close()


def _end(kept: _Kept) -> None:
    """Nobody will want the session any more. It blocks, so it is closed by a thread; without one (this process ends)
    the host deletes it by itself."""
    with suppress(RuntimeError):
        _THREADS.submit(kept.close)


class WinrmHost:
    """`connectors.hosts.contract.RunsScripts` for one Windows host."""

    def __init__(self, settings: WinrmSettings, secret: Callable[[str], bytes]) -> None:
        self._settings = settings
        self._secret = secret
        self._kept = _Kept()
        weakref.finalize(self, _end, self._kept)

    @property
    def address(self) -> str:
        """Name or address under which services of this host are reached from here."""
        return self._settings.address

    async def run_script(
        self, script: Script, parameters: Mapping[str, ScriptValue], *, timeout: timedelta
    ) -> Sequence[Mapping[str, Any]]:
        """Run a script; see the contract."""
        cancelled = threading.Event()
        job = partial(self._run, script, parameters, timeout, cancelled)
        running = asyncio.get_running_loop().run_in_executor(_THREADS, job)
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            # What still happens there would get in the way of whatever the caller does next, such as putting back.
            cancelled.set()
            while not running.done():
                with suppress(asyncio.CancelledError):
                    await asyncio.wait({running})
            running.exception()
            raise
        finally:
            # Its error has this frame in its traceback: a circle, in which the host and its session would live on.
            del running

    def _run(
        self,
        script: Script,
        parameters: Mapping[str, ScriptValue],
        timeout: timedelta,
        cancelled: threading.Event,
    ) -> list[dict[str, Any]]:
        seconds = timeout.total_seconds()
        try:
            used = self._kept.take()
            if used is not None:
                with suppress(session.SessionGoneError):
                    return self._run_in(used, script, parameters, seconds, cancelled)
            return self._run_in(self._opened(), script, parameters, seconds, cancelled)
        except session.ScriptFailed as error:
            raise Permanent(f"{script.name} failed on {self.address}: {error.told}.") from None
        except session.DeadlineError:
            raise Retryable(
                f"{script.name} did not end within {seconds:g} s on {self.address} and was stopped."
            ) from None
        except session.CancelledInThreadError:
            raise Retryable(f"{script.name} was stopped on {self.address}.") from None
        except (AuthenticationError, SpnegoError, ImportError) as error:
            raise self._sign_in_refused(error) from None
        except WSManFaultError as error:
            raise self._fault(error) from None
        except WinRMTransportError as error:
            kind = Retryable if error.code >= 500 else Permanent
            raise kind(f"{self._where} answered with HTTP status {error.code} where WinRM was expected.") from None
        except WinRMError as error:
            raise Permanent(f"The session on {self._where} failed: {_line(error)}.") from None
        except (requests.RequestException, OSError) as error:
            raise self._unreached(error) from None
        except (ET.ParseError, ValueError, KeyError, AttributeError, TypeError, IndexError, struct.error) as error:
            # What pypsrp raises on answers that are no PowerShell remoting. The text may quote a message: not told.
            raise Permanent(
                f"{self._where} answered what is no PowerShell remoting ({type(error).__name__})."
            ) from None

    def _opened(self) -> session.Session:
        reference = self._settings.password
        password = None if reference is None else self._secret(reference).decode("utf-8", "replace")
        return session.Session(self._settings, password)

    def _run_in(
        self,
        used: session.Session,
        script: Script,
        parameters: Mapping[str, ScriptValue],
        seconds: float,
        cancelled: threading.Event,
    ) -> list[dict[str, Any]]:
        """Run it, and keep the session for the next one or close it."""
        try:
            outputs = used.run(script, parameters, seconds, cancelled)
        except session.ScriptFailed:
            self._kept.give(used)
            raise
        except BaseException:
            used.close()
            raise
        self._kept.give(used)
        return outputs

    @property
    def _where(self) -> str:
        return f"{self._settings.address} (WinRM, port {self._settings.effective_port})"

    def _sign_in_refused(self, error: Exception) -> Permanent:
        settings = self._settings
        who = settings.username or settings.certificate_file or "the gateway's own account"
        if not isinstance(error, AuthenticationError):
            return Permanent(f"Can't sign in to {self._where} by {settings.authentication}: {_line(error)}.")
        return Permanent(
            f"{self._where} refused the sign-in of {who} by {settings.authentication}: the account or its password is "
            "wrong, or it may not use WinRM there."
        )

    def _fault(self, error: WSManFaultError) -> ConnectorError:
        if error.code == TOO_MANY_SHELLS:
            return Retryable(
                f"{self._where} has as many sessions of {self._settings.username or 'this account'} as it allows "
                "(winrm/config/winrs MaxShellsPerUser).",
                after=QUOTA_PAUSE,
            )
        if error.code == ACCESS_DENIED:
            return Permanent(f"{self._where} gives this account no session: access is denied.")
        reason = _line(error.reason or error.provider_fault or "no reason given")
        if error.code in SESSION_GONE:
            return Retryable(f"{self._where} ended the session: {reason}.")
        return Permanent(f"{self._where} refused: {reason} ({error.code}).")

    def _unreached(self, error: Exception) -> ConnectorError:
        if isinstance(error, requests.exceptions.SSLError):
            return Permanent(
                f"The TLS certificate of {self._where} can't be verified ({_innermost(error)}): set ca_file to the CA "
                "that issued it."
            )
        if isinstance(error, requests.Timeout):
            seconds = self._settings.answer_timeout_seconds
            return Retryable(f"{self._where} did not answer within {seconds:g} s.")
        if isinstance(error, requests.ConnectionError):
            return Retryable(f"{self._where} could not be reached: {_innermost(error)}.")
        return Permanent(f"Can't use the connection to {self._where}: {_line(error)}.")


def _line(text: object) -> str:
    return " ".join(str(text).split()).rstrip(".")[: session.LONGEST_TOLD]


def _innermost(error: BaseException) -> str:
    """The reason below the layers of requests and urllib3, which repeat each other."""
    seen: set[int] = set()
    while id(error) not in seen:
        seen.add(id(error))
        inner = getattr(error, "reason", None) or next((one for one in error.args if isinstance(one, Exception)), None)
        error = inner if isinstance(inner, BaseException) else error.__cause__ or error
    words = getattr(error, "verify_message", None) or getattr(error, "strerror", None)
    return _line(words or error) or type(error).__name__


def _open(settings: WinrmSettings, surroundings: Surroundings) -> WinrmHost:
    return WinrmHost(settings, surroundings.secret)


CONNECTOR: ConnectorType[WinrmSettings, WinrmHost] = ConnectorType(
    name="winrm", title="Windows (WinRM)", settings=WinrmSettings, open=_open
)
