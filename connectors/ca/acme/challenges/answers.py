"""Answers that a listener of ours gives, one file each, in a folder that all ACME CAs of one process's home share.

So it does not matter which of them listens, or whether the process that put the answer there is still alive.
"""

from __future__ import annotations

import hashlib
import time

from connectors.ca.acme.challenges.contract import Challenge, Method
from connectors.folders import PrivateFolder

# Longer than any CA looks; what is older was left by a process that died for good.
LIFE_SECONDS = 24 * 3600
# How long one order may keep others of the same name waiting; those who still work on theirs put it there anew.
TURN_SECONDS = 600
RENEWED_SECONDS = 60
_LARGEST = 4096


class Answers:
    """The answers of one method. All methods block: call from a thread."""

    def __init__(self, folder: PrivateFolder, method: Method) -> None:
        self._folder, self._suffix = folder, f".{method}"

    def put(self, key: str, challenge: Challenge) -> None:
        """Answer questions for `key` with the challenge's key authorization, unless they are answered with another
        one at present."""
        self._folder.prepare()
        with self._folder.lock():
            there = self.get(key)
            if there is not None:
                fresh = RENEWED_SECONDS if there == challenge.key_authorization else TURN_SECONDS
                if self._age(self._name(key)) < fresh:
                    return
            self._folder.write(self._name(key), challenge.key_authorization.encode())

    def get(self, key: str) -> str | None:
        """The key authorization that was put there for `key`."""
        found = self._folder.read(self._name(key), _LARGEST)
        return None if found is None else found.decode()

    def drop(self, key: str, challenge: Challenge) -> None:
        """Take back what `put` put there, and nothing else."""
        self._folder.prepare()
        with self._folder.lock():
            if self.get(key) == challenge.key_authorization:
                self._folder.delete(self._name(key))

    def any(self) -> bool:
        """Whether a question may come. Forgets what is too old to be asked for."""
        self._folder.prepare()
        found = False
        with self._folder.lock():
            for name in self._folder.names(self._suffix):
                if self._age(name) > LIFE_SECONDS:
                    self._folder.delete(name)
                else:
                    found = True
        return found

    def _age(self, name: str) -> float:
        return time.time() - (self._folder.path / name).stat().st_mtime

    def _name(self, key: str) -> str:
        # What is asked for comes from strangers.
        return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()[:40] + self._suffix
