"""Operations that speak with a real Temporal server, manager and gateway."""

from __future__ import annotations

import asyncio

import pytest

from connectors.registry import Surroundings
from model.errors import Conflict, InvalidInput
from model.states import CertificateStatus, ConnectionStatus, InstallState
from model.tables import CertificateRequest
from operations import bootstrap, certificates, endpoints, gateways, health
from operations.endpoints import NewEndpoint
from tests.support.world import World, wait_until


async def issued(world: World, name: str) -> int:
    """A certificate without endpoint; gives its number."""
    number = await world.submit(name)
    await world.until(number, state=InstallState.KEY_READY)
    await world.say(number, "approve")
    await wait_until(lambda: world.show(number).closed)
    certificate_id = world.show(number).certificate_id
    assert certificate_id is not None
    return certificate_id


async def test_the_local_gateway_is_connected(shared_world: World) -> None:
    admin = shared_world.context("admin")
    while (await gateways.statuses(admin))[shared_world.gateway_id] != ConnectionStatus.CONNECTED:
        await asyncio.sleep(0.05)  # its first heartbeat comes within five seconds


async def test_discovery_tells_what_is_wrong(shared_world: World) -> None:
    admin = shared_world.context("admin")
    settings = {"configuration": str(shared_world.home / "nowhere.conf")}
    endpoints.add(admin, NewEndpoint(bootstrap.LOCAL_GATEWAY, "nowhere", "nginx", settings=settings))
    with pytest.raises(Conflict, match=r"nowhere\.conf"):
        await endpoints.discover(admin, bootstrap.LOCAL_GATEWAY, "nowhere")
    row = endpoints.show(admin, bootstrap.LOCAL_GATEWAY, "nowhere")
    assert (row.status, row.bindings) == ("INACTIVE", 0)
    assert row.last_error is not None


async def test_a_certificate_is_renewed_and_revoked_once(shared_world: World) -> None:
    admin = shared_world.context("admin")
    first = await issued(shared_world, "renewed.example")
    assert certificates.download(admin, first).count("BEGIN CERTIFICATE") == 2
    assert "PRIVATE" not in certificates.download(admin, first)
    request = await certificates.renew(admin, first)
    await shared_world.until(request, status=CertificateStatus.ISSUED, state=InstallState.NOT_CONFIGURED)
    await wait_until(lambda: certificates.show(admin, first).row.status == CertificateStatus.REPLACED)
    with pytest.raises(Conflict, match="REPLACED"):
        await certificates.renew(admin, first)
    second = shared_world.show(request).certificate_id
    assert second is not None
    await certificates.set_auto_renew(admin, second, False)
    assert not certificates.show(admin, second).row.auto_renew
    with pytest.raises(InvalidInput, match="keyCompromise"):
        await certificates.revoke(admin, second, "bored", "")
    assert (await certificates.revoke(admin, second, "superseded", "test")).revoked
    assert (await certificates.revoke(admin, second, "superseded", "test")).revoked
    detail = certificates.show(admin, second)
    assert (detail.row.status, detail.revocation_reason, detail.may_revoke) == ("REVOKED", "superseded", False)
    with pytest.raises(Conflict, match="REVOKED"):
        await certificates.renew(admin, second)


async def test_the_doctor_finds_a_request_whose_workflow_is_gone(shared_world: World) -> None:
    admin = shared_world.context("admin")
    number = await shared_world.submit("terminated.example")
    await shared_world.until(number, state=InstallState.KEY_READY)
    await shared_world.workflow(number).terminate("for the test")
    around = Surroundings(shared_world.home, shared_world.surroundings.secret)
    found = {finding.name: finding for finding in await health.doctor(admin, around)}
    assert found["workflows"].ok is False
    assert str(number) in found["workflows"].message
    for name in ("database", "temporal", "search attributes", "manager", "ca private", "clock"):
        assert found[name].ok, found[name]
    with shared_world.database.write() as session:
        row = session.get_one(CertificateRequest, number)
        row.closed = True
        session.add(row)
