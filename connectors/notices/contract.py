"""What is told, and what a way of telling it can do."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

from connectors.errors import Permanent


@dataclass(frozen=True)
class Notice:
    """Something to tell. `key` is the same at each attempt, so that a receiver can drop what it has already; `kind` is
    a word such as ``gateway.away``. No field holds a secret."""

    key: str
    number: int
    kind: str
    subject: str
    text: str
    created_at: datetime
    gateway_id: int | None = None
    gateway: str | None = None
    organization: str | None = None
    department: str | None = None
    link: str | None = None


class Way(Protocol):
    """A way of telling. `address` is who is told, where the way has several."""

    async def send(self, notice: Notice, address: str) -> None:
        """Hand the notice over. It may be handed over twice. Raises `Retryable` or `Permanent`, without a secret."""
        ...

    async def check(self) -> str:
        """Try everything but sending; a sentence that says what was found. Raises as `send`."""
        ...


def trust(ca_file: Path | None) -> ssl.SSLContext:
    """TLS as this machine trusts it, and besides the certificates in `ca_file`. Raises `Permanent`."""
    context = ssl.create_default_context()
    if ca_file is not None:
        try:
            context.load_verify_locations(cafile=ca_file)
        except (OSError, ssl.SSLError) as error:
            why = error.strerror if isinstance(error, FileNotFoundError | PermissionError) else "no certificates in it"
            raise Permanent(f"The file {ca_file} (notifications.ca_file) can't be used: {why}.") from None
    return context
