"""Apache HTTP Server."""

from connectors.endpoints.apache.endpoint import CONNECTOR

__all__ = ["CONNECTOR"]
