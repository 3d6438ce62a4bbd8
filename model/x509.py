"""X.509 for all rooms: reading, naming, ordering and verifying certificates. Pure: no network, no clock, no files.

CertificateProblem      what is wrong with a certificate or a signing request (see also `model/rules/certificates.py`)
└── ChainProblem        the path to a trust anchor does not hold
    ├── ChainWrong          a certificate in it is wrong; more certificates will not mend it
    └── ChainIncomplete     an issuer is missing; `missing_issuer` names it
        └── RootNotTrusted      complete up to a root that is not among the trust anchors

Fingerprints and key identifiers are SHA-256, lower-case hex without colons. Chains start with the issuer of the leaf.
"""

from __future__ import annotations

import base64
import ipaddress
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.x509 import verification
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from model.errors import CertgateError, InvalidInput
from model.keys import KeyAlgorithm

MAX_PEM_CHARACTERS = 1_000_000
MAX_PATH_LENGTH = 10
ExtensionT = TypeVar("ExtensionT", bound=x509.ExtensionType)


class CertificateProblem(CertgateError):
    """A certificate or signing request is not what it must be; the message is one sentence for a person."""


class ChainProblem(CertificateProblem):
    """The certificate does not chain to a trust anchor."""


class ChainWrong(ChainProblem):
    """A certificate of the path is wrong in itself: signature, validity, constraints or purpose."""


class ChainIncomplete(ChainProblem):
    """The path ends before a trust anchor; `missing_issuer` is the distinguished name (RFC 4514) to look for."""

    def __init__(self, message: str, missing_issuer: str) -> None:
        super().__init__(message)
        self.missing_issuer = missing_issuer


class RootNotTrusted(ChainIncomplete):
    """The path ends at a self-signed certificate that is not among the trust anchors; `missing_issuer` is its name."""


def load_certificates(pem: str) -> list[x509.Certificate]:
    """All certificates of a PEM text, in its order, at least one. Raises `InvalidInput`."""
    if len(pem) > MAX_PEM_CHARACTERS:
        raise InvalidInput(f"The PEM text is longer than {MAX_PEM_CHARACTERS} characters; give only certificates.")
    try:
        found = x509.load_pem_x509_certificates(pem.encode("ascii", "replace"))
        for certificate in found:
            _ = certificate.extensions, certificate.public_key()  # parsed late by the library; a fault must show here
    except (ValueError, UnsupportedAlgorithm) as error:
        raise InvalidInput(f"The text is not a readable PEM certificate: {_short(error)}.") from None
    return found


def read_certificates(content: bytes) -> list[x509.Certificate]:
    """All certificates of a file: PEM (any number) or DER (one). Raises `InvalidInput`, also for a file that holds a
    private key: it was meant to stay where it is."""
    if b"PRIVATE KEY-----" in content:
        raise InvalidInput("There is a private key in it, so nothing of it was read: give only certificates.")
    if b"-----BEGIN" in content:
        return load_certificates(content.decode("utf-8", "replace"))
    if len(content) > MAX_PEM_CHARACTERS:
        raise InvalidInput(f"The file is larger than {MAX_PEM_CHARACTERS} bytes; give only certificates.")
    try:
        found = x509.load_der_x509_certificate(content)
        _ = found.extensions, found.public_key()
    except (ValueError, UnsupportedAlgorithm):
        raise InvalidInput("There is no certificate in it, neither as PEM nor as DER.") from None
    return [found]


def load_certificate(pem: str) -> x509.Certificate:
    """The one certificate of a PEM text. Raises `InvalidInput`, also when there is more than one."""
    found = load_certificates(pem)
    if len(found) != 1:
        raise InvalidInput(f"One certificate is expected here, and the PEM text has {len(found)}.")
    return found[0]


def load_csr(pem: str) -> x509.CertificateSigningRequest:
    """The certificate signing request (PKCS#10, RFC 2986) of a PEM text; its signature is *not* checked here.

    Raises `InvalidInput`.
    """
    if len(pem) > MAX_PEM_CHARACTERS:
        raise InvalidInput(f"The PEM text is longer than {MAX_PEM_CHARACTERS} characters; give only the request.")
    try:
        csr = x509.load_pem_x509_csr(pem.encode("ascii", "replace"))
        _ = csr.extensions, csr.public_key()
    except (ValueError, UnsupportedAlgorithm) as error:
        raise InvalidInput(f"The text is not a readable PEM certificate signing request: {_short(error)}.") from None
    return csr


def to_pem(thing: x509.Certificate | x509.CertificateSigningRequest) -> str:
    """PEM text, ends with a newline."""
    return thing.public_bytes(serialization.Encoding.PEM).decode("ascii")


def fingerprint(certificate: x509.Certificate) -> str:
    """SHA-256 over the DER encoding."""
    return certificate.fingerprint(hashes.SHA256()).hex()


def serial_hex(certificate: x509.Certificate) -> str:
    """The serial number as lower-case hex without leading zeros."""
    return format(certificate.serial_number, "x")


def ari_identifier(certificate: x509.Certificate) -> str | None:
    """The certificate's identifier of RFC 9773 section 4.1: the key identifier of its authority and its serial number,
    both Base64url without padding; None where it names no such key identifier."""
    try:
        issuer = certificate.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier
    except x509.ExtensionNotFound:
        return None
    if issuer is None:
        return None
    number = certificate.serial_number
    # The DER bytes of the serial number: its sign bit is zero, so there may be a leading zero byte.
    serial = number.to_bytes(number.bit_length() // 8 + 1, "big")
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode("ascii") for part in (issuer, serial))


def public_key_sha256(of: x509.Certificate | x509.CertificateSigningRequest | CertificatePublicKeyTypes) -> str:
    """SHA-256 over the DER SubjectPublicKeyInfo (RFC 5280 section 4.1.2.7): equal exactly when the keys are equal."""
    key = of.public_key() if isinstance(of, x509.Certificate | x509.CertificateSigningRequest) else of
    spki = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    digest = hashes.Hash(hashes.SHA256())
    digest.update(spki)
    return digest.finalize().hex()


def key_algorithm(key: CertificatePublicKeyTypes) -> KeyAlgorithm | None:
    """Which of our algorithms a public key is of; None for every other type, size or curve."""
    if isinstance(key, ed25519.Ed25519PublicKey):
        return KeyAlgorithm.ED25519
    if isinstance(key, ec.EllipticCurvePublicKey):
        return {"secp256r1": KeyAlgorithm.EC_P256, "secp384r1": KeyAlgorithm.EC_P384}.get(key.curve.name)
    if isinstance(key, rsa.RSAPublicKey):
        sizes = {2048: KeyAlgorithm.RSA_2048, 3072: KeyAlgorithm.RSA_3072, 4096: KeyAlgorithm.RSA_4096}
        return sizes.get(key.key_size)
    return None


def common_name(of: x509.Certificate | x509.CertificateSigningRequest) -> str | None:
    """The (first) common name of the subject as it stands, or None."""
    found = of.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(found[0].value) if found else None


def subject_names(of: x509.Certificate | x509.CertificateSigningRequest) -> list[str]:
    """The subject alternative names, in order: DNS names (lower-case A-labels) and IP addresses (shortest form).

    Raises `InvalidInput` for a name of another type: certgate asks for none, so one in there was not asked for.
    """
    try:
        extension = of.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    names: list[str] = []
    for name in extension:
        if isinstance(name, x509.DNSName):
            names.append(name.value.lower())
        elif isinstance(name, x509.IPAddress):
            names.append(str(name.value))
        else:
            raise InvalidInput(f"A subject alternative name of type {type(name).__name__} is not supported.")
    return names


def general_names(names: Iterable[str]) -> list[x509.GeneralName]:
    """Normalized names (`model/rules/names.py`) as GeneralName values, in the same order."""
    result: list[x509.GeneralName] = []
    for name in names:
        try:
            result.append(x509.IPAddress(ipaddress.ip_address(name)))
        except ValueError:
            result.append(x509.DNSName(name))
    return result


def distinguished_name(name: x509.Name) -> str:
    """RFC 4514 text for messages; a name without attributes reads ``(empty name)``."""
    return name.rfc4514_string() or "(empty name)"


def is_self_signed(certificate: x509.Certificate) -> bool:
    """Issued by itself, signature included: a root."""
    return certificate.subject == certificate.issuer and is_signed_by(certificate, certificate)


def order_chain(
    leaf: x509.Certificate, extra: Iterable[x509.Certificate], *, with_root: bool = False
) -> list[x509.Certificate]:
    """The issuers of `leaf` that are in `extra`, issuer of the leaf first, as far as they go.

    Order and strangers in `extra` do not matter; who issued whom is decided by name *and* signature. A self-signed root
    is left out unless `with_root`: servers need not send it (RFC 8446 section 4.4.2).
    """
    pool = list(extra)
    chain: list[x509.Certificate] = []
    current = leaf
    while len(chain) < MAX_PATH_LENGTH and current.subject != current.issuer:
        issuer = next((one for one in pool if one not in chain and is_signed_by(current, one)), None)
        if issuer is None:
            break
        if is_self_signed(issuer) and not with_root:
            break
        chain.append(issuer)
        current = issuer
    return chain


def verify_chain(
    leaf: x509.Certificate,
    chain: Iterable[x509.Certificate],
    anchors: Sequence[x509.Certificate],
    names: Sequence[str],
    at: datetime,
) -> list[x509.Certificate]:
    """The path from `leaf` to one of `anchors` (both included), valid for a TLS server with `names` at time `at`.

    `chain` may be in any order and have strangers. Two opinions must agree: a walk of our own, which knows how to say
    what is wrong, and the path validation of `cryptography` (RFC 5280 section 6, name constraints included). Where an
    issuer has an Edwards-curve key, which that library refuses because the web's CAs may not have one, ours stands
    alone. Raises `ChainWrong`, `ChainIncomplete` or `RootNotTrusted`.
    """
    path = _find_path(leaf, list(chain), anchors)
    _check_path(path, at)
    present = subject_names(leaf)
    for name in names:
        if not any(covers(one, name) for one in present):
            raise ChainWrong(f"The certificate is not valid for {name}.")
    if not any(isinstance(one.public_key(), ed25519.Ed25519PublicKey | ed448.Ed448PublicKey) for one in path[1:]):
        _ask_library(path, [*names, *present][0], at)
    else:
        _refuse_unjudged(path)
    return path


def covers(certified: str, name: str) -> bool:
    """Whether a name in a certificate covers `name` (RFC 9525 section 6.3): equal, or a wildcard for one label."""
    if certified == name:
        return True
    head, _, rest = name.partition(".")
    return certified.startswith("*.") and bool(head) and rest == certified[2:]


def constraint_problem(names: Sequence[str], constraints: x509.NameConstraints) -> str | None:
    """The first of `names` that the constraints (RFC 5280 section 4.2.1.10) do not allow, or None.

    Only DNS and IP subtrees are looked at. A DNS subtree covers the name itself and everything below it.
    """
    permitted, excluded = constraints.permitted_subtrees or [], constraints.excluded_subtrees or []
    for name in names:
        kind = type(general_names([name])[0])
        if any(_in_subtree(name, tree) or _wildcard_reaches(name, tree) for tree in excluded):
            return name
        same_kind = [tree for tree in permitted if isinstance(tree, kind)]
        if same_kind and not any(_in_subtree(name, tree) for tree in same_kind):
            return name
    return None


def _in_subtree(name: str, tree: x509.GeneralName) -> bool:
    if isinstance(tree, x509.DNSName):
        try:
            ipaddress.ip_address(name)
        except ValueError:
            base = tree.value.lower().lstrip(".")
            return base == "" or name.removeprefix("*.") == base or name.endswith("." + base)
        return False
    if isinstance(tree, x509.IPAddress):
        try:
            return ipaddress.ip_address(name) in ipaddress.ip_network(str(tree.value))
        except ValueError:
            return False
    return False


def _wildcard_reaches(name: str, tree: x509.GeneralName) -> bool:
    """``*.example.com`` would serve an excluded ``secret.example.com`` although the names differ."""
    return isinstance(tree, x509.DNSName) and name.startswith("*.") and covers(name, tree.value.lower().lstrip("."))


def is_signed_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Whether the issuer's name and key fit what the certificate says and is signed with."""
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def _called(certificate: x509.Certificate) -> str:
    """How a message calls a certificate; a leaf may have names only in its extension (RFC 5280 section 4.1.2.6)."""
    names = [] if certificate.subject.rdns else subject_names(certificate)
    return f"the certificate for {names[0]}" if names else distinguished_name(certificate.subject)


def _find_path(
    leaf: x509.Certificate, pool: list[x509.Certificate], anchors: Sequence[x509.Certificate]
) -> list[x509.Certificate]:
    """Depth first, because cross-signed intermediates give several ways up and only one may end at an anchor."""
    longest = [leaf]

    def climb(path: list[x509.Certificate]) -> list[x509.Certificate] | None:
        nonlocal longest
        current = path[-1]
        if len(path) > 1 and current in anchors:
            return path
        if len(path) > len(longest):
            longest = path
        if len(path) > MAX_PATH_LENGTH:
            return None
        for issuer in [*anchors, *pool]:
            if issuer not in path and issuer.subject == current.issuer and is_signed_by(current, issuer):
                found = climb([*path, issuer])
                if found:
                    return found
        return None

    found = climb([leaf])
    if found:
        return found
    last = longest[-1]
    issuer, subject = distinguished_name(last.issuer), _called(last)
    if is_self_signed(last):
        raise RootNotTrusted(f"The chain ends at {subject}, which is not among the trust anchors.", subject)
    if any(one.subject == last.issuer for one in [*anchors, *pool] if one not in longest):
        raise ChainWrong(f"The key of {issuer} did not sign {subject}, which names it as its issuer.")
    raise ChainIncomplete(
        f"The chain is incomplete: the certificate of {issuer}, issuer of {subject}, is missing.", issuer
    )


def _check_path(path: list[x509.Certificate], at: datetime) -> None:
    names = subject_names(path[0])
    if not names:
        raise ChainWrong("The certificate has no subject alternative name.")
    for depth, certificate in enumerate(path):
        subject = _called(certificate)
        if at < certificate.not_valid_before_utc:
            raise ChainWrong(
                f"The life of {subject} begins only on {certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC."
            )
        if at > certificate.not_valid_after_utc:
            raise ChainWrong(f"The life of {subject} ended on {certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC.")
        usages = _extension(certificate, x509.ExtendedKeyUsage)
        purposes = {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE}
        # A root's own EKU says nothing about those below it; an intermediate's does (CA/Browser Forum, RFC 5280
        # 4.2.1.12).
        if usages is not None and purposes.isdisjoint(usages) and depth < len(path) - 1:
            raise ChainWrong(f"The extended key usage of {subject} lacks serverAuth: it is not meant for TLS servers.")
        if depth:
            _check_issuer(certificate, depth, names)


def _check_issuer(certificate: x509.Certificate, depth: int, names: Sequence[str]) -> None:
    subject = distinguished_name(certificate.subject)
    basic = _extension(certificate, x509.BasicConstraints)
    if basic is None or not basic.ca:
        raise ChainWrong(f"{subject} stands in the chain as an issuer and is not a CA certificate.")
    if basic.path_length is not None and depth - 1 > basic.path_length:
        raise ChainWrong(f"{subject} allows at most {basic.path_length} intermediates below it.")
    usage = _extension(certificate, x509.KeyUsage)
    if usage is not None and not usage.key_cert_sign:
        raise ChainWrong(f"{subject} may not sign certificates (key usage without keyCertSign).")
    constraints = _extension(certificate, x509.NameConstraints)
    if constraints is not None and (refused := constraint_problem(names, constraints)) is not None:
        raise ChainWrong(f"The name constraints of {subject} do not allow {refused}.")


def _extension(certificate: x509.Certificate, kind: type[ExtensionT]) -> ExtensionT | None:
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


def _ask_library(path: list[x509.Certificate], name: str, at: datetime) -> None:
    """The library's web profile is narrower than RFC 5280 (authority key identifiers, criticality); company CAs are not
    always that tidy, so only what the RFC demands is asked for. Signatures, validity, path length, name constraints,
    key sizes, and unknown critical extensions are the library's to judge."""
    subject: x509.DNSName | x509.IPAddress
    try:
        subject = x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        # A wildcard is no name that somebody connects to; any name that it covers will do.
        subject = x509.DNSName("wildcard" + name[1:] if name.startswith("*.") else name)
    agnostic = verification.Criticality.AGNOSTIC
    permit = verification.ExtensionPolicy.permit_all
    try:
        policy = verification.PolicyBuilder().store(verification.Store([path[-1]])).time(at)
        policy = policy.max_chain_depth(MAX_PATH_LENGTH).extension_policies(
            ca_policy=permit().require_present(x509.BasicConstraints, agnostic, None),
            ee_policy=permit().require_present(x509.SubjectAlternativeName, agnostic, None),
        )
        policy.build_server_verifier(subject).verify(path[0], path[1:-1])
    except (verification.VerificationError, ValueError) as error:
        raise ChainWrong(f"The chain does not verify: {_short(error)}.") from None


def _refuse_unjudged(path: list[x509.Certificate]) -> None:
    """What is critical and not understood refuses the path (RFC 5280 section 4.2); name constraints must be ones that
    `constraint_problem` looks at."""
    judged = (x509.BasicConstraints, x509.KeyUsage, x509.ExtendedKeyUsage, x509.SubjectAlternativeName)
    for certificate in path:
        for extension in certificate.extensions:
            value = extension.value
            if isinstance(value, x509.NameConstraints):
                trees = [*(value.permitted_subtrees or []), *(value.excluded_subtrees or [])]
                understood = all(isinstance(tree, x509.DNSName | x509.IPAddress) for tree in trees)
            else:
                understood = not extension.critical or isinstance(value, judged)
            if not understood:
                oid = extension.oid.dotted_string
                raise ChainWrong(
                    f"The extension {oid} of {_called(certificate)} can't be judged and must not be ignored."
                )


def _short(error: Exception) -> str:
    """The library's first line, without the object dumps it appends, as the tail of one sentence."""
    text = str(error).partition(" (encountered processing")[0].partition("\n")[0].strip().rstrip(".")
    return text[:200] or type(error).__name__
