"""Chains that lack an issuer: completed from where the certificates say, or by a person, and then going on alone."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7
from sqlmodel import select
from temporalio.worker import UnsandboxedWorkflowRunner

from connectors import public_roots
from model.messages import RequestView
from model.states import InstallState
from model.tables import AuditEntry, Certificate, CertificateProfile, CertificateRequest
from operations import trust, trust_news
from tests.pki import make_ca, pem
from tests.support.chained import chained_in, install_chained
from tests.support.scripted import scripted
from tests.support.world import World, wait_until, world
from worker import workers
from workflows import options

WAITS = InstallState.ACTION_REQUIRED
DONE = InstallState.NOT_CONFIGURED


@pytest.fixture(autouse=True)
def _installed(monkeypatch: pytest.MonkeyPatch) -> None:
    install_chained(monkeypatch)


async def approved(world: World, name: str) -> int:
    """A request for the chained CA, approved."""
    number = await world.submit(name, ca="chained")
    await world.until(number, state=InstallState.KEY_READY)
    await world.say(number, "approve")
    return number


def chain_of(world: World, number: int) -> list[str]:
    """What was kept with the certificate of a request."""
    (row,) = [row for row in world.rows(Certificate) if row.request_id == number]
    return list(row.chain_pem)


def acts(world: World, number: int) -> list[str]:
    """What the audit tells of a request."""
    return [row.action for row in world.rows(AuditEntry) if row.object_type == "request" and row.object_id == number]


async def test_a_request_goes_on_by_itself_once_its_issuer_is_trusted(shared_world: World) -> None:
    ca = chained_in(shared_world, "Absent")
    mrao = shared_world.context("admin")
    number = await approved(shared_world, "absent.example.org")
    stuck = await shared_world.until(number, state=WAITS)
    assert stuck.reason == (
        "The chain is incomplete: the certificate of CN=Absent issuer, issuer of the certificate for "
        "absent.example.org, is missing: add it to the trusted CA certificates (`certgate trust add`), and the request "
        "goes on by itself."
    )
    view = await shared_world.workflow(number).query("view", result_type=RequestView)
    assert view.waiting_for == "the certificate of CN=Absent issuer among the trusted CA certificates"
    assert [(one.missing_issuer, [row.id for row in one.requests]) for one in trust.waiting(mrao)] == [
        ("CN=Absent issuer", [number])
    ]

    # The root is none of those that would help: nobody is disturbed.
    trust.add(mrao, pem(ca.root.certificate), pem(make_ca("Somebody").certificate))
    assert await trust_news.tell_requests(shared_world.database, shared_world.client) == 0
    trust.add(mrao, pem(ca.issuer.certificate))
    assert await trust_news.tell_requests(shared_world.database, shared_world.client) == 1
    assert await trust_news.tell_requests(shared_world.database, shared_world.client) == 0
    await shared_world.until(number, state=DONE)
    assert chain_of(shared_world, number) == [pem(ca.issuer.certificate)]
    assert ca.submits == 1
    assert trust.waiting(mrao) == []
    told = acts(shared_world, number)
    assert told.count("chain.incomplete") == told.count("request.resumed") == 1
    assert "request.retry" not in told


async def test_each_step_up_a_chain_is_asked_for_until_it_is_whole(shared_world: World) -> None:
    """The issuer's namesake helps no more than the wrong half of the chain: the request waits for the other half."""
    ca = chained_in(shared_world, "Halves")
    mrao = shared_world.context("admin")
    number = await approved(shared_world, "halves.example.org")
    await shared_world.until(number, state=WAITS)
    for added, missing in (
        (make_ca("Halves issuer", make_ca("Elsewhere")), "CN=Halves issuer"),
        (ca.issuer, "CN=Halves root"),
    ):
        trust.add(mrao, pem(added.certificate))
        assert await trust_news.tell_requests(shared_world.database, shared_world.client) == 1
        await wait_until(
            lambda missing=missing: (
                (shared_world.show(number).reason or "").count(missing) > 0
                and [one.missing_issuer for one in trust.waiting(mrao)] == [missing]
            )
        )
    trust.add(mrao, pem(ca.root.certificate))
    assert await trust_news.tell_requests(shared_world.database, shared_world.client) == 1
    await shared_world.until(number, state=DONE)


async def test_a_retry_and_a_cancel_still_count_while_it_waits(shared_world: World) -> None:
    ca = chained_in(shared_world, "Retried")
    mrao = shared_world.context("admin")
    first, second = [await approved(shared_world, f"{word}.example.org") for word in ("retried", "given-up")]
    for number in (first, second):
        await shared_world.until(number, state=WAITS)
    await shared_world.say(second, "cancel")
    assert [row.id for one in trust.waiting(mrao) for row in one.requests] == [first]
    trust.add(mrao, pem(ca.issuer.certificate), pem(ca.root.certificate))
    await shared_world.say(first, "retry")
    await shared_world.until(first, state=DONE)


async def test_an_issuer_is_fetched_from_where_the_certificate_says(shared_world: World) -> None:
    ca = chained_in(shared_world, "Fetched")
    trust.add(shared_world.context("admin"), pem(ca.root.certificate))
    async with scripted() as server:
        server.answer("200 OK", ca.issuer.certificate.public_bytes(Encoding.DER), "content-type: application/pkix-cert")
        ca.url = f"http://127.0.0.1:{server.port}/issuer.cer"
        number = await approved(shared_world, "fetched.example.org")
        await shared_world.until(number, state=DONE)
    assert len(server.asked) == 1
    assert chain_of(shared_world, number) == [pem(ca.issuer.certificate)]
    # It completes this chain, and is trusted for nothing.
    assert "CN=Fetched issuer" not in {row.subject for row in trust.listing(shared_world.context("admin"))}
    told = acts(shared_world, number)
    assert "chain.incomplete" not in told
    issued = [row for row in shared_world.rows(AuditEntry) if row.object_id == number and row.action.endswith("issued")]
    assert "CN=Fetched issuer of its chain was fetched from where its certificates say." in issued[-1].description


async def test_a_fetched_root_is_no_trust_anchor(shared_world: World) -> None:
    ca = chained_in(shared_world, "Untrusted")
    both = [ca.root.certificate, ca.issuer.certificate]
    async with scripted() as server:
        server.answer("200 OK", pkcs7.serialize_certificates(both, Encoding.DER))
        ca.url = f"http://127.0.0.1:{server.port}/bundle.p7c"
        number = await approved(shared_world, "untrusted.example.org")
        stuck = await shared_world.until(number, state=WAITS)
    assert "incomplete: the certificate of CN=Untrusted root, issuer of CN=Untrusted issuer, is missing" in (
        stuck.reason or ""
    )
    trust.add(shared_world.context("admin"), pem(ca.root.certificate))
    assert await trust_news.tell_requests(shared_world.database, shared_world.client) == 1
    # What was fetched is remembered: the server is gone.
    await shared_world.until(number, state=DONE)


async def test_an_address_inside_is_not_asked_and_that_is_told(shared_world: World) -> None:
    ca = chained_in(shared_world, "Metadata")
    ca.url = "http://169.254.169.254/latest/meta-data"
    number = await approved(shared_world, "metadata.example.org")
    stuck = await shared_world.until(number, state=WAITS)
    assert "has the private address 169.254.169.254, and that is not asked unless it is allowed." in (
        stuck.reason or ""
    )
    assert "latest" not in (stuck.reason or "")
    await shared_world.say(number, "cancel")


@pytest.mark.parametrize("is_private", [True, False])
async def test_only_public_cas_may_end_at_public_roots(
    shared_world: World, monkeypatch: pytest.MonkeyPatch, is_private: bool
) -> None:
    ca = chained_in(shared_world, f"World {is_private}", is_private=is_private)
    monkeypatch.setattr(public_roots, "pem", lambda: pem(ca.root.certificate))
    ca.sends = (ca.issuer,)
    number = await approved(shared_world, f"public-{is_private}.example.org")
    await shared_world.until(number, state=WAITS if is_private else DONE)
    if is_private:
        await shared_world.say(number, "cancel")


async def test_a_profile_has_the_root_sent_as_well(shared_world: World) -> None:
    ca = chained_in(shared_world, "Whole")
    ca.sends = (ca.root, ca.issuer)
    trust.add(shared_world.context("admin"), pem(ca.root.certificate))
    with shared_world.database.write() as session:
        profile = session.exec(select(CertificateProfile)).first()
        assert profile is not None
        profile.include_root = True
        session.add(profile)
    try:
        number = await approved(shared_world, "whole.example.org")
        await shared_world.until(number, state=DONE)
    finally:
        with shared_world.database.write() as session:
            profile.include_root = False
            session.add(profile)
    assert chain_of(shared_world, number) == [pem(ca.issuer.certificate), pem(ca.root.certificate)]


async def test_an_issuer_that_could_not_be_had_is_looked_for_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Unsandboxed, so that the shorter patience is seen by the workflow.
    monkeypatch.setattr(options, "FETCH_AGAIN", timedelta(milliseconds=200))
    monkeypatch.setattr(options, "FETCH_AGAIN_AT_MOST", timedelta(milliseconds=200))
    monkeypatch.setattr(workers, "runner", UnsandboxedWorkflowRunner)
    async with world(tmp_path) as own, scripted() as server:
        ca = chained_in(own, "Late")
        trust.add(own.context("admin"), pem(ca.root.certificate))
        server.says = [None]
        ca.url = f"http://127.0.0.1:{server.port}/issuer.cer"
        number = await approved(own, "late.example.org")
        stuck = await own.until(number, state=WAITS)
        assert "was cut" in (stuck.reason or "")
        await wait_until(lambda: len(server.asked) >= 3)
        assert acts(own, number).count("chain.incomplete") == 1
        server.answer("200 OK", pem(ca.issuer.certificate).encode())
        await own.until(number, state=DONE)
        assert acts(own, number).count("request.resumed") == 0
        (row,) = [row for row in own.rows(CertificateRequest) if row.id == number]
        assert (row.missing_issuer, row.awaited_issuers, row.trust_told, row.reason) == (None, [], None, None)
