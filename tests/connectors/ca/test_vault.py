"""The Vault-compatible PKI against a real OpenBao: orders, roles, names, chains, revocation, lists, what goes wrong."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from connectors.ca.contract import (
    CancelsOrders,
    CertificateAuthority,
    CollectRequest,
    EarlierOrder,
    FindsOrders,
    HeldCertificate,
    IssuedCertificate,
    KnowsStanding,
    ListsCertificates,
    OffersProfiles,
    OrderRequest,
    RevocationReason,
    RevokeRequest,
    ShowsTrustAnchors,
)
from connectors.ca.vault import CONNECTOR, VaultAuthority
from connectors.errors import AuthorityFault, ConnectorError, Permanent, Rejected, Retryable
from connectors.registry import Surroundings
from connectors.secrets import resolve
from model import x509
from model.keys import KeyAlgorithm
from model.rules.certificates import check_issued
from tests.pki import PrivateKey, make_ca, make_csr, make_leaf, new_key, pem, shared_key
from tests.support.openbao import ROOT_TOKEN, OpenBao
from tests.support.scripted import ServerTls, scripted, server_tls

NAMES = ["www.example.com", "*.example.com", "10.0.0.7"]
Opened = Callable[..., VaultAuthority]


@pytest_asyncio.fixture
async def opened(openbao: OpenBao, tmp_path: Path) -> AsyncIterator[Opened]:
    """Opens the CA with a sign-in by AppRole, and closes what it opened."""
    secret = tmp_path / "secret-id"
    secret.write_text(openbao.secret_id())
    secret.chmod(0o600)
    found: list[VaultAuthority] = []

    def open_one(**more: Any) -> VaultAuthority:
        settings = {
            "address": openbao.address,
            "ca_file": str(openbao.ca_file),
            "role_id": openbao.role_id(),
            "secret_id": f"file:{secret}",
            "mount": "pki_int",
            "role": "server",
            **more,
        }
        given = {name: value for name, value in settings.items() if value is not None}
        found.append(CONNECTOR.open(CONNECTOR.configure(given), Surroundings(tmp_path, resolve)))
        return found[-1]

    yield open_one
    for ca in found:
        await ca.close()


def order(names: list[str] | None = None, key: PrivateKey | None = None, **more: Any) -> OrderRequest:
    names = names or NAMES
    return OrderRequest("request-1", make_csr(key or new_key(), names, names[0]), names[0], names, **more)


async def bought(ca: VaultAuthority, wanted: OrderRequest) -> tuple[str, IssuedCertificate]:
    placed = await ca.submit(wanted)
    return placed.number, await ca.collect(CollectRequest(placed.number, wanted))


def test_it_is_what_the_contract_asks(tmp_path: Path) -> None:
    settings = {"address": "https://127.0.0.1:1", "token": "env:NONE", "role": "server"}
    ca = CONNECTOR.open(CONNECTOR.configure(settings), Surroundings(tmp_path, resolve))
    for protocol in (
        CertificateAuthority,
        FindsOrders,
        CancelsOrders,
        ShowsTrustAnchors,
        KnowsStanding,
        OffersProfiles,
        ListsCertificates,
    ):
        assert isinstance(ca, protocol)
    assert not list(tmp_path.iterdir())  # opening touches nothing


async def test_an_order_is_signed_collected_and_found(opened: Opened) -> None:
    ca, wanted = opened(), order(validity_seconds=86_400)
    assert await ca.find(wanted) is None
    number, issued = await bought(ca, wanted)
    assert await ca.collect(CollectRequest(number, wanted)) == issued
    # Another process finds it by the key, also in a signing request that the keystore signed anew.
    other = opened()
    found = await other.find(wanted)
    assert found is not None
    assert found.number == number
    leaf = x509.load_certificate(issued.certificate_pem)
    facts = check_issued(
        issued.certificate_pem,
        issued.chain_pem,
        public_key_sha256=x509.public_key_sha256(x509.load_csr(wanted.csr_pem)),
        names=NAMES,
        anchors=await ca.trust_anchors(),
        now=datetime.now(UTC),
    )
    assert sorted(facts.names) == sorted(NAMES)
    assert len(issued.chain_pem) == 1  # without the root
    assert leaf.not_valid_after_utc - leaf.not_valid_before_utc == timedelta(seconds=86_430)  # the role backdates
    assert number.replace(":", "").lstrip("0") == x509.serial_hex(leaf)
    assert not await ca.withdraw(number)


@pytest.mark.parametrize("algorithm", list(KeyAlgorithm))
async def test_every_key_and_a_name_that_is_an_address(opened: Opened, algorithm: KeyAlgorithm) -> None:
    _, issued = await bought(opened(), order(["10.0.0.9"], shared_key(algorithm), profile="any"))
    assert x509.subject_names(x509.load_certificate(issued.certificate_pem)) == ["10.0.0.9"]


async def test_a_profile_names_a_role(opened: Opened) -> None:
    ca = opened()
    _, issued = await bought(ca, order(profile="short", validity_seconds=86_400 * 30))
    leaf = x509.load_certificate(issued.certificate_pem)
    assert leaf.not_valid_after_utc - leaf.not_valid_before_utc <= timedelta(hours=144, minutes=1)
    offers = {one.name: one.description for one in await ca.profiles()}
    assert offers["short"].startswith("at most 6 days, names of example.com")
    assert "not usable" in offers["forgetful"]


async def test_an_issuer_of_its_own(openbao: OpenBao, opened: Opened) -> None:
    """A mount with two issuers: the chain is the one of whoever signed."""
    openbao.ask(
        "POST", "pki/root/generate/internal", {"common_name": "Second", "issuer_name": "second", "ttl": "9000h"}
    )
    role = {"allow_any_name": True, "key_type": "any", "max_ttl": "100h", "issuer_ref": "default"}
    openbao.ask("POST", "pki/roles/server", role)
    ca = opened(mount="pki", issuer="second")
    assert (await ca.check()).usable
    number, issued = await bought(ca, order())
    leaf = x509.load_certificate(issued.certificate_pem)
    assert x509.distinguished_name(leaf.issuer) == "CN=Second"
    assert issued.chain_pem == []
    [anchor] = await ca.trust_anchors()
    assert x509.is_signed_by(leaf, x509.load_certificate(anchor))
    # Whoever reads it without knowing the issuer is told the same.
    assert await opened(mount="pki").certificate(number) == issued


async def test_a_renewal_with_the_same_key_is_an_order_of_its_own(openbao: OpenBao, opened: Opened) -> None:
    ca, key = opened(), new_key()
    first, issued = await bought(ca, order(key=key))
    old = x509.load_certificate(issued.certificate_pem)
    renewal = order(key=key, earlier=EarlierOrder(first, x509.serial_hex(old)))
    found = await ca.find(order(key=key))
    assert found is not None
    assert found.number == first
    assert await ca.find(renewal) is None
    # One that was signed in another second is younger.
    second = await ca.submit(renewal)
    young = x509.load_certificate((await ca.collect(CollectRequest(second.number, renewal))).certificate_pem)
    if young.not_valid_before_utc > old.not_valid_before_utc:
        assert await ca.find(renewal) == second


async def test_what_is_not_ours_is_not_found(openbao: OpenBao, opened: Opened) -> None:
    ca, key = opened(), new_key()
    number, issued = await bought(ca, order(["a.example.com"], key))
    assert await ca.find(order(["b.example.com"], key)) is None  # the key alone is not the order
    assert await ca.find(order(["a.example.com"])) is None
    assert await ca.find(OrderRequest("request-1", "", "", [])) is None
    leaf = x509.load_certificate(issued.certificate_pem)
    request = RevokeRequest(number, issued.certificate_pem, x509.serial_hex(leaf), RevocationReason.SUPERSEDED)
    await ca.revoke(request)
    assert await ca.find(order(["a.example.com"], key)) is None


async def test_many_foreign_certificates_are_listed_and_not_read(openbao: OpenBao, opened: Opened) -> None:
    """Also after the fact: what is found there among many others has one of our names, and only such are read."""
    openbao.intermediate("pki_many")
    maker = opened(mount="pki_many")
    key = shared_key(KeyAlgorithm.EC_P256)
    for number in range(60):
        await maker.submit(order([f"foreign-{number}.example.com"], key))
    wanted = order()
    placed = await maker.submit(wanted)
    seeker = opened(mount="pki_many")
    read: list[str] = []
    ask = seeker._vault.ask

    async def counting(method: str, path: str, **more: Any) -> Any:
        read.append(f"{method} {path}")
        return await ask(method, path, **more)

    seeker._vault.ask = counting  # type: ignore[method-assign]
    assert await seeker.find(wanted) == placed
    assert sum("pki_many/cert/" in one for one in read) == 2  # read once, and looked at whether it still stands
    read.clear()
    assert await seeker.find(wanted) == placed
    assert read == ["LIST pki_many/certs", f"GET pki_many/cert/{placed.number}"]


async def test_a_server_that_lists_no_names_and_no_pages(openbao: OpenBao, opened: Opened) -> None:
    """As HashiCorp's does: each certificate is read, once."""
    openbao.intermediate("pki_plain")
    maker, wanted = opened(mount="pki_plain"), order()
    placed = await maker.submit(wanted)
    for number in range(120):
        await maker.submit(order([f"foreign-{number}.example.com"], shared_key(KeyAlgorithm.EC_P256)))
    seeker = opened(mount="pki_plain")
    ask, read = seeker._vault.ask, []

    async def plain(method: str, path: str, *, query: Any = None, **more: Any) -> Any:
        read.append(path)
        return await ask(method, path if "detailed" not in path else "pki_plain/nothing", **more)

    seeker._vault.ask = plain  # type: ignore[method-assign]
    assert await seeker.find(wanted) == placed
    count = len(read)
    assert await seeker.find(wanted) == placed
    assert len(read) == count + 2
    pages, page = [], None
    while True:
        got = await seeker.certificates(page)
        pages.append(len(got.certificates))
        page = got.next
        if page is None:
            break
    assert pages == [100, 21]


async def test_what_the_mount_has_issued_is_listed_page_by_page(openbao: OpenBao, opened: Opened) -> None:
    openbao.intermediate("pki_pages")
    ca = opened(mount="pki_pages")
    key = shared_key(KeyAlgorithm.EC_P256)
    numbers = {(await ca.submit(order([f"page-{number}.example.com"], key))).number for number in range(105)}
    first = await ca.certificates()
    second = await ca.certificates(first.next)
    assert second.next is None
    listed = [*first.certificates, *second.certificates]
    assert len(first.certificates) == 100
    assert {one.order_number for one in listed} == numbers
    line = listed[0]
    assert (line.status, line.names) == ("issued", [line.common_name])
    assert x509.serial_hex(x509.load_certificate((await ca.certificate(line.order_number)).certificate_pem)) == (
        line.serial_number
    )


async def test_revocation_and_standing(opened: Opened) -> None:
    ca, wanted = opened(), order()
    number, issued = await bought(ca, wanted)
    serial = x509.serial_hex(x509.load_certificate(issued.certificate_pem))
    held = HeldCertificate(number, issued.certificate_pem, serial)
    standing = await ca.standing(held)
    assert standing is not None
    assert not standing.revoked
    request = RevokeRequest(number, issued.certificate_pem, serial, RevocationReason.KEY_COMPROMISE)
    await ca.revoke(request)
    await ca.revoke(request)  # revoked already is success
    standing = await ca.standing(held)
    assert standing is not None
    assert standing.revoked
    assert standing.revoked_at is not None
    assert datetime.now(UTC) - standing.revoked_at < timedelta(minutes=5)
    with pytest.raises(Rejected, match=f"{number} is revoked"):
        await ca.collect(CollectRequest(number, wanted))
    unknown = replace(request, serial_number="1234")
    with pytest.raises(Permanent, match="does not revoke 12:34"):
        await ca.revoke(unknown)
    assert await ca.standing(replace(held, serial_number="1234")) is None


# --- what goes wrong --------------------------------------------------------------------------------------------------


async def test_a_name_that_the_role_refuses(openbao: OpenBao, opened: Opened) -> None:
    before = len(openbao.serials())
    with pytest.raises(Rejected, match=r"refuses to sign by the role server: .*www\.example\.org"):
        await opened().submit(order(["www.example.org"]))
    assert len(openbao.serials()) == before


async def test_a_role_that_is_not_there(opened: Opened) -> None:
    told = "has no role nobody at pki_int; it has: any, forgetful, server, short"
    with pytest.raises(Permanent, match=told):
        await opened().submit(order(profile="nobody"))
    health = await opened(role="nobody").check()
    assert not health.usable
    assert told in health.message


async def test_a_role_that_keeps_nothing_is_refused_before_anything_is_signed(opened: Opened) -> None:
    with pytest.raises(Permanent, match="forgetful keeps no certificates"):
        await opened().submit(order(profile="forgetful"))
    health = await opened(role="forgetful").check()
    assert not health.usable
    assert "no_store" in health.message


async def test_a_role_that_takes_no_names_from_the_signing_request(openbao: OpenBao, opened: Opened) -> None:
    """The same names are given beside it, addresses as addresses."""
    role = {"use_csr_sans": False, "use_csr_common_name": False, "key_type": "any", "max_ttl": "100h"}
    openbao.ask("POST", "pki_int/roles/odd", {"allow_any_name": True, **role})
    try:
        _, issued = await bought(opened(), order(profile="odd"))
        assert sorted(x509.subject_names(x509.load_certificate(issued.certificate_pem))) == sorted(NAMES)
    finally:
        openbao.ask("DELETE", "pki_int/roles/odd")


async def test_policies_that_do_not_suffice(openbao: OpenBao, opened: Opened, tmp_path: Path) -> None:
    secret = tmp_path / "token"
    secret.write_text(openbao.token("default", ttl="1h"))
    secret.chmod(0o600)
    access = {"role_id": None, "secret_id": None, "token": f"file:{secret}"}
    health = await opened(**access).check()
    assert not health.usable
    for path in ("update on pki_int/sign/server", "list on pki_int/certs/", "read on pki_int/cert/0"):
        assert path in health.message
    with pytest.raises(Permanent, match="does not let us write to pki_int/sign/server"):
        await opened(**access).submit(order())
    openbao.ask("POST", "sys/policies/acl/narrow", {"policy": 'path "+/sign/server" { capabilities = ["update"] }'})
    secret.write_text(openbao.token("default", "narrow", ttl="1h"))
    with pytest.raises(Permanent, match="does not let us list pki_int/certs"):
        await opened(**access).find(order())


async def test_check_tells_what_there_is(openbao: OpenBao, opened: Opened) -> None:
    health = await opened().check()
    assert health.usable, health
    told = {one.label: one.text for one in health.details}
    assert told["Server"].startswith("version 2.")
    assert told["Token"].endswith("policies: certgate, certgate-kv, default")
    assert told["Role"] == "server: at most 47 days, names of example.com, keys: any"
    assert told["Issuer"].startswith("CN=Test Intermediate pki_int, until")
    assert not (await opened(mount="nowhere").check()).usable
    assert not (await opened(issuer="stranger").check()).usable


async def test_an_issuer_that_ends_too_early_for_the_role(openbao: OpenBao, opened: Opened) -> None:
    openbao.ask("POST", "sys/mounts/pki_old", {"type": "pki", "config": {"max_lease_ttl": "100h"}})
    openbao.ask("POST", "pki_old/root/generate/internal", {"common_name": "Old", "ttl": "48h"})
    openbao.ask("POST", "pki_old/roles/server", {"allow_any_name": True, "key_type": "any", "max_ttl": "90h"})
    health = await opened(mount="pki_old").check()
    assert not health.usable
    assert "its issuer ends" in health.message
    with pytest.raises(Rejected, match="refuses to sign"):
        await opened(mount="pki_old").submit(order(validity_seconds=90 * 3600))


async def test_sealed(openbao: OpenBao, opened: Opened) -> None:
    ca = opened()
    assert (await ca.check()).usable
    openbao.seal()
    try:
        health = await ca.check()
        assert not health.usable
        assert "is sealed" in health.message
        with pytest.raises(Retryable, match="is sealed"):
            await ca.find(order())
    finally:
        openbao.unseal()
    assert await bought(ca, order())


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> ServerTls:
    return server_tls(tmp_path_factory.mktemp("tls"))


def _signing_answer(certificate: str) -> bytes:
    return json.dumps({"data": {"certificate": certificate, "expire_time": None, "ttl": 0}}).encode()


@pytest.mark.parametrize(
    ("certificate", "error", "told"),
    [
        ("", AuthorityFault, "without a certificate that can be read"),
        ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----", AuthorityFault, "that can be read"),
    ],
)
async def test_an_answer_without_a_certificate(
    tls: ServerTls, opened: Opened, tmp_path: Path, certificate: str, error: type[ConnectorError], told: str
) -> None:
    async with scripted(tls.context) as server:
        server.answer("200 OK", _signing_answer(certificate))
        ca = _at(opened, server.port, tls, tmp_path)
        with pytest.raises(error, match=told):
            await ca.submit(order())
        with pytest.raises(error, match=told):
            await ca.collect(CollectRequest("00:11", order()))


async def test_a_certificate_for_another_key_or_other_names(tls: ServerTls, opened: Opened, tmp_path: Path) -> None:
    issuer, key = make_ca("Stranger"), new_key()
    async with scripted(tls.context) as server:
        ca = _at(opened, server.port, tls, tmp_path)
        server.answer("200 OK", _signing_answer(pem(make_leaf(issuer, new_key(), NAMES))))
        with pytest.raises(AuthorityFault, match="for another key under 00:11"):
            await ca.collect(CollectRequest("00:11", order(key=key)))
        server.answer("200 OK", _signing_answer(pem(make_leaf(issuer, key, NAMES[:1]))))
        with pytest.raises(Permanent, match=r"lacks \*\.example\.com, 10\.0\.0\.7: let the role server take names"):
            await ca.collect(CollectRequest("00:11", order(key=key)))
        server.answer("200 OK", _signing_answer(pem(make_leaf(issuer, key, [*NAMES, "evil.example"]))))
        with pytest.raises(Permanent, match=r"names that nobody asked for, evil\.example"):
            await ca.collect(CollectRequest("00:11", order(key=key)))


@pytest.mark.parametrize("status", ["500 Internal Server Error", "502 Bad Gateway", "504 Gateway Timeout"])
async def test_after_a_lost_answer_there_is_time_to_settle(
    tls: ServerTls, opened: Opened, tmp_path: Path, status: str
) -> None:
    async with scripted(tls.context) as server:
        server.answer("200 OK", b'{"data":{"ttl":0}}')
        ca = _at(opened, server.port, tls, tmp_path)
        await ca._storing("server")
        server.answer(status, b"<html>")
        with pytest.raises(Retryable, match="is in trouble") as caught:
            await ca.submit(order())
        assert caught.value.after == timedelta(seconds=10)
        server.answer(status, b"", "retry-after: 60")
        with pytest.raises(Retryable) as caught:
            await ca.submit(order())
        assert caught.value.after == timedelta(seconds=60)


def _at(opened: Opened, port: int, tls: ServerTls, folder: Path) -> VaultAuthority:
    token = folder / "token"
    token.write_text(ROOT_TOKEN)
    token.chmod(0o600)
    access = {"role_id": None, "secret_id": None, "token": f"file:{token}"}
    return opened(address=f"https://127.0.0.1:{port}", ca_file=str(tls.ca_file), **access)
