"""Credential references: where a secret is, instead of the secret.

- ``file:/etc/certgate/passphrase`` – the content of a file (absolute path), without one trailing line end. Nobody but
  its owner may be able to read it. Files under ``/run/secrets`` are exempt: there a container engine or Kubernetes
  mounts secrets into a file system that only this container sees, with modes that it chooses itself (0444, as a rule).
- ``env:NAME`` – an environment variable. It is readable by every process of the same user and inherited by children;
  a file is better where there is a choice.

No message contains a secret; references are not secret.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, get_args

from pydantic import AfterValidator
from pydantic.fields import FieldInfo

from connectors.errors import Permanent

MAX_SECRET_BYTES = 65_536
CONTAINER_SECRETS = Path("/run/secrets")
_FORM = re.compile(r"file:/[^\0\n]+|env:[A-Za-z_][A-Za-z0-9_]*")


def _reference(given: str) -> str:
    # Settings are kept in the manager's database: the secret itself must never get there.
    if not _FORM.fullmatch(given):
        raise ValueError("must be a reference such as file:/absolute/path or env:NAME, not the secret itself")
    return given


Reference = Annotated[str, AfterValidator(_reference)]
"""The field type for a credential in a connector's settings: a reference that `resolve` understands."""


def resolve(reference: str, environment: Mapping[str, str] | None = None) -> bytes:
    """The secret that `reference` names. `environment` defaults to the one of this process.

    Raises `Permanent`: an unknown form, nothing there, an empty secret, or a file that others may read.
    """
    scheme, _, rest = reference.partition(":")
    if scheme == "file":
        secret = _from_file(rest)
    elif scheme == "env":
        value = (os.environ if environment is None else environment).get(rest)
        if value is None:
            raise Permanent(f"The credential env:{rest} is not set in the environment of this process.")
        secret = os.fsencode(value)
    else:
        # Whoever typed the secret itself in place of a reference must not find it in a log.
        raise Permanent("A credential reference must look like file:/absolute/path or env:NAME.")
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
