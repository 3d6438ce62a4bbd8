"""Everything that is measured, brought up for real: server, manager, gateway, nginx; beside them the bare workers."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlmodel import col, select
from temporalio.client import Client

from bench.bare_worker import READY_PORT
from model.database import Database
from model.errors import CertgateError, Unavailable
from model.states import AccessMethod, InstallState, Role
from model.tables import Administrator, CertificateRequest
from operations import administrators, bootstrap, endpoints, identity
from operations.context import Context
from operations.lookup import identity as identity_of
from worker import local, settings
from worker.door import Door
from worker.playground import DisposableNginx
from worker.settings import Settings
from worker.supervisor import ChildSpec
from worker.up import Addresses, children, up

_REQUESTER, _APPROVER = "alice", "bob"


@dataclass(frozen=True)
class Stage:
    """What the drivers need. `servers` are nginx instances with one virtual host each, endpoints of the same names."""

    client: Client
    database: Database
    requester: Context
    approver: Context
    servers: Sequence[DisposableNginx]
    ready_socket: socket.socket

    def keys_ready(self) -> set[int]:
        """The requests that await their approver now, as certgate's database shows them."""
        with self.database.read() as session:
            statement = select(CertificateRequest.id).where(
                CertificateRequest.install_state == InstallState.KEY_READY, col(CertificateRequest.closed).is_(False)
            )
            return {number for number in session.exec(statement).all() if number is not None}

    def bare_ready(self) -> set[int]:
        """The bare workflows that have come to await their approver since the last call."""
        found = set()
        while True:
            try:
                found.add(int(self.ready_socket.recv(64).decode().removeprefix("bare-")))
            except BlockingIOError:
                return found


@asynccontextmanager
async def stage(servers: int, say: Callable[[str], None]) -> AsyncIterator[Stage]:
    """Bring it all up in a temporary folder with `servers` nginx instances; everything is ended and deleted after."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="certgate-bench-")))
        ready = stack.enter_context(socket.socket(type=socket.SOCK_DGRAM))
        ready.bind(("127.0.0.1", 0))
        ready.setblocking(False)
        nginxes = [_nginx(folder, number, stack) for number in range(servers)]
        # As where Python may keep its bytecode. Without, the sandbox compiles the workflow modules for each workflow.
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        os.environ["PYTHONPYCACHEPREFIX"] = str(folder / "bytecode")
        home = _home(folder / "home")
        addresses: asyncio.Future[Addresses] = asyncio.get_running_loop().create_future()
        stop = asyncio.Event()
        everything = asyncio.create_task(
            up(
                home,
                headless=True,
                on_ready=addresses.set_result,
                prepare=_prepare,
                notify=say,
                stop=stop,
                processes_of=lambda home, port: [*children(home, port), *_bare(home, ready.getsockname()[1])],
            )
        )
        door = Door(home)
        stack.callback(door.close)
        try:
            both: set[asyncio.Future[Any]] = {addresses, everything}
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            if not addresses.done():
                await everything
                raise Unavailable("The bench was stopped before it began.")
            owner = door.context(identity.owner(door.database), AccessMethod.COMMAND_LINE)
            for number, nginx in enumerate(nginxes):
                await _endpoint(owner, nginx, number)
            yield Stage(
                client=await door.temporal(),
                database=door.database,
                requester=_acting(door, owner, _REQUESTER),
                approver=_acting(door, owner, _APPROVER),
                servers=nginxes,
                ready_socket=ready,
            )
        finally:
            stop.set()
            await asyncio.wait({everything})
            if (error := everything.exception()) is not None and not isinstance(error, CertgateError):
                raise error


def name_of(number: int) -> str:
    """The virtual host of an nginx, and the name of that endpoint."""
    return f"host-{number}.example"


def _nginx(folder: Path, number: int, stack: ExitStack) -> DisposableNginx:
    place = folder / f"nginx-{number}"
    place.mkdir()
    return stack.enter_context(DisposableNginx(place, [name_of(number)]))


async def _endpoint(owner: Context, nginx: DisposableNginx, number: int) -> None:
    name = name_of(number)
    # As typed on the command line: what is no text is JSON.
    words = {key: value if isinstance(value, str) else json.dumps(value) for key, value in nginx.settings.items()}
    new = endpoints.NewEndpoint(gateway=bootstrap.LOCAL_GATEWAY, name=name, type="nginx", settings=words)
    endpoints.add(owner, new)
    await endpoints.discover(owner, bootstrap.LOCAL_GATEWAY, name)


def _bare(home: Settings, port: int) -> list[ChildSpec]:
    environment = {READY_PORT: str(port), "PYTHONPATH": str(Path(__file__).parent.parent)}
    return [
        ChildSpec(f"bare-{role}", [sys.executable, "-m", "bench.bare_worker", role, str(home.home)], environment)
        for role in ("manager", "gateway")
    ]


def _home(folder: Path) -> Settings:
    """A home of its own on free ports, whatever the environment says of another one."""
    folder.mkdir(mode=0o700)
    (folder / settings.FILE_NAME).write_text("[temporal]\nport = 0\nui_port = 0\n")
    for variable in [name for name in os.environ if name.startswith(("CERTGATE_", "TEMPORAL_"))]:
        del os.environ[variable]  # our children would follow it
    return settings.load(folder, {})


async def _prepare(home: Settings) -> None:
    await local.prepare(home)


def _acting(door: Door, owner: Context, login: str) -> Context:
    administrators.add(owner, administrators.NewAdministrator(login=login, full_name=login.title(), role=Role.MRAO))
    with door.database.read() as session:
        row = session.exec(select(Administrator).where(Administrator.login == login)).one()
    return door.context(identity.recognize(door.database, identity_of(row)), AccessMethod.COMMAND_LINE)
