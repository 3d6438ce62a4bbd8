"""What happens to a device, by hand and from another process: ``POST /_control/VERB`` with the control secret in a
header and a JSON object of arguments does what the method of that name of `Simulator` does."""

from __future__ import annotations

import dataclasses
import hmac
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tests.simulators.f5.faults import Fault
from tests.simulators.f5.problems import Problem
from tests.simulators.sectigo.wire import Reply, Request

if TYPE_CHECKING:
    from tests.simulators.f5.simulator import Simulator

PATH = "/_control/"
HEADER = "x-control-secret"

VERBS: dict[str, Callable[..., Any]] = {
    "inject": lambda device, fault, **more: device.inject(Fault(fault), **more),
    "fair_weather": lambda device: device.fair_weather(),
    "fail_over": lambda device: device.fail_over(),
    "end_tokens": lambda device: device.end_tokens(),
    "end_transactions": lambda device: device.end_transactions(),
    "disconnect": lambda device, **more: device.disconnect(**more),
    "starting": lambda device, **more: device.starting(**more),
    "freeze": lambda device, **more: device.freeze(**more),
    "change": lambda device, **more: device.change(**more),
    "reset": lambda device: device.reset(),
    "calls": lambda device: [dataclasses.asdict(one) for one in device.calls],
    "profiles": lambda device: {one: device.configuration.chain_of(one) for one in device.configuration.profiles},
    "files": lambda device: {unit.name: sorted(unit.files) for unit in device.units},
}


def answer(device: Simulator, request: Request) -> Reply:
    """Do what a request to the control path asks for."""
    if not hmac.compare_digest(request.headers.get(HEADER, "").encode(), device.control_secret.encode()):
        return Reply.of({"problem": "The control secret is wrong."}, 401)
    verb = VERBS.get(request.path.removeprefix(PATH))
    if request.method != "POST" or verb is None:
        return Reply.of({"problem": "There is no such control."}, 404)
    try:
        return Reply.of({"value": verb(device, **request.json())})
    except Problem as problem:
        return Reply.of({"problem": problem.message}, 409)
    except (TypeError, ValueError, KeyError) as error:
        return Reply.of({"problem": f"The arguments do not fit: {error}."}, 400)
