"""The built-in private CA: a root and an intermediate in a folder, orders in an SQLite file beside them.

`settings` what can be configured · `material` the CA's own keys and certificates · `issuance` what a leaf looks like ·
`ledger` orders and their states · `revocation` CRL and OCSP · `authority` the verbs. See ``docs/ca-private.md``.
"""

from __future__ import annotations

from connectors.ca.private.authority import PrivateAuthority
from connectors.ca.private.ledger import OrderRecord, OrderState
from connectors.ca.private.settings import Profile, Settings
from connectors.registry import ConnectorType

CONNECTOR = ConnectorType(name="private", title="Built-in private CA", settings=Settings, open=PrivateAuthority)

__all__ = ["CONNECTOR", "OrderRecord", "OrderState", "PrivateAuthority", "Profile", "Settings"]
