"""Certificates that CAs issued elsewhere: listed, chosen, taken, and from then on renewed, replaced and revoked."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from itertools import count

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from sqlmodel import col, select

from connectors.ca.contract import (
    CertificatePage,
    CollectRequest,
    IssuedCertificate,
    ListedCertificate,
    OrderRequest,
)
from connectors.ca.private import CONNECTOR
from connectors.errors import Rejected
from model import x509
from model.errors import Conflict, InvalidInput
from model.states import CertificateStatus, InstallState, OrderWay, RequestOrigin
from model.tables import (
    AuditEntry,
    Certificate,
    CertificateAuthority,
    CertificateProfile,
    CertificateRequest,
    Endpoint,
    EndpointBinding,
)
from operations import bootstrap, certificate_import, certificates
from operations.certificate_import import ImportView, NewImport
from operations.lookup import identity
from operations.replacement import Replacement, replace
from tests import pki
from tests.support.speaking import SpeakingAuthority, install_speaking
from tests.support.world import World
from tests.workflows.test_authority_watch import add_speaking

_NUMBERS = count(1)


async def elsewhere(world: World, name: str) -> tuple[str, IssuedCertificate]:
    """A certificate of the built-in CA that we did not order; the order's number too."""
    owner = CONNECTOR.open(CONNECTOR.configure({}), world.surroundings)
    request = OrderRequest(f"elsewhere-{next(_NUMBERS)}", pki.make_csr(pki.new_key(), [name]), name, [name])
    order = await owner.submit(request)
    return order.number, await owner.collect(CollectRequest(order.number, request))


def built_in(world: World, **fields: object) -> NewImport:
    """An import from the built-in CA."""
    with world.database.read() as session:
        ca = session.exec(select(CertificateAuthority).order_by(col(CertificateAuthority.id))).first()
        profile = session.exec(select(CertificateProfile).order_by(col(CertificateProfile.id))).first()
    assert ca is not None
    assert profile is not None
    given = {"profile": profile.name, **fields}
    return NewImport(ca.name, bootstrap.FIRST_ORGANIZATION, bootstrap.LOCAL_GATEWAY, **given)  # type: ignore[arg-type]


async def over(world: World, view: ImportView) -> ImportView:
    """The import when it rests; the test's own time limit is the bound."""
    while view.running:
        await asyncio.sleep(0.02)
        view = certificate_import.show(world.context("admin"), view.id)
    return view


def imported(world: World, view: ImportView, order: str) -> Certificate:
    """What came of a line."""
    rows = certificate_import.lines(world.context("admin"), view.id, limit=5000).rows
    (line,) = [row for row in rows if row.order_number == order]
    assert line.state == "imported", line
    with world.database.read() as session:
        return session.get_one(Certificate, line.certificate_id)


def request_of(world: World, certificate: Certificate) -> CertificateRequest:
    """Its request."""
    with world.database.read() as session:
        return session.get_one(CertificateRequest, certificate.request_id)


async def test_what_is_listed_is_chosen_taken_and_then_ours(shared_world: World) -> None:
    admin = shared_world.context("admin")
    wanted, issued = await elsewhere(shared_world, "shop.example.org")
    left, _ = await elsewhere(shared_world, "left.example.org")
    ours = await shared_world.submit("known.example.org")
    await shared_world.until(ours, state=InstallState.KEY_READY)
    await shared_world.say(ours, "approve")
    await shared_world.workflow(ours).result()

    listed = await over(shared_world, await certificate_import.begin(admin, built_in(shared_world)))
    states = {row.order_number: row.state for row in certificate_import.lines(admin, listed.id, limit=1000).rows}
    assert (listed.state, states[wanted], states[left]) == ("listed", "new", "new")
    assert states[shared_world.show(ours).order_number or ""] == "known"
    with pytest.raises(InvalidInput, match="no order P-999999"):
        await certificate_import.take(admin, listed.id, [wanted, "P-999999"])

    done = await over(shared_world, await certificate_import.take(admin, listed.id, [wanted]))
    assert (done.state, done.counts["imported"]) == ("done", 1)
    row = imported(shared_world, done, wanted)
    assert row.pem == issued.certificate_pem
    assert [x509.load_certificate(pem) for pem in row.chain_pem] == [x509.load_certificate(issued.chain_pem[0])]
    assert (row.status, row.active, row.auto_renew, row.renew_at) == (CertificateStatus.ISSUED, True, False, None)
    request = request_of(shared_world, row)
    assert (request.origin, request.closed, request.order_number) == (RequestOrigin.IMPORTED, True, wanted)
    assert certificates.show(admin, identity(row)).row.imported
    with shared_world.database.read() as session:
        statement = select(AuditEntry).where(AuditEntry.object_type == "import", AuditEntry.object_id == done.id)
        told = [entry.action for entry in session.exec(statement.order_by(col(AuditEntry.sequence)))]
    assert told == ["certificate.import", "certificate.import", "certificate.imported"]

    # From now on it is replaced as any other is; nobody ever approved it here, so that somebody has to.
    number = await replace(shared_world.context("alice"), identity(row))
    await shared_world.until(number, state=InstallState.KEY_READY)
    assert shared_world.show(number).status == CertificateStatus.REQUESTED
    await shared_world.say(number, "approve")
    await shared_world.workflow(number).result()
    with shared_world.database.read() as session:
        assert session.get_one(CertificateRequest, number).order_way == OrderWay.REPLACE
        assert session.get_one(Certificate, row.id).status == CertificateStatus.REPLACED
    assert (await certificates.revoke(admin, identity(row), "superseded")).revoked


async def test_with_automatic_renewal_the_watch_begins(shared_world: World) -> None:
    order, _ = await elsewhere(shared_world, "watched.example.org")
    admin = shared_world.context("admin")
    listed = await over(shared_world, await certificate_import.begin(admin, built_in(shared_world, auto_renew=True)))
    done = await over(shared_world, await certificate_import.take(admin, listed.id, [order]))
    row = imported(shared_world, done, order)
    assert row.renew_at is not None
    view = await shared_world.renewal(row.id).query("view")
    assert view["step"] == "wait"
    with pytest.raises(InvalidInput, match="is in no keystore of ours"):
        await replace(admin, identity(row), Replacement(new_key=False))


class ListingAuthority(SpeakingAuthority):
    """A CA with pages of any length: the first has 1,205 lines, the second those of `given`, by order number."""

    given: dict[str, IssuedCertificate | Exception] = {}  # noqa: RUF012  (shared on purpose, as its base's)

    async def certificates(self, page: str | None = None) -> CertificatePage:
        """One line stands there thrice."""
        lines = [ListedCertificate(number, f"{number.lower()}.example.org", status="Issued") for number in self.given]
        past = datetime(2020, 1, 1, tzinfo=UTC)
        over = [
            ListedCertificate("REVOKED", "revoked.example.org", status="Revoked"),
            ListedCertificate("ENDED", "ended.example.org", status="Issued", not_after=past),
        ]
        filler = [ListedCertificate(f"F-{number}", f"f{number}.example.org") for number in range(1200)]
        if page is None:
            return CertificatePage([*over, *filler, *lines[:1] * 3], next="two", total=1206)
        return CertificatePage(lines)

    async def certificate(self, order_number: str) -> IssuedCertificate:
        """As the test has it."""
        found = self.given[order_number]
        if isinstance(found, Exception):
            raise found
        return found


@pytest.fixture
def pages(monkeypatch: pytest.MonkeyPatch) -> dict[str, IssuedCertificate | Exception]:
    """What the listing CA has, by order number."""
    install_speaking(monkeypatch, ListingAuthority, "listing")
    ListingAuthority.given = {}
    return ListingAuthority.given


@pytest.mark.parametrize("reached_from", ["manager", "gateway"])
async def test_pages_of_any_length_and_certificates_that_are_wrong(
    shared_world: World, pages: dict[str, IssuedCertificate | Exception], reached_from: str
) -> None:
    ca, admin, now = (
        add_speaking(shared_world, reached_from, "listing"),
        shared_world.context("admin"),
        shared_world.clock(),
    )
    with shared_world.database.write() as session:
        profile = session.exec(select(CertificateProfile).where(CertificateProfile.name == ca)).one()
        profile.allowed_names = ["*.example.org"]
        session.add(profile)
    day, issuer = timedelta(days=1), pki.make_ca("Unknown CA", not_before=now - pki.DAY, not_after=now + 90 * pki.DAY)

    def leaf(*names: str, end: timedelta = 30 * day) -> IssuedCertificate:
        made = pki.make_leaf(issuer, pki.new_key(), names, not_before=now - 40 * day, not_after=now + end)
        return IssuedCertificate(x509.to_pem(made), [])

    good = leaf("good.example.org")
    pages.update(
        GOOD=good,
        AGAIN=good,
        EXPIRED=leaf("expired.example.org", end=-day),
        STRANGE=leaf("shop.example.com"),
        NAMELESS=leaf(),
        GARBAGE=IssuedCertificate("no certificate", []),
        GONE=Rejected("The CA no longer has it."),
    )
    new = NewImport(ca, bootstrap.FIRST_ORGANIZATION, bootstrap.LOCAL_GATEWAY)
    listed = await over(shared_world, await certificate_import.begin(admin, new))
    assert (listed.state, sum(listed.counts.values())) == ("listed", 1202 + len(pages))
    done = await over(shared_world, await certificate_import.take(admin, listed.id, list(pages)))
    found = {row.order_number: row for row in certificate_import.lines(admin, done.id, limit=2000).rows}
    assert {number: found[number].state for number in pages} == {
        "GOOD": "imported",
        "AGAIN": "known",
        "EXPIRED": "refused",
        "STRANGE": "refused",
        "NAMELESS": "refused",
        "GARBAGE": "refused",
        "GONE": "refused",
    }
    assert "It expired" in (found["EXPIRED"].note or "")
    assert (found["REVOKED"].state, found["REVOKED"].note) == ("refused", "The CA has revoked it.")
    assert (found["ENDED"].state, found["ENDED"].note) == ("refused", "It expired on 2020-01-01 00:00 UTC.")
    assert "shop.example.com" in (found["STRANGE"].note or "")
    assert found["GONE"].note == "The CA no longer has it."
    assert "The chain is incomplete" in (found["GOOD"].note or "")
    assert done.counts["new"] == 1200


async def test_a_ca_that_can_not_list_says_so(shared_world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    install_speaking(monkeypatch)
    ca = add_speaking(shared_world, "manager")
    new = NewImport(ca, bootstrap.FIRST_ORGANIZATION, bootstrap.LOCAL_GATEWAY)
    failed = await over(shared_world, await certificate_import.begin(shared_world.context("admin"), new))
    assert (failed.state, failed.message) == (
        "failed",
        f"CA {ca} can't list its certificates: import them from files.",
    )


async def test_a_file_is_taken_once_and_installed_where_it_was_seen(shared_world: World) -> None:
    admin = shared_world.context("admin")
    order, issued = await elsewhere(shared_world, "file.example.org")
    content = issued.certificate_pem.encode()
    with shared_world.database.write() as session:
        endpoint = Endpoint(gateway_id=shared_world.gateway_id, name="seen", type="nginx")
        session.add(endpoint)
        session.flush()
        fingerprint = x509.fingerprint(x509.load_certificate(issued.certificate_pem))
        session.add(EndpointBinding(endpoint_id=identity(endpoint), binding="file:443", served_fingerprint=fingerprint))
    new = built_in(shared_world)
    key = pki.new_key().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    with pytest.raises(InvalidInput, match="private key"):
        await certificate_import.from_file(admin, new, content + key)
    _, other = await elsewhere(shared_world, "second.example.org")
    with pytest.raises(InvalidInput, match="there are 2"):
        await certificate_import.from_file(admin, new, content + other.certificate_pem.encode())
    view = await certificate_import.from_file(admin, new, content + issued.chain_pem[0].encode(), order)
    row = imported(shared_world, view, order)
    assert row.fingerprint == fingerprint
    request = request_of(shared_world, row)
    assert (request.endpoint_id, request.binding) == (endpoint.id, "file:443")
    with pytest.raises(Conflict, match=f"It is certificate {row.id} already"):
        await certificate_import.from_file(admin, new, content)
