"""Certificate signing requests for keys that are somewhere else: what is to be signed goes there, the signature comes
back, and the key stays.

What a CSR says is decided in `keys.signing_request`; here only the public key and the signature are put in (RFC 2986
section 4.2: CertificationRequest is CertificationRequestInfo, algorithm and signature).
"""

from __future__ import annotations

from typing import cast

from asn1crypto import algos, csr, keys, pem
from cryptography import x509 as crypto
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes, PublicKeyTypes
from cryptography.hazmat.primitives.serialization import load_der_public_key

from connectors.errors import Permanent
from connectors.keystores.contract import SigningRequest
from connectors.keystores.keys import signing_request
from model import x509
from model.keys import KeyAlgorithm

_SIGNATURES = {
    KeyAlgorithm.EC_P256: "sha256_ecdsa",
    KeyAlgorithm.EC_P384: "sha384_ecdsa",
    KeyAlgorithm.ED25519: "ed25519",
}


class Unsigned:
    """A CSR that lacks its signature. `public_key` is SubjectPublicKeyInfo, DER; one of another algorithm than the
    request asks for is `Permanent`. `message` is what has to be signed: ECDSA with SHA-256 or, for P-384, SHA-384; RSA
    PKCS#1 v1.5 with SHA-256; Ed25519 as it is."""

    def __init__(self, public_key: bytes, request: SigningRequest) -> None:
        found = x509.key_algorithm(cast("CertificatePublicKeyTypes", _read(public_key)))
        if found is not request.algorithm:
            raise Permanent(
                f"There is a key of another algorithm under {request.alias}: {found}, not {request.algorithm}."
            )
        self._alias = request.alias
        # Any key makes a CSR that says the right things; its own part in it is then replaced.
        like = signing_request(ec.generate_private_key(ec.SECP256R1()), request)
        self._csr = csr.CertificationRequest.load(pem.unarmor(like.encode())[2])
        self._csr["certification_request_info"]["subject_pk_info"] = keys.PublicKeyInfo.load(public_key)
        self._csr["signature_algorithm"] = algos.SignedDigestAlgorithm(
            {"algorithm": _SIGNATURES.get(request.algorithm, "sha256_rsa")}
        )
        self.message: bytes = self._csr["certification_request_info"].dump(force=True)

    def signed(self, signature: bytes) -> str:
        """The CSR, PEM. `signature` is as X.509 has it: for ECDSA the DER sequence of r and s. One that does not fit is
        `Permanent`."""
        self._csr["signature"] = signature
        text: str = pem.armor("CERTIFICATE REQUEST", self._csr.dump(force=True)).decode()
        if not crypto.load_pem_x509_csr(text.encode()).is_signature_valid:
            raise Permanent(
                f"The signature that was made with the key {self._alias} is not that key's: look at it there."
            )
        return text


def _read(public_key: bytes) -> PublicKeyTypes:
    try:
        return load_der_public_key(public_key)
    except (ValueError, UnsupportedAlgorithm):
        raise Permanent("What came as a public key is none that certgate knows.") from None
