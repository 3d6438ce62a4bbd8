"""Settings of a host that is reached over SSH. Secrets are references, host keys are never believed unseen."""

from __future__ import annotations

import re
import shlex
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator

from connectors.hosts.limits import SEARCH_PATH
from connectors.secrets import Reference

# What a line of sudoers can name without doubt (sudoers(5), "Other special characters and reserved words").
_SUDO_WORD = re.compile(r"[\w./@%+~:,= -]+")
_FINGERPRINT = re.compile(r"SHA256:[A-Za-z0-9+/]{43}")


def _absolute(given: str) -> str:
    if not given.startswith("/") or "\0" in given:
        raise ValueError("must be an absolute path on the gateway's host")
    return given


AbsolutePath = Annotated[str, AfterValidator(_absolute)]


class Login(BaseModel):
    """How one SSH server is reached, recognized and signed in to."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    address: str = Field(
        min_length=1, max_length=253, pattern=r"^[^\s-]\S*$", description="Name or IP address of the host."
    )
    port: int = Field(default=22, ge=1, le=65535, description="Port of its SSH server.")
    username: str = Field(min_length=1, max_length=64, description="The account that certgate signs in to.")
    known_hosts: AbsolutePath | None = Field(
        default=None,
        description="A file in the format of OpenSSH's known_hosts, on the gateway's host; @cert-authority lines too.",
    )
    host_keys: list[str] = Field(
        default=[],
        description="The host's own keys, in place of a file: public keys (`ssh-ed25519 AAAA…`) or their fingerprints "
        "(`SHA256:…`), as `ssh-keygen -lf` tells them on the host. Any other key is refused.",
    )
    private_key: Reference | None = Field(default=None, description="The private key to sign in with, as a reference.")
    passphrase: Reference | None = Field(default=None, description="The passphrase of that key, if it has one.")
    certificate: str | None = Field(
        default=None,
        description="The OpenSSH user certificate of that key: the line itself, or the path of its file on the "
        "gateway's host, which is read at each connection.",
    )
    agent_socket: AbsolutePath | None = Field(
        default=None,
        description="Socket of an ssh-agent on the gateway's host whose keys may be used. No agent is used otherwise.",
    )
    password: Reference | None = Field(
        default=None, description="The account's password, where nothing better can be had; tried after all keys."
    )

    @field_validator("host_keys")
    @classmethod
    def _key_or_fingerprint(cls, given: list[str]) -> list[str]:
        for line in given:
            if not _FINGERPRINT.fullmatch(line) and not re.match(r"(ssh|ecdsa|sk)-[a-z0-9@.-]+ [A-Za-z0-9+/]+", line):
                raise ValueError("must be public keys such as 'ssh-ed25519 AAAA…' or fingerprints such as 'SHA256:…'")
        return given


class SshSettings(Login):
    """Settings of a host over SSH."""

    service_address: str | None = Field(
        default=None,
        description="Where the host's services are reached from the gateway, if not at the same address as SSH.",
    )
    jump_hosts: list[Login] = Field(
        default=[],
        description="Hosts to go through, the first one first: each with its own address, username, host keys and key.",
    )
    sudo_files: list[str] = Field(
        default=[],
        description="Certificate and key files that only root may touch: certgate uses `sudo -n` for these, and for "
        "nothing else. `certgate endpoint sudoers` prints what sudo has to allow.",
    )
    sudo_commands: list[str] = Field(
        default=[],
        description="Commands of the product that only root may run, each in full as sudo is to allow it: "
        "`/usr/sbin/nginx -s reload`.",
    )
    sudo_makes_keys: bool = Field(
        default=False, description="Whether keys may be made for these files as root, beside them, on the host itself."
    )
    connect_timeout_seconds: float = Field(
        default=10, gt=0, le=300, description="The longest wait for a connection, from the first packet to signed in."
    )
    answer_timeout_seconds: float = Field(
        default=30, gt=0, le=3600, description="The longest wait for what is done with one file."
    )
    keepalive_seconds: float = Field(
        default=15, gt=0, le=3600, description="A silent connection is asked this often; after three times it is cut."
    )
    search_path: str = Field(default=SEARCH_PATH, description="PATH of the commands that are run there.")

    @field_validator("sudo_files")
    @classmethod
    def _plain_files(cls, given: list[str]) -> list[str]:
        for path in given:
            if not path.startswith("/") or path.endswith("/") or "//" in path or "/../" in f"{path}/":
                raise ValueError("must be absolute paths of files")
            if not _SUDO_WORD.fullmatch(path):
                raise ValueError("must be paths that sudoers can name: letters, digits and ./@%+~:,= -_")
        return given

    @field_validator("sudo_commands")
    @classmethod
    def _plain_commands(cls, given: list[str]) -> list[str]:
        for line in given:
            try:
                words = shlex.split(line)
            except ValueError:
                words = []
            if not words or not words[0].startswith("/") or not all(_SUDO_WORD.fullmatch(word) for word in words):
                raise ValueError("must be commands with absolute path, of words that sudoers can name")
        return given

    @property
    def hops(self) -> tuple[Login, ...]:
        """All servers on the way, this one last."""
        return (*self.jump_hosts, Login(**{name: getattr(self, name) for name in Login.model_fields}))
