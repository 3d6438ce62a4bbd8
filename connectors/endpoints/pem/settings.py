"""Settings of endpoints whose certificates are plain files, and what the products among them share."""

from __future__ import annotations

import re
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from connectors.endpoints.hook import HookSettings
from connectors.endpoints.listeners import ListenerSettings

_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@-]{0,63}\$?")


def plain_path(value: str | None) -> str | None:
    """An absolute path without ``..``; raises `ValueError`."""
    if value is not None and ("\0" in value or (len(value) > 1 and value.endswith("/")) or ".." in value.split("/")):
        raise ValueError("must be an absolute path without '..' and without '/' at its end")
    return value


class ServedSettings(HookSettings, ListenerSettings):
    """What a product's configuration does not say: the names by which clients reach it, where else handshakes look, and
    what is to be run afterwards."""


class PemSettings(ServedSettings):
    """Files of one certificate, and what makes its server use them."""

    certificate: str = Field(
        pattern="^/", max_length=4096, description="File of the certificate with its chain; an absolute path."
    )
    key: str | None = Field(
        default=None,
        pattern="^/",
        max_length=4096,
        description="File of the private key. Default: the certificate's file has both.",
    )
    chain: str | None = Field(
        default=None,
        pattern="^/",
        max_length=4096,
        description="File of the intermediate certificates, where they do not stand in the certificate's file.",
    )
    format: Literal["pem", "der"] = Field(default="pem", description="How certificate and key are written.")
    key_first: bool = Field(default=False, description="In a file with both, the key stands before the certificate.")
    owner: str | None = Field(
        default=None,
        description="Whose a file is that does not exist yet: USER or USER:GROUP. One that exists keeps its owner and "
        "mode.",
    )
    mode: str | None = Field(
        default=None, pattern="^0?[0-7]{3}$", description="Mode of a key's file that does not exist yet, such as 0640."
    )
    certificate_mode: str = Field(
        default="0644", pattern="^0?[0-7]{3}$", description="Mode of a certificate's file that does not exist yet."
    )
    check_command: list[str] | None = Field(
        default=None,
        min_length=1,
        max_length=100,
        description="What tells by its exit status whether the server's configuration is sound, such as "
        '["slaptest", "-u"].',
    )

    @field_validator("certificate", "key", "chain")
    @classmethod
    def _a_path(cls, value: str | None) -> str | None:
        return plain_path(value)

    @field_validator("owner")
    @classmethod
    def _user_and_group(cls, value: str | None) -> str | None:
        if value is not None and not all(_USER.fullmatch(one) for one in value.split(":", 1)):
            raise ValueError("must be USER or USER:GROUP, names or numbers")
        return value

    @model_validator(mode="after")
    def _fitting(self) -> Self:
        if self.format == "der" and self.key in (None, self.certificate):
            raise ValueError("a DER file holds one thing: name a key of its own")
        if self.key_first and self.key not in (None, self.certificate):
            raise ValueError("key_first is for a file that has both certificate and key")
        if self.chain is not None and self.chain in (self.certificate, self.key):
            raise ValueError("chain must be a file of its own")
        return self
