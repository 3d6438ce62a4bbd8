"""Scripts in a PowerShell session, blocking, with an end to everything: the part that runs in a thread.

To open a session takes Windows longer than a script does, so scripts that follow each other use one. What pypsrp would
do without a bound is bounded here: each message by the time that the host may take to answer it, all of them together
by the deadline of the script. pypsrp reads proxies and credentials from the environment, follows redirects (and would
sign in where they lead to), and puts whole messages into its log; none of that happens here.
"""

from __future__ import annotations

import logging
import math
import threading
import time
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import certifi
import requests
from pypsrp.complex_objects import GenericComplexObject, ObjectMeta, PSInvocationState
from pypsrp.exceptions import WinRMError, WSManFaultError
from pypsrp.powershell import DEFAULT_CONFIGURATION_NAME, PowerShell, RunspacePool
from pypsrp.wsman import WSMan

from connectors.hosts.contract import Script, ScriptValue, SecretText
from connectors.hosts.winrm.settings import WinrmSettings

# How long the host holds an answer back until there is something to tell (WS-Management OperationTimeout), whole
# seconds. It also bounds how late a cancellation is noticed.
HELD_SECONDS = 4
# A session whose owner has gone is deleted by the host after this; the least that WinRM takes.
IDLE_SECONDS = 60
# Longer than this a session is not left idle and used again.
KEPT_SECONDS = 30
NO_SUCH_SHELL = 2150858843
LONGEST_TOLD = 500


class _NoMessages(logging.Filter):
    """Messages hold keys and passwords, in CLIXML and Base64; no logger below ``pypsrp`` and ``spnego`` shows them."""

    def filter(self, record: logging.LogRecord) -> bool:
        return record.levelno > logging.DEBUG


# A filter and not a level: a level is easily set anew by whoever configures logging.
for _logger in ("encryption", "host", "messages", "negotiate", "powershell", "serializer", "shell", "wsman"):
    logging.getLogger(f"pypsrp.{_logger}").addFilter(_NoMessages())


class DeadlineError(Exception):
    """The script did not end in its time and was stopped."""


class CancelledInThreadError(Exception):
    """Whoever waits for the script has gone; it was stopped."""


class SessionGoneError(Exception):
    """The host has deleted the session meanwhile; the script has not begun."""


@dataclass(frozen=True)
class ScriptFailed(Exception):
    """The script itself failed; `told` is PowerShell's message, without its line numbers and without secrets."""

    told: str


class _Connection(WSMan):
    """pypsrp's connection, whose every message has an end."""

    def __init__(self, settings: WinrmSettings, password: str | None) -> None:
        answer = settings.answer_timeout_seconds
        super().__init__(
            settings.address,
            port=settings.effective_port,
            ssl=settings.tls,
            auth=settings.authentication,
            username=settings.username,
            password=password,
            cert_validation=settings.ca_file or certifi.where(),  # type: ignore[arg-type]  # a path is taken too
            encryption="auto" if settings.tls else "always",
            no_proxy=True,
            operation_timeout=HELD_SECONDS,
            connection_timeout=answer,  # type: ignore[arg-type]  # seconds, which requests takes as a fraction too
            read_timeout=HELD_SECONDS + answer,  # type: ignore[arg-type]
            certificate_pem=settings.certificate_file,
            certificate_key_pem=settings.key_file,
            negotiate_service="HTTP",
        )
        session = self.transport._build_session()
        session.trust_env = False
        session.max_redirects = 0
        self.transport.session = session
        self.deadline = 0.0

    def wind_up(self) -> None:
        """From now on only what ends the session is sent, and a host that does not answer is not waited for."""
        self.deadline = time.monotonic() + HELD_SECONDS
        self.transport.read_timeout = min(self.transport.read_timeout, HELD_SECONDS)
        self.transport.connection_timeout = min(self.transport.connection_timeout, HELD_SECONDS)

    def invoke(self, *arguments: Any, **options: Any) -> ET.Element:
        """Any message. pypsrp would repeat a Receive that is not answered five times, with growing pauses."""
        if time.monotonic() > self.deadline:
            raise DeadlineError
        options.pop("retries_on_read_timeout", None)
        return super().invoke(*arguments, **options)


class Session:
    """One session on one host, for one script at a time."""

    def __init__(self, settings: WinrmSettings, password: str | None) -> None:
        self._settings = settings
        self._connection = _Connection(settings, password)
        self._pool = RunspacePool(
            self._connection,
            configuration_name=settings.configuration_name or DEFAULT_CONFIGURATION_NAME,
            idle_timeout=IDLE_SECONDS,
        )
        self._used = 0.0

    @property
    def stale(self) -> bool:
        """Whether it has been idle for long."""
        return time.monotonic() - self._used > KEPT_SECONDS

    def run(
        self, script: Script, parameters: Mapping[str, ScriptValue], seconds: float, cancelled: threading.Event
    ) -> list[dict[str, Any]]:
        """Run a script and give what it put out. The session is good for another one after this, and after
        `ScriptFailed`; it is to be closed after any other error: pypsrp's and requests' as they are, `SessionGoneError`
        (of one that was used before), `DeadlineError` after `seconds`, `CancelledInThreadError` once `cancelled` is
        set."""
        self._connection.deadline = time.monotonic() + seconds
        pipeline = self._begin(script, parameters, cancelled)
        _await_end(self._connection, pipeline, cancelled)
        try:
            pipeline.close()
            self._used = time.monotonic()
        except (WinRMError, requests.RequestException, DeadlineError):
            self._used = -math.inf  # what the script did stands; the session is not used again
        if pipeline.state != PSInvocationState.COMPLETED or pipeline.streams.error:
            raise ScriptFailed(_told(pipeline, parameters))
        return [_properties(one) for one in pipeline.output]

    def _begin(self, script: Script, parameters: Mapping[str, ScriptValue], cancelled: threading.Event) -> PowerShell:
        pool = self._pool
        if not self._used:
            pool.open()
        try:
            if any(isinstance(value, SecretText) for value in parameters.values()):
                pool.exchange_keys()
            pipeline = PowerShell(pool)
            if self._settings.configuration_name is None:
                # In a scope of its own: the next script finds no variables of this one.
                pipeline.add_script(script.text, use_local_scope=True)
            else:
                pipeline.add_cmdlet(script.name)
            for name, value in parameters.items():
                pipeline.add_parameter(name, _sent(pool, value))
            if cancelled.is_set():
                raise CancelledInThreadError
            pipeline.begin_invoke()
        except WSManFaultError as error:
            if self._used and error.code == NO_SUCH_SHELL:
                raise SessionGoneError from None
            raise
        return pipeline

    def close(self) -> None:
        """Whatever happened before; what can't be deleted now the host deletes after `IDLE_SECONDS`."""
        self._connection.wind_up()
        with suppress(WinRMError, requests.RequestException, DeadlineError):
            self._pool.close()
        self._connection.close()


def _await_end(connection: _Connection, pipeline: PowerShell, cancelled: threading.Event) -> None:
    try:
        while pipeline.state == PSInvocationState.RUNNING:
            if cancelled.is_set():
                raise CancelledInThreadError
            pipeline.poll_invoke()
    except (DeadlineError, CancelledInThreadError):
        # A moment more, so that nothing goes on there after we have given it up.
        connection.wind_up()
        with suppress(WinRMError, requests.RequestException, DeadlineError):
            pipeline.stop()
        raise


def _sent(pool: RunspacePool, value: ScriptValue) -> Any:
    if isinstance(value, SecretText):
        return pool.serialize(value.text, ObjectMeta("SS"))
    if isinstance(value, str | bytes | int):
        return value
    return list(value)


def _properties(output: Any) -> dict[str, Any]:
    """The properties of an object that a script put out."""
    if not isinstance(output, GenericComplexObject):
        raise ScriptFailed("it put out something else than objects")
    return {**output.adapted_properties, **output.extended_properties}


def _told(pipeline: PowerShell, parameters: Mapping[str, ScriptValue]) -> str:
    """PowerShell's own message. Should it quote a secret, that is taken out."""
    messages = [str(error) for error in pipeline.streams.error]
    told = "; ".join(dict.fromkeys(" ".join(message.split()).rstrip(".") for message in messages if message))
    for value in parameters.values():
        if isinstance(value, SecretText):
            told = told.replace(value.text, "…")
    return told[:LONGEST_TOLD] or "it gives no reason"
