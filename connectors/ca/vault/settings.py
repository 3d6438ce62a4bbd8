"""What can be configured of a Vault-compatible PKI."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from connectors.vault import Mount, VaultAccess

# What the engine takes as the name of a role or an issuer.
NAME = r"^\w([\w.-]*\w)?$"
Name = Annotated[str, Field(max_length=200, pattern=NAME)]


class Settings(VaultAccess):
    """Settings of a Vault-compatible PKI: the server and how we sign in there, the engine's mount, role and issuer."""

    mount: Mount = Field(default="pki", description="Where the PKI engine is mounted.")
    role: Name = Field(description="The role that signs, for certificate profiles that name no other.")
    issuer: Name | None = Field(
        default=None, description="The issuer that signs, by name or id; default: the role's own."
    )
    settle_seconds: float = Field(
        default=10,
        ge=0,
        le=300,
        description="After a signature whose answer was lost, so long is waited before it is looked for: what the "
        "server was still busy with is there then.",
    )
