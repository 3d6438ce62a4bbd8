"""CAs that speak ACME (RFC 8555), such as Let's Encrypt; names are proved by http-01, tls-alpn-01 or dns-01.

`settings` what can be configured · `network` signed requests · `problems` what a server refuses · `account` the key and
its account · `order` orders at the CA · `validation` proofs of names, by `responders` and `challenges` · `journal` what
was asked, by our reference · `authority` the verbs. See ``docs/ca-acme.md``.
"""

from __future__ import annotations

from connectors.ca.acme.authority import AcmeAuthority
from connectors.ca.acme.settings import Settings
from connectors.registry import ConnectorType

CONNECTOR = ConnectorType(name="acme", title="ACME", settings=Settings, open=AcmeAuthority)

__all__ = ["CONNECTOR", "AcmeAuthority", "Settings"]
