"""Keystore files as products for the conformance suite: one that nothing is known to serve, and one of a TLS server."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from connectors.archives.contract import Passphrases
from connectors.endpoints.contract import Material, Place
from connectors.endpoints.keystores import KeystoreEntry
from tests.support.pem import NAME, TlsServer
from tests.support.programs import program
from worker.playground import self_signed

STORE_WORD, KEY_WORD = "store pass", "key pass"
ALIAS, OTHER = "Web Server", "other"
Form = Literal["pkcs12", "jks"]


def entry(key_word: str = STORE_WORD) -> KeystoreEntry:
    """As the rigs' files are opened."""
    return KeystoreEntry(Passphrases(STORE_WORD, key_word), lambda: datetime.now(UTC))


def with_entry(content: bytes | None, form: Form, alias: str, name: str, key_word: str = STORE_WORD) -> bytes:
    """A keystore with a self-signed certificate under an alias, besides what is in it."""
    certificate, key = self_signed([name])
    place = Place("/", "/", form=form, alias=alias)
    return entry(key_word).write(content, place, Material(certificate.decode(), [], key))


class KeystoreFile:
    """A file with two keys, of which one is exchanged, and a hook; there is no process. A context manager."""

    names: Sequence[str] = (NAME,)

    def __init__(self, folder: Path, form: Form) -> None:
        self.type: str = form
        self.folder = folder
        self.file = folder / f"it's a.{form}"
        # Java's own PKCS#12 wants one passphrase for all.
        self.key_word = KEY_WORD if form == "jks" else STORE_WORD
        content = with_entry(None, form, OTHER, "other.example", self.key_word)
        self.file.write_bytes(with_entry(content, form, ALIAS, NAME, self.key_word))
        self.file.chmod(0o640)
        for name, word in (("store", STORE_WORD), ("key", self.key_word)):
            secret = folder / name
            secret.touch(0o600)
            secret.write_text(f"{word}\n")
        self._broken = folder / "broken"

    def __enter__(self) -> KeystoreFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.mend()

    @property
    def settings(self) -> dict[str, Any]:
        """Of the endpoint."""
        hook = f'[ ! -e "{self._broken}" ] || {{ echo "the hook will not" >&2; exit 4; }}'
        return {
            "path": str(self.file),
            "alias": ALIAS,
            "store_password": f"file:{self.folder}/store",
            "key_password": f"file:{self.folder}/key",
            "names": [NAME],
            "hook": [hook],
            "hook_shell": True,
        }

    @property
    def binding(self) -> str:
        """The alias."""
        return ALIAS

    def start(self) -> None:
        """There is nothing to start."""

    def stop(self) -> None:
        """There is nothing to stop."""

    def running(self) -> bool:
        """As far as there is something."""
        return True

    def break_next(self) -> None:
        """The hook fails."""
        self._broken.touch()

    def mend(self) -> None:
        """And works again."""
        self._broken.unlink(missing_ok=True)

    def files(self) -> Sequence[Path]:
        """The keystore."""
        return [self.file]


class ServedKeystore(TlsServer):
    """A PKCS#12 file whose hook lets OpenSSL take it apart for a TLS server. A context manager: it is started."""

    type = "pkcs12"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.keystore = folder / "keys.p12"
        self.keystore.write_bytes(with_entry(None, "pkcs12", ALIAS, NAME))
        self._word = folder / "word"
        self._word.touch(0o600)
        self._word.write_text(f"{STORE_WORD}\n")
        self.certificate = self.key = folder / "served.pem"
        convert = (
            f"'{program('openssl')}' pkcs12 -in \"$1\" -passin file:word -nodes -out new.pem && mv new.pem served.pem"
        )
        (folder / "convert.sh").write_text(f'cd "$(dirname "$0")"\n{convert}\n')
        (folder / "hook.sh").write_text(
            'cd "$(dirname "$0")"\n'
            '[ -e broken ] && { echo "the hook will not" >&2; exit 4; }\n'
            'sh ./convert.sh "$1" && kill -HUP $(cat pid)\n'
        )

    @property
    def settings(self) -> dict[str, Any]:
        """Of the endpoint."""
        return {
            "path": str(self.keystore),
            "store_password": f"file:{self._word}",
            "names": [NAME],
            "listeners": [f"127.0.0.1:{self.port}"],
            "hook": ["/bin/sh", str(self.folder / "hook.sh"), "{certificate}"],
        }

    @property
    def binding(self) -> str:
        """The alias of the only key."""
        return ALIAS

    def start(self) -> None:
        """With what is in the keystore."""
        command = ["/bin/sh", str(self.folder / "convert.sh"), str(self.keystore)]
        subprocess.run(command, check=True, capture_output=True)
        super().start()

    def files(self) -> Sequence[Path]:
        """The keystore."""
        return [self.keystore]
