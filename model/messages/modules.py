"""The sync of a gateway's modules: the manager's steps and the two of the gateway.

Documents are those of `model/rules/modules.py`: settings and references to credentials, never a secret.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class ConnectorVersion:
    """A connector that a gateway has."""

    kind: str
    name: str
    title: str
    version: str


@dataclass(frozen=True)
class WriteModules:
    """Change the gateway's file if its digest is still `expected`: set these entries (None takes one out), and write
    the revision."""

    gateway_id: int
    expected: str
    revision: int
    changes: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class SyncStart:
    """Carry out the order of that number, which stands in the manager's records. `resume` is what was taken over at the
    manager by an earlier run of the same order and still has to be written at the gateway."""

    gateway_id: int
    number: int
    resume: WriteModules | None = None


@dataclass(frozen=True)
class AdmitSync:
    """May the order go on, and where is its gateway? `waiting` tells that the gateway did not answer so far, `writing`
    that the manager's side is done."""

    gateway_id: int
    number: int
    waiting: bool = False
    writing: bool = False


@dataclass(frozen=True)
class SyncAdmission:
    """The task queue of the gateway's live channel. `ended` says why the order does not go on."""

    queue: str = ""
    gateway: str = ""
    ended: str | None = None


@dataclass(frozen=True)
class ReadModules:
    """Read the file and say which connectors there are."""

    gateway_id: int


@dataclass(frozen=True)
class ModulesRead:
    """What the gateway's file says. `revision` is None where there is no file; `unusable` says of keys what is wrong
    with them, and where in the file."""

    revision: int | None
    digest: str
    document: dict[str, Any] = field(default_factory=dict)
    unusable: dict[str, str] = field(default_factory=dict)
    connectors: list[ConnectorVersion] = field(default_factory=list)


@dataclass(frozen=True)
class JudgeModules:
    """Compare what was read with the manager's records, and take over what the order says."""

    gateway_id: int
    number: int
    read: ModulesRead


@dataclass(frozen=True)
class ModulesJudged:
    """`write` is what has to be changed at the gateway; None: the order has come to its end, in `state`."""

    state: str
    message: str
    write: WriteModules | None = None


@dataclass(frozen=True)
class ModulesWritten:
    """`written` is false where the file was changed by somebody else since it was read; `digest` is the file's now.
    `refused` says of keys why this gateway can't have them; all others were written."""

    written: bool
    digest: str
    refused: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class SettleModules:
    """The gateway has answered: keep what both sides agree on now."""

    gateway_id: int
    number: int
    written: ModulesWritten


@dataclass(frozen=True)
class FailSync:
    """A step failed for good."""

    gateway_id: int
    number: int
    message: str


@dataclass(frozen=True)
class SyncResult:
    """How an order ended."""

    state: str
    message: str


@dataclass(frozen=True)
class SyncView:
    """Where a running order stands."""

    gateway_id: int
    number: int
    gateway: str
    waiting_for: str
