"""Certificates in PEM or DER files of any server, exchanged and followed by a hook."""

from connectors.endpoints.pem.endpoint import CONNECTOR

__all__ = ["CONNECTOR"]
