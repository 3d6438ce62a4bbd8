"""Settings of an Apache endpoint. The defaults fit Debian's apache2; another layout names its configuration."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, field_validator

from connectors.endpoints.addresses import BareAddress

DEBIAN = "/etc/apache2/"


class ApacheSettings(BaseModel):
    """How to find and command one Apache httpd 2.4 on its host."""

    model_config = ConfigDict(extra="forbid")

    configuration: str = Field(
        default="/etc/apache2/apache2.conf",
        pattern="^/",
        description="Main configuration file, absolute path. Debian: /etc/apache2/apache2.conf, Red Hat: "
        "/etc/httpd/conf/httpd.conf.",
    )
    server_root: str | None = Field(
        default=None,
        pattern="^/",
        description="What Apache is started with as -d; relative paths start there unless the configuration has a "
        "ServerRoot. Default: below /etc/apache2 that folder, below /etc/httpd that one, else the configuration's own.",
    )
    environment: str | None = Field(
        default=None,
        pattern="^/",
        description="File with the variables that Apache is started with, lines of export NAME=VALUE. Default: envvars "
        "beside the configuration, if there is one.",
    )
    defines: list[str] = Field(
        default=[],
        description="Names that Apache is started with as -D, for IfDefine.",
    )
    command: list[str] | None = Field(
        default=None,
        min_length=1,
        description='The program, with what must stand before it, such as ["sudo", "-n", "/usr/sbin/apache2ctl"]. '
        "Default: apache2ctl below /etc/apache2, which reads envvars, else httpd.",
    )
    reload_command: list[str] | None = Field(
        default=None,
        min_length=1,
        description="What makes Apache read its configuration again without dropping a connection, such as "
        '["systemctl", "reload", "httpd"]. Default: the command with -k graceful.',
    )
    address: BareAddress | None = Field(
        default=None,
        description="Address or name at which handshakes look, in place of those in the configuration: for an Apache "
        "behind address translation.",
    )
    reload_timeout_seconds: float = Field(
        default=30.0, gt=0, le=600, description="How long Apache may take from the order until it has new processes."
    )

    @field_validator("defines")
    @classmethod
    def _names(cls, value: list[str]) -> list[str]:
        for name in value:
            if not name or not all(character.isalnum() or character in "_-." for character in name):
                raise ValueError("names of letters, digits and _ - . only")
        return value

    @property
    def program(self) -> list[str]:
        """The program with what stands before it."""
        return self.command or (["apache2ctl"] if self.configuration.startswith(DEBIAN) else ["httpd"])
