"""A keystore that is a PKCS#12 file (RFC 7292), as Java, OpenSSL and Windows read and write it."""

from __future__ import annotations

from connectors.keystores.files import FileKeystore, FileSettings, Format
from connectors.keystores.pkcs12.archive import Pkcs12Archive
from connectors.registry import ConnectorType, Surroundings

FORMAT = Format("PKCS#12", Pkcs12Archive.read, Pkcs12Archive.new)


class Settings(FileSettings):
    """Where the file is and what opens it. Java wants the keys to have the file's own passphrase."""


def _open(settings: Settings, surroundings: Surroundings) -> FileKeystore:
    return FileKeystore(settings, surroundings, FORMAT)


CONNECTOR = ConnectorType(name="pkcs12", title="PKCS#12 file", settings=Settings, open=_open)
