"""The inventory end to end: real TLS servers are found by a real gateway, what they serve is taken under management."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import pytest_asyncio

from model import naming, x509
from model.errors import Conflict, InvalidInput, NotFound
from model.states import InstallState, ScanState, SightingWay
from model.tables import Gateway, Keystore, SeenCertificate, Sighting
from operations import certificates, endpoints, inventory, inventory_manage, inventory_scans, keystores, requests
from operations.inventory import Filter, SeenRow
from operations.inventory_manage import Wish
from operations.inventory_scans import NewScan, ScanRow
from operations.inventory_upkeep import ScanWatch
from tests.support.served import context_for, garbage, listening, silent
from tests.support.world import LOOKED_THROUGH, World, wait_until
from worker.playground import DisposableNginx, served_by

NET = "127.0.0.0/29"


@pytest_asyncio.fixture(loop_scope="session")
async def nginx(tmp_path: Path) -> AsyncIterator[DisposableNginx]:
    """An nginx with one virtual host."""
    with DisposableNginx(tmp_path, ["unmanaged.example.org"]) as server:
        yield server


async def over(world: World, number: int) -> ScanRow:
    """The scan when its round is over."""
    context = world.context("alice")
    await wait_until(lambda: not inventory_scans.show(context, number).running)
    return inventory_scans.show(context, number)


async def scanned(world: World, port: int, *networks: str, **more: object) -> ScanRow:
    new = NewScan(world.gateway_id, networks or (NET,), [str(port)], rate=500, timeout_seconds=1, **more)  # type: ignore[arg-type]
    return await over(world, (await inventory_scans.begin(world.context("alice"), new)).id)


def seen(world: World, pem: str) -> SeenRow:
    return inventory.show(world.context("alice"), x509.fingerprint(x509.load_certificate(pem))).row


def where(world: World, pem: str, **wanted: object) -> list[str]:
    """Where a certificate is seen now, as people read it."""
    fingerprint = x509.fingerprint(x509.load_certificate(pem))
    rows = inventory.listing(world.context("alice"), Filter(search=fingerprint, **wanted)).rows  # type: ignore[arg-type]
    return [place.where for row in rows for place in row.places]


async def test_a_network_is_looked_through_and_what_vanishes_is_gone(shared_world: World, tmp_path: Path) -> None:
    world = shared_world
    first, pem = context_for(tmp_path, ["one.scan.example"])
    second, other = context_for(tmp_path, ["two.scan.example", '<img src=x onerror="alert(1)">'])
    async with AsyncExitStack() as stack:
        port = await stack.enter_async_context(listening("127.0.0.1", 0, first))
        await stack.enter_async_context(listening("127.0.0.2", port, answer=silent))
        await stack.enter_async_context(listening("127.0.0.3", port, answer=garbage))
        async with listening("127.0.0.4", port, second):
            row = await scanned(world, port)
        assert (row.state, row.message, row.total, row.position) == (ScanState.DONE, None, 6, 6)
        assert (row.answered, row.found, row.fresh) == (4, 2, 2)
        assert where(world, pem) == [f"127.0.0.1:{port}"]
        assert where(world, other) == [f"127.0.0.4:{port}"]
        assert seen(world, other).names == ["two.scan.example", '<img src=x onerror="alert(1)">']
        # The second server is down now, and the first has another certificate.
        row = await over(world, (await inventory_scans.again(world.context("alice"), row.id)).id)
    assert (row.round, row.answered, row.found, row.fresh) == (2, 3, 1, 0)
    assert where(world, pem) == [f"127.0.0.1:{port}"]
    assert where(world, other) == []
    assert where(world, other, gone=True) == [f"127.0.0.4:{port}"]
    (gone,) = inventory.show(world.context("alice"), seen(world, other).id).places
    assert gone.gone_at is not None
    # What a narrower scan does not look for stays.
    await scanned(world, port, "127.0.0.5/32")
    assert where(world, pem) == [f"127.0.0.1:{port}"]
    third, newer = context_for(tmp_path, ["three.scan.example"])
    async with listening("127.0.0.1", port, third):
        await scanned(world, port, "127.0.0.1/32")
    assert (where(world, pem), where(world, newer)) == ([], [f"127.0.0.1:{port}"])


async def test_the_gateway_refuses_what_its_own_settings_do_not_allow(shared_world: World) -> None:
    world, context = shared_world, shared_world.context("alice")
    row = await scanned(world, 8443, "10.0.0.0/30")
    assert row.state == ScanState.FAILED
    assert "do not allow the network 10.0.0.0/30 (allowed: 127.0.0.0/28)" in str(row.message)
    row = await scanned(world, 443)
    assert "do not allow port 443" in str(row.message)
    assert (row.position, row.found) == (0, 0)
    # What it said of itself is refused at once; the word of the manager's records is not what counts.
    with world.database.write() as session:
        session.get_one(Gateway, world.gateway_id).discovery = LOOKED_THROUGH.told()
    with pytest.raises(InvalidInput, match=r"do not allow the network 10\.0\.0\.0/30"):
        await inventory_scans.begin(context, NewScan(world.gateway_id, ["10.0.0.0/30"], ["8443"]))
    assert inventory_scans.allowed(context, world.gateway_id).networks == ["127.0.0.0/28"]
    with world.database.write() as session:
        session.get_one(Gateway, world.gateway_id).discovery = {**LOOKED_THROUGH.told(), "ports": ["1024-1025"]}
    with pytest.raises(InvalidInput, match="allows none of the usual ports"):
        await inventory_scans.begin(context, NewScan(world.gateway_id, [NET]))
    with world.database.write() as session:
        session.get_one(Gateway, world.gateway_id).discovery = None


async def test_a_scan_is_canceled_and_removed(shared_world: World, tmp_path: Path) -> None:
    world, context = shared_world, shared_world.context("alice")
    async with AsyncExitStack() as stack:
        port = await stack.enter_async_context(listening("127.0.0.1", 0, answer=silent))
        for last in range(2, 15):
            await stack.enter_async_context(listening(f"127.0.0.{last}", port, answer=silent))
        new = NewScan(
            world.gateway_id, ["127.0.0.0/28"], [str(port)], at_once=1, timeout_seconds=10, every_seconds=3600
        )
        row = await inventory_scans.begin(context, new)
        await wait_until(lambda: inventory_scans.show(context, row.id).state == ScanState.RUNNING)
        with pytest.raises(Conflict, match="is being carried out: cancel it first"):
            await inventory_scans.remove(context, row.id)
        with pytest.raises(Conflict, match="is being carried out: wait"):
            await inventory_scans.again(context, row.id)
        await inventory_scans.cancel(context, row.id)
        row = await over(world, row.id)
        await world.client.get_workflow_handle(naming.scan_workflow(row.id)).result()
    assert (row.state, row.every_seconds, row.next_at) == (ScanState.CANCELED, None, None)
    with pytest.raises(Conflict, match="is over already"):
        await inventory_scans.cancel(context, row.id)
    await inventory_scans.remove(context, row.id)
    with pytest.raises(NotFound):
        inventory_scans.show(context, row.id)


async def test_a_scan_that_repeats_sleeps_and_is_woken_and_started_again_when_it_was_lost(
    shared_world: World, tmp_path: Path
) -> None:
    world, context = shared_world, shared_world.context("alice")
    served, pem = context_for(tmp_path, ["again.scan.example"])
    async with listening("127.0.0.1", 0, served) as port:
        row = await scanned(world, port, "127.0.0.1/32", every_seconds=86_400)
        assert row.started_at is not None
        assert row.next_at is not None
        assert (row.next_at - row.started_at).days == 1
        handle = world.client.get_workflow_handle(naming.scan_workflow(row.id))
        await handle.terminate("from outside")
        assert await ScanWatch().keep(world.database, world.client, world.clock()) >= 1
        row = await over(world, (await inventory_scans.again(context, row.id)).id)
    assert (row.round, row.state, row.found) == (2, ScanState.DONE, 1)
    await inventory_scans.cancel(context, row.id)
    await world.client.get_workflow_handle(naming.scan_workflow(row.id)).result()
    assert where(world, pem) == [f"127.0.0.1:{port}"]


async def test_what_an_endpoint_serves_is_taken_under_management_with_one_act(
    shared_world: World, nginx: DisposableNginx
) -> None:
    world, context = shared_world, shared_world.context("alice")
    number = await world.endpoint(nginx, "to-manage")
    before = await served_by(nginx)
    row = inventory.show(context, before[:16]).row
    assert (row.state, row.names, row.self_signed) == ("unmanaged", ["unmanaged.example.org"], True)
    assert [place.where for place in inventory.show(context, row.id).places] == [
        f"to-manage {nginx.sites[0].binding_id}"
    ]
    # Others may have made organizations, profiles and CAs in this world.
    wish = Wish(organization="Default", profile="server", ca="private", comments="Ticket 4711")
    (planned,) = inventory_manage.preview(context, [row.id], wish)
    assert (planned.names, planned.organization, planned.ca, planned.problem) == (
        ["unmanaged.example.org"],
        "Default",
        "private",
        None,
    )
    (done,) = await inventory_manage.manage(context, [before], wish)
    assert done.request_id is not None
    assert requests.show(context, done.request_id).comments == "Ticket 4711"
    (twice,) = await inventory_manage.manage(context, [row.id], wish)
    assert (twice.request_id, twice.problem) == (None, f"Request {done.request_id} for this binding is under way.")
    await world.until(done.request_id, state=InstallState.KEY_READY)
    await world.say(done.request_id, "approve")
    detail = await world.until(done.request_id, state=InstallState.COMPLETED)
    # Installed and known as ours before anybody looks again.
    assert await served_by(nginx) == detail.issued_fingerprint
    now = inventory.show(context, str(detail.issued_fingerprint)).row
    assert (now.state, now.certificate_id) == ("managed", detail.certificate_id)
    assert [place.gone_at is None for place in inventory.show(context, row.id).places] == [False]
    (old,) = inventory_manage.preview(context, [row.id])
    assert old.problem == "It is seen nowhere any more."
    (ours,) = inventory_manage.preview(context, [now.id])
    assert ours.problem == f"It is managed already: certificate {detail.certificate_id}."
    # A look that finds the same tells nothing new, and sends no certificate.
    await endpoints.discover(context, world.gateway_id, number)
    again = inventory.show(context, now.id)
    assert [place.gone_at for place in again.places] == [None]
    assert again.row.last_seen >= now.last_seen
    # Its key's keystore has it too.
    looked = await keystores.check(context, world.gateway_id)
    places = inventory.show(context, now.id).places
    assert [(place.way, place.where) for place in places[1:]] == [
        (SightingWay.KEYSTORE, f"default {naming.key_alias(done.request_id)}")
    ]
    row_of_it = next(row for row in world.rows(Keystore) if row.id == looked.keystore.id)
    assert all("certificate_pem" not in entry for entry in row_of_it.contents)
    assert certificates.show(context, detail.certificate_id or 0).row.active


async def test_names_that_the_binding_answers_to_are_added_and_others_left_out(
    shared_world: World, tmp_path: Path
) -> None:
    world, context = shared_world, shared_world.context("alice")
    nginx = DisposableNginx(tmp_path, ["answers.example.org"])
    site = nginx.sites[0]
    nginx.write_self_signed(site.certificate, site.key, ["other.example.org", "not_a_name"])
    with nginx:
        number = await world.endpoint(nginx, "other-names")
        (fingerprint,) = {binding.served_fingerprint for binding in world.bindings(number)}
        (planned,) = inventory_manage.preview(context, [str(fingerprint)])
    assert planned.names == ["other.example.org", "answers.example.org"]
    assert planned.note == (
        "without not_a_name, which can't be requested; with answers.example.org, which the binding answers to"
    )


async def test_what_was_found_in_the_network_only_says_what_to_do(shared_world: World, tmp_path: Path) -> None:
    world, context = shared_world, shared_world.context("alice")
    served, pem = context_for(tmp_path, ["appliance.scan.example"])
    async with listening("127.0.0.1", 0, served) as port:
        await scanned(world, port, "127.0.0.1/32")
    (planned,) = await inventory_manage.manage(context, [seen(world, pem).id])
    assert planned.request_id is None
    assert "add its server as an endpoint" in str(planned.problem)


async def test_nothing_that_is_found_can_break_the_records(shared_world: World, tmp_path: Path) -> None:
    world = shared_world
    names = [f"host-{number:05}.example" for number in range(2000)]
    served, pem = context_for(tmp_path, names)
    async with listening("127.0.0.1", 0, served) as port:
        row = await scanned(world, port, "127.0.0.1/32", server_names=["host-00001.example"])
    assert (row.found, row.fresh, row.unread) == (2, 1, 0)
    kept = seen(world, pem)
    assert (len(kept.names), kept.names_total) == (100, 2000)
    assert sorted(where(world, pem)) == [f"127.0.0.1:{port}", f"127.0.0.1:{port} (host-00001.example)"]


async def test_a_gateway_that_is_away_delays_its_scan_only(shared_world: World) -> None:
    world, context = shared_world, shared_world.context("alice")
    with world.database.write() as session:
        gone = Gateway(name="scans-nothing", name_key="scans-nothing", created_at=world.clock())
        session.add(gone)
    row = await inventory_scans.begin(context, NewScan("scans-nothing", [NET], ["8443"]))
    await wait_until(lambda: inventory_scans.show(context, row.id).state == ScanState.RUNNING)
    await inventory_scans.cancel(context, row.id)
    assert (await over(world, row.id)).state == ScanState.CANCELED


def test_every_sighting_has_its_certificate(shared_world: World) -> None:
    numbers = {row.id for row in shared_world.rows(SeenCertificate)}
    assert {row.certificate_id for row in shared_world.rows(Sighting)} <= numbers
