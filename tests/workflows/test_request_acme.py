"""A request that Pebble issues, faults on, with a real engine: reached from the manager and from the gateway."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from model import x509
from model.states import CertificateStatus, InstallState
from model.tables import CertificateAuthority, TrustedCertificate
from operations import authorities, trust
from tests.support.pebble import Pebble, pebble
from tests.support.world import World


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pebble]:
    """One Pebble for this module."""
    with pebble(tmp_path_factory.mktemp("pebble")) as made:
        yield made


def add(world: World, server: Pebble, name: str, reached_from: str = "manager") -> str:
    """Pebble as a CA, with its roots trusted; gives its name."""
    settings = {**server.settings, "validation_tries": 1}
    with world.database.write() as session:
        session.add(
            CertificateAuthority(name=name, type="acme", settings=settings, reached_from=reached_from, is_private=False)
        )
    known = {row.fingerprint for row in world.rows(TrustedCertificate)}
    roots = [one for one in server.roots() if x509.fingerprint(x509.load_certificate(one)) not in known]
    if roots:
        trust.add(world.context("bob"), *roots)
    return name


@pytest.mark.parametrize("reached_from", ["manager", "gateway"])
async def test_a_request_is_ordered_proved_and_issued(shared_world: World, server: Pebble, reached_from: str) -> None:
    before = len(server.issued())
    ca = add(shared_world, server, f"Pebble from the {reached_from}", reached_from)
    common_name = f"{reached_from}.acme.example.org"
    number = await shared_world.submit(common_name, names=[common_name, "127.0.0.1"], ca=ca)
    await shared_world.until(number, state=InstallState.KEY_READY)
    await shared_world.say(number, "approve")
    done = await shared_world.until(number, state=InstallState.NOT_CONFIGURED)
    assert done.status == CertificateStatus.ISSUED
    assert done.order_number is not None
    assert done.order_number.startswith(server.directory_url.removesuffix("/dir"))
    (serial,) = server.issued()[before:]
    issued = x509.load_certificate(server.status(serial)["Certificate"])
    assert x509.fingerprint(issued) == done.issued_fingerprint
    home = shared_world.home if reached_from == "manager" else shared_world.gateway_surroundings.home
    assert len(list((home / "acme").glob("*/account.key"))) == 1


async def test_a_proof_that_fails_waits_for_a_retry_which_orders_anew(shared_world: World, server: Pebble) -> None:
    ca = add(shared_world, server, "Pebble astray")
    before = len(server.issued())
    server.dns("add-a", host="astray.acme.example.org", addresses=["127.0.0.9"])
    number = await shared_world.submit("astray.acme.example.org", ca=ca)
    await shared_world.until(number, state=InstallState.KEY_READY)
    await shared_world.say(number, "approve")
    failed = await shared_world.until(number, state=InstallState.FAILED)
    assert failed.status == CertificateStatus.APPLIED
    assert failed.reason is not None
    assert "astray.acme.example.org: it could not connect to the host" in failed.reason
    server.dns("clear-a", host="astray.acme.example.org")
    await shared_world.say(number, "retry")
    done = await shared_world.until(number, state=InstallState.NOT_CONFIGURED)
    assert done.order_number == failed.order_number
    assert len(server.issued()) == before + 1


async def test_its_page_can_tell_what_it_is(shared_world: World, server: Pebble) -> None:
    ca = add(shared_world, server, "Pebble told")
    context = shared_world.context("bob")
    health = await authorities.check(context, ca, shared_world.surroundings)
    assert health.usable
    assert {one.label for one in health.details} >= {"Account", "Terms of service", "Profiles"}
    assert "withdraws orders" in authorities.abilities(context, ca, shared_world.surroundings)
