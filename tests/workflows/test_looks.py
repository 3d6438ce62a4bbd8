"""Keystores that a request chose, looks into them, and tests of endpoints: with a real gateway, keystore and nginx."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from sqlmodel import col, select

from connectors.keystores.contract import SigningRequest
from connectors.registry import find
from model import naming
from model.errors import Conflict, NotFound, Unavailable
from model.keys import KeyAlgorithm
from model.states import EndpointStatus, InstallMode, InstallState, Outcome
from model.tables import AuditEntry, Certificate, CertificateRequest
from operations import authorities, certificates, endpoints, keystores
from operations.authorities import NewAuthority
from operations.endpoints import EndpointChange
from operations.keystores import NewKeystore
from tests.support.world import World
from worker.playground import DisposableNginx, served_by


@pytest_asyncio.fixture(loop_scope="session")
async def nginx(tmp_path: Path) -> AsyncIterator[DisposableNginx]:
    """An nginx with one virtual host."""
    with DisposableNginx(tmp_path, ["www.example.org"]) as server:
        yield server


def told(world: World, action: str) -> list[tuple[str, Outcome, str]]:
    """Who did what with which outcome, as the audit tells it."""
    with world.database.read() as session:
        statement = select(AuditEntry).where(AuditEntry.action == action).order_by(col(AuditEntry.sequence))
        return [(row.actor, row.outcome, row.description) for row in session.exec(statement).all()]


def passphrase(world: World, name: str, word: str = "a long passphrase") -> str:
    """A reference that the gateway resolves."""
    file = world.gateway_surroundings.home / name
    file.write_text(word)
    file.chmod(0o600)
    return f"file:{file}"


async def test_a_request_keeps_its_key_in_the_keystore_that_it_chose(
    shared_world: World, nginx: DisposableNginx
) -> None:
    world, context = shared_world, shared_world.context("alice")
    gateway = world.gateway_id
    await world.endpoint(nginx, "chosen")
    reference = passphrase(world, "java-passphrase")
    added = keystores.add(
        context, NewKeystore(gateway, "Java", "pkcs12", {"file": "java.p12", "passphrase": reference})
    )
    assert (added.entries, added.checked_at, added.title) == (0, None, "PKCS#12 file")
    empty = await keystores.check(context, gateway, "Java")
    assert (empty.entries, empty.keystore.last_error, empty.keystore.checked_at is not None) == ([], None, True)

    number = await world.submit("www.example.org", endpoint="chosen", keystore="Java", install=InstallMode.MANUAL)
    await world.until(number, state=InstallState.KEY_READY)
    assert world.show(number).keystore == "Java"
    alias = naming.key_alias(number)
    (waiting,) = (await keystores.check(context, gateway, added.id)).entries
    assert (waiting.alias, waiting.key_algorithm, waiting.fingerprint) == (alias, "ec-p256", None)
    with pytest.raises(Conflict, match=f"keys in it are in use: open request {number} "):
        keystores.remove(context, gateway, "Java")

    await world.say(number, "approve")
    await world.until(number, state=InstallState.READY_FOR_INSTALL)
    await world.say(number, "install")
    done = await world.until(number, state=InstallState.COMPLETED)
    assert await served_by(nginx) == done.issued_fingerprint
    (entry,) = (await keystores.check(context, gateway, "Java")).entries
    assert (entry.alias, entry.kind, entry.fingerprint) == (alias, "key pair", done.issued_fingerprint)
    assert entry.names == ["www.example.org"]
    assert keystores.listing(context, gateway)[0].next_expiry == entry.not_after
    assert not (world.gateway_surroundings.home / "keys" / f"{alias}.key").exists()
    held = next(row for row in world.rows(Certificate) if row.request_id == number)
    with pytest.raises(Conflict, match=rf"keys in it are in use: certificate {held.id} \(www.example.org\)"):
        keystores.remove(context, gateway, "Java")

    # A renewal makes its new key there too.
    await certificates.renew(context, held.id)
    renewed = next(row for row in world.rows(CertificateRequest) if row.renews_certificate_id == held.id)
    assert renewed.keystore_id == added.id
    await world.until(renewed.id, state=InstallState.READY_FOR_INSTALL)
    listed = {one.alias for one in (await keystores.check(context, gateway, "Java")).entries}
    assert listed == {alias, naming.key_alias(renewed.id)}
    # A request that is canceled takes its key out.
    await world.say(renewed.id, "cancel")
    await world.workflow(renewed.id).result()
    listed = {one.alias for one in (await keystores.check(context, gateway, "Java")).entries}
    assert listed == {alias}
    assert ("alice", Outcome.DONE, "1 entry was found in keystore Java of gateway local.") in told(
        world, "keystore.checked"
    )


async def test_a_keystore_that_does_not_open_is_a_sentence_with_its_cure(shared_world: World) -> None:
    world, context = shared_world, shared_world.context("alice")
    gateway = world.gateway_id
    reference = passphrase(world, "old-passphrase")
    new = NewKeystore(gateway, "old", "jks", {"file": "old.jks", "passphrase": reference})
    added = keystores.add(context, new)
    connector = find("keystores", "jks")
    for key in range(3):
        opened = connector.open(connector.configure(dict(new.settings)), world.gateway_surroundings)
        await opened.sign_request(SigningRequest(f"a-{key}", KeyAlgorithm.EC_P256, "a.example", ["a.example"]))
    assert (await keystores.check(context, gateway, "old")).keystore.entries == 3

    passphrase(world, "old-passphrase", "another passphrase")
    detail = await keystores.check(context, gateway, "old")
    assert "can't be read: the passphrase is wrong or the file is damaged" in str(detail.keystore.last_error)
    assert "passphrase reference" in str(detail.keystore.cure)
    # What was seen before stays beside the error.
    assert len(detail.entries) == 3
    assert told(world, "keystore.checked")[-1][1] == Outcome.FAILED
    keystores.edit(context, gateway, {"passphrase": "env:CERTGATE_NO_SUCH_PASSPHRASE"}, "old")
    detail = await keystores.check(context, gateway, "old")
    assert "CERTGATE_NO_SUCH_PASSPHRASE is not set" in str(detail.keystore.last_error)
    assert "Set the variable" in str(detail.keystore.cure)
    gone = keystores.remove(context, gateway, "old")
    assert gone.id == added.id
    assert (world.gateway_surroundings.home / "keystores" / "old.jks").exists()
    with pytest.raises(NotFound):
        await keystores.check(context, gateway, "old")


async def test_an_endpoint_is_tested_step_by_step(shared_world: World, nginx: DisposableNginx) -> None:
    world, context = shared_world, shared_world.context("alice")
    gateway = world.gateway_id
    number = await world.endpoint(nginx, "tested")
    known = endpoints.bindings(context, gateway, "tested")
    report = await endpoints.test(context, gateway, number)
    assert [(step.name, step.passed) for step in report.steps] == [
        (name, True) for name in ("Settings", "Host", "Configuration", "Product", "Bindings")
    ]
    assert [binding.served_fingerprint for binding in report.bindings] == [await served_by(nginx)]
    row = endpoints.show(context, gateway, number)
    assert (row.status, row.last_error, row.tested_at is not None) == (EndpointStatus.ACTIVE, None, True)

    nginx.stop()
    report = await endpoints.test(context, gateway, number)
    assert [(step.name, step.passed) for step in report.steps][-1] == ("Product", False)
    row = endpoints.show(context, gateway, number)
    assert (row.status, row.last_error, row.last_cure) == (EndpointStatus.INACTIVE, report.problem, report.cure)
    assert "is not running" in str(row.last_error)
    assert row.last_cure == "Start the product on its host, then ask again."
    assert endpoints.bindings(context, gateway, number) == known

    nginx.configuration.write_text("server {")
    report = await endpoints.test(context, gateway, number)
    assert [step.name for step in report.steps if not step.passed] == ["Configuration"]
    assert "Correct the product's configuration" in str(report.cure)
    with pytest.raises(Conflict, match="configuration"):
        await endpoints.discover(context, gateway, number)
    assert endpoints.show(context, gateway, number).last_cure == report.cure
    endpoints.edit(
        context, gateway, number, EndpointChange(name="moved", settings={"configuration": "/nowhere/n.conf"})
    )
    report = await endpoints.test(context, gateway, "moved")
    assert "/nowhere/n.conf" in str(report.problem)
    assert "Correct the path" in str(report.cure)
    assert told(world, "endpoint.tested")[-1][:2] == ("alice", Outcome.FAILED)
    endpoints.remove(context, gateway, str(number))


async def test_a_ca_is_asked_by_a_gateway(shared_world: World) -> None:
    """A CA in the gateway's network: its files are in the gateway's home, and the manager has none of them."""
    world, context = shared_world, shared_world.context("admin")
    new = NewAuthority("inside", "private", {"name": "Inside", "folder": str(world.gateway_surroundings.home / "ca")})
    await authorities.add(context, dataclasses.replace(new, reached_from="gateway"), world.surroundings)
    with pytest.raises(Unavailable, match="name the gateway that shall ask it"):
        await authorities.check(context, "inside", world.surroundings)
    health = await authorities.check(context, "inside", world.surroundings, world.gateway_id)
    assert health.usable
    assert "can issue until" in health.message
    assert ("Names", "no limits") in [(one.label, one.text) for one in health.details]
    authorities.edit(context, "inside", settings={"folder": "/proc/nowhere"})
    broken = await authorities.check(context, "inside", world.surroundings, world.gateway_id)
    assert not broken.usable
    assert "/proc/nowhere" in broken.message


async def test_a_ca_is_not_asked_by_a_gateway_that_is_not_there(shared_world: World) -> None:
    with pytest.raises(NotFound):
        await authorities.check(shared_world.context("admin"), "private", shared_world.surroundings, "nowhere")
