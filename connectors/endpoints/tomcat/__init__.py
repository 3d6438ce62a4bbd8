"""Tomcat: TLS hosts found in its ``server.xml``, certificates exchanged in the keystores and PEM files named there."""

from connectors.endpoints.tomcat.endpoint import CONNECTOR

__all__ = ["CONNECTOR"]
