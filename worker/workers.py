"""The two kinds of worker process: the manager, and an orchestration gateway."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import structlog
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from temporalio.client import Client
from temporalio.worker import PollerBehaviorSimpleMaximum, Worker

from activities.admission import Admissions
from activities.authorities import AuthorityCheckRecords, AuthorityChecks
from activities.campaigns import Campaigns
from activities.chains import Chains
from activities.decisions import Decisions
from activities.endpoint_tests import EndpointTestRecords, EndpointTests
from activities.enrollment import Enrollments
from activities.gateways import Gateways
from activities.groups import Groups
from activities.importing import Imports, ImportsHere, Lists
from activities.installation import Installations
from activities.inventory_scans import NOTHING, Scanning, Scans
from activities.issuance import FETCHING, Fetching, Issuance
from activities.keys import Keys
from activities.keystores import KeystoreLooks, KeystoreRecords
from activities.modules import Modules
from activities.modules_records import ModuleRecords
from activities.orders import Orders
from activities.renewals import Renewals
from activities.standings import Standings
from activities.verification import Handshakes, Verifications
from activities.watching import WatchedHere, Watching
from connectors.endpoints.scan import Rules
from connectors.registry import Surroundings
from model.database import Database
from model.errors import Unavailable
from model.naming import MANAGER_QUEUE, gateway_queue
from operations import authority_news, manager_key, presence
from operations.campaign_upkeep import keep_campaigns
from operations.delivery import keep_delivering
from operations.gateway_news import keep_telling
from operations.inventory_upkeep import keep_inventory
from operations.orders import keep_telling as keep_telling_of_orders
from operations.reconcile import keep_started
from operations.serving_news import keep_telling as keep_telling_of_serving
from operations.trust_news import keep_telling_trust
from operations.watch import keep_watch
from worker import connection, processes, readiness
from worker.check_in import keep_checking_in
from worker.credentials import resolver
from worker.gateway_home import GatewayHome
from worker.settings import Settings
from workflows.registry import WORKFLOWS, runner

log = structlog.get_logger(__name__)

# An install that has begun ends, or is put back, within this time when the process is asked to stop.
DRAIN = timedelta(seconds=60)
# Measured: about twenty pollers cut the 99th percentile to a third; more gain nothing.
_POLLERS = PollerBehaviorSimpleMaximum(20)
THREADS = 16
# A request that a killed manager had in its memory goes to another one after this; the SDK's ten seconds would be as
# long as an approver waits for an answer.
_STICKY = timedelta(seconds=4)
_RECONNECT = timedelta(seconds=2)


def manager_activities(
    database: Database, surroundings: Surroundings, key: X25519PrivateKey, fetching: Fetching = FETCHING
) -> Sequence[Callable[..., Any]]:
    """The steps that the manager runs; `key` is its own (`operations/manager_key.py`)."""
    orders = Orders(surroundings)
    admissions = Admissions(database, surroundings.clock)
    decisions = Decisions(database, surroundings.clock)
    issuance = Issuance(database, surroundings.clock, fetching)
    renewals = Renewals(database, surroundings.clock)
    campaigns = Campaigns(database, surroundings.clock)
    gateways = Gateways(database, surroundings.clock)
    enrollments = Enrollments(database, surroundings.clock, key)
    looks = KeystoreRecords(database, surroundings.clock)
    tests = EndpointTestRecords(database, surroundings.clock)
    scans = Scans(database, surroundings.clock)
    watching = Watching(database, surroundings.clock)
    importing = Imports(database, surroundings.clock)
    groups = Groups(database, surroundings.clock)
    verifications = Verifications(database, surroundings.clock)
    imports_here = ImportsHere(database, surroundings.clock, Lists(orders))
    return [
        admissions.admit,
        admissions.accept_csr,
        admissions.progress,
        admissions.place,
        admissions.access,
        decisions.decide,
        decisions.permit,
        issuance.accept_certificate,
        issuance.plan_install,
        issuance.record_install,
        groups.plan_group,
        groups.record_target,
        verifications.plan_verification,
        verifications.canaries,
        verifications.record_verification,
        Handshakes().look,
        renewals.plan_renewal,
        renewals.open_renewal,
        renewals.rest_renewal,
        renewals.admit_revocation,
        renewals.record_revocation,
        campaigns.advance,
        campaigns.hand_over,
        campaigns.say,
        campaigns.stop,
        enrollments.join,
        enrollments.check_in,
        gateways.place,
        gateways.admit_discovery,
        gateways.record_discovery,
        *ModuleRecords(database, surroundings.clock).steps(),
        looks.admit_look,
        looks.record_look,
        tests.admit_endpoint_test,
        tests.record_endpoint_test,
        scans.plan_scan,
        scans.note_scan,
        scans.keep_scan,
        scans.end_scan,
        AuthorityCheckRecords(database, surroundings.clock).admit_authority_check,
        orders.submit,
        orders.collect,
        orders.withdraw,
        orders.revoke,
        watching.plan_watch,
        watching.load_asked,
        watching.keep_findings,
        importing.admit_import,
        importing.keep_page,
        importing.next_chosen,
        importing.keep_fetched,
        importing.end_import,
        imports_here.list_here,
        imports_here.take_here,
        WatchedHere(database, surroundings.clock, Standings(surroundings, orders)).ask_here,
        Chains().fetch,
    ]


def gateway_activities(surroundings: Surroundings, discovery: Rules = NOTHING) -> Sequence[Callable[..., Any]]:
    """The steps that a gateway runs; orders are among them for CAs that only its network reaches. `discovery` is what
    it may look through for certificates."""
    keys, installations, orders = Keys(surroundings), Installations(surroundings), Orders(surroundings)
    return [
        keys.prepare,
        keys.discard,
        installations.install,
        installations.discover,
        installations.verify,
        *Modules(surroundings).steps(),
        KeystoreLooks(surroundings).look,
        EndpointTests(surroundings).test,
        Scanning(discovery).scan,
        AuthorityChecks(surroundings).check,
        orders.submit,
        orders.collect,
        orders.withdraw,
        orders.revoke,
        Standings(surroundings, orders).ask,
        Lists(orders).list_page,
        Lists(orders).fetch,
        Chains().fetch,
    ]


def manager_worker(
    client: Client,
    activities: Sequence[Callable[..., Any]],
    executor: ThreadPoolExecutor,
    *,
    queue: str = MANAGER_QUEUE,
    workflows: Sequence[type] = WORKFLOWS,
) -> Worker:
    """The manager's worker, not yet running. The bench runs other workflows on another queue under these settings."""
    return Worker(
        client,
        task_queue=queue,
        workflows=list(workflows),
        workflow_runner=runner(),
        activities=list(activities),
        activity_executor=executor,
        graceful_shutdown_timeout=DRAIN,
        sticky_queue_schedule_to_start_timeout=_STICKY,
        workflow_task_poller_behavior=_POLLERS,
        activity_task_poller_behavior=_POLLERS,
    )


def gateway_worker(
    client: Client, gateway_id: int, activities: Sequence[Callable[..., Any]], *, channel: int = 1
) -> Worker:
    """A gateway's worker on one channel, not yet running."""
    return Worker(
        client,
        task_queue=gateway_queue(gateway_id, channel),
        activities=list(activities),
        graceful_shutdown_timeout=DRAIN,
        activity_task_poller_behavior=_POLLERS,
        max_concurrent_activities=50,
    )


async def run_manager(settings: Settings) -> None:
    """Run the manager until SIGTERM or SIGINT, through restarts of Temporal; then drain."""
    # Nor may one of this process: it opens the built-in CA.
    processes.forbid_core_dumps()
    database = Database(settings.database_url.get_secret_value())
    try:
        database.upgrade()
        resolve = resolver(settings.vault)
        surroundings = Surroundings(settings.home, resolve)
        given = settings.trust.key_file
        key = manager_key.establish(database, given or settings.home / manager_key.FILE_NAME, given=given is not None)
        fetching = Fetching(settings.trust.fetch_issuers, settings.trust.fetch_networks)
        activities = manager_activities(database, surroundings, key, fetching)
        with ThreadPoolExecutor(THREADS, thread_name_prefix="records") as executor:

            async def work(client: Client) -> None:
                await connection.register_search_attributes(client)
                await _beside(
                    _drained(manager_worker(client, activities, executor), settings.home, "manager"),
                    keep_started(database, client),
                    keep_telling(database, client),
                    keep_campaigns(database, client, settings.notifications),
                    keep_telling_of_orders(database, settings.notifications),
                    authority_news.keep_telling(database, settings.notifications),
                    keep_telling_of_serving(database, settings.notifications),
                    keep_inventory(database, client, settings.notifications),
                    keep_telling_trust(database, client, settings.notifications),
                    keep_watch(database, client, settings.notifications),
                    keep_delivering(database, settings.notifications, resolve, settings.dashboard.public_url),
                )

            await _supervised(settings, "manager", work)
    finally:
        database.close()


async def run_gateway(home: GatewayHome) -> None:
    """Run a gateway until SIGTERM or SIGINT, through restarts of Temporal; then drain."""
    # A core dump of this process would hold private keys.
    processes.forbid_core_dumps()
    settings = home.settings()
    activities = gateway_activities(Surroundings(home.folder, resolver(settings.vault)), home.discovery.rules())

    async def work(client: Client) -> None:
        worker = gateway_worker(client, home.gateway_id, activities, channel=home.channel)
        # Whoever started it looks for its readiness in that home: the manager's on this machine, else its own.
        async with presence.announced(client, gateway_queue(home.gateway_id, home.channel)):
            # A refusal by the manager ends this process, after what has begun has come to its end.
            await _beside(_drained(worker, settings.home, "gateway"), keep_checking_in(client, home))

    await _supervised(settings, f"gateway-{home.gateway_id}", work)


async def _supervised(settings: Settings, name: str, work: Callable[[Client], Any]) -> None:
    """Do the work with a fresh connection again and again until a signal says stop."""
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    while not stopping.is_set():
        task = asyncio.create_task(_once(settings, name, work))
        stop = asyncio.create_task(stopping.wait())
        await asyncio.wait({task, stop}, return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()
        if not task.done():
            task.cancel()
        with suppress(asyncio.CancelledError):
            try:
                await task
            except (Unavailable, RuntimeError) as error:
                log.warning("the worker lost Temporal and starts again", worker=name, reason=str(error))
        if not stopping.is_set():
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(stopping.wait(), _RECONNECT.total_seconds())


async def _beside(worker: Coroutine[Any, Any, None], *keepers: Coroutine[Any, Any, None]) -> None:
    """Run a worker and what belongs to it until one of them ends; then all end, the worker by draining. What went wrong
    with any of them is raised: a keeper that died unseen would be missed by nobody until somebody needs it."""
    tasks = [asyncio.create_task(one) for one in (*keepers, worker)]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        ends = await asyncio.gather(*tasks, return_exceptions=True)
    for end in ends:
        if isinstance(end, Exception):
            raise end


async def _once(settings: Settings, name: str, work: Callable[[Client], Any]) -> None:
    client = await connection.connect(settings, runtime=connection.worker_runtime(), identity=name)
    await work(client)


async def _drained(worker: Worker, home: Path, name: str) -> None:
    """Run a worker; when canceled, let what has begun come to its end."""
    running = asyncio.create_task(worker.run())
    readiness.announce(home, name)
    try:
        await asyncio.shield(running)
    except asyncio.CancelledError:
        readiness.withdraw(home, name)
        await worker.shutdown()
        await running
        raise
    finally:
        readiness.withdraw(home, name)
