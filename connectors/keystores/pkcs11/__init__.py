"""Keys in a token that is reached by PKCS#11 (an HSM, a smart card): made there, used there, never exported."""

from connectors.keystores.pkcs11.keystore import CONNECTOR

__all__ = ["CONNECTOR"]
