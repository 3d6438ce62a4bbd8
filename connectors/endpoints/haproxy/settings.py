"""Settings of an HAProxy endpoint. The defaults fit a distribution's own haproxy, a master with workers."""

from __future__ import annotations

import ipaddress
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from connectors.endpoints.addresses import BareAddress


class HAProxySettings(BaseModel):
    """How to find and command one HAProxy 2.6 or newer on its host."""

    model_config = ConfigDict(extra="forbid")

    configuration: list[str] = Field(
        default=["/etc/haproxy/haproxy.cfg"],
        min_length=1,
        description="Configuration files, absolute paths, in the order in which HAProxy gets them as -f; of a folder "
        "all files *.cfg.",
    )
    command: list[str] = Field(
        default=["haproxy"],
        min_length=1,
        description='The haproxy program, with what must stand before it, such as ["sudo", "-n", "/usr/sbin/haproxy"].',
    )
    pid_file: str | None = Field(
        default=None,
        pattern="^/",
        description="File with the process id of the master. Default: pidfile in the configuration, else "
        "/run/haproxy.pid.",
    )
    update: Literal["reload", "runtime"] = Field(
        default="reload",
        description="How a new certificate comes into use: by a reload, which starts a new worker, or at runtime over "
        "the stats socket, which does not. The files are exchanged either way.",
    )
    runtime_socket: str | None = Field(
        default=None,
        min_length=1,
        description="For runtime: the stats socket with level admin, its absolute path on the host, or 127.0.0.1:PORT. "
        "Default: the first one in the configuration.",
    )
    reload_command: list[str] | None = Field(
        default=None,
        min_length=1,
        description='What makes HAProxy reload, such as ["systemctl", "reload", "haproxy"]. Default: SIGUSR2 to the '
        "master.",
    )
    address: BareAddress | None = Field(
        default=None,
        description="Address or name at which handshakes look, in place of those that bind lines name: for an HAProxy "
        "behind address translation.",
    )
    reload_timeout_seconds: float = Field(
        default=30.0, gt=0, le=600, description="How long HAProxy may take from the reload until it has a new worker."
    )

    @field_validator("configuration")
    @classmethod
    def _absolute(cls, value: list[str]) -> list[str]:
        if not all(path.startswith("/") for path in value):
            raise ValueError("absolute paths only")
        return value

    @field_validator("runtime_socket")
    @classmethod
    def _path_or_loopback(cls, value: str | None) -> str | None:
        if value is None or value.startswith("/"):
            return value
        address, _, port = value.rpartition(":")
        try:
            loopback = ipaddress.ip_address(address.strip("[]")).is_loopback
        except ValueError:
            loopback = address == "localhost"
        # The private key goes over it as it is.
        if not loopback or not port.isdigit():
            raise ValueError("an absolute path, or a loopback address with a port: what goes over it is not encrypted")
        return value
