"""Sectigo's verbs, against the simulator."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from connectors.ca.contract import (
    CancelsOrders,
    CertificateAuthority,
    DecidesOrders,
    EarlierOrder,
    FindsOrders,
    HeldCertificate,
    IssuedCertificate,
    KnowsStanding,
    ListsCertificates,
    OffersProfiles,
    Order,
    OrderRequest,
    RenewsCertificates,
    ReplacesCertificates,
    RevocationReason,
    RevokeRequest,
)
from connectors.ca.sectigo import placing
from connectors.errors import AuthorityFault, Pending, Permanent, Rejected, Retryable
from model import x509
from model.keys import KeyAlgorithm
from model.rules.certificates import check_issued
from tests.connectors.ca.sectigo import NAME, after, bought, collecting, leaf_of, opened, order, patiently, secret_file
from tests.pki import make_csr, shared_key
from tests.simulators.sectigo import Approval, Customer, CustomField, Fault, Faults, Simulator, Status, Wrong

FORMATS = ("pem", "pemia", "x509", "x509CO", "base64", "bin")


@pytest.fixture
def ca() -> Iterator[Simulator]:
    with Simulator(faults=Faults.off()) as running:
        yield running


def held(placed: Order, issued: IssuedCertificate) -> HeldCertificate:
    return HeldCertificate(placed.number, issued.certificate_pem, x509.serial_hex(leaf_of(issued)))


def revocation(placed: Order, issued: IssuedCertificate, reason: RevocationReason) -> RevokeRequest:
    return RevokeRequest(placed.number, issued.certificate_pem, x509.serial_hex(leaf_of(issued)), reason)


def test_it_is_what_the_contract_asks_and_all_it_can_do_besides(ca: Simulator, tmp_path: Path) -> None:
    authority = opened(ca, tmp_path)
    assert isinstance(authority, CertificateAuthority)
    for ability in (
        FindsOrders,
        CancelsOrders,
        RenewsCertificates,
        ReplacesCertificates,
        KnowsStanding,
        OffersProfiles,
        ListsCertificates,
        DecidesOrders,
    ):
        assert isinstance(authority, ability)


# --- signing in and the account ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["v1", "v2"])
async def test_check_tells_who_signs_in_the_organization_and_what_it_offers(
    ca: Simulator, tmp_path: Path, version: str
) -> None:
    health = await opened(ca, tmp_path, api_version=version, term_days=90).check()
    assert health.usable, health.message
    told = [(one.label, one.text) for one in health.details]
    assert ("Signed in as", "certgate-api of example (password)") in told
    assert ("Organization", "Example Org (7001)") in told
    assert any("Multi-Domain SSL (301): terms of 30, 90, 199 days" in text for _, text in told)
    assert any(f"/ssl/{version}/types" in one.path for one in ca.calls)


async def test_a_client_certificate_signs_in_at_its_own_place(ca: Simulator, tmp_path: Path) -> None:
    certificate = {
        "sign_in": "certificate",
        "certificate_file": str(ca.files.client_certificate),
        "key_file": str(ca.files.client_key),
    }
    assert (await opened(ca, tmp_path, **certificate).check()).usable
    assert {one.path.split("/")[1] for one in ca.calls} == {"private"}


async def test_an_encrypted_key_needs_its_passphrase_and_nobody_is_asked_at_a_terminal(
    ca: Simulator, tmp_path: Path
) -> None:
    from cryptography.hazmat.primitives import serialization

    key = serialization.load_pem_private_key(ca.files.client_key.read_bytes(), None)
    locked = tmp_path / "locked.key"
    protection = serialization.BestAvailableEncryption(b"open sesame")
    form = serialization.PrivateFormat.PKCS8
    locked.write_bytes(key.private_bytes(serialization.Encoding.PEM, form, protection))
    locked.chmod(0o600)
    certificate = {
        "sign_in": "certificate",
        "certificate_file": str(ca.files.client_certificate),
        "key_file": str(locked),
    }
    refused = await opened(ca, tmp_path, **certificate).check()
    assert not refused.usable
    assert "client certificate" in refused.message
    passphrase = secret_file(tmp_path, "passphrase", "open sesame")
    assert (await opened(ca, tmp_path, **certificate, key_passphrase=passphrase).check()).usable


def by_token(ca: Simulator, folder: Path) -> dict[str, object]:
    known = ca.customer.credentials
    return {
        "sign_in": "oauth2",
        "address": ca.admin_url,
        "client_id": known.client_id,
        "client_secret": secret_file(folder, "secret", known.client_secret),
        "token_url": ca.token_url,
    }


async def test_one_token_serves_many_calls_until_shortly_before_its_end(ca: Simulator, tmp_path: Path) -> None:
    authority = opened(ca, tmp_path, **by_token(ca, tmp_path))
    health = await authority.check()
    assert health.usable, health.message
    assert any(one.label == "Token ends" for one in health.details)
    await bought(authority, order())
    assert ca.requests["token"] == 1


async def test_a_token_that_was_ended_before_its_time_is_fetched_anew_once(ca: Simulator, tmp_path: Path) -> None:
    authority = opened(ca, tmp_path, **by_token(ca, tmp_path))
    assert (await authority.check()).usable
    ca.end_tokens()
    placed, _ = await bought(authority, order())
    assert ca.requests["token"] == 2
    assert [str(one.id) for one in ca.orders] == [placed.number]
    # One that is refused at once as well is no matter of time: it is told, and not tried for ever.
    ca.inject(Fault.UNAUTHORIZED, on="details", times=2)
    with pytest.raises(Permanent, match="the user is unknown"):
        await authority.collect(collecting(placed, order()))
    assert ca.requests["token"] == 3


async def test_profiles_are_offered_under_names_that_orders_may_use(ca: Simulator, tmp_path: Path) -> None:
    authority = opened(ca, tmp_path)
    offered = {one.name: one for one in await authority.profiles()}
    assert set(offered) == {"Multi-Domain SSL", "Single Domain SSL", "Short Lived SSL"}
    assert list(offered["Short Lived SSL"].validities) == [6 * 86_400]
    placed = await authority.submit(order(profile="short lived ssl"))
    assert ca.order(int(placed.number)).type_id == 303


# --- orders -----------------------------------------------------------------------------------------------------------


async def test_an_order_has_our_reference_the_names_the_term_and_the_fields_that_are_set(tmp_path: Path) -> None:
    fields = (CustomField(1, "Cost centre", mandatory=True), CustomField(2, "Owner", mandatory=True))
    with Simulator(faults=Faults.off(), customer=Customer(custom_fields=fields)) as ca:
        authority = opened(
            ca,
            tmp_path,
            custom_fields={"Cost centre": "4711", "Owner": "nobody"},
            comments="Ordered by the web team",
            external_requester="web@example.com, ops@example.com",
            term_days=90,
        )
        names = (NAME, "example.com", "*.example.com")
        request = order("certgate-abc-7", names, custom_fields={"Owner": "alice"})
        placed = await authority.submit(request)
        seen = ca.order(int(placed.number))
        assert seen.external_requester == "certgate-abc-7@certgate.invalid,web@example.com,ops@example.com"
        assert seen.comments == "Ordered by the web team [certgate: order certgate-abc-7]"
        assert set(seen.names) == set(names)
        assert seen.term == 90
        issued = await authority.collect(collecting(placed, request))
        assert sorted(x509.subject_names(leaf_of(issued))) == sorted(names)
        assert (await authority.find(request)) == placed


@pytest.mark.parametrize(("days", "term"), [(None, 199), (199, 199), (150, 90), (90, 90), (47, 30)])
async def test_the_term_is_the_longest_that_is_not_longer_than_asked(
    ca: Simulator, tmp_path: Path, days: int | None, term: int
) -> None:
    placed = await opened(ca, tmp_path).submit(order(validity_seconds=days * 86_400 + 5 if days else None))
    assert ca.order(int(placed.number)).term == term


async def test_an_order_is_found_by_exactly_its_reference_among_many(ca: Simulator, tmp_path: Path) -> None:
    authority = opened(ca, tmp_path, page_size=3)
    placed = {number: await authority.submit(order(f"certgate-x-{number}")) for number in range(1, 14)}
    # The list's filter lets through what contains the words; certgate-x-1 is contained in four of these.
    for number, there in placed.items():
        assert await authority.find(order(f"certgate-x-{number}")) == there
    assert await authority.find(order("certgate-x-14")) is None
    assert await authority.find(order("x-1")) is None
    assert await authority.find(OrderRequest("certgate-x-3", "", "", [])) == placed[3]


async def test_an_order_whose_reply_was_lost_is_found(ca: Simulator, tmp_path: Path) -> None:
    for fault in (Fault.CUT_AFTER, Fault.CUT_WITHIN, Fault.GATEWAY_TIMEOUT):
        request = order(f"certgate-lost-{fault}")
        ca.inject(fault, on="enroll")
        with pytest.raises(Retryable):
            await opened(ca, tmp_path).submit(request)
        there = await opened(ca, tmp_path).find(request)
        assert there is not None
        assert ca.order(int(there.number)).external_requester.startswith(request.reference)
    assert len(ca.orders) == 3


async def test_a_list_that_does_not_search_is_not_taken_for_an_answer(
    ca: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the filter were ignored, "not among the first" would be taken for "not there", and paid for twice."""
    monkeypatch.setattr(placing, "MOST_CANDIDATES", 5)
    authority = opened(ca, tmp_path)
    for number in range(6):
        # Each contains what is searched for, and none is it.
        await authority.submit(order(f"x{number}certgate-y-1"))
    with pytest.raises(Permanent, match="does not search"):
        await authority.find(order("certgate-y-1"))


@pytest.mark.parametrize("form", FORMATS)
async def test_each_format_is_put_in_order(ca: Simulator, tmp_path: Path, form: str) -> None:
    ca.issue_wrongly(Wrong.STRANGER_IN_CHAIN)
    authority = opened(ca, tmp_path, chain_format=form)
    request = order()
    _, issued = await bought(authority, request)
    chain = [x509.load_certificate(one) for one in issued.chain_pem]
    assert x509.is_signed_by(leaf_of(issued), chain[0])
    assert x509.is_signed_by(chain[0], chain[1])
    checked = check_issued(
        issued.certificate_pem,
        issued.chain_pem,
        public_key_sha256=x509.public_key_sha256(x509.load_csr(request.csr_pem)),
        names=request.names,
        anchors=ca.trust_anchors,
        now=leaf_of(issued).not_valid_before_utc,
    )
    # A stranger among them stands last and goes no further, and neither does the root.
    assert "Somebody Else" in x509.distinguished_name(chain[-1].subject)
    assert [x509.load_certificate(one) for one in checked.chain_pem] == chain[:1]


async def test_it_is_pending_through_each_state_and_tells_since_when(tmp_path: Path) -> None:
    with Simulator(faults=Faults(approval=Approval.MANUAL)) as ca:
        authority = opened(ca, tmp_path)
        request = order()
        placed = await authority.submit(request)
        with pytest.raises(Pending, match=r"waits for approval at Sectigo since 20\d\d-.* UTC: approve it"):
            await authority.collect(collecting(placed, request))
        number = int(placed.number)
        ca.approve(number)
        ca.hang(number)
        quoted = ca.order(number).order_number
        with pytest.raises(Pending) as stuck:
            await authority.collect(collecting(placed, request))
        assert f"(order number {quoted}) is Applied since 20" in stuck.value.message
        assert f"quote order number {quoted}" in stuck.value.message
        with pytest.raises(Pending) as later:
            await authority.collect(collecting(placed, request))
        assert later.value.message == stuck.value.message
        ca.release(number)
        assert leaf_of(await authority.collect(collecting(placed, request)))


async def test_it_approves_at_the_cas_side_where_it_is_told_to(tmp_path: Path) -> None:
    with Simulator(faults=Faults(approval=Approval.MANUAL)) as ca:
        authority = opened(ca, tmp_path, approve=True)
        _, issued = await bought(authority, order())
        assert leaf_of(issued)
        assert ca.requests["approve"] == 1


async def test_names_that_are_not_validated_are_told_with_what_is_missing(ca: Simulator, tmp_path: Path) -> None:
    ca.require_validation("new.example.com")
    authority = opened(ca, tmp_path, dcv_mode="CNAME")
    request = order(names=(NAME, "new.example.com"))
    placed = await authority.submit(request)
    with pytest.raises(Pending, match=r"waits for the validation of new\.example\.com") as waiting:
        await authority.collect(collecting(placed, request))
    states = {one.name: one for one in waiting.value.validations}
    assert states[NAME].state == "valid"
    assert not states[NAME].missing
    assert states["new.example.com"].state == "pending"
    assert states["new.example.com"].method == "CNAME"
    assert states["new.example.com"].missing.startswith("a CNAME record _")
    assert ".new.example.com that points to " in states["new.example.com"].missing
    ca.validate("new.example.com")
    assert leaf_of(await authority.collect(collecting(placed, request)))


@pytest.mark.parametrize(
    ("mode", "missing"),
    [("HTTP", "a file at http://"), ("TXT", "a TXT record _"), ("EMAIL", "an answer to the e-mail")],
)
async def test_each_way_of_validation_says_what_is_missing(
    ca: Simulator, tmp_path: Path, mode: str, missing: str
) -> None:
    ca.require_validation(NAME)
    request = order()
    authority = opened(ca, tmp_path, dcv_mode=mode, dcv_email="admin@example.com")
    placed = await authority.submit(request)
    with pytest.raises(Pending) as waiting:
        await authority.collect(collecting(placed, request))
    [state] = waiting.value.validations
    assert state.missing.startswith(missing)


async def test_an_order_that_is_declined_or_rejected_will_never_be_issued(tmp_path: Path) -> None:
    with Simulator(faults=Faults(approval=Approval.MANUAL)) as ca:
        authority = opened(ca, tmp_path, comments="For the shop")
        request = order()
        placed = await authority.submit(request)
        ca.decline(int(placed.number))
        with pytest.raises(Rejected, match=r"is Declined since 20.* with the comment: For the shop\."):
            await authority.collect(collecting(placed, request))
        other = order("certgate-test-2")
        placed = await authority.submit(other)
        ca.reject(int(placed.number))
        with pytest.raises(Rejected, match="is Rejected"):
            await authority.collect(collecting(placed, other))
        with pytest.raises(Rejected, match="was deleted there"):
            await authority.collect(collecting(Order("99999"), other))


# --- renewals and replacements ----------------------------------------------------------------------------------------


async def test_a_renewal_has_a_number_and_a_key_of_its_own(ca: Simulator, tmp_path: Path) -> None:
    authority = opened(ca, tmp_path)
    first = await bought(authority, order("certgate-r-1", fresh=True))
    request = order("certgate-r-2", fresh=True, earlier=after(*first))
    assert await authority.find(request) is None
    placed = await authority.renew(request)
    issued = await authority.collect(collecting(placed, request))
    assert placed != first[0]
    assert ca.order(int(placed.number)).kind == "renew"
    assert ca.order(int(placed.number)).external_requester == "certgate-r-2@certgate.invalid"
    assert x509.serial_hex(leaf_of(issued)) != x509.serial_hex(leaf_of(first[1]))
    assert await authority.find(request) == placed
    assert await authority.find(order("certgate-r-1")) == first[0]


@pytest.mark.parametrize("words", [True, False])
async def test_a_renewal_whose_reply_was_lost_is_found_with_and_without_inherited_words(
    ca: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: bool
) -> None:
    authority = opened(ca, tmp_path)
    first = await bought(authority, order("certgate-r-1", fresh=True))
    await bought(authority, order("certgate-other", fresh=True))
    request = order("certgate-r-2", fresh=True, earlier=after(*first))
    ca.inject(Fault.CUT_AFTER, on="renewById")
    with pytest.raises(Retryable):
        await authority.renew(request)
    [renewal] = [one for one in ca.orders if one.kind == "renew"]
    if not words:
        # Whether a renewal is given the words of the order before it is not documented.
        await authority.console.tag(await authority.console.details(renewal.id), "", "by hand")
    there = await opened(ca, tmp_path).find(request)
    assert there == Order(str(renewal.id))
    assert ca.order(renewal.id).external_requester == "certgate-r-2@certgate.invalid"
    assert leaf_of(await authority.collect(collecting(there, request)))
    assert sum(one.kind == "renew" for one in ca.orders) == 1


async def test_a_mark_without_a_renewal_is_no_order(ca: Simulator, tmp_path: Path) -> None:
    authority = opened(ca, tmp_path)
    first = await bought(authority, order("certgate-r-1", fresh=True))
    request = order("certgate-r-2", fresh=True, earlier=after(*first))
    ca.inject(Fault.CUT_BEFORE, on="renewById")
    with pytest.raises(Retryable):
        await authority.renew(request)
    # Orders for the same name that came later, and are somebody's else, are not taken for it.
    await bought(authority, order("certgate-r-9", fresh=True))
    assert await authority.find(request) is None
    placed = await authority.renew(request)
    assert ca.order(int(placed.number)).earlier == int(first[0].number)


async def test_two_orders_that_may_be_the_renewal_are_a_persons_to_judge(ca: Simulator, tmp_path: Path) -> None:
    authority = opened(ca, tmp_path)
    first = await bought(authority, order("certgate-r-1", fresh=True))
    request = order("certgate-r-2", fresh=True, earlier=after(*first))
    ca.inject(Fault.CUT_AFTER, on="renewById", times=2)
    for _ in range(2):
        with pytest.raises(Retryable):
            await authority.renew(request)
    with pytest.raises(Permanent, match=r"Any of the orders 50002, 50003 at Sectigo may be the renewal"):
        await authority.find(request)


@pytest.mark.parametrize("why", ["names", "profile", "settings", "revoked", "deleted"])
async def test_what_can_not_be_a_renewal_is_a_new_order(ca: Simulator, tmp_path: Path, why: str) -> None:
    authority = opened(ca, tmp_path, renew_in_order=why != "settings")
    first = await bought(authority, order("certgate-r-1", fresh=True))
    earlier = EarlierOrder("40000", "ab") if why == "deleted" else after(*first)
    if why == "revoked":
        ca.revoke(int(first[0].number))
    names = (NAME, "more.example.com") if why == "names" else (NAME,)
    profile = "302" if why == "profile" else None
    request = order("certgate-r-2", names, earlier=earlier, profile=profile)
    placed = await authority.renew(request)
    assert ca.order(int(placed.number)).kind == "enroll"
    assert await authority.find(request) == placed
    assert leaf_of(await authority.collect(collecting(placed, request)))


async def test_a_replacement_keeps_the_number_and_the_old_certificate_is_not_taken_for_it(
    ca: Simulator, tmp_path: Path
) -> None:
    authority = opened(ca, tmp_path)
    first = await bought(authority, order("certgate-r-1", fresh=True))
    ca.faults = Faults(issue_polls=(3, 3), shows_old=1.0)
    request = order("certgate-r-2", (NAME, "more.example.com"), fresh=True, earlier=after(*first), reason="A  drill")
    assert await authority.find(request) is None
    placed = await authority.replace(request)
    assert placed == first[0]
    assert await authority.find(request) == placed
    seen = set()
    for _ in range(10):
        try:
            issued = await authority.collect(collecting(placed, request))
            break
        except Pending as pending:
            seen.add(pending.message)
    assert seen
    assert x509.subject_names(leaf_of(issued)) == [NAME, "more.example.com"]
    assert ca.order(int(placed.number)).reissues == 1


async def test_an_issued_order_that_still_shows_the_old_certificate_is_pending(
    ca: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = opened(ca, tmp_path)
    # With the same key, so that only the serial number tells them apart.
    first = await bought(authority, order("certgate-r-1"))
    request = order("certgate-r-2", earlier=after(*first))
    with pytest.raises(Pending, match="still has the certificate that is to be replaced"):
        await authority.collect(collecting(first[0], request))


@pytest.mark.parametrize("fault", [Fault.CUT_BEFORE, Fault.CUT_AFTER])
async def test_a_replacement_is_asked_for_once(ca: Simulator, tmp_path: Path, fault: Fault) -> None:
    authority = opened(ca, tmp_path)
    first = await bought(authority, order("certgate-r-1", fresh=True))
    # Somebody replaced it before, so that its serial number is not the one that we hold.
    await authority.replace(order("certgate-r-5", fresh=True, earlier=after(*first)))
    await patiently(lambda: authority.certificate(first[0].number))
    request = order("certgate-r-2", fresh=True, earlier=after(*first))
    ca.inject(fault, on="replace")
    with pytest.raises(Retryable):
        await authority.replace(request)
    there = await authority.find(request)
    assert (there is None) is (fault is Fault.CUT_BEFORE)
    placed = there or await authority.replace(request)
    assert leaf_of(await patiently(lambda: authority.collect(collecting(placed, request))))
    assert ca.order(int(placed.number)).reissues == 2


async def test_what_can_not_be_replaced_in_its_order_is_told_or_ordered_anew(ca: Simulator, tmp_path: Path) -> None:
    authority = opened(ca, tmp_path)
    first = await bought(authority, order("certgate-r-1", fresh=True))
    request = order("certgate-r-2", fresh=True, earlier=after(*first))
    ca.auto_install(int(first[0].number))
    with pytest.raises(Permanent, match=r"code -1148: .*set replace_in_order to false"):
        await authority.replace(request)
    placed = await opened(ca, tmp_path, replace_in_order=False).replace(request)
    assert ca.order(int(placed.number)).kind == "enroll"


# --- certificates -----------------------------------------------------------------------------------------------------


async def test_revoking_takes_the_certificate_and_not_what_replaced_it(ca: Simulator, tmp_path: Path) -> None:
    authority = opened(ca, tmp_path)
    first = await bought(authority, order("certgate-r-1", fresh=True))
    request = order("certgate-r-2", fresh=True, earlier=after(*first))
    second = await authority.replace(request), await patiently(lambda: authority.collect(collecting(first[0], request)))
    # The simulator, like the console, has forgotten the old one's serial number: it must not revoke the new one.
    with pytest.raises(Permanent, match="there is no such certificate"):
        await authority.revoke(revocation(*first, RevocationReason.SUPERSEDED))
    assert ca.order(int(second[0].number)).status == Status.ISSUED.value
    await authority.revoke(revocation(*second, RevocationReason.KEY_COMPROMISE))
    assert ca.order(int(second[0].number)).reason_code == "1"


@pytest.mark.parametrize("number", ["as it is", "unknown", "not ours"])
async def test_revoked_already_is_success_and_an_unknown_number_is_no_obstacle(
    ca: Simulator, tmp_path: Path, number: str
) -> None:
    authority = opened(ca, tmp_path)
    placed, issued = await bought(authority, order())
    placed = {"as it is": placed, "unknown": Order("77777"), "not ours": Order("P-000001")}[number]
    ca.inject(Fault.CUT_AFTER, on="revoke" if number == "as it is" else "revokeSerial")
    with pytest.raises(Retryable):
        await authority.revoke(revocation(placed, issued, RevocationReason.CESSATION_OF_OPERATION))
    await authority.revoke(revocation(placed, issued, RevocationReason.CESSATION_OF_OPERATION))
    assert [one.status for one in ca.orders] == ["Revoked"]
    assert [one.reason_code for one in ca.orders] == ["5"]


async def test_the_cas_own_revocation_is_noticed(ca: Simulator, tmp_path: Path) -> None:
    authority = opened(ca, tmp_path)
    placed, issued = await bought(authority, order())
    standing = await authority.standing(held(placed, issued))
    assert standing is not None
    assert not standing.revoked
    ca.revoke(int(placed.number), "1")
    for known in (held(placed, issued), held(Order("40000"), issued)):
        standing = await authority.standing(known)
        assert standing is not None
        assert (standing.revoked, standing.source, standing.reason) == (True, "CA", "keyCompromise")
        assert standing.revoked_at is not None
    stranger = HeldCertificate(placed.number, issued.certificate_pem, "abcdef")
    assert await authority.standing(stranger) is None
    with pytest.raises(Permanent, match="was revoked at Sectigo on 20"):
        await authority.collect(collecting(placed, order()))


async def test_the_list_is_read_page_by_page(ca: Simulator, tmp_path: Path) -> None:
    authority = opened(ca, tmp_path, page_size=2)
    numbers = [(await bought(authority, order(f"certgate-l-{number}")))[0].number for number in range(5)]
    hanging = await authority.submit(order("certgate-l-9"))
    ca.hang(int(hanging.number))
    listed, pages, page = [], 0, None
    while pages == 0 or page is not None:
        found = await authority.certificates(page)
        assert found.total == 5
        listed += [one.order_number for one in found.certificates]
        page, pages = found.next, pages + 1
    assert listed == numbers
    assert pages == 3
    first = found.certificates[0]
    assert first.common_name == NAME
    assert x509.serial_hex(leaf_of(await authority.certificate(first.order_number))) == first.serial_number


# --- withdrawing and deciding -----------------------------------------------------------------------------------------


async def test_an_order_is_withdrawn_unless_it_is_issued(tmp_path: Path) -> None:
    with Simulator(faults=Faults(approval=Approval.MANUAL)) as ca:
        authority = opened(ca, tmp_path)
        waiting = await authority.submit(order("certgate-w-1"))
        assert await authority.withdraw(waiting.number)
        assert await authority.withdraw(waiting.number)
        assert ca.order(int(waiting.number)).status == "Declined"
        assert await authority.withdraw("40000")
        hanging = await authority.submit(order("certgate-w-2"))
        ca.approve(int(hanging.number))
        ca.hang(int(hanging.number))
        request = order("certgate-w-2")
        with pytest.raises(Pending):
            await authority.collect(collecting(hanging, request))
        with pytest.raises(Permanent, match=r"is Applied and can't be taken back .* quote order number \d+"):
            await authority.withdraw(hanging.number)
        ca.release(int(hanging.number))
        await patiently(lambda: authority.collect(collecting(hanging, request)))
        assert not await authority.withdraw(hanging.number)


async def test_a_replacement_that_is_under_way_is_never_withdrawn_with_its_order(ca: Simulator, tmp_path: Path) -> None:
    authority = opened(ca, tmp_path)
    first = await bought(authority, order("certgate-r-1", fresh=True))
    ca.faults = Faults(issue_polls=(9, 9))
    await authority.replace(order("certgate-r-2", fresh=True, earlier=after(*first)))
    assert not await authority.withdraw(first[0].number)
    assert ca.requests["delete"] == ca.requests["decline"] == 0


async def test_orders_are_decided_at_the_cas_side(tmp_path: Path) -> None:
    with Simulator(faults=Faults(approval=Approval.MANUAL)) as ca:
        authority = opened(ca, tmp_path)
        first, second = [await authority.submit(order(f"certgate-d-{number}")) for number in (1, 2)]
        waiting = await authority.orders()
        assert [(one.number, one.state, one.common_name) for one in waiting] == [
            (first.number, "pending", NAME),
            (second.number, "pending", NAME),
        ]
        assert all(one.created for one in waiting)
        await authority.release(first.number)
        await authority.reject(second.number, "the host is  not ours")
        assert ca.order(int(second.number)).status == "Declined"
        assert leaf_of(await patiently(lambda: authority.collect(collecting(first, order("certgate-d-1")))))
        assert list(await authority.orders()) == []
        for deciding in (authority.release(first.number), authority.reject(second.number, "again")):
            with pytest.raises(Permanent, match=r"code -1112"):
                await deciding


async def test_in_all_the_trouble_that_passes_by_itself_each_verb_comes_through(tmp_path: Path) -> None:
    with Simulator(faults=Faults.usual(3)) as ca:
        authority = opened(ca, tmp_path, page_size=2)
        request = order("certgate-t-1", fresh=True)

        async def placed_once() -> Order:
            return await authority.find(request) or await authority.submit(request)

        placed = await patiently(placed_once)
        issued = await patiently(lambda: authority.collect(collecting(placed, request)))
        standing = await patiently(lambda: authority.standing(held(placed, issued)))
        assert standing is not None
        await patiently(lambda: authority.revoke(revocation(placed, issued, RevocationReason.SUPERSEDED)))
        assert [(one.status, one.reason_code) for one in ca.orders] == [("Revoked", "4")]
        assert await patiently(authority.profiles)
        assert any(one.fault for one in ca.calls)


async def test_the_cas_own_hint_is_passed_on(ca: Simulator, tmp_path: Path) -> None:
    ca.faults = Faults(retry_after=17)
    ca.inject(Fault.RATE_LIMITED, on="list")
    with pytest.raises(Retryable) as busy:
        await opened(ca, tmp_path).find(order())
    assert busy.value.after is not None
    assert busy.value.after.total_seconds() == 17


async def test_a_key_that_the_profile_does_not_take_is_a_refusal_of_the_order(ca: Simulator, tmp_path: Path) -> None:
    csr = make_csr(shared_key(KeyAlgorithm.ED25519), [NAME])
    with pytest.raises(Rejected, match=r"code -1[13]: "):
        await opened(ca, tmp_path).submit(OrderRequest("certgate-k-1", csr, NAME, [NAME]))


async def test_a_certificate_for_another_key_in_a_replacement_is_the_cas_fault(ca: Simulator, tmp_path: Path) -> None:
    authority = opened(ca, tmp_path)
    first = await bought(authority, order("certgate-r-1", fresh=True))
    request = order("certgate-r-2", fresh=True, earlier=after(*first))
    ca.issue_wrongly(Wrong.OTHER_KEY)
    placed = await authority.replace(request)
    with pytest.raises(AuthorityFault, match="for another key"):
        await patiently(lambda: authority.collect(collecting(placed, request)))
