"""A keystore that is a Java keystore file of the old kind, JKS."""

from __future__ import annotations

from pydantic import Field

from connectors.archives.formats import JKS
from connectors.keystores.files import FileKeystore, FileSettings
from connectors.registry import ConnectorType, Surroundings
from connectors.secrets import Reference


class Settings(FileSettings):
    """Where the file is and what opens it and the keys in it."""

    key_passphrase: Reference | None = Field(
        default=None, description="Reference of the keys' own passphrase, where it is another than the file's."
    )


def _open(settings: Settings, surroundings: Surroundings) -> FileKeystore:
    return FileKeystore(settings, surroundings, JKS, settings.key_passphrase)


CONNECTOR = ConnectorType(name="jks", title="Java keystore (JKS)", settings=Settings, open=_open)
