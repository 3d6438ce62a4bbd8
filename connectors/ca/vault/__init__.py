"""The PKI secrets engine of a Vault-compatible server (OpenBao, HashiCorp Vault): a role signs our signing requests.

`settings` what can be configured · `authority` the verbs · `issued` what the mount has issued, for finding an order
again. See ``docs/ca-vault.md``.
"""

from __future__ import annotations

from connectors.ca.vault.authority import VaultAuthority
from connectors.ca.vault.settings import Settings
from connectors.registry import ConnectorType

CONNECTOR = ConnectorType(
    name="vault", title="Vault-compatible PKI (OpenBao, HashiCorp Vault)", settings=Settings, open=VaultAuthority
)

__all__ = ["CONNECTOR", "Settings", "VaultAuthority"]
