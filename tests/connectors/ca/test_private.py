"""The private CA: orders, states, limits, revocation; real keys, a real file, processes that race and are killed."""

from __future__ import annotations

import asyncio
import dataclasses
import multiprocessing
import signal
import sqlite3
import ssl
import stat
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509 as crypto
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp

from connectors.ca.contract import (
    CancelsOrders,
    CertificateAuthority,
    CollectRequest,
    FindsOrders,
    IssuedCertificate,
    OrderRequest,
    RevocationReason,
    RevokeRequest,
    ShowsTrustAnchors,
)
from connectors.ca.private import CONNECTOR, OrderState, PrivateAuthority, Settings
from connectors.ca.private.revocation import issuer_hashes
from connectors.errors import Pending, Permanent, Retryable
from connectors.registry import Surroundings
from connectors.secrets import resolve
from model import x509
from model.keys import KeyAlgorithm
from model.rules.certificates import CheckedCertificate, check_issued
from tests.pki import PrivateKey, make_csr, new_key, shared_key

ROOT = Path(__file__).parents[3]
NAMES = ["www.example.com", "*.example.com", "10.0.0.7"]
START = datetime(2027, 3, 1, 12, 0, 0, 500, tzinfo=UTC)


class Clock:
    """A clock that the test turns."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        return self.now


def open_ca(home: Path, clock: Clock | None = None, **settings: Any) -> PrivateAuthority:
    configured = CONNECTOR.configure(settings)
    surroundings = Surroundings(home, resolve)
    return CONNECTOR.open(configured, dataclasses.replace(surroundings, clock=clock) if clock else surroundings)


def order(
    reference: str = "request-1", key: PrivateKey | None = None, names: list[str] | None = None, **more: Any
) -> OrderRequest:
    names = names or NAMES
    return OrderRequest(reference, make_csr(key or shared_key(KeyAlgorithm.EC_P256), names), names[0], names, **more)


def collecting(number: str) -> CollectRequest:
    return CollectRequest(number, order())


def revocation(number: str, issued: IssuedCertificate, reason: RevocationReason) -> RevokeRequest:
    serial = x509.serial_hex(x509.load_certificate(issued.certificate_pem))
    return RevokeRequest(number, issued.certificate_pem, serial, reason)


async def checked(
    ca: PrivateAuthority, issued: IssuedCertificate, names: list[str], now: datetime
) -> CheckedCertificate:
    leaf = x509.load_certificate(issued.certificate_pem)
    return check_issued(
        issued.certificate_pem,
        issued.chain_pem,
        public_key_sha256=x509.public_key_sha256(leaf),
        names=names,
        anchors=await ca.trust_anchors(),
        now=now,
    )


def test_it_is_what_the_contract_asks(tmp_path: Path) -> None:
    ca = open_ca(tmp_path)
    for protocol in (CertificateAuthority, FindsOrders, CancelsOrders, ShowsTrustAnchors):
        assert isinstance(ca, protocol)
    assert not list(tmp_path.iterdir())  # opening touches nothing


async def test_an_order_is_issued_at_once_and_collected_twice_alike(tmp_path: Path) -> None:
    clock = Clock()
    ca = open_ca(tmp_path, clock)
    assert await ca.find(order()) is None
    placed = await ca.submit(order())
    assert placed.number == "P-000001"
    assert await ca.find(order()) == placed
    assert await ca.submit(order()) == placed
    issued = await ca.collect(collecting(placed.number))
    assert await open_ca(tmp_path, clock).collect(collecting(placed.number)) == issued
    facts = await checked(ca, issued, NAMES, clock.now)
    assert facts.names == tuple(NAMES)
    assert facts.not_after - facts.not_before == timedelta(days=47, seconds=-1)
    assert facts.not_before == START.replace(microsecond=0) - timedelta(seconds=300)
    assert facts.chain_pem == tuple(issued.chain_pem)
    assert (await ca.submit(order("request-2"))).number == "P-000002"
    assert (await ca.check()).usable


async def test_openssl_and_the_strict_profile_agree(tmp_path: Path) -> None:
    ca = open_ca(tmp_path)
    placed = await ca.submit(order())
    issued = await ca.collect(collecting(placed.number))
    for name, text in [("leaf", issued.certificate_pem), ("chain", issued.chain_pem[0])]:
        (tmp_path / name).write_text(text)
    (tmp_path / "root").write_text((await ca.trust_anchors())[0])
    command = ["openssl", "verify", "-x509_strict", "-purpose", "sslserver", "-verify_hostname", NAMES[0]]
    command += ["-CAfile", "root", "-untrusted", "chain", "leaf"]
    done = await asyncio.to_thread(subprocess.run, command, cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout == "leaf: OK\n", done.stderr
    ssl.create_default_context(cadata=(await ca.trust_anchors())[0])


@pytest.mark.parametrize("algorithm", [one for one in KeyAlgorithm if one is not KeyAlgorithm.ED25519])
async def test_every_usual_key(tmp_path: Path, algorithm: KeyAlgorithm) -> None:
    ca = open_ca(tmp_path)
    issued = await ca.collect(collecting((await ca.submit(order(key=shared_key(algorithm)))).number))
    usage = x509.load_certificate(issued.certificate_pem).extensions.get_extension_for_class(crypto.KeyUsage).value
    assert usage.key_encipherment is algorithm.startswith("rsa")
    assert await checked(ca, issued, NAMES, datetime.now(UTC))


async def test_edwards_curves_where_a_profile_lists_them(tmp_path: Path) -> None:
    wanted = order(key=shared_key(KeyAlgorithm.ED25519))
    with pytest.raises(Permanent, match=r"takes keys of type .*, and the request has ed25519"):
        await open_ca(tmp_path).submit(wanted)
    ca = open_ca(tmp_path, profiles={"server": {"validity_seconds": 3600, "algorithms": ["ed25519"]}})
    assert await checked(ca, await ca.collect(collecting((await ca.submit(wanted)).number)), NAMES, datetime.now(UTC))


@pytest.mark.parametrize(
    ("profile", "asked", "seconds"), [("short", None, 518_400), ("year", None, 34_387_200), (None, 60, 60)]
)
async def test_profiles_and_validity(tmp_path: Path, profile: str | None, asked: int | None, seconds: int) -> None:
    clock = Clock()
    ca = open_ca(tmp_path, clock)
    issued = await ca.collect(collecting((await ca.submit(order(profile=profile, validity_seconds=asked))).number))
    facts = await checked(ca, issued, NAMES, clock.now)
    assert (facts.not_after - facts.not_before).total_seconds() == seconds - 1
    assert clock.now - facts.not_before <= timedelta(seconds=301)
    assert facts.not_after > clock.now


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"profile": "gold"}, "no profile 'gold'; it has: server, short, year"),
        ({"validity_seconds": 59}, "validity of 59 s is outside 60 to 4060800 s"),
        ({"validity_seconds": 4_060_801}, "validity of 4060801 s is outside"),
        ({"reference": ""}, "reference of an order"),
        ({"csr_pem": "nonsense"}, "not a readable PEM certificate signing request"),
        ({"names": ["www.example.com"]}, "nobody asked for"),
        ({"names": [*NAMES, "more.example.com"]}, "lacks the name more.example.com"),
        ({"names": [*NAMES, "a_b.example.com"]}, "underscore"),
        ({"common_name": "other.example.com"}, "lacks the name other.example.com"),
        ({"csr_pem": make_csr(ec.generate_private_key(ec.SECP521R1()), NAMES)}, "and the request has None"),
    ],
)
async def test_what_is_not_issued_leaves_no_order(tmp_path: Path, change: Mapping[str, Any], message: str) -> None:
    good = order()
    fields = {"reference": "r", "csr_pem": good.csr_pem, "common_name": good.common_name, "names": good.names, **change}
    ca = open_ca(tmp_path)
    with pytest.raises(Permanent, match=message):
        await ca.submit(OrderRequest(**fields))
    assert await ca.records() == []


async def test_a_reference_is_for_one_key_and_one_set_of_names(tmp_path: Path) -> None:
    ca = open_ca(tmp_path)
    first = await ca.submit(order())
    same_key_new_csr = order()
    assert same_key_new_csr.csr_pem != order().csr_pem
    assert await ca.submit(same_key_new_csr) == first
    for other in (order(key=new_key()), order(names=["www.example.com"])):
        with pytest.raises(Permanent, match="belongs to order P-000001 for another key or other names"):
            await ca.submit(other)


async def test_a_delayed_order_is_pending_with_a_hint(tmp_path: Path) -> None:
    clock = Clock()
    ca = open_ca(tmp_path, clock, issuance_delay_seconds=90)
    placed = await ca.submit(order())
    clock.now += timedelta(seconds=30)
    with pytest.raises(Pending, match="P-000001 is being worked on until 2027-03-01 12:01:30 UTC") as caught:
        await ca.collect(collecting(placed.number))
    assert caught.value.after == timedelta(seconds=60)
    clock.now += timedelta(seconds=60)
    assert await ca.collect(collecting(placed.number)) == await ca.collect(collecting(placed.number))


async def test_manual_issuance(tmp_path: Path) -> None:
    ca = open_ca(tmp_path, manual=True)
    one, two, three = [(await ca.submit(order(f"request-{number}"))).number for number in (1, 2, 3)]
    with pytest.raises(Pending, match="waits for the owner of the CA"):
        await ca.collect(collecting(one))
    await ca.release(one)
    await ca.release(one)
    assert (await ca.collect(collecting(one))).certificate_pem
    await ca.reject(two, "  the name is not ours.\n")
    with pytest.raises(Permanent, match=r"rejected order P-000002: the name is not ours\.$"):
        await ca.collect(collecting(two))
    assert await ca.withdraw(three) is True
    assert await ca.withdraw(three) is True
    assert await ca.withdraw(two) is True
    assert await ca.withdraw(one) is False
    with pytest.raises(Permanent, match="withdrawn"):
        await ca.collect(collecting(three))
    for number in (one, two, three):
        with pytest.raises(Permanent, match="not pending any more"):
            await ca.release(number)
        with pytest.raises(Permanent, match="not pending any more"):
            await ca.reject(number, "late")
    with pytest.raises(Permanent, match="with a reason"):
        await ca.reject(one, " ")
    states = {record.number: record.state for record in await ca.records()}
    assert states == {one: OrderState.ISSUED, two: OrderState.REJECTED, three: OrderState.WITHDRAWN}
    assert [record.number for record in await ca.records(OrderState.ISSUED)] == [one]


@pytest.mark.parametrize("number", ["P-000009", "", "1", "P-1", "P-x", "P-٣", "P-0000001", "'; DROP TABLE orders; --"])
async def test_an_order_that_is_not_there(tmp_path: Path, number: str) -> None:
    ca = open_ca(tmp_path)
    await ca.submit(order())
    with pytest.raises(Permanent, match="has no order"):
        await ca.collect(collecting(number))


async def test_constraints_hold_for_orders_and_stand_in_the_intermediate(tmp_path: Path) -> None:
    limits: dict[str, Any] = {
        "permitted_names": ["example.com", "10.0.0.0/8"],
        "excluded_names": [".secret.example.com"],
    }
    ca = open_ca(tmp_path, **limits)
    for bad in (
        "example.org",
        "notexample.com",
        "x.secret.example.com",
        "11.0.0.1",
        "fd00::1",
        "*.a.secret.example.com",
    ):
        with pytest.raises(Permanent, match="outside the names that this CA may issue for"):
            await ca.submit(order(names=[bad]))
    issued = await ca.collect(collecting((await ca.submit(order(names=["www.example.com", "10.0.0.7"]))).number))
    assert await checked(ca, issued, ["www.example.com", "10.0.0.7"], datetime.now(UTC))
    intermediate = x509.load_certificate(issued.chain_pem[0])
    extension = intermediate.extensions.get_extension_for_class(crypto.NameConstraints)
    assert extension.critical
    assert extension.value == Settings.model_validate(limits).constraints
    # Settings that were widened later do not widen what clients will accept.
    with pytest.raises(Permanent, match="outside"):
        await open_ca(tmp_path).submit(order(names=["example.org"]))


async def test_addresses_only(tmp_path: Path) -> None:
    ca = open_ca(tmp_path, permitted_names=["10.0.0.0/8"])
    with pytest.raises(Permanent, match="outside"):
        await ca.submit(order(names=["www.example.com"]))
    issued = await ca.collect(collecting((await ca.submit(order(names=["10.0.0.7"]))).number))
    assert await checked(ca, issued, ["10.0.0.7"], datetime.now(UTC))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"colour": "red"}, "setting colour"),
        ({"profiles": {}}, "default_profile 'server'"),
        ({"profiles": {"server": {"validity_seconds": 1}}}, r"setting profiles\.server\.validity_seconds"),
        ({"permitted_names": ["10.0.0.1/8"]}, "neither a DNS domain nor an address range"),
        ({"permitted_names": ["a_b"]}, "underscore"),
        ({"revocation_url": "https://example.com/crl"}, "must be an http:// address"),
        ({"name": "a\nb"}, "setting name"),
    ],
)
def test_wrong_settings_get_one_sentence(settings: Mapping[str, Any], message: str) -> None:
    with pytest.raises(Permanent, match=message):
        CONNECTOR.configure(settings)


async def test_the_cas_own_certificates_and_files(tmp_path: Path) -> None:
    ca = open_ca(tmp_path)
    root = x509.load_certificate((await ca.trust_anchors())[0])
    intermediate = x509.load_certificate(await ca.issuer())
    assert isinstance(root.public_key(), ec.EllipticCurvePublicKey)
    assert x509.key_algorithm(root.public_key()) is KeyAlgorithm.EC_P384
    assert x509.key_algorithm(intermediate.public_key()) is KeyAlgorithm.EC_P256
    assert x509.is_self_signed(root)
    assert intermediate.extensions.get_extension_for_class(crypto.BasicConstraints).value.path_length == 0
    assert root.not_valid_after_utc - root.not_valid_before_utc > timedelta(days=3650)
    folder = tmp_path / "ca"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}
    names = {path.name for path in folder.iterdir()}
    assert {"root.key", "root.pem", "intermediate.key", "intermediate.pem", "orders.db"} <= names
    # The root's key may be taken away once the intermediate is there.
    (folder / "root.key").unlink()
    assert (await open_ca(tmp_path).submit(order())).number == "P-000001"


async def test_serial_numbers_are_long_random_and_positive(tmp_path: Path) -> None:
    ca = open_ca(tmp_path)
    serials = set()
    for number in range(20):
        issued = await ca.collect(collecting((await ca.submit(order(f"request-{number}"))).number))
        serials.add(x509.load_certificate(issued.certificate_pem).serial_number)
    assert len(serials) == 20
    assert all(0 < serial < 1 << 127 for serial in serials)
    assert max(serials) >= 1 << 100


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("intermediate.key", b"junk", "intermediate.key is damaged"),
        ("intermediate.pem", b"junk", "intermediate.pem is damaged"),
        ("root.pem", None, "has an intermediate and no root.pem"),
        ("intermediate.key", None, "lost intermediate.key"),
        ("orders.db", b"junk" * 1000, "can't be used: file is not a database"),
    ],
)
async def test_damage_is_told_and_nothing_is_replaced(
    tmp_path: Path, name: str, content: bytes | None, message: str
) -> None:
    ca = open_ca(tmp_path)
    await ca.submit(order())
    ca.close()
    path = tmp_path / "ca" / name
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)
    again = open_ca(tmp_path)
    with pytest.raises(Permanent, match=message):
        await again.submit(order())
    health = await again.check()
    assert not health.usable
    assert name.partition(".")[0] in health.message
    assert (path.read_bytes() if path.exists() else None) == content


async def test_a_swapped_intermediate_is_found(tmp_path: Path) -> None:
    for home in ("a", "b"):
        await open_ca(tmp_path / home).trust_anchors()
    other = (tmp_path / "b" / "ca" / "intermediate.pem").read_bytes()
    (tmp_path / "a" / "ca" / "intermediate.pem").write_bytes(other)
    with pytest.raises(Permanent, match="does not belong to"):
        await open_ca(tmp_path / "a").trust_anchors()
    (tmp_path / "a" / "ca" / "intermediate.key").write_bytes((tmp_path / "b" / "ca" / "intermediate.key").read_bytes())
    with pytest.raises(Permanent, match="was not issued by"):
        await open_ca(tmp_path / "a").trust_anchors()


async def test_near_its_end_the_ca_says_so(tmp_path: Path) -> None:
    clock = Clock()
    ca = open_ca(tmp_path, clock)
    await ca.trust_anchors()
    clock.now += timedelta(days=1800)
    assert not (await ca.check()).usable
    with pytest.raises(Permanent, match="intermediate ends on 2032-02-29"):
        await ca.submit(order())
    assert await ca.records() == []
    assert await ca.submit(order(profile="short"))


async def test_a_locked_ledger_is_retryable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("connectors.ca.private.ledger.LOCK_WAIT_SECONDS", 0.0)
    ca = open_ca(tmp_path)
    await ca.trust_anchors()
    other = sqlite3.connect(tmp_path / "ca" / "orders.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(Retryable, match="locked by another process"):
        await ca.submit(order())
    other.execute("ROLLBACK")
    other.close()
    assert await ca.submit(order())


# Revocation


async def test_revocation_list(tmp_path: Path) -> None:
    clock = Clock()
    ca = open_ca(tmp_path, clock, revocation_url="http://pki.example.com/ca.crl")
    issuer = x509.load_certificate(await ca.issuer())
    numbers = [(await ca.submit(order(f"request-{number}"))).number for number in range(3)]
    issued = [await ca.collect(collecting(number)) for number in numbers]
    empty = crypto.load_der_x509_crl(await ca.crl())
    assert len(empty) == 0
    assert await ca.crl() == await ca.crl()
    clock.now += timedelta(hours=1)
    requests = [
        revocation(numbers[0], issued[0], RevocationReason.KEY_COMPROMISE),
        revocation(numbers[1], issued[1], RevocationReason.UNSPECIFIED),
    ]
    for request in [*requests, *requests, revocation(numbers[0], issued[0], RevocationReason.SUPERSEDED)]:
        await ca.revoke(request)
    crl = crypto.load_der_x509_crl(await ca.crl())
    assert crl.is_signature_valid(issuer.public_key())  # type: ignore[arg-type]
    assert crl.next_update_utc is not None
    assert crl.next_update_utc - crl.last_update_utc == timedelta(days=7)
    entries = [crl.get_revoked_certificate_by_serial_number(int(request.serial_number, 16)) for request in requests]
    assert entries[0] is not None
    assert entries[1] is not None
    assert entries[0].extensions.get_extension_for_class(crypto.CRLReason).value.reason.value == "keyCompromise"
    assert len(entries[1].extensions) == 0  # "unspecified" is left out
    assert entries[0].revocation_date_utc == clock.now.replace(microsecond=0)
    clock.now += timedelta(days=4)
    later = crypto.load_der_x509_crl(await open_ca(tmp_path, clock).crl())
    found = [one.extensions.get_extension_for_class(crypto.CRLNumber).value.crl_number for one in (empty, crl, later)]
    assert found == [1, 2, 3]
    clock.now += timedelta(days=60)
    assert len(crypto.load_der_x509_crl(await ca.crl())) == 0  # expired ones drop out
    with pytest.raises(Permanent, match="is revoked"):
        await ca.collect(collecting(numbers[0]))


async def test_only_the_certificate_of_the_order_is_revoked(tmp_path: Path) -> None:
    ca = open_ca(tmp_path, manual=True)
    one, two = (await ca.submit(order("request-1"))).number, (await ca.submit(order("request-2"))).number
    await ca.release(one)
    issued = await ca.collect(collecting(one))
    request = revocation(one, issued, RevocationReason.SUPERSEDED)
    with pytest.raises(Permanent, match="has no certificate to revoke; it is pending"):
        await ca.revoke(RevokeRequest(two, issued.certificate_pem, request.serial_number, request.reason))
    with pytest.raises(Permanent, match="another serial number"):
        await ca.revoke(RevokeRequest(one, issued.certificate_pem, "1234", request.reason))
    assert [record.state for record in await ca.records()] == [OrderState.ISSUED, OrderState.PENDING]


@pytest.mark.parametrize("algorithm", [hashes.SHA1(), hashes.SHA256()], ids=["sha1", "sha256"])
async def test_ocsp(tmp_path: Path, algorithm: hashes.HashAlgorithm) -> None:
    clock = Clock()
    ca = open_ca(tmp_path, clock, ocsp_url="http://pki.example.com/ocsp")
    issuer = x509.load_certificate(await ca.issuer())
    number = (await ca.submit(order())).number
    issued = await ca.collect(collecting(number))
    leaf = x509.load_certificate(issued.certificate_pem)
    builder = ocsp.OCSPRequestBuilder().add_certificate(leaf, issuer, algorithm)
    request = builder.add_extension(crypto.OCSPNonce(b"n" * 32), critical=False).build()
    good = ocsp.load_der_ocsp_response(await ca.ocsp_response(request.public_bytes(Encoding.DER)))
    assert good.response_status is ocsp.OCSPResponseStatus.SUCCESSFUL
    assert good.certificate_status is ocsp.OCSPCertStatus.GOOD
    assert good.serial_number == leaf.serial_number
    assert good.extensions.get_extension_for_class(crypto.OCSPNonce).value.nonce == b"n" * 32
    key = issuer.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    key.verify(good.signature, good.tbs_response_bytes, ec.ECDSA(hashes.SHA256()))
    await ca.revoke(revocation(number, issued, RevocationReason.KEY_COMPROMISE))
    revoked = ocsp.load_der_ocsp_response(await ca.ocsp_response(builder.build().public_bytes(Encoding.DER)))
    assert revoked.certificate_status is ocsp.OCSPCertStatus.REVOKED
    assert revoked.revocation_reason is crypto.ReasonFlags.key_compromise
    assert len(revoked.extensions) == 0


async def test_ocsp_refusals(tmp_path: Path) -> None:
    ca, stranger = open_ca(tmp_path / "a"), open_ca(tmp_path / "b")
    theirs = x509.load_certificate(await stranger.issuer())
    ours = x509.load_certificate(await ca.issuer())
    for der in (b"", b"junk", b"\x30\x03\x30\x01\x00"):
        response = ocsp.load_der_ocsp_response(await ca.ocsp_response(der))
        assert response.response_status is ocsp.OCSPResponseStatus.MALFORMED_REQUEST
    foreign = ocsp.OCSPRequestBuilder().add_certificate(theirs, theirs, hashes.SHA1()).build()
    response = ocsp.load_der_ocsp_response(await ca.ocsp_response(foreign.public_bytes(Encoding.DER)))
    assert response.response_status is ocsp.OCSPResponseStatus.UNAUTHORIZED
    name_hash, key_hash = issuer_hashes(ours, hashes.SHA1())
    unknown = ocsp.OCSPRequestBuilder().add_certificate_by_hash(name_hash, key_hash, 4711, hashes.SHA1())
    response = ocsp.load_der_ocsp_response(await ca.ocsp_response(unknown.build().public_bytes(Encoding.DER)))
    assert response.certificate_status is ocsp.OCSPCertStatus.UNKNOWN
    long = unknown.add_extension(crypto.OCSPNonce(b"n" * 129), critical=False).build()
    response = ocsp.load_der_ocsp_response(await ca.ocsp_response(long.public_bytes(Encoding.DER)))
    assert response.response_status is ocsp.OCSPResponseStatus.MALFORMED_REQUEST


# Several processes


def _race(home: str, csr: str, barrier: Any, results: Any) -> None:
    async def act() -> tuple[str, str, str]:
        ca = open_ca(Path(home))
        barrier.wait()
        number = (await ca.submit(OrderRequest("request-1", csr, NAMES[0], NAMES))).number
        return (await ca.trust_anchors())[0], number, (await ca.collect(collecting(number))).certificate_pem

    results.put(asyncio.run(act()))


def test_of_processes_racing_one_ca_one_order_one_certificate(tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    barrier, results = spawn.Barrier(4), spawn.Queue()
    arguments = (str(tmp_path), order().csr_pem, barrier, results)
    processes = [spawn.Process(target=_race, args=arguments) for _ in range(4)]
    for process in processes:
        process.start()
    found = {results.get(timeout=60) for _ in processes}
    for process in processes:
        process.join(60)
    results.close()
    results.join_thread()
    assert len(found) == 1


KILLED = """
import asyncio, os, pathlib, signal, sys
from connectors.ca.private import issuance, ledger
from connectors.ca.contract import OrderRequest
from connectors.folders import PrivateFolder
from tests.connectors.ca.test_private import NAMES, open_ca
home, point, csr = sys.argv[1:]
def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)
def die_after(method):
    def wrapped(*arguments):
        result = method(*arguments)
        die()
    return wrapped
def dying_write(self, name, content, write=PrivateFolder.write):
    write(self, name, content)
    if name == point: die()
PrivateFolder.write = dying_write
if point == "after the order": ledger.Ledger.add = die_after(ledger.Ledger.add)
if point == "after signing": issuance.issue = die_after(issuance.issue)
if point == "before the commit": ledger.Ledger.set_issued = die_after(ledger.Ledger.set_issued)
async def act():
    ca = open_ca(pathlib.Path(home))
    order = await ca.submit(OrderRequest("request-1", csr, NAMES[0], NAMES))
    if point == "after the commit": die()
    await ca.collect(collecting(order.number))
asyncio.run(act())
"""


@pytest.mark.parametrize(
    "point",
    [
        "root.key",
        "root.pem",
        "intermediate.key",
        "intermediate.pem",
        "after the order",
        "after signing",
        "before the commit",
        "after the commit",
    ],
)
async def test_killed_at_any_point_there_is_one_order_and_one_certificate(tmp_path: Path, point: str) -> None:
    wanted = order()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", KILLED, str(tmp_path), point, wanted.csr_pem, cwd=ROOT, stderr=subprocess.PIPE
    )
    _, errors = await process.communicate()
    assert process.returncode == -signal.SIGKILL, errors.decode()
    folder = tmp_path / "ca"
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix in (".key", ".pem")}
    ca = open_ca(tmp_path)
    placed = await ca.submit(wanted)
    assert placed.number == "P-000001"
    issued = await ca.collect(collecting(placed.number))
    assert await checked(ca, issued, NAMES, datetime.now(UTC))
    assert [record.state for record in await ca.records()] == [OrderState.ISSUED]
    assert {name: (folder / name).read_bytes() for name in before} == before
