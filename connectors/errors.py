"""The outcomes a connector may raise. There are four, and `activities/failures.py` maps each to Temporal in one place.

ConnectorError
├── Retryable        the environment failed (connection cut, CA busy); the same call may succeed later
├── Pending          nothing failed: the work goes on at the other side; ask again after `after`
├── Permanent        nothing in the environment will mend it; a person must change something first
│   ├── KeyMissing       the keystore has no key under that alias (any more)
│   ├── Rejected         the CA refused the order for good
│   ├── ActionRequired   a person must do one named thing at the endpoint, then the step can be repeated
│   └── RolledBack       an install failed, and the endpoint was put back and proved as it was before
├── RestoreFailed    an install failed and putting back failed too: the one outcome that must wake somebody
└── AuthorityFault   the CA answered what no CA should (wrong certificate, broken encoding); never re-ordered by itself

Messages are one sentence for a person. They never contain a key, a passphrase or a credential.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta


class ConnectorError(Exception):
    """Base of the tree above."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class Retryable(ConnectorError):
    """The environment failed; `after` is the other side's own hint (Retry-After), if it gave one."""

    def __init__(self, message: str, after: timedelta | None = None) -> None:
        super().__init__(message)
        self.after = after


@dataclass(frozen=True)
class NameValidation:
    """Where the CA stands with the proof that a name is ours (ACME authorization, DCV). `state` is ``pending``,
    ``valid`` or ``failed``; `method` the way of proof (``dns-01``, ``CNAME``); `missing` says what has to be done for
    it by a person or is awaited, `error` what the CA said was wrong. Nothing in it is secret."""

    name: str
    state: str
    method: str = ""
    missing: str = ""
    error: str = ""
    until: datetime | None = None


class Pending(ConnectorError):
    """The order is known and being worked on; ask again after `after` (the CA's own hint), if given. `validations` tell
    which names the CA has proof for."""

    def __init__(
        self, message: str, after: timedelta | None = None, validations: Sequence[NameValidation] = ()
    ) -> None:
        super().__init__(message)
        self.after = after
        self.validations = list(validations)


class Permanent(ConnectorError):
    """Will not succeed until a person changes something."""


class KeyMissing(Permanent):
    """The keystore has no key under the alias that is asked for; the keystore's backup may have it."""


class Rejected(Permanent):
    """The CA looked at the order and will never issue it; the message has its reason."""


class ActionRequired(Permanent):
    """A person must do what the message says; the step can then be repeated as it is."""


@dataclass(frozen=True)
class Step:
    """One step of an installation as it was carried out: its name and what the endpoint said (no secrets)."""

    name: str
    outcome: str


class RolledBack(Permanent):
    """The install failed; everything was put back byte for byte. `steps` tells what was tried, in order.

    `served` is the SHA-256 fingerprint that the endpoint served after it was put back, or None if it served nothing
    before either.
    """

    def __init__(self, message: str, steps: list[Step], served: str | None) -> None:
        super().__init__(message)
        self.steps = steps
        self.served = served


class RestoreFailed(ConnectorError):
    """The install failed and so did putting back. `steps` tells what was tried, in order."""

    def __init__(self, message: str, steps: list[Step]) -> None:
        super().__init__(message)
        self.steps = steps


class AuthorityFault(ConnectorError):
    """The CA's answer is wrong in itself. It is told loudly and never answered with a new order."""
