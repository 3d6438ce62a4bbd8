"""The PFX (PKCS#12, RFC 7292) in which a key goes to a Windows host: made in memory, for one use."""

from __future__ import annotations

import secrets
import warnings

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import SHA1, SHA256
from cryptography.hazmat.primitives.serialization import PrivateFormat, load_pem_private_key
from cryptography.hazmat.primitives.serialization.pkcs12 import PBES, serialize_key_and_certificates

from connectors.errors import Permanent
from connectors.hosts.contract import SecretText

# Windows Server 2019. Before, PBES2 is not understood (Windows 10 1709 began with it on the client).
FIRST_BUILD_WITH_AES = 17763
ROUNDS = 10_000


def one_time_password() -> SecretText:
    """A password that nobody is told: it goes into one archive and, encrypted, into one script."""
    return SecretText(secrets.token_urlsafe(32))


def pack(leaf: x509.Certificate, private_key_pem: bytes, password: SecretText, build: int) -> bytes:
    """Key and leaf, without the chain, encrypted as the Windows of `build` can read it: AES-256 and SHA-256 (PBES2), or
    for the old ones Triple DES and SHA-1. The connection encrypts it once more."""
    key = load_pem_private_key(private_key_pem, password=None)
    if not isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey):
        raise Permanent("Windows serves TLS with RSA and ECDSA keys only: request another key type.")
    builder = PrivateFormat.PKCS12.encryption_builder().kdf_rounds(ROUNDS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Triple DES, which is known
        if build >= FIRST_BUILD_WITH_AES:
            builder = builder.key_cert_algorithm(PBES.PBESv2SHA256AndAES256CBC).hmac_hash(SHA256())
        else:
            builder = builder.key_cert_algorithm(PBES.PBESv1SHA1And3KeyTripleDESCBC).hmac_hash(SHA1())  # noqa: S303
        return serialize_key_and_certificates(None, key, leaf, None, builder.build(password.text.encode()))
