"""PostgreSQL: the model on it, and the processes of docker-compose.yml by hand against it and an outside Temporal."""

from __future__ import annotations

import asyncio
import json
import secrets
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import text
from sqlalchemy.exc import DatabaseError
from sqlmodel import SQLModel, select
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.service import RPCError

from bench import trail
from connectors.registry import Surroundings
from connectors.secrets import resolve
from model import audit
from model.database import Database
from model.states import AccessMethod, CertificateStatus, InstallState
from model.tables import CertificateRequest, Gateway, Organization
from operations import audit_trail, bootstrap, campaigns, identity, requests, submission
from operations.context import Context, now
from tests.operations.conftest import Records, fill
from tests.operations.test_campaigns import Desk
from tests.support.holding import assert_exactly_one_of_everything, assert_nothing_left, orders, served
from tests.support.postgres import Postgres, postgres
from tests.support.running import certgate, environment_without_ours, start, stop, until
from tests.support.world import World
from worker import embedded_state, readiness
from worker.playground import DisposableNginx, free_port

NOW = datetime(2026, 11, 23, 12, 30, 15, 123456, tzinfo=UTC)
pytestmark = pytest.mark.timeout(300)
_APPENDS = """
import sys
from datetime import UTC, datetime
from model import audit
from model.database import Database
from model.states import AccessMethod
database = Database(sys.stdin.readline().strip())
for number in range(int(sys.argv[1])):
    with database.write() as session:
        act = audit.Act("alice", AccessMethod.API, "test.done", "test", f"act {number} - ü", object_id=number)
        audit.append(session, act, datetime.now(UTC))
database.close()
"""


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    """One PostgreSQL for this file; each test has a database of its own."""
    with postgres() as running:
        yield running


@pytest.fixture
def database(server: Postgres, request: pytest.FixtureRequest) -> Iterator[Database]:
    """An empty database of today's schema."""
    made = Database(server.create(request.node.name.lower()[:60]))
    made.upgrade()
    yield made
    made.close()


# --- the model --------------------------------------------------------------------------------------------------------


def test_a_campaign_is_chosen_looked_at_and_seen_on_it(database: Database, tmp_path: Path) -> None:
    fill(database)
    desk = Desk(Records(database, tmp_path))
    assert len(desk.look().hand_over) == 1
    assert desk.look(timedelta(minutes=3)).running == 1
    assert campaigns.listing(desk.records.acting("rao")).total == 2
    assert campaigns.listing(desk.records.acting("stranger")).total == 0
    assert [share.count for share in campaigns.issuers(desk.context)] == [1]


def test_migrations_lead_to_the_tables_of_today(database: Database) -> None:
    database.upgrade()
    assert database.revision() == database.newest_revision()
    with database.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": False})
        assert compare_metadata(context, SQLModel.metadata) == []


def test_two_processes_that_upgrade_at_once_both_succeed(server: Postgres) -> None:
    url = server.create("upgrade_at_once")
    program = (
        "import sys; from model.database import Database; "
        "d = Database(sys.stdin.readline().strip()); d.upgrade(); d.upgrade(); print(d.revision()); d.close()"
    )
    said = run_at_once([program] * 3, url)
    assert len(set(said)) == 1
    assert said[0].strip() == Database.newest_revision()


def test_the_audit_of_several_processes_is_gapless(server: Postgres, database: Database) -> None:
    run_at_once([_APPENDS] * 4, server.url(database.engine.url.database or ""), "25")
    with database.snapshot() as session:
        check = audit.verify(session, batch=7)
    assert (check.entries, check.finding) == (100, None)


def test_the_database_refuses_to_change_the_trail(database: Database) -> None:
    for name in ("first", "second"):
        with database.write() as session:
            act = audit.Act("alice", AccessMethod.API, "test.done", "test", name, once=name)
            audit.append(session, act, NOW)
    rest = ", ".join([*audit.FIELDS[1:-1], "previous_hash", "hash"])
    insert = f"INSERT INTO audit_entry (sequence, {rest}) SELECT"
    before, after = (
        f"{insert} sequence, {rest} FROM audit_entry WHERE sequence = 1",
        f"{insert} 3, {rest} FROM audit_entry WHERE sequence = 2",
    )
    for statement in (
        "UPDATE audit_entry SET actor = 'bob'",
        "UPDATE audit_entry SET actor = 'bob' WHERE sequence = 9",
        "DELETE FROM audit_entry WHERE sequence = 1",
        "TRUNCATE audit_entry",
        "TRUNCATE audit_entry, audit_head CASCADE",
        before,
        f"{before} ON CONFLICT (sequence) DO UPDATE SET actor = 'bob'",
        f"{before} ON CONFLICT DO NOTHING",
        after,
        after.replace("SELECT 3", "SELECT -1"),
        "MERGE INTO audit_entry USING audit_head ON audit_head.sequence = audit_entry.sequence "
        "WHEN MATCHED THEN UPDATE SET actor = 'bob'",
        "SET session_replication_role = replica; DELETE FROM audit_entry",
        "UPDATE audit_head SET sequence = 1",
        "UPDATE audit_head SET sequence = 3",
        "UPDATE audit_head SET hash = 'x'",
        "UPDATE audit_head SET id = 2",
        "DELETE FROM audit_head",
        "TRUNCATE audit_head",
        "INSERT INTO audit_head VALUES (2, 0, 'x')",
        "INSERT INTO audit_head VALUES (1, 0, 'x') ON CONFLICT (id) DO UPDATE SET sequence = 0",
    ):
        said = "audit entries are (never changed|added one)|the head of the audit trail only goes"
        with pytest.raises(DatabaseError, match=said), database.engine.begin() as connection:
            connection.execute(text(statement))
        with database.snapshot() as session:
            check = audit.verify(session)
        assert (check.entries, check.finding) == (2, None), statement


def test_what_was_changed_in_spite_of_that_is_found(database: Database) -> None:
    for number in range(5):
        with database.write() as session:
            audit.append(session, audit.Act("alice", AccessMethod.API, "test.done", "test", f"act {number}"), NOW)
    with database.engine.begin() as connection:
        connection.execute(text("ALTER TABLE audit_entry DISABLE TRIGGER USER"))
        connection.execute(text("DELETE FROM audit_entry WHERE sequence = 5"))
    with database.snapshot() as session:
        finding = audit.verify(session).finding
    assert finding is not None
    assert finding.sequence == 5


def test_a_check_is_of_one_moment(database: Database) -> None:
    """New entries of others, while it reads, are no finding."""
    trail.fill(database, 50)
    told: list[tuple[int, int]] = []

    def progress(done: int, of: int) -> None:
        told.append((done, of))
        with database.write() as session:
            audit.append(session, audit.Act("alice", AccessMethod.API, "test.done", "test", "meanwhile"), NOW)

    with database.snapshot() as session:
        found = audit.verify(session, batch=20, progress=progress)
    assert (found.entries, found.finding) == (50, None)
    assert told == [(20, 50), (40, 50), (50, 50)]
    with database.snapshot() as session:
        assert (audit.verify(session).entries, audit.verify(session).finding) == (53, None)


def test_times_come_back_as_they_went(database: Database) -> None:
    elsewhere = NOW.astimezone(timezone(timedelta(hours=5, minutes=45)))
    with database.write() as session:
        session.add(Gateway(name="a", name_key="a", created_at=elsewhere, joined_at=None))
    with database.engine.connect() as connection:
        connection.execute(text("SET TIME ZONE 'America/New_York'"))
        raw = connection.execute(select(Gateway.created_at)).scalar_one()
    with database.read() as session:
        (row,) = session.exec(select(Gateway)).all()
    assert raw == row.created_at == NOW
    assert row.created_at.tzinfo == UTC
    assert row.joined_at is None
    with pytest.raises(Exception, match="without a zone"), database.write() as session:
        session.add(Gateway(name="b", name_key="b", created_at=NOW.replace(tzinfo=None)))


async def test_lists_filter_and_sort_as_on_sqlite(server: Postgres, tmp_path: Path) -> None:
    found = []
    for url in (f"sqlite:///{tmp_path}/certgate.db", server.create("lists")):
        database = Database(url)
        try:
            found.append(await listed(database, tmp_path / database.engine.name))
        finally:
            database.close()
    assert found[0] == found[1]
    assert found[0]["search MIXED"] == ["mixed_case.example.org", "mixedxcase.example.org"]
    assert found[0]["search with wildcards"] == ["mixed_case.example.org"]


async def listed(database: Database, folder: Path) -> dict[str, Any]:
    """What the operations' lists say of the same few records."""
    folder.mkdir()
    await bootstrap.prepare(database, Surroundings(folder, resolve), NOW)

    async def nowhere() -> Client:
        raise RPCError("not here", 14, b"")  # type: ignore[arg-type]

    context = Context(database, identity.owner(database), AccessMethod.API, nowhere, lambda: NOW)
    with database.write() as session:
        for name in ("zeta", "Alpha", "beta"):
            session.add(Organization(name=name))
    common_names = ("mixed_case.example.org", "mixedxcase.example.org", "zz.example.org", "aa.example.org")
    for number, name in enumerate(common_names):
        new = submission.NewRequest(common_name="x.example.org", organization="Default", gateway="LOCAL")
        with pytest.raises(Exception, match="not here"):
            await submission.submit(context, new)
        with database.write() as session:
            row = session.get_one(CertificateRequest, number + 1)
            row.common_name, row.order_number = name, f"P-{number:06d}" if number else None
            row.status = CertificateStatus.APPLIED if number % 2 else CertificateStatus.REQUESTED
            session.add(row)

    def names(wanted: requests.Filter, **more: Any) -> list[str]:
        return [row.common_name for row in requests.listing(context, wanted, **more).rows]

    return {
        "all": names(requests.Filter()),
        "oldest first": names(requests.Filter(), newest_first=False, offset=1, limit=2),
        "search MIXED": sorted(names(requests.Filter(search="MIXED"))),
        "search with wildcards": names(requests.Filter(search="d_c")),
        "search order": names(requests.Filter(search="p-000002")),
        "statuses": names(requests.Filter(statuses=(CertificateStatus.APPLIED,))),
        "states": names(requests.Filter(install_states=(InstallState.NOT_STARTED,))),
        "gateway": len(names(requests.Filter(gateway="Local"))),
        "nobody's": names(requests.Filter(organization="default")),
        "awaiting": names(requests.Filter(awaiting_me=True)),
        "groups": [requests.counts(context, by) for by in ("status", "install_state", "gateway", "organization")],
        "trail": [row.action for row in audit_trail.listing(context).rows],
        "trail search": [
            row.description for row in audit_trail.listing(context, audit_trail.Filter(search="REQUESTED A")).rows
        ],
    }


# --- the processes ----------------------------------------------------------------------------------------------------


@dataclass
class ScaledOut:
    """Processes as the composition has them, started by hand."""

    folder: Path
    environment: dict[str, str]
    stack: ExitStack
    client: Client

    @property
    def home(self) -> Path:
        """The manager's home."""
        return self.folder / "manager"

    async def command(self, *words: str, home: Path | None = None) -> str:
        """Run a command to its end; it has to succeed."""
        process = await asyncio.create_subprocess_exec(
            *certgate(home or self.home, *words),
            env=self.environment,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, errors = await process.communicate()
        assert process.returncode == 0, (words, out.decode(), errors.decode())
        return out.decode()

    def world(self, url: str, gateway: Path) -> World:
        """The same, to act on from this process."""
        around = Surroundings(self.home, resolve)
        return World(self.home, Database(url), self.client, around, 1, Surroundings(gateway, resolve), now)

    async def service(self, kind: str, home: Path, *words: str) -> subprocess.Popen[bytes]:
        """Start a lasting process and wait until it is ready."""
        log = self.folder / f"{home.name}.log"
        process = start(certgate(home, *words), log, self.environment)
        self.stack.callback(stop, process)
        await until(lambda: readiness.ready(home, kind) is not None or process.poll() is not None)
        assert process.poll() is None, log.read_text()
        return process


@asynccontextmanager
async def outside(folder: Path, server: Postgres, name: str) -> AsyncIterator[ScaledOut]:
    """An outside Temporal, a database, and the environment that names both."""
    port = free_port()
    with ExitStack() as stack:
        command = [str(embedded_state.binary()), "server", "start-dev", "--headless", "--ip", "127.0.0.1"]
        command += ["--port", str(port), "--namespace", "certgate", "--log-level", "warn"]
        temporal = start(command, folder / "temporal.log", environment_without_ours())
        stack.callback(stop, temporal, 20)
        url_file = folder / "database-url"
        url_file.touch(mode=0o600)
        url_file.write_text(server.create(name) + "\n")
        environment = environment_without_ours(
            TEMPORAL_ADDRESS=f"127.0.0.1:{port}",
            TEMPORAL_NAMESPACE="certgate",
            CERTGATE_DATABASE_URL_FILE=str(url_file),
            CERTGATE_MANAGER_KEY_FILE=str(folder / "manager-key"),
        )
        (folder / "manager-key").write_text(secrets.token_hex(32) + "\n")
        client = None
        while client is None:
            assert temporal.poll() is None, (folder / "temporal.log").read_text()
            try:
                client = await Client.connect(
                    f"127.0.0.1:{port}", namespace="certgate", data_converter=pydantic_data_converter
                )
                await client.count_workflows("WorkflowId = 'none'")
            except (RuntimeError, RPCError):
                client = None
                await asyncio.sleep(0.05)
        yield ScaledOut(folder, environment, stack, client)


async def test_the_processes_of_the_composition_by_hand(server: Postgres, tmp_path: Path) -> None:
    names = [f"n{number}.example.org" for number in range(7)]
    async with outside(tmp_path, server, "by_hand") as scaled:
        said = await scaled.command("database", "upgrade", "--json")
        assert json.loads(said)["first_login"]["login"] == "admin"
        managers = [await scaled.service("manager", scaled.home, "manager")]
        token = tmp_path / "token"
        await scaled.command("gateway", "add", "--name", "container", "--token-file", str(token))
        assert token.stat().st_mode & 0o777 == 0o600
        gateway = tmp_path / "gateway"
        # A gateway needs Temporal and nothing else of ours.
        environment = {name: one for name, one in scaled.environment.items() if not name.startswith("CERTGATE_")}
        there = ScaledOut(scaled.folder, environment, scaled.stack, scaled.client)
        words = ("--gateway-home", str(gateway))
        await there.command("gateway", "join", "--token-file", str(token), *words, home=gateway)
        await there.service("gateway", gateway, "gateway", "run", *words)

        with DisposableNginx(tmp_path / "nginx", names) as nginx:
            given = [f"{key}={one if isinstance(one, str) else json.dumps(one)}" for key, one in nginx.settings.items()]
            place = ("--gateway", "container", "--name", "nginx", "--type", "nginx")
            await scaled.command("endpoint", "add", *place, *(part for one in given for part in ("--set", one)))
            await scaled.command("endpoint", "discover", "--gateway", "container", "nginx")
            await scaled.command("administrator", "add", "--login", "bob", "--role", "mrao", "--json")
            await scaled.command("administrator", "token", "bob", "--token-file", str(tmp_path / "token-of-bob"))
            asked = ("--organization", "Default", "--gateway", "container", "--endpoint", "nginx", "--json")
            said = await scaled.command("request", "submit", "--common-name", names[0], *asked)
            world = scaled.world(server.url("by_hand"), gateway)
            scaled.stack.callback(world.database.close)
            numbers = [int(json.loads(said)["id"])]
            await world.until(numbers[0], state=InstallState.KEY_READY)
            environment = {**scaled.environment, "CERTGATE_TOKEN": (tmp_path / "token-of-bob").read_text().strip()}
            bob = ScaledOut(scaled.folder, environment, scaled.stack, scaled.client)
            said = await bob.command("request", "approve", str(numbers[0]), "--comment", "ok", "--wait", "--json")
            detail = json.loads(said)
            assert (detail["status"], detail["install_state"]) == ("ISSUED", "COMPLETED")
            assert detail["served_fingerprint"] == detail["issued_fingerprint"] == await served(nginx.sites[0])

            # A manager with a key of its own would be one that no gateway knows.
            own = {key: one for key, one in scaled.environment.items() if key != "CERTGATE_MANAGER_KEY_FILE"}
            command = certgate(scaled.folder / "stranger", "manager")
            stranger = await asyncio.to_thread(subprocess.run, command, env=own, capture_output=True, text=True)
            assert (stranger.returncode, "Traceback" in stranger.stderr) == (1, False)
            assert "manager.key" in stranger.stderr
            # Two managers on one database and one queue, each with a home of its own: whatever they share is still
            # done once. The CA's folder is named in the database.
            managers.append(await scaled.service("manager", scaled.folder / "manager-2", "manager"))
            numbers += await asyncio.gather(*(submitted_and_approved(world, name) for name in names[1:]))
            for number in numbers:
                await world.until(number, state=InstallState.COMPLETED)
                await world.workflow(number).result()
            assert all(manager.poll() is None for manager in managers)
            for number in numbers:
                await assert_exactly_one_of_everything(world, number, nginx, scaled.home / "ca")
            assert len(orders(scaled.home / "ca")) == len(numbers)
            assert_nothing_left(world, nginx)
        listed = json.loads(await scaled.command("gateway", "list", "--json"))
        assert [(row["name"], row["status"]) for row in listed] == [("container", "Connected")]
        await scaled.command("doctor")


async def submitted_and_approved(world: World, name: str) -> int:
    """A request that bob approved."""
    number = await world.submit(name, by="admin", gateway="container", endpoint="nginx")
    await world.until(number, state=InstallState.KEY_READY)
    await world.say(number, "approve")
    return number


def run_at_once(programs: list[str], first_line: str, *arguments: str) -> list[str]:
    """Run Python programs side by side, each with a line on stdin (a URL has a password); gives what they printed."""
    running = [
        subprocess.Popen(
            [sys.executable, "-c", one, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for one in programs
    ]
    for process in running:
        assert process.stdin is not None
        process.stdin.write(first_line + "\n")
        process.stdin.flush()
    said = [process.communicate()[0] for process in running]
    assert [process.returncode for process in running] == [0] * len(running)
    return said
