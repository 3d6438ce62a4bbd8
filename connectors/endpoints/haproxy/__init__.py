"""HAProxy: certificates found in its own configuration, exchanged in their files, used after a reload or at once."""

from connectors.endpoints.haproxy.endpoint import CONNECTOR

__all__ = ["CONNECTOR"]
