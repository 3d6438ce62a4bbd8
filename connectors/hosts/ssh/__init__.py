"""Hosts over SSH (asyncssh): files by SFTP and scripts, commands, keys made there, sudo with an exact list."""

from __future__ import annotations

from connectors.hosts.ssh.host import SshHost
from connectors.hosts.ssh.settings import SshSettings
from connectors.registry import ConnectorType, Surroundings


def _open(settings: SshSettings, surroundings: Surroundings) -> SshHost:
    return SshHost(settings, surroundings.secret)


CONNECTOR: ConnectorType[SshSettings, SshHost] = ConnectorType(
    name="ssh", title="SSH", settings=SshSettings, open=_open
)
