"""X.509 for all rooms: reading, naming and ordering certificates. Pure: no network, no clock, no files.

CertificateProblem      what is wrong with a certificate or a signing request (see also `model/rules/certificates.py`)
└── ChainProblem        the path to a trust anchor does not hold (`model/paths.py` finds and verifies it)
    ├── ChainWrong          a certificate in it is wrong; more certificates will not mend it
    └── ChainIncomplete     an issuer is missing; `missing_issuer` names it
        ├── IssuerOutOfTime     it is there, and its life is over or has not begun; a newer one would do
        └── RootNotTrusted      complete up to a root that is not among the trust anchors

Fingerprints and key identifiers are SHA-256, lower-case hex without colons. Chains start with the issuer of the leaf.
"""

from __future__ import annotations

import base64
import ipaddress
import re
from collections.abc import Iterable, Sequence
from typing import TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.hazmat.primitives.serialization import pkcs7
from cryptography.x509.oid import AuthorityInformationAccessOID, NameOID

from model.errors import CertgateError, InvalidInput
from model.keys import KeyAlgorithm

MAX_PEM_CHARACTERS = 1_000_000
MAX_PATH_LENGTH = 10
_PEM_BLOCK = re.compile(rb"-----BEGIN ([A-Z0-9 #]+)-----([^-]*)-----END \1-----")
ExtensionT = TypeVar("ExtensionT", bound=x509.ExtensionType)


class CertificateProblem(CertgateError):
    """A certificate or signing request is not what it must be; the message is one sentence for a person."""


class ChainProblem(CertificateProblem):
    """The certificate does not chain to a trust anchor."""


class ChainWrong(ChainProblem):
    """A certificate of the path is wrong in itself: signature, validity, constraints or purpose."""


class ChainIncomplete(ChainProblem):
    """The path ends before a trust anchor; `missing_issuer` is the distinguished name (RFC 4514) to look for.

    `ends` are the certificates whose issuer is wanted. `awaited` are the names, the missing one first, of all CAs on
    the ways up: a further certificate of any of these may complete the chain, one of another name can't.
    """

    def __init__(
        self,
        message: str,
        missing_issuer: str,
        ends: Sequence[x509.Certificate] = (),
        awaited: Sequence[str] = (),
    ) -> None:
        super().__init__(message)
        self.missing_issuer = missing_issuer
        self.ends = tuple(ends)
        self.awaited = tuple(dict.fromkeys([missing_issuer, *awaited]))


class IssuerOutOfTime(ChainIncomplete):
    """An issuer's life is over or has not begun; `missing_issuer` is its name, since a newer certificate may do."""


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
        raise InvalidInput(f"The text is not a readable PEM certificate: {short(error)}.") from None
    return found


def read_certificates(content: bytes) -> list[x509.Certificate]:
    """All certificates of a file, each once, in its order: PEM (any number, PKCS#7 among them), DER (one), or PKCS#7 in
    DER (RFC 2315 section 9.1 without signers, as ``.p7b`` and ``.p7c`` files are). Raises `InvalidInput`, also for a
    file that holds a private key: it was meant to stay where it is."""
    if _has_private_key(content):
        raise InvalidInput("There is a private key in it, so nothing of it was read: give only certificates.")
    if len(content) > MAX_PEM_CHARACTERS:
        raise InvalidInput(f"It is larger than {MAX_PEM_CHARACTERS} bytes: give only certificates.")
    if not content.strip():
        raise InvalidInput("It is empty: there is no certificate in it, neither as PEM nor as DER, nor as PKCS#7.")
    found = _read_pem(content) if b"-----BEGIN" in content else _read_der(content)
    return list(dict.fromkeys(found))


def _read_pem(content: bytes) -> list[x509.Certificate]:
    """In the order of the text, whatever stands between the blocks (RFC 7468 section 2)."""
    found: list[x509.Certificate] = []
    for block in _PEM_BLOCK.finditer(content):
        if block[1] in (b"PKCS7", b"CMS", b"PKCS #7 SIGNED DATA"):
            try:
                found += _read_der(base64.b64decode(block[2], validate=False))
            except ValueError:
                raise InvalidInput("The text is not a readable PEM PKCS#7 file.") from None
        elif block[1].endswith(b"CERTIFICATE"):
            found += load_certificates(block[0].decode("ascii", "replace"))
    return found or load_certificates(content.decode("ascii", "replace"))


def _read_der(content: bytes) -> list[x509.Certificate]:
    try:
        found = [x509.load_der_x509_certificate(content)]
    except (ValueError, UnsupportedAlgorithm):
        try:
            found = pkcs7.load_der_pkcs7_certificates(content)
        except (ValueError, UnsupportedAlgorithm):
            raise InvalidInput(f"There is no certificate in it{_looks_like(content)}.") from None
    try:
        for one in found:
            _ = one.extensions, one.public_key()
    except (ValueError, UnsupportedAlgorithm) as error:
        raise InvalidInput(f"A certificate in it can't be read: {short(error)}.") from None
    return found


def _has_private_key(content: bytes) -> bool:
    if b"PRIVATE KEY-----" in content:
        return True
    try:
        serialization.load_der_private_key(content, None)
    except TypeError:
        # It would open with a passphrase.
        return True
    except (ValueError, UnsupportedAlgorithm):
        return False
    return True


def _looks_like(content: bytes) -> str:
    start = content[:200].lstrip().lower()
    if start.startswith((b"<!doctype", b"<html", b"<?xml")):
        return ": it is a web page"
    if content[:1] == b"\x30" and b"\x02\x01\x03\x30" in content[:12]:
        return ": it is a PKCS#12 file, which may hold a private key, so it was not opened"
    return ", neither as PEM nor as DER, nor as PKCS#7"


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
        raise InvalidInput(f"The text is not a readable PEM certificate signing request: {short(error)}.") from None
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
    """Issued by itself, signature included: a root.

    The signature of an old root may be of a kind that nobody verifies any more (SHA-1), and need not be: a trust anchor
    is trusted for other reasons (RFC 5280 section 6.1.1). Its name and key identifiers are what it is known by then.
    """
    if certificate.subject != certificate.issuer:
        return False
    if weak_hash(certificate) is None:
        return is_signed_by(certificate, certificate)
    authority = extension(certificate, x509.AuthorityKeyIdentifier)
    own = extension(certificate, x509.SubjectKeyIdentifier)
    by_another = authority is not None and authority.key_identifier is not None
    return not by_another or (own is not None and authority is not None and authority.key_identifier == own.digest)


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


def called(certificate: x509.Certificate) -> str:
    """How a message calls a certificate; a leaf may have names only in its extension (RFC 5280 section 4.1.2.6)."""
    names = [] if certificate.subject.rdns else subject_names(certificate)
    return f"the certificate for {names[0]}" if names else distinguished_name(certificate.subject)


def extension(certificate: x509.Certificate, kind: type[ExtensionT]) -> ExtensionT | None:
    """The value of an extension, or None."""
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


def is_authority(certificate: x509.Certificate) -> bool:
    """Whether it is the certificate of a CA (basicConstraints, RFC 5280 section 4.2.1.9)."""
    try:
        basic = extension(certificate, x509.BasicConstraints)
    except ValueError:
        return False
    return basic is not None and basic.ca


def issuer_urls(certificate: x509.Certificate) -> list[str]:
    """Where its issuer's certificate can be had by HTTP, as it says itself (caIssuers, RFC 5280 section 4.2.2.1)."""
    try:
        access = extension(certificate, x509.AuthorityInformationAccess)
    except ValueError:
        return []
    return [
        one.access_location.value
        for one in access or ()
        if one.access_method == AuthorityInformationAccessOID.CA_ISSUERS
        and isinstance(one.access_location, x509.UniformResourceIdentifier)
        and one.access_location.value.lower().startswith(("http://", "https://"))
    ]


def weak_hash(certificate: x509.Certificate) -> str | None:
    """The name of the hash that it is signed with, if collisions of that can be made (MD5, SHA-1)."""
    try:
        used = certificate.signature_hash_algorithm
    except UnsupportedAlgorithm:
        return None
    return used.name.upper().replace("SHA1", "SHA-1") if isinstance(used, hashes.MD5 | hashes.SHA1) else None


def short(error: Exception) -> str:
    """The library's first line, without the object dumps it appends, as the tail of one sentence."""
    text = str(error).partition(" (encountered processing")[0].partition("\n")[0].strip().rstrip(".")
    return text[:200] or type(error).__name__
