"""Settings of a Tomcat endpoint. Folders have defaults that fit Debian's own Tomcat; how it is made to load a new
certificate has to be said."""

from __future__ import annotations

import ipaddress
import posixpath
from pathlib import Path
from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from connectors.endpoints.addresses import BareAddress
from connectors.endpoints.hook import HookSettings
from connectors.secrets import Reference


class TomcatSettings(HookSettings):
    """How to find one Tomcat on its host, and how to make it load a certificate."""

    base: str = Field(
        default="/var/lib/tomcat10", pattern="^/", description="CATALINA_BASE, the folder of this very Tomcat."
    )
    home: str | None = Field(
        default=None, pattern="^/", description="CATALINA_HOME, where the program is. Default: the base."
    )
    configuration: str | None = Field(
        default=None, pattern="^/", description="The server.xml, absolute path. Default: conf/server.xml in the base."
    )
    properties: list[str] = Field(
        default=[],
        max_length=200,
        description='System properties that server.xml uses as ${name}, such as ["tls.folder=/srv/tls"], where they '
        "are not in conf/catalina.properties.",
    )
    keystore_password: Reference | None = Field(
        default=None,
        description="Reference of the keystores' passphrase, where it can't be read from server.xml or the file that "
        "is named there.",
    )
    key_password: Reference | None = Field(
        default=None,
        description="Reference of the keys' own passphrase, where it is another than the keystore's and can't be read "
        "from server.xml.",
    )
    reload: Literal["manager", "jmx", "hook"] = Field(
        default="manager",
        description="What makes Tomcat load the certificate: its manager application (role manager-script), that "
        "application's JMX proxy (role manager-jmx), or the hook alone, such as a restart.",
    )
    manager_url: str = Field(
        default="http://127.0.0.1:8080/manager",
        description="Where the manager application is, as the gateway reaches it. http:// only on the loopback "
        "interface.",
    )
    manager_user: str | None = Field(
        default=None, min_length=1, max_length=200, pattern="^[^:\0-\x1f]+$", description="The manager's user."
    )
    manager_password: Reference | None = Field(default=None, description="Reference of that user's password.")
    manager_ca_file: Path | None = Field(
        default=None, description="Certificates (PEM, on the gateway) that are trusted for the manager's address too."
    )
    address: BareAddress | None = Field(
        default=None,
        description="Address or name at which handshakes look, in place of those that connectors name: for a Tomcat "
        "behind address translation.",
    )
    start_timeout_seconds: float = Field(
        default=60.0, gt=0, le=600, description="How long Tomcat may take after a restart until it accepts connections."
    )

    @field_validator("properties")
    @classmethod
    def _pairs(cls, value: list[str]) -> list[str]:
        for one in value:
            if not one.partition("=")[0].strip() or "=" not in one:
                raise ValueError(f"{one[:80]!a} must look like NAME=VALUE")
        return value

    @field_validator("manager_url")
    @classmethod
    def _confidential(cls, value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise ValueError("must begin with http:// or https://, name a host, and have no query")
        if parts.username or parts.password:
            raise ValueError("holds a credential: give the user and a reference of the password instead")
        if parts.scheme == "http" and not _is_loopback(parts.hostname):
            raise ValueError("would send the password in the clear: use https://, or http:// to the loopback interface")
        return value.rstrip("/")

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.reload == "hook" and self.hook is None:
            raise ValueError("reload by hook needs a hook, such as a restart")
        if self.reload != "hook" and (self.manager_user is None or self.manager_password is None):
            raise ValueError(f"reload by {self.reload} needs manager_user and manager_password")
        return self

    @property
    def server_xml(self) -> str:
        """Path of the configuration."""
        return self.configuration or posixpath.join(self.base, "conf", "server.xml")

    @property
    def own_properties(self) -> dict[str, str]:
        """`properties` as a mapping, with Tomcat's two folders."""
        given = dict(one.split("=", 1) for one in self.properties)
        return {**given, "catalina.base": self.base, "catalina.home": self.home or self.base}


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"
