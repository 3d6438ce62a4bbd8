"""Settings of an IIS endpoint. How its host is reached and signed in to is the connection's matter (winrm)."""

from __future__ import annotations

from datetime import timedelta
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from connectors.endpoints.addresses import BareAddress


class IisSettings(BaseModel):
    """How certgate works on one IIS."""

    model_config = ConfigDict(extra="forbid")

    store: Literal["My", "WebHosting"] = Field(
        default="My",
        description="Store of the machine that new certificates go into: My (Personal), or WebHosting where there are "
        "very many.",
    )
    keep: int = Field(
        default=2,
        ge=2,
        le=20,
        description="How many certificates that certgate imported for a binding stay in the store, the newest of them; "
        "older ones are deleted with their keys, unless something uses them.",
    )
    address: BareAddress | None = Field(
        default=None,
        description="Address or name at which handshakes look, in place of the connection's: for an IIS behind address "
        "translation.",
    )
    script_timeout_seconds: float = Field(
        default=120.0, gt=0, le=600, description="How long one script may take on the host."
    )

    @property
    def script_timeout(self) -> timedelta:
        """The same as a duration."""
        return timedelta(seconds=self.script_timeout_seconds)
