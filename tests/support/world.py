"""A whole certgate in one process, on real parts: database, Temporal server, manager and gateway workers, nginx.

Tests of single processes being killed use `worker/up.py`; this one is for everything that a request goes through.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlmodel import Session, select
from temporalio.client import Client, WorkflowHandle
from temporalio.testing import WorkflowEnvironment

from activities.issuance import Fetching
from activities.orders import Orders
from connectors.endpoints.scan import Rules, network, ports
from connectors.registry import Surroundings
from connectors.secrets import resolve
from model import messages, naming
from model.database import Database
from model.states import AccessMethod, CertificateStatus, InstallState, Role
from model.tables import Administrator, Endpoint, EndpointBinding, RoleAssignment
from operations import bootstrap, decisions, manager_key, requests, submission
from operations.context import Actor, Context, now
from operations.identity import recognize
from operations.lookup import identity
from tests.support import databases
from worker import embedded_state, workers
from worker.connection import worker_runtime
from worker.converter import DATA_CONVERTER
from worker.playground import DisposableNginx
from workflows import attributes
from workflows.gateways import EndpointDiscoveryWorkflow

# Servers of tests are on this machine.
LOOPBACK = Fetching(networks=("127.0.0.0/8",))
# What its gateway may look through, and on free ports.
LOOKED_THROUGH = Rules((network("127.0.0.0/28"),), ports(["1024-65535"]), rate=1000, at_once=32)


@dataclass
class World:
    """What a test needs to drive certgate."""

    home: Path
    database: Database
    client: Client
    surroundings: Surroundings
    gateway_id: int
    gateway_surroundings: Surroundings
    clock: Callable[[], datetime]

    def context(self, login: str) -> Context:
        """Act as `login`."""

        async def temporal() -> Client:
            return self.client

        return Context(self.database, self.actor(login), AccessMethod.API, temporal, self.clock)

    def actor(self, login: str) -> Actor:
        """The administrator `login` with today's rights."""
        with self.database.read() as session:
            row = session.exec(select(Administrator).where(Administrator.login == login)).one()
        return recognize(self.database, identity(row))

    def administrator(
        self, login: str, role: Role = Role.MRAO, privileges: Sequence[str] = (), organization_id: int | None = None
    ) -> None:
        """Make an administrator, straight in the database."""
        with self.database.write() as session:
            if session.exec(select(Administrator).where(Administrator.login == login)).first():
                return
            row = Administrator(login=login, full_name=login.title(), created_at=now())
            session.add(row)
            session.flush()
            session.add(
                RoleAssignment(
                    administrator_id=identity(row),
                    role=role,
                    organization_id=organization_id,
                    privileges=list(privileges),
                )
            )

    async def endpoint(self, nginx: DisposableNginx, name: str, **fields: Any) -> int:
        """Add an nginx and discover what it serves."""
        with self.database.write() as session:
            row = Endpoint(gateway_id=self.gateway_id, name=name, type="nginx", settings=nginx.settings, **fields)
            session.add(row)
            session.flush()
            endpoint_id = identity(row)
        await self.client.execute_workflow(
            EndpointDiscoveryWorkflow.run,
            messages.DiscoveryStart(endpoint_id, "test"),
            id=f"discovery-{endpoint_id}",
            task_queue=naming.MANAGER_QUEUE,
        )
        return endpoint_id

    def bindings(self, endpoint_id: int) -> list[EndpointBinding]:
        """What was discovered."""
        with self.database.read() as session:
            return list(session.exec(select(EndpointBinding).where(EndpointBinding.endpoint_id == endpoint_id)).all())

    async def submit(self, common_name: str, *, by: str = "alice", **fields: Any) -> int:
        """Submit a request; gives its id."""
        given = {"organization": bootstrap.FIRST_ORGANIZATION, "gateway": bootstrap.LOCAL_GATEWAY, **fields}
        new = submission.NewRequest(common_name=common_name, **given)
        return (await submission.submit(self.context(by), new)).id

    async def say(self, request_id: int, word: decisions.Word, comment: str = "", *, by: str = "bob") -> str:
        """Say a word to a request."""
        return (await decisions.say(self.context(by), request_id, word, comment)).message

    def show(self, request_id: int) -> requests.RequestDetail:
        """The request as its requester sees it."""
        return requests.show(self.context("admin"), request_id)

    async def until(
        self, request_id: int, *, status: CertificateStatus | None = None, state: InstallState | None = None
    ) -> requests.RequestDetail:
        """Wait until the request is there; the test's own time limit is the bound."""
        async for detail in requests.watch(self.context("admin"), request_id, every=0.02):
            if (status is None or detail.status == status) and (state is None or detail.install_state == state):
                return detail
        raise AssertionError(f"request {request_id} ended as {self.show(request_id)}")

    def workflow(self, request_id: int) -> WorkflowHandle[Any, Any]:
        """The handle of a request's workflow."""
        return self.client.get_workflow_handle(naming.request_workflow(request_id), result_type=messages.RequestResult)

    def renewal(self, certificate_id: int | None) -> WorkflowHandle[Any, Any]:
        """The handle of the workflow that watches over a certificate."""
        assert certificate_id is not None
        return self.client.get_workflow_handle(
            naming.renewal_workflow(certificate_id), result_type=messages.RenewalView
        )

    def rows(self, table: type[Any]) -> list[Any]:
        """Every row of a table."""
        with Session(self.database.engine) as session:
            return list(session.exec(select(table)).all())


@asynccontextmanager
async def world(
    folder: Path, *, environment: WorkflowEnvironment | None = None, clock: Callable[[], datetime] = now
) -> AsyncIterator[World]:
    """Bring everything up in `folder`, and down at the end. `clock` tells the time of a time-skipping environment."""
    async with AsyncExitStack() as stack:
        if environment is None:
            environment = await stack.enter_async_context(
                await WorkflowEnvironment.start_local(
                    data_converter=DATA_CONVERTER,
                    dev_server_existing_path=str(embedded_state.binary()),
                    search_attributes=list(attributes.ALL),
                    runtime=worker_runtime(),
                    dev_server_extra_args=["--headless"],
                )
            )
        client = environment.client
        database = databases.empty(folder)
        stack.callback(database.close)
        surroundings = Surroundings(folder, resolve, clock=clock)
        prepared = await bootstrap.prepare(database, surroundings, clock())
        assert prepared.gateway_id is not None
        key = manager_key.establish(database, folder / manager_key.FILE_NAME)
        gateway_home = folder / "gateway"
        gateway_home.mkdir(mode=0o700)
        gateway_surroundings = Surroundings(gateway_home, resolve, clock=clock)
        executor = stack.enter_context(ThreadPoolExecutor(16))
        made = World(folder, database, client, surroundings, prepared.gateway_id, gateway_surroundings, clock)
        activities = workers.manager_activities(database, surroundings, key, LOOPBACK)
        at_gateway = workers.gateway_activities(gateway_surroundings, LOOKED_THROUGH)
        owners = {getattr(step, "__self__", None) for step in (*activities, *at_gateway)}
        for orders in (one for one in owners if isinstance(one, Orders)):
            stack.push_async_callback(orders.close)
        await stack.enter_async_context(workers.manager_worker(client, activities, executor))
        await stack.enter_async_context(workers.gateway_worker(client, prepared.gateway_id, at_gateway))
        for login in ("alice", "bob"):
            made.administrator(login)
        yield made


async def wait_until(condition: Any, *, every: float = 0.02) -> None:
    """Wait until a condition holds; bounded by the test's own time limit."""
    while not condition():
        await asyncio.sleep(every)


__all__ = ["World", "wait_until", "world"]
