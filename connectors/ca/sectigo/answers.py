"""Sectigo's answers as typed values. What is not as its interface document says is an `AuthorityFault`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from connectors.ca.sectigo.refusals import printable
from connectors.errors import AuthorityFault, NameValidation
from connectors.web import Answer

_VALID = ("validated", "valid", "completed", "complete")
_FAILED = ("failed", "expired", "invalid", "rejected", "error")
_FRACTION = re.compile(r"\.\d+")


class Status(StrEnum):
    """States of an order, by the vendor's words. `UNKNOWN` is one that this release does not know."""

    INIT = "Init"
    REQUESTED = "Requested"
    APPROVED = "Approved"
    SA_APPROVED = "SA Approved"
    APPLIED = "Applied"
    ISSUED = "Issued"
    REPLACED = "Replaced"
    EXPIRED = "Expired"
    REVOKED = "Revoked"
    DECLINED = "Declined"
    REJECTED = "Rejected"
    INVALID = "Invalid"
    UNKNOWN = "unknown"


WORKING = frozenset(
    {Status.INIT, Status.REQUESTED, Status.APPROVED, Status.SA_APPROVED, Status.APPLIED, Status.UNKNOWN}
)
REFUSED = frozenset({Status.DECLINED, Status.REJECTED, Status.INVALID})
_STATUSES = {one.value.replace(" ", "").lower(): one for one in Status}


@dataclass(frozen=True)
class Line:
    """A line of the list of certificates. `serial_number` is normalized, empty where there is none."""

    id: int
    common_name: str
    serial_number: str
    names: tuple[str, ...]


@dataclass(frozen=True)
class Page:
    """Lines from a position on, and how many there are in all, if told."""

    lines: tuple[Line, ...]
    total: int | None


@dataclass(frozen=True)
class Details:
    """An order. `id` is the number of our `Order`; `order_number` is the CA's behind the console, known from Applied
    on, which its support asks for. Times are UTC."""

    id: int
    status: Status
    word: str
    order_number: str
    common_name: str
    names: tuple[str, ...]
    serial_number: str
    profile_id: int | None
    profile: str
    comments: str
    external_requester: str
    reason_code: str
    times: Mapping[str, datetime] = field(default_factory=dict)

    def time(self, *names: str) -> datetime | None:
        """The first of these times that is told."""
        return next((self.times[name] for name in names if name in self.times), None)

    @property
    def has_been_issued(self) -> bool:
        """It has, or had, a certificate; also while a replacement is being worked on."""
        return bool(self.serial_number) or "issued" in self.times or "replaced" in self.times


@dataclass(frozen=True)
class Profile:
    """A certificate profile (type); `terms` in days, shortest first; `key_types` algorithm → sizes or curves."""

    id: int
    name: str
    description: str
    terms: tuple[int, ...]
    key_types: Mapping[str, Sequence[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class CustomField:
    """A custom field of orders."""

    name: str
    mandatory: bool


def serial(text: object) -> str:
    """A serial number as lower-case hex without leading zeros; empty where there is none."""
    digits = re.sub(r"[^0-9a-f]", "", str(text).lower()) if isinstance(text, str) else ""
    return digits.lstrip("0")


def order_id(answer: Answer) -> int:
    """The id of a new order. Raises `AuthorityFault`."""
    told = answer.object().get("sslId")
    if not isinstance(told, int) or isinstance(told, bool) or told < 1:
        raise AuthorityFault(f"{answer.where} took an order and did not give its sslId; look for it in the console.")
    return told


def page(answer: Answer) -> Page:
    """A page of the list."""
    total = answer.headers.get("x-total-count", "")
    lines = [
        Line(
            id=_number(answer, one, "sslId"),
            common_name=_text(one, "commonName"),
            serial_number=serial(one.get("serialNumber")),
            names=tuple(_texts(one, "subjectAlternativeNames")),
        )
        for one in objects(answer)
    ]
    return Page(tuple(lines), int(total) if total.isascii() and total.isdigit() else None)


def details(answer: Answer) -> Details:
    """An order in full."""
    told = answer.object()
    profile = told.get("certType")
    profile = profile if isinstance(profile, dict) else {}
    word = printable(_text(told, "status"), longest=40)
    times = {
        name: moment
        for name in ("requested", "approved", "declined", "issued", "replaced", "revoked", "expires", "renewedDate")
        if (moment := _moment(told.get(name))) is not None
    }
    number = told.get("backendCertId") or told.get("orderNumber") or ""
    return Details(
        id=int(told["id"]) if _is_number(told.get("id")) else _number(answer, told, "sslId"),
        status=_STATUSES.get(re.sub(r"[^a-z]", "", word.lower()), Status.UNKNOWN),
        word=word or "no state",
        order_number=printable(number, longest=60) if number else "",
        common_name=_text(told, "commonName"),
        names=tuple(_texts(told, "subjectAlternativeNames")),
        serial_number=serial(told.get("serialNumber")),
        profile_id=int(profile["id"]) if _is_number(profile.get("id")) else None,
        profile=_text(profile, "name"),
        comments=_text(told, "comments"),
        external_requester=_text(told, "externalRequester"),
        reason_code=_text(told, "reasonCode"),
        times=times,
    )


def profiles(answer: Answer) -> list[Profile]:
    """All certificate profiles."""
    return [
        Profile(
            id=_number(answer, one, "id"),
            name=printable(_text(one, "name"), longest=256),
            description=printable(_text(one, "description")),
            terms=tuple(sorted(int(term) for term in _list(one, "terms") if _is_number(term) and term > 0)),
            key_types={
                printable(algorithm, longest=20): tuple(printable(size, longest=20) for size in sizes)
                for algorithm, sizes in (one.get("keyTypes") or {}).items()
                if isinstance(sizes, list)
            }
            if isinstance(one.get("keyTypes"), dict)
            else {},
        )
        for one in objects(answer)
    ]


def custom_fields(answer: Answer) -> list[CustomField]:
    """All custom fields of orders."""
    return [
        CustomField(printable(_text(one, "name"), longest=256), one.get("mandatory") is True) for one in objects(answer)
    ]


def organization(answer: Answer, wanted: int) -> str | None:
    """What the organization or department `wanted` is called; None: whoever signs in does not see it."""
    for one in objects(answer):
        name = printable(_text(one, "name"), longest=128)
        if one.get("id") == wanted:
            return name
        for department in _list(one, "departments"):
            if isinstance(department, dict) and department.get("id") == wanted:
                return f"{printable(_text(department, 'name'), longest=128)} of {name}"
    return None


def validations(answer: Answer) -> list[NameValidation]:
    """Where the CA stands with each name, and what it waits for."""
    found: dict[str, NameValidation] = {}
    for one in objects(answer):
        log = one.get("dcvLog")
        log = log if isinstance(log, dict) else {}
        error = log.get("error")
        error = printable(error.get("description", "")) if isinstance(error, dict) else ""
        ways = {
            _text(way, "domainName").lower(): (_text(way, "dcvMode"), _missing(way))
            for way in _list(one, "instructions")
            if isinstance(way, dict)
        }
        logged = {_text(entry, "domainName").lower(): entry for entry in _list(log, "log") if isinstance(entry, dict)}
        for name in dict.fromkeys([*logged, *ways]):
            state = _state(_text(logged.get(name, {}), "dcvStatus"))
            method, missing = ways.get(name, ("", ""))
            if state != "valid":
                missing = _with_next_check(missing, logged.get(name, {}))
            found[name] = NameValidation(
                name=printable(name, longest=253),
                state=state,
                method=printable(method, longest=20),
                missing="" if state == "valid" else missing,
                error="" if state == "valid" else error,
            )
    return list(found.values())


def objects(answer: Answer) -> list[dict[str, Any]]:
    """The body as a list of objects. Raises `AuthorityFault`."""
    told = answer.json()
    if not isinstance(told, list) or not all(isinstance(one, dict) for one in told):
        raise AuthorityFault(f"{answer.where} answered with JSON that is no list of objects.")
    return told


def _missing(way: Mapping[str, Any]) -> str:
    mode = _text(way, "dcvMode").upper()
    host, point, url, mail = (printable(_text(way, name)) for name in ("host", "point", "url", "dcvEmail"))
    content = printable(_text(way, "file"))
    if mode == "CNAME":
        return f"a CNAME record {host} that points to {point}"
    if mode == "TXT":
        return f"a TXT record {host} with {point}"
    if mode in ("HTTP", "HTTPS"):
        return f"a file at {url} with {content}"
    if mode == "EMAIL":
        return f"an answer to the e-mail that was sent to {mail}"
    return "the CA's own check of the domain"


def _with_next_check(missing: str, entry: Mapping[str, Any]) -> str:
    moment = _moment(entry.get("nextCheck"))
    return f"{missing} (looked for again {moment:%Y-%m-%d %H:%M} UTC)" if moment and missing else missing


def _state(word: str) -> str:
    told = word.lower().replace("_", " ").strip()
    if told in _VALID:
        return "valid"
    return "failed" if told in _FAILED else "pending"


def _moment(value: object) -> datetime | None:
    """A date and time in ISO 8601, with or without an offset, or a day alone; None for what is none."""
    if not isinstance(value, str):
        return None
    try:
        moment = datetime.fromisoformat(_FRACTION.sub("", value.strip()))
    except ValueError:
        return None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _is_number(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _number(answer: Answer, told: Mapping[str, Any], name: str) -> int:
    value = told.get(name)
    if not isinstance(value, int) or isinstance(value, bool):
        raise AuthorityFault(f"{answer.where} answered without a number in {name}.")
    return value


def _text(told: Mapping[str, Any], name: str) -> str:
    value = told.get(name)
    return value if isinstance(value, str) else ""


def _list(told: Mapping[str, Any], name: str) -> list[Any]:
    value = told.get(name)
    return value if isinstance(value, list) else []


def _texts(told: Mapping[str, Any], name: str) -> list[str]:
    return [one for one in _list(told, name) if isinstance(one, str)]
