"""Record histories for the replay tests: ``python -m tests.workflows.record``.

Do this when a workflow is changed on purpose, and *add* files: histories recorded before a release stay, since requests
that began under it may still be running.
"""

from __future__ import annotations

import asyncio
import re
import sys
import tempfile
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from sqlalchemy import update
from temporalio.client import WorkflowFailureError, WorkflowHandle

from activities import modules_file
from connectors.ca.contract import OrderRequest, RevocationReason, RevokeRequest
from connectors.ca.private import CONNECTOR
from connectors.registry import Surroundings
from connectors.secrets import resolve
from model import channel, naming
from model.messages import (
    AdministratorWord,
    AuthorityWatchStart,
    CampaignRate,
    CampaignSaid,
    OrderWord,
    RequestView,
    RevocationStart,
)
from model.states import ConnectionStatus, InstallMode, InstallState, OrderWay
from model.tables import Certificate, CertificateRequest, Gateway
from operations import (
    authorities,
    campaign_words,
    campaigns,
    certificate_import,
    endpoints,
    enrollment,
    gateway_changes,
    gateway_news,
    groups,
    inventory_scans,
    joining,
    keystores,
    modules,
    rollback,
    tokens,
    trust,
    trust_news,
    verification,
)
from operations.campaign_selection import Plan, Selection
from operations.inventory_scans import NewScan
from tests import pki
from tests.pki import pem
from tests.support.chained import chained_in, install_chained
from tests.support.world import World, wait_until, world
from worker import workers
from worker.playground import DisposableNginx, free_port
from workflows.authority_watch import AuthorityWatchWorkflow
from workflows.renewal import CertificateRenewalWorkflow
from workflows.revocation import CertificateRevocationWorkflow

HISTORIES = Path(__file__).parent.parent / "histories"


async def main(release: str) -> None:
    """Run every workflow once and keep its history."""
    with tempfile.TemporaryDirectory(prefix="certgate-histories-") as folder:
        place = Path(folder)
        (place / "nginx").mkdir()
        with DisposableNginx(place / "nginx", ["www.example.org", "web.example.org"]) as nginx:
            async with world(place) as made:
                await record(made, nginx, release)


def keeper(release: str) -> Callable[[str, WorkflowHandle[Any, Any]], Awaitable[None]]:
    """Keeps the history of a workflow under a name."""

    async def keep(name: str, handle: WorkflowHandle[Any, Any]) -> None:
        history = await handle.fetch_history()
        # Stack traces name the recording machine's folders and mean nothing to a replay.
        text = re.sub(r'("stackTrace": )"(?:[^"\\]|\\.)*"', r'\1""', history.to_json())
        (HISTORIES / f"{release}-{name}.json").write_text(text)

    return keep


async def record(made: World, nginx: DisposableNginx, release: str) -> None:
    """The runs worth keeping."""

    keep = keeper(release)

    endpoint_id = await made.endpoint(nginx, "nginx")
    await keep("discovery", made.client.get_workflow_handle(f"discovery-{endpoint_id}"))

    await endpoints.test(made.context("admin"), made.gateway_id, endpoint_id)
    await keep("endpoint-test", made.client.get_workflow_handle(naming.endpoint_test_workflow(endpoint_id)))
    looked = await keystores.check(made.context("admin"), made.gateway_id)
    await keep("keystore-look", made.client.get_workflow_handle(naming.keystore_workflow(looked.keystore.id)))

    await record_scans(made, keep)

    private = authorities.show(made.context("admin"), "private").id
    await authorities.check(made.context("admin"), private, made.surroundings, made.gateway_id)
    checked = naming.authority_check_workflow(private, made.gateway_id)
    await keep("authority-check", made.client.get_workflow_handle(checked))

    async def ready(**fields: Any) -> int:
        number = await made.submit("www.example.org", endpoint="nginx", **fields)
        await made.until(number, state=InstallState.KEY_READY)
        return number

    plain = await ready()
    await made.say(plain, "approve", "ok")
    await made.until(plain, state=InstallState.COMPLETED)
    await made.workflow(plain).result()
    await keep("request-served", made.workflow(plain))

    declined = await ready()
    await made.workflow(declined).signal("approve", AdministratorWord("alice"))
    await made.workflow(declined).signal("decline", AdministratorWord("bob", "no"))
    await made.workflow(declined).result()
    await keep("request-declined-by-signal", made.workflow(declined))

    manual = await ready(install=InstallMode.MANUAL)
    await made.say(manual, "approve")
    await made.until(manual, state=InstallState.READY_FOR_INSTALL)
    sound = nginx.configuration.read_text()
    nginx.configuration.write_text(sound + "broken")
    await made.say(manual, "install")
    await made.until(manual, state=InstallState.FAILED)
    nginx.configuration.write_text(sound)
    await made.say(manual, "retry")
    await made.workflow(manual).result()
    await keep("request-manual-failed-retried", made.workflow(manual))

    canceled = await ready(install=InstallMode.MANUAL)
    await made.say(canceled, "approve")
    await made.until(canceled, state=InstallState.READY_FOR_INSTALL)
    await made.say(canceled, "cancel")
    await made.workflow(canceled).result()
    await keep("request-canceled-after-issue", made.workflow(canceled))

    waiting = await ready()
    await keep("request-awaiting-decision", made.workflow(waiting))

    bare = await made.submit("renewed.example.org")
    await made.until(bare, state=InstallState.KEY_READY)
    await made.say(bare, "approve")
    await made.workflow(bare).result()
    in_use = next(row for row in made.rows(Certificate) if row.request_id == bare)
    assert in_use.id is not None
    watch = made.renewal(in_use.id)
    await keep("renewal-asleep", watch)
    await watch.execute_update(CertificateRenewalWorkflow.renew, AdministratorWord("bob"))
    await watch.result()
    await keep("renewal-renewed", watch)

    newest = made.rows(Certificate)[-1]
    assert newest.id is not None
    revocation = await made.client.start_workflow(
        CertificateRevocationWorkflow.run,
        RevocationStart(newest.id, "bob", "superseded"),
        id=naming.revocation_workflow(newest.id),
        task_queue=naming.MANAGER_QUEUE,
    )
    await revocation.result()
    await keep("revocation", revocation)

    await record_campaigns(made, keep)
    await record_lifecycle(made, keep)
    await record_syncs(made, keep)
    await record_changes(made, keep)
    await record_chain(made, keep)
    await record_endpoints(made, nginx, keep)

    with made.database.write() as session:
        session.add(Gateway(name="branch", name_key="branch", created_at=made.clock()))
    token = tokens.read(enrollment.new_token(made.context("admin"), "branch").token)
    key = channel.new_key()
    parties = joining.parties_of(token, key)
    await joining.join(made.client, token, key)
    await keep("join", made.client.get_workflow_handle(naming.join_workflow(token.gateway_id, parties.gateway_key)))
    await joining.check_in(made.client, key, parties, [], made.clock())
    await keep("check-in", made.client.get_workflow_handle(naming.check_in_workflow(token.gateway_id, 1)))


async def record_lifecycle(made: World, keep: Callable[[str, WorkflowHandle[Any, Any]], Awaitable[None]]) -> None:
    """A certificate that is replaced and then revoked, and one that its CA revokes, with the watch that sees it."""

    async def in_use(name: str) -> Certificate:
        number = await made.submit(name)
        await made.until(number, state=InstallState.KEY_READY)
        await made.say(number, "approve")
        await made.workflow(number).result()
        found: Certificate = next(row for row in made.rows(Certificate) if row.request_id == number)
        return found

    replaced = await in_use("replaced.example.org")
    word = OrderWord("bob", OrderWay.REPLACE, "recorded", 1, True, "superseded")
    watch = made.renewal(replaced.id)
    await watch.execute_update(CertificateRenewalWorkflow.replace, word)
    await watch.signal(CertificateRenewalWorkflow.order, OrderWord("bob", campaign_id=2))
    await watch.result()
    await keep("renewal-replaced", watch)

    revoked = await in_use("revoked.example.org")
    owner = CONNECTOR.open(CONNECTOR.configure({}), made.surroundings)
    order = next(row.order_number for row in made.rows(CertificateRequest) if row.id == revoked.request_id)
    await owner.revoke(RevokeRequest(order, revoked.pem, revoked.serial_number, RevocationReason.SUPERSEDED))
    authority = await made.client.start_workflow(
        AuthorityWatchWorkflow.run,
        AuthorityWatchStart(1),
        id=naming.authority_workflow(1),
        task_queue=naming.MANAGER_QUEUE,
    )
    watch = made.renewal(revoked.id)
    await watch.result()
    await keep("renewal-disowned", watch)
    while not (await authority.query(AuthorityWatchWorkflow.view)).asked:
        await asyncio.sleep(0.05)
    await keep("authority-watch", authority)

    name = "elsewhere.example.org"
    request = OrderRequest("elsewhere", pki.make_csr(pki.new_key(), [name]), name, [name])
    placed = await owner.submit(request)
    admin = made.context("admin")
    new = certificate_import.NewImport(1, 1, made.gateway_id, profile=1, auto_renew=True)
    view = await certificate_import.begin(admin, new)
    importing = made.client.get_workflow_handle(naming.import_workflow(view.id))
    await importing.result()
    await keep("import-listed", importing)
    await certificate_import.take(admin, view.id, [placed.number])
    importing = made.client.get_workflow_handle(naming.import_workflow(view.id))
    await importing.result()
    await keep("import-taken", importing)


async def record_changes(made: World, keep: Callable[[str, WorkflowHandle[Any, Any]], Awaitable[None]]) -> None:
    """A request whose gateway is restored while its first step waits, and that is held before it orders."""
    admin = made.context("admin")
    token = tokens.read(gateway_changes.add(admin, gateway_changes.NewGateway("moving")).token)
    await joining.join(made.client, token, channel.new_key())
    await gateway_news.tell_requests(made.database, made.client)
    number = await made.submit("moving.example.org", gateway="moving")
    while "key and CSR" not in (await made.workflow(number).query("view", result_type=RequestView)).waiting_for:
        await asyncio.sleep(0.05)
    restored = tokens.read(enrollment.restore(admin, "moving").token)
    await joining.join(made.client, restored, channel.new_key())
    await gateway_news.tell_requests(made.database, made.client)
    activities = workers.gateway_activities(Surroundings(made.home / "moving", resolve))
    async with workers.gateway_worker(made.client, token.gateway_id, activities, channel=restored.channel):
        await made.until(number, state=InstallState.KEY_READY)
        gateway_changes.edit(admin, "moving", active=False)
        await made.say(number, "approve")
        await made.until(number, state=InstallState.ACTION_REQUIRED)
        await keep("request-held", made.workflow(number))
        gateway_changes.edit(admin, "moving", active=True)
        await gateway_news.tell_requests(made.database, made.client)
        await made.workflow(number).result()
    await keep("request-moved-held-served", made.workflow(number))


async def record_campaigns(made: World, keep: Callable[[str, WorkflowHandle[Any, Any]], Awaitable[None]]) -> None:
    """A campaign with a canary, and one that a person steers by signals, and that Temporal's own cancel ends."""
    context = made.context("bob")
    for name in ("one", "two", "three"):
        number = await made.submit(f"{name}.campaign.example.org")
        await made.until(number, state=InstallState.KEY_READY)
        await made.say(number, "approve")
        await made.workflow(number).result()

    async def started(search: str, plan: Plan) -> WorkflowHandle[Any, Any]:
        number = campaigns.create(context, search, Selection(search=search), plan).row.id
        await campaign_words.start(context, number)
        return made.client.get_workflow_handle(naming.campaign_workflow(number))

    completed = await started("campaign.example.org", Plan(rate_per_hour=36_000))
    await completed.result()
    await keep("campaign-completed", completed)

    with made.database.write() as session:
        session.execute(update(Gateway).values(told_status=ConnectionStatus.DISCONNECTED))
    steered = await started("one.campaign.example.org", Plan())
    await steered.signal("pause", AdministratorWord("bob", "lunch"))
    await steered.execute_update("resume", AdministratorWord("alice"), result_type=CampaignSaid)
    await steered.execute_update("change_rate", CampaignRate("alice", 100), result_type=CampaignSaid)
    await keep("campaign-waiting-for-a-gateway", steered)
    await steered.cancel()
    with suppress(WorkflowFailureError):
        await steered.result()
    await keep("campaign-canceled", steered)
    with made.database.write() as session:
        session.execute(update(Gateway).values(told_status=None))


async def record_chain(made: World, keep: Callable[[str, WorkflowHandle[Any, Any]], Awaitable[None]]) -> None:
    """A request whose issuer can't be fetched, and is then trusted in two steps."""
    install_chained()
    ca = chained_in(made, "Recorded")
    ca.url = "http://169.254.169.254/issuer.cer"
    number = await made.submit("chain.example.org", ca="chained")
    await made.until(number, state=InstallState.KEY_READY)
    await made.say(number, "approve")
    await made.until(number, state=InstallState.ACTION_REQUIRED)
    await keep("request-chain-incomplete", made.workflow(number))
    for one in (ca.issuer, ca.root):
        trust.add(made.context("admin"), pem(one.certificate))
        await trust_news.tell_requests(made.database, made.client)
        await wait_until(
            lambda: all("issuer" not in one.missing_issuer for one in trust.waiting(made.context("admin")))
        )
    await made.workflow(number).result()
    await keep("request-chain-completed", made.workflow(number))


async def record_endpoints(
    made: World, nginx: DisposableNginx, keep: Callable[[str, WorkflowHandle[Any, Any]], Awaitable[None]]
) -> None:
    """A group whose canary is watched and whose rest has a window, its verification, and its way back."""
    context = made.context("alice")
    names = [site.name for site in nginx.sites]
    await made.endpoint(nginx, "first")
    await made.endpoint(nginx, "second", window_cron="0 0 29 2 *", window_minutes=1)
    members = [(name, site.binding_id) for name, site in zip(("first", "second"), nginx.sites, strict=True)]
    groups.add(context, groups.NewGroup(made.gateway_id, "both", members, soak_seconds=1))
    for name in ("request-group-window", "request-group-served"):
        number = await made.submit(names[0], names=names, group="both")
        await made.until(number, state=InstallState.KEY_READY)
        await made.say(number, "approve")
        await wait_until(lambda number=number: "maintenance window" in (made.show(number).reason or ""))
        if name.endswith("window"):
            await keep(name, made.workflow(number))
        await made.say(number, "install")
        await made.workflow(number).result()
    await keep("request-group-served", made.workflow(number))
    issued = next(row.id for row in made.rows(Certificate) if row.request_id == number)
    await verification.certificate(context, issued)
    await keep("verification", made.client.get_workflow_handle(naming.verification_workflow(str(issued))))
    back = await rollback.roll_back(context, made.gateway_id, "first", members[0][1])
    await made.until(back.id, state=InstallState.KEY_READY)
    await made.say(back.id, "approve")
    await wait_until(lambda: "maintenance window" in (made.show(back.id).reason or ""))
    await made.say(back.id, "install")
    await made.workflow(back.id).result()
    await keep("request-rollback", made.workflow(back.id))


async def record_scans(made: World, keep: Callable[[str, WorkflowHandle[Any, Any]], Awaitable[None]]) -> None:
    """A scan that is done, one that the gateway refuses, one that sleeps until its next round, one that is canceled."""
    context, port = made.context("admin"), str(free_port())

    async def begun(name: str, network: str = "127.0.0.1/32", **more: Any) -> int:
        new = NewScan(made.gateway_id, [network], [port], timeout_seconds=1, **more)
        row = await inventory_scans.begin(context, new)
        handle = made.client.get_workflow_handle(naming.scan_workflow(row.id))
        if row.every_seconds is None:
            await handle.result()
        while "next round" not in (await handle.query("view"))["message"] and row.every_seconds is not None:
            await asyncio.sleep(0.05)
        await keep(f"network-scan-{name}", handle)
        return row.id

    await begun("done", "127.0.0.0/29")
    await begun("refused", "10.0.0.0/30")
    repeated = await begun("asleep", every_seconds=86_400)
    await inventory_scans.again(context, repeated)
    await wait_until(lambda: not inventory_scans.show(context, repeated).running)
    await inventory_scans.cancel(context, repeated)
    handle = made.client.get_workflow_handle(naming.scan_workflow(repeated))
    await handle.result()
    await keep("network-scan-again-canceled", handle)


async def record_syncs(made: World, keep: Callable[[str, WorkflowHandle[Any, Any]], Awaitable[None]]) -> None:
    """A sync that brings both sides together, and one that waits for a gateway that is away."""
    context = made.context("alice")
    (made.home / "gateway" / modules_file.FILE_NAME).write_text('[endpoints.mail]\ntype = "nginx"\n')
    with made.database.write() as session:
        session.add(Gateway(name="away", name_key="away", created_at=made.clock()))
    for which, name in ((made.gateway_id, "sync-both-sides"), ("away", "sync-waiting")):
        await modules.start(context, which, modules.Order(apply=True))
        row = await until_it_rests(made, which)
        await keep(name, made.client.get_workflow_handle(naming.sync_workflow(row.gateway_id)))
        if row.running:
            await modules.cancel(context, which)
            await keep("sync-canceled", made.client.get_workflow_handle(naming.sync_workflow(row.gateway_id)))


async def until_it_rests(made: World, which: str | int) -> modules.SyncRow:
    """The sync, once it has ended or waits for its gateway."""
    while True:
        row = modules.progress(made.context("alice"), [which])[0]
        if not row.running or row.state == modules.SyncState.WAITING:
            return row
        await asyncio.sleep(0.05)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
