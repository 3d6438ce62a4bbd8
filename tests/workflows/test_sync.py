"""Modules are brought together between the manager's records and a gateway's own file, with a real engine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlmodel import Session, col, select
from temporalio.worker import Worker

from activities import modules_file
from activities.modules import Modules
from connectors.registry import Surroundings
from connectors.secrets import resolve
from model import naming
from model.errors import Conflict, InvalidInput, NotPermitted
from model.states import InstallMode, Role
from model.tables import AuditEntry, Endpoint, Gateway, GatewaySync, RoleAssignment
from operations import modules
from operations.lookup import identity
from operations.modules import Direction, Order, Side, Standing, SyncState
from operations.modules_upkeep import keep_going
from tests.support.world import World

APPLY = Order(apply=True)


@dataclass
class Site:
    """A gateway with a home of its own; its worker runs while `awake`."""

    world: World
    home: Path
    number: int
    name: str

    @property
    def file(self) -> Path:
        """Its own file."""
        return self.home / modules_file.FILE_NAME

    def worker(self) -> Worker:
        """Its worker, not yet running."""
        channel = self.row(Gateway).channel
        activities = Modules(Surroundings(self.home, resolve)).steps()
        return Worker(self.world.client, task_queue=naming.gateway_queue(self.number, channel), activities=activities)

    @asynccontextmanager
    async def awake(self) -> AsyncIterator[None]:
        """While the gateway runs."""
        async with self.worker():
            yield

    async def sync(self, order: Order = APPLY, *, by: str = "alice") -> modules.SyncDetail:
        """Order a sync and wait for its end."""
        context = self.world.context(by)
        await modules.start(context, self.number, order)
        return await modules.wait(context, self.number)

    def detail(self) -> modules.SyncDetail:
        """As alice sees it."""
        return modules.show(self.world.context("alice"), self.number)

    def row(self, table: type[Any]) -> Any:
        """The gateway's own row of a table."""
        with Session(self.world.database.engine) as session:
            column = table.id if table is Gateway else table.gateway_id
            return session.exec(select(table).where(column == self.number)).one()

    def endpoints(self) -> dict[str, Endpoint]:
        """At the manager, by name."""
        with Session(self.world.database.engine) as session:
            rows = session.exec(select(Endpoint).where(Endpoint.gateway_id == self.number)).all()
            return {row.name: row for row in rows}

    def change(self, work: Callable[[Session], object]) -> None:
        """Something changes at the manager."""
        with self.world.database.write() as session:
            work(session)

    def add_endpoint(self, name: str, **fields: Any) -> None:
        """At the manager."""
        self.change(lambda session: session.add(Endpoint(gateway_id=self.number, name=name, type="nginx", **fields)))

    def told(self) -> list[str]:
        """What the audit tells of this gateway."""
        with Session(self.world.database.engine) as session:
            statement = select(AuditEntry).where(AuditEntry.gateway_id == self.number)
            rows = session.exec(statement.order_by(col(AuditEntry.sequence))).all()
            return [f"{row.actor}: {row.description}" for row in rows]


@pytest.fixture
def site(shared_world: World, tmp_path: Path) -> Site:
    home = tmp_path / "gateway"
    home.mkdir(mode=0o700)
    name = f"site {tmp_path.name}"[:60].replace("_", "-")
    with shared_world.database.write() as session:
        row = Gateway(name=name, name_key=name.casefold(), comments="Rack 12", created_at=shared_world.clock())
        session.add(row)
        session.flush()
        number = identity(row)
    return Site(shared_world, home, number, name)


async def test_both_sides_get_what_the_other_has_and_the_operators_words_stay(site: Site) -> None:
    site.add_endpoint("shop", settings={"configuration": "/etc/nginx/shop.conf"})
    site.file.write_text('# kept by ops\n[endpoints."mail # 2"]\ntype = "nginx"  # the old one\ninstall = "manual"\n')
    async with site.awake():
        looked = await site.sync(Order())
        assert looked.row.state == SyncState.COMPARED
        assert {line.key: line.standing for line in looked.lines} == {
            "property:comments": Standing.TO_GATEWAY,
            "keystore:default": Standing.TO_GATEWAY,
            "endpoint:mail # 2": Standing.FROM_GATEWAY,
            "endpoint:shop": Standing.TO_GATEWAY,
        }
        # Looking changes nothing.
        assert set(site.endpoints()) == {"shop"}
        done = await site.sync()
    assert (done.row.state, done.row.revision, done.lines) == (SyncState.DONE, 1, [])
    assert (done.row.changed_here, done.row.gateway_revision) == (0, 1)
    assert site.endpoints()["mail # 2"].install_mode == InstallMode.MANUAL
    text = site.file.read_text()
    assert "# kept by ops" in text
    assert "# the old one" in text
    found = modules_file.read(site.home)
    assert found.revision == site.row(Gateway).modules_revision == 1
    assert found.document["endpoint:shop"] == {
        "type": "nginx",
        "settings": {"configuration": "/etc/nginx/shop.conf"},
    }
    assert found.document["property:comments"] == "Rack 12"
    assert (site.home / modules_file.BACKUP_NAME).read_text().startswith("# kept by ops\n[endpoints")
    told = "\n".join(site.told())
    assert "alice: Endpoint mail # 2 of gateway" in told
    assert "alice: Endpoint shop was written into the file" in told
    assert {one["name"] for one in site.row(Gateway).modules} >= {"nginx", "pem", "local"}
    async with site.awake():
        again = await site.sync()
    assert again.row.state == SyncState.DONE
    assert again.row.revision == 1
    assert "nothing to do" in str(again.row.message)


async def test_a_conflict_waits_for_a_decision_and_the_rest_goes_on(site: Site) -> None:
    site.add_endpoint("shop")
    async with site.awake():
        await site.sync()
        site.change(lambda session: session.add(_edited(session, site, "shop", install_mode=InstallMode.MANUAL)))
        site.add_endpoint("new")
        text = site.file.read_text()
        assert 'type = "nginx"' in text
        site.file.write_text(text.replace('type = "nginx"', 'type = "nginx"\nsettings = { address = "10.0.0.1" }'))
        partly = await site.sync()
        assert partly.row.state == SyncState.PARTLY
        assert [line.key for line in partly.lines] == ["endpoint:shop"]
        assert "decide" in str(partly.lines[0].left)
        assert "new" in site.file.read_text()
        assert site.endpoints()["shop"].settings == {}
        assert "10.0.0.1" in site.file.read_text()

        looked = await site.sync(Order())
        assert looked.row.conflicts == 1
        with pytest.raises(InvalidInput, match="compare first"):
            await site.sync(Order(apply=True, decisions={"endpoint:shop": Side.GATEWAY}))
        done = await site.sync(_decided(looked, {"endpoint:shop": Side.GATEWAY}))
    assert done.row.state == SyncState.DONE
    shop = site.endpoints()["shop"]
    assert (shop.settings, shop.install_mode) == ({"address": "10.0.0.1"}, InstallMode.AUTO)
    assert any("of endpoint:shop the gateway's value counts" in one for one in site.told())


async def test_one_direction_leaves_the_other_for_later(site: Site) -> None:
    site.add_endpoint("here")
    site.file.write_text('[endpoints.there]\ntype = "nginx"\n')
    async with site.awake():
        first = await site.sync(Order(apply=True, direction=Direction.TO_GATEWAY))
        assert first.row.state == SyncState.PARTLY
        assert [line.key for line in first.lines] == ["endpoint:there"]
        assert set(site.endpoints()) == {"here"}
        assert set(modules_file.read(site.home).document) >= {"endpoint:here", "endpoint:there"}
        second = await site.sync(Order(apply=True, direction=Direction.FROM_GATEWAY))
    assert second.row.state == SyncState.DONE
    assert set(site.endpoints()) == {"here", "there"}


async def test_what_was_seen_is_what_is_done(site: Site) -> None:
    site.add_endpoint("shop")
    async with site.awake():
        looked = await site.sync(Order())
        site.add_endpoint("another")
        late = await site.sync(_decided(looked, {}))
        assert late.row.state == SyncState.CHANGED
        assert "in the meantime" in str(late.row.message)
        # Nothing was done, and the new difference is shown.
        assert not site.file.exists()
        assert "endpoint:another" in {line.key for line in late.lines}
        assert (await site.sync(_decided(late, {}))).row.state == SyncState.DONE


async def test_a_gateway_that_is_away_is_waited_for_and_found_again_after_a_restore(site: Site) -> None:
    context = site.world.context("alice")
    await modules.start(context, site.number, APPLY)
    await _until(lambda: site.detail().row.state == SyncState.WAITING)
    assert "does not answer" in str(site.detail().row.message)
    with pytest.raises(Conflict, match="under way"):
        await modules.start(context, site.number, APPLY)
    # Who only wants to look follows the one that is under way.
    assert (await modules.start(context, site.number, Order())).running
    site.change(lambda session: session.add(_with(session.get_one(Gateway, site.number), channel=2)))
    assert await keep_going(site.world.database, site.world.client, site.world.clock()) == 1
    async with site.awake():
        done = await modules.wait(context, site.number)
    assert done.row.state == SyncState.DONE


async def test_an_order_that_a_crash_left_unbegun_is_begun(site: Site) -> None:
    """The process that kept the order died before it reached the engine."""

    orphan = {"number": 1, "by": "alice", "described": "alice", "method": "api", "apply": True, "direction": "both"}
    site.change(
        lambda session: session.add(
            GatewaySync(gateway_id=site.number, state="asked", asked=orphan, updated_at=site.world.clock())
        )
    )
    later = site.world.clock() + timedelta(seconds=11)
    assert await keep_going(site.world.database, site.world.client, later - timedelta(seconds=10)) == 0
    assert await keep_going(site.world.database, site.world.client, later) == 1
    async with site.awake():
        assert (await modules.wait(site.world.context("alice"), site.number)).row.state == SyncState.DONE


async def test_a_cancel_ends_the_waiting_and_a_lost_right_refuses_it(site: Site) -> None:
    context = site.world.context("alice")
    await modules.start(context, site.number, APPLY)
    canceled = await modules.cancel(site.world.context("bob"), site.number)
    assert (canceled.state, canceled.message) == (SyncState.CANCELED, "Canceled by bob.")
    with pytest.raises(Conflict):
        await modules.cancel(context, site.number)

    site.world.administrator("leaver")
    await modules.start(site.world.context("leaver"), site.number, APPLY)
    with site.world.database.write() as session:
        actor = site.world.actor("leaver")
        for grant in session.exec(select(RoleAssignment).where(RoleAssignment.administrator_id == actor.id)).all():
            session.delete(grant)
    await modules.nudge(site.world.client, site.number)
    refused = await modules.wait(context, site.number)
    assert refused.row.state == SyncState.REFUSED
    assert not site.file.exists()
    site.world.administrator("nobody", Role.RAO, (), organization_id=1)
    with pytest.raises(NotPermitted):
        await modules.start(site.world.context("nobody"), site.number, Order())


async def test_a_step_of_an_order_that_was_never_given_changes_nothing(site: Site) -> None:
    """The engine is not trusted: whoever starts the workflow by its tools has no order in the records."""
    site.file.write_text('[endpoints.theirs]\ntype = "nginx"\n')
    async with site.awake():
        await modules.start_workflow(site.world.client, site.number, 99)
        result = await site.world.client.get_workflow_handle(naming.sync_workflow(site.number)).result()
    assert result["state"] == "ended"
    assert site.endpoints() == {}


async def test_a_manager_ended_between_the_two_sides_loses_nothing(site: Site) -> None:
    """Ended by force after the manager took over and before the gateway wrote, and once more after it had written."""
    site.add_endpoint("here")
    site.file.write_text('[endpoints.there]\ntype = "nginx"\n')
    async with site.awake():
        await modules.start(site.world.context("alice"), site.number, APPLY)
        await _until(lambda: site.row(GatewaySync).plan, every=0.002)
        await site.world.client.get_workflow_handle(naming.sync_workflow(site.number)).terminate()
        assert set(site.endpoints()) == {"here", "there"}
        # The records still say that it runs; whoever asks again is not refused for it.
        done = await site.sync()
    assert done.row.state == SyncState.DONE
    assert set(site.endpoints()) == {"here", "there"}
    assert set(modules_file.read(site.home).document) >= {"endpoint:here", "endpoint:there"}
    assert done.lines == []


async def test_an_endpoint_in_use_is_not_taken_away_by_the_file(site: Site) -> None:
    site.add_endpoint("shop")
    async with site.awake():
        await site.sync()
        endpoint = site.endpoints()["shop"]
        number = await site.world.submit("sync.example", gateway=site.name)
        site.change(lambda session: _attach(session, number, endpoint))
        site.file.write_text("revision = 1\n")
        looked = await site.sync(Order())
        problems = {line.key: line.takeover_problem for line in looked.lines}
        assert f"open request {number}" in str(problems["endpoint:shop"])
        assert "named default" in str(problems["keystore:default"])
        partly = await site.sync(_decided(looked, {}))
        assert partly.row.state == SyncState.PARTLY
        assert set(site.endpoints()) == {"shop"}
        assert site.row(Gateway).comments == ""
        # The manager's word may be given back to the file instead.
        keys = [line.key for line in partly.lines]
        decisions = dict.fromkeys(keys, Side.MANAGER)
        done = await site.sync(_decided(await site.sync(Order()), decisions))
    assert done.row.state == SyncState.DONE
    assert "endpoint:shop" in modules_file.read(site.home).document


async def test_a_file_that_is_none_is_told_and_one_bad_entry_spoils_nothing_else(site: Site) -> None:
    site.file.write_text('[endpoints.a]\ntype = "nginx\n')
    async with site.awake():
        failed = await site.sync()
        assert failed.row.state == SyncState.FAILED
        assert "line 2" in str(failed.row.message)
        secret = "Tr0ub4dor&3"
        keystore = f'[keystores.default]\ntype = "pem"\nsettings = {{ passphrase = "{secret}" }}\n'
        site.file.write_text(keystore + '[endpoints.a]\ntype = "nginx"\n')
        partly = await site.sync()
    assert partly.row.state == SyncState.PARTLY
    (line,) = partly.lines
    assert line.standing == Standing.UNREADABLE
    assert "line 3" in str(line.left)
    assert "not the secret itself" in str(line.left)
    assert set(site.endpoints()) == {"a"}
    assert secret in site.file.read_text()
    handle = site.world.client.get_workflow_handle(naming.sync_workflow(site.number))
    assert secret not in (await handle.fetch_history()).to_json()


async def test_many_gateways_do_not_wait_for_one(site: Site) -> None:
    context = site.world.context("alice")
    async with site.awake():
        with site.world.database.write() as session:
            row = Gateway(name=f"{site.name} 2", name_key=f"{site.name} 2".casefold(), created_at=site.world.clock())
            session.add(row)
            session.flush()
            away = identity(row)
        started = await modules.start_many(context, [site.number, away], APPLY)
        assert [one.problem for one in started] == [None, None]
        await modules.wait(context, site.number)
        rows = {row.gateway_id: row for row in modules.progress(context, [site.number, away])}
        assert rows[site.number].state == SyncState.DONE
        assert rows[away].running
        assert away in {row.gateway_id for row in modules.progress(context)}
        await modules.cancel(context, away)


def _decided(looked: modules.SyncDetail, decisions: dict[str, Side]) -> Order:
    assert looked.manager_digest is not None
    assert looked.gateway_digest is not None
    return Order(apply=True, decisions=decisions, seen=(looked.manager_digest, looked.gateway_digest))


def _edited(session: Session, site: Site, name: str, **fields: Any) -> Endpoint:
    statement = select(Endpoint).where(Endpoint.gateway_id == site.number, Endpoint.name == name)
    return _with(session.exec(statement).one(), **fields)  # type: ignore[no-any-return]


def _with(row: Any, **fields: Any) -> Any:
    for name, value in fields.items():
        setattr(row, name, value)
    return row


def _attach(session: Session, request_id: int, endpoint: Endpoint) -> None:
    from model.tables import CertificateRequest

    session.add(_with(session.get_one(CertificateRequest, request_id), endpoint_id=endpoint.id))


async def _until(condition: Callable[[], Any], *, every: float = 0.02) -> None:
    while not condition():
        await asyncio.sleep(every)
