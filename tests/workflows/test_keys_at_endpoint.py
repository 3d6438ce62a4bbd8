"""Keys made where they are used: the gateway never has them, and a rollback finds the one before."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlmodel import select

from model.states import InstallState, KeyPlace
from model.tables import AuditEntry, CertificateRequest
from operations import rollback
from tests.support.installing import fingerprint_of_file
from tests.support.world import World
from worker.playground import DisposableNginx

NAME = "own-key.example"


@pytest.fixture
def nginx(tmp_path: Path) -> Iterator[DisposableNginx]:
    """One server."""
    with DisposableNginx(tmp_path / "nginx", [NAME]) as made:
        yield made


def kept(nginx: DisposableNginx) -> list[str]:
    """The keys that were made there, in use or before."""
    folder = nginx.sites[0].key.parent
    return sorted(path.name for path in folder.iterdir() if "certgate-key" in path.name)


async def served(world: World, number: int) -> str:
    """Approve, and wait until it is in use; gives the fingerprint."""
    await world.until(number, state=InstallState.KEY_READY)
    await world.say(number, "approve")
    return (await world.until(number, state=InstallState.COMPLETED)).served_fingerprint or ""


async def test_the_key_is_made_used_and_found_again_there(shared_world: World, nginx: DisposableNginx) -> None:
    endpoint = f"own key {nginx.port}"
    await shared_world.endpoint(nginx, endpoint, key_at_endpoint=True)
    first = await shared_world.submit(NAME, endpoint=endpoint)
    fingerprint = await served(shared_world, first)
    site = nginx.sites[0]
    assert fingerprint_of_file(site.certificate) == fingerprint
    assert kept(nginx) == [f".{site.key.name}.certgate-key-request-{first}"]
    assert site.key.stat().st_mode & 0o077 == 0
    # The gateway's own keystore never had it.
    assert not list((shared_world.home / "gateway").rglob(f"request-{first}.*"))
    with shared_world.database.read() as session:
        assert session.get_one(CertificateRequest, first).key_place == KeyPlace.ENDPOINT
        told = session.exec(select(AuditEntry).where(AuditEntry.object_id == first)).all()
    assert any("is made at the endpoint and its CSR checked" in entry.description for entry in told)

    second = await shared_world.submit(NAME, endpoint=endpoint)
    newer = await served(shared_world, second)
    third = await shared_world.submit(NAME, endpoint=endpoint)
    newest = await served(shared_world, third)
    assert len({fingerprint, newer, newest}) == 3
    assert kept(nginx) == [f".{site.key.name}.certgate-key-request-{number}" for number in (second, third)]

    binding = site.binding_id
    back = await rollback.roll_back(shared_world.context("alice"), "local", endpoint, binding)
    assert await served(shared_world, back.id) == newer == fingerprint_of_file(site.certificate)

    declined = await shared_world.submit(NAME, endpoint=endpoint)
    await shared_world.until(declined, state=InstallState.KEY_READY)
    assert f".{site.key.name}.certgate-key-request-{declined}" in kept(nginx)
    await shared_world.say(declined, "decline", "no")
    await shared_world.workflow(declined).result()
    assert f".{site.key.name}.certgate-key-request-{declined}" not in kept(nginx)
