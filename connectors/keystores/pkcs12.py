"""A keystore that is a PKCS#12 file (RFC 7292), as Java, OpenSSL and Windows read and write it."""

from __future__ import annotations

from connectors.archives.formats import PKCS12
from connectors.keystores.files import FileKeystore, FileSettings
from connectors.registry import ConnectorType, Surroundings


class Settings(FileSettings):
    """Where the file is and what opens it. Java wants the keys to have the file's own passphrase."""


def _open(settings: Settings, surroundings: Surroundings) -> FileKeystore:
    return FileKeystore(settings, surroundings, PKCS12)


CONNECTOR = ConnectorType(name="pkcs12", title="PKCS#12 file", settings=Settings, open=_open)
