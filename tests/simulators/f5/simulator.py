"""The simulator in this process. See the package's docstring."""

from __future__ import annotations

import datetime as dt
import json
import re
import secrets
import shutil
import socket
import tempfile
import threading
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from tests.simulators.f5 import control, layout
from tests.simulators.f5.api import GROUP, Api, User
from tests.simulators.f5.configuration import Configuration
from tests.simulators.f5.faults import TRANSPORT, Fate, Fault, Faults
from tests.simulators.f5.traffic import Traffic
from tests.simulators.f5.unit import Unit
from tests.simulators.sectigo import tls
from tests.simulators.sectigo.faults import Fault as Cut
from tests.simulators.sectigo.server import Outcome, Server
from tests.simulators.sectigo.wire import Reply, Request

USER = "certgate"
RESOURCE_GROUP = Path(__file__).parents[3] / "docs" / "f5-resource-group.json"
_PAGE = b"<!DOCTYPE html>\n<html><head><title>Configuration Utility restarting...</title></head></html>\n"


def utc_now() -> dt.datetime:
    """The machine's clock."""
    return dt.datetime.now(dt.UTC)


@dataclass(frozen=True)
class Call:
    """A request as it came; `status` None where the reply was cut away before its first byte."""

    method: str
    path: str
    fault: str | None
    status: int | None
    transaction: str | None = None


class Simulator:
    """A device, or a pair of them behind a floating address, from `start` to `stop`; also a context manager.

    It can be started again on the same ports, as after a power cut: with what was saved. `units`: one or two. `port` 0:
    a free one. User ``certgate`` may do what `docs/f5-resource-group.json` lists; with the same password ``admin`` may
    do everything, and ``guest`` may only look.
    """

    def __init__(
        self,
        *,
        faults: Faults | None = None,
        port: int = 0,
        units: int = 2,
        clock: Callable[[], dt.datetime] = utc_now,
        folder: Path | None = None,
    ) -> None:
        self.password = secrets.token_urlsafe(12)
        self.control_secret = secrets.token_urlsafe(24)
        self.refused_logins: list[str] = []
        self._lock = threading.RLock()
        self._clock = clock
        self._fate = Fate(Faults.usual(1) if faults is None else faults)
        self._own_folder = folder is None
        self._folder = Path(tempfile.mkdtemp(prefix="f5-simulator-")) if folder is None else folder
        self.files = tls.write(self._folder)
        self.ports = _free_ports(layout.PORTS)
        self._first = layout.usual(self.ports, clock())
        self.units = [Unit(f"bigip{at}.example.com", self._first, clock) for at in range(1, units + 1)]
        self._active = 0
        self._frozen: Configuration | None = None
        self._calls: list[Call] = []
        self._crashes: list[str] = []
        users = [
            User(USER, self.password, _allowed(RESOURCE_GROUP)),
            User("admin", self.password),
            User("guest", self.password, [("GET", re.compile(".*"))]),
        ]
        self.api = Api(
            {one.name: one for one in users},
            lambda: self.active,
            self.units,
            pending_polls=lambda: self._fate.faults.sync_polls,
            refused=self.refused_logins.append,
        )
        self.port = port
        self._server: Server | None = None
        self._traffic: Traffic | None = None

    # --- start and stop -----------------------------------------------------------------------------------------------

    def start(self) -> Simulator:
        """It answers from now on, with the configuration that was saved."""
        for unit in self.units:
            unit.configuration = unit.saved
            unit.tokens.clear()
            unit.transactions.clear()
        self._server = Server(self.serve, self.port, tls.context(self.files))
        self.port = self._server.port
        self._traffic = Traffic(self._in_effect)
        for name, port in self.ports.items():
            self._traffic.listen(f"/Shop/app/{name}" if name == "vs_shop" else f"/Common/{name}", port)
        self._traffic.start()
        self._server.start()
        return self

    def pause(self) -> None:
        """As by a power cut; `start` ends it."""
        if self._server is not None and self._traffic is not None:
            self._server.stop()
            self._traffic.stop()
        self._server = self._traffic = None

    def stop(self) -> None:
        """It is gone. Raises `AssertionError` if the simulator itself failed at a request."""
        self.pause()
        if self._own_folder:
            shutil.rmtree(self._folder, ignore_errors=True)
        if self._crashes:
            raise AssertionError("the simulator failed at a request:\n" + "\n".join(self._crashes))

    def __enter__(self) -> Simulator:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def running(self) -> bool:
        """Whether it answers."""
        return self._server is not None

    # --- what a client needs ------------------------------------------------------------------------------------------

    @property
    def address(self) -> str:
        """``127.0.0.1:PORT``."""
        return f"127.0.0.1:{self.port}"

    @property
    def ca_file(self) -> Path:
        """The root of the management interface's own certificate."""
        return self.files.ca

    @property
    def device_group(self) -> str:
        """What its group is called."""
        return GROUP

    # --- books --------------------------------------------------------------------------------------------------------

    @property
    def active(self) -> Unit:
        """The unit that answers and has the traffic."""
        return self.units[self._active]

    @property
    def configuration(self) -> Configuration:
        """Of the active unit."""
        return self.active.configuration

    @property
    def calls(self) -> list[Call]:
        """Every request to the interface."""
        with self._lock:
            return list(self._calls)

    def forget_calls(self) -> None:
        """Begin the book anew."""
        with self._lock:
            self._calls.clear()

    @property
    def faults(self) -> Faults:
        """What goes wrong."""
        return self._fate.faults

    @faults.setter
    def faults(self, faults: Faults) -> None:
        self._fate.faults = faults

    # --- what happens to a device -------------------------------------------------------------------------------------

    def inject(self, fault: Fault, *, on: str = "", times: int = 1, skip: int = 0) -> None:
        """The next `times` requests, after `skip` of them, whose ``METHOD /path`` has `on` in it meet `fault`."""
        self._fate.inject(fault, on, times, skip)

    def fair_weather(self) -> None:
        """Nothing goes wrong from now on."""
        self._fate.forget()
        self._fate.faults = Faults.off()

    def fail_over(self) -> None:
        """The other unit takes over, with the configuration that it has."""
        with self._lock:
            self._active = (self._active + 1) % len(self.units)

    def end_tokens(self) -> None:
        """All tokens end now."""
        with self._lock:
            for unit in self.units:
                unit.tokens.clear()

    def end_transactions(self) -> None:
        """As after 120 s."""
        with self._lock:
            for unit in self.units:
                unit.forget_transactions()

    def disconnect(self, disconnected: bool = True) -> None:
        """The units don't reach each other (any more)."""
        self.api.disconnected = disconnected

    def starting(self, starting: bool = True) -> None:
        """It says that it still loads its configuration."""
        self.api.starting = starting

    def freeze(self, frozen: bool = True) -> None:
        """The traffic goes on with what it has now, whatever is configured."""
        self._frozen = self.configuration if frozen else None

    def change(self, method: str, path: str, body: dict[str, object], *, unit: int | None = None) -> None:
        """What somebody else changes, on a unit (default: the active one). Raises `Problem`."""
        with self._lock:
            chosen = self.active if unit is None else self.units[unit]
            chosen.change([(method, path, body)], self.api.next_stamp())

    def reset(self) -> None:
        """All units as at first, the first one active; everything else as it is."""
        with self._lock:
            self._active = 0
            for unit in self.units:
                unit.configuration = unit.saved = self._first
                unit.stamp = 0
                unit.files.clear()
                unit.transactions.clear()
                unit.tokens.clear()
            self.refused_logins.clear()
            self._frozen = None
            self.disconnect(False)
            self.starting(False)
            self.fair_weather()
            self.forget_calls()

    # --- requests -----------------------------------------------------------------------------------------------------

    def serve(self, request: Request) -> Outcome:
        """One request, and what happens to its reply."""
        if request.path.startswith(control.PATH):
            return Outcome(control.answer(self, request))
        try:
            return self._served(request)
        except Exception:
            with self._lock:
                self._crashes.append(traceback.format_exc())
            raise

    def _served(self, request: Request) -> Outcome:
        with self._lock:
            fault = self._fate.of_request(f"{request.method} {request.path}")
            reply = self._before(fault, request) or self.api.answer(request)
            if fault is Fault.HTML:
                reply = Reply(200, _PAGE, content_type="text/html")
            cut = fault in (Fault.CUT_BEFORE, Fault.CUT_AFTER, Fault.STALLED)
            number = request.headers.get("x-f5-rest-coordination-id")
            self._calls.append(
                Call(
                    request.method, request.path, fault.value if fault else None, None if cut else reply.status, number
                )
            )
        if fault in (Fault.CUT_BEFORE, Fault.CUT_AFTER):
            return Outcome(None)
        transport: Cut | None = TRANSPORT.get(fault) if fault is not None else None
        return Outcome(reply, transport)

    def _before(self, fault: Fault | None, request: Request) -> Reply | None:
        """What a fault does before the request is looked at; a reply where it is not looked at at all."""
        if fault is Fault.CUT_BEFORE:
            return Reply(500)
        if fault is Fault.BUSY:
            told = {"code": 503, "message": "There is an active asynchronous task executing.", "errorStack": []}
            return Reply.of({**told, "apiError": 32964609}, 503)
        if fault is Fault.UNAVAILABLE:
            return Reply(503, _PAGE, content_type="text/html")
        if fault is Fault.TOKEN_ENDED:
            self.active.tokens.pop(request.headers.get("x-f5-auth-token", ""), None)
        if fault is Fault.TRANSACTIONS_ENDED:
            self.active.forget_transactions()
        if fault is Fault.FAILOVER:
            self.fail_over()
        return None

    def _in_effect(self) -> Configuration:
        return self._frozen or self.configuration


def _free_ports(names: Sequence[str]) -> dict[str, int]:
    """Ports that nothing listens on, one a name."""
    sockets = [socket.socket() for _ in names]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return {name: int(one.getsockname()[1]) for name, one in zip(names, sockets, strict=True)}
    finally:
        for one in sockets:
            one.close()


def _allowed(file: Path) -> list[tuple[str, re.Pattern[str]]]:
    """A resource group of the device as patterns: ``*`` in a mask is one part of a path, ``**`` all of the rest."""
    found = []
    for one in json.loads(file.read_text())["resources"]:
        mask = re.escape(one["resourceMask"]).replace(r"\*\*", ".*").replace(r"\*", "[^/]*")
        found.append((one["restMethod"], re.compile(mask)))
    return found
