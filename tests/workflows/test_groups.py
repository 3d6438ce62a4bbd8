"""One certificate for several bindings: canaries first, then the rest; windows, failures, and the way back."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlmodel import select

from model.errors import Conflict, InvalidInput
from model.states import CertificateStatus, InstallState
from model.tables import AuditEntry, Certificate, Endpoint, Installation
from operations import groups, rollback, verification
from tests.support.installing import fingerprint_of_file
from tests.support.world import World
from worker.playground import DisposableNginx

NAME = "group.example"


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[DisposableNginx]]:
    """Three servers of one host."""
    made = [DisposableNginx(tmp_path_factory.mktemp(f"web{number}"), [NAME]) for number in range(3)]
    for one in made:
        one.start()
    yield made
    for one in made:
        one.stop()


@pytest.fixture
async def group(shared_world: World, servers: list[DisposableNginx], request: pytest.FixtureRequest) -> str:
    """A group of the three, with endpoints of its own."""
    name = f"web {request.node.name}"[:120]
    members = []
    for number, server in enumerate(servers):
        endpoint = f"{name} {number}"
        await shared_world.endpoint(server, endpoint)
        members.append((endpoint, server.sites[0].binding_id))
    groups.add(shared_world.context("alice"), groups.NewGroup("local", name, members, canaries=1, at_once=2))
    return name


async def issued(world: World, group: str) -> int:
    """A request for the group that is approved; what happens then is the test's."""
    number = await world.submit(NAME, group=group)
    await world.until(number, state=InstallState.KEY_READY)
    await world.say(number, "approve")
    return number


def served(servers: list[DisposableNginx]) -> list[str]:
    """What the three serve."""
    return [fingerprint_of_file(server.sites[0].certificate) for server in servers]


def installations(world: World, request_id: int) -> list[Installation]:
    """The records of a request's certificate, in the order in which it was installed."""
    with world.database.read() as session:
        certificate = session.exec(select(Certificate).where(Certificate.request_id == request_id)).one()
        rows = session.exec(select(Installation).where(Installation.certificate_id == certificate.id)).all()
    return sorted(rows, key=lambda row: (row.installed_at is None, row.installed_at or row.updated_at))


async def test_a_canary_is_first_and_the_rest_follows(
    shared_world: World, servers: list[DisposableNginx], group: str
) -> None:
    number = await issued(shared_world, group)
    done = await shared_world.until(number, state=InstallState.COMPLETED)
    assert set(served(servers)) == {done.issued_fingerprint}
    rows = installations(shared_world, number)
    assert [row.state for row in rows] == [InstallState.COMPLETED] * 3
    with shared_world.database.read() as session:
        assert session.get_one(Endpoint, rows[0].endpoint_id).name == f"{group} 0"
        certificate = session.exec(select(Certificate).where(Certificate.request_id == number)).one()
    assert certificate.active
    assert done.closed
    count = await verification.certificate(shared_world.context("alice"), certificate.id or 0)
    assert (count.looked, count.failed) == (3, 0)
    with pytest.raises(Conflict, match="1 certificate in use"):
        groups.remove(shared_world.context("alice"), "local", group)


async def test_a_canary_that_fails_leaves_the_rest_untouched_and_a_retry_goes_on(
    shared_world: World, servers: list[DisposableNginx], group: str
) -> None:
    before = served(servers)
    good = servers[0].configuration.read_text()
    servers[0].configuration.write_text(good + "\nthis is no directive;\n")
    number = await issued(shared_world, group)
    stuck = await shared_world.until(number, state=InstallState.FAILED)
    assert "this" in (stuck.reason or "")
    assert "0 of 3 bindings have the certificate; retry goes on with the others" in (stuck.reason or "")
    assert served(servers) == before
    servers[0].configuration.write_text(good)
    # Now one of the rest fails: the canary keeps the new certificate.
    third = servers[2].configuration.read_text()
    servers[2].configuration.write_text(third + "\nnor is this;\n")
    await shared_world.say(number, "retry")
    async for detail in _changes(shared_world, number, stuck.reason):
        stuck = detail
    assert "2 of 3 bindings have the certificate" in (stuck.reason or "")
    assert served(servers)[2] == before[2]
    servers[2].configuration.write_text(third)
    await shared_world.say(number, "retry")
    done = await shared_world.until(number, state=InstallState.COMPLETED)
    assert set(served(servers)) == {done.issued_fingerprint}


async def _changes(world: World, number: int, reason: str | None):  # type: ignore[no-untyped-def]
    """Until it failed for another reason."""
    from operations import requests

    async for detail in requests.watch(world.context("admin"), number, every=0.02):
        if detail.install_state == InstallState.FAILED and detail.reason != reason:
            yield detail
            return


async def test_a_closed_window_leaves_the_group_in_a_told_state_that_goes_on_by_word(
    shared_world: World, servers: list[DisposableNginx], group: str
) -> None:
    with shared_world.database.write() as session:
        for number in (1, 2):
            row = session.exec(select(Endpoint).where(Endpoint.name == f"{group} {number}")).one()
            # Opens in the first minute of a leap day only.
            row.window_cron, row.window_minutes = "0 0 29 2 *", 1
            session.add(row)
    number = await issued(shared_world, group)
    waiting = await shared_world.until(number, state=InstallState.SCHEDULED)
    assert waiting.install_after is not None
    assert "1 of 3 bindings of group" in (waiting.reason or "")
    assert "The maintenance window of" in (waiting.reason or "")
    fresh = {row.served_after for row in installations(shared_world, number)}
    assert fresh == {waiting.issued_fingerprint}
    await shared_world.say(number, "install", by="alice")
    done = await shared_world.until(number, state=InstallState.COMPLETED)
    assert set(served(servers)) == {done.issued_fingerprint}


async def test_canaries_are_watched_and_looked_at_again(
    shared_world: World, servers: list[DisposableNginx], group: str
) -> None:
    groups.edit(shared_world.context("alice"), "local", group, groups.GroupChange(soak_seconds=1))
    number = await issued(shared_world, group)
    done = await shared_world.until(number, state=InstallState.COMPLETED)
    first, *rest = installations(shared_world, number)
    assert first.verified_at is not None
    assert first.installed_at is not None
    assert (first.verified_at - first.installed_at).total_seconds() >= 1
    assert all(row.installed_at is not None and row.installed_at >= first.verified_at for row in rest)
    assert [one["verification"] for one in first.sightings] == ["MATCH"]
    assert set(served(servers)) == {done.issued_fingerprint}


async def test_a_rollback_puts_the_certificate_before_back_after_an_approval(
    shared_world: World, servers: list[DisposableNginx], group: str
) -> None:
    first = await shared_world.until(await issued(shared_world, group), state=InstallState.COMPLETED)
    second = await shared_world.until(await issued(shared_world, group), state=InstallState.COMPLETED)
    assert first.issued_fingerprint != second.issued_fingerprint
    context = shared_world.context("alice")
    binding = servers[0].sites[0].binding_id
    shown = rollback.preview(context, "local", f"{group} 0", binding)
    assert (shown.current, shown.previous) == (second.issued_fingerprint, first.issued_fingerprint)
    asked = await rollback.roll_back(context, "local", f"{group} 0", binding, "the new one breaks old clients")
    waiting = await shared_world.until(asked.id, state=InstallState.KEY_READY)
    assert waiting.status == CertificateStatus.REQUESTED
    assert set(served(servers)) == {second.issued_fingerprint}
    with pytest.raises(Conflict, match=f"Request {asked.id} is open"):
        await rollback.roll_back(context, "local", f"{group} 0", binding)
    await shared_world.say(asked.id, "approve")
    done = await shared_world.until(asked.id, state=InstallState.COMPLETED)
    assert set(served(servers)) == {first.issued_fingerprint} == {done.served_fingerprint}
    with shared_world.database.read() as session:
        old = session.exec(select(Certificate).where(Certificate.request_id == first.id)).one()
        new = session.exec(select(Certificate).where(Certificate.request_id == second.id)).one()
        told = session.exec(select(AuditEntry).where(AuditEntry.object_id == asked.id)).all()
    assert (old.active, old.status, old.auto_renew) == (True, CertificateStatus.ISSUED, False)
    assert (new.active, new.replaced_by_id) == (False, old.id)
    assert not any(entry.action == "order.placed" for entry in told if entry.object_type == "request")
    # And forward again, the same way.
    back = rollback.preview(context, "local", f"{group} 0", binding)
    assert back.previous == second.issued_fingerprint


async def test_what_a_group_needs_is_said(shared_world: World, servers: list[DisposableNginx], group: str) -> None:
    context = shared_world.context("alice")
    with pytest.raises(InvalidInput, match=r"would not cover group\.example"):
        await shared_world.submit("other.example", group=group)
    with pytest.raises(InvalidInput, match="an endpoint or for a group"):
        await shared_world.submit(NAME, group=group, endpoint=f"{group} 0")
    with pytest.raises(InvalidInput, match="has 0 to 3 canaries, not 4"):
        groups.edit(context, "local", group, groups.GroupChange(canaries=4))
    twice = [(f"{group} 0", servers[0].sites[0].binding_id)] * 2
    with pytest.raises(InvalidInput, match="named twice"):
        groups.add(context, groups.NewGroup("local", "twice", twice))
    with pytest.raises(InvalidInput, match="has no binding 'nothing'"):
        groups.add(context, groups.NewGroup("local", "nothing", [(f"{group} 0", "nothing")]))
    with pytest.raises(Conflict, match="has a group"):
        groups.add(context, groups.NewGroup("local", group, [(f"{group} 0", servers[0].sites[0].binding_id)]))
    with pytest.raises(Conflict, match="no certificate in use"):
        await rollback.roll_back(context, "local", f"{group} 0", None)
    groups.remove(context, "local", group)
    assert group not in [row.name for row in groups.listing(context)]
