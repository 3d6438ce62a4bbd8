"""CAs that revoke behind our back, want certificates renewed at their own time, are away, or say what can't be."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from itertools import count

import pytest
from sqlmodel import col, select
from temporalio.client import WorkflowHandle

from connectors.ca.contract import RenewalInformation, RevocationReason, RevokeRequest, Standing
from connectors.ca.private import CONNECTOR
from connectors.errors import AuthorityFault, Retryable
from connectors.notices.settings import NotificationSettings
from model import naming, x509
from model.messages import AuthorityWatchStart, AuthorityWatchView
from model.states import CertificateStatus, InstallState, OrderWay
from model.tables import (
    AuditEntry,
    Certificate,
    CertificateAuthority,
    CertificateProfile,
    CertificateRequest,
    Notification,
    TrustedCertificate,
)
from operations import authority_news, certificates, reconcile
from operations.lookup import identity
from operations.replacement import Replacement, replace
from tests.support.rogue import RogueAuthority
from tests.support.speaking import SpeakingAuthority, install_speaking
from tests.support.world import World, wait_until
from workflows.authority_watch import AuthorityWatchWorkflow

Watch = WorkflowHandle[AuthorityWatchWorkflow, AuthorityWatchView]
_NUMBERS = count(1)


@pytest.fixture
def speaking(shared_world: World, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a CA that speaks, and that of its profile."""
    install_speaking(monkeypatch)
    return add_speaking(shared_world, "manager")


def add_speaking(world: World, reached_from: str, type: str = "speaking") -> str:  # noqa: A002  (the field's own name)
    """A speaking CA with a profile of the same name."""
    name = f"speaking {next(_NUMBERS)}"
    root = x509.load_certificate(RogueAuthority.root())
    with world.database.write() as session:
        fingerprint = x509.fingerprint(root)
        if (
            session.exec(select(TrustedCertificate).where(TrustedCertificate.fingerprint == fingerprint)).first()
            is None
        ):
            session.add(
                TrustedCertificate(
                    subject="Rogue Root",
                    fingerprint=fingerprint,
                    is_root=True,
                    not_before=root.not_valid_before_utc,
                    not_after=root.not_valid_after_utc,
                    pem=RogueAuthority.root(),
                )
            )
        row = CertificateAuthority(name=name, type=type, reached_from=reached_from)
        session.add(row)
        session.flush()
        session.add(CertificateProfile(name=name, authority_id=identity(row)))
    return name


async def in_use(world: World, ca: str, name: str, profile: str | None = None) -> Certificate:
    """A certificate of that CA, issued and watched over."""
    number = await world.submit(name, ca=ca, profile=profile or ca)
    await world.until(number, state=InstallState.KEY_READY)
    await world.say(number, "approve")
    await world.workflow(number).result()
    with world.database.read() as session:
        return session.exec(select(Certificate).where(Certificate.request_id == number)).one()


def now_is(world: World, certificate: Certificate) -> Certificate:
    """Its row as it is now."""
    with world.database.read() as session:
        return session.get_one(Certificate, certificate.id)


def successor(world: World, certificate: Certificate) -> CertificateRequest | None:
    """The request that takes its place."""
    statement = select(CertificateRequest).where(CertificateRequest.renews_certificate_id == certificate.id)
    with world.database.read() as session:
        return session.exec(statement).one_or_none()


def authority(world: World, name: str) -> CertificateAuthority:
    """Its row as it is now."""
    with world.database.read() as session:
        return session.exec(select(CertificateAuthority).where(CertificateAuthority.name == name)).one()


async def watch(world: World, ca: str) -> Watch:
    """The watch over that CA."""
    number = identity(authority(world, ca))
    return await world.client.start_workflow(
        AuthorityWatchWorkflow.run,
        AuthorityWatchStart(number),
        id=naming.authority_workflow(number),
        task_queue=naming.MANAGER_QUEUE,
    )


async def ask_again(world: World, certificate: Certificate, handle: Watch) -> None:
    """Its time to be asked about has come."""
    with world.database.write() as session:
        row = session.get_one(Certificate, certificate.id)
        row.ask_at = row.ask_window_at = world.clock()
        row.standing_at = None
        session.add(row)
    await handle.signal(AuthorityWatchWorkflow.look_again)


def told(world: World, action: str, number: int | None) -> list[str]:
    """What the audit tells of an object under that action."""
    statement = select(AuditEntry.description).where(AuditEntry.action == action, AuditEntry.object_id == number)
    with world.database.read() as session:
        return list(session.exec(statement.order_by(col(AuditEntry.sequence))).all())


async def test_what_the_ca_revokes_is_noticed_and_replaced(shared_world: World) -> None:
    """The built-in CA, by its own interface."""
    with shared_world.database.read() as session:
        ca = session.exec(select(CertificateAuthority).order_by(col(CertificateAuthority.id))).first()
        profile = session.exec(select(CertificateProfile).order_by(col(CertificateProfile.id))).first()
    assert ca is not None
    assert profile is not None
    first = await in_use(shared_world, ca.name, "behind-our-back.example.org", profile.name)
    handle = await watch(shared_world, ca.name)
    await wait_until(lambda: now_is(shared_world, first).standing_at is not None)
    assert now_is(shared_world, first).standing_source == "CA"

    owner = CONNECTOR.open(CONNECTOR.configure({}), shared_world.surroundings)
    with shared_world.database.read() as session:
        order = session.get_one(CertificateRequest, first.request_id).order_number
    compromised = RevocationReason.KEY_COMPROMISE
    await owner.revoke(RevokeRequest(order or "", first.pem, first.serial_number, compromised))
    await ask_again(shared_world, first, handle)
    await wait_until(lambda: now_is(shared_world, first).replaced_by_id is not None)

    old, request = now_is(shared_world, first), successor(shared_world, first)
    assert request is not None
    assert (request.order_way, request.order_reason) == (OrderWay.NEW, "revoked by its CA")
    assert (old.status, old.revocation_reason, old.active) == (CertificateStatus.REVOKED, "keyCompromise", False)
    assert old.found_revoked_at is not None
    assert (await shared_world.renewal(first.id).result()).step == "stop"
    (said,) = told(shared_world, "certificate.revoked_by_ca", first.id)
    assert "it says itself: another one takes its place" in said
    assert authority_news.tell_revoked(shared_world.database, NotificationSettings(), shared_world.clock()) == 1
    assert authority_news.tell_revoked(shared_world.database, NotificationSettings(), shared_world.clock()) == 0
    (notice,) = [row for row in shared_world.rows(Notification) if row.kind == authority_news.REVOKED]
    assert notice.subject.endswith("has revoked the certificate for behind-our-back.example.org")
    await handle.terminate()


async def test_without_automatic_renewal_it_is_told_and_replaced_on_a_word(shared_world: World, speaking: str) -> None:
    first = await in_use(shared_world, speaking, "by-hand.example.org")
    with shared_world.database.write() as session:
        row = session.get_one(Certificate, first.id)
        row.auto_renew = False
        session.add(row)
    SpeakingAuthority.standings[first.serial_number] = Standing(True, "OCSP", None, "superseded")
    handle = await watch(shared_world, speaking)
    await wait_until(lambda: now_is(shared_world, first).status == CertificateStatus.REVOKED)
    await wait_until(lambda: "renewal by itself is off" in (now_is(shared_world, first).renewal_note or ""))
    assert successor(shared_world, first) is None
    assert now_is(shared_world, first).active
    await handle.terminate()


async def test_the_cas_window_moves_the_renewal(shared_world: World, speaking: str) -> None:
    later = await in_use(shared_world, speaking, "later.example.org")
    at_once = await in_use(shared_world, speaking, "at-once.example.org")
    now, url = shared_world.clock(), "https://ca.example.org/why"
    window = RenewalInformation(now + timedelta(days=2), now + timedelta(days=3), url, timedelta(hours=3))
    SpeakingAuthority.windows[later.serial_number] = window
    past = RenewalInformation(now - timedelta(days=2), now - timedelta(days=1), "javascript:alert(1)")
    SpeakingAuthority.windows[at_once.serial_number] = past
    handle = await watch(shared_world, speaking)
    await wait_until(lambda: now_is(shared_world, at_once).status == CertificateStatus.REPLACED)
    request = successor(shared_world, at_once)
    assert request is not None
    assert request.order_way == OrderWay.RENEW
    assert now_is(shared_world, at_once).suggestion_url is None
    moved = now_is(shared_world, later)
    assert moved.suggested_at is not None
    assert window.start <= moved.suggested_at <= window.end
    assert (moved.suggested_start, moved.suggested_end, moved.suggestion_url) == (window.start, window.end, url)
    await wait_until(lambda: now_is(shared_world, later).renew_at == moved.suggested_at)
    assert "as its CA asks" in (now_is(shared_world, later).renewal_note or "")
    assert moved.ask_window_at is not None
    assert timedelta(hours=2) < moved.ask_window_at - now < timedelta(hours=4)
    assert moved.ask_at == moved.ask_window_at
    await ask_again(shared_world, later, handle)
    await wait_until(lambda: (now_is(shared_world, later).ask_window_at or now) > now)
    assert now_is(shared_world, later).suggested_at == moved.suggested_at
    await handle.terminate()


async def test_a_ca_that_is_away_is_asked_less_and_told_once(shared_world: World, speaking: str) -> None:
    certificates = [await in_use(shared_world, speaking, f"away-{number}.example.org") for number in range(2)]
    SpeakingAuthority.trouble = Retryable("The speaking CA can't be reached.", timedelta(minutes=45))
    handle = await watch(shared_world, speaking)
    await wait_until(lambda: authority(shared_world, speaking).watch_problem is not None)
    row = authority(shared_world, speaking)
    assert (row.watch_problem, row.watch_faulty) == ("The speaking CA can't be reached.", False)
    for certificate in certificates:
        seen = now_is(shared_world, certificate)
        assert seen.status == CertificateStatus.ISSUED
        assert seen.standing_note == "The speaking CA can't be reached."
        assert seen.ask_at is not None
        assert seen.ask_at - shared_world.clock() > timedelta(minutes=29)
    assert SpeakingAuthority.asked == 2
    while (await handle.query(AuthorityWatchWorkflow.view)).away == 0:
        await asyncio.sleep(0.02)
    assert (await handle.query(AuthorityWatchWorkflow.view)).away == 1

    database, settings, now = shared_world.database, NotificationSettings(), shared_world.clock()
    assert authority_news.tell_trouble(database, settings, now) == 0
    assert authority_news.tell_trouble(database, settings, now + timedelta(hours=7)) == 1
    assert authority_news.tell_trouble(database, settings, now + timedelta(hours=8)) == 0
    assert len(told(shared_world, "ca.silent", row.id)) == 1

    SpeakingAuthority.trouble = None
    for certificate in certificates:
        await ask_again(shared_world, certificate, handle)
    await wait_until(lambda: authority(shared_world, speaking).watch_problem is None)
    assert told(shared_world, "ca.answers_again", row.id)
    assert now_is(shared_world, certificates[0]).standing_note is None
    await handle.terminate()


async def test_an_answer_that_can_not_be_changes_nothing_and_is_told(shared_world: World, speaking: str) -> None:
    first = await in_use(shared_world, speaking, "forged.example.org")
    SpeakingAuthority.trouble = AuthorityFault("The OCSP responder answered with something that is no OCSP response.")
    handle = await watch(shared_world, speaking)
    await wait_until(lambda: authority(shared_world, speaking).watch_problem is not None)
    row, seen = authority(shared_world, speaking), now_is(shared_world, first)
    assert row.watch_faulty
    assert (seen.status, seen.active, seen.standing_source) == (CertificateStatus.ISSUED, True, None)
    assert "no OCSP response" in (seen.standing_note or "")
    await ask_again(shared_world, first, handle)
    await wait_until(lambda: SpeakingAuthority.asked == 2)
    await wait_until(lambda: (now_is(shared_world, first).ask_at or shared_world.clock()) > shared_world.clock())
    assert len(told(shared_world, "ca.answers_wrong", row.id)) == 1
    assert authority_news.tell_trouble(shared_world.database, NotificationSettings(), shared_world.clock()) == 1
    await handle.terminate()


async def test_a_ca_in_a_gateways_network_is_asked_there(shared_world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    install_speaking(monkeypatch)
    ca = add_speaking(shared_world, "gateway")
    first = await in_use(shared_world, ca, "inside.example.org")
    SpeakingAuthority.standings[first.serial_number] = Standing(True, "CRL", None, None)
    handle = await watch(shared_world, ca)
    await wait_until(lambda: now_is(shared_world, first).replaced_by_id is not None)
    history = await handle.fetch_history()
    queues = {
        event.activity_task_scheduled_event_attributes.task_queue.name
        for event in history.events
        if event.HasField("activity_task_scheduled_event_attributes")
    }
    assert queues == {naming.gateway_queue(shared_world.gateway_id)}
    await handle.terminate()


async def test_every_ca_has_its_watch_and_a_removed_one_ends_it(shared_world: World, speaking: str) -> None:
    watches = reconcile.AuthorityWatches()
    await watches.keep(shared_world.database, shared_world.client, shared_world.clock())
    number = identity(authority(shared_world, speaking))
    handle: Watch = shared_world.client.get_workflow_handle(
        naming.authority_workflow(number), result_type=AuthorityWatchView
    )
    assert (await handle.query(AuthorityWatchWorkflow.view)).authority_id == number
    with shared_world.database.write() as session:
        row = session.get_one(CertificateAuthority, number)
        profile = session.exec(select(CertificateProfile).where(CertificateProfile.authority_id == number)).one()
        session.delete(profile)
        session.flush()
        session.delete(row)
    await watches.keep(shared_world.database, shared_world.client, shared_world.clock())
    assert (await handle.result()).message == "The CA was removed."
    for other in shared_world.rows(CertificateAuthority):
        await shared_world.client.get_workflow_handle(naming.authority_workflow(other.id)).terminate()


async def test_a_ca_that_answers_late_has_revoked_once_it_says_so(shared_world: World, speaking: str) -> None:
    first = await in_use(shared_world, speaking, "late-revocation.example.org")
    SpeakingAuthority.late = 2
    result = await certificates.revoke(shared_world.context("bob"), identity(first), "affiliationChanged")
    assert result.revoked
    assert [(one.order_number, one.serial_number) for one in SpeakingAuthority.revoked] == [
        ("R-1", first.serial_number)
    ] * 3
    assert {one.reason for one in SpeakingAuthority.revoked} == {RevocationReason.AFFILIATION_CHANGED}
    seen = now_is(shared_world, first)
    assert (seen.status, seen.revocation_reason, seen.found_revoked_at) == (
        CertificateStatus.REVOKED,
        "affiliationChanged",
        None,
    )


async def test_a_renewal_goes_to_the_cas_own_and_to_another_ca_once_the_profile_says_so(
    shared_world: World, speaking: str
) -> None:
    admin = shared_world.context("admin")
    first = await in_use(shared_world, speaking, "moving-house.example.org")
    second = await renewed(shared_world, await certificates.renew(admin, identity(first)))
    assert SpeakingAuthority.ways == ["renew R-1"]
    third = await renewed(shared_world, await replace(admin, identity(second), Replacement("lost laptop")))
    assert SpeakingAuthority.ways == ["renew R-1", "replace R-2: lost laptop"]
    with shared_world.database.write() as session:
        profile = session.exec(select(CertificateProfile).where(CertificateProfile.name == speaking)).one()
        profile.authority_id = 1
        session.add(profile)
    fourth = await renewed(shared_world, await certificates.renew(admin, identity(third)))
    with shared_world.database.read() as session:
        request = session.get_one(CertificateRequest, fourth.request_id)
        assert (request.authority_id, request.order_way) == (1, OrderWay.RENEW)
    assert SpeakingAuthority.ways == ["renew R-1", "replace R-2: lost laptop"]


async def renewed(world: World, request_id: int) -> Certificate:
    """The certificate of a request that renews or replaces, in use."""
    # The request is there a moment before its workflow is.
    await world.until(request_id, state=InstallState.NOT_CONFIGURED)
    await world.workflow(request_id).result()
    with world.database.read() as session:
        return session.exec(select(Certificate).where(Certificate.request_id == request_id)).one()
