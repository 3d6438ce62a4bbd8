"""How PKCS#12 protects what it holds: key derivation, encryption, and the check of the whole (RFC 7292, RFC 8018).

Written is what ``keytool`` and ``openssl`` of today write: PBES2 with PBKDF2 (HMAC-SHA-256) and AES-256-CBC, and a MAC
with SHA-256. Read are that, other lengths of AES, triple DES, and RC2 with 40 bits, which older programs use. A file
whose MAC is PBMAC1 (RFC 9579), as FIPS wants it, is read and keeps that.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from typing import Any, ClassVar

from asn1crypto.algos import EncryptionAlgorithm, HmacAlgorithm, KdfAlgorithm, Pbkdf2Salt
from asn1crypto.core import Null
from asn1crypto.core import Sequence as Asn1Sequence
from asn1crypto.pkcs12 import MacData
from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
from cryptography.hazmat.primitives import padding
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from connectors.archives import rc2
from connectors.archives.contract import WRONG, Unreadable

ITERATIONS = 10_000
# A file names its own counts of iterations; one made by an enemy must not keep us busy for ever. PBKDF2 is OpenSSL's;
# the derivation of RFC 7292 appendix B runs in Python and is slower.
MOST_ITERATIONS = 5_000_000
MOST_SLOW_ITERATIONS = 600_000
_MOST_IN_ALL = 50_000_000
_FOR_KEY, _FOR_IV, _FOR_MAC = 1, 2, 3
_HASHES = ("sha1", "sha224", "sha256", "sha384", "sha512")
_PBMAC1 = "1.2.840.113549.1.5.14"
_LONGEST_MAC_KEY = 64


class _Pbmac1(Asn1Sequence):  # type: ignore[misc]  # asn1crypto has no types
    """PBMAC1-params, RFC 8018 appendix A.5."""

    _fields: ClassVar = [("key_derivation_func", KdfAlgorithm), ("message_auth_scheme", HmacAlgorithm)]


class Work:
    """Counts the iterations that one file asks for."""

    def __init__(self) -> None:
        self._left = _MOST_IN_ALL

    def spend(self, iterations: int, most: int) -> int:
        """The same number; raises `Unreadable` where it is too much at once or in all."""
        self._left -= iterations
        if not 1 <= iterations <= most or self._left < 0:
            raise Unreadable(
                f"it asks for {iterations:,} iterations to derive a key; certgate does at most {most:,} at once "
                f"and {_MOST_IN_ALL:,} in all"
            )
        return iterations


def encrypt(plain: bytes, passphrase: str) -> tuple[EncryptionAlgorithm, bytes]:
    """The algorithm with its parameters, and the ciphertext."""
    salt, iv = os.urandom(20), os.urandom(16)
    key = hashlib.pbkdf2_hmac("sha256", passphrase.encode(), salt, ITERATIONS, 32)
    padder = padding.PKCS7(128).padder()
    encryptor = Cipher(algorithms.AES256(key), modes.CBC(iv)).encryptor()
    sealed = encryptor.update(padder.update(plain) + padder.finalize()) + encryptor.finalize()
    parameters = {
        "key_derivation_func": _pbkdf2(salt),
        "encryption_scheme": {"algorithm": "aes256_cbc", "parameters": iv},
    }
    return EncryptionAlgorithm({"algorithm": "pbes2", "parameters": parameters}), sealed


def _pbkdf2(salt: bytes) -> dict[str, Any]:
    """How a key of 32 bytes is derived, as algorithm with parameters."""
    derivation = {
        "salt": Pbkdf2Salt(name="specified", value=salt),
        "iteration_count": ITERATIONS,
        "key_length": 32,
        "prf": {"algorithm": "sha256"},
    }
    return {"algorithm": "pbkdf2", "parameters": derivation}


def decrypt(algorithm: EncryptionAlgorithm, sealed: bytes, passphrase: str, work: Work) -> bytes:
    """What is behind a passphrase; raises `Unreadable`, also with `WRONG` where the padding gives it away."""
    name = str(algorithm["algorithm"].native)
    parameters = algorithm["parameters"]
    if name == "pbes2":
        cipher, block = _pbes2(parameters, passphrase, work)
    elif name in ("pkcs12_sha1_tripledes_3key", "pkcs12_sha1_rc2_40"):
        salt = bytes(parameters["salt"])
        iterations = work.spend(parameters["iterations"].native, MOST_SLOW_ITERATIONS)
        length = 24 if "tripledes" in name else 5
        key = derive("sha1", passphrase, salt, iterations, _FOR_KEY, length)
        iv = derive("sha1", passphrase, salt, iterations, _FOR_IV, 8)
        if length == 5:
            return _unpadded(rc2.decrypt_cbc(key, iv, sealed), 64)
        cipher, block = Cipher(TripleDES(key), modes.CBC(iv)), 64
    else:
        raise Unreadable(f"it is protected with {name}, which certgate does not read; save it anew with keytool")
    try:
        decryptor = cipher.decryptor()
        return _unpadded(decryptor.update(sealed) + decryptor.finalize(), block)
    except ValueError:
        raise Unreadable(WRONG) from None


def mac(content: bytes, passphrase: str, *, pbmac1: bool = False) -> MacData:
    """The check of the whole, with SHA-256."""
    salt = os.urandom(20)
    if pbmac1:
        key = hashlib.pbkdf2_hmac("sha256", passphrase.encode(), salt, ITERATIONS, 32)
        derivation = _pbkdf2(salt)
        parameters = _Pbmac1(
            {"key_derivation_func": derivation, "message_auth_scheme": {"algorithm": "sha256", "parameters": Null()}}
        )
        algorithm = {"algorithm": _PBMAC1, "parameters": parameters}
    else:
        key = derive("sha256", passphrase, salt, ITERATIONS, _FOR_MAC, 32)
        algorithm = {"algorithm": "sha256"}
    return MacData(
        {
            "mac": {"digest_algorithm": algorithm, "digest": hmac.digest(key, content, "sha256")},
            "mac_salt": salt,
            "iterations": ITERATIONS,
        }
    )


def is_pbmac1(data: MacData) -> bool:
    """Whether the check of the whole is made as RFC 9579 says."""
    return bool(data["mac"]["digest_algorithm"]["algorithm"].dotted == _PBMAC1)


def check(data: MacData, content: bytes, passphrase: str, work: Work) -> None:
    """Raise `Unreadable` unless the check of the whole holds."""
    name, key = _pbmac1_key(data, passphrase, work) if is_pbmac1(data) else _mac_key(data, passphrase, work)
    if not hmac.compare_digest(hmac.digest(key, content, name), bytes(data["mac"]["digest"])):
        raise Unreadable(WRONG)


def _mac_key(data: MacData, passphrase: str, work: Work) -> tuple[str, bytes]:
    name = str(data["mac"]["digest_algorithm"]["algorithm"].native)
    if name not in _HASHES:
        raise Unreadable(f"its check is made with {name}, which certgate does not read; save it anew with keytool")
    iterations = work.spend(data["iterations"].native, MOST_SLOW_ITERATIONS)
    length = hashlib.new(name).digest_size
    return name, derive(name, passphrase, bytes(data["mac_salt"]), iterations, _FOR_MAC, length)


def _pbmac1_key(data: MacData, passphrase: str, work: Work) -> tuple[str, bytes]:
    """RFC 9579 section 5: PBKDF2 with a key length that must be told; the salt and count beside it mean nothing."""
    parameters = _Pbmac1.load(data["mac"]["digest_algorithm"]["parameters"].dump(), strict=True)
    derivation, name = parameters["key_derivation_func"], str(parameters["message_auth_scheme"]["algorithm"].native)
    detail = derivation["parameters"]
    if derivation["algorithm"].native != "pbkdf2" or name not in _HASHES or detail["salt"].name != "specified":
        raise Unreadable("its check (PBMAC1) is made in a way that certgate does not read; save it anew")
    prf, length = str(detail["prf"]["algorithm"].native), detail["key_length"].native
    if prf not in _HASHES or not length or not 20 <= length <= _LONGEST_MAC_KEY:
        raise Unreadable("its check (PBMAC1) does not say how long its key is, or wrongly; save it anew")
    iterations = work.spend(detail["iteration_count"].native, MOST_ITERATIONS)
    word = passphrase.encode("utf-8", "surrogatepass")
    return name, hashlib.pbkdf2_hmac(prf, word, bytes(detail["salt"].chosen), iterations, length)


def derive(hash_name: str, passphrase: str, salt: bytes, iterations: int, purpose: int, length: int) -> bytes:
    """Key material from a passphrase, RFC 7292 appendix B.2; `purpose` is 1 key, 2 IV, 3 MAC."""
    function = getattr(hashlib, hash_name)  # by its name each time it would take twice as long
    block = function().block_size
    word = (passphrase + "\0").encode("utf-16-be", "surrogatepass")
    begin = bytes([purpose]) * block
    mixed = _filled(salt, block) + _filled(word, block)
    out = b""
    while True:
        digest: bytes = function(begin + mixed).digest()
        for _ in range(iterations - 1):
            digest = function(digest).digest()
        out += digest
        if len(out) >= length:
            return out[:length]
        add = int.from_bytes(_filled(digest, block)[:block], "big") + 1
        parts = (mixed[at : at + block] for at in range(0, len(mixed), block))
        limit = (1 << 8 * block) - 1
        mixed = b"".join((int.from_bytes(part, "big") + add & limit).to_bytes(block, "big") for part in parts)


def _pbes2(parameters: Any, passphrase: str, work: Work) -> tuple[Cipher[modes.CBC], int]:
    derivation, scheme = parameters["key_derivation_func"], parameters["encryption_scheme"]
    function = derivation["algorithm"].native
    if function != "pbkdf2":
        raise Unreadable(f"its keys are derived by {function}, which certgate does not read; save it anew with keytool")
    detail = derivation["parameters"]
    prf, name = str(detail["prf"]["algorithm"].native), str(scheme["algorithm"].native)
    sizes = {"aes128_cbc": 16, "aes192_cbc": 24, "aes256_cbc": 32, "tripledes_3key": 24}
    if prf not in _HASHES or name not in sizes or detail["salt"].name != "specified":
        raise Unreadable(f"it is protected with {name} and {prf}, which certgate does not read; save it anew")
    iterations = work.spend(detail["iteration_count"].native, MOST_ITERATIONS)
    salt = bytes(detail["salt"].chosen)
    key = hashlib.pbkdf2_hmac(prf, passphrase.encode("utf-8", "surrogatepass"), salt, iterations, sizes[name])
    iv = bytes(scheme["parameters"])
    if name == "tripledes_3key":
        return Cipher(TripleDES(key), modes.CBC(iv)), 64
    return Cipher(algorithms.AES(key), modes.CBC(iv)), 128


def _unpadded(padded: bytes, block: int) -> bytes:
    try:
        unpadder = padding.PKCS7(block).unpadder()
        return unpadder.update(padded) + unpadder.finalize()
    except ValueError:
        raise Unreadable(WRONG) from None


def _filled(part: bytes, block: int) -> bytes:
    """`part` repeated to whole blocks; nothing stays nothing."""
    if not part:
        return b""
    length = -(-len(part) // block) * block
    return (part * (length // len(part) + 1))[:length]
