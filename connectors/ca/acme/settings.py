"""What can be configured of an ACME CA."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from connectors.ca.acme.challenges.contract import Method
from connectors.ca.acme.challenges.dns01_lookup import ServerAddress
from connectors.ca.acme.challenges.dns01_update import TsigAlgorithm, is_key_name
from connectors.secrets import Reference

_MAIL = re.compile(r"[^\s@,:<>()]+@[A-Za-z0-9.-]+")


def _directory(url: str) -> str:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ValueError("must be an https:// address") from None
    if parts.scheme != "https" or not parts.hostname or parts.username or parts.password or parts.fragment:
        raise ValueError("must be an https:// address without a credential in it")
    # The server writes its own addresses without the usual port, and they are compared with this one.
    return url if port != 443 else parts._replace(netloc=parts.netloc.removesuffix(":443")).geturl()


def _mail(address: str) -> str:
    address = address.removeprefix("mailto:")
    if not _MAIL.fullmatch(address) or not address.isascii():
        raise ValueError(f"{address!a} is no e-mail address")
    return address


def _listening(given: str) -> str:
    address, _, port = given.rpartition(":")
    try:
        ipaddress.ip_address(address.removeprefix("[").removesuffix("]"))
        fits = port.isascii() and port.isdigit() and 0 < int(port) < 65_536
    except ValueError:
        fits = False
    if not fits:
        raise ValueError("must be an address of this host and a port, such as 0.0.0.0:80 or [::]:80")
    return given


def _absolute(path: Path) -> Path:
    if not path.is_absolute():
        raise ValueError("must be an absolute path")
    return path


def _key_name(name: str) -> str:
    if not is_key_name(name):
        raise ValueError(f"{name[:80]!a} is no name of a TSIG key")
    return name


DirectoryUrl = Annotated[str, AfterValidator(_directory)]
MailAddress = Annotated[str, AfterValidator(_mail)]
Listening = Annotated[str, AfterValidator(_listening)]
AbsolutePath = Annotated[Path, AfterValidator(_absolute)]
KeyName = Annotated[str, AfterValidator(_key_name)]


class Settings(BaseModel):
    """Settings of a CA that speaks ACME (RFC 8555)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    directory_url: DirectoryUrl = Field(
        description="Address of the CA's directory, such as https://acme-v02.api.letsencrypt.org/directory."
    )
    contact: tuple[MailAddress, ...] = Field(default=(), description="E-mail addresses at which the CA reaches you.")
    terms_agreed: bool = Field(
        default=False, description="You have read the CA's terms of service and agree to them; most CAs ask for that."
    )
    account_key: Reference | None = Field(
        default=None,
        description="Private key of an ACME account, PEM. Default: one is made once and kept in the home of the "
        "process that talks to the CA.",
    )
    eab_key_id: str | None = Field(
        default=None,
        min_length=1,
        max_length=500,
        description="Key identifier of External Account Binding, where the CA gave you one.",
    )
    eab_hmac_key: Reference | None = Field(
        default=None, description="The HMAC key that belongs to it, base64url, as the CA gave it."
    )
    eab_hmac_algorithm: Literal["HS256", "HS384", "HS512"] = Field(
        default="HS256", description="How the binding is signed."
    )
    http01_listen: Listening | None = Field(
        default=None,
        description="http-01: address and port where this process answers while a CA looks, such as 0.0.0.0:80. The CA "
        "asks port 80 of the name.",
    )
    http01_web_root: AbsolutePath | None = Field(
        default=None,
        description="http-01: folder that a web server serves for the names; answers are written below it into "
        ".well-known/acme-challenge.",
    )
    tls_alpn01_listen: Listening | None = Field(
        default=None,
        description="tls-alpn-01: address and port where this process answers while a CA looks, such as 0.0.0.0:443. "
        "The CA asks port 443 of the name.",
    )
    dns01_server: ServerAddress | None = Field(
        default=None,
        description="dns-01: DNS server that takes dynamic updates (RFC 2136), such as ns1.example.com or "
        "192.0.2.1:5353. Default: the primary that the zone names, where a key is set.",
    )
    dns01_key_name: KeyName | None = Field(
        default=None, description="dns-01: name of the TSIG key that updates are signed with, as the DNS server has it."
    )
    dns01_key_secret: Reference | None = Field(
        default=None, description="dns-01: the secret of that key, Base64 as tsig-keygen prints it."
    )
    dns01_key_algorithm: TsigAlgorithm = Field(
        default=TsigAlgorithm.SHA256, description="dns-01: the algorithm of that key."
    )
    dns01_ttl_seconds: int = Field(
        default=60, ge=0, le=86_400, description="dns-01: time to live of the records that updates add."
    )
    dns01_program: AbsolutePath | None = Field(
        default=None,
        description="dns-01: your own program in place of dynamic updates, called without a shell as PROGRAM "
        "present|remove NAME VALUE.",
    )
    dns01_program_seconds: int = Field(
        default=120, ge=1, le=3600, description="dns-01: a call of the program that takes longer is ended."
    )
    dns01_resolvers: tuple[ServerAddress, ...] = Field(
        default=(),
        description="dns-01: resolvers that tell zones and aliases. Default: those of this machine.",
    )
    dns01_check_servers: tuple[ServerAddress, ...] = Field(
        default=(),
        description="dns-01: servers that must show a record before the CA is asked to look. Default: all that the "
        "zone's NS records name.",
    )
    dns01_timeout_seconds: int = Field(
        default=10, ge=1, le=120, description="dns-01: how long one answer of a DNS server is waited for."
    )
    challenges: tuple[Method, ...] = Field(
        default=(), description="Methods of proof in the order they are preferred. Default: all that are set up."
    )
    validation_tries: int = Field(
        default=3,
        ge=1,
        le=10,
        description="How often a proof may fail, each time with a new order, before a person is asked.",
    )
    validation_pause_seconds: int = Field(
        default=60, ge=0, le=86_400, description="Pause after the first of these failures; longer after each more."
    )
    preferred_chain: str | None = Field(
        default=None,
        max_length=200,
        description="Common name of the root (or an intermediate) that the chain leads to, of those the CA offers.",
    )
    default_profile: str | None = Field(
        default=None, max_length=200, description="Profile of the CA for orders that name none; default: the CA's own."
    )
    send_validity: bool = Field(
        default=False,
        description="Ask for the validity of the certificate profile (notAfter). Most public CAs refuse that.",
    )
    ca_file: AbsolutePath | None = Field(
        default=None, description="Root (PEM) that the CA's own address is trusted by, besides the public ones."
    )

    @model_validator(mode="after")
    def _together(self) -> Settings:
        if (self.eab_key_id is None) != (self.eab_hmac_key is None):
            raise ValueError("eab_key_id and eab_hmac_key belong together")
        if self.http01_listen and self.http01_web_root:
            raise ValueError("http01_listen and http01_web_root exclude each other")
        if (self.dns01_key_name is None) != (self.dns01_key_secret is None):
            raise ValueError("dns01_key_name and dns01_key_secret belong together")
        if self.dns01_program and (self.dns01_server or self.dns01_key_name):
            raise ValueError("dns01_program excludes dns01_server and dns01_key_name")
        for method in self.challenges:
            if method not in self.set_up:
                raise ValueError(f"challenges names {method}, and nothing is set up for it")
        return self

    @property
    def set_up(self) -> tuple[Method, ...]:
        """The methods for which there is something to answer with."""
        there = {
            Method.HTTP_01: self.http01_listen or self.http01_web_root,
            Method.TLS_ALPN_01: self.tls_alpn01_listen,
            Method.DNS_01: self.dns01_server or self.dns01_key_name or self.dns01_program,
        }
        return tuple(method for method, how in there.items() if how)

    @property
    def methods(self) -> tuple[Method, ...]:
        """The methods to use, the preferred one first."""
        return self.challenges or self.set_up
