"""Is this signing request what we asked for? Is this certificate what we ordered?

CertificateProblem (`model/x509.py`)
├── WrongKey            key type, size or the key itself is another than asked
├── WeakKey             the key is of a kind known to be breakable
├── WrongNames          names are missing, or there are names nobody asked for
├── BadSignature        a signing request whose signature does not verify
├── Expired             the certificate's life is over
├── FromTheFuture       the certificate's life has not begun, beyond the allowed clock skew
└── ChainProblem        see `model/x509.py`

What can't be read at all is `InvalidInput`. Each message is one sentence; all are `CertgateError`.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes

from model import paths, x509
from model.errors import InvalidInput
from model.keys import KeyAlgorithm
from model.x509 import CertificateProblem

CLOCK_SKEW = timedelta(minutes=5)


class WrongKey(CertificateProblem):
    """The key is not the one asked for, or not of the algorithm asked for."""


class WeakKey(CertificateProblem):
    """The key is known to be breakable."""


class WrongNames(CertificateProblem):
    """The names differ from those asked for."""


class BadSignature(CertificateProblem):
    """The signing request was not signed by its own key."""


class Expired(CertificateProblem):
    """The certificate is past its notAfter."""


class FromTheFuture(CertificateProblem):
    """The certificate is not yet valid."""


@dataclass(frozen=True)
class CheckedRequest:
    """A signing request that is in order. `public_key_sha256` identifies its key (see `model/x509.py`)."""

    names: tuple[str, ...]
    algorithm: KeyAlgorithm
    public_key_sha256: str


@dataclass(frozen=True)
class CheckedCertificate:
    """A certificate that is in order.

    `chain_pem` is what a server has to send after the leaf: in order, the issuer of the leaf first, without the root
    unless it was asked for.
    `left_out` holds the subjects of what the CA sent and nobody needs (strangers; the root is not counted as one).
    """

    certificate_pem: str
    chain_pem: tuple[str, ...]
    trust_anchor_sha256: str
    fingerprint: str
    serial_number: str
    public_key_sha256: str
    names: tuple[str, ...]
    not_before: datetime
    not_after: datetime
    left_out: tuple[str, ...]


def check_signing_request(csr_pem: str, asked_names: Collection[str], algorithm: KeyAlgorithm) -> CheckedRequest:
    """The CSR has exactly the asked (normalized) names and an `algorithm` key, and is signed by that key.

    Raises `InvalidInput`, `BadSignature`, `WrongKey`, `WeakKey`, `WrongNames`.
    """
    csr = x509.load_csr(csr_pem)
    key = csr.public_key()
    # First the key: a signature by a key that is refused anyway says nothing.
    check_key_strength(key)
    found = x509.key_algorithm(key)
    if found is not algorithm:
        raise WrongKey(f"The signing request has {_described(key)} and not the {algorithm} key that was asked for.")
    try:
        signed = csr.is_signature_valid
    except (UnsupportedAlgorithm, ValueError):
        signed = False
    if not signed:
        raise BadSignature("The signature of the signing request does not verify with the key in it.")
    names = x509.subject_names(csr)
    _check_names("signing request", names, x509.common_name(csr), asked_names, also_allowed=())
    return CheckedRequest(tuple(names), algorithm, x509.public_key_sha256(key))


def check_issued(
    certificate_pem: str,
    chain_pem: Sequence[str],
    *,
    public_key_sha256: str,
    names: Collection[str],
    anchors: Sequence[str],
    now: datetime,
    intermediates: Sequence[str] = (),
    also_allowed: Collection[str] = (),
    clock_skew: timedelta = CLOCK_SKEW,
    with_root: bool = False,
) -> CheckedCertificate:
    """The certificate is the one ordered, valid `now`, and chains to one of `anchors`.

    `public_key_sha256` is that of the signing request, `names` all names asked for (normalized). `chain_pem` is what
    the CA sent, in whatever order; `intermediates` are further ones that we know and may complete it with (PEM).
    `also_allowed` are names that a CA is known to add by itself. `clock_skew` is how far the CA's clock may be ahead
    of ours; backdating needs no tolerance. `with_root` keeps the root in the chain, which servers need not send (RFC
    8446 section 4.4.2) and some clients want. Raises `InvalidInput`, `WrongKey`, `WrongNames`, `Expired`,
    `FromTheFuture` and the `ChainProblem`s.
    """
    leaf = x509.load_certificate(certificate_pem)
    if x509.public_key_sha256(leaf) != public_key_sha256:
        raise WrongKey("The certificate is for another key than the one in the signing request.")
    present = x509.subject_names(leaf)
    _check_names("certificate", present, x509.common_name(leaf), names, also_allowed)
    if now > leaf.not_valid_after_utc:
        raise Expired(f"The certificate expired on {leaf.not_valid_after_utc:%Y-%m-%d %H:%M:%S} UTC.")
    if now + clock_skew < leaf.not_valid_before_utc:
        raise FromTheFuture(f"The certificate is not valid before {leaf.not_valid_before_utc:%Y-%m-%d %H:%M:%S} UTC.")
    sent = [one for pem in chain_pem for one in x509.load_certificates(pem)]
    known = [one for pem in intermediates for one in x509.load_certificates(pem)]
    trusted = [one for pem in anchors for one in x509.load_certificates(pem)]
    at = max(now, leaf.not_valid_before_utc)  # within the skew, judge the chain at the first instant that counts
    path = paths.verify_chain(leaf, sent, trusted, sorted(names), at, known)
    # An anchor that is itself an intermediate has to be sent: the clients' own anchor may lie above it.
    serve = path[1:-1] if x509.is_self_signed(path[-1]) and not with_root else path[1:]
    stray = [one for one in sent if one not in path and one != leaf and not x509.is_self_signed(one)]
    return CheckedCertificate(
        certificate_pem=x509.to_pem(leaf),
        chain_pem=tuple(x509.to_pem(one) for one in serve),
        trust_anchor_sha256=x509.fingerprint(path[-1]),
        fingerprint=x509.fingerprint(leaf),
        serial_number=x509.serial_hex(leaf),
        public_key_sha256=public_key_sha256,
        names=tuple(present),
        not_before=leaf.not_valid_before_utc,
        not_after=leaf.not_valid_after_utc,
        left_out=tuple(x509.distinguished_name(one.subject) for one in stray),
    )


def check_key_strength(key: CertificatePublicKeyTypes) -> None:
    """Refuses RSA keys known to be breakable (CA/Browser Forum Baseline Requirements, sections 6.1.1.3 and 6.1.6).

    Short modulus, exponent even or below 65537, small factors, close primes (CVE-2022-26320), and the ROCA fingerprint
    (CVE-2017-15361). The list of Debian's predictable keys (CVE-2008-0166) is some hundred megabytes for the sizes
    still in use and can't be shipped: a key made elsewhere by a Debian of 2006–2008 is *not* recognized. Raises
    `WeakKey`.
    """
    if not isinstance(key, rsa.RSAPublicKey):
        return  # the library loads elliptic-curve points only when they are on their curve
    numbers = key.public_numbers()
    if key.key_size < 2048:
        raise WeakKey(f"The RSA key has {key.key_size} bits; at least 2048 are needed.")
    if numbers.e < 65537 or numbers.e % 2 == 0:
        raise WeakKey(f"The RSA key's public exponent {str(numbers.e)[:20]} is even or below 65537.")
    if math.gcd(numbers.n, _small_primes_product()) != 1:
        raise WeakKey("The RSA key's modulus has a small factor.")
    if has_roca_fingerprint(numbers.n):
        raise WeakKey("The RSA key was made by a chip with the ROCA flaw (CVE-2017-15361) and can be factored.")
    if _has_close_primes(numbers.n):
        raise WeakKey("The RSA key's two primes are too close together (CVE-2022-26320).")


def has_roca_fingerprint(modulus: int) -> bool:
    """Whether the modulus is a power of 65537 modulo every small prime, as with the flawed RSALib.

    The published test (Nemec et al., "The Return of Coppersmith's Attack", CCS 2017, section 3). About one good key in
    2**27 has it by chance, and can be made again.
    """
    return all(modulus % prime in powers for prime, powers in _roca_groups())


@cache
def _roca_groups() -> tuple[tuple[int, frozenset[int]], ...]:
    return tuple(
        (prime, frozenset(pow(65537, exponent, prime) for exponent in range(prime)))
        for prime in _primes_below(168)
        if prime > 2
    )


@cache
def _small_primes_product() -> int:
    return math.prod(_primes_below(752))


def _primes_below(limit: int) -> list[int]:
    return [
        number for number in range(2, limit) if all(number % divisor for divisor in range(2, math.isqrt(number) + 1))
    ]


def _has_close_primes(modulus: int) -> bool:
    """A hundred rounds of Fermat's factorization, as the Baseline Requirements demand of CAs."""
    root = math.isqrt(modulus)
    for candidate in range(root, root + 101):
        rest = candidate * candidate - modulus
        if rest >= 0 and math.isqrt(rest) ** 2 == rest:
            return True
    return False


def _described(key: CertificatePublicKeyTypes) -> str:
    known = x509.key_algorithm(key)
    if known is not None:
        return f"an {known} key"
    size = getattr(key, "key_size", None)
    kind = type(key).__name__.removesuffix("PublicKey")
    return f"a key of type {kind}" + (f" with {size} bits" if size else "")


def _check_names(
    what: str, present: Sequence[str], common: str | None, asked: Collection[str], also_allowed: Collection[str]
) -> None:
    if not asked:
        raise InvalidInput("There are no names to compare with.")
    missing = [name for name in asked if name not in present]
    if missing:
        raise WrongNames(f"The {what} lacks the name {_listed(missing)}.")
    extra = [name for name in present if name not in asked and name not in also_allowed]
    if common is not None and common.lower() not in present:
        extra.append(common)
    if extra:
        raise WrongNames(f"The {what} has a name that nobody asked for: {_listed(extra)}.")
    if len(set(present)) != len(present):
        raise WrongNames(f"The {what} has a name twice.")


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(name if name.isascii() and name.isprintable() else ascii(name) for name in names[:5])
    return shown + (f" and {len(names) - 5} more" if len(names) > 5 else "")
