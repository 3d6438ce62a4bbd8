"""The manager's key: one X25519 key that all gateways know this certgate by.

The private half is a file of the manager, made at the first start; the public half stands in the database, so that the
dashboard and the command line can make enrollment tokens without it. Managers that share a database share the file.
"""

from __future__ import annotations

import os
import secrets
import stat
from contextlib import suppress
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from sqlalchemy.exc import IntegrityError
from sqlmodel import Session

from model import access, channel
from model.database import Database
from model.errors import Conflict, InvalidInput, Unavailable
from model.tables import Fact

FILE_NAME = "manager.key"


def establish(database: Database, file: Path, *, given: bool = False) -> X25519PrivateKey:
    """The manager's key from its file, checked against the database; made where there is none yet.

    `given`: somebody names the file and brings it along; it is never made, and its mode is his affair (mounted secret).
    Raises `Unavailable` (missing, unreadable), `InvalidInput` (no key), `Conflict` (another manager's).
    """
    with database.read() as session:
        known = session.get(Fact, access.MANAGER_KEY)
    content = _read(file, given=given)
    if content is None:
        if known is not None:
            raise Unavailable(
                f"The manager's key {file} is missing, and gateways know this certgate by it: put back its backup."
            )
        if given:
            raise Unavailable(f"The manager's key {file} does not exist: make it, or let certgate make its own.")
        content = _make(file)
    try:
        key = channel.read_private(content)
    except InvalidInput as error:
        raise InvalidInput(f"The manager's key {file} can't be used. {error.message}") from None
    if _agreed(database, channel.public_text(key)):
        return key
    raise Conflict(
        f"The key {file} is not the one that the gateways of this database know: managers that share a database share "
        "their key (CERTGATE_MANAGER_KEY_FILE)."
    )


def public_key(session: Session) -> str:
    """The public half. Raises `Unavailable` where no manager of this release has run yet."""
    fact = session.get(Fact, access.MANAGER_KEY)
    if fact is None:
        raise Unavailable(
            "This certgate's manager has no key yet: start it (`certgate up` or `certgate manager`), then ask again."
        )
    return fact.value


def _agreed(database: Database, public: str) -> bool:
    """Whether this is the key that the database knows; the first one is kept."""
    try:
        with database.write() as session:
            fact = session.get(Fact, access.MANAGER_KEY)
            if fact is not None:
                return fact.value == public
            session.add(Fact(name=access.MANAGER_KEY, value=public))
            return True
    except IntegrityError:
        # Another manager was quicker.
        return _agreed(database, public)


def _read(file: Path, *, given: bool) -> bytes | None:
    try:
        mode = stat.S_IMODE(file.stat().st_mode)
        content = file.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Unavailable(f"The manager's key {file} can't be read: {error.strerror}.") from None
    if mode & 0o077 and not given:
        raise Unavailable(f"The manager's key {file} is open to others (mode {mode:04o}): run chmod 600 on it.")
    return content


def _make(file: Path) -> bytes:
    """Write a new key, whole or not at all; of two processes that do, one wins and both read its key."""
    unfinished = file.with_name(f".{file.name}-{secrets.token_hex(8)}")
    try:
        descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as stream:
                stream.write(channel.private_pem(channel.new_key()))
                stream.flush()
                os.fsync(stream.fileno())
            with suppress(FileExistsError):
                os.link(unfinished, file)
        finally:
            unfinished.unlink(missing_ok=True)
        return file.read_bytes()
    except OSError as error:
        raise Unavailable(f"The manager's key {file} can't be made: {error.strerror}.") from None
