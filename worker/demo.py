"""The main job once, for real, in a folder of its own: request, approve, issue, install, and look at what is served.

Every process is the real one, started as `up` starts it. While the request waits for its approval, the manager and the
gateway are killed, so that one can see what a durable workflow is.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model.errors import CertgateError, Unavailable
from model.states import AccessMethod, InstallState, Role
from operations import administrators, bootstrap, decisions, endpoints, identity, requests, submission
from operations.context import Context
from worker import local, readiness, settings
from worker.door import Door
from worker.playground import DisposableNginx, served_by
from worker.settings import Settings
from worker.up import Addresses, up

NAME = "demo.example"
_REQUESTER, _APPROVER = "alice", "bob"


@dataclass(frozen=True)
class DemoResult:
    """What the demo did, in figures. Fingerprints are SHA-256, lower-case hex."""

    request_id: int
    workflow_id: str
    order_number: str
    issued_fingerprint: str
    served_before: str
    served_after: str
    history_events: int


async def run(*, folder: Path | None, say: Callable[[str], None]) -> DemoResult:
    """Do it, telling each step through `say`; everything that was started is stopped at the end.

    `folder` is kept when it is given, else a temporary one is deleted. Raises `Unavailable` when a part can't start or
    the certificate is not served in the end.
    """
    place = folder or Path(tempfile.mkdtemp(prefix="certgate-demo-"))
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        return await _run(place.resolve(), say)
    finally:
        if folder is None:
            shutil.rmtree(place, ignore_errors=True)


async def _run(place: Path, say: Callable[[str], None]) -> DemoResult:
    nginx_folder = place / "nginx"
    nginx_folder.mkdir(exist_ok=True)
    home = _home(place / "home")
    with DisposableNginx(nginx_folder, [NAME]) as nginx:
        before = await served_by(nginx)
        say(f"nginx runs on 127.0.0.1:{nginx.port} and serves a self-signed certificate: {before}")
        stop = asyncio.Event()
        ready: asyncio.Future[Addresses] = asyncio.get_running_loop().create_future()
        say("Starting Temporal, the manager and a gateway …")
        everything = asyncio.create_task(
            up(home, headless=True, on_ready=ready.set_result, prepare=_prepare, notify=say, stop=stop)
        )
        try:
            first: list[asyncio.Future[Any]] = [ready, everything]
            await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
            if not ready.done():
                await everything
                raise Unavailable("The demo was stopped before it began.")
            say(f"Temporal answers on {ready.result().temporal}.")
            return await _main_job(home, nginx, before, say)
        finally:
            stop.set()
            with suppress(CertgateError, asyncio.CancelledError):
                await everything


async def _main_job(home: Settings, nginx: DisposableNginx, before: str, say: Callable[[str], None]) -> DemoResult:
    door = Door(home)
    try:
        requester, approver = _acting(door, _REQUESTER), _acting(door, _APPROVER)
        admin = door.context(identity.owner(door.database), AccessMethod.COMMAND_LINE)
        endpoints.add(
            admin,
            endpoints.NewEndpoint(
                gateway=bootstrap.LOCAL_GATEWAY, name="demo nginx", type="nginx", settings=_words(nginx.settings)
            ),
        )
        found = await endpoints.discover(admin, bootstrap.LOCAL_GATEWAY, "demo nginx")
        say(f"Discovered in nginx's own configuration: {', '.join(row.binding for row in found)}.")
        request = await submission.submit(
            requester,
            submission.NewRequest(
                common_name=NAME,
                organization=bootstrap.FIRST_ORGANIZATION,
                gateway=bootstrap.LOCAL_GATEWAY,
                endpoint="demo nginx",
                comments="The demo's request.",
            ),
        )
        say(f"{_REQUESTER} requested a certificate for {NAME}: request {request.id}, workflow {request.workflow_id}.")
        request = await _until(requester, request.id, InstallState.KEY_READY)
        say("The gateway made the key in its keystore and sent the CSR; the request waits for an approver.")
        await _kill(home, say)
        receipt = await decisions.say(approver, request.id, "approve", "Looks right.")
        say(receipt.message)
        told = ""
        number = request.id
        async for request in requests.watch(requester, number):
            line = f"{request.status} / {request.install_state}"
            if line != told:
                say(line + (f", order {request.order_number}" if request.order_number else ""))
                told = line
            stuck = (InstallState.FAILED, InstallState.ROLLED_BACK, InstallState.ACTION_REQUIRED)
            if request.install_state in stuck:
                raise Unavailable(f"The demo's request did not succeed: {request.reason}")
        after = await served_by(nginx)
        if request.issued_fingerprint is None or request.order_number is None or after != request.issued_fingerprint:
            raise Unavailable(f"The demo's certificate is not served: {request.reason or request.status}.")
        client = await door.temporal()
        history = await client.get_workflow_handle(request.workflow_id).fetch_history()
        say(f"Served before: {before}")
        say(f"Served after:  {after}")
        return DemoResult(
            request_id=request.id,
            workflow_id=request.workflow_id,
            order_number=request.order_number,
            issued_fingerprint=request.issued_fingerprint,
            served_before=before,
            served_after=after,
            history_events=len(history.events),
        )
    finally:
        door.close()


def _home(folder: Path) -> Settings:
    """A home of its own on free ports, whatever the environment says of another one."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    file = folder / settings.FILE_NAME
    if not file.exists():
        file.write_text("[temporal]\nport = 0\nui_port = 0\n")
    alone = {name: value for name, value in os.environ.items() if not name.startswith(("CERTGATE_", "TEMPORAL_"))}
    return settings.load(folder, alone)


async def _prepare(home: Settings) -> None:
    await local.prepare(home)


def _acting(door: Door, login: str) -> Context:
    """The context of one of the demo's two people, who is made if need be."""
    owner = door.context(identity.owner(door.database), AccessMethod.COMMAND_LINE)
    known = {row.login: row.id for row in administrators.listing(owner)}
    if login not in known:
        administrators.add(owner, administrators.NewAdministrator(login=login, full_name=login.title(), role=Role.MRAO))
        return _acting(door, login)
    return door.context(identity.recognize(door.database, known[login]), AccessMethod.COMMAND_LINE)


def _words(values: Mapping[str, object]) -> dict[str, str]:
    """Settings as one types them."""
    return {key: value if isinstance(value, str) else json.dumps(value) for key, value in values.items()}


async def _until(context: Context, request_id: int, state: InstallState) -> requests.RequestDetail:
    async for detail in requests.watch(context, request_id):
        if detail.install_state == state:
            return detail
    raise Unavailable(f"The demo's request ended early: {detail.reason}")


async def _kill(home: Settings, say: Callable[[str], None]) -> None:
    """Kill manager and gateway as a crash would, and wait until new ones are at work."""
    for name in ("manager", "gateway"):
        process = readiness.ready(home.home, name)
        if process is None:
            continue
        os.kill(process.pid, signal.SIGKILL)
        say(f"Killed the {name} (kill -9 {process.pid}); the request is where it was.")
        while (successor := readiness.ready(home.home, name)) is None or successor.pid == process.pid:
            await asyncio.sleep(0.05)
        say(f"A new {name} is at work (process {successor.pid}).")
