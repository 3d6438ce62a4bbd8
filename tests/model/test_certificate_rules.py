"""Signing requests and certificates that are wrong in one way each, and the sentence each gets."""

from __future__ import annotations

import base64
import random
from collections.abc import Sequence
from datetime import timedelta
from ipaddress import ip_network

import pytest
from cryptography import x509 as crypto
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from model import x509
from model.errors import InvalidInput
from model.keys import KeyAlgorithm
from model.rules import certificates as rules
from tests.pki import DAY, NOW, Issuer, PrivateKey, make_ca, make_csr, make_leaf, new_key, pem, shared_key

NAMES = ["www.example.com", "example.com"]
KEY = new_key()
ROOT = make_ca("Test root")
INTER = make_ca("Test intermediate", ROOT, path_length=0)
STRANGER = make_ca("Stranger", make_ca("Stranger root"))


def issued(
    leaf: crypto.Certificate,
    chain: Sequence[Issuer] = (INTER,),
    *,
    key: PrivateKey = KEY,
    names: Sequence[str] = NAMES,
    anchors: Sequence[Issuer] = (ROOT,),
    intermediates: Sequence[Issuer] = (),
    also_allowed: Sequence[str] = (),
) -> rules.CheckedCertificate:
    return rules.check_issued(
        pem(leaf),
        [pem(one.certificate) for one in chain],
        public_key_sha256=x509.public_key_sha256(key.public_key()),
        names=names,
        anchors=[pem(one.certificate) for one in anchors],
        intermediates=[pem(one.certificate) for one in intermediates],
        now=NOW,
        also_allowed=also_allowed,
    )


# What comes back from the CA


def test_a_good_certificate_is_described() -> None:
    leaf = make_leaf(INTER, KEY, NAMES, common_name=NAMES[0])
    checked = issued(leaf)
    assert checked.names == tuple(NAMES)
    assert checked.chain_pem == (pem(INTER.certificate),)
    assert checked.fingerprint == x509.fingerprint(leaf)
    assert int(checked.serial_number, 16) == leaf.serial_number
    assert not checked.serial_number.startswith("0")
    assert checked.trust_anchor_sha256 == x509.fingerprint(ROOT.certificate)
    assert checked.not_after == leaf.not_valid_after_utc
    assert checked.left_out == ()


def test_another_key_is_refused() -> None:
    with pytest.raises(rules.WrongKey, match="another key"):
        issued(make_leaf(INTER, new_key(), NAMES))


@pytest.mark.parametrize(
    ("present", "message"),
    [
        (["www.example.com"], "lacks the name example.com"),
        ([*NAMES, "evil.example.com"], "nobody asked for: evil.example.com"),
        ([*NAMES, "10.1.2.3"], "nobody asked for: 10.1.2.3"),
        ([*NAMES, "*.example.com"], r"nobody asked for: \*.example.com"),
        (["*.example.com", "example.com"], "lacks the name www.example.com"),
        ([], "lacks the name"),
        ([*NAMES, NAMES[0]], "twice"),
    ],
)
def test_names_are_exactly_those_asked_for(present: list[str], message: str) -> None:
    with pytest.raises(rules.WrongNames, match=message):
        issued(make_leaf(INTER, KEY, present, common_name="www.example.com" if present else None))


def test_a_common_name_nobody_asked_for_is_refused() -> None:
    with pytest.raises(rules.WrongNames, match=r"nobody asked for: other\.example\.com"):
        issued(make_leaf(INTER, KEY, NAMES, common_name="other.example.com"))


def test_a_name_the_ca_is_known_to_add_can_be_allowed() -> None:
    leaf = make_leaf(INTER, KEY, ["www.example.com", "example.com"])
    assert issued(leaf, names=["example.com"], also_allowed=["www.example.com"]).names == tuple(NAMES)


def test_an_expired_certificate_is_refused() -> None:
    with pytest.raises(rules.Expired, match="expired on 2027-03-01 11:59:59 UTC"):
        issued(make_leaf(INTER, KEY, NAMES, not_after=NOW - timedelta(seconds=1)))


def test_a_certificate_from_the_future_is_refused_beyond_the_clock_skew() -> None:
    assert issued(make_leaf(INTER, KEY, NAMES, not_before=NOW + timedelta(minutes=4)))
    with pytest.raises(rules.FromTheFuture, match="not valid before"):
        issued(make_leaf(INTER, KEY, NAMES, not_before=NOW + timedelta(minutes=6)))


def test_the_first_and_the_last_second_count() -> None:
    assert issued(make_leaf(INTER, KEY, NAMES, not_before=NOW, not_after=NOW))


def test_a_chain_in_the_wrong_order_is_put_right_and_strangers_are_left_out() -> None:
    upper = make_ca("Upper", ROOT)
    lower = make_ca("Lower", upper)
    checked = issued(make_leaf(lower, KEY, NAMES), [ROOT, STRANGER, upper, lower])
    assert checked.chain_pem == (pem(lower.certificate), pem(upper.certificate))
    assert checked.left_out == ("CN=Stranger",)


def test_a_stranger_in_the_issuers_place_is_no_issuer() -> None:
    with pytest.raises(x509.ChainIncomplete, match="certificate of CN=Test intermediate"):
        issued(make_leaf(INTER, KEY, NAMES), [STRANGER])


def test_a_missing_intermediate_is_named() -> None:
    with pytest.raises(x509.ChainIncomplete) as caught:
        issued(make_leaf(INTER, KEY, NAMES), [])
    assert caught.value.missing_issuer == "CN=Test intermediate"
    assert not isinstance(caught.value, x509.RootNotTrusted)


def test_a_known_intermediate_completes_the_chain() -> None:
    checked = issued(make_leaf(INTER, KEY, NAMES), [], intermediates=[STRANGER, INTER])
    assert checked.chain_pem == (pem(INTER.certificate),)


def test_an_unknown_root_is_named() -> None:
    root = make_ca("Their root")
    with pytest.raises(x509.RootNotTrusted) as caught:
        issued(make_leaf(root, KEY, NAMES), [root])
    assert caught.value.missing_issuer == "CN=Their root"


def test_a_root_with_the_same_name_and_another_key_is_another_root() -> None:
    impostor = make_ca("Test root")
    sub = make_ca("Sub", impostor)
    for leaf, chain in ((make_leaf(sub, KEY, NAMES), [sub]), (make_leaf(impostor, KEY, NAMES), [])):
        with pytest.raises(x509.ChainIncomplete, match="one of that name with another key") as caught:
            issued(leaf, chain)
        assert caught.value.missing_issuer == "CN=Test root"


def test_a_self_signed_certificate_is_not_trusted() -> None:
    own = make_ca(NAMES[0], key=KEY)
    with pytest.raises(x509.RootNotTrusted, match="ends at CN=www"):
        issued(make_leaf(own, KEY, NAMES, common_name=NAMES[0]), [])


def test_of_two_cross_signed_ways_the_one_to_an_anchor_is_found() -> None:
    key = new_key()
    to_stranger = make_ca("Cross", make_ca("Old root"), key=key)
    to_root = make_ca("Cross", ROOT, key=key)
    assert issued(make_leaf(to_root, KEY, NAMES), [to_stranger, to_root]).chain_pem == (pem(to_root.certificate),)


def test_an_intermediate_as_trust_anchor_is_sent_along() -> None:
    assert issued(make_leaf(INTER, KEY, NAMES), [], anchors=[INTER]).chain_pem == (pem(INTER.certificate),)


@pytest.mark.parametrize(
    ("issuer", "message"),
    [
        (make_ca("No CA", ROOT, is_ca=False), "not a CA certificate"),
        (make_ca("Below", INTER), "allows at most 0 intermediates"),
    ],
)
def test_a_wrong_issuer_is_named(issuer: Issuer, message: str) -> None:
    with pytest.raises(x509.ChainWrong, match=message):
        issued(make_leaf(issuer, KEY, NAMES), [issuer, INTER])


@pytest.mark.parametrize(
    ("issuer", "message"),
    [
        (make_ca("Late", ROOT, not_before=NOW + DAY), "life of CN=Late begins only on"),
        (make_ca("Gone", ROOT, not_after=NOW - DAY), "life of CN=Gone ended on"),
    ],
)
def test_an_issuer_out_of_time_is_named_and_a_newer_one_awaited(issuer: Issuer, message: str) -> None:
    leaf = make_leaf(issuer, KEY, NAMES)
    with pytest.raises(x509.IssuerOutOfTime, match=message) as caught:
        issued(leaf, [issuer])
    assert caught.value.awaited[0] == x509.distinguished_name(issuer.certificate.subject)
    assert caught.value.ends == (leaf,)
    newer = make_ca(x509.common_name(issuer.certificate) or "", ROOT, key=issuer.key)
    assert issued(leaf, [issuer], intermediates=[newer]).chain_pem == (pem(newer.certificate),)


@pytest.mark.parametrize("algorithm", [KeyAlgorithm.EC_P256, KeyAlgorithm.ED25519])
def test_name_constraints_hold_for_every_kind_of_ca_key(algorithm: KeyAlgorithm) -> None:
    root = make_ca("R", key=new_key(algorithm))
    limits = crypto.NameConstraints([crypto.DNSName("example.com")], [crypto.IPAddress(ip_network("0.0.0.0/0"))])
    inter = make_ca("I", root, key=new_key(algorithm), constraints=limits)
    assert issued(make_leaf(inter, KEY, NAMES), [inter], anchors=[root])
    with pytest.raises(x509.ChainWrong, match=r"99999\.1|does not verify"):
        issued(make_leaf(inter, KEY, NAMES, critical_stranger=True), [inter], anchors=[root])
    for bad in (["example.org"], ["10.0.0.1"], ["www.example.com", "notexample.com"]):
        with pytest.raises(x509.ChainWrong, match=f"constraints of CN=I do not allow {bad[-1]}"):
            issued(make_leaf(inter, KEY, bad), [inter], anchors=[root], names=bad)


def test_a_wildcard_does_not_reach_around_an_exclusion() -> None:
    limits = crypto.NameConstraints(None, [crypto.DNSName("secret.example.com")])
    for name, refused in [("*.example.com", True), ("*.secret.example.com", True), ("*.other.example.com", False)]:
        assert (x509.constraint_problem([name], limits) == name) is refused


def test_a_certificate_for_clients_only_is_refused() -> None:
    with pytest.raises(x509.ChainWrong, match="lacks serverAuth: it is not meant for TLS servers"):
        issued(make_leaf(INTER, KEY, NAMES, usage=ExtendedKeyUsageOID.CLIENT_AUTH))


def test_an_unknown_critical_extension_is_refused() -> None:
    with pytest.raises(x509.ChainWrong, match="does not verify"):
        issued(make_leaf(INTER, KEY, NAMES, critical_stranger=True))


@pytest.mark.parametrize("algorithm", list(KeyAlgorithm))
@pytest.mark.parametrize(
    "names",
    [["*.example.com"], ["10.0.0.7", "fd00::7"], ["xn--mnchen-3ya.example", "localhost"]],
    ids=["wildcard", "addresses", "idna"],
)
def test_every_key_and_kind_of_name_passes(algorithm: KeyAlgorithm, names: list[str]) -> None:
    key = shared_key(algorithm)
    checked = rules.check_signing_request(make_csr(key, names), names, algorithm)
    assert checked.names == tuple(names)
    assert checked.public_key_sha256 == issued(make_leaf(INTER, key, names), key=key, names=names).public_key_sha256


def test_text_that_is_no_certificate_gets_one_sentence() -> None:
    good = pem(make_leaf(INTER, KEY, NAMES))
    broken = good.replace(good.splitlines()[3], good.splitlines()[3][::-1])
    for text in ("", "hello", "\x00ü", broken, good.replace("CERTIFICATE", "PRIVATE KEY")):
        with pytest.raises(InvalidInput, match="not a readable PEM certificate"):
            x509.load_certificate(text)
    with pytest.raises(InvalidInput, match="has 2"):
        x509.load_certificate(good * 2)
    with pytest.raises(InvalidInput, match="longer than"):
        x509.load_certificate(good * 3000)


# What comes back from the gateway


def test_a_signing_request_has_exactly_the_asked_names_in_any_order() -> None:
    csr = make_csr(KEY, NAMES, common_name="WWW.example.com")
    assert rules.check_signing_request(csr, set(NAMES), KeyAlgorithm.EC_P256).algorithm is KeyAlgorithm.EC_P256
    with pytest.raises(rules.WrongNames, match="lacks the name mail"):
        rules.check_signing_request(csr, [*NAMES, "mail.example.com"], KeyAlgorithm.EC_P256)
    with pytest.raises(rules.WrongNames, match=r"nobody asked for: example.com"):
        rules.check_signing_request(csr, NAMES[:1], KeyAlgorithm.EC_P256)
    with pytest.raises(rules.WrongNames, match=r"nobody asked for: evil.com"):
        rules.check_signing_request(make_csr(KEY, NAMES, common_name="evil.com"), NAMES, KeyAlgorithm.EC_P256)
    with pytest.raises(InvalidInput, match="no names"):
        rules.check_signing_request(csr, [], KeyAlgorithm.EC_P256)


@pytest.mark.parametrize(
    ("key", "asked", "message"),
    [
        (new_key(), KeyAlgorithm.EC_P384, "has an ec-p256 key and not the ec-p384"),
        (shared_key(KeyAlgorithm.RSA_2048), KeyAlgorithm.RSA_3072, "has an rsa-2048 key and not the rsa-3072"),
        (ec.generate_private_key(ec.SECP521R1()), KeyAlgorithm.EC_P256, "with 521 bits"),
    ],
)
def test_another_key_algorithm_is_refused(key: PrivateKey, asked: KeyAlgorithm, message: str) -> None:
    with pytest.raises(rules.WrongKey, match=message):
        rules.check_signing_request(make_csr(key, NAMES), NAMES, asked)


def test_a_broken_signature_is_refused() -> None:
    lines = make_csr(KEY, NAMES).split("-----")
    der = bytearray(base64.b64decode(lines[2]))
    der[-1] ^= 1
    with pytest.raises(rules.BadSignature):
        rules.check_signing_request(
            "-----".join([*lines[:2], "\n" + base64.encodebytes(bytes(der)).decode(), *lines[3:]]),
            NAMES,
            KeyAlgorithm.EC_P256,
        )


def test_a_short_rsa_key_is_weak() -> None:
    key = rsa.generate_private_key(65537, 1024)
    with pytest.raises(rules.WeakKey, match="1024 bits"):
        rules.check_key_strength(key.public_key())


@pytest.mark.parametrize(
    ("modulus", "exponent", "message"),
    [
        (None, 3, "exponent 3"),
        (None, 65539 - 1, None),
        ((1 << 2047) + 1, 65537, "small factor"),
    ],
)
def test_weak_rsa_parameters(modulus: int | None, exponent: int, message: str | None) -> None:
    good = shared_key(KeyAlgorithm.RSA_2048)
    assert isinstance(good, rsa.RSAPrivateKey)
    rules.check_key_strength(good.public_key())
    try:
        key = rsa.RSAPublicNumbers(exponent, modulus or good.public_key().public_numbers().n).public_key()
    except ValueError:
        assert message is None  # the library itself refuses an even exponent
        return
    with pytest.raises(rules.WeakKey, match=message):
        rules.check_key_strength(key)


def _is_prime(number: int, generator: random.Random) -> bool:
    """Miller–Rabin, good enough to make test keys."""
    odd, twos = number - 1, 0
    while odd % 2 == 0:
        odd, twos = odd // 2, twos + 1
    for _ in range(8):
        power = pow(generator.randrange(2, number - 1), odd, number)
        if power in (1, number - 1):
            continue
        for _ in range(twos - 1):
            power = power * power % number
            if power == number - 1:
                break
        else:
            return False
    return True


def _public_key(modulus: int) -> rsa.RSAPublicKey:
    return rsa.RSAPublicNumbers(65537, modulus).public_key()


def test_a_roca_key_is_recognized() -> None:
    """Primes as the flawed library built them: k * M + (65537**a mod M), M the product of the first 126 primes."""
    generator = random.Random(7)
    product = 1
    for prime in [n for n in range(2, 702) if all(n % d for d in range(2, int(n**0.5) + 1))][:126]:
        product *= prime

    def flawed_prime() -> int:
        while True:
            multiple = ((3 << 1022) + generator.getrandbits(1022)) // product
            candidate = multiple * product + pow(65537, generator.getrandbits(200), product)
            if candidate.bit_length() == 1024 and _is_prime(candidate, generator):
                return candidate

    with pytest.raises(rules.WeakKey, match="ROCA"):
        rules.check_key_strength(_public_key(flawed_prime() * flawed_prime()))
    assert not rules.has_roca_fingerprint(generator.getrandbits(2048) | 1)


def test_close_primes_are_recognized() -> None:
    generator = random.Random(8)

    def next_prime(number: int) -> int:
        while not _is_prime(number, generator):
            number += 2
        return number

    first = next_prime((3 << 1022) | generator.getrandbits(1021) | 1)
    with pytest.raises(rules.WeakKey, match="too close"):
        rules.check_key_strength(_public_key(first * next_prime(first + 2)))


def test_order_chain_stops_at_the_root() -> None:
    leaf = make_leaf(INTER, KEY, NAMES)
    pool = [STRANGER.certificate, ROOT.certificate, INTER.certificate]
    assert x509.order_chain(leaf, pool) == [INTER.certificate]
    assert x509.order_chain(leaf, pool, with_root=True) == [INTER.certificate, ROOT.certificate]
    assert x509.order_chain(leaf, []) == []
