"""Which private keys certgate makes."""

from __future__ import annotations

from enum import StrEnum


class KeyAlgorithm(StrEnum):
    """Key algorithm and size, as people choose it. EC P-256 is the default."""

    EC_P256 = "ec-p256"
    EC_P384 = "ec-p384"
    RSA_2048 = "rsa-2048"
    RSA_3072 = "rsa-3072"
    RSA_4096 = "rsa-4096"
    ED25519 = "ed25519"
