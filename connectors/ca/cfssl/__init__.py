"""CFSSL's signing server (``cfssl serve``), as of version 1.2.

`settings` what can be configured · `server` its HTTP API · `authority` the verbs. See ``docs/ca-cfssl.md``.
"""

from __future__ import annotations

from connectors.ca.cfssl.authority import CfsslAuthority
from connectors.ca.cfssl.settings import Settings
from connectors.registry import ConnectorType

CONNECTOR = ConnectorType(name="cfssl", title="CFSSL", settings=Settings, open=CfsslAuthority)

__all__ = ["CONNECTOR", "CfsslAuthority", "Settings"]
