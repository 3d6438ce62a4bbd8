"""Ways from a leaf to a trust anchor: which one is taken, and that no way is taken that another judge refuses."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from itertools import pairwise

import pytest
from cryptography import x509 as crypto
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509 import verification
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from model import paths, x509
from model.keys import KeyAlgorithm
from tests.pki import DAY, NOW, Issuer, make_ca, make_leaf, new_key

NAME = "www.example.com"
KEY = new_key()


def way(
    leaf: crypto.Certificate,
    sent: Sequence[Issuer] = (),
    anchors: Sequence[Issuer] = (),
    known: Sequence[Issuer] = (),
    at: datetime = NOW,
) -> list[crypto.Certificate]:
    """The path that is taken, without its leaf."""
    found = paths.verify_chain(
        leaf, [one.certificate for one in sent], [one.certificate for one in anchors], [NAME], at,
        [one.certificate for one in known],
    )  # fmt: skip
    assert found[0] == leaf
    return found[1:]


# --- the rule for cross-signs -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Crossed:
    """A young root that an old one cross-signed, as with most public CAs: leaf ← issuer ← young (← old)."""

    old: Issuer
    young: Issuer
    cross: Issuer
    issuer: Issuer
    leaf: crypto.Certificate


def crossed(cross_ends: datetime = NOW + 900 * DAY) -> Crossed:
    old, young = make_ca("Old"), make_ca("Young")
    cross = make_ca("Young", old, key=young.key, not_after=cross_ends)
    issuer = make_ca("Issuer", young)
    return Crossed(old, young, cross, issuer, make_leaf(issuer, KEY, [NAME]))


def test_the_shortest_way_is_taken_where_the_ca_has_no_opinion() -> None:
    c = crossed()
    both = [c.old, c.young]
    assert way(c.leaf, [c.issuer], both, [c.cross]) == [c.issuer.certificate, c.young.certificate]


def test_the_way_that_the_ca_sent_is_taken_before_a_shorter_one() -> None:
    c = crossed()
    wanted = [one.certificate for one in (c.issuer, c.cross, c.old)]
    assert way(c.leaf, [c.cross, c.issuer], [c.old, c.young]) == wanted
    # Whoever does not trust the old root needs it no less.
    assert way(c.leaf, [c.cross, c.issuer], [c.young]) == [c.issuer.certificate, c.young.certificate]


@pytest.mark.parametrize("days", [-1, 1, 46])
def test_a_cross_sign_that_ends_before_the_leaf_is_left_aside(days: int) -> None:
    c = crossed(NOW + days * DAY)
    assert way(c.leaf, [c.issuer, c.cross], [c.old, c.young]) == [c.issuer.certificate, c.young.certificate]


def test_a_cross_sign_that_has_ended_is_no_way_and_another_is_awaited() -> None:
    c = crossed(NOW - DAY)
    with pytest.raises(x509.IssuerOutOfTime, match=r"life of CN=Young ended on") as caught:
        way(c.leaf, [c.issuer, c.cross], [c.old])
    assert caught.value.awaited == ("CN=Young", "CN=Issuer", "CN=Old")
    assert caught.value.ends == (c.issuer.certificate,)


def test_of_equal_ways_the_one_with_the_later_anchor_is_taken() -> None:
    key = new_key()
    roots = [make_ca("Root", key=key, not_after=NOW + days * DAY) for days in (400, 800, 500)]
    issuer = make_ca("Issuer", roots[0])
    for order in (roots, roots[::-1]):
        assert way(make_leaf(issuer, KEY, [NAME]), [issuer], order)[-1] == roots[1].certificate


def test_cas_that_sign_each_other_are_no_endless_loop() -> None:
    a, b = make_ca("A"), make_ca("B")
    a_by_b, b_by_a = make_ca("A", b, key=a.key), make_ca("B", a, key=b.key)
    leaf = make_leaf(a, KEY, [NAME])
    with pytest.raises(x509.ChainIncomplete, match="sign only each other") as caught:
        way(leaf, [a_by_b, b_by_a])
    assert set(caught.value.awaited) == {"CN=A", "CN=B"}
    assert way(leaf, [a_by_b, b_by_a], [b]) == [a_by_b.certificate, b.certificate]


def test_a_new_key_of_the_same_ca_is_not_counted_as_an_intermediate() -> None:
    """RFC 5280 section 4.2.1.9. The library counts it, so this holds only where ours stands alone."""
    root = make_ca("Root", path_length=0, key=new_key(KeyAlgorithm.ED25519))
    rolled = make_ca("Root", root, key=new_key(KeyAlgorithm.ED25519))
    assert way(make_leaf(rolled, KEY, [NAME]), [rolled], [root]) == [rolled.certificate, root.certificate]
    lower = make_ca("Lower", rolled, key=new_key(KeyAlgorithm.ED25519))
    with pytest.raises(x509.ChainWrong, match="CN=Root allows at most 0 intermediates"):
        way(make_leaf(lower, KEY, [NAME]), [rolled, lower], [root])


def test_what_was_made_to_keep_us_busy_does_not() -> None:
    """Six CAs, each signed by each of the others six times: more ways than anybody counts, and none to an anchor."""
    keys = [new_key() for _ in range(6)]
    entities = [make_ca(f"Ring {number}", key=key) for number, key in enumerate(keys)]
    ring = [
        make_ca(f"Ring {number}", by, key=key)
        for number, key in enumerate(keys)
        for by in entities
        for _ in range(6)
        if by.key is not key
    ]
    with pytest.raises(x509.ChainWrong, match="So many certificates sign each other"):
        way(make_leaf(entities[0], KEY, [NAME]), ring, [make_ca("Elsewhere")])


# --- what is weak or strange ------------------------------------------------------------------------------------------


# Object identifiers of RSA signatures (RFC 4055, RFC 3279), all of one length.
SHA256, SHA1, MD5 = (bytes.fromhex(f"2a864886f70d0101{last}") for last in ("0b", "05", "04"))


@cache
def rsa_root() -> Issuer:
    return make_ca("RSA root", key=rsa.generate_private_key(65537, 2048))


def signed_with(identifier: bytes, certificate: crypto.Certificate) -> crypto.Certificate:
    """The certificate as if it were signed in another way. No library makes or verifies such a signature any more."""
    der = certificate.public_bytes(serialization.Encoding.DER)
    return crypto.load_der_x509_certificate(der.replace(SHA256, identifier))


@pytest.mark.parametrize(("identifier", "name"), [(SHA1, "SHA-1"), (MD5, "MD5")])
def test_a_signature_that_can_be_forged_is_refused(identifier: bytes, name: str) -> None:
    made = make_ca("Weak", rsa_root())
    weak = Issuer(signed_with(identifier, made.certificate), made.key)
    with pytest.raises(x509.ChainWrong, match=f"CN=Weak is signed with {name}"):
        way(make_leaf(weak, KEY, [NAME]), [weak], [rsa_root()])
    assert not x509.is_self_signed(weak.certificate)


def test_a_root_is_trusted_whatever_it_signed_itself_with() -> None:
    old = Issuer(signed_with(SHA1, rsa_root().certificate), rsa_root().key)
    assert x509.is_self_signed(old.certificate)
    issuer = make_ca("Issuer", rsa_root())
    assert way(make_leaf(issuer, KEY, [NAME]), [issuer], [old])[-1] == old.certificate


def test_a_ca_with_a_short_key_is_refused() -> None:
    short = make_ca("Short", rsa_root(), key=rsa.generate_private_key(65537, 1024))
    with pytest.raises(x509.ChainWrong, match="1024 bits"):
        way(make_leaf(short, KEY, [NAME]), [short], [rsa_root()])


# --- another judge ----------------------------------------------------------------------------------------------------

KEYS = [new_key() for _ in range(5)]


@dataclass(frozen=True)
class Signing:
    """One certificate of a graph: which CA has it, who signed, and what is special about it."""

    subject: int
    issuer: int
    twist: str


TWISTS = ["plain"] * 6 + ["ended", "future", "path 0", "path 1", "no CA", "constrained", "excluded", "another key"]
SIGNINGS = st.builds(Signing, st.integers(0, 4), st.integers(0, 4), st.sampled_from(TWISTS))


@cache
def certificate_of(signing: Signing) -> Issuer:
    """It; names of two CAs are the same, so that a name alone decides nothing."""
    names = ["A", "B", "B", "C", "D"]
    twist = signing.twist
    key = new_key() if twist == "another key" else KEYS[signing.subject]
    signer = None
    if signing.issuer != signing.subject:
        signer = Issuer(make_ca(names[signing.issuer], key=KEYS[signing.issuer]).certificate, KEYS[signing.issuer])
    trees = [crypto.DNSName("example.com" if twist == "constrained" else "www.example.com")]
    constraints = {
        "constrained": crypto.NameConstraints(trees, None),
        "excluded": crypto.NameConstraints(None, trees),
    }
    return make_ca(
        names[signing.subject],
        signer,
        key=key,
        path_length={"path 0": 0, "path 1": 1}.get(twist),
        not_before=NOW + DAY if twist == "future" else NOW - 100 * DAY,
        not_after=NOW - DAY if twist == "ended" else NOW + 1000 * DAY,
        is_ca=twist != "no CA",
        constraints=constraints.get(twist),
    )


@cache
def leaf_of(issuer: int) -> crypto.Certificate:
    return make_leaf(certificate_of(Signing(issuer, issuer, "plain")), KEY, [NAME])


@settings(max_examples=300, deadline=timedelta(seconds=5))
@given(
    pool=st.lists(SIGNINGS, max_size=9),
    trusted=st.lists(SIGNINGS, min_size=1, max_size=3),
    issuer=st.integers(0, 4),
    split=st.integers(0, 9),
)
def test_a_path_is_found_exactly_where_the_library_finds_one(
    pool: list[Signing], trusted: list[Signing], issuer: int, split: int
) -> None:
    """Over random graphs of CAs that sign each other, the library's own search and judgement is the other opinion."""
    leaf = leaf_of(issuer)
    certificates = [certificate_of(one).certificate for one in pool]
    anchors = [certificate_of(one).certificate for one in trusted]
    verifier = paths.library_policy(verification.Store(anchors), NOW).build_server_verifier(crypto.DNSName(NAME))
    expected: AbstractContextManager[object] = nullcontext()
    try:
        verifier.verify(leaf, list(dict.fromkeys(certificates)))
    except verification.VerificationError as error:
        # Its search goes around in loops until it has had enough, and then there may be a path that it has not seen.
        assume("Exceeded maximum" not in str(error))
        expected = pytest.raises(x509.ChainProblem)
    with expected as refused:
        found = paths.verify_chain(leaf, certificates[:split], anchors, [NAME], NOW, certificates[split:])
    if refused is None:
        assert found[-1] in anchors
        assert all(x509.is_signed_by(one, by) for one, by in pairwise(found))
