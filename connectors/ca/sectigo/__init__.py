"""Sectigo Certificate Manager, by its REST interface.

`settings` what can be configured · `session` signing in, tokens · `console` the calls, with `answers` as typed values ·
`refusals` what error codes mean · `marks` how orders are marked as ours · `placing` orders are placed and found again ·
`collecting` they are followed until their certificate is there, in any format (`certificates`) · `authority` the verbs.
See ``docs/ca-sectigo.md``. Source: the vendor's OpenAPI document of SCM's admin operations, version 25.9.2.
"""

from __future__ import annotations

from connectors.ca.sectigo.authority import SectigoAuthority
from connectors.ca.sectigo.settings import Settings
from connectors.registry import ConnectorType

CONNECTOR = ConnectorType(name="sectigo", title="Sectigo Certificate Manager", settings=Settings, open=SectigoAuthority)

__all__ = ["CONNECTOR", "SectigoAuthority", "Settings"]
