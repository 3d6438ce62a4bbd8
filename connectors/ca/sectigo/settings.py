"""What can be configured of an account at Sectigo Certificate Manager."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from connectors.secrets import Reference

ADDRESS = "https://cert-manager.com"
TOKEN_URL = "https://auth.sso.sectigo.com/auth/realms/apiclients/protocol/openid-connect/token"  # noqa: S105
LARGEST_PAGE = 200
_LOOPBACK = ("127.0.0.1", "::1", "localhost")
_DOMAIN = re.compile(r"(?=.{1,200}$)([a-z0-9]([a-z0-9-]*[a-z0-9])?\.)+[a-z][a-z0-9-]*[a-z0-9]")
_MAILBOX = re.compile(r"[^@\s,;]+@[^@\s,;]+")

DcvMode = Literal["EMAIL", "CNAME", "HTTP", "HTTPS", "TXT", "AUTO"]
ChainFormat = Literal["pem", "pemia", "x509", "x509CO", "base64", "bin"]


def _address(given: str) -> str:
    parts = urlsplit(given)
    # What signs in goes with every request: never in the clear over a network.
    plain = parts.scheme == "http" and parts.hostname in _LOOPBACK
    if not (parts.scheme == "https" or plain) or not parts.hostname:
        raise ValueError("must begin with https:// and name a host")
    if parts.username or parts.password:
        raise ValueError("holds a credential: that is given as a reference of its own")
    if parts.query or parts.fragment or any(one.isspace() for one in given):
        raise ValueError("has more in it than scheme, host, port and path")
    return given.rstrip("/")


def _domain(given: str) -> str:
    if not _DOMAIN.fullmatch(given):
        raise ValueError("must be a domain name in small letters")
    return given


def _mailboxes(given: str) -> str:
    for one in given.split(","):
        if given and not _MAILBOX.fullmatch(one.strip()):
            raise ValueError("must be e-mail addresses with commas between them")
    return ",".join(one.strip() for one in given.split(",")) if given else ""


class Settings(BaseModel):
    """Where the account is, who signs in, and what all of its orders have in common."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    address: Annotated[str, AfterValidator(_address)] = Field(
        default=ADDRESS,
        description="The instance: https://cert-manager.com or one like it for password and certificate, "
        "https://admin.INSTANCE.sectigo.com for oauth2.",
    )
    api_version: Literal["v1", "v2"] = Field(default="v2", description="Which version of the SSL interface is spoken.")
    sign_in: Literal["password", "certificate", "oauth2"] = Field(
        default="password", description="How we sign in; each way needs the fields that its name is in."
    )
    login: str | None = Field(
        default=None, min_length=1, max_length=128, description="Login of the API user (password, certificate)."
    )
    customer_uri: str | None = Field(
        default=None,
        min_length=1,
        max_length=128,
        description="The customer's part of the console's address, /customer/THIS (password, certificate).",
    )
    password: Reference | None = Field(default=None, description="Password of the API user (password).")
    certificate_file: Path | None = Field(
        default=None, description="PEM file with the client certificate (certificate)."
    )
    key_file: Path | None = Field(
        default=None, description="PEM file with its key, which only its owner may read (certificate)."
    )
    key_passphrase: Reference | None = Field(
        default=None, description="Passphrase of the key file, if it has one (certificate)."
    )
    client_id: str | None = Field(
        default=None, min_length=1, max_length=256, description="Client ID from the console (oauth2)."
    )
    client_secret: Reference | None = Field(default=None, description="Client secret from the console (oauth2).")
    token_url: Annotated[str, AfterValidator(_address)] = Field(
        default=TOKEN_URL, description="Where tokens are given out (oauth2)."
    )
    ca_file: Path | None = Field(
        default=None, description="PEM file with roots that are trusted for the connection besides the public ones."
    )
    organization_id: int = Field(ge=1, description="The number of the organization or department to order for (orgId).")
    profile: str | None = Field(
        default=None,
        min_length=1,
        max_length=256,
        description="Number or name of the certificate profile (type) for orders that name none.",
    )
    term_days: int | None = Field(
        default=None,
        ge=1,
        le=3650,
        description="Term of orders that ask for no validity; default: the profile's longest.",
    )
    custom_fields: Mapping[str, str] = Field(
        default_factory=dict, description="Values of custom fields for orders that give none of their own."
    )
    dcv_mode: DcvMode | None = Field(
        default=None, description="How Sectigo shall validate domains that are not validated yet."
    )
    dcv_email: str | None = Field(
        default=None, max_length=256, description="The address that is asked where the mode is EMAIL."
    )
    comments: str = Field(default="", max_length=400, description="Stands in the comments of each order.")
    external_requester: Annotated[str, AfterValidator(_mailboxes)] = Field(
        default="",
        max_length=250,
        description="E-mail addresses, with commas between, that Sectigo tells about each order besides the requester.",
    )
    reference_domain: Annotated[str, AfterValidator(_domain)] = Field(
        default="certgate.invalid",
        description="Each order has the external requester REFERENCE@THIS, by which it is found again. "
        "Nothing is delivered to a name below .invalid (RFC 6761); it has to stay the same.",
    )
    approve: bool = Field(
        default=False, description="Approve orders at Sectigo as well, where whoever signs in may do that."
    )
    renew_in_order: bool = Field(
        default=True, description="Renew by Sectigo's own renewal (renewById); else each renewal is a new order."
    )
    replace_in_order: bool = Field(
        default=True, description="Replace within the order (replace); else each replacement is a new order."
    )
    chain_format: ChainFormat = Field(
        default="pem", description="The format that certificates are collected in; all are put in order here."
    )
    page_size: int = Field(default=LARGEST_PAGE, ge=1, le=LARGEST_PAGE, description="Lines of a list asked at a time.")

    @model_validator(mode="after")
    def _can_sign_in(self) -> Settings:
        needed = {
            "password": ("login", "password", "customer_uri"),
            "certificate": ("login", "customer_uri", "certificate_file", "key_file"),
            "oauth2": ("client_id", "client_secret"),
        }[self.sign_in]
        missing = [name for name in needed if getattr(self, name) is None]
        if missing:
            raise ValueError(f"sign_in {self.sign_in} needs {', '.join(missing)}")
        if self.dcv_mode == "EMAIL" and not self.dcv_email:
            raise ValueError("dcv_mode EMAIL needs dcv_email")
        return self

    @property
    def base_url(self) -> str:
        """Where the paths begin: signing in by certificate has a place of its own."""
        bare = self.address.removesuffix("/api").removesuffix("/private")
        return f"{bare}/private/api" if self.sign_in == "certificate" else f"{bare}/api"

    @property
    def signs_in_as(self) -> str:
        """Who signs in, for people."""
        if self.sign_in == "oauth2":
            return f"client {self.client_id} (oauth2)"
        return f"{self.login} of {self.customer_uri} ({self.sign_in})"
