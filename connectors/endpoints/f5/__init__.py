"""F5 BIG-IP: client-ssl profiles found behind its virtual servers, certificates exchanged over iControl REST."""

from connectors.endpoints.f5.endpoint import CONNECTOR

__all__ = ["CONNECTOR"]
