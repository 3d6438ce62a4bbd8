"""What can be configured of a CFSSL server."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from connectors.secrets import Reference

_LOOPBACK = ("localhost", "127.0.0.1", "::1")


def _address(given: str) -> str:
    parts = urlsplit(given)
    try:
        good = parts.port is None or parts.port > 0
    except ValueError:
        good = False
    if parts.scheme not in ("http", "https") or not parts.hostname or not good or parts.query or parts.username:
        raise ValueError("must be the server's address, such as https://cfssl.example.com:8888")
    return given.rstrip("/")


class Settings(BaseModel):
    """Settings of a CFSSL server: where it is, its key for signed requests, its profile, and who numbers."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    address: Annotated[str, AfterValidator(_address)] = Field(
        description="The server, such as https://cfssl.example.com:8888."
    )
    plain_http: bool = Field(
        default=False,
        description="Allows http:// to another machine, where the way there is protected otherwise: what is asked and "
        "answered can then be read and changed on the way.",
    )
    ca_file: Path | None = Field(
        default=None, description="Root certificates (PEM) that its TLS certificate is trusted by, besides the usual."
    )
    client_certificate: Path | None = Field(
        default=None, description="Our certificate where the server asks for one (PEM file); needs client_key."
    )
    client_key: Path | None = Field(default=None, description="Its key, a PEM file of mode 0600.")
    auth_key: Reference | None = Field(
        default=None, description="The key (hex, as in the server's auth_keys) that requests are signed with."
    )
    profile: str | None = Field(
        default=None,
        min_length=1,
        max_length=100,
        description="The signing profile, for certificate profiles that name no other; default: the server's own.",
    )
    label: str | None = Field(
        default=None, min_length=1, max_length=100, description="The signer, where the server has several."
    )
    serial_numbers: Literal["ours", "theirs"] = Field(
        default="ours",
        description="ours: made of the order, so that a signature whose answer was lost is known again; the server's "
        "profile needs ClientProvidesSerialNumbers. theirs: the server's, and a lost answer may mean a second one.",
    )

    @model_validator(mode="after")
    def _consistent(self) -> Settings:
        parts = urlsplit(self.address)
        if parts.scheme == "http" and parts.hostname not in _LOOPBACK and not self.plain_http:
            raise ValueError("address must begin with https:// (http:// to another machine needs plain_http)")
        if (self.client_certificate is None) != (self.client_key is None):
            raise ValueError("client_certificate and client_key belong together")
        return self
