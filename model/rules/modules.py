"""Modules of a gateway on two sides: what each side changed since they agreed last, and what a sync does about it.

A *document* maps a key to a value: ``endpoint:NAME`` and ``keystore:NAME`` to their settings, ``property:comments`` to
its text. Values are in normal form (`normal`): what is at its default is left out, so that equal things are equal.

Three documents are compared key by key: what was agreed last (the base), the manager's records and the gateway's own
file. Where one side changed a key, its value is for the other side; where both changed it, a person decides.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from model.errors import InvalidInput
from model.rules import texts, windows
from model.states import InstallMode

Document = Mapping[str, Any]

PROPERTY, ENDPOINT, KEYSTORE = "property", "endpoint", "keystore"
COMMENTS = f"{PROPERTY}:comments"
DEFAULT_KEYSTORE = f"{KEYSTORE}:default"
LARGEST = 256 * 1024
"""Bytes of a document, on either side."""

_LONGEST = {ENDPOINT: 512, KEYSTORE: 128}
_LONGEST_COMMENT = 256
# What an endpoint may be besides: yes or no.
FLAGS = ("key_at_endpoint", "verify_from_manager")
_KNOWN = {
    ENDPOINT: {
        *("type", "connection", "settings", "connection_settings", "install", "credential", "window"),
        *FLAGS,
    },
    KEYSTORE: {"type", "settings"},
}
_WINDOW = {"cron", "zone", "minutes"}
_DEEPEST = 8


class Side(StrEnum):
    """Whose word counts."""

    MANAGER = "manager"
    GATEWAY = "gateway"


class Direction(StrEnum):
    """Which way changes go. What may not go stays as it is on both sides and is told."""

    BOTH = "both"
    TO_GATEWAY = "to_gateway"
    FROM_GATEWAY = "from_gateway"


class Deed(StrEnum):
    """What a side did to a key since both sides agreed."""

    NOTHING = "unchanged"
    ADDED = "added"
    CHANGED = "changed"
    REMOVED = "removed"


class Standing(StrEnum):
    """How a key stands between the two sides. `TWIN`: both sides did the same. `UNREADABLE`: the gateway's file has it,
    but in a form that can't be used."""

    SAME = "same"
    TWIN = "same on both"
    TO_GATEWAY = "changed at the manager"
    FROM_GATEWAY = "changed at the gateway"
    CONFLICT = "conflict"
    UNREADABLE = "not usable at the gateway"


class SyncState(StrEnum):
    """Where the sync of a gateway stands. `COMPARED`: only looked; `PARTLY`: something was left alone, with a reason;
    `CHANGED`: not carried out, since something had changed after the administrator looked."""

    NEVER = "never"
    ASKED = "asked"
    COMPARING = "comparing"
    WAITING = "waiting"
    WRITING = "writing"
    COMPARED = "compared"
    DONE = "done"
    PARTLY = "partly"
    CHANGED = "changed"
    CANCELED = "canceled"
    REFUSED = "refused"
    FAILED = "failed"


RUNNING = frozenset({SyncState.ASKED, SyncState.COMPARING, SyncState.WAITING, SyncState.WRITING})
"""A workflow is on it."""


@dataclass(frozen=True)
class Item:
    """One key on both sides; None where a side has no such thing.

    `takeover_problem` says why the manager can't take the gateway's value over, `writing_problem` why the manager's
    can't be written at the gateway.
    """

    key: str
    standing: Standing
    at_manager: Deed
    at_gateway: Deed
    manager: Any
    gateway: Any
    takeover_problem: str | None = None
    writing_problem: str | None = None

    @property
    def differs(self) -> bool:
        """Whether there is something to bring together or to tell."""
        return self.standing not in (Standing.SAME, Standing.TWIN)


@dataclass(frozen=True)
class Plan:
    """What a sync does: new values for each side (None takes the thing away), and what is left alone, with the reason.

    `conflicts` are the keys that wait for a decision.
    """

    to_manager: dict[str, Any] = field(default_factory=dict)
    to_gateway: dict[str, Any] = field(default_factory=dict)
    left: dict[str, str] = field(default_factory=dict)
    conflicts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Connector:
    """A connector that one side has: `kind` is ``endpoints``, ``keystores``, ``hosts`` or ``cas``."""

    kind: str
    name: str
    title: str
    version: str


@dataclass(frozen=True)
class ConnectorDifference:
    """A connector that the two sides do not have alike, and what that means. It is never brought together by a sync:
    software is installed by whoever runs the host."""

    kind: str
    name: str
    title: str
    manager: str | None
    gateway: str | None
    meaning: str


def split(key: str) -> tuple[str, str]:
    """``endpoint:web`` as kind and name."""
    kind, _, name = key.partition(":")
    return kind, name


def digest(document: Document, unreadable: Iterable[str] = ()) -> str:
    """SHA-256 of a document, the same for equal ones; lower-case hex."""
    content = [dict(document), sorted(unreadable)]
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def size(document: Document) -> int:
    """Its length in bytes, as it is sent."""
    return len(json.dumps(dict(document), ensure_ascii=False).encode(errors="surrogatepass"))


def base(agreed: Document, revision: int, *, there: int | None) -> tuple[Document, str | None]:
    """What to compare with, and a sentence where that is not what was agreed last.

    `revision` is what was agreed, `there` what the gateway's file says (None: there is no file). A file of another
    revision is not the one that both sides agreed on: one side was put back from a copy, or its host was set up anew.
    What is missing there was then not taken away by anybody. So nothing counts as agreed: what only one side has is
    kept, and what the sides have differently is a conflict.
    """
    if there == revision:
        return agreed, None
    if there is None:
        told = "The gateway has no modules.toml yet." if revision == 0 else "The gateway has no modules.toml any more."
        return {}, f"{told} Nothing is taken away from either side."
    return {}, (
        f"The gateway's file says revision {there}, and revision {revision} was agreed last: one side was put back "
        "from a copy, so nothing is taken away, and what differs is yours to decide."
    )


def compare(
    agreed: Document,
    manager: Document,
    gateway: Document,
    unreadable: Mapping[str, str] | None = None,
) -> list[Item]:
    """Every key of the three documents, by kind and name. `unreadable` are keys that the gateway's file has in a form
    that can't be used, with the reason."""
    unreadable = unreadable or {}
    keys = sorted({*agreed, *manager, *gateway, *unreadable}, key=_order)
    items = []
    for key in keys:
        before, here, there = agreed.get(key), manager.get(key), gateway.get(key)
        mine, theirs = _deed(before, here), _deed(before, there)
        if key in unreadable:
            items.append(Item(key, Standing.UNREADABLE, mine, Deed.NOTHING, here, None, unreadable[key]))
            continue
        if here == there:
            standing = Standing.SAME if mine == Deed.NOTHING else Standing.TWIN
        elif theirs == Deed.NOTHING:
            standing = Standing.TO_GATEWAY
        elif mine == Deed.NOTHING:
            standing = Standing.FROM_GATEWAY
        else:
            standing = Standing.CONFLICT
        items.append(Item(key, standing, mine, theirs, here, there))
    return items


def plan(items: Sequence[Item], direction: Direction, decisions: Mapping[str, Side]) -> Plan:
    """What to do. `decisions` say of keys whose value counts: needed for conflicts, allowed for every difference.

    Raises `InvalidInput` for a decision about something that does not differ.
    """
    differing = {item.key: item for item in items if item.differs}
    for key in decisions:
        if key not in differing:
            raise InvalidInput(f"There is nothing to decide about {key}: it is the same on both sides.")
    made = Plan()
    conflicts = []
    for key, item in differing.items():
        if item.standing == Standing.UNREADABLE:
            made.left[key] = item.takeover_problem or "The gateway's file has it in a form that can't be used."
            continue
        side = decisions.get(key)
        if side is None and item.standing == Standing.CONFLICT:
            conflicts.append(key)
            made.left[key] = "Both sides changed it: decide whose value counts."
            continue
        to_gateway = side == Side.MANAGER if side is not None else item.standing == Standing.TO_GATEWAY
        problem = item.writing_problem if to_gateway else item.takeover_problem
        if direction == (Direction.FROM_GATEWAY if to_gateway else Direction.TO_GATEWAY):
            made.left[key] = "This sync goes the other way only; it stays for a later one."
        elif problem is not None:
            made.left[key] = problem
        elif to_gateway:
            made.to_gateway[key] = item.manager
        else:
            made.to_manager[key] = item.gateway
    return Plan(made.to_manager, made.to_gateway, made.left, tuple(conflicts))


def compare_connectors(manager: Iterable[Connector], gateway: Iterable[Connector]) -> list[ConnectorDifference]:
    """Connectors that one side lacks or has in another version, by kind and name."""
    here = {(one.kind, one.name): one for one in manager}
    there = {(one.kind, one.name): one for one in gateway}
    found = []
    for key in sorted({*here, *there}):
        mine, theirs = here.get(key), there.get(key)
        if mine is not None and theirs is not None and mine.version == theirs.version:
            continue
        known = mine or theirs
        assert known is not None
        if theirs is None:
            meaning = f"The gateway can't use {known.title}: install it there to give the gateway such work."
        elif mine is None:
            meaning = f"The manager does not know {known.title}: install it there too before it can be configured."
        else:
            meaning = "The versions differ: settings that only one of them knows are refused by the other."
        found.append(
            ConnectorDifference(
                known.kind,
                known.name,
                known.title,
                mine.version if mine else None,
                theirs.version if theirs else None,
                meaning,
            )
        )
    return found


def normal(value: Mapping[str, Any] | str) -> Any:
    """A value with what is at its default left out."""
    if isinstance(value, str):
        return value
    kept = {name: _without_nothing(one) for name, one in value.items() if one is not None}
    defaults: Mapping[str, Any] = {
        "settings": {},
        "connection": "local",
        "connection_settings": {},
        "install": str(InstallMode.AUTO),
        "window": {},
        **dict.fromkeys(FLAGS, False),
    }
    window = kept.get("window")
    if isinstance(window, dict):
        kept["window"] = {
            name: one for name, one in window.items() if one != {"zone": "UTC", "minutes": 60}.get(name, ...)
        }
    return {name: one for name, one in kept.items() if name == "type" or one != defaults.get(name, ...)}


def obstacle(key: str, value: Any) -> tuple[str, str] | None:
    """What is wrong with a value's form: where within it, as words joined by dots, and why. None where all is well.

    What the connector's own settings must be is its own matter and is checked by it.
    """
    kind, name = split(key)
    if kind == PROPERTY:
        return _property_obstacle(name, value)
    what = "An endpoint" if kind == ENDPOINT else "A keystore"
    longest = _LONGEST[kind]
    if not 1 <= len(name) <= longest or not name.isprintable() or name != name.strip():
        return "", f"{what}'s name has 1 to {longest} printable characters."
    if not isinstance(value, Mapping):
        return "", f"{what} is a table with its type and settings."
    for unknown in value.keys() - _KNOWN[kind]:
        return str(unknown), f"there is no such key; known are {', '.join(sorted(_KNOWN[kind]))}"
    for word, longest in (("type", 64), ("connection", 32), ("credential", 512)):
        given = value.get(word, "x" if word != "type" else None)
        if not isinstance(given, str) or not 1 <= len(given) <= longest or not given.isprintable():
            return word, f"must be a text of 1 to {longest} characters"
    if value.get("install", "auto") not in list(InstallMode):
        return "install", f"must be {' or '.join(InstallMode)}"
    for word in FLAGS:
        if not isinstance(value.get(word, False), bool):
            return word, "must be true or false"
    for word in ("settings", "connection_settings"):
        given = value.get(word, {})
        if not isinstance(given, Mapping):
            return word, "must be a table"
        found = _plain_obstacle(given, word, 0)
        if found is not None:
            return found
    return _window_obstacle(value.get("window", {}))


def _property_obstacle(name: str, value: Any) -> tuple[str, str] | None:
    if name != "comments":
        return "", "there is no such property; known is comments"
    if not isinstance(value, str) or not 1 <= len(value) <= _LONGEST_COMMENT:
        return "", f"must be a text of 1 to {_LONGEST_COMMENT} characters"
    if (found := texts.unwanted(value)) is not None:
        return "", f"must be without control characters such as {found}"
    if value != value.strip():
        return "", "must be without space around it"
    return None


def _window_obstacle(window: Any) -> tuple[str, str] | None:
    if not isinstance(window, Mapping):
        return "window", "must be a table with cron, zone and minutes"
    if not window:
        return None
    for unknown in window.keys() - _WINDOW:
        return f"window.{unknown}", "there is no such key; known are cron, minutes, zone"
    cron, zone, minutes = window.get("cron"), window.get("zone", "UTC"), window.get("minutes", 60)
    if not isinstance(cron, str) or not isinstance(zone, str) or not isinstance(minutes, int):
        return "window", "needs cron (a text); zone is a text and minutes a whole number"
    if len(cron) > 128 or len(zone) > 64:
        return "window", "cron has at most 128 characters and zone 64"
    try:
        windows.check(windows.Window(cron, zone, minutes))
    except InvalidInput as error:
        return "window", error.message
    return None


def _plain_obstacle(value: Any, where: str, depth: int) -> tuple[str, str] | None:
    """What a TOML file and JSON can both hold: texts, whole numbers of 64 bits, finite numbers, lists, tables."""
    if depth > _DEEPEST:
        return where, f"is nested deeper than {_DEEPEST} levels"
    if isinstance(value, bool | str):
        return None
    if isinstance(value, int):
        return None if -(2**63) <= value < 2**63 else (where, "is a number of more than 64 bits")
    if isinstance(value, float):
        return None if math.isfinite(value) else (where, "is not a number")
    if isinstance(value, Mapping):
        pairs = [(f"{where}.{name}", one) for name, one in value.items()]
    elif isinstance(value, Sequence):
        pairs = [(where, one) for one in value]
    else:
        kind = "nothing (null)" if value is None else "a date or time; put it in quotes"
        return where, f"holds {kind}"
    return next((found for name, one in pairs if (found := _plain_obstacle(one, name, depth + 1))), None)


def _without_nothing(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _without_nothing(one) for name, one in value.items() if one is not None}
    if isinstance(value, list | tuple):
        return [_without_nothing(one) for one in value]
    return value


def _deed(before: Any, now: Any) -> Deed:
    if before == now:
        return Deed.NOTHING
    if before is None:
        return Deed.ADDED
    return Deed.REMOVED if now is None else Deed.CHANGED


def _order(key: str) -> tuple[int, str]:
    kind, name = split(key)
    return ((PROPERTY, KEYSTORE, ENDPOINT).index(kind), name)
