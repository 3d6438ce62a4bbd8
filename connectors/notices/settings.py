"""What ``[notifications]`` in `certgate.toml` says. Secrets stand there as references (`connectors/secrets.py`)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from connectors.secrets import Reference

_ADDRESS = re.compile(r"[^\s@<>,;:\"\\\x00-\x1f\x7f]+@[^\s@<>,;:\"\\\x00-\x1f\x7f]+")
_LONGEST_ADDRESS = 254  # RFC 5321 section 4.5.3.1.3, without the angle brackets


def usable_address(address: str) -> bool:
    """Whether mail could be sent there: one mailbox, nothing that would end a header."""
    return len(address) <= _LONGEST_ADDRESS and _ADDRESS.fullmatch(address) is not None


def _address(given: str) -> str:
    if not usable_address(given):
        raise ValueError("must be an e-mail address such as ops@example.org")
    return given


def checked_url(given: str) -> str:
    """A URL to send to; raises `ValueError`, which does not repeat it."""
    parts = urlsplit(given)
    if parts.scheme not in ("http", "https") or not parts.hostname or any(one.isspace() for one in given):
        raise ValueError("must be an http:// or https:// URL, or a reference to one such as file:/absolute/path")
    return given


def _url(given: str) -> str:
    return given if given.startswith(("file:/", "env:", "vault:")) else checked_url(given)


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class WebhookSettings(_Section):
    """Where JSON is sent to. `url` may be a reference, for a URL that is itself a secret; `secret` names the key that
    signs, after the specification Standard Webhooks."""

    url: Annotated[str, AfterValidator(_url)]
    secret: Reference | None = None


class EmailSettings(_Section):
    """The server that takes mail (RFC 6409), and from whom to whom."""

    server: Annotated[str, Field(min_length=1, max_length=253, pattern=r"^[A-Za-z0-9.:\-]+$")]
    port: Annotated[int, Field(ge=1, le=65_535)] = 587
    security: Literal["starttls", "tls", "none"] = "starttls"
    user: str | None = None
    password: Reference | None = None
    sender: Annotated[str, AfterValidator(_address)]
    to: tuple[Annotated[str, AfterValidator(_address)], ...] = ()
    administrators: bool = True

    @model_validator(mode="after")
    def _login(self) -> EmailSettings:
        if (self.user is None) != (self.password is None):
            raise ValueError("user and password belong together")
        if self.user is not None and self.security == "none":
            raise ValueError("a password is not sent without TLS: set security to starttls or tls")
        return self


class NotificationSettings(_Section):
    """When people are told, and by which ways besides the dashboard."""

    away_seconds: Annotated[int, Field(ge=0, le=30 * 86_400)] = 60
    # An order that a CA has had for that long is told; 0: never.
    order_hours: Annotated[int, Field(ge=0, le=24 * 365)] = 24
    renewal_days: Annotated[int, Field(ge=0, le=365)] = 7
    keep_days: Annotated[int, Field(ge=1, le=3650)] = 90
    ca_file: Path | None = None
    webhook: WebhookSettings | None = None
    email: EmailSettings | None = None
