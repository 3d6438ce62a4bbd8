"""Settings of an nginx endpoint. All have defaults that fit a distribution's own nginx."""

from __future__ import annotations

from datetime import timedelta

from pydantic import BaseModel, ConfigDict, Field

from connectors.endpoints.addresses import BareAddress


class NginxSettings(BaseModel):
    """How to find and command one nginx on its host."""

    model_config = ConfigDict(extra="forbid")

    configuration: str = Field(
        default="/etc/nginx/nginx.conf", pattern="^/", description="Main configuration file, absolute path."
    )
    prefix: str | None = Field(
        default=None,
        pattern="^/",
        description="What nginx is started with as -p; relative paths of pid file and logs start there. "
        "Default: what nginx was built with.",
    )
    command: list[str] = Field(
        default=["nginx"],
        min_length=1,
        description='The nginx program, with what must stand before it, such as ["sudo", "-n", "/usr/sbin/nginx"].',
    )
    reload_command: list[str] | None = Field(
        default=None,
        min_length=1,
        description='What makes nginx reload, such as ["systemctl", "reload", "nginx"]. Default: the command with '
        "-s reload.",
    )
    address: BareAddress | None = Field(
        default=None,
        description="Address or name at which handshakes look, in place of those that listen directives name: for an "
        "nginx behind address translation.",
    )
    reload_timeout_seconds: float = Field(
        default=15.0, gt=0, le=600, description="How long nginx may take from the reload until its old workers retire."
    )

    @property
    def reload_timeout(self) -> timedelta:
        """The same as a duration."""
        return timedelta(seconds=self.reload_timeout_seconds)
