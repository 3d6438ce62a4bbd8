"""IIS 10: https bindings found in its configuration, certificates exchanged in the machine's store, over WinRM."""

from connectors.endpoints.iis.endpoint import CONNECTOR

__all__ = ["CONNECTOR"]
