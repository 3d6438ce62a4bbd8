"""Requests that are under way while their gateway changes: restored, delegated otherwise, set inactive, deleted."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from sqlmodel import col, select
from temporalio import activity
from temporalio.worker import Worker

from activities.admission import Admissions
from activities.keys import Keys
from activities.records import keystore_access
from connectors.registry import Surroundings
from connectors.secrets import resolve
from model import channel, naming, x509
from model.messages import DiscoveryStart, PreparedKey, PrepareKey, RequestView
from model.states import CertificateStatus, DelegationMode, InstallMode, InstallState
from model.tables import ApprovalPolicy, AuditEntry, CertificateAuthority, CertificateRequest, Endpoint, Gateway
from operations import enrollment, gateway_changes, gateway_delegation, joining, lookup, organizations, tokens
from operations.gateway_changes import NewGateway
from operations.gateway_news import tell_requests
from tests.support.world import World, wait_until
from worker import workers
from worker.playground import DisposableNginx, served_by
from workflows.gateways import EndpointDiscoveryWorkflow

_NUMBERS = itertools.count(1)


@dataclass
class Site:
    """A gateway of an organization of its own, and the hosts that are it in turn."""

    world: World
    folder: Path
    name: str
    number: int
    token: tokens.Token

    def home(self, host: str) -> Surroundings:
        """What a host has on its disk."""
        home = self.folder / host
        home.mkdir(mode=0o700, exist_ok=True)
        return Surroundings(home, resolve)

    def keys(self, host: str) -> list[str]:
        """The keys that a host has made."""
        return sorted(path.name for path in (self.folder / host / "keys").glob("*.key"))

    async def join(self, token: tokens.Token | None = None) -> int:
        """A host joins; gives the number of its channel."""
        token = token or self.token
        await joining.join(self.world.client, token, channel.new_key())
        await self.news()
        return token.channel

    def worker(self, host: str, number: int) -> Worker:
        """A host at work on a channel."""
        activities = workers.gateway_activities(self.home(host))
        return workers.gateway_worker(self.world.client, self.number, activities, channel=number)

    def restore(self) -> tokens.Token:
        """The host before is lost."""
        return tokens.read(enrollment.restore(self.world.context("admin"), self.name).token)

    async def news(self) -> int:
        """What the manager's keeper does every other second."""
        return await tell_requests(self.world.database, self.world.client)

    def delegate(self, *organization_names: str) -> None:
        """Let it serve these."""
        context = self.world.context("admin")
        gateway_delegation.delegate(context, self.name, organizations=organization_names)

    async def submit(self, common_name: str, **fields: Any) -> int:
        """A request of its organization."""
        return await self.world.submit(common_name, organization=self.name, gateway=self.name, **fields)

    def told(self, request_id: int) -> list[str]:
        """What the audit tells of a request."""
        with self.world.database.read() as session:
            statement = select(AuditEntry.action).where(
                AuditEntry.object_type == "request", AuditEntry.object_id == request_id
            )
            return list(session.exec(statement.order_by(col(AuditEntry.sequence))).all())

    async def waits_for(self, request_id: int, word: str) -> None:
        """Until the workflow says that it waits for that."""
        while True:
            view = await self.world.workflow(request_id).query("view", result_type=RequestView)
            if word in view.waiting_for:
                return
            await asyncio.sleep(0.02)


@pytest.fixture
def site(shared_world: World, tmp_path: Path) -> Site:
    """A gateway that nobody has joined yet."""
    name = f"Site {next(_NUMBERS)}"
    context = shared_world.context("admin")
    organizations.add(context, name)
    new = NewGateway(name, delegation_mode=DelegationMode.CUSTOMIZED, organizations=[name])
    made = gateway_changes.add(context, new)
    return Site(shared_world, tmp_path, name, made.gateway_id, tokens.read(made.token))


@pytest_asyncio.fixture(loop_scope="session")
async def nginx(tmp_path: Path) -> AsyncIterator[DisposableNginx]:
    """What the gateway's certificates are installed on."""
    (tmp_path / "nginx").mkdir()
    with DisposableNginx(tmp_path / "nginx", ["www.example.org"]) as server:
        yield server


async def endpoint(site: Site, nginx: DisposableNginx) -> str:
    """That nginx, discovered by the host that is at work."""
    with site.world.database.write() as session:
        row = Endpoint(gateway_id=site.number, name="nginx", type="nginx", settings=nginx.settings)
        session.add(row)
        session.flush()
        number = lookup.identity(row)
    await discover(site, number)
    return "nginx"


async def discover(site: Site, number: int) -> None:
    found = await site.world.client.execute_workflow(
        EndpointDiscoveryWorkflow.run,
        DiscoveryStart(number, "test"),
        id=f"discovery-{number}",
        task_queue=naming.MANAGER_QUEUE,
    )
    assert found.problem is None


@pytest.mark.parametrize("release", ["0.1", "today"])
async def test_a_step_that_waits_for_a_lost_host_goes_to_the_next_one(
    site: Site, release: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if release == "0.1":
        # What an admission by 0.1 said: nothing of channels.
        admission = Admissions._admission
        monkeypatch.setattr(Admissions, "_admission", lambda *given: dataclasses.replace(admission(*given), place=None))
    await site.join()
    number = await site.submit("waits.example.org")
    await site.waits_for(number, "key and CSR")
    token = site.restore()
    assert await site.news() == 1
    joined = await site.join(token)
    # The old host comes back later: nothing is put where it looks.
    async with site.worker("old", 1), site.worker("new", joined):
        await site.world.until(number, state=InstallState.KEY_READY)
        await site.world.say(number, "approve")
        await site.world.until(number, state=InstallState.NOT_CONFIGURED)
    assert (site.keys("old"), site.keys("new")) == ([], [f"request-{number}.key"])
    assert "key.replaced" not in site.told(number)


async def test_what_a_lost_host_still_does_counts_for_nothing(site: Site) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()
    keys = Keys(site.home("old"))

    @activity.defn(name="keys.prepare")
    async def slow(wanted: PrepareKey) -> PreparedKey:
        begun.set()
        await go_on.wait()
        return await keys.prepare(wanted)

    await site.join()
    number = await site.submit("slow.example.org")
    async with workers.gateway_worker(site.world.client, site.number, [slow]):
        await begun.wait()
        await site.join(site.restore())
        async with site.worker("new", 2):
            go_on.set()
            await site.world.until(number, state=InstallState.KEY_READY)
    assert site.keys("old") == site.keys("new") == [f"request-{number}.key"]
    of_new_host = await Keys(site.home("new")).prepare(await _prepared_as(site, number))
    csr = site.world.show(number).csr_pem
    assert csr is not None
    shown, there = x509.load_csr(csr), x509.load_csr(of_new_host.csr_pem)
    assert x509.public_key_sha256(shown) == x509.public_key_sha256(there)
    await site.world.say(number, "cancel", by="alice")


async def _prepared_as(site: Site, number: int) -> PrepareKey:
    with site.world.database.read() as session:
        access = keystore_access(session, session.get_one(CertificateRequest, number))
    detail = site.world.show(number)
    return PrepareKey(access, naming.key_alias(number), detail.key_algorithm, detail.common_name, detail.names)


async def test_an_approval_binds_to_the_key_and_is_asked_for_anew_when_that_is_lost(site: Site) -> None:
    with site.world.database.write() as session:
        owner = lookup.organization(session, site.world.actor("admin"), site.name)
        session.add(ApprovalPolicy(name=site.name, organization_id=owner.id, approvals_required=2))
    await site.join()
    async with site.worker("old", 1):
        lost, kept = await site.submit("lost.example.org"), await site.submit("kept.example.org")
        for number in (lost, kept):
            await site.world.until(number, state=InstallState.KEY_READY)
            assert "Another approval is needed" in await site.world.say(number, "approve")
    before = {number: site.world.show(number).csr_pem for number in (lost, kept)}
    # The backup has one of the two keys.
    (site.home("new").home / "keys").mkdir(mode=0o700)
    shutil.copy2(site.folder / "old" / "keys" / f"request-{kept}.key", site.folder / "new" / "keys")
    token = site.restore()
    assert await site.news() == 2
    async with site.worker("new", await site.join(token)):
        await wait_until(lambda: "key.replaced" in site.told(lost))
        await wait_until(lambda: site.world.show(lost).decisions == [])
        assert site.world.show(lost).csr_pem != before[lost]
        await site.world.say(kept, "approve", by="admin")
        await site.world.until(kept, state=InstallState.NOT_CONFIGURED)
        assert site.world.show(kept).csr_pem == before[kept]
        # One approval was given for another CSR: two are needed now.
        assert "Another approval is needed" in await site.world.say(lost, "approve", by="admin")
        assert site.world.show(lost).order_number is None
        await site.world.say(lost, "approve", by="bob")
        await site.world.until(lost, state=InstallState.NOT_CONFIGURED)
    assert "key.replaced" not in site.told(kept)


async def test_a_key_lost_between_approval_and_order_is_approved_anew(site: Site) -> None:
    await site.join()
    async with site.worker("old", 1):
        number = await site.submit("between.example.org")
        await site.world.until(number, state=InstallState.KEY_READY)
    token = site.restore()
    await site.news()
    # Approved while no host is there: the order waits for one that has the key.
    await site.world.say(number, "approve")
    await site.waits_for(number, "key and CSR")
    async with site.worker("new", await site.join(token)):
        await site.world.until(number, status=CertificateStatus.REQUESTED, state=InstallState.KEY_READY)
        await wait_until(lambda: "key.replaced" in site.told(number))
        assert site.world.show(number).order_number is None
        assert site.told(number).count("order.placed") == 0
        await site.world.say(number, "approve")
        await site.world.until(number, state=InstallState.NOT_CONFIGURED)
    assert site.told(number).count("order.placed") == 1


async def test_a_key_lost_after_the_order_is_told_and_its_backup_mends_it(site: Site, nginx: DisposableNginx) -> None:
    await site.join()
    async with site.worker("old", 1):
        name = await endpoint(site, nginx)
        number = await site.submit("www.example.org", endpoint=name, install=InstallMode.MANUAL)
        await site.world.until(number, state=InstallState.KEY_READY)
        await site.world.say(number, "approve")
        await site.world.until(number, state=InstallState.READY_FOR_INSTALL)
    token = site.restore()
    await site.news()
    async with site.worker("new", await site.join(token)):
        await site.world.say(number, "install")
        stuck = await site.world.until(number, state=InstallState.ACTION_REQUIRED)
        assert f"Key request-{number} is not on gateway {site.name} any more" in (stuck.reason or "")
        assert "submit the request again" in (stuck.reason or "")
        shutil.copytree(site.folder / "old" / "keys", site.folder / "new" / "keys", dirs_exist_ok=True)
        await site.world.say(number, "retry")
        done = await site.world.until(number, state=InstallState.COMPLETED)
        assert done.served_fingerprint == await served_by(nginx)
        # Other work goes to the new host, too.
        await discover(site, site_endpoint(site))
    assert site.told(number).count("order.placed") == 1


def site_endpoint(site: Site) -> int:
    with site.world.database.read() as session:
        return lookup.identity(session.exec(select(Endpoint).where(Endpoint.gateway_id == site.number)).one())


async def test_nothing_is_ordered_for_whom_the_gateway_no_longer_serves(site: Site) -> None:
    await site.join()
    async with site.worker("host", 1):
        number = await site.submit("held.example.org")
        await site.world.until(number, state=InstallState.KEY_READY)
        site.delegate("Default")
        await site.world.say(number, "approve")
        held = await site.world.until(number, state=InstallState.ACTION_REQUIRED)
        why = f"Gateway {site.name} no longer serves {site.name}: delegate it again, or cancel the request."
        assert (held.status, held.reason, held.order_number) == (CertificateStatus.APPROVED, why, None)
        # To try again does not help by itself, and nothing is lost.
        await site.world.say(number, "retry")
        await wait_until(lambda: site.told(number).count("request.held") == 2)
        assert await site.news() == 1
        site.delegate(site.name, "Default")
        assert await site.news() == 1
        await site.world.until(number, state=InstallState.NOT_CONFIGURED)
        assert await site.news() == 0
    actions = site.told(number)
    assert actions.count("order.placed") == 1
    assert actions.index("request.held") < actions.index("request.resumed") < actions.index("order.placed")


async def test_nothing_is_installed_by_a_gateway_that_is_not_active(site: Site, nginx: DisposableNginx) -> None:
    context = site.world.context("admin")
    await site.join()
    async with site.worker("host", 1):
        name = await endpoint(site, nginx)
        before = await served_by(nginx)
        number = await site.submit("www.example.org", endpoint=name, install=InstallMode.MANUAL)
        await site.world.until(number, state=InstallState.KEY_READY)
        await site.world.say(number, "approve")
        await site.world.until(number, state=InstallState.READY_FOR_INSTALL)
        gateway_changes.edit(context, site.name, active=False)
        await site.world.say(number, "install")
        held = await site.world.until(number, state=InstallState.ACTION_REQUIRED)
        assert "is not active: set it active again" in (held.reason or "")
        assert await served_by(nginx) == before
        gateway_changes.edit(context, site.name, active=True)
        await site.news()
        # The word to install was given already.
        done = await site.world.until(number, state=InstallState.COMPLETED)
        assert done.served_fingerprint == await served_by(nginx) != before


async def test_a_step_that_waits_is_taken_back_when_the_gateway_is_deleted(site: Site) -> None:
    await site.join()
    number = await site.submit("deleted.example.org")
    await site.waits_for(number, "key and CSR")
    gateway_changes.delete(site.world.context("admin"), site.name, force=True)
    assert await site.news() == 1
    held = await site.world.until(number, state=InstallState.ACTION_REQUIRED)
    assert "was deleted: cancel the request" in (held.reason or "")
    async with site.worker("host", 1):
        assert (await site.world.say(number, "cancel", by="alice")).startswith("Canceled by alice")
        await site.world.workflow(number).result()
    assert site.keys("host") == []


async def test_a_ca_that_only_the_gateway_reaches_is_reached_from_where_it_is_now(site: Site) -> None:
    with site.world.database.write() as session:
        own = session.exec(select(CertificateAuthority).where(CertificateAuthority.name == "private")).one()
        far = CertificateAuthority(
            name=f"far {site.name}", type="private", settings=dict(own.settings), reached_from="gateway"
        )
        session.add(far)
    await site.join()
    async with site.worker("old", 1):
        number = await site.submit("far.example.org", ca=f"far {site.name}")
        await site.world.until(number, state=InstallState.KEY_READY)
    await site.world.say(number, "approve")
    await site.waits_for(number, "order number")
    shutil.copytree(site.folder / "old", site.folder / "new")
    token = site.restore()
    await site.news()
    async with site.worker("new", await site.join(token)):
        await site.world.until(number, state=InstallState.NOT_CONFIGURED)
    assert site.told(number).count("order.placed") == 1


async def test_signals_that_anybody_sends_change_nothing_and_end(site: Site) -> None:
    await site.join()
    async with site.worker("host", 1):
        number = await site.submit("noise.example.org")
        await site.world.until(number, state=InstallState.KEY_READY)
        handle = site.world.workflow(number)
        for _ in range(110):
            await handle.signal("gateway_changed", {"anything": 1})
        await site.world.say(number, "approve")
        await site.world.until(number, state=InstallState.NOT_CONFIGURED)
    history = await handle.fetch_history()
    looks = [one for one in history.to_json().split('"') if one == "records.request_place"]
    assert len(looks) <= 101
    with site.world.database.read() as session:
        assert session.get_one(Gateway, site.number).told_standing is not None
