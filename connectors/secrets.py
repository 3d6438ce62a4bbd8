"""Credential references: where a secret is, instead of the secret.

- ``file:/etc/certgate/passphrase`` – the content of a file (absolute path), without one trailing line end. Nobody but
  its owner may be able to read it. Files under ``/run/secrets`` are exempt: there a container engine or Kubernetes
  mounts secrets into a file system that only this container sees, with modes that it chooses itself (0444, as a rule).
- ``env:NAME`` – an environment variable. It is readable by every process of the same user and inherited by children;
  a file is better where there is a choice.
- ``vault:PATH#FIELD`` – a field of a key-value secret in a Vault-compatible server (`connectors/vault.py`), such as
  ``vault:secret/certgate/ca#password``. Which server, and how we sign in, is the process's own setting.

No message contains a secret; references are not secret.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, get_args

from pydantic import AfterValidator
from pydantic.fields import FieldInfo

from connectors.errors import Permanent

MAX_SECRET_BYTES = 65_536
CONTAINER_SECRETS = Path("/run/secrets")
FORMS = "file:/absolute/path, env:NAME or vault:PATH#FIELD"
_VAULT = r"vault:(?P<path>[\w.@~:+-]+(?:/[\w .@~:+-]+)+)#(?P<field>[\w .@~:+/-]{1,200})"
_FORM = re.compile(rf"file:/[^\0\n]+|env:[A-Za-z_][A-Za-z0-9_]*|{_VAULT}")


def _reference(given: str) -> str:
    # Settings are kept in the manager's database: the secret itself must never get there.
    if not _FORM.fullmatch(given) or (given.startswith("vault:") and _climbs(given)):
        raise ValueError(f"must be a reference ({FORMS}), not the secret itself")
    return given


def _climbs(given: str) -> bool:
    return any(part in (".", "..") for part in given.removeprefix("vault:").partition("#")[0].split("/"))


Reference = Annotated[str, AfterValidator(_reference)]
"""The field type for a credential in a connector's settings: a reference that `resolve` understands."""


def resolve(
    reference: str,
    environment: Mapping[str, str] | None = None,
    from_vault: Callable[[str, str], bytes] | None = None,
) -> bytes:
    """The secret that `reference` names. `environment` defaults to the one of this process; `from_vault` gives a field
    (path, name) of the Vault-compatible server that the process has, if it has one.

    It may block for as long as that server takes. Raises `Permanent`: an unknown form, nothing there, an empty secret,
    or a file that others may read; `Retryable`: the server is away or sealed.
    """
    scheme, _, rest = reference.partition(":")
    if scheme == "file":
        secret = _from_file(rest)
    elif scheme == "env":
        value = (os.environ if environment is None else environment).get(rest)
        if value is None:
            raise Permanent(f"The credential env:{rest} is not set in the environment of this process.")
        secret = os.fsencode(value)
    elif (asked := re.fullmatch(_VAULT, reference)) is not None and not _climbs(reference):
        if from_vault is None:
            raise Permanent(
                f"The credential {reference} is in a Vault-compatible server, and this process knows none: set [vault] "
                "in its settings file, or BAO_ADDR in its environment."
            )
        secret = from_vault(asked["path"], asked["field"])
    else:
        # Whoever typed the secret itself in place of a reference must not find it in a log.
        raise Permanent(f"A credential reference must look like {FORMS}.")
    if not secret:
        raise Permanent(f"The credential {reference} is empty.")
    return secret


def _from_file(name: str) -> bytes:
    path = Path(name)
    if not path.is_absolute():
        raise Permanent(f"The credential file:{name} must be named with its absolute path.")
    try:
        real = path.resolve(strict=True)
        # One descriptor for the check and for the reading; a FIFO must not hang us.
        descriptor = os.open(real, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except (OSError, RuntimeError, ValueError) as error:
        why = getattr(error, "strerror", None) or "the path can't be followed"
        raise Permanent(f"The credential file:{name} can't be read: {why}.") from None
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise Permanent(f"The credential file:{name} is not a regular file.")
        if found.st_mode & 0o077 and not real.is_relative_to(CONTAINER_SECRETS):
            mode = stat.S_IMODE(found.st_mode)
            raise Permanent(f"The credential file:{name} is open to others (mode {mode:04o}); run chmod 600 on it.")
        secret = b""
        while len(secret) <= MAX_SECRET_BYTES and (part := os.read(descriptor, MAX_SECRET_BYTES + 1)):
            secret += part
    except OSError as error:
        raise Permanent(f"The credential file:{name} can't be read: {error.strerror}.") from None
    finally:
        os.close(descriptor)
    if len(secret) > MAX_SECRET_BYTES:
        raise Permanent(f"The credential file:{name} is longer than {MAX_SECRET_BYTES} bytes.")
    return secret.removesuffix(b"\n").removesuffix(b"\r")


def is_reference(field: FieldInfo) -> bool:
    """Whether a field of settings holds a credential reference, optional or not; faces show it as one."""
    if any(isinstance(one, AfterValidator) and one.func is _reference for one in field.metadata):
        return True
    return any(
        isinstance(one, AfterValidator) and one.func is _reference
        for option in get_args(field.annotation)
        for one in getattr(option, "__metadata__", ())
    )
