"""What is served is looked at again: seen from gateway and manager, named where it is known, told where it is wrong."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlmodel import select

from connectors.notices.settings import NotificationSettings
from model.errors import Conflict, NotFound
from model.states import InstallState
from model.tables import AuditEntry, Certificate, Installation, Notification
from operations import serving_news, verification
from tests.support.world import World
from worker.playground import DisposableNginx

NAME = "verified.example"


@pytest.fixture
def nginx(tmp_path: Path) -> Iterator[DisposableNginx]:
    """One server of two hosts."""
    with DisposableNginx(tmp_path / "nginx", [NAME, "second.example"]) as made:
        yield made


async def in_use(world: World, nginx: DisposableNginx, name: str, endpoint: str) -> Certificate:
    """A certificate that is served."""
    number = await world.submit(name, endpoint=endpoint)
    await world.until(number, state=InstallState.KEY_READY)
    await world.say(number, "approve")
    await world.workflow(number).result()
    with world.database.read() as session:
        return session.exec(select(Certificate).where(Certificate.request_id == number)).one()


def record(world: World, certificate: Certificate) -> Installation:
    """Where it is installed."""
    with world.database.read() as session:
        return session.exec(select(Installation).where(Installation.certificate_id == certificate.id)).one()


async def test_what_somebody_else_put_there_is_seen_named_and_told_once(
    shared_world: World, nginx: DisposableNginx
) -> None:
    context = shared_world.context("alice")
    endpoint = f"verified {nginx.port}"
    await shared_world.endpoint(nginx, endpoint, verify_from_manager=True)
    first = await in_use(shared_world, nginx, NAME, endpoint)
    second = await in_use(shared_world, nginx, "second.example", endpoint)
    count = await verification.certificate(context, first.id or 0)
    assert (count.looked, count.failed) == (1, 0)
    row = record(shared_world, first)
    assert [(one["seen_from"], one["verification"]) for one in row.sightings] == [
        ("gateway", "MATCH"),
        ("manager", "MATCH"),
    ]
    assert serving_news.tell_unserved(shared_world.database, NotificationSettings(), shared_world.clock()) == 0

    mine, other = nginx.sites
    kept = mine.certificate.read_bytes(), mine.key.read_bytes()
    mine.certificate.write_bytes(other.certificate.read_bytes())
    mine.key.write_bytes(other.key.read_bytes())
    nginx.stop()
    nginx.start()
    count = await verification.certificate(context, first.id or 0)
    assert (count.looked, count.failed) == (1, 1)
    row = record(shared_world, first)
    assert row.verification == "OTHER_KNOWN_CERTIFICATE"
    assert f"second.example, certificate {second.id}" in row.sightings[0]["message"]
    for told in (1, 0):
        assert serving_news.tell_unserved(shared_world.database, NotificationSettings(), shared_world.clock()) == told
    with shared_world.database.read() as session:
        notice = session.exec(select(Notification).where(Notification.kind == serving_news.UNSERVED)).one()
        entries = session.exec(select(AuditEntry).where(AuditEntry.action == "installation.verified")).all()
    assert NAME in notice.subject
    assert any(entry.object_id == first.id and entry.outcome == "failed" for entry in entries)

    mine.certificate.write_bytes(kept[0])
    mine.key.write_bytes(kept[1])
    nginx.stop()
    nginx.start()
    workflow_id = await verification.everything(context, "local")
    count = await shared_world.client.get_workflow_handle(workflow_id).result()
    assert count["looked"] >= 2
    row = record(shared_world, first)
    assert (row.verification, row.unserved_since) == ("MATCH", None)
    (_, over) = await verification.progress(context, workflow_id)
    assert over
    with pytest.raises(NotFound):
        await verification.progress(shared_world.context("bob"), workflow_id)

    nginx.stop()
    count = await verification.certificate(context, first.id or 0)
    assert count.failed == 1
    assert record(shared_world, first).verification == "CONNECTION_FAILED"


async def test_what_is_installed_nowhere_is_not_verified(shared_world: World) -> None:
    number = await shared_world.submit("nowhere.example")
    await shared_world.until(number, state=InstallState.KEY_READY)
    await shared_world.say(number, "approve")
    await shared_world.workflow(number).result()
    with shared_world.database.read() as session:
        certificate = session.exec(select(Certificate).where(Certificate.request_id == number)).one()
    with pytest.raises(Conflict, match="not in use on any endpoint"):
        await verification.certificate(shared_world.context("alice"), certificate.id or 0)
