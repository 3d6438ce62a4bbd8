"""How a process resolves credential references: files, its environment, and the Vault-compatible server that it knows.

That server is the one under ``[vault]`` in the process's settings file, else the one that the usual variables name:
``BAO_ADDR`` (or ``VAULT_ADDR``), ``…_NAMESPACE``, ``…_CACERT`` and ``…_TOKEN``; without a token there, the file that
the servers' own command-line client keeps it in (``~/.vault-token``). They are looked at when the first one is needed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from pathlib import Path

from pydantic import ValidationError

from connectors.errors import Permanent
from connectors.secrets import resolve
from connectors.vault import VaultSecrets
from worker.settings import VaultSettings, explain

_PREFIXES = ("BAO", "VAULT")
_TOKEN_FILE = ".vault-token"  # noqa: S105  (a file's name)

Resolver = Callable[[str], bytes]


@lru_cache(maxsize=8)
def resolver(settings: VaultSettings | None) -> Resolver:
    """Resolves references as this process may. The same settings give the same one: it remembers its sign-in."""
    return partial(resolve, from_vault=_Lazily(settings))


class _Lazily:
    """The secrets of the server, which is looked for when the first is asked for."""

    def __init__(self, settings: VaultSettings | None) -> None:
        self._settings = settings
        self._secrets: VaultSecrets | None = None

    def __call__(self, path: str, name: str) -> bytes:
        if self._secrets is None:
            found = self._settings or from_environment(os.environ, Path.home())
            if found is None:
                raise Permanent(
                    f"The credential vault:{path}#{name} is in a Vault-compatible server, and this process knows none: "
                    "set [vault] in its settings file, or BAO_ADDR in its environment."
                )
            self._secrets = VaultSecrets(found, resolve)
        return self._secrets(path, name)


def from_environment(variables: Mapping[str, str], user_home: Path) -> VaultSettings | None:
    """The server that the usual variables name, or None. Raises `Permanent` where they make no sense."""
    for prefix in _PREFIXES:
        if not variables.get(f"{prefix}_ADDR"):
            continue
        given = {"address": variables[f"{prefix}_ADDR"], "token": f"file:{user_home / _TOKEN_FILE}"}
        for key, name in (("namespace", "NAMESPACE"), ("ca_file", "CACERT")):
            if variables.get(f"{prefix}_{name}"):
                given[key] = variables[f"{prefix}_{name}"]
        if variables.get(f"{prefix}_TOKEN"):
            given["token"] = f"env:{prefix}_TOKEN"
        try:
            return VaultSettings.model_validate(given)
        except ValidationError as error:
            raise Permanent(f"{prefix}_ADDR and what belongs to it can't be used: {explain(error)}.") from None
    return None
