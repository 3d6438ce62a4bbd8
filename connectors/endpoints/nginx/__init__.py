"""nginx: virtual hosts found in its own configuration, certificates exchanged in the files that it names."""

from connectors.endpoints.nginx.endpoint import CONNECTOR

__all__ = ["CONNECTOR"]
