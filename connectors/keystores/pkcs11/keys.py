"""Private keys that are in a token, in the form that the cryptography library takes for signing: so signing requests
are the same as those of every other keystore, and only the signature comes from the token.

Mechanisms: PKCS #11 v3.0 Current Mechanisms, section 2.3 (EC, EdDSA) and 2.1 (RSA).
"""

from __future__ import annotations

from typing import Any, NoReturn

from asn1crypto import core
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa, utils
from pkcs11 import Attribute, KeyType, Mechanism

from connectors.errors import Permanent
from connectors.keystores.keys import PrivateKey
from model.keys import KeyAlgorithm

CURVES: dict[str, type[ec.EllipticCurve]] = {
    "1.2.840.10045.3.1.7": ec.SECP256R1,
    "1.3.132.0.34": ec.SECP384R1,
    "1.3.132.0.35": ec.SECP521R1,
}
NAMED_CURVES = {KeyAlgorithm.EC_P256: "1.2.840.10045.3.1.7", KeyAlgorithm.EC_P384: "1.3.132.0.34"}
# id-Ed25519 (RFC 8410 section 3), and the name that PKCS #11 v3.0 has for it.
ED25519_PARAMETERS = (b"\x06\x03\x2b\x65\x70", b"\x13\x0cedwards25519")
_RSA_SIGNATURES = {
    "sha256": Mechanism.SHA256_RSA_PKCS,
    "sha384": Mechanism.SHA384_RSA_PKCS,
    "sha512": Mechanism.SHA512_RSA_PKCS,
}
PRIVATE = {Attribute.SENSITIVE: True, Attribute.EXTRACTABLE: False, Attribute.PRIVATE: True}


def generate(session: Any, algorithm: KeyAlgorithm, label: str, identifier: bytes) -> None:
    """Make a key pair that stays in the token and can't be taken out."""
    stored = {"id": identifier, "label": label, "store": True, "private_template": PRIVATE}
    if algorithm in NAMED_CURVES:
        encoded = core.ObjectIdentifier(NAMED_CURVES[algorithm]).dump()
        curve = session.create_domain_parameters(KeyType.EC, {Attribute.EC_PARAMS: encoded}, local=True)
        curve.generate_keypair(**stored)
    elif algorithm is KeyAlgorithm.ED25519:
        curve = session.create_domain_parameters(
            KeyType.EC_EDWARDS, {Attribute.EC_PARAMS: ED25519_PARAMETERS[0]}, local=True
        )
        curve.generate_keypair(mechanism=Mechanism.EC_EDWARDS_KEY_PAIR_GEN, **stored)
    else:
        session.generate_keypair(KeyType.RSA, int(algorithm.removeprefix("rsa-")), **stored)


def public_key_of(public: Any) -> Any:
    """A public key object of the token as the cryptography library's; None for a kind that certgate does not use."""
    kind = public.key_type
    if kind == KeyType.RSA:
        modulus, exponent = (
            int.from_bytes(public[one], "big") for one in (Attribute.MODULUS, Attribute.PUBLIC_EXPONENT)
        )
        return rsa.RSAPublicNumbers(exponent, modulus).public_key()
    if kind == KeyType.EC:
        parameters = core.load(public[Attribute.EC_PARAMS])
        curve = CURVES.get(parameters.native) if isinstance(parameters, core.ObjectIdentifier) else None
        return ec.EllipticCurvePublicKey.from_encoded_point(curve(), _point(public)) if curve is not None else None
    if kind == KeyType.EC_EDWARDS and public[Attribute.EC_PARAMS] in ED25519_PARAMETERS:
        return ed25519.Ed25519PublicKey.from_public_bytes(_point(public))
    return None


def _point(public: Any) -> bytes:
    """CKA_EC_POINT is a DER OCTET STRING; some tokens leave its head away."""
    encoded: bytes = public[Attribute.EC_POINT]
    try:
        found = core.OctetString.load(encoded, strict=True)
    except ValueError:
        return encoded
    return bytes(found.native)


def in_token(private: Any, public: Any) -> PrivateKey | None:
    """A key of the token for signing with; None for a kind that certgate does not use. Good as long as its session."""
    known = public_key_of(public)
    if isinstance(known, rsa.RSAPublicKey):
        return _RsaKey(private, known)
    if isinstance(known, ec.EllipticCurvePublicKey):
        return _EcKey(private, known)
    if isinstance(known, ed25519.Ed25519PublicKey):
        return _Ed25519Key(private, known)
    return None


def _never() -> NoReturn:
    raise Permanent("A key in a token can't be taken out of it.")


class _EcKey(ec.EllipticCurvePrivateKey):
    def __init__(self, private: Any, public: ec.EllipticCurvePublicKey) -> None:
        self._private = private
        self._public = public

    @property
    def curve(self) -> ec.EllipticCurve:
        return self._public.curve

    @property
    def key_size(self) -> int:
        return self._public.key_size

    def public_key(self) -> ec.EllipticCurvePublicKey:
        return self._public

    def sign(self, data: Any, signature_algorithm: ec.EllipticCurveSignatureAlgorithm) -> bytes:
        algorithm = signature_algorithm.algorithm
        assert isinstance(algorithm, hashes.HashAlgorithm)
        digest = hashes.Hash(algorithm)
        digest.update(data)
        raw: bytes = self._private.sign(digest.finalize(), mechanism=Mechanism.ECDSA)
        half = len(raw) // 2
        return utils.encode_dss_signature(int.from_bytes(raw[:half], "big"), int.from_bytes(raw[half:], "big"))

    def exchange(self, *_: object) -> NoReturn:
        _never()

    def private_numbers(self) -> NoReturn:
        _never()

    def private_bytes(self, *_: object, **__: object) -> NoReturn:
        _never()

    def __copy__(self) -> _EcKey:
        return self

    def __deepcopy__(self, memo: object) -> _EcKey:
        return self


class _RsaKey(rsa.RSAPrivateKey):
    def __init__(self, private: Any, public: rsa.RSAPublicKey) -> None:
        self._private = private
        self._public = public

    @property
    def key_size(self) -> int:
        return self._public.key_size

    def public_key(self) -> rsa.RSAPublicKey:
        return self._public

    def sign(self, data: Any, padding_: Any, algorithm: Any) -> bytes:
        assert isinstance(padding_, padding.PKCS1v15)
        signature: bytes = self._private.sign(bytes(data), mechanism=_RSA_SIGNATURES[algorithm.name])
        return signature

    def decrypt(self, *_: object) -> NoReturn:
        _never()

    def private_numbers(self) -> NoReturn:
        _never()

    def private_bytes(self, *_: object, **__: object) -> NoReturn:
        _never()

    def __copy__(self) -> _RsaKey:
        return self

    def __deepcopy__(self, memo: object) -> _RsaKey:
        return self


class _Ed25519Key(ed25519.Ed25519PrivateKey):
    def __init__(self, private: Any, public: ed25519.Ed25519PublicKey) -> None:
        self._private = private
        self._public = public

    def public_key(self) -> ed25519.Ed25519PublicKey:
        return self._public

    def sign(self, data: Any) -> bytes:
        signature: bytes = self._private.sign(bytes(data), mechanism=Mechanism.EDDSA)
        return signature

    def private_bytes(self, *_: object, **__: object) -> NoReturn:
        _never()

    def private_bytes_raw(self) -> NoReturn:
        _never()

    def __copy__(self) -> _Ed25519Key:
        return self

    def __deepcopy__(self, memo: object) -> _Ed25519Key:
        return self
