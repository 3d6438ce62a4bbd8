"""Requests at Sectigo by the real engine, with the simulator in all the trouble that passes by itself."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from model import messages, x509
from model.states import CertificateStatus, InstallState, OrderWay
from model.tables import CertificateAuthority, CertificateProfile
from operations import certificates, requests
from operations.bootstrap import trusted
from operations.lookup import identity
from tests.connectors.ca.sectigo import settings
from tests.simulators.sectigo import Faults, Simulator
from tests.support.world import World

NAME = "shop.example.com"


@pytest.fixture
def ca() -> Iterator[Simulator]:
    faults = Faults(seed=4, cut_after=0.04, ca_unavailable=0.04, issue_polls=(0, 1), shows_old=1.0, unordered_chain=0.5)
    with Simulator(faults=faults) as running:
        yield running


def profile(world: World, ca: Simulator, folder: Path) -> str:
    """The simulator as a CA of that certgate, and a profile of it."""
    with world.database.write() as session:
        row = CertificateAuthority(name="sectigo", type="sectigo", settings=settings(ca, folder), is_private=False)
        session.add(row)
        session.flush()
        session.add(CertificateProfile(name="sectigo", authority_id=identity(row), authority_profile="301"))
        for pem in ca.trust_anchors:
            session.add(trusted(pem, is_root=True))
    return "sectigo"


async def issued(world: World, number: int) -> requests.RequestDetail:
    """Approve if somebody has to, and wait for the certificate."""
    async for detail in requests.watch(world.context("admin"), number, every=0.02):
        if detail.status == CertificateStatus.REQUESTED and detail.install_state == InstallState.KEY_READY:
            await world.say(number, "approve")
            break
        if detail.status != CertificateStatus.REQUESTED:
            break
    return await world.until(number, status=CertificateStatus.ISSUED, state=InstallState.NOT_CONFIGURED)


async def test_a_request_a_renewal_and_a_replacement(shared_world: World, ca: Simulator, tmp_path: Path) -> None:
    world = shared_world
    chosen = profile(world, ca, tmp_path)
    first = await issued(world, await world.submit(NAME, profile=chosen))
    [order] = ca.orders
    assert (first.order_number, order.kind, order.status) == (str(order.id), "enroll", "Issued")
    assert first.certificate_id is not None

    second = await issued(world, await certificates.renew(world.context("alice"), first.certificate_id))
    assert [(one.id, one.kind) for one in ca.orders] == [(order.id, "enroll"), (order.id + 1, "renew")]
    assert second.order_number == str(order.id + 1)
    assert second.certificate_id is not None

    word = messages.OrderWord("alice", way=OrderWay.REPLACE, reason="A drill", new_key=True)
    third = await issued(world, await certificates.order_now(world.context("alice"), second.certificate_id, word))
    assert third.order_number == second.order_number
    assert [one.reissues for one in ca.orders] == [0, 1]
    assert len(ca.certificates) == 3
    fingerprints = {x509.fingerprint(x509.load_certificate(pem)) for pem in ca.certificates}
    assert {first.issued_fingerprint, second.issued_fingerprint, third.issued_fingerprint} == fingerprints
