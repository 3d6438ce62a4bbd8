"""What Sectigo, or whoever stands between, must not say: each is told in one sentence, and nothing is ordered twice."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from connectors.ca.contract import Order
from connectors.ca.sectigo import SectigoAuthority
from connectors.errors import AuthorityFault, ConnectorError, Pending, Permanent, Rejected, Retryable
from model import x509
from model.rules.certificates import Expired, FromTheFuture, WrongNames, check_issued
from model.x509 import CertificateProblem, ChainProblem
from tests.connectors.ca.sectigo import NAME, bought, collecting, opened, order, secret_file
from tests.simulators.sectigo import Credentials, Customer, Fault, Faults, Simulator, Wrong
from tests.simulators.sectigo import server as simulator_server


@pytest.fixture
def ca() -> Iterator[Simulator]:
    with Simulator(faults=Faults.off()) as running:
        yield running


async def refusal(step: Callable[[], Awaitable[Any]], ca: Simulator) -> ConnectorError:
    """How it is refused: one sentence, and no credential in it."""
    with pytest.raises(ConnectorError) as refused:
        await step()
    told = refused.value.message
    assert told[-1] in ".?"
    assert told.isprintable()
    assert len(told) < 700
    known = ca.customer.credentials
    assert known.password not in told
    assert known.client_secret not in told
    assert refused.value.__cause__ is None
    return refused.value


# --- credentials ------------------------------------------------------------------------------------------------------


async def test_a_wrong_password(ca: Simulator, tmp_path: Path) -> None:
    wrong = secret_file(tmp_path, "wrong", "not it")
    authority = opened(ca, tmp_path, password=wrong)
    error = await refusal(lambda: authority.submit(order()), ca)
    assert type(error) is Permanent
    assert "the user is unknown (code -16: Unknown user): correct login, customer URI" in error.message
    health = await authority.check()
    assert not health.usable
    assert health.message.startswith("Sectigo (https://127.0.0.1:")


async def test_a_password_that_is_not_there_or_can_not_be_sent(ca: Simulator, tmp_path: Path) -> None:
    for reference, told in (
        (f"file:{tmp_path}/missing", "can't be read"),
        (secret_file(tmp_path, "lines", "one\ntwo"), "more than one line"),
        (secret_file(tmp_path, "foreign", "pä"), "header is malformed"),
    ):
        authority = opened(ca, tmp_path, password=reference)
        error = await refusal(lambda asked=authority: asked.find(order()), ca)  # type: ignore[misc]
        assert type(error) is Permanent
        assert told in error.message
    assert not ca.calls


async def test_a_wrong_client_secret_and_a_service_that_gives_no_token(ca: Simulator, tmp_path: Path) -> None:
    def by_token(secret: str) -> SectigoAuthority:
        return opened(
            ca,
            tmp_path,
            sign_in="oauth2",
            address=ca.admin_url,
            token_url=ca.token_url,
            client_id=ca.customer.credentials.client_id,
            client_secret=secret_file(tmp_path, "secret", secret),
        )

    wrong = await refusal(lambda: by_token("not it").find(order()), ca)
    assert type(wrong) is Permanent
    assert "gives no token (status 401, invalid_client)" in wrong.message
    right = ca.customer.credentials.client_secret
    ca.inject(Fault.HTML, on="token")
    assert type(await refusal(lambda: by_token(right).find(order()), ca)) is AuthorityFault
    ca.inject(Fault.EMPTY, on="token")
    assert type(await refusal(lambda: by_token(right).find(order()), ca)) is AuthorityFault
    ca.inject(Fault.SERVER_ERROR, on="token", times=3)
    assert type(await refusal(lambda: by_token(right).find(order()), ca)) is Retryable


async def test_a_client_certificate_that_is_not_there_or_open_to_others(ca: Simulator, tmp_path: Path) -> None:
    key = tmp_path / "open.key"
    key.write_bytes(ca.files.client_key.read_bytes())
    key.chmod(0o644)
    certificate = {"sign_in": "certificate", "certificate_file": str(ca.files.client_certificate), "key_file": str(key)}
    told = await refusal(lambda: opened(ca, tmp_path, **certificate).find(order()), ca)
    assert "run chmod 600" in told.message
    key.chmod(0o600)
    certificate["certificate_file"] = str(tmp_path / "none.pem")
    told = await refusal(lambda: opened(ca, tmp_path, **certificate).find(order()), ca)
    assert "client certificate" in told.message


async def test_a_client_certificate_of_somebody_else(ca: Simulator, tmp_path: Path) -> None:
    with Simulator(faults=Faults.off()) as other:
        certificate = {
            "sign_in": "certificate",
            "certificate_file": str(other.files.client_certificate),
            "key_file": str(other.files.client_key),
        }
        error = await refusal(lambda: opened(ca, tmp_path, **certificate).find(order()), ca)
        assert isinstance(error, Permanent | Retryable)


# --- what is ordered --------------------------------------------------------------------------------------------------


async def test_an_unknown_profile(ca: Simulator, tmp_path: Path) -> None:
    error = await refusal(lambda: opened(ca, tmp_path).submit(order(profile="Gold")), ca)
    assert type(error) is Permanent
    assert "no certificate profile 'Gold' for organization 7001; it offers: Multi-Domain SSL (301)" in error.message
    health = await opened(ca, tmp_path, profile="Gold").check()
    assert not health.usable
    assert "'Gold'" in health.message
    several = await refusal(lambda: opened(ca, tmp_path, profile=None).submit(order()), ca)
    assert "several certificate profiles and none is set" in several.message


async def test_a_term_that_there_is_not(ca: Simulator, tmp_path: Path) -> None:
    short = await refusal(lambda: opened(ca, tmp_path).submit(order(validity_seconds=86_400)), ca)
    assert "no term of 1 days or less; it has: 30, 90, 199 days" in short.message
    authority = opened(ca, tmp_path, term_days=100)
    other = await refusal(lambda: authority.submit(order()), ca)
    assert "no term of 100 days (setting term_days)" in other.message
    assert not (await authority.check()).usable
    assert ca.requests["enroll"] == 0


async def test_an_organization_that_the_account_does_not_see(ca: Simulator, tmp_path: Path) -> None:
    health = await opened(ca, tmp_path, organization_id=4).check()
    assert not health.usable
    assert health.message == "Sectigo does not show organization 4 to this account."
    error = await refusal(lambda: opened(ca, tmp_path, organization_id=4).submit(order()), ca)
    assert type(error) is Permanent
    assert "code -1023" in error.message


async def test_names_that_are_refused(ca: Simulator, tmp_path: Path) -> None:
    bad = await refusal(lambda: opened(ca, tmp_path).submit(order(names=("-bad-.example.com",))), ca)
    assert type(bad) is Rejected
    assert "a domain name is invalid (code -732" in bad.message
    ca.require_validation("new.example.com")
    unvalidated = await refusal(lambda: opened(ca, tmp_path).submit(order(names=("new.example.com",))), ca)
    assert type(unvalidated) is Permanent
    assert "validate the domain in the console" in unvalidated.message
    assert not ca.orders


async def test_what_is_no_order_of_sectigos(ca: Simulator, tmp_path: Path) -> None:
    error = await refusal(lambda: opened(ca, tmp_path).collect(collecting(Order("P-000001"), order())), ca)
    assert type(error) is Permanent
    assert "'P-000001' is not the number of an order" in error.message


# --- what comes back --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "kind", "told"),
    [
        (Fault.HTML, AuthorityFault, "an HTML page"),
        (Fault.EMPTY, AuthorityFault, "nothing in it"),
        (Fault.HUGE, AuthorityFault, "more than"),
        (Fault.REDIRECT, Permanent, "sends us elsewhere (status 302)"),
        (Fault.SERVER_ERROR, Retryable, "status 500"),
        (Fault.HTML_ERROR, Retryable, "status 502"),
        (Fault.GATEWAY_TIMEOUT, Retryable, "status 504"),
        (Fault.RATE_LIMITED, Retryable, "asks us to wait"),
        (Fault.CA_UNAVAILABLE, Retryable, "code -195"),
        (Fault.CUT_BEFORE, Retryable, "was cut"),
        (Fault.CUT_AFTER, Retryable, "was cut"),
        (Fault.CUT_WITHIN, Retryable, "was cut"),
        (Fault.UNAUTHORIZED, Permanent, "code -16"),
    ],
)
async def test_each_answer_that_is_none_is_told_and_buys_nothing_twice(
    ca: Simulator, tmp_path: Path, fault: Fault, kind: type[ConnectorError], told: str
) -> None:
    authority = opened(ca, tmp_path)
    request = order()
    ca.inject(fault, on="enroll")
    error = await refusal(lambda: authority.submit(request), ca)
    assert type(error) is kind
    assert told in error.message
    assert "169.254" not in error.message
    placed = await authority.find(request) or await authority.submit(request)
    assert [str(one.id) for one in ca.orders] == [placed.number]
    for route in ("details", "collect"):
        # Looking is asked again at once, twice; an order never is.
        ca.inject(fault, on=route, times=3 if kind is Retryable else 1)
        error = await refusal(lambda: authority.collect(collecting(placed, request)), ca)
        assert type(error) is kind
    ca.inject(fault, on="list", times=3 if kind is Retryable else 1)
    assert type(await refusal(lambda: authority.find(request), ca)) is kind
    ca.fair_weather()
    assert await authority.collect(collecting(placed, request))


async def test_fifty_megabytes_are_not_read_to_their_end(
    ca: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = 0
    put = simulator_server._Handler._put

    def counting(handler: Any, content: bytes) -> None:
        nonlocal sent
        put(handler, content)
        sent += len(content)

    monkeypatch.setattr(simulator_server._Handler, "_put", counting)
    ca.inject(Fault.HUGE, on="list")
    error = await refusal(lambda: opened(ca, tmp_path).find(order()), ca)
    assert type(error) is AuthorityFault
    assert sent < 20 * 1024 * 1024


@pytest.mark.parametrize(
    ("wrong", "problem"),
    [
        (Wrong.OTHER_NAMES, WrongNames),
        (Wrong.EXPIRED, Expired),
        (Wrong.NOT_YET_VALID, FromTheFuture),
        (Wrong.UNKNOWN_ISSUER, ChainProblem),
    ],
)
async def test_a_wrong_certificate_is_handed_on_as_it_is_and_refused_by_the_one_check_of_all(
    ca: Simulator, tmp_path: Path, wrong: Wrong, problem: type[CertificateProblem]
) -> None:
    ca.issue_wrongly(wrong)
    request = order()
    _, issued = await bought(opened(ca, tmp_path), request)
    with pytest.raises(problem):
        check_issued(
            issued.certificate_pem,
            issued.chain_pem,
            public_key_sha256=x509.public_key_sha256(x509.load_csr(request.csr_pem)),
            names=request.names,
            anchors=ca.trust_anchors,
            now=datetime.now(UTC),
        )


@pytest.mark.parametrize("form", ["pem", "bin"])
async def test_a_certificate_for_another_key_is_the_cas_fault(ca: Simulator, tmp_path: Path, form: str) -> None:
    ca.issue_wrongly(Wrong.OTHER_KEY)
    authority = opened(ca, tmp_path, chain_format=form)
    placed = await authority.submit(order())
    error = await refusal(lambda: authority.collect(collecting(placed, order())), ca)
    assert type(error) is AuthorityFault
    assert f"for another key than the one of order {placed.number}" in error.message
    assert f"quote order number {ca.order(int(placed.number)).order_number}" in error.message


async def test_a_chain_in_any_order_and_with_a_stranger_in_it_is_no_obstacle(ca: Simulator, tmp_path: Path) -> None:
    authority = opened(ca, tmp_path)
    for number, wrong in enumerate((Wrong.UNORDERED_CHAIN, Wrong.STRANGER_IN_CHAIN)):
        ca.issue_wrongly(wrong)
        request = order(f"certgate-c-{number}")
        _, issued = await bought(authority, request)
        checked = check_issued(
            issued.certificate_pem,
            issued.chain_pem,
            public_key_sha256=x509.public_key_sha256(x509.load_csr(request.csr_pem)),
            names=request.names,
            anchors=ca.trust_anchors,
            now=datetime.now(UTC),
        )
        assert len(checked.chain_pem) == 1


async def test_a_tls_certificate_that_does_not_verify(ca: Simulator, tmp_path: Path) -> None:
    error = await refusal(lambda: opened(ca, tmp_path, ca_file=None).find(order()), ca)
    assert type(error) is Permanent
    assert "does not verify" in error.message
    assert "set ca_file" in error.message
    assert not ca.calls
    missing = await refusal(lambda: opened(ca, tmp_path, ca_file=str(tmp_path / "none.pem")).find(order()), ca)
    assert "none.pem" in missing.message


async def test_a_server_that_is_not_there(ca: Simulator, tmp_path: Path) -> None:
    with Simulator(faults=Faults.off()) as gone:
        address = gone.host_url
    error = await refusal(lambda: opened(ca, tmp_path, address=address).find(order()), ca)
    assert type(error) is Retryable
    assert "can't be reached" in error.message


async def test_a_page_that_is_not_of_the_interface(ca: Simulator, tmp_path: Path) -> None:
    """The address of the console's own pages, say: a page with status 404."""
    error = await refusal(lambda: opened(ca, tmp_path, address=ca.plain_url).find(order()), ca)
    assert type(error) is AuthorityFault
    assert "is its address right?" in error.message


async def test_a_credential_that_the_ca_quotes_does_not_get_into_a_message(tmp_path: Path) -> None:
    quoted = Customer(credentials=Credentials(password="Organization"))
    with Simulator(faults=Faults.off(), customer=quoted) as ca:
        authority = opened(ca, tmp_path, organization_id=4)
        error = await refusal(lambda: authority.submit(order()), ca)
        assert "(code -1023: … '4' not found)" in error.message


async def test_nothing_is_pending_but_what_the_ca_calls_so(ca: Simulator, tmp_path: Path) -> None:
    """Every 400 of `collect` but three is a real failure."""
    authority = opened(ca, tmp_path)
    request = order()
    placed, _ = await bought(authority, request)
    ca.hang(int(placed.number))
    ca.faults = Faults(issue_polls=(5, 5))
    other = order("certgate-test-2", (f"two.{NAME}",))
    second = await authority.submit(other)
    with pytest.raises(Pending):
        await authority.collect(collecting(second, other))
    ca.revoke(int(placed.number))
    with pytest.raises(Permanent, match="was revoked"):
        await authority.collect(collecting(placed, request))
