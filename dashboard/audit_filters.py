"""What is wanted of the audit trail, as the address of a download says it."""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from typing import Literal, Protocol, TypeVar
from urllib.parse import urlencode

from model.errors import InvalidInput
from model.states import AccessMethod, Outcome
from operations.audit_search import Filter

DOWNLOAD = "/download/audit"
Form = Literal["csv", "jsonl"]
WordT = TypeVar("WordT", bound=StrEnum)


class Query(Protocol):
    """The query of an address."""

    def getlist(self, key: str, /) -> list[str]:
        """All values of a name."""
        ...


def address(wanted: Filter, form: Form) -> str:
    """Where to download what is wanted."""
    thing = wanted.object_type or ""
    if wanted.object_id is not None:
        thing += f":{wanted.object_id}"
    pairs = [
        ("format", form),
        ("q", wanted.sought),
        ("administrator", wanted.actor or ""),
        *(("action", action) for action in wanted.actions),
        ("outcome", wanted.outcome or ""),
        ("way", wanted.access_method or ""),
        ("object", thing),
        ("gateway", str(wanted.gateway or "")),
        ("since", wanted.since.isoformat() if wanted.since else ""),
        ("until", wanted.until.isoformat() if wanted.until else ""),
    ]
    return f"{DOWNLOAD}?{urlencode([(name, value) for name, value in pairs if value])}"


def read(query: Query) -> tuple[Filter, Form]:
    """What an address wants. Raises `InvalidInput`."""

    def one(name: str) -> str:
        return (query.getlist(name) or [""])[-1]

    form = one("format")
    if form not in ("csv", "jsonl"):
        raise InvalidInput("The format is csv or jsonl.")
    thing, colon, number = one("object").partition(":")
    gateway = one("gateway")
    wanted = Filter(
        search=one("q"),
        actor=one("administrator") or None,
        actions=tuple(query.getlist("action")),
        outcome=_word(Outcome, one("outcome")),
        access_method=_word(AccessMethod, one("way")),
        object_type=thing or None,
        object_id=_number(number) if colon else None,
        gateway=_number(gateway) if gateway else None,
        since=_time(one("since")),
        until=_time(one("until")),
    )
    return wanted, "jsonl" if form == "jsonl" else "csv"


def _word(words: type[WordT], given: str) -> WordT | None:
    try:
        return words(given) if given else None
    except ValueError:
        raise InvalidInput(f"{given!r} is not one of: {', '.join(words)}.") from None


def _number(given: str) -> int:
    if not (given.isascii() and given.isdigit() and len(given) < 10):
        raise InvalidInput(f"{given[:40]!r} is not the number of anything.")
    return int(given)


def _time(given: str) -> datetime | None:
    try:
        found = datetime.fromisoformat(given) if given else None
        return found.replace(tzinfo=found.tzinfo or UTC).astimezone(UTC) if found else None
    except (ValueError, OverflowError):
        raise InvalidInput(f"{given[:40]!r} is not a time such as 2026-11-23T17:00:00Z.") from None
