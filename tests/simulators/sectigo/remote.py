"""The simulator in a process of its own, and its control over the wire.

``POST /_control/VERB`` with the control secret in a header and a JSON object of arguments does what the method of that
name of `Simulator` does; ``{"value": …}`` or ``{"problem": …}`` comes back.
"""

from __future__ import annotations

import dataclasses
import json
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from tests.simulators.sectigo.faults import Approval, Fault, Faults, Wrong
from tests.simulators.sectigo.orders import OrderView
from tests.simulators.sectigo.problems import Problem
from tests.simulators.sectigo.tokens import same
from tests.simulators.sectigo.wire import Reply, Request

if TYPE_CHECKING:
    from tests.simulators.sectigo.simulator import Simulator

PATH = "/_control/"
HEADER = "x-control-secret"
_ROOT = Path(__file__).parents[3]


@dataclasses.dataclass(frozen=True)
class Call:
    """A request as it came: `route` such as ``enroll`` or ``collect``; `status` None where the reply was cut away
    before its first byte."""

    method: str
    path: str
    route: str
    fault: str | None
    status: int | None


@dataclasses.dataclass(frozen=True)
class Address:
    """All that somebody needs to use a simulator, as ``certgate simulate sectigo`` prints it. Files are paths; those
    with secrets are readable by their owner only."""

    address: str
    admin_address: str
    """Without ``/api``, as a connector's settings have them; the second for OAuth2."""
    base_url: str
    private_url: str
    admin_url: str
    token_url: str
    plain_url: str
    ca_file: str
    customer_uri: str
    login: str
    password: str
    password_file: str
    client_id: str
    client_secret: str
    client_secret_file: str
    client_certificate: str
    client_key: str
    trust_anchors_file: str
    control_url: str
    control_secret: str
    faults: str


def _changed(faults: Faults, given: Mapping[str, Any]) -> Faults:
    values: dict[str, Any] = {name: tuple(one) if isinstance(one, list) else one for name, one in given.items()}
    if "approval" in values:
        values["approval"] = Approval(values["approval"])
    return dataclasses.replace(faults, **values)


def _set_faults(ca: Simulator, faults: Mapping[str, Any]) -> None:
    ca.faults = _changed(ca.faults, faults)


VERBS: dict[str, Callable[..., Any]] = {
    "inject": lambda ca, fault, **more: ca.inject(Fault(fault), **more),
    "issue_wrongly": lambda ca, wrong, **more: ca.issue_wrongly(Wrong(wrong), **more),
    "fair_weather": lambda ca: ca.fair_weather(),
    "approve": lambda ca, ssl_id: ca.approve(ssl_id),
    "decline": lambda ca, ssl_id: ca.decline(ssl_id),
    "reject": lambda ca, ssl_id: ca.reject(ssl_id),
    "hang": lambda ca, ssl_id: ca.hang(ssl_id),
    "release": lambda ca, ssl_id: ca.release(ssl_id),
    "revoke": lambda ca, ssl_id, **more: ca.revoke(ssl_id, **more),
    "auto_install": lambda ca, ssl_id: ca.auto_install(ssl_id),
    "require_validation": lambda ca, name, **more: ca.require_validation(name, **more),
    "validate": lambda ca, name: ca.validate(name),
    "end_tokens": lambda ca: ca.end_tokens(),
    "forget_calls": lambda ca: ca.forget_calls(),
    "orders": lambda ca: [dataclasses.asdict(one) for one in ca.orders],
    "calls": lambda ca: [dataclasses.asdict(one) for one in ca.calls],
    "certificates": lambda ca: ca.certificates,
    "trust_anchors": lambda ca: ca.trust_anchors,
    "faults": lambda ca: dataclasses.asdict(ca.faults),
    "set_faults": _set_faults,
}


def control(ca: Simulator, request: Request) -> Reply:
    """Do what a request to the control path asks for."""
    verb = VERBS.get(request.path.removeprefix(PATH))
    if not same(request.headers.get(HEADER, ""), ca.control_secret):
        return Reply.of({"problem": "The control secret is wrong."}, 401)
    if request.method != "POST" or verb is None:
        return Reply.of({"problem": "There is no such control."}, 404)
    try:
        return Reply.of({"value": verb(ca, **request.json())})
    except Problem as problem:
        return Reply.of({"problem": problem.description, "code": problem.code}, 409)
    except (TypeError, ValueError, KeyError) as error:
        return Reply.of({"problem": f"The arguments do not fit: {error}."}, 400)


class RemoteSimulator:
    """A simulator elsewhere, with the same properties and methods as `Simulator`. Raises `Problem` as that does."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self._tls = ssl.create_default_context(cafile=address.ca_file)

    @property
    def base_url(self) -> str:
        """For login and password."""
        return self.address.base_url

    @property
    def ca_file(self) -> Path:
        """The root of the simulator's own TLS certificate."""
        return Path(self.address.ca_file)

    @property
    def login(self) -> str:
        """Of the account."""
        return self.address.login

    @property
    def password(self) -> str:
        """Of the account."""
        return self.address.password

    @property
    def customer_uri(self) -> str:
        """Of the customer."""
        return self.address.customer_uri

    @property
    def orders(self) -> list[OrderView]:
        """All orders, oldest first."""
        return [OrderView(**one) for one in self._ask("orders")]

    def order(self, ssl_id: int) -> OrderView:
        """One order. Raises `KeyError`."""
        return {one.id: one for one in self.orders}[ssl_id]

    @property
    def calls(self) -> list[Call]:
        """Every request to the interface."""
        return [Call(**one) for one in self._ask("calls")]

    @property
    def requests(self) -> Counter[str]:
        """How often each route was asked."""
        return Counter(one.route for one in self.calls)

    @property
    def certificates(self) -> list[str]:
        """Every certificate that was issued, PEM."""
        found: list[str] = self._ask("certificates")
        return found

    @property
    def trust_anchors(self) -> list[str]:
        """The roots that its certificates chain to, PEM."""
        found: list[str] = self._ask("trust_anchors")
        return found

    @property
    def faults(self) -> Faults:
        """What goes wrong."""
        return _changed(Faults(), self._ask("faults"))

    @faults.setter
    def faults(self, faults: Faults) -> None:
        self._ask("set_faults", faults=dataclasses.asdict(faults))

    def inject(self, fault: Fault, *, on: str = "*", times: int = 1, skip: int = 0) -> None:
        """See `Simulator.inject`."""
        self._ask("inject", fault=fault.value, on=on, times=times, skip=skip)

    def issue_wrongly(self, wrong: Wrong, *, times: int = 1) -> None:
        """See `Simulator.issue_wrongly`."""
        self._ask("issue_wrongly", wrong=wrong.value, times=times)

    def fair_weather(self) -> None:
        """See `Simulator.fair_weather`."""
        self._ask("fair_weather")

    def approve(self, ssl_id: int) -> None:
        """See `Simulator.approve`."""
        self._ask("approve", ssl_id=ssl_id)

    def decline(self, ssl_id: int) -> None:
        """See `Simulator.decline`."""
        self._ask("decline", ssl_id=ssl_id)

    def reject(self, ssl_id: int) -> None:
        """See `Simulator.reject`."""
        self._ask("reject", ssl_id=ssl_id)

    def hang(self, ssl_id: int) -> None:
        """See `Simulator.hang`."""
        self._ask("hang", ssl_id=ssl_id)

    def release(self, ssl_id: int) -> None:
        """See `Simulator.release`."""
        self._ask("release", ssl_id=ssl_id)

    def revoke(self, ssl_id: int, reason_code: str = "4") -> None:
        """See `Simulator.revoke`."""
        self._ask("revoke", ssl_id=ssl_id, reason_code=reason_code)

    def auto_install(self, ssl_id: int) -> None:
        """See `Simulator.auto_install`."""
        self._ask("auto_install", ssl_id=ssl_id)

    def require_validation(self, name: str, *, rechecks: int | None = None) -> None:
        """See `Simulator.require_validation`."""
        self._ask("require_validation", name=name, rechecks=rechecks)

    def validate(self, name: str) -> None:
        """See `Simulator.validate`."""
        self._ask("validate", name=name)

    def end_tokens(self) -> None:
        """See `Simulator.end_tokens`."""
        self._ask("end_tokens")

    def forget_calls(self) -> None:
        """See `Simulator.forget_calls`."""
        self._ask("forget_calls")

    def _ask(self, verb: str, **arguments: Any) -> Any:
        request = urllib.request.Request(
            f"{self.address.control_url}{verb}",
            data=json.dumps(arguments).encode(),
            headers={HEADER: self.address.control_secret},
            method="POST",
        )
        try:
            with urllib.request.urlopen(request, timeout=30, context=self._tls) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            with error:
                told = json.load(error)
            raise Problem(int(told.get("code", -1)), str(told["problem"]), error.code) from None


class SimulatorProcess(RemoteSimulator):
    """A simulator in a process of its own, from `start` to `stop`; it ends with this process, however that ends."""

    def __init__(self, process: subprocess.Popen[str], address: Address) -> None:
        super().__init__(address)
        self.process = process

    @classmethod
    def start(cls, *, faults: str = "1", port: int = 0) -> SimulatorProcess:
        """`faults`: ``off``, or the seed. Returns as soon as it answers."""
        command = [sys.executable, "-m", "tests.simulators.sectigo", "--until-stdin-ends"]
        command += ["--port", str(port), "--faults", faults]
        process = subprocess.Popen(command, cwd=_ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise AssertionError(f"the simulator did not start (exit code {process.wait()})")
        return cls(process, Address(**json.loads(line)))

    def stop(self) -> None:
        """It is gone. Raises `AssertionError` if it failed at a request."""
        # The end of its standard input is its order to stop.
        out, _ = self.process.communicate(timeout=30)
        if self.process.returncode != 0:
            raise AssertionError(f"the simulator ended with code {self.process.returncode}: {out}")

    def __enter__(self) -> SimulatorProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
