"""PKCS#12 and JKS files of any program: one entry is exchanged, a hook makes the program load it."""

from connectors.endpoints.keystore_files.endpoint import JKS, PKCS12

__all__ = ["JKS", "PKCS12"]
